"""Sounds of different recordings, whatever they are: universal separation (Kavalerov et al. 2019; Tzinis et al. 2020).

The latter does not say how loud its clips are; here each has a level of its own, in dB, over the samples where it lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sepbench.corpora.base import Clip
from sepbench.corpora.cache import ClipCache
from sepbench.errors import UserError
from sepbench.mixing.crops import CropPlan, Crops, checked_count, checked_crop, is_number, level_factors
from sepbench.mixing.members import Recordings, identity

BLOCKS, BLOCK = 2, 4  # of a slot: Philox makes four numbers at a time, and five are wanted
DRAWS = ("recording", "class")


@dataclass(frozen=True)
class PairsSettings:
    """What a scene is made of; the values live in the task's YAML."""

    n_sources: tuple[int, int]  # fewest and most
    seconds: float
    draw: str  # recording: any, then one of its clips; class: a class, then one of its recordings, then a clip of it
    level_dbfs: tuple[float, float]  # RMS of each source over the samples where it lies; 0 dB: an RMS of full scale
    min_peak: float  # a crop below this share of its clip's peak is drawn again

    def __post_init__(self) -> None:
        checked_count(self.n_sources)
        checked_crop(self.seconds, self.min_peak)
        low_high = self.level_dbfs
        if len(low_high) != 2 or not all(map(is_number, low_high)) or not low_high[0] <= low_high[1] <= 0:
            raise UserError(
                f"task.mixing.level_dbfs is {list(low_high)}; wanted two numbers up to 0, the lower one first."
            )
        if self.draw not in DRAWS:
            raise UserError(f"task.mixing.draw is '{self.draw}'; wanted {' or '.join(DRAWS)}.")

    def single(self) -> PairsSettings:
        """The same of one sound alone, each class as often as any other."""
        return replace(self, n_sources=(1, 1), draw="class")


class PairsPlanner:
    """Draws plans. Looks into the audio: a crop too quiet is drawn again, and each is brought to its level."""

    def __init__(
        self,
        clips: Sequence[Clip],
        members: Sequence[int],
        classes: Sequence[str],
        settings: PairsSettings,
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
        self.recordings = Recordings(clips, members, self.classes, by_class=settings.draw == "class")
        if self.recordings.n < self.n_slots:
            raise UserError(
                f"task.mixing.sources is {self.n_slots}, all of different recordings; split '{split}' has "
                f"{self.recordings.n}. Give the split more of them, or its scenes fewer sources."
            )
        drawn_from = [clips[i].key for i in members]
        self.key, self.id = identity("pairs-1", content, drawn_from, split, seed, self.classes, settings)

    def plan(self, first: int, size: int) -> CropPlan:
        """Scenes first ... first + size - 1."""
        blocks = 1 + BLOCKS * self.n_slots  # one for the scene
        u = self._random([first * blocks, 0, 0, 0]).random((size, blocks, BLOCK))
        fewest, most = self.settings.n_sources
        n_drawn = fewest + (u[:, 0, 0] * (most - fewest + 1)).astype(np.int64)
        each = u[:, 1:].reshape(size, self.n_slots, BLOCKS * BLOCK)  # (scene, slot, number)
        clip = self._clips(each[:, :, :3], first)
        label = self.recordings.label[clip]
        start, onset, length = self.crops.place(clip, each[:, :, 3])
        label[np.arange(self.n_slots) >= n_drawn[:, None]] = -1

        def again(scene: int, slot: int) -> np.random.Generator:
            return self._random([0, 0, slot + 1, first + scene])

        self.crops.silence_the_quiet(label, clip, start, length, again)
        factor = level_factors(self.crops, self.settings.level_dbfs, label, clip, start, length, each[:, :, 4])
        return CropPlan(n_drawn, label, clip, start, onset, length, factor, self.sample_rate_hz, len(self.classes))

    def render(self, plan: CropPlan, sources: np.ndarray | None) -> np.ndarray:
        """Mixtures (scene, time); `sources` (scene, slot, time), if given, is filled too, with the same roundings."""
        return self.crops.render(plan, sources, "scale")

    def _random(self, counter: list[int]) -> np.random.Generator:
        """Only `random` is used: its stream is stable."""
        return np.random.Generator(np.random.Philox(key=self.key, counter=counter))

    def _clips(self, u: np.ndarray, first: int) -> np.ndarray:
        """Clips (scene, slot) from `u` (scene, slot, 3). One whose recording is in the scene already is drawn again."""
        clip = self.recordings.draw(u)
        recording = self.recordings.recording
        for scene in range(len(clip) if self.n_slots > 1 else 0):
            row = clip[scene]
            for slot in range(1, self.n_slots):
                if (recording[row[:slot]] == recording[row[slot]]).any():
                    again = self._random([0, 1, slot + 1, first + scene])
                    while (recording[row[:slot]] == recording[row[slot]]).any():
                        row[slot] = self.recordings.draw(again.random(3))
        return clip
