"""Scenes that somebody else has mixed and released, source by source: read, summed, and put into an order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from sepbench.corpora.fuss import Example
from sepbench.labels import Events
from sepbench.method import Batch
from sepbench.scene import Mixture, Scene, Source


def shuffled(identity: str, n: int) -> np.ndarray:
    """0 ... n - 1 in an order that `identity` alone decides: int64 (n,)."""
    key = np.frombuffer(hashlib.blake2b(identity.encode(), digest_size=16).digest(), np.uint64)
    numbers = np.random.Generator(np.random.Philox(key=key)).random(n)  # only `random` is used: its stream is stable
    return np.argsort(numbers, kind="stable")


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
        """Without a label. It sounds from its first sample that is not 0 to its last."""
        sounding = np.flatnonzero(audio)
        on_s, off_s = sounding[0] / self.sample_rate_hz, (sounding[-1] + 1) / self.sample_rate_hz
        return Source(torch.from_numpy(audio), "", ((float(on_s), float(off_s)),))
