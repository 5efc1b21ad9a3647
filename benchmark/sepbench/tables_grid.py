"""A table of a paper as recipe.yaml lays it out: which of our runs belongs in which cell, in the paper's units."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, NamedTuple

from sepbench.metrics import CHANCE
from sepbench.results import RunRecord
from sepbench.results_checks import MARK
from sepbench.tables_facts import (
    SHARED_POOL,
    corpus_words,
    figures_of,
    interval,
    newest,
    shares_clips,
    sounds_words,
    split_fact,
)
from sepbench.tables_format import DASH, Cell, Line, text

OF_THE_MIXTURE = ("si_sdr_mixture",)  # figures of the scenes alone, the same whatever the method
OF_THE_COST = ("parameters",)  # figures of the run and not of its scenes
# options of which a table need not speak: runs that differ in them have rows, or tables, of their own
OF_THE_TEST_SET = {"split", "protocol", "classes"}
DIGITS = {"dB": 1, "%": 1, "M": 1}
SCALES = {("ratio", "%"): 100.0, ("", "M"): 1e-6}  # our unit, the paper's: how many of the paper's are one of ours


class Printed(NamedTuple):
    """A published figure."""

    value: str
    unit: str


Key = tuple[str, str, str, str]
Published = Mapping[Key, Mapping[str, Printed]]  # (paper, table, row, column) -> metric -> figure as printed


@dataclass(frozen=True)
class Grid:
    """One table of a paper, or those rows of it that are a recipe's, as recipe.yaml lays it out."""

    recipe: str
    name: str
    spec: Mapping[str, Any]
    columns: Sequence[Mapping[str, Any]]
    published: Published

    @property
    def source(self) -> Mapping[str, Any]:
        return self.spec.get("published") or {}

    @property
    def paper(self) -> str:
        return str(self.source.get("paper", self.recipe))

    @property
    def place(self) -> tuple[str, str]:
        """Where the published figures lie: paper and table."""
        return self.paper, str(self.source.get("table", self.name))

    @property
    def shares_clips(self) -> bool:
        """Whether the paper trained on the clips that it tested on."""
        return self.source.get("protocol") == SHARED_POOL

    @property
    def split(self) -> str:
        return str(self.spec.get("split") or "test")

    def line(
        self, row: Mapping[str, Any], block: Sequence[RunRecord], headings: Sequence[str], notes: list[str]
    ) -> Line | None:
        """One row in one block; None where we have no figure for it. An empty block gives the published row alone."""
        named = {name_of(column): column for column in self.columns}
        cells = [self._cell(row, named[name], block, notes) if name in named else Cell() for name in headings]
        if block and not any(cell.runs for cell in cells):
            return None
        profile = block[0].config["profile"] if block else ""
        facts = {"corpus": block[0].config["task"]["corpus"] if block else "", "profile": profile}
        facts["split"] = split_fact(block[0], self.split) if block else self.split
        facts["row"] = f"{name_of(row)} {_sounds(block).removeprefix(corpus_words(facts['corpus']))}"
        count = self._count([(named[name], cell) for name, cell in zip(headings, cells) if name in named])
        start = (text(name_of(row)), text(_sounds(block)), text(profile), text(count))
        return Line((*start, *cells), facts)

    def _count(self, cells: Sequence[tuple[Mapping[str, Any], Cell]]) -> str:
        """How many scored sources (or scenes) stand behind a row: overall where the row has that, else from to."""
        overall = [cell.n for column, cell in cells if column.get("key") == "all" and cell.n is not None]
        counts = overall or [cell.n for _, cell in cells if cell.n is not None]
        if not counts:
            return ""
        return str(counts[0]) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"

    def _cell(
        self, row: Mapping[str, Any], column: Mapping[str, Any], block: Sequence[RunRecord], notes: list[str]
    ) -> Cell:
        """Our figure and the paper's. Runs that differ in the seed alone are averaged; of others, the newest counts."""
        metric = column.get("metric") or row.get("metric") or self.spec["metric"]
        key = column.get("key") or row.get("key") or "all"
        when = {**(self.spec.get("when") or {}), **(row.get("when") or {}), **(column.get("when") or {})}
        told = self.told if metric in OF_THE_MIXTURE else set(when)
        found = [run for run in block if matches(run, when, told) and _held(run, self.split, metric, key)]
        same = _alike(found)
        if len(same) < len(found) and metric not in OF_THE_MIXTURE:
            where = f"{name_of(row)}, {name_of(column)}"
            notes.append(f"{where}: other settings fit too; shown is the newest, {same[0].id}.")
        figures = [held for run in same if (held := _held(run, self.split, metric, key))]
        shown, spread = self._published(row, column)
        facts: dict[str, Any] = {}
        if figures:
            unit, times = _scaled(_unit(same[0], self.split, metric), self.unit(name_of(column)))
            alone = figures[0] if len(figures) == 1 else {}
            bounds = interval(alone)
            facts |= {"value": times * fmean(figure["mean"] for figure in figures), "unit": unit}
            facts |= {"ci": bounds and (times * bounds[0], times * bounds[1])}
            facts |= {"n": figures[0].get("n"), "runs": tuple(run.id for run in same)}
            std = alone.get("std") if self.source.get("std") else None
            facts |= {"std": std and times * std}
            guessed = [held["mean"] for run in same if (held := _held(run, self.split, f"{metric}{CHANCE}", key))]
            facts |= {"chance": times * fmean(guessed), "names_chance": True} if guessed else {}
        digits = len(shown.partition(".")[2]) if shown not in (None, DASH) else _digits(**facts)
        cell = Cell(**facts, published=shown, published_std=spread, digits=digits)
        notes += [note for run in same if (note := _how_found(run, self.split, metric, cell))]
        return cell

    def unit(self, heading: str) -> str:
        """The unit of a column's published figures; "" where there are none, or of several units."""
        held = [held for key, held in self.published.items() if key[:2] == self.place and key[3] == heading]
        units = {printed.unit for metrics in held for printed in metrics.values()}
        return units.pop() if len(units) == 1 else ""

    @property
    def told(self) -> set[str]:
        """Every option that this table speaks of."""
        parts = [self.spec, *self.spec["rows"], *self.columns]
        return {option for part in parts for option in (part.get("when") or {})}

    def _published(self, row: Mapping[str, Any], column: Mapping[str, Any]) -> tuple[str | None, str | None]:
        """The paper's figure as printed and its standard deviation; None where the paper has no such cell."""
        source = self.source
        if not source:
            return None, None
        held = self.published.get((*self.place, str(row.get("published")), str(column.get("published"))), {})
        means = [metric for metric in held if not metric.endswith(" std")]
        metric = source["metric"] if source.get("metric") in held else means[0] if len(means) == 1 else None
        spread = source["std"] if source.get("std") in held else metric and metric.replace(" mean", "") + " std"
        mean, std = held.get(metric or ""), held.get(spread or "") if source.get("std") else None
        return mean and mean.value, std and std.value


