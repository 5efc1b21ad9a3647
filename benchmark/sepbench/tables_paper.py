"""The papers' tables: our cells, found by the options of our runs, beside the published figures."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sepbench.errors import UserError
from sepbench.results import RunRecord
from sepbench.tables_facts import (
    SHARED,
    SHARED_NOTE,
    SYNTHETIC_NOTE,
    is_synthetic,
    newest,
    plain,
    scene_settings,
    shares_clips,
    taught_elsewhere,
)
from sepbench.tables_format import DASH, Line, Table
from sepbench.tables_grid import Grid, Printed, Published, name_of
from sepbench.tables_ties import column_note

OTHER_PROTOCOL_NOTE = (
    f"The paper's figures are of {SHARED}: what it tests on, it has trained on. Ours here are not; those that are stand in a "
    f"table of their own, '{SHARED}'."
)


def read_published(path: Path | None) -> Published:
    """The published figures by (paper, table, row, column), then metric; empty without a file."""
    cells: dict[tuple[str, str, str, str], dict[str, Printed]] = {}
    if path is None:
        return cells
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                key = (row["paper"], row["table"], row["row"], row["column"])
                value = DASH if row["value"] == "missing" else row["value"]
                cells.setdefault(key, {})[row["metric"]] = Printed(value, row["unit"])
    except (OSError, KeyError, csv.Error) as error:
        raise UserError(f"{path}: no table of published figures ({error}). Restore it from the repository.") from error
    return cells


def paper_tables(
    runs: Sequence[RunRecord], published: Published, show_all: bool, named: str | None = None
) -> list[Table]:
    """The tables of the papers that our finished runs fill in part, one for each protocol; `show_all`: the others too.

    Where several recipes name the same published table, each gives the rows that are its own. `named`: those alone that
    a recipe calls so.
    """
    grids: dict[tuple[object, ...], list[Grid]] = {}
    for recipe in sorted({run.config["recipe"] for run in runs}):
        own = [run for run in runs if run.config["recipe"] == recipe]
        here: list[tuple[object, ...]] = []
        for name, spec in newest(own).tables.items():
            source = spec.get("published") or {}
            named_there = source.get("paper") and source.get("table")
            key: tuple[object, ...] = (source["paper"], source["table"]) if named_there else (recipe, name, "of its own")
            here.append(key)
            grid = Grid(recipe, name, spec, _columns(spec, newest(own)), published)
            grids.setdefault((*key, here.count(key)), []).append(grid)
    asked = [parts for parts in grids.values() if named is None or any(part.name == named for part in parts)]
    tables = [table for parts in asked for table in _tables(parts, runs)]
    return [table for table in tables if show_all or any(cell.runs for line in table.rows for cell in line.cells)]


def _tables(parts: Sequence[Grid], runs: Sequence[RunRecord]) -> list[Table]:
    """One table of a paper, once where clips are disjoint and once where they are shared, as far as there are runs of it."""
    lead = next((part for part in parts if part.recipe == part.paper), parts[0])
    own = [run for run in runs if run.config["recipe"] in {part.recipe for part in parts}]
    blocks = _blocks(own, lead.split)
    made = []
    for shared in (False, True):
        lines, notes = _lines(lead, parts, [block for block in blocks if shares_clips(block[0]) == shared])
        if lines:
            made.append(_table(lead, parts, lines, notes, shared))
    if not made:
        lines = [line for part, row in _rows(parts) if (line := part.line(row, [], _headings(lead, parts), []))]
        made.append(_table(lead, parts, lines, [], False))
    return made


def _lines(
    lead: Grid, parts: Sequence[Grid], blocks: Sequence[Sequence[RunRecord]]
) -> tuple[list[Line], list[str]]:
    """A block of rows for each (corpus, profile, test set); rows without a figure of ours are left out."""
    lines: list[Line] = []
    notes: list[str] = []
    headings = _headings(lead, parts)
    for block in blocks:
        here: list[Line] = []
        for part, row in _rows(parts):
            own = [run for run in block if run.config["recipe"] == part.recipe and not taught_elsewhere(run)]
            here += [line] if own and (line := part.line(row, own, headings, notes)) else []
        notes += _ties(lead, headings, here, block)
        lines += here
    ids = {name for line in lines for cell in line.cells for name in cell.runs}
    shown = [run for block in blocks for run in block if run.id in ids]
    for part in parts:
        ours = [run for run in shown if run.config["recipe"] == part.recipe]
        notes += [part.spec["note"]] if ours and part.spec.get("note") else []
        notes += _not_as_published(part, ours)
    return lines, notes


def _ties(lead: Grid, headings: Sequence[str], lines: Sequence[Line], block: Sequence[RunRecord]) -> Iterator[str]:
    """In which columns which rows are not told apart, for those columns that hold a figure of all classes."""
    for i, heading in enumerate(headings):
        column = next((column for column in lead.columns if name_of(column) == heading), None)
        if column is not None and column.get("key", "all") == "all" and not column.get("metric"):
            note = column_note(heading, 4 + i, lines, block, str(lead.spec["metric"]), lead.split)
            if note:
                yield note


def _not_as_published(part: Grid, runs: Sequence[RunRecord]) -> Iterator[str]:
    """In what the runs shown are not the paper's, though they stand in its rows: other classes, another profile's settings."""
    published = part.source.get("classes")
    for ours in sorted({len(run.config["task"].get("classes") or []) for run in runs} - {0, published}):
        if published:
            yield f"The paper has {published} classes, ours {ours}: not comparable as such."
    for profile in sorted({run.config["profile"] for run in runs} - {"paper"}):
        own = [run for run in runs if run.config["profile"] == profile]
        sized = any(run.config.get("train") or run.config.get("sizes") for run in own)
        words = [_untold(part, own), "sizes and training are the profile's, not the published ones" if sized else ""]
        if any(words):
            name = newest(own).config.get("name") or part.recipe
            yield f"{name}, {profile}: {'; '.join(filter(None, words))}."


def _untold(part: Grid, runs: Sequence[RunRecord]) -> str:
    """The recipe's own options of which the table does not speak, as the runs had them."""
    had: dict[str, dict[str, None]] = {}
    for run in runs:
        for name, value in (run.config.get("params") or {}).items():
            had.setdefault(name, {})[plain(value)] = None
    return ", ".join(f"{name} {' or '.join(had[name])}" for name in sorted(had.keys() - part.told))


