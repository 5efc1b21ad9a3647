"""The runs that a command line asks for: every combination of the values given, named by what tells them apart."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepbench.options_recipe import OWN, grid, with_budget
from sepbench.printing import differing
from sepbench.sweep_plan import Asked

if TYPE_CHECKING:
    from sepbench.recipe import Recipe


def own_options(recipe: Recipe, given: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The values that are given for the recipe's own options."""
    own = {name.removeprefix(OWN): values for name, values in given.items() if name.startswith(OWN) and values}
    return {name: [recipe.options[name].read(name, value) for value in values] for name, values in own.items()}


def asked_runs(recipe: Recipe, given: Mapping[str, Any], data: dict[str, str], inner: Path | None) -> list[Asked]:
    """The runs of a recipe, each once, without names."""
    found: dict[str, Asked] = {}
    for chosen, seed in itertools.product(grid(recipe, own_options(recipe, given), given["table"]), given["seeds"]):
        one = asked_run(recipe, given, data, inner, chosen, given["sets"], seed)
        found[json.dumps(one.config, sort_keys=True)] = one
    return list(found.values())


def asked_run(
    recipe: Recipe, given: Mapping[str, Any], data: dict[str, str], inner: Path | None, chosen: Mapping[str, Any],
    sets: Sequence[str], seed: int,
) -> Asked:  # fmt: skip
    """One run, with `chosen` options and `sets`."""
    config, options = recipe.resolve(given["profile"], chosen, sets, data, seed, given["corpus"], inner)
    config["task"]["metrics"] = list(dict.fromkeys([*config["task"]["metrics"], *(given["metrics"] or [])]))
    if given["begin_with"]:
        config["begun_with"] = {"run": str(given["begin_with"])}
    return Asked(recipe, with_budget(config, given["budget"]), options, "")


def with_names(runs: Sequence[Asked], several: bool) -> list[Asked]:
    """The runs, each named by its recipe where there are `several`, and by what it differs in from the others of its recipe."""
    named = []
    for run in runs:
        mates = [each for each in runs if each.recipe is run.recipe]
        words = [run.recipe.folder.name] if several else []
        words += [differing(run.options, [each.options for each in mates])]
        if len({each.config["seed"] for each in mates}) > 1:
            words[-1:] = [", ".join(filter(None, (words[-1], f"seed={run.config['seed']}")))]
        named.append(replace(run, name=" ".join(filter(None, words))))
    return named
