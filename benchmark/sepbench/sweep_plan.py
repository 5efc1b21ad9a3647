"""What a grid would do: of each run, whether it is there, begun, or of other code or sounds, and how long it may take."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from sepbench.errors import UserError
from sepbench.loading import code_hash
from sepbench.progress import clock_words
from sepbench.results import RunRecord, read_runs, run_id
from sepbench.results_checks import config_hash, run_json
from sepbench.results_format import learns_from
from sepbench.run import finished_run
from sepbench.run_identity import changed_options, with_inner
from sepbench.storage import locked
from sepbench.tables_format import Line, Table, text
from sepbench.tasks.sounds import settings_and_sounds

if TYPE_CHECKING:
    from sepbench.recipe import Recipe

CACHED, STALE, INTERRUPTED, RUNNING, DAMAGED, MISSING = "cached", "stale", "interrupted", "running", "damaged", "missing"
STATES = (CACHED, STALE, INTERRUPTED, RUNNING, DAMAGED, MISSING)
KEPT = (CACHED, STALE)  # not run again unless it is asked for


@dataclass(frozen=True)
class Asked:
    """A run that is asked for: its configuration before the task is built, its options, and its name among others."""

    recipe: Recipe
    config: dict[str, Any]
    options: dict[str, Any]
    name: str


@dataclass(frozen=True)
class PlannedRun(Asked):
    """A run, and what lies of it in the results."""

    id: str
    state: str
    why: str  # of what is stale or damaged
    expected_s: float | None
    expected_by: str  # where that is known from
    sounds: str  # content hash

    @property
    def changed(self) -> dict[str, Any]:
        """The options that differ from their defaults."""
        return changed_options(self.config, self.options, self.recipe)


@dataclass
class Planner:
    """Looks runs up in a folder of results. Trains nothing and decodes nothing; remembers what many runs have in common."""

    results: Path
    data: Mapping[str, str]
    _sounds: dict[str, tuple[dict[str, Any], str]] = field(default_factory=dict)
    _codes: dict[Path, str] = field(default_factory=dict)
    _records: list[RunRecord] | None = None

    def planned(self, asked: Asked) -> PlannedRun:
        """UserError where the sounds, a file that an option names, or the wrapped run are not there."""
        recipe, config = asked.recipe, dict(asked.config)
        if files := recipe.files(config["params"]):
            config["files"] = files
        config["task"], sounds = self._task(config["task"])
        if config.get("inner"):
            config = with_inner(config, finished_run(Path(config["inner"]["run"]))[0])
        name = run_id(config, changed_options(config, asked.options, recipe))
        state, why = self._state(self.results / name, config, recipe, sounds)
        expected_s, by = self._expected(recipe, config)
        return PlannedRun(recipe, asked.config, asked.options, asked.name or name, name, state, why, expected_s, by, sounds)

    def _task(self, task: dict[str, Any]) -> tuple[dict[str, Any], str]:
        key = json.dumps(task, sort_keys=True)
        if key not in self._sounds:
            self._sounds[key] = settings_and_sounds(task, self.data)
        settings, sounds = self._sounds[key]
        return dict(settings), sounds

    def _state(self, path: Path, config: Mapping[str, Any], recipe: Recipe, sounds: str) -> tuple[str, str]:
        try:
            run = run_json(path)
        except UserError as error:
            return DAMAGED, str(error)
        if run is not None and run["config_hash"] != config_hash(config):
            return DAMAGED, f"{path}: holds a run of another configuration. Move it away."
        if run is None or run["state"] != "finished":
            return (RUNNING, "by another process") if locked(path) else (INTERRUPTED if run else MISSING, "")
        made = run.get("provenance") or {}
        why = [] if made.get("corpus_hash") in (None, sounds) else ["its sounds have changed"]
        code = made.get("recipe_hash")  # runs from before it was kept do not say
        why += [] if code in (None, self._code(recipe.folder)) else ["its recipe's files have changed"]
        return (STALE, " and ".join(why)) if why else (CACHED, "")

    def _code(self, folder: Path) -> str:
        if folder not in self._codes:
            self._codes[folder] = code_hash(folder)
        return self._codes[folder]

    def _expected(self, recipe: Recipe, config: Mapping[str, Any]) -> tuple[float | None, str]:
        """Seconds that a run may take, and by what: runs of the same recipe, profile and task, else the profile's own word."""
        if self._records is None:
            self._records = read_runs(self.results, []) if self.results.is_dir() else []
        finished = [run for run in self._records if run.state == "finished"]
        alike = [sum(run.wall_s.values()) for run in finished if _kind(run.config) == _kind(config)]
        if alike:
            return median(alike), f"{len(alike)} finished run{'s' if len(alike) > 1 else ''}"
        minutes = recipe.profiles[config["profile"]].minutes
        if minutes is None or learns_from(config) is None:
            return None, ""
        return 60 * minutes, f"profile {config['profile']}"


def _kind(config: Mapping[str, Any]) -> tuple[Any, ...]:
    return config["recipe"], config["profile"], config["task"]["name"], config["task"].get("scored_on")


def to_do(plan: Sequence[PlannedRun], again: bool, stale: bool) -> list[PlannedRun]:
    """Those that are to be run; `again`: all of them, `stale`: those that are stale, too."""
    return [run for run in plan if again or run.state not in KEPT or (stale and run.state == STALE)]


def plan_table(plan: Sequence[PlannedRun], todo: Sequence[PlannedRun], at_a_time: int) -> Table:
    """A line per run and, below, how many there are of each state and how long the rest may take."""
    runs = {run.id for run in todo}
    rows = [Line(tuple(map(text, (run.name, _state_words(run), *_time_words(run, run.id in runs))))) for run in plan]
    counts = Counter(run.state for run in plan)
    many = f"{len(plan)} runs: " + ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state]) + "."
    notes = [many, _total(todo, at_a_time)]
    if any(run.state == STALE and run.id not in runs for run in plan):
        notes.append("Stale runs are kept and not run again; --stale runs them anew, --again all.")
    return Table("Plan", ("Run", "State", "Time", "Known from"), tuple(rows), tuple(notes))


def _state_words(run: PlannedRun) -> str:
    return f"{run.state}: {run.why}" if run.why else run.state


def _time_words(run: PlannedRun, runs: bool) -> tuple[str, str]:
    """How long it may take, and by what that is known."""
    if not runs:
        return "", ""
    return ("not known", "") if run.expected_s is None else (clock_words(run.expected_s), run.expected_by)


def _total(todo: Sequence[PlannedRun], at_a_time: int) -> str:
    if not todo:
        return "Nothing to run."
    known = [run.expected_s for run in todo if run.expected_s is not None]
    n, unknown = len(todo), len(todo) - len(known)
    side = min(at_a_time, n)
    said = f"To run: {n}" + (f", {side} at a time" if side > 1 else "")
    if known:
        said += f"; about {clock_words(max(sum(known) / side, max(known)))}"
    if unknown:
        said += f"; of {unknown} nobody knows how long" if known else "; nobody knows yet how long"
    return said + "."
