"""One task, every method: the right rows and letters, equal terms or a word that they are not, any order, some columns."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from sepbench.cli_table import table as command
from sepbench.errors import UserError
from sepbench.options import Door
from sepbench.results import read_runs
from sepbench.scene import Row
from sepbench.statistics import bootstrap_ci
from sepbench.tables_columns import sorted_by, with_columns
from sepbench.tables_format import Cell, Line, Table, render, text
from sepbench.tables_task import task_tables
from task_runs import N_SCENES, run, scores


def made(root: Path, *given: Any, **more: Any) -> Table:
    (table,) = task_tables(read_runs(root), "common", *given, **more)
    return table


def cell(table: Table, row: str, column: str) -> Cell:
    (line,) = (line for line in table.rows if line.cells[0].show() == row)
    return line.cells[table.headings.index(column)]


def first_column(table: Table) -> list[str]:
    return [line.cells[0].show() for line in table.rows]


def test_every_method_on_the_task_has_a_row_with_its_own_figures_the_best_first(tmp_path: Path):
    for name, shift in (("worse", 1.0), ("best", 5.0), ("blind", 3.0)):
        of = ("si_sdri",) if name == "blind" else ("si_sdri", "ca_sdri")
        run(tmp_path, name, scores(shift, of), {"parameters": 1000, "training_scenes": 16000})
    run(tmp_path, "best", scores(9.0), task="another")
    table = made(tmp_path)
    assert first_column(table) == ["Best", "Blind", "Worse"]
    for record in read_runs(tmp_path):
        if record.config["task"]["name"] == "common":
            held = record.metrics["test"]["si_sdri"]["all"]
            shown = cell(table, record.config["name"], "SI-SDRi, dB")
            assert (shown.value, shown.ci, shown.n) == (held["mean"], tuple(held["ci95"]), held["n"])
    assert cell(table, "Blind", "CA-SDRi, dB").show() == "–" and "F clip" not in table.headings
    assert cell(table, "Best", "Training scenes").show() == "16,000" and cell(table, "Best", "Training time").show() == "60 s"
    assert any(note.startswith("–:") for note in table.notes)


def test_letters_are_those_of_their_own_column(tmp_path: Path):
    run(tmp_path, "one", scores(3.0))
    run(tmp_path, "other", scores(5.0))  # better in every scene by separation, the same by label
    table = made(tmp_path)
    assert [line.cells[table.headings.index("SI-SDRi, dB")].tie for line in table.rows] == ["a", "b"]
    assert [line.cells[table.headings.index("CA-SDRi, dB")].tie for line in table.rows] == ["a", "a"]
    assert cell(table, "Other", "SI-SDRi, dB").show().endswith("] a")


def test_what_is_found_by_another_rule_has_no_letter_in_that_column(tmp_path: Path):
    run(tmp_path, "one", scores(3.0, ("si_sdri", "class_accuracy")))
    run(tmp_path, "other", scores(5.0, ("si_sdri", "class_accuracy"), right=0.0))
    run(tmp_path, "names", scores(0.0, ("class_accuracy",)), supervision="weak", labels_seen="clip")
    table = made(tmp_path)
    column = "Classes right (chance)"
    ties = {name: cell(table, name, column).tie for name in first_column(table)}
    assert ties == {"One": "a", "Other": "b", "Names": None}
    assert first_column(table)[-1] == "Names" and cell(table, "Names", "SI-SDRi, dB").show() == "–"
    assert any("by the set of its labels" in note for note in table.notes)


def test_runs_that_differ_in_the_seed_alone_are_one_row_with_the_interval_of_all_their_scenes(tmp_path: Path):
    seeds = [scores(3.0, noise=seed) for seed in (1, 2)]
    ids = {run(tmp_path, "one", rows, seed=seed) for seed, rows in enumerate(seeds)}
    run(tmp_path, "one", scores(2.0), changed={"layers": 3})
    table = made(tmp_path)
    shown = cell(table, "One", "SI-SDRi, dB")
    values = [(row.value, row.scene) for rows in seeds for row in rows if row.metric == "si_sdri"]
    assert len(table.rows) == 2 and set(shown.runs) == ids and shown.tie is None
    assert shown.value == pytest.approx(np.mean([value for value, _ in values]))
    expected = bootstrap_ci(np.array([v for v, _ in values]), np.ones(len(values)), np.array([s for _, s in values]))
    assert shown.ci == pytest.approx(expected, abs=1e-3) and "(2 runs)" in shown.show()


@pytest.mark.parametrize(
    ("budgets", "in_title", "marked"),
    [
        ([{"scenes": 16000}, {"scenes": 16000}], "budget 16,000 scenes each", False),
        ([{"minutes": 15}, {"scenes": 16000}], "", True),
        ([None, {"scenes": 16000}], "", True),
        ([None, None], "", False),
    ],
)
def test_the_budget_of_all_stands_in_the_title_and_different_ones_are_marked(
    tmp_path: Path, budgets: list[dict[str, int] | None], in_title: str, marked: bool
):
    for name, budget in zip(("one", "other"), budgets):
        run(tmp_path, name, scores(1.0), **({"budget": budget} if budget else {}))
    run(tmp_path, "floor", scores(0.0), supervision="none")
    table = made(tmp_path)
    assert (in_title in table.title) and ("budget" in table.title) == bool(in_title)
    assert any(note.startswith("BUDGETS DIFFER") for note in table.notes) == marked == ("Budget" in table.headings)
    assert cell(table, "Floor", "Training time").show() == "–"
    if marked:
        assert cell(table, "Floor", "Budget").show() == "–" and cell(table, "Other", "Budget").show() == "16,000 scenes"


def test_one_method_under_two_budgets_is_two_rows_that_say_which(tmp_path: Path):
    for scenes in (1000, 2000):
        run(tmp_path, "one", scores(1.0), budget={"scenes": scenes})
    table = made(tmp_path)
    assert [line.cells[table.headings.index("Budget")].show() for line in table.rows] == ["1,000 scenes", "2,000 scenes"]


def test_other_profiles_in_one_table_are_marked(tmp_path: Path):
    run(tmp_path, "one", scores(1.0))
    assert "profile small" in made(tmp_path).title
    run(tmp_path, "other", scores(1.0), profile="quick")
    assert "profile" not in made(tmp_path).title
    assert any(note.startswith("PROFILES DIFFER (quick, small)") for note in made(tmp_path).notes)


def test_rows_go_by_any_column_the_best_first_and_dashes_last(tmp_path: Path):
    for name, shift, parameters in (("big", 5.0, 9e6), ("small", 1.0, 1e3), ("unknown", 3.0, None)):
        run(tmp_path, name, scores(shift), {"parameters": parameters} if parameters else {"macs_per_s": 1})
    assert first_column(made(tmp_path, sort="params")) == ["Small", "Big", "Unknown"]
    assert first_column(made(tmp_path, sort="parameters desc")) == ["Big", "Small", "Unknown"]
    assert first_column(made(tmp_path, sort="SI-SDRi")) == ["Big", "Unknown", "Small"]
    assert first_column(made(tmp_path, sort="si_sdri asc")) == ["Small", "Unknown", "Big"]
    assert first_column(made(tmp_path, sort="method")) == ["Big", "Small", "Unknown"]


def test_some_columns_keep_their_order_and_the_first_and_may_be_figures_that_are_not_shown_otherwise(tmp_path: Path):
    rows = scores(3.0) + [Row("r", "test", f"s{k}", -1, "", "equal_separation", 0.5) for k in range(N_SCENES)]
    run(tmp_path, "one", rows, {"parameters": 7})
    assert "Equally separated" not in made(tmp_path).headings
    table = made(tmp_path, columns=["params", "equal_separation", "SI-SDRi, dB"])
    assert table.headings == ("Method", "Params", "Equally separated", "SI-SDRi, dB")
    assert [each.show() for each in table.rows[0].cells[:3]] == ["One", "7", "0.50 [0.50, 0.50]"]


def test_names_that_are_none_are_told_with_the_nearest(tmp_path: Path):
    run(tmp_path, "one", scores(3.0))
    for given, near in (({"sort": "si_sdr"}, "SI-SDRi"), ({"columns": ["parms"]}, "Params")):
        with pytest.raises(UserError, match=f"Did you mean '{near}'"):
            made(tmp_path, **given)
    with pytest.raises(UserError, match="--task comon: no finished run is on it. Did you mean 'common'"):
        task_tables(read_runs(tmp_path), "comon")
    with pytest.raises(UserError, match="Here there are no finished runs"):
        task_tables([], "common")


def test_a_column_is_found_by_its_whole_heading_before_its_short_one():
    headings = ("Row", "SI-SDRi (chance)", "SI-SDRi, dB", "below -5 dB", "-5 to 0 dB")
    table = Table("t", headings, (Line(tuple(map(text, "abcde"))),))
    assert with_columns([table], ["SI-SDRi, dB"])[0].headings == ("Row", "SI-SDRi, dB")
    assert with_columns([table], ["-5 to 0 dB"])[0].headings == ("Row", "-5 to 0 dB")
    assert sorted_by([table], "below -5 dB")[0] == table


def call(*arguments: object) -> Any:
    return CliRunner().invoke(Door(commands={"table": command}), ["table", *map(str, arguments)], prog_name="sepbench")


def test_the_command_prints_one_task_one_paper_s_table_and_what_is_asked_of_them(tmp_path: Path, repo: Path):
    run(tmp_path, "one", scores(3.0), {"parameters": 7})
    run(tmp_path, "two", scores(4.0), {"parameters": 5}, profile="quick")
    told = call(tmp_path, "--task", "common", "--profile", "small", "--columns", "params", "--format", "markdown", "--bare")
    assert told.exit_code == 0 and told.stdout == "| Method | Params |\n| --- | ---: |\n| One | 7 |\n"
    told = call(repo / "results" / "reference", "--table", "IV", "--corpus", "esc50", "--profile", "quick", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(told.stdout)))
    assert told.exit_code == 0 and len(rows) == 5 and {row["profile"] for row in rows} == {"quick"}
    assert all(row["table"].startswith("sepclsnet, Table IV of the paper") for row in rows)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--by", "class"), "--by parts the table of a task"),
        (("--task", "common", "--metric", "si_sdri"), "--metric goes with --by"),
        (("--task", "common", "--by", "clas"), "Did you mean 'class'"),
        (("--task", "common", "--by", "class", "--metric", "si_sdrj"), "there is no metric 'si_sdrj'"),
        (("--task", "comon"), "Did you mean 'common'"),
        (("--table", "IX"), "--table IX: no recipe of these runs has such a table"),
        (("--corpus", "esc5"), "Did you mean 'esc50'"),
        (("--format", "markdwn"), "Did you mean 'markdown'"),
        (("--task", "common", "--format", "md", "-o", "no/where.md"), "there is no folder no"),
    ],
)
def test_what_the_command_cannot_do_is_one_line(tmp_path: Path, arguments: tuple[str, ...], said: str):
    run(tmp_path, "one", scores(3.0))
    told = call(tmp_path, *arguments)
    assert told.exit_code == 2 and said in told.stderr and told.stderr.count("\n") == 1, told.output


def test_a_broken_run_is_named_and_the_others_are_shown(tmp_path: Path):
    run(tmp_path, "one", scores(3.0))
    broken = run(tmp_path, "two", scores(3.0))
    (tmp_path / broken / "metrics.json").write_text("{")
    told = call(tmp_path, "--task", "common", "--format", "md")
    assert told.exit_code == 0 and "| One |" in told.stdout and "Two" not in told.stdout
    assert told.stderr.startswith("left out: ") and broken in told.stderr and told.stderr.count("\n") == 1


def test_every_format_shows_the_letters(tmp_path: Path):
    for name, shift in (("one", 3.0), ("other", 5.0)):
        run(tmp_path, name, scores(shift))
    shown = {form: render([made(tmp_path)], form) for form in ("terminal", "md", "latex", "json")}
    assert "] b" in shown["terminal"] and "] b |" in shown["md"]
    assert r"]$^{\mathrm{b}}$" in shown["latex"] and '"tie": "b"' in shown["json"]
