from __future__ import annotations

import numpy as np
import pytest
import torch

from sepbench.metrics.si_sdr import is_sign_flipped, si_sdr, si_sdr_matrix, si_sdri
from sepbench.metrics.snr import snr, snr_matrix, snri


def noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def with_error_of(level_db, n_time=4000, seed=0):
    """A reference and an estimate whose SI-SDR is `level_db` by construction: the error is orthogonal."""
    reference, error = noise(2, n_time, seed=seed)
    error = error - (error @ reference) / (reference @ reference) * reference
    error = error * reference.norm() / error.norm() * 10 ** (-level_db / 20)
    return reference, reference + error


@pytest.mark.parametrize("level_db", [-90.0, -30.0, 0.0, 20.0, 39.9, 40.1, 60.0, 99.0])
def test_orthogonal_noise_of_known_level_gives_that_level(level_db):
    reference, estimate = with_error_of(level_db)
    assert float(si_sdr(estimate=estimate, reference=reference)) == pytest.approx(level_db, abs=1e-6)


@pytest.mark.parametrize("level_db", np.arange(-95.0, 100.0, 7.5))
def test_the_gram_product_is_as_exact_as_the_residual(level_db):
    pairs = [with_error_of(level_db, n_time=16000, seed=seed) for seed in range(4)]
    reference, estimate = (torch.stack(each) for each in zip(*pairs, strict=True))
    matrix = si_sdr_matrix(estimate=estimate, reference=reference)
    for i in range(4):
        row = si_sdr(estimate=estimate, reference=reference[i].expand_as(estimate))
        np.testing.assert_allclose(matrix[i], row, atol=1e-6)
    np.testing.assert_allclose(matrix.diagonal(), level_db, atol=1e-6)


def test_the_residual_agrees_with_arithmetic_of_more_digits():
    reference, estimate = with_error_of(97.0, n_time=2000)
    s, e = reference.numpy().astype(np.longdouble), estimate.numpy().astype(np.longdouble)
    along = (s @ e) / (s @ s) * s
    exact = float(10 * np.log10((along @ along) / ((along - e) @ (along - e))))
    assert float(si_sdr(estimate=estimate, reference=reference)) == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize("gain", [1e-12, 1e-6, 0.3, -2.0, 1e8])
