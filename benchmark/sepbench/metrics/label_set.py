"""Label-set accuracy (DCASE 2025 Task 4): whether exactly the sources that are there were named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def label_set_accuracy(*, estimate_labels: Sequence[str], reference_labels: Sequence[str]) -> float:
    """1.0 where both hold the same labels, each as often, in any order; else 0.0. Report its mean over scenes."""
    return float(Counter(estimate_labels) == Counter(reference_labels))
