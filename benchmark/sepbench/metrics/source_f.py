"""Detection of sources by their labels (DCASE 2025 Task 4): which were named, invented and overlooked, per label.

A scene may hold two sources of one label, so labels are compared as multisets: of a label that is there m times and was
named n times, min(m, n) are right, n - min(m, n) invented and m - min(m, n) overlooked. Where they are, nobody asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class SourceCounts:
    """Outcomes of one label. There is no tn: of sources that are not there and were not named, there is no number."""

    tp: int
    fp: int
    fn: int


def source_counts(*, estimate_labels: Sequence[str], reference_labels: Sequence[str]) -> dict[str, SourceCounts]:
    """Outcomes of one scene for each label that is there or was named, in order of the label.

    Labels of the sources, in any order; leave out those of references that are silent. Counts are for pooling:
    precision, recall and F of a data set come from their sums over scenes, never from a mean of scenes.
    """
    named, there = Counter(estimate_labels), Counter(reference_labels)
    right = named & there
    return {
        label: SourceCounts(tp=right[label], fp=named[label] - right[label], fn=there[label] - right[label])
        for label in sorted(named | there)
    }
