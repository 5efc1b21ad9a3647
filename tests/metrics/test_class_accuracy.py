from __future__ import annotations

import json
import math
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sepbench.metrics.class_accuracy import all_right, chance, class_hits, named_hits

GOLDEN = {  # golden cases that have pairs, and the hits that follow from those pairs and the labels by hand
    "good_k1": [1],
    "good_k2_reordered": [1, 1],
    "good_k3": [1, 1, 1],
    "soso_k3": [1, 1, 1],
    "missed_one_k2": [1, 0],
    "false_positive_k1": [1],
    "wrong_label_k3": [1, 1, 0],
    "swapped_labels_k2": [0, 0],  # the set of labels is right, and each stands at the wrong sound
    "silent_estimate_k2": [1, 1],
    "mixture_as_estimate_k2": [1, 1],
    "same_class_pair": [1, 1],
    "same_class_one_missed": [1, 0],
    "over_separated_k2": [1, 1],
}


def test_the_label_is_asked_of_the_estimate_that_separation_chose():
    answers = {"estimate_labels": ["dog", "rain"], "reference_labels": ["dog", "rain"]}
    assert class_hits(pairs=[(0, 0), (1, 1)], **answers) == [1.0, 1.0]
    assert class_hits(pairs=[(0, 1), (1, 0)], **answers) == [0.0, 0.0]


def test_a_reference_without_an_estimate_is_a_miss_even_if_its_label_was_named():
    hits = class_hits(pairs=[(2, 0)], estimate_labels=["rain", "dog"], reference_labels=["dog", "rain", "rain"])
    assert hits == [0.0, 0.0, 1.0]
    assert class_hits(pairs=[], estimate_labels=[], reference_labels=["dog"]) == [0.0]


def test_without_sounds_a_class_is_right_where_it_was_named():
    hits = named_hits(estimate_labels=["rain", "dog", "cat"], reference_labels=["dog", "sheep", "rain"])
    assert hits == [1.0, 0.0, 1.0]
    assert named_hits(estimate_labels=[], reference_labels=["dog"]) == [0.0]
    assert named_hits(estimate_labels=["dog"], reference_labels=[]) == []


def test_a_label_named_once_is_right_once():
    assert named_hits(estimate_labels=["dog"], reference_labels=["dog", "dog"]) == [1.0, 0.0]
    assert named_hits(estimate_labels=["dog", "dog"], reference_labels=["dog", "dog"]) == [1.0, 1.0]


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=4), st.lists(st.sampled_from("abc"), max_size=4))
def test_named_labels_are_the_most_generous_order_of_all(there, named):
    hits = named_hits(estimate_labels=named, reference_labels=there)
    assert sum(hits) == sum((Counter(there) & Counter(named)).values())
    n = min(len(there), len(named))
    orders = ([*zip(refs, range(n), strict=True)] for refs in permutations(range(len(there)), n))
    ways = [class_hits(pairs=pairs, estimate_labels=order[:n], reference_labels=there)
            for pairs in orders for order in permutations(named)]
    assert sum(hits) == max(map(sum, ways))


def test_guessing_scores_its_chance():
    random, classes, n = np.random.default_rng(0), "abcdefghij", 4000
    there = [random.choice(list(classes), 2, replace=False) for _ in range(n)]
    labels = [random.choice(list(classes), 2) for _ in range(n)]
    named = [random.choice(list(classes), 3, replace=False) for _ in range(n)]
    by_separation = [class_hits(pairs=[(0, 1), (1, 0)], estimate_labels=e, reference_labels=r) for e, r in zip(labels, there)]
    by_label_set = [named_hits(estimate_labels=e, reference_labels=r) for e, r in zip(named, there)]
    assert np.mean(by_separation) == pytest.approx(chance(10), abs=0.012) and chance(10) == 0.1
    assert np.mean(by_label_set) == pytest.approx(chance(10, 3), abs=0.018) and chance(10, 3) == 0.3  # 3 standard errors
    assert chance(2, 5) == 1.0 and chance(5, 0) == 0.0


def test_nothing_there_has_no_accuracy():
    assert class_hits(pairs=[], estimate_labels=["dog"], reference_labels=[]) == []
    assert math.isnan(all_right([]))


def test_a_scene_is_right_where_every_source_is():
    assert all_right([1.0, 1.0]) == 1.0
    assert all_right([1.0, 0.0]) == all_right([0.0]) == 0.0


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=6), st.data())
def test_the_order_of_the_estimates_does_not_matter(there, data):
    named = data.draw(st.lists(st.sampled_from("abc"), min_size=len(there), max_size=8))
    order = data.draw(st.permutations(range(len(named))))  # order[new] = old
    pairs = [(i, i) for i in range(len(there))]
    moved = [(i, order.index(j)) for i, j in pairs]
    hits = class_hits(pairs=pairs, estimate_labels=named, reference_labels=there)
    assert hits == [float(a == b) for a, b in zip(there, named, strict=False)]
    assert hits == class_hits(pairs=moved, estimate_labels=[named[j] for j in order], reference_labels=there)


def test_golden_pairs_and_labels_give_the_hits_worked_out_by_hand(shared):
    cases = {each["name"]: each for each in json.loads((shared / "golden" / "metrics.json").read_text())["cases"]}
    assert {name for name, case in cases.items() if "pit" in case} == GOLDEN.keys()
    for name, expected in GOLDEN.items():
        labels = {key: cases[name][key] for key in ("estimate_labels", "reference_labels")}
        hits = class_hits(pairs=cases[name]["pit"]["pairs"], **labels)
        assert hits == expected, name
        assert all_right(hits) == float(0 not in expected), name


@pytest.mark.parametrize("pair", [(1, 0), (0, 1), (-1, 0), (0, -1)])
def test_a_pair_without_labels_is_an_error(pair):
    with pytest.raises(ValueError, match=rf"reference {pair[0]}, estimate {pair[1]}\): there are 1 reference labels"):
        class_hits(pairs=[pair], estimate_labels=["dog"], reference_labels=["dog"])
