"""The objective functions of section II, one function per equation. Axes: (batch, frame, class, bin)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def class_weights(labels: Tensor, prior: Tensor) -> Tensor:
    """Eq. 15: 1 / prior where a class is active, 1 / (1 - prior) where not. labels (batch, frame, class), prior (class,)."""
    return torch.where(labels > 0, 1 / prior, 1 / (1 - prior))


def mixture_classification(logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """Eqs. 7, 12 and 17, summed over classes: (batch, frame, class) -> (batch, frame)."""
    return binary_cross_entropy_with_logits(logits, labels, weights, reduction="none").sum(-1)


def source_classification(logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """Eqs. 8, 13 and 18, summed over estimates and classes.

    `logits` (batch, estimate, frame, class); of the mixture's `labels` (batch, frame, class) an estimate keeps its own
    class, the others become 0; the weight of a class is that of its label in the mixture.
    """
    own = torch.eye(labels.shape[-1], device=labels.device)[:, None]  # (estimate, 1, class)
    targets = labels[:, None] * own  # (batch, estimate, frame, class)
    if weights is not None:
        weights = weights[:, None].expand_as(targets)
    return binary_cross_entropy_with_logits(logits, targets, weights, reduction="none").sum((1, 3))


def mixture_loss(magnitude: Tensor, estimates: Tensor, active: Tensor) -> Tensor:
    """Eq. 5: active estimates sum to the mixture, the others to silence; frames where nothing is active count 0.

    magnitude (batch, frame, bin), estimates (batch, frame, class, bin), active (batch, frame, class) -> (batch, frame).
    """
    explained = torch.einsum("bfck,bfc->bfk", estimates, active)
    silent = (estimates.sum(-1) * (1 - active)).sum(-1)  # masks and magnitudes are never negative
    return ((magnitude - explained).abs().sum(-1) + silent) * (active.amax(-1) > 0)


def magnitude_loss(estimates: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Eqs. 3 and 16, strong labels: weighted L1 between magnitudes (batch, frame, class, bin) -> (batch, frame)."""
    return ((estimates - targets).abs().sum(-1) * weights).sum(-1)
