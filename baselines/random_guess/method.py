"""What guessing scores: the mixture as every source, under labels drawn at random."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sepbench.scene import Estimate, Mixture, TaskInfo


class RandomGuess:
    """Hands back the mixture as every source; each label is any class, whatever the others are."""

    def __init__(self, settings: Any, task: TaskInfo):
        self.seed, self.task = settings.seed, task

    def fit(self, training: Any) -> None:
        """There is nothing to learn."""

    def separate(self, mixtures: Sequence[Mixture]) -> list[Estimate]:
        """The first channel of each mixture as often as there may be sources, the same guesses whenever it is asked."""
        n = self.task.max_sources
        return [Estimate(mixture.audio[:1].expand(n, -1), self._guesses(mixture.id, n)) for mixture in mixtures]

    def _guesses(self, scene: str, n: int) -> tuple[str, ...]:
        digest = hashlib.blake2b(f"random guess|{self.seed}|{scene}".encode(), digest_size=16).digest()
        drawn = np.random.default_rng(int.from_bytes(digest, "big")).integers(len(self.task.classes), size=n)
        return tuple(self.task.classes[i] for i in drawn)

    def save(self, folder: Path) -> None:
        """There are no weights."""

    def load(self, folder: Path) -> None:
        """There are no weights."""
