"""Figures on clips that were trained on never pass for others: tables apart, words in every row, the gap beside them."""

from __future__ import annotations

import copy
import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sepbench.cli_compare import compare
from sepbench.cli_scenes import worst
from sepbench.options import Door
from sepbench.recipe import load_recipe
from sepbench.results import RunFolder, read_runs
from sepbench.scene import Row
from sepbench.tables import Cell, Table, list_runs, make_tables, render
from sepbench.tables_facts import SHARED_POOL
from sepbench.tasks import splits

CLASSES = ["dog", "rain", "siren", "wind"]
PUBLISHED = """paper,table,row,column,metric,unit,value
sepclsnet,II,Random Guess,Accuracy,accuracy,%,2.0
sepclsnet,II,NMF + SVM,Accuracy,accuracy,%,31.5
sepclsnet,II,SepClsNet (Ours),Params,params,M,2.5
sepclsnet,II,SepClsNet (Ours),Accuracy,accuracy,%,70.0
sepclsnet,II,Human (single source),Accuracy,accuracy,%,81.3
sepclsnet,IV,Full Model,Acc.,accuracy,%,70.0
other,I,Ours,SI-SDRi,SI-SDRi,dB,7.25
"""
COLUMNS = [{"published": "Params", "metric": "parameters"}, {"published": "Accuracy"}]
SOURCE = {"paper": "sepclsnet", "table": "II", "protocol": "shared_pool"}


def table_ii(*rows: str, columns: Sequence[Mapping[str, Any]] = COLUMNS) -> dict[str, Any]:
    named = [{"published": row} for row in rows]
    return {"II": {"title": "Accuracy", "metric": "class_accuracy", "rows": named, "columns": columns, "published": SOURCE}}


TABLES = {
    "sepclsnet": table_ii("SepClsNet (Ours)"),
    "nmf_svm": table_ii("NMF + SVM", columns=COLUMNS[1:]),
    "random_guess": table_ii("Random Guess"),
}


def run(
    root: Path, protocol: str = "disjoint", accuracy: float = 0.5, si_sdri: float | None = 3.0, recipe: str = "sepclsnet",
    seen: float | None = None, params: Mapping[str, Any] = {}, facts: Mapping[str, Any] = {}, cost: float = 2_470_309,
    n_scenes: int = 200, tables: Mapping[str, Any] | None = None, changed: Mapping[str, Any] = {}, by: str = "fold",
    chance: float | None = 0.25, corpus_hash: str = "abc", **settings: Any,
) -> str:  # fmt: skip
    """A run on pairs of clips, as scoring leaves it; its id. `accuracy` of the test, `seen` of the training clips."""
    task: dict[str, Any] = {"name": "esc_pairs", "corpus": "esc50", "class_set": "esc10", "classes": CLASSES, "seconds": 3.0}
    task |= {"sample_rate_hz": 16000, "mixing": {"kind": "infinite"}, "minimum_active": 2, "metrics": ["si_sdri"]}
    task |= {"splits": {"protocol": protocol, "by": by, "test": [5], "folds": None}}
    task |= {"scenes": {"test": n_scenes, "seen": 0 if seen is None else n_scenes, "seed": 0}}
    config = {"recipe": recipe, "name": recipe, "profile": "small", "seed": 0, "supervision": "isolated", "train": {}}
    config |= {"task": task | settings.pop("task", {}), "params": dict(params), **settings}
    options = {"protocol": protocol, "split": by, "classes": "esc10", **params}
    changed = ({"protocol": protocol} if protocol != "disjoint" else {}) | ({"split": by} if by != "fold" else {}) | changed
    facts = {"corpus_hash": corpus_hash, "scenes_hash": {"test": f"{protocol}-{by}"}, **facts}
    held = TABLES.get(recipe) if tables is None else tables
    with RunFolder.open_or_create(root, copy.deepcopy(config), options, held, facts, changed) as folder:
        for split, share in (("test", accuracy), ("seen", seen)):
            if share is not None:
                folder.append_rows(split, 0, rows(split, share, si_sdri, chance, n_scenes))
        folder.finish({"score": 1.0}, {"parameters": cost})
    return folder.id


