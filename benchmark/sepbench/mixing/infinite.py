"""The Infinite Mixture Engine: crops of distinct classes, each brought to one peak (Verma, SepClsNet, section III-B).

Two of its steps are not taken as written. Equation 2 adds eps to the sound, which is a constant offset and still 0 / 0 in
silence: here s / max(peak, eps). Equation 3 cuts off peaks, after which the mixture is no sum of its sources: here both
are divided by max(1, peak of the mixture), and `limit: clip` cuts off as written.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sepbench.corpora.base import Clip
from sepbench.corpora.cache import FULL, ClipCache
from sepbench.errors import UserError
from sepbench.labels import Events
from sepbench.method import Batch, WeakBatch
from sepbench.mixing.members import Members
from sepbench.scene import Mixture, Scene, Source

MAX_REDRAWS = 20
BLOCK = 4  # numbers that Philox makes at a time; a scene draws whole blocks, so that those of a batch are one stretch
LIMITS = ("scale", "clip")
SHORT_CLIPS = ("refuse", "pad")


@dataclass(frozen=True)
class InfiniteSettings:
    """What a scene is made of; the values live in the task's YAML."""

    n_sources: tuple[int, int]  # fewest and most
    seconds: float
    gain: tuple[float, float]  # of each source, once its peak is 1
    min_peak: float  # a crop below this share of its clip's peak is drawn again
    limit: str  # scale: mixture and sources by max(1, peak of the mixture); clip: the mixture alone, hard
    short_clips: str  # refuse, or pad: a clip shorter than a scene is used whole, somewhere in silence

    def __post_init__(self) -> None:
        fewest, most = self.n_sources
        if type(fewest) is not int or type(most) is not int or not 0 <= fewest <= most or most < 1:
            raise UserError(
                f"Sources in a scene: the fewest {fewest}, the most {most}; wanted whole numbers from 0 and from 1, the first no "
                "larger. Mend --fewest-sources and --sources (task.mixing.fewest_sources, task.mixing.sources)."
            )
        if len(self.gain) != 2 or not all(map(_is_number, self.gain)) or not 0 < self.gain[0] <= self.gain[1]:
            raise UserError(
                f"task.mixing.gain is {list(self.gain)}; wanted two numbers above 0, the lower one first."
            )
        if not _is_number(self.min_peak) or not 0 <= self.min_peak <= 1:
            raise UserError(f"task.mixing.min_peak is {self.min_peak}; wanted a share of the clip's peak, from 0 to 1.")
        if not _is_number(self.seconds) or self.seconds <= 0:
            raise UserError(f"task.seconds is {self.seconds}; wanted a time above 0.")
        for name, value, known in (("limit", self.limit, LIMITS), ("short_clips", self.short_clips, SHORT_CLIPS)):
            if value not in known:
                raise UserError(f"task.mixing.{name} is '{value}'; wanted {' or '.join(known)}.")


@dataclass(frozen=True)
class InfinitePlan:
    """Which crop of which clip sounds in which slot of a scene. Where a slot is silent, only its label means anything."""

    n_drawn: np.ndarray  # (scene,), slots that were filled; the others, which come last, were left empty
    label: np.ndarray  # (scene, slot), index in classes; -1 where there is silence
    clip: np.ndarray  # (scene, slot), index in the clips
    start: np.ndarray  # (scene, slot), sample of the clip where the crop starts
    onset: np.ndarray  # (scene, slot), sample of the scene where it starts: 0 unless the clip is shorter than the scene
    length: np.ndarray  # (scene, slot), in samples
    peak: np.ndarray  # (scene, slot), of the crop as the cache keeps it: a whole number
    gain: np.ndarray  # (scene, slot), what its peak becomes, before the scale that a scene's sources share
    sample_rate_hz: int
    n_classes: int

    def events(self) -> Events:
        scene, slot = np.nonzero(self.label >= 0)
        onset, length = self.onset[scene, slot], self.length[scene, slot]
        on_s, off_s = onset / self.sample_rate_hz, (onset + length) / self.sample_rate_hz
        return Events(scene, self.label[scene, slot], on_s, off_s, len(self.label), self.n_classes)


