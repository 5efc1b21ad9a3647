"""What the tagger learns from: mixtures, single sounds and silence, for it must judge mixtures and what is separated of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sepbench.labels import Events
from sepbench.method import Batch, Clips, Scenes, WeakBatch

SILENT_DB = (
    -60.0
)  # what is left of the sound that is taught as none; the strategy's own line is 40 dB below the mixture


@dataclass(frozen=True)
class Lessons:
    """Batches of one channel, each with the classes that sound in it: WeakBatch, mixture (item, time).

    The first half are mixtures at their reference channel. The other half are single sounds, the last of which is turned down by
    SILENT_DB and is of no class. Where the task has no single clips, they are the first sources of the same mixtures.
    """

    scenes: Scenes
    clips: Clips | None

    def batch(self, index: int, size: int) -> WeakBatch:
        """Batch `index` of `size` items or fewer, where there are not so many scenes: a pure function of both."""
        n_single = size // 2
        mixed = self.scenes.batch(index, size - n_single)
        parts = [(mixed.reference, mixed.events)]
        if n_single:
            parts.append(_last_one_silent(*firsts(self.clips.batch(index, n_single) if self.clips else mixed)))
        events = joined([each for _, each in parts])
        return WeakBatch(torch.cat([audio for audio, _ in parts]), events)


def firsts(batch: Batch) -> tuple[Tensor, Events]:
    """The first source of each scene as it sounds alone, (scene, time), and what it is."""
    labels = batch.labels[:, 0]
    heard = np.flatnonzero(labels >= 0)
    zeros = np.zeros(len(heard))
    return batch.sources[:, 0], Events(heard, labels[heard], zeros, zeros, len(labels), batch.events.n_classes)


def _last_one_silent(audio: Tensor, events: Events) -> tuple[Tensor, Events]:
    audio = audio.clone()
    audio[-1] *= 10 ** (SILENT_DB / 20)
    stays = events.scene < len(audio) - 1
    rest = [values[stays] for values in (events.scene, events.label, events.on_s, events.off_s)]
    return audio, Events(*rest, n_scenes=events.n_scenes, n_classes=events.n_classes)


def joined(parts: Sequence[Events]) -> Events:
    """The events of one batch after another."""
    first = np.cumsum([0, *(each.n_scenes for each in parts)])
    scene = np.concatenate([each.scene + start for each, start in zip(parts, first)])
    rest = [np.concatenate([getattr(each, name) for each in parts]) for name in ("label", "on_s", "off_s")]
    return Events(scene, *rest, n_scenes=int(first[-1]), n_classes=parts[0].n_classes)
