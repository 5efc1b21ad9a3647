from __future__ import annotations

import numpy as np
import pytest
import torch

from sepbench.metrics.si_sdr import is_sign_flipped, si_sdr, si_sdr_matrix, si_sdri


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


def test_blocks_change_nothing(monkeypatch):
    reference, estimate = noise(6, 3, 200), noise(6, 3, 200) + 1e-4 * noise(6, 3, 200, seed=1)
    whole = si_sdr(estimate=estimate, reference=reference), si_sdr_matrix(estimate=estimate, reference=reference)
    monkeypatch.setattr("sepbench.metrics.arrays.BLOCK_SAMPLES", 500)
    monkeypatch.setattr("sepbench.metrics.si_sdr.BLOCK_SAMPLES", 500)
    parts = si_sdr(estimate=estimate, reference=reference), si_sdr_matrix(estimate=estimate, reference=reference)
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


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
    assert si_sdr(estimate=huge, reference=huge).item() == 100.0


def test_torchmetrics_agrees_on_ordinary_signals():
    outsider = pytest.importorskip("torchmetrics.functional.audio")
    reference, level = noise(20, 4000), torch.linspace(0.03, 3, 20)[:, None]
    estimate = reference + level * noise(20, 4000, seed=1)
    theirs = outsider.scale_invariant_signal_distortion_ratio(estimate, reference, zero_mean=False)
    np.testing.assert_allclose(si_sdr(estimate=estimate, reference=reference), theirs, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cpu_and_gpu_agree():
    reference, estimate = noise(5, 3, 4000), noise(5, 3, 4000) + 1e-4 * noise(5, 3, 4000, seed=1)
    for measure in (si_sdr, si_sdr_matrix):
        there = measure(estimate=estimate.cuda(), reference=reference.cuda()).cpu()
        np.testing.assert_allclose(measure(estimate=estimate, reference=reference), there, atol=1e-6)
