"""Several seeds in a task's tables: one figure with its own interval, of all rows; and what one of them lacks is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sepbench.results import read_runs
from sepbench.scene import Row
from sepbench.tables_format import Cell, Table, render
from sepbench.tables_json import from_json
from sepbench.tables_task import task_tables
from task_runs import missing, run, scores


def made(root: Path, *given: Any, **more: Any) -> Table:
    return task_tables(read_runs(root), "common", *given, **more)[0]


def cell(table: Table, row: str, column: str) -> Cell:
    (line,) = (line for line in table.rows if line.cells[0].show() == row)
    return line.cells[table.headings.index(column)]


def si_sdri(rows: Sequence[Row]) -> list[float]:
    return [row.value for row in rows if row.metric == "si_sdri"]


@pytest.mark.parametrize("law", range(4))
def test_the_mean_of_seeds_that_miss_different_numbers_of_sources_lies_in_its_interval(tmp_path: Path, law: int):
    random = np.random.default_rng(law)
    shifts, lost = random.normal(0, 15, 2), (0, int(random.integers(14, 22)))
    seeds = [missing(scores(float(shift), noise=3 + k), n) for k, (shift, n) in enumerate(zip(shifts, lost))]
    for seed, rows in enumerate(seeds):
        run(tmp_path, "one", rows, seed=seed)
    pooled = np.mean([value for rows in seeds for value in si_sdri(rows)])
    for table, column in ((made(tmp_path), "SI-SDRi, dB"), (made(tmp_path, "class"), "dog_bark")):
        shown = cell(table, "One", column)
        assert shown.value is not None and shown.ci is not None and shown.ci[0] <= shown.value <= shown.ci[1]
        assert shown.n is not None and "(2 runs)" in shown.show()
    shown = cell(made(tmp_path), "One", "SI-SDRi, dB")
    assert shown.value == pytest.approx(pooled) and shown.n == 48 - lost[1]
    assert cell(made(tmp_path), "One", "Missed").show() == f"{lost[1]} (2 runs)"
    assert any(line.cells[4].show() == f"{shown.n} / " + line.cells[4].show().split(" / ")[1] for line in made(tmp_path).rows)
    assert any(note.startswith("(2 runs): runs that differ in the seed alone") for note in made(tmp_path).notes)


@pytest.mark.parametrize("first", [0, 1])
def test_where_a_seed_lacks_the_figure_the_others_stand_for_it_and_say_so(tmp_path: Path, first: int):
    seeds = [("ca_sdri",), ("si_sdri", "ca_sdri")]
    for seed, of in enumerate([seeds[first], seeds[1 - first]]):
        run(tmp_path, "one", scores(1.0 + seed, of), seed=seed)
    for table, column, n in ((made(tmp_path), "SI-SDRi, dB", 24), (made(tmp_path, "class"), "siren", 12)):
        shown = cell(table, "One", column)
        assert shown.show().endswith("(1 of 2 runs)") and shown.n == n and shown.ci is not None
        assert from_json(render([table], "json")) == [table]
    assert cell(made(tmp_path), "One", "CA-SDRi, dB").show().endswith("(2 runs)")


def test_rows_go_by_the_figure_that_is_printed(tmp_path: Path):
    run(tmp_path, "mean", scores(9.0), seed=0)
    run(tmp_path, "mean", scores(-9.0), seed=1)  # 0 dB on average, below
    run(tmp_path, "plain", scores(5.0))
    assert [line.cells[0].show() for line in made(tmp_path).rows] == ["Plain", "Mean"]


def test_a_row_of_several_seeds_makes_no_other_row_say_its_n(tmp_path: Path):
    for seed in (0, 1):
        run(tmp_path, "two", scores(3.0, noise=seed + 1), seed=seed)
    run(tmp_path, "one", scores(1.0))
    for table in (made(tmp_path), made(tmp_path, "class")):
        assert "(n" not in render([table]).split("[ ]")[0].replace("(n …)", "")
    run(tmp_path, "fewer", missing(scores(1.0), 3))
    assert cell(made(tmp_path, "class"), "One", "siren").shows_n is False
    assert cell(made(tmp_path), "Fewer", "SI-SDRi, dB").show().split("] ")[1].startswith("(n 21)")


def test_figures_without_rows_are_the_mean_as_n_weighs_and_have_no_interval(tmp_path: Path):
    ids = [run(tmp_path, "one", missing(scores(float(10 * seed)), 20 * seed), seed=seed) for seed in (0, 1)]
    pooled = cell(made(tmp_path), "One", "SI-SDRi, dB").value
    (tmp_path / ids[1] / "rows.parquet").unlink()
    shown = cell(made(tmp_path), "One", "SI-SDRi, dB")
    assert shown.value == pytest.approx(pooled) and shown.ci is None and shown.n == 28
