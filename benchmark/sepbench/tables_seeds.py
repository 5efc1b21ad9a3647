"""A method's figures, of one run or of several that differ in the seed alone: their rows are taken together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from sepbench.by_group import ALL, PartFigure, figures_by, pooled_mean, whole
from sepbench.results import RunRecord, read_rows
from sepbench.statistics import POOLED, names_behind
from sepbench.tables_cells import by_words, figure_cell
from sepbench.tables_facts import figures_of, has_rows
from sepbench.tables_format import Cell, Line

BY_RULE = ("class_accuracy", "class_accuracy_both")  # found by separation or by the set of labels, which do not compare
OWN_COUNT = ("frame", "source")  # pooled by what each method has of its own: its grid of frames, the sources it named


def scored(own: Sequence[RunRecord], split: str, metric: str) -> list[RunRecord]:
    """The runs of a method that have the figure."""
    return [run for run in own if figures_of(run, split, metric)]


def cells_of(own: Sequence[RunRecord], split: str, digits: Mapping[str, int]) -> dict[str, Cell]:
    """A method's figures, by the names in `digits`: mean and interval of all rows that its runs have."""
    if len(own) == 1:
        return {metric: figure_cell(own[0], split, metric, places) for metric, places in digits.items()}
    there = {metric: runs for metric in digits if (runs := scored(own, split, metric))}
    behind = {name for metric in there for name in names_behind(metric)}
    rows = {run.id: read_rows(run.path, behind, split) for run in own if has_rows(run)}
    kept = [metric for metric, runs in there.items() if all(run.id in rows for run in runs)]
    made = figures_by([([rows[run.id] for run in there[metric]], metric, whole) for metric in kept], split)
    found = {metric: figures.get(ALL) for metric, figures in zip(kept, made)}
    return {metric: _cell(own, there.get(metric, []), split, metric, places, found.get(metric))
            for metric, places in digits.items()}  # fmt: skip


def figure_printed(own: Sequence[RunRecord], split: str, metric: str) -> float | None:
    """The mean that `cells_of` has; None where no run has the figure."""
    runs = scored(own, split, metric)
    if len(runs) > 1 and all(map(has_rows, runs)):
        return pooled_mean([read_rows(run.path, names_behind(metric), split) for run in runs], split, metric)
    return _cell(own, runs, split, metric, 1, None).value if runs else None


def ids_of(own: Sequence[RunRecord], there: Sequence[RunRecord]) -> dict[str, Any]:
    """What a cell says of the runs behind it, as its fields: their ids, and of how many where some lack the figure."""
    return {"runs": tuple(run.id for run in there), "of_runs": len(own) if len(there) < len(own) else 0}


def with_n(cells: Sequence[Cell], runs: Sequence[RunRecord], split: str, metric: str) -> list[Cell]:
    """A column, one cell for each method (`runs`: the first of each), where those say their n that have less than others.

    What two methods count by different rules is not compared: classes right by separation and by labels, frames, sources.
    """
    if metric in POOLED and POOLED[metric][0] in OWN_COUNT:
        return list(cells)
    kinds = [by_words(run, split) if metric in BY_RULE else "" for run in runs]
    most: dict[str, float] = {}
    for kind, cell in zip(kinds, cells):
        most[kind] = max(most.get(kind, 0.0), n_of_a_run(cell))
    return [replace(cell, shows_n=n_of_a_run(cell) < most[kind]) if cell.n is not None and cell.value is not None else cell
            for kind, cell in zip(kinds, cells)]  # fmt: skip


def n_of_a_run(cell: Cell) -> float:
    """n, where several runs are taken together that of one of them on average."""
    return (cell.n or 0) / max(1, len(cell.runs))


def shows_seeds(lines: Sequence[Line]) -> bool:
    """Whether a row stands for several runs."""
    return any(len(cell.runs) > 1 or cell.of_runs for line in lines for cell in line.cells)


def _cell(
    own: Sequence[RunRecord], there: Sequence[RunRecord], split: str, metric: str, digits: int, found: PartFigure | None
) -> Cell:
    """Without rows (`found` None) the mean of the runs' own means, each as its n weighs, and no interval."""
    cells = [figure_cell(run, split, metric, digits) for run in there]
    if not cells:
        return Cell()
    if len(cells) == 1:
        return replace(cells[0], **ids_of(own, there))
    counts = [cell.n or 1 for cell in cells]
    mean = sum((cell.value or 0.0) * n for cell, n in zip(cells, counts)) / sum(counts)
    chances = [cell.chance for cell in cells if cell.chance is not None]
    facts: dict[str, Any] = {"chance": fmean(chances) if chances else None, **ids_of(own, there)}
    if found is None:
        return replace(cells[0], value=mean, ci=None, n=sum(counts), **facts)
    return replace(cells[0], value=found.mean, ci=found.ci95, n=found.n, **facts)
