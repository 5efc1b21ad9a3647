"""The command whose options come from recipe.yaml, or are those that several recipes share."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sepbench.errors import UserError, nearest
from sepbench.results_format import learns_from

if TYPE_CHECKING:
    from sepbench.recipe import Recipe

OWN = "recipe_"  # prefix of parameter names that come from recipe.yaml: `lambda` alone could not be a Python name


class RecipeValues(click.ParamType):
    """One value of a recipe's option, or several with commas between them; as text, which every recipe that has it can read."""

    def __init__(self, option: str, recipes: Sequence[Recipe]) -> None:
        self.option, self.recipes = option, recipes
        self.name = recipes[0].options[option].kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[Any]:
        if isinstance(value, list):
            return value
        flag, parts = "--" + self.option.replace("_", "-"), [part.strip() for part in value.split(",")]
        for recipe in self.recipes:
            whose = f"{recipe.folder.name}: " if len(self.recipes) > 1 else ""
            for part in parts:
                recipe.options[self.option].read(whose + flag, part)
        return parts


class BudgetValue(click.ParamType):
    """minutes=N or scenes=N, as {"minutes": N} or {"scenes": N}."""

    name = "minutes=N|scenes=N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, float]:
        if isinstance(value, dict):
            return value
        of, _, text = value.partition("=")
        if of not in ("minutes", "scenes"):
            raise UserError(f"--budget {value}: wanted minutes=N or scenes=N.{nearest(of, ('minutes', 'scenes'))}")
        try:
            most = int(text) if of == "scenes" else float(text)
        except ValueError:
            most = 0
        if not 0 < most < math.inf:
            raise UserError(f"--budget {value}: wanted a {'whole ' if of == 'scenes' else ''}number of {of} above 0.")
        return {of: most}


def with_budget(config: dict[str, Any], budget: Mapping[str, float] | None) -> dict[str, Any]:
    """The configuration with its budget; as it is without one, and where there is nothing to learn.

    What only wraps another run has nothing to learn: no settings of a training, whatever that run has learnt from.
    """
    learns = learns_from(config) is not None and (config["train"] or not config["inner"])
    return {**config, "budget": dict(budget)} if budget and learns else config


