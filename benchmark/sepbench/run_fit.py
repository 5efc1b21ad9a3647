"""Having a method learn: what it is handed, what it draws from that, and whether its budget is kept."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepbench.cost import PeakMemory
from sepbench.errors import UserError
from sepbench.method import Budget, Method, Training, WeakTraining
from sepbench.results_format import learns_from
from sepbench.storage import read_json, write_json
from sepbench.tasks.task import Task

MORE = 1.01  # times a budget of scenes, and a method is stopped: a last batch may be whole
LATER, LATER_S = 1.1, 30.0  # times a budget of minutes and so much on top, and it is said


def fit(
    method: Method, config: Mapping[str, Any], task: Task, folder: Path, wall_s: dict[str, float], progress: Any
) -> dict[str, Any]:
    """Have the method learn, once; what it says it cost, and `training_scenes`. UserError where it draws beyond its budget."""
    done = folder / "fit.json"
    if done.is_file():
        method.load(folder / "weights")
    elif not learns_from(config):
        return {}
    else:
        drawn = Drawn(config["name"], Budget(**config["budget"]) if config.get("budget") else None)
        training = _training(config, task, folder / "checkpoints", drawn, progress)
        began_s = time.perf_counter()
        with PeakMemory() as memory:
            cost = method.fit(training) or {}
        cost["training_scenes"] = drawn.in_all(cost)
        drawn.told(progress, max(_seconds(cost), time.perf_counter() - began_s))
        cost |= {f"fit_{name}": value for name, value in memory.figures.items()}
        method.save(folder / "weights")
        for stage in (folder / "checkpoints").glob("*/history.csv"):
            shutil.copy(stage, folder / f"history-{stage.parent.name}.csv")
        write_json(done, {"cost": cost})
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    cost = read_json(done)["cost"]
    wall_s["fit"] = _seconds(cost)
    return dict(cost)


def _training(
    config: Mapping[str, Any], task: Task, folder: Path, drawn: Drawn, progress: Any
) -> WeakTraining | Training:
    """A type says who may look: weak scenes hold no source."""
    seed, fixed = int(config["seed"]), int(config["task"]["scenes"]["seed"])
    rest: dict[str, Any] = {"folder": folder, "seed": seed, "progress": progress, "budget": drawn.budget}
    if learns_from(config) == "weak":
        seen = config["labels_seen"]
        valid = task.first("valid", task.weak("valid", fixed, seen))
        return WeakTraining(Counted(task.weak("train", seed, seen), drawn), valid, **rest)
    clips, valid_clips = task.clips("train", seed), task.clips("valid", fixed)
    rest |= {"clips": clips and Counted(clips, drawn), "valid_clips": valid_clips and task.first("valid", valid_clips)}
    valid = task.first("valid", task.isolated("valid", fixed))
    return Training(Counted(task.isolated("train", seed), drawn), valid, **rest, shared=task.shared)


@dataclass
class Drawn:
    """How many scenes and clips a method has drawn to learn from, held to its budget."""

    name: str
    budget: Budget | None
    scenes: int = 0  # by this start

    def count(self, n_scenes: int) -> None:
        """So many more. UserError where the budget has no room for them."""
        self.scenes += n_scenes
        self._check(self.scenes)

    def in_all(self, cost: Mapping[str, Any]) -> int:
        """What the stages say that they drew, those of earlier starts and runs too; what was counted where none says it."""
        said = sum(stage["scenes"] for stage in _stages(cost) if "scenes" in stage) or self.scenes
        self._check(said)
        return int(said)

    def told(self, progress: Any, seconds: float) -> None:
        """A line where a budget of minutes was overshot by much."""
        minutes = None if self.budget is None else self.budget.minutes
        if minutes is not None and seconds > LATER * 60 * minutes + LATER_S:
            progress.say(f"{self.name}: has trained for {seconds / 60:.1f} minutes; its budget is {minutes:g}")

    def _check(self, n_scenes: int) -> None:
        most = None if self.budget is None else self.budget.scenes
        if most is not None and n_scenes > MORE * most:
            raise UserError(
                f"{self.name}: has drawn {n_scenes} scenes to learn from, and its budget is {most}. In its `fit`, share that "
                "among the stages: sepbench.training.within(training.budget, schedules)."
            )


class Counted:
    """Scenes or clips as they are, but what is drawn of them is counted."""

    def __init__(self, scenes: Any, drawn: Drawn) -> None:
        self._scenes, self._drawn = scenes, drawn

    def batch(self, index: int, size: int) -> Any:
        batch = self._scenes.batch(index, size)
        self._drawn.count(len(batch.mixture))
        return batch

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # else one that is being copied would look for its scenes for ever
            raise AttributeError(name)
        return getattr(self._scenes, name)


def _stages(cost: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [stage for stage in cost.values() if isinstance(stage, Mapping)]


def _seconds(cost: Mapping[str, Any]) -> float:
    return float(sum(stage.get("seconds", 0.0) for stage in _stages(cost)))
