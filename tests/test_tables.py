"""Rows become tables: right cells, no mixing of what cannot be compared, and four formats that others can read."""

from __future__ import annotations

import copy
import csv
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sepbench.errors import UserError
from sepbench.results import RunFolder, read_runs
from sepbench.scene import Row
from sepbench.tables import Cell, Line, Table, find_published, list_runs, make_tables, render

CLASSES = ["car_horn", "siren"]
PAPER = """paper,table,row,column,metric,unit,value
weak_label,VI,RNN (mel-40),Joint,SI-SDRi,dB,-4.4
weak_label,VI,RNN (mel-40),Fix classifier,SI-SDRi,dB,6.2
weak_label,VI,2D-CRNN (STFT),Joint,SI-SDRi,dB,missing
weak_label,VI,2D-CRNN (STFT),Fix classifier,SI-SDRi,dB,6.8
weak_label,V,Input SI-SDR,Siren,SI-SDR mean,dB,-3.0
weak_label,V,Input SI-SDR,Siren,SI-SDR std,dB,4.6
weak_label,V,Delta SI-SDR-frame,Siren,SI-SDRi mean,dB,3.1
weak_label,V,Delta SI-SDR-frame,Siren,SI-SDRi std,dB,6.4
"""
VI = {
    "title": "Strategies",
    "metric": "si_sdri",
    "when": {"labels": "frame"},
    "rows": [
        {"published": "RNN (mel-40)", "when": {"classifier": "rnn"}},
        {"published": "2D-CRNN (STFT)", "when": {"classifier": "crnn"}},
    ],
    "columns": [
        {"published": "Joint", "when": {"strategy": "joint"}},
        {"published": "Fix classifier", "when": {"strategy": "fixed"}},
    ],
    "published": {"paper": "weak_label", "table": "VI"},
}
V = {
    "title": "Labels",
    "metric": "si_sdri",
    "rows": [
        {"published": "Input SI-SDR", "metric": "si_sdr_mixture"},
        {"published": "Delta SI-SDR-frame", "when": {"labels": "frame"}},
    ],
    "columns": "classes",
    "published": {"paper": "weak_label", "table": "V", "metric": "SI-SDRi mean", "std": "SI-SDRi std"},
}
OPTIONS = {"labels": "frame", "classifier": "crnn", "strategy": "fixed", "lambda": 5.0, "test_lambda": None}


def config(corpus: str = "urbansound8k", **changes: Any) -> dict[str, Any]:
    task = {"name": "urban_events", "corpus": corpus, "classes": CLASSES, "sample_rate_hz": 16000, "seconds": 4.0}
    task |= {"mixing": {"kind": "poisson", "rate": 5.0, "test_rate": None}, "scenes": {"test": 4, "valid": 9}}
    task |= {"splits": {"by": "fold", "test": [10]}, "minimum_active": 2}
    base = {"recipe": "weak_label", "name": "Weak-label separator", "profile": "small", "seed": 0}
    base |= {"supervision": "weak", "labels_seen": "frame", "train": {"steps": 10}}
    return {**base, "task": task, **changes}


def rows(improvement: float, before: float, f_measure: bool) -> list[Row]:
    made = []
    for i in range(4):
        for source, label in enumerate(CLASSES):
            spread = (i - 1.5) + source  # means: improvement for car_horn, 1 more for siren
            made.append(Row("r", "test", f"scene-{i}", source, label, "si_sdri", improvement + spread))
            made.append(Row("r", "test", f"scene-{i}", source, label, "si_sdr_mixture", before - source))
        if f_measure:
            counts = {"tp": 6.0, "fp": 2.0, "fn": 2.0, "tn": 10.0}
            made += [Row("r", "test", f"scene-{i}", -1, "siren", f"frame_{what}", n) for what, n in counts.items()]
    made.append(Row("r", "test", "scene-0", 1, "siren", "si_sdri_undefined", 1.0))
    return made


