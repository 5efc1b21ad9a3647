"""Two runs on the same scenes: the paired difference of every figure, with its interval.

What both methods find hard in a scene cancels in the difference, so it is known far better than either figure. Scenes
are drawn, not rows, and one set of resamples serves all figures of a split (see statistics.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sepbench.errors import UserError
from sepbench.metrics import CHANCE, EVENTS, FACTS, LEVELS, METRICS, OUTCOMES
from sepbench.results import RunRecord
from sepbench.statistics import N_RESAMPLES, POOLED, SEED, Columns, Figure, Interval, in_blocks, intervals, mean_figure

DIGITS = {"dB": 2, "ratio": 3, "": 3}  # of a difference by its unit, after the point: what is not printed does not count
SAME_INPUT_DB = 0.01  # on the same scenes, the SI-SDR of the mixture agrees far better than this


@dataclass(frozen=True)
class Difference:
    """By how much B differs from A, on what both answered."""

    value: float  # b - a, in the metric's unit
    ci95: Interval | None  # None: fewer than two scenes to tell it from
    a: float  # the figure of each, on the rows that pair
    b: float
    n: int  # pairs of rows; of pooled figures the frames, clips or sources that are counted
    scenes: int
    unpaired: int  # rows that only one of the two has, left out
    unit: str

    @property
    def excludes_zero(self) -> bool:
        """Whether the scenes tell the two apart."""
        return excludes_zero(self.ci95, self.unit)


def excludes_zero(ci95: Interval | None, unit: str) -> bool:
    """Whether an interval leaves no room for "no difference". False for no interval.

    Half of the last digit that is printed is none yet (0.005 dB, 0.0005 of a ratio): rounded otherwise in its
    arithmetic, a model differs from itself by as much.
    """
    least = 0.5 * 10.0 ** -DIGITS[unit]
    return ci95 is not None and (ci95[0] > least or ci95[1] < -least)


def paired_differences(
    a: Columns, b: Columns, n_resamples: int = N_RESAMPLES, seed: int = SEED, why: str = ""
) -> dict[str, dict[str, dict[str, Any]]]:
    """{split: {metric: {"all": Difference, "class": {label: Difference}}}}, for the splits and metrics that both have.

    `a`, `b`: rows as `read_rows` gives them. Averaged metrics pair by scene, source and label; pooled ones
    (f_measure_frame, f_measure_clip, source_precision, source_recall, source_f_measure) are each pooled over the same
    drawn scenes. What is not defined on both sides is absent.

    UserError where a scene of one has no row at all in the other, or where the two heard other mixtures under the same
    names; it says how many, and `why`, which is what `explain_mismatch` found.
    """
    splits = [split for split in dict.fromkeys(a["split"].tolist()) if split in set(b["split"].tolist())]
    if not splits:
        there = [", ".join(sorted(set(each["split"].tolist()))) or "no split" for each in (a, b)]
        raise UserError(
            f"{_run(a, 'A')} was scored on {there[0]}, {_run(b, 'B')} on {there[1]}. Score both on the same split."
        )
    return {split: _differences(_Two.of(split, a, b), n_resamples, seed, why) for split in sorted(splits, reverse=True)}


def count_differences(a: Columns, b: Columns) -> dict[str, dict[str, tuple[int, int]]]:
    """{split: {event: (times in a, times in b)}} of what is counted and not averaged, where the two differ."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    for split in sorted(set(a["split"].tolist()) & set(b["split"].tolist()), reverse=True):
        times = [_events(each["metric"][each["split"] == split]) for each in (a, b)]
        both = {name: (times[0].get(name, 0), times[1].get(name, 0)) for name in sorted(times[0] | times[1])}
        found[split] = {name: (one, other) for name, (one, other) in both.items() if one != other}
    return found


