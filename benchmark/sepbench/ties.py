"""Which methods of a table are told apart by their scenes, as letters: methods that share one are not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from string import ascii_letters

import numpy as np

from sepbench.comparison import excludes_zero
from sepbench.metrics import METRICS, OUTCOMES
from sepbench.statistics import (
    N_RESAMPLES,
    POOLED,
    SEED,
    Columns,
    Figure,
    codes_of,
    in_blocks,
    intervals,
    mean_figure,
    rows_behind,
)

MOST = 60  # runs that are compared with one another; 1,770 pairs


def tie_groups(
    rows: Mapping[str, Columns], metric: str, split: str, n_resamples: int = N_RESAMPLES, seed: int = SEED
) -> dict[str, str]:
    """{run id: letters}, a compact letter display (Piepho 2004): "a" is the best group, "ab" belongs to two.

    Two runs share a letter if and only if the 95 % interval of their paired difference, on the scenes and sources that
    both have, leaves room for none (`excludes_zero`) or cannot be had. Not to be told apart is not to be equal: with few
    scenes, all share "a".
    Runs without rows of `metric` in `split` are absent; of more than MOST all are: every pair is compared. `rows`: those of
    each run, as `read_rows` gives them.

    There is no correction for multiple comparisons: two runs are told apart by the rule of `sepbench compare`, whichever
    other runs happen to stand in the table. Of 20 pairs of equals, about one is told apart by chance.
    """
    there = {str(scene) for columns in rows.values() for scene in set(columns["scene"][columns["split"] == split].tolist())}
    scenes = {scene: i for i, scene in enumerate(sorted(there))}
    table = (_pooled if metric in POOLED else _averaged)(rows, metric, split, scenes)
    if not table.runs or len(table.runs) > MOST:
        return {}
    known = METRICS.get(metric)
    falling = -1 if known is None or known.higher_is_better is not False else 1
    order = sorted(range(len(table.runs)), key=lambda i: (falling * table.means[i], table.runs[i]))
    pairs = list(combinations(order, 2))
    bounds = intervals([table.figure(i, j) for i, j in pairs], n_resamples, seed)
    unit = known.unit if known else ""
    different = {pair for pair, ci95 in zip(pairs, bounds) if excludes_zero(ci95, unit)}
    tied = np.array([[i == j or not {(i, j), (j, i)} & different for j in order] for i in order])
    return {table.runs[i]: letters for i, letters in zip(order, letter_display(tied))}


def letter_display(tied: np.ndarray) -> list[str]:
    """The letters of each method, from who is tied with whom: (method, method), symmetric, the best method first.

    A letter is a set of methods that are all tied; sets are grown from the best method on until every tie is shown, and
    those that show no tie of their own are dropped. That takes of the order of n^4 steps for n methods at worst, where
    there may be 3^(n/3) maximal sets. Past z come A to Z, then a2, b2, ...
    """
    groups: list[list[int]] = []
    shown = np.zeros(tied.shape, bool)
    for i, j in zip(*np.nonzero(np.triu(tied))):
        alone = i == j and tied[i].sum() > 1  # its ties with others give it a letter
        if not shown[i, j] and not alone:
            groups.append(_grown([i, j], tied))
            shown[np.ix_(groups[-1], groups[-1])] = True
    kept = sorted(_needed(groups, len(tied)))
    names = [ascii_letters[g % 52] + (str(g // 52 + 1) if g >= 52 else "") for g in range(len(kept))]
    return ["".join(name for name, group in zip(names, kept) if i in group) for i in range(len(tied))]


def _grown(seed: Sequence[int], tied: np.ndarray) -> list[int]:
    """The set `seed` with every method, the best first, that is tied with all in it."""
    group = sorted(set(seed))
    for k in range(len(tied)):
        if k not in group and tied[k, group].all():
            group.append(k)
    return sorted(int(k) for k in group)


def _needed(groups: list[list[int]], n: int) -> list[list[int]]:
    """`groups` without those of which every tie is in another; the latest are the first to go."""
    times = np.zeros((n, n), np.int64)
    for group in groups:
        times[np.ix_(group, group)] += 1
    kept = []
    for group in reversed(groups):
        if (times[np.ix_(group, group)] > 1).all():
            times[np.ix_(group, group)] -= 1
        else:
            kept.append(group)
    return kept


@dataclass(frozen=True)
class _Table:
    """One metric of several runs, laid out alike, so that two of them can be told apart by subtraction."""

    runs: list[str]
    means: list[float]  # the figure of each on all that it has
    figure: Callable[[int, int], Figure]  # of run j minus run i, on what both have; its totals are (scene, column)


def _averaged(rows: Mapping[str, Columns], metric: str, split: str, scenes: Mapping[str, int]) -> _Table:
    runs = _with_rows(rows, metric, split)
    key, known, n_per_scene = _keys(list(runs.values()), scenes)
    scene = known // n_per_scene
    value, weight = np.full((2, len(runs), len(known)), np.nan)
    for i, own in enumerate(runs.values()):
        value[i, key[i]], weight[i, key[i]] = own["value"], own["weight"]
    means = [float(np.average(own["value"], weights=own["weight"])) for own in runs.values()]

    def figure(i: int, j: int) -> Figure:
        both = np.isfinite(value[i]) & np.isfinite(value[j])
        if not weight[i, both].sum() > 0:
            return Figure(np.zeros((len(scenes), 2)), lambda sums: sums[..., 0])
        return mean_figure(value[j, both] - value[i, both], weight[i, both], scene[both], len(scenes))

    return _Table(list(runs), means, figure)


def _pooled(rows: Mapping[str, Columns], metric: str, split: str, scenes: Mapping[str, int]) -> _Table:
    level, statistic = POOLED[metric]
    runs = _with_rows(rows, metric, split)
    counts = np.zeros((len(runs), len(scenes), len(OUTCOMES)))
    for i, own in enumerate(runs.values()):
        for k, outcome in enumerate(OUTCOMES):
            which = own["metric"] == f"{level}_{outcome}"
            np.add.at(counts[i, :, k], codes_of(own["scene"][which], scenes), own["value"][which])
    means = statistic(counts.sum(1))
    defined = np.flatnonzero(np.isfinite(means))

    def figure(i: int, j: int) -> Figure:
        one, other = counts[defined[[i, j]]]
        both = (one.any(1) & other.any(1))[:, None] if level != "source" else 1  # no source found is an answer too
        n = len(OUTCOMES)
        totals = in_blocks(np.concatenate([one * both, other * both], 1))
        return Figure(totals, lambda sums: statistic(sums[..., n:]) - statistic(sums[..., :n]))

    names = list(runs)
    return _Table([names[i] for i in defined], [float(means[i]) for i in defined], figure)


def _keys(runs: Sequence[Columns], scenes: Mapping[str, int]) -> tuple[list[np.ndarray], np.ndarray, int]:
    """Which source each row is of, alike in all runs: (row,) for each; then the number of each source, in the order in which
    they are first met, (source,); and by what to divide that for its scene.
    """
    labels = {label: i for i, label in enumerate(sorted({label for own in runs for label in set(own["label"].tolist())}))}
    n_sources = max(int(own["source"].max()) for own in runs) + 2 if runs else 1  # -1: of the scene as a whole
    found, known = [], np.empty(0, np.int64)
    for own in runs:
        of_scene = codes_of(own["scene"], scenes) * n_sources + own["source"] + 1
        found.append(of_scene * len(labels) + codes_of(own["label"], labels))
        new = found[-1][~np.isin(found[-1], known)]
        known = np.concatenate([known, new[np.sort(np.unique(new, return_index=True)[1])]])
    order = np.argsort(known)
    return [order[np.searchsorted(known, own, sorter=order)] for own in found], known, n_sources * len(labels)


def _with_rows(rows: Mapping[str, Columns], metric: str, split: str) -> dict[str, dict[str, np.ndarray]]:
    """The rows behind a figure, for each run that has any."""
    found = {}
    for run, columns in rows.items():
        which = rows_behind(columns, metric, split)
        if which.any():
            found[run] = {name: column[which] for name, column in columns.items()}
    return found