def run(
    root: Path,
    improvement: float = 3.0,
    before: float = -3.0,
    f_measure: bool = False,
    sounds: str = "abc",
    finish: bool = True,
    cost: dict[str, Any] | None = None,
    changed: dict[str, Any] | None = None,
    **changes: Any,
) -> str:
    """A run's folder with real rows, as scoring leaves it; its id."""
    changed = changed or {}
    settings = copy.deepcopy(config(**changes))
    settings["params"] = {**OPTIONS, **changed}
    settings["task"]["mixing"]["test_rate"] = changed.get("test_lambda")
    tables = {"V": V, "VI": VI} if settings["recipe"] == "weak_label" else {}
    facts = {"corpus_hash": sounds}
    with RunFolder.open_or_create(root, settings, settings["params"], tables, facts, changed) as folder:
        folder.append_rows("test", 0, rows(improvement, before, f_measure))
        if finish:
            folder.finish({"train": 30.0, "score": 12.0}, cost)
    return folder.id


@pytest.fixture
def published(tmp_path: Path) -> Path:
    path = tmp_path / "published" / "paper_tables.csv"
    path.parent.mkdir()
    path.write_text(PAPER)
    return path


def tables_of(root: Path, published_csv: Path | None = None, show_all: bool = False) -> list[Table]:
    return make_tables(read_runs(root), published_csv, show_all)


def cell(table: Table, row: str, column: str) -> Cell:
    (line,) = (line for line in table.rows if line.cells[0].show().startswith(row))
    return line.cells[table.headings.index(column)]


def named(tables: list[Table], part: str) -> Table:
    (table,) = (table for table in tables if part in table.title)
    return table


def test_a_comparison_holds_the_figures_of_each_run_best_first(tmp_path: Path) -> None:
    run(tmp_path, 3.0, f_measure=True, cost={"parameters": 22_965_685})
    run(tmp_path, 9.0, recipe="ideal_mask", name="Ideal mask", supervision="oracle", labels_seen=None)
    (table,) = (table for table in tables_of(tmp_path) if "urban_events" in table.title)
    assert [line.cells[0].show() for line in table.rows] == ["Ideal mask", "Weak-label separator"]
    assert cell(table, "Weak", "SI-SDRi, dB").value == pytest.approx(3.5)
    assert re.fullmatch(r"3\.5 \[\d\.\d, \d\.\d\]", cell(table, "Weak", "SI-SDRi, dB").show())
    assert cell(table, "Weak", "Input SI-SDR").show() == "-3.5"
    assert cell(table, "Weak", "F frame (chance)").show() == "0.75 (0.57)"
    assert cell(table, "Weak", "Sources / scenes").show() == "8 / 4"
    assert cell(table, "Weak", "Undefined").show() == "1"
    assert cell(table, "Weak", "Params").show() == "23 M"
    assert cell(table, "Weak", "Wall time").show() == "42 s"
    assert cell(table, "Ideal", "Supervision").show() == "ORACLE"
    assert cell(table, "Weak", "Supervision").show() == "weak, frame labels"


def test_what_was_not_measured_is_a_dash_and_never_0(tmp_path: Path) -> None:
    run(tmp_path, f_measure=False)
    table = named(tables_of(tmp_path), "urban_events")
    for column in ("F frame (chance)", "F clip (chance)", "Params"):
        assert cell(table, "Weak", column).show() == "–"
        assert cell(table, "Weak", column).value is None


@pytest.mark.parametrize(
    "other",
    [
        {"sounds": "def"},
        {"corpus": "synthetic"},
        {"changed": {"test_lambda": 10.0}},
        {"before": -6.0, "seed": 1},
    ],
    ids=["other content", "other corpus", "other mixing", "other scenes drawn"],
)
def test_runs_on_other_scenes_never_share_a_table(tmp_path: Path, other: dict[str, Any]) -> None:
    run(tmp_path, 3.0)
    run(tmp_path, 4.0, recipe="rival", name="Rival", **other)
    comparisons = [table for table in tables_of(tmp_path) if "urban_events" in table.title]
    assert [len(table.rows) for table in comparisons] == [1, 1]