def rows(split: str, accuracy: float, si_sdri: float | None, chance: float | None, n_scenes: int) -> list[Row]:
    random = np.random.default_rng(n_scenes)
    made = []
    for i in range(n_scenes):
        figures = {"class_accuracy": float(i < round(accuracy * n_scenes))}
        figures |= {} if chance is None else {"class_accuracy_chance": chance}
        figures |= {"labels_alone": 1.0} if si_sdri is None else {"si_sdri": si_sdri + random.standard_normal()}
        made += [Row("r", split, f"{split}{i}", 0, "dog", name, value) for name, value in figures.items()]
    return made


@pytest.fixture
def published(tmp_path: Path) -> Path:
    path = tmp_path / "published" / "paper_tables.csv"
    path.parent.mkdir()
    path.write_text(PUBLISHED)
    return path


def made(root: Path, published: Path | None = None, show_all: bool = False) -> list[Table]:
    return make_tables(read_runs(root), published, show_all)


def named(tables: Sequence[Table], *parts: str) -> Table:
    (table,) = (table for table in tables if all(part in table.title for part in parts))
    return table


def cell(table: Table, row: str, column: str) -> Cell:
    (line,) = (line for line in table.rows if line.cells[0].show().startswith(row))
    return line.cells[table.headings.index(column)]


def both(root: Path, **facts: Any) -> None:
    """The same method by both protocols."""
    run(root, "disjoint", 0.4, 3.0, **facts)
    run(root, "shared_pool", 0.7, 5.0, **{**facts, "seen": None})


# comparisons


def test_the_protocol_has_one_name():
    assert SHARED_POOL == splits.SHARED_POOL


def test_the_two_protocols_never_share_a_table_though_all_else_is_alike(tmp_path: Path):
    both(tmp_path)
    comparisons = [table for table in made(tmp_path) if table.title.startswith("esc_pairs on")]
    assert [len(table.rows) for table in comparisons] == [1, 1]
    assert sorted("clips shared" in table.title for table in comparisons) == [False, True]


def test_a_table_of_shared_clips_says_so_in_title_rows_and_notes(tmp_path: Path):
    both(tmp_path)
    shared = named(made(tmp_path), "esc_pairs on", "clips shared")
    gloss = "test: new scenes of the training recordings"
    assert shared.title == f"esc_pairs on esc50 sounds (content abc), 4 classes, clips shared, {gloss}"
    assert cell(shared, "sepclsnet", "Split").show() == "test, clips shared"
    assert any(note.startswith("CLIPS SHARED: the same clips serve training and test") for note in shared.notes)
    other = named(made(tmp_path), "esc_pairs on", "test: unheard recordings")
    assert cell(other, "sepclsnet", "Split").show() == "test, by fold" and not any("SHARED" in note for note in other.notes)


@pytest.mark.parametrize("screen", [False, True])
@pytest.mark.parametrize("form", ["terminal", "md", "latex", "csv"])
def test_every_format_says_that_clips_are_shared(tmp_path: Path, published: Path, form: str, screen: bool):
    both(tmp_path / "runs")
    shared = [table for table in made(tmp_path / "runs", published) if "clips shared" in table.title]
    assert len(shared) == 4  # the comparison, what they add to each of two figures, the paper's
    for table in shared:
        assert "clips shared" in re.sub(r"\s+", " ", re.sub(r"\x1b\[[0-9;]*m", "", render([table], form, screen)))
    (line, *_) = csv.DictReader(io.StringIO(render([named(shared, "esc_pairs on")], "csv")))
    assert line["split"] == "test, clips shared"


