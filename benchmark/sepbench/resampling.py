"""Draws of a bootstrap: how often each scene comes, and what sums over the scenes drawn are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np

BLOCK_RESAMPLES = 250  # draw counts of this many resamples are held at a time: 5 MB for 5,000 scenes
KEPT_DRAWS = 20_000_000  # of a number of scenes, all draw counts are kept up to so many; 1 or 2 bytes each


def resampled_sums(totals: np.ndarray, n_resamples: int, seed: int) -> np.ndarray:
    """Sums over scenes drawn with replacement: (scene, column) -> (resample, column), float32 products."""
    totals = np.ascontiguousarray(totals, np.float32)
    sums = np.empty((n_resamples, totals.shape[1]), np.float32)
    start = 0
    for counts in _draws(len(totals), n_resamples, seed):
        np.matmul(counts.astype(np.float32), totals, out=sums[start : start + len(counts)])
        start += len(counts)
    return sums


def _draws(n_scenes: int, n_resamples: int, seed: int) -> Iterable[np.ndarray]:
    """How often each scene is drawn, (resample, scene) block by block: the same for all figures of so many scenes."""
    few = n_scenes * n_resamples <= KEPT_DRAWS
    return _kept_draws(n_scenes, n_resamples, seed) if few else _drawn(n_scenes, n_resamples, seed)


@lru_cache(maxsize=8)
def _kept_draws(n_scenes: int, n_resamples: int, seed: int) -> tuple[np.ndarray, ...]:
    return tuple(_drawn(n_scenes, n_resamples, seed))


def _drawn(n_scenes: int, n_resamples: int, seed: int) -> Iterator[np.ndarray]:
    generator = np.random.default_rng(seed)
    for start in range(0, n_resamples, BLOCK_RESAMPLES):
        drawn = generator.integers(0, n_scenes, (min(BLOCK_RESAMPLES, n_resamples - start), n_scenes))
        counts = np.empty(drawn.shape, np.uint8 if n_scenes <= np.iinfo(np.uint8).max else np.uint16)
        for one, scenes in zip(counts, drawn, strict=True):  # row by row, so that the counting stays in cache
            one[:] = np.bincount(scenes, minlength=n_scenes)
        yield counts
