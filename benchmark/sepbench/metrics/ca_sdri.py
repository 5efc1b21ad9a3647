"""Class-aware SDR improvement (Nguyen et al. 2025, arXiv 2503.22088; DCASE 2025 Task 4).

Per scene: the mean, over true and estimated labels together, of SNRi for the labels in both and 0 dB for each missed
and each false one. The score of a data set is the mean over its scenes.
"""

from __future__ import annotations

from collections.abc import Sequence

from sepbench.metrics.arrays import Array, signal_sets
from sepbench.metrics.snr import snri


def ca_sdri(
    *,
    estimate: Array,
    reference: Array,
    mixture: Array,
    estimate_labels: Sequence[str],
    reference_labels: Sequence[str],
) -> float:
    """CA-SDRi of one scene, in dB; higher is better. NaN where nothing is there and nothing was found.

    Shapes: estimate (estimate, time), reference (reference, time), mixture (time,); a label for each source.
    References must sound: a silent one has no SNRi, and makes the scene undefined (NaN).
    ValueError where a label repeats (use `capi_sdri`) and where labels and sources differ in number.
    """
    e, s = signal_sets(estimate=estimate, reference=reference)
    check_labels(estimate_labels, e.shape[-2], "estimate")
    check_labels(reference_labels, s.shape[-2], "reference")
    for name, labels in (("estimate", estimate_labels), ("reference", reference_labels)):
        if len(set(labels)) < len(labels):
            raise ValueError(f"{name} labels repeat ({', '.join(labels)}); ca_sdri wants one per class, use capi_sdri")
    everywhere = set(estimate_labels) | set(reference_labels)
    both = [label for label in reference_labels if label in set(estimate_labels)]
    if not everywhere:
        return float("nan")
    if not both:
        return 0.0
    e = e[[list(estimate_labels).index(label) for label in both]]
    s = s[[list(reference_labels).index(label) for label in both]]
    return float(snri(estimate=e, reference=s, mixture=mixture).sum()) / len(everywhere)


def check_labels(labels: Sequence[str], n_sources: int, name: str) -> None:
    if len(labels) != n_sources:
        raise ValueError(f"{name}: {len(labels)} labels for {n_sources} sources; each source needs one label")
