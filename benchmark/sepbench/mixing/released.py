"""Scenes that somebody else has mixed and released: read, put into an order, and summed where the mixture is a sum."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from sepbench.corpora.dcase_s5 import N_CHANNELS, Soundscape
from sepbench.corpora.fuss import Example
from sepbench.errors import UserError
from sepbench.labels import Events
from sepbench.method import Batch
from sepbench.scene import Mixture, Scene, Source

REST = "interference, late reverberation and noise"  # which a release does not tell apart


def shuffled(identity: str, n: int) -> np.ndarray:
    """0 ... n - 1 in an order that `identity` alone decides: int64 (n,)."""
    key = np.frombuffer(hashlib.blake2b(identity.encode(), digest_size=16).digest(), np.uint64)
    numbers = np.random.Generator(np.random.Philox(key=key)).random(n)  # only `random` is used: its stream is stable
    return np.argsort(numbers, kind="stable")


def in_order(there: Sequence[int], config: Mapping[str, Any], split: str, where: str, identity: str) -> tuple[int, ...]:
    """So many of `there` as task.scenes says for `split` (null: all), in an order that `identity` alone decides.

    UserError where there are not so many; `where` says what they are in.
    """
    wanted = config["scenes"][split]
    if wanted is not None and (type(wanted) is not int or not 0 <= wanted <= len(there)):
        said = f"wanted a whole number up to {len(there)}: its {where} has no more"
        raise UserError(f"task.scenes.{split} is {wanted}; {said}.")
    return tuple(there[i] for i in shuffled(identity, len(there))[:wanted].tolist())


_order_of_pass = lru_cache(maxsize=4)(shuffled)  # a batch may lie across two passes


@dataclass(frozen=True)
class ReleasedScenes:
    """Batches and single scenes. A scene is the float32 sum of its sources, whatever file there is of the mixture."""

    examples: Sequence[Example]
    prefix: str  # of a scene's name, which is the example's behind it
    identity: str  # the same for the same examples in the same order
    n_slots: int  # sources in a batch; those that a scene lacks are silent
    sample_rate_hz: int
    read: Callable[[str], np.ndarray]  # path -> (time,)
    seed: int | None  # None: batches follow the examples and start over; else each pass has an order of its own

    @property
    def id(self) -> str:
        """The same for the same scenes in the same order; no others have it."""
        return f"{self.identity}-{len(self.examples)}-{self.seed}"

    def batch(self, index: int, size: int) -> Batch:
        """Batch `index` of `size` scenes, without labels or events: a pure function of both."""
        first, n = index * size, len(self.examples)
        places = [self._place(first + i, n) for i in range(size)]
        sources = [[self.read(file) for file in self.examples[place].sources] for place in places]
        filled = np.zeros((size, self.n_slots, len(sources[0][0])), np.float32)  # (scene, source, time)
        for scene, own in enumerate(sources):
            filled[scene, : len(own)] = own
        none = np.zeros(0)
        events = Events(none.astype(np.int64), none.astype(np.int64), none, none, n_scenes=size, n_classes=0)
        labels = np.full((size, self.n_slots), -1)
        return Batch(torch.from_numpy(filled.sum(1)), events, torch.from_numpy(filled), labels)

    def _place(self, position: int, n: int) -> int:
        if self.seed is None:
            return position % n
        return int(_order_of_pass(f"{self.id}|{position // n}", n)[position % n])

    def scene_id(self, index: int) -> str:
        return f"{self.prefix}-{self.examples[index].name.replace('/', '-')}"

    def scene(self, index: int) -> Scene:
        """Example `index`; a file that is silent is no source of it."""
        sounds = [self.read(file) for file in self.examples[index].sources]
        sources = tuple(self._source(audio) for audio in sounds if audio.any())
        mixture = torch.from_numpy(np.sum(sounds, axis=0, keepdims=True))  # (channel, time)
        return Scene(Mixture(mixture, self.sample_rate_hz, self.scene_id(index)), sources)

    def _source(self, audio: np.ndarray) -> Source:
        """Without a label."""
        return Source(torch.from_numpy(audio), "", _sounding_s(audio, self.sample_rate_hz))


def _sounding_s(audio: np.ndarray, sample_rate_hz: int) -> tuple[tuple[float, float], ...]:
    """From its first sample that is not 0 to its last."""
    sounding = np.flatnonzero(audio)
    return ((float(sounding[0] / sample_rate_hz), float((sounding[-1] + 1) / sample_rate_hz)),)


@dataclass(frozen=True)
class ReleasedSoundscapes:
    """Batches and single scenes of soundscapes with several channels and labelled targets, of which they are no sum.

    Batches follow the soundscapes and start over.
    """

    soundscapes: Sequence[Soundscape]
    classes: Sequence[str]
    identity: str  # the same for the same soundscapes in the same order
    n_slots: int  # sources in a batch; those that a scene lacks are silent
    sample_rate_hz: int
    read: Callable[[str, int], np.ndarray]  # path, channels -> (channel, time)

    @property
    def id(self) -> str:
        """The same for the same scenes in the same order; no others have it."""
        return f"{self.identity}-{len(self.soundscapes)}"

    def batch(self, index: int, size: int) -> Batch:
        """Batch `index` of `size` scenes: a pure function of both."""
        scenes = [self.scene((index * size + i) % len(self.soundscapes)) for i in range(size)]
        mixture = torch.stack([scene.mixture.audio for scene in scenes])  # (scene, channel, time)
        sources = mixture.new_zeros(size, self.n_slots, mixture.shape[-1])
        labels = np.full((size, self.n_slots), -1)
        heard = [(i, k, source) for i, scene in enumerate(scenes) for k, source in enumerate(scene.sources)]
        for i, k, source in heard:
            sources[i, k], labels[i, k] = source.audio, self.classes.index(source.label)
        events = Events(
            np.array([i for i, _, _ in heard], np.int64), np.array([labels[i, k] for i, k, _ in heard], np.int64),
            np.array([each.intervals_s[0][0] for *_, each in heard]), np.array([each.intervals_s[0][1] for *_, each in heard]),
            size, len(self.classes),
        )  # fmt: skip
        return Batch(mixture, events, sources, labels)

    def scene_id(self, index: int) -> str:
        """The soundscape's own name, so that whoever scores its files by themselves has the same scenes."""
        return self.soundscapes[index].name

    def scene(self, index: int) -> Scene:
        """Soundscape `index`; a target that is silent is no source of it. What is left at the first channel is its rest."""
        own = self.soundscapes[index]
        mixture = torch.from_numpy(self.read(own.path, N_CHANNELS))  # (channel, time)
        sounds = [(self.read(target.path, 1)[0], target.label) for target in own.targets]
        sources = tuple(
            Source(torch.from_numpy(audio), label, _sounding_s(audio, self.sample_rate_hz))
            for audio, label in sounds if audio.any()
        )  # fmt: skip
        left = mixture[0] - torch.stack([source.audio for source in sources]).sum(0) if sources else mixture[0].clone()
        return Scene(Mixture(mixture, self.sample_rate_hz, own.name), sources, (Source(left, REST, ()),))
