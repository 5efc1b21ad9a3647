"""Rows -> figures with intervals: weighted means, pooled F-measures, and a bootstrap over scenes (Efron 1979).

Rows of one scene hang together, so whole scenes are drawn. Every figure here is a ratio of sums over scenes; one set of
resamples serves all figures of the same scenes, as a product of draw counts and per-scene sums.

Longer than most: that, and the layout of the summary, is one thought.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sepbench.metrics import CHANCE, EVENTS, FACTS, LEVELS, METRICS, OUTCOMES
from sepbench.resampling import resampled_sums

N_RESAMPLES = 10_000
SEED = 20_000
MOST_DRAWN = 10_000  # scenes; of more, as many blocks of scenes are drawn, whose sums scatter as those of scenes do
CODED = ("split", "scene", "label", "metric")

Interval = tuple[float, float]
Columns = Mapping[str, np.ndarray]


def bootstrap_ci(
    values: np.ndarray,
    weights: np.ndarray,
    clusters: np.ndarray,
    n_resamples: int = N_RESAMPLES,
    seed: int = SEED,
) -> Interval | None:
    """95 % percentile interval of the weighted mean, drawing whole clusters (scenes) with replacement.

    Shapes: values, weights, clusters (row,); clusters are names of any type. None with fewer than two clusters. Hand it
    differences of two methods on the same rows for a paired comparison.
    """
    _, cluster = np.unique(clusters, return_inverse=True)
    figure = mean_figure(np.asarray(values, np.float64), np.asarray(weights, np.float64), cluster, cluster.max() + 1)
    return intervals([figure], n_resamples, seed)[0]


def f_measure_ci(
    tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, n_resamples: int = N_RESAMPLES, seed: int = SEED
) -> Interval | None:
    """95 % percentile interval of the F-measure of pooled counts, drawing scenes: (scene,) three times."""
    return intervals([Figure(in_blocks(np.stack([tp, fp, fn], 1).astype(np.float64)), _f_measure)], n_resamples, seed)[0]


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """The value with half of the weight on either side; halfway between two where the weight divides evenly."""
    order = np.argsort(values)
    values, cumulative = values[order], np.cumsum(weights[order])
    half = cumulative[-1] / 2
    low = np.searchsorted(cumulative, half * (1 - 1e-12), side="left")
    high = np.searchsorted(cumulative, half * (1 + 1e-12), side="right")
    return float((values[low] + values[min(high, len(values) - 1)]) / 2)


def summarise(columns: Columns, n_resamples: int = N_RESAMPLES, seed: int = SEED) -> dict[str, Any]:
    """Rows, as one array per column of `Row` (split, scene, label, metric, value, weight), to the figures of a run:

        {split: {metric: {"unit", "signature", "all": entry, "class": {label: entry}}}}
        entry = {"mean", "std", "median", "n", "scenes", "undefined", "ci95": [low, high]}

    All weighted; std is that of the rows (divisor n). Precision, recall and F-measures, pooled over scenes, stand under
    "mean", those of frames and clips with their chance level as a metric of its own, `<metric>_chance`, as has the
    accuracy of classes; that also says how it was had, "by" separation or label set. The mean over classes of what is
    pooled stands beside "all" as "class_mean". Pooled figures have no std and no median, and n is the number of frames, clips or
    sources. What merely happened (`missed`, `extra`, `sign_flipped`) has the unit "count" and no mean; who was paired
    with whom (`paired_with`) stands in the rows alone. Whatever a figure lacks is None.
    """
    coded = {name: Coded.of(columns[name]) for name in CODED}
    return summarise_coded(coded, np.asarray(columns["value"]), np.asarray(columns["weight"]), n_resamples, seed)


def summarise_coded(
    coded: Mapping[str, Coded], value: np.ndarray, weight: np.ndarray, n_resamples: int = N_RESAMPLES, seed: int = SEED
) -> dict[str, Any]:
    """As `summarise`, from the columns CODED as codes, which take a tenth of the memory that words do."""
    split = coded["split"]
    found = {}
    for k in np.unique(split.codes):
        which: Any = np.flatnonzero(split.codes == k)
        if which[-1] - which[0] < len(which):  # side by side, as they are on disk: looked at where they lie
            which = slice(which[0], which[-1] + 1)
        own = {name: Coded(coded[name].words, coded[name].codes[which]) for name in ("scene", "label", "metric")}
        found[split.words[k]] = _summarise_split(own, value[which], weight[which], n_resamples, seed)
    return found


@dataclass(frozen=True)
class Coded:
    """A column of words: each word once, in order, and which of them stands in each row."""

    words: list[str]
    codes: np.ndarray  # (row,)

    @classmethod
    def of(cls, column: np.ndarray) -> Coded:
        words = sorted(map(str, set(np.asarray(column).tolist())))
        return cls(words, codes_of(column, {word: k for k, word in enumerate(words)}))


def codes_of(column: np.ndarray, place: Mapping[str, int]) -> np.ndarray:
    """A column of words as their places: (row,) -> (row,) integers. KeyError for a word that has none."""
    return np.fromiter(map(place.__getitem__, column), np.int64, len(column))


def names_behind(metric: str) -> list[str]:
    """What the rows are called that a figure is made of: its own name, or of what is pooled the counts."""
    return [f"{POOLED[metric][0]}_{outcome}" for outcome in OUTCOMES] if metric in POOLED else [metric]


def rows_behind(columns: Columns, metric: str, split: str) -> np.ndarray:
    """Which rows a figure of `split` is made of: (row,) booleans."""
    return np.asarray((columns["split"] == split) & np.isin(columns["metric"], names_behind(metric)))


def in_blocks(totals: np.ndarray) -> np.ndarray:
    """Sums over scenes as the bootstrap draws them: (scene, ...) -> the same, or of very many scenes (MOST_DRAWN, ...)."""
    if len(totals) <= MOST_DRAWN:
        return totals
    sums = totals[:MOST_DRAWN].copy()
    for start in range(MOST_DRAWN, len(totals), MOST_DRAWN):
        part = totals[start : start + MOST_DRAWN]
        sums[: len(part)] += part
    return sums


@dataclass(frozen=True)
class Figure:
    """A figure that the bootstrap can move: `statistic` of sums over scenes, (..., column) -> (...)."""

    totals: np.ndarray  # (scene, column); of very many scenes (block, column), as `in_blocks` has it
    statistic: Callable[[np.ndarray], np.ndarray]


def intervals(figures: list[Figure], n_resamples: int, seed: int) -> list[Interval | None]:
    """The 95 % interval of each figure; None where there are no two scenes to tell it from.

    Each is drawn from the scenes that it has, so that it does not depend on what else was measured; figures of the same
    scenes share their resamples.
    """
    alike: dict[bytes, list[int]] = {}
    for i, figure in enumerate(figures):
        alike.setdefault(np.any(figure.totals, axis=1).tobytes(), []).append(i)
    found: list[Interval | None] = [None] * len(figures)
    for scenes, group in alike.items():
        own = np.frombuffer(scenes, bool)
        if own.sum() < 2:
            continue
        sums = resampled_sums(np.concatenate([figures[i].totals[own] for i in group], 1), n_resamples, seed)
        parts = np.split(sums, np.cumsum([figures[i].totals.shape[1] for i in group])[:-1], axis=1)
        for i, part in zip(group, parts, strict=True):
            found[i] = _percentiles(figures[i].statistic(part.astype(np.float64)))
    return found


def unpaired_interval(
    one: Figure, other: Figure, n_resamples: int = N_RESAMPLES, seed: int = SEED
) -> Interval | None:
    """95 % interval of `one` - `other`, measured on different scenes: those of each are drawn without regard to the other's.

    None where one of them has no two scenes.
    """
    drawn = []
    for figure, own_seed in ((one, seed), (other, seed + 1)):
        totals = figure.totals[np.any(figure.totals, axis=1)]
        if len(totals) < 2:
            return None
        drawn.append(figure.statistic(resampled_sums(totals, n_resamples, own_seed).astype(np.float64)))
    return _percentiles(drawn[0] - drawn[1])


def _percentiles(drawn: np.ndarray) -> Interval | None:
    """The middle 95 % of (resample,) figures, those left out that are not defined."""
    drawn = drawn[~np.isnan(drawn)]  # a precision, in resamples where nothing was said
    return (float(np.percentile(drawn, 2.5)), float(np.percentile(drawn, 97.5))) if len(drawn) else None


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below; NaN where below is 0."""
    return np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below > 0)


