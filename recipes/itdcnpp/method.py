"""iTDCN++ conditioned on what a sound classifier hears (Tzinis et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sepbench.blocks.permutation import best_order, chosen, in_order
from sepbench.blocks.snr_costs import COSTS, QUIET, pairing_costs
from sepbench.blocks.weights import keep, keep_all, recall, recall_all
from sepbench.devices import device
from sepbench.errors import UserError
from sepbench.method import Batch, Training
from sepbench.scene import Estimate, Mixture, Scene, TaskInfo
from sepbench.training import Schedule, answering, check_sizes, precision_on, train, within

from .checkpoints import classes_in, keep_classifier, load_classifier
from .classifier import HOPS, SoundClassifier
from .embeddings import guidance_loss, soft_or
from .networks import Heard, Itdcn, basis_of, listened
from .panns import PannsMobileNet
from .plan import check_loss, kinds_of
from .teaching import teach

CLASSIFIER = "classifier.safetensors"


class Itdcnpp:
    """A classifier learns on single clips, then the separator that it conditions. An oracle is handed scenes."""

    def __init__(self, settings: Any, task: TaskInfo):
        self.settings, self.task, self.device = settings, task, device()
        self.params = settings.params
        self.kinds = kinds_of(settings)
        check_sizes(settings.sizes)
        if settings.sizes.classifier_hop not in HOPS:
            hops = ", ".join(map(str, HOPS))
            raise UserError(f"sizes.classifier_hop is {settings.sizes.classifier_hop}; wanted one of {hops}, in frames of 10 ms.")
        self.basis = basis_of(self.params, settings.sizes, task.sample_rate_hz).to(self.device)  # what every network's is like
        self.schedules = {name: Schedule.of(name, getattr(settings.train, name)) for name in ("classifier", "separator")}
        self.oracle = settings.supervision == "oracle"
        self.classifier: Any = None  # None: nobody names a class
        self.network: Itdcn | None = None

    @property
    def macs_per_s_outside_torch(self) -> float:
        """Of the convolutions along time, three taps a channel, which are written out in products of elements."""
        sizes, rate = self.settings.sizes, self.task.sample_rate_hz
        per_frame = 3 * sizes.hidden * sizes.blocks * sizes.repeats * len(self.kinds)
        return per_frame / (round(sizes.hop_ms * rate / 1000) / rate)

    def _built(self, classifier: Any) -> Itdcn:
        """The separator, its condition of the classifier's size; the same for the same seed."""
        torch.manual_seed(self.settings.seed)
        self.classifier = None if classifier is None else classifier.to(self.device).requires_grad_(False).eval()
        rest = (self.task.max_sources, self.task.sample_rate_hz, self.kinds, self.classifier)
        self.network = Itdcn(self.params, self.settings.sizes, *rest).to(self.device)
        return self.network

    # learning

    def fit(self, training: Training) -> dict[str, Any]:
        """The classifier, unless one is brought along or was trained before; then the separator."""
        check_loss(self.settings, self.task)
        for schedule in self.schedules.values():
            precision_on(self.device, schedule.precision)  # what this device cannot compute is told before anything is trained
        taught = self.params.classifier_checkpoint is None and training.clips is not None
        stages = ("classifier", "separator") if taught else ("separator",)
        schedules = within(training.budget, {name: self.schedules[name] for name in stages})
        classifier, cost = self._classifier(training, schedules)
        network = self._built(classifier)
        rest = (training.folder, training.seed, self.device, training.progress)
        heard = (training.scenes, training.valid, schedules["separator"])
        cost["separator"] = train("separator", network, self._loss, *heard, *rest)
        network.to(self.device)
        return cost

    def _classifier(self, training: Training, schedules: Mapping[str, Schedule]) -> tuple[Any, dict[str, Any]]:
        file = self.params.classifier_checkpoint
        if file is not None:
            return self._brought(Path(file).expanduser()), {}
        if training.clips is None:
            if any(kind != "none" for kind in self.kinds):
                raise UserError(
                    "This task has no labelled clips to train a sound classifier on. Bring one with --classifier-checkpoint "
                    "FILE, or choose --embeddings none."
                )
            return None, {}
        network = self._untaught().to(self.device)
        return network, {"classifier": teach(network, self.task.classes, training, schedules["classifier"])}

    def _untaught(self) -> SoundClassifier:
        sizes = self.settings.sizes
        return SoundClassifier(len(self.task.classes), self.task.sample_rate_hz, sizes.classifier_width, sizes.classifier_hop)

    def _brought(self, file: Path) -> SoundClassifier | PannsMobileNet:
        """What a file holds. A task that names no classes takes those of any classifier for conditions, and none as labels."""
        sizes, task = self.settings.sizes, self.task
        classes = task.classes or classes_in(file) or ()
        return load_classifier(file, classes, task.sample_rate_hz, sizes.classifier_width, sizes.classifier_hop)

    def _loss(self, batch: Batch) -> dict[str, Tensor]:
        """The separation loss of every iteration, each with its own permutation (section 3.1), and the guidance (3.6)."""
        assert self.network is not None
        iterations = self.network(batch.mixture, batch.sources if self.oracle else None, self.classifier)
        parts: dict[str, Tensor] = {}
        with torch.autocast(self.device.type, enabled=False):
            orders = []
            for i, heard in enumerate(iterations, 1):
                costs = COSTS[self.params.loss](heard.estimate, batch.sources, batch.mixture)
                orders.append(best_order(pairing_costs(heard.estimate, batch.sources)))
                parts[f"separation_{i}"] = chosen(costs, orders[-1])
        if self.params.classifier == "guided":
            parts |= self._guidance(batch, iterations, orders)
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    def _guidance(self, batch: Batch, iterations: Sequence[Heard], orders: Sequence[Tensor]) -> dict[str, Tensor]:
        """What the ears say of mixture and estimates, held to what the frozen classifier says of the true sources.

        An iteration hears the estimates of the one before it, so that it is that one's permutation which says who is who.
        """
        with torch.no_grad():
            truth = listened(self.classifier, batch.sources)  # (batch, source, class, frame)
        parts = {}
        for i, heard in enumerate(iterations, 1):
            if heard.mixture_logits is not None:
                parts[f"guidance_mixture_{i}"] = guidance_loss(heard.mixture_logits, soft_or(truth))
            if heard.source_logits is not None:
                parts[f"guidance_sources_{i}"] = guidance_loss(in_order(heard.source_logits, orders[i - 2]), truth)
        return parts

    # answering

    @torch.inference_mode()
    def separate(self, given: Sequence[Mixture | Scene]) -> list[Estimate]:
        """S sources each, of the likeliest class if there is a classifier that knows the task's."""
        scenes = [each for each in given if isinstance(each, Scene)]
        mixtures = [each.mixture if isinstance(each, Scene) else each for each in given]
        audio = torch.stack([mixture.audio[0] for mixture in mixtures]).to(self.device)
        truth = torch.stack([self._sources(scene) for scene in scenes]).to(self.device) if self.oracle else None
        if self.params.network == "binary_mask":
            assert truth is not None
            return [self._binary(*each) for each in zip(scenes, audio, truth)]
        assert self.network is not None
        self.network.eval()
        with answering(self.device, self.schedules["separator"].precision):
            heard = self.network(audio, truth, self.classifier)[-1]
            probability = self._classes(heard.estimate)
        answers = zip(audio.cpu(), heard.estimate.float().cpu(), heard.masks.half().cpu())
        return [self._answer(*each, probability[i] if probability is not None else None) for i, each in enumerate(answers)]

    def _sources(self, scene: Scene) -> Tensor:
        """(source, time), with silence for those that the scene lacks."""
        room = scene.mixture.audio.new_zeros(self.task.max_sources, scene.mixture.audio.shape[-1])
        for i, source in enumerate(scene.sources):
            room[i] = source.audio
        return room

    def _classes(self, estimate: Tensor) -> Tensor | None:
        """The probability of each of the task's classes: (batch, source, time) -> (batch, source, class)."""
        if self.classifier is None or self.classifier.names != self.task.classes:
            return None
        assert self.network is not None
        last = list(self.network.iterations)[-1]
        guided = self.params.classifier == "guided"  # what separation alone has tuned may have forgotten the classes
        ears = last.ears if guided else self.classifier
        return listened(ears, estimate.float()).sigmoid().mean(-1).cpu()

    def _answer(self, mixture: Tensor, sources: Tensor, masks: Tensor, probability: Tensor | None) -> Estimate:
        if probability is None:
            return Estimate(sources, trace=self._trace(masks))
        there = torch.ones(len(sources), dtype=torch.bool)
        if self.task.min_sources < self.task.max_sources:  # no quieter is a silent source taught to be
            there = sources.square().sum(-1) > QUIET * mixture.square().sum()
        confidence, best = probability.max(-1)
        labels = tuple(self.task.classes[i] for i in best[there].tolist())
        return Estimate(sources[there], labels, confidence[there], trace=self._trace(masks[there]))

    def _binary(self, scene: Scene, mixture: Tensor, truth: Tensor) -> Estimate:
        """Each bin to the loudest source: "STFT binary mask" of Table 1."""
        basis = self.basis
        coefficients = basis.analyse(torch.cat([mixture[None], truth])[None])  # (1, signal, frame, bin)
        loudest = coefficients[:, 1:].abs().argmax(1, keepdim=True)
        each = torch.arange(self.task.max_sources, device=self.device)[:, None, None]
        masks = (loudest == each).to(coefficients.real.dtype)  # (1, source, frame, bin)
        n = len(scene.sources)
        sources = basis.synthesise(coefficients[:, :1] * masks, mixture.shape[-1])[0, :n].cpu()
        labels = tuple(source.label for source in scene.sources) if self.task.classes else None
        return Estimate(sources, labels, trace=self._trace(masks[0, :n].half().cpu()))

    def _trace(self, masks: Tensor) -> dict[str, Any]:
        """What pictures show: (source, frame, bin)."""
        basis = self.basis
        trace: dict[str, Any] = {"masks": masks.transpose(1, 2), "mask_hop_s": basis.hop_s}
        if self.params.mixture_consistency != "none" and self.params.network != "binary_mask":
            trace["masks_before"] = "mixture consistency"
        trace["mask_start_s"] = (basis.hop - basis.window) / 2 / self.task.sample_rate_hz
        if self.params.basis == "learned":
            return {**trace, "mask_axis": "learned filter"}
        return {**trace, "mask_axis": "frequency, kHz", "mask_extent": (0, self.task.sample_rate_hz / 2000)}

    # keeping

    def _networks(self) -> Mapping[str, nn.Module]:
        assert self.network is not None
        return {f"iteration_{i}": each for i, each in enumerate(self.network.iterations, 1)}

    def save(self, folder: Path) -> None:
        """One safetensors file per iteration, and the classifier's."""
        keep_all(self._networks(), folder)
        if isinstance(self.classifier, SoundClassifier):
            keep_classifier(self.classifier, folder / CLASSIFIER, self.classifier.names or (), {})
        elif self.classifier is not None:
            keep(self.classifier, folder / CLASSIFIER)

    def load(self, folder: Path) -> None:
        self._built(self._recalled(folder / CLASSIFIER))
        recall_all(self._networks(), folder)

    def _recalled(self, file: Path) -> SoundClassifier | PannsMobileNet | None:
        """The classifier that `save` has kept: one that was taught says its classes, the public one does not."""
        if not file.is_file():
            return None
        if classes_in(file) is not None:
            return self._brought(file)
        public = PannsMobileNet(self.task.sample_rate_hz, self.settings.sizes.classifier_hop)
        recall(public, file)
        return public
