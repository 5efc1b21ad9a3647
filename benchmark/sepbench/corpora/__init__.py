"""Labelled clips: where the sounds of a scene come from."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sepbench.corpora.base import Clip, Corpus, describe
from sepbench.corpora.class_folders import ClassFolders
from sepbench.corpora.dcase_s5 import DcaseS5
from sepbench.corpora.esc50 import Esc50
from sepbench.corpora.fuss import Fuss
from sepbench.corpora.joined import PLUS, Joined, other_names, same_recordings
from sepbench.corpora.listed import LISTING, Listed
from sepbench.corpora.synthetic import Synthetic
from sepbench.corpora.urbansound8k import UrbanSound8K
from sepbench.errors import UserError, nearest

FROM_FILES: dict[str, Callable[[Path, Sequence[str] | None], Corpus]] = {
    "class_folders": ClassFolders,
    "esc50": Esc50,
    "urbansound8k": UrbanSound8K,
}
CORPORA: dict[str, Callable[..., Corpus]] = {"synthetic": Synthetic, **FROM_FILES}

RELEASES: dict[str, Callable[..., Any]] = {"fuss": Fuss, "dcase_s5": DcaseS5}  # scenes that lie ready on disk


def open_corpus(name: str, data: Mapping[str, str] | None = None, classes: Sequence[str] | None = None) -> Corpus:
    """The corpus `name`, or several joined by "+", with the clips of `classes` (None: all of them).

    `data` maps corpus names to folders (--data NAME=DIR); where it is silent, SEPBENCH_DATA_<NAME> is asked. UserError
    for an unknown corpus or class, and where the folder is unknown or does not hold the corpus.
    """
    parts = corpus_parts(name)
    for asked in data or ():
        if asked not in RELEASES:
            corpus_parts(asked)
    if len(parts) == 1:
        return _open_one(name, data, classes)
    return Joined({part: _open_one(part, data, None) for part in parts}, classes)


def _open_one(name: str, data: Mapping[str, str] | None, classes: Sequence[str] | None) -> Corpus:
    if name not in FROM_FILES:
        return CORPORA[name](classes)
    folder = folder_of(name, data)
    return Listed(name, folder, classes) if (folder / LISTING).is_file() else FROM_FILES[name](folder, classes)


def open_release(name: str, data: Mapping[str, str] | None, asked: Any) -> Any:
    """The scenes of a release: those of a room of Fuss, or those of DcaseS5 that keep to its Rules.

    UserError where it is none, or is not where `data` says.
    """
    if name not in RELEASES:
        known = ", ".join(RELEASES)
        raise UserError(f"task.corpus is '{name}', whose clips have to be mixed; this task has its scenes from {known}.")
    return RELEASES[name](folder_of(name, data), asked)


def folder_of(name: str, data: Mapping[str, str] | None) -> Path:
    """Where `data` or SEPBENCH_DATA_<NAME> says that a corpus or a release lies. UserError where neither does."""
    variable = f"SEPBENCH_DATA_{name.upper()}"
    folder = (data or {}).get(name) or os.environ.get(variable)
    if not folder:
        raise UserError(f"No folder given for '{name}'. Pass --data {name}=DIR, or set {variable}=DIR.")
    return Path(folder).expanduser()


def corpus_parts(name: str) -> list[str]:
    """The corpora that `name` joins, one as a rule. UserError for one that is not known, and for one that comes twice."""
    parts = name.split(PLUS)
    for part in parts:
        if part not in CORPORA:
            close = nearest(part, CORPORA)
            raise UserError(f"No corpus '{part}'; there are {', '.join(sorted(CORPORA))}.{close}")
    if len(set(parts)) < len(parts):
        raise UserError(f"'{name}' joins a corpus with itself. Name each once.")
    return parts


__all__ = [
    "CORPORA", "FROM_FILES", "RELEASES", "Clip", "Corpus", "corpus_parts", "describe", "folder_of", "open_corpus", "open_release",
    "other_names", "same_recordings",
]  # fmt: skip
