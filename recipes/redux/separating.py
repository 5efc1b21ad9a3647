"""How a separator is taught: the true labels in, the true sources out; then once more with SpecAugment (section 2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sepbench.method import Batch, Training
from sepbench.training import Schedule, train

from .kept import settled, taught_once
from .losses import snr_loss

SIZES = ("window", "hop", "width", "film", "cardinality")  # those that a separator is built by
STAGES = ("separator", "augmented")


def teach_separator(
    network: nn.Module,
    told: tuple[Any, ...],
    schedules: Mapping[str, Schedule],
    training: Training,
    spec_augment: int | None,
) -> dict[str, Any]:
    """Teach what `build_separator` has made; hands back what each stage cost. `told`: what the network is, for `taught_once`.

    With `spec_augment`, the widest band and stretch that are masked, a second stage goes on from the first one's best weights
    with parts of the input masked, as the paper has it; so runs with and without it share the first.
    """
    device = next(network.parameters()).device
    cost = {}
    for stage in STAGES[: 1 if spec_augment is None else 2]:
        network.masking = stage == "augmented"  # type: ignore[assignment]
        told = (*told, device.type, settled(schedules[stage], device), spec_augment if network.masking else None)

        def learn(stage: str = stage) -> dict[str, Any]:
            heard = (training.scenes, training.valid, schedules[stage], training.folder, training.seed)
            return train(stage, network, lambda batch: loss(network, batch), *heard, device, training.progress)

        cost[stage] = taught_once(stage, network, told, training, learn)
    network.masking = False  # type: ignore[assignment]
    return cost


def loss(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """The SDR loss of section 3.1, slots in the order in which the scene was drawn."""
    labels = torch.from_numpy(batch.labels).to(batch.mixture.device)
    estimate = network(several(batch.mixture), labels)
    return {"loss": snr_loss(estimate, batch.sources, labels)}


def several(mixture: Tensor) -> Tensor:
    """(scene, time) or (scene, channel, time) -> (scene, channel, time)."""
    return mixture if mixture.ndim == 3 else mixture[:, None]
