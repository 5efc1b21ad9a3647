"""Scenes out of manifests, in the order and with the labels that they give. Paths are relative to the manifest.

    CSV of all:      scene, role (mixture, reference or estimate), file, label (may be left out)
    CSV of a side:   scene, file, label (may be left out); one each for --reference, --estimate, --mixture
    JSON of all:     {"scenes": [{"scene": "a", "mixture": "a.wav", "references": [{"file": "x.wav", "label": "dog"}],
                                  "estimates": ["y.wav", "z.wav"]}]}; an empty list says that nothing is there
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepbench.errors import UserError, nearest
from sepbench.score_files import File, Listing, Sides, mixtures_in

ROLES = ("mixture", "reference", "estimate")


@dataclass(frozen=True)
class Entry:
    """A file as a manifest lists it."""

    where: str  # manifest and place in it
    scene: str
    role: str
    file: Path
    label: str


def find_in_manifest(manifest: Path, allow_empty: bool) -> Listing:
    """The scenes of one manifest. UserError, naming the line, where it cannot be read as such."""
    sides = Sides()
    if manifest.suffix.lower() == ".json":
        entries, told = _json_entries(manifest, sides)
    else:
        entries, told = list(_csv_entries(manifest, None)), set()
    return _listing(sides, entries, f"manifest {manifest}", allow_empty, told)


def find_in_lists(reference: Path, estimate: Path, mixture: Path | None, allow_empty: bool) -> Listing:
    """The scenes of a CSV for the references and one for the estimates; the mixtures' may be a folder."""
    sides = Sides()
    entries = [*_csv_entries(reference, "reference"), *_csv_entries(estimate, "estimate")]
    if mixture is not None and mixture.is_dir():
        sides.mixtures = mixtures_in(mixture)
    elif mixture is not None:
        entries += _csv_entries(mixture, "mixture")
    return _listing(sides, entries, f"manifests {reference} and {estimate}", allow_empty, set())


def _listing(sides: Sides, entries: Sequence[Entry], layout: str, lenient: bool, told: set[str]) -> Listing:
    """`told`: scenes whose lists of estimates are there, be they empty."""
    scenes = {each.scene: each.where for each in entries if each.role != "estimate"}
    sides.references |= {scene: sides.references.get(scene, []) for scene in scenes}
    used: dict[tuple[str, Path], str] = {}
    for entry in entries:
        _check(entry, used, sides)
        file = File(entry.file, entry.file.stem, entry.label)
        if entry.scene not in sides.references:
            hint = f"which has no reference.{nearest(entry.scene, sides.references)}"
            sides.wrong(entry.scene, f"{entry.where}: an estimate of scene '{entry.scene}', {hint}")
        elif entry.role == "mixture":
            sides.mixtures[entry.scene] = entry.file
        else:
            side = sides.references if entry.role == "reference" else sides.estimates
            side.setdefault(entry.scene, []).append(file)
    for scene in sides.references:
        if scene not in sides.estimates and scene not in told and not lenient:
            hint = "Where that means that nothing was found, say --allow-empty."
            sides.wrong(scene, f"{scenes.get(scene, layout)}: no estimate for scene '{scene}'. {hint}")

    def no_mixture(scene: str) -> str:
        return f"{scenes.get(scene, layout)}: scene '{scene}' has no mixture. Give every scene one, or none."

    return sides.listing(layout, no_mixture, told_by="manifest")


def _check(entry: Entry, used: dict[tuple[str, Path], str], sides: Sides) -> None:
    """What may be wrong with a file of a scene: absent, or there twice."""
    key = (entry.scene, entry.file.resolve())
    if entry.role == "mixture" and sides.mixtures.get(entry.scene, entry.file) != entry.file:
        sides.wrong(entry.scene, f"{entry.where}: a second mixture of scene '{entry.scene}', {entry.file}. Keep one.")
    if key in used:
        sides.wrong(entry.scene, f"{entry.where}: {entry.file} stands there twice (also {used[key]}). Remove one.")
    elif not entry.file.is_file():
        sides.wrong(entry.scene, f"{entry.where}: {entry.file}: no such file. Paths are relative to the manifest.")
    used[key] = entry.where


