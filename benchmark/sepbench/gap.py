"""The same method on two tests of different scenes: the difference of its figures, with an interval.

Nothing pairs, so that the difference is known less well than that of two methods on the same scenes (comparison.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sepbench.statistics import N_RESAMPLES, SEED, Columns, Figure, Interval, intervals, mean_figure, unpaired_interval


def figure_of(runs: Sequence[Columns], split: str, metric: str) -> Figure:
    """The mean of an averaged metric over the rows of several runs on the same scenes, such as those of several seeds.

    A scene is drawn with the rows of all runs. `runs`: rows as `read_rows` gives them. ValueError where there are none.
    """
    values, weights, names = [], [], []
    for columns in runs:
        which = (columns["metric"] == metric) & (columns["split"] == split)
        weight = np.asarray(columns["weight"][which], np.float64)
        values.append(np.asarray(columns["value"][which], np.float64))
        weights.append(weight / max(weight.sum(), 1e-300))  # every run counts the same
        names.append(columns["scene"][which].astype(str))
    if not sum(map(len, values)):
        raise ValueError(f"no row of {metric} in {split}")
    there, scene = np.unique(np.concatenate(names), return_inverse=True)
    return mean_figure(np.concatenate(values), np.concatenate(weights), scene, len(there))


def own_interval(figure: Figure) -> Interval | None:
    """95 % interval of a figure, drawing its scenes."""
    return intervals([figure], N_RESAMPLES, SEED)[0]


def gap_interval(one: Figure, other: Figure) -> Interval | None:
    """95 % interval of `one` - `other`, on different scenes."""
    return unpaired_interval(one, other)
