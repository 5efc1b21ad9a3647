"""Others' SI-SDR and SNR, where they are right, and where ours holds and theirs does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sepbench.metrics.pairing import pair_scenes
from sepbench.metrics.si_sdr import si_sdr, si_sdr_matrix
from sepbench.metrics.snr import snr


def noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def with_error_of(level_db, n_time=64000):
    """A reference and an estimate in float32, (1, time), whose SI-SDR is `level_db` but for their rounding."""
    reference, error = noise(2, n_time)
    error = error - (error @ reference) / (reference @ reference) * reference
    error = error * reference.norm() / error.norm() * 10 ** (-level_db / 20)
    return reference.float()[None], (reference + error).float()[None]


def ordinary():
    """20 references and as many estimates between -10 and 30 dB."""
    reference, level = noise(20, 16000), torch.logspace(-1.5, 0.5, 20)[:, None]
    return reference, reference + level * noise(20, 16000, seed=1)


@pytest.fixture(scope="module")
def torchmetrics():
    return pytest.importorskip("torchmetrics.functional.audio")


@pytest.fixture(scope="module")
def fast_bss_eval():
    return pytest.importorskip("fast_bss_eval")


@pytest.fixture(scope="module")
def asteroid():
    return pytest.importorskip("asteroid.losses")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torchmetrics_agrees_on_ordinary_signals(torchmetrics, dtype):
    reference, estimate = (each.to(dtype) for each in ordinary())
    theirs = torchmetrics.scale_invariant_signal_distortion_ratio(estimate, reference, zero_mean=False)
    np.testing.assert_allclose(si_sdr(estimate=estimate, reference=reference), theirs, rtol=0, atol=1e-4)
    theirs = torchmetrics.signal_noise_ratio(estimate, reference, zero_mean=False)
    np.testing.assert_allclose(snr(estimate=estimate, reference=reference), theirs, rtol=0, atol=1e-4)


def test_fast_bss_eval_agrees_on_ordinary_signals_in_float64(fast_bss_eval):
    reference, estimate = ordinary()
    theirs = -fast_bss_eval.si_sdr_loss(estimate, reference, pairwise=True, zero_mean=False)
    np.testing.assert_allclose(si_sdr_matrix(estimate=estimate, reference=reference), theirs, rtol=0, atol=1e-4)


def test_asteroid_agrees_on_ordinary_signals(asteroid):
    reference, estimate = ordinary()
    theirs = -asteroid.PairwiseNegSDR("sisdr", zero_mean=False)(estimate[None], reference[None])[0].T
    ours = si_sdr_matrix(estimate=estimate, reference=reference)
    audible = ours > -40  # they add 1e-8 to the ratio
    np.testing.assert_allclose(ours[audible], theirs[audible], rtol=0, atol=1e-3)


def test_all_choose_the_same_pairs_of_ordinary_signals(torchmetrics, fast_bss_eval, asteroid):
    reference = noise(8, 5, 2000)
    estimate = reference[:, [3, 1, 4, 0, 2]] + 0.5 * noise(8, 5, 2000, seed=1)
    ours = [[j for _, j in pairs] for pairs in pair_scenes(estimate=estimate, reference=reference)[0]]
    measure = torchmetrics.scale_invariant_signal_distortion_ratio
    assert torchmetrics.permutation_invariant_training(estimate, reference, measure, "max")[1].tolist() == ours
    assert fast_bss_eval.si_sdr(reference, estimate, return_perm=True)[1].tolist() == ours
    losses = asteroid.pairwise_neg_sisdr(estimate, reference)
    chosen = asteroid.PITLossWrapper.find_best_perm(losses)[1].tolist()
    assert chosen == ours == [[3, 1, 4, 0, 2]] * 8


CASES = {  # name: (estimate, reference, SI-SDR)
    "silent reference": (noise(1, 4000).float(), torch.zeros(1, 4000), float("nan")),
    "silent estimate": (torch.zeros(1, 4000), noise(1, 4000).float(), -100.0),
    "both silent": (torch.zeros(1, 4000), torch.zeros(1, 4000), float("nan")),
    "perfect": (noise(1, 4000).float(), noise(1, 4000).float(), 100.0),
    "a millionth of full scale": (*(1e-6 * each for each in reversed(with_error_of(20.0))), 20.0),
    "80 dB": (*reversed(with_error_of(80.0)), 80.0),
}


@pytest.mark.parametrize("name", CASES)
def test_ours_holds_on_the_edge(name):
    estimate, reference, expected = CASES[name]
    for measure in (si_sdr, si_sdr_matrix):
        found = measure(estimate=estimate, reference=reference).item()
        assert found == pytest.approx(expected, abs=1e-3, nan_ok=True)  # float32 samples are rounded


@pytest.mark.parametrize(
    ("name", "least_db"),
    [("silent estimate", 99), ("a millionth of full scale", 10)],
)
def test_torchmetrics_is_off_on_the_edge(torchmetrics, name, least_db):
    estimate, reference, expected = CASES[name]
    theirs = torchmetrics.scale_invariant_signal_distortion_ratio(estimate, reference, zero_mean=False).item()
    assert abs(theirs - expected) > least_db


def test_torchmetrics_scores_a_silent_reference_by_the_level_of_the_estimate(torchmetrics):
    estimate, reference, _ = CASES["silent reference"]
    measure = torchmetrics.scale_invariant_signal_distortion_ratio
    assert measure(estimate, reference).item() - measure(100 * estimate, reference).item() == pytest.approx(40, abs=0.1)


@pytest.mark.parametrize("name", ["silent reference", "silent estimate", "both silent"])
def test_fast_bss_eval_has_no_figure_for_silence(fast_bss_eval, name):
    estimate, reference, _ = CASES[name]
    try:
        theirs = fast_bss_eval.si_sdr(reference, estimate).item()
    except RuntimeError:
        return
    assert not np.isfinite(theirs)


def test_fast_bss_eval_in_float32_loses_what_is_good(fast_bss_eval):
    estimate, reference, expected = CASES["80 dB"]
    theirs = -fast_bss_eval.si_sdr_loss(estimate, reference, pairwise=False).item()
    assert abs(theirs - expected) > 1


@pytest.mark.parametrize(("name", "least_db"), [("silent estimate", 10), ("a millionth of full scale", 10)])
def test_asteroid_is_off_on_the_edge(asteroid, name, least_db):
    estimate, reference, expected = CASES[name]
    theirs = -asteroid.PairwiseNegSDR("sisdr", zero_mean=False)(estimate[None], reference[None]).item()
    assert abs(theirs - expected) > least_db


def test_asteroid_refuses_ten_sources(asteroid):
    reference = noise(1, 10, 300)
    assert pair_scenes(estimate=reference, reference=reference)[0] == [[(i, i) for i in range(10)]]
    with pytest.raises(AssertionError, match="source axis"):
        asteroid.PITLossWrapper(asteroid.pairwise_neg_sisdr, pit_from="pw_mtx")(reference, reference)
