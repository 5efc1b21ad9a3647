"""The task of targets in a room: what it asks, which classes and rooms serve what, and what the command line makes of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from sepbench.cli import main
from sepbench.errors import UserError
from sepbench.judge import judge
from sepbench.progress import PlainProgress
from sepbench.recipe import load_recipe
from sepbench.results import read_rows, read_runs
from sepbench.scene import Estimate
from sepbench.tasks import load_task, settled
from sepbench.tasks.task import Task, build_task, open_clips

REPO = Path(__file__).resolve().parents[2]
ALL = [file.parent for folder in ("baselines", "recipes") for file in sorted((REPO / folder).glob("*/recipe.yaml"))]
BASELINES = ("ideal_mask", "mixture", "mixture_cnn", "random_guess")
RATE_HZ = 8000
QUIET = PlainProgress(open(os.devnull, "w"))  # noqa: SIM115
FEW_ROOMS = {"rooms": {"train": 2, "valid": 1, "test": 1}, "positions": 5, "room_m": [3.0, 4.0], "rt60_s": [0.2, 0.2]}
TARGETS = ["cat", "dog", "hen"]


def config(mixing: dict[str, Any] | None = None, **overrides: Any) -> dict[str, Any]:
    own: dict[str, Any] = {
        "corpus": "class_folders", "classes": TARGETS, "sample_rate_hz": RATE_HZ, "seconds": 0.5,
        "mixing": {**FEW_ROOMS, **(mixing or {})}, "scenes": {"valid": 4, "test": 12},
    }  # fmt: skip
    return settled(load_task("s5", {**own, **overrides}))


@pytest.fixture(scope="module", autouse=True)
def one_cache(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("SEPBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Eight recordings each of three animals, of rain and of wind: bands of noise."""
    root = tmp_path_factory.mktemp("sounds")
    for name in (*TARGETS, "rain", "wind"):
        for i in range(8):
            path = root / name / f"{name}{i}" / "0.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng([i, len(name), ord(name[0])]).uniform(-0.3, 0.3, 3000 + 300 * i)
            soundfile.write(path, noise, RATE_HZ)
    return root


def built(folder: Path, mixing: dict[str, Any] | None = None, **overrides: Any) -> Task:
    return build_task(config(mixing, **overrides), {"class_folders": str(folder)})


@pytest.fixture(scope="module")
def task(folder: Path) -> Task:
    return built(folder)


# what it is


def test_the_task_is_up_to_three_targets_of_ten_seconds_in_four_channels():
    asked = load_task("s5", {})
    assert (asked["corpus"], asked["seconds"], asked["sample_rate_hz"]) == ("esc50+urbansound8k", 10.0, 32000)
    assert (len(asked["classes"]), asked["mixing"]["space"], asked["splits"]["by"]) == (13, "foa", "recording")
    assert (asked["mixing"]["target_level_db"], asked["mixing"]["interference_level_db"]) == ([5, 20], [0, 15])


def test_a_method_is_told_of_targets_alone(task: Task, folder: Path):
    info = task.info
    assert info.classes == tuple(TARGETS) and (info.n_channels, info.min_sources, info.max_sources) == (4, 1, 3)
    other = built(folder, {"space": "mono", "same_class": True, "fewest_sources": 0}).info
    assert (other.n_channels, other.min_sources, other.classes_repeat, info.classes_repeat) == (1, 0, True, False)
    assert built(folder, {"fewest_sources": None, "sources": 2}).info.min_sources == 2


def test_a_source_alone_is_scored_since_noise_is_in_its_mixture(task: Task):
    assert task.config["minimum_active"] == 1
    assert settled(load_task("universal_pairs", {"mixing": {"fewest_sources": 1}}))["minimum_active"] == 2


def test_interference_is_of_all_other_classes_or_of_those_listed(task: Task, folder: Path):
    assert task.planner("test", 0).others == ("rain", "wind")
    listed = built(folder, {"interference_classes": ["wind"], "interference": [1, 1]})
    assert listed.planner("test", 0).others == ("wind",)
    assert {clip.label for clip in listed.cache.clips} == {*TARGETS, "wind"}
    none = built(folder, {"interference": [0, 0]}, classes=[*TARGETS, "rain", "wind"])
    assert none.planner("test", 0).others == ()


