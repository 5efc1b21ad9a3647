"""The values that travel between corpora, mixing, methods and the judge. All frozen; shapes in trailing comments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Mixture:
    """All that a method may see at test time."""

    audio: Tensor  # (channel, time), full scale = 1
    sample_rate_hz: int
    id: str


@dataclass(frozen=True)
class Source:
    """One class, or one event, of a scene as it sounds alone."""

    audio: Tensor  # (time,), full scale = 1
    label: str
    intervals_s: tuple[tuple[float, float], ...]  # (on, off) of each event, seconds from the start of the scene


@dataclass(frozen=True)
class Scene:
    """A mixture with its truth. `sum(sources) + sum(rest) == mixture`, its first channel; two sources may share a label.

    In a room, a source is its early part there, and `rest` holds each interfering event (with its class as its label), the
    "late reverberation" of all sources together, and the "noise", all at the first channel. The one exception is a mixture
    that was clipped on purpose (task.mixing.limit: clip).
    """

    mixture: Mixture
    sources: tuple[Source, ...]
    rest: tuple[Source, ...] = ()  # noise and interference that nobody asks for


@dataclass(frozen=True)
class Activity:
    """When each class sounds, as probabilities on a grid: frame k spans start_s + [k, k + 1) * hop_s."""

    probability: Tensor  # (class, frame), 0 to 1, classes in the order of TaskInfo.classes
    hop_s: float
    start_s: float


@dataclass(frozen=True)
class Estimate:
    """A method's answer to one mixture. What a method does not know is None, never a made-up value."""

    sources: Tensor | None  # (source, time); None where a method names what sounds and separates nothing
    labels: tuple[str, ...] | None = None  # one per source; None for blind separators
    confidences: Tensor | None = None  # (source,), 0 to 1
    activity: Activity | None = None
    trace: dict[str, Any] | None = None  # what it shows of its inside, such as masks (see sepbench.report); never scored
    decisions: tuple[dict[str, Any], ...] | None = None  # what was decided on the way, as plain JSON; kept, never scored


@dataclass(frozen=True)
class TaskInfo:
    """What a method is built from, beside its own settings."""

    classes: tuple[str, ...]
    sample_rate_hz: int
    n_channels: int
    max_sources: int  # in a scene; an answer has no more
    seconds: float
    min_sources: int = 0  # in a scene; equal to max_sources where every scene has as many
    classes_repeat: bool = False  # whether two sources of a scene may be of one class
    any_order: bool = False  # whether sources are given in any order even where there may be as many as classes

    @property
    def one_per_class(self) -> bool:
        """Whether a scene may hold a source of every class, so that an answer has a place for each."""
        return self.max_sources == len(self.classes) and not self.classes_repeat and not self.any_order


@dataclass(frozen=True)
class Row:
    """One figure: what the judge writes, and all that anything after it reads."""

    run: str
    split: str  # "test", or "seen": new scenes of the training recordings
    scene: str
    source: int  # index in Scene.sources; -1 where the figure belongs to the scene or to a class as a whole
    label: str  # class; "" where the figure belongs to no class
    metric: str
    value: float
    weight: float = 1.0
