"""Settings of the task s5 that are of a wrong kind or beyond all rooms: one line each, before a clip is decoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from sepbench.errors import UserError
from sepbench.tasks import load_task, settled, task
from sepbench.tasks.task import build_task

TARGETS = ["cat", "dog"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("sounds")
    for i, name in enumerate([*TARGETS, "rain"]):
        path = root / name / "one" / "0.wav"
        path.parent.mkdir(parents=True)
        soundfile.write(path, np.random.default_rng(i).uniform(-0.3, 0.3, 4000), 8000)
    return root


def refused(folder: Path, mixing: dict[str, Any], **over: Any) -> str:
    own = {"corpus": "class_folders", "classes": TARGETS, "sample_rate_hz": 8000, "seconds": 0.5}
    config = settled(load_task("s5", {**own, "mixing": {"sources": 2, **mixing}, **over}))
    with pytest.raises(UserError) as told:
        build_task(config, {"class_folders": str(folder)})
    assert "\n" not in str(told.value)
    return str(told.value)


def no_cache(*_: object, **__: object) -> None:
    raise AssertionError("the cache was opened")


@pytest.mark.parametrize(
    ("mixing", "words"),
    [
        ({"rooms": None}, "task.mixing.rooms is null; wanted how many each split has, such as {train: 60"),
        ({"rooms": 7}, "task.mixing.rooms is 7; wanted how many each split has"),
        ({"noise": 7}, "task.mixing.noise is 7; wanted a folder of wav files, or null"),
        ({"noise": True}, "task.mixing.noise is true; wanted a folder"),
        ({"room_ir": 7}, "task.mixing.room_ir is 7; wanted a folder of SOFA files, or null"),
        ({"target_level_db": [5.0, 61.0]}, "target_level_db is [5.0, 61.0]; wanted 60 dB above the noise at most"),
        ({"interference_level_db": [0.0, 1e6]}, "interference_level_db is [0.0, 1000000.0]; wanted 60 dB"),
        ({"noise_dbfs": -121.0}, "task.mixing.noise_dbfs is -121.0; wanted a number from -120 to 0"),
        ({"noise_dbfs": 1.0}, "wanted a number from -120 to 0"),
        ({"room_m": [3.0, 31.0]}, "task.mixing.room_m is [3.0, 31.0]; wanted 30 at most"),
        ({"rt60_s": [0.2, 3.1]}, "task.mixing.rt60_s is [0.2, 3.1]; wanted 3 at most"),
        ({"interference_classes": []}, "task.mixing.interference_classes is [], an empty list. List one"),
        ({"interference_classes": ["dog"]}, "task.mixing.interference_classes: 'dog' is a target"),
        ({"interference_classes": "rain"}, "task.mixing.interference_classes is rain; wanted a list of classes"),
        ({"interference_classes": 7}, "task.mixing.interference_classes is 7; wanted a list of classes"),
    ],
)
def test_wrong_settings_are_told_before_a_clip_is_decoded(monkeypatch, folder: Path, mixing: dict, words: str):
    monkeypatch.setattr(task, "open_cache", no_cache)
    assert words in refused(folder, mixing)


@pytest.mark.parametrize(("n", "shown"), [(0, "0"), (-1, "-1"), (None, "null"), (True, "true")])
def test_training_wants_scenes_to_choose_an_epoch_by(monkeypatch, folder: Path, n: Any, shown: str):
    monkeypatch.setattr(task, "open_cache", no_cache)
    line = refused(folder, {}, scenes={"valid": n})
    assert line == f"task.scenes.valid is {shown}; wanted a whole number from 1, to choose an epoch by."


def test_an_empty_list_is_as_good_as_any_where_nothing_interferes(monkeypatch, folder: Path):
    monkeypatch.setattr(task, "open_cache", no_cache)
    own = {"corpus": "class_folders", "classes": TARGETS, "sample_rate_hz": 8000, "seconds": 0.5}
    mixing = {"sources": 2, "interference": [0, 0], "interference_classes": []}
    config = settled(load_task("s5", {**own, "mixing": mixing}))
    with pytest.raises(AssertionError, match="the cache was opened"):
        build_task(config, {"class_folders": str(folder)})
