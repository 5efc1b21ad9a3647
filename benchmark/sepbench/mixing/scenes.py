"""Scenes of any mixer, as methods and the judge are handed them: in batches or one by one, with their sources or without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from sepbench.labels import Events
from sepbench.method import Batch, WeakBatch
from sepbench.scene import Mixture, Scene, Source

Heard = tuple[int, int, tuple[tuple[float, float], ...]]  # slot, class, (on, off) of each event in seconds


class Plan(Protocol):
    """What sounds when in some scenes, before anything is mixed."""

    @property
    def labels(self) -> np.ndarray:
        """(scene, slot), index of the class; -1 where there is silence."""
        ...

    def events(self) -> Events: ...

    def heard(self) -> list[Heard]:
        """The sources of the first scene."""
        ...


P = TypeVar("P", bound=Plan)


class Planner(Protocol[P]):
    """A mixer: what a scene holds is a pure function of its index."""

    @property
    def id(self) -> str:
        """The same for the same scenes; short, for their names."""
        ...

    @property
    def key(self) -> np.ndarray:
        """The same, long enough that no two planners share it: (2,), uint64."""
        ...

    @property
    def classes(self) -> Sequence[str]: ...

    @property
    def sample_rate_hz(self) -> int: ...

    @property
    def seconds(self) -> float: ...

    @property
    def shape(self) -> tuple[int, int]:
        """(slot, time) of a scene's sources."""
        ...

    def plan(self, first: int, size: int) -> P:
        """Scenes first ... first + size - 1."""
        ...

    def render(self, plan: P, sources: np.ndarray | None) -> np.ndarray:
        """Mixtures (scene, time), or (scene, channel, time) of several channels.

        `sources` (scene, slot, time) are filled too where there are any, with the same roundings.
        """
        ...


class WholeScenes(Protocol):
    """Scenes with their sources, mixed or ready-made."""

    def batch(self, index: int, size: int) -> Batch: ...

    def scene_id(self, index: int) -> str: ...

    def scene(self, index: int) -> Scene: ...


class WeakScenes:
    """Batches of mixtures with their labels: what it hands out has no place for a source."""

    def __init__(self, planner: Planner[Any], labels_seen: str):
        self._planner, self._labels_seen = planner, labels_seen

    def batch(self, index: int, size: int) -> WeakBatch:
        """Batch `index` of `size` scenes: a pure function of both. With labels_seen clip, its events have no times."""
        plan = self._planner.plan(index * size, size)
        events = plan.events()
        if self._labels_seen == "clip":
            events = events.whole_clip(self._planner.seconds)
        return WeakBatch(torch.from_numpy(self._planner.render(plan, None)), events)

    def share(self, index: int, size: int, rank: int, n: int) -> WeakBatch:
        """Of the scenes of that batch, the `rank`-th of `n` equal parts; the others are not mixed."""
        return self.batch(index * n + rank, size // n)

    def scene_id(self, index: int) -> str:
        """The name of scene `index`."""
        return f"{self._planner.id}-{index:06d}"


class IsolatedScenes:
    """Batches with sources, one to a slot, and single scenes with their whole truth."""

    def __init__(self, planner: Planner[Any]):
        self.planner = planner

    @property
    def id(self) -> str:
        """The same for the same scenes, drawn from the same sounds by the same rules; no others have it."""
        return self.planner.key.tobytes().hex()

    def batch(self, index: int, size: int) -> Batch:
        """Batch `index` of `size` scenes: a pure function of both."""
        plan, mixture, sources = self._sound(index * size, size)
        return Batch(torch.from_numpy(mixture), plan.events(), torch.from_numpy(sources), plan.labels)

    def share(self, index: int, size: int, rank: int, n: int) -> Batch:
        """Of the scenes of that batch, the `rank`-th of `n` equal parts; the others are not mixed."""
        return self.batch(index * n + rank, size // n)

    def scene_id(self, index: int) -> str:
        """The name of scene `index`, known without mixing it."""
        return f"{self.planner.id}-{index:06d}"

    def scene(self, index: int) -> Scene:
        """Scene `index`; a slot that is silent is no source of it."""
        plan, mixture, sources = self._sound(index, 1)
        found = tuple(
            Source(torch.from_numpy(sources[0, slot]), self.planner.classes[label], intervals_s)
            for slot, label, intervals_s in plan.heard()
        )
        rest = tuple(Source(torch.from_numpy(audio), name, intervals_s) for name, audio, intervals_s in self._rest(plan))
        audio = torch.from_numpy(mixture.reshape(-1, mixture.shape[-1]))  # (channel, time) of the one scene
        return Scene(Mixture(audio, self.planner.sample_rate_hz, self.scene_id(index)), found, rest)

    def _rest(self, plan: Any) -> list[tuple[str, np.ndarray, tuple[tuple[float, float], ...]]]:
        """What the first scene holds beside its sources; only mixers that have a `rest` put anything there."""
        return self.planner.rest(plan) if hasattr(self.planner, "rest") else []

    def _sound(self, first: int, size: int) -> tuple[Any, np.ndarray, np.ndarray]:
        plan = self.planner.plan(first, size)
        sources = np.empty((size, *self.planner.shape), np.float32)
        return plan, self.planner.render(plan, sources), sources
