"""Crops of clips, one to a slot of a scene: where they lie, how loud they are, and how they become sound."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from sepbench.corpora.cache import FULL, ClipCache
from sepbench.errors import UserError
from sepbench.labels import Events
from sepbench.mixing.scenes import Heard

MAX_REDRAWS = 20


@dataclass(frozen=True)
class CropPlan:
    """Which crop of which clip sounds in which slot of a scene. Where a slot is silent, only its label means anything."""

    n_drawn: np.ndarray  # (scene,), slots that were filled; the others, which come last, were left empty
    label: np.ndarray  # (scene, slot), index in classes; -1 where there is silence
    clip: np.ndarray  # (scene, slot), index in the clips
    start: np.ndarray  # (scene, slot), sample of the clip where the crop starts
    onset: np.ndarray  # (scene, slot), sample of the scene where it starts: 0 unless the clip is shorter than the scene
    length: np.ndarray  # (scene, slot), in samples
    factor: np.ndarray  # (scene, slot), float32: what a sample becomes, before the scale that a scene's sources share
    sample_rate_hz: int
    n_classes: int

    @property
    def labels(self) -> np.ndarray:
        return self.label

    def events(self) -> Events:
        scene, slot = np.nonzero(self.label >= 0)
        onset, length = self.onset[scene, slot], self.length[scene, slot]
        on_s, off_s = onset / self.sample_rate_hz, (onset + length) / self.sample_rate_hz
        return Events(scene, self.label[scene, slot], on_s, off_s, len(self.label), self.n_classes)

    def heard(self) -> list[Heard]:
        """The slots of the first scene that are not silent."""
        rate = self.sample_rate_hz
        return [
            (slot, int(self.label[0, slot]), ((onset / rate, (onset + length) / rate),))
            for slot, onset, length in zip(range(self.label.shape[1]), self.onset[0].tolist(), self.length[0].tolist())
            if self.label[0, slot] >= 0
        ]


class Crops:
    """Crops of `n_samples` of the clips in a cache; of a clip that is shorter, all of it."""

    def __init__(self, cache: ClipCache, n_samples: int, min_peak: float):
        self.cache, self.n_samples = cache, n_samples
        self.least_peak = max(math.ceil(min_peak * FULL), 1)  # a clip's own peak is FULL
        self.lengths = np.asarray(cache.length)

    def place(self, clip: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where the crop starts in its clip, where in its scene, and its length, in samples; all as `clip`."""
        n_of_clip = self.lengths[clip]
        spare = n_of_clip - self.n_samples  # below 0, the scene is what has room
        at = (u * (np.abs(spare) + 1)).astype(np.int64)
        return np.where(spare > 0, at, 0), np.where(spare < 0, at, 0), np.minimum(n_of_clip, self.n_samples)

    def samples(self, clip: int, start: int, length: int) -> np.ndarray:
        """The crop as the cache keeps it: int16 (time,)."""
        first = int(self.cache.offset[clip]) + start
        return self.cache.samples[first : first + length]

    def peak(self, clip: int, start: int, length: int) -> int:
        crop = self.samples(clip, start, length)
        return max(int(np.maximum.reduce(crop)), -int(np.minimum.reduce(crop)))

    def silence_the_quiet(
        self, label: np.ndarray, clip: np.ndarray, start: np.ndarray, length: np.ndarray, random: Any
    ) -> np.ndarray:
        """The crops' peaks, whole numbers as `clip`, 0 where `label` is -1; one crop too quiet is drawn again, in `start`.

        What stays too quiet is no source: its label becomes -1. `random(scene, slot)` gives the numbers for a slot.
        """
        drawn = np.nonzero(label >= 0)
        peak = np.zeros_like(label)
        peak[drawn] = [self.peak(*crop) for crop in zip(*(each[drawn].tolist() for each in (clip, start, length)))]
        for at in zip(*np.nonzero((label >= 0) & (peak < self.least_peak))):
            crop = int(clip[at]), int(start[at]), int(length[at])
            start[at], peak[at] = self._again(*crop, random(int(at[0]), int(at[1])))
        label[peak < self.least_peak] = -1
        return peak

    def _again(self, clip: int, start: int, length: int, random: np.random.Generator) -> tuple[int, int]:
        """Start and peak of the first crop of that length that is loud enough, else those of the last."""
        spare = int(self.lengths[clip]) - length
        peak = 0
        for u in random.random(MAX_REDRAWS if spare > 0 else 0).tolist():
            start = int(u * (spare + 1))
            peak = self.peak(clip, start, length)
            if peak >= self.least_peak:
                break
        return start, peak

    def render(self, plan: CropPlan, sources: np.ndarray | None, limit: str) -> np.ndarray:
        """Mixtures (scene, time); `sources` (scene, slot, time), if given, is filled too, with the same roundings.

        One scene after the other, so that its sources are still in the processor's cache when they are summed and scaled.
        """
        n_scenes, n_slots = plan.label.shape
        mixture = np.empty((n_scenes, self.n_samples), np.float32)
        first = np.asarray(self.cache.offset)[plan.clip] + plan.start
        samples = self.cache.samples
        spare = np.empty((n_slots, self.n_samples), np.float32)
        for scene, n_drawn in enumerate(plan.n_drawn.tolist()):
            rows = spare if sources is None else sources[scene]
            for slot in range(n_slots):
                if plan.label[scene, slot] < 0:
                    rows[slot] = 0
                    continue
                a, n, to = int(first[scene, slot]), int(plan.length[scene, slot]), int(plan.onset[scene, slot])
                rows[slot, :to] = 0
                rows[slot, to + n :] = 0
                np.multiply(samples[a : a + n], plan.factor[scene, slot], out=rows[slot, to : to + n], dtype=np.float32)
            _sum_and_limit(rows[:n_drawn], mixture[scene], limit)
        return mixture