def test_what_only_training_uses_does_not_part_two_runs(tmp_path: Path) -> None:
    run(tmp_path, 3.0)
    run(tmp_path, 4.0, changed={"labels": "clip"}, labels_seen="clip", train={"steps": 20}, seed=3)
    table = named(tables_of(tmp_path), "urban_events")
    names = [line.cells[0].show() for line in table.rows]
    assert names[0] == "Weak-label separator (labels=clip, train.steps=20, seed=3)"
    assert names[1] == "Weak-label separator (train.steps=10, seed=0)"


def test_names_tell_settings_of_training_apart_by_the_leaves_that_differ(tmp_path: Path) -> None:
    tagger = {"epochs": 1, "batch": 4, "steps": 40}
    run(tmp_path, 3.0, train={"tagger": tagger, "critic": {"epochs": 2}})
    run(tmp_path, 4.0, train={"tagger": {**tagger, "steps": 80}, "critic": {"epochs": 2}}, seed=1)
    names = {line.cells[0].show() for line in named(tables_of(tmp_path), "urban_events").rows}
    expected = ("train.tagger.steps=40, seed=0", "train.tagger.steps=80, seed=1")
    assert names == {f"Weak-label separator ({each})" for each in expected}


def test_sources_without_an_answer_are_counted_beside_the_mean(tmp_path: Path) -> None:
    run(tmp_path, 3.0)
    settings = config(recipe="rival", name="Rival")
    settings["task"]["mixing"]["test_rate"] = None
    with RunFolder.open_or_create(tmp_path, settings, {}, None, {"corpus_hash": "abc"}) as folder:
        answered = [row for row in rows(5.0, -3.0, False) if row.label == "siren" or row.metric == "si_sdr_mixture"]
        missed = [Row("r", "test", f"scene-{i}", 0, "car_horn", "missed", 1.0) for i in range(4)]
        folder.append_rows("test", 0, answered + missed)
        folder.finish({})
    table = named(tables_of(tmp_path), "urban_events")
    assert [cell(table, name, "Missed").show() for name in ("Rival", "Weak")] == ["4", "0"]


def scored(root: Path, name: str, improvement: float, metric: str = "si_sdri", **facts: Any) -> str:
    """A run with one figure per scene; its id."""
    random = np.random.default_rng(len(name))
    with RunFolder.open_or_create(root, config(recipe=name, name=name), {}, None, {"corpus_hash": "abc", **facts}) as folder:
        made = []
        for i in range(40):
            made.append(Row("r", "test", f"scene-{i}", 0, "siren", metric, improvement + random.standard_normal()))
            made.append(Row("r", "test", f"scene-{i}", 0, "siren", "si_sdr_mixture", float(i)))
        folder.append_rows("test", 0, made)
        folder.finish({"score": 1.0}, {"parameters": 0, "macs_per_s": 2.5e9, "real_time_factor": 0.125, "peak_memory_mb": 512.0})
    return folder.id


def test_methods_that_cannot_be_told_apart_share_a_letter(tmp_path: Path) -> None:
    for name, improvement in (("best", 5.0), ("rival", 5.01), ("floor", 0.0)):
        scored(tmp_path, name, improvement)
    table = named(tables_of(tmp_path), "urban_events")
    ties = {name: cell(table, name, "Tie group").show() for name in ("best", "rival", "floor")}
    assert ties["best"] == ties["rival"] == "a" and ties["floor"] == "b"
    (note,) = (note for note in table.notes if "not separable" in note)
    start, tied = note.split(": ")
    assert start == "SI-SDRi, not separable by these scenes (paired, 95 %)"
    assert sorted(tied[:-1].split(" | ")) == ["best", "rival"]


def test_nothing_is_called_not_separable_where_all_are_told_apart(tmp_path: Path) -> None:
    for name, improvement in (("best", 5.0), ("floor", 0.0)):
        scored(tmp_path, name, improvement)
    assert not any("not separable" in note for note in named(tables_of(tmp_path), "urban_events").notes)


