"""Soundscapes with a Poisson number of events (Pishdadian et al. 2020, section III-A; choices the paper leaves open: README)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sepbench.corpora.base import Clip
from sepbench.corpora.cache import ClipCache
from sepbench.errors import UserError
from sepbench.labels import Events
from sepbench.mixing.levels import gains
from sepbench.mixing.members import Members, identity
from sepbench.mixing.scenes import Heard

MAX_REDRAWS = 100


@dataclass(frozen=True)
class PoissonSettings:
    """What a soundscape is made of; the values live in the task's YAML."""

    rate: float  # lambda: the mean number of events before the zero is cut off
    seconds: float
    cut_s: tuple[float, float]  # an event lasts min(clip, U(*cut_s))
    level_lufs: tuple[float, float]

    def __post_init__(self) -> None:
        for name, pair in (("cut_s", self.cut_s), ("level_lufs", self.level_lufs)):
            if len(pair) != 2 or pair[0] > pair[1] or not all(map(math.isfinite, pair)):
                raise UserError(f"task.mixing.{name} is {list(pair)}; wanted two numbers, the lower one first.")
        if self.cut_s[0] <= 0 or self.seconds <= 0:
            raise UserError(
                f"task.mixing.cut_s is {list(self.cut_s)}, task.seconds {self.seconds}; wanted times above 0."
            )
        if not self.rate > 0 or not math.isfinite(self.rate):
            raise UserError(
                f"lambda is {self.rate}; wanted a finite number above 0, the mean number of events in a scene."
            )


@dataclass(frozen=True)
class PoissonPlan:
    """Which cut of which clip sounds when, one entry per event, ordered by scene."""

    scene: np.ndarray  # (event,), index in the batch
    label: np.ndarray  # (event,), index in classes
    clip: np.ndarray  # (event,), index in the clips
    cut_ms: np.ndarray  # (event,), where the cut starts in its clip
    length_ms: np.ndarray  # (event,)
    onset_ms: np.ndarray  # (event,), where it starts in the scene
    level_lufs: np.ndarray  # (event,), the level drawn for the cut
    gain: np.ndarray  # (event,), amplitude factor that brings the cut to that level; 1 where there is no audio
    n_scenes: int
    n_classes: int

    @property
    def labels(self) -> np.ndarray:
        """(scene, class): the class where it sounds, else -1."""
        return np.where(self.events().presence() > 0, np.arange(self.n_classes), -1)

    def events(self) -> Events:
        on_s = self.onset_ms / 1000
        return Events(self.scene, self.label, on_s, on_s + self.length_ms / 1000, self.n_scenes, self.n_classes)

    def heard(self) -> list[Heard]:
        """The classes of the first scene, each in the slot of its own number, with all their events."""
        found: list[Heard] = []
        for label in np.unique(self.label[self.scene == 0]).tolist():
            own = np.flatnonzero((self.scene == 0) & (self.label == label))
            on_s, off_s = self.onset_ms[own] / 1000, (self.onset_ms[own] + self.length_ms[own]) / 1000
            found.append((label, label, tuple(sorted(zip(on_s.tolist(), off_s.tolist())))))
        return found


