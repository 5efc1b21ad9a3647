"""The difference of one method's figures on two tests: as wide as theory has it, and never paired."""

from __future__ import annotations

import numpy as np
import pytest

from sepbench.gap import figure_of, gap_interval, own_interval
from sepbench.statistics import bootstrap_ci


def rows(values: np.ndarray, split: str = "test", metric: str = "si_sdri", per_scene: int = 1) -> dict[str, np.ndarray]:
    scene = np.array([f"s{i // per_scene}" for i in range(len(values))], object)
    facts = {"split": np.full(len(values), split), "metric": np.full(len(values), metric), "scene": scene}
    return {**facts, "value": values, "weight": np.ones(len(values))}


def test_the_gap_is_as_wide_as_that_of_two_independent_means():
    random = np.random.default_rng(0)
    one, other = random.normal(5, 3, 800), random.normal(2, 1, 500)
    low, high = gap_interval(figure_of([rows(one)], "test", "si_sdri"), figure_of([rows(other)], "test", "si_sdri"))
    assert (low + high) / 2 == pytest.approx(one.mean() - other.mean(), abs=0.02)
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(one.var() / 800 + other.var() / 500), rel=0.05)


def test_the_same_rows_twice_are_two_tests_and_do_not_cancel():
    values = np.random.default_rng(1).standard_normal(400)
    figure = figure_of([rows(values)], "test", "si_sdri")
    low, high = gap_interval(figure, figure)
    assert low < 0 < high and high - low == pytest.approx(2 * 1.96 * np.sqrt(2 / 400) * values.std(), rel=0.08)


def test_one_run_s_own_interval_is_that_of_its_summary():
    values = np.random.default_rng(2).standard_normal(300)
    columns = rows(values, per_scene=2)
    wanted = bootstrap_ci(values, np.ones(300), columns["scene"])
    assert own_interval(figure_of([columns], "test", "si_sdri")) == pytest.approx(wanted, abs=1e-6)


def test_seeds_count_alike_however_many_rows_they_have():
    few, many = rows(np.array([1.0, 1.0])), rows(np.full(40, 3.0))
    figure = figure_of([few, many], "test", "si_sdri")
    assert float(figure.statistic(figure.totals.sum(0))) == pytest.approx(2.0)


def test_a_second_seed_on_the_same_scenes_tells_no_more_of_the_scenes():
    values = np.random.default_rng(3).standard_normal(300)
    one, two = (own_interval(figure_of([rows(values)] * n, "test", "si_sdri")) for n in (1, 2))
    assert one == pytest.approx(two, abs=1e-6)


def test_too_few_scenes_have_no_interval_and_no_rows_no_figure():
    single, several = (figure_of([rows(np.arange(float(n)))], "test", "si_sdri") for n in (1, 9))
    assert gap_interval(single, several) is None is gap_interval(several, single)
    with pytest.raises(ValueError, match="no row of si_sdri in seen"):
        figure_of([rows(np.ones(3))], "seen", "si_sdri")
