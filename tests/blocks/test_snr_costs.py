"""SNR costs: the formulas, silence that can be learnt, and a threshold where nothing more is gained."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from sepbench.blocks.permutation import best_order, chosen
from sepbench.blocks.snr_costs import COSTS, pairing_costs, snr_costs, thresholded_costs


def test_costs_are_the_formulas():
    torch.manual_seed(0)
    estimate, reference, mixture = torch.randn(2, 3, 50), torch.randn(2, 3, 50), torch.randn(2, 50)
    reference[1, 2] = 0
    snr, thresholded = (cost(estimate, reference, mixture) for cost in (snr_costs, thresholded_costs))
    pairing = pairing_costs(estimate, reference)
    for b, i, j in itertools.product(range(2), range(3), range(3)):
        error, energy = ((reference[b, i] - estimate[b, j]) ** 2).sum(), (reference[b, i] ** 2).sum()
        assert pairing[b, i, j] == pytest.approx(10 * math.log10(error + 1e-8), rel=1e-5)
        if (b, i) == (1, 2):
            silence = 10 * math.log10((estimate[b, j] ** 2).sum() + 0.01 * (mixture[b] ** 2).sum() + 1e-8)
            assert snr[b, i, j] == pytest.approx(silence, rel=1e-5) and thresholded[b, i, j] == pytest.approx(silence, rel=1e-5)
            continue
        assert snr[b, i, j] == pytest.approx(-10 * math.log10(energy / error), rel=1e-4, abs=1e-4)
        assert thresholded[b, i, j] == pytest.approx(10 * math.log10(error + 0.001 * energy + 1e-8), rel=1e-5)


def test_a_quiet_reference_is_no_silent_one():
    reference = 1e-4 * torch.randn(1, 1, 1000)  # -80 dB
    found = snr_costs(0.9 * reference, reference, reference[:, 0])
    assert found.item() == pytest.approx(-20, abs=0.5)


@pytest.mark.parametrize("name", ["snr", "thresholded"])
def test_a_silent_reference_has_a_gradient(name):
    estimate = (0.1 * torch.randn(1, 2, 100)).requires_grad_()
    reference = torch.stack([torch.randn(1, 100), torch.zeros(1, 100)], 1)
    costs = COSTS[name](estimate, reference, reference.sum(1))
    costs[0, 1, 1].backward()
    assert estimate.grad[0, 1].abs().max() > 1e-3 and estimate.grad[0, 0].abs().max() == 0
    downhill = (estimate - 0.1 * estimate.grad).detach()
    assert downhill[0, 1].square().sum() < estimate[0, 1].square().sum()


def test_an_error_30_db_down_gains_nothing_more():
    reference = torch.randn(1, 1, 1000)
    for loss, gain_db in (("thresholded", 3.01), ("snr", 30.0)):  # from an error at -30 dB to one at -60 dB
        cost = [COSTS[loss](reference * (1 + 10 ** (-db / 20)), reference, reference[:, 0]).item() for db in (30, 60)]
        assert cost[0] - cost[1] == pytest.approx(gain_db, abs=0.02), loss


def test_the_pairing_is_of_the_smallest_sum_whatever_the_threshold():
    torch.manual_seed(2)
    estimate, reference = torch.randn(20, 3, 30), torch.randn(20, 3, 30)
    costs = pairing_costs(estimate, reference)
    order = best_order(costs)
    for scene in range(20):
        sums = {p: sum(costs[scene, i, j] for i, j in enumerate(p)) for p in itertools.permutations(range(3))}
        assert tuple(order[scene].tolist()) == min(sums, key=sums.__getitem__)
    assert chosen(costs, order) == pytest.approx(costs.gather(2, order[..., None]).mean().item())
