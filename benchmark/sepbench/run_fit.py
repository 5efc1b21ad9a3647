"""Having a method learn: what it is handed, what it draws from that, and whether its budget is kept."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sepbench.cost import PeakMemory
from sepbench.errors import UserError
from sepbench.method import Budget, Method, Training, WeakTraining, batch_share
from sepbench.results_format import learns_from
from sepbench.storage import read_json, write_bytes, write_json
from sepbench.tasks.task import Task

DRAWN = "drawn.json"  # while a method learns, beside its checkpoints
MORE = 1.01  # times a budget of scenes, and a method is stopped: a last batch may be whole
KEPT_EVERY_S = 5.0  # at most so much of what was drawn is forgotten where a run is killed
LATER, LATER_S = 1.1, 30.0  # times a budget of minutes and so much on top, and it is said


def fit(
    method: Method, config: Mapping[str, Any], task: Task, folder: Path, wall_s: dict[str, float], progress: Any,
    beside: AbstractContextManager[Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Have the method learn, once; what it says it cost, and `training_scenes`. UserError where it draws beyond its budget.

    `beside`: in which it learns; other ranks are there meanwhile.
    """
    done, counted = folder / "fit.json", folder / DRAWN
    if done.is_file():
        method.load(folder / "weights")
    elif not learns_from(config):
        return {}
    else:
        with PeakMemory() as memory, beside or nullcontext():
            cost = learn(method, config, task, folder, progress, counted)
        cost |= {f"fit_{name}": value for name, value in memory.figures.items()}
        method.save(folder / "weights")
        for stage in (folder / "checkpoints").glob("*/history.csv"):
            write_bytes(folder / f"history-{stage.parent.name}.csv", stage.read_bytes())
        write_json(done, {"cost": cost})
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    counted.unlink(missing_ok=True)
    cost = read_json(done)["cost"]
    wall_s["fit"] = _seconds(cost)
    return dict(cost)


def learn(
    method: Method, config: Mapping[str, Any], task: Task, folder: Path, progress: Any, counted: Path | None
) -> dict[str, Any]:
    """`method.fit`, with what it draws held to its budget, and written to `counted`; None: by a rank that writes nothing."""
    drawn = Drawn(config["name"], Budget(**config["budget"]) if config.get("budget") else None, counted)
    drawn.take_up(lost=not _keeps_its_own(folder / "checkpoints"))
    training = _training(config, task, folder / "checkpoints", drawn, progress)
    began_s = time.perf_counter()
    with drawn.kept():
        cost = method.fit(training) or {}
    cost["training_scenes"] = drawn.in_all(cost)
    drawn.told(progress, max(_seconds(cost), time.perf_counter() - began_s))
    return cost


def to_begin_with(config: Mapping[str, Any]) -> Path:
    """The run that `begun_with` names. UserError where no run of this recipe can begin where that one stopped."""
    other = Path(config["begun_with"]["run"])
    theirs = read_json(other / "run.json")["config"]
    if theirs["recipe"] != config["recipe"]:
        raise UserError(f"--begin-with {other}: is a run of {theirs['recipe']}; wanted one of {config['recipe']}.")
    if not any((other / "checkpoints").rglob("*.ckpt")):
        raise UserError(f"--begin-with {other}: holds no checkpoints. Name a run that was stopped after its first epoch.")
    return other


def take_up(config: Mapping[str, Any], folder: Path) -> None:
    """Have a run that has not begun begin where the one that its `begun_with` names stopped. UserError where that cannot be."""
    if not config.get("begun_with") or (folder / "checkpoints").is_dir() or (folder / "fit.json").is_file():
        return
    other = to_begin_with(config)
    building = folder / ".taken-up"
    shutil.rmtree(building, ignore_errors=True)
    try:
        shutil.copytree(other / "checkpoints", building)
    except OSError as error:
        shutil.rmtree(building, ignore_errors=True)
        why = str(error).splitlines()[0][:200]
        raise UserError(f"--begin-with {other}: cannot be copied to {folder} ({why}). Mend that, and run it again.") from None
    if (other / DRAWN).is_file():
        write_bytes(folder / DRAWN, (other / DRAWN).read_bytes())
    building.rename(folder / "checkpoints")


def has_learnt(config: Mapping[str, Any], folder: Path) -> bool:
    """Whether a run has kept anything that it learnt itself, beside what it has taken up from the run that it began with."""
    begun = config.get("begun_with")
    taken = _stamps(Path(begun["run"]) / "checkpoints") if begun else set()
    return (folder / "fit.json").is_file() or not _stamps(folder / "checkpoints") <= taken


def _stamps(folder: Path) -> set[tuple[str, int, int]]:
    """Of each file its name, size and time of change, which copies keep."""
    files = ((path, path.stat()) for path in folder.rglob("*") if path.is_file())
    return {(str(path.relative_to(folder)), held.st_size, held.st_mtime_ns) for path, held in files}


def in_the_loop(config: Mapping[str, Any]) -> bool:
    """Whether a stage of the run is trained by `sepbench.training.train`, which alone can share it out."""
    if learns_from(config) is None:
        return False
    stages = (config.get("train") or {}).values()
    return any(isinstance(each, Mapping) and {"epochs", "batch"} <= set(each) for each in stages)


