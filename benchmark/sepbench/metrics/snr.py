"""Plain signal-to-noise ratio, as torchmetrics computes it, in float64.

    snr = 10 log10((|s|^2 + eps) / (|s - e|^2 + eps)),  eps = float32 machine epsilon
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from sepbench.metrics.arrays import Array, check_both, check_finite, log, mixture_like, signal_sets, signals
from sepbench.metrics.gram import Gram, gram, residual_energy

EPSILON = torch.finfo(torch.float32).eps
# Where the difference holds less than this part of the energies, |s|^2 + |e|^2 - 2 <s, e> loses digits to cancellation,
# so it is formed sample by sample. Down to here it holds to about 1e-10 dB.
REFINE_BELOW = 1e-4


def snr(*, estimate: Array, reference: Array) -> Tensor:
    """Energy of `reference` over that of its difference from `estimate`, in dB; higher is better.

    Shapes: estimate, reference (..., time) -> (...), float64. NaN (undefined) where the reference is silent.
    Unlike SI-SDR it minds gain and sign. ValueError on unequal shapes and on non-finite samples.
    """
    e, s = signals(estimate=estimate, reference=reference)
    return _paired(e, s, partial(check_both, e, s))


def snri(*, estimate: Array, reference: Array, mixture: Array) -> Tensor:
    """Improvement of SNR over taking the mixture as the estimate, in dB; shapes as in `si_sdri`."""
    e, s = signals(estimate=estimate, reference=reference)
    x = mixture_like(mixture, s)
    after = _paired(e, s, partial(check_both, e, s))
    return after - _paired(x.expand(s.shape), s, partial(check_finite, x, "mixture"))


def snr_matrix(*, estimate: Array, reference: Array) -> Tensor:
    """SNR of every estimate against every reference, in dB, from one Gram product per scene.

    Shapes: estimate (..., estimate, time), reference (..., reference, time) -> (..., reference, estimate), float64.
    """
    e, s = signal_sets(estimate=estimate, reference=reference, check=False)
    return _figures(e, s, gram(e, s, partial(check_both, e, s)))


def _paired(e: Tensor, s: Tensor, complain: Callable[[], None]) -> Tensor:
    """Row by row: (..., time) twice -> (...). Each row is a scene of one source."""
    e, s = e.unsqueeze(-2), s.unsqueeze(-2)
    return _figures(e, s, gram(e, s, complain))[..., 0, 0]


def _figures(e: Tensor, s: Tensor, sums: Gram) -> Tensor:
    """(..., reference, estimate) from the Gram product, with a second look where both are much the same."""
    s_energy, e_energy = sums.s_energy[..., :, None], sums.e_energy[..., None, :]
    s_scale, e_scale = sums.s_scale[..., :, None], sums.e_scale[..., None, :]
    scale = torch.minimum(s_scale, e_scale).clamp_max(1)  # both must share one; below 1 where squares would overflow
    s_gain, e_gain = scale / s_scale, scale / e_scale
    both = s_energy * s_gain**2 + e_energy * e_gain**2
    difference = (both - 2 * sums.inner * s_gain * e_gain).clamp_min(0)
    where = torch.nonzero(difference < REFINE_BELOW * both, as_tuple=True)
    if len(where[0]):
        difference[where] = residual_energy(e, s, where, scale[where], scale[where])
    figures = 10 / math.log(10) * (_log_level(s_energy, s_scale) - _log_level(difference, scale))
    return torch.where(s_energy > 0, figures, torch.nan)


def _log_level(energy: Tensor, scale: Tensor) -> Tensor:
    """Natural logarithm of energy / scale^2 + eps, of which the first may be too large or too small to be written out."""
    return torch.logaddexp(log(energy) - 2 * log(scale), energy.new_tensor(math.log(EPSILON)))
