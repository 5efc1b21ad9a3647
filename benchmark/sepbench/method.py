"""Method: fit, separate, save, load. Four verbs, one Protocol; and what `fit` is handed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from sepbench.labels import Events
from sepbench.scene import Estimate, Mixture

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class WeakBatch:
    """Scenes as a weakly supervised method may see them: what was heard and what it was called, no source."""

    mixture: Tensor  # (scene, time); (scene, channel, time) where the task has several channels (TaskInfo.n_channels)
    events: Events

    @property
    def reference(self) -> Tensor:
        """The first channel, where separation is judged: (scene, time)."""
        return self.mixture if self.mixture.ndim == 2 else self.mixture[:, 0]


@dataclass(frozen=True)
class Batch(WeakBatch):
    """Scenes with their sources, for isolated supervision. A source that a scene lacks is silent.

    Where a task has an output per class (TaskInfo.one_per_class), source i is class i; else sources come in any order.
    """

    sources: Tensor  # (scene, source, time), as they sound at the reference channel
    labels: np.ndarray  # (scene, source), index of the class; -1 where there is silence


def batch_share(batch: Any, rank: int, n: int) -> Any:
    """Every `n`-th scene of a batch, from scene `rank` on, whatever its fields: what is no array along scenes stays whole."""
    n_scenes = len(batch.mixture)

    def cut(value: Any) -> Any:
        if isinstance(value, Events):
            return value.every(rank, n)
        if isinstance(value, (list, tuple)):
            return value[rank::n] if len(value) == n_scenes else value
        along = getattr(value, "shape", None)
        return value[rank::n] if along is not None and len(along) and along[0] == n_scenes else value

    return replace(batch, **{each.name: cut(getattr(batch, each.name)) for each in fields(batch)})


class WeakScenes(Protocol):
    """Scenes of one split. `batch(i)` is a pure function of i, so that training can go on where it stopped."""

    def batch(self, index: int, size: int) -> WeakBatch: ...


class Scenes(Protocol):
    def batch(self, index: int, size: int) -> Batch: ...


class Clips(Scenes, Protocol):
    """Labelled clips one by one: scenes of one source each, and of one channel: mixture is (scene, time)."""

    @property
    def id(self) -> str:
        """The same for the same clips, mixed and drawn in the same way; a name for what was learnt from them."""
        ...


@dataclass(frozen=True)
class Budget:
    """What a training may cost, the same for every method: scenes drawn to learn from, or wall-clock minutes; one of them.

    Each drawing counts, of a scene as of a single clip; what a network is validated on does not.
    """

    scenes: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        given = [each for each in (self.scenes, self.minutes) if each is not None]
        if len(given) != 1 or not given[0] > 0:
            raise ValueError(f"a budget of scenes={self.scenes}, minutes={self.minutes}; wanted one of them, above 0")


@dataclass(frozen=True)
class WeakTraining:
    """What `fit` may use where supervision is weak. None of its batches has a place for a source."""

    scenes: WeakScenes
    valid: WeakScenes
    folder: Path  # for checkpoints and the history; a second `fit` on the same folder goes on where the first stopped
    seed: int
    progress: Any
    budget: Budget | None = None  # None: as long as the profile says


@dataclass(frozen=True)
class Training:
    """What `fit` may use where supervision is isolated."""

    scenes: Scenes
    valid: Scenes
    folder: Path
    seed: int
    progress: Any
    clips: Clips | None = None  # those of the training scenes; None where the task has no labelled clips with a source each
    valid_clips: Clips | None = None  # never those of the test
    shared: Path | None = None  # outside the run, for what others may use again, named by all that it depends on
    budget: Budget | None = None  # None: as long as the profile says


@runtime_checkable
class Method(Protocol):
    """A contestant. Built as `Class(settings, task)`: settings.params, .train and .sizes come from recipe.yaml.

    A method that also computes outside torch (numpy, scikit-learn, threads of its own) may have an attribute
    `macs_per_s_outside_torch`: the multiply-accumulates per second of audio that it spends there, 0.0 where they are
    negligible. Without it, a method that hands sound to numpy has no figure for multiply-accumulates. An operation of
    its own is counted once it has a formula (torch.utils.flop_counter.register_flop_formula).
    """

    def fit(self, training: Any) -> dict[str, Any] | None:
        """Learn. Handed a WeakTraining or a Training, as recipe.yaml's `supervision` declares; may say what it cost."""

    def separate(self, mixtures: Sequence[Mixture]) -> list[Estimate]:
        """Answer each mixture; all in a call have the same length and rate. Oracles are handed Scenes instead."""

    def save(self, folder: Path) -> None:
        """Write weights (safetensors) and whatever `load` needs."""

    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""

