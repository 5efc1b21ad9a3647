"""How long, how fast and how precisely a network is trained: what recipe.yaml says of a stage."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any

import torch

from sepbench.errors import SettingsRefused, nearest
from sepbench.method import Budget

PRECISIONS = ("32", "bf16", "fp16", "auto")
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
MOST_LR = 1e30  # beyond it, a step is no float any more
OF_A_BUDGET = "seconds"  # the field that no recipe.yaml sets


def precision_on(device: torch.device, wanted: str) -> str:
    """32, bf16 or fp16: what `wanted` is on this device. SettingsRefused for fp16 without a GPU, which cannot count in it."""
    if wanted == "auto":
        if device.type == "cuda":
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        return "bf16" if torch.cpu._is_amx_tile_supported() else "32"
    if wanted == "fp16" and device.type != "cuda":
        raise SettingsRefused("precision fp16 wants a GPU. Choose bf16, 32 or auto.")
    return wanted


def answering(device: torch.device, trained_in: str) -> torch.autocast:
    """Within it, a network answers in the precision it was trained in, where the device has that.

    What has learnt in float16 answers in float32 on a CPU.
    """
    known = "32" if trained_in == "fp16" and device.type != "cuda" else precision_on(device, trained_in)
    return torch.autocast(device.type, HALVES.get(known), enabled=known in HALVES)


@dataclass(frozen=True)
class Schedule:
    """How long and how fast; the values come from recipe.yaml, profile by profile."""

    epochs: int  # at most
    steps: int  # per epoch
    batch: int  # scenes per step
    valid_batches: int
    lr: float
    patience: int  # epochs without a better validation loss before it stops
    warmup: int = 0  # steps of a linear rise from 0 to lr
    cosine: bool = False  # then down to 2 % of lr along half a cosine, over all epochs
    clip_norm: float | None = None  # of the gradient
    weight_decay: float = 0.0  # AdamW's (Loshchilov and Hutter 2019), beside the gradient; 0: plain Adam
    plateau_factor: float | None = None  # ReduceLROnPlateau: lr is multiplied with it where the validation loss stands still
    plateau_patience: int = 10  # for more epochs than this
    precision: str = "32"  # or bf16; fp16, on a GPU, with a scaled loss; auto: bf16 where it is fast, else a GPU's fp16, else 32
    share: float | None = None  # of a budget in minutes, beside those of the other stages; null in all: by their scenes
    seconds: float | None = None  # of a budget in minutes: it trains until they are over, and `epochs` counts for nothing

    def __post_init__(self) -> None:
        for name in ("epochs", "steps", "batch", "valid_batches", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; wanted 1 or more")
        if not 0 <= self.lr <= MOST_LR:
            raise ValueError(f"lr is {self.lr}; wanted 0 or more, and no more than {MOST_LR:g}")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay is {self.weight_decay}; wanted 0 or more")
        if self.plateau_factor is not None and not 0 < self.plateau_factor < 1:
            raise ValueError(f"plateau_factor is {self.plateau_factor}; wanted a number between 0 and 1, or null for none")
        if self.plateau_factor is not None and (self.cosine or self.warmup):
            raise ValueError("plateau_factor goes with neither cosine nor warmup; set cosine false and warmup 0, or it null")
        if self.plateau_patience < 0:
            raise ValueError(f"plateau_patience is {self.plateau_patience}; wanted 0 or more epochs")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is '{self.precision}'; wanted one of {', '.join(PRECISIONS)}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"clip_norm is {self.clip_norm}; wanted a number above 0, or null for none")
        if self.share is not None and not self.share > 0:
            raise ValueError(f"share is {self.share}; wanted a number above 0, or null for one by its scenes")

    @classmethod
    def of(cls, stage: str, settings: Any) -> Schedule:
        """The settings train.<stage> of a recipe. SettingsRefused for a key that there is not, or lacks, or a wrong value."""
        known = [each.name for each in fields(cls) if each.name != OF_A_BUDGET]
        given = vars(settings) if hasattr(settings, "__dict__") else {}
        for name in given:
            if name not in known:
                raise SettingsRefused(
                    f"train.{stage}.{name}: there is no such setting.{nearest(name, known)} Known: {', '.join(known)}."
                )
        missing = [each.name for each in fields(cls) if each.default is MISSING and each.name not in given]
        if missing:
            raise SettingsRefused(f"train.{stage}: {', '.join(missing)} not given. Write a number for each in recipe.yaml.")
        if isinstance(given.get("precision"), int):  # YAML reads 32 as a number
            given = {**given, "precision": str(given["precision"])}
        try:
            return cls(**given)
        except (TypeError, ValueError) as error:
            raise SettingsRefused(f"train.{stage}: {error}.") from None

    @property
    def scenes(self) -> int:
        """That it draws to learn from, unless it stops early."""
        return self.epochs * self.steps * self.batch

    def scaled(self, n_scenes: int) -> Schedule:
        """Drawing at most `n_scenes`: more or fewer epochs, about as long as they were, warm-up and patience in proportion.

        Less than a batch per epoch is left over. At least one step, so at least a batch.
        """
        n_steps = max(1, n_scenes // self.batch)
        epochs = max(1, round(n_steps / self.steps))
        steps, times = n_steps // epochs, epochs / self.epochs
        warmup = round(self.warmup * epochs * steps / (self.epochs * self.steps))
        patience, plateau = math.ceil(self.patience * times), math.ceil(self.plateau_patience * times)
        return replace(self, epochs=epochs, steps=steps, warmup=warmup, patience=patience, plateau_patience=plateau)

    def factor(self, step: float) -> float:
        """What lr is multiplied with at `step`."""
        rise = min(1.0, (step + 1) / (self.warmup + 1))
        share = min(1.0, step / max(1, self.epochs * self.steps))
        return rise * (0.02 + 0.49 * (1 + math.cos(math.pi * share)) if self.cosine else 1.0)


def within(budget: Budget | None, schedules: Mapping[str, Schedule], beside: int = 0) -> dict[str, Schedule]:
    """The stages that a fit is about to run, made to keep the budget together; None: as they are.

    Scenes: `beside` are drawn outside the stages, which share the rest in proportion to what they declare, fewer or more.
    Minutes: each stage is given its share of them in seconds, by `share` or else by its scenes; its rate follows the clock.
    SettingsRefused where the scenes are too few for a step of each, or where one stage has a share and another has none.
    """
    if budget is None or not schedules:
        return dict(schedules)
    total = sum(each.scenes for each in schedules.values())
    if budget.minutes is not None:
        seconds = {name: 60 * budget.minutes * share for name, share in _shares(schedules).items()}
        return {name: replace(each, seconds=seconds[name]) for name, each in schedules.items()}
    assert budget.scenes is not None
    rest = budget.scenes - beside
    least = max(math.ceil(total / (each.epochs * each.steps)) for each in schedules.values())
    if rest < least:
        named = ", ".join(schedules)
        raise SettingsRefused(f"--budget scenes={budget.scenes}: too few for a step of {named}. Give {beside + least} or more.")
    return {name: each.scaled(rest * each.scenes // total) for name, each in schedules.items()}


def _shares(schedules: Mapping[str, Schedule]) -> dict[str, float]:
    """Of a budget in minutes: of each stage, summing to 1."""
    said = {name: each.share for name, each in schedules.items()}
    without = [name for name, share in said.items() if share is None]
    if without and len(without) < len(said):
        raise SettingsRefused(f"train.{without[0]}.share: not given, but another stage's is. Give all stages one, or none.")
    weights = {name: each.share or float(each.scenes) for name, each in schedules.items()}
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


def check_sizes(sizes: Any) -> None:
    """SettingsRefused where one of a network's sizes is not 1 or more; where it is no whole number, above 0."""
    for name, size in vars(sizes).items():
        for each in size if isinstance(size, (tuple, list)) else [size]:
            if each <= 0 or (isinstance(each, int) and each < 1):
                raise SettingsRefused(
                    f"sizes.{name} is {each}; wanted {'1 or more' if isinstance(each, int) else 'more than 0'}."
                )
