"""Whether what a run's files hold is what they should hold, so that all who read them may rely on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from sepbench.errors import UserError
from sepbench.results_format import FORMAT, RENAMED
from sepbench.scene import Row
from sepbench.storage import read_json

REMEDY = "Restore it, or run again in another folder."
KEYS = ("id", "config", "config_hash", "state")  # without these a run.json is none
NUMBERS = ("mean", "std", "median", "n", "scenes", "undefined")
PARTS = ("config", "task", "options", "tables", "provenance", "wall_s", "cost")


def run_json(folder: Path) -> dict[str, Any] | None:
    """The run.json of `folder`; None where there is none or it is not of a run of ours."""
    path = folder / "run.json"
    if not path.is_file():
        return None
    run = read_json(path)
    if not isinstance(run, dict) or "format" not in run:
        return None
    if run["format"] not in (FORMAT, *RENAMED):
        raise UserError(
            f"{path}: written by format {run['format']}; this sepbench reads format {FORMAT}. "
            "Use the sepbench that wrote it, or move it away."
        )
    check_run(path, run)
    return run


def check_run(path: Path, run: Mapping[str, Any]) -> None:
    """UserError naming the file `path` where a run.json lacks what makes it one, or holds something else there."""
    if missing := [key for key in KEYS if key not in run]:
        raise UserError(f"{path}: no {', '.join(missing)} in it. Restore it, or move its folder away.")
    config = run["config"]
    held = {**run, "task": config.get("task") if isinstance(config, Mapping) else None}
    for name in PARTS:
        if not isinstance(held.get(name), Mapping) and (name == "config" or held.get(name) is not None):
            raise UserError(f"{path}: {name} is {_short(held[name])}, not a mapping. Restore it, or move its folder away.")


def check_metrics(path: Path, metrics: Any) -> None:
    """UserError naming the file `path` where it is not {split: {metric: {"all": entry, "class": {label: entry}}}}.

    An entry is a mapping of numbers, or None; whatever a figure lacks may be absent or None, as older runs have it.
    """
    for split, own in _mapping(path, "", metrics).items():
        for name, held in _mapping(path, split, own).items():
            where = f"{split}.{name}"
            entries = {part: _mapping(path, where, held).get(part) for part in ("all", "class_mean")}
            classes = held.get("class")
            if classes is not None:
                entries |= {f"class.{label}": entry for label, entry in _mapping(path, f"{where}.class", classes).items()}
            for part, entry in entries.items():
                if entry is not None:
                    _check_entry(path, f"{where}.{part}", entry)


def check_rows(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """UserError naming the file `path` where a column of Row is absent, or holds what is no figure: text, NaN, infinity."""
    if missing := [field.name for field in fields(Row) if field.name not in columns]:
        raise UserError(f"{path}: no column {', '.join(missing)} in it. {REMEDY}")
    for field in fields(Row):
        column = columns[field.name]
        kinds = {"str": "O", "int": "iu", "float": "fiu"}[str(field.type)]
        of_text = field.type == "str" and not set(map(type, column.tolist())) <= {str}
        if column.dtype.kind not in kinds and len(column) or of_text:
            wanted = {"str": "text", "int": "whole numbers", "float": "numbers"}[str(field.type)]
            raise UserError(f"{path}: column {field.name} does not hold {wanted} throughout. {REMEDY}")
    for name in ("value", "weight"):
        bad = np.flatnonzero(~np.isfinite(columns[name].astype(float)))
        if len(bad):
            first = "/".join(str(columns[part][bad[0]]) for part in ("split", "scene", "metric"))
            raise UserError(f"{path}: {name} is {columns[name][bad[0]]} in {len(bad)} of {len(columns[name])} rows, "
                            f"{first} the first; only finite numbers are figures. {REMEDY}")  # fmt: skip


def _check_entry(path: Path, where: str, entry: Any) -> None:
    own = _mapping(path, where, entry)
    for name in NUMBERS:
        if own.get(name) is not None and not _is_number(own[name]):
            raise UserError(f"{path}: {where}.{name} is {_short(own[name])}, not a number. {REMEDY}")
    bounds = own.get("ci95")
    whole = isinstance(bounds, list) and len(bounds) == 2 and all(each is None or _is_number(each) for each in bounds)
    if bounds is not None and not whole:
        raise UserError(f"{path}: {where}.ci95 is {_short(bounds)}, not two numbers. {REMEDY}")


def _mapping(path: Path, where: str, held: Any) -> Mapping[str, Any]:
    if not isinstance(held, Mapping):
        raise UserError(f"{path}: {where or 'it all'} is {_short(held)}, where figures were expected. {REMEDY}")
    return held


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
