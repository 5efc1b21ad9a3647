"""What `sepbench score` keeps: a run like any other, in the same tables, on the scenes that a run wrote too."""

from __future__ import annotations

import pytest

from scored_files import AUDIO, ERROR, RATE_HZ, figures, put, refused, two_scenes
from sepbench.results import read_rows, read_runs
from sepbench.storage import write_json
from sepbench.tables import make_tables, render


def test_the_run_has_the_rows_that_any_run_has(tmp_path):
    ref, est = two_scenes(tmp_path)
    told = figures(tmp_path, "--reference", ref, "--estimate", est, "--name", "Nutti Net 2")
    (run,) = read_runs(tmp_path / "runs")
    assert (str(run.path), run.state) == (told["run"], "finished")
    assert (run.config["name"], run.config["kind"]) == ("Nutti Net 2", "external")
    assert run.id.startswith("nutti_net_2-score-files-")
    assert run.config["task"]["classes"] == ["dog", "siren"] and run.config["task"]["sample_rate_hz"] == RATE_HZ
    assert run.config["task"]["seconds"] == 0.05 and run.provenance["files"]["a"]["mixture"] == str(ref / "a/mixture.wav")
    rows = read_rows(run.path)
    assert set(rows["run"]) == {run.id} and set(rows["split"]) == {"test"}
    mean = rows["value"][rows["metric"] == "si_sdri"].mean()
    assert mean == pytest.approx(told["summary"]["si_sdri"]["mean"])
    assert run.metrics["test"]["si_sdri"]["all"]["ci95"] == told["summary"]["si_sdri"]["ci95"]


def test_systems_on_the_same_references_stand_in_one_table_and_only_the_same_again_replaces_itself(tmp_path):
    ref, est = two_scenes(tmp_path)
    for scene in "ab":  # a blind system with a false alarm
        for i in range(3):
            put(tmp_path / "blind" / scene / f"s{i}.wav", AUDIO[i] + 2 * ERROR[i])
    for estimate in (est, tmp_path / "blind", est):
        figures(tmp_path, "--reference", ref, "--estimate", estimate)
    runs = read_runs(tmp_path / "runs")
    assert len(runs) == 2
    (table,) = make_tables(runs, None)
    assert [row.cells[0].show() for row in table.rows] == ["est", "blind"]
    assert "blind" in render([table])
    put(ref / "b/0_dog.wav", AUDIO[2])
    figures(tmp_path, "--reference", ref, "--estimate", est)
    runs = read_runs(tmp_path / "runs")
    assert len(runs) == 3 and len(make_tables(runs, None)) == 2
    assert len({run.config["estimates"] for run in runs}) == len({run.config["references"] for run in runs}) == 2
    put(ref / "b/mixture.wav", AUDIO[3])
    figures(tmp_path, "--reference", ref, "--estimate", est)
    assert len(read_runs(tmp_path / "runs")) == 4


def written_scenes(ref, **more):
    task = {"name": "urban", "corpus": "synthetic", "classes": ["dog", "siren", "a bell"], "sample_rate_hz": RATE_HZ,
            "seconds": 0.05, "foreground_only": False, "mixing": {"rate": 5.0}, "splits": {"by": "fold"},
            "scenes": {"test": 2, "seen": 0}, "metrics": ["si_sdri"], "minimum_active": 2}  # fmt: skip
    told = {"task": task, "split": "test", "scenes_hash": "0123abcd", "corpus_hash": "a1b2c3d4"}
    write_json(ref / "scenes.json", told | more)
    return task