def test_the_list_of_runs_the_worst_scenes_and_a_comparison_of_two_say_it_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    names = [run(tmp_path, "shared_pool", share, recipe=name) for name, share in (("one", 0.3), ("two", 0.9))]
    assert {line.cells[6].show() for line in list_runs(tmp_path).rows} == {"esc50, 4 classes, clips shared"}
    for words in (["worst", names[0], "--no-wavs"], ["compare", *names]):
        with pytest.raises(SystemExit):
            Door("sepbench", commands={"worst": worst, "compare": compare})([*words, "--results", str(tmp_path)])
        assert "test, clips shared: " in capsys.readouterr().out


def test_folds_that_nobody_reads_do_not_part_runs_on_shared_clips(tmp_path: Path):
    run(tmp_path, "shared_pool", recipe="one")
    splits = {"protocol": "shared_pool", "by": "recording", "test": [4], "folds": None}
    run(tmp_path, "shared_pool", recipe="two", task={"splits": splits})
    assert len(named(made(tmp_path), "esc_pairs on").rows) == 2


def test_chance_stands_beside_the_classes_that_are_right(tmp_path: Path):
    run(tmp_path, accuracy=0.5)
    table = named(made(tmp_path), "esc_pairs on")
    assert re.fullmatch(r"0\.50 \[0\.4\d, 0\.5\d\] \(0\.25\)", cell(table, "sepclsnet", "Classes right (chance)").show())
    run(tmp_path / "without", accuracy=0.5, chance=None)
    assert "Classes right" in named(made(tmp_path / "without"), "esc_pairs on").headings


def test_a_method_that_only_names_classes_stands_last_and_crashes_nothing(tmp_path: Path):
    run(tmp_path, accuracy=0.9, si_sdri=None, recipe="mixture_cnn")
    run(tmp_path, accuracy=0.1, si_sdri=-8.0)
    table = named(made(tmp_path), "esc_pairs on")
    assert [line.cells[0].show() for line in table.rows] == ["sepclsnet", "mixture_cnn"]
    for column in ("SI-SDRi, dB", "Median", "Missed"):
        assert cell(table, "mixture_cnn", column).show() == "–"
    assert cell(table, "mixture_cnn", "Sources / scenes").show() == "200 / 200"
    assert any(note.startswith("Without SI-SDRi, a method names classes") for note in table.notes)


def test_a_leak_that_nobody_declared_is_told_below_the_table(tmp_path: Path):
    found = {"shared": {"train": {"clips": 3, "recordings": 3, "same_audio": 0}}, "verdict": "CLIPS SHARED: 3 of 9"}
    name = run(tmp_path, facts={"audit": found})
    assert f"LEAK: {name}: CLIPS SHARED: 3 of 9" in named(made(tmp_path), "esc_pairs on").notes


# what shared clips add


def test_the_gap_is_shared_minus_disjoint_with_the_interval_of_independent_scenes(tmp_path: Path):
    both(tmp_path)
    table = named(made(tmp_path), "What shared clips add to classes right")
    gap = cell(table, "sepclsnet", "Gap")
    assert gap.value == pytest.approx(0.3) and gap.ci is not None
    theory = 1.96 * np.sqrt((0.4 * 0.6 + 0.7 * 0.3) / 200)
    assert gap.ci == pytest.approx((0.3 - theory, 0.3 + theory), abs=0.012)
    assert cell(table, "sepclsnet", "Clips shared").value == pytest.approx(0.7)
    assert cell(table, "sepclsnet", "Disjoint").value == pytest.approx(0.4)
    assert cell(named(made(tmp_path), "What shared clips add to SI-SDRi"), "sepclsnet", "Gap").show().startswith("2.0 [")


def test_figures_of_the_gap_are_those_of_the_runs_own_tables(tmp_path: Path):
    both(tmp_path)
    tables = made(tmp_path)
    ours = cell(named(tables, "esc_pairs on", "clips shared"), "sepclsnet", "Classes right (chance)")
    gap = cell(named(tables, "What shared clips add to classes"), "sepclsnet", "Clips shared")
    assert (gap.value, gap.ci) == (ours.value, ours.ci)