class PoissonPlanner:
    """Draws plans. Needs no audio: durations are enough, and then no event is redrawn for being silent.

    A slot belongs to a class, so that the events of a class are one source.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        members: Sequence[int],
        classes: Sequence[str],
        settings: PoissonSettings,
        content: str,
        split: str,
        seed: int,
        cache: ClipCache | None = None,
    ):
        self.settings, self.classes, self.cache = settings, tuple(classes), cache
        self.seconds = settings.seconds
        self.scene_ms = round(settings.seconds * 1000)
        self.members = Members(clips, members, self.classes, split)
        self.clips = clips
        if cache is None:
            self.clip_ms = np.array([max(round(clip.seconds * 1000), 1) for clip in clips])
        else:
            self.sample_rate_hz = cache.sample_rate_hz
            self.clip_ms = np.asarray(cache.length) // (cache.sample_rate_hz // 1000)
        drawn_from = [clips[i].key for i in members]
        self.key, self.id = identity("poisson-1", content, drawn_from, split, seed, self.classes, settings)
        self.counts = _truncated_poisson(settings.rate)

    def plan(self, first: int, size: int) -> PoissonPlan:
        """Scenes first ... first + size - 1."""
        uniforms = [self._uniforms(index) for index in range(first, first + size)]
        scene = np.repeat(np.arange(size), [len(u) for u in uniforms])
        event = np.concatenate([np.arange(len(u)) for u in uniforms])
        drawn = self._place(np.concatenate(uniforms))
        for attempt in range(1, MAX_REDRAWS + 1):
            bad = np.flatnonzero(~np.isfinite(drawn["gain"]))
            if not len(bad):
                break
            again = [self._random(first + scene[i], attempt, event[i] + 1).random(5) for i in bad]
            labels = drawn["label"][bad]
            for name, values in self._place(np.stack(again), labels).items():
                drawn[name][bad] = values
        else:
            clip = self.clips[drawn["clip"][bad[0]]]
            raise UserError(
                f"Clip '{clip.key}' of class '{clip.label}' is silent wherever it is cut. Leave it out of the corpus."
            )
        return PoissonPlan(scene=scene, n_scenes=size, n_classes=len(self.classes), **drawn)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.classes), self.scene_ms * (self.sample_rate_hz // 1000)

    def render(self, plan: PoissonPlan, sources: np.ndarray | None) -> np.ndarray:
        """Mixtures (scene, time); `sources` (scene, class, time), if given, is filled too, with the same roundings."""
        cache = self.cache
        if cache is None:
            raise ValueError("a planner without a cache can plan, not sound")
        per_ms = cache.sample_rate_hz // 1000
        mixture = np.zeros((plan.n_scenes, self.shape[1]), np.float32)
        if sources is not None:
            sources[:] = 0
        factor = (plan.gain * cache.scale[plan.clip]).astype(np.float32)
        first = np.asarray(cache.offset)[plan.clip] + plan.cut_ms * per_ms
        length, onset = plan.length_ms * per_ms, plan.onset_ms * per_ms
        spare = np.empty(mixture.shape[1], np.float32)
        for i, (a, n, to) in enumerate(zip(first.tolist(), length.tolist(), onset.tolist())):
            sound = np.multiply(cache.samples[a : a + n], factor[i], out=spare[:n], dtype=np.float32)
            scene = plan.scene[i]
            mixture[scene, to : to + n] += sound
            if sources is not None:
                sources[scene, plan.label[i], to : to + n] += sound
        return mixture

    def _random(self, index: int, attempt: int = 0, event: int = 0) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=self.key, counter=[0, attempt, event, index]))

    def _uniforms(self, index: int) -> np.ndarray:
        """(event, 6) numbers in [0, 1), the last one for the class. Only `random` is used: its stream is stable."""
        random = self._random(index)
        n_events = 1 + int(np.searchsorted(self.counts, random.random(), side="right"))
        return random.random((n_events, 6))

    def _place(self, u: np.ndarray, label: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Numbers in [0, 1) to events. An event that cannot be brought to its level has a non-finite gain."""
        if label is None:
            label = (u[:, 5] * len(self.classes)).astype(np.int64)
        clip = self.members.draw(label, u[:, 0])
        shortest, longest = (1000 * seconds for seconds in self.settings.cut_s)
        wanted = np.rint(shortest + u[:, 1] * (longest - shortest)).astype(np.int64)
        length = np.minimum(np.minimum(self.clip_ms[clip], wanted), self.scene_ms)
        cut = (u[:, 2] * (self.clip_ms[clip] - length + 1)).astype(np.int64)
        onset = (u[:, 3] * (self.scene_ms - length + 1)).astype(np.int64)
        low, high = self.settings.level_lufs
        level = low + u[:, 4] * (high - low)
        gain = np.ones(len(u)) if self.cache is None else gains(self.cache, clip, cut, length, level)
        return {
            "label": label,
            "clip": clip,
            "cut_ms": cut,
            "length_ms": length,
            "onset_ms": onset,
            "level_lufs": level,
            "gain": gain,
        }


def _truncated_poisson(rate: float) -> np.ndarray:
    """Cumulative probabilities of 1, 2, ... events of a Poisson variable that is known not to be 0."""
    n = np.arange(1, max(32, int(rate + 20 * math.sqrt(rate) + 20)))
    log = n * math.log(rate) - rate - np.cumsum(np.log(n)) - math.log(-math.expm1(-rate))
    return np.minimum(np.cumsum(np.exp(log)), 1)[:-1]
