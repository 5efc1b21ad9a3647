from __future__ import annotations

import numpy as np
import pytest

from sepbench.metrics.f_measure import Counts, clip_counts, frame_counts


def drawn(*shape):
    generator = np.random.default_rng(0)
    truth = (generator.random(shape) < 0.3).astype(np.float32)
    return truth, generator.random(shape).astype(np.float32)


def test_every_frame_is_counted_once():
    truth, guess = drawn(4, 3, 50)
    for each, one in zip(frame_counts(estimate=guess, reference=truth), truth.swapaxes(0, 1), strict=True):
        assert each.tp + each.fp + each.fn + each.tn == 200
        assert each.tp + each.fn == one.sum()


def test_half_is_a_yes():
    counts = clip_counts(estimate=np.array([0.5, 0.49]), reference=np.array([1, 1]))
    assert counts == [Counts(1, 0, 0, 0), Counts(0, 0, 1, 0)]


def test_figures_without_a_denominator_are_none():
    quiet = Counts(0, 0, 0, 9)
    assert (quiet.precision, quiet.recall, quiet.f_measure, quiet.chance) == (None, None, None, None)
    assert Counts(0, 0, 2, 0).precision is None
    assert Counts(0, 0, 2, 0).f_measure == 0.0


def test_always_yes_scores_the_chance_level():
    truth, _ = drawn(5, 2, 40)
    for each in frame_counts(estimate=np.ones_like(truth), reference=truth):
        assert each.f_measure == pytest.approx(each.chance)


def test_f_is_the_harmonic_mean():
    each = Counts(7, 3, 2, 10)
    assert each.f_measure == pytest.approx(2 / (1 / each.precision + 1 / each.recall))


def test_scikit_learn_agrees():
    outsider = pytest.importorskip("sklearn.metrics")
    truth, guess = drawn(5, 3, 40)
    for i, each in enumerate(frame_counts(estimate=guess, reference=truth)):
        assert each.f_measure == pytest.approx(outsider.f1_score(truth[:, i].ravel(), guess[:, i].ravel() >= 0.5))


def test_shape_and_finiteness_errors_name_the_axes():
    truth, guess = drawn(3, 50)
    with pytest.raises(ValueError, match=r"estimate \(\.\.\., class, frame\) is 3x50 .* is 3x49"):
        frame_counts(estimate=guess, reference=truth[:, 1:])
    guess[2, 4] = np.nan
    with pytest.raises(ValueError, match="class 2, frame 4 is nan"):
        frame_counts(estimate=guess, reference=truth)