def _precision(sums: np.ndarray) -> np.ndarray:
    """(..., [tp, fp, ...]) -> (...); NaN where nothing was said."""
    return _ratio(sums[..., 0], sums[..., 0] + sums[..., 1])


def _recall(sums: np.ndarray) -> np.ndarray:
    """(..., [tp, fp, fn, ...]) -> (...); NaN where nothing was there."""
    return _ratio(sums[..., 0], sums[..., 0] + sums[..., 2])


def _f_measure(sums: np.ndarray) -> np.ndarray:
    """(..., [tp, fp, fn, ...]) -> (...); NaN where all three are 0."""
    tp, fp, fn = (sums[..., i] for i in range(3))
    return _ratio(2 * tp, 2 * tp + fp + fn)


def _chance(sums: np.ndarray) -> np.ndarray:
    """F of always saying yes, (..., [tp, fp, fn, tn]) -> (...); NaN where nothing sounds."""
    tp, fp, fn, tn = (sums[..., i] for i in range(4))
    return np.where(tp + fn > 0, _ratio(2 * (tp + fn), 2 * (tp + fn) + fp + tn), np.nan)


# metric -> what is counted, and the statistic of the pooled counts (..., outcome) -> (...)
POOLED: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "f_measure_frame": ("frame", _f_measure),
    "f_measure_frame_chance": ("frame", _chance),
    "f_measure_clip": ("clip", _f_measure),
    "f_measure_clip_chance": ("clip", _chance),
    "source_precision": ("source", _precision),
    "source_recall": ("source", _recall),
    "source_f_measure": ("source", _f_measure),
}


