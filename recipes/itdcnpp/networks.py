"""TDCN++ and iTDCN++ with what a sound classifier hears as a condition (paper, figs. 2 and 3).

The network's own size is that of sepbench/blocks/tdcn_separator.py; the condition at the paper's size adds

    an embedding of 527 classes (mixture, soft-OR)           84,227 parameters
    of three times as many (all, two sources)               219,139
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sepbench.blocks.bases import LearnedBasis, StftBasis
from sepbench.blocks.tdcn_separator import TdcnSeparator

from .conditioning import Conditioning
from .embeddings import joined, n_signals

HEARS_MIXTURE, HEARS_SOURCES = ("mixture", "all"), ("all", "soft_or")


@dataclass(frozen=True)
class Heard:
    """What one iteration makes of a batch."""

    estimate: Tensor  # (batch, source, time)
    masks: Tensor  # (batch, source, frame, bin)
    mixture_logits: Tensor | None = None  # (batch, class, frame), what the classifier said; None where it was not asked
    source_logits: Tensor | None = None  # (batch, source, class, frame), of the sources that this iteration was given


def basis_of(params: Any, sizes: Any, sample_rate_hz: int) -> StftBasis | LearnedBasis:
    """What masks act on."""
    if params.basis == "stft":
        return StftBasis(sizes.window_ms, sizes.hop_ms, sample_rate_hz)
    return LearnedBasis(sizes.window_ms, sizes.hop_ms, sample_rate_hz, sizes.filters)


class Iteration(nn.Module):
    """One TDCN++, what conditions it, and its own ears where they learn too.

    `kind` is the embedding it is given, `n_heard` the signals: the mixture, and an earlier iteration's estimates.
    """

    def __init__(self, params: Any, sizes: Any, n_sources: int, sample_rate_hz: int, kind: str, n_heard: int, classifier: Any):
        super().__init__()
        self.kind, self.n_sources = kind, n_sources
        self.ears = None  # the frozen classifier is shared, and no part of this
        if kind != "none" and params.classifier != "pretrained":
            self.ears = deepcopy(classifier).requires_grad_(False)
            for parameter in self.ears.tail(params.finetuned_layers):
                parameter.requires_grad_(True)
        self.conditions, where = nn.ModuleDict(), places(params, sizes) if kind != "none" else []
        for place in where:
            n_in = n_signals(kind, n_sources) * classifier.n_classes
            self.conditions[place] = Conditioning(n_in, params.embedding_channels, params.activation, params.over_time)
        blocks = {int(place): params.embedding_channels for place in where if place != "input"}
        self.separator = TdcnSeparator(
            basis_of(params, sizes, sample_rate_hz), n_sources, n_heard,
            sizes.channels, sizes.hidden, sizes.blocks, sizes.repeats, params.mixture_consistency,
            at_input=params.embedding_channels if "input" in where else 0, at_block=blocks,
            gate=params.integration == "gate", skips=params.skips,
        )  # fmt: skip

    def forward(self, mixture: Tensor, before: Tensor | None, told: Tensor | None, classifier: Any) -> Heard:
        """The separator's answer.

        Shapes: mixture (batch, time); `before`, an earlier iteration's estimates, and `told`, what the classifier is to hear
        as the sources, both (batch, source, time).
        """
        signals = mixture[:, None] if before is None else torch.cat([mixture[:, None], before], 1)
        if self.kind == "none":
            return Heard(*self.separator(signals))
        mixture_logits, source_logits = self._listen(mixture, told, classifier)
        embedding = joined(self.kind, mixture_logits, source_logits)
        n_frames = self.separator.basis.n_frames(mixture.shape[-1])
        conditions = {place: each(embedding, n_frames) for place, each in self.conditions.items()}
        at_input = conditions.pop("input", None)
        answer = self.separator(signals, at_input, {int(place): each for place, each in conditions.items()})
        return Heard(*answer, mixture_logits, source_logits)

    def _listen(self, mixture: Tensor, told: Tensor | None, classifier: Any) -> tuple[Tensor | None, Tensor | None]:
        """Logits of the mixture and of the sources, those that the embedding is made of."""
        ears = classifier if self.ears is None else self.ears
        sounds = [mixture[:, None]] if self.kind in HEARS_MIXTURE else []
        if self.kind in HEARS_SOURCES:
            assert told is not None
            sounds.append(told)
        learns = self.ears is not None or any(each.requires_grad for each in sounds)
        with nullcontext() if learns else torch.no_grad():
            logits = listened(ears, torch.cat(sounds, 1))  # (batch, signal, class, frame)
        of_mixture = logits[:, 0] if self.kind in HEARS_MIXTURE else None
        return of_mixture, logits[:, -self.n_sources :] if self.kind in HEARS_SOURCES else None


def places(params: Any, sizes: Any) -> list[str]:
    """Where a condition comes in: "input", beside the basis's coefficients, or the number of a block."""
    n_blocks = sizes.blocks * sizes.repeats
    return {"coefficients": ["input"], "first": ["0"], "all": [str(i) for i in range(n_blocks)]}[params.condition_at]


def listened(ears: nn.Module, sounds: Tensor) -> Tensor:
    """What a classifier says of several sounds: (batch, signal, time) -> logits (batch, signal, class, frame)."""
    logits: Tensor = ears(sounds.flatten(0, 1))
    return logits.float().unflatten(0, sounds.shape[:2])


class Itdcn(nn.Module):
    """One iteration, or two with weights of their own, of which the second also hears what the first has separated.

    Without an oracle the first is conditioned on the mixture alone; the classifier hears its estimates for the second.
    """

    def __init__(self, params: Any, sizes: Any, n_sources: int, sample_rate_hz: int, kinds: Sequence[str], classifier: Any):
        super().__init__()
        self.iterations = nn.ModuleList(
            Iteration(params, sizes, n_sources, sample_rate_hz, kind, 1 + i * n_sources, classifier)
            for i, kind in enumerate(kinds)
        )
        self.stop_gradient = params.stop_gradient

    def forward(self, mixture: Tensor, truth: Tensor | None, classifier: Any) -> list[Heard]:
        """Every iteration's answer; `truth` (batch, source, time), where an oracle tells it, is heard by the classifier alone."""
        found: list[Heard] = []
        for iteration in self.iterations:
            before = found[-1].estimate if found else None
            if before is not None and self.stop_gradient:
                before = before.detach()
            found.append(iteration(mixture, before, before if truth is None else truth, classifier))
        return found
