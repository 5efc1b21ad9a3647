"""Sounds of known classes that begin and end where they will, one to a slot: the scenes that all methods are compared on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sepbench.corpora.base import Clip
from sepbench.corpora.cache import ClipCache
from sepbench.errors import UserError
from sepbench.mixing.crops import (
    CropPlan,
    Crops,
    checked_count,
    checked_crop,
    distinct,
    is_number,
    level_factors,
)
from sepbench.mixing.members import Members, Recordings, identity

BLOCKS, BLOCK = 2, 4  # of a slot: Philox makes four numbers at a time, and seven are wanted
MAX_TRIES = 200  # for a recording that the scene does not have yet


@dataclass(frozen=True)
class OverlapSettings:
    """What a scene is made of; the values live in the task's YAML."""

    n_sources: tuple[int, int]  # fewest and most
    seconds: float
    two_of_a_class: bool  # true: two of one class, any others of different ones; false: all of different classes
    cut_s: tuple[float, float]  # how long a sound lasts, unless its clip is shorter
    level_dbfs: tuple[float, float]  # RMS of each source over the samples where it lies; 0 dB: an RMS of full scale
    min_peak: float  # a cut below this share of its clip's peak is drawn again

    def __post_init__(self) -> None:
        checked_count(self.n_sources)
        checked_crop(self.seconds, self.min_peak)
        if not isinstance(self.two_of_a_class, bool):
            raise UserError(f"task.mixing.two_of_a_class is '{self.two_of_a_class}'; wanted true or false.")
        if self.two_of_a_class and self.n_sources[0] < 2:
            raise UserError(
                f"task.mixing.fewest_sources is {self.n_sources[0]}: one sound cannot be two of a class. Let it be 2 or more, or "
                "set task.mixing.two_of_a_class false."
            )
        for name, pair, wanted in (
            ("cut_s", self.cut_s, "two times above 0"), ("level_dbfs", self.level_dbfs, "two numbers up to 0"),
        ):  # fmt: skip
            if len(pair) != 2 or not all(map(is_number, pair)) or pair[0] > pair[1]:
                raise UserError(f"task.mixing.{name} is {list(pair)}; wanted {wanted}, the lower one first.")
        if self.cut_s[0] <= 0:
            raise UserError(f"task.mixing.cut_s is {list(self.cut_s)}; wanted times above 0.")
        if self.level_dbfs[1] > 0:
            raise UserError(f"task.mixing.level_dbfs is {list(self.level_dbfs)}; wanted numbers up to 0.")

    @property
    def n_classes(self) -> int:
        """How many classes the fullest scene has."""
        return self.n_sources[1] - self.two_of_a_class

    def single(self) -> OverlapSettings:
        """The same of one sound alone, each class as often as any other."""
        return replace(self, n_sources=(1, 1), two_of_a_class=False)


