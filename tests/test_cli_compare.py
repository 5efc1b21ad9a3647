"""`sepbench compare` on real runs: what it prints, what it writes, what it refuses."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from sepbench.cli_compare import compare, in_words
from sepbench.comparison import Difference
from sepbench.options import Door
from sepbench.results import FORMAT, RunFolder, read_rows, read_runs
from sepbench.scene import Row

REFERENCE = Path(__file__).resolve().parents[1] / "results" / "reference"
CLIP, FRAME, STRONG, FLOOR = (
    next(REFERENCE.glob(pattern)).name  # of the two runs with frame labels, the one that was trained
    for pattern in ("weak_label-*labels=clip*", "weak_label-*-5512a33f", "weak_label-*labels=strong*", "mixture-*")
)
PRIORS = next(REFERENCE.glob("label_statistics*")).name


def call(*arguments: object, results: Path = REFERENCE):
    main = Door(commands={"compare": compare})
    words = ["compare", *map(str, arguments), "--results", str(results)]
    return CliRunner().invoke(main, words, prog_name="sepbench")


def refused(*arguments: object, results: Path = REFERENCE) -> str:
    told = call(*arguments, results=results)
    assert told.exit_code == 2 and told.stderr.startswith("sepbench: ") and told.stderr.count("\n") == 1, told.output
    return told.stderr


def lines(output: str, metric: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith(metric)]


def test_two_runs_are_compared_over_all_and_class_by_class():
    told = call(CLIP, FRAME)
    assert told.exit_code == 0, told.output
    over_all = lines(told.output, "si_sdri_by_label, dB")
    assert len(over_all) == 2 and all("B better" in line for line in over_all)  # test and seen
    assert "3.66" in over_all[0] and "4.71" in over_all[0] and "1.05 [" in over_all[0] and "1565 / 467" in over_all[0]
    assert "A better" in lines(told.output, "si_sdri_by_label: dog_bark")[0]
    assert "no difference found" in lines(told.output, "f_measure_clip: jackhammer")[0]
    assert told.output.index("test: A is") < told.output.index("seen: A is")
    assert "the same in both: si_sdr_mixture -4.72 dB" in told.output


def test_a_run_and_itself_differ_by_nothing_and_it_is_said():
    told = call(FLOOR, REFERENCE / FLOOR)
    assert told.exit_code == 0 and "A and B are the same run." in told.output
    assert "0.00 [0.00, 0.00]" in told.output and "better" not in told.output


def test_a_model_and_itself_in_half_precision_are_not_told_apart():
    told = call(FRAME, next(REFERENCE.glob("weak_label-*-0974782c")).name, "--metric", "si_sdri_by_label")
    over_all = lines(told.output, "si_sdri_by_label, dB")
    assert len(over_all) == 2 and all("no difference found" in line for line in over_all)


def test_what_only_one_has_is_named():
    told = call(FRAME, STRONG)
    assert "Only A has f_measure_frame, f_measure_clip." in told.output and not lines(told.output, "f_measure")


def test_one_metric_alone_can_be_asked_for(tmp_path: Path):
    told = call(CLIP, FRAME, "--metric", "f_measure_clip")
    assert lines(told.output, "f_measure_clip") and not lines(told.output, "si_sdr")
    grouped = call(CLIP, FRAME, "--metric", "f_measure")
    assert lines(grouped.output, "f_measure_clip") and lines(grouped.output, "f_measure_frame")
    assert lines(call(CLIP, FRAME, "--metric", "si_sdr_mixture").output, "si_sdr_mixture, dB")


def test_the_figures_go_to_json(tmp_path: Path):
    assert call(CLIP, FRAME, "--json", tmp_path / "out.json").exit_code == 0
    held = json.loads((tmp_path / "out.json").read_text())
    figure = held["splits"]["test"]["si_sdri_by_label"]
    assert (held["a"]["run"], held["b"]["run"]) == (CLIP, FRAME)
    assert figure["all"].keys() == {"value", "ci95", "a", "b", "n", "scenes", "unpaired", "unit", "in_words"}
    assert figure["all"]["value"] == pytest.approx(figure["all"]["b"] - figure["all"]["a"])
    assert set(figure["class"]) == {"car_horn", "dog_bark", "gun_shot", "jackhammer", "siren"}
    assert "no folder" in refused(CLIP, FRAME, "--json", tmp_path / "nowhere" / "out.json")


def test_every_format_tells_the_same():
    rows = list(csv.DictReader(io.StringIO(call(CLIP, FRAME, "--format", "csv").output)))
    difference = next(row for row in rows if row["row"] == "si_sdri_by_label, dB" and row["column"] == "B - A")
    assert float(difference["value"]) == pytest.approx(1.0469, abs=1e-4) and float(difference["ci_low"]) > 0
    assert {row["split"] for row in rows} == {"test", "seen"}
    assert "| si_sdri_by_label, dB | 3.66 | 4.71 |" in call(CLIP, FRAME, "--format", "md").output
    assert r"\begin{table}" in call(CLIP, FRAME, "--format", "latex").output
    assert "terminal" in refused(CLIP, FRAME, "--format", "markdwon")


def test_a_label_never_says_better_where_the_interval_holds_zero():
    def words(metric, value, ci95):
        return in_words(metric, Difference(value, ci95, 0, value, 9, 9, 0, ""))

    assert words("si_sdri", 1, (0.5, 2)) == "B better" and words("si_sdri", -1, (-2, -0.5)) == "A better"
    assert words("over_separation", 1, (0.5, 2)) == "A better" and words("over_separation", -1, (-2, -0.5)) == "B better"
    assert words("si_sdri", 1, (-0.5, 2)) == "no difference found" and words("si_sdri", 1, None) == "too few scenes to tell"
    assert words("of_ones_own", 1, (0.5, 2)) == "B higher"


# what is refused


def test_runs_on_other_scenes_are_refused_with_the_reason():
    quick = next((REFERENCE / "quick").glob("weak_label*"))
    said = refused(FRAME, quick)
    assert "500 of the 500 scenes" in said and "100 of the 100 scenes" in said and "other sounds" in said


def test_the_same_names_in_two_data_sets_are_not_the_same_scenes(tmp_path: Path):
    said = refused(tiny(tmp_path, "one"), tiny(tmp_path, "other", content="beefed"))
    assert "the same names and other content" in said and "c0ffee and beefed" in said


def test_what_has_no_rows_is_refused():
    assert "holds no rows" in refused(PRIORS, FRAME) and "holds no rows" in refused(FRAME, PRIORS)


def test_names_that_are_not_there_come_with_the_nearest():
    assert f"Did you mean '{REFERENCE / FLOOR}'" in refused(FLOOR[:-1], FRAME)
    assert "Did you mean 'si_sdri_by_label'" in refused(CLIP, FRAME, "--metric", "si_sdri_by_labl")
    assert "not in both runs; they share" in refused(CLIP, FRAME, "--metric", "snr")


def test_an_unfinished_run_is_refused(tmp_path: Path):
    half = tmp_path / FLOOR
    shutil.copytree(REFERENCE / FLOOR, half)
    run = json.loads((half / "run.json").read_text())
    (half / "run.json").write_text(json.dumps({**run, "state": "running"}))
    assert "not a finished run" in refused(half, FRAME)


# figures that were measured otherwise


def tiny(place: Path, name: str, shift: float = 0.0, content: str = "c0ffee", **entry: object) -> Path:
    """A run of eight scenes; `entry` replaces what metrics.json says of si_sdri."""
    config = {"recipe": name, "profile": "quick", "task": {"corpus": "none"}}
    with RunFolder.open_or_create(place, config, {}, None, {"corpus_hash": content}) as folder:
        rows = [Row(folder.id, "test", f"s{i}", 0, "dog", metric, float(i) + shift) for i in range(8)
                for metric in ("si_sdri", "snr")]
        folder.append_rows("test", 0, rows)
        metrics = folder.finish({})
    metrics["test"]["si_sdri"] |= entry
    (folder.path / "metrics.json").write_text(json.dumps(metrics))
    return folder.path


def test_figures_with_other_signatures_are_not_compared_and_it_is_said(tmp_path: Path):
    now, then = tiny(tmp_path, "now"), tiny(tmp_path, "then", 1.0, signature="si_sdri|v0")
    told = call(now, then)
    assert told.exit_code == 0 and not lines(told.output, "si_sdri") and "B better" in lines(told.output, "snr, dB")[0]
    assert "Not compared, for it was measured differently: si_sdri" in told.output and "si_sdri|v0" in told.output
    assert "measured it differently" in refused(now, then, "--metric", "si_sdri")


def test_an_older_run_without_signatures_is_compared_and_it_is_said(tmp_path: Path):
    old = tiny(tmp_path / "old", "same", 1.0)
    run, metrics = (json.loads((old / name).read_text()) for name in ("run.json", "metrics.json"))
    assert run["format"] == FORMAT
    for figures in metrics["test"].values():
        figures.pop("signature", None)
    (old / "metrics.json").write_text(json.dumps(metrics))
    told = call(tiny(tmp_path, "new"), old)
    assert "B was written before signatures were kept" in told.output and "B better" in lines(told.output, "si_sdri")[0]


def test_a_run_of_the_first_format_stands_beside_a_new_one(tmp_path: Path):
    """What it calls si_sdri was paired by label, so it is held against that, not against what is called so now."""
    old, rows = read_runs(REFERENCE / FRAME)[0], read_rows(REFERENCE / FRAME)
    assert json.loads((REFERENCE / FRAME / "run.json").read_text())["format"] == 1
    with RunFolder.open_or_create(tmp_path, old.config, {}, None, old.provenance) as folder:
        own = (rows["split"] == "test") & (rows["metric"] == "si_sdri_by_label")
        for name, shift in (("si_sdri", 9.0), ("si_sdri_by_label", 0.5)):
            held = zip(*(rows[column][own] for column in ("scene", "source", "label", "value")), strict=True)
            found = [Row(folder.id, "test", scene, int(source), label, name, value + shift)
                     for scene, source, label, value in held]
            folder._scored["test"] = set()  # both metrics are of the same scenes
            folder.append_rows("test", 0, found)
        folder.finish({})
    told = call(FRAME, folder.path)
    assert told.exit_code == 0, told.output
    assert "0.50 [0.50, 0.50]  B better" in lines(told.output, "si_sdri_by_label, dB")[0]
    assert not lines(told.output, "si_sdri,") and "Only B has si_sdri." in told.output
    assert "A was written before signatures were kept" in told.output and "Only A was scored on seen." in told.output


def naming(place: Path, name: str, right: float, alone: bool) -> Path:
    """A run that named the class of one source in each of eight scenes; `alone`: and separated nothing."""
    config = {"recipe": name, "profile": "quick", "task": {"corpus": "none"}}
    with RunFolder.open_or_create(place, config, {}, None, {"corpus_hash": "c0ffee"}) as folder:
        figures = {"class_accuracy": right, "source_tp": right, "source_fn": 1 - right, "source_fp": 1 - right}
        figures |= {"labels_alone": 1.0} if alone else {"si_sdri": 1.0}
        rows = [Row(folder.id, "test", f"s{i}", 0, "dog", metric, value) for i in range(8) for metric, value in figures.items()]
        folder.append_rows("test", 0, rows)
        folder.finish({})
    return folder.path


def test_accuracies_that_were_found_by_two_rules_get_no_verdict(tmp_path: Path):
    runs = naming(tmp_path, "separates", 0.0, False), naming(tmp_path, "names", 1.0, True)
    told = call(*runs, "--metric", "class_accuracy", "--json", tmp_path / "out.json")
    assert told.exit_code == 0 and "better" not in told.output
    over_all, by_class = lines(told.output, "class_accuracy  ") + lines(told.output, "class_accuracy:")
    for line in (over_all, by_class):
        assert "1.000 [1.000, 1.000]  not the same figure" in line
    assert "no verdict. Found by one rule in both: source_f_measure, source_recall." in told.output
    held = json.loads((tmp_path / "out.json").read_text())["splits"]["test"]["class_accuracy"]
    assert [figure["in_words"] for figure in (held["all"], held["class"]["dog"])] == ["not the same figure"] * 2
    assert held["all"]["value"] == 1.0 and held["all"]["ci95"] == [1.0, 1.0]
    assert "B better" in lines(call(*runs, "--metric", "source_recall").output, "source_recall")[0]


@pytest.mark.parametrize("alone", [False, True])
def test_accuracies_that_were_found_by_one_rule_get_a_verdict(tmp_path: Path, alone: bool):
    told = call(naming(tmp_path, "one", 0.0, alone), naming(tmp_path, "two", 1.0, alone), "--metric", "class_accuracy")
    assert "B better" in lines(told.output, "class_accuracy  ")[0] and "not the same figure" not in told.output


def test_comparing_needs_no_torch():
    code = (
        "import sys; from click.testing import CliRunner; from sepbench.cli_compare import compare;"
        f"told = CliRunner().invoke(compare, [{str(REFERENCE / CLIP)!r}, {str(REFERENCE / FRAME)!r}]);"
        "assert told.exit_code == 0, told.output; print(' '.join(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "pydantic", "matplotlib"} & set(done.stdout.split())
