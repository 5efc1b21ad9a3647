"""A budget: what the stages make of it, that nobody draws beyond it, and that a stage keeps its time."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sepbench.clock import Clock
from sepbench.errors import UserError
from sepbench.method import Budget, Training
from sepbench.options_recipe import with_budget
from sepbench.progress import PlainProgress
from sepbench.recipe import build, load_recipe
from sepbench.run_fit import DRAWN, Counted, Drawn, _training, fit
from sepbench.schedule import Schedule, within
from sepbench.tasks.task import build_task
from sepbench.training import train
from test_training import CPU, Line, history, loss_of, new_network, same_weights

QUIET = PlainProgress(open(os.devnull, "w"))  # noqa: SIM115
LONG = Schedule(epochs=14, steps=125, batch=16, valid_batches=12, lr=3e-3, patience=7, warmup=50, cosine=True)
SHORT = Schedule(epochs=4, steps=100, batch=4, valid_batches=25, lr=1e-3, patience=4, warmup=10, cosine=True)
STAGES = {"tagger": LONG, "separator": SHORT}
DECLARED = LONG.scenes + SHORT.scenes


@pytest.mark.parametrize("wrong", [{}, {"scenes": 5, "minutes": 1.0}, {"scenes": 0}, {"minutes": float("nan")}])
def test_a_budget_is_scenes_or_minutes_above_nothing(wrong):
    with pytest.raises(ValueError, match="wanted one of them, above 0"):
        Budget(**wrong)


# scenes


def test_without_a_budget_and_with_just_what_is_declared_the_stages_are_as_they_are():
    assert within(None, STAGES) == STAGES == within(Budget(scenes=DECLARED + 70), STAGES, beside=70)


@pytest.mark.parametrize("n_scenes", [200, 999, 4321, 16000, 29601, 100_000])
def test_scenes_are_shared_as_declared_and_never_more_are_drawn(n_scenes):
    found = within(Budget(scenes=n_scenes), STAGES, beside=64)
    assert list(found) == list(STAGES)
    assert sum(each.scenes for each in found.values()) <= n_scenes - 64
    for name, each in found.items():
        share = (n_scenes - 64) * STAGES[name].scenes / DECLARED
        assert share - each.batch * each.epochs - 1 < each.scenes <= share
        assert each.batch == STAGES[name].batch and each.lr == STAGES[name].lr and each.steps >= 1


@pytest.mark.parametrize("beside", [0, 64])
def test_the_least_that_is_told_is_the_least(beside):
    with pytest.raises(UserError, match="--budget scenes=5: too few for a step of tagger, separator") as said:
        within(Budget(scenes=5), STAGES, beside)
    least = int(str(said.value).split("Give ")[1].split()[0])
    assert all(each.epochs * each.steps >= 1 for each in within(Budget(scenes=least), STAGES, beside).values())
    with pytest.raises(UserError):
        within(Budget(scenes=least - 1), STAGES, beside)


@pytest.mark.parametrize(("times", "patience"), [(0.5, 4), (1.5, 11), (3, 21)])
def test_what_is_counted_in_steps_or_epochs_grows_with_the_training(times, patience):
    found = LONG.scaled(round(times * LONG.scenes))
    assert (found.epochs, found.steps, found.warmup) == (14 * times, 125, 50 * times)
    assert found.patience == patience
    assert found.factor(found.epochs * found.steps) == pytest.approx(0.02)
    assert found.factor(found.epochs * found.steps / 2) == pytest.approx(0.51)


def test_less_than_an_epoch_is_one_short_epoch():
    found = SHORT.scaled(7 * 4 + 3)
    assert (found.epochs, found.steps, found.patience, found.warmup) == (1, 7, 1, 0)


# minutes


def test_minutes_are_shared_by_scenes_or_as_the_recipe_says():
    by_scenes = within(Budget(minutes=3.0), STAGES)
    assert by_scenes["tagger"].seconds == pytest.approx(180 * LONG.scenes / DECLARED)
    assert replace(by_scenes["tagger"], seconds=None) == LONG
    said = within(Budget(minutes=3.0), {"tagger": replace(LONG, share=1.0), "separator": replace(SHORT, share=3.0)})
    assert [each.seconds for each in said.values()] == pytest.approx([45, 135])
    with pytest.raises(UserError, match=r"train.separator.share: not given"):
        within(Budget(minutes=3.0), {"tagger": replace(LONG, share=1.0), "separator": SHORT})


def test_no_recipe_sets_what_a_budget_sets():
    given = {"epochs": 1, "steps": 1, "batch": 1, "valid_batches": 1, "lr": 0.1, "patience": 1}
    assert Schedule.of("tagger", SimpleNamespace(**given, share=0.25)).share == 0.25
    with pytest.raises(UserError, match=r"train.tagger.seconds: there is no such setting"):
        Schedule.of("tagger", SimpleNamespace(**given, seconds=5.0))


def trained(folder: Path, seconds: float, scenes: Line, **changed) -> dict:
    plan = Schedule(**{"epochs": 1, "steps": 10, "batch": 2, "valid_batches": 2, "lr": 0.05, "patience": 1, **changed})
    network = new_network()
    plan = replace(plan, seconds=seconds)
    return train("tiny", network, loss_of(network), scenes, Line(1), plan, folder, 3, CPU, QUIET)


def test_a_stage_trains_until_its_time_is_up_whatever_its_epochs(tmp_path: Path):
    summary = trained(tmp_path, 2.0, Line(0, wait_s=0.02), cosine=True, warmup=2)
    rows = history(tmp_path)
    assert summary["epochs"] == len(rows) > 1 and summary["steps"] == rows[-1]["step"]
    assert summary["scenes"] == 2 * summary["steps"] and 1.0 < summary["seconds"] < 4.0
    rates = [row["lr"] for row in rows]
    assert rates[0] > rates[-1] and 0.001 <= rates[-1] < 0.015  # of 0.05, the cosine's end is 2 %


def test_time_that_is_up_ends_the_epoch_where_it_is(tmp_path: Path):
    summary = trained(tmp_path, 0.6, Line(0, wait_s=0.02), steps=10_000)
    assert summary["epochs"] == 1 and 1 <= summary["steps"] < 40 and history(tmp_path)[0]["step"] == summary["steps"]


def test_however_little_time_there_is_a_step_is_made(tmp_path: Path):
    assert 1 <= trained(tmp_path, 1e-6, Line(0))["steps"] <= 2


def stopped_after(folder: Path, spent: str) -> None:
    """A timed training stopped in its third epoch of 10 steps, after so many seconds."""
    with pytest.raises(KeyboardInterrupt):
        trained(folder, 60.0, Line(0, stop_at=25))
    file = folder / "tiny" / "history.csv"
    lines = file.read_text().splitlines()
    at = lines[0].split(",").index("seconds")
    lines[-1] = ",".join(spent if i == at else each for i, each in enumerate(lines[-1].split(",")))
    file.write_text("\n".join(lines) + "\n")


def test_what_an_earlier_start_has_spent_is_gone(tmp_path: Path):
    stopped_after(tmp_path, "999.0")
    summary = trained(tmp_path, 60.0, Line(0))
    assert summary["seconds"] >= 999 and (summary["epochs"], summary["steps"]) == (2, 20)


def test_a_timed_training_goes_on_with_the_scenes_that_come_next(tmp_path: Path):
    stopped_after(tmp_path, "0.5")
    rest = Line(0, wait_s=0.01)
    summary = trained(tmp_path, 1.0, rest)
    indices = [index for index, _ in rest.asked]
    assert indices[0] == 20 and summary["steps"] > 20 and 0.9 < summary["seconds"] < 2
    at_a_time = [indices[i : i + 2] for i in range(len(indices) - 1)]
    assert all(later <= earlier + 1 for earlier, later in at_a_time)  # none is left out


def test_the_end_of_an_epoch_is_reckoned_with(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    clock = Clock(100.0, valid_batches=30)
    now[0], clock.n_steps = 40.0, 20  # 2 s a step, so validation should take 20 s
    assert not clock.is_up and clock.share == 0.4
    now[0], clock.n_steps = 80.0, 40
    assert clock.is_up
    clock.closing()
    now[0] = 85.0
    clock.closed()
    assert not clock.is_up  # it took but 5 s
    now[0] = 95.0
    assert clock.is_up and not Clock(None, 30).is_up


def test_scaled_or_timed_the_same_seed_learns_the_same_as_long_as_the_steps_are_the_same(tmp_path: Path):
    one, other = new_network(), new_network()
    plan = Schedule(2, 6, 2, 1, 0.05, 2)
    for network, folder, given in ((one, "one", plan), (other, "other", Schedule(4, 6, 2, 1, 0.05, 4).scaled(24))):
        train("tiny", network, loss_of(network), Line(0), Line(1), given, tmp_path / folder, 3, CPU, QUIET)
    assert same_weights(one, other)


# what is drawn


def test_who_draws_beyond_the_budget_is_stopped_and_named():
    drawn = Drawn("Greedy", Budget(scenes=100))
    scenes = Counted(Line(0), drawn, "scenes")
    for index in range(10):
        assert len(scenes.batch(index, 10).mixture) == 10
    with pytest.raises(UserError, match=r"Greedy: has drawn 102 scenes .* budget is 100.*within"):
        scenes.batch(10, 2)
    with pytest.raises(UserError, match="has drawn 200 scenes"):
        Drawn("Greedy", Budget(scenes=100)).in_all({"recalled": {"scenes": 200}})
    assert Drawn("Free", None).in_all({"one": {"scenes": 7}, "other": {"scenes": 5}, "accuracy": 0.5}) == 12


def test_what_is_counted_is_else_as_it_was():
    scenes = Counted(Line(4), Drawn("Any", None), "scenes")
    assert scenes.stream == 4 and torch.equal(scenes.batch(3, 2).mixture, Line(4).batch(3, 2).mixture)
    assert getattr(scenes, "id", None) is None


class Greedy:
    """Learns from batches of 10 in a loop of its own, and says that it drew one. May be stopped after 6, and keep a file."""

    def __init__(self, batches: range, stopped: bool = False, keeps: bool = False):
        self.batches, self.stopped, self.keeps = batches, stopped, keeps

    def fit(self, training: Training) -> dict:
        for n, index in enumerate(self.batches):
            if n == 6 and self.stopped:
                raise KeyboardInterrupt
            training.scenes.batch(index, 10)
            if self.keeps:
                training.folder.mkdir(exist_ok=True)
                (training.folder / "own.json").write_text(str(index))
        return {"loop": {"scenes": 10, "seconds": 0.1}}

    def save(self, folder: Path) -> None:
        folder.mkdir()


class Looped(Greedy):
    """Learns by the training loop: three epochs of 4 batches. May be stopped in the second."""

    def fit(self, training: Training) -> dict:
        network, n_calls = new_network(), 0

        def loss(batch) -> dict[str, torch.Tensor]:
            nonlocal n_calls
            n_calls += 1
            if self.stopped and n_calls == 8:
                raise KeyboardInterrupt
            return {"loss": network(batch.mixture[:, :16]).square().mean()}

        plan, rest = Schedule(3, 4, 5, 1, 0.05, 3), (training.folder, training.seed, CPU, QUIET)
        return {"loop": train("loop", network, loss, training.scenes, training.valid, plan, *rest)}


@pytest.fixture
def learnt(repo: Path, tmp_path: Path):
    """Has a method learn with a budget of so many scenes, in the folder of one and the same run; what it cost."""
    recipe = load_recipe(repo / "baselines/mixture_cnn").on("common")
    short = ["task.scenes.valid=2", "task.seconds=0.5", "task.mixing.cut_s=[0.2, 0.5]"]
    config = {**recipe.resolve("quick", {}, short)[0], "name": "Greedy"}
    task = build_task(config["task"], {}, QUIET)
    return lambda method, n: fit(method, {**config, "budget": {"scenes": n}}, task, tmp_path, {}, QUIET)


def test_what_was_drawn_is_never_less_than_was_counted(learnt, tmp_path: Path):
    assert learnt(Greedy(range(7)), 100)["training_scenes"] == 70
    assert not (tmp_path / DRAWN).exists()


def test_a_loop_of_its_own_cannot_draw_the_budget_twice(learnt):
    pytest.raises(KeyboardInterrupt, learnt, Greedy(range(10), stopped=True, keeps=True), 100)
    with pytest.raises(UserError, match="Greedy: has drawn 110 scenes"):
        learnt(Greedy(range(10), keeps=True), 100)


def test_a_loop_of_its_own_goes_on_with_what_is_left(learnt):
    pytest.raises(KeyboardInterrupt, learnt, Greedy(range(10), stopped=True, keeps=True), 100)
    assert learnt(Greedy(range(6, 9), keeps=True), 100)["training_scenes"] == 90


def test_what_nobody_kept_may_be_drawn_again(learnt):
    for _ in range(2):
        pytest.raises(KeyboardInterrupt, learnt, Greedy(range(10), stopped=True), 100)
    assert learnt(Greedy(range(10)), 100)["training_scenes"] == 100


def test_others_than_those_of_an_earlier_start_count_on_top(learnt):
    pytest.raises(KeyboardInterrupt, learnt, Greedy(range(10), stopped=True), 100)
    with pytest.raises(UserError, match="Greedy: has drawn 110 scenes"):
        learnt(Greedy(range(100, 110)), 100)


def test_an_epoch_that_is_trained_again_is_counted_once(learnt):
    pytest.raises(KeyboardInterrupt, learnt, Looped(range(0), stopped=True), 60)
    assert learnt(Looped(range(0)), 60)["training_scenes"] == 60


@pytest.mark.parametrize(("seconds", "n_lines"), [(60.0, 0), (95.9, 0), (96.1, 1)])
def test_minutes_that_are_overshot_by_much_are_told(seconds, n_lines):
    lines: list[str] = []
    Drawn("Slow", Budget(minutes=1.0)).told(SimpleNamespace(say=lines.append), seconds)
    assert len(lines) == n_lines and all("trained for 1.6 minutes; its budget is 1" in line for line in lines)


def test_only_what_learns_has_a_budget(repo: Path):
    asked = {"scenes": 1000}
    for name, has in (("baselines/mixture", False), ("baselines/activity_gate", False), ("recipes/weak_label", True)):
        config, _ = load_recipe(repo / name).resolve("quick")
        assert ("budget" in with_budget(config, asked)) == has and with_budget(config, None) == config
    config, _ = load_recipe(repo / "baselines/activity_gate").resolve("quick", {"driver": "critic"})
    config["inner"] = {"run": "of a critic that learns"}
    assert with_budget(config, asked) == config


LEARNING = [
    "recipes/weak_label", "recipes/sepclsnet", "recipes/itdcnpp", "recipes/redux", "recipes/nmf_svm", "baselines/mixture_cnn",
    "baselines/conv_tasnet",
]  # fmt: skip


@pytest.mark.parametrize("name", LEARNING)
def test_every_method_keeps_a_budget_of_scenes_and_uses_it(repo: Path, tmp_path: Path, name: str):
    """What it says that it drew is what was counted, at most the budget, and most of it."""
    recipe = load_recipe(repo / name).on("common")
    n_scenes = {"redux": 300, "nmf_svm": 600}.get(recipe.folder.name, 150)  # 600: 1,200 crops; by itself, it takes 600
    options = {"loss": "thresholded"} if recipe.folder.name == "itdcnpp" else {}
    short = ["task.scenes.valid=4", "task.seconds=1.0", "task.mixing.cut_s=[0.5, 1.0]"]
    config, _ = recipe.resolve("quick", options, short)
    for stage in filter(lambda each: isinstance(each, dict), config["train"].values()):
        stage["valid_batches"] = 1
    task = build_task(config["task"], {}, QUIET)
    method = build(recipe, config, task.info)
    drawn = Drawn(recipe.name, Budget(scenes=n_scenes))
    training = _training(config, task, tmp_path, drawn, QUIET)
    if isinstance(training, Training):
        training = replace(training, shared=tmp_path)  # where nothing is that was learnt before
    cost = method.fit(training)
    assert drawn.in_all(cost) == drawn.scenes <= n_scenes
    assert drawn.scenes > 0.7 * n_scenes