def test_rows_of_a_paper_s_table_that_are_not_told_apart_are_named_by_column(tmp_path: Path, published: Path) -> None:
    root = tmp_path / "runs"
    for strategy, apart in (("fixed", 0.0), ("joint", 3.0)):  # equal rows in one column, others in the other
        run(root, 3.0, changed={"classifier": "rnn", "strategy": strategy})
        run(root, 3.0 + apart, changed={"strategy": strategy})
    notes = [note for note in named(tables_of(root, published), "Table VI").notes if "not separable" in note]
    both = "not separable by these scenes (paired, 95 %): RNN (mel-40) | 2D-CRNN (STFT)."
    assert notes == [f"Fix classifier, {both}"]


def test_runs_whose_scenes_have_another_hash_never_share_a_table(tmp_path: Path) -> None:
    for name, scenes in (("one", "x-40"), ("two", "x-40"), ("three", "y-40")):
        scored(tmp_path, name, 1.0, scenes_hash={"test": scenes})
    tables = [table for table in tables_of(tmp_path) if "urban_events" in table.title]
    assert sorted(len(table.rows) for table in tables) == [1, 2]


def test_cost_stands_in_every_row_of_a_comparison(tmp_path: Path) -> None:
    scored(tmp_path, "one", 1.0)
    table = named(tables_of(tmp_path), "urban_events")
    shown = {name: cell(table, "one", name).show() for name in ("Params", "MACs/s", "Real-time factor", "Memory, MB")}
    assert shown == {"Params": "0", "MACs/s": "2.5 G", "Real-time factor": "0.125", "Memory, MB": "512"}


def test_a_system_that_was_scored_without_mixtures_stands_in_a_table(tmp_path: Path) -> None:
    settings = config(recipe="strange", name="strange", kind="external", profile="score")
    settings["task"] |= {"name": "scored", "corpus": "files", "sample_rate_hz": None, "seconds": None, "mixing": {}}
    with RunFolder.open_or_create(tmp_path, settings, {}, None, {"corpus_hash": "abc"}) as folder:
        folder.append_rows("test", 0, [Row("r", "test", f"scene-{i}", 0, "", "si_sdr", 7.0 + i) for i in range(3)])
        folder.finish({})
    (table,) = (each for each in tables_of(tmp_path) if "scored" in each.title)
    assert cell(table, "strange", "SI-SDR, dB").show().startswith("8.0 [") and "unheard" not in table.title
    assert any("various lengths at various rates" in note for note in table.notes)


def test_memory_that_is_not_the_process_says_whose_it_is(tmp_path: Path) -> None:
    for name, of in (("one", "GPU"), ("two", "process")):
        with RunFolder.open_or_create(tmp_path, config(recipe=name, name=name), {}, None, {"corpus_hash": "abc"}) as folder:
            folder.append_rows("test", 0, rows(1.0, -3.0, False))
            folder.finish({}, {"peak_memory_mb": 64.4, "peak_memory_of": of})
    table = named(tables_of(tmp_path), "urban_events")
    assert [cell(table, name, "Memory, MB").show() for name in ("one", "two")] == ["64 (GPU)", "64"]


def test_a_run_that_was_paired_by_label_alone_has_its_own_column(tmp_path: Path) -> None:
    scored(tmp_path, "old", 4.0, metric="si_sdri_by_label")
    scored(tmp_path, "new", 3.0)
    table = named(tables_of(tmp_path), "urban_events")
    assert [line.cells[0].show() for line in table.rows] == ["old", "new"]
    assert cell(table, "old", "SI-SDRi, dB").show() == "–" == cell(table, "new", "SI-SDRi by label, dB").show()
    assert cell(table, "old", "SI-SDRi by label, dB").value == pytest.approx(4.0, abs=0.5)
    assert cell(table, "old", "Missed").show() == "0"


def test_runs_that_were_paired_by_label_alone_are_told_apart_by_that(tmp_path: Path) -> None:
    for name, improvement in (("old", 4.0), ("elder", 1.0)):
        scored(tmp_path, name, improvement, metric="si_sdri_by_label")
    scored(tmp_path, "new", 3.0)
    table = named(tables_of(tmp_path), "urban_events")
    assert [cell(table, name, "Tie group").show() for name in ("old", "elder", "new")] == ["a", "b", "–"]
    assert any("of SI-SDRi by label" in note for note in table.notes if note.startswith("Order and tie groups"))