def _held(run: RunRecord, split: str, metric: str, key: str) -> Mapping[str, Any] | None:
    """A figure of the run's scenes, or of what it costs."""
    if metric not in OF_THE_COST:
        return figures_of(run, split, metric, key)
    value = run.cost.get(metric)
    return None if value is None else {"mean": value}


def _unit(run: RunRecord, split: str, metric: str) -> str:
    return "" if metric in OF_THE_COST else str((run.metrics[split].get(metric) or {}).get("unit") or "")


def _how_found(run: RunRecord, split: str, metric: str, cell: Cell) -> str:
    """Of an accuracy of classes by the set of labels, that it is, and how easily it is guessed; empty for any other."""
    by = (run.metrics.get(split, {}).get(metric) or {}).get("by")
    if by in (None, "separation"):
        return ""
    chance = "" if cell.chance is None else f", chance {cell.chance:.{cell.digits}f} {cell.unit}".rstrip()
    return f"{run.config.get('name') or run.config['recipe']}: by {by}{chance}."


def _scaled(ours: str, printed: str) -> tuple[str, float]:
    """The unit in which a figure is shown, the paper's where ours can be had in it, and what it is multiplied by."""
    times = SCALES.get((ours, printed))
    return (ours, 1.0) if times is None else (printed, times)


def _digits(unit: str = "", value: float = 0.0, **_: object) -> int:
    """Digits of a figure that has no published one beside it. Of small numbers of parameters, two that count."""
    digits = DIGITS.get(unit, 2)
    return digits if unit != "M" or value <= 0 else max(digits, min(4, 1 - math.floor(math.log10(value))))


def _sounds(block: Sequence[RunRecord]) -> str:
    """The sounds of a block's runs, and how they were split where that is not the corpus's own way."""
    if not block:
        return ""
    by = (block[0].config["task"].get("splits") or {}).get("by", "fold")
    return sounds_words(block[0]) + ("" if by == "fold" or shares_clips(block[0]) else f", by {by}")


def matches(run: RunRecord, when: Mapping[str, Any], told: set[str]) -> bool:
    """Whether the run had the options `when`, and changed no other than those `told` of from their defaults."""
    had = _effective(run.options)
    wanted = _effective({**run.options, **when})
    if any(option not in had or not _equal(had[option], wanted[option]) for option in when):
        return False
    strange = set(run.changed or {}) - told - OF_THE_TEST_SET
    return all(option.startswith("test_") and _equal(had[option], had.get(option[5:])) for option in strange)


def _effective(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with `test_x: null` filled in: where the test has no value of its own, it has that of `x`."""
    return {
        name: options[name[5:]] if value is None and name.startswith("test_") and name[5:] in options else value
        for name, value in options.items()
    }


def _equal(one: object, other: object) -> bool:
    if one is None or other is None:
        return one is other
    return one == other or str(one) == str(other)


def _alike(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """The newest of `runs` and those that differ from it in nothing but the seed."""
    if not runs:
        return []
    last = _without_seed(newest(runs))
    return [run for run in runs if _without_seed(run) == last]


def _without_seed(run: RunRecord) -> str:
    config = {key: value for key, value in run.config.items() if key != "seed"}
    return json.dumps([config, run.id.partition(MARK)[2]], sort_keys=True)  # what a merge kept beside another is no seed of it


def name_of(part: Mapping[str, Any]) -> str:
    return str(part.get("published") or ", ".join(f"{key}={value}" for key, value in (part.get("when") or {}).items()))
