"""The separator of SepClsNet (Verma, section III-C1): learned encoder, TCN, masks, decoder.

With S = 2, 256 filters of 16 samples and stride 8, 3 s at 16 kHz:

    encoder     Conv1d 1 -> 256, PReLU              256 x 5999      4,353 parameters
    bottleneck  GroupNorm, 1 x 1 (reading `default`) 256 x 5999     66,304
    TCN x 16    see Block                           256 x 5999     67,329 each
    masks       1 x 1 256 -> 512, sigmoid       2 x 256 x 5999    131,584
    decoder     ConvTranspose1d 256 -> 1                48000       4,097

1,217,298 parameters as the text says, 1,283,602 with the bottleneck.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from sepbench.blocks.frames_first import depthwise, group_norm, pointwise, prelu, turned


class Block(nn.Module):
    """Depthwise convolution, 1 x 1, GroupNorm (1 group), PReLU, and what came in added."""

    def __init__(self, filters: int, dilation: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(filters, filters, 3, padding=dilation, dilation=dilation, groups=filters),
            nn.Conv1d(filters, filters, 1),
            nn.GroupNorm(1, filters),
            nn.PReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(batch, filter, frame) -> the same."""
        return x + self.layers(x)

    def frames_first(self, x: Tensor, precision: torch.dtype) -> Tensor:
        """(batch, frame, filter) -> the same; what comes in is added in its own precision."""
        spread, mix, norm, bend = self.layers
        y = pointwise(depthwise(x.to(precision), spread), mix)
        return x + prelu(group_norm(y, norm), bend)


class Tcn(nn.Module):
    """`repeats` times `blocks` blocks, with dilations 1, 2, 4, ... in each repeat (eq. 5), and what leads into them."""

    def __init__(self, filters: int, blocks: int, repeats: int, bottleneck: bool):
        super().__init__()
        self.bottleneck = nn.Sequential(*[nn.GroupNorm(1, filters), nn.Conv1d(filters, filters, 1)] if bottleneck else [])
        self.blocks = nn.Sequential(*[Block(filters, 2 ** (i % blocks)) for i in range(repeats * blocks)])

    def forward(self, x: Tensor) -> Tensor:
        """(batch, filter, frame) -> the same. In half precision on a CPU, by `frames_first`, which is faster there alone."""
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            precision = torch.get_autocast_dtype("cpu")
            with torch.autocast("cpu", enabled=False):
                return turned(self.frames_first(turned(x), precision))
        return self.blocks(self.bottleneck(x))

    def frames_first(self, x: Tensor, precision: torch.dtype) -> Tensor:
        """(batch, frame, filter) -> the same, each block computed in `precision` and added up in at least float32."""
        if len(self.bottleneck):
            norm, mix = self.bottleneck
            x = pointwise(group_norm(x.to(precision), norm), mix)
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        for block in self.blocks:
            x = block.frames_first(x, precision)
        return x


class Separator(nn.Module):
    """Mixture (batch, time) -> sources (batch, source, time) and masks (batch, source, filter, frame), 0 to 1."""

    def __init__(
        self, n_sources: int, filters: int, kernel: int, stride: int, blocks: int, repeats: int, bottleneck: bool
    ):
        super().__init__()
        self.n_sources, self.filters, self.kernel, self.stride = n_sources, filters, kernel, stride
        self.encoder = nn.Sequential(nn.Conv1d(1, filters, kernel, stride), nn.PReLU())  # eq. 4
        self.tcn = Tcn(filters, blocks, repeats, bottleneck)
        self.mask = nn.Conv1d(filters, n_sources * filters, 1)
        self.decoder = nn.ConvTranspose1d(filters, 1, kernel, stride)  # one for all sources

    def forward(self, mixture: Tensor) -> tuple[Tensor, Tensor]:
        n_samples = mixture.shape[-1]
        short = max(self.kernel - n_samples, -(n_samples - self.kernel) % self.stride)  # 0 for 3 s
        heard = self.encoder(pad(mixture, (0, short))[:, None])  # (batch, filter, frame)
        masks = torch.sigmoid(self.mask(self.tcn(heard)).unflatten(1, (self.n_sources, self.filters)))  # eq. 6
        parts = (masks * heard[:, None]).flatten(0, 1)  # eq. 7
        sources = self.decoder(parts).float().unflatten(0, (-1, self.n_sources))[:, :, 0]  # eq. 8
        return sources[..., :n_samples], masks

    @property
    def receptive_field(self) -> int:
        """How many samples one sample of the answer depends on."""
        dilations = [block.layers[0].dilation[0] for block in self.tcn.blocks]
        return (2 * sum(dilations)) * self.stride + self.kernel
