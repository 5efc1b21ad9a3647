"""Class accuracy under the order that separation chose (SepClsNet, eqs. 11 to 13).

The paper aligns labels with sources by the permutation of the separation loss; so does this. The estimate that answers
a reference by separation is right where it bears the reference's label. Choosing the order by the labels instead would
double the score of guessing between two sources. The paper says "accuracy" and no more: read as the mean over sources,
with the share of scenes in which every source is right beside it. Guessing among C classes scores 1 / C.

An answer that names what sounds and separates nothing has no such order: there a reference is right where its label was
named, |named and there| / |there| in the mean (so the Baseline CNN of Table II, which is not defined there either, is
scored). That is the most generous order of all, and guessing n of C labels scores n / C: never read one for the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def class_hits(
    *, pairs: Sequence[tuple[int, int]], estimate_labels: Sequence[str], reference_labels: Sequence[str]
) -> list[float]:
    """1.0 for each reference whose estimate bears its label, else 0.0; in order of the reference.

    pairs: (reference, estimate) indices, as `pair_by_separation` gives them. A reference that no estimate answers is a
    miss, 0.0; an estimate that answers none is not looked at. References that are silent have no hit and no miss: leave
    them out of the labels, or their entries out of the result. ValueError where a pair has no labels.
    """
    for reference, estimate in pairs:
        if not (0 <= reference < len(reference_labels) and 0 <= estimate < len(estimate_labels)):
            raise ValueError(
                f"pair (reference {reference}, estimate {estimate}): there are {len(reference_labels)} reference labels "
                f"and {len(estimate_labels)} estimate labels; each source of a pair needs one"
            )
    right = {reference for reference, estimate in pairs if estimate_labels[estimate] == reference_labels[reference]}
    return [float(reference in right) for reference in range(len(reference_labels))]


def named_hits(*, estimate_labels: Sequence[str], reference_labels: Sequence[str]) -> list[float]:
    """1.0 for each reference whose label was named, else 0.0; in order of the reference.

    A label counts as often as it was named, for the first references that bear it.
    """
    left = Counter(estimate_labels)
    hits = []
    for label in reference_labels:
        hits.append(float(left[label] > 0))
        left[label] -= 1
    return hits


def chance(n_classes: int, n_named: int | None = None) -> float:
    """What guessing scores: 1 / C by separation; n / C, at most 1, where `n_named` labels were named and no more is known."""
    return min(1.0, (1 if n_named is None else n_named) / n_classes)


def all_right(hits: Sequence[float]) -> float:
    """1.0 where every source of a scene is a hit, else 0.0; NaN (undefined) where there is no source."""
    return float(all(hits)) if hits else float("nan")
