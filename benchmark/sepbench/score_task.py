"""What was asked, where the references came with it: a `scenes.json` beside them, as `sepbench scenes` writes it.

A system that was scored on those scenes stands in one table with our own runs on them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sepbench.errors import UserError
from sepbench.score_files import File, Listing, SceneFiles
from sepbench.storage import read_json

FILE = "scenes.json"
KEYS = ("task", "split", "scenes_hash", "corpus_hash")
ABSENT = {"task.minimum_active": 1}  # what holds where an entry is left out; else None


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_hash(value: Any) -> bool:
    """A text, one for each split, or nothing."""
    held = value.values() if isinstance(value, dict) else [value]
    return all(each is None or isinstance(each, str) for each in held)


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, float) or _is_whole(value)


def _is_object(value: Any) -> bool:
    return value is None or isinstance(value, dict)


TYPES: tuple[tuple[str, str, Callable[[Any], bool]], ...] = (
    ("task", "an object", lambda value: isinstance(value, dict)),
    ("split", "a text", lambda value: isinstance(value, str) and bool(value)),
    ("scenes_hash", "a text", _is_hash),
    ("corpus_hash", "a text", lambda value: value is None or isinstance(value, str)),
    ("task.corpus", "a text", lambda value: isinstance(value, str) and bool(value)),
    ("task.classes", "a list of texts",
     lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value)),
    ("task.scenes", "an object of whole numbers",
     lambda value: _is_object(value) and all(each is None or _is_whole(each) for each in (value or {}).values())),
    ("task.minimum_active", "a whole number", _is_whole),
    ("task.mixing", "an object", _is_object),
    ("task.splits", "an object", _is_object),
    ("task.sample_rate_hz", "a number", _is_number),
    ("task.seconds", "a number", _is_number),
)  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """The task of the scenes, or the little that is known of scenes without one."""

    split: str = "test"
    minimum_active: int = 0  # of distinct classes; scenes with fewer have no figure per source
    config: dict[str, Any] | None = None
    scenes_hash: str | None = None
    corpus_hash: str | None = None

    @property
    def n_classes(self) -> int | None:
        """How many classes a label may be of; None where nobody said."""
        return None if self.config is None else len(self.config["classes"])

    def indices(self, scene: SceneFiles) -> list[int]:
        """The number of each reference in its scene: as its file says where the scenes are ours, else its place."""
        found = [re.match(r"\d+(?=_)", file.path.stem) for file in scene.references]
        if self.config is None or not all(found):
            return list(range(len(found)))
        return [int(each[0]) for each in found if each]


def asked_of(listing: Listing) -> Asked:
    """What scenes.json beside the references says. UserError where it is damaged or scenes of it are missing."""
    path = listing.reference / FILE if listing.reference else None
    if path is None:
        return Asked()
    if not path.is_file():
        if (begun := path.with_name(f".{FILE}")).is_file():
            raise UserError(f"{begun}: not all scenes were written yet. Give `sepbench scenes` again, and it goes on.")
        return Asked()
    told = read_json(path)
    if not isinstance(told, dict) or (missing := [key for key in KEYS if key not in told]):
        lacks = ", ".join(missing) if isinstance(told, dict) else "all that should be"
        raise UserError(f"{path}: no {lacks} in it. Write the scenes again with `sepbench scenes`, or remove the file.")
    _check_types(path, told)
    task, split = told["task"], told["split"]
    drawn = told["scenes_hash"]
    there = {scene.id for scene in listing.scenes} | set(listing.problems)
    _check_there(path, len(there), int((task.get("scenes") or {}).get(split) or len(there)))
    return Asked(
        split, int(task.get("minimum_active", 1)), task,
        drawn.get(split) if isinstance(drawn, Mapping) else drawn, told["corpus_hash"],
    )  # fmt: skip


def _check_types(path: Path, told: Mapping[str, Any]) -> None:
    """UserError, naming the file and the entry, where a value is none that `sepbench scenes` writes."""
    for key, wanted, is_fine in TYPES:
        first, _, second = key.partition(".")
        value = told[first].get(second, ABSENT.get(key)) if second else told[first]
        if not is_fine(value):
            got = repr(value)[:40] if isinstance(value, str) else json.dumps(value)[:40]
            hint = "Write the scenes again with `sepbench scenes`, or remove the file."
            raise UserError(f"{path}: {key} must be {wanted}, got {got}. {hint}")


def _check_there(path: Path, n_there: int, n_wanted: int) -> None:
    """As many scenes as the task has: figures on some of them do not compare."""
    if n_there != n_wanted:
        counts = f"lists {n_wanted} scenes, {n_there} are there"
        raise UserError(f"{path}: {counts}. Write them again with `sepbench scenes`.")


def in_words_of(task: Asked, listing: Listing) -> Listing:
    """The listing with labels as the task writes them: a file's name may hold less than a label."""
    if task.config is None:
        return listing
    known = {_plain(label): label for label in task.config["classes"]}

    def told(file: File) -> File:
        return replace(file, label=known.get(_plain(file.label), file.label))

    scenes = tuple(
        replace(each, references=tuple(map(told, each.references)), estimates=tuple(map(told, each.estimates)))
        for each in listing.scenes
    )
    return replace(listing, scenes=scenes)


def _plain(label: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", label)
