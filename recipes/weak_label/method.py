"""A separator taught by a classifier: the method of Pishdadian, Wichern and Le Roux (2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from sepbench.blocks.stft import Stft
from sepbench.blocks.weights import keep_all, recall_all
from sepbench.devices import device
from sepbench.errors import UserError
from sepbench.labels import Events
from sepbench.method import Batch, Budget, Training, WeakBatch, WeakTraining
from sepbench.scene import Activity, Estimate, Mixture, TaskInfo
from sepbench.training import Schedule, check_sizes, train, within

from .critics import Critic, Crnn, Rnn
from .losses import class_weights, magnitude_loss, mixture_classification, mixture_loss, source_classification
from .separator import Separator

STANDARDISE_SCENES = 64
PRIOR_BATCH = 100  # scenes that are in memory at a time
THRESHOLD = 0.5  # of the critic's probability, from which on a class is heard, as the F-measures have it
SHARE = 0.05  # of the energy of all classes' outputs: with less, a class is not heard where there is no critic to ask
STRONG_SCALE = 100.0  # the paper's alpha; without clipping it hardly matters to Adam


class WeakLabelSeparator:
    """Masks from a BLSTM; what teaches it are sources (strong labels) or a critic that knows weak labels only."""

    def __init__(self, settings: Any, task: TaskInfo):
        self.settings, self.task, self.device = settings, task, device()
        check_sizes(settings.sizes)
        stages = {name: getattr(settings.train, name) for name in ("activity", "critic", "separator")}
        self.schedules = {name: Schedule.of(name, stage) for name, stage in stages.items() if stage is not None}
        alone = settings.params.labels == "strong" or settings.params.strategy == "joint"  # no stage of the critic's own
        for name in ("separator",) if alone else ("critic", "separator"):
            if name not in self.schedules:
                raise UserError(f"train.{name} is null, but nothing is learnt without it. Leave it as the profile has it.")
        params, sizes = settings.params, settings.sizes
        torch.manual_seed(settings.seed)
        self.stft = Stft(params.window_ms, task.sample_rate_hz).to(self.device)
        shape = (self.stft.n_bins, len(task.classes))
        self.separator = Separator(*shape, sizes.hidden, sizes.layers).to(self.device)
        self.critic: Critic | None = None
        if params.labels != "strong":
            critic_shape = (*shape, params.mel_bins, task.sample_rate_hz, sizes.critic_hidden)
            critic = (
                Crnn(*critic_shape, sizes.critic_channels)
                if params.classifier == "crnn"
                else Rnn(*critic_shape, sizes.critic_layers)
            )
            self.critic = critic.to(self.device)
        self.prior: Tensor | None = None  # frame-level prior probability of activity per class, eq. 15

    # learning

    def fit(self, training: Training | WeakTraining) -> dict[str, Any]:
        """Critic first, unless the strategy is joint; then the separator. Hands back what each stage cost."""
        params = self.settings.params
        cost = self._look_at_the_data(training)
        if "activity" in self.schedules:
            cost["activity"] = self._learn_when(training)
        if self.critic is None:
            cost["separator"] = self._train("separator", self.separator, self._strong_loss, training)
            return cost
        if params.strategy != "joint":
            cost["critic"] = self._train("critic", self.critic, self._critic_loss, training)
        if params.strategy == "fixed":
            self.critic.requires_grad_(False).eval()
            self.critic.recurrent.train()  # it has no dropout, so the same; on a GPU no gradient passes through it else
            cost["separator"] = self._train("separator", self.separator, self._separator_loss, training)
        else:
            both = nn.ModuleDict({"separator": self.separator, "critic": self.critic})
            cost["separator"] = self._train("separator", both, self._total_loss, training)
        return cost

    def _share(self, budget: Budget | None) -> tuple[int, int]:
        """Make the stages keep the budget; how many scenes tell the priors, and how many the scale of the inputs.

        The priors share a budget of scenes as if they were a stage, but get no more than the profile gives them.
        """
        params, train = self.settings.params, self.settings.train
        alone = self.critic is None or params.strategy == "joint"
        plan = {name: each for name, each in self.schedules.items() if name != "critic" or not alone}
        n_prior, n_scale = 0 if params.labels == "clip" else train.prior_scenes, STANDARDISE_SCENES * train.standardise
        if n_prior and budget is not None and budget.scenes is not None:
            plan["priors"] = Schedule(epochs=1, steps=n_prior, batch=1, valid_batches=1, lr=0.0, patience=1)
        self.schedules |= within(budget, plan, beside=n_scale)
        if "priors" in plan:
            n_prior = min(n_prior, self.schedules.pop("priors").scenes)
        return n_prior, n_scale

    def _train(self, name: str, network: nn.Module, loss: Any, training: Any) -> dict[str, Any]:
        cost = train(
            name,
            network,
            loss,
            training.scenes,
            training.valid,
            self.schedules[name],
            training.folder,
            training.seed,
            self.device,
            training.progress,
        )
        network.to(self.device)
        return cost

    def _learn_when(self, training: Any) -> dict[str, Any]:
        """Have the separator share each frame equally among the classes that sound in it, whatever the frequency.

        Not in the paper: a start for few steps. From random weights, the mixture loss pulls the mask of every class that
        the separator cannot detect yet to 0, where the sigmoid is flat, and a short training does not bring it back.
        The labels are those that the rest of the training sees; cross-entropy keeps unsure masks between 0 and 1.
        """
        return self._train("activity", self.separator, self._activity_loss, training)

    def _activity_loss(self, batch: WeakBatch) -> dict[str, Tensor]:
        labels = self._frame_labels(batch.events, 1)
        shares = labels / labels.sum(-1, keepdim=True).clamp_min(1)  # (batch, frame, class)
        with self._precision():
            logits = self.separator.logits(self.stft(batch.mixture).abs())
        targets = shares[..., None].expand_as(logits)
        return {"loss": binary_cross_entropy_with_logits(logits.float(), targets)}

    def _look_at_the_data(self, training: Any) -> dict[str, Any]:
        """Priors of the classes and, where asked for, the scale of the inputs, from the first training scenes; how many.

        They are within the budget, as the stages are from here on.
        """
        n_prior, n_scale = self._share(training.budget)
        if n_prior:
            size = min(PRIOR_BATCH, n_prior)
            batches = range(n_prior // size)
            n_prior = len(batches) * size
            active = [self._activity(training.scenes.batch(index, size).events) for index in batches]
            self.prior = torch.stack(active).mean(0).clamp(1e-3, 1 - 1e-3).to(self.device)
        if n_scale:
            with torch.no_grad():
                magnitude = self.stft(training.scenes.batch(0, n_scale).mixture.to(self.device)).abs()
                self.separator.standardise(magnitude)
                if self.critic is not None:
                    self.critic.standardise(magnitude)
        return {"priors": {"scenes": n_prior + n_scale}} if n_prior + n_scale else {}

    def _activity(self, events: Events) -> Tensor:
        """The share of the frames in which each class sounds: (class,)."""
        return torch.from_numpy(events.activity(self._n_frames, self.stft.hop_s, -self.stft.hop_s / 2)).mean((0, 2))

    # objective functions

    def _strong_loss(self, batch: Batch) -> dict[str, Tensor]:
        """Eq. 16, the mean over frames and scenes, scaled so that gradients are clipped as with weak labels."""
        mixture = self.stft(batch.mixture).abs()
        by_class = self._by_class(batch)
        sources = self.stft(by_class.flatten(0, 1)).abs().unflatten(0, by_class.shape[:2])
        targets = sources.transpose(1, 2)  # (batch, frame, class, bin)
        if self.settings.params.target == "capped":
            targets = torch.minimum(targets, mixture[:, :, None])
        weights = class_weights(self._frame_labels(batch.events, 1), self.prior)
        return {"loss": STRONG_SCALE * magnitude_loss(self._estimates(mixture), targets, weights).mean()}

    def _by_class(self, batch: Batch) -> Tensor:
        """The sources as the separator is to give them, those of a class as one: (batch, class, time)."""
        if self.task.one_per_class:
            return batch.sources
        n_scenes, _, n_samples = batch.sources.shape
        room = batch.sources.new_zeros(n_scenes, len(self.task.classes), n_samples)
        scene, slot = (batch.labels >= 0).nonzero()
        where = torch.from_numpy(scene).to(room.device), torch.from_numpy(batch.labels[scene, slot]).to(room.device)
        return room.index_put(where, batch.sources[scene, slot], accumulate=True)

    def _critic_loss(self, batch: WeakBatch) -> dict[str, Tensor]:
        """Eq. 17, or eq. 12 with clip labels: the mixture alone."""
        return {"loss": self._mixture_term(self._judged(self.stft(batch.mixture).abs()), batch.events)}

    def _separator_loss(self, batch: WeakBatch) -> dict[str, Tensor]:
        """Eqs. 10 and 14 without the part that a fixed classifier leaves constant."""
        mixture = self.stft(batch.mixture).abs()
        estimates = self._estimates(mixture)
        judged = self._judged(estimates.transpose(1, 2).flatten(0, 1)).unflatten(0, (len(mixture), -1))
        classes = self._source_term(judged, batch.events)
        mix = mixture_loss(mixture, estimates, self._frame_labels(batch.events, 1)).mean()
        return {"loss": classes + self.settings.params.alpha * mix, "classes": classes, "mixture": mix}

    def _total_loss(self, batch: WeakBatch) -> dict[str, Tensor]:
        """Eqs. 10 and 14 whole, for a classifier that learns too."""
        separator, critic = self._separator_loss(batch), self._critic_loss(batch)["loss"]
        return {**separator, "loss": separator["loss"] + critic, "critic": critic}

    def _mixture_term(self, logits: Tensor, events: Events) -> Tensor:
        labels, weights = self._labels_and_weights(events)
        return mixture_classification(self._pooled(logits), labels, weights).mean()

    def _source_term(self, logits: Tensor, events: Events) -> Tensor:
        labels, weights = self._labels_and_weights(events)
        return source_classification(self._pooled(logits), labels, weights).mean()

    def _labels_and_weights(self, events: Events) -> tuple[Tensor, Tensor | None]:
        """(batch, frame, class) on the critic's own grid; with clip labels one frame, and no weights (section II-E)."""
        if self.settings.params.labels == "clip":
            return torch.from_numpy(events.presence())[:, None].to(self.device), None
        assert self.critic is not None and self.prior is not None
        labels = self._frame_labels(events, self.critic.pooling)
        return labels, class_weights(labels, self.prior)

    def _pooled(self, logits: Tensor) -> Tensor:
        """With clip labels, the maximum over frames (section II-F)."""
        return logits.amax(-2, keepdim=True) if self.settings.params.labels == "clip" else logits

    # networks

    def _estimates(self, magnitude: Tensor) -> Tensor:
        """Eq. 2: (batch, frame, bin) -> (batch, frame, class, bin)."""
        with self._precision():
            masks = self.separator(magnitude)
        return masks.float() * magnitude[:, :, None]

    def _judged(self, magnitude: Tensor) -> Tensor:
        assert self.critic is not None
        with self._precision():
            return self.critic(magnitude).float()

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.train.bfloat16)

    @property
    def _n_frames(self) -> int:
        return self.stft.n_frames(round(self.task.seconds * self.task.sample_rate_hz))

    def _frame_labels(self, events: Events, pooling: int) -> Tensor:
        """(batch, frame, class): a frame is active where an event overlaps its centre +- hop / 2; `pooling` of them make one."""
        active = events.activity(self._n_frames // pooling, pooling * self.stft.hop_s, -self.stft.hop_s / 2)
        return torch.from_numpy(active).transpose(1, 2).to(self.device)

    # answering

    @torch.inference_mode()
    def separate(self, mixtures: Sequence[Mixture]) -> list[Estimate]:
        """One source per class, with the mixture's phase; what sounds when is the critic's word on the mixture.

        Where a scene has no room for a source of every class, those alone that are heard in it.
        """
        self.separator.eval()
        audio = torch.stack([mixture.audio[0] for mixture in mixtures]).to(self.device)
        spectrum = self.stft(audio)
        magnitude = spectrum.abs()
        with self._precision():
            masks = self.separator(magnitude).float()
        sources = [
            self.stft.inverse(spectrum * masks[:, :, each], audio.shape[-1]) for each in range(len(self.task.classes))
        ]
        answers = torch.stack(sources, 1).cpu()  # (batch, class, time)
        if self.critic is None:
            return [self._heard(answer, shares(answer), SHARE, None) for answer in answers]
        self.critic.eval()
        heard = self._judged(magnitude).sigmoid().transpose(1, 2).cpu()  # (batch, class, frame)
        hop_s, start_s = self.critic.pooling * self.stft.hop_s, -self.stft.hop_s / 2
        return [
            self._heard(answer, probability.amax(-1), THRESHOLD, Activity(probability, hop_s, start_s))
            for answer, probability in zip(answers, heard)
        ]

    def _heard(self, sources: Tensor, sure: Tensor, least: float, activity: Activity | None) -> Estimate:
        """The answer of which `sources` (class, time) sound: those at least as `sure` (class,) as `least`, the surest first.

        As many of them as the task allows; all where it has an output per class.
        """
        classes, confidences = self.task.classes, None if activity is None else sure
        if self.task.one_per_class:
            return Estimate(sources, classes, confidences, activity)
        order = sure.argsort(descending=True, stable=True)
        n = min(max(int((sure >= least).sum()), self.task.min_sources), self.task.max_sources)
        kept = order[:n]
        labels = tuple(classes[each] for each in kept.tolist())
        return Estimate(sources[kept], labels, None if confidences is None else confidences[kept], activity)

    # keeping

    def _networks(self) -> Mapping[str, nn.Module]:
        return (
            {"separator": self.separator}
            if self.critic is None
            else {"separator": self.separator, "critic": self.critic}
        )

    def save(self, folder: Path) -> None:
        """One safetensors file per network."""
        keep_all(self._networks(), folder)

    def load(self, folder: Path) -> None:
        recall_all(self._networks(), folder)


def shares(sources: Tensor) -> Tensor:
    """The share of each in the energy of all: (class, time) -> (class,); all 0 in silence."""
    energy = sources.square().sum(-1)
    return energy / energy.sum().clamp_min(torch.finfo(energy.dtype).tiny)
