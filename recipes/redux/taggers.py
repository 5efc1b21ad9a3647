"""The taggers by name, and how they are taught: which classes sound, each by itself (section 3, "Classifier")."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from sepbench.blocks import log_mel
from sepbench.labels import Events
from sepbench.method import Batch, Scenes, Training, WeakBatch
from sepbench.scene import TaskInfo
from sepbench.training import Schedule, train

from .kept import settled, taught_once
from .lessons import SILENT_DB, Lessons, firsts
from .m2d import M2dTagger
from .m2d_files import load_m2d
from .tagger_cnn import CnnTagger

STAGE = "tagger"


def build_tagger(kind: str, task: TaskInfo, sizes: Any, seed: int) -> nn.Module:
    """`cnn` or `m2d`, (item, time) -> logits (item, class); the same for the same seed. m2d's blocks are still empty."""
    torch.manual_seed(seed)
    n_classes, rate_hz = len(task.classes), task.sample_rate_hz
    if kind == "cnn":
        return CnnTagger(n_classes, rate_hz, sizes.tagger_channels, sizes.tagger_convs)
    shape = (sizes.m2d_width, sizes.m2d_depth, sizes.m2d_heads, sizes.m2d_finetuned)
    return M2dTagger(n_classes, rate_hz, task.seconds, *shape)


def teach(
    network: nn.Module, file: str | None, task: TaskInfo, sizes: Any, schedule: Schedule, training: Training
) -> dict[str, Any]:
    """Teach what `build_tagger` has made, on what Lessons says; m2d from the checkpoint `file` on. Hands back what it cost.

    Beside that, of the validation scenes and clips: the share of mixtures and of single sounds whose set of classes with a
    probability of 0.5 or more is theirs.
    """
    device = next(network.parameters()).device
    if isinstance(network, M2dTagger):
        load_m2d(network, file)
    brought = (
        None if file is None else hashlib.blake2b(Path(file).expanduser().read_bytes(), digest_size=16).hexdigest()
    )
    own = {name: value for name, value in vars(sizes).items() if name.startswith(("tagger_", "m2d_"))}
    told = (
        type(network).__name__,
        brought,
        task.classes,
        task.sample_rate_hz,
        task.seconds,
        own,
        SILENT_DB,
        (log_mel.N_MELS, log_mel.N_FFT, log_mel.HOP, log_mel.EPSILON),
        device.type,
        settled(schedule, device),
    )

    def learn() -> dict[str, Any]:
        lessons, valid = Lessons(training.scenes, training.clips), Lessons(training.valid, training.valid_clips)
        rest = (training.folder, training.seed, device, training.progress)
        cost = train(STAGE, network, lambda batch: loss(network, batch), lessons, valid, schedule, *rest)
        network.to(device)
        return cost | figures(network, valid, schedule)

    cost = taught_once(STAGE, network, told, training, learn)
    training.progress.say(
        f"{STAGE}: right about {cost['mixtures_right']:.0%} of mixtures, {cost['singles_right']:.0%} of single sounds"
    )
    return cost


def loss(network: nn.Module, batch: WeakBatch) -> Mapping[str, Tensor]:
    """The cross-entropy of every class, summed; its mean over the items of Lessons."""
    logits = network(batch.mixture)
    target = torch.from_numpy(batch.events.presence()).to(logits.device)
    return {"loss": binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1).mean()}


@torch.inference_mode()
def figures(network: nn.Module, valid: Lessons, schedule: Schedule) -> dict[str, float]:
    """The shares of `teach`, of the batches that the training is judged by, each scene counted once."""
    network.eval()
    alone = valid.scenes if valid.clips is None else valid.clips
    mixtures = [_right(network, each.reference, each.events) for each in _once(valid.scenes, schedule)]
    singles = [_right(network, *firsts(each)) for each in _once(alone, schedule)]
    return {"mixtures_right": float(torch.cat(mixtures).mean()), "singles_right": float(torch.cat(singles).mean())}


def _once(scenes: Scenes, schedule: Schedule) -> Iterator[Batch]:
    """As many batches as the training is judged by, or all there are where they start over before that."""
    first = scenes.batch(0, schedule.batch)
    yield first
    for index in range(1, schedule.valid_batches):
        batch = scenes.batch(index, schedule.batch)
        if torch.equal(batch.mixture, first.mixture):
            return
        yield batch


def _right(network: nn.Module, audio: Tensor, events: Events) -> Tensor:
    """1 where the set of classes is right, else 0: (item,)."""
    logits = network(audio.to(next(network.parameters()).device)).cpu()
    return ((logits > 0) == torch.from_numpy(events.presence() > 0)).all(1).float()
