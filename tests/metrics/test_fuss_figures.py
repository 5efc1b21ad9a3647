"""FUSS's figures by the number of sources: which pairs count, and that an independent reckoning finds the same."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch

from sepbench.judge import judge
from sepbench.metrics import FACTS, GROUPS, METRICS
from sepbench.metrics.fuss import ALONE, MOST_SOURCES, POOLED, fuss_si_snr
from sepbench.scene import Estimate, Mixture, Scene, Source

N = 400
RATES = GROUPS["separation_rate"]


def noise(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, N))


def orthogonal(n: int) -> np.ndarray:
    """Sources of energy 1 without anything in common: (source, time)."""
    return np.linalg.qr(noise(n, 3).T)[0].T


def figures(estimate, reference):
    found = fuss_si_snr(estimate=estimate, reference=reference, mixture=reference.sum(0))
    return {name: values.numpy() for name, values in found.items()}


def judged(estimate, reference, metrics=("fuss",), **more):
    mixture = torch.from_numpy(reference.sum(0, keepdims=True))
    sources = tuple(Source(torch.from_numpy(each), "", ((0.0, 1.0),)) for each in reference)
    scene = Scene(Mixture(mixture, N, "s"), sources)
    return judge(scene, Estimate(torch.from_numpy(estimate)), [], metrics, "run", "test", **more)


def by_hand(estimate, reference):
    """As the challenge reckons it: silence fills up the references, all orders are tried, then pairs are left out."""
    filled = np.concatenate([reference, np.zeros((len(estimate) - len(reference), N))])
    mixture, n = reference.sum(0), len(reference)

    def si_snr(e, s):
        if not s.any():
            return 0.0  # the same for every order
        gain = (e @ s) / (s @ s)
        return 10 * np.log10(((gain * s) ** 2).sum() / ((e - gain * s) ** 2).sum())

    best = max(
        permutations(range(len(estimate))), key=lambda order: sum(si_snr(estimate[j], s) for j, s in zip(order, filled))
    )
    loud = (estimate**2).mean(1) > 0.01 * (reference**2).mean(1).min()
    pairs = [(s, estimate[j]) for j, s in zip(best, filled) if s.any() and loud[j]]
    return [si_snr(e, s) - (si_snr(mixture, s) if n > 1 else 0) for s, e in pairs]


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_an_independent_reckoning_finds_the_same(n):
    for seed in range(20):
        rng = np.random.default_rng([n, seed])
        reference = rng.standard_normal((n, N)) * 10 ** rng.uniform(-1, 1, (n, 1))
        estimate = rng.standard_normal((4, n)) @ reference * 10 ** rng.uniform(
            -3, 1, (4, 1)
        ) + 0.01 * rng.standard_normal((4, N))
        expected = by_hand(estimate, reference)
        found = figures(estimate, reference)
        for values in found.values():
            np.testing.assert_allclose(values, expected, atol=1e-7)
        assert list(found) == ([ALONE] if n == 1 else [f"{POOLED}_{n}", POOLED])


def test_one_source_has_its_absolute_figure_known_in_closed_form():
    s, other = orthogonal(2)
    assert figures((s + 0.1 * other)[None], s[None])[ALONE] == pytest.approx([20.0])


def test_two_sources_gain_what_the_other_loses_of_them():
    s = orthogonal(2)  # the mixture has 0 dB for each
    e = s + 0.1 * s[::-1]
    assert figures(e, s)["fuss_si_snri_2"] == pytest.approx([20.0, 20.0])


def test_an_estimate_of_minus_20_db_of_the_quietest_reference_leaves_no_figure():
    s = orthogonal(2)
    just_above, just_below = 0.1 * (1 + 1e-6), 0.1 * (1 - 1e-6)
    assert len(figures(np.stack([s[0], just_above * s[1]]), s)[POOLED]) == 2
    assert len(figures(np.stack([s[0], just_below * s[1]]), s)[POOLED]) == 1


def test_what_leaves_no_figure_is_counted_by_the_judge():
    s = orthogonal(3)
    for estimate in (np.stack([s[0], s[1], 0.01 * s[2]]), s[:2]):  # too quiet, or not there at all
        rows = judged(estimate, s)
        found = {(row.metric, row.source) for row in rows if row.metric.startswith("fuss")}
        each = [{(name, 0), (name, 1), (f"{name}_undefined", 2)} for name in ("fuss_si_snri_3", POOLED)]
        assert found == set.union(*each)
        assert {row.metric: row.value for row in rows}["under_separation"] == 1


def test_the_order_of_estimates_and_a_gain_of_the_scene_change_nothing():
    s = noise(4, 1)
    e = s + 0.3 * noise(4, 2)
    found = figures(e, s)[POOLED]
    np.testing.assert_allclose(figures(e[[2, 0, 3, 1]], s)[POOLED], found)
    np.testing.assert_allclose(figures(2.0**20 * e, 2.0**20 * s)[POOLED], found)


def test_a_silent_reference_is_none_and_changes_nothing():
    s, e = noise(3, 1), noise(4, 2) + noise(4, 1)
    filled = np.concatenate([s[:2], np.zeros((1, N)), s[2:]])
    np.testing.assert_array_equal(figures(e, filled)["fuss_si_snri_3"], figures(e, s)["fuss_si_snri_3"])


def test_more_sources_than_four_or_none_have_no_figures():
    s = noise(5)
    assert figures(s, s) == {}
    assert fuss_si_snr(estimate=s, reference=np.zeros((2, N)), mixture=np.zeros(N)) == {}
    assert not [row for row in judged(s, s) if row.metric.startswith("fuss")]


@pytest.mark.parametrize("n", [1, 2, 4])
def test_the_judge_says_what_the_measure_says(n):
    s = noise(n, 1)
    e = s + 0.3 * noise(n, 2)
    for name, values in figures(e, s).items():
        rows = [row for row in judged(e, s, [name]) if row.metric == name]
        assert [row.source for row in rows] == list(range(n)) and {row.label for row in rows} == {""}
        np.testing.assert_allclose([row.value for row in rows], values, atol=1e-8)


def test_the_figures_are_there_whatever_the_task_asks_of_other_figures():
    s = noise(1)
    names = {row.metric for row in judged(s, s, ["fuss", "si_sdri"], minimum_active=2)}
    assert names - FACTS.keys() == {ALONE, *RATES}


def test_the_rates_stand_beside_every_figure_though_nobody_asked():
    for name in set(GROUPS["fuss"]) - set(RATES):
        assert {row.metric for row in judged(noise(2), noise(2), [name])} >= set(RATES)
    assert {row.metric for row in judged(noise(2), noise(2), ["equal_separation"])} - FACTS.keys() == {"equal_separation"}


def test_a_method_that_separates_nothing_has_none():
    scene = Scene(Mixture(torch.ones(1, N), N, "s"), (Source(torch.ones(N), "", ((0.0, 1.0),)),))
    rows = judge(scene, Estimate(None, ()), [], ["fuss"], "run", "test")
    assert {row.metric for row in rows} == {"n_sources", "overlap"}


def test_there_is_a_metric_for_each_number_of_sources():
    counts = [f"{POOLED}_{n}" for n in range(2, MOST_SOURCES + 1)]
    assert GROUPS["fuss"] == (ALONE, *counts, POOLED, *RATES)
    assert all("estimate=>-20dB:quietest_reference" in METRICS[name].signature for name in (ALONE, *counts, POOLED))
