"""Several corpora as one: "esc50+urbansound8k"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sepbench.corpora.base import Clip, Corpus, sorted_clips
from sepbench.corpora.files import need_classes

PLUS = "+"
SAME_SOUND: Mapping[str, Mapping[str, str]] = {  # corpus -> its name of a sound -> the name that ESC-50 has for it
    "urbansound8k": {
        "dog_bark": "dog",  # ESC-50's dogs bark, too
        "engine_idling": "engine",  # running motors in both
    },
    "synthetic": {"dog_bark": "dog"},  # one model under two names
}
FREESOUND = ("esc50", "urbansound8k")  # corpora whose recordings are Freesound ids, and so the same in both


class Joined:
    """The clips of all `parts` (name -> corpus); a key begins with the name of its part.

    Classes of one name are one class, those of `SAME_SOUND` too. A Freesound recording that is in two parts stays one
    recording, so that it never serves two splits; other recordings are of their part alone. Folds are those of the
    parts: fold 1 is every part's fold 1.
    """

    def __init__(self, parts: Mapping[str, Corpus], classes: Sequence[str] | None = None) -> None:
        self.name = PLUS.join(parts)
        self.licence = "; ".join(f"{name}: {part.licence}" for name, part in parts.items())
        self.home = "; ".join(part.home for part in parts.values())
        self.citation = " ".join(part.citation for part in parts.values() if part.citation)
        pairs = [(_renamed(name, clip), (part, clip)) for name, part in parts.items() for clip in part.clips]
        need_classes(classes, (clip.label for clip, _ in pairs), self.name)
        pairs = [pair for pair in pairs if classes is None or pair[0].label in classes]
        self.clips = sorted_clips(clip for clip, _ in pairs)
        self._homes = {clip.key: home for clip, home in pairs}

    def audio(self, clip: Clip) -> tuple[np.ndarray, int]:
        """float32 mono (time,), full scale 1, and its rate in Hz, as its part has it."""
        part, own = self._homes[clip.key]
        return part.audio(own)

    def fingerprint(self, clip: Clip) -> str:
        part, own = self._homes[clip.key]
        return part.fingerprint(own)

    def path(self, clip: Clip) -> Path | None:
        """The file that holds the clip; None where it is no file."""
        part, own = self._homes[clip.key]
        return path_of(part, own)


def same_recordings(one: str, other: str) -> bool:
    """Whether recordings of one name are one recording in both corpora: in one and the same, and where Freesound names them.

    Of other corpora a join renames them, so that alone and joined they are told apart by their content alone.
    """
    of_freesound = [set(name.split(PLUS)) & set(FREESOUND) for name in (one, other)]
    return one == other or all(of_freesound)


def other_names(corpus: str, classes: Sequence[str]) -> set[str]:
    """Classes of `corpus` that are other names of some of `classes`, and not among them."""
    names = [pair for part in corpus.split(PLUS) for pair in SAME_SOUND.get(part, {}).items()]
    return {name for name, same in names if same in classes and name not in classes}


def path_of(corpus: Corpus, clip: Clip) -> Path | None:
    """The file that holds a clip, for those corpora that have files."""
    found = getattr(corpus, "path", None)
    return found(clip) if found is not None else None


def _renamed(name: str, clip: Clip) -> Clip:
    recording = clip.recording if name in FREESOUND else f"{name}/{clip.recording}"
    label = SAME_SOUND.get(name, {}).get(clip.label, clip.label)
    return replace(clip, key=f"{name}/{clip.key}", label=label, recording=recording)