def test_scenes_that_were_written_by_a_run_keep_their_task(tmp_path):
    ref, est = two_scenes(tmp_path)
    (ref / "b/1_siren.wav").rename(ref / "b/2_a_bell.wav"), (est / "b/1_siren.wav").rename(est / "b/1_a_bell.wav")
    task = written_scenes(ref)
    figures(tmp_path, "--reference", ref, "--estimate", est, "--metrics", "si_sdri,si_sdri_by_label")
    (run,) = read_runs(tmp_path / "runs")
    assert run.config["task"] == task | {"metrics": ["si_sdri", "si_sdri_by_label"]}
    assert (run.provenance["corpus_hash"], run.provenance["scenes_hash"]) == ("a1b2c3d4", {"test": "0123abcd"})
    rows = read_rows(run.path)
    of_b = (rows["scene"] == "b") & (rows["metric"] == "si_sdri_by_label")
    assert list(zip(rows["source"][of_b], rows["label"][of_b])) == [(0, "dog"), (2, "a bell")]
    told = figures(tmp_path, "--reference", ref, "--estimate", est)
    assert told["scenes"][1]["pairs"] == [[0, 0], [1, 1]]


def test_a_part_of_the_written_scenes_does_not_pass_for_all(tmp_path):
    ref, est = two_scenes(tmp_path)
    written_scenes(ref)
    (est / "b/0_dog.wav").write_text("no sound")
    figures(tmp_path, "--reference", ref, "--estimate", est, "--skip-bad")
    (run,) = read_runs(tmp_path / "runs")
    assert run.provenance["scenes_hash"]["test"] != "0123abcd" and run.provenance["corpus_hash"] != "a1b2c3d4"
    (ref / "a").rename(tmp_path / "away"), (est / "a").rename(tmp_path / "gone")
    written_scenes(ref)
    assert "scenes.json: lists 2 scenes, 1 are there" in refused("--reference", ref, "--estimate", est)
    (ref / "scenes.json").rename(ref / ".scenes.json")
    assert ".scenes.json: not all scenes were written yet" in refused("--reference", ref, "--estimate", est)
    write_json(ref / "scenes.json", {"task": {}})
    assert "scenes.json: no split, scenes_hash, corpus_hash in it" in refused("--reference", ref, "--estimate", est)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"task": "urban"}, "task must be an object, got 'urban'"),
        ({"task": None}, "task must be an object, got null"),
        ({"split": 3}, "split must be a text, got 3"),
        ({"split": ""}, "split must be a text"),
        ({"scenes_hash": 5}, "scenes_hash must be a text"),
        ({"scenes_hash": {"test": 5}}, "scenes_hash must be a text"),
        ({"corpus_hash": ["a"]}, "corpus_hash must be a text"),
        ({"task": {}}, "task.corpus must be a text, got null"),
        ({"task": {"corpus": "urban"}}, "task.classes must be a list of texts"),
        ({"task": {"corpus": "urban", "classes": "dog"}}, "task.classes must be a list of texts"),
        ({"task": {"corpus": "urban", "classes": [1]}}, "task.classes must be a list of texts"),
        ({"task": {"corpus": "urban", "classes": [], "scenes": [2]}}, "task.scenes must be an object of whole numbers"),
        ({"task": {"corpus": "urban", "classes": [], "scenes": {"test": "x"}}}, "task.scenes must be an object of whole"),
        ({"task": {"corpus": "urban", "classes": [], "minimum_active": None}}, "task.minimum_active must be a whole number"),
        ({"task": {"corpus": "urban", "classes": [], "mixing": 3}}, "task.mixing must be an object"),
        ({"task": {"corpus": "urban", "classes": [], "splits": "fold"}}, "task.splits must be an object"),
        ({"task": {"corpus": "urban", "classes": [], "sample_rate_hz": "16k"}}, "task.sample_rate_hz must be a number"),
    ],
)
def test_a_scenes_json_of_other_types_is_one_line(tmp_path, more, said):
    ref, est = two_scenes(tmp_path)
    written_scenes(ref, **more)
    line = refused("--reference", ref, "--estimate", est, "--results", tmp_path / "runs")
    assert "scenes.json: " + said in line and not (tmp_path / "runs").exists()
