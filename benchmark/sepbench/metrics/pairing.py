"""Which estimate answers which reference: the assignment of highest total score (Hungarian method, Kuhn 1955)."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from sepbench.metrics.arrays import Array
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
    rows, columns = linear_sum_assignment(table, maximize=True)
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True)]


def pair_by_separation(*, estimate: Array, reference: Array) -> Pairs:
    """The pairs of highest mean SI-SDR: (estimate, time), (reference, time) -> [(reference, estimate), ...].

    Silent references are never paired: nothing can be said of how well they are met.
    """
    scores = si_sdr_matrix(estimate=estimate, reference=reference).cpu().numpy()
    active = np.flatnonzero(~np.isnan(scores).any(axis=1))
    return [(int(active[row]), column) for row, column in best_pairs(scores[active])]
