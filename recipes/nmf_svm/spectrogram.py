"""Short-time Fourier transform with a Hann window and half overlap, in pieces that add up again."""

from __future__ import annotations

import torch
from torch import Tensor


class Spectrogram:
    """Analysis and synthesis with one window; frame k is centred on sample k * hop. Silence lies around the sound."""

    def __init__(self, window: int, hop: int):
        self.length, self.hop = window, hop
        self.window = torch.hann_window(window)

    @property
    def n_bins(self) -> int:
        return self.length // 2 + 1

    def n_frames(self, n_samples: int) -> int:
        return self._padded(n_samples) // self.hop + 1

    def __call__(self, audio: Tensor) -> Tensor:
        """(batch, time) -> complex (batch, frame, bin)."""
        n_samples = audio.shape[-1]
        padded = torch.nn.functional.pad(audio, (0, self._padded(n_samples) - n_samples))
        spectrum = torch.stft(
            padded, self.length, self.hop, window=self.window, center=True, pad_mode="constant", return_complex=True
        )
        return spectrum.transpose(-1, -2)

    def inverse(self, spectrum: Tensor, n_samples: int) -> Tensor:
        """complex (batch, frame, bin) -> (batch, time): of what `__call__` gave, the sound itself."""
        return torch.istft(
            spectrum.transpose(-1, -2), self.length, self.hop, window=self.window, center=True, length=n_samples
        )

    def _padded(self, n_samples: int) -> int:
        """Up to a whole hop where more than half of one is left: the window's foot alone would not bring it back."""
        rest = n_samples % self.hop
        return n_samples + self.hop - rest if rest > self.hop // 2 else n_samples