def test_a_target_under_another_name_is_no_interference():
    labels = {clip.label for clip in open_clips(settled(load_task("s5", {"corpus": "synthetic"})), {})[1]}
    assert "dog" in labels and "jackhammer" in labels and "dog_bark" not in labels


def test_without_a_list_the_targets_are_all_that_is_no_interference(folder: Path):
    assert built(folder, {"interference_classes": ["rain", "wind"]}, classes=None).info.classes == tuple(TARGETS)


def test_splits_share_neither_recording_nor_room(task: Task):
    train, valid, test = (set(task.recordings(split)) for split in ("train", "valid", "test"))
    assert train and valid and test and not (train & valid or train & test or valid & test)
    assert {clip.label for i in task.members["test"] for clip in [task.cache.clips[i]]} == {*TARGETS, "rain", "wind"}
    rooms = [task.planner(split, 0).rooms for split in ("train", "valid", "test")]
    assert len({each.folder for each in rooms}) == 3
    assert all((each.folder / "00000.npy").is_file() for each in rooms)  # made before anything is trained


def test_new_scenes_of_the_training_clips_are_in_the_rooms_of_the_training(folder: Path):
    task = built(folder, scenes={"valid": 4, "test": 4, "seen": 4})
    assert task.planner("seen", 0).rooms.folder == task.planner("train", 0).rooms.folder
    assert task.scenes_hash("seen") != task.scenes_hash("test")


def test_rooms_follow_the_seed_of_the_scenes_and_training_scenes_that_of_the_run(task: Task):
    one, two = task.planner("train", 0), task.planner("train", 1)
    assert one.rooms.folder == two.rooms.folder and one.id != two.id


def test_the_name_of_the_scenes_tells_the_rooms(task: Task, folder: Path):
    others = [{"rt60_s": [0.2, 0.21]}, {"rooms": {"train": 2, "valid": 1, "test": 2}}, {"early_ms": [6.0, 40.0]}]
    names = {task.scenes_hash("test"), *(built(folder, each).scenes_hash("test") for each in others)}
    assert len(names) == 4
    more = {"rooms": {"train": 3, "valid": 1, "test": 1}}
    assert built(folder, more).scenes_hash("test") == task.scenes_hash("test")


def test_training_gets_four_channels_and_single_targets_one(task: Task):
    weak, whole = task.weak("train", 0, "clip").batch(0, 3), task.isolated("train", 0).batch(0, 3)
    assert weak.mixture.shape == (3, 4, 4000) and torch.equal(weak.mixture, whole.mixture)
    assert weak.events.presence().shape == (3, 3) and not hasattr(weak, "sources")
    single = task.clips("train", 0).batch(0, 3)
    assert single.mixture.shape == (3, 4000) and torch.equal(single.reference, single.sources[:, 0])


# how it is judged


def judged(task: Task, index: int, estimate: Estimate) -> dict[str, float]:
    scene = task.scene("test", index)
    rows = judge(scene, estimate, task.info.classes, task.config["metrics"], "run", "test", 1)
    return {row.metric: row.value for row in rows}


def test_the_truth_has_every_label_right_and_the_mixture_improves_nothing(task: Task):
    for index in range(4):
        scene = task.scene("test", index)
        labels = tuple(source.label for source in scene.sources)
        right = judged(task, index, Estimate(torch.stack([source.audio for source in scene.sources]), labels))
        assert right["label_set_accuracy"] == 1 and right["ca_sdri"] > 30
        floor = judged(task, index, Estimate(scene.mixture.audio[:1].expand(len(labels), -1), labels))
        assert floor["ca_sdri"] == pytest.approx(0, abs=1e-4)