def explain_mismatch(a: RunRecord, b: RunRecord) -> str:
    """In what the two runs' scenes were made differently, as a sentence; empty where the records know of nothing.

    That one was scored on a split that the other left out is no such difference.
    """
    reasons = []
    sounds = [str(run.provenance.get("corpus_hash") or "")[:8] for run in (a, b)]
    if all(sounds) and sounds[0] != sounds[1]:
        reasons.append(f"other sounds (content {sounds[0]} and {sounds[1]})")
    ours, theirs = (dict(_flat(_of_scenes(run.config.get("task") or {}))) for run in (a, b))
    for name in (name for name in ours if name in theirs and ours[name] != theirs[name]):
        one_lacks_split = name in ("scenes.test", "scenes.seen") and not (ours[name] and theirs[name])
        reasons += [] if one_lacks_split else [f"task.{name} {_short(ours[name])} and {_short(theirs[name])}"]
    drawn = [run.provenance.get("scenes_hash") or {} for run in (a, b)]
    differing = [split for split in drawn[0] if drawn[1].get(split, drawn[0][split]) != drawn[0][split]]
    if differing and not reasons:
        reasons.append(f"other scenes in {', '.join(differing)} (their content, scenes_hash, differs)")
    return f"They differ in: {'; '.join(reasons)}." if reasons else ""


