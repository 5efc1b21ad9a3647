"""What a classifier hears in a mixture that nobody separates: the Baseline CNN of SepClsNet's Table II."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from sepbench.blocks.log_mel import LogMel
from sepbench.blocks.sound_cnn import SoundCnn
from sepbench.blocks.weights import keep, recall
from sepbench.devices import device
from sepbench.method import WeakBatch, WeakTraining
from sepbench.scene import Estimate, Mixture, TaskInfo
from sepbench.training import Schedule, check_sizes, train, within

WEIGHTS = "classifier.safetensors"


class MixtureCnn:
    """Names the likeliest classes of a mixture. It learns from clip labels and gives no sound back."""

    def __init__(self, settings: Any, task: TaskInfo):
        self.settings, self.task, self.device = settings, task, device()
        check_sizes(settings.sizes)
        self.schedule = Schedule.of("classifier", settings.train.classifier)
        torch.manual_seed(settings.seed)
        sizes = settings.sizes
        self.front = LogMel(task.sample_rate_hz).to(self.device)
        self.network = SoundCnn(len(task.classes), sizes.channels, sizes.convs_per_layer).to(self.device)

    def fit(self, training: WeakTraining) -> dict[str, Any]:
        """One stage; what it cost."""
        schedule = within(training.budget, {"classifier": self.schedule})["classifier"]
        cost = train(
            "classifier", self.network, self._loss, training.scenes, training.valid, schedule, training.folder,
            training.seed, self.device, training.progress,
        )  # fmt: skip
        self.network.to(self.device)
        return {"classifier": cost}

    def _loss(self, batch: WeakBatch) -> dict[str, Tensor]:
        """Binary cross-entropy of each class, and the share of the sources whose class is among as many likeliest ones."""
        truth = torch.from_numpy(batch.events.presence()).to(self.device)  # (scene, class)
        logits = self.network(self.front(batch.reference)).float()
        place = logits.detach().argsort(-1, descending=True).argsort(-1)  # of each class, the likeliest first
        named = place < truth.sum(-1, keepdim=True)
        accuracy = (named * truth).sum() / truth.sum().clamp_min(1)
        return {"loss": binary_cross_entropy_with_logits(logits, truth), "accuracy": accuracy}

    @torch.inference_mode()
    def separate(self, mixtures: Sequence[Mixture]) -> list[Estimate]:
        """Labels and their probabilities, the likeliest first; as many as there are sources, or as are likely enough."""
        self.network.eval()
        audio = torch.stack([mixture.audio[0] for mixture in mixtures]).to(self.device)
        probability, label = self.network(self.front(audio)).sigmoid().sort(-1, descending=True)
        answers = zip(probability.cpu(), label.tolist(), self._n_named(probability).tolist())
        classes = self.task.classes
        return [Estimate(None, tuple(classes[i] for i in own[:n]), sure[:n]) for sure, own, n in answers]

    def _n_named(self, probability: Tensor) -> Tensor:
        """How many classes of each mixture to name, from (scene, class); within what the task allows: (scene,)."""
        likely = (probability > self.settings.params.threshold).sum(-1)
        return likely.clamp(self.task.min_sources, self.task.max_sources)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        keep(self.network, folder / WEIGHTS)

    def load(self, folder: Path) -> None:
        recall(self.network, folder / WEIGHTS)
