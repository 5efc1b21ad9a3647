from __future__ import annotations

import json

import numpy as np
import pytest

from sepbench.metrics import METRICS
from sepbench.statistics import bootstrap_ci, f_measure_ci, resampled_sums, summarise, weighted_median

ENTRY = {"mean", "std", "median", "n", "scenes", "undefined", "ci95"}


def width(interval):
    return interval[1] - interval[0]


def columns(*rows):
    """(scene, label, metric, value) or (scene, label, metric, value, weight) rows of the split "test"."""
    table = [(*row, 1.0)[:5] for row in rows]
    scene, label, metric, value, weight = (np.array(column) for column in zip(*table, strict=True))
    return {"split": np.full(len(table), "test"), "scene": scene, "source": np.zeros(len(table), int),
            "label": label, "metric": metric, "value": value, "weight": weight}


def test_the_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(0)
    hits = 0
    for trial in range(300):
        scene = np.repeat(np.arange(60), 2)
        values = generator.standard_normal(60)[scene] + generator.standard_normal(120)
        low, high = bootstrap_ci(values, np.ones(120), scene, n_resamples=500, seed=trial)
        hits += low <= 0 <= high
    assert 0.90 <= hits / 300 <= 0.98  # 95 %, give or take three standard errors and the percentile method's shortfall


def test_the_interval_is_as_wide_as_theory_has_it():
    values = np.random.default_rng(0).standard_normal(2000)
    theory = 2 * 1.96 * values.std() / np.sqrt(2000)
    assert width(bootstrap_ci(values, np.ones(2000), np.arange(2000), 2000)) == pytest.approx(theory, rel=0.08)


def test_rows_of_one_scene_are_no_independent_witnesses():
    values = np.repeat(np.random.default_rng(0).standard_normal(200), 4)
    weights = np.ones(800)
    clustered = bootstrap_ci(values, weights, np.repeat(np.arange(200), 4), 2000)
    assert width(clustered) == pytest.approx(2 * width(bootstrap_ci(values, weights, np.arange(800), 2000)), rel=0.1)


def test_weights_count_as_repetitions():
    values, scene = np.random.default_rng(0).standard_normal(50), np.arange(50)
    repeats = np.random.default_rng(1).integers(1, 4, 50)
    weighted = bootstrap_ci(values, repeats, scene, 1000)
    repeated = bootstrap_ci(np.repeat(values, repeats), np.ones(repeats.sum()), np.repeat(scene, repeats), 1000)
    assert weighted == pytest.approx(repeated, abs=1e-5)
    assert weighted_median(values, repeats) == np.median(np.repeat(values, repeats))
    assert weighted_median(values, np.ones(50)) == np.median(values)


def test_a_large_mean_costs_no_digits():
    values, scene = np.random.default_rng(0).standard_normal(100), np.arange(100)
    near, far = (np.array(bootstrap_ci(values + shift, np.ones(100), scene, 500)) for shift in (0, 1e6))
    np.testing.assert_allclose(far - 1e6, near, atol=1e-5)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    values, scene = np.random.default_rng(0).standard_normal(50), np.arange(50)
    first, again, other = (bootstrap_ci(values, np.ones(50), scene, 300, seed) for seed in (1, 1, 2))
    assert first == again != other


def test_one_scene_has_no_interval():
    assert bootstrap_ci(np.array([1.0, 2.0]), np.ones(2), np.array(["a", "a"])) is None


def test_each_resample_draws_as_many_scenes_as_there_are():
    sums = resampled_sums(np.stack([np.ones(40), np.arange(40)], 1), 600, seed=0)
    assert sums.shape == (600, 2)
    assert (sums[:, 0] == 40).all()
    assert sums[:, 1].mean() == pytest.approx(40 * 19.5, rel=0.02)


