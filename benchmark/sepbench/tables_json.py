"""Tables as JSON, in full: every figure with what stands beside it, and of which run and configuration it is.

    {"format": "sepbench tables", "version": 1,
     "tables": [{"title", "key", "headings", "notes", "foldable", "rows": [{"facts", "cells": [cell]}]}],
     "runs": {id: {"config_hash", "recipe", "name", "task", "corpus", "profile", "seed", "budget", "finished"}}}

A cell holds the fields of `Cell` that are not at their defaults: value, ci (two ends), n, unit, runs (ids) and so on; a dash
is {} or has a "text". The version rises with whatever a reader of an older one would get wrong.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from sepbench.errors import UserError
from sepbench.results import RunRecord
from sepbench.results_checks import run_json
from sepbench.storage import finite
from sepbench.tables_format import Cell, Line, Table

FORMAT, VERSION = "sepbench tables", 1
PLAIN = {f.name: getattr(Cell(), f.name) for f in fields(Cell)}


def as_json(tables: Sequence[Table], runs: Sequence[RunRecord]) -> str:
    """The tables as JSON, with what is known of those of `runs` that stand in them."""
    there = {name for table in tables for row in table.rows for cell in row.cells for name in cell.runs}
    known = {run.id: _facts(run) for run in runs if run.id in there}
    held = {"format": FORMAT, "version": VERSION, "tables": [_table(table) for table in tables], "runs": known}
    return json.dumps(finite(held), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def from_json(text: str) -> list[Table]:
    """The tables that `as_json` wrote. UserError where it is something else, or of another version."""
    try:
        held = json.loads(text)
    except ValueError as error:
        raise UserError(f"not JSON ({error}). Give what `sepbench table --format json` wrote.") from error
    if not isinstance(held, Mapping) or held.get("format") != FORMAT:
        raise UserError(f"JSON, but no '{FORMAT}'. Give what `sepbench table --format json` wrote.")
    if held.get("version") != VERSION:
        raise UserError(f"tables of version {held.get('version')}, wanted {VERSION}. Write them with this sepbench.")
    return [_read(table) for table in held["tables"]]


def _table(table: Table) -> dict[str, Any]:
    rows = [{"facts": dict(row.facts), "cells": [_cell(cell) for cell in row.cells]} for row in table.rows]
    names = ("title", "key", "headings", "notes", "foldable")
    return {**{name: getattr(table, name) for name in names}, "rows": rows}


def _cell(cell: Cell) -> dict[str, Any]:
    return {name: value for name, plain in PLAIN.items() if (value := getattr(cell, name)) != plain}


def _read(held: Mapping[str, Any]) -> Table:
    rows = tuple(Line(tuple(Cell(**_tuples(cell)) for cell in row["cells"]), row["facts"]) for row in held["rows"])
    return Table(**{**_tuples(held), "rows": rows})


def _tuples(held: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in held.items()}


def _facts(run: RunRecord) -> dict[str, Any]:
    """What a reader needs to find the run again, and to know how much it was given."""
    config, task = run.config, run.config["task"]
    named = {name: config.get(name) for name in ("recipe", "name", "profile", "seed", "budget")}
    known = run_json(run.path) or {}
    facts = {"config_hash": known.get("config_hash"), "task": task["name"], "corpus": task["corpus"]}
    return facts | named | {"finished": run.finished}
