"""Figures over parts of the rows: they add up to the whole, know their edges, and say what they cannot know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from made_up_runs import named_scenes, put
from sepbench.by_group import ALL, figures_by, parts_by, whole
from sepbench.errors import UserError
from sepbench.results import read_runs
from sepbench.scene import Row
from sepbench.statistics import Columns, bootstrap_ci
from sepbench.tables_format import Cell, Table
from sepbench.tables_task import task_tables

N_SCENES = 30
LABELS = ("car_horn", "dog_bark", "siren")


def columns(rows: Sequence[Row]) -> Columns:
    names = ("split", "scene", "source", "label", "metric", "value", "weight")
    return {name: np.array([getattr(row, name) for row in rows], dtype=None if name in ("source", "value", "weight") else object)
            for name in names}  # fmt: skip


def scored(seed: int = 0, facts: bool = True) -> list[Row]:
    """Rows of scenes with one to three sources, every figure a number of its own."""
    random, rows = np.random.default_rng(seed), []
    for k in range(N_SCENES):
        n = 1 + k % 3
        for source, label in enumerate(LABELS[:n]):
            before, gain = random.normal(-2, 6), random.normal(3, 4)
            rows += [Row("r", "test", f"s{k}", source, label, name, float(value))
                     for name, value in (("si_sdr_mixture", before), ("si_sdri", gain))]  # fmt: skip
            counts = {"tp": random.integers(1, 9), "fp": random.integers(0, 9), "fn": random.integers(0, 9), "tn": 5}
            rows += [Row("r", "test", f"s{k}", -1, label, f"clip_{what}", float(x)) for what, x in counts.items()]
        rows.append(Row("r", "test", f"s{k}", -1, "", "ca_sdri", float(random.normal(2, 3))))
        if facts:
            rows += [Row("r", "test", f"s{k}", -1, "", "n_sources", float(n)),
                     Row("r", "test", f"s{k}", -1, "", "overlap", (0.0, 0.5, 0.51)[k % 3])]  # fmt: skip
    return rows


def parted(rows: Sequence[Row], metric: str, by: str) -> dict[str, Any]:
    own = columns(rows)
    found = parts_by(by, [own], "test")
    assert found is not None
    return figures_by([([own], metric, found[1])], "test")[0]


@pytest.mark.parametrize("by", ["class", "n_sources", "overlap", "input_si_sdr"])
def test_the_parts_of_a_mean_weigh_up_to_the_whole(by: str):
    rows = scored()
    own = columns(rows)
    (every,) = figures_by([([own], "si_sdri", whole)], "test")
    parts = parted(rows, "si_sdri", by)
    assert len(parts) > 2 and sum(part.n for part in parts.values()) == every[ALL].n
    assert np.average([p.mean for p in parts.values()], weights=[p.n for p in parts.values()]) == pytest.approx(every[ALL].mean)


def test_the_interval_of_a_part_is_that_of_its_rows_alone():
    rows = [row for row in scored() if row.metric == "si_sdri" and row.label == "dog_bark"]
    values, scenes = np.array([row.value for row in rows]), np.array([row.scene for row in rows])
    found = parted(scored(), "si_sdri", "class")["dog_bark"]
    assert found.mean == pytest.approx(values.mean()) and found.n == len(values)
    assert found.ci95 == pytest.approx(bootstrap_ci(values, np.ones(len(values)), scenes), abs=1e-3)


@pytest.mark.parametrize(("by", "part", "scenes"), [("n_sources", "2 sources", 1), ("overlap", "up to half of the time", 1)])
def test_a_pooled_figure_counts_the_scenes_of_its_part_alone(by: str, part: str, scenes: int):
    counted = {what: sum(row.value for row in scored() if row.metric == f"clip_{what}" and int(row.scene[1:]) % 3 == scenes)
               for what in ("tp", "fp", "fn")}  # fmt: skip
    expected = 2 * counted["tp"] / (2 * counted["tp"] + counted["fp"] + counted["fn"])
    assert parted(scored(), "f_measure_clip", by)[part].mean == pytest.approx(expected)


def test_edges_belong_to_the_upper_part_of_an_input_and_the_lower_of_an_overlap():
    inputs = {-5.01: "below -5 dB", -5.0: "-5 to 0 dB", -0.01: "-5 to 0 dB", 0.0: "0 to 5 dB", 5.0: "above 5 dB"}
    rows = [Row("r", "test", f"s{k}", 0, "a", "si_sdr_mixture", value) for k, value in enumerate(inputs)]
    own = columns(rows)
    found = parts_by("input_si_sdr", [own], "test")
    assert found is not None and found[1](own).tolist() == list(inputs.values())
    assert found[0] == ["below -5 dB", "-5 to 0 dB", "0 to 5 dB", "above 5 dB"]
    assert list(parted(scored(), "ca_sdri", "overlap")) == sorted(["no overlap", "up to half of the time", "more than half"])


def test_the_number_of_sources_is_told_by_labels_where_no_row_keeps_it():
    truth = {"s0": ["dog_bark"], "s1": ["dog_bark", "dog_bark"], "s2": ["siren", "dog_bark"]}
    own = columns(named_scenes(truth, {"s0": ["siren"], "s1": [], "s2": ["siren"]}, dict.fromkeys(truth, 1.0)))
    found = parts_by("n_sources", [own], "test")
    assert found is not None and found[0] == ["1 source", "2 sources"]
    assert parts_by("overlap", [own], "test") is None


def tables(root: Path, by: str, metrics: Sequence[str] = ()) -> list[Table]:
    return task_tables(read_runs(root), "urban_events", by, None, metrics)


def cells(table: Table) -> dict[str, Mapping[str, Cell]]:
    return {line.cells[0].show(): dict(zip(table.headings, line.cells)) for line in table.rows}


def test_there_is_a_table_for_each_figure_and_a_column_for_each_part(tmp_path: Path):
    put(tmp_path, scored(1), recipe="one", name="One")
    put(tmp_path, [row for row in scored(2) if row.metric != "ca_sdri"], recipe="two", name="Two")
    made = tables(tmp_path, "n_sources")
    assert [table.title.split(":")[0] for table in made] == [f"{name} by the number of sources" for name in
                                                             ("SI-SDRi, dB", "CA-SDRi, dB")]  # fmt: skip
    assert made[0].headings[4:] == ("1 source", "2 sources", "3 sources")
    shown = cells(made[0])["One"]["2 sources"]
    own = [row.value for row in scored(1) if row.metric == "si_sdri" and int(row.scene[1:]) % 3 == 1]
    assert shown.value == pytest.approx(np.mean(own)) and shown.n == len(own) and shown.ci is not None
    assert list(cells(made[1])) == ["One"] and "n, scenes: 1 source 10; 2 sources 10; 3 sources 10." in made[1].notes
    assert len(tables(tmp_path, "class")) == 1  # a scene's figure has no class
    assert "f_measure_clip by class" in tables(tmp_path, "class", ["f_measure_clip"])[0].title


def test_a_method_that_answered_fewer_says_its_own_n(tmp_path: Path):
    put(tmp_path, scored(1), recipe="all", name="All")
    fewer = [row for row in scored(2) if not (row.metric == "si_sdri" and row.scene == "s1" and row.label == "dog_bark")]
    put(tmp_path, fewer, recipe="fewer", name="Fewer")
    (table,) = tables(tmp_path, "class")
    assert cells(table)["Fewer"]["dog_bark"].show().endswith("(n 19)")
    assert "(n" not in cells(table)["Fewer"]["siren"].show() + cells(table)["All"]["dog_bark"].show()


def test_what_is_a_fact_of_the_scenes_may_be_told_by_another_run_on_them(tmp_path: Path):
    put(tmp_path, scored(1), recipe="new", name="New")
    put(tmp_path, scored(2, facts=False), recipe="old", name="Old")
    assert set(cells(tables(tmp_path, "overlap")[0])) == {"New", "Old"}


def test_rows_that_do_not_tell_it_are_told_in_one_line(tmp_path: Path):
    put(tmp_path, scored(2, facts=False), recipe="old", name="Old")
    with pytest.raises(UserError, match=r"the rows do not tell it, of 1 run from before it was kept \(such as old-"):
        tables(tmp_path, "overlap")
    put(tmp_path, scored(1), recipe="new", name="New", task__sample_rate_hz=8000)  # other scenes, whose rows tell it
    made = tables(tmp_path, "overlap")
    assert any(note.startswith("Left out, without overlap in their rows: 1 run ") for note in made[-1].notes)


def test_a_figure_that_no_run_has_is_told_in_one_line(tmp_path: Path):
    put(tmp_path, scored(1))
    with pytest.raises(UserError, match="no such figure of bss_sdr"):
        tables(tmp_path, "class", ["bss_sdr"])
