"""REDUX: tag the mixture, separate by the tags, and verify (Stergioulis and Potamianos 2025)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sepbench.blocks.weights import keep_all, recall_all
from sepbench.devices import device
from sepbench.method import Method, Training
from sepbench.scene import Estimate, Mixture, Scene, TaskInfo
from sepbench.training import Schedule, answering, check_sizes, precision_on, within

from .plan import check_options
from .rules import Rules
from .separating import SIZES, STAGES, teach_separator
from .separators import build_separator
from .strategy import Verdict, answer
from .taggers import STAGE, build_tagger, teach
from .wrapped import blind


class Redux:
    """A tagger, a separator that it tells what to look for, and the strategy between them. An oracle is told the true labels."""

    macs_per_s_outside_torch = 0.0  # the strategy takes a probability per class to lists, which multiply nothing

    def __init__(self, settings: Any, task: TaskInfo, inner: Method | None = None):
        self.settings, self.task, self.inner, self.device = settings, task, inner, device()
        params = settings.params
        check_options(settings, task, wraps=inner is not None)
        check_sizes(settings.sizes)
        stages = [*([] if params.oracle_labels else [STAGE]), *(STAGES if inner is None else ())]
        self.schedules = {name: Schedule.of(name, getattr(settings.train, name)) for name in stages}
        self.rules = Rules(
            task.classes, task.min_sources, task.max_sources, params.threshold, params.silence_threshold, params.silence_db,
            params.silence_probability, params.duplicates, params.max_rounds, params.residual, settings.sizes.window,
        )  # fmt: skip
        self.tagger = None if params.oracle_labels else build_tagger(params.tagger, task, settings.sizes, settings.seed)
        self.separator = self._separator() if inner is None else None
        for network in self._networks().values():
            network.to(self.device)

    def _separator(self) -> nn.Module:
        """Untaught; the same for the same seed."""
        params, sizes, task = self.settings.params, self.settings.sizes, self.task
        torch.manual_seed(self.settings.seed)
        shape = (len(task.classes), task.max_sources, task.n_channels)
        return build_separator(params.separator, *shape, sizes, params.blocks_per_level, sizes.spec_augment)

    # learning

    def fit(self, training: Training) -> dict[str, Any]:
        """The tagger, then the separator, each once for all runs whose networks are the same."""
        for schedule in self.schedules.values():
            precision_on(self.device, schedule.precision)  # what this device cannot compute is told beforehand
        for name, network in self._networks().items():
            n_parameters = sum(each.numel() for each in network.parameters())
            training.progress.say(f"{name} {getattr(self.settings.params, name)}: {n_parameters:,} parameters")
        schedules = within(training.budget, {name: self.schedules[name] for name in self._stages()})
        cost: dict[str, Any] = {}
        if self.tagger is not None:
            file = self.settings.params.tagger_checkpoint
            cost[STAGE] = teach(self.tagger, file, self.task, self.settings.sizes, schedules[STAGE], training)
        if self.separator is not None:
            cost |= self._teach_separator(self.separator, schedules, training)
        return cost

    def _stages(self) -> list[str]:
        """Those that `fit` runs, in order."""
        idle = () if self.settings.params.spec_augment else STAGES[1:]
        return [name for name in self.schedules if name not in idle]

    def _teach_separator(
        self, network: nn.Module, schedules: Mapping[str, Schedule], training: Training
    ) -> dict[str, Any]:
        params, sizes, task = self.settings.params, self.settings.sizes, self.task
        shape = (task.classes, task.max_sources, task.n_channels, task.sample_rate_hz)
        told = (params.separator, params.blocks_per_level, shape, [getattr(sizes, name) for name in SIZES])
        hidden = sizes.spec_augment if params.spec_augment else None
        return teach_separator(network, told, schedules, training, hidden)

    # answering

    @torch.inference_mode()
    def separate(self, given: Sequence[Mixture | Scene]) -> list[Estimate]:
        """The sources that the strategy ends with, the label and its probability for each, and what was decided on the way."""
        for network in self._networks().values():
            network.eval()
        if self.settings.params.oracle_labels:
            return self._told([each for each in given if isinstance(each, Scene)])
        mixtures = [each.audio for each in given if isinstance(each, Mixture)]
        separator = self._waveforms if self.inner is None else blind(self.inner, self.task, self._tags)
        verify = self.settings.params.strategy == "redux"
        return [self._estimate(each) for each in answer(mixtures, self.rules, self._tags, separator, verify)]

    def _tags(self, audio: Tensor) -> Tensor:
        """Of each class, the probability that it sounds: (item, time) -> (item, class)."""
        assert self.tagger is not None
        schedule = self.schedules[STAGE]
        with answering(self.device, schedule.precision):
            found = [self.tagger(some.to(self.device)) for some in audio.split(schedule.batch)]
        return torch.cat(found).float().sigmoid().cpu()

    def _waveforms(self, mixtures: Tensor, labels: Sequence[Sequence[int]]) -> list[Tensor]:
        """One waveform for each label: (item, channel, time) -> (label, time) for each item."""
        assert self.separator is not None
        schedule, found = self.schedules[STAGES[0]], []
        wanted = torch.full((len(labels), max(map(len, labels), default=0)), -1)
        for i, own in enumerate(labels):
            wanted[i, : len(own)] = torch.tensor(own, dtype=torch.long)
        with answering(self.device, schedule.precision):
            for some, theirs in zip(mixtures.split(schedule.batch), wanted.split(schedule.batch)):
                found += list(self.separator(some.to(self.device), theirs.to(self.device)).float().cpu())
        return [waveforms[: len(own)] for waveforms, own in zip(found, labels)]

    def _estimate(self, verdict: Verdict) -> Estimate:
        labels = tuple(self.task.classes[label] for label in verdict.labels)
        return Estimate(verdict.sources, labels, verdict.confidences, decisions=tuple(verdict.decisions))

    def _told(self, scenes: Sequence[Scene]) -> list[Estimate]:
        """What the separator makes of the true labels."""
        labels = [[self.task.classes.index(source.label) for source in scene.sources] for scene in scenes]
        waveforms = self._waveforms(torch.stack([scene.mixture.audio for scene in scenes]), labels)
        names = [tuple(source.label for source in scene.sources) for scene in scenes]
        return [Estimate(*each) for each in zip(waveforms, names)]

    # keeping

    def _networks(self) -> Mapping[str, nn.Module]:
        return {name: network for name in ("tagger", "separator") if (network := getattr(self, name)) is not None}

    def save(self, folder: Path) -> None:
        """One safetensors file per network; what is wrapped stays with its own run."""
        keep_all(self._networks(), folder)

    def load(self, folder: Path) -> None:
        recall_all(self._networks(), folder)
