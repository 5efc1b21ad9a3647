"""What is gained by knowing when each class sounds and nothing of how: the mixture, gated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sepbench.blocks.stft import Stft
from sepbench.devices import device
from sepbench.errors import UserError
from sepbench.labels import Events
from sepbench.method import Method
from sepbench.scene import Activity, Estimate, Mixture, Scene, TaskInfo


def shares(probability: Tensor) -> Tensor:
    """Masks (source, frame) from probabilities of activity (source, frame): p_i / max(1, sum_j p_j).

    Where n sources are sure to sound, each is given 1 / n of the mixture; where none does, all are silent; and the
    masks of a frame never sum to more than one.
    """
    return probability / probability.sum(0).clamp(min=1)


class ActivityGate:
    """One gain per source and frame. Driven by the truth it is an oracle; driven by a critic it sees mixtures alone."""

    def __init__(self, settings: Any, task: TaskInfo, inner: Method | None = None):
        self.task, self.inner, self.device = task, inner, device()
        oracle = settings.params.driver == "oracle"
        if not oracle and inner is None:
            raise UserError("driver critic: no critic given. Add --inner RUN, a finished run of recipes/weak_label.")
        if oracle and inner is not None:
            raise UserError("driver oracle: the truth drives the gate. Leave --inner away, or choose driver critic.")
        self.stft = Stft(settings.params.window_ms, task.sample_rate_hz).to(self.device)

    def fit(self, training: Any) -> None:
        """There is nothing to learn: the critic comes trained."""

    @torch.inference_mode()
    def separate(self, given: Sequence[Any]) -> list[Estimate]:
        """One source per class, or, where a scene has no room for all, per source that there is or is heard.

        `given` are scenes where the truth drives the gate, mixtures where the critic does.
        """
        if self.inner is None:
            return [self._told(scene) for scene in given]
        return [self._heard(mixture, estimate) for mixture, estimate in zip(given, self.inner.separate(given))]

    def _told(self, scene: Scene) -> Estimate:
        names = self.task.classes if self.task.one_per_class else tuple(each.label for each in scene.sources)
        return Estimate(self._gated(scene.mixture, self._truth(scene)), names)

    def _truth(self, scene: Scene) -> Activity:
        """1 where an event overlaps the frame's centre +- hop / 2: a row per class, or per source of the scene."""
        classes, hop_s = self.task.classes, self.stft.hop_s
        by_class = self.task.one_per_class
        rows = [classes.index(each.label) if by_class else i for i, each in enumerate(scene.sources)]
        times = [(row, on, off) for row, each in zip(rows, scene.sources) for on, off in each.intervals_s]
        row, on_s, off_s = np.array(times, np.float64).reshape(-1, 3).T
        n_rows = len(classes) if by_class else len(rows)
        events = Events(np.zeros(len(times), np.int64), row.astype(np.int64), on_s, off_s, 1, n_rows)
        active = events.activity(self.stft.n_frames(scene.mixture.audio.shape[-1]), hop_s, -hop_s / 2)
        return Activity(torch.from_numpy(active[0]), hop_s, -hop_s / 2)

    def _heard(self, mixture: Mixture, estimate: Estimate) -> Estimate:
        activity, classes = estimate.activity, self.task.classes
        if activity is None or estimate.labels is None:
            raise UserError("--inner: that run has no critic (labels strong). Give one with labels frame or clip.")
        own = Activity(activity.probability[[classes.index(name) for name in estimate.labels]], activity.hop_s, activity.start_s)
        return Estimate(self._gated(mixture, own), estimate.labels, estimate.confidences, activity)

    def _gated(self, mixture: Mixture, activity: Activity) -> Tensor:
        """(source, time) for `activity` (source, frame): each STFT frame of the mixture times the masks at the frame's centre."""
        spectrum = self.stft(mixture.audio[:1].to(self.device))  # (1, frame, bin)
        centre_s = torch.arange(spectrum.shape[1], dtype=torch.float64) * self.stft.hop_s
        frame = ((centre_s - activity.start_s) / activity.hop_s).floor().long()
        frame = frame.clamp(0, activity.probability.shape[1] - 1)  # a critic may drop what does not fill a frame
        masks = shares(activity.probability.cpu())[:, frame].to(self.device)  # (source, frame)
        return self.stft.inverse(spectrum * masks[:, :, None], mixture.audio.shape[-1]).cpu()

    def save(self, folder: Path) -> None:
        """The critic stays with its own run; an empty folder says that nothing is missing."""
        folder.mkdir(parents=True, exist_ok=True)

    def load(self, folder: Path) -> None:
        """There are no weights of its own."""
