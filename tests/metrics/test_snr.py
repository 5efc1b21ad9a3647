from __future__ import annotations

import numpy as np
import pytest
import torch

from sepbench.metrics.snr import snr, snr_matrix, snri


def noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def test_noise_of_a_tenth_of_the_level_gives_20_db():
    reference = noise(3, 1000)
    np.testing.assert_allclose(snr(estimate=1.1 * reference, reference=reference), 20, atol=1e-6)


def test_a_sign_flip_costs_all_and_silence_scores_zero():
    reference = noise(1000)
    assert snr(estimate=-reference, reference=reference).item() == pytest.approx(-20 * np.log10(2), abs=1e-6)
    assert snr(estimate=torch.zeros(1000), reference=reference).item() == pytest.approx(0, abs=1e-6)


def test_perfect_is_finite_and_silent_reference_is_undefined():
    reference = noise(1000)
    expected = 10 * np.log10((reference @ reference).item() / np.finfo(np.float32).eps + 1)
    assert snr(estimate=reference, reference=reference).item() == pytest.approx(expected, abs=1e-6)
    assert np.isnan(snr(estimate=reference, reference=torch.zeros(1000)).item())


def test_the_epsilon_is_added_to_both_sums():
    epsilon = 2.0**-23
    value = snr(estimate=torch.tensor([2e-3], dtype=torch.float64), reference=torch.tensor([5e-4], dtype=torch.float64))
    assert value.item() == pytest.approx(10 * np.log10((2.5e-7 + epsilon) / (2.25e-6 + epsilon)), abs=1e-9)


def test_the_mixture_improves_on_itself_by_nothing():
    reference = noise(2, 400)
    mixture = reference.sum(0)
    improvement = snri(estimate=mixture.expand_as(reference), reference=reference, mixture=mixture)
    np.testing.assert_allclose(improvement, 0, atol=1e-9)


def test_the_matrix_holds_every_pair():
    reference, estimate = noise(2, 3, 50), noise(2, 4, 50, seed=1)
    matrix = snr_matrix(estimate=estimate, reference=reference)
    assert matrix.shape == (2, 3, 4)
    assert matrix[1, 2, 3].item() == pytest.approx(snr(estimate=estimate[1, 3], reference=reference[1, 2]).item())
    assert snr_matrix(estimate=noise(4, 9), reference=noise(0, 9)).shape == (0, 4)


def test_torchmetrics_agrees_on_ordinary_signals():
    outsider = pytest.importorskip("torchmetrics.functional.audio")
    reference, estimate = noise(20, 4000), noise(20, 4000) + 0.2 * noise(20, 4000, seed=1)
    theirs = outsider.signal_noise_ratio(estimate, reference, zero_mean=False)
    np.testing.assert_allclose(snr(estimate=estimate, reference=reference), theirs, atol=1e-4)
