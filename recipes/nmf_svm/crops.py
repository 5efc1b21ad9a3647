"""Clean sounds to learn from: the sources of training scenes, one by one."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import numpy as np
from torch import Tensor

from sepbench.errors import UserError
from sepbench.method import Scenes

from .features import peak_normalised

SCENES = 25  # that are in memory at a time


def clean_crops(
    scenes: Scenes, n_crops: int, n_scenes: float = math.inf, seconds: float = math.inf
) -> Iterator[tuple[Tensor, np.ndarray]]:
    """`n_crops` sources as they sound alone, in pieces: (crop, time) with a peak of 1 each, and class indices (crop,).

    Fewer, where they would be of more than `n_scenes` scenes or take longer than `seconds`, but for the first piece. Each piece
    is of SCENES scenes. UserError where a whole one is silent.
    """
    index, began_s = 0, time.perf_counter()
    while n_crops > 0:
        if index and ((index + 1) * SCENES > n_scenes or time.perf_counter() - began_s > seconds):
            return
        batch = scenes.batch(index, SCENES)
        heard = np.flatnonzero(batch.labels.reshape(-1) >= 0)[:n_crops]
        if not len(heard):
            raise UserError(f"nothing sounds in {SCENES} training scenes. Leave silent clips out of the corpus.")
        yield peak_normalised(batch.sources.flatten(0, 1)[heard]), batch.labels.reshape(-1)[heard]
        n_crops -= len(heard)
        index += 1
