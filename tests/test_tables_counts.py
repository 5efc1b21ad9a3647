"""Figures by the number of sources: the right scenes in each column, and a table only where numbers differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from made_up_runs import named_scenes, put
from sepbench.by_scene import means_over, metric_for, paired, sources_of, unmoved
from sepbench.results import read_rows, read_runs
from sepbench.statistics import bootstrap_ci
from sepbench.tables import Table, make_tables, render

LABELS = ("dog", "rain", "siren")
MIXING = {"kind": "rooms", "sources": 3, "fewest_sources": 0}
SETTINGS: dict[str, Any] = {
    "task__name": "s5", "task__classes": list(LABELS), "task__seconds": 4.0, "task__sample_rate_hz": 16000,
    "task__mixing": MIXING, "task__metrics": ["ca_sdri", "capi_sdri", "label_set_accuracy", "source_f_measure"],
}  # fmt: skip
TRUTH = {f"s{i:02}": LABELS[: i % 4] for i in range(40)}  # ten scenes of each number of sources


def gains(shift: float = 0.0) -> dict[str, float]:
    """Ten a source, a little about it; nothing where there is no source and none was named."""
    random = np.random.default_rng(3)
    return {scene: 10.0 * len(own) + random.normal() + shift for scene, own in TRUTH.items() if own}


def tables(root: Path) -> list[Table]:
    return make_tables(read_runs(root), None)


def counted(root: Path) -> list[Table]:
    return [table for table in tables(root) if "by the number of sources" in table.title]


def test_each_number_of_sources_is_averaged_over_its_own_scenes(tmp_path: Path):
    named = {scene: own if i % 8 != 4 else ("dog",) for i, (scene, own) in enumerate(TRUTH.items())}  # half of the empty ones
    found = gains()
    put(tmp_path, named_scenes(TRUTH, named, found), **SETTINGS)
    (table,) = counted(tmp_path)
    assert table.headings[4:] == (
        "1 source: CA-SDRi, dB", "2 sources: CA-SDRi, dB", "3 sources: CA-SDRi, dB", "0 sources: label sets right",
        "1 source: label sets right", "2 sources: label sets right", "3 sources: label sets right",
    )  # fmt: skip
    (line,) = table.rows
    for n, cell in zip((1, 2, 3), line.cells[4:7]):
        own = np.array([found[scene] for scene, labels in TRUTH.items() if len(labels) == n])
        assert cell.value == pytest.approx(own.mean()) and cell.n == 10
        assert cell.ci == pytest.approx(bootstrap_ci(own, np.ones(10), np.arange(10)))
    assert [cell.value for cell in line.cells[7:]] == [0.5, 1.0, 1.0, 1.0]
    assert "Scenes: 10 with 0 sources, 10 with 1 source, 10 with 2 sources, 10 with 3 sources." in table.notes


def test_the_best_stands_first_and_what_names_nothing_is_left_out(tmp_path: Path):
    for name, shift in (("worse", 0.0), ("better", 1.0)):
        put(tmp_path, named_scenes(TRUTH, TRUTH, gains(shift)), name=name, recipe=name, **SETTINGS)
    bare = [row for row in named_scenes(TRUTH, TRUTH, gains()) if row.metric == "si_sdri"]
    put(tmp_path, bare, name="mixture", recipe="mixture", **SETTINGS)
    (table,) = counted(tmp_path)
    assert [line.cells[0].show() for line in table.rows] == ["better", "worse"]


@pytest.mark.parametrize(
    ("mixing", "truth"),
    [
        ({"kind": "pairs", "sources": 2, "fewest_sources": None}, TRUTH),  # settled: always as many
        ({"kind": "rooms", "sources": 2, "fewest_sources": 2}, TRUTH),
        (MIXING, {scene: LABELS[:2] for scene in TRUTH}),
    ],
)
def test_where_all_scenes_have_as_many_sources_there_is_no_such_table(tmp_path: Path, mixing: dict, truth: dict):
    put(tmp_path, named_scenes(truth, truth, {scene: 1.0 for scene in truth}), **{**SETTINGS, "task__mixing": mixing})
    assert counted(tmp_path) == [] and len(tables(tmp_path)) == 1


def test_released_scenes_are_counted_as_they_are(tmp_path: Path):
    put(tmp_path, named_scenes(TRUTH, TRUTH, gains()), **{**SETTINGS, "task__mixing": {"kind": "ready"}})
    assert len(counted(tmp_path)) == 1


def test_where_classes_repeat_sources_are_permuted_within_them(tmp_path: Path):
    truth = {scene: ("dog",) * len(own) for scene, own in TRUTH.items()}
    put(tmp_path, named_scenes(truth, truth, gains()), **SETTINGS)
    (table,) = counted(tmp_path)
    assert table.headings[4:7] == tuple(f"{n}: CAPI-SDRi, dB" for n in ("1 source", "2 sources", "3 sources"))
    assert table.rows[0].cells[6].value == pytest.approx(30, abs=1)


def test_every_format_shows_the_figures(tmp_path: Path):
    put(tmp_path, named_scenes(TRUTH, TRUTH, gains()), **SETTINGS)
    for form in ("terminal", "md", "csv", "latex"):
        written = render(counted(tmp_path), form, screen=False)
        assert "s5 by the number of sources" in written and "SYNTHETIC" in written and "1.0" in written


@pytest.mark.parametrize("asked", [True, False])
def test_precision_and_recall_of_sources_stand_where_a_task_asks_for_them(tmp_path: Path, asked: bool):
    metrics = [*SETTINGS["task__metrics"], *(["source_precision", "source_recall"] if asked else [])]
    named = {scene: LABELS[:2] for scene in TRUTH}
    put(tmp_path, named_scenes(TRUTH, named, gains()), **{**SETTINGS, "task__metrics": metrics})
    first, row = tables(tmp_path)[0], tables(tmp_path)[0].rows[0]
    found = {heading: row.cells[i].value for i, heading in enumerate(first.headings)}
    assert found["F sources"] == pytest.approx(2 * 50 / (80 + 60))
    assert found["Label sets right"] == 0.25
    shown = {heading: found[heading] for heading in ("Sources, precision", "Sources, recall") if heading in found}
    assert shown == (pytest.approx({"Sources, precision": 50 / 80, "Sources, recall": 50 / 60}) if asked else {})


# scene by scene


def test_what_is_truly_there_does_not_depend_on_what_was_named(tmp_path: Path):
    truth = {"a": ("dog", "dog", "siren"), "b": (), "c": ("rain",)}
    right = read_rows(put(tmp_path, named_scenes(truth, truth, {"a": 1.0, "c": 1.0})))
    wrong = read_rows(put(tmp_path, named_scenes(truth, {"a": ("dog",), "b": ("rain",), "c": ()}, {}), seed=1))
    there = {scene: {label: n for label, n in own.items() if n} for scene, own in sources_of(wrong, "test").items()}
    assert there == sources_of(right, "test") == {"a": {"dog": 2, "siren": 1}, "b": {}, "c": {"rain": 1}}


@pytest.mark.parametrize("side", ["truth", "answer"])
def test_scenes_are_compared_by_source_as_soon_as_a_label_repeats_among_sources_or_in_an_answer(tmp_path: Path, side: str):
    once, twice = {"a": ("dog",), "b": ()}, {"a": ("dog", "dog"), "b": ()}
    repeated = (twice, once) if side == "truth" else (once, twice)
    rows = [read_rows(put(tmp_path, named_scenes(*each, {"a": 1.0}), seed=i)) for i, each in enumerate([(once, once), repeated])]
    assert metric_for(rows[:1], "test") == "ca_sdri" and metric_for(rows, "test") == "capi_sdri"


def test_a_scene_whose_answer_repeats_a_label_stays_in_its_column(tmp_path: Path):
    named = {scene: own if scene != "s01" else ("dog", "dog") for scene, own in TRUTH.items()}
    put(tmp_path, named_scenes(TRUTH, named, gains()), **SETTINGS)
    (table,) = counted(tmp_path)
    assert table.headings[4] == "1 source: CAPI-SDRi, dB" and table.rows[0].cells[4].n == 10


def test_a_mean_over_some_scenes_knows_nothing_of_the_others():
    values = {f"s{i}": float(i) for i in range(20)}
    some = [f"s{i}" for i in range(5, 15)] + ["not scored"]
    alone, beside, none, one = means_over([(values, some), (values, values), (values, []), (values, ["s3"])])
    assert (alone, none) == (means_over([({scene: values[scene] for scene in some[:-1]}, some)])[0], None)
    assert alone.mean == 9.5 and alone.n == 10 and beside.mean == 9.5 and beside.n == 20
    assert beside.ci95[1] - beside.ci95[0] > alone.ci95[1] - alone.ci95[0] > 0
    assert one.mean == 3.0 and one.ci95 is None


def test_only_scenes_of_both_pair_and_what_would_not_be_printed_did_not_move():
    assert paired({"a": 1.0, "b": 2.0}, {"b": 5.0, "c": 9.0}) == {"b": 3.0}
    assert unmoved([0.004, -0.004], "ca_sdri") and not unmoved([0.0, 0.006], "ca_sdri")
    assert not unmoved([0.004], "label_set_accuracy")
