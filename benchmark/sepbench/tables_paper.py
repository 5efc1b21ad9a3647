"""The papers' tables: our cells, found by the options of our runs, beside the published figures."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from sepbench.errors import UserError
from sepbench.results import RunRecord
from sepbench.tables_facts import (
    SYNTHETIC_NOTE,
    corpus_words,
    figures_of,
    interval,
    is_synthetic,
    newest,
    scene_settings,
)
from sepbench.tables_format import DASH, Cell, Line, Table, text

OF_THE_MIXTURE = ("si_sdr_mixture",)  # figures of the scenes alone, the same whatever the method
OF_THE_TEST_SET = {"split"}  # options of which a table need not speak: runs that differ in them have rows of their own
DIGITS = {"dB": 1, "%": 1}
Key = tuple[str, str, str, str]
Published = Mapping[Key, Mapping[str, str]]  # (paper, table, row, column) -> metric -> value as printed


def read_published(path: Path | None) -> Published:
    """The published figures by (paper, table, row, column), then metric; empty without a file."""
    cells: dict[Key, dict[str, str]] = {}
    if path is None:
        return cells
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                key = (row["paper"], row["table"], row["row"], row["column"])
                cells.setdefault(key, {})[row["metric"]] = DASH if row["value"] == "missing" else row["value"]
    except (OSError, KeyError, csv.Error) as error:
        raise UserError(f"{path}: no table of published figures ({error}). Restore it from the repository.") from error
    return cells


def paper_tables(runs: Sequence[RunRecord], published: Published, show_all: bool) -> list[Table]:
    """A table for each one of each recipe's paper that our finished runs fill in part; `show_all`: the others too."""
    tables = []
    for recipe in sorted({run.config["recipe"] for run in runs}):
        own = [run for run in runs if run.config["recipe"] == recipe]
        for name, spec in newest(own).tables.items():
            grid = _Grid(recipe, name, spec, _columns(spec, newest(own)), published)
            table = grid.table(own)
            if show_all or any(cell.runs for line in table.rows for cell in line.cells):
                tables.append(table)
    return tables


