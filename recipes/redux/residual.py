"""What is left of a mixture of several channels once estimates at its reference channel are taken out (eqs. 5 and 6)."""

from __future__ import annotations

import torch
from torch import Tensor


def residual(mixture: Tensor, gone: Tensor, kind: str, window: int) -> Tensor:
    """`mixture` without `gone`: (channel, time) and (time,), as it sounds at the reference channel 0 -> (channel, time).

    The paper subtracts one channel's waveforms; how its other channels lose them it does not say. `reference_channel`
    subtracts at channel 0 and scales each bin of the others by what is left there of the magnitude, |Y_0 - W| / |Y_0|,
    at most 1, and 1 where Y_0 is 0; `mask_all` scales channel 0 so, too. `window` is the STFT's in samples (Hann, hop a quarter).
    """
    left = mixture[0] - gone
    if kind == "reference_channel" and len(mixture) == 1:
        return left[None]
    spectra = _stft(torch.cat([mixture, left[None]]), window)  # (channel + 1, bin, frame)
    first = spectra[0].abs()
    mask = torch.where(first > 0, spectra[-1].abs() / first, torch.ones_like(first)).clamp(max=1)
    masked = _inverse(spectra[:-1] * mask, window, mixture.shape[-1])
    if kind == "reference_channel":
        masked[0] = left
    return masked


def _stft(audio: Tensor, window: int) -> Tensor:
    return torch.stft(
        audio, window, window // 4, window=_hann(audio, window), center=True, pad_mode="constant", return_complex=True
    )


def _inverse(spectra: Tensor, window: int, n_samples: int) -> Tensor:
    return torch.istft(spectra, window, window // 4, window=_hann(spectra.real, window), center=True, length=n_samples)


def _hann(like: Tensor, window: int) -> Tensor:
    return torch.hann_window(window, device=like.device, dtype=like.dtype)
