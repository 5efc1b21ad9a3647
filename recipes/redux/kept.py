"""Stages of training that runs share: what one has taught is taken by every other that would teach the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from sepbench.blocks.weights import keep, recall, writable
from sepbench.errors import UserError
from sepbench.method import Training
from sepbench.training import Schedule, precision_on

FORMAT = 1  # counted up where this recipe's code would teach the same sounds another way


def taught_once(
    stage: str, network: nn.Module, told: tuple[Any, ...], training: Training, learn: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Have `learn` teach `network`; hands back what it cost. Where that was done before, weights and cost are taken from there.

    `told` is all that decides what is learnt beside the scenes and the seed of `training`, as its repr says it. Weights and cost
    are kept in training.shared under the hash of all that, for runs that differ only in how they answer; nothing is kept where
    the scenes have no name. The network comes back on the device that it was on.
    """
    device = next(network.parameters()).device
    place = _place(stage, told, training)
    if place is not None and place.is_file():
        with suppress(UserError):  # damaged: it is taught again and written anew
            cost = _recalled(network, place)
            training.progress.say(f"{stage}: trained before, taken from {place}")
            return cost
    kept = place is not None and writable(place.parent)
    if place is not None and not kept:
        training.progress.say(
            f"{stage}: cannot be kept in {place.parent}; set SEPBENCH_CACHE to a folder that you may write."
        )
    cost = learn()
    network.to(device)
    if place is not None and kept:
        keep(network, place, {"cost": json.dumps(cost)})
        training.progress.say(f"{stage}: kept for other runs in {place}")
    return cost


def _place(stage: str, told: tuple[Any, ...], training: Training) -> Path | None:
    heard = (training.scenes, training.valid, training.clips, training.valid_clips)
    names = [each and getattr(each, "id", None) for each in heard]
    if training.shared is None or None in names[:2]:
        return None
    key = hashlib.blake2b(repr((FORMAT, told, names, training.seed)).encode(), digest_size=16).hexdigest()
    return training.shared / f"redux-{stage}-{key}.safetensors"


def settled(schedule: Schedule, device: torch.device) -> Schedule:
    """The schedule with the precision that "auto" is on this device. UserError for one that it does not have."""
    return replace(schedule, precision=precision_on(device, schedule.precision))


def _recalled(network: nn.Module, place: Path) -> dict[str, Any]:
    """UserError where the file cannot be read, says no cost or holds another network."""
    try:
        with safe_open(place, "pt") as file:
            cost: Mapping[str, Any] = json.loads((file.metadata() or {})["cost"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{place}: cannot be read ({error}). Remove it, and it is trained again.") from None
    recall(network, place)
    return dict(cost)