@pytest.mark.parametrize("screen", [False, True])
@pytest.mark.parametrize("form", ["terminal", "md", "latex"])
def test_every_row_says_its_sounds_and_profile_in_every_format(
    tmp_path: Path, published: Path, form: str, screen: bool
) -> None:
    """Where all rows agree, too: a row that is copied alone must not pass for a figure on recordings."""
    for labels in ("frame", "clip"):
        run(tmp_path / "runs", corpus="synthetic", changed={"labels": labels}, labels_seen=labels)
    tables = tables_of(tmp_path / "runs", published)
    assert [len(table.rows) for table in tables] == [2, 2, 1]
    for table in tables:
        lines = render([table], form, screen).splitlines()
        rows = [line for line in lines if "small" in line and re.search(r"\d\.\d \[", line)]  # figures with intervals
        assert len(rows) == len(table.rows)
        assert all("SYNTHETIC" in line for line in rows)
        assert any("SYNTHETIC: sounds made by a generator" in line for line in lines)


def test_every_row_of_a_paper_s_table_says_how_much_it_rests_on(tmp_path: Path, published: Path) -> None:
    run(tmp_path / "runs")
    (line,) = (line for line in render(tables_of(tmp_path / "runs", published), "md").splitlines() if "2D-CRNN" in line)
    assert [word.strip() for word in line.split("|")[1:5]] == ["2D-CRNN (STFT)", "urbansound8k", "small", "8"]


def test_a_paper_s_table_shows_our_figure_beside_the_published_one(tmp_path: Path, published: Path) -> None:
    run(tmp_path / "runs", 3.0, changed={"strategy": "joint"})
    run(tmp_path / "runs", 5.0)
    table = named(tables_of(tmp_path / "runs", published), "Table VI")
    assert table.headings == ("Row", "Corpus", "Profile", "n", "Joint", "Fix classifier")
    assert [line.cells[0].show() for line in table.rows] == ["2D-CRNN (STFT)"]  # we ran no other classifier
    assert re.fullmatch(r"5\.5 \[4\.\d, 6\.\d\] \(paper 6\.8\)", cell(table, "2D", "Fix classifier").show())
    assert cell(table, "2D", "Joint").show().endswith("(paper –)")  # the paper's cell cannot be read
    assert cell(table, "2D", "n").show() == "8"


def test_spreads_and_classes_and_the_input_s_figure_are_found(tmp_path: Path, published: Path) -> None:
    run(tmp_path / "runs", 3.0)
    run(tmp_path / "runs", 2.0, changed={"labels": "clip"})
    table = named(tables_of(tmp_path / "runs", published), "Table V ")
    assert table.headings[4:] == ("Car horn", "Siren", "Overall")
    assert re.fullmatch(r"4\.0 ± 1\.1 \[.*\] \(paper 3\.1 ± 6\.4\)", cell(table, "Delta", "Siren").show())
    assert cell(table, "Delta", "Overall").published is None
    assert cell(table, "Input", "Siren").show() == "-4.0 ± 0.0 [-4.0, -4.0] (paper -3.0 ± 4.6)"


def test_a_run_with_other_options_than_the_table_s_does_not_fill_its_cells(tmp_path: Path, published: Path) -> None:
    run(tmp_path / "runs", changed={"lambda": 10.0})
    assert not [table for table in tables_of(tmp_path / "runs", published) if "of the paper" in table.title]
    run(tmp_path / "runs", changed={"test_lambda": 5.0})  # as it would be anyway
    assert len([table for table in tables_of(tmp_path / "runs", published) if "of the paper" in table.title]) == 2


def test_seeds_are_averaged_and_other_settings_are_not(tmp_path: Path, published: Path) -> None:
    root = tmp_path / "runs"
    seeds = {run(root, 3.0, seed=0), run(root, 5.0, seed=1)}
    found = cell(named(tables_of(root, published), "Table VI"), "2D", "Fix classifier")
    assert found.show() == "4.5 (2 runs) (paper 6.8)"
    assert set(found.runs) == seeds
    run(root, 100.0, train={"steps": 99})
    table = named(tables_of(root, published), "Table VI")
    assert cell(table, "2D", "Fix classifier").value in (pytest.approx(4.5), pytest.approx(100.5))
    assert any("other settings fit too" in note for note in table.notes)