class InfinitePlanner:
    """Draws plans. Looks into the audio for the peaks of what it draws: a crop too quiet is drawn again."""

    def __init__(
        self,
        clips: Sequence[Clip],
        members: Sequence[int],
        classes: Sequence[str],
        settings: InfiniteSettings,
        content: str,
        split: str,
        seed: int,
        cache: ClipCache,
    ):
        self.settings, self.classes, self.cache = settings, tuple(classes), cache
        self.n_slots = settings.n_sources[1]
        self.n_samples = max(round(settings.seconds * cache.sample_rate_hz), 1)
        self.least_peak = max(math.ceil(settings.min_peak * FULL), 1)  # a clip's own peak is FULL
        if len(self.classes) < self.n_slots:
            raise UserError(
                f"task.mixing.sources is {self.n_slots}, all of different classes; the task has {len(self.classes)} "
                f"({', '.join(self.classes)}). Give the task more classes, or its scenes fewer sources."
            )
        self.members = Members(clips, members, self.classes, split)
        if settings.short_clips == "refuse":
            self._refuse_short(clips, split)
        drawn_from = "|".join(sorted(clips[i].key for i in members))
        identity = f"infinite-1|{content}|{drawn_from}|{split}|{seed}|{','.join(self.classes)}|{settings}"
        self.key = np.frombuffer(hashlib.blake2b(identity.encode(), digest_size=16).digest(), np.uint64)
        self.id = hashlib.blake2b(identity.encode(), digest_size=4).hexdigest()

    def plan(self, first: int, size: int) -> InfinitePlan:
        """Scenes first ... first + size - 1."""
        blocks = 1 + self.n_slots  # one for the scene, one for each slot
        u = self._random([first * blocks, 0, 0, 0]).random((size, blocks, BLOCK))
        fewest, most = self.settings.n_sources
        n_drawn = fewest + (u[:, 0, 0] * (most - fewest + 1)).astype(np.int64)
        for_class, for_clip, for_place, for_gain = np.moveaxis(u[:, 1:], -1, 0)  # (scene, slot) each
        label = _distinct(for_class, len(self.classes))
        clip = self.members.draw(label, for_clip)
        start, onset, length = self._place(clip, for_place)
        low, high = self.settings.gain
        gain = low + for_gain * (high - low)
        label[np.arange(self.n_slots) >= n_drawn[:, None]] = -1
        drawn = np.nonzero(label >= 0)
        peak = np.zeros_like(label)
        peak[drawn] = [self._peak(*crop) for crop in zip(*(each[drawn].tolist() for each in (clip, start, length)))]
        for at in zip(*np.nonzero((label >= 0) & (peak < self.least_peak))):
            start[at], peak[at] = self._again(int(clip[at]), int(start[at]), first + int(at[0]), int(at[1]))
        label[peak < self.least_peak] = -1
        rate = self.cache.sample_rate_hz
        return InfinitePlan(n_drawn, label, clip, start, onset, length, peak, gain, rate, len(self.classes))

    def _random(self, counter: list[int]) -> np.random.Generator:
        """Only `random` is used: its stream is stable."""
        return np.random.Generator(np.random.Philox(key=self.key, counter=counter))

    def _place(self, clip: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where the crop starts in its clip, where in its scene, and its length, in samples; all as `clip`."""
        n_of_clip = np.asarray(self.cache.length)[clip]
        spare = n_of_clip - self.n_samples  # below 0, the scene is what has room
        at = (u * (np.abs(spare) + 1)).astype(np.int64)
        return np.where(spare > 0, at, 0), np.where(spare < 0, at, 0), np.minimum(n_of_clip, self.n_samples)

    def _peak(self, clip: int, start: int, length: int) -> int:
        first = self.cache.offset[clip] + start
        crop = self.cache.samples[first : first + length]
        return max(int(np.maximum.reduce(crop)), -int(np.minimum.reduce(crop)))

    def _again(self, clip: int, start: int, index: int, slot: int) -> tuple[int, int]:
        """Start and peak of the first crop that is loud enough, else those of the last."""
        spare = int(self.cache.length[clip]) - self.n_samples
        peak = 0
        for u in self._random([0, 0, slot + 1, index]).random(MAX_REDRAWS if spare > 0 else 0).tolist():
            start = int(u * (spare + 1))
            peak = self._peak(clip, start, self.n_samples)
            if peak >= self.least_peak:
                break
        return start, peak

    def _refuse_short(self, clips: Sequence[Clip], split: str) -> None:
        drawn_on = np.sort(self.members.clips)
        n_of_clip = np.asarray(self.cache.length)[drawn_on]
        short = np.flatnonzero(n_of_clip < self.n_samples)
        if len(short):
            first_s = n_of_clip[short[0]] / self.cache.sample_rate_hz
            raise UserError(
                f"Clip '{clips[drawn_on[short[0]]].key}' lasts {first_s:.2f} s, and {len(short)} of the {len(drawn_on)} clips of "
                f"split '{split}' are too short for a scene of {self.settings.seconds:g} s. Leave them out, or have them sound "
                "somewhere in silence: --set task.mixing.short_clips=pad."
            )


class WeakInfiniteScenes:
    """Batches of mixtures with their labels: what it hands out has no place for a source."""

    def __init__(self, planner: InfinitePlanner, labels_seen: str):
        self._planner, self._labels_seen = planner, labels_seen

    def batch(self, index: int, size: int) -> WeakBatch:
        """Batch `index` of `size` scenes: a pure function of both."""
        plan = self._planner.plan(index * size, size)
        mixture = _render(plan, self._planner, None)
        events = plan.events()
        if self._labels_seen == "clip":
            events = events.whole_clip(self._planner.settings.seconds)
        return WeakBatch(torch.from_numpy(mixture), events)


class InfiniteScenes:
    """Batches with sources, one to a slot, and single scenes with their whole truth."""

    def __init__(self, planner: InfinitePlanner):
        self.planner = planner

    def batch(self, index: int, size: int) -> Batch:
        plan, mixture, sources = self._sound(index * size, size)
        return Batch(torch.from_numpy(mixture), plan.events(), torch.from_numpy(sources), plan.label)

    def scene_id(self, index: int) -> str:
        """The name of scene `index`, known without mixing it."""
        return f"{self.planner.id}-{index:06d}"

    def scene(self, index: int) -> Scene:
        """Scene `index`; a slot that is silent is no source of it."""
        plan, mixture, sources = self._sound(index, 1)
        events = plan.events()
        slots = np.flatnonzero(plan.label[0] >= 0)
        found = tuple(
            Source(torch.from_numpy(sources[0, slot]), self.planner.classes[label], ((on_s, off_s),))
            for slot, label, on_s, off_s in zip(slots, events.label, events.on_s.tolist(), events.off_s.tolist())
        )
        audio = torch.from_numpy(mixture)  # (channel, time), as a batch of one scene is a scene of one channel
        return Scene(Mixture(audio, plan.sample_rate_hz, self.scene_id(index)), found)

    def _sound(self, first: int, size: int) -> tuple[InfinitePlan, np.ndarray, np.ndarray]:
        plan = self.planner.plan(first, size)
        sources = np.empty((size, self.planner.n_slots, self.planner.n_samples), np.float32)
        return plan, _render(plan, self.planner, sources), sources


def _render(plan: InfinitePlan, planner: InfinitePlanner, sources: np.ndarray | None) -> np.ndarray:
    """Mixtures (scene, time); `sources` (scene, slot, time), if given, is filled too, with the same roundings.

    One scene after the other, so that its sources are still in the processor's cache when they are summed and scaled.
    """
    mixture = np.empty((len(plan.label), planner.n_samples), np.float32)
    factor = (plan.gain / np.maximum(plan.peak, 1)).astype(np.float32)
    first = np.asarray(planner.cache.offset)[plan.clip] + plan.start
    samples = planner.cache.samples
    spare = np.empty((planner.n_slots, planner.n_samples), np.float32)
    for scene, n_drawn in enumerate(plan.n_drawn.tolist()):
        rows = spare if sources is None else sources[scene]
        for slot in range(planner.n_slots):
            if plan.label[scene, slot] < 0:
                rows[slot] = 0
                continue
            a, n, to = int(first[scene, slot]), int(plan.length[scene, slot]), int(plan.onset[scene, slot])
            rows[slot, :to] = 0
            rows[slot, to + n :] = 0
            np.multiply(samples[a : a + n], factor[scene, slot], out=rows[slot, to : to + n], dtype=np.float32)
        _sum_and_limit(rows[:n_drawn], mixture[scene], planner.settings.limit)
    return mixture


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


def _distinct(u: np.ndarray, n: int) -> np.ndarray:
    """The first numbers of a shuffled 0 ... n - 1, all orders equally likely: int64 (scene, slot) from `u` of that shape."""
    shuffled = np.tile(np.arange(n), (len(u), 1))
    scenes = np.arange(len(u))
    for slot in range(u.shape[1]):
        other = slot + (u[:, slot] * (n - slot)).astype(np.int64)
        shuffled[scenes, slot], shuffled[scenes, other] = shuffled[scenes, other], shuffled[scenes, slot].copy()
    return shuffled[:, : u.shape[1]].copy()


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
