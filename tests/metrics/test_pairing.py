from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch

from sepbench.metrics.pairing import best_pairs, pair_by_separation, pair_scenes
from sepbench.metrics.si_sdr import si_sdr_matrix


@pytest.mark.parametrize("shape", [(4, 4), (2, 4), (4, 2), (1, 1)])
def test_no_other_pairing_scores_higher(shape):
    scores = np.random.default_rng(0).standard_normal(shape)
    total = sum(scores[pair] for pair in best_pairs(scores))
    wide = scores if shape[0] <= shape[1] else scores.T
    choices = permutations(range(wide.shape[1]), len(wide))
    assert total == pytest.approx(max(sum(wide[i, j] for i, j in enumerate(chosen)) for chosen in choices))
    assert len(best_pairs(scores)) == min(shape)


def test_nothing_pairs_with_nothing():
    assert best_pairs(np.zeros((0, 3))) == []
    assert pair_by_separation(estimate=torch.zeros(0, 5), reference=torch.ones(2, 5)) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="score of reference 1 and estimate 0"):
        best_pairs(np.array([[0.0, 1.0], [bad, 0.0]]))


def test_the_order_of_the_estimates_does_not_matter():
    reference = torch.from_numpy(np.random.default_rng(0).standard_normal((12, 400)))
    order = np.random.default_rng(1).permutation(12)
    pairs = pair_by_separation(estimate=-0.1 * reference[order], reference=reference)
    assert pairs == [(i, int(np.argsort(order)[i])) for i in range(12)]


def test_silent_references_are_left_unpaired():
    reference = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 400)))
    estimate = reference.flip(0).clone()
    reference[1] = 0
    assert pair_by_separation(estimate=estimate, reference=reference) == [(0, 2), (2, 0)]


@pytest.mark.parametrize("silent", [False, True])
def test_many_scenes_are_paired_as_each_of_them(silent):
    generator = np.random.default_rng(0)
    reference, estimate = generator.standard_normal((6, 3, 200)), generator.standard_normal((6, 5, 200))
    if silent:
        reference[2, 1] = reference[4] = 0
        estimate[3, 0] = 0
    pairs, matrix = pair_scenes(estimate=estimate, reference=reference)
    each = zip(estimate, reference, strict=True)
    assert pairs == [pair_by_separation(estimate=e, reference=s) for e, s in each]
    np.testing.assert_array_equal(matrix, si_sdr_matrix(estimate=estimate, reference=reference))
    assert [len(some) for some in pairs] == ([3, 3, 2, 3, 0, 3] if silent else [3] * 6)
    assert all(type(i) is int and type(j) is int for some in pairs for i, j in some)  # they go into JSON


def test_scenes_need_a_scene_axis():
    with pytest.raises(ValueError, match=r"estimate \(scene, source, time\) must have 3 axes: it is 2x9"):
        pair_scenes(estimate=np.ones((2, 9)), reference=np.ones((2, 9)))
