"""Plain signal-to-noise ratio, as torchmetrics computes it, in float64.

    snr = 10 log10((|s|^2 + eps) / (|s - e|^2 + eps)),  eps = float32 machine epsilon
"""

from __future__ import annotations

import torch
from torch import Tensor

from sepbench.metrics.arrays import Array, by_blocks, decibels, energy, mixture_like, signal_sets, signals

EPSILON = torch.finfo(torch.float32).eps


def snr(*, estimate: Array, reference: Array) -> Tensor:
    """Energy of `reference` over that of its difference from `estimate`, in dB; higher is better.

    Shapes: estimate, reference (..., time) -> (...), float64. NaN (undefined) where the reference is silent.
    Unlike SI-SDR it minds gain and sign. ValueError on unequal shapes and on non-finite samples.
    """
    return by_blocks(_ratio, *signals(estimate=estimate, reference=reference))


def snri(*, estimate: Array, reference: Array, mixture: Array) -> Tensor:
    """Improvement of SNR over taking the mixture as the estimate, in dB; shapes as in `si_sdri`."""
    e, s = signals(estimate=estimate, reference=reference)
    return snr(estimate=e, reference=s) - snr(estimate=mixture_like(mixture, s), reference=s)


def snr_matrix(*, estimate: Array, reference: Array) -> Tensor:
    """SNR of every estimate against every reference, in dB.

    Shapes: estimate (..., estimate, time), reference (..., reference, time) -> (..., reference, estimate), float64.
    """
    e, s = signal_sets(estimate=estimate, reference=reference)
    rows = [snr(estimate=e, reference=one.unsqueeze(-2).expand_as(e)) for one in s.unbind(-2)]  # never all at once
    return torch.stack(rows, dim=-2) if rows else torch.zeros(*e.shape[:-2], 0, e.shape[-2], dtype=torch.float64)


def _ratio(e: Tensor, s: Tensor) -> Tensor:
    """(row, time) twice -> (row,)."""
    s_energy = energy(s)
    return torch.where(s_energy > 0, decibels(s_energy + EPSILON, energy(s - e) + EPSILON), torch.nan)
