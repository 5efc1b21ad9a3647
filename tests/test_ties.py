"""Tie groups: letters say what the pairs say, no more and no less."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from string import ascii_letters

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sepbench.comparison import paired_differences
from sepbench.results import read_rows, read_runs
from sepbench.ties import MOST, letter_display, tie_groups

REFERENCE = Path(__file__).resolve().parents[1] / "results" / "reference"


def letters(shown: str) -> set[str]:
    return set(re.findall(r"[A-Za-z]\d*", shown))


@st.composite
def matrices(draw, largest=12):
    n = draw(st.integers(1, largest))
    tied = np.eye(n, dtype=bool)
    for i, j in combinations(range(n), 2):
        tied[i, j] = tied[j, i] = draw(st.booleans())
    return tied


def agrees(tied, shown):
    for i, j in combinations(range(len(tied)), 2):
        assert bool(letters(shown[i]) & letters(shown[j])) == tied[i, j]
    assert all(map(letters, shown))


@given(matrices())
@settings(max_examples=200, deadline=None)
def test_two_share_a_letter_if_and_only_if_they_are_tied(tied):
    agrees(tied, letter_display(tied))


@given(matrices())
@settings(max_examples=100, deadline=None)
def test_no_letter_can_be_left_out(tied):
    shown = [letters(each) for each in letter_display(tied)]
    for letter in set().union(*shown):
        rest = [own - {letter} for own in shown]
        lost = any(tied[i, j] and not rest[i] & rest[j] for i, j in combinations(range(len(tied)), 2))
        assert lost or not all(rest)


@given(matrices())
@settings(max_examples=100, deadline=None)
def test_letters_begin_with_the_best_and_none_is_skipped(tied):
    shown = letter_display(tied)
    used = set("".join(shown))
    assert "a" in shown[0] and used == set(ascii_letters[: len(used)])


def test_known_displays():
    assert letter_display(np.ones((3, 3), bool)) == ["a", "a", "a"]
    assert letter_display(np.eye(3, dtype=bool)) == ["a", "b", "c"]
    chain = np.abs(np.subtract.outer(range(4), range(4))) <= 1
    assert letter_display(chain) == ["a", "ab", "bc", "c"]
    skipped = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]], bool)  # the first and the last, not the one between
    assert letter_display(skipped) == ["a", "b", "a"]


def test_forty_methods_of_the_worst_kind_are_shown_too():
    side = np.arange(40) % 2
    tied = np.not_equal.outer(side, side) | np.eye(40, dtype=bool)  # every tie needs a letter of its own: 400
    shown = letter_display(tied)
    assert len(set().union(*map(letters, shown))) == 400
    agrees(tied, shown)
    groups = np.arange(39) // 3
    agrees(np.not_equal.outer(groups, groups) | np.eye(39, dtype=bool),
           letter_display(np.not_equal.outer(groups, groups) | np.eye(39, dtype=bool)))  # 3^13 maximal sets


# methods


def run(values, metric="si_sdri", split="test"):
    n = len(values)
    same = {"split": split, "label": "dog", "metric": metric, "run": "r"}
    return {"scene": np.array([f"s{i // 2}" for i in range(n)], object), "source": np.arange(n) % 2,
            "value": np.asarray(values, float), "weight": np.ones(n),
            **{name: np.array([what] * n, object) for name, what in same.items()}}


def test_the_best_group_is_a_whichever_way_is_better():
    base = np.random.default_rng(0).normal(0, 5, 200)
    noise = {name: np.random.default_rng(i).normal(0, 0.5, 200) for i, name in enumerate("xyz", 1)}
    values = {"x": base + noise["x"], "y": base + 5 + noise["y"], "z": base + noise["z"]}
    assert tie_groups({name: run(own) for name, own in values.items()}, "si_sdri", "test") == {"y": "a", "x": "b", "z": "b"}
    falling = {name: run(own, "over_separation") for name, own in values.items()}
    assert tie_groups(falling, "over_separation", "test") == {"x": "a", "z": "a", "y": "b"}


def test_letters_follow_the_intervals_of_the_pairs():
    base = np.random.default_rng(0).normal(0, 5, 200)
    rows = {f"m{i}": run(base + 0.12 * i + np.random.default_rng(i).normal(0, 1, 200)) for i in range(8)}
    shown = tie_groups(rows, "si_sdri", "test", n_resamples=1000, seed=3)
    told = {}
    for one, other in combinations(rows, 2):
        found = paired_differences(rows[one], rows[other], n_resamples=1000, seed=3)["test"]["si_sdri"]["all"]
        told[one, other] = found.excludes_zero
        assert bool(letters(shown[one]) & letters(shown[other])) != found.excludes_zero
    assert set(told.values()) == {True, False}


def test_less_than_is_printed_tells_no_runs_apart():
    base = np.random.default_rng(0).normal(0, 5, 200)
    rows = {"one": run(base), "same": run(base + 0.004), "more": run(base + 0.02)}
    assert tie_groups(rows, "si_sdri", "test") == {"more": "a", "same": "b", "one": "b"}


@pytest.mark.parametrize("split", ["test", "seen"])
def test_a_model_in_half_precision_shares_its_letters_with_itself(split):
    rows = {name: read_rows(next(REFERENCE.glob(f"weak_label-*-{name}"))) for name in ("5512a33f", "0974782c")}
    assert set(tie_groups(rows, "si_sdri_by_label", split).values()) == {"a"}


def test_only_what_both_have_tells_them_apart():
    easy, whole = run(np.r_[np.zeros(100), np.full(100, 20.0)]), run(np.zeros(200))
    half = {name: column[:100] for name, column in whole.items()}
    assert tie_groups({"half": half, "more": easy}, "si_sdri", "test") == {"more": "a", "half": "a"}


def test_runs_without_the_metric_are_absent_and_few_scenes_tell_nothing():
    rows = {"one": run([1.0, 2.0]), "two": run([5.0, 7.0]), "other": run([1.0, 2.0], "snr"), "seen": run([1.0], split="seen")}
    assert tie_groups(rows, "si_sdri", "test") == {"two": "a", "one": "a"}
    assert tie_groups({}, "si_sdri", "test") == {} == tie_groups(rows, "f_measure_frame", "test")
    assert tie_groups({"one": rows["one"]}, "si_sdri", "test") == {"one": "a"}


def test_more_runs_than_can_be_compared_in_pairs_have_no_letters():
    rows = {f"m{i}": run(np.full(2, float(i))) for i in range(MOST + 1)}
    assert tie_groups(rows, "si_sdri", "test", n_resamples=50) == {}
    rows.popitem()
    assert len(tie_groups(rows, "si_sdri", "test", n_resamples=50)) == MOST


def test_runs_that_share_no_scene_are_not_told_apart():
    apart = run(np.full(40, 9.0))
    apart["scene"] = np.array([f"t{i}" for i in range(40)], object)
    assert set(tie_groups({"here": run(np.zeros(40)), "there": apart}, "si_sdri", "test").values()) == {"a"}


@pytest.mark.parametrize("metric", ["si_sdri_by_label", "f_measure_frame", "f_measure_clip"])
def test_real_runs_are_told_apart_as_compare_tells_them_apart(metric):
    every = [each for each in read_runs(REFERENCE) if each.config["profile"] == "small"]
    runs = [each for each in every if each.config["task"]["name"] == "urban_events"]
    rows = {each.id: read_rows(each.path) for each in runs}
    shown = tie_groups(rows, metric, "test", n_resamples=1000)
    assert set(shown) == {each.id for each in runs if metric in each.metrics["test"]} and len(shown) > 2
    for one, other in combinations(shown, 2):
        found = paired_differences(rows[one], rows[other], n_resamples=1000)["test"][metric]["all"]
        assert bool(letters(shown[one]) & letters(shown[other])) != found.excludes_zero
