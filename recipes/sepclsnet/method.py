"""SepClsNet: a separator and a classifier that learn as one network (Verma, sections III-C and III-D)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sepbench.blocks.log_mel import LogMel
from sepbench.blocks.permutation import best_order, chosen, in_order
from sepbench.blocks.sound_cnn import SoundCnn
from sepbench.blocks.weights import keep_all, recall_all
from sepbench.devices import device
from sepbench.errors import UserError
from sepbench.method import Batch, Training
from sepbench.scene import Estimate, Mixture, TaskInfo
from sepbench.training import Schedule, answering, check_sizes, precision_on, train, within

from .losses import (
    class_costs,
    classification_loss,
    log_costs,
    orthogonality_loss,
    reconstruction_loss,
    separation_costs,
)
from .separator import Separator

READINGS = {"default": (True, 2), "literal": (False, 1)}  # a bottleneck before the TCN; convolutions per layer of the CNN
QUIET = 1e-3  # full scale 1; so that a silent scene divides by no zero


class SepClsNet(nn.Module):
    """Separator and classifier, which hears each separated source by itself."""

    def __init__(self, n_sources: int, n_classes: int, sample_rate_hz: int, reading: str, sizes: Any):
        super().__init__()
        bottleneck, convs_per_layer = READINGS[reading]
        self.separator = Separator(
            n_sources, sizes.filters, sizes.kernel, sizes.stride, sizes.blocks, sizes.repeats, bottleneck
        )
        self.log_mel = LogMel(sample_rate_hz)
        self.classifier = SoundCnn(n_classes + 1, sizes.channels, convs_per_layer)  # and silence, the last

    def classify(self, sources: Tensor) -> Tensor:
        """(batch, source, time) -> logits (batch, source, class), silence last."""
        logits: Tensor = self.classifier(self.log_mel(sources.flatten(0, 1)))
        return logits.float().unflatten(0, sources.shape[:2])


class SepClsNetMethod:
    """Trains the network by its four losses; without a loss of classes, the classifier learns afterwards."""

    macs_per_s_outside_torch = 0.0  # telling which labels differ takes S x C numbers to scipy, once per scene

    def __init__(self, settings: Any, task: TaskInfo):
        self.settings, self.task, self.device = settings, task, device()
        params = settings.params
        self.weights = {name: getattr(params, f"{name}_weight") for name in ("sep", "cls", "recon", "ortho")}
        if not self.weights["sep"] and not self.weights["cls"]:
            raise UserError(
                "sep_weight and cls_weight are both 0, so nothing says which output answers which source. Give one a weight."
            )
        check_sizes(settings.sizes)
        self.l1 = params.sep_loss == "l1"
        stages = {name: getattr(settings.train, name) for name in ("start", "joint", "classifier")}
        self.schedules = {name: Schedule.of(name, stage) for name, stage in stages.items() if stage is not None}
        for name in ("joint", "classifier"):
            if name not in self.schedules:
                raise UserError(f"train.{name} is null, but nothing is learnt without it. Leave it as the profile has it.")
        torch.manual_seed(settings.seed)
        shape = (task.max_sources, len(task.classes), task.sample_rate_hz)
        self.network = SepClsNet(*shape, params.reading, settings.sizes).to(self.device)

    # learning

    def fit(self, training: Training) -> dict[str, Any]:
        """Both at once; or the separator, then the classifier, where no loss of classes teaches both (Table IV, "Sep Only").

        Before that, where the profile has such a stage, the separator alone: a start that the paper does not have.
        """
        for schedule in self.schedules.values():
            precision_on(self.device, schedule.precision)  # a stage that this device cannot compute is told before the first
        stages, cost = self._stages(), {}
        for name, schedule in within(training.budget, {name: each[0] for name, each in stages.items()}).items():
            _, network, loss = stages[name]
            self.network.separator.requires_grad_(name != "classifier")
            cost[name] = self._train(name, network, loss, training, schedule)
        self.network.separator.requires_grad_(True)
        return cost

    def _stages(self) -> dict[str, tuple[Schedule, nn.Module, Any]]:
        """Of each stage, in order: for how long, which network, by which loss."""
        schedules, separator = self.schedules, self.network.separator
        found: dict[str, tuple[Schedule, nn.Module, Any]] = {}
        if self.weights["sep"] and "start" in schedules:
            found["start"] = schedules["start"], separator, self._separation
        if self.weights["cls"]:
            return found | {"joint": (schedules["joint"], self.network, self._loss)}
        found["separator"] = schedules["joint"], separator, self._separation
        return found | {"classifier": (schedules["classifier"], self.network.classifier, self._afterwards)}

    def _train(
        self, name: str, network: nn.Module, loss: Any, training: Training, schedule: Schedule
    ) -> dict[str, Any]:
        rest = (training.folder, training.seed, self.device, training.progress)
        cost = train(name, network, loss, training.scenes, training.valid, schedule, *rest)
        self.network.to(self.device)
        return cost

    def _loss(self, batch: Batch) -> dict[str, Tensor]:
        """Eq. 16, and its parts, those without a weight left out."""
        estimate, _ = self.network.separator(batch.mixture)
        return self._parts(batch, estimate, self.network.classify(estimate) if self.weights["cls"] else None)

    def _separation(self, batch: Batch) -> dict[str, Tensor]:
        """Eq. 16 without the classification loss."""
        return self._parts(batch, self.network.separator(batch.mixture)[0], None)

    def _parts(self, batch: Batch, estimate: Tensor, logits: Tensor | None) -> dict[str, Tensor]:
        with torch.autocast(self.device.type, enabled=False):
            labels = self._labels(batch)
            by_class = not self.weights["sep"] and logits is not None  # "Cls Only"
            costs = class_costs(logits, labels) if by_class else self._costs(batch, estimate)  # type: ignore[arg-type]
            order = best_order(costs)
            parts: dict[str, Tensor] = {}
            if self.weights["sep"]:
                parts["sep"] = chosen(costs, order)
            if self.weights["cls"] and logits is not None:
                parts["cls"] = classification_loss(in_order(logits, order), labels)
            if self.weights["recon"]:
                level = self._level(batch.mixture)
                parts["recon"] = reconstruction_loss(estimate / level[:, None], batch.mixture / level)
            if self.weights["ortho"]:
                parts["ortho"] = orthogonality_loss(estimate)
            total = torch.stack([self.weights[name] * part for name, part in parts.items()]).sum()
            told = {} if logits is None else {"accuracy": _accuracy(in_order(logits, order), labels)}
            return {"loss": total, **parts, **told}

    def _level(self, mixture: Tensor) -> Tensor:
        """(batch, 1): what the sounds of eq. 14 are divided by, which is 1 in the paper."""
        if self.l1:
            return torch.ones_like(mixture[:, :1])
        return mixture.abs().mean(-1, keepdim=True).clamp_min(QUIET)

    def _costs(self, batch: Batch, estimate: Tensor) -> Tensor:
        """What every estimate would cost as every reference: (batch, reference, estimate)."""
        if self.l1:
            return separation_costs(estimate, batch.sources)
        return log_costs(estimate, batch.sources, batch.mixture)

    def _afterwards(self, batch: Batch) -> dict[str, Tensor]:
        """The classification loss alone, on sources that the separator is done with."""
        self.network.separator.eval()
        with torch.no_grad():
            estimate, _ = self.network.separator(batch.mixture)
        logits = self.network.classify(estimate)
        with torch.autocast(self.device.type, enabled=False):
            labels = self._labels(batch)
            logits = in_order(logits, best_order(self._costs(batch, estimate)))
            return {"loss": classification_loss(logits, labels), "accuracy": _accuracy(logits, labels)}

    def _labels(self, batch: Batch) -> Tensor:
        """(batch, source), silence as the class after the last."""
        labels = torch.from_numpy(batch.labels).to(self.device)
        return torch.where(labels < 0, len(self.task.classes), labels)

    # answering

    @torch.inference_mode()
    def separate(self, mixtures: Sequence[Mixture]) -> list[Estimate]:
        """S sources, each with its likeliest class. Where scenes differ in their number, what is called silence is left out."""
        self.network.eval()
        audio = torch.stack([mixture.audio[0] for mixture in mixtures]).to(self.device)
        with answering(self.device, self.schedules["joint"].precision):
            sources, masks = self.network.separator(audio)
            probability = self.network.classify(sources).softmax(-1)
        answers = zip(sources.float().cpu(), probability.cpu(), masks.half().cpu())
        return [self._answer(*each) for each in answers]

    def _answer(self, sources: Tensor, probability: Tensor, masks: Tensor) -> Estimate:
        classes = self.task.classes
        fixed = self.task.min_sources == self.task.max_sources  # then silence is no answer
        if fixed and self.settings.params.labels == "distinct" and not self.task.classes_repeat:
            best = distinct(probability[:, :-1])
        else:
            best = (probability[:, :-1] if fixed else probability).argmax(-1)
        confidence = probability.gather(-1, best[:, None])[:, 0]
        heard = best < len(classes)
        hop_s = self.network.separator.stride / self.task.sample_rate_hz
        trace = {"masks": masks[heard], "mask_hop_s": hop_s, "mask_axis": "learned filter"}
        labels = tuple(classes[i] for i in best[heard].tolist())
        return Estimate(sources[heard], labels, confidence[heard], trace=trace)

    # keeping

    def _networks(self) -> Mapping[str, nn.Module]:
        return {"separator": self.network.separator, "classifier": self.network.classifier}

    def save(self, folder: Path) -> None:
        """One safetensors file per network."""
        keep_all(self._networks(), folder)

    def load(self, folder: Path) -> None:
        recall_all(self._networks(), folder)


def distinct(probability: Tensor) -> Tensor:
    """The likeliest labels of which no two are the same: (source, class) -> (source,). ValueError for too few classes."""
    log_p = probability.clamp_min(torch.finfo(probability.dtype).tiny).log()
    if log_p.shape[0] > log_p.shape[1]:
        raise ValueError(f"{log_p.shape[0]} sources cannot have different labels out of {log_p.shape[1]} classes")
    return best_order(-log_p[None])[0]


def _accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """The share of sources with the right class. Shapes: (batch, source, class), (batch, source), in the same order."""
    return (logits.argmax(-1) == labels).float().mean()
