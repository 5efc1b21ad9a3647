"""Short-time Fourier transform with the square root of a Hann window and 75 % overlap."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Stft(nn.Module):
    """Analysis and synthesis with one window; frame k is centred on sample k * hop.

    Spectra are divided by the sum of the window, so that a full-scale sine peaks at 0.5 whatever the window's length.
    """

    window: Tensor

    def __init__(self, window_ms: float, sample_rate_hz: int):
        super().__init__()
        self.length = round(window_ms * sample_rate_hz / 1000)
        self.hop = self.length // 4
        self.sample_rate_hz = sample_rate_hz
        window = torch.hann_window(self.length, periodic=True, dtype=torch.float64).sqrt()
        self.sum = float(window.sum())
        self.register_buffer("window", window.float(), persistent=False)

    @property
    def n_bins(self) -> int:
        return self.length // 2 + 1

    @property
    def hop_s(self) -> float:
        return self.hop / self.sample_rate_hz

    def n_frames(self, n_samples: int) -> int:
        return n_samples // self.hop + 1

    def forward(self, audio: Tensor) -> Tensor:
        """(batch, time) -> complex (batch, frame, bin)."""
        spectrum = torch.stft(
            audio, self.length, self.hop, window=self.window, center=True, pad_mode="constant", return_complex=True
        )
        return spectrum.transpose(-1, -2) / self.sum

    def inverse(self, spectrum: Tensor, n_samples: int) -> Tensor:
        """complex (batch, frame, bin) -> (batch, time)."""
        spectrum = spectrum.transpose(-1, -2) * self.sum
        return torch.istft(spectrum, self.length, self.hop, window=self.window, center=True, length=n_samples)