def test_the_summary_of_a_mean():
    summary = summarise(columns(
        ("s1", "dog", "si_sdri", 1.0), ("s1", "bell", "si_sdri", 3.0), ("s2", "dog", "si_sdri", 8.0),
        ("s3", "siren", "si_sdri_undefined", 1.0), ("s3", "dog", "si_sdri_undefined", 1.0),
    ), n_resamples=200)
    figure = summary["test"]["si_sdri"]
    assert figure["unit"] == "dB" and set(figure) == {"unit", "signature", "all", "class"}
    assert figure["signature"] == METRICS["si_sdri"].signature
    assert set(figure["all"]) == ENTRY
    facts = {key: figure["all"][key] for key in ("mean", "median", "n", "scenes", "undefined")}
    assert facts == {"mean": 4.0, "median": 3.0, "n": 3, "scenes": 2, "undefined": 2}
    assert figure["all"]["std"] == pytest.approx(np.std([1, 3, 8]))
    assert figure["all"]["ci95"][0] <= 4.0 <= figure["all"]["ci95"][1]
    assert figure["class"].keys() == {"bell", "dog", "siren"}
    assert figure["class"]["dog"]["mean"] == 4.5 and figure["class"]["dog"]["undefined"] == 1
    assert figure["class"]["bell"]["ci95"] is None  # one scene
    assert figure["class"]["siren"] == dict.fromkeys(ENTRY) | {"n": 0, "scenes": 0, "undefined": 1}
    json.dumps(summary, allow_nan=False)


def test_the_summary_agrees_with_the_interval_of_its_rows():
    values = np.random.default_rng(0).standard_normal(80)
    rows = [(f"s{i // 2}", "dog", "snr", value) for i, value in enumerate(values)]
    interval = summarise(columns(*rows), n_resamples=400, seed=3)["test"]["snr"]["all"]["ci95"]
    assert interval == pytest.approx(bootstrap_ci(values, np.ones(80), [row[0] for row in rows], 400, seed=3), abs=1e-6)


def test_weights_move_the_mean():
    figure = summarise(columns(("a", "", "ca_sdri", 0.0, 3.0), ("b", "", "ca_sdri", 4.0, 1.0)), 50)["test"]["ca_sdri"]
    assert figure["all"]["mean"] == 1.0 and figure["all"]["std"] == pytest.approx(np.sqrt(3)) and figure["class"] == {}


def test_splits_are_kept_apart():
    table = columns(("a", "", "snr", 1.0), ("b", "", "snr", 5.0))
    table["split"] = np.array(["seen", "test"])
    summary = summarise(table, 50)
    assert (summary["seen"]["snr"]["all"]["mean"], summary["test"]["snr"]["all"]["mean"]) == (1.0, 5.0)


def test_what_merely_happened_is_counted():
    summary = summarise(columns(*((scene, "dog", "missed", 1.0) for scene in "aab")), 50)["test"]["missed"]
    assert summary["unit"] == "count"
    assert (summary["all"]["n"], summary["all"]["scenes"], summary["all"]["mean"]) == (3, 2, None)
    assert summary["class"]["dog"]["n"] == 3


def detection(n_scenes=30, n_frames=20, seed=0):
    """Truth and guess (scene, class, frame) of dog, bell, and tern, which never sounds; and their rows."""
    generator = np.random.default_rng(seed)
    truth = generator.random((n_scenes, 3, n_frames)) < np.array([0.2, 0.5, 0.0])[:, None]
    guess = truth ^ (generator.random(truth.shape) < 0.2)
    guess[:, 2] = False
    outcomes = {"tp": guess & truth, "fp": guess & ~truth, "fn": ~guess & truth, "tn": ~guess & ~truth}
    rows = [(f"s{i:02}", label, f"frame_{name}", float(one[i, k].sum()))
            for i in range(n_scenes) for k, label in enumerate(("dog", "bell", "tern"))
            for name, one in outcomes.items()]
    return truth, guess, columns(*rows)


def test_f_measures_of_pooled_counts_agree_with_scikit_learn():
    outsider = pytest.importorskip("sklearn.metrics")
    truth, guess, table = detection()
    summary = summarise(table, n_resamples=200)["test"]
    figure = summary["f_measure_frame"]
    by_class = [outsider.f1_score(truth[:, i].ravel(), guess[:, i].ravel()) for i in (0, 1)]
    assert [figure["class"][label]["mean"] for label in ("dog", "bell")] == pytest.approx(by_class)
    assert figure["class"]["tern"]["mean"] is None and figure["class"]["tern"]["ci95"] is None
    assert figure["all"]["mean"] == pytest.approx(outsider.f1_score(truth.ravel(), guess.ravel()))
    assert figure["class_mean"]["mean"] == pytest.approx(np.mean(by_class))
    always = outsider.f1_score(truth[:, 0].ravel(), np.ones(truth[:, 0].size))
    assert summary["f_measure_frame_chance"]["class"]["dog"]["mean"] == pytest.approx(always)
    assert set(figure["all"]) == set(figure["class"]["dog"]) == set(figure["class_mean"]) == ENTRY
    assert (figure["class"]["dog"]["n"], figure["class"]["dog"]["scenes"]) == (600, 30)
    assert not {"frame_tp", "f_measure_clip"} & summary.keys()
    json.dumps(summary, allow_nan=False)