def test_corpora_and_profiles_are_blocks_of_their_own(tmp_path: Path, published: Path) -> None:
    for place in ({"corpus": "synthetic"}, {}, {"profile": "quick"}, {"sounds": "def"}):
        run(tmp_path / place.get("sounds", "abc"), **place)
    table = named(tables_of(tmp_path, published), "Table VI")
    lines = [[cell.show() for cell in line.cells[:3]] for line in table.rows]
    assert sorted(corpus + " " + profile for _, corpus, profile in lines) == [
        "SYNTHETIC small",
        "urbansound8k quick",
        "urbansound8k small",
        "urbansound8k small",
    ]


def test_another_way_to_split_is_told_in_rows_of_its_own(tmp_path: Path, published: Path) -> None:
    run(tmp_path / "runs", 1.0)
    task = {**config()["task"], "splits": {"by": "recording", "test": [10]}}
    run(tmp_path / "runs", 5.0, changed={"split": "recording"}, task=task)
    lines = named(tables_of(tmp_path / "runs", published), "Table VI").rows
    assert [line.cells[1].show() for line in lines] == ["urbansound8k", "urbansound8k, by recording"]


def test_all_shows_the_published_cells_that_nothing_of_ours_fills(tmp_path: Path, published: Path) -> None:
    run(tmp_path / "runs", changed={"lambda": 10.0})
    table = named(tables_of(tmp_path / "runs", published, show_all=True), "Table VI")
    assert cell(table, "RNN", "Joint").show() == "– (paper -4.4)"


def test_without_the_published_figures_ours_stand_alone_and_it_is_said(tmp_path: Path) -> None:
    run(tmp_path)
    table = named(tables_of(tmp_path), "Table VI")
    assert "paper" not in cell(table, "2D", "Fix classifier").show()
    assert any("not found" in note for note in table.notes)


def test_statistics_of_labels_fill_tables_by_key_and_split(tmp_path: Path, published: Path) -> None:
    with published.open("a") as file:
        file.write('weak_label,II,"sources per frame, lambda=5",1,fraction of frames,,0.28\n')
        file.write("weak_label,I,lambda=5,Siren,frame-level prior probability of activity,,0.40\n")
    place = {"split": "train", "published": {"paper": "weak_label", "table": "II"}}
    counts = {"published": "sources per frame, lambda=5", "when": {"lambda": 5}, "metric": "sources_per_frame"}
    two = {**place, "metric": "sources_per_clip", "rows": [counts], "columns": [{"published": "1", "key": "1"}]}
    one = {**place, "metric": "activity_prior", "rows": [{"published": "lambda=5", "when": {"lambda": 5}}]}
    one |= {"columns": "classes", "published": {"paper": "weak_label", "table": "I"}}
    figures: dict[str, Any] = {"sources_per_frame": {"class": {"1": {"mean": 0.284}}}}
    figures |= {"activity_prior": {"class": {"siren": {"mean": 0.41}}}}
    settings = config(recipe="label_statistics", name="Statistics", supervision="none")
    with RunFolder.open_or_create(tmp_path / "runs", settings, {"lambda": 5.0}, {"I": one, "II": two}, {}) as folder:
        folder.finish({}, metrics={"train": figures})
    tables = tables_of(tmp_path / "runs", published)
    assert len(tables) == 2  # and no comparison: nothing was separated
    assert cell(named(tables, "Table II "), "sources", "1").show() == "0.28 (paper 0.28)"
    assert cell(named(tables, "Table I "), "lambda", "Siren").show() == "0.41 (paper 0.40)"
    assert named(tables, "Table I ").headings[4:] == ("Siren",)


def test_unfinished_runs_are_named_and_left_out(tmp_path: Path) -> None:
    run(tmp_path)
    waiting = run(tmp_path, seed=1, finish=False)
    table = named(tables_of(tmp_path), "urban_events")
    assert len(table.rows) == 1
    assert any(waiting in note for note in table.notes)
    listed = list_runs(tmp_path)
    assert sorted(line.cells[0].show() for line in listed.rows) == ["finished", "interrupted"]


