"""Rows scene by scene: which sources sound there, figures that have one row a scene, and their means over some scenes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sepbench.comparison import DIGITS
from sepbench.metrics import METRICS
from sepbench.statistics import N_RESAMPLES, SEED, Columns, Interval, intervals, mean_figure

BY_CLASS, BY_SOURCE, RIGHT = "ca_sdri", "capi_sdri", "label_set_accuracy"
TRUE = ("source_tp", "source_fn")  # rows that count sources which are there: named, and overlooked


def scene_values(columns: Columns, split: str, metric: str) -> dict[str, float]:
    """A figure that has one row a scene, by scene; without the scenes where it is not defined."""
    which = (columns["split"] == split) & (columns["metric"] == metric)
    return dict(zip(columns["scene"][which].tolist(), columns["value"][which].tolist()))


def sources_of(columns: Columns, split: str) -> dict[str, dict[str, int]]:
    """How many sources of which label truly sound in each scene whose label set was scored: {scene: {label: n}}."""
    found: dict[str, dict[str, int]] = {scene: {} for scene in scene_values(columns, split, RIGHT)}
    which = (columns["split"] == split) & np.isin(columns["metric"].astype(str), TRUE)
    for scene, label, n in zip(*(columns[name][which].tolist() for name in ("scene", "label", "value"))):
        own = found.setdefault(scene, {})
        own[label] = own.get(label, 0) + int(n)
    return found


def metric_for(rows: Iterable[Columns], split: str) -> str:
    """The figure of separation by label that is defined in all scenes of those runs: by class, unless a label repeats in one.

    It may repeat among the sources or in the answer: either way the scene has a figure by source alone.
    """
    repeats = any(scene_values(own, split, BY_SOURCE).keys() - scene_values(own, split, BY_CLASS).keys() for own in rows)
    return BY_SOURCE if repeats else BY_CLASS


@dataclass(frozen=True)
class SceneMean:
    """A figure's mean over some scenes."""

    mean: float
    ci95: Interval | None  # drawing scenes; None of one scene alone
    n: int  # scenes


def means_over(
    groups: Sequence[tuple[Mapping[str, float], Collection[str]]],
    n_resamples: int = N_RESAMPLES, seed: int = SEED,
) -> list[SceneMean | None]:  # fmt: skip
    """For each (values by scene, scenes): their mean over those of the scenes that have a value; None where none has.

    Hand it differences of two methods for a paired comparison.
    """
    code = {scene: i for i, scene in enumerate(sorted({scene for values, _ in groups for scene in values}))}
    held = [{scene: values[scene] for scene in sorted(scenes) if scene in values} for values, scenes in groups]
    figures = [mean_figure(np.array(list(own.values()), np.float64), np.ones(len(own)),
                           np.array([code[scene] for scene in own], np.int64), len(code)) for own in held if own]
    bounds = iter(intervals(figures, n_resamples, seed))
    return [SceneMean(float(np.mean(list(own.values()))), next(bounds), len(own)) if own else None for own in held]


def paired(without: Mapping[str, float], with_: Mapping[str, float]) -> dict[str, float]:
    """By how much each scene differs, of those that both have."""
    return {scene: with_[scene] - without[scene] for scene in with_ if scene in without}


def unmoved(differences: Collection[float], metric: str) -> bool:
    """Whether none of them reaches half of the last digit that is printed: no scene moved."""
    least = 0.5 * 10.0 ** -DIGITS[METRICS[metric].unit]
    return all(abs(difference) < least for difference in differences)
