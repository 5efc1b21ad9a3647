"""Detection of classes, per frame and per clip: counts pooled over a data set, then precision, recall and F.

Threshold 0.5, each class on its own (Pishdadian et al. 2020; sed_eval's segment-based measure with pooled counts).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sepbench.metrics.arrays import Array, as_tensor, check_finite, shape_text

THRESHOLD = 0.5


@dataclass(frozen=True)
class Counts:
    """Outcomes of one class. Undefined figures are None: no alarm has no precision, no event no recall."""

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def precision(self) -> float | None:
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else None

    @property
    def recall(self) -> float | None:
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else None

    @property
    def f_measure(self) -> float | None:
        """Harmonic mean of both: 2 tp / (2 tp + fp + fn). None where there is neither event nor alarm."""
        return 2 * self.tp / (2 * self.tp + self.fp + self.fn) if self.tp + self.fp + self.fn else None

    @property
    def chance(self) -> float | None:
        """The F of always saying yes: 2 P / (2 P + (N - P)) with P events among N. None where there is no event."""
        positives = self.tp + self.fn
        return 2 * positives / (2 * positives + self.fp + self.tn) if positives else None


def frame_counts(*, estimate: Array, reference: Array, threshold: float = THRESHOLD) -> list[Counts]:
    """Outcomes per class over all frames of all clips; yes where `estimate` >= threshold.

    Shapes: estimate (..., class, frame), probabilities 0 to 1; reference the same, 0 or 1. Empty axes are allowed.
    ValueError on other shapes and on non-finite probabilities.
    """
    guess, truth = _decisions(estimate, reference, threshold, axes="class, frame", n_axes=2)
    n_classes = guess.shape[-2]
    return _outcomes(*(each.movedim(-2, 0).reshape(n_classes, -1) for each in (guess, truth)))  # (class, all frames)


def clip_counts(*, estimate: Array, reference: Array, threshold: float = THRESHOLD) -> list[Counts]:
    """Outcomes per class over clips, from one probability and one label (0 or 1) per clip: (..., class) both."""
    guess, truth = _decisions(estimate, reference, threshold, axes="class", n_axes=1)
    n_classes = guess.shape[-1]
    return _outcomes(*(each.movedim(-1, 0).reshape(n_classes, -1) for each in (guess, truth)))  # (class, all clips)


def _decisions(estimate: Array, reference: Array, threshold: float, *, axes: str, n_axes: int) -> tuple[Tensor, Tensor]:
    p, truth = as_tensor(estimate), as_tensor(reference)
    if p.shape != truth.shape or p.ndim < n_axes:
        raise ValueError(
            f"estimate (..., {axes}) is {shape_text(p)} and reference (..., {axes}) is {shape_text(truth)}: "
            "both must have the same shape"
        )
    check_finite(p, "estimated probability", ("clip", "class") if n_axes == 1 else ("class", "frame"))
    return p >= threshold, truth.to(p.device) >= 0.5


def _outcomes(guess: Tensor, truth: Tensor) -> list[Counts]:
    """(class, decision) twice -> one Counts per class."""
    columns = torch.stack([guess & truth, guess & ~truth, ~guess & truth, ~guess & ~truth]).sum(-1)  # (outcome, class)
    return [Counts(*outcomes) for outcomes in columns.T.tolist()]
