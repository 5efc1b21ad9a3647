"""Whether what a run's files hold is what they should hold, so that all who read them may rely on it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from sepbench.errors import UserError
from sepbench.results_format import FORMAT, RENAMED
from sepbench.scene import Row
from sepbench.storage import as_yaml, finite, read_json

REMEDY = "Restore it, or run again in another folder."
KEYS = ("id", "config", "config_hash", "state")  # without these a run.json is none
BESIDE = ("config.yaml", "metrics.json")  # what lies beside a run.json of ours once the run is finished
NUMBERS = ("mean", "std", "median", "n", "scenes", "undefined")
STATES = ("running", "finished")
BEYOND = 1e30  # no figure is as large: the statistics are sums in float32
MARK = "~"  # between the id of a run and what tells it from another run of that id, in the name of its folder
COLUMNS = {  # of a column of Row by its type: what it holds, and how Arrow calls that
    "str": ("text", "(dictionary<values=)?(large_)?string"), "int": ("whole numbers", "u?int"),
    "float": ("numbers", "u?int|float|double"),
}
KINDS: dict[str, tuple[type, ...]] = {  # what those who read a run.json rely on; only with ! behind it may it not be None
    "a mapping": (Mapping,), "a list": (list,), "a number": (int, float), "text": (str,), "a list or `classes`": (list,),
}
SHAPE = {
    "id": "text", "config_hash": "text", "state": "text", "started": "text", "finished": "text", "weights_hash": "text",
    "config": "a mapping", "options": "a mapping", "changed": "a mapping", "tables": "a mapping", "wall_s": "a mapping",
    "provenance": "a mapping", "cost": "a mapping", "config.task": "a mapping", "wall_s.*": "a number",
    "tables.*": "a mapping!", "tables.*.title": "text", "tables.*.metric": "text!", "tables.*.note": "text",
    "tables.*.split": "text", "tables.*.when": "a mapping", "tables.*.rows": "a list!", "tables.*.rows.*": "a mapping!",
    "tables.*.columns": "a list or `classes`", "tables.*.columns.*": "a mapping!", "tables.*.published": "a mapping",
    "tables.*.published.paper": "text", "tables.*.published.table": "text", "tables.*.rows.*.when": "a mapping",
    "tables.*.columns.*.when": "a mapping", "cost.parameters": "a number", "cost.macs_per_s": "a number",
    "cost.real_time_factor": "a number", "cost.peak_memory_mb": "a number", "cost.peak_memory_of": "text",
    "cost.training_scenes": "a number", "provenance.corpus_hash": "text", "provenance.recipe_folder": "text",
    "provenance.recipe_hash": "text",
    "provenance.scenes_hash": "a mapping", "provenance.scenes_hash.*": "text", "provenance.splits": "a mapping",
    "provenance.packages": "a mapping", "provenance.machine": "a mapping", "provenance.recordings": "a mapping",
    "provenance.recordings.*": "a list", "provenance.audit": "a mapping", "provenance.audit.verdict": "text",
    "provenance.audit.shared": "a mapping", "provenance.audit.shared.*": "a mapping",
}  # fmt: skip


def config_hash(config: Mapping[str, Any]) -> str:
    """A hash of the resolved configuration that does not depend on the order of its keys."""
    text = json.dumps(finite(config), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def run_json(folder: Path) -> dict[str, Any] | None:
    """The run.json of `folder`; None where there is none or it is not of a run of ours. UserError where it is broken."""
    path, is_ours = folder / "run.json", all((folder / name).exists() for name in BESIDE)
    if not path.exists():
        if is_ours:
            raise UserError(f"{path}: not there, though {' and '.join(BESIDE)} are. Restore it, or move its folder away.")
        return None
    run = read_json(path)
    if not isinstance(run, dict) or "format" not in run:
        if is_ours:
            raise UserError(f"{path}: no format in it. Restore it, or move its folder away.")
        return None
    if run["format"] not in (FORMAT, *RENAMED):
        raise UserError(
            f"{path}: written by format {_short(run['format'])}; this sepbench reads format {FORMAT}. "
            "Use the sepbench that wrote it, or move it away."
        )
    check_run(path, run)
    return run


def check_run(path: Path, run: Mapping[str, Any]) -> None:
    """UserError naming the file `path` where a run.json lacks what makes it one, or holds something else there.

    So it is where its configuration was changed afterwards: in it, in its folder's name, or in config.yaml beside it.
    """
    if missing := [key for key in KEYS if run.get(key) is None]:
        raise UserError(f"{path}: no {', '.join(missing)} in it. Restore it, or move its folder away.")
    for name, kind in SHAPE.items():
        for where, held in _held(run, name.split(".")):
            if not _is(held, kind):
                raise UserError(f"{path}: {where} is {_short(held)}, not {kind.rstrip('!')}. "
                                "Restore it, or move its folder away.")  # fmt: skip
    if not re.fullmatch(r"[^./\\\0][^/\\\0]*", run["id"]):
        raise UserError(f"{path}: id is {_short(run['id'])}, no name of a folder. Restore it, or move its folder away.")
    if run["state"] not in STATES:
        raise UserError(f"{path}: state is {_short(run['state'])}, not {' or '.join(STATES)}. "
                        "Restore it, or move its folder away.")  # fmt: skip
    _check_hash(path, run)


def own_id(folder: Path, run: Mapping[str, Any]) -> str:
    """The run's id, or the name of its folder where that tells it from another run of the same id."""
    return folder.name if folder.name.startswith(f"{run['id']}{MARK}") else str(run["id"])


