"""Runs that kept sounds: what the tests of listening and of the page share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from made_up_runs import CLASSES, put
from sepbench.report.listen import keep_sounds
from sepbench.scene import Estimate, Mixture, Scene, Source

RATE_HZ = 8000
SECONDS = 1.0
HISTORY = "step,epoch,seconds,lr,train_loss,valid_loss\n10,0,1,0.001,3.0,3.5\n20,1,1,0.0005,2.0,2.5\n30,2,1,0.0001,1.5,2.4\n"


class Scenes:
    """Scene k: a tone for each class, the second louder from scene to scene."""

    def __init__(self, n: int = 12, labels: Sequence[str] = CLASSES) -> None:
        self.n, self.labels = n, labels

    def scene_id(self, index: int) -> str:
        return f"s{index}"

    def scene(self, index: int) -> Scene:
        time_s = torch.arange(int(RATE_HZ * SECONDS)) / RATE_HZ
        tones = [0.1 * (1 + k * index) * torch.sin(2 * torch.pi * (300 + 200 * k) * time_s) for k in range(len(self.labels))]
        sources = [Source(tone, label, ((0.0, SECONDS),)) for tone, label in zip(tones, self.labels)]
        mixture = Mixture(torch.stack(tones).sum(0, keepdim=True), RATE_HZ, self.scene_id(index))
        return Scene(mixture, sources, [])


def near(scenes: Sequence[Scene]) -> list[Estimate]:
    """Each source with a tenth of the mixture, in the other order, and without labels."""
    return [
        Estimate(torch.stack([each.audio + 0.1 * scene.mixture.audio[0] for each in reversed(scene.sources)]))
        for scene in scenes
    ]


def heard(root: Path, answer=near, classes: Sequence[str] | None = CLASSES, labels: Sequence[str] = CLASSES, **settings) -> Path:
    """A finished run in `root` that kept sounds and curves."""
    folder = put(root, **settings)
    keep_sounds(folder, "test", Scenes(labels=labels), 12, answer, classes)
    (folder / "history-separator.csv").write_text(HISTORY)
    return folder


def tone_db(audio: np.ndarray, hz: float) -> float:
    """The level of a tone in a sound."""
    spectrum = np.abs(np.fft.rfft(audio))
    return float(20 * np.log10(spectrum[round(hz * len(audio) / RATE_HZ)] + 1e-12))
