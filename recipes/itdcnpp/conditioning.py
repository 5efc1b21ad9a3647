"""From a classifier's logits to channels beside a separator's own (paper, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TrainableSigmoid(nn.Module):
    """alpha / (1 + exp(beta (x0 - x))), three numbers that are learnt; a plain sigmoid to begin with."""

    def __init__(self) -> None:
        super().__init__()
        self.alpha, self.beta, self.x0 = (nn.Parameter(torch.tensor(value)) for value in (1.0, 1.0, 0.0))

    def forward(self, logits: Tensor) -> Tensor:
        return self.alpha * torch.sigmoid(self.beta * (logits - self.x0))


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "raw": nn.Identity,
    "sigmoid": nn.Sigmoid,
    "trainable_sigmoid": TrainableSigmoid,
}


class Conditioning(nn.Module):
    """Sigmoid, 1 x 1 convolution to `n_out` channels, global norm; frames repeated to those of the separator.

    Repeating frames and a 1 x 1 convolution can change places, so that the convolution has fewer frames to go through; the
    norm comes after both, as its means are over the separator's frames.
    """

    def __init__(self, n_in: int, n_out: int, activation: str, over_time: str):
        super().__init__()
        self.activation = ACTIVATIONS[activation]()
        self.channels = nn.Conv1d(n_in, n_out, 1)
        self.norm = nn.GroupNorm(1, n_out)  # over channels and time, a gain and a shift per channel
        self.mean = over_time == "mean"

    def forward(self, logits: Tensor, n_frames: int) -> Tensor:
        """(batch, channel in, frame of the classifier) -> (batch, channel out, frame of the separator)."""
        if self.mean:  # in probability space (section 4.3)
            logits = torch.logit(torch.sigmoid(logits.float()).mean(-1, keepdim=True), eps=1e-6)
        return self.norm(at_frames(self.channels(self.activation(logits)), n_frames))  # type: ignore[no-any-return]


def at_frames(values: Tensor, n_frames: int) -> Tensor:
    """The nearest of the frames by index, the first to the first and the last to the last: (..., frame) -> (..., n_frames).

    Of frames of 10 ms that is the nearest in time. Where a classifier decides less often, its last frame may lie up to a hop
    before the end, and frames near it are drawn out by as much.
    """
    there = values.shape[-1]
    place = torch.arange(n_frames, device=values.device) * ((there - 1) / max(n_frames - 1, 1))
    return values[..., (place + 0.5).long().clamp_max(there - 1)]
