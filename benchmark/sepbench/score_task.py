"""What was asked, where the references came with it: a `scenes.json` beside them, as `sepbench scenes` writes it.

A system that was scored on those scenes stands in one table with our own runs on them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sepbench.errors import UserError
from sepbench.score_files import File, Listing, SceneFiles
from sepbench.storage import read_json

FILE = "scenes.json"
KEYS = ("task", "split", "scenes_hash", "corpus_hash")


@dataclass(frozen=True)
class Asked:
    """The task of the scenes, or the little that is known of scenes without one."""

    split: str = "test"
    minimum_active: int = 0  # of distinct classes; scenes with fewer have no figure per source
    config: dict[str, Any] | None = None
    scenes_hash: str | None = None
    corpus_hash: str | None = None

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
    task, split = told["task"], told["split"]
    drawn = told["scenes_hash"]
    there = {scene.id for scene in listing.scenes} | set(listing.problems)
    _check_there(path, len(there), int((task.get("scenes") or {}).get(split) or len(there)))
    return Asked(
        split, int(task.get("minimum_active", 1)), task,
        drawn.get(split) if isinstance(drawn, Mapping) else drawn, told["corpus_hash"],
    )  # fmt: skip


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
