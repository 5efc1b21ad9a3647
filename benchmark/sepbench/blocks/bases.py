"""What masks act on: short-time spectra, or filters that are learned. Both hear every sample in as many frames as any other.

Frame k begins `window - hop` samples before sample k * hop: silence is added at both ends, as much as it takes.
"""

from __future__ import annotations

import math

import torch
from asteroid_filterbanks import Decoder, Encoder, FreeFB
from torch import Tensor, nn
from torch.nn.functional import layer_norm, pad

from sepbench.errors import UserError

EPSILON = 1e-3  # beside the variance


class _Framed(nn.Module):
    """Windows of `window` samples each `hop`, and silence around a sound. UserError where hops do not fill a window."""

    def __init__(self, window_ms: float, hop_ms: float, sample_rate_hz: int):
        super().__init__()
        self.hop, self.sample_rate_hz = round(hop_ms * sample_rate_hz / 1000), sample_rate_hz
        self.overlap = round(window_ms / hop_ms)  # how many windows hear a sample
        self.window = self.overlap * self.hop  # the hop is rounded to samples (22,050 Hz), and the overlap stays
        if self.overlap < 2 or not math.isclose(self.overlap * hop_ms, window_ms, rel_tol=1e-6) or self.hop < 1:
            raise UserError(
                f"a window of {window_ms:g} ms every {hop_ms:g} ms at {sample_rate_hz} Hz: wanted a window of 2, 3, ... hops, "
                "each of a sample or more. Choose another window or hop."
            )

    @property
    def hop_s(self) -> float:
        return self.hop / self.sample_rate_hz

    def n_frames(self, n_samples: int) -> int:
        """How many frames hear any of `n_samples`."""
        return (n_samples - 1) // self.hop + self.overlap

    def padded(self, audio: Tensor) -> Tensor:
        """(..., time) -> (..., time), all that the frames hear."""
        before, n_samples = self.window - self.hop, audio.shape[-1]
        return pad(audio, (before, (self.n_frames(n_samples) - 1) * self.hop + self.window - before - n_samples))

    def inner(self, padded: Tensor, n_samples: int) -> Tensor:
        """What `padded` was made of."""
        return padded[..., self.window - self.hop :][..., :n_samples]


class StftBasis(_Framed):
    """Short-time Fourier transform, the square root of a Hann window both ways; unit masks give back the sound.

    Windows are filled with silence to the next power of two. Features are magnitudes, normalised over all signals, frames
    and bins of a sample, with one gain and one shift: 2 parameters.
    """

    hann: Tensor

    def __init__(self, window_ms: float, hop_ms: float, sample_rate_hz: int):
        super().__init__(window_ms, hop_ms, sample_rate_hz)
        self.n_fft = 1 << (self.window - 1).bit_length()
        self.n_features = self.n_bins = self.n_fft // 2 + 1
        hann = torch.hann_window(self.window, periodic=True, dtype=torch.float64).sqrt()
        self.register_buffer("hann", hann.float(), persistent=False)
        self.gain = nn.Parameter(torch.tensor(1.0))
        self.shift = nn.Parameter(torch.tensor(0.0))

    def analyse(self, audio: Tensor) -> Tensor:
        """(batch, signal, time) -> complex (batch, signal, frame, bin)."""
        frames = self.padded(audio.float()).unfold(-1, self.window, self.hop)  # (batch, signal, frame, time)
        return torch.fft.rfft(frames * self.hann, self.n_fft)

    def features(self, coefficients: Tensor) -> Tensor:
        """(batch, signal, frame, bin) -> (batch, signal * bin, frame), the first signal's bins first."""
        magnitudes = coefficients.abs().transpose(1, 2).flatten(2)  # (batch, frame, signal * bin)
        level = layer_norm(magnitudes, magnitudes.shape[1:], eps=EPSILON)
        return torch.addcmul(self.shift, level, self.gain).transpose(1, 2)

    def synthesise(self, coefficients: Tensor, n_samples: int) -> Tensor:
        """Complex (batch, source, frame, bin), masked -> (batch, source, time) of `n_samples`."""
        frames = torch.fft.irfft(coefficients, self.n_fft)[..., : self.window] * self.hann
        hops = frames.unflatten(-1, (self.overlap, self.hop))  # (batch, source, frame, part, time)
        parts = [pad(hops[..., i, :], (0, 0, i, self.overlap - 1 - i)) for i in range(self.overlap)]
        audio = torch.stack(parts).sum(0).flatten(-2) * (2 / self.overlap)  # Hann windows add up to half their overlap
        return self.inner(audio, n_samples)


class LearnedBasis(_Framed):
    """`n_filters` learned filters, of which ReLU leaves what is above 0, and as many to go back with; no biases."""

    def __init__(self, window_ms: float, hop_ms: float, sample_rate_hz: int, n_filters: int):
        super().__init__(window_ms, hop_ms, sample_rate_hz)
        self.n_features = self.n_bins = n_filters
        self.encoder = Encoder(FreeFB(n_filters, self.window, self.hop, sample_rate_hz), as_conv1d=False)
        self.decoder = Decoder(FreeFB(n_filters, self.window, self.hop, sample_rate_hz))

    def analyse(self, audio: Tensor) -> Tensor:
        """(batch, signal, time) -> (batch, signal, frame, filter), none below 0."""
        return self.encoder(self.padded(audio)).relu().transpose(-1, -2)

    def features(self, coefficients: Tensor) -> Tensor:
        """(batch, signal, frame, filter) -> (batch, signal * filter, frame), the first signal's filters first."""
        return coefficients.transpose(1, 2).flatten(2).transpose(1, 2)

    def synthesise(self, coefficients: Tensor, n_samples: int) -> Tensor:
        """(batch, source, frame, filter), masked -> (batch, source, time) of `n_samples`."""
        return self.inner(self.decoder(coefficients.transpose(-1, -2)).float(), n_samples)
