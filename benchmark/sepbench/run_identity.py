"""What makes a run the run that it is: all that goes into its configuration, and so into its id."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sepbench.home import home
from sepbench.recipe import Recipe
from sepbench.results import RunRecord
from sepbench.run_weights import content


def changed_options(config: Mapping[str, Any], options: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    """The options that differ from their defaults, with the task and the budget where those do: what a run is called by."""
    defaults = recipe.defaults(config["profile"])
    changed = {name: value for name, value in options.items() if value != defaults[name]}
    if recipe.task != recipe.own_task:
        changed = {"task": recipe.task, **changed}
    if config.get("begun_with"):
        changed = {**changed, "begun_with": Path(config["begun_with"]["run"]).name[-8:]}
    if config.get("budget"):
        changed |= {"budget": " ".join(f"{most:g} {of}" for of, most in config["budget"].items())}
    return changed


def folder_words(recipe: Recipe) -> str:
    """Where the recipe lies, as a run keeps it: below the home of sepbench's own, else in full."""
    inside = recipe.folder.is_relative_to(home())
    return str(recipe.folder.relative_to(home()) if inside else recipe.folder)


def with_inner(config: dict[str, Any], record: RunRecord) -> dict[str, Any]:
    """The configuration, told what the method has learnt that it wraps, and what from."""
    told = {"weights": content(record.path / "weights"), "parameters": record.cost.get("parameters")}
    config = {**config, "inner": {**config["inner"], **told}}
    if config["supervision"] == "weak":
        config["labels_seen"] = record.config["labels_seen"]
    return config
