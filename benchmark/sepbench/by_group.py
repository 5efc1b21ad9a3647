"""A figure over parts of its rows: by class, by the number of sources, by overlap, by how loud a source is in its mixture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sepbench.by_scene import scene_values, sources_of
from sepbench.metrics import OUTCOMES
from sepbench.statistics import N_RESAMPLES, POOLED, SEED, Columns, Figure, Interval, intervals, mean_figure

CLASS, COUNT, OVERLAP, INPUT, ALL = "class", "n_sources", "overlap", "input_si_sdr", "all"
WHOLE_SCENE = (COUNT, OVERLAP)  # what parts scenes; the others part sources
HALF_OVERLAPPED = 0.5  # parts scenes in which one source mostly sounds alone from those in which it mostly does not
INPUT_EDGES_DB = (-5.0, 0.0, 5.0)  # at 0 dB a source is as loud as all others together
OVERLAPS = ("no overlap", "up to half of the time", "more than half")
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

    `rows`: those of several runs on the same scenes. What is a fact of the scenes is taken from whichever run has it.
    """
    if by == CLASS:
        held = [own["label"][own["split"] == split].astype(str) for own in rows]
        labels = sorted({str(label) for own in held for label in np.unique(own)} - {""})
        return (labels, lambda columns: columns["label"].astype(str)) if labels else None
    if by == INPUT:
        inputs = {key: value for own in rows for key, value in _inputs(own, split).items()}
        names = {key: INPUTS[int(np.searchsorted(INPUT_EDGES_DB, value, side="right"))] for key, value in inputs.items()}
        return _looked_up(names, INPUTS, ("scene", "source"))
    if by == COUNT:
        counts = {scene: n for own in rows for scene, n in _counts(own, split).items()}
        order = [_counted(n) for n in sorted(set(counts.values()))]
        return _looked_up({(scene,): _counted(n) for scene, n in counts.items()}, order, ("scene",))
    shares = {scene: share for own in rows for scene, share in scene_values(own, split, OVERLAP).items()}
    return _looked_up({(scene,): _overlap(share) for scene, share in shares.items()}, OVERLAPS, ("scene",))


def figures_by(
    asked: Sequence[tuple[Sequence[Columns], str, Parts]], split: str, n_resamples: int = N_RESAMPLES, seed: int = SEED
) -> list[dict[str, PartFigure]]:
    """For each (rows of one method's runs, metric, parts): its figure in every part that has one.

    The rows of several runs, such as those of several seeds, are taken together: a scene is drawn with all of them.
    """
    scenes = sorted({str(scene) for runs, _, _ in asked for own in runs for scene in np.unique(own["scene"].astype(str))})
    found: list[dict[str, PartFigure]] = []
    pending: list[tuple[dict[str, PartFigure], str, Figure]] = []
    for runs, metric, parts in asked:
        columns = _together(runs, split, metric)
        part = parts(columns)
        code = np.searchsorted(scenes, columns["scene"].astype(str))
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
    return np.full(len(columns["scene"]), ALL)


def _together(runs: Sequence[Columns], split: str, metric: str) -> dict[str, np.ndarray]:
    """The rows of a metric in all `runs`, one below the other."""
    level = POOLED[metric][0] if metric in POOLED else None
    names = [metric] if level is None else [f"{level}_{outcome}" for outcome in OUTCOMES]
    kept = [(own, np.isin(own["metric"].astype(str), names) & (own["split"] == split)) for own in runs]
    return {key: np.concatenate([own[key][which] for own, which in kept]) for key in runs[0]}


def _figure(columns: Columns, metric: str, scene: np.ndarray, n_scenes: int) -> tuple[float, int, Figure] | None:
    """Mean, n, and what the bootstrap draws; None where it is not defined."""
    if metric in POOLED:
        level, statistic = POOLED[metric]
        totals = np.zeros((n_scenes, len(OUTCOMES)))
        outcome = np.array([OUTCOMES.index(name.removeprefix(f"{level}_")) for name in columns["metric"]], np.int64)
        np.add.at(totals, (scene, outcome), columns["value"].astype(np.float64))
        mean = float(statistic(totals.sum(0)))
        return None if np.isnan(mean) else (mean, int(totals.sum()), Figure(totals, statistic))
    value, weight = (columns[key].astype(np.float64) for key in ("value", "weight"))
    if not weight.sum() > 0:
        return None
    return float(np.average(value, weights=weight)), len(value), mean_figure(value, weight, scene, n_scenes)


def _looked_up(
    names: Mapping[tuple[object, ...], str], order: Sequence[str], by: Sequence[str]
) -> tuple[list[str], Parts] | None:
    def parts(columns: Columns) -> np.ndarray:
        keys = zip(*(columns[name].tolist() for name in by))
        return np.array([names.get(key, "") for key in keys], dtype=str)

    there = set(names.values())
    return ([name for name in order if name in there], parts) if names else None


def _inputs(columns: Columns, split: str) -> dict[tuple[object, ...], float]:
    which = (columns["split"] == split) & (columns["metric"] == "si_sdr_mixture")
    scene, source, value = (columns[name][which].tolist() for name in ("scene", "source", "value"))
    return dict(zip(zip(scene, source), value))


def _counts(columns: Columns, split: str) -> dict[str, int]:
    """How many sources sound in each scene; of runs from before that was kept, as the labels tell that truly are there."""
    kept = scene_values(columns, split, COUNT)
    if kept:
        return {scene: int(n) for scene, n in kept.items()}
    return {scene: sum(own.values()) for scene, own in sources_of(columns, split).items()}


def _counted(n: int) -> str:
    return f"{n} source" if n == 1 else f"{n} sources"


def _overlap(share: float) -> str:
    return OVERLAPS[0] if share <= 0 else OVERLAPS[1] if share <= HALF_OVERLAPPED else OVERLAPS[2]
