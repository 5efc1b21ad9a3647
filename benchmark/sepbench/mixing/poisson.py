"""Soundscapes with a Poisson number of events (Pishdadian et al. 2020, section III-A; choices the paper leaves open: README)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sepbench.corpora.base import Clip
from sepbench.corpora.cache import ClipCache
from sepbench.errors import UserError
from sepbench.labels import Events
from sepbench.method import Batch, WeakBatch
from sepbench.mixing.levels import gains
from sepbench.mixing.members import Members
from sepbench.scene import Mixture, Scene, Source

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
class Plan:
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

    def events(self) -> Events:
        on_s = self.onset_ms / 1000
        return Events(self.scene, self.label, on_s, on_s + self.length_ms / 1000, self.n_scenes, self.n_classes)


class PoissonPlanner:
    """Draws plans. Needs no audio: durations are enough, and then no event is redrawn for being silent."""

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
        self.scene_ms = round(settings.seconds * 1000)
        self.members = Members(clips, members, self.classes, split)
        self.clips = clips
        if cache is None:
            self.clip_ms = np.array([max(round(clip.seconds * 1000), 1) for clip in clips])
        else:
            self.samples_per_ms = cache.sample_rate_hz // 1000
            self.clip_ms = np.asarray(cache.length) // self.samples_per_ms
        drawn_from = "|".join(sorted(clips[i].key for i in members))
        identity = f"poisson-1|{content}|{drawn_from}|{split}|{seed}|{','.join(self.classes)}|{settings}"
        self.key = np.frombuffer(hashlib.blake2b(identity.encode(), digest_size=16).digest(), np.uint64)
        self.id = hashlib.blake2b(identity.encode(), digest_size=4).hexdigest()
        self.counts = _truncated_poisson(settings.rate)

    def plan(self, first: int, size: int) -> Plan:
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
        return Plan(scene=scene, n_scenes=size, n_classes=len(self.classes), **drawn)

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


class WeakPoissonScenes:
    """Batches of mixtures with their labels: what it hands out has no place for a source."""

    def __init__(self, planner: PoissonPlanner, labels_seen: str):
        if planner.cache is None:
            raise ValueError("a planner without a cache can plan, not sound")
        self._planner, self._labels_seen = planner, labels_seen

    def batch(self, index: int, size: int) -> WeakBatch:
        """Batch `index` of `size` scenes: a pure function of both."""
        plan = self._planner.plan(index * size, size)
        mixture = _render(plan, self._planner, None)
        events = plan.events()
        if self._labels_seen == "clip":
            events = events.whole_clip(self._planner.settings.seconds)
        return WeakBatch(torch.from_numpy(mixture), events)


class PoissonScenes:
    """Batches with sources, and single scenes with their whole truth."""

    def __init__(self, planner: PoissonPlanner):
        if planner.cache is None:
            raise ValueError("a planner without a cache can plan, not sound")
        self.planner = planner

    def batch(self, index: int, size: int) -> Batch:
        plan, mixture, sources = self._sound(index * size, size)
        events = plan.events()
        labels = np.where(events.presence() > 0, np.arange(events.n_classes), -1)
        return Batch(torch.from_numpy(mixture), events, torch.from_numpy(sources), labels)

    def scene_id(self, index: int) -> str:
        """The name of scene `index`, known without mixing it."""
        return f"{self.planner.id}-{index:06d}"

    def scene(self, index: int) -> Scene:
        plan, mixture, sources = self._sound(index, 1)
        rate = self.planner.samples_per_ms * 1000
        found = []
        for label, name in enumerate(self.planner.classes):
            own = np.flatnonzero(plan.label == label)
            if len(own):
                on_s, off_s = plan.onset_ms[own] / 1000, (plan.onset_ms[own] + plan.length_ms[own]) / 1000
                intervals = tuple(sorted(zip(on_s.tolist(), off_s.tolist())))
                found.append(Source(torch.from_numpy(sources[0, label]), name, intervals))
        audio = torch.from_numpy(mixture)  # (channel, time), as a batch of one scene is a scene of one channel
        return Scene(Mixture(audio, rate, self.scene_id(index)), tuple(found))

    def _sound(self, first: int, size: int) -> tuple[Plan, np.ndarray, np.ndarray]:
        plan = self.planner.plan(first, size)
        sources = np.zeros(
            (size, len(self.planner.classes), self.planner.scene_ms * self.planner.samples_per_ms), np.float32
        )
        return plan, _render(plan, self.planner, sources), sources


def _render(plan: Plan, planner: PoissonPlanner, sources: np.ndarray | None) -> np.ndarray:
    """Mixtures (scene, time); `sources` (scene, class, time), if given, is filled too, with the same roundings."""
    cache, per_ms = planner.cache, planner.samples_per_ms
    assert cache is not None
    mixture = np.zeros((plan.n_scenes, planner.scene_ms * per_ms), np.float32)
    factor = (plan.gain * cache.scale[plan.clip]).astype(np.float32)
    first = np.asarray(cache.offset)[plan.clip] + plan.cut_ms * per_ms
    length, onset = plan.length_ms * per_ms, plan.onset_ms * per_ms
    spare = np.empty(mixture.shape[1], np.float32)
    samples = cache.samples
    for i, (a, n, to) in enumerate(zip(first.tolist(), length.tolist(), onset.tolist())):
        sound = np.multiply(samples[a : a + n], factor[i], out=spare[:n], dtype=np.float32)
        scene = plan.scene[i]
        mixture[scene, to : to + n] += sound
        if sources is not None:
            sources[scene, plan.label[i], to : to + n] += sound
    return mixture


def _truncated_poisson(rate: float) -> np.ndarray:
    """Cumulative probabilities of 1, 2, ... events of a Poisson variable that is known not to be 0."""
    n = np.arange(1, max(32, int(rate + 20 * math.sqrt(rate) + 20)))
    log = n * math.log(rate) - rate - np.cumsum(np.log(n)) - math.log(-math.expm1(-rate))
    return np.minimum(np.cumsum(np.exp(log)), 1)[:-1]
