"""Two runs that pair -> a verdict on every figure that either of them has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sepbench.check_pairing import settings_that_differ, task_of
from sepbench.comparison import Difference, paired_differences
from sepbench.metrics import EVENTS, METRICS, expand
from sepbench.results import RunRecord
from sepbench.tasks import known_tasks, load_task
from sepbench.tolerances import COUNTED, Level, Tolerances, names_of, unit_of

FINE, BETTER, SHOWN = "fine", "better", "not gated"
REGRESSED, MISSING, NEW, MOVED = "regressed", "missing", "new", "moved"
FAILING = (REGRESSED, MISSING, MOVED, NEW)
SLACK = 1e-9  # what adding and subtracting decimals costs: 1.3 - 1.0 is no more than 0.3

Columns = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Judged:
    """One figure of a run beside the frozen one."""

    split: str
    metric: str
    label: str  # a class; "": all sources
    verdict: str
    unit: str
    tolerance: float | None = None  # in the metric's unit; None: not gated
    reference: float | None = None
    now: float | None = None
    difference: float | None = None  # now - reference, over what both answered
    ci95: tuple[float, float] | None = None
    n: int = 0  # pairs of rows behind it
    scenes: int = 0
    unpaired: int = 0  # rows that only one of the two has
    note: str = ""

    @property
    def gain(self) -> float:
        """The difference, positive where it is for the better; of a property of the scenes, how far it moved, negative."""
        moved = self.difference or 0.0
        higher = METRICS[self.metric].higher_is_better if self.metric in METRICS else False
        return -abs(moved) if higher is None else moved if higher else -moved


@dataclass(frozen=True)
class Pair:
    """A run, the frozen run that it is held against, and the verdicts."""

    reference: RunRecord
    result: RunRecord
    figures: tuple[Judged, ...]
    differing: str = ""  # settings that keep no runs from pairing, such as the seed

    def having(self, *verdicts: str) -> list[Judged]:
        """The figures of such a verdict."""
        return [figure for figure in self.figures if figure.verdict in verdicts]

    @property
    def n_gated(self) -> int:
        """How many means or pooled figures were held against a tolerance; counts alone say little."""
        return sum(each.tolerance is not None and each.difference is not None and each.metric in METRICS
                   for each in self.figures)


def judge_pair(
    reference: RunRecord, result: RunRecord, rows: tuple[Columns, Columns], tolerances: Tolerances
) -> Pair:
    """A verdict on each figure of either run, by the `rows` of both. UserError where their scenes are not the same."""
    recipe = names_of(str(result.config.get("recipe")), task_of(result))[1]
    figures: list[Judged] = []
    a, b = _shared(*rows)
    found = paired_differences(a, b) if len(a["metric"]) and len(b["metric"]) else {}
    for split in dict.fromkeys([*reference.metrics, *result.metrics]):
        held = [_figures(run, split) for run in (reference, result)]
        for metric in METRICS:
            if any(metric in own for own in held):
                entry = found.get(split, {}).get(metric)
                figures += _judge_metric(split, metric, held, entry, tolerances, recipe, result)
        figures += _counts(split, rows, tolerances.whole, recipe)
    return Pair(reference, result, tuple(figures), settings_that_differ(reference, result))


def _shared(a: Columns, b: Columns) -> tuple[Columns, Columns]:
    """The rows of what both runs have: a metric that one lost must not take scenes of the others with it."""
    both = set(a["metric"].tolist()) & set(b["metric"].tolist())
    kept = both | set(EVENTS) | {f"{name}_undefined" for name in both}
    splits = set(a["split"].tolist()) & set(b["split"].tolist())
    which = [np.array([metric in kept and split in splits for metric, split in zip(each["metric"], each["split"])], bool)
             for each in (a, b)]
    first, second = ({name: column[own] for name, column in each.items()} for each, own in zip((a, b), which))
    return first, second


def _figures(run: RunRecord, split: str) -> Mapping[str, Any]:
    """metric -> what metrics.json says of it, where it has a figure."""
    return {name: own for name, own in (run.metrics.get(split) or {}).items()
            if (own.get("all") or {}).get("mean") is not None}


def _judge_metric(
    split: str, metric: str, held: Sequence[Mapping[str, Any]], found: Mapping[str, Any] | None,
    tolerances: Tolerances, recipe: str, result: RunRecord,
) -> Iterator[Judged]:  # fmt: skip
    """The figure over all sources, then that of each class."""
    ours, theirs = (own.get(metric) for own in held)
    tolerance, by_class = tolerances.whole.of(recipe, metric), tolerances.classes.of(recipe, metric)
    if ours is None or theirs is None or found is None or found["all"] is None:
        yield _one_sided(split, metric, "", ours, theirs, tolerance, _beyond_the_task(metric, result))
        return
    signatures = [own.get("signature") for own in (ours, theirs)]
    moved = f"measured as {signatures[1]}; was {signatures[0]}" if all(signatures) and len({*signatures}) > 1 else ""
    yield _two_sided(split, metric, "", found["all"], tolerance, moved)
    classes = [own.get("class") or {} for own in (ours, theirs)]
    for label in dict.fromkeys([*classes[0], *classes[1]]):
        entries = [own.get(label) or {} for own in classes]
        if label in found["class"]:
            yield _two_sided(split, metric, label, found["class"][label], by_class)
        elif by_class is not None and any(entry.get("mean") is not None for entry in entries):
            first, second = ({"all": entry} if entry.get("mean") is not None else None for entry in entries)
            yield _one_sided(split, metric, label, first, second, by_class, optional=False)


def _two_sided(
    split: str, metric: str, label: str, found: Difference, tolerance: float | None, moved: str = ""
) -> Judged:
    figure = Judged(split, metric, label, SHOWN, unit_of(metric), tolerance, found.a, found.b, found.value, found.ci95,
                    found.n, found.scenes, found.unpaired, moved)
    return replace(figure, verdict=MOVED if moved else verdict(figure))


def _one_sided(
    split: str, metric: str, label: str, ours: Any, theirs: Any, tolerance: float | None, optional: bool
) -> Judged:
    """A figure that one of the two does not have, or of which no row pairs."""
    before, now = (None if own is None else own["all"]["mean"] for own in (ours, theirs))
    if theirs is None or ours is not None:
        note = "not measured any more" if theirs is None else "no source or scene has it in both"
        verdict_of = SHOWN if theirs is not None and tolerance is None else MISSING  # what is not gated may be rare
        return Judged(split, metric, label, verdict_of, unit_of(metric), tolerance, before, now, note=note)
    note = "asked for beyond the task; freeze it to gate it" if optional else "freeze it to accept it"
    return Judged(split, metric, label, SHOWN if optional else NEW, unit_of(metric), tolerance, None, now, note=note)


def _beyond_the_task(metric: str, result: RunRecord) -> bool:
    """Whether the metric is none that the task asks for by itself: optional columns, such as those of BSS Eval."""
    task = task_of(result)
    return task in known_tasks() and metric not in expand(load_task(task, {})["metrics"], f"task {task}")


def verdict(figure: Judged) -> str:
    """fine, better, regressed; of a property of the scenes, fine or moved; without a tolerance, not gated."""
    if figure.tolerance is None or figure.difference is None:
        return SHOWN
    if abs(figure.difference) <= figure.tolerance + SLACK:
        return FINE
    if figure.metric in METRICS and METRICS[figure.metric].higher_is_better is None:
        return MOVED
    return BETTER if figure.gain > 0 else REGRESSED


def _counts(split: str, rows: tuple[Columns, Columns], level: Level, recipe: str) -> Iterator[Judged]:
    """What is counted and not averaged: missed sources, and those answered upside down."""
    for name in EVENTS:
        before, now = (int(((each["split"] == split) & (each["metric"] == name)).sum()) for each in rows)
        if before or now:
            figure = Judged(split, name, "", SHOWN, COUNTED, level.of(recipe, name), before, now, now - before)
            yield replace(figure, verdict=verdict(figure), note=EVENTS[name])