def test_gain_changes_nothing(gain):
    reference, estimate = with_error_of(20.0)
    for e, s in ((gain * estimate, reference), (estimate, gain * reference), (gain * estimate, gain * reference)):
        assert float(si_sdr(estimate=e, reference=s)) == pytest.approx(20.0, abs=1e-6)
        assert float(si_sdr_matrix(estimate=e[None], reference=s[None])) == pytest.approx(20.0, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_perfect_is_plus_100(dtype):
    reference = noise(3, 500).to(dtype)
    assert si_sdr(estimate=reference, reference=reference).tolist() == [100.0] * 3
    assert si_sdr_matrix(estimate=reference, reference=reference).diagonal().tolist() == [100.0] * 3


def test_silent_estimate_is_minus_100_and_silent_reference_is_undefined():
    sound, silence = noise(1, 100), torch.zeros(1, 100)
    for measure in (si_sdr, si_sdr_matrix):
        assert measure(estimate=silence, reference=sound).item() == -100.0
        assert np.isnan(measure(estimate=sound.float(), reference=silence).item())
        assert np.isnan(measure(estimate=silence, reference=silence).item())


def test_orthogonal_estimate_is_minus_100():
    assert si_sdr(estimate=torch.tensor([0.0, 1.0]), reference=torch.tensor([1.0, 0.0])).item() == -100.0


def test_one_sample_is_perfect_or_silent():
    assert si_sdr(estimate=torch.tensor([-3.0]), reference=torch.tensor([0.5])).item() == 100.0
    assert si_sdr(estimate=torch.tensor([0.0]), reference=torch.tensor([0.5])).item() == -100.0


def test_the_mean_is_not_removed():
    reference, estimate = with_error_of(20.0)
    assert float(si_sdr(estimate=estimate + 1, reference=reference)) < 1.0


def test_order_of_sources_is_the_order_of_the_matrix():
    reference, estimate = noise(4, 300), noise(4, 300, seed=1) + noise(4, 300)
    order = [2, 0, 3, 1]
    matrix = si_sdr_matrix(estimate=estimate, reference=reference)
    shuffled = si_sdr_matrix(estimate=estimate[order], reference=reference[order])
    np.testing.assert_allclose(shuffled, matrix[order][:, order], atol=1e-9)


def test_a_batch_scores_as_its_members():
    reference, estimate = noise(2, 5, 3, 200), noise(2, 5, 4, 200, seed=1)
    matrix = si_sdr_matrix(estimate=estimate, reference=reference)
    assert matrix.shape == (2, 5, 3, 4)
    alone = si_sdr_matrix(estimate=estimate[1, 3], reference=reference[1, 3])
    np.testing.assert_allclose(matrix[1, 3], alone, atol=1e-9)


def test_nothing_against_nothing_is_an_empty_matrix():
    assert si_sdr_matrix(estimate=noise(0, 10), reference=noise(2, 10)).shape == (2, 0)
    assert si_sdr_matrix(estimate=noise(3, 0, 10), reference=noise(3, 0, 10)).shape == (3, 0, 0)
    assert si_sdr(estimate=noise(0, 10), reference=noise(0, 10)).shape == (0,)


def test_the_mixture_improves_on_itself_by_nothing():
    reference = noise(2, 3, 400)
    mixture = reference.sum(-2, keepdim=True)
    improvement = si_sdri(estimate=mixture.expand_as(reference), reference=reference, mixture=mixture)
    np.testing.assert_allclose(improvement, 0, atol=1e-9)


def test_numpy_arrays_of_any_layout_are_taken():
    reference, estimate = (each.numpy() for each in with_error_of(20.0))
    reference.setflags(write=False)
    assert si_sdr(estimate=estimate[::-1], reference=reference[::-1]).item() == pytest.approx(20.0, abs=1e-6)


def test_only_an_estimate_upside_down_is_sign_flipped():
    reference, estimate = with_error_of(10.0)
    unrelated = noise(4000, seed=5)
    estimates = torch.stack([-estimate, estimate, unrelated, -unrelated, torch.zeros(4000)])
    flags = is_sign_flipped(estimate=estimates, reference=reference.expand_as(estimates))
    assert flags.tolist() == [True, False, False, False, False]


def test_shape_errors_name_the_axes_and_both_shapes():
    with pytest.raises(ValueError, match=r"estimate \(\.\.\., time\) is 2x50 and reference \(\.\.\., time\) is 2x60"):
        si_sdr(estimate=noise(2, 50), reference=noise(2, 60))
    with pytest.raises(ValueError, match=r"source, time\) is 3x2x50 .* is 4x2x50"):
        si_sdr_matrix(estimate=noise(3, 2, 50), reference=noise(4, 2, 50))
    with pytest.raises(ValueError, match=r"mixture \(\.\.\., time\) is 3x50 and reference \(\.\.\., time\) is 2x50"):
        si_sdri(estimate=noise(2, 50), reference=noise(2, 50), mixture=noise(3, 50))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_sample_that_is_not_finite_is_named(bad):
    estimate = noise(2, 50)
    estimate[1, 7] = estimate[1, 9] = bad
    with pytest.raises(ValueError, match=f"estimate: source 1, sample 7 is {bad}"):
        si_sdr(estimate=estimate, reference=noise(2, 50))


def test_huge_but_finite_samples_are_no_error():
    huge = torch.full((1, 4), 3e38)
    for measure in (si_sdr, si_sdr_matrix):
        assert measure(estimate=huge, reference=huge).item() == 100.0
        assert measure(estimate=huge.double() * 1e269, reference=huge).item() == 100.0


@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_every_measure_names_the_sample_that_is_not_finite(bad, dtype):
    sound, broken = noise(2, 3, 50).to(dtype), noise(2, 3, 50).to(dtype)
    broken[1, 2, 7] = bad
    for measure in (si_sdr, si_sdr_matrix, is_sign_flipped, snr, snr_matrix):
        with pytest.raises(ValueError, match=f"estimate: source 1, 2, sample 7 is {bad}"):
            measure(estimate=broken, reference=sound)
        with pytest.raises(ValueError, match=f"reference: source 1, 2, sample 7 is {bad}"):
            measure(estimate=sound, reference=broken)
    for measure in (si_sdri, snri):
        with pytest.raises(ValueError, match=f"mixture: source 2, sample 7 is {bad}"):
            measure(estimate=sound, reference=sound, mixture=broken[1])


def with_residual_form(estimate, reference):
    """The definition, sample by sample in float64 and clipped, of every pair."""
    e, s = (np.asarray(each, np.float64) for each in (estimate, reference))
    rows = []
    for one in s:
        along = (e @ one)[:, None] / (one @ one) * one
        rows.append(10 * np.log10((along**2).sum(-1) / ((along - e) ** 2).sum(-1)))
    return np.stack(rows).clip(-100, 100)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("level_db", [-60.0, 0.0, 39.0, 41.0, 60.0, 80.0, 99.0])
def test_the_matrix_is_the_definition_in_float64(level_db, dtype):
    pairs = [with_error_of(level_db, n_time=64000, seed=seed) for seed in range(5)]
    reference, estimate = (torch.stack(each).to(dtype) for each in zip(*pairs, strict=True))
    matrix = si_sdr_matrix(estimate=estimate, reference=reference)
    np.testing.assert_allclose(matrix, with_residual_form(estimate, reference), rtol=0, atol=1e-6)


@pytest.mark.parametrize("estimate_gain", [1.0, 1e-170, 1e170, 1e-300, 1e300])
@pytest.mark.parametrize("reference_gain", [1.0, 1e-170, 1e170])
@pytest.mark.parametrize("level_db", [20.0, 90.0])
def test_no_level_is_too_low_or_too_high(estimate_gain, reference_gain, level_db):
    reference, estimate = with_error_of(level_db)
    e, s = torch.stack([estimate_gain * estimate, estimate]), torch.stack([reference_gain * reference, reference])
    assert si_sdr(estimate=e, reference=s).tolist() == pytest.approx([level_db] * 2, abs=1e-6)
    np.testing.assert_allclose(si_sdr_matrix(estimate=e, reference=s), level_db, atol=1e-6)
    silence = torch.zeros_like(s)
    assert si_sdr(estimate=silence, reference=s).tolist() == [-100.0] * 2
    assert si_sdr(estimate=e, reference=silence).isnan().all()