def same_run(
    path: Path, run: dict[str, Any], config: Mapping[str, Any], provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """`run`, which is to be gone on with. UserError where it is of another configuration or of other sounds."""
    if run["config_hash"] != config_hash(config):
        raise UserError(f"{path}: holds a run of another configuration. Move it away.")
    for name, what in (("corpus_hash", "corpus content"), ("parts_hash", "what training is mixed of")):
        had, has = (facts.get(name) for facts in (run.get("provenance") or {}, provenance))
        if had and has and had != has:
            sounds = f"{what} {str(had)[:8]}, now {str(has)[:8]}"
            raise UserError(f"{path}: was made from other sounds ({sounds}). Move it away, then run again.")
    return run


def _check_hash(path: Path, run: Mapping[str, Any]) -> None:
    """UserError where the configuration is not that of which the run's hash, its id, its folder or config.yaml tell."""
    found, folder = config_hash(run["config"]), path.resolve().parent.name
    named = re.fullmatch(rf"{re.escape(run['id'][:-8])}([0-9a-f]{{8}})({MARK}.*)?", folder)
    wrong = [f"{what} {hash_}" for what, hash_ in (
        ("config_hash is", run["config_hash"][:8]), ("the id ends with", run["id"][-8:]),
        ("its folder with", named[1] if named else found[:8])) if hash_ != found[:8]]  # fmt: skip
    if wrong or run["config_hash"] != found:
        raise UserError(f"{path}: the configuration in it has the hash {found[:8]}, but {', '.join(wrong) or 'another'}: one "
                        "of them was changed. Restore it, or run again in another folder.")
    told = path.with_name("config.yaml")
    if told.exists() and not _tells(told, run["config"]):
        raise UserError(f"{told}: does not say what run.json does: one of them was changed. {REMEDY}")


def _tells(file: Path, config: Mapping[str, Any]) -> bool:
    """Whether a config.yaml holds `config`; it is parsed only where its text is not as this version writes it."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    if text == as_yaml(finite(config)):
        return True
    import yaml

    try:
        return bool(finite(yaml.safe_load(text)) == finite(config))
    except (yaml.YAMLError, ValueError, RecursionError):
        return False


def _held(held: Any, names: Sequence[str], above: str = "") -> Iterator[tuple[str, Any]]:
    """What lies at a path in nested mappings, with the path; `*` is every name there."""
    if not names:
        yield above, held
    elif isinstance(held, list) and names[0] == "*":
        yield from (found for i, item in enumerate(held) for found in _held(item, names[1:], f"{above}.{i}"))
    elif isinstance(held, Mapping):
        for name in held if names[0] == "*" else [names[0]]:
            yield from _held(held.get(name), names[1:], f"{above}.{name}".lstrip("."))


def _is(held: Any, kind: str) -> bool:
    if held is None:
        return not kind.endswith("!")
    if kind == "a number":
        return _is_number(held)
    return isinstance(held, KINDS[kind.rstrip("!")]) or (kind.endswith("`classes`") and held == "classes")


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


def check_rows(path: Path, table: Any) -> None:
    """UserError naming the file `path` where a column of Row is absent, or holds what is no figure: text, NaN, infinity.

    `table`: Arrow's, all that `path` holds or a part of it.
    """
    if missing := [field.name for field in fields(Row) if field.name not in table.column_names]:
        raise UserError(f"{path}: no column {', '.join(missing)} in it. {REMEDY}")
    for field in fields(Row):
        column, (wanted, kinds) = table.column(field.name), COLUMNS[str(field.type)]
        empty = column.null_count if field.type != "float" else 0  # an empty number is NaN: told below
        if len(column) and (empty or not re.match(kinds, str(column.type))):
            raise UserError(f"{path}: column {field.name} does not hold {wanted} throughout. {REMEDY}")
    for name in ("value", "weight"):
        values = table.column(name).to_numpy()
        bad = np.flatnonzero(~(abs(values.astype(float)) < BEYOND))
        if len(bad):
            first = "/".join(str(table.column(part)[int(bad[0])].as_py()) for part in ("split", "scene", "metric"))
            raise UserError(f"{path}: {name} is {values[bad[0]]} in {first}; only finite numbers are figures. {REMEDY}")


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