def test_the_interval_of_f_is_that_of_resampled_scenes():
    truth, guess, table = detection()
    tp, fp, fn = (one.sum((1, 2)) for one in (guess & truth, guess & ~truth, ~guess & truth))
    low, high = f_measure_ci(tp, fp, fn, n_resamples=2000)
    assert summarise(table, 2000)["test"]["f_measure_frame"]["all"]["ci95"] == pytest.approx([low, high], abs=1e-6)
    drawn = np.random.default_rng(5).integers(0, 30, (4000, 30))
    slow = [2 * tp[i].sum() / (2 * tp[i].sum() + fp[i].sum() + fn[i].sum()) for i in drawn]
    np.testing.assert_allclose([low, high], np.percentile(slow, [2.5, 97.5]), atol=0.005)


def test_a_value_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="snr: a value is not finite"):
        summarise(columns(("a", "", "snr", np.nan)))


def test_precision_recall_and_f_of_sources_are_pooled_over_scenes():
    counts = {"s1": (2, 1, 0), "s2": (0, 0, 3), "s3": (1, 2, 1)}  # tp, fp, fn of dogs
    rows = [(scene, "dog", f"source_{outcome}", float(value))
            for scene, outcomes in counts.items() for outcome, value in zip(("tp", "fp", "fn"), outcomes)]
    summary = summarise(columns(*rows, ("s1", "bell", "source_fp", 1.0), ("s1", "bell", "source_tp", 0.0)))["test"]
    assert summary["source_precision"]["class"]["dog"]["mean"] == pytest.approx(3 / 6)
    assert summary["source_recall"]["class"]["dog"]["mean"] == pytest.approx(3 / 7)
    assert summary["source_f_measure"]["class"]["dog"]["mean"] == pytest.approx(6 / 13)
    assert summary["source_precision"]["all"]["mean"] == pytest.approx(3 / 7)
    assert summary["source_recall"]["class"]["bell"]["mean"] is None  # there was none to be found
    assert not {"source_tp", "f_measure_source"} & summary.keys()


def test_who_was_paired_with_whom_is_no_figure():
    summary = summarise(columns(("s1", "dog", "paired_with", 3.0), ("s1", "dog", "si_sdr", 1.0)))["test"]
    assert set(summary) == {"si_sdr"}


def test_the_accuracy_of_classes_says_how_it_was_had_and_what_guessing_scores():
    rows = [("s1", "dog", "class_accuracy", 1.0), ("s1", "dog", "class_accuracy_chance", 0.2),
            ("s2", "bell", "class_accuracy", 0.0), ("s2", "bell", "class_accuracy_chance", 0.4),
            ("s1", "", "class_accuracy_both", 1.0), ("s1", "dog", "si_sdr", 1.0)]
    alone = [(scene, "", "labels_alone", 1.0) for scene in ("s1", "s2")]
    for others, by in (([], "separation"), (alone, "label set"), (alone[1:], "label set or separation")):
        summary = summarise(columns(*rows, *others), 50)["test"]
        assert set(summary) == {"class_accuracy", "class_accuracy_chance", "class_accuracy_both", "si_sdr"}
        assert summary["class_accuracy"]["by"] == by and "by" not in summary["si_sdr"]
        assert summary["class_accuracy_both"]["by"] == ("label set" if len(others) == 2 else "separation")
        assert summary["class_accuracy_chance"]["all"]["mean"] == pytest.approx(0.3)
        assert summary["class_accuracy_chance"]["unit"] == summary["class_accuracy"]["unit"] == "ratio"


def test_an_interval_does_not_depend_on_what_else_was_measured():
    random = np.random.default_rng(1)
    rows = [(f"s{i:02}", "dog", "si_sdri", random.standard_normal()) for i in range(10)]
    others = [(f"s{i:02}", "", "equal_separation", float(i % 2)) for i in range(40)]
    alone, among = (summarise(columns(*some), 500)["test"]["si_sdri"]["all"]["ci95"] for some in (rows, rows + others))
    assert alone == among
