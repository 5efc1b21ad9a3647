"""Scale-invariant signal-to-distortion ratio (Le Roux et al. 2019, "SDR - half-baked or well done?", eq. 3).

    si_sdr = 10 log10(|gamma s|^2 / |gamma s - e|^2),  gamma = <s, e> / |s|^2

No mean is removed and no epsilon added, so that a gain changes nothing at any level. All arithmetic is float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sepbench.metrics.arrays import (
    BLOCK_SAMPLES,
    Array,
    by_blocks,
    decibels,
    energy,
    mixture_like,
    signal_sets,
    signals,
)

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
    return by_blocks(_residual_form, *signals(estimate=estimate, reference=reference))


def si_sdri(*, estimate: Array, reference: Array, mixture: Array) -> Tensor:
    """Improvement of SI-SDR over taking the mixture as the estimate, in dB; higher is better.

    Shapes: estimate, reference (..., time), mixture the same or without (or with 1 for) the source axis -> (...).
    Both terms are clipped before the difference. NaN where the reference is silent.
    """
    e, s = signals(estimate=estimate, reference=reference)
    return si_sdr(estimate=e, reference=s) - si_sdr(estimate=mixture_like(mixture, s), reference=s)


def si_sdr_matrix(*, estimate: Array, reference: Array) -> Tensor:
    """SI-SDR of every estimate against every reference, in dB, from one Gram product per scene.

    Shapes: estimate (..., estimate, time), reference (..., reference, time) -> (..., reference, estimate), float64.
    Agrees with `si_sdr` to 1e-6 dB over the whole range. Edge cases and errors as in `si_sdr`.
    """
    e, s = signal_sets(estimate=estimate, reference=reference)
    e_scenes, s_scenes = (x.reshape(math.prod(x.shape[:-2]), *x.shape[-2:]) for x in (e, s))  # (scene, source, time)
    n_both = e.shape[-2] + s.shape[-2]
    n_scenes = max(1, BLOCK_SAMPLES // max(1, n_both * e.shape[-1]))
    blocks = zip(e_scenes.split(n_scenes), s_scenes.split(n_scenes), strict=True)
    figures = torch.cat([_gram_form(a.double(), b.double()) for a, b in blocks])
    return figures.reshape(*e.shape[:-2], s.shape[-2], e.shape[-2])


def is_sign_flipped(*, estimate: Array, reference: Array) -> Tensor:
    """Whether `estimate` is the reference turned upside down: <s, e> < 0, and SI-SDR at least 0 dB.

    SI-SDR itself cannot tell. An estimate with little of the reference in it is wrong, not flipped, whatever the sign.
    Shapes: (..., time) -> (...), bool; False where SI-SDR is undefined.
    """
    e, s = signals(estimate=estimate, reference=reference)
    return (by_blocks(torch.linalg.vecdot, s, e) < 0) & (si_sdr(estimate=e, reference=s) >= 0)


def _residual_form(e: Tensor, s: Tensor) -> Tensor:
    """(row, time) twice -> (row,), as the definition is written."""
    s_energy = energy(s)
    along = (torch.linalg.vecdot(s, e) / s_energy)[:, None] * s  # NaN where s is silent
    return _edges(decibels(energy(along), energy(along - e)), s_energy, energy(e))


def _gram_form(e: Tensor, s: Tensor) -> Tensor:
    """(scene, estimate, time), (scene, reference, time) -> (scene, reference, estimate)."""
    n_reference = s.shape[1]
    both = torch.cat([s, e], dim=1)  # (scene, reference + estimate, time)
    gram = both @ both.mT
    energies = gram.diagonal(dim1=-2, dim2=-1)
    s_energy, e_energy = energies[:, :n_reference, None], energies[:, None, n_reference:]
    inner = gram[:, :n_reference, n_reference:]  # (scene, reference, estimate)
    along = (inner / s_energy) * (inner / e_energy)  # squared cosine; in this order nothing under- or overflows
    figures = _edges(decibels(along, (1 - along).clamp_min(0)), s_energy, e_energy)
    # As a rule one pair per reference, if any, is good enough to need the second look.
    scene, reference, estimate = torch.nonzero(figures > REFINE_ABOVE_DB, as_tuple=True)
    for some in torch.arange(len(scene), device=e.device).split(max(1, BLOCK_SAMPLES // e.shape[-1])):
        i, j, k = scene[some], reference[some], estimate[some]
        figures[i, j, k] = _residual_form(e[i, k], s[i, j])
    return figures


def _edges(figures: Tensor, s_energy: Tensor, e_energy: Tensor) -> Tensor:
    """Clip; -100 for silent estimates; NaN for silent references, which win where both are silent."""
    figures = torch.where(e_energy > 0, figures, -CLIP_DB).clamp(-CLIP_DB, CLIP_DB)
    return torch.where(s_energy > 0, figures, torch.nan)
