"""Conv-TasNet (Luo and Mesgarani 2019), asteroid's, as a blind separator of any sounds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sepbench.blocks.permutation import best_order, chosen
from sepbench.blocks.snr_costs import QUIET, thresholded_costs
from sepbench.blocks.weights import keep, recall
from sepbench.devices import device
from sepbench.method import Batch, Training
from sepbench.scene import Estimate, Mixture, TaskInfo
from sepbench.training import Schedule, answering, check_sizes, train, within

from .network import Separator

WEIGHTS = "separator.safetensors"


class ConvTasNet:
    """One network, one loss, and no class named."""

    def __init__(self, settings: Any, task: TaskInfo):
        self.sizes, self.task, self.device = settings.sizes, task, device()
        self.silence_weight = settings.params.silence_weight
        check_sizes(self.sizes)
        self.schedule = Schedule.of("separator", settings.train.separator)
        torch.manual_seed(settings.seed)
        rest = (task.sample_rate_hz, settings.params.mixture_consistency)
        self.network = Separator(task.max_sources, self.sizes, *rest).to(self.device)

    @property
    def macs_per_s_outside_torch(self) -> float:
        """Of the convolutions per channel, three taps each, which on a CPU are written out in products of elements."""
        sizes, here = self.sizes, self.device.type == "cpu"
        return here * 3 * sizes.hidden * sizes.blocks * sizes.repeats * self.task.sample_rate_hz / sizes.stride

    def fit(self, training: Training) -> dict[str, Any]:
        """One stage; what it cost."""
        (schedule,) = within(training.budget, {"separator": self.schedule}).values()
        rest = (training.folder, training.seed, self.device, training.progress)
        cost = train("separator", self.network, self._loss, training.scenes, training.valid, schedule, *rest)
        self.network.to(self.device)
        return {"separator": cost}

    def _loss(self, batch: Batch) -> dict[str, Tensor]:
        """What the sources are missed by, in the order in which that is least; silence has a term of its own."""
        estimate, _ = self.network(batch.reference)
        costs = thresholded_costs(estimate, batch.sources, batch.reference)
        silent = (batch.sources == 0).all(-1)[:, :, None]
        costs = torch.where(silent, self.silence_weight * costs, costs)
        return {"loss": chosen(costs, best_order(costs))}

    @torch.inference_mode()
    def separate(self, mixtures: Sequence[Mixture]) -> list[Estimate]:
        """The sources that sound, without labels."""
        self.network.eval()
        audio = torch.stack([mixture.audio[0] for mixture in mixtures]).to(self.device)
        with answering(self.device, self.schedule.precision):
            sources, masks = self.network(audio)
        return [self._answer(*each) for each in zip(audio.cpu(), sources.cpu(), masks.half().cpu())]

    def _answer(self, mixture: Tensor, sources: Tensor, masks: Tensor) -> Estimate:
        """All but those as quiet as a silent source is taught to be; as many as the task's scenes have at least."""
        energy = sources.square().sum(-1)  # (source,)
        place = energy.argsort(descending=True).argsort()
        there = (place < self.task.min_sources) | (energy > QUIET * mixture.square().sum())
        hop_s = self.sizes.stride / self.task.sample_rate_hz
        return Estimate(sources[there], trace={"masks": masks[there], "mask_hop_s": hop_s, "mask_axis": "learned filter"})

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        keep(self.network, folder / WEIGHTS)

    def load(self, folder: Path) -> None:
        recall(self.network, folder / WEIGHTS)
