"""SpecAugment (Park et al. 2019): one band of bins and one stretch of frames are hidden from a network that learns."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchaudio.transforms import FrequencyMasking, TimeMasking


class SpecAugment(nn.Module):
    """Fewer than `widest` bins and as many frames become 0 in all channels of a scene, where drawn anew for each scene.

    What is hidden depends on the network's first random number and on how often it was asked, both of which are kept with its
    weights: a training that was stopped goes on as if it never had been. Never wider than what there is.
    """

    asked: Tensor

    def __init__(self, widest: int):
        super().__init__()
        self.widest = widest
        self.register_buffer("asked", torch.randint(2**32, ()))

    def forward(self, features: Tensor) -> Tensor:
        """(batch, channel, frame, bin) -> the same."""
        batch, _, frames, bins = features.shape
        self.asked += 1
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(self.asked))
            over_bins = FrequencyMasking(min(self.widest, bins), iid_masks=True)(torch.ones(batch, 1, bins, 1))
            over_frames = TimeMasking(min(self.widest, frames), iid_masks=True)(torch.ones(batch, 1, 1, frames))
        kept = (over_bins * over_frames).transpose(-1, -2)  # (batch, 1, frame, bin)
        return features * kept.to(features)