def _training(
    config: Mapping[str, Any], task: Task, folder: Path, drawn: Drawn, progress: Any
) -> WeakTraining | Training:
    """A type says who may look: weak scenes hold no source."""
    seed, fixed = int(config["seed"]), int(config["task"]["scenes"]["seed"])
    rest: dict[str, Any] = {"folder": folder, "seed": seed, "progress": progress, "budget": drawn.budget}
    if learns_from(config) == "weak":
        seen = config["labels_seen"]
        valid = task.first("valid", task.weak("valid", fixed, seen))
        return WeakTraining(Counted(task.weak("train", seed, seen), drawn, "scenes"), valid, **rest)
    clips, valid_clips = task.clips("train", seed), task.clips("valid", fixed)
    rest |= {"clips": clips and Counted(clips, drawn, "clips"), "valid_clips": valid_clips and task.first("valid", valid_clips)}
    valid = task.first("valid", task.isolated("valid", fixed))
    scenes = Counted(task.isolated("train", seed), drawn, "scenes")
    return Training(scenes, valid, **rest, shared=task.shared)


Drawing = list[Any]  # of scenes or clips, so many in a batch, from this batch on, so many batches


@dataclass
class Drawn:
    """How many scenes and clips a method has drawn to learn from, by all starts of its run, held to its budget."""

    name: str
    budget: Budget | None
    file: Path | None = None  # where it is written down, now and then
    scenes: int = 0
    runs: list[Drawing] = field(default_factory=list)  # of this start
    earlier: list[Drawing] = field(default_factory=list)  # of earlier starts, less what was drawn again since
    used: int = 0  # of earlier starts, and not to be drawn again
    _written_s: float = 0.0

    def count(self, what: str, index: int, n_scenes: int) -> None:
        """A batch more. UserError where the budget has no room for it."""
        if not self._drawn_again(what, index, n_scenes):
            self.scenes += n_scenes
        last = self.runs[-1] if self.runs else None
        if last and (last[:2], last[2] + last[3]) == ([what, n_scenes], index):
            last[3] += 1
        else:
            self.runs.append([what, n_scenes, index, 1])
        if time.monotonic() - self._written_s > KEPT_EVERY_S:
            self._write()
        self._check(self.scenes)

    def take_up(self, lost: bool) -> None:
        """Go on where an earlier start stopped. `lost`: a batch that it drew may be drawn once more for nothing."""
        if self.file is None or not self.file.is_file():
            return
        held = read_json(self.file)
        self.used, self.earlier = held["used"], held["runs"]
        if not lost:
            self.used, self.earlier = self.used + _n_scenes(self.earlier), []
        self.scenes = self.used + _n_scenes(self.earlier)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """What is drawn meanwhile is written down, however it ends."""
        try:
            yield
        finally:
            self._write()

    def _write(self) -> None:
        if self.file is not None:
            write_json(self.file, {"used": self.used, "runs": [*self.earlier, *self.runs]})
        self._written_s = time.monotonic()

    def _drawn_again(self, what: str, index: int, n_scenes: int) -> bool:
        """Whether an earlier start has drawn this batch; then it has done so once less."""
        for at, (kind, size, first, n_batches) in enumerate(self.earlier):
            if (kind, size) == (what, n_scenes) and first <= index < first + n_batches:
                rest = [[kind, size, first, index - first], [kind, size, index + 1, first + n_batches - index - 1]]
                self.earlier[at : at + 1] = [each for each in rest if each[3]]
                return True
        return False

    def in_all(self, cost: Mapping[str, Any]) -> int:
        """What the stages say that they drew, those that were recalled from other runs too, but never less than was counted."""
        most = max(self.scenes, sum(stage.get("scenes", 0) for stage in _stages(cost)))
        self._check(most)
        return int(most)

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

    def __init__(self, scenes: Any, drawn: Drawn, what: str) -> None:
        self._scenes, self._drawn, self._what = scenes, drawn, what

    def batch(self, index: int, size: int) -> Any:
        batch = self._scenes.batch(index, size)
        self._drawn.count(self._what, index, len(batch.mixture))
        return batch

    def share(self, index: int, size: int, rank: int, n: int) -> Any:
        """A rank's part of a batch, which counts as the whole: every rank counts, and one of them writes it down."""
        cut = getattr(self._scenes, "share", None)
        batch = cut(index, size, rank, n) if cut else batch_share(self._scenes.batch(index, size), rank, n)
        self._drawn.count(self._what, index, size)
        return batch

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # else one that is being copied would look for its scenes for ever
            raise AttributeError(name)
        return getattr(self._scenes, name)


def _n_scenes(runs: list[Drawing]) -> int:
    return sum(size * n_batches for _, size, _, n_batches in runs)


def _keeps_its_own(checkpoints: Path) -> bool:
    """Whether a method with a loop of its own has put files there: what it drew before them was not for nothing.

    Where sepbench.training.train has begun (its folders are empty or have a history.csv), an epoch is at most drawn again.
    """
    found = [path for path in checkpoints.rglob("*") if not path.name.startswith(".")]
    begun = any((path / "history.csv").is_file() or not any(path.iterdir()) for path in found if path.is_dir())
    return not begun and any(path.is_file() for path in found)


def _stages(cost: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [stage for stage in cost.values() if isinstance(stage, Mapping)]


def _seconds(cost: Mapping[str, Any]) -> float:
    return float(sum(stage.get("seconds", 0.0) for stage in _stages(cost)))
