"""Scenes to draw, and what a picture is looked at with: shared by the tests of the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import soundfile
import torch

from sepbench.scene import Mixture, Scene, Source

RATE_HZ, SECONDS = 16000, 2.0


def tone(hz: float, on_s: float, off_s: float, amplitude: float = 0.9) -> torch.Tensor:
    t_s = torch.arange(round(SECONDS * RATE_HZ)) / RATE_HZ
    return amplitude * torch.sin(2 * torch.pi * hz * t_s) * ((t_s >= on_s) & (t_s < off_s))


def scene_of(labels: list[str]) -> Scene:
    sources = tuple(
        Source(tone(440 * (i + 1), 0.2 * i, 1.2 + 0.2 * i), label, ((0.2 * i, 1.2 + 0.2 * i),))
        for i, label in enumerate(labels)
    )
    return Scene(Mixture(sum(each.audio for each in sources)[None], RATE_HZ, "test-0"), sources)


def pixels(path: Path) -> np.ndarray:
    """(row, column, colour), 0 to 1; a picture that shows something."""
    image = matplotlib.image.imread(path)
    assert image.shape[0] > 150 and image.shape[1] > 300 and np.ptp(image[..., :3]) > 0.5
    return image


def heard(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: soundfile.read(path)[0] for path in (folder / "audio").iterdir()}


def titles(drawing: Any) -> list[str]:
    """What stands above the panels of a figure, in the order in which they were made."""
    return [text for axes in drawing.axes if (text := axes.get_title(loc="left"))]
