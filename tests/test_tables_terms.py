"""On what terms the rows of a task's tables stand: budgets, profiles, what is missed, how many a figure is a mean over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sepbench.errors import UserError
from sepbench.results import read_runs
from sepbench.scene import Row
from sepbench.tables_format import Table
from sepbench.tables_task import task_tables
from task_runs import CLASSES, N_SCENES, missing, run, scores

LEAKY = {"verdict": "clips are shared", "shared": {"train": {"clips": 3}}}


def made(root: Path, *given: Any, **more: Any) -> Table:
    return task_tables(read_runs(root), "common", *given, **more)[0]


def column(table: Table, heading: str) -> dict[str, str]:
    return {line.cells[0].show(): line.cells[table.headings.index(heading)].show() for line in table.rows}


def says(table: Table, start: str) -> bool:
    return any(note.startswith(start) for note in table.notes)


def test_a_figure_of_fewer_scenes_than_its_neighbours_says_of_how_many(tmp_path: Path):
    run(tmp_path, "all", scores(1.0))
    repeats = [row for row in scores(2.0) if not (row.metric == "ca_sdri" and row.scene in ("s1", "s4"))]
    assert not says(made(tmp_path), "(n …)")
    run(tmp_path, "repeats", repeats + [Row("r", "test", s, -1, "", "ca_sdri_undefined", 1.0) for s in ("s1", "s4")])
    shown = column(made(tmp_path), "CA-SDRi, dB")
    assert "(n 10)" in shown["Repeats"] and "(n" not in shown["All"] and says(made(tmp_path), "(n …): the figure is a mean over")
    assert "(n" not in "".join(column(made(tmp_path), "SI-SDRi, dB").values())


def test_what_is_counted_by_another_rule_does_not_compare_in_n(tmp_path: Path):
    run(tmp_path, "separates", scores(1.0, ("si_sdri", "class_accuracy")))
    named = [row for row in scores(0.0, ("class_accuracy",)) if row.scene != "s3"]
    run(tmp_path, "names", named, supervision="weak", labels_seen="clip")
    assert "(n" not in "".join(column(made(tmp_path), "Classes right (chance)").values())


def test_a_figure_by_separation_brings_along_what_was_missed(tmp_path: Path):
    run(tmp_path, "all", scores(1.0))
    assert made(tmp_path, columns=["si_sdri"]).headings == ("Method", "SI-SDRi, dB")
    run(tmp_path, "fewer", missing(scores(2.0), 5))
    table = made(tmp_path, columns=["si_sdri", "params"])
    assert table.headings == ("Method", "SI-SDRi, dB", "Params", "Missed")
    assert column(table, "Missed") == {"Fewer": "5", "All": "–"}
    assert made(tmp_path, columns=["missed", "si_sdri"]).headings == ("Method", "Missed", "SI-SDRi, dB")
    assert made(tmp_path, columns=["ca_sdri"]).headings == ("Method", "CA-SDRi, dB")


@pytest.mark.parametrize("given", [{}, {"by": "class"}, {"columns": ["si_sdri"]}, {"by": "class", "columns": ["siren"]}])
def test_two_budgets_are_told_in_every_table_and_no_two_rows_look_alike(tmp_path: Path, given: dict[str, Any]):
    for scenes in (1000, 2000):
        run(tmp_path, "one", scores(1.0), budget={"scenes": scenes})
    table = made(tmp_path, **given)
    names = [(line.cells[0].show(), line.cells[table.headings.index("Budget")].show()) for line in table.rows]
    assert sorted(names) == [("One", "1,000 scenes"), ("One", "2,000 scenes")] and says(table, "BUDGETS DIFFER")


@pytest.mark.parametrize("given", [{}, {"by": "class"}, {"columns": ["si_sdri"]}])
def test_two_profiles_are_told_in_every_table_and_no_two_rows_look_alike(tmp_path: Path, given: dict[str, Any]):
    for profile in ("small", "quick"):
        run(tmp_path, "one", scores(1.0), profile=profile)
    table = made(tmp_path, **given)
    profiles = {line.cells[table.headings.index("Profile")].show() for line in table.rows}
    assert profiles == {"small", "quick"} and says(table, "PROFILES DIFFER (quick, small)")
    assert "Budget" not in table.headings


@pytest.mark.parametrize("by", [None, "class"])
def test_leaks_and_shared_clips_are_told_in_every_table(tmp_path: Path, by: str | None):
    name = run(tmp_path / "a", "one", scores(1.0), provenance={"audit": LEAKY})
    assert says(made(tmp_path / "a", by), f"LEAK: {name}")
    run(tmp_path / "b", "one", scores(1.0), splits={"protocol": "shared_pool"})
    assert says(made(tmp_path / "b", by), "CLIPS SHARED")


@pytest.mark.parametrize("by", [None, "class"])
def test_training_that_differs_is_told_with_and_without_a_budget(tmp_path: Path, by: str | None):
    for name, scenes in (("one", 1000), ("other", 16000)):
        run(tmp_path / "own", name, scores(1.0), {"training_scenes": scenes})
        run(tmp_path / "given", name, scores(1.0), {"training_scenes": scenes}, budget={"scenes": 16000})
        run(tmp_path / "same", name, scores(1.0), {"training_scenes": 1000})
    own, given, same = (made(tmp_path / name, by) for name in ("own", "given", "same"))
    assert says(own, "TRAINING DIFFERS") and any("1,000 to 16,000 scenes: see Training scenes" in note for note in own.notes)
    assert "budget: at most 16,000 scenes each" in given.title and not says(given, "TRAINING DIFFERS")
    assert not says(same, "TRAINING DIFFERS") and "budget" not in same.title


def test_runs_without_rows_are_named_below_what_they_are_left_out_of(tmp_path: Path):
    run(tmp_path, "one", scores(1.0))
    bare = run(tmp_path, "bare", scores(2.0))
    (tmp_path / bare / "rows.parquet").unlink()
    table = made(tmp_path, "class")
    assert list(column(table, "siren")) == ["One"] and f"Left out: no rows.parquet in {bare}." in table.notes
    with pytest.raises(UserError, match=f"no rows.parquet in {bare}"):
        task_tables([each for each in read_runs(tmp_path) if each.id == bare], "common", "class")


@pytest.mark.parametrize(("asked", "said"), [(True, "F clip, of those with an F frame:"), (False, "F clip, of a method that")])
def test_that_f_clip_is_had_in_two_ways_is_told(tmp_path: Path, asked: bool, said: str):
    counted = [Row("r", "test", f"s{k}", -1, label, f"clip_{what}", 1.0) for k in range(N_SCENES) for label in CLASSES
               for what in ("tp", "fp", "fn", "tn")]  # fmt: skip
    frames = [Row("r", "test", "s0", -1, label, f"frame_{what}", 1.0) for label in CLASSES for what in ("tp", "fp", "fn", "tn")]
    metrics = ["si_sdri", "f_measure_clip", *(["f_measure_frame"] if asked else [])]
    run(tmp_path, "labels", scores(1.0) + counted, metrics=metrics)
    assert not says(made(tmp_path), "F clip")
    run(tmp_path, "critic", scores(1.0) + counted + (frames if asked else []), metrics=metrics)
    assert says(made(tmp_path), said)
