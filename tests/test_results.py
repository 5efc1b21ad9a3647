"""A run's folder: whole files, one writer, scoring that goes on where it stopped."""

from __future__ import annotations

import copy
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from sepbench import storage
from sepbench.errors import UserError
from sepbench.results import RunFolder, read_rows, read_runs, run_id
from sepbench.scene import Row

CONFIG = {
    "recipe": "weak_label",
    "name": "Weak-label separator",
    "profile": "quick",
    "seed": 0,
    "supervision": "weak",
    "labels_seen": "frame",
    "params": {"alpha": 1e-05, "labels": "frame", "mel_bins": None, "yes": "no", "on": True},
    "train": {"steps": 10},
    "task": {"name": "urban_events", "corpus": "synthetic", "classes": ["siren", "dog_bark"], "mixing": {"rate": 5.0}},
}
OPTIONS = {"alpha": 1e-05, "labels": "frame"}
FACTS = {"corpus_hash": "abc123", "git_commit": None}


def rows(*scenes: str, split: str = "test", value: float = 3.0) -> list[Row]:
    return [Row("r", split, scene, 0, "siren", "si_sdri", value + i) for i, scene in enumerate(scenes)]


def opened(root: Path, config: dict = CONFIG, facts: dict = FACTS) -> RunFolder:
    return RunFolder.open_or_create(root, config, OPTIONS, None, facts)


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_an_id_is_a_short_safe_file_name_that_tells_what_was_changed() -> None:
    name = run_id(CONFIG, {"alpha": 10.0, "labels": "clip / strange: name" + "x" * 200})
    assert name.startswith("weak_label-quick-synthetic-alpha=10.0-labels=clip_strange_name")
    assert len(name) < 120
    assert not set(name) & set('/\\:*?"<>| ')


def test_an_id_depends_on_every_setting_and_not_on_their_order() -> None:
    other = copy.deepcopy(CONFIG)
    other["train"]["steps"] = 11
    backwards = json.loads(json.dumps(dict(reversed(list(CONFIG.items())))))
    assert run_id(backwards) == run_id(CONFIG)
    assert run_id(other) != run_id(CONFIG)


