"""Freezing: what is copied, that nothing is replaced unasked, and that it is whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from made_up_runs import called, made_up, put
from sepbench.check import check
from sepbench.errors import UserError
from sepbench.freeze import freeze
from sepbench.results import read_runs
from sepbench.tolerances import FILE, read_tolerances


@pytest.fixture
def results(tmp_path: Path) -> Path:
    run = put(tmp_path / "results")
    for folder in ("audio", "weights", "figures"):
        (run / folder).mkdir()
        (run / folder / "big.bin").write_bytes(b"0")
    return run.parent


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    return tmp_path / "some" / "reference"


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_figures_are_copied_and_no_sounds_and_no_weights(results: Path, reference: Path) -> None:
    (run,) = results.iterdir()
    said = freeze(results, reference)
    assert names(reference / run.name) == {"run.json", "config.yaml", "metrics.json", "rows.parquet"}
    assert all((reference / run.name / name).read_bytes() == (run / name).read_bytes() for name in
               ("run.json", "config.yaml", "metrics.json", "rows.parquet"))
    assert any(run.name in line and "frozen" in line for line in said) and names(reference) >= {FILE}


def test_what_was_frozen_is_checked_against(results: Path, reference: Path, tmp_path: Path) -> None:
    freeze(results, reference)
    assert check(results, reference).exit_code == 0
    put(tmp_path / "worse", made_up({"si_sdri": -1.0}))
    assert check(tmp_path / "worse", reference).exit_code == 1


def test_tolerances_to_start_from_are_written_once(results: Path, reference: Path, tmp_path: Path) -> None:
    freeze(results, reference)
    found = read_tolerances(reference / FILE, ["weak_label"])
    assert {name: found.whole.of("weak_label", name) for name in ("si_sdri", "si_sdr_mixture", "f_measure_frame", "snr")} \
        == {"si_sdri": 0.3, "si_sdr_mixture": 0.01, "f_measure_frame": 0.01, "snr": None}
    (reference / FILE).write_text("default: {si_sdri: 7 dB}")
    put(tmp_path / "more", recipe="mixture")
    freeze(tmp_path / "more", reference)
    assert (reference / FILE).read_text() == "default: {si_sdri: 7 dB}"


def test_what_is_frozen_is_replaced_only_where_asked(results: Path, reference: Path, tmp_path: Path) -> None:
    (old,) = results.iterdir()
    freeze(results, reference)
    before = {path: path.stat().st_mtime_ns for path in reference.rglob("*")}
    other = put(tmp_path / "other", made_up({"si_sdri": 1.0}), seed=1)
    put(tmp_path / "other", recipe="mixture")
    with pytest.raises(UserError, match=f"{old.name}.*--replace"):
        freeze(tmp_path / "other", reference)
    assert {path: path.stat().st_mtime_ns for path in reference.rglob("*")} == before
    said = freeze(tmp_path / "other", reference, only=["weak_label"], replace=True)
    assert any(old.name in line and other.name in line for line in said)
    assert [run.id for run in read_runs(reference)] == [other.name]
    assert not [name for name in names(reference) if "freezing" in name]


def test_the_same_run_in_its_own_place_is_replaced_too(results: Path, reference: Path, tmp_path: Path) -> None:
    freeze(results, reference)
    run = put(tmp_path / "again", made_up({"si_sdri": 1.0}))
    with pytest.raises(UserError, match="--replace"):
        freeze(tmp_path / "again", reference)
    freeze(tmp_path / "again", reference, replace=True)
    assert (reference / run.name / "rows.parquet").read_bytes() == (run / "rows.parquet").read_bytes()


def test_what_a_killed_freezing_had_set_aside_comes_back(results: Path, reference: Path) -> None:
    """It was killed after the old run was taken away, and before the new one stood in its place."""
    freeze(results, reference)
    before, (old, *_) = names(reference), sorted(path for path in reference.iterdir() if path.is_dir())
    building = reference / ".freezing-abc"
    (building / "new").mkdir(parents=True)
    (building / "old").mkdir()
    old.rename(building / "old" / old.name)
    freeze(results, reference)
    assert names(reference) == before


def test_freezing_the_same_run_again_changes_nothing(results: Path, reference: Path) -> None:
    freeze(results, reference)
    before = {path: path.stat().st_mtime_ns for path in reference.rglob("*")}
    assert "frozen already" in freeze(results, reference)[0]
    assert {path: path.stat().st_mtime_ns for path in reference.rglob("*")} == before


def test_of_two_seeds_one_is_asked_for(results: Path, reference: Path) -> None:
    second = put(results, seed=1)
    with pytest.raises(UserError, match=r"seed 0.*seed 1|seed 1.*seed 0"):
        freeze(results, reference)
    assert not reference.exists()
    freeze(second, reference)
    assert [run.config["seed"] for run in read_runs(reference)] == [1]


def test_what_is_not_finished_is_left_out_and_named(results: Path, reference: Path, tmp_path: Path) -> None:
    begun = put(results, seed=1, finished=False)
    assert any(begun.name in line and "left out" in line for line in freeze(results, reference))
    assert len(read_runs(reference)) == 1
    put(tmp_path / "begun", finished=False)
    with pytest.raises(UserError, match="no finished run to freeze"):
        freeze(tmp_path / "begun", reference)


def test_a_file_that_is_in_the_way_is_told(results: Path, reference: Path) -> None:
    (run,) = results.iterdir()
    (reference / run.name).mkdir(parents=True)
    (reference / run.name / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="Move it away"):
        freeze(results, reference, replace=True)
    with pytest.raises(UserError, match="that is a file"):
        freeze(results, reference / run.name / "notes.txt")


def test_a_crash_half_way_leaves_the_old_one_whole(
    results: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    freeze(results, reference)
    (old,) = read_runs(reference)
    put(tmp_path / "other", seed=1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="no room"):
        freeze(tmp_path / "other", reference, replace=True)
    assert [(run.id, run.metrics) for run in read_runs(reference)] == [(old.id, old.metrics)]


def test_the_command_says_what_it_did(results: Path, reference: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert called("freeze", results, "--to", reference) == 0
    assert "frozen" in capsys.readouterr().out
    put(results, seed=1)
    assert called("freeze", results, "--to", reference) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert called("freeze", results, "--to", results) == called("freeze", results, "--to", reference, "--only", "x") == 2


@pytest.mark.parametrize("damaged", ["metrics.json", "rows.parquet", "config.yaml"])
@pytest.mark.parametrize("damage", ["absent", "empty"])
def test_a_damaged_run_is_refused_and_nothing_is_written(
    results: Path, reference: Path, damaged: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (run,) = results.iterdir()
    if damage == "absent":
        (run / damaged).unlink()
    else:
        (run / damaged).write_bytes(b"")
    assert called("freeze", results, "--to", reference) == 2
    told = capsys.readouterr().err
    assert damaged in told and str(run) in told and told.count("\n") == 1 and "Traceback" not in told
    assert not reference.exists()


def test_rows_with_a_figure_that_is_none_are_not_frozen(results: Path, reference: Path) -> None:
    (run,) = results.iterdir()
    table = pq.read_table(run / "rows.parquet")
    values = [float("nan"), *table.column("value").to_pylist()[1:]]
    pq.write_table(table.set_column(table.column_names.index("value"), "value", [values]), run / "rows.parquet")
    with pytest.raises(UserError, match=r"rows\.parquet: value is nan in test/"):
        freeze(results, reference)
    assert not reference.exists()
