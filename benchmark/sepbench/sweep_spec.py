"""One run as another process is told of it, and what that answers: plain values, which any transport carries."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepbench.errors import SettingsRefused, UserError, in_a_line

if TYPE_CHECKING:
    from sepbench.recipe import Recipe
    from sepbench.sweep_plan import PlannedRun


@dataclass(frozen=True)
class How:
    """What all runs of a grid have in common."""

    data: Mapping[str, str]
    results: Path
    device: str
    threads: int | None  # of each run; None: what the machine has, shared out
    again: bool = False
    gpus: float = 1.0  # of each run on a cluster
    spread: Mapping[str, Any] = field(default_factory=dict)  # of each run, over processes: the arguments of Spread


@dataclass(frozen=True)
class Outcome:
    """How a run went."""

    folder: Path | None  # None: it failed
    said: str = ""  # why, in a line
    seconds: float = 0.0
    error: Exception | None = None  # where it failed in this process
    refused: bool = False  # it failed by its settings, and would anywhere
    retried: str = ""  # "2 attempts; node died", where one was not enough


def spec_of(run: PlannedRun, how: How, threads: int) -> dict[str, Any]:
    """All that `do` needs, as JSON may hold it."""
    found = run.recipe.found
    return {
        "id": run.id, "config": run.config, "options": run.options, "task": run.recipe.task,
        "recipe": str(run.recipe.folder), "registered": found.name if found.package else None,
        "data": dict(how.data), "results": str(how.results), "again": how.again or run.state == "stale",
        "device": how.device, "threads": threads, "spread": dict(how.spread),
    }  # fmt: skip


def do(spec: Mapping[str, Any], progress: Any) -> dict[str, Any]:
    """Run what `spec` says: {"folder": where it lies} or {"said": why not, in a line}, with the seconds it took.

    "refused": whether that is because of its settings.
    """
    from sepbench.run import Spread, run_one

    began_s = time.perf_counter()
    try:
        recipe = _recipe(spec)
        folder = run_one(
            spec["config"], spec["options"], recipe, data=spec["data"], results=Path(spec["results"]), again=spec["again"],
            device=spec["device"], progress=progress, spread=Spread(**spec["spread"]),
        )  # fmt: skip
        answer: dict[str, Any] = {"folder": str(folder), "said": ""}
    except Exception as error:
        answer = {"folder": None, "said": in_a_line(error), "refused": isinstance(error, SettingsRefused)}
    return {**answer, "seconds": time.perf_counter() - began_s}


def _recipe(spec: Mapping[str, Any]) -> Recipe:
    from sepbench.catalogue import registered
    from sepbench.recipe import load_recipe

    named = registered(spec["registered"]) if spec["registered"] else spec["recipe"]
    recipe = load_recipe(named)
    if recipe.found.name != spec["config"]["recipe"]:
        raise UserError(f"{spec['recipe']}: holds recipe {recipe.found.name}; wanted {spec['config']['recipe']}.")
    return recipe.on(spec["task"])
