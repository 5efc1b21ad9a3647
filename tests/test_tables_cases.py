"""Case by case: how often each occurred, what it gained over the same networks, and who may stand as partner."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sepbench.tables_cases
from made_up_runs import named_scenes, put
from sepbench.results import read_runs
from sepbench.statistics import bootstrap_ci
from sepbench.tables import Cell, Table, make_tables, render
from test_tables_counts import LABELS, SETTINGS

ROUNDS = {"I": 1, "II": 2, "IV": 2}
GAIN = {"I": 0.0, "II": 3.0, "IV": 0.0}  # of IV: now better, now worse
SCENES = [f"s{i:02}" for i in range(60)]
TRUTH = {scene: LABELS[: 1 + i % 3] for i, scene in enumerate(SCENES)}
CASE = {scene: "II" if i % 6 == 0 else "IV" if i % 6 == 1 else "I" for i, scene in enumerate(SCENES)}
BEFORE = {scene: 5.0 + np.sin(i) for i, scene in enumerate(SCENES)}
AFTER = {scene: BEFORE[scene] + (GAIN[CASE[scene]] if CASE[scene] != "IV" else (-1.0) ** (i // 6))
         for i, scene in enumerate(SCENES)}  # fmt: skip


def heard(scene: str, strategy: str) -> list[dict[str, Any]]:
    mixture = {"labels": list(TRUTH[scene]), "probabilities": [0.9] * len(TRUTH[scene])}
    if strategy == "none":
        return [{"round": 1, "case": "none", "mixture": mixture}]
    return [{"round": k, "case": CASE[scene], "mixture": mixture} for k in range(1, ROUNDS[CASE[scene]] + 1)]


def wrong(which: str) -> dict[str, tuple[str, ...]]:
    return {scene: TRUTH[scene] if CASE[scene] != which else LABELS for scene in SCENES}


def answered(
    root: Path, strategy: str, weights: str | None = "w1", named: Mapping[str, Any] = TRUTH, tell: bool = True,
    gain: Mapping[str, float] | None = None, decisions: Mapping[str, Any] | None = None, **settings: Any,
) -> Path:  # fmt: skip
    """A run of a method with a strategy, or of the same without."""
    told = {scene: heard(scene, strategy) for scene in SCENES} if decisions is None else decisions
    rows = named_scenes(TRUTH, named, (BEFORE if strategy == "none" else AFTER) if gain is None else gain)
    options = {"strategy": strategy, **settings.pop("options", {})}
    return put(root, rows, options=options, changed=options, decisions=told if tell else None, weights_hash=weights,
               recipe="checks", name="Checks", **{**SETTINGS, **settings})  # fmt: skip


def cases(root: Path) -> list[Table]:
    return [table for table in make_tables(read_runs(root), None) if "case by case" in table.title]


def column(table: Table, heading: str) -> dict[str, Cell]:
    return {line.cells[0].show(): line.cells[table.headings.index(heading)] for line in table.rows}


def test_each_case_says_how_often_it_occurred_and_what_it_gained(tmp_path: Path):
    answered(tmp_path, "none", named=wrong("II"))
    answered(tmp_path, "redux")
    (table,) = cases(tmp_path)
    assert table.title == "Checks (strategy=redux), case by case: s5 on SYNTHETIC sounds, test"
    assert {case: cell.value for case, cell in column(table, "Scenes").items()} == {"I": 40, "II": 10, "IV": 10, "all": 60}
    assert {case: cell.value for case, cell in column(table, "Share").items()} == pytest.approx(
        {"I": 2 / 3, "II": 1 / 6, "IV": 1 / 6, "all": 1.0}
    )
    assert {case: cell.value for case, cell in column(table, "Rounds").items()} == pytest.approx(
        {"I": 1, "II": 2, "IV": 2, "all": 80 / 60}
    )
    for case, gain in column(table, "CA-SDRi, dB gained").items():
        own = [scene for scene in SCENES if case in (CASE[scene], "all")]
        shift = np.array([AFTER[scene] - BEFORE[scene] for scene in own])
        assert gain.value == pytest.approx(shift.mean()) and gain.n == len(own)
        assert gain.ci == pytest.approx(bootstrap_ci(shift, np.ones(len(own)), np.arange(len(own))), abs=1e-5)
        sides = [column(table, f"CA-SDRi, dB {side}")[case].value for side in ("without", "with")]
        assert sides == pytest.approx([np.mean([each[scene] for scene in own]) for each in (BEFORE, AFTER)])
    right = [column(table, f"Label sets right {side}") for side in ("without", "with", "gained")]
    n_wrong = sum(CASE[scene] == "II" and TRUTH[scene] != LABELS for scene in SCENES)
    assert [each["all"].value for each in right] == pytest.approx([1 - n_wrong / 60, 1.0, n_wrong / 60])


def test_what_the_scenes_cannot_tell_is_said_in_words(tmp_path: Path):
    answered(tmp_path, "none")
    answered(tmp_path, "redux")
    (table,) = cases(tmp_path)
    gains = {case: cell.show() for case, cell in column(table, "CA-SDRi, dB gained").items()}
    assert gains["I"] == "0.00 [0.00, 0.00]: the same in every scene"
    assert gains["II"] == "3.00 [3.00, 3.00]"
    assert gains["IV"].endswith(": not separable") and gains["IV"].startswith("0.00 [-0")
    assert column(table, "CA-SDRi, dB gained")["IV"].value == pytest.approx(0.0)  # the CSV keeps the figure


@pytest.mark.parametrize(
    "partner",
    [
        {"weights": "w2"},  # other networks
        {"weights": None},
        {"tell": False},  # nobody knows whether it checks anything
        {"facts": {"scenes_hash": {"test": "others"}}},  # other scenes
        {"inner": {"run": "results/another", "weights": "v2"}},  # another method wrapped
    ],
)
def test_without_a_partner_no_gain_is_claimed(tmp_path: Path, partner: dict[str, Any]):
    answered(tmp_path, "none", **partner)
    answered(tmp_path, "redux", **({"inner": {"run": "results/one", "weights": "v1"}} if "inner" in partner else {}))
    (table,) = cases(tmp_path)
    figures = [heading for heading in table.headings if heading.endswith(("without", "with", "gained"))]
    assert figures == ["CA-SDRi, dB with", "Label sets right with"]
    assert column(table, "CA-SDRi, dB with")["all"].value == pytest.approx(np.mean(list(AFTER.values())))
    assert "not known" in table.notes[-1]


def test_networks_that_are_those_of_the_wrapped_method_are_the_same_networks(tmp_path: Path):
    for strategy in ("none", "redux"):
        answered(tmp_path, strategy, weights=None, inner={"run": "results/one", "weights": "v1"})
    assert "CA-SDRi, dB gained" in cases(tmp_path)[0].headings


def test_of_several_partners_the_one_that_differs_least_is_taken(tmp_path: Path):
    near = answered(tmp_path, "none", options={"drop": "next"})
    answered(tmp_path, "none", options={"drop": "last"}, gain=AFTER)
    answered(tmp_path, "redux", options={"drop": "next"})
    (table,) = cases(tmp_path)
    assert f"Without: {near.name}." in table.notes
    assert column(table, "CA-SDRi, dB gained")["II"].value == pytest.approx(3.0)


@pytest.mark.parametrize("began_alike", [True, False])
def test_a_partner_that_differs_in_more_must_have_begun_with_the_same_labels(tmp_path: Path, began_alike: bool):
    told = {scene: heard(scene, "none") for scene in SCENES}
    if not began_alike:
        told["s07"][0]["mixture"]["labels"] = ["siren"]
    answered(tmp_path, "none", options={"threshold": 0.5}, decisions=told)
    answered(tmp_path, "redux", options={"threshold": 0.4})
    (table,) = cases(tmp_path)
    assert ("CA-SDRi, dB gained" in table.headings) == began_alike


def test_scenes_without_a_figure_on_one_side_do_not_pair(tmp_path: Path):
    answered(tmp_path, "none", gain={scene: BEFORE[scene] for scene in SCENES[6:]})
    answered(tmp_path, "redux")
    (table,) = cases(tmp_path)
    assert column(table, "Scenes")["all"].value == 60
    for side in ("without", "with", "gained"):
        assert column(table, f"CA-SDRi, dB {side}")["all"].n == 54


def test_any_word_may_be_a_case(tmp_path: Path):
    told = {scene: [{"case": "yes" if i % 2 else "no"}] for i, scene in enumerate(SCENES)}
    answered(tmp_path, "redux", decisions=told)
    assert list(column(cases(tmp_path)[0], "Scenes")) == ["no", "yes", "all"]


def test_runs_that_decide_nothing_have_no_such_table_and_are_not_read_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    answered(tmp_path, "none", tell=False)

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(sepbench.tables_cases, "read_decisions", never)
    assert cases(tmp_path) == []


def test_a_run_that_checks_nothing_has_no_table_of_cases(tmp_path: Path):
    answered(tmp_path, "none")
    assert cases(tmp_path) == []


def test_every_format_shows_every_case(tmp_path: Path):
    answered(tmp_path, "none")
    answered(tmp_path, "redux")
    for form in ("terminal", "md", "latex"):
        written = render(cases(tmp_path), form, screen=False)
        assert all(word in written for word in ("SYNTHETIC", "II", "IV", "not separable", "3.00 [3.00, 3.00]"))
    lines = render(cases(tmp_path), "csv").splitlines()
    assert sum(',"CA-SDRi, dB gained",' in line for line in lines) == 4


def test_a_scenes_case_is_that_of_its_first_round(tmp_path: Path):
    told = {scene: [{"round": 1, "case": "II"}, {"round": 2, "case": "I"}] for scene in SCENES}
    answered(tmp_path, "redux", decisions=told)
    assert list(column(cases(tmp_path)[0], "Scenes")) == ["II", "all"]


def test_a_partner_need_not_have_ended_with_the_same_labels(tmp_path: Path):
    answered(tmp_path, "none", options={"threshold": 0.5})
    told = {scene: [*heard(scene, "redux"), {"round": 3, "case": "I", "mixture": {"labels": ["siren"]}}] for scene in SCENES}
    answered(tmp_path, "redux", options={"threshold": 0.4}, decisions=told)
    assert "CA-SDRi, dB gained" in cases(tmp_path)[0].headings


def test_a_partner_that_repeats_a_label_is_compared_by_source_in_every_scene(tmp_path: Path):
    named = {**TRUTH, "s00": ("dog", "dog")}
    answered(tmp_path, "none", named=named)
    answered(tmp_path, "redux")
    assert column(cases(tmp_path)[0], "CAPI-SDRi, dB gained")["all"].n == 60