def _of_scenes(task: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a task that decide what is scored; not what is measured, nor what only training uses."""
    settings = {name: dict(value) if isinstance(value, Mapping) else value for name, value in task.items()}
    settings.pop("metrics", None)
    settings.get("scenes", {}).pop("valid", None)
    mixing = settings.get("mixing", {})
    for name in [name for name in mixing if name.startswith("test_")]:
        tested = mixing.pop(name)
        mixing[name[5:]] = mixing.get(name[5:]) if tested is None else tested  # null: as in training
    return settings


def _flat(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", list(value) if isinstance(value, tuple) else value


def _short(value: object) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _events(metric: np.ndarray) -> dict[str, int]:
    names, times = np.unique(metric.astype(str), return_counts=True)
    return {str(name): int(n) for name, n in zip(names, times) if name in EVENTS or name.endswith("_undefined")}


def _run(columns: Columns, otherwise: str) -> str:
    return str(columns["run"][0]) if len(columns.get("run", ())) else otherwise


@dataclass(frozen=True)
class _Two:
    """The rows of both runs in one split, one below the other; names as codes that both share."""

    runs: tuple[str, str]
    split: str
    side: np.ndarray  # (row,), 0: of a, 1: of b
    scene: np.ndarray
    label: np.ndarray
    key: np.ndarray  # the same for the rows of a metric that pair
    value: np.ndarray
    weight: np.ndarray
    scenes: np.ndarray  # names, by code
    labels: np.ndarray
    rows: Mapping[str, np.ndarray]  # metric -> its rows

    @classmethod
    def of(cls, split: str, a: Columns, b: Columns) -> _Two:
        which = [np.asarray(each["split"] == split) for each in (a, b)]

        def joined(name: str) -> np.ndarray:
            return np.concatenate([np.asarray(each[name])[own] for each, own in zip((a, b), which)])

        def coded(name: str) -> tuple[np.ndarray, np.ndarray]:
            names, code = np.unique(joined(name).astype(str), return_inverse=True)
            return names, code.astype(np.int64)

        (scenes, scene), (labels, label), (named, metric) = (coded(name) for name in ("scene", "label", "metric"))
        source = joined("source").astype(np.int64)
        source -= source.min()
        key = (scene * (source.max() + 1) + source) * len(labels) + label
        order = np.argsort(metric, kind="stable")
        of_metric = np.split(order, np.cumsum(np.bincount(metric, minlength=len(named)))[:-1])
        side = np.repeat([0, 1], [own.sum() for own in which])
        value, weight = (joined(name).astype(np.float64) for name in ("value", "weight"))
        rows = {str(name): own for name, own in zip(named, of_metric)}
        return cls((_run(a, "A"), _run(b, "B")), split, side, scene, label, key, value, weight, scenes, labels, rows)

    def both(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The rows of a metric in a and in b; empty where there are none."""
        rows = self.rows.get(name, np.empty(0, np.int64))
        return rows[self.side[rows] == 0], rows[self.side[rows] == 1]

    @property
    def averaged(self) -> list[str]:
        """The averaged metrics that both have, in the registry's order."""
        counts = {f"{level}_{outcome}" for level in LEVELS for outcome in OUTCOMES}
        found = [name for name in self.rows if name not in counts | EVENTS.keys() | FACTS.keys()]
        shared = [name for name in found if not name.endswith(("_undefined", CHANCE)) and all(map(len, self.both(name)))]
        return [*(name for name in METRICS if name in shared), *sorted(set(shared) - METRICS.keys())]

    @property
    def pooled(self) -> list[str]:
        """The levels at which both were counted."""
        return [level for level in LEVELS if all(map(len, self.both(f"{level}_tp")))]

    def counts(self, level: str) -> np.ndarray:
        """What was counted at a level: (side, scene, class, outcome)."""
        counts = np.zeros((2, len(self.scenes), len(self.labels), len(OUTCOMES)))
        for i, outcome in enumerate(OUTCOMES):
            rows = self.rows.get(f"{level}_{outcome}", np.empty(0, np.int64))
            np.add.at(counts, (self.side[rows], self.scene[rows], self.label[rows], i), self.value[rows])
        return counts


@dataclass(frozen=True)
class _Draft:
    """A difference that waits for its interval, and the metric and class that it is of."""

    metric: str
    label: str | None  # None: over all
    difference: Difference
    figure: Figure


def _differences(two: _Two, n_resamples: int, seed: int, why: str) -> dict[str, dict[str, Any]]:
    _check_scenes(two, why)
    drafts = [draft for name in two.averaged for draft in _averaged(two, name)]
    drafts += [draft for level in two.pooled for draft in _pooled(two, level)]
    bounds = intervals([draft.figure for draft in drafts], n_resamples, seed)
    found: dict[str, dict[str, Any]] = {}
    for draft, ci95 in zip(drafts, bounds, strict=True):
        held = found.setdefault(draft.metric, {"all": None, "class": {}})
        place, key = (held, "all") if draft.label is None else (held["class"], draft.label)
        place[key] = replace(draft.difference, ci95=ci95)
    _check_input(two, found, why)
    return {name: found[name] for name in (*METRICS, *sorted(found.keys() - METRICS.keys())) if name in found}


def _check_scenes(two: _Two, why: str) -> None:
    """UserError where one run scored scenes of which the other has no row at all."""
    there = [set(two.scene[two.side == side].tolist()) for side in (0, 1)]
    scored: list[set[int]] = [set(), set()]
    # a false alarm in an empty scene leaves a row where the other method, rightly, leaves none
    telling = [*two.averaged, *(f"{level}_{outcome}" for level in two.pooled for outcome in ("tp", "fn"))]
    for name in telling:
        for side, rows in enumerate(two.both(name)):
            scored[side] |= set(two.scene[rows[two.value[rows] != 0] if name.startswith("source_") else rows].tolist())
    alone = [scored[0] - there[1], scored[1] - there[0]]
    if not any(alone):
        return
    counts = [f"{len(own)} of the {len(all_)} scenes of {run}" for own, all_, run in zip(alone, scored, two.runs)]
    example = two.scenes[min(alone[0] or alone[1])]
    raise UserError(
        f"{two.split}: {counts[0]} and {counts[1]} have no partner in the other, '{example}' among them. "
        f"{why or 'They were scored on other scenes.'} Score both on the same scenes, then compare."
    )


def _check_input(two: _Two, found: Mapping[str, Mapping[str, Any]], why: str) -> None:
    """UserError where what the methods were given differs under the same names."""
    before = found.get("si_sdr_mixture")
    if before and abs(before["all"].value) > SAME_INPUT_DB:
        a, b = (f"{figure:.2f} dB" for figure in (before["all"].a, before["all"].b))
        raise UserError(
            f"{two.split}: the scenes of {two.runs[0]} and {two.runs[1]} have the same names and other sounds: the mixtures' "
            f"SI-SDR is {a} and {b}. {why} Score both on the same scenes, then compare."
        )


def _averaged(two: _Two, name: str) -> Iterator[_Draft]:
    ours, theirs = two.both(name)
    keys = [two.key[rows] for rows in (ours, theirs)]
    for run, rows, key in zip(two.runs, (ours, theirs), keys):
        if len(np.unique(key)) < len(rows):
            raise UserError(f"{run}: {name} has two rows of one source of a scene. Run it again, or leave it out.")
    _, i, j = np.intersect1d(keys[0], keys[1], assume_unique=True, return_indices=True)
    pair_a, pair_b = ours[i], theirs[j]
    scene, label, weight = two.scene[pair_a], two.label[pair_a], two.weight[pair_a]
    a, b = two.value[pair_a], two.value[pair_b]
    if not np.array_equal(weight, two.weight[pair_b]):
        raise UserError(f"{' and '.join(two.runs)} weigh the sources differently in {name}. Score both anew.")
    alone = np.concatenate([two.label[np.delete(ours, i)], two.label[np.delete(theirs, j)]])
    unit = METRICS[name].unit if name in METRICS else ""

    def draft(label: str | None, which: np.ndarray, unpaired: int) -> _Draft:
        shift, w = b[which] - a[which], weight[which]
        means = [float(np.average(each, weights=w)) for each in (shift, a[which], b[which])]
        n, scenes = len(shift), len(np.unique(scene[which]))
        difference = Difference(means[0], None, means[1], means[2], n, scenes, unpaired, unit)
        return _Draft(name, label, difference, mean_figure(shift, w, scene[which], len(two.scenes)))

    if weight.sum() > 0:
        yield draft(None, np.ones(len(a), bool), len(alone))
    for code in np.unique(label):
        if two.labels[code] and weight[label == code].sum() > 0:
            yield draft(str(two.labels[code]), label == code, int((alone == code).sum()))


def _pooled(two: _Two, level: str) -> Iterator[_Draft]:
    counts = two.counts(level)  # (side, scene, class, outcome)
    if level != "source":  # a grid of frames is there or not; of sources, none is an answer too
        there = counts.sum((2, 3)) > 0  # (side, scene)
        shared = np.logical_and(there[0], there[1])
        alone, counts = counts[:, ~shared].sum((1, 3)), counts * shared[:, None, None]
    else:
        alone = np.zeros((2, len(two.labels)))
    for name, statistic in ((name, POOLED[name][1]) for name in METRICS if name in POOLED and POOLED[name][0] == level):
        if all(np.isfinite(statistic(counts.sum((1, 2))))):
            yield _pooled_draft(name, None, counts.sum(2), statistic, alone.sum(1))
        for code in np.flatnonzero(counts.any((0, 1, 3))):
            own = counts[:, :, code]
            if two.labels[code] and all(np.isfinite(statistic(own.sum(1)))):
                yield _pooled_draft(name, str(two.labels[code]), own, statistic, alone[:, code])


def _pooled_draft(
    name: str, label: str | None, counts: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], alone: np.ndarray
) -> _Draft:
    """Counts (side, scene, outcome), and how many were counted in scenes that only one side has: (side,)."""
    a, b = (float(each) for each in statistic(counts.sum(1)))
    truth = counts.sum(1) if name.startswith("f_measure") else counts.sum(1)[:, [0, 2]]  # false alarms are no sources
    n = truth.sum(1)
    unpaired = int(abs(n[0] - n[1]) + alone.sum())
    difference = Difference(
        b - a, None, a, b, int(n.min()), int(counts.any((0, 2)).sum()), unpaired, METRICS[name].unit
    )

    def moved(sums: np.ndarray) -> np.ndarray:
        n_outcomes = sums.shape[-1] // 2
        return statistic(sums[..., n_outcomes:]) - statistic(sums[..., :n_outcomes])

    return _Draft(name, label, difference, Figure(in_blocks(np.concatenate([counts[0], counts[1]], 1)), moved))
