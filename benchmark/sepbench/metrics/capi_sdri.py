"""Class-aware permutation-invariant SDR improvement (DCASE 2026 Task 4): CA-SDRi for scenes where labels repeat.

Inside a class estimates and references are paired for the highest mean SNR; the difference in number scores zeros.
"""

from __future__ import annotations

from collections.abc import Sequence

from sepbench.metrics.arrays import Array, signal_sets
from sepbench.metrics.ca_sdri import check_labels
from sepbench.metrics.pairing import best_pairs
from sepbench.metrics.snr import snr_matrix, snri


def capi_sdri(
    *,
    estimate: Array,
    reference: Array,
    mixture: Array,
    estimate_labels: Sequence[str],
    reference_labels: Sequence[str],
) -> float:
    """CAPI-SDRi of one scene, in dB; higher is better. The same as CA-SDRi where no label repeats.

    Shapes: estimate (estimate, time), reference (reference, time), mixture (time,); a label for each source.
    NaN where nothing is there and nothing was found: such scenes are left out of the mean. False alarms where nothing
    is there score 0. References must sound: a silent one has no SNRi, and makes the scene undefined (NaN); where its
    label repeats, it cannot be paired (ValueError). ValueError where labels and sources differ in number.
    """
    e, s = signal_sets(estimate=estimate, reference=reference)
    check_labels(estimate_labels, e.shape[-2], "estimate")
    check_labels(reference_labels, s.shape[-2], "reference")
    count, pairs = 0, []
    for label in sorted(set(estimate_labels) | set(reference_labels)):
        found = [i for i, other in enumerate(estimate_labels) if other == label]
        there = [i for i, other in enumerate(reference_labels) if other == label]
        count += max(len(found), len(there))
        alone = len(found) == len(there) == 1  # nothing to choose
        chosen = [(0, 0)] if alone else best_pairs(snr_matrix(estimate=e[found], reference=s[there]))
        pairs += [(there[row], found[column]) for row, column in chosen]
    if not pairs:
        return 0.0 if count else float("nan")
    rows, columns = zip(*pairs)
    total = snri(estimate=e[list(columns)], reference=s[list(rows)], mixture=mixture).sum()
    return float(total) / count
