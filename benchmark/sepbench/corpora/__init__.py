"""Labelled clips: where the sounds of a scene come from."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sepbench.corpora.base import Clip, Corpus, describe
from sepbench.corpora.class_folders import ClassFolders
from sepbench.corpora.esc50 import Esc50
from sepbench.corpora.synthetic import Synthetic
from sepbench.corpora.urbansound8k import UrbanSound8K
from sepbench.errors import UserError, nearest

FROM_FILES: dict[str, Callable[[Path, Sequence[str] | None], Corpus]] = {
    "class_folders": ClassFolders,
    "esc50": Esc50,
    "urbansound8k": UrbanSound8K,
}
CORPORA: dict[str, Callable[..., Corpus]] = {"synthetic": Synthetic, **FROM_FILES}


def open_corpus(name: str, data: Mapping[str, str] | None = None, classes: Sequence[str] | None = None) -> Corpus:
    """The corpus `name` with the clips of `classes` (None: all of them).

    `data` maps corpus names to folders (--data NAME=DIR); where it is silent, SEPBENCH_DATA_<NAME> is asked. UserError
    for an unknown corpus or class, and where the folder is unknown or does not hold the corpus.
    """
    for asked in (name, *(data or ())):
        if asked not in CORPORA:
            raise UserError(f"No corpus '{asked}'; there are {', '.join(sorted(CORPORA))}.{nearest(asked, CORPORA)}")
    if name not in FROM_FILES:
        return CORPORA[name](classes)
    variable = f"SEPBENCH_DATA_{name.upper()}"
    folder = (data or {}).get(name) or os.environ.get(variable)
    if not folder:
        raise UserError(f"No folder given for the corpus '{name}'. Pass --data {name}=DIR, or set {variable}=DIR.")
    return FROM_FILES[name](Path(folder).expanduser(), classes)


__all__ = ["CORPORA", "Clip", "Corpus", "describe", "open_corpus"]