def test_a_run_goes_from_new_over_interrupted_to_finished(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        assert run.state == "new"
        run.append_rows("test", 0, rows("a", "b"))
    with opened(tmp_path) as run:
        assert run.state == "interrupted"
        run.finish({"score": 1.0})
    assert opened(tmp_path).state == "finished"
    assert names(run.path) == {"run.json", "config.yaml", "rows.parquet", "metrics.json"}


def test_scoring_goes_on_at_the_last_chunk_that_is_on_disk(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        run.append_rows("test", 0, rows("a", "b"))
        run.append_rows("seen", 0, rows("a", split="seen"))
    with opened(tmp_path) as run:
        assert run.scored_scenes("test") == {"a", "b"}
        assert run.scored_scenes("seen") == {"a"}
        run.append_rows("test", 0, rows("c"))  # chunks are counted from 0 again; nothing is overwritten
        assert run.scored_scenes("test") == {"a", "b", "c"}
        run.finish({})
    held = read_rows(run.path)
    assert sorted(zip(held["split"], held["scene"])) == [("seen", "a"), ("test", "a"), ("test", "b"), ("test", "c")]


def test_an_interruption_changes_no_figure(tmp_path: Path) -> None:
    with opened(tmp_path / "whole") as run:
        run.append_rows("test", 0, rows("a", "b", "c"))
        whole = run.finish({})
    with opened(tmp_path / "parts") as run:
        run.append_rows("test", 1, rows("c", value=5.0))
    with opened(tmp_path / "parts") as run:
        run.append_rows("test", 0, rows("a", "b"))
        assert run.finish({}) == whole
    assert whole["test"]["si_sdri"]["all"]["mean"] == pytest.approx(4.0)


def test_a_scene_is_scored_once(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        run.append_rows("test", 0, rows("a"))
        with pytest.raises(ValueError, match="scored before"):
            run.append_rows("test", 1, rows("a"))
        with pytest.raises(ValueError, match="rows of split"):
            run.append_rows("seen", 1, rows("b"))


def test_a_run_without_rows_can_bring_its_own_metrics(tmp_path: Path) -> None:
    figures = {"train": {"activity_prior": {"class": {"siren": {"mean": 0.4, "std": float("nan")}}}}}
    with opened(tmp_path) as run:
        run.finish({}, metrics=figures)
    (record,) = read_runs(tmp_path)
    assert record.metrics["train"]["activity_prior"]["class"]["siren"] == {"mean": 0.4, "std": None}


def test_the_configuration_for_people_says_the_same_as_the_one_for_machines(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        assert yaml.safe_load((run.path / "config.yaml").read_text()) == CONFIG


def test_no_nan_reaches_a_json_file(tmp_path: Path) -> None:
    storage.write_json(tmp_path / "x.json", {"a": float("nan"), "b": [float("inf"), (1, 2.5)], "c": tmp_path})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": None, "b": [None, [1, 2.5]], "c": str(tmp_path)}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write_text(tmp_path / "x", "old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"no room left for x\. Free some space") as caught:
        storage.write_text(tmp_path / "x", "new")
    assert str(tmp_path) in str(caught.value)
    assert names(tmp_path) == {"x"}
    assert (tmp_path / "x").read_text() == "old"


WRITE_TOO_MUCH = """
import resource, signal, sys
from pathlib import Path
sys.path[:0] = [sys.argv[2], sys.argv[3]]
from test_results import opened, rows
from sepbench.errors import UserError
run = opened(Path(sys.argv[1]))
run.append_rows("test", 0, rows("a"))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    run.append_rows("test", 1, rows(*(f"a scene with the number {i ** 3}" for i in range(20_000))))
except UserError as error:
    print(error)
"""


def test_a_chunk_that_finds_no_room_is_not_there_and_the_run_goes_on_later(tmp_path: Path, repo: Path) -> None:
    code = [sys.executable, "-c", WRITE_TOO_MUCH, str(tmp_path), str(repo / "benchmark"), str(repo / "tests")]
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    assert "no room left for test-000001.parquet" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    with opened(tmp_path) as run:
        assert names(run.path / "partial") == {"test-000000.parquet"}
        assert run.state == "interrupted"
        assert run.scored_scenes("test") == {"a"}


HOLD = """
import sys, time
from pathlib import Path
sys.path[:0] = [sys.argv[2], sys.argv[3]]
from test_results import opened
run = opened(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_two_processes_never_write_one_run_and_a_dead_one_leaves_it_free(tmp_path: Path, repo: Path) -> None:
    code = [sys.executable, "-c", HOLD, str(tmp_path), str(repo / "benchmark"), str(repo / "tests")]
    with subprocess.Popen(code, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            with pytest.raises(UserError, match=f"process {process.pid} is writing this run"):
                opened(tmp_path)
            assert [record.state for record in read_runs(tmp_path)] == ["running"]
        finally:
            process.kill()
    assert [record.state for record in read_runs(tmp_path)] == ["interrupted"]
    with opened(tmp_path) as run:
        assert run.state == "interrupted"


def test_a_run_of_another_format_is_left_alone(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        pass
    path = run.path / "run.json"
    path.write_text(path.read_text().replace('"format": 2', '"format": 3'))
    message = "written by format 3; this sepbench reads format 2. Use the sepbench that wrote it, or move it away."
    for look in (lambda: opened(tmp_path), lambda: read_runs(tmp_path)):
        with pytest.raises(UserError, match=message):
            look()


def as_format_1(folder: Path) -> None:
    path = folder / "run.json"
    path.write_text(path.read_text().replace('"format": 2', '"format": 1'))


def test_a_run_of_format_1_is_read_with_the_names_of_today(tmp_path: Path) -> None:
    config = {**CONFIG, "task": {**CONFIG["task"], "metrics": ["si_sdri", "si_sdr_mixture"]}}
    tables = {"V": {"metric": "si_sdri", "rows": [{"metric": "si_sdr_mixture"}], "published": {"metric": "si_sdri"}}}
    with RunFolder.open_or_create(tmp_path, config, {}, tables, {}) as run:
        names = ("si_sdri", "si_sdri_undefined", "si_sdr_mixture", "missed")
        run.append_rows("test", 0, [Row(run.id, "test", "a", 0, "dog", name, 1.0) for name in names])
        run.finish({})
    as_format_1(run.path)
    (record,) = read_runs(tmp_path)
    assert set(record.metrics["test"]) == {"si_sdri_by_label", "si_sdr_mixture", "missed_by_label"}
    now = {"si_sdri_by_label", "si_sdri_by_label_undefined", "si_sdr_mixture", "missed_by_label"}
    assert set(read_rows(run.path)["metric"]) == now
    assert record.tables["V"]["metric"] == "si_sdri_by_label" and record.tables["V"]["published"]["metric"] == "si_sdri"
    assert record.config["task"]["metrics"] == ["si_sdri", "si_sdr_mixture", "si_sdri_by_label"]


def test_a_run_of_format_1_that_is_not_finished_is_not_gone_on_with(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        pass
    as_format_1(run.path)
    with pytest.raises(UserError, match="begun by an older sepbench"):
        opened(tmp_path)


def test_a_run_without_rows_is_said_to_have_none(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        run.finish({}, metrics={"test": {}})
    with pytest.raises(UserError, match="holds no rows"):
        read_rows(run.path)


def test_a_run_is_not_continued_on_other_sounds(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    with pytest.raises(UserError, match=r"other sounds \(corpus content abc123, now def456\)"):
        opened(tmp_path, facts={"corpus_hash": "def456"})


def test_reading_finds_every_run_and_passes_over_what_is_none(tmp_path: Path) -> None:
    for seed in (0, 1):
        with opened(tmp_path / "deep" / "er", {**CONFIG, "seed": seed}) as run:
            run.append_rows("test", 0, rows("a"))
            run.finish({"train": 2.0, "score": 1.0}, {"parameters": 12})
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.json").write_text('{"of": "another program"}')
    records = read_runs(tmp_path)
    assert len(records) == 2
    assert {record.config["seed"] for record in records} == {0, 1}
    assert all(record.wall_s == {"train": 2.0, "score": 1.0} for record in records)
    assert all(record.cost == {"parameters": 12} for record in records)


@pytest.mark.parametrize("damage", ["{", '{"format": 1}'])
def test_a_broken_run_is_named(tmp_path: Path, damage: str) -> None:
    with opened(tmp_path) as run:
        pass
    (run.path / "run.json").write_text(damage)
    with pytest.raises(UserError, match=r"run\.json"):
        read_runs(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such folder"):
        read_runs(tmp_path / "nowhere")


def finished(root: Path) -> Path:
    with opened(root) as run:
        run.append_rows("test", 0, rows("a", "b"))
        run.finish({})
    return run.path


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ([], "it all is []"),
        ({"test": 3}, "test is 3"),
        ({"test": {"si_sdri": 3}}, "test.si_sdri is 3"),
        ({"test": {"si_sdri": {"all": 3}}}, "test.si_sdri.all is 3"),
        ({"test": {"si_sdri": {"all": {"mean": "high"}}}}, "test.si_sdri.all.mean is 'high', not a number"),
        ({"test": {"si_sdri": {"all": {"mean": float("nan")}}}}, "test.si_sdri.all.mean is nan, not a number"),
        ({"test": {"si_sdri": {"all": {"ci95": [1]}}}}, "test.si_sdri.all.ci95 is [1], not two numbers"),
        ({"test": {"si_sdri": {"class": [1]}}}, "test.si_sdri.class is [1]"),
        ({"test": {"si_sdri": {"class": {"dog": 1}}}}, "test.si_sdri.class.dog is 1"),
    ],
)
def test_metrics_that_are_none_are_named_with_their_file(tmp_path: Path, metrics: object, said: str) -> None:
    path = finished(tmp_path) / "metrics.json"
    path.write_text(json.dumps(metrics))
    with pytest.raises(UserError) as caught:
        read_runs(tmp_path)
    assert str(caught.value).startswith(f"{path}: {said}") and "Restore it" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["config", "provenance", "wall_s"])
def test_a_run_json_with_a_number_for_a_part_is_named(tmp_path: Path, part: str) -> None:
    path = finished(tmp_path) / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), part: 3}))
    with pytest.raises(UserError, match=rf"run\.json: {part} is 3, not a mapping"):
        read_runs(tmp_path)


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("value", None, "no column value in it"),
        ("value", ["3", "4"], "column value does not hold numbers throughout"),
        ("value", [1.0, float("nan")], "value is nan in test/b/si_sdri"),
        ("value", [float("inf"), 1.0], "value is inf in test/a/si_sdri"),
        ("value", [None, 1.0], "value is nan in test/a/si_sdri"),
        ("weight", [1.0, float("nan")], "weight is nan in test/b/si_sdri"),
        ("scene", [1, 2], "column scene does not hold text throughout"),
        ("scene", ["a", None], "column scene does not hold text throughout"),
        ("source", [0, None], "column source does not hold whole numbers throughout"),
    ],
)
def test_rows_that_are_no_figures_are_named_with_their_file(
    tmp_path: Path, column: str, values: list | None, said: str
) -> None:
    path = finished(tmp_path) / "rows.parquet"
    rewrite(path, column, values)
    with pytest.raises(UserError) as caught:
        read_rows(path.parent)
    assert str(caught.value).startswith(f"{path}: {said}") and "Restore it" in str(caught.value)
    assert "\n" not in str(caught.value)


def rewrite(path: Path, column: str, values: list | None) -> None:
    """Put `values` in the place of a column of the rows at `path`; None: leave it out."""
    table = pq.read_table(path)
    index = table.column_names.index(column)
    pq.write_table(table.remove_column(index) if values is None else table.set_column(index, column, [values]), path)


def test_every_reference_run_is_whole(repo: Path) -> None:
    runs = read_runs(repo / "results" / "reference")
    scored = [run for run in runs if (run.path / "rows.parquet").is_file()]
    assert len(scored) > 5 and all(len(read_rows(run.path)["value"]) for run in scored)