def _headings(lead: Grid, parts: Sequence[Grid]) -> list[str]:
    """The columns of all parts by their names, those of the lead first."""
    every = [column for part in (lead, *parts) for column in part.columns]
    return list(dict.fromkeys(map(name_of, every)))


def _rows(parts: Sequence[Grid]) -> list[tuple[Grid, Mapping[str, Any]]]:
    """The rows of all parts; where there are several parts, in the order in which the paper has them."""
    rows = [(part, row) for part in parts for row in part.spec["rows"]]
    if len(parts) < 2:
        return rows
    printed = list(dict.fromkeys(key[2] for key in parts[0].published if key[:2] == parts[0].place))
    return sorted(rows, key=lambda each: printed.index(name_of(each[1])) if name_of(each[1]) in printed else len(printed))


def _table(lead: Grid, parts: Sequence[Grid], lines: list[Line], notes: list[str], shared: bool) -> Table:
    headings = _headings(lead, parts)
    keep = [i for i in range(len(headings)) if any(line.cells[4 + i].show() != DASH for line in lines)]
    lines = [Line(line.cells[:4] + tuple(line.cells[4 + i] for i in keep), line.facts) for line in lines]
    ours = [{line.cells[4 + k].unit for line in lines if line.cells[4 + k].runs} for k in range(len(keep))]
    units = [found.pop() if len(found) == 1 else "" if found else lead.unit(headings[i]) for i, found in zip(keep, ours)]
    told = [unit in ("%", "M") and f"({unit})" not in headings[i] for i, unit in zip(keep, units)]
    shown = [f"{headings[i]}, {unit}" if tell else headings[i] for i, unit, tell in zip(keep, units, told)]
    name = lead.recipe if len(parts) == 1 else lead.paper
    table = lead.name if len(parts) == 1 else lead.place[1]
    which = f"Table {table} of the paper" if lead.spec.get("published") else f"table {table}"
    title = f"{name}, {which}: {lead.spec.get('title', '')}".rstrip(": ")
    filled = any(cell.runs for line in lines for cell in line.cells)
    notes = sorted(set(notes))
    if filled and any(part.shares_clips for part in parts) and not shared:
        notes.insert(0, OTHER_PROTOCOL_NOTE)
    if shared:
        notes.insert(0, SHARED_NOTE)
    if filled and any(is_synthetic(line.facts.get("corpus", "")) for line in lines):
        notes.insert(0, SYNTHETIC_NOTE)
    title += f", {SHARED}" if shared else ""
    key = f"{name} table {table}{f' {SHARED}' if shared else ''}"
    return Table(title, ("Row", "Corpus", "Profile", "n", *shown), tuple(lines), tuple(notes), key=key)


def _blocks(runs: Sequence[RunRecord], split: str) -> list[list[RunRecord]]:
    """The runs by corpus content, profile and test set; the mixing may differ, for tables compare that too."""
    blocks: dict[tuple[str, ...], list[RunRecord]] = {}
    for run in runs:
        settings = {key: value for key, value in scene_settings(run, split).items() if key != "mixing"}
        key = (run.config["task"]["corpus"], run.config["profile"], json.dumps(settings, sort_keys=True))
        blocks.setdefault(key, []).append(run)
    return [blocks[key] for key in sorted(blocks)]


def _columns(spec: Mapping[str, Any], run: RunRecord) -> list[dict[str, Any]]:
    if (spec.get("columns") or "classes") != "classes":
        return [dict(column) for column in spec["columns"]]
    names = run.config["task"]["classes"]
    each = [{"published": name.replace("_", " ").capitalize(), "key": name} for name in names]
    return [*each, {"published": "Overall", "key": "all"}]
