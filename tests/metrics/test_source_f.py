from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sepbench.metrics.label_set import label_set_accuracy
from sepbench.metrics.source_f import SourceCounts, source_counts

LABELS = st.lists(st.sampled_from("abcd"), max_size=8)


def test_a_repeated_label_is_right_as_often_as_it_is_there():
    counts = source_counts(estimate_labels=["dog", "dog", "dog", "rain"], reference_labels=["rain", "dog", "bell", "dog"])
    assert counts == {"bell": SourceCounts(0, 0, 1), "dog": SourceCounts(2, 1, 0), "rain": SourceCounts(1, 0, 0)}
    assert list(counts) == ["bell", "dog", "rain"]


def test_nothing_there_and_nothing_named_is_no_count():
    assert source_counts(estimate_labels=[], reference_labels=[]) == {}


@given(LABELS, LABELS)
def test_every_source_is_counted_once(named, there):
    counts = source_counts(estimate_labels=named, reference_labels=there)
    assert counts.keys() == {*named, *there}
    for label, each in counts.items():
        assert min(each.tp, each.fp, each.fn) >= 0
        assert each.tp + each.fp == Counter(named)[label]
        assert each.tp + each.fn == Counter(there)[label]
        assert min(each.fp, each.fn) == 0  # of one label there are too many or too few, never both


@given(LABELS, LABELS)
def test_estimate_and_reference_exchanged_exchange_fp_and_fn(named, there):
    forth = source_counts(estimate_labels=named, reference_labels=there)
    back = source_counts(estimate_labels=there, reference_labels=named)
    assert back == {label: SourceCounts(each.tp, each.fn, each.fp) for label, each in forth.items()}


@given(LABELS, st.randoms(use_true_random=False))
def test_the_order_of_the_sources_does_not_matter(there, random):
    counts = source_counts(estimate_labels=random.sample(there, len(there)), reference_labels=there)
    assert counts == {label: SourceCounts(n, 0, 0) for label, n in Counter(there).items()}


@given(LABELS, LABELS)
def test_the_label_set_is_right_where_nothing_was_invented_or_overlooked(named, there):
    counts = source_counts(estimate_labels=named, reference_labels=there)
    flawless = not any(each.fp or each.fn for each in counts.values())
    assert label_set_accuracy(estimate_labels=named, reference_labels=there) == float(flawless)


def test_golden_cases_are_flawless_where_their_labels_are_correct(shared):
    cases = json.loads((shared / "golden" / "metrics.json").read_text())["cases"]
    judged = [case for case in cases if "labels_correct" in case]
    assert len(judged) == 14
    for case in judged:
        labels = {key: case[key] for key in ("estimate_labels", "reference_labels")}
        flaws = sum(each.fp + each.fn for each in source_counts(**labels).values())
        assert (flaws == 0) == case["labels_correct"], case["name"]


def test_pooled_counts_are_those_of_scikit_learn():
    outsider = pytest.importorskip("sklearn.metrics")
    scenes = [("ab", "a"), ("c", "ac"), ("", "b"), ("abc", "abc"), ("d", "")]  # no label repeats: presence is all
    truth = [[label in there for label in "abcd"] for _, there in scenes]
    guess = [[label in named for label in "abcd"] for named, _ in scenes]
    pooled = {label: Counter() for label in "abcd"}
    for named, there in scenes:
        for label, each in source_counts(estimate_labels=named, reference_labels=there).items():
            pooled[label].update(tp=each.tp, fp=each.fp, fn=each.fn)
    for label, ((_, fp), (fn, tp)) in zip("abcd", outsider.multilabel_confusion_matrix(truth, guess)):
        assert [pooled[label][outcome] for outcome in ("tp", "fp", "fn")] == [tp, fp, fn]
