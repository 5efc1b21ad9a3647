"""Which estimate answers which reference: the assignment of highest total score (Hungarian method, Kuhn 1955)."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from sepbench.metrics.arrays import Array, shape_text, signal_sets
from sepbench.metrics.si_sdr import si_sdr_matrix

Pairs = list[tuple[int, int]]


def best_pairs(scores: Tensor | np.ndarray) -> Pairs:
    """(reference, estimate) index pairs of the highest total score, in order of the reference.

    scores: (reference, estimate), higher is better, any number of each; the shorter side is paired in full.
    ValueError where a score is not finite: an assignment over NaN means nothing.
    """
    table = torch.as_tensor(scores).cpu().double().numpy()
    if table.ndim != 2:
        raise ValueError(f"scores (reference, estimate) must have 2 axes, not {table.ndim}: shape {table.shape}")
    if not np.isfinite(table).all():
        reference, estimate = np.argwhere(~np.isfinite(table))[0]
        raise ValueError(f"score of reference {reference} and estimate {estimate} is {table[reference, estimate]}")
    return _assign(table)


def pair_by_separation(*, estimate: Array, reference: Array) -> Pairs:
    """The pairs of highest mean SI-SDR: (estimate, time), (reference, time) -> [(reference, estimate), ...].

    Silent references are never paired: nothing can be said of how well they are met.
    """
    return _pairs_of_scene(si_sdr_matrix(estimate=estimate, reference=reference).cpu().numpy())


def pair_scenes(*, estimate: Array, reference: Array) -> tuple[list[Pairs], Tensor]:
    """`pair_by_separation` of many scenes at once, and the SI-SDR that it went by.

    Shapes: estimate (scene, estimate, time), reference (scene, reference, time) -> the pairs of each scene, and
    `si_sdr_matrix` (scene, reference, estimate) in dB. Scenes with fewer sources can be filled up with silent
    references, which are left unpaired; not with silent estimates, which are as good a choice as any other bad one.
    """
    e, s = signal_sets(estimate=estimate, reference=reference, check=False)
    if e.ndim != 3:
        raise ValueError(f"estimate (scene, source, time) must have 3 axes: it is {shape_text(e)}")
    matrix = si_sdr_matrix(estimate=e, reference=s)
    tables = matrix.cpu().numpy()
    if np.isfinite(tables).all():
        return [_assign(table) for table in tables], matrix
    return [_pairs_of_scene(table) for table in tables], matrix


def _pairs_of_scene(table: np.ndarray) -> Pairs:
    """Best pairs of a matrix of SI-SDR; its rows of NaN are silent references."""
    active = np.flatnonzero(~np.isnan(table).any(axis=1))
    return [(int(active[row]), column) for row, column in best_pairs(table[active])]


def _assign(table: np.ndarray) -> Pairs:
    rows, columns = linear_sum_assignment(table, maximize=True)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))