def test_seen_minus_test_asks_one_model_and_stands_there_where_it_was_scored(tmp_path: Path):
    both(tmp_path, seen=0.65)
    table = named(made(tmp_path), "What shared clips add to classes")
    assert cell(table, "sepclsnet", "Seen - test").value == pytest.approx(0.25)
    assert cell(table, "sepclsnet", "Disjoint, seen").value == pytest.approx(0.65)
    both(tmp_path / "without")
    table = named(made(tmp_path / "without"), "What shared clips add to classes")
    assert "Seen - test" not in render([table], "terminal", False).split("Gap:")[0]


@pytest.mark.parametrize(
    "other",
    [
        {"params": {"loss": "all"}}, {"profile": "paper"}, {"recipe": "rival"}, {"corpus_hash": "def"},
        {"task": {"classes": CLASSES[:3]}}, {"task": {"mixing": {"kind": "infinite", "limit": "clip"}}},
        {"task": {"sample_rate_hz": 8000}}, {"train": {"epochs": 9}}, {"trained_by": {"run": "x"}},
    ],
    ids=lambda other: str(other),
)  # fmt: skip
def test_runs_that_differ_in_more_than_the_protocol_make_no_gap(tmp_path: Path, other: dict[str, Any]):
    run(tmp_path, "disjoint")
    run(tmp_path, "shared_pool", **other)
    assert not [table for table in made(tmp_path) if table.title.startswith("What shared clips add")]


def test_ways_to_split_disjointly_have_rows_of_their_own_and_seeds_are_averaged(tmp_path: Path):
    for seed, share in ((0, 0.7), (1, 0.9)):
        run(tmp_path, "shared_pool", share, seed=seed)
    run(tmp_path, "disjoint", 0.4)
    run(tmp_path, "disjoint", 0.2, by="recording")
    table = named(made(tmp_path), "What shared clips add to classes")
    found = {line.cells[4].show(): line.cells[table.headings.index("Gap")].value for line in table.rows}
    assert found == {"by fold": pytest.approx(0.4), "by recording": pytest.approx(0.6)}
    assert "(2 runs)" in table.rows[0].cells[table.headings.index("Clips shared")].show()


def test_without_rows_the_gap_has_no_interval(tmp_path: Path):
    both(tmp_path)
    for file in tmp_path.glob("*/rows.parquet"):
        file.unlink()
    assert cell(named(made(tmp_path), "What shared clips add to classes"), "sepclsnet", "Gap").show() == "0.30"


def test_a_method_that_only_names_classes_has_a_gap_of_those_alone(tmp_path: Path):
    for protocol, share in (("disjoint", 0.3), ("shared_pool", 0.8)):
        run(tmp_path, protocol, share, si_sdri=None, recipe="mixture_cnn")
    (table,) = (table for table in made(tmp_path) if table.title.startswith("What shared clips add"))
    assert "classes right" in table.title and len(table.rows) == 1


# the papers' tables


def test_recipes_that_name_one_published_table_fill_it_together_in_its_order(tmp_path: Path, published: Path):
    for recipe, share in (("random_guess", 0.25), ("sepclsnet", 0.7), ("nmf_svm", 0.4)):
        run(tmp_path / "runs", "shared_pool", share, recipe=recipe)
    table = named(made(tmp_path / "runs", published), "of the paper")
    assert table.title == "sepclsnet, Table II of the paper: Accuracy, clips shared"
    assert [line.cells[0].show() for line in table.rows] == ["Random Guess", "NMF + SVM", "SepClsNet (Ours)"]
    assert table.headings == ("Row", "Corpus", "Profile", "n", "Params, M", "Accuracy, %")


