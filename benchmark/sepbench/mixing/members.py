"""The clips that a split may draw on, class after class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sepbench.corpora.base import Clip
from sepbench.errors import UserError


class Members:
    """The `members` (indices of `clips`) of each class. UserError for a class of `classes` that has none."""

    def __init__(self, clips: Sequence[Clip], members: Sequence[int], classes: Sequence[str], split: str):
        of_class = [[i for i in members if clips[i].label == name] for name in classes]
        for name, own in zip(classes, of_class):
            if not own:
                raise UserError(
                    f"Split '{split}' has no clip of class '{name}'. Give the split other folds, or leave the class out."
                )
        self.clips = np.concatenate([np.asarray(own) for own in of_class])
        self._n = np.array([len(own) for own in of_class])
        self._first = np.concatenate([[0], np.cumsum(self._n)[:-1]])

    def of(self, label: int) -> np.ndarray:
        """The clips of a class."""
        return self.clips[self._first[label] :][: self._n[label]]

    def draw(self, label: np.ndarray, u: np.ndarray) -> np.ndarray:
        """A clip of each class in `label`, all of a class equally likely: `u` in [0, 1), of the same shape, says which."""
        return self.clips[self._first[label] + (u * self._n[label]).astype(np.int64)]
