"""The clips that a split may draw on, class after class."""

from __future__ import annotations

import hashlib
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


class Recordings:
    """The recordings of `members` (indices of `clips`), so that one that was cut into fifty clips counts no more than another.

    Drawn alike; or, `by_class`, class first, those of `classes` alone that have a clip, and then its recordings alike.
    """

    def __init__(self, clips: Sequence[Clip], members: Sequence[int], classes: Sequence[str], by_class: bool):
        index = {name: i for i, name in enumerate(classes)}
        own = [i for i in members if clips[i].label in index]
        names = {name: i for i, name in enumerate(sorted({clips[i].recording for i in own}))}
        self.n = len(names)
        self.label = np.array([index.get(clip.label, -1) for clip in clips], np.int64)  # (clip,), index in classes
        self.recording = np.array([names.get(clip.recording, -1) for clip in clips], np.int64)  # (clip,), 0 ... n - 1
        of = sorted(own, key=lambda i: (self.label[i] if by_class else 0, self.recording[i], clips[i].key))
        self._clips = np.array(of, np.int64)
        heads = np.stack([self.label[self._clips] if by_class else self._clips * 0, self.recording[self._clips]], 1)
        groups, self._n_clips = np.unique(heads, axis=0, return_counts=True)  # a class's clips of one recording
        self._first_clip = np.cumsum(self._n_clips) - self._n_clips
        self._n_groups = np.unique(groups[:, 0], return_counts=True)[1]
        self._first_group = np.cumsum(self._n_groups) - self._n_groups

    def draw(self, u: np.ndarray) -> np.ndarray:
        """Clips (...) from numbers in [0, 1) (..., 3): for the class, the recording and its clip."""
        top = (u[..., 0] * len(self._n_groups)).astype(np.int64)
        group = self._first_group[top] + (u[..., 1] * self._n_groups[top]).astype(np.int64)
        return self._clips[self._first_clip[group] + (u[..., 2] * self._n_clips[group]).astype(np.int64)]


def identity(
    mixer: str, content: str, drawn_from: Sequence[str], split: str, seed: int, classes: Sequence[str], settings: object
) -> tuple[np.ndarray, str]:
    """A key for Philox, (2,) uint64, and a short name: the same for the same scenes. `drawn_from`: keys of the clips."""
    told = f"{mixer}|{content}|{'|'.join(sorted(drawn_from))}|{split}|{seed}|{','.join(classes)}|{settings}".encode()
    key = np.frombuffer(hashlib.blake2b(told, digest_size=16).digest(), np.uint64)
    return key, hashlib.blake2b(told, digest_size=4).hexdigest()