def test_a_scene_without_targets_is_answered_with_nothing(folder: Path):
    task = built(folder, {"sources": 1, "fewest_sources": 0})
    empty = next(i for i in range(12) if not task.scene("test", i).sources)
    assert judged(task, empty, Estimate(torch.zeros(0, 4000), ()))["label_set_accuracy"] == 1
    one = judged(task, empty, Estimate(torch.ones(1, 4000), ("cat",)))
    assert one["label_set_accuracy"] == 0 and one["source_fp"] == 1


# the command line


@pytest.mark.parametrize("profile", ["quick", "small", "paper"])
def test_all_are_scored_on_the_same_scenes(profile: str):
    scored = {}
    for path in ALL:
        recipe = load_recipe(path)
        if "s5" in (recipe.own_task, *recipe.other_tasks):
            scored[path.name] = recipe.on("s5").resolve(profile)[0]["task"]
            scored[path.name]["scenes"].pop("valid")  # how many a method is chosen on is its own business
    assert scored.keys() >= {*BASELINES}
    assert all(each == scored["mixture"] for each in scored.values()), scored


@pytest.mark.parametrize("name", ["mixture", "ideal_mask", "mixture_cnn"])
def test_baselines_run_on_it(folder: Path, tmp_path: Path, name: str):
    few = {
        "classes": "[cat,dog,hen]", "sample_rate_hz": 8000, "seconds": 0.5, "mixing.interference_classes": "[rain,wind]",
        "mixing.rooms.train": 1, "mixing.rooms.valid": 1, "mixing.rooms.test": 1, "mixing.positions": 5,
        "mixing.room_m": "[3.0,4.0]", "mixing.rt60_s": "[0.2,0.2]", "scenes.valid": 4, "scenes.test": 12,
    }  # fmt: skip
    sets = [part for key, value in few.items() for part in ("--set", f"task.{key}={value}")]
    if name == "mixture_cnn":
        sets += ["--set", "train.classifier.epochs=1", "--set", "train.classifier.steps=2", "--set", "train.classifier.batch=4"]
        sets += ["--set", "sizes.channels=[4,4,4,4]"]
    sets += ["--sources", "2"]  # of three classes: with three sources there would be a place for each class
    where = ["--corpus", "class_folders", "--data", f"class_folders={folder}", "--results", str(tmp_path)]
    main(["run", str(REPO / "baselines" / name), "--profile", "quick", "--task", "s5", *where, *sets], standalone_mode=False)
    (run,) = read_runs(tmp_path)
    rows = read_rows(run.path)
    improvement = rows["value"][rows["metric"] == "si_sdri"]
    right = rows["value"][rows["metric"] == "label_set_accuracy"]
    if name == "mixture":
        assert len(improvement) > 10 and set(improvement) == {0.0}
    if name == "ideal_mask":
        assert improvement.mean() > 3 and right.mean() == 1
    if name == "mixture_cnn":
        assert len(right) == 12


@pytest.mark.parametrize(
    ("mixing", "overrides", "message"),
    [
        ({"sources": 4}, {}, "sources is 4, all of different classes; the task has 3"),
        ({"interference": 2}, {}, r"interference is 2; wanted two numbers"),
        ({"interference_classes": ["dog"]}, {}, "'dog' is a target"),
        ({"interference_classes": ["rian"]}, {}, "no clips of class 'rian'.*rain"),
        ({}, {"classes": ["cat", "dgo"]}, "no clips of class 'dgo'.*dog"),
        ({"room_ir": "nowhere"}, {}, "SOFA file missing: 'nowhere/train'"),
        ({"noise": "nowhere"}, {}, "Noise missing: 'nowhere/train'"),
        ({"rt60_s": [0.1, 0.1], "room_m": [10.0, 10.0]}, {}, "no walls give"),
        ({"rooms": {"train": 0, "valid": 1, "test": 1}}, {}, "task.mixing.rooms: 0"),
        ({}, {"classes": None, "splits": {"shares": [0.5, 0.2, 0.3]}}, "every class of the corpus is a target"),
    ],
)
def test_what_does_not_fit_is_told_in_a_line_before_training(folder: Path, mixing: dict, overrides: dict, message: str):
    with pytest.raises(UserError, match=message) as told:
        built(folder, mixing, **overrides)
    assert "\n" not in str(told.value)