def test_a_share_is_shown_in_percent_where_the_paper_has_percent(tmp_path: Path, published: Path):
    name = run(tmp_path / "runs", "shared_pool", 0.715)
    table = named(made(tmp_path / "runs", published), "of the paper")
    found = cell(table, "SepClsNet", "Accuracy, %")
    assert re.fullmatch(r"71\.5 \[6\d\.\d, 7\d\.\d\] \(chance 25\.0; paper 70\.0\)", found.show())
    (record,) = read_runs(tmp_path / "runs")
    low, high = record.metrics["test"]["class_accuracy"]["all"]["ci95"]
    assert found.ci == pytest.approx((100 * low, 100 * high)) and found.unit == "%" and found.runs == (name,)
    (line,) = (line for line in csv.DictReader(io.StringIO(render([table], "csv"))) if line["column"] == "Accuracy, %")
    assert (float(line["value"]), line["unit"], line["published"]) == (pytest.approx(71.5), "%", "70.0")
    assert float(line["chance"]) == pytest.approx(25.0)


def test_without_a_chance_level_or_a_published_figure_the_cell_names_the_other_alone(tmp_path: Path, published: Path):
    run(tmp_path / "runs", "shared_pool", 0.7, chance=None)
    shown = cell(named(made(tmp_path / "runs", published), "of the paper"), "SepClsNet", "Accuracy, %").show()
    assert shown.endswith("] (paper 70.0)")
    run(tmp_path / "other", accuracy=0.7, tables=table_ii("Nobody's"))
    shown = cell(named(made(tmp_path / "other", published), "of the paper"), "Nobody's", "Accuracy, %").show()
    assert shown.endswith("] (chance 25.0)")


SETTINGS_NOTE = "sizes and training are the profile's, not the published ones."


def notes_of_paper(root: Path, published: Path) -> list[str]:
    return list(named(made(root, published), "of the paper").notes)


def spoken_of(**when: Any) -> dict[str, Any]:
    tables = table_ii("SepClsNet (Ours)")
    tables["II"]["rows"][0]["when"] = when
    return tables


def test_settings_of_which_a_paper_s_table_does_not_speak_stand_below_it_once(tmp_path: Path, published: Path):
    params = {"sep_weight": 1.0, "sep_loss": "log_mse", "labels": "distinct"}
    facts: dict[str, Any] = {"params": params, "tables": spoken_of(sep_weight=1.0), "name": "SepClsNet", "sizes": {"blocks": 6}}
    for seed in (0, 1):
        run(tmp_path / "runs", "shared_pool", seed=seed, **facts)
    notes = notes_of_paper(tmp_path / "runs", published)
    assert notes.count(f"SepClsNet, small: labels distinct, sep_loss log_mse; {SETTINGS_NOTE}") == 1
    assert sum("SepClsNet, small" in note for note in notes) == 1


def test_where_the_table_speaks_of_all_options_sizes_and_training_are_told_alone(tmp_path: Path, published: Path):
    facts: dict[str, Any] = {"params": {"sep_weight": 1.0}, "tables": spoken_of(sep_weight=1.0), "train": {"epochs": 2}}
    for profile in ("small", "quick", "paper"):
        run(tmp_path / "runs", "shared_pool", profile=profile, **facts)
    told = [note for note in notes_of_paper(tmp_path / "runs", published) if SETTINGS_NOTE in note]
    assert told == [f"sepclsnet, quick: {SETTINGS_NOTE}", f"sepclsnet, small: {SETTINGS_NOTE}"]  # not paper


def test_a_method_without_settings_has_none_to_tell_of(tmp_path: Path, published: Path):
    run(tmp_path / "runs", "shared_pool", recipe="random_guess")
    assert not [note for note in notes_of_paper(tmp_path / "runs", published) if note.startswith("random_guess")]


def test_a_run_that_no_cell_shows_is_not_told_of(tmp_path: Path, published: Path):
    facts: dict[str, Any] = {"tables": spoken_of(sep_weight=1.0), "train": {"epochs": 2}}
    run(tmp_path / "runs", "shared_pool", params={"sep_weight": 1.0}, **facts)
    run(tmp_path / "runs", "shared_pool", params={"sep_weight": 9.0}, profile="quick", **facts)
    assert not [note for note in notes_of_paper(tmp_path / "runs", published) if "quick" in note]