class RecipeCommand(click.Command):
    """A command whose arguments are recipes, and whose options are its own and those that all of the recipes have."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        names = self._names(args)
        if names and not ctx.resilient_parsing:
            recipes, ctx.meta["without the task"] = _recipes(names, _value_of("--task", args))
            ctx.meta["recipes"] = recipes
            if len(recipes) == 1:
                ctx.meta["recipe"], ctx.meta["recipe folder"] = recipes[0], names[0]
            _check_shared(recipes, args)
        return super().parse_args(ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        recipes: Sequence[Recipe] = ctx.meta.get("recipes", ())
        if not recipes:
            return super().get_params(ctx)
        if "recipe options" not in ctx.meta:
            shared = [name for name in recipes[0].options if all(name in each.options for each in recipes)]
            ctx.meta["recipe options"] = [_option(recipes, name) for name in shared]
        return [*ctx.meta["recipe options"], *super().get_params(ctx)]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        own = [param for param in options if (param.name or "").startswith(OWN)]
        rest = [param for param in options if param not in own]
        for title, params in ((_title(ctx), own), ("Options", rest)):
            records = [record for param in params if (record := param.get_help_record(ctx))]
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
        recipes: Sequence[Recipe] = ctx.meta.get("recipes", ())
        for title, lines in _sections(recipes[0]) if len(recipes) == 1 else _sections_of_several(recipes):
            with formatter.section(title):
                formatter.write_dl(lines)

    def _names(self, args: Sequence[str]) -> list[str]:
        """The arguments that are no option and no option's value; a recipe's own options all take a value."""
        flags = {name for param in self.params for name in param.opts if getattr(param, "is_flag", False)}
        flags |= {"--help", "-h"}
        rest = iter(args)
        found: list[str] = []
        for arg in rest:
            if arg == "--":
                return [*found, *rest]
            if not arg.startswith("-"):
                found.append(arg)
            elif arg not in flags and "=" not in arg and (arg.startswith("--") or len(arg) == 2):  # -j2 holds its value
                next(rest, None)
        return found


def _recipes(names: Sequence[str], task: str | None) -> tuple[list[Recipe], list[Recipe]]:
    """The recipes of these names on their task, each once, and those that do not run on it. UserError where none does.

    Among several names, those of files are passed over: a shell makes them of recipes/*.
    """
    from sepbench.recipe import load_recipe

    folders = [name for name in names if len(names) == 1 or not Path(name).is_file()] or names[:1]
    found = list({recipe.folder: recipe for recipe in map(load_recipe, folders)}.values())
    if task is None:
        return found, []
    if len(found) == 1:
        return [found[0].on(task)], []
    there = [recipe for recipe in found if task in _tasks(recipe)]
    if not there:
        known = list(dict.fromkeys(itertools.chain.from_iterable(map(_tasks, found))))
        raise UserError(f"--task {task}: none of these recipes runs on it.{nearest(task, known)} Known: {', '.join(known)}.")
    return [recipe.on(task) for recipe in there], [recipe for recipe in found if recipe not in there]


def _tasks(recipe: Recipe) -> list[str]:
    return [recipe.own_task, *recipe.other_tasks]


def _check_shared(recipes: Sequence[Recipe], args: Sequence[str]) -> None:
    """UserError for an option that some of the recipes have and others lack."""
    for arg in itertools.takewhile(lambda arg: arg != "--", args):
        name = arg.removeprefix("--").partition("=")[0].replace("-", "_")
        lacking = [recipe.folder.name for recipe in recipes if name not in recipe.options]
        if arg.startswith("--") and lacking and len(lacking) < len(recipes):
            raise UserError(
                f"{arg.partition('=')[0]}: not an option of {', '.join(lacking)}. Leave it away, or leave those recipes away."
            )


def _value_of(option: str, args: Sequence[str]) -> str | None:
    """What `option` is given on the command line; None where it is not, or without a value, of which click complains."""
    for i, arg in enumerate(args):
        if arg == "--":
            break
        if arg.startswith(f"{option}="):
            return arg.partition("=")[2]
        if arg == option and i + 1 < len(args):
            return args[i + 1]
    return None


def _option(recipes: Sequence[Recipe], name: str) -> click.Option:
    """Of one recipe with its defaults; of several as the first has it, since defaults differ."""
    from sepbench.schema import plain

    recipe = recipes[0]
    spec = recipe.options[name]
    defaults = {profile: plain(recipe.defaults(profile)[name]) for profile in recipe.profiles}
    usual = plain(spec.read(name, spec.default))
    differing = [f"{profile}: {value}" for profile, value in defaults.items() if value != usual]
    default = f"  [default: {'; '.join([usual, *differing])}]" if len(recipes) == 1 else ""
    text = f"{spec.help}{default}".strip()
    metavar = "|".join(map(plain, spec.choices)) if spec.choices else spec.kind.upper()
    flag = f"--{name.replace('_', '-')}"
    return click.Option([flag, OWN + name], type=RecipeValues(name, recipes), metavar=metavar, help=text)


def _title(ctx: click.Context) -> str:
    recipes: Sequence[Recipe] = ctx.meta.get("recipes", ())
    return f"Options of {recipes[0].name}" if len(recipes) == 1 else "Options that all of these recipes have"


def _sections(recipe: Recipe) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """What a recipe has beside options: tasks, profiles, and the paper's tables."""
    if recipe.other_tasks:
        others = [(name, "") for name in recipe.other_tasks]
        yield "Tasks (each has options of its own)", [(recipe.own_task, "unless --task says otherwise"), *others]
    profiles: list[tuple[str, str]] = []
    for name, profile in recipe.profiles.items():
        facts = [f"about {profile.minutes:g} minutes"] if profile.minutes else []
        profiles.append(
            (name, ", ".join([*facts, f"corpus {profile.corpus}" if profile.corpus else "the task's corpus"]))
        )
    yield "Profiles", profiles
    if recipe.tables:
        yield (
            "Tables",
            [(name, f"{table.title} ({len(recipe.grid(name))} runs)") for name, table in recipe.tables.items()],
        )


def _sections_of_several(recipes: Sequence[Recipe]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Which they are, and on which tasks each of them runs."""
    if recipes:
        yield "Recipes", [(recipe.folder.name, ", ".join(_tasks(recipe))) for recipe in recipes]


def grid(recipe: Recipe, given: dict[str, list[Any]], table: str | None) -> list[dict[str, Any]]:
    """The options of each run asked for: every combination of the values given, in each cell of `table` if any."""
    combinations = [dict(zip(given, values)) for values in itertools.product(*given.values())]
    if table is None:
        return combinations
    cells = recipe.grid(table)
    if both := sorted({name for cell in cells for name in cell} & set(given)):
        raise UserError(
            f"--{both[0].replace('_', '-')}: table {table} sets that itself. Leave it away, or leave --table away."
        )
    return [{**cell, **combination} for cell in cells for combination in combinations]
