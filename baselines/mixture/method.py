"""The floor of every comparison: no separation at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sepbench.scene import Estimate, Mixture, TaskInfo


class MixtureAsEverySource:
    """Hands back the mixture as every source: 0 dB improvement by definition."""

    def __init__(self, settings: Any, task: TaskInfo):
        self.task = task

    def fit(self, training: Any) -> None:
        """There is nothing to learn."""

    def separate(self, mixtures: Sequence[Mixture]) -> list[Estimate]:
        """The first channel of each mixture as often as there may be sources: (source, time).

        Where each class has a place of its own, they bear the classes' labels; else a label would be a guess.
        """
        labels = self.task.classes if self.task.one_per_class else None
        return [Estimate(mixture.audio[:1].expand(self.task.max_sources, -1), labels) for mixture in mixtures]

    def save(self, folder: Path) -> None:
        """There are no weights."""

    def load(self, folder: Path) -> None:
        """There are no weights."""
