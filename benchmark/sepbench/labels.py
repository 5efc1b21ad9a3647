"""From event times to labels on a grid of frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Events:
    """The events of a batch of scenes, one entry per event: weak labels, with no sound in them."""

    scene: np.ndarray  # (event,), index of the scene in the batch
    label: np.ndarray  # (event,), index of the class
    on_s: np.ndarray  # (event,), seconds from the start of the scene
    off_s: np.ndarray  # (event,)
    n_scenes: int
    n_classes: int

    def presence(self) -> np.ndarray:
        """Clip labels: (scene, class), float32, 1 where the class sounds anywhere."""
        present = np.zeros((self.n_scenes, self.n_classes), np.float32)
        present[self.scene, self.label] = 1
        return present

    def activity(self, n_frames: int, hop_s: float, start_s: float) -> np.ndarray:
        """Frame labels: (scene, class, frame), float32, 1 where an event overlaps start_s + [k, k + 1) * hop_s."""
        active = np.zeros((self.n_scenes, self.n_classes, n_frames), np.float32)
        first = np.floor((self.on_s - start_s) / hop_s + 1e-6).astype(np.int64).clip(0, n_frames)
        stop = np.ceil((self.off_s - start_s) / hop_s - 1e-6).astype(np.int64).clip(0, n_frames)
        for scene, label, a, b in zip(self.scene, self.label, first, stop):
            active[scene, label, a:b] = 1
        return active

    def whole_clip(self, seconds: float) -> Events:
        """The same events with their times forgotten: all that clip labels tell."""
        pairs = np.unique(np.stack([self.scene, self.label], 1), axis=0)
        zeros = np.zeros(len(pairs))
        return Events(pairs[:, 0], pairs[:, 1], zeros, zeros + seconds, self.n_scenes, self.n_classes)

    def every(self, first: int, step: int) -> Events:
        """Of the scenes first, first + step, ... alone, counted from 0."""
        own = self.scene % step == first
        n_scenes = len(range(first, self.n_scenes, step))
        scene, label = self.scene[own] // step, self.label[own]
        return Events(scene, label, self.on_s[own], self.off_s[own], n_scenes, self.n_classes)
