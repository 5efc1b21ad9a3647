"""Sounds that are easy to tell apart: what several tests draw their scenes from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile


def tones(root: Path, classes: Sequence[str], rate_hz: int, seed: int = 0) -> Path:
    """Twelve recordings of each class, half a second each, in a folder per class: noise around a pitch of its own."""
    random = np.random.default_rng(seed)
    time_s = np.arange(rate_hz // 2) / rate_hz
    for c, label in enumerate(classes):
        (root / label).mkdir()
        for take in range(12):
            tone = np.sin(2 * np.pi * (300 + 500 * c) * time_s + take) + 0.1 * random.standard_normal(len(time_s))
            soundfile.write(root / label / f"{label}{take}.wav", 0.2 * tone, rate_hz)
    return root
