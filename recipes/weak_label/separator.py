"""The separator (section II-F, Fig. 2a): a mask per class from the mixture's log magnitude.

layer            output                         parameters (600 nodes, 3 layers, 257 bins, 5 classes)
log |STFT|       frame x 257                    0
BLSTM x 3        frame x 1200                   21,422,400
fully connected  frame x 5 x 257, sigmoid       1,543,285
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LOG_FLOOR = 1e-5  # added to magnitudes; the paper names no value


class Separator(nn.Module):
    """Magnitudes (batch, frame, bin) -> masks (batch, frame, class, bin) in [0, 1]."""

    shift: Tensor
    spread: Tensor

    def __init__(self, n_bins: int, n_classes: int, hidden: int, layers: int):
        super().__init__()
        self.register_buffer("shift", torch.zeros(n_bins))
        self.register_buffer("spread", torch.ones(n_bins))
        self.recurrent = nn.LSTM(n_bins, hidden, layers, batch_first=True, bidirectional=True)
        self.masks = nn.Linear(2 * hidden, n_classes * n_bins)
        self.n_classes = n_classes

    def standardise(self, magnitude: Tensor) -> None:
        """Fix the input's mean and spread per bin to those of `magnitude` (batch, frame, bin)."""
        level = (magnitude + LOG_FLOOR).log().flatten(0, 1)
        self.shift.copy_(level.mean(0))
        self.spread.copy_(level.std(0).clamp_min(0.1))

    def logits(self, magnitude: Tensor) -> Tensor:
        """Masks before the sigmoid: (batch, frame, class, bin)."""
        level = ((magnitude + LOG_FLOOR).log() - self.shift) / self.spread
        hidden, _ = self.recurrent(level)
        return self.masks(hidden).unflatten(-1, (self.n_classes, -1))

    def forward(self, magnitude: Tensor) -> Tensor:
        return self.logits(magnitude).sigmoid()
