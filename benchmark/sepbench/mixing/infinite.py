"""The Infinite Mixture Engine: crops of distinct classes, each brought to one peak (Verma, SepClsNet, section III-B).

Two of its steps are not taken as written. Equation 2 adds eps to the sound, which is a constant offset and still 0 / 0 in
silence: here s / max(peak, eps). Equation 3 cuts off peaks, after which the mixture is no sum of its sources: here both
are divided by max(1, peak of the mixture), and `limit: clip` cuts off as written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sepbench.corpora.base import Clip
from sepbench.corpora.cache import ClipCache
from sepbench.errors import UserError
from sepbench.mixing.crops import CropPlan, Crops, checked_count, checked_crop, distinct, is_number
from sepbench.mixing.members import Members, identity

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
        checked_count(self.n_sources)
        if len(self.gain) != 2 or not all(map(is_number, self.gain)) or not 0 < self.gain[0] <= self.gain[1]:
            raise UserError(f"task.mixing.gain is {list(self.gain)}; wanted two numbers above 0, the lower one first.")
        checked_crop(self.seconds, self.min_peak)
        for name, value, known in (("limit", self.limit, LIMITS), ("short_clips", self.short_clips, SHORT_CLIPS)):
            if value not in known:
                raise UserError(f"task.mixing.{name} is '{value}'; wanted {' or '.join(known)}.")

    def single(self) -> InfiniteSettings:
        """The same of one sound alone."""
        return replace(self, n_sources=(1, 1))


@dataclass(frozen=True)
class InfinitePlan(CropPlan):
    """The crops, and what brings them to their peaks."""

    peak: np.ndarray  # (scene, slot), of the crop as the cache keeps it: a whole number
    gain: np.ndarray  # (scene, slot), what its peak becomes, before the scale that a scene's sources share


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
        self.crops = Crops(cache, max(round(settings.seconds * cache.sample_rate_hz), 1), settings.min_peak)
        self.sample_rate_hz, self.seconds = cache.sample_rate_hz, settings.seconds
        self.shape = (self.n_slots, self.crops.n_samples)
        if len(self.classes) < self.n_slots:
            raise UserError(
                f"task.mixing.sources is {self.n_slots}, all of different classes; the task has {len(self.classes)} "
                f"({', '.join(self.classes)}). Give the task more classes, or its scenes fewer sources."
            )
        self.members = Members(clips, members, self.classes, split)
        if settings.short_clips == "refuse":
            self._refuse_short(clips, split)
        drawn_from = [clips[i].key for i in members]
        self.key, self.id = identity("infinite-1", content, drawn_from, split, seed, self.classes, settings)

    def plan(self, first: int, size: int) -> InfinitePlan:
        """Scenes first ... first + size - 1."""
        blocks = 1 + self.n_slots  # one for the scene, one for each slot
        u = self._random([first * blocks, 0, 0, 0]).random((size, blocks, BLOCK))
        fewest, most = self.settings.n_sources
        n_drawn = fewest + (u[:, 0, 0] * (most - fewest + 1)).astype(np.int64)
        for_class, for_clip, for_place, for_gain = np.moveaxis(u[:, 1:], -1, 0)  # (scene, slot) each
        label = distinct(for_class, len(self.classes))
        clip = self.members.draw(label, for_clip)
        start, onset, length = self.crops.place(clip, for_place)
        low, high = self.settings.gain
        gain = low + for_gain * (high - low)
        label[np.arange(self.n_slots) >= n_drawn[:, None]] = -1

        def again(scene: int, slot: int) -> np.random.Generator:
            return self._random([0, 0, slot + 1, first + scene])

        peak = self.crops.silence_the_quiet(label, clip, start, length, again)
        factor = (gain / np.maximum(peak, 1)).astype(np.float32)
        where = (n_drawn, label, clip, start, onset, length, factor)
        return InfinitePlan(*where, self.sample_rate_hz, len(self.classes), peak, gain)

    def render(self, plan: InfinitePlan, sources: np.ndarray | None) -> np.ndarray:
        """Mixtures (scene, time); `sources` (scene, slot, time), if given, is filled too, with the same roundings."""
        return self.crops.render(plan, sources, self.settings.limit)

    def _random(self, counter: list[int]) -> np.random.Generator:
        """Only `random` is used: its stream is stable."""
        return np.random.Generator(np.random.Philox(key=self.key, counter=counter))

    def _refuse_short(self, clips: Sequence[Clip], split: str) -> None:
        drawn_on = np.sort(self.members.clips)
        n_of_clip = self.crops.lengths[drawn_on]
        short = np.flatnonzero(n_of_clip < self.crops.n_samples)
        if len(short):
            first_s = n_of_clip[short[0]] / self.cache.sample_rate_hz
            raise UserError(
                f"Clip '{clips[drawn_on[short[0]]].key}' lasts {first_s:.2f} s, and {len(short)} of the {len(drawn_on)} clips of "
                f"split '{split}' are too short for a scene of {self.settings.seconds:g} s. Leave them out, or have them sound "
                "somewhere in silence: --set task.mixing.short_clips=pad."
            )
