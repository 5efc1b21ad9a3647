"""Reads every clip of a corpus and lists the broken ones."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from sepbench.corpora.base import Corpus
from sepbench.errors import UserError

if TYPE_CHECKING:
    from sepbench.progress import Progress


def verify(corpus: Corpus, progress: Progress | None = None) -> list[str]:
    """One line for each clip that cannot be decoded, is truncated, empty, silent or not finite: all, not the first."""
    broken = []
    with progress.bar("reading", len(corpus.clips)) if progress else nullcontext() as bar:
        for clip in corpus.clips:
            try:
                corpus.audio(clip)
            except UserError as error:
                broken.append(str(error))
            if bar is not None:
                bar.advance()
    return broken
