from __future__ import annotations

import numpy as np
import pytest
import torch

from sepbench.metrics.separation_rate import active_estimates, separation_outcome


def noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def with_energies(*energies):
    """Sources whose energies are these exactly: one sample of each sounds. Squares of whole numbers, please."""
    sources = torch.zeros(len(energies), 8, dtype=torch.float64)
    sources[:, 3] = torch.tensor(energies, dtype=torch.float64).sqrt()
    return sources


def test_an_estimate_counts_above_minus_20_db_of_the_quietest_reference_and_not_at_it():
    reference = with_energies(400.0**2, 10.0**2)  # the threshold is an energy of exactly 1
    just_above, just_below = 1 + 2**-40, 1 - 2**-40
    estimate = torch.tensor([1.0, just_above, just_below, 0.0, -1.0, -2.0], dtype=torch.float64)[:, None].expand(6, 8)
    estimate = estimate * torch.eye(8, dtype=torch.float64)[5]
    active = active_estimates(estimate=estimate, reference=reference)
    assert active.tolist() == [False, True, False, False, False, True]


def test_silent_references_do_not_lower_the_threshold():
    reference, estimate = with_energies(100.0**2, 0.0), with_energies(9.0**2, 11.0**2)
    assert active_estimates(estimate=estimate, reference=reference).tolist() == [False, True]


@pytest.mark.parametrize("reference", [torch.zeros(2, 8), torch.zeros(0, 8)])
def test_where_nothing_sounds_whatever_is_not_silent_counts(reference):
    estimate = torch.stack([torch.zeros(8), torch.full((8,), 1e-30)])
    assert active_estimates(estimate=estimate, reference=reference).tolist() == [False, True]


def test_a_perfect_answer_has_as_many_active_estimates_as_references():
    reference = noise(4, 500) * torch.tensor([1.0, 1e-3, 1e-6, 0.0])[:, None]
    active = active_estimates(estimate=reference, reference=reference)
    assert active.tolist() == [True, True, True, False]


@pytest.mark.parametrize("gain", [2.0**-40, 2.0**40])
def test_a_gain_of_the_whole_scene_changes_nothing(gain):
    estimate, reference = noise(40, 300) * torch.logspace(-2, 1, 40)[:, None], noise(2, 300, seed=1)
    active = active_estimates(estimate=estimate, reference=reference)
    assert 0 < active.sum() < 40
    assert active.equal(active_estimates(estimate=gain * estimate, reference=gain * reference))


def test_order_sign_and_time_do_not_matter():
    estimate, reference = noise(20, 300) * torch.logspace(-2, 1, 20)[:, None], noise(3, 300, seed=1)
    active = active_estimates(estimate=estimate, reference=reference)
    moved = active_estimates(estimate=-estimate.flip(0).roll(7, -1), reference=reference.flip(0))
    assert moved.tolist() == active.flip(0).tolist()


def test_blocks_change_nothing(monkeypatch):
    estimate, reference = noise(20, 300) * torch.logspace(-2, 1, 20)[:, None], noise(3, 300, seed=1)
    whole = active_estimates(estimate=estimate, reference=reference)
    monkeypatch.setattr("sepbench.metrics.separation_rate.BLOCK_SAMPLES", 7)
    assert whole.equal(active_estimates(estimate=estimate, reference=reference))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_sums_are_float64_whatever_comes_in(dtype):
    level = torch.tensor([1.0, 2.0**-12], dtype=dtype)[:, None]  # the square of the second is no float16
    estimate = torch.ones(2, 4096, dtype=dtype) * level
    assert active_estimates(estimate=estimate, reference=estimate).tolist() == [True, True]


def test_no_estimate_is_no_active_estimate():
    assert active_estimates(estimate=noise(0, 50), reference=noise(2, 50)).tolist() == []


def test_errors_name_the_axes():
    with pytest.raises(ValueError, match=r"2x50 .* 2x60"):
        active_estimates(estimate=noise(2, 50), reference=noise(2, 60))
    with pytest.raises(ValueError, match="one scene at a time"):
        active_estimates(estimate=noise(1, 2, 50), reference=noise(1, 2, 50))
    broken = noise(2, 50)
    broken[1, 7] = float("nan")
    with pytest.raises(ValueError, match="estimate: source 1, sample 7 is nan"):
        active_estimates(estimate=broken, reference=noise(2, 50))


def test_each_pair_of_counts_is_one_of_three_outcomes():
    table = [[separation_outcome(n_estimates=e, n_references=s)[:5] for e in range(3)] for s in range(3)]
    assert table == [["equal", "over_", "over_"], ["under", "equal", "over_"], ["under", "under", "equal"]]
    assert separation_outcome(n_estimates=1, n_references=2) == "under_separation"
