"""Formats for other programs: JSON that comes back whole, LaTeX that compiles, macros whose names last."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from sepbench.errors import UserError
from sepbench.results import read_runs
from sepbench.tables import make_tables, named_tables
from sepbench.tables_format import Cell, Line, Table, render, text
from sepbench.tables_json import from_json
from sepbench.tables_macros import letters, macros
from sepbench.tables_task import task_tables
from task_runs import run, scores

FACTS = {"corpus": "esc50", "profile": "small", "split": "test", "row": "itdcnpp"}
FULL = Cell(1 / 3, (0.1, 2 / 3), std=0.25, n=7, published="0.4", published_std="0.1", chance=0.5, names_chance=True,
            unit="dB", digits=2, runs=("a", "b"), tie="ab", shows_n=True)  # fmt: skip
STRANGE = "50 % & more_of #1 ~ 1^2 {λ ≥ 3} – < 5 > | \\n “é”"


def table(*cells: Cell, title: str = "A table", headings: Sequence[str] = (), key: str = "", row: str = "itdcnpp") -> Table:
    line = Line((text("iTDCN++"), *cells), {**FACTS, "row": row})
    names = tuple(headings) or tuple(f"Column {letter}" for letter in "abcdef"[: len(cells)])
    return Table(title, ("Method", *names), (line,), ("A note.",), ("Method",), key)


def defined(written: str) -> dict[str, str]:
    return dict(re.findall(r"^\\newcommand\{\\(\w+)\}\{(.*)\}$", written, flags=re.MULTILINE))


def test_json_comes_back_as_the_same_tables_in_full_precision():
    made = [table(FULL, Cell(), Cell(0.0), text("words")), table(Cell(1e-300), title=STRANGE, key="k")]
    assert from_json(render(made, "json")) == made


def test_json_of_real_tables_comes_back_and_knows_its_runs(tmp_path: Path):
    name = run(tmp_path, "one", scores(3.0), {"parameters": 7}, budget={"scenes": 100})
    runs = read_runs(tmp_path)
    tables = [*make_tables(runs, None), *task_tables(runs, "common")]
    written = render(tables, "json", runs=runs)
    assert from_json(written) == tables
    facts = json.loads(written)["runs"][name]
    assert facts["config_hash"].startswith(name.rpartition("-")[2]) and facts["budget"] == {"scenes": 100}
    assert json.loads(written)["version"] == 1


@pytest.mark.parametrize("written", ["[", "[]", '{"format": "another"}', '{"format": "sepbench tables", "version": 99}'])
def test_json_that_is_something_else_is_refused_in_a_line(written: str):
    with pytest.raises(UserError):
        from_json(written)


def test_every_number_of_a_cell_has_a_macro_with_the_digits_that_are_printed():
    held = defined(macros([table(FULL, headings=("SI-SDRi, dB",), key="common test")]))
    name = "sepCommonTestItdcnppSmallEscFiveZeroSISDRi"
    assert held == {name: "0.33", f"{name}Low": "0.10", f"{name}High": "0.67", f"{name}Std": "0.25", f"{name}Chance": "0.50",
                    f"{name}N": "7", f"{name}Paper": "0.4", f"{name}PaperStd": "0.1"}  # fmt: skip


def test_what_is_not_measured_has_no_macro_and_words_with_a_value_are_as_printed():
    cells = (Cell(), text("words"), Cell(None, published="–"), Cell(1.48e6, text="1.48 M"))
    assert list(defined(macros([table(*cells)])).values()) == ["1.48 M"]


def test_names_hold_letters_alone_and_tell_numbers_and_signs_apart():
    assert letters("esc50, TDCN++") == "EscFiveZeroTDCNPlusPlus"
    assert letters("below -5 dB") == "BelowMinusFiveDB" and letters("weak-label 2") == "WeakLabelTwo"
    assert letters("alpha=0.5") == "AlphaZeroPointFive" and letters("Öl") == "Ol"
    for words in (STRANGE, "λ=5", "Δ ≥ 3"):
        assert re.fullmatch("[A-Za-z]*", letters(words))


def test_names_of_one_run_do_not_change_with_what_else_is_run(tmp_path: Path):
    run(tmp_path, "one", scores(3.0))
    before = defined(macros(task_tables(read_runs(tmp_path), "common")))
    run(tmp_path, "one", scores(4.0), changed={"layers": 3})  # from now on the table tells the two apart by their options
    run(tmp_path, "other", scores(5.0), {"parameters": 3})
    after = defined(macros(task_tables(read_runs(tmp_path), "common")))
    assert before and before.items() <= after.items() and len(after) > 2 * len(before)


def test_two_numbers_of_one_name_are_an_error_that_names_both():
    with pytest.raises(UserError, match="First.*column 'Column a'; and Second.*--columns"):
        macros([table(Cell(1.0), title="First", key="k"), table(Cell(2.0), title="Second", key="k")])


def test_what_the_error_of_two_numbers_of_one_name_says_helps(tmp_path: Path):
    ids = [run(tmp_path, "one", scores(shift), task=task, unseen=unseen) for shift, task, unseen in
           ((1.0, "common", "a"), (2.0, "common", "b"))]  # fmt: skip
    with pytest.raises(UserError, match="Give the folder of one of these runs") as told:
        macros(task_tables(read_runs(tmp_path), "common"))
    for name in ids:
        assert f"'{name}'" in str(told.value)
        assert defined(macros(task_tables(read_runs(tmp_path / name), "common")))


def test_budgets_and_seeds_make_names_of_their_own(tmp_path: Path):
    for scenes in (1000, 2000):
        run(tmp_path, "one", scores(3.0), budget={"scenes": scenes}, changed={"budget": f"{scenes} scenes"})
    for seed in (0, 1):
        run(tmp_path, "other", scores(3.0, noise=seed + 1), seed=seed)
    runs = read_runs(tmp_path)
    assert len(defined(macros(make_tables(runs, None)))) > len(defined(macros(task_tables(runs, "common")))) > 0


def test_a_negative_number_has_a_minus_and_no_hyphen():
    held = defined(macros([table(Cell(-0.5, (-1.0, 0.25)), Cell(1e-9, text="x-1"), key="k")]))
    assert list(held.values()) == ["$-$0.5", "$-$1.0", "0.2", "x-1"]
    assert "$-$0.5 [$-$1.0, 0.2]" in render([table(Cell(-0.5, (-1.0, 0.25)))], "latex")


def test_a_table_too_wide_for_a_page_is_made_as_wide_as_it_and_its_notes_stand_below():
    wide, narrow = (render([table(*[Cell(1.0, (0.5, 1.5))] * n)], "latex") for n in (6, 1))
    assert r"\resizebox{\textwidth}{!}{%" in wide and r"\resizebox" not in narrow
    assert r"\usepackage{graphicx}" in wide and r"\caption{A table" in wide
    for written in (wide, narrow):
        assert written.index(r"\end{tabular}") < written.index("A note.") and written.count("{") == written.count("}")


def test_rows_that_only_their_sounds_or_teachers_tell_apart_have_names_of_their_own(repo: Path):
    runs, published = read_runs(repo / "results" / "reference"), repo / "results" / "published" / "paper_tables.csv"
    taught = [run for run in runs if run.config["recipe"] == "weak_label"]  # one of them by another
    tables = [*make_tables(taught, published), *named_tables(runs, published, "IV")]  # with ten classes and with fifty
    held = defined(macros(tables))
    assert len(held) > 200 and all(re.fullmatch("[A-Za-z]+", name) for name in held)


def test_latex_escapes_what_it_would_trip_over_and_keeps_letters_above_the_line():
    written = render([table(Cell(1.0, tie="ab"), title=STRANGE, headings=("a < b",))], "latex")
    assert r"50 \% \& more\_of \#1" in written and r"a $<$ b" in written and r"1.0$^{\mathrm{ab}}$" in written
    assert r"\toprule" in written and r"\bottomrule" in written


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here")
def test_latex_and_macros_compile(tmp_path: Path):
    wide = table(*[Cell(-1.5, (-2.0, -1.0))] * 6, title="Wide", row="y")
    tables = [wide, table(FULL, Cell(), headings=("a < b", "λ ≥ 3")), table(Cell(1.0), title=STRANGE.replace("“é”", ""), row="x")]
    (tmp_path / "macros.tex").write_text(render(tables, "tex-macros"), encoding="utf-8")
    used = " ".join(f"\\{name}" for name in defined(render(tables, "tex-macros")))
    head = "\\documentclass{article}\\usepackage{booktabs}\\usepackage{graphicx}\\input{macros}\\begin{document}"
    paper = [head, render(tables, "latex"), used]
    (tmp_path / "paper.tex").write_text("\n".join([*paper, "\\end{document}"]), encoding="utf-8")
    done = subprocess.run(["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "paper.tex"], cwd=tmp_path,
                          capture_output=True, text=True, errors="replace", timeout=120)  # fmt: skip
    assert done.returncode == 0 and (tmp_path / "paper.pdf").is_file(), done.stdout[-2000:]
    assert "Overfull" not in re.sub(r"(?s)Overfull \\hbox.*?in paragraph", "", done.stdout)  # the macros one after the other


def test_markdown_has_two_names(tmp_path: Path):
    assert render([table(FULL)], "markdown") == render([table(FULL)], "md")
