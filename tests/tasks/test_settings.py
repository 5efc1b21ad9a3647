"""A task is one YAML file; what is laid over it must already be in it."""

from __future__ import annotations

import pytest

from sepbench.errors import UserError
from sepbench.tasks.settings import known_tasks, load_task


def test_the_tasks_that_are_there_load():
    assert "urban_events" in known_tasks()
    for name in known_tasks():
        assert load_task(name, {})["name"] == name


def test_overrides_reach_inside_and_leave_the_rest():
    plain = load_task("urban_events", {})
    changed = load_task("urban_events", {"mixing": {"rate": 10.0}, "scenes": {"test": 7}})
    assert changed["mixing"] == {**plain["mixing"], "rate": 10.0}
    assert changed["scenes"] == {**plain["scenes"], "test": 7}
    assert {key: changed[key] for key in changed if key not in ("mixing", "scenes")} == {
        key: plain[key] for key in plain if key not in ("mixing", "scenes")
    }


def test_a_list_is_replaced_whole():
    assert load_task("urban_events", {"splits": {"train": [1]}})["splits"]["train"] == [1]


def test_no_two_callers_share_a_task():
    load_task("urban_events", {})["splits"]["train"].append(11)
    assert 11 not in load_task("urban_events", {})["splits"]["train"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"mixing": {"rat": 5}}, r"task\.mixing\.rat: no such setting.*rate"),
        ({"second": 5}, r"task\.second: no such setting.*seconds"),
    ],
)
def test_a_misspelt_setting_is_told_with_the_nearest(overrides: dict, message: str):
    with pytest.raises(UserError, match=message) as told:
        load_task("urban_events", overrides)
    assert "\n" not in str(told.value)


def test_a_misspelt_task_is_told_with_the_nearest():
    with pytest.raises(UserError, match="urban_event.*urban_events"):
        load_task("urban_event", {})
