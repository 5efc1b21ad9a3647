"""The gate over recipes that were run on several tasks: each run is held against that of its own task."""

from __future__ import annotations

from pathlib import Path

import pytest

from made_up_runs import called, made_up, put
from sepbench.check import check
from sepbench.errors import UserError
from sepbench.results import read_runs
from sepbench.tolerances import FILE, read_tolerances

WORSE = made_up(shift={"si_sdri": -1.0})


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    """One recipe on two tasks, with options that say so, and a tolerance that is wider on one of them."""
    root = tmp_path / "reference"
    put(root)
    on_common(root)
    (root / FILE).write_text("default: {si_sdri: 0.3 dB}\nrecipes: {weak_label on common: {si_sdri: 2 dB}}")
    return root


def on_common(root: Path, rows: list | None = None, **settings: object) -> Path:
    return put(root, rows, changed={"task": "common"}, task__name="common", **settings)


def test_runs_of_two_tasks_never_pair_though_all_else_is_the_same(reference: Path, tmp_path: Path) -> None:
    put(tmp_path / "new")
    on_common(tmp_path / "new")
    outcome = check(tmp_path / "new", reference)
    tasks = [(pair.reference.config["task"]["name"], pair.result.config["task"]["name"]) for pair in outcome.pairs]
    assert sorted(tasks) == [("common", "common"), ("urban_events", "urban_events")]
    assert outcome.exit_code == 0 and not outcome.missing and not outcome.new


def test_a_run_of_another_task_stands_in_for_none(reference: Path, tmp_path: Path) -> None:
    put(tmp_path / "new")
    outcome = check(tmp_path / "new", reference)
    (missing,) = outcome.missing
    assert missing.reference.config["task"]["name"] == "common" and "task.name common and urban_events" in missing.why
    assert outcome.exit_code == 1


def test_a_run_on_a_task_that_is_not_frozen_is_new(reference: Path, tmp_path: Path) -> None:
    put(tmp_path / "new")
    on_common(tmp_path / "new")
    other = put(tmp_path / "new", task__name="esc_pairs")
    assert [run.path for run in check(tmp_path / "new", reference).new] == [other]
    assert check(tmp_path / "new", reference, no_new=True).exit_code == 1


@pytest.mark.parametrize(("task", "code"), [("common", 0), ("urban_events", 1), (None, 1)])
def test_a_tolerance_may_be_that_of_one_task(reference: Path, tmp_path: Path, task: str | None, code: int) -> None:
    put(tmp_path / "new", WORSE)
    on_common(tmp_path / "new", WORSE)
    assert check(tmp_path / "new", reference, task=task).exit_code == code


def test_one_task_alone_asks_for_no_run_of_another(reference: Path, tmp_path: Path) -> None:
    on_common(tmp_path / "new")
    assert called("check", tmp_path / "new", "--against", reference, "--task", "common", "--no-new") == 0
    assert called("check", tmp_path / "new", "--against", reference) == 1


@pytest.mark.parametrize(
    ("asked", "said"),
    [({"task": "comon"}, "Did you mean 'common'"), ({"task": "s5"}, "There is common, urban_events"),
     ({"task": "common", "only": ["redux"]}, "no finished run of redux on common")],
)  # fmt: skip
def test_a_task_of_which_there_is_no_run_is_told(reference: Path, tmp_path: Path, asked: dict, said: str) -> None:
    put(reference, recipe="redux")
    on_common(tmp_path / "new")
    with pytest.raises(UserError, match=said):
        check(tmp_path / "new", reference, **asked)


def test_a_tolerance_of_a_task_goes_before_that_of_its_recipe(tmp_path: Path) -> None:
    file = tmp_path / FILE
    file.write_text("default: {si_sdri: 1}\nrecipes: {redux: {si_sdri: 2, snri: 3}, redux on common: {si_sdri: null}}")
    found = read_tolerances(file, ["redux", "redux on common", "redux on s5"]).whole
    assert [found.of(name, "si_sdri") for name in ("mixture on s5", "redux on s5", "redux on common")] == [1.0, 2.0, None]
    assert found.of("redux on common", "snri") == 3.0
    file.write_text("recipes: {redux on comon: {si_sdri: 2}}")
    with pytest.raises(UserError, match="Did you mean 'redux on common'"):
        read_tolerances(file, ["redux", "redux on common"])


def test_runs_of_other_budgets_do_not_pair(reference: Path, tmp_path: Path) -> None:
    put(tmp_path / "new", budget={"scenes": 100})
    on_common(tmp_path / "new")
    outcome = check(tmp_path / "new", reference)
    assert "other budget (None against {'scenes': 100})" in outcome.missing[0].why
    assert len(outcome.pairs) == 1 and len(read_runs(tmp_path / "new")) == 2
