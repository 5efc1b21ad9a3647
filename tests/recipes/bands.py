"""Noise in bands that share no frequency: three classes that any separator by spectra should tell apart."""

from __future__ import annotations

import numpy as np
import torch

from sepbench.labels import Events
from sepbench.method import Batch
from sepbench.scene import TaskInfo

SMALL = TaskInfo(("low", "middle", "high"), 8000, 1, 2, 0.5, 2)
BANDS_HZ = ((200, 700), (1200, 1700), (2500, 3000))  # of SMALL's classes


def sound(label: int, random: np.random.Generator, n_time: int) -> np.ndarray:
    """(time,): noise in the band of a class of SMALL, swelling at a pace of its own; its peak is 1."""
    spectrum = np.fft.rfft(random.standard_normal(n_time))
    frequency_hz = np.fft.rfftfreq(n_time, 1 / SMALL.sample_rate_hz)
    low_hz, high_hz = BANDS_HZ[label]
    noise = np.fft.irfft(spectrum * ((frequency_hz >= low_hz) & (frequency_hz < high_hz)), n_time)
    noise *= 1.2 + np.sin(2 * np.pi * (random.random() + random.uniform(2, 9) * np.arange(n_time) / SMALL.sample_rate_hz))
    return noise / np.abs(noise).max()


class Sounds:
    """Scenes of two of SMALL's classes; batch(i, size) is a pure function of both."""

    def __init__(self, seed: int = 0, silent: bool = False, classes: int = 3):
        self.seed, self.silent, self.classes = seed, silent, classes

    def batch(self, index: int, size: int) -> Batch:
        random = np.random.default_rng([self.seed, index, size])
        n_time = round(SMALL.seconds * SMALL.sample_rate_hz)
        labels = np.stack([random.permutation(self.classes)[:2] for _ in range(size)])
        labels[random.random(labels.shape) < (1 if self.silent else 0.1)] = -1
        sources = np.zeros((size, 2, n_time), np.float32)
        for at in zip(*np.nonzero(labels >= 0)):
            sources[at] = random.uniform(0.2, 0.4) * sound(int(labels[at]), random, n_time)
        scene, slot = np.nonzero(labels >= 0)
        events = Events(scene, labels[scene, slot], np.zeros(len(scene)), np.full(len(scene), 0.5), size, 3)
        return Batch(torch.from_numpy(sources.sum(1)), events, torch.from_numpy(sources), labels)


def two_sounds(labels: tuple[int, ...] = (0, 2), seed: int = 7) -> torch.Tensor:
    """(source, time)"""
    random = np.random.default_rng(seed)
    return torch.from_numpy(np.stack([0.3 * sound(label, random, 4000) for label in labels]).astype(np.float32))


def noise(n_time: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(n_time, generator=torch.Generator().manual_seed(seed))