@pytest.mark.parametrize(("theirs", "told"), [(50, True), (len(CLASSES), False), (None, False)])
def test_another_number_of_classes_than_the_paper_s_is_told(
    tmp_path: Path, published: Path, theirs: int | None, told: bool
):
    tables = copy.deepcopy(TABLES["sepclsnet"])
    tables["II"]["published"] |= {} if theirs is None else {"classes": theirs}
    run(tmp_path / "runs", "shared_pool", tables=tables)
    note = "The paper has 50 classes, ours 4: not comparable as such."
    notes = notes_of_paper(tmp_path / "runs", published)
    assert (note in notes) == told and any("The paper has" in each for each in notes) == told


@pytest.mark.parametrize("recipe", ["recipes/sepclsnet", "recipes/nmf_svm", "baselines/mixture_cnn", "baselines/random_guess"])
def test_the_recipes_know_that_the_paper_has_fifty_classes(repo: Path, recipe: str):
    tables = load_recipe(repo / recipe).tables_plain()
    assert {table["published"]["classes"] for table in tables.values()} == {50}


def test_an_accuracy_by_label_set_is_named_below_the_paper_s_table_with_its_chance(tmp_path: Path, published: Path):
    run(tmp_path / "runs", "shared_pool", 0.6, si_sdri=None, recipe="nmf_svm", name="Mixture CNN", chance=0.2)
    run(tmp_path / "runs", "shared_pool", 0.6)
    told = [note for note in notes_of_paper(tmp_path / "runs", published) if "by label set" in note]
    assert told == ["Mixture CNN: by label set, chance 20.0 %."]


# columns that nobody fills


def test_columns_of_what_the_task_does_not_ask_for_are_left_out(tmp_path: Path):
    run(tmp_path)
    headings = named(made(tmp_path), "esc_pairs on").headings
    assert not {"SI-SDRi by label, dB", "F frame (chance)", "F clip (chance)", "Tie group", "Input SI-SDR"} & set(headings)
    assert {"SI-SDRi, dB", "Median", "Undefined", "Missed", "Params", "MACs/s"} <= set(headings)


def test_a_column_with_a_figure_stays_and_so_does_one_that_the_task_asks_for(tmp_path: Path):
    asked = {"metrics": ["si_sdri", "f_measure_frame"]}
    for name in ("one", "two"):
        run(tmp_path, recipe=name, task=asked)
    table = named(made(tmp_path), "esc_pairs on")
    assert cell(table, "one", "F frame (chance)").show() == "–" and cell(table, "one", "Tie group").show() in "ab"
    assert "F clip (chance)" not in table.headings
    run(tmp_path / "unasked", task={"metrics": []})
    assert cell(named(made(tmp_path / "unasked"), "esc_pairs on"), "sepclsnet", "SI-SDRi, dB").value is not None


def test_decibels_beside_decibels_stay_as_they_are(tmp_path: Path, published: Path):
    place = {"paper": "other", "table": "I"}
    table = {"metric": "si_sdri", "rows": [{"published": "Ours"}], "columns": [{"published": "SI-SDRi"}], "published": place}
    run(tmp_path / "runs", si_sdri=5.0, tables={"I": table})
    found = cell(named(made(tmp_path / "runs", published), "of the paper"), "Ours", "SI-SDRi")
    assert re.fullmatch(r"[45]\.\d\d \[.*\] \(paper 7\.25\)", found.show())  # as many digits as the paper


def test_parameters_stand_in_millions_beside_the_paper_s(tmp_path: Path, published: Path):
    run(tmp_path / "runs", "shared_pool")
    run(tmp_path / "runs", "shared_pool", recipe="random_guess", cost=0)
    table = named(made(tmp_path / "runs", published), "of the paper")
    assert cell(table, "SepClsNet", "Params, M").show() == "2.5 (paper 2.5)"
    assert cell(table, "Random", "Params, M").show() == "0.0"
    run(tmp_path / "small", "shared_pool", recipe="random_guess", cost=12_345)
    assert cell(named(made(tmp_path / "small", published), "of the paper"), "Random", "Params, M").show() == "0.012"


