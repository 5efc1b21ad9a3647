"""A corpus of which only the list is here: its decoded clips lie in a cache that another machine has filled."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from sepbench.corpora.base import Clip, Corpus, sorted_clips
from sepbench.corpora.cache import clip_contents
from sepbench.corpora.files import need_classes
from sepbench.errors import UserError

LISTING = "sepbench-clips.json"  # a folder with this file stands for the corpus that it was made of


class Listed:
    """The clips and contents that `folder`/LISTING names, which `listing` has made; none of them can be decoded."""

    licence = home = citation = ""

    def __init__(self, name: str, folder: Path, classes: Sequence[str] | None = None) -> None:
        self.folder = folder
        try:
            held = json.loads((folder / LISTING).read_text(encoding="utf-8"))
            self.name = str(held["name"])
            clips = sorted_clips(Clip(**each) for each in held["clips"])
            self._contents = {clip.key: str(held["contents"][clip.key]) for clip in clips}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{folder / LISTING}: is no list of clips ({error}). Remove it.") from None
        need_classes(classes, (clip.label for clip in clips), name)
        self.clips = tuple(clip for clip in clips if classes is None or clip.label in classes)

    def audio(self, clip: Clip) -> tuple[np.ndarray, int]:
        raise UserError(f"{self.name}: only its list is here, and no cache holds {clip.key}. Put its files on this machine.")

    def fingerprint(self, clip: Clip) -> str:
        return self._contents[clip.key]


def listing(corpus: Corpus, root: Path) -> dict[str, Any]:
    """What LISTING holds of a corpus; its files are read where their fingerprints are not remembered under `root`."""
    contents = clip_contents(corpus, corpus.clips, root)
    return {
        "name": corpus.name,
        "clips": [asdict(clip) for clip in corpus.clips],
        "contents": {clip.key: content for clip, content in zip(corpus.clips, contents)},
    }