def mean_figure(values: np.ndarray, weights: np.ndarray, scene: np.ndarray, n_scenes: int) -> Figure:
    """The weighted mean as a ratio of sums, taken about the mean itself so that float32 is plenty."""
    centre = np.average(values, weights=weights)
    totals = np.stack([np.bincount(scene, weights * (values - centre), n_scenes),
                       np.bincount(scene, weights, n_scenes)], 1)
    return Figure(in_blocks(totals), lambda sums: centre + _ratio(sums[..., 0], sums[..., 1]))


def _summarise_split(
    coded: Mapping[str, Coded], value: np.ndarray, weight: np.ndarray, n_resamples: int, seed: int
) -> dict[str, Any]:
    value, weight, metric = np.asarray(value, np.float64), np.asarray(weight, np.float64), coded["metric"]
    if not np.isfinite(value).all():
        named = metric.words[metric.codes[~np.isfinite(value)][0]]
        raise ValueError(f"{named}: a value is not finite; undefined figures have no row")
    there = np.zeros(len(coded["scene"].words), bool)
    there[coded["scene"].codes] = True
    scene, n_scenes = (np.cumsum(there, dtype=np.int32) - 1)[coded["scene"].codes], int(there.sum())
    drawn = scene if n_scenes <= MOST_DRAWN else scene % MOST_DRAWN
    rows = {metric.words[k]: np.flatnonzero(metric.codes == k) for k in np.unique(metric.codes)}
    label = coded["label"]
    data = _Rows(label.words, label.codes, value, weight, scene, drawn, min(n_scenes, MOST_DRAWN), rows)
    counts = {f"{level}_{outcome}" for level in LEVELS for outcome in OUTCOMES}
    averaged = {name.removesuffix("_undefined") for name in rows if name not in counts | EVENTS.keys() | FACTS.keys()}

    result: dict[str, Any] = {}
    pending: list[tuple[dict[str, Any], Figure]] = []
    for name in [*(n for n in METRICS if n in averaged), *sorted(averaged - METRICS.keys())]:
        result[name] = {**_head(name), **_how(data, name), **_averages(data, name, pending)}
    for level in LEVELS:
        if f"{level}_tp" in rows:
            result |= _detection(data, level, pending)
    for name in EVENTS:
        if name in rows:
            result[name] = {"unit": "count", **_groups(data, name, lambda which: _entry(data.scene[which]))}
    found = intervals([figure for _, figure in pending], n_resamples, seed)
    for (entry, _), interval in zip(pending, found, strict=True):
        entry["ci95"] = None if interval is None else list(interval)
    return result


def _head(name: str) -> dict[str, Any]:
    """What says how to read a figure. A chance level is as its metric is."""
    metric = METRICS.get(name.removesuffix(CHANCE))
    return {"unit": metric.unit, "signature": metric.signature} if metric else {"unit": ""}


def _how(data: _Rows, name: str) -> dict[str, str]:
    """Of the accuracy of classes, which estimate was to bear which label: as separation chose, or any that was named."""
    if name not in ("class_accuracy", "class_accuracy_both") or name not in data.of:
        return {}
    alone = np.isin(data.scene[data.of[name]], data.scene[data.of.get("labels_alone", np.empty(0, np.int64))])
    return {"by": "label set" if alone.all() else "label set or separation" if alone.any() else "separation"}


@dataclass(frozen=True)
class _Rows:
    """The rows of one split."""

    labels: list[str]
    label: np.ndarray  # (row,), which of the labels
    value: np.ndarray
    weight: np.ndarray
    scene: np.ndarray  # index of the scene in the split
    drawn: np.ndarray  # index of what the bootstrap draws: the scene, or of very many the block that it is in
    n_drawn: int
    of: dict[str, np.ndarray]  # metric -> its rows


