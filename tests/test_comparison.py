"""Paired differences: laws of what pairs, how wide the interval is, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sepbench.comparison import (
    Difference,
    count_differences,
    excludes_zero,
    explain_mismatch,
    paired_differences,
)
from sepbench.errors import UserError
from sepbench.results import RunRecord, read_rows, read_runs
from sepbench.statistics import bootstrap_ci, f_measure_ci, summarise

REFERENCE = Path(__file__).resolve().parents[1] / "results" / "reference"
NAMES = ("scene", "source", "label", "metric", "value")


def columns(*rows, run="a", split="test", weight=1.0):
    """(scene, source, label, metric, value) rows as `read_rows` gives them."""
    held = {name: np.array(column, object) for name, column in zip(NAMES, zip(*rows, strict=True), strict=True)}
    held |= {name: np.array([what] * len(rows), object) for name, what in (("run", run), ("split", split))}
    return held | {"source": held["source"].astype(int), "value": held["value"].astype(float),
                   "weight": np.full(len(rows), weight)}


def joined(*tables):
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def scored(values, run="a", metric="si_sdri", labels=("dog", "bell"), n_sources=2):
    """Rows of values (scene * source,), `n_sources` sources in each scene."""
    rows = [(f"s{i // n_sources:03}", i % n_sources, labels[i % n_sources], metric, value) for i, value in enumerate(values)]
    return columns(*rows, run=run)


def with_values(table, values, run="b"):
    return {**table, "value": np.asarray(values, float), "run": np.array([run] * len(values), object)}


def overall(a, b, metric="si_sdri", **settings) -> Difference:
    return paired_differences(a, b, **settings)["test"][metric]["all"]


def width(interval):
    return interval[1] - interval[0]


def everything(seed, n_scenes=20):
    """Rows of every kind: per source, per scene, counts of frames and sources, events and facts."""
    random = np.random.default_rng(seed)
    rows = []
    for scene in (f"s{i:03}" for i in range(n_scenes)):
        for source, label in enumerate(("dog", "bell")):
            rows += [(scene, source, label, "si_sdri", random.normal()), (scene, source, label, "si_sdr_mixture", -3.0)]
            rows += [(scene, source, label, "paired_with", 1 - source)]
            rows += [(scene, -1, label, f"frame_{each}", random.integers(30)) for each in ("tp", "fp", "fn", "tn")]
            rows += [(scene, -1, label, f"source_{each}", random.integers(2)) for each in ("tp", "fp", "fn")]
        rows += [(scene, -1, "", "ca_sdri", random.normal()), (scene, 0, "dog", "snr_undefined", 1.0)]
        rows += [(scene, -1, "bell", "extra", 1.0)] * int(random.integers(3))
    return columns(*rows, run=f"run{seed}")


# laws


def test_a_run_differs_from_itself_by_nothing():
    for metric, held in paired_differences(everything(0), everything(0))["test"].items():
        for difference in (held["all"], *held["class"].values()):
            assert (difference.value, difference.ci95) == (0.0, (0.0, 0.0)), metric
            assert difference.a == difference.b and difference.unpaired == 0 and not difference.excludes_zero


def test_a_constant_shift_is_found_exactly_and_without_doubt():
    values = np.random.default_rng(0).normal(0, 10, 80)
    found = overall(scored(values), scored(values + 1.25, run="b"))
    assert found.value == pytest.approx(1.25, abs=1e-12) and found.ci95 == pytest.approx((1.25, 1.25), abs=1e-12)
    assert found.excludes_zero and (found.n, found.scenes) == (80, 40)


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_turned_round_the_difference_changes_its_sign(seed):
    one, other = (paired_differences(everything(a), everything(b), 300)["test"] for a, b in ((0, seed), (seed, 0)))
    for metric, held in one.items():
        there, back = held["all"], other[metric]["all"]
        assert back.value == pytest.approx(-there.value, abs=1e-12) and (back.a, back.b) == (there.b, there.a)
        assert back.ci95 == pytest.approx((-there.ci95[1], -there.ci95[0]), abs=1e-6)


def test_what_is_hard_for_both_cancels():
    random = np.random.default_rng(0)
    hard = np.repeat(random.normal(0, 10, 200), 2)
    a, b = (scored(hard + random.normal(0, 1, 400), run=run) for run in "ab")
    paired = overall(a, b, n_resamples=1000)
    alone = [bootstrap_ci(each["value"], each["weight"], each["scene"], 1000) for each in (a, b)]
    assert width(paired.ci95) < 0.2 * min(map(width, alone))


def test_the_interval_holds_the_truth_as_often_as_it_says():
    random = np.random.default_rng(0)
    hits = 0
    for trial in range(300):
        hard = np.repeat(random.normal(0, 5, 60), 2)
        per_scene = np.repeat(random.normal(0.5, 1, 60), 2)
        a = scored(hard + random.normal(0, 1, 120))
        b = scored(hard + per_scene + random.normal(0, 1, 120), run="b")
        low, high = overall(a, b, n_resamples=500, seed=trial).ci95
        hits += low <= 0.5 <= high
    assert 0.90 <= hits / 300 <= 0.98  # 95 %, give or take three standard errors and the percentile method's shortfall


def test_the_interval_is_that_of_a_paired_t_test():
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(0)
    values, shift = random.normal(0, 5, 1000), random.normal(0.2, 1, 1000)
    a, b = (scored(each, run=run, n_sources=1) for each, run in ((values, "a"), (values + shift, "b")))
    theory = stats.ttest_rel(b["value"], a["value"]).confidence_interval(0.95)
    assert overall(a, b).ci95 == pytest.approx((theory.low, theory.high), abs=0.01)


def test_the_interval_is_that_of_the_differences_themselves():
    a, b = scored(np.random.default_rng(0).normal(size=60)), scored(np.random.default_rng(1).normal(size=60), run="b")
    direct = bootstrap_ci(b["value"] - a["value"], a["weight"], a["scene"], 500, seed=7)
    assert overall(a, b, n_resamples=500, seed=7).ci95 == pytest.approx(direct, abs=1e-6)


def test_rounding_is_no_difference():
    values = np.random.default_rng(0).normal(size=60)
    assert not overall(scored(values), scored(values + 1e-8, run="b")).excludes_zero
    assert excludes_zero((0.01, 0.1), "dB") and excludes_zero((-1, -0.1), "dB")
    assert not excludes_zero((-1, 1), "dB") and not excludes_zero((0, 1), "dB") and not excludes_zero(None, "dB")


def test_less_than_half_of_the_last_digit_that_is_printed_is_no_difference():
    for unit, half in (("dB", 0.005), ("ratio", 0.0005), ("", 0.0005)):
        assert excludes_zero((1.02 * half, 1.0), unit) and excludes_zero((-1.0, -1.02 * half), unit)
        assert not excludes_zero((0.98 * half, 1.0), unit) and not excludes_zero((-1.0, -0.98 * half), unit)
    values = np.random.default_rng(0).normal(size=60)
    shifted = {shift: overall(scored(values), scored(values + shift, run="b")) for shift in (0.004, 0.006)}
    assert not shifted[0.004].excludes_zero and shifted[0.006].excludes_zero


def test_a_model_in_half_precision_is_not_told_apart_from_itself():
    whole, half = (read_rows(next(REFERENCE.glob(f"weak_label-*-{name}"))) for name in ("5512a33f", "0974782c"))
    found = paired_differences(whole, half, n_resamples=1000)["test"]["si_sdri_by_label"]["all"]
    assert found.value != 0 and abs(found.value) < 0.005 and not found.excludes_zero


def test_weights_count_as_repetitions():
    random = np.random.default_rng(0)
    a, b = scored(random.normal(size=40)), scored(random.normal(size=40), run="b")
    times = random.integers(1, 4, 40)
    found = overall({**a, "weight": times.astype(float)}, {**b, "weight": times.astype(float)}, n_resamples=300)
    shift = np.repeat(b["value"] - a["value"], times)
    assert found.value == pytest.approx(shift.mean())
    repeated = bootstrap_ci(shift, np.ones(len(shift)), np.repeat(a["scene"].astype(str), times), 300)
    assert found.ci95 == pytest.approx(repeated, abs=1e-5)


# pooled figures


def test_pooled_figures_are_pooled_on_each_side_over_the_same_scenes():
    a, b = everything(1), everything(2)
    found, apart = paired_differences(a, b)["test"], [summarise(each, 50)["test"] for each in (a, b)]
    for metric in ("f_measure_frame", "source_precision", "source_recall", "source_f_measure"):
        for label in (None, "dog", "bell"):
            own = found[metric]["all"] if label is None else found[metric]["class"][label]
            means = [(each[metric]["all"] if label is None else each[metric]["class"][label])["mean"] for each in apart]
            assert [own.a, own.b] == pytest.approx(means) and own.value == pytest.approx(means[1] - means[0])
            assert own.unit == "ratio"


def test_the_interval_of_a_pooled_difference_is_that_of_resampled_scenes():
    a, b = everything(1, 30), everything(2, 30)

    def counts(table):
        found = np.zeros((30, 3))
        for i, outcome in enumerate(("tp", "fp", "fn")):
            own = table["metric"] == f"frame_{outcome}"
            np.add.at(found[:, i], [int(scene[1:]) for scene in table["scene"][own]], table["value"][own])
        return found

    def f_measure(drawn):
        tp, fp, fn = drawn.sum(0)
        return 2 * tp / (2 * tp + fp + fn)

    scenes = np.random.default_rng(5).integers(0, 30, (4000, 30))
    slow = [f_measure(counts(b)[drawn]) - f_measure(counts(a)[drawn]) for drawn in scenes]
    np.testing.assert_allclose(overall(a, b, "f_measure_frame").ci95, np.percentile(slow, [2.5, 97.5]), atol=0.005)
    unpaired = [f_measure_ci(*counts(each).T, n_resamples=1000) for each in (a, b)]
    assert width(overall(a, a, "f_measure_frame").ci95) == 0 < min(map(width, unpaired))


def test_finding_no_source_is_an_answer_too():
    rows = [("s1", -1, "dog", "source_tp", 1.0), ("s1", -1, "dog", "source_fp", 0.0), ("s1", -1, "dog", "source_fn", 0.0)]
    alarm = [("s2", -1, "bell", f"source_{each}", float(each == "fp")) for each in ("tp", "fp", "fn")]
    found = paired_differences(columns(*rows, *alarm), columns(*rows, run="b"), 50)["test"]
    assert (found["source_precision"]["all"].a, found["source_precision"]["all"].b) == (0.5, 1.0)
    assert found["source_recall"]["all"].value == 0.0 and found["source_recall"]["all"].n == 1


def test_frames_of_scenes_that_one_lacks_are_left_out_and_counted():
    a, b = everything(1), everything(2)
    keep = ~((b["scene"] == "s003") & np.char.startswith(b["metric"].astype(str), "frame_"))
    found = overall(a, {name: column[keep] for name, column in b.items()}, "f_measure_frame")
    gone = (a["scene"] == "s003") & np.char.startswith(a["metric"].astype(str), "frame_")
    assert found.scenes == 19 and found.unpaired > 0
    rest = {name: column[~gone] for name, column in a.items()}
    assert found.a == pytest.approx(summarise(rest, 50)["test"]["f_measure_frame"]["all"]["mean"])


# what pairs


def test_sources_that_one_missed_are_left_out_and_counted():
    values = np.arange(8.0)
    a = joined(scored(values[:7]), columns(("s003", 1, "bell", "missed", 1.0)))
    b = scored(values + 1, run="b")
    found = paired_differences(a, b)["test"]["si_sdri"]
    assert (found["all"].n, found["all"].scenes, found["all"].unpaired) == (7, 4, 1)
    assert found["all"].value == pytest.approx(1) and found["all"].b == pytest.approx(np.mean(values[:7] + 1))
    assert found["class"]["bell"].unpaired == 1 and found["class"]["dog"].unpaired == 0


def test_a_scene_in_which_everything_was_missed_is_a_scene_all_the_same():
    gone = [columns((f"s{i:03}", 0, "dog", "missed", 1.0)) for i in (2, 3)]
    found = overall(joined(scored(np.zeros(4)), *gone), scored(np.ones(8), run="b"))
    assert (found.n, found.unpaired) == (4, 4)


def test_events_facts_and_undefined_rows_are_counted_and_not_averaged():
    a, b = everything(1), everything(2)
    found = paired_differences(a, b, 50)["test"]
    assert list(found) == ["si_sdri", "si_sdr_mixture", "ca_sdri", "source_precision", "source_recall",
                           "source_f_measure", "f_measure_frame"]
    extras = tuple(int((each["metric"] == "extra").sum()) for each in (a, b))
    assert extras[0] != extras[1] and count_differences(a, b) == {"test": {"extra": extras}}


def test_what_guessing_scores_is_no_figure_to_compare():
    rows = [(f"s{i}", 0, "dog", name, value) for i in range(4) for name, value in
            (("class_accuracy", i % 2), ("class_accuracy_chance", 0.1), ("labels_alone", 1.0))]
    assert paired_differences(columns(*rows), columns(*rows, run="b"))["test"].keys() == {"class_accuracy"}


def test_one_scene_has_no_interval():
    found = overall(scored([1.0, 2.0]), scored([2.0, 4.0], run="b"))
    assert (found.value, found.ci95, found.excludes_zero) == (1.5, None, False)


def test_a_metric_that_only_one_has_is_absent():
    assert list(paired_differences(everything(0), scored(np.zeros(40), run="b"), 50)["test"]) == ["si_sdri"]


def test_splits_are_compared_one_by_one():
    both = joined(scored(np.zeros(4)), {**scored(np.ones(4)), "split": np.array(["seen"] * 4, object)})
    found = paired_differences(both, with_values(both, both["value"] * 3), 50)
    assert list(found) == ["test", "seen"] and found["seen"]["si_sdri"]["all"].value == 2
    assert list(paired_differences(both, scored(np.ones(4), run="b"), 50)) == ["test"]


# what is refused


def test_scenes_without_a_partner_are_an_error_that_says_how_many_and_why():
    other = scored(np.zeros(6), run="b")
    other["scene"] = np.array([f"s{i // 2 + 1:03}" for i in range(6)], object)
    with pytest.raises(UserError) as error:
        paired_differences(scored(np.zeros(8)), other, why="They differ in: task.scenes.seed 0 and 1.")
    assert "1 of the 4 scenes of a and 0 of the 3 scenes of b have no partner" in str(error.value)
    assert "'s000'" in str(error.value) and "task.scenes.seed 0 and 1" in str(error.value)


def test_other_sounds_under_the_same_names_are_an_error():
    a, b = scored(np.zeros(8), metric="si_sdr_mixture"), scored(np.ones(8), "b", "si_sdr_mixture")
    with pytest.raises(UserError, match=r"same names and other sounds.*0\.00 dB and 1\.00 dB"):
        paired_differences(a, b)


def test_no_common_split_is_an_error():
    with pytest.raises(UserError, match="a was scored on test, b on seen"):
        paired_differences(scored(np.zeros(4)), {**scored(np.zeros(4), run="b"), "split": np.array(["seen"] * 4, object)})


def test_rows_that_come_twice_and_other_weights_are_errors():
    with pytest.raises(UserError, match="two rows of one source"):
        paired_differences(joined(scored(np.zeros(4)), scored(np.zeros(4))), scored(np.zeros(4), run="b"))
    with pytest.raises(UserError, match="weigh the sources differently"):
        paired_differences(scored(np.zeros(4)), {**scored(np.zeros(4), run="b"), "weight": np.full(4, 2.0)})


# real runs


@pytest.fixture(scope="module")
def runs() -> dict[str, RunRecord]:
    return {run.id: run for run in read_runs(REFERENCE) if run.path.parent == REFERENCE}


def labelled(runs, labels) -> RunRecord:
    """The small run on its own task that was trained with these labels, not one that scores it again."""
    return next(run for run in runs.values() if run.config["recipe"] == "weak_label" and
                run.config["task"]["name"] == "urban_events" and
                run.options["labels"] == labels and "trained_by" not in run.config)


def test_on_the_scenes_that_they_share_runs_have_their_own_figures(runs):
    clip, frame = labelled(runs, "clip"), labelled(runs, "frame")
    found = paired_differences(read_rows(clip.path), read_rows(frame.path), n_resamples=200)
    for split in ("test", "seen"):
        for metric in ("si_sdri_by_label", "f_measure_frame"):
            held, own = found[split][metric], [run.metrics[split][metric] for run in (clip, frame)]
            assert (held["all"].a, held["all"].b) == pytest.approx(tuple(each["all"]["mean"] for each in own))
            for label, difference in held["class"].items():
                assert (difference.a, difference.b) == pytest.approx(tuple(each["class"][label]["mean"] for each in own))
    assert explain_mismatch(clip, frame) == ""


def test_labels_tell_more_than_clips_do(runs):
    rows = [read_rows(labelled(runs, labels).path) for labels in ("clip", "frame")]
    found = paired_differences(*rows)["test"]["si_sdri_by_label"]["all"]
    assert found.excludes_zero and found.value > 0


def test_runs_on_other_sounds_are_told_apart_with_the_reason(runs):
    quick = next(run for run in read_runs(REFERENCE / "quick") if run.config["recipe"] == "weak_label")
    frame = labelled(runs, "frame")
    why = explain_mismatch(frame, quick)
    assert "other sounds" in why and "task.corpus urbansound8k and synthetic" in why
    with pytest.raises(UserError, match="500 of the 500 .* 100 of the 100 .*other sounds"):
        paired_differences(read_rows(frame.path), read_rows(quick.path), why=why)


def changed(run: RunRecord, part: str, **new: object) -> RunRecord:
    task = run.config["task"]
    held = {**task, part: {**task[part], **new}} if part else {**task, **new}
    return replace(run, config={**run.config, "task": held})


def test_what_moves_scenes_is_explained_and_what_does_not_is_not(runs):
    run = labelled(runs, "frame")
    assert "task.scenes.seed 0 and 3" in explain_mismatch(run, changed(run, "scenes", seed=3))
    assert "task.minimum_active 2 and 1" in explain_mismatch(run, changed(run, "", minimum_active=1))
    assert "task.mixing.rate 5.0 and 10.0" in explain_mismatch(run, changed(run, "mixing", test_rate=10.0))
    assert explain_mismatch(run, changed(run, "mixing", rate=10.0, test_rate=5.0)) == ""
    assert explain_mismatch(run, changed(run, "", metrics=["snr"])) == ""
    assert explain_mismatch(run, changed(run, "scenes", valid=3)) == ""
    assert "task.scenes.seen 500 and 20" in explain_mismatch(run, changed(run, "scenes", seen=20))
    assert explain_mismatch(run, changed(run, "scenes", seen=0)) == ""
    drawn = [replace(run, provenance={**run.provenance, "scenes_hash": {"test": each}}) for each in ("1-500", "2-500")]
    assert "scenes_hash" in explain_mismatch(*drawn) and explain_mismatch(run, drawn[0]) == ""
