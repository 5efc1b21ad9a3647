"""What a corpus is: labelled clips, each with one sound class, a fold and the recording it was cut from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class Clip:
    """One labelled sound. Clips of one `recording` never serve two splits."""

    key: str  # unique in the corpus, e.g. "fold1/101415-3-0-2"
    label: str
    fold: int
    recording: str
    seconds: float
    foreground: bool = True


class Corpus(Protocol):
    """Labelled clips and their audio. `clips` is sorted by key."""

    name: str
    licence: str
    home: str  # where to get it
    citation: str
    clips: tuple[Clip, ...]

    def audio(self, clip: Clip) -> tuple[np.ndarray, int]:
        """The clip as float32 mono (time,), full scale 1, and its rate in Hz. UserError if it cannot be read."""
        ...

    def fingerprint(self, clip: Clip) -> str:
        """A hash of the clip's content: of the file's bytes, or of generator version, class and seed."""
        ...


def sorted_clips(clips: Iterable[Clip]) -> tuple[Clip, ...]:
    """The clips in the order every corpus promises."""
    return tuple(sorted(clips, key=lambda clip: clip.key))


def describe(corpus: Corpus) -> dict[str, Any]:
    """What `sepbench data` prints: clips per class and fold, recordings and hours, in plain JSON-able types."""
    clips = corpus.clips
    folds = sorted({clip.fold for clip in clips})
    counts = Counter((clip.label, clip.fold) for clip in clips)
    classes = {}
    for label in sorted({clip.label for clip in clips}):
        own = [clip for clip in clips if clip.label == label]
        classes[label] = {
            "clips": len(own),
            "foreground": sum(clip.foreground for clip in own),
            "recordings": len({clip.recording for clip in own}),
            "hours": sum(clip.seconds for clip in own) / 3600,
            "folds": {fold: counts[label, fold] for fold in folds},
        }
    return {
        "name": corpus.name,
        "licence": corpus.licence,
        "home": corpus.home,
        "citation": corpus.citation,
        "clips": len(clips),
        "recordings": len({clip.recording for clip in clips}),
        "hours": sum(clip.seconds for clip in clips) / 3600,
        "folds": folds,
        "classes": classes,
    }