def _entry(scene: np.ndarray, **facts: Any) -> dict[str, Any]:
    empty = {"mean": None, "std": None, "median": None, "n": len(scene), "scenes": len(np.unique(scene))}
    return {**empty, "undefined": 0, "ci95": None, **facts}


def _groups(data: _Rows, name: str, entry_of: Callable[[np.ndarray], dict[str, Any]]) -> dict[str, Any]:
    """An entry for all rows of a metric, and one for each class among them and among its undefined rows."""
    rows = data.of.get(name, np.empty(0, np.int64))
    labels = np.unique(data.label[np.concatenate([rows, data.of.get(f"{name}_undefined", rows[:0])])])
    by_class = {data.labels[k]: entry_of(rows[data.label[rows] == k]) for k in labels if data.labels[k]}
    return {"all": entry_of(rows), "class": by_class}


def _averages(data: _Rows, name: str, pending: list[tuple[dict[str, Any], Figure]]) -> dict[str, Any]:
    def entry_of(rows: np.ndarray) -> dict[str, Any]:
        value, weight, scene, drawn = data.value[rows], data.weight[rows], data.scene[rows], data.drawn[rows]
        if not weight.sum() > 0:
            return _entry(scene)
        mean = float(np.average(value, weights=weight))
        std = float(np.sqrt(np.average((value - mean) ** 2, weights=weight)))
        entry = _entry(scene, mean=mean, std=std, median=weighted_median(value, weight))
        pending.append((entry, mean_figure(value, weight, drawn, data.n_drawn)))
        return entry

    groups = _groups(data, name, entry_of)
    undefined = data.of.get(f"{name}_undefined", np.empty(0, np.int64))
    groups["all"]["undefined"] = len(undefined)
    for label, entry in groups["class"].items():
        entry["undefined"] = int((data.label[undefined] == data.labels.index(label)).sum())
    return groups


def _detection(data: _Rows, level: str, pending: list[tuple[dict[str, Any], Figure]]) -> dict[str, Any]:
    """The pooled figures of one level, from (scene, class, outcome) counts."""
    labels = np.unique(data.label[data.of[f"{level}_tp"]])
    counts, n_scenes = np.zeros((data.n_drawn, len(labels), len(OUTCOMES))), _scenes_counted(data, level, labels)
    for i, outcome in enumerate(OUTCOMES):
        rows = data.of.get(f"{level}_{outcome}", np.empty(0, np.int64))
        np.add.at(counts, (data.drawn[rows], np.searchsorted(labels, data.label[rows]), i), data.value[rows])

    def entry_of(totals: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], n: int, scenes: int) -> dict[str, Any]:
        mean = float(statistic(totals.sum(0)))
        entry = {**_entry(np.empty(0), mean=None if np.isnan(mean) else mean, n=n), "scenes": scenes}
        if entry["mean"] is not None:
            pending.append((entry, Figure(totals, statistic)))
        return entry

    result = {}
    for name, statistic in ((name, statistic) for name, (counted, statistic) in POOLED.items() if counted == level):
        result[name] = {
            **_head(name),
            "all": entry_of(counts.sum(1), statistic, int(counts.sum()), n_scenes[-1]),
            "class_mean": entry_of(counts.reshape(data.n_drawn, -1), _class_mean(statistic), int(counts.sum()), n_scenes[-1]),
            "class": {data.labels[k]: entry_of(counts[:, i], statistic, int(counts[:, i].sum()), n_scenes[i])
                      for i, k in enumerate(labels)},
        }
    return result


def _scenes_counted(data: _Rows, level: str, labels: np.ndarray) -> list[int]:
    """In how many scenes anything was counted, for each label and, at the end, for all."""
    rows = np.concatenate([data.of.get(f"{level}_{outcome}", np.empty(0, np.int64)) for outcome in OUTCOMES])
    rows = rows[data.value[rows] != 0]
    scenes, label = data.scene[rows], data.label[rows]
    return [*(len(np.unique(scenes[label == k])) for k in labels), len(np.unique(scenes))]


def _class_mean(statistic: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """The mean over those classes for which the statistic is defined: (..., class * outcome) -> (...)."""

    def mean(sums: np.ndarray) -> np.ndarray:
        figures = statistic(sums.reshape(*sums.shape[:-1], -1, len(OUTCOMES)))
        return _ratio(np.nansum(figures, -1), (~np.isnan(figures)).sum(-1))

    return mean
