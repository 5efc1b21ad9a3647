"""Teaching the classifier on single labelled clips, once for all runs that would teach it the same."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from sepbench.blocks.weights import writable
from sepbench.errors import UserError
from sepbench.method import Batch, Training
from sepbench.training import Schedule, precision_on, train

from .checkpoints import keep_classifier, recall_classifier
from .classifier import LAYERS, STEM, SoundClassifier
from .patches import FLOOR, HIGHEST_HZ, HOP_MS, LOWEST_HZ, N_MELS, PATCH, SILENT_DBFS, STRIDE, WINDOW_MS

STAGE = "classifier"
FORMAT = 1  # counted up where this code would teach the same clips another way
OVERLAID = 0.5  # of the clips of a batch get another one laid over them, so that mixtures are no news to it


def teach(network: SoundClassifier, classes: Sequence[str], training: Training, schedule: Schedule) -> dict[str, Any]:
    """Teach `network` the classes of training.clips; hands back what it cost, and `accuracy` on the valid clips.

    What it learns is a function of clips, classes, sample rate, sizes, schedule, seed and what `_key` lists beside them. It is
    kept in training.shared under their hash, and where it lies there already, nothing is trained. UserError where the task has
    no labelled clips.
    """
    clips, valid = training.clips, training.valid_clips
    if clips is None or valid is None or training.shared is None:
        raise UserError(
            "The task has no labelled clips to teach a classifier with. Give it one with --classifier-checkpoint FILE, or "
            "choose --embeddings none."
        )
    place = (
        training.shared / f"{STAGE}-{_key(network, classes, (clips.id, valid.id), schedule, training.seed)}.safetensors"
    )
    if place.is_file():
        with suppress(UserError):  # damaged: it is taught again and written anew
            summary = recall_classifier(network, place, classes)
            training.progress.say(f"{STAGE}: taught before ({_told(summary)}), taken from {place}")
            return summary
    kept = writable(training.shared)
    if not kept:
        training.progress.say(f"{STAGE}: cannot be kept in {training.shared}; set SEPBENCH_CACHE to a folder that you may write.")
    device = next(network.parameters()).device
    _start(network, training.seed)
    lesson = Lesson(network, len(classes))
    network.learning = True
    network.train()
    rest = (training.folder, training.seed, device, training.progress)
    summary = train(STAGE, network, lesson.loss, clips, valid, schedule, *rest)
    network.learning = False
    network.to(device).eval()
    network.names = tuple(classes)
    summary["accuracy"] = lesson.accuracy(valid, schedule)
    if kept:
        keep_classifier(network, place, classes, summary)
    training.progress.say(f"{STAGE}: {_told(summary)}" + (f", kept for other runs in {place}" if kept else ""))
    return summary


class Lesson:
    """The loss of section 2.1: the sigmoid cross-entropy of every class, where silent windows are of none."""

    def __init__(self, network: SoundClassifier, n_classes: int):
        self.network, self.n_classes = network, n_classes

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        """Of clips, sources (clip, 1, time): summed over classes, its mean over windows."""
        audio, target = batch.sources[:, 0], self.target(batch)
        if self.network.training:
            audio, target = overlaid(audio, target)
        logits = self.network.strided(audio)
        per_class = binary_cross_entropy_with_logits(logits, target, reduction="none")
        return {"loss": per_class.sum(1).mean()}

    def target(self, batch: Batch) -> Tensor:
        """1 for a clip's class in each window that sounds, else 0: (clip, class, window)."""
        labels = torch.from_numpy(batch.labels[:, 0]).to(batch.sources.device)
        sounding = self.network.log_mel.sounding(batch.sources[:, 0]) & (labels >= 0)[:, None]
        return one_hot(labels.clamp_min(0), self.n_classes)[..., None] * sounding[:, None].float()

    @torch.inference_mode()
    def accuracy(self, clips: Any, schedule: Schedule) -> float:
        """The share of clips whose likeliest class over all windows that sound is theirs."""
        self.network.eval()
        device = next(self.network.parameters()).device
        right = total = 0
        for index in range(schedule.valid_batches):
            batch = clips.batch(index, schedule.batch)
            labels = torch.from_numpy(batch.labels[:, 0])
            audio = batch.sources[:, 0].to(device)
            heard = self.network.log_mel.sounding(audio)[:, None]
            logits = (self.network.strided(audio) * heard).sum(-1)
            right += int((logits.argmax(1).cpu() == labels).sum())
            total += int((labels >= 0).sum())
        return right / max(total, 1)


def overlaid(audio: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The first clips of a batch, OVERLAID of them, each with its neighbour laid over it; the classes of both are right.

    Which ones follows from the batch, not from chance, so that a training that was stopped goes on as it would have.
    Shapes: (clip, time), (clip, class, window) -> the same.
    """
    first = torch.arange(len(audio), device=audio.device) < OVERLAID * len(audio)
    both, either = audio + audio.roll(-1, 0), target.maximum(target.roll(-1, 0))
    return torch.where(first[:, None], both, audio), torch.where(first[:, None, None], either, target)


def _start(network: SoundClassifier, seed: int) -> None:
    """Weights that follow from the seed alone, and classes as rare as they are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear, nn.BatchNorm2d)):
                module.reset_parameters()
    nn.init.constant_(network.dense.bias, -math.log(network.n_classes))


def _key(
    network: SoundClassifier, classes: Sequence[str], clips: tuple[str, str], schedule: Schedule, seed: int
) -> str:
    """A hash of all that decides what is learnt: the constants too, and the precision that "auto" is on this device."""
    precision = precision_on(next(network.parameters()).device, schedule.precision)
    heard = (N_MELS, WINDOW_MS, HOP_MS, PATCH, STRIDE, LOWEST_HZ, HIGHEST_HZ, FLOOR, SILENT_DBFS)
    constants = (FORMAT, OVERLAID, heard, STEM, LAYERS)
    sizes = (network.sample_rate_hz, network.width)
    told = (constants, clips, tuple(classes), sizes, replace(schedule, precision=precision), seed)
    return hashlib.blake2b(repr(told).encode(), digest_size=16).hexdigest()


def _told(summary: Mapping[str, Any]) -> str:
    return f"{100 * summary['accuracy']:.0f} % of the valid clips right"
