"""The comparison: every recipe and baseline answers the same scenes, each in its own way, and is judged alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sepbench.judge import judge
from sepbench.method import Batch
from sepbench.recipe import build, load_recipe
from sepbench.scene import Mixture, Scene, Source, TaskInfo
from sepbench.tasks import load_task, settled
from sepbench.tasks.task import Task, build_task

REPO = Path(__file__).resolve().parents[2]
CONTESTANTS = sorted(file.parent for kind in ("recipes", "baselines") for file in (REPO / kind).glob("*/recipe.yaml"))
TASKS = ("common", "common_same_class")
CLASSES = ("bell", "dog", "siren", "rain")
INFO = TaskInfo(CLASSES, 8000, 1, 3, 0.5, 1)


@pytest.fixture(scope="module", params=TASKS)
def task(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Task:
    """On three of the built-in sounds, since what is asked does not depend on which."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEPBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        sounds = {"corpus": "synthetic", "classes": ["dog", "rooster", "siren"], "scenes": {"test": 60, "valid": 4}}
        return build_task(settled(load_task(request.param, sounds)), {})


def tiny(name: str, info: TaskInfo = INFO, **options: Any) -> Any:
    """A recipe at the sizes of its profile quick, untaught."""
    recipe = load_recipe(REPO / name).on("common")
    return build(recipe, recipe.resolve("quick", options)[0], info)


def tones(*labels: str, at: tuple[tuple[float, float], ...] = ()) -> Scene:
    """A tone per source, each of its own pitch."""
    time_s = torch.arange(4000) / 8000
    times = at or ((0.0, 0.5),) * len(labels)
    sources = tuple(
        Source(0.1 * torch.sin(2 * torch.pi * 500 * (i + 1) * time_s) * ((time_s >= on) & (time_s < off)), label, ((on, off),))
        for i, (label, (on, off)) in enumerate(zip(labels, times))
    )
    return Scene(Mixture(sum(each.audio for each in sources)[None], 8000, "scene-1"), sources)


# who takes part, in what


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("profile", ["quick", "small", "paper"])
def test_everybody_takes_part_and_is_scored_on_the_same_scenes(profile: str, name: str):
    scored = {}
    for folder in CONTESTANTS:
        recipe = load_recipe(folder).on(name)
        scored[folder.name] = recipe.resolve(profile)[0]["task"]
        scored[folder.name]["scenes"].pop("valid")  # how many a method is chosen on is its own business
    assert len(scored) >= 11
    assert all(each == scored["mixture"] for each in scored.values()), scored


def test_scenes_are_mono_4_s_at_16_khz_of_one_to_three_known_sounds(task: Task):
    alike = task.info.classes_repeat
    assert alike == (task.config["name"] == "common_same_class")
    assert (task.info.n_channels, task.info.sample_rate_hz, task.info.seconds) == (1, 16000, 4.0)
    assert (task.info.min_sources, task.info.max_sources, task.info.one_per_class) == (2 if alike else 1, 3, False)
    scenes = [task.scene("test", index) for index in range(60)]
    assert {len(scene.sources) for scene in scenes} == ({2, 3} if alike else {1, 2, 3})
    for scene in scenes:
        labels = [source.label for source in scene.sources]
        assert len(set(labels)) == len(labels) - alike and set(labels) <= set(task.info.classes)
        assert scene.mixture.audio.shape == (1, 64000) and not scene.rest


def test_figures_of_improvement_leave_out_scenes_of_one_sound_and_no_others(task: Task):
    config, scored = task.config, set()
    for index in range(60):
        scene = task.scene("test", index)
        answer = tiny("baselines/ideal_mask", task.info).separate([scene])[0]
        rows = judge(scene, answer, config["classes"], config["metrics"], "run", "test", config["minimum_active"],
                     one_per_class=task.info.one_per_class)
        metrics = {row.metric for row in rows}
        several = len(scene.sources) > 1
        assert ("si_sdri" in metrics) == ("capi_sdri" in metrics) == several
        assert {"label_set_accuracy", "clip_tp", "n_sources", "overlap"} <= metrics
        scored |= metrics
    assert ("ca_sdri" in scored) != task.info.classes_repeat  # by class it is not defined where a class repeats


