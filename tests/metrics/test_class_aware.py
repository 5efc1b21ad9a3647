from __future__ import annotations

import numpy as np
import pytest
import torch

from sepbench.metrics.ca_sdri import ca_sdri
from sepbench.metrics.capi_sdri import capi_sdri
from sepbench.metrics.label_set import label_set_accuracy
from sepbench.metrics.snr import snri

REFERENCE = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 500)))
MIXTURE = REFERENCE.sum(0)
ESTIMATE = REFERENCE + 0.1 * torch.from_numpy(np.random.default_rng(1).standard_normal((3, 500)))
BOTH = pytest.mark.parametrize("measure", [ca_sdri, capi_sdri])


def score(measure, estimate_labels, reference_labels, estimate=ESTIMATE):
    return measure(
        estimate=estimate[: len(estimate_labels)], reference=REFERENCE[: len(reference_labels)], mixture=MIXTURE,
        estimate_labels=estimate_labels, reference_labels=reference_labels,
    )


@BOTH
def test_all_named_right_is_the_mean_improvement(measure):
    mean = snri(estimate=ESTIMATE, reference=REFERENCE, mixture=MIXTURE).mean().item()
    assert score(measure, "abc", "abc") == pytest.approx(mean)


@BOTH
def test_each_missed_and_each_false_label_dilutes_the_mean(measure):
    alone = score(measure, "a", "a")
    assert score(measure, "a", "ab") == pytest.approx(alone / 2)
    assert score(measure, "ab", "a") == pytest.approx(alone / 2)
    assert score(measure, "ab", "ac") == pytest.approx(alone / 3)


@BOTH
def test_nothing_anywhere_is_undefined_and_a_false_alarm_scores_zero(measure):
    assert np.isnan(score(measure, "", ""))
    assert score(measure, "a", "") == 0.0
    assert score(measure, "", "a") == 0.0


def test_repeated_labels_need_the_permutation_invariant_measure():
    with pytest.raises(ValueError, match="repeat"):
        score(ca_sdri, "aa", "ab")
    assert score(capi_sdri, "aab", "aab", ESTIMATE[[1, 0, 2]]) == pytest.approx(score(capi_sdri, "abc", "abc"))


def test_a_label_for_each_source_is_wanted():
    with pytest.raises(ValueError, match="2 labels for 1 sources"):
        capi_sdri(
            estimate=ESTIMATE[:1], reference=REFERENCE, mixture=MIXTURE, estimate_labels="ab", reference_labels="abc"
        )


def test_label_sets_are_compared_as_multisets():
    assert label_set_accuracy(estimate_labels=["b", "a", "a"], reference_labels=["a", "b", "a"]) == 1.0
    assert label_set_accuracy(estimate_labels=["b", "a"], reference_labels=["a", "b", "a"]) == 0.0
    assert label_set_accuracy(estimate_labels=[], reference_labels=[]) == 1.0