def level_factors(
    crops: Crops, level_dbfs: tuple[float, float],
    label: np.ndarray, clip: np.ndarray, start: np.ndarray, length: np.ndarray, u: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """What brings each crop as the cache keeps it to the RMS that `u` (scene, slot) draws; 0 where there is silence: float32."""
    low, high = level_dbfs
    rms = 10 ** ((low + u * (high - low)) / 20)
    factor = np.zeros(label.shape, np.float32)
    for at in zip(*np.nonzero(label >= 0)):
        crop = crops.samples(int(clip[at]), int(start[at]), int(length[at])).astype(np.float64)
        power = np.dot(crop, crop) / len(crop)  # of whole numbers, whose sum is exact in any order
        factor[at] = rms[at] / np.sqrt(power)
    return factor


def checked_count(n_sources: tuple[int, int]) -> None:
    """UserError where the fewest and most sources of a scene are not counts, the first no larger."""
    fewest, most = n_sources
    if type(fewest) is not int or type(most) is not int or not 0 <= fewest <= most or most < 1:
        raise UserError(
            f"Sources in a scene: the fewest {fewest}, the most {most}; wanted whole numbers from 0 and from 1, the first no "
            "larger. Mend --fewest-sources and --sources (task.mixing.fewest_sources, task.mixing.sources)."
        )


def checked_crop(seconds: Any, min_peak: Any) -> None:
    """UserError where a crop's length or the share of the peak that it must reach is none."""
    if not is_number(min_peak) or not 0 <= min_peak <= 1:
        raise UserError(f"task.mixing.min_peak is {min_peak}; wanted a share of the clip's peak, from 0 to 1.")
    if not is_number(seconds) or seconds <= 0:
        raise UserError(f"task.seconds is {seconds}; wanted a time above 0.")


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def distinct(u: np.ndarray, n: int) -> np.ndarray:
    """The first numbers of a shuffled 0 ... n - 1, all orders equally likely: int64 (scene, slot) from `u` of that shape."""
    shuffled = np.tile(np.arange(n), (len(u), 1))
    scenes = np.arange(len(u))
    for slot in range(u.shape[1]):
        other = slot + (u[:, slot] * (n - slot)).astype(np.int64)
        shuffled[scenes, slot], shuffled[scenes, other] = shuffled[scenes, other], shuffled[scenes, slot].copy()
    return shuffled[:, : u.shape[1]].copy()


def _sum_and_limit(sources: np.ndarray, mixture: np.ndarray, limit: str) -> None:
    """Fill `mixture` (time,) with the sum of `sources` (source, time), and keep it within -1 to 1 as `limit` says."""
    _sum(sources, mixture)
    peak = max(np.maximum.reduce(mixture), -np.minimum.reduce(mixture))
    if peak > 1 and limit == "clip":
        np.clip(mixture, -1, 1, out=mixture)
    elif peak > 1:
        sources *= np.float32(1 / peak)
        _sum(sources, mixture)  # anew, for the mixture is their sum to the last bit


def _sum(sources: np.ndarray, mixture: np.ndarray) -> None:
    if len(sources) == 2:  # the common case, in one pass
        np.add(sources[0], sources[1], out=mixture)
        return
    mixture[:] = 0
    for source in sources:
        mixture += source
