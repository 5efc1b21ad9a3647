"""The classifiers that judge the separator (section II-F, Fig. 2b and 2c), on linear magnitudes, mel-pooled or not.

RNN, mel-40: BLSTM 2 x 100, fully connected: 356,205 parameters.
2D-CRNN, 257 bins, 500 frames (channels 32, 64, 128):
    5x5 convolution, batch norm, ReLU, pool 1x2     500 x 128 x  32
    5x5 convolution, batch norm, ReLU, pool 2x2     250 x  64 x  64
    5x5 convolution, batch norm, ReLU, pool 2x2     125 x  32 x 128
    BLSTM 100, fully connected                      125 x 5            3,616,877 parameters in all
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks


class Critic(nn.Module):
    """Magnitudes (batch, frame, bin) -> logits (batch, frame / pooling, class)."""

    gain: Tensor
    pooling = 1  # frames of the input per frame of the output

    def __init__(self, n_bins: int, mel_bins: int | None, sample_rate_hz: int):
        super().__init__()
        self.register_buffer("gain", torch.ones(()))
        bank = None
        if mel_bins is not None:
            bank = melscale_fbanks(n_bins, 0.0, sample_rate_hz / 2, mel_bins, sample_rate_hz)  # (bin, mel)
        self.register_buffer("bank", bank, persistent=False)
        self.n_features = mel_bins or n_bins

    def standardise(self, magnitude: Tensor) -> None:
        """Fix one gain that brings the features of `magnitude` (batch, frame, bin) to a standard deviation of 1."""
        self.gain.copy_(1 / self._features(magnitude).std().clamp_min(1e-8))

    def _features(self, magnitude: Tensor) -> Tensor:
        return magnitude if self.bank is None else magnitude @ self.bank


class Rnn(Critic):
    def __init__(
        self, n_bins: int, n_classes: int, mel_bins: int | None, sample_rate_hz: int, hidden: int, layers: int
    ):
        super().__init__(n_bins, mel_bins, sample_rate_hz)
        self.recurrent = nn.LSTM(self.n_features, hidden, layers, batch_first=True, bidirectional=True)
        self.classes = nn.Linear(2 * hidden, n_classes)

    def forward(self, magnitude: Tensor) -> Tensor:
        hidden, _ = self.recurrent(self.gain * self._features(magnitude))
        return self.classes(hidden)


class Crnn(Critic):
    pooling = 4

    def __init__(
        self,
        n_bins: int,
        n_classes: int,
        mel_bins: int | None,
        sample_rate_hz: int,
        hidden: int,
        channels: Sequence[int],
    ):
        super().__init__(n_bins, mel_bins, sample_rate_hz)
        blocks: list[nn.Module] = []
        for before, after, frames in zip((1, *channels), channels, (1, 2, 2)):
            blocks += [
                nn.Conv2d(before, after, 5, padding=2),
                nn.BatchNorm2d(after),
                nn.ReLU(),
                nn.MaxPool2d((frames, 2)),
            ]
        self.convolutions = nn.Sequential(*blocks).to(memory_format=torch.channels_last)
        self.recurrent = nn.LSTM(channels[-1] * (self.n_features // 8), hidden, batch_first=True, bidirectional=True)
        self.classes = nn.Linear(2 * hidden, n_classes)

    def forward(self, magnitude: Tensor) -> Tensor:
        features = self.gain * self._features(magnitude)
        maps = self.convolutions(features[:, None])  # (batch, channel, frame / 4, feature / 8)
        hidden, _ = self.recurrent(maps.permute(0, 2, 1, 3).flatten(2))
        return self.classes(hidden)
