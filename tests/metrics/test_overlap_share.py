"""How much the sources of a scene overlap."""

from __future__ import annotations

import numpy as np
import pytest

from sepbench.metrics.overlap import overlap


def test_sources_apart_do_not_overlap_and_sources_at_once_do_all_the_time():
    assert overlap([[(0, 1)], [(1, 2)]]) == 0
    assert overlap([[(0, 2)]]) == 0
    assert overlap([[(0.5, 2)], [(0.5, 2)]]) == 1


def test_what_three_share_counts_once():
    assert overlap([[(0, 3)], [(1, 2)], [(1, 2)]]) == pytest.approx(1 / 3)


def test_a_source_does_not_overlap_itself():
    assert overlap([[(0, 2), (1, 3), (3, 4)]]) == 0
    assert overlap([[(0, 2), (1, 3)], [(2.5, 4)]]) == pytest.approx(0.5 / 4)


def test_a_fine_grid_agrees():
    rng = np.random.default_rng(3)
    grid = (np.arange(40_000) + 0.5) / 10_000
    for _ in range(20):
        times = [[tuple(np.sort(np.round(rng.random(2) * 4, 3))) for _ in range(rng.integers(1, 4))] for _ in range(3)]
        heard = np.array([np.any([(on <= grid) & (grid < off) for on, off in own], 0) for own in times]).sum(0)
        assert overlap(times) == pytest.approx((heard >= 2).sum() / (heard >= 1).sum(), abs=1e-9)


def test_sources_that_last_no_time_are_refused():
    with pytest.raises(ValueError, match="no source sounds for any time"):
        overlap([[(1, 1)], []])
