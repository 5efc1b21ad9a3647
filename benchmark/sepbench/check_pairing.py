"""Which run is held against which: the same recipe, profile, options, sounds and scenes, whatever its profile has it train."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepbench.comparison import explain_mismatch
from sepbench.errors import UserError, nearest
from sepbench.metrics import METRICS
from sepbench.results import RunRecord, read_runs
from sepbench.results_format import is_trial

NAMED = 6  # settings that are named one by one where two runs differ in more
UNSAID = ("name", "paper")  # words on the recipe
DETAILS = ("run",)  # where an inner run lay says nothing; its weights do


@dataclass(frozen=True)
class Runs:
    """The runs of a folder."""

    finished: list[RunRecord]
    unfinished: list[RunRecord]
    without_rows: list[RunRecord]  # statistics of labels: nothing that a method answered

    @property
    def all(self) -> list[RunRecord]:
        return [*self.finished, *self.unfinished, *self.without_rows]


def runs_in(folder: Path, only: Sequence[str] = (), but: Path | None = None, task: str | None = None) -> Runs:
    """The runs below `folder`, of the recipes in `only` and of `task` if any; those below `but` and hidden are left out.

    UserError where a finished run with figures has lost its rows.
    """
    there = [run for run in read_runs(folder) if not _hidden(run.path, folder) and not _below(run.path, but)]
    there = [run for run in there if not is_trial(run.config)]
    chosen = [run for run in there if (not only or run.config.get("recipe") in only) and task in (None, task_of(run))]
    finished = [run for run in chosen if run.state == "finished"]
    bare = [run for run in finished if not (run.path / "rows.parquet").is_file()]
    for run in bare:
        if any(name in METRICS for figures in run.metrics.values() for name in figures):
            raise UserError(f"{run.path}: has figures and no rows.parquet. Restore it, or move the folder away.")
    return Runs([run for run in finished if run not in bare], [run for run in chosen if run.state != "finished"], bare)


def task_of(run: RunRecord) -> str:
    """The task that a run was scored on."""
    return str((run.config.get("task") or {}).get("name"))


def known_task(task: str, runs: Iterable[RunRecord], where: str) -> str:
    """`task`. UserError where there is no run of it."""
    known = sorted({task_of(run) for run in runs})
    if task not in known:
        close = nearest(task, known) or f" There is {', '.join(known) or 'none'}."
        raise UserError(f"--task {task}: no run of such a task in {where}.{close}")
    return task


def recipe_names(only: Iterable[str], runs: Iterable[RunRecord], where: str) -> list[str]:
    """The recipes that --only names, as words or folders. UserError for one of which there is no run."""
    known = sorted({str(run.config.get("recipe")) for run in runs})
    names = [Path(name).name for name in only]
    for name in names:
        if name not in known:
            close = nearest(name, known) or f" There is {', '.join(known) or 'none'}."
            raise UserError(f"--only {name}: no run of such a recipe in {where}.{close}")
    return names


def apart(results: Path, reference: Path) -> tuple[Path | None, Path | None]:
    """What to leave out of each of two folders where one lies in the other. UserError where they are the same."""
    first, second = results.resolve(), reference.resolve()
    if first == second:
        raise UserError(f"{results}: a run always agrees with itself. Name the folder of the new runs and that of the frozen.")
    return reference if second.is_relative_to(first) else None, results if first.is_relative_to(second) else None


def why_not(reference: RunRecord, result: RunRecord) -> list[str]:
    """In what two runs differ that must be the same for their figures to be comparable; nothing: they pair.

    An option that only one of them knows is no difference where it stands at its default: the recipe has learnt it since.
    """
    reasons = [f"other {name} ({reference.config.get(name)} against {result.config.get(name)})"
               for name in ("recipe", "profile", "budget") if reference.config.get(name) != result.config.get(name)]
    options = [name for name in {**reference.options, **result.options} if _options_differ(name, reference, result)]
    if options:
        values = [f"{name} {_shown(reference.options.get(name))} against {_shown(result.options.get(name))}"
                  for name in options]
        reasons.append(f"other options ({', '.join(values)})")
    scenes = explain_mismatch(reference, result)
    return [*reasons, *([scenes.rstrip(".")] if scenes else [])]


def closest(reference: RunRecord, results: Sequence[RunRecord]) -> RunRecord | None:
    """The run that comes nearest to pairing: of the same recipe if there is one, with the fewest differences."""
    def distance(run: RunRecord) -> tuple[bool, int, int]:
        reasons = why_not(reference, run)
        return run.config.get("recipe") != reference.config.get("recipe"), len(reasons), len("".join(reasons))

    return min(results, key=distance, default=None)


def settings_that_differ(reference: RunRecord, result: RunRecord) -> str:
    """What was set otherwise, none of which keeps runs from pairing: `seed 0, now 3; train.critic.epochs 5, now 2`."""
    ours, theirs = (dict(_flat({name: value for name, value in run.config.items() if name not in UNSAID}))
                    for run in (reference, result))
    found = [f"{name} {_shown(ours.get(name))}, now {_shown(theirs.get(name))}"
             for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    more = [f"and {len(found) - NAMED} more"] if len(found) > NAMED else []
    return "; ".join([*found[:NAMED], *more])


def _options_differ(name: str, reference: RunRecord, result: RunRecord) -> bool:
    for one, other in ((reference, result), (result, reference)):
        if name not in other.options:
            return one.changed is None or name in one.changed
    return bool(reference.options[name] != result.options[name])


def _flat(settings: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        elif not above or name not in DETAILS:
            yield f"{above}{name}", value


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _below(path: Path, folder: Path | None) -> bool:
    return folder is not None and path.resolve().is_relative_to(folder.resolve())