def test_what_trains_is_drawn_from_the_same_scenes_with_and_without_sources(task: Task):
    weak, whole = task.weak("train", 7, "frame").batch(2, 5), task.isolated("train", 7).batch(2, 5)
    assert torch.equal(weak.mixture, whole.mixture)
    clips = task.clips("train", 7)
    assert clips is not None and (clips.batch(0, 30).labels >= 0).sum() == 30


# the weak-label separator


def test_the_weak_label_separator_answers_with_the_classes_that_its_critic_hears():
    method = tiny("recipes/weak_label")
    for answer in method.separate([tones("dog").mixture, tones("bell", "siren").mixture]):
        heard = answer.activity.probability.amax(-1)
        n = min(max(int((heard >= 0.5).sum()), INFO.min_sources), INFO.max_sources)
        assert answer.labels == tuple(CLASSES[i] for i in heard.argsort(descending=True)[:n].tolist())
        assert answer.sources.shape == (n, 4000) and answer.activity.probability.shape[0] == len(CLASSES)
        torch.testing.assert_close(answer.confidences, heard.sort(descending=True).values[:n])


@pytest.mark.parametrize(("bias", "n"), [(-20.0, 1), (20.0, 3)])
def test_it_names_no_fewer_than_the_task_has_and_no_more(bias: float, n: int):
    method = tiny("recipes/weak_label")
    for parameter in (last := list(method.critic.modules())[-1]).parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.constant_(last.bias, bias)
    answer = method.separate([tones("dog").mixture])[0]
    assert len(answer.labels) == len(answer.sources) == n


def test_without_a_critic_what_holds_a_twentieth_of_the_energy_is_heard():
    method = tiny("recipes/weak_label", labels="strong")
    masks = torch.tensor([0.9, 0.0, 0.3, 0.1])  # of the magnitude: energies 0.81, 0, 0.09 and 0.01 of 0.91

    class Fixed(torch.nn.Module):
        def forward(self, magnitude: torch.Tensor) -> torch.Tensor:
            return masks[:, None].expand(*magnitude.shape[:2], -1, magnitude.shape[-1])

    method.separator = Fixed()
    answer = method.separate([tones("dog").mixture])[0]
    assert answer.labels == ("bell", "siren") and answer.activity is None and answer.confidences is None


def test_strong_labels_teach_each_output_its_own_class_wherever_its_source_stands():
    method = tiny("recipes/weak_label", labels="strong")
    scene = tones("siren", "bell", "siren")
    audio = torch.stack([source.audio for source in scene.sources])
    silent = torch.zeros(1, 4000)
    given = Batch(scene.mixture.audio, None, torch.cat([audio[:2], silent])[None], np.array([[2, 0, -1]]))
    by_class = method._by_class(given)
    assert torch.equal(by_class[0], torch.stack([audio[1], silent[0], audio[0], silent[0]]))
    twice = Batch(scene.mixture.audio, None, audio[None], np.array([[2, 0, 2]]))
    torch.testing.assert_close(method._by_class(twice)[0, 2], audio[0] + audio[2])


# the others


def test_the_gate_opens_for_each_source_by_itself_where_two_are_of_a_class():
    scene = tones("dog", "dog", at=((0.0, 0.2), (0.3, 0.5)))
    answer = tiny("baselines/activity_gate").separate([scene])[0]
    assert answer.labels == ("dog", "dog") and answer.sources.shape == (2, 4000)
    for found, source in zip(answer.sources, scene.sources):
        assert 10 * (source.audio.square().sum() / (found - source.audio).square().sum()).log10() > 10


def test_labels_are_kept_apart_only_where_classes_do_not_repeat():
    named = []
    for repeat in (False, True):
        method = tiny("recipes/nmf_svm", TaskInfo(CLASSES, 8000, 1, 2, 0.5, 2, repeat), labels="distinct")
        method._heard.__self__.machines = lambda features: torch.tensor([[0.9, 0.8, 0.1, 0.0], [0.9, 0.1, 0.2, 0.0]])
        named.append(method._heard(torch.randn(2, 4000)))
    assert named == [[1, 0], [0, 0]]