def test_on_a_terminal_no_figure_and_no_run_s_name_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [run(tmp_path, 3.0 + i, seed=i, f_measure=True, cost={"parameters": 1234}) for i in range(2)]
    monkeypatch.setenv("COLUMNS", "110")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    (table, *_) = tables_of(tmp_path)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", render([table, list_runs(tmp_path)]))
    assert max(map(len, plain.split("Runs in")[0].splitlines())) <= 110
    assert re.search(r"3\.5 \[\d\.\d, \d\.\d\]", plain)
    assert all(whole in plain for whole in ("0.75 (0.57)", *names))


def test_one_run_in_two_places_is_one_run(tmp_path: Path) -> None:
    run(tmp_path / "runs")
    run(tmp_path / "reference")
    assert len(named(tables_of(tmp_path), "urban_events").rows) == 1


def test_the_csv_holds_every_figure_in_full(tmp_path: Path, published: Path) -> None:
    name = run(tmp_path / "runs", 1 / 3)
    tables = tables_of(tmp_path / "runs", published)
    lines = list(csv.DictReader(io.StringIO(render(tables, "csv"))))
    (found,) = (line for line in lines if "Table VI" in line["table"] and line["column"] == "Fix classifier")
    ours = cell(named(tables, "Table VI"), "2D", "Fix classifier")
    assert ours.ci is not None
    assert [float(found[key]) for key in ("value", "ci_low", "ci_high", "n")] == [ours.value, *ours.ci, 8]
    facts = [found[key] for key in ("published", "corpus", "profile", "split", "runs")]
    assert facts == ["6.8", "urbansound8k", "small", "test", name]


def test_markdown_has_as_many_cells_in_every_row(tmp_path: Path, published: Path) -> None:
    run(tmp_path / "runs", name="A|B")
    for table in tables_of(tmp_path / "runs", published):
        lines = [line for line in render([table], "md").splitlines() if line.startswith("|")]
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {len(table.headings) + 1}


def test_latex_escapes_what_it_would_trip_over() -> None:
    line = Line((Cell(text="[a_b & 5 % {x} #1 ~^\\ $]"), Cell(1.0, std=2.0)))
    out = render([Table("t_1", ("name_x", "y"), (line,))], "latex")
    odd = r"\#1 \textasciitilde{}\textasciicircum{}\textbackslash{} \$]"
    assert r"{}[a\_b \& 5 \% \{x\} " + odd + r" & 1.0 $\pm$ 2.0 \\" in out
    assert r"name\_x & y \\" in out
    assert all(out.count(rf"\begin{{{part}}}") == out.count(rf"\end{{{part}}}") == 1 for part in ("table", "tabular"))


def test_a_format_that_is_none_names_the_nearest() -> None:
    with pytest.raises(UserError, match="Did you mean 'latex'"):
        render([], "latexx")


def test_a_zero_has_no_sign() -> None:
    assert Cell(-0.04).show() == "0.0"


def test_the_published_figures_of_the_repository_are_found_and_well_formed(repo: Path) -> None:
    path = find_published(repo / "results" / "runs")
    assert path == repo / "results" / "published" / "paper_tables.csv"
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    keys = [(line["paper"], line["table"], line["row"], line["column"], line["metric"]) for line in lines]
    assert len(keys) == len(set(keys)) > 200


def test_tables_are_made_without_torch(tmp_path: Path, repo: Path) -> None:
    run(tmp_path)
    code = (
        "import sys; from pathlib import Path; from sepbench.results import read_runs;"
        "from sepbench.tables import find_published, list_runs, make_tables, render;"
        "root = Path(sys.argv[1]); tables = [*make_tables(read_runs(root), find_published(root)), list_runs(root)];"
        "[render(tables, form) for form in ('terminal', 'md', 'csv', 'latex')];"
        "print(len(tables), 'torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(repo / "benchmark")}
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["4", "False"]
