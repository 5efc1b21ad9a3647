"""Anybody's recordings: one folder per class, named as the class."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from sepbench.corpora.base import Clip
from sepbench.corpora.files import SUFFIXES, FileCorpus, need_classes, seconds_of
from sepbench.errors import UserError

N_FOLDS = 10


class ClassFolders(FileCorpus):
    """DIR/<class>/<file>, or DIR/<class>/<recording>/.../<file> where several clips come from one recording.

    A file right inside its class folder is a recording of its own, by its stem. Recordings of one name are one,
    whatever their class; each falls into one of ten folds by a hash of its name, so that adding files moves no other.
    """

    name = "class_folders"
    title = "Class folders"
    licence = "as the recordings' own"
    home = "your own folder"
    citation = ""

    def __init__(self, root: Path, classes: Sequence[str] | None = None) -> None:
        remedy = f"Point --data {self.name}=DIR at a folder with one folder of sound files per class."
        if not root.is_dir():
            raise UserError(f"{self.title}: no folder '{root}'. {remedy}")
        found = {folder.name: _files(folder) for folder in sorted(root.iterdir()) if folder.is_dir()}
        found = {label: files for label, files in found.items() if files}
        if not found:
            raise UserError(f"{self.title}: no {', '.join(SUFFIXES)} files in folders under '{root}'. {remedy}")
        need_classes(classes, found, self.title)
        super().__init__(_clips(root, {label: found[label] for label in found if classes is None or label in classes}))


def fold_of(recording: str) -> int:
    """1 to 10, the same on every machine."""
    return 1 + int.from_bytes(hashlib.blake2b(recording.encode(), digest_size=8).digest(), "big") % N_FOLDS


def _files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    )


def _clips(root: Path, found: dict[str, list[Path]]) -> Iterator[tuple[Clip, Path]]:
    for label, files in found.items():
        for path in files:
            inside = path.relative_to(root / label)
            recording = inside.parts[0] if len(inside.parts) > 1 else inside.stem
            yield Clip(f"{label}/{inside.as_posix()}", label, fold_of(recording), recording, seconds_of(path)), path
