"""The task of two sounds: protocols, sets of classes, numbers of sources; and settings that nobody would read are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from sepbench.errors import UserError
from sepbench.recipe import load_recipe
from sepbench.tasks import load_task, settled
from sepbench.tasks.class_sets import CLASS_SETS, ESC10, ESC50
from sepbench.tasks.task import Task, build_task

REPO = Path(__file__).resolve().parents[2]
RECIPES = ["recipes/sepclsnet", "recipes/nmf_svm", "baselines/mixture_cnn", "baselines/random_guess"]
PAD = {"mixing": {"short_clips": "pad"}}


def task_of(classes: list[str], **overrides) -> Task:
    over = {"corpus": "synthetic", "classes": classes, "scenes": {"valid": 4, "test": 4}, **PAD, **overrides}
    return build_task(settled(load_task("esc_pairs", over)), {})


@pytest.fixture(scope="module", autouse=True)
def one_cache(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("SEPBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def pair() -> Task:
    return task_of(["dog", "sneezing", "rooster"])


@pytest.fixture(scope="module")
def shared_pool() -> Task:
    return task_of(["dog", "sneezing", "rooster"], splits={"protocol": "shared_pool"})


def test_esc_10_is_a_part_of_esc_50():
    assert len(ESC10) == len(set(ESC10)) == 10 and len(ESC50) == len(set(ESC50)) == 50 and set(ESC10) < set(ESC50)


def test_a_scene_holds_two_sounds_of_different_classes_for_three_seconds(pair):
    info, batch = pair.info, pair.isolated("train", 0).batch(0, 16)
    assert (info.min_sources, info.max_sources, info.seconds, info.sample_rate_hz) == (2, 2, 3.0, 16000)
    assert batch.sources.shape == (16, 2, 48000)
    assert all(one != other for one, other in batch.labels.tolist() if min(one, other) >= 0)


def test_disjoint_splits_share_no_recording(pair):
    train, valid, test = (set(pair.recordings(split)) for split in ("train", "valid", "test"))
    assert train and valid and test and not (train & valid or train & test or valid & test)


def test_in_a_shared_pool_every_clip_serves_all_and_no_scene_comes_twice(shared_pool):
    assert shared_pool.members["train"] == shared_pool.members["valid"] == shared_pool.members["test"]
    assert len(shared_pool.members["test"]) == len(shared_pool.cache.clips)
    mixtures = [shared_pool.isolated(split, 0).batch(0, 4).mixture for split in ("train", "valid", "test")]
    for i, one in enumerate(mixtures):
        for other in mixtures[i + 1 :]:
            assert not any((scene == another).all() for scene in one for another in other)


def test_a_shared_pool_scores_no_seen_scenes_since_its_test_is_that():
    task = settled({**load_task("esc_pairs", {"splits": {"protocol": "shared_pool"}, "scenes": {"seen": 9}})})
    assert task["scenes"]["seen"] == 0
    assert settled(load_task("esc_pairs", {"scenes": {"seen": 9}}))["scenes"]["seen"] == 9


def test_a_pool_can_be_of_some_folds():
    task = task_of(["dog", "sneezing"], splits={"protocol": "shared_pool", "folds": [4]})
    assert {task.cache.clips[i].fold for i in task.members["test"]} == {4}


@pytest.mark.parametrize("sources, fewest, expected", [(1, None, (1, 1)), (3, None, (3, 3)), (3, 1, (1, 3))])
def test_any_number_of_sources(sources, fewest, expected):
    task = task_of(["dog", "sneezing", "rooster"], mixing={**PAD["mixing"], "sources": sources, "fewest_sources": fewest})
    assert (task.info.min_sources, task.info.max_sources) == expected
    heard = {int((row >= 0).sum()) for row in task.isolated("train", 0).batch(0, 60).labels}
    assert max(heard) == sources and (min(heard) == 1 if fewest else True)


@pytest.mark.parametrize(
    "overrides, said",
    [
        ({"classes": ["dog"]}, "the task has 1"),
        ({"classes": ["dog", "rain"], "mixing": {"sources": 3}}, "the task has 2"),
        ({"mixing": {"gain": 0.5}}, "task.mixing.gain is 0.5"),
        ({"mixing": {"sources": 1, "fewest_sources": 2}}, "the fewest 2, the most 1"),
        ({"splits": {"protocol": "leaky"}}, "task.splits.protocol is 'leaky'; wanted disjoint or shared_pool"),
        ({"mixing": {"short_clips": "refuse"}}, "short_clips=pad"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(overrides, said):
    base = {"classes": ["dog", "sneezing", "rooster"], **PAD}
    merged = {**base, **overrides, "mixing": {**PAD["mixing"], **overrides.get("mixing", {})}}
    with pytest.raises(UserError, match=said) as error:
        task_of(merged.pop("classes"), **merged)
    assert "\n" not in str(error.value)


def test_a_class_without_clips_in_a_split_is_named(pair):
    own = tuple(i for i in pair.members["test"] if pair.cache.clips[i].label != "dog")
    with pytest.raises(UserError, match="Split 'test' has no clip of class 'dog'"):
        Task(pair.config, pair.info, pair.cache, {**pair.members, "test": own}).isolated("test", 0)


# what a command line makes of it


@pytest.mark.parametrize("folder", RECIPES)
def test_classes_come_by_name_or_one_by_one(folder):
    recipe = load_recipe(REPO / folder)
    ten, fifty = (recipe.resolve("quick", {"classes": name})[0]["task"] for name in CLASS_SETS)
    assert ten["classes"] == list(ESC10) and fifty["classes"] == list(ESC50)
    listed = recipe.resolve("quick", {}, ["task.classes=[dog, rain]"])[0]["task"]
    assert (listed["classes"], listed["class_set"]) == (["dog", "rain"], None)
    with pytest.raises(UserError, match="--classes: task.classes lists other ones"):
        recipe.resolve("quick", {"classes": "esc50"}, ["task.classes=[dog, rain]"])


@pytest.mark.parametrize(
    "options, sets, said",
    [
        ({"protocol": "shared_pool", "split": "recording"}, [], "--split: has no effect, since every clip"),
        ({"protocol": "shared_pool"}, ["task.splits.test=[1]"], "--set task.splits.test: has no effect, since every clip"),
        ({"protocol": "shared_pool"}, ["task.scenes.seen=5"], "--set task.scenes.seen: has no effect, since every clip"),
        ({"split": "recording"}, ["task.splits.test=[1]"], "--set task.splits.test: has no effect, since the clips are split"),
        ({}, ["task.splits.shares=[0.5, 0.2, 0.3]"], "--set task.splits.shares: has no effect, since the clips are split"),
        ({"protocol": "shared"}, [], "protocol: got 'shared'"),
    ],
)
def test_settings_that_nobody_reads_are_refused(options, sets, said):
    with pytest.raises(UserError, match=said):
        load_recipe(REPO / "recipes" / "sepclsnet").resolve("quick", options, sets)


def test_a_recipe_on_another_of_its_tasks_has_that_ones_options():
    mixture = load_recipe(REPO / "baselines" / "mixture")
    other = mixture.on("esc_pairs")
    assert "lambda" in mixture.options and "lambda" not in other.options
    assert "protocol" in other.options and "protocol" not in mixture.options
    assert (other.task, other.own_task, other.on("urban_events").options) == ("esc_pairs", "urban_events", mixture.options)
    assert other.resolve("quick", {"protocol": "shared_pool"})[0]["task"]["name"] == "esc_pairs"
    known = "urban_events, esc_pairs, universal_pairs, fuss, s5, s5_dcase, common, common_same_class"
    with pytest.raises(UserError, match=f"--task esc_pair: Mixture runs on {known}. Did you mean"):
        mixture.on("esc_pair")
    with pytest.raises(UserError, match="--task urban_events: SepClsNet runs on esc_pairs"):
        load_recipe(REPO / "recipes" / "sepclsnet").on("urban_events")


def test_a_trained_run_keeps_its_classes_when_it_is_tested_elsewhere():
    recipe = load_recipe(REPO / "recipes" / "sepclsnet")
    config, options = recipe.resolve("quick", {})
    task = recipe.retarget(config, options, ["task.scenes.test=7", "task.splits.protocol=shared_pool"], {})[0]["task"]
    assert (task["classes"], task["scenes"]["test"], task["splits"]["protocol"]) == (list(ESC10), 7, "shared_pool")
