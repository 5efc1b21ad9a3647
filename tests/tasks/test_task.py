"""A task with its sounds: what each split draws on, and what is told before anything is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from sepbench.errors import UserError
from sepbench.tasks.settings import load_task
from sepbench.tasks.task import Task, build_task

CLASSES = ["dog", "siren"]
RATE_HZ = 8000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve recordings of two classes."""
    root = tmp_path_factory.mktemp("sounds")
    random = np.random.default_rng(0)
    for label in CLASSES:
        (root / label).mkdir()
        for take in range(12):
            noise = random.uniform(-0.3, 0.3, RATE_HZ + 80 * take)
            soundfile.write(root / label / f"{label}{take}.wav", noise, RATE_HZ)
    return root


@pytest.fixture(autouse=True)
def cache_elsewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEPBENCH_CACHE", str(tmp_path_factory.getbasetemp() / "task-cache"))


def config(**overrides: object) -> dict:
    own = {
        "corpus": "class_folders", "classes": CLASSES, "sample_rate_hz": RATE_HZ, "splits": {"by": "recording"},
        "scenes": {"valid": 3, "test": 4},
    }  # fmt: skip
    return load_task("urban_events", {**own, **overrides})


def task_of(folder: Path, **overrides: object) -> Task:
    return build_task(config(**overrides), {"class_folders": str(folder)})


def test_a_task_says_what_a_method_is_built_from(folder: Path):
    info = task_of(folder).info
    assert (info.classes, info.sample_rate_hz, info.n_channels, info.max_sources, info.seconds) == (
        ("dog", "siren"), RATE_HZ, 1, 2, 4.0,
    )  # fmt: skip


def test_each_split_draws_on_its_own_clips_and_seen_on_those_of_training(folder: Path):
    task = task_of(folder, scenes={"seen": 2})
    splits = ("train", "valid", "test", "seen")
    train, valid, test, seen = (set(task.planner(split, 0).plan(0, 200).clip.tolist()) for split in splits)
    assert seen == train == set(task.members["train"])
    assert not train & valid and not train & test and not valid & test


def test_seen_scenes_are_not_those_of_training(folder: Path):
    task = task_of(folder, scenes={"seen": 2})
    train, seen = task.isolated("train", 0).scene(0), task.isolated("seen", 0).scene(0)
    assert train.mixture.id != seen.mixture.id and not torch.equal(train.mixture.audio, seen.mixture.audio)


def test_only_splits_with_scenes_are_scored(folder: Path):
    assert task_of(folder).scored == ["test"]
    assert task_of(folder, scenes={"seen": 2}).scored == ["test", "seen"]


def test_scored_scenes_are_the_same_for_every_run(folder: Path):
    scenes = [task_of(folder).scene("test", 2).mixture for _ in range(2)]
    assert torch.equal(scenes[0].audio, scenes[1].audio) and scenes[0].id == scenes[1].id
    other = task_of(folder, scenes={"seed": 1}).scene("test", 2).mixture
    assert not torch.equal(other.audio, scenes[0].audio) and other.id != scenes[0].id


def test_the_test_rate_is_that_of_the_tests_alone(folder: Path):
    task = task_of(folder, mixing={"rate": 2.0, "test_rate": 9.0})
    rates = {split: task.planner(split, 0).settings.rate for split in ("train", "valid", "test", "seen")}
    assert rates == {"train": 2.0, "valid": 2.0, "test": 9.0, "seen": 9.0}
    assert {task_of(folder).planner(split, 0).settings.rate for split in rates} == {5.0}


def test_clip_labels_hide_times_and_frame_labels_do_not(folder: Path):
    task = task_of(folder)
    clip, frame = (task.weak("train", 0, seen).batch(0, 8) for seen in ("clip", "frame"))
    assert torch.equal(clip.mixture, frame.mixture)
    assert set(clip.events.on_s) == {0.0} and set(clip.events.off_s) == {4.0}
    assert len(set(frame.events.on_s)) > 8


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"mixing": {"rate": 0.0}}, "lambda is 0.0"),
        ({"mixing": {"kind": "shaken"}}, "task.mixing.kind is 'shaken'; wanted infinite, overlap, pairs, poisson or rooms"),
        ({"splits": {"by": "fold", "train": [98], "valid": [97], "test": [99]}}, r"has folds.*--split recording"),
        ({"classes": ["dog", "cat"]}, "cat"),
    ],
)
def test_what_does_not_fit_is_told_before_training(folder: Path, overrides: dict, message: str):
    with pytest.raises(UserError, match=message) as told:
        task_of(folder, **overrides)
    assert "\n" not in str(told.value)


def test_a_test_rate_that_is_no_rate_is_told_before_training(folder: Path):
    with pytest.raises(UserError, match="lambda is -1"):
        task_of(folder, mixing={"test_rate": -1.0})


@pytest.fixture
def streets(tmp_path: Path) -> Path:
    """UrbanSound8K's layout: of either class eight recordings in the foreground, eight in the background."""
    random = np.random.default_rng(0)
    rows = ["slice_file_name,fsID,start,end,salience,fold,classID,class"]
    (tmp_path / "audio" / "fold1").mkdir(parents=True)
    for number in range(32):
        label, salience = ("dog_bark", "siren")[number % 2], 1 + number // 16
        name = f"{number}-{number % 2}-0-0.wav"
        rows.append(f"{name},{number},0,0.25,{salience},1,{number % 2},{label}")
        noise = random.uniform(-0.3, 0.3, RATE_HZ // 4)
        soundfile.write(tmp_path / "audio" / "fold1" / name, noise, RATE_HZ)
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "UrbanSound8K.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


@pytest.mark.parametrize(("only", "saliences"), [(True, {1}), (False, {1, 2})])
def test_clips_in_the_background_are_left_out_where_the_task_says_so(streets: Path, only: bool, saliences: set[int]):
    changed = {"corpus": "urbansound8k", "classes": ["dog_bark", "siren"], "foreground_only": only}
    task = build_task(config(**changed), {"urbansound8k": str(streets)})
    assert {1 if clip.foreground else 2 for clip in task.cache.clips} == saliences
    assert len(task.cache.clips) == 16 * len(saliences)
    drawn = {i for split in ("train", "test") for i in task.planner(split, 0).plan(0, 300).clip.tolist()}
    assert {1 if int(task.cache.clips[i].recording) < 16 else 2 for i in drawn} == saliences


def test_the_background_of_urbansound8k_is_left_out_too(shared: Path):
    two = ["car_horn", "siren"]
    both = [
        build_task(
            load_task("urban_events", {"foreground_only": only, "splits": {"by": "recording"}, "classes": two}),
            {"urbansound8k": str(shared / "data" / "UrbanSound8K")},
        ).cache.clips
        for only in (True, False)
    ]
    assert all(clip.foreground for clip in both[0])
    assert len(both[0]) == sum(clip.foreground for clip in both[1]) < len(both[1])


def test_sources_of_a_built_task_sum_to_the_mixture(folder: Path):
    scene = task_of(folder, mixing={"rate": 8.0}).scene("test", 0)
    assert {source.label for source in scene.sources} == set(CLASSES)
    assert (sum(source.audio for source in scene.sources) - scene.mixture.audio[0]).abs().max() < 1e-6
