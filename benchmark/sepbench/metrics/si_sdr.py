"""Scale-invariant signal-to-distortion ratio (Le Roux et al. 2019, "SDR - half-baked or well done?", eq. 3).

    si_sdr = 10 log10(|gamma s|^2 / |gamma s - e|^2),  gamma = <s, e> / |s|^2

No mean is removed and no epsilon added, so that a gain changes nothing at any level. All sums are float64, formed in one
pass over the audio and in bounded memory (see `gram`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sepbench.metrics.arrays import Array, check_both, check_finite, log, mixture_like, signal_sets, signals
from sepbench.metrics.gram import Gram, gram, residual_energy

CLIP_DB = 100.0
# Past this figure |e|^2 - |gamma s|^2 loses digits to cancellation, so the residual is formed sample by sample.
# At 40 dB the Gram form still holds to about 1e-10 dB; at 100 dB it would be off by 1e-5 dB and more.
REFINE_ABOVE_DB = 40.0


def si_sdr(*, estimate: Array, reference: Array) -> Tensor:
    """How much of `estimate` points along `reference`, in dB, -100 to 100; higher is better.

    Shapes: estimate, reference (..., time) -> (...), float64. NaN (undefined) where the reference is silent; -100 where
    the estimate is silent and the reference is not. A sign flip changes nothing; see `is_sign_flipped`.
    ValueError on unequal shapes and on non-finite samples.
    """
    e, s = signals(estimate=estimate, reference=reference)
    return _paired(e, s, partial(check_both, e, s))[0]


def si_sdri(*, estimate: Array, reference: Array, mixture: Array) -> Tensor:
    """Improvement of SI-SDR over taking the mixture as the estimate, in dB; higher is better.

    Shapes: estimate, reference (..., time), mixture the same or without (or with 1 for) the source axis -> (...).
    Both terms are clipped before the difference. NaN where the reference is silent.
    """
    e, s = signals(estimate=estimate, reference=reference)
    x = mixture_like(mixture, s)
    after, _ = _paired(e, s, partial(check_both, e, s))
    before, _ = _paired(x.expand(s.shape), s, partial(check_finite, x, "mixture"))
    return after - before


def si_sdr_matrix(*, estimate: Array, reference: Array) -> Tensor:
    """SI-SDR of every estimate against every reference, in dB, from one Gram product per scene.

    Shapes: estimate (..., estimate, time), reference (..., reference, time) -> (..., reference, estimate), float64.
    Agrees with the definition in float64 to 1e-6 dB over the whole range. Edge cases and errors as in `si_sdr`.
    """
    return look_at(estimate=estimate, reference=reference).si_sdr


@dataclass(frozen=True)
class Looked:
    """What one pass over a scene tells of every estimate and reference."""

    si_sdr: Tensor  # (..., reference, estimate), as in `si_sdr_matrix`
    upside_down: Tensor  # the same shape, as in `is_sign_flipped`
    e_energy: Tensor  # (..., estimate), sum of squares over time
    s_energy: Tensor  # (..., reference)


def look_at(*, estimate: Array, reference: Array) -> Looked:
    """`si_sdr_matrix`, and what comes with it at no cost. Shapes and errors as there."""
    e, s = signal_sets(estimate=estimate, reference=reference, check=False)
    sums = gram(e, s, partial(check_both, e, s))
    figures = _figures(e, s, sums)
    energies = (sums.e_energy / sums.e_scale**2, sums.s_energy / sums.s_scale**2)
    return Looked(figures, (sums.inner < 0) & (figures >= 0), *energies)


def is_sign_flipped(*, estimate: Array, reference: Array) -> Tensor:
    """Whether `estimate` is the reference turned upside down: <s, e> < 0, and SI-SDR at least 0 dB.

    SI-SDR itself cannot tell. An estimate with little of the reference in it is wrong, not flipped, whatever the sign.
    Shapes: (..., time) -> (...), bool; False where SI-SDR is undefined.
    """
    e, s = signals(estimate=estimate, reference=reference)
    figures, inner = _paired(e, s, partial(check_both, e, s))
    return (inner < 0) & (figures >= 0)


def _paired(e: Tensor, s: Tensor, complain: Callable[[], None]) -> tuple[Tensor, Tensor]:
    """SI-SDR and inner product, row by row: (..., time) twice -> (...) twice. Each row is a scene of one source."""
    e, s = e.unsqueeze(-2), s.unsqueeze(-2)
    sums = gram(e, s, complain)
    return _figures(e, s, sums)[..., 0, 0], sums.inner[..., 0, 0]


def _figures(e: Tensor, s: Tensor, sums: Gram) -> Tensor:
    """(..., reference, estimate) from the Gram product, with a second look at the best."""
    s_energy, e_energy = sums.s_energy[..., :, None], sums.e_energy[..., None, :]
    along = (sums.inner / s_energy) * (sums.inner / e_energy)  # squared cosine; in this order nothing is lost
    figures = _edges(_decibels(along, (1 - along).clamp_min(0)), s_energy, e_energy)
    # As a rule one pair per reference, if any, is good enough to need it.
    where = torch.nonzero(figures > REFINE_ABOVE_DB, as_tuple=True)
    if len(where[0]):
        s_rows, e_rows = where[:-1], (*where[:-2], where[-1])
        inner = sums.inner[where]
        gain = inner / sums.s_energy[s_rows]
        residual = residual_energy(e, s, where, sums.e_scale[e_rows], gain * sums.s_scale[s_rows])
        figures[where] = _decibels(gain * inner, residual).clamp(-CLIP_DB, CLIP_DB)
    return figures


def _decibels(numerator: Tensor, denominator: Tensor) -> Tensor:
    """10 log10 of a ratio of energies; infinite where one of them is zero."""
    return 10 / math.log(10) * (log(numerator) - log(denominator))


def _edges(figures: Tensor, s_energy: Tensor, e_energy: Tensor) -> Tensor:
    """Clip; -100 for silent estimates; NaN for silent references, which win where both are silent."""
    figures = torch.where(e_energy > 0, figures, -CLIP_DB).clamp(-CLIP_DB, CLIP_DB)
    return torch.where(s_energy > 0, figures, torch.nan)