@dataclass(frozen=True)
class _Grid:
    """One table of a paper as recipe.yaml lays it out."""

    recipe: str
    name: str
    spec: Mapping[str, Any]
    columns: Sequence[Mapping[str, Any]]
    published: Published

    def table(self, runs: Sequence[RunRecord]) -> Table:
        """A block of rows for each (corpus, profile, test set); rows without a figure of ours are left out."""
        lines: list[Line] = []
        notes: list[str] = []
        for block in _blocks(runs, self.split):
            lines += [line for row in self.spec["rows"] if (line := self._line(row, block, notes))]
        if not lines:
            lines = [self._line(row, [], notes) or Line(()) for row in self.spec["rows"]]
        keep = [i for i in range(len(self.columns)) if any(line.cells[4 + i].show() != DASH for line in lines)]
        lines = [Line(line.cells[:4] + tuple(line.cells[4 + i] for i in keep), line.facts) for line in lines]
        headings = ("Row", "Corpus", "Profile", "n", *(_name(self.columns[i]) for i in keep))
        title = f"{self.recipe}, Table {self.name} of the paper: {self.spec.get('title', '')}".rstrip(": ")
        synthetic = any(cell.runs for line in lines for cell in line.cells) and any(
            is_synthetic(line.facts.get("corpus", "")) for line in lines
        )
        notes = ([SYNTHETIC_NOTE] if synthetic else []) + sorted(set(notes))
        return Table(title, headings, tuple(lines), tuple(notes))

    @property
    def split(self) -> str:
        return str(self.spec.get("split") or "test")

    def _line(self, row: Mapping[str, Any], block: Sequence[RunRecord], notes: list[str]) -> Line | None:
        """One row in one block; None where we have no figure for it. An empty block gives the published row alone."""
        cells = [self._cell(row, column, block, notes) for column in self.columns]
        if block and not any(cell.runs for cell in cells):
            return None
        corpus = block[0].config["task"]["corpus"] if block else ""
        profile = block[0].config["profile"] if block else ""
        facts = {"corpus": corpus, "profile": profile, "split": self.split}
        start = (text(_name(row)), text(_sounds(block)), text(profile), text(self._count(cells)))
        return Line((*start, *cells), facts)

    def _count(self, cells: Sequence[Cell]) -> str:
        """How many scored sources (or scenes) stand behind a row: overall where the row has that, else from to."""
        overall = [c.n for c, column in zip(cells, self.columns) if column.get("key") == "all" and c.n is not None]
        counts = overall or [cell.n for cell in cells if cell.n is not None]
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
        told = self._told if metric in OF_THE_MIXTURE else set(when)
        found = [run for run in block if matches(run, when, told) and figures_of(run, self.split, metric, key)]
        same = _alike(found)
        if len(same) < len(found) and metric not in OF_THE_MIXTURE:
            where = f"{_name(row)}, {_name(column)}"
            notes.append(f"{where}: other settings fit too; shown is the newest, {same[0].id}.")
        figures = [held for run in same if (held := figures_of(run, self.split, metric, key))]
        facts: dict[str, Any] = {}
        if figures:
            alone = figures[0] if len(figures) == 1 else {}
            unit = str((same[0].metrics[self.split][metric] or {}).get("unit") or "")
            facts |= {"value": fmean(figure["mean"] for figure in figures), "ci": interval(alone), "unit": unit}
            facts |= {"n": figures[0].get("n"), "runs": tuple(run.id for run in same)}
            facts |= {"std": alone.get("std")} if (self.spec.get("published") or {}).get("std") else {}
        shown, spread = self._published(row, column)
        digits = len(shown.partition(".")[2]) if shown not in (None, DASH) else DIGITS.get(facts.get("unit", ""), 2)
        return Cell(**facts, published=shown, published_std=spread, digits=digits)

    @property
    def _told(self) -> set[str]:
        """Every option that this table speaks of."""
        parts = [self.spec, *self.spec["rows"], *self.columns]
        return {option for part in parts for option in (part.get("when") or {})}

    def _published(self, row: Mapping[str, Any], column: Mapping[str, Any]) -> tuple[str | None, str | None]:
        """The paper's figure as printed and its standard deviation; None where the paper has no such cell."""
        source = self.spec.get("published") or {}
        if not source:
            return None, None
        place = (str(source.get("paper", self.recipe)), str(source.get("table", self.name)))
        held = self.published.get((*place, str(row.get("published")), str(column.get("published"))), {})
        means = [metric for metric in held if not metric.endswith(" std")]
        metric = source["metric"] if source.get("metric") in held else means[0] if len(means) == 1 else None
        spread = source["std"] if source.get("std") in held else metric and metric.replace(" mean", "") + " std"
        return held.get(metric or ""), held.get(spread or "") if source.get("std") else None


def _sounds(block: Sequence[RunRecord]) -> str:
    """The corpus of a block's runs, and how it was split where that is not the corpus's own way."""
    if not block:
        return ""
    task = block[0].config["task"]
    by = (task.get("splits") or {}).get("by", "fold")
    return corpus_words(task["corpus"]) + ("" if by == "fold" else f", by {by}")


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
    return json.dumps({key: value for key, value in run.config.items() if key != "seed"}, sort_keys=True)


def _blocks(runs: Sequence[RunRecord], split: str) -> list[list[RunRecord]]:
    """The runs by corpus content, profile and test set; the mixing may differ, for tables compare that too."""
    blocks: dict[tuple[str, ...], list[RunRecord]] = {}
    for run in runs:
        settings = {key: value for key, value in scene_settings(run, split).items() if key != "mixing"}
        key = (run.config["task"]["corpus"], run.config["profile"], json.dumps(settings, sort_keys=True))
        blocks.setdefault(key, []).append(run)
    return [blocks[key] for key in sorted(blocks)]


def _columns(spec: Mapping[str, Any], run: RunRecord) -> list[dict[str, Any]]:
    if spec.get("columns", "classes") != "classes":
        return [dict(column) for column in spec["columns"]]
    names = run.config["task"]["classes"]
    each = [{"published": name.replace("_", " ").capitalize(), "key": name} for name in names]
    return [*each, {"published": "Overall", "key": "all"}]


def _name(part: Mapping[str, Any]) -> str:
    return str(part.get("published") or ", ".join(f"{key}={value}" for key, value in (part.get("when") or {}).items()))