def _csv_entries(manifest: Path, role: str | None) -> Iterator[Entry]:
    """The rows of a CSV; `role`: of all of them, else a column says it."""
    wanted = ["scene", "file"] if role else ["scene", "role", "file"]
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as lines:
            rows = csv.DictReader(lines, skipinitialspace=True)
            heads = [str(name).strip() for name in rows.fieldnames or []]
            rows.fieldnames = heads
            if missing := [name for name in wanted if name not in heads]:
                has = f"it has {', '.join(heads) or 'nothing'}.{nearest(missing[0], heads)}"
                raise UserError(f"{manifest}: no column {', '.join(missing)}; {has}")
            numbered = [(rows.line_num, row) for row in rows]
    except (OSError, ValueError, csv.Error) as error:
        raise _unreadable(manifest, error) from error
    if not numbered:
        raise UserError(f"{manifest}: lists no files. Give it a line for each.")
    for n, row in numbered:
        cells = {name: str(value or "").strip() for name, value in row.items() if name is not None}
        where = f"{manifest}, line {n}"
        if absent := [name for name in wanted if not cells[name]]:
            raise UserError(f"{where}: no {absent[0]}. Fill it in, or remove the line.")
        if not role and cells["role"] not in ROLES:
            near = nearest(cells["role"], ROLES)
            raise UserError(f"{where}: role '{cells['role']}' is none of {', '.join(ROLES)}.{near}")
        file = manifest.parent / cells["file"]
        yield Entry(where, cells["scene"], role or cells["role"], file, cells.get("label", ""))


def _json_entries(manifest: Path, sides: Sides) -> tuple[list[Entry], set[str]]:
    """The files of a JSON manifest, and the scenes that list their estimates."""
    try:
        scenes = json.loads(manifest.read_text(encoding="utf-8-sig"))["scenes"]
    except (KeyError, TypeError) as error:
        raise UserError(f'{manifest}: no "scenes" in it. Wanted: {{"scenes": [{{"scene": ...}}, ...]}}.') from error
    except (OSError, ValueError) as error:
        raise _unreadable(manifest, error) from error
    if not isinstance(scenes, list) or not scenes:
        raise UserError(f'{manifest}: "scenes" must be a list of scenes, with at least one in it.')
    entries: list[Entry] = []
    for n, each in enumerate(scenes):
        scene = _checked_scene(each, f"{manifest}, scene {n + 1}")
        if scene in sides.references:
            raise UserError(f"{manifest}, scene {n + 1}: '{scene}' stands there twice. Give each scene its own name.")
        sides.references[scene] = []
        where = f"{manifest}, scene '{scene}'"
        listed = [("mixture", each["mixture"])] if each.get("mixture") is not None else []
        listed += [("reference", file) for file in each["references"]]
        listed += [("estimate", file) for file in each["estimates"]]
        entries += [_json_entry(file, where, scene, role, manifest.parent) for role, file in listed]
    return entries, set(sides.references)


def _checked_scene(each: Any, where: str) -> str:
    wanted = ("scene", "references", "estimates")
    if not isinstance(each, dict):
        raise UserError(f"{where}: wanted an object with {', '.join(wanted)}, got {json.dumps(each)[:40]}.")
    if absent := [name for name in wanted if name not in each]:
        raise UserError(f"{where}: no {', '.join(absent)} in it.{nearest(absent[0], each)}")
    for name in wanted[1:]:
        if not isinstance(each[name], list):
            raise UserError(f"{where}: {name} must be a list, of files or of {{file, label}}.")
    if not isinstance(each["scene"], str) or not each["scene"]:
        raise UserError(f"{where}: its name must be a text, got {json.dumps(each['scene'])[:40]}.")
    return each["scene"]


def _json_entry(file: Any, where: str, scene: str, role: str, folder: Path) -> Entry:
    held = {"file": file} if isinstance(file, str) else file
    path, label = (held.get(key) for key in ("file", "label")) if isinstance(held, dict) else (None, None)
    if not isinstance(path, str) or not path or not isinstance(label, (str, type(None))):
        raise UserError(f"{where}: a {role} must be a file or {{file, label}}, got {json.dumps(file)[:60]}.")
    return Entry(where, scene, role, folder / path, label or "")


def _unreadable(manifest: Path, error: Exception) -> UserError:
    reason = error.strerror if isinstance(error, OSError) else f"not {manifest.suffix[1:].upper() or 'CSV'} ({error})"
    return UserError(f"{manifest}: cannot be read: {reason}. Name a CSV or JSON file that lists the sounds.")
