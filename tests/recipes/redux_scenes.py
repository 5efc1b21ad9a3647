"""Small scenes of tones, of one channel or several, that REDUX's networks can be taught in a moment."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sepbench.labels import Events
from sepbench.method import Batch, Training
from sepbench.progress import PlainProgress
from sepbench.scene import Mixture, Scene, Source, TaskInfo

NAMES = ("low", "mid", "high")
PITCH_HZ = np.array([300, 900, 2500, 0])  # of NAMES, and of silence
FOA = TaskInfo(NAMES, 8000, 4, 2, 1.0, 1)
MONO = replace(FOA, n_channels=1)


class Tones:
    """Tones under a little noise, as many as `task` may have; a batch is a pure function of (seed, index, size)."""

    def __init__(self, seed: int = 0, task: TaskInfo = FOA, named: bool = True):
        self.seed, self.task, self.asked = seed, task, 0
        if named:
            self.id = f"tones-{seed}-{task.n_channels}-{task.max_sources}"

    def batch(self, index: int, size: int) -> Batch:
        self.asked += 1
        random, task = np.random.default_rng([self.seed, index, size]), self.task
        labels = np.stack([random.permutation(3)[: task.max_sources] for _ in range(size)])
        for scene in labels:
            scene[random.integers(task.min_sources, task.max_sources + 1) :] = -1
        time_s = np.arange(round(task.seconds * task.sample_rate_hz)) / task.sample_rate_hz
        phase = 2 * np.pi * (PITCH_HZ[labels][..., None] * time_s + random.random((*labels.shape, 1)))
        sources = np.where(labels[..., None] < 0, 0, 0.1 * np.sin(phase))  # (scene, slot, time)
        ways = np.concatenate([np.ones((*labels.shape, 1)), random.uniform(-1, 1, (*labels.shape, 3))], -1)
        mixture = np.einsum("bsc,bst->bct", ways[..., : task.n_channels], sources)
        mixture += 0.002 * random.standard_normal(mixture.shape)
        scene, slot = np.nonzero(labels >= 0)
        events = Events(scene, labels[scene, slot], 0.0 * scene, np.full(len(scene), task.seconds), size, 3)
        heard = torch.from_numpy(mixture.astype(np.float32))
        heard = heard if task.n_channels > 1 else heard[:, 0]
        return Batch(heard, events, torch.from_numpy(sources.astype(np.float32)), labels)


def clips(seed: int) -> Tones:
    """Single tones."""
    return Tones(seed, replace(MONO, max_sources=1, min_sources=1))


def training(place: Path, task: TaskInfo = FOA, run: str = "run", **changed: Any) -> Training:
    """What `fit` is handed; what it says is in `progress.out`."""
    scenes = {"scenes": Tones(1, task), "valid": Tones(2, task), "clips": clips(3), "valid_clips": clips(4)}
    rest = {"folder": place / run, "seed": 0, "progress": PlainProgress(io.StringIO()), "shared": place / "shared"}
    return Training(**{**scenes, **rest, **changed})


def scenes(task: TaskInfo = FOA, n: int = 5, seed: int = 9) -> list[Scene]:
    """Single scenes with their truth."""
    batch = Tones(seed, task).batch(0, n)
    found = []
    for i, labels in enumerate(batch.labels):
        heard = [(audio, NAMES[label]) for audio, label in zip(batch.sources[i], labels) if label >= 0]
        sources = tuple(Source(audio, label, ((0.0, task.seconds),)) for audio, label in heard)
        audio = batch.mixture[i] if task.n_channels > 1 else batch.mixture[i][None]
        found.append(Scene(Mixture(audio, task.sample_rate_hz, str(i)), sources))
    return found
