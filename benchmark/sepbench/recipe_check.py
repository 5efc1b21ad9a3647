"""What pydantic cannot see of a recipe.yaml: whether its parts fit one another."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sepbench.errors import UserError, nearest
from sepbench.ranges import check_search
from sepbench.schema import OPTION_NAME, Variant
from sepbench.settings import has

if TYPE_CHECKING:
    from sepbench.recipe import Recipe


def check_recipe(recipe: Recipe, reserved: Sequence[str]) -> None:
    """UserError where the file uses a name or a value that it does not declare, or has an option called as one in `reserved`."""
    if not recipe.found.name.isidentifier():
        raise UserError(f"folder '{recipe.found.name}' must be an importable word: letters, digits, underscores.")
    for name in [*recipe.params, *recipe.task_params]:
        if not re.fullmatch(OPTION_NAME, name) or name in reserved:
            raise UserError(f"{name}: an option's name is lower case, and none of {', '.join(reserved)}.")
    if both := set(recipe.params) & set(recipe.task_params):
        raise UserError(f"{both.pop()}: stands in params and in task_params; keep one.")
    for path in [option.path for option in recipe.task_params.values()] if recipe.other_tasks else ():
        _check_path(recipe, path)
    for name, option in recipe.options.items():
        group = "params" if name in recipe.params else "task_params"
        option.read(f"{group}.{name}.default", option.default)
    for task, params in recipe.on_tasks.items():
        if task not in (known := [recipe.task, *recipe.other_tasks]):
            raise UserError(f"on_tasks: '{task}' is none of its tasks, {', '.join(known)}.{nearest(task, known)}")
        if other := [name for name in params if name not in recipe.params]:
            raise UserError(f"on_tasks.{task}: {other[0]}: stands not in params, of which alone a task may change the default.")
        recipe.read(params, f"on_tasks.{task}.")
    for name, profile in recipe.profiles.items():
        recipe.read(profile.params, f"profiles.{name}.params.")
    claims: list[Recipe | Variant] = [recipe, *recipe.variants]
    if any(part.learns_from and part.supervision != "oracle" for part in claims):
        raise UserError("learns_from: says what an oracle learns from. Leave it away where supervision is another.")
    for i, variant in enumerate(recipe.variants):
        recipe.read(variant.when, f"variants[{i}].when.")
    check_search(recipe)
    for name, table in recipe.tables.items():
        cells = [*table.rows, *([] if table.columns == "classes" else table.columns)]
        for when in [table.when, *(cell.when for cell in cells)]:
            recipe.read(when, f"tables.{name}: when.")
        headings = [] if table.columns == "classes" else [column.published for column in table.columns]
        for heading in itertools.chain.from_iterable(row.columns or () for row in table.rows):
            if heading not in headings:
                close = nearest(heading, filter(None, headings))
                raise UserError(f"tables.{name}: rows: columns: there is no '{heading}'.{close}")


def _check_path(recipe: Recipe, path: str) -> None:
    """UserError where none of the recipe's tasks has a setting of that path."""
    from sepbench.tasks import load_task

    tasks = [recipe.task, *recipe.other_tasks]
    if not any(has(load_task(task, {}), path) for task in tasks):
        raise UserError(f"task_params: none of {', '.join(tasks)} has '{path}'.")
