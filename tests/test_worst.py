"""The ranking of scenes: what fails most, in an order that does not change."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from sepbench.cli_scenes import worst
from sepbench.errors import UserError
from sepbench.options import Door
from sepbench.results import read_rows, read_runs
from sepbench.worst import COLUMNS, PREFERRED, as_csv, rank_scenes, safe_name, scenes_in, usual_metric

REFERENCE = Path(__file__).resolve().parents[1] / "results" / "reference"


def columns(*rows, split="test"):
    """(scene, source, label, metric, value) rows as `read_rows` gives them."""
    names = ("scene", "source", "label", "metric", "value")
    held = {name: np.array(column, object) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    return held | {"split": np.array([split] * len(rows), object), "weight": np.ones(len(rows)),
                   "source": held["source"].astype(int), "value": held["value"].astype(float)}


ROWS = columns(
    ("s1", 0, "dog", "si_sdri", 8.0), ("s1", 1, "bell", "si_sdri", 2.0), ("s1", 0, "dog", "si_sdr_mixture", -3.0),
    ("s2", 0, "dog", "si_sdri", -1.0), ("s2", 1, "bell", "missed", 1.0), ("s2", 1, "bell", "si_sdr_mixture", -9.0),
    ("s3", 0, "cat", "si_sdri", 5.0), ("s3", -1, "", "over_separation", 1.0),
    ("s4", 0, "cat", "missed", 1.0), ("s1", -1, "", "over_separation", 0.0),
)  # fmt: skip


def test_the_lowest_comes_first_and_a_scene_is_the_mean_of_its_sources():
    ranking = rank_scenes(ROWS, "si_sdri", "test", 10)
    assert [(one.rank, one.scene, one.value) for one in ranking.failures] == [(1, "s2", -1.0), (2, "s1", 5.0), (3, "s3", 5.0)]
    assert ranking.n_scenes == 3 and ranking.unanswered == ("s4",)


def test_turned_round_the_best_comes_first_and_equals_keep_their_order():
    assert [one.scene for one in rank_scenes(ROWS, "si_sdri", "test", 10, best=True).failures] == ["s1", "s3", "s2"]
    assert [one.scene for one in rank_scenes(ROWS, "si_sdri", "test", 1).failures] == ["s2"]


def test_what_was_missed_is_named_and_the_input_stands_beside_each_source():
    first, second, _ = rank_scenes(ROWS, "si_sdri", "test", 10).failures
    assert first.missed == ["bell"] and second.missed == []
    assert [(part.label, part.value, part.input_db) for part in first.parts] == [("dog", -1.0, None), ("bell", None, -9.0)]
    assert [(part.label, part.value, part.input_db) for part in second.parts] == [("dog", 8.0, -3.0), ("bell", 2.0, None)]


def test_where_lower_is_better_the_highest_is_the_worst():
    assert [one.scene for one in rank_scenes(ROWS, "over_separation", "test", 10).failures] == ["s3", "s1"]


def test_by_label_the_sources_missed_by_label_count():
    rows = columns(("s1", 0, "dog", "si_sdri_by_label", 1.0), ("s1", 1, "bell", "missed", 1.0),
                   ("s1", 2, "cat", "missed_by_label", 1.0))
    assert rank_scenes(rows, "si_sdri_by_label", "test", 1).failures[0].missed == ["cat"]


def test_a_pooled_figure_is_that_of_the_scenes_own_counts():
    counts = {"s1": {"dog": (3, 1, 0), "bell": (0, 0, 0)}, "s2": {"dog": (0, 2, 2), "bell": (2, 0, 0)}, "s3": {"dog": (0, 0, 0)}}
    rows = [(scene, -1, label, f"frame_{name}", float(value)) for scene, own in counts.items() for label, outcomes in own.items()
            for name, value in zip(("tp", "fp", "fn"), outcomes)]  # fmt: skip
    ranking = rank_scenes(columns(*rows), "f_measure_frame", "test", 10)
    assert [(one.scene, one.value) for one in ranking.failures] == [("s2", 0.5), ("s1", pytest.approx(6 / 7))]
    assert [(part.label, part.value) for part in ranking.failures[0].parts] == [("bell", 1.0), ("dog", 0.0)]
    assert ranking.unanswered == () and [part.label for part in ranking.failures[1].parts] == ["dog"]


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("si_sdir", "Did you mean 'si_sdr'"),
        ("snr", "the run did not measure it; it has over_separation, si_sdr_mixture, si_sdri"),
        ("bss_eval", "stands for bss_sdr"),
        ("missed", "no metric 'missed'"),
    ],
)
def test_a_metric_that_cannot_rank_is_told(metric, said):
    with pytest.raises(UserError) as error:
        rank_scenes(ROWS, metric, "test", 10)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_split_without_rows_is_told():
    with pytest.raises(UserError, match="--split seen: .* scored on test"):
        rank_scenes(ROWS, "si_sdri", "seen", 10)


def test_the_list_has_a_line_per_source_and_is_read_back():
    written = as_csv(rank_scenes(ROWS, "si_sdri", "test", 10))
    rows = list(csv.DictReader(io.StringIO(written)))
    assert tuple(rows[0]) == COLUMNS and [row["label"] for row in rows] == ["dog", "bell", "dog", "bell", "cat"]
    assert rows[1] == {"rank": "1", "scene": "s2", "metric": "si_sdri", "value": "-1.0", "source": "1", "label": "bell",
                       "of_source": "", "input_si_sdr_db": "-9.0", "missed": "1"}
    assert scenes_in(written) == ["s2", "s1", "s3"] and scenes_in("") == []


def test_no_name_leads_out_of_its_folder():
    assert [safe_name(name) for name in ("..", ".", "", "../a", "a b/c", "dog_bark", "mix.1")] == [
        "_", "_", "_", ".._a", "a_b_c", "dog_bark", "mix.1"
    ]  # fmt: skip


def test_of_a_real_run_the_ranking_sums_up_to_its_mean():
    run = next(run for run in read_runs(REFERENCE) if run.id.startswith("weak_label-small-urbansound8k-split"))
    ranking = rank_scenes(read_rows(run.path), "si_sdri_by_label", "test", 10_000)
    parts = [part.value for one in ranking.failures for part in one.parts]
    figures = run.metrics["test"]["si_sdri_by_label"]["all"]
    assert np.mean(parts) == pytest.approx(figures["mean"]) and len(parts) == figures["n"]
    values = [one.value for one in ranking.failures]
    assert values == sorted(values) and len(values) == ranking.n_scenes == figures["scenes"]
    assert all(part.input_db is not None for one in ranking.failures for part in one.parts)


def test_listing_needs_no_torch():
    run = next(REFERENCE.glob("mixture-*"))
    code = (
        "import sys; from click.testing import CliRunner; from sepbench.cli_scenes import worst;"
        f"told = CliRunner().invoke(worst, [{str(run)!r}, '--no-wavs', '--metric', 'si_sdri_by_label']);"
        "assert told.exit_code == 0 and 'the 10 worst' in told.output, told.output; print(' '.join(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torch" not in done.stdout.split()


# the metric, where none is asked for


def test_the_first_of_the_usual_metrics_that_was_measured_in_the_split_ranks():
    assert usual_metric(ROWS, "test") == "si_sdri"
    for i, name in enumerate(PREFERRED):
        rows = columns(*[("s1", 0, "dog", each, 1.0) for each in ("over_separation", *reversed(PREFERRED[i:]))])
        assert usual_metric(rows, "test") == name
        assert rank_scenes(rows, name, "test", 1).failures[0].value == 1.0
    assert usual_metric(columns(("s1", 0, "dog", "over_separation", 1.0)), "test") == "si_sdri"  # which is then refused


def listed(*words: object):
    arguments = ["worst", *map(str, words), "--no-wavs", "--results", str(REFERENCE)]
    return CliRunner().invoke(Door(commands={"worst": worst}), arguments, prog_name="sepbench")


def test_a_run_without_si_sdri_is_ranked_by_what_it_has_and_it_is_said():
    by_label = next(REFERENCE.glob("weak_label-*-5512a33f")).name
    told = listed(by_label, "-n", 3)
    assert told.exit_code == 0, told.output
    assert "the 3 worst" in told.output and "Ranked by si_sdri_by_label, for the run has no si_sdri" in told.output
    asked = listed(by_label, "-n", 3, "--metric", "si_sdri_by_label")
    assert asked.exit_code == 0 and "Ranked by" not in asked.output
    assert asked.output.strip() == told.output.partition("Ranked by")[0].strip()


def test_a_run_that_has_si_sdri_is_ranked_by_it():
    told = listed(next(REFERENCE.glob("weak_label-*-0974782c")).name)
    assert told.exit_code == 0 and "si_sdri" in told.output
    assert "by_label" not in told.output and "Ranked by" not in told.output


def test_a_metric_that_is_asked_for_and_absent_is_an_error():
    told = listed(next(REFERENCE.glob("weak_label-*-5512a33f")).name, "--metric", "si_sdri")
    assert told.exit_code == 2 and "--metric si_sdri: the run did not measure it" in told.stderr
    assert "Did you mean 'si_sdri_by_label'" in told.stderr
