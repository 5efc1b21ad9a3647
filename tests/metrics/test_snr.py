from __future__ import annotations

import numpy as np
import pytest
import torch

from sepbench.metrics.snr import EPSILON, snr, snr_matrix, snri


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("level_db", [-80.0, -20.0, 0.0, 20.0, 39.0, 41.0, 60.0, 100.0])
def test_it_is_the_definition_in_float64(level_db, dtype):
    reference, error = noise(4, 20000), noise(4, 20000, seed=1)
    estimate = (reference + 10 ** (-level_db / 20) * error).to(dtype)
    reference = reference.to(dtype)
    e, s = estimate.double(), reference.double()
    rows = [(s[i].square().sum() + EPSILON).log10() - ((s[i] - e).square().sum(-1) + EPSILON).log10() for i in range(4)]
    definition = 10 * torch.stack(rows)
    matrix = snr_matrix(estimate=estimate, reference=reference)
    np.testing.assert_allclose(matrix, definition, rtol=0, atol=1e-6)
    np.testing.assert_allclose(snr(estimate=estimate, reference=reference), definition.diagonal(), rtol=0, atol=1e-6)


def test_extreme_levels_neither_vanish_nor_overflow():
    reference = noise(2, 500)
    near = 1.01 * reference
    loud = snr(estimate=1e170 * near, reference=1e170 * reference)
    assert loud.tolist() == pytest.approx([40.0] * 2, abs=1e-6)
    energy_db = 10 * np.log10(reference.square().sum(-1).numpy())
    alone = snr(estimate=1e170 * reference, reference=reference)
    np.testing.assert_allclose(alone, -3400, atol=1e-6)
    perfect = snr(estimate=1e170 * reference, reference=1e170 * reference)
    np.testing.assert_allclose(perfect, 3400 + energy_db - 10 * np.log10(EPSILON), atol=1e-6)
    faint = snr_matrix(estimate=1e-170 * near, reference=1e-170 * reference)  # all below the epsilon, and yet not silent
    np.testing.assert_allclose(faint, 0, atol=1e-9)
