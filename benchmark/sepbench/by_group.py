"""A figure over parts of its rows: by class, by the number of sources, by overlap, by how loud a source is in its mixture."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from sepbench.by_scene import RIGHT, TRUE, sources_of
from sepbench.metrics import OUTCOMES
from sepbench.statistics import (
    N_RESAMPLES,
    POOLED,
    SEED,
    Columns,
    Figure,
    Interval,
    codes_of,
    in_blocks,
    intervals,
    mean_figure,
    rows_behind,
)

CLASS, COUNT, OVERLAP, INPUT, ALL = "class", "n_sources", "overlap", "input_si_sdr", "all"
WHOLE_SCENE = (COUNT, OVERLAP)  # what parts scenes; the others part sources
HALF_OVERLAPPED = 0.5  # parts scenes in which one source mostly sounds alone from those in which it mostly does not
INPUT_EDGES_DB = (-5.0, 0.0, 5.0)  # at 0 dB a source is as loud as all others together
OVERLAPS = ("no overlap", "up to half of the time", "more than half")
TOLD_BY = {CLASS: (), COUNT: (COUNT, RIGHT, *TRUE), OVERLAP: (OVERLAP,), INPUT: ("si_sdr_mixture",)}  # metrics
INPUTS = ("below -5 dB", "-5 to 0 dB", "0 to 5 dB", "above 5 dB")

Parts = Callable[[Columns], np.ndarray]  # rows -> the part of each, (row,) strings; "" of rows that are in none


@dataclass(frozen=True)
class PartFigure:
    """A figure over one part."""

    mean: float
    ci95: Interval | None  # drawing scenes; None of one scene alone
    n: int  # rows (sources or scenes); of pooled figures the frames, clips or sources that are counted


def parts_by(by: str, rows: Sequence[Columns], split: str) -> tuple[list[str], Parts] | None:
    """The parts that there are, in order, and what tells to which a row belongs; None where no row says it.

    `rows`: those of several runs on the same scenes, of the metrics TOLD_BY[by]; by class, of all. What is a fact of the
    scenes is taken from whichever run has it.
    """
    if by == CLASS:
        return parts_by_class({label for own in rows for label in own["label"][own["split"] == split].tolist()})
    if by == INPUT:
        inputs = [_kept(own, split, "si_sdr_mixture") for own in rows]
        at = [np.searchsorted(INPUT_EDGES_DB, own["value"], side="right") for own in inputs]
        return _looked_up([(own["scene"], own["source"], part) for own, part in zip(inputs, at)], INPUTS, by_source=True)
    if by == COUNT:
        counts = [_counts(own, split) for own in rows]
        order = sorted({int(n) for _, own in counts for n in np.unique(own)})
        told = [(scene, None, np.searchsorted(order, own)) for scene, own in counts]
        return _looked_up(told, [_counted(n) for n in order])
    shares = [_kept(own, split, OVERLAP) for own in rows]
    return _looked_up([(own["scene"], None, _overlap(own["value"])) for own in shares], OVERLAPS)


def parts_by_class(labels: Collection[str]) -> tuple[list[str], Parts] | None:
    """As `parts_by`, from all labels that rows of the split bear; "" is none."""
    order = sorted(set(labels) - {""})
    return (order, lambda columns: columns["label"]) if order else None


def figures_by(
    asked: Sequence[tuple[Sequence[Columns], str, Parts]], split: str, n_resamples: int = N_RESAMPLES, seed: int = SEED
) -> list[dict[str, PartFigure]]:
    """For each (rows of one method's runs, metric, parts): its figure in every part that has one.

    The rows of several runs, such as those of several seeds, are taken together: a scene is drawn with all of them.
    """
    names = sorted({str(scene) for runs, _, _ in asked for own in runs for scene in set(own["scene"].tolist())})
    scenes = {scene: i for i, scene in enumerate(names)}
    found: list[dict[str, PartFigure]] = []
    pending: list[tuple[dict[str, PartFigure], str, Figure]] = []
    for runs, metric, parts in asked:
        columns = _together(runs, split, metric)
        part = parts(columns)
        code = codes_of(columns["scene"], scenes)
        own: dict[str, PartFigure] = {}
        found.append(own)
        for name in sorted(set(part.tolist()) - {""}):
            which = part == name
            made = _figure({key: column[which] for key, column in columns.items()}, metric, code[which], len(scenes))
            if made is not None:
                own[name] = PartFigure(made[0], None, made[1])
                pending.append((own, name, made[2]))
    for (own, name, _), ci95 in zip(pending, intervals([figure for *_, figure in pending], n_resamples, seed), strict=True):
        own[name] = PartFigure(own[name].mean, ci95, own[name].n)
    return found


def pooled_mean(runs: Sequence[Columns], split: str, metric: str) -> float | None:
    """The figure over all rows of several runs taken together; None where they have none."""
    columns = _together(runs, split, metric)
    made = _figure(columns, metric, np.zeros(len(columns["scene"]), np.int64), 1)
    return None if made is None else made[0]


def whole(columns: Columns) -> np.ndarray:
    """All rows as one part."""
    return np.full(len(columns["scene"]), ALL, object)


def _together(runs: Sequence[Columns], split: str, metric: str) -> dict[str, np.ndarray]:
    """The rows of a metric in all `runs`, one below the other."""
    kept = [(own, rows_behind(own, metric, split)) for own in runs]
    return {key: np.concatenate([own[key][which] for own, which in kept]) for key in runs[0]}


def _figure(columns: Columns, metric: str, scene: np.ndarray, n_scenes: int) -> tuple[float, int, Figure] | None:
    """Mean, n, and what the bootstrap draws; None where it is not defined."""
    if metric in POOLED:
        level, statistic = POOLED[metric]
        totals = np.zeros((n_scenes, len(OUTCOMES)))
        outcome = np.array([OUTCOMES.index(name.removeprefix(f"{level}_")) for name in columns["metric"]], np.int64)
        np.add.at(totals, (scene, outcome), columns["value"].astype(np.float64))
        mean = float(statistic(totals.sum(0)))
        return None if np.isnan(mean) else (mean, int(totals.sum()), Figure(in_blocks(totals), statistic))
    value, weight = (columns[key].astype(np.float64) for key in ("value", "weight"))
    if not weight.sum() > 0:
        return None
    return float(np.average(value, weights=weight)), len(value), mean_figure(value, weight, scene, n_scenes)


def _looked_up(
    told: Sequence[tuple[np.ndarray, np.ndarray | None, np.ndarray]], order: Sequence[str], by_source: bool = False
) -> tuple[list[str], Parts] | None:
    """Parts of scenes, or of their sources, from (scenes, sources, places in `order`) of each run: the last one counts."""
    names = {scene for each, _, _ in told for scene in each.tolist()}
    scenes = {scene: i for i, scene in enumerate(names)}
    width = max((int(own.max()) + 2 for _, own, _ in told if own is not None and len(own)), default=1)
    part = np.full((len(scenes) + 1, width), len(order), np.int8)  # (scene, source from -1 on); the last scene: any other
    for scene, source, at in told:
        part[codes_of(scene, scenes), 0 if source is None else source + 1] = at

    def parts(columns: Columns) -> np.ndarray:
        scene = np.array([scenes.get(name, -1) for name in columns["scene"]], np.int64)
        source = columns["source"] + 1 if by_source else np.zeros(len(scene), np.int64)
        found = np.where(source < width, part[scene, np.minimum(source, width - 1)], len(order))
        return np.array([*order, ""], object)[found]

    there = np.unique(part)
    return ([name for k, name in enumerate(order) if k in there], parts) if scenes else None


def _kept(columns: Columns, split: str, metric: str) -> dict[str, np.ndarray]:
    """Scene, source and value of a metric's rows."""
    which = rows_behind(columns, metric, split)
    return {name: columns[name][which] for name in ("scene", "source", "value")}


def _counts(columns: Columns, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Scenes and how many sources sound in each; of runs from before that was kept, as the labels tell that truly are there."""
    kept = _kept(columns, split, COUNT)
    if len(kept["scene"]):
        return kept["scene"], kept["value"].astype(np.int64)
    found = {scene: sum(own.values()) for scene, own in sources_of(columns, split).items()}
    return np.array(list(found), object), np.array(list(found.values()), np.int64)


def _counted(n: int) -> str:
    return f"{n} source" if n == 1 else f"{n} sources"


def _overlap(share: np.ndarray) -> np.ndarray:
    """Places in OVERLAPS."""
    return np.where(share <= 0, 0, np.where(share <= HALF_OVERLAPPED, 1, 2))