def test_a_paper_s_table_stands_there_once_for_each_protocol(tmp_path: Path, published: Path):
    both(tmp_path / "runs")
    run(tmp_path / "runs", "disjoint", 0.3, recipe="nmf_svm")
    tables = [table for table in made(tmp_path / "runs", published) if "of the paper" in table.title]
    assert ["clips shared" in table.title for table in tables] == [False, True]
    disjoint, shared = tables
    assert [line.cells[0].show() for line in disjoint.rows] == ["NMF + SVM", "SepClsNet (Ours)"]
    assert any(note.startswith("The paper's figures are of clips shared") for note in disjoint.notes)
    assert any(note.startswith("CLIPS SHARED") for note in shared.notes)
    assert [line.cells[1].show() for line in shared.rows] == ["esc50, 4 classes, clips shared"]
    assert {line.cells[1].show() for line in disjoint.rows} == {"esc50, 4 classes"}


def test_a_paper_that_shares_no_clips_has_no_such_note(tmp_path: Path, published: Path):
    tables = copy.deepcopy(TABLES["sepclsnet"])
    del tables["II"]["published"]["protocol"]
    run(tmp_path / "runs", tables=tables)
    assert not [note for note in named(made(tmp_path / "runs", published), "of the paper").notes if "clips" in note]


def test_runs_on_other_classes_fill_rows_of_their_own(tmp_path: Path, published: Path):
    run(tmp_path / "runs", "shared_pool", 0.7)
    five = {"classes": [*CLASSES, "hen"], "class_set": "esc50"}
    run(tmp_path / "runs", "shared_pool", 0.5, task=five, changed={"classes": "esc50"})
    table = named(made(tmp_path / "runs", published), "of the paper")
    assert sorted(line.cells[1].show() for line in table.rows) == [
        "esc50, 4 classes, clips shared", "esc50, 5 classes, clips shared",
    ]  # fmt: skip


def test_what_was_trained_on_other_clips_is_no_figure_of_the_paper_s_protocol(tmp_path: Path, published: Path):
    counts = {"shared": {"train": {"clips": 60}}, "clips": {"test": 100}, "verdict": "CLIPS SHARED: 60 of 100"}
    run(tmp_path / "runs", "shared_pool", 0.4, facts={"audit": counts}, trained_by={"run": "x"})
    assert not [table for table in made(tmp_path / "runs", published) if "of the paper" in table.title]
    all_of_it = {**counts, "shared": {"train": {"clips": 100}}}
    run(tmp_path / "all", "shared_pool", 0.4, facts={"audit": all_of_it}, trained_by={"run": "x"})
    assert named(made(tmp_path / "all", published), "of the paper")


def test_all_shows_the_rows_that_nothing_of_ours_fills(tmp_path: Path, published: Path):
    run(tmp_path / "runs", tables={**TABLES["sepclsnet"], "IV": {
        "metric": "class_accuracy", "rows": [{"published": "Full Model", "when": {"loss": "all"}}],
        "columns": [{"published": "Acc."}], "published": {**SOURCE, "table": "IV"},
    }})  # fmt: skip
    assert not [table for table in made(tmp_path / "runs", published) if "Table IV" in table.title]
    table = named(made(tmp_path / "runs", published, show_all=True), "Table IV")
    assert cell(table, "Full", "Acc., %").show() == "– (paper 70.0)"


def test_a_table_of_our_own_is_not_called_the_paper_s_and_no_unit_stands_twice(tmp_path: Path, published: Path):
    table = {"metric": "class_accuracy", "title": "Ours", "rows": [{"published": "Row"}], "columns": [{"published": "Right (%)"}]}
    run(tmp_path / "runs", tables={"own": table})
    (found,) = (each for each in made(tmp_path / "runs", published) if "table own" in each.title)
    assert found.title == "sepclsnet, table own: Ours" and found.headings[-1].count("%") == 1