class OverlapPlanner:
    """Draws plans. Looks into the audio: a cut too quiet is drawn again, and each is brought to its level."""

    def __init__(
        self,
        clips: Sequence[Clip],
        members: Sequence[int],
        classes: Sequence[str],
        settings: OverlapSettings,
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
        if len(self.classes) < settings.n_classes:
            raise UserError(
                f"task.mixing.sources is {self.n_slots}, of {settings.n_classes} classes; the task has {len(self.classes)} "
                f"({', '.join(self.classes)}). Give the task more classes, or its scenes fewer sources."
            )
        self._check_recordings(clips, Members(clips, members, self.classes, split), split)
        self.recordings = Recordings(clips, members, self.classes, by_class=True)
        drawn_from = [clips[i].key for i in members]
        self.key, self.id = identity("overlap-1", content, drawn_from, split, seed, self.classes, settings)

    def _check_recordings(self, clips: Sequence[Clip], members: Members, split: str) -> None:
        """UserError where a class that a scene holds twice has one recording alone."""
        for label, name in enumerate(self.classes if self.settings.two_of_a_class else ()):
            if len({clips[i].recording for i in members.of(label)}) < 2:
                raise UserError(
                    f"Split '{split}' has one recording of class '{name}', and a scene wants two of a class. Leave the class out "
                    "(task.classes), or give the split more recordings (task.splits)."
                )

    def plan(self, first: int, size: int) -> CropPlan:
        """Scenes first ... first + size - 1."""
        blocks = 1 + BLOCKS * self.n_slots  # one for the scene
        u = self._random([first * blocks, 0, 0, 0]).random((size, blocks, BLOCK))
        fewest, most = self.settings.n_sources
        n_drawn = fewest + (u[:, 0, 0] * (most - fewest + 1)).astype(np.int64)
        for_class, *for_clip, for_cut, for_start, for_onset, for_level = np.moveaxis(
            u[:, 1:].reshape(size, self.n_slots, BLOCKS * BLOCK)[:, :, :7], -1, 0
        )  # (scene, slot) each
        label = self._labels(for_class)
        label[np.arange(self.n_slots) >= n_drawn[:, None]] = -1
        clip = self._clips(label, np.stack(for_clip, -1), first)
        length = np.minimum(self.crops.lengths[clip], self._cut(for_cut))
        start = (for_start * (self.crops.lengths[clip] - length + 1)).astype(np.int64)
        onset = (for_onset * (self.crops.n_samples - length + 1)).astype(np.int64)

        def again(scene: int, slot: int) -> np.random.Generator:
            return self._random([0, 0, slot + 1, first + scene])

        self.crops.silence_the_quiet(label, clip, start, length, again)
        factor = level_factors(self.crops, self.settings.level_dbfs, label, clip, start, length, for_level)
        return CropPlan(n_drawn, label, clip, start, onset, length, factor, self.sample_rate_hz, len(self.classes))

    def render(self, plan: CropPlan, sources: np.ndarray | None) -> np.ndarray:
        """Mixtures (scene, time); `sources` (scene, slot, time), if given, is filled too, with the same roundings."""
        return self.crops.render(plan, sources, "scale")

    def _random(self, counter: list[int]) -> np.random.Generator:
        """Only `random` is used: its stream is stable."""
        return np.random.Generator(np.random.Philox(key=self.key, counter=counter))

    def _labels(self, u: np.ndarray) -> np.ndarray:
        """Classes (scene, slot): different ones, or the first slot's twice, in the second slot too."""
        if not self.settings.two_of_a_class:
            return distinct(u, len(self.classes))
        label = distinct(u[:, 1:], len(self.classes))
        return np.concatenate([label[:, :1], label], 1)

    def _clips(self, label: np.ndarray, u: np.ndarray, first: int) -> np.ndarray:
        """Clips (scene, slot) of the classes in `label`. One whose recording is in the scene already is drawn again.

        Where a class has no other recording to offer, the slot is left silent: its label becomes -1.
        """
        clip = self._draw(label, u)
        recording = self.recordings.recording
        for scene in range(len(clip) if self.n_slots > 1 else 0):
            row = clip[scene]
            for slot in range(1, self.n_slots):
                if label[scene, slot] < 0 or not (recording[row[:slot]] == recording[row[slot]]).any():
                    continue
                again = self._random([0, 1, slot + 1, first + scene]).random((MAX_TRIES, 2))
                others = self._draw(np.full(MAX_TRIES, label[scene, slot]), again)
                new = others[~np.isin(recording[others], recording[row[:slot]])]
                if len(new):
                    row[slot] = new[0]
                else:
                    label[scene, slot] = -1
        return clip

    def _draw(self, label: np.ndarray, u: np.ndarray) -> np.ndarray:
        """A clip of each class (...): any of its recordings, then any clip of that; `u` in [0, 1) is (..., 2)."""
        of_class = (np.maximum(label, 0) + 0.5) / len(self.classes)  # every class has clips, so that none is skipped
        return self.recordings.draw(np.concatenate([of_class[..., None], u], -1))

    def _cut(self, u: np.ndarray) -> np.ndarray:
        """How many samples a sound lasts at most."""
        low, high = self.settings.cut_s
        samples = np.rint((low + u * (high - low)) * self.sample_rate_hz).astype(np.int64)
        return samples.clip(1, self.crops.n_samples)
