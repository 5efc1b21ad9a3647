"""The attentive path (section 3.2, Fig. 3): a gate on what an encoder hands over to the decoder of its level."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from .film import SLOPE

LEAST = 8  # channels inside a gate: a CPU is slower with fewer


class Gate(nn.Module):
    """How much of the encoder's output goes on, 0 to 1 for each frame and bin (Attention U-Net, Oktay et al. 2018).

    Both inputs go through a 1x1 convolution to half their channels, or 8, and are added up; then comes the convolution that is
    new, 3x3, then one of 1x1 to a single channel, and a sigmoid. BatchNorm and LeakyReLU stand between them. The paper names
    no sizes: these are ours. No FiLM here: the decoder's output has heard the labels.
    """

    def __init__(self, channels: int):
        super().__init__()
        inside = max(channels // 2, LEAST)
        self.encoded = nn.Conv2d(channels, inside, 1, bias=False)
        self.decoded = nn.Conv2d(channels, inside, 1, bias=False)
        self.across = nn.Conv2d(inside, inside, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(inside) for _ in range(2))
        self.share = nn.Conv2d(inside, 1, 1)

    def forward(self, encoded: Tensor, decoded: Tensor) -> Tensor:
        """Encoder's output and that of the transposed convolution, both (batch, channel, frame, bin) -> the first, gated."""
        return encoded * self.shares(encoded, decoded)

    def shares(self, encoded: Tensor, decoded: Tensor) -> Tensor:
        """(batch, 1, frame, bin), 0 to 1."""
        joined = leaky_relu(self.norms[0](self.encoded(encoded) + self.decoded(decoded)), SLOPE)
        joined = leaky_relu(self.norms[1](self.across(joined)), SLOPE)
        return self.share(joined).sigmoid()
