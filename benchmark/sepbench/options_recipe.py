"""The command whose options come from recipe.yaml."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from sepbench.errors import UserError

if TYPE_CHECKING:
    from sepbench.recipe import Recipe

OWN = "recipe_"  # prefix of parameter names that come from recipe.yaml: `lambda` alone could not be a Python name


class RecipeValues(click.ParamType):
    """One value of a recipe's option, or several with commas between them."""

    def __init__(self, option: str, spec: Any) -> None:
        self.option, self.spec = option, spec
        self.name = spec.kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[Any]:
        if isinstance(value, list):
            return value
        flag = "--" + self.option.replace("_", "-")
        return [self.spec.read(flag, part.strip()) for part in value.split(",")]


class RecipeCommand(click.Command):
    """A command whose first argument is a recipe folder, and whose options are the command's own and the recipe's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        folder = self._folder(args)
        if folder is not None and not ctx.resilient_parsing:
            from sepbench.recipe import load_recipe

            recipe, task = load_recipe(folder), _value_of("--task", args)
            ctx.meta["recipe"] = recipe if task is None else recipe.on(task)
            ctx.meta["recipe folder"] = folder
        return super().parse_args(ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        recipe: Recipe | None = ctx.meta.get("recipe")
        if recipe is None:
            return super().get_params(ctx)
        if "recipe options" not in ctx.meta:
            ctx.meta["recipe options"] = [_option(recipe, name) for name in recipe.options]
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
        recipe: Recipe | None = ctx.meta.get("recipe")
        for title, lines in _sections(recipe) if recipe else []:
            with formatter.section(title):
                formatter.write_dl(lines)

    def _folder(self, args: Sequence[str]) -> str | None:
        """The first argument that is no option and no option's value; a recipe's own options all take a value."""
        flags = {name for param in self.params for name in param.opts if getattr(param, "is_flag", False)}
        flags |= {"--help", "-h"}
        rest = iter(args)
        for arg in rest:
            if arg == "--":
                return next(rest, None)
            if not arg.startswith("-"):
                return arg
            if arg not in flags and "=" not in arg:
                next(rest, None)
        return None


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


def _option(recipe: Recipe, name: str) -> click.Option:
    from sepbench.schema import plain

    spec = recipe.options[name]
    defaults = {profile: plain(recipe.defaults(profile)[name]) for profile in recipe.profiles}
    usual = plain(spec.read(name, spec.default))
    differing = [f"{profile}: {value}" for profile, value in defaults.items() if value != usual]
    text = f"{spec.help}  [default: {'; '.join([usual, *differing])}]".strip()
    metavar = "|".join(map(plain, spec.choices)) if spec.choices else spec.kind.upper()
    flag = f"--{name.replace('_', '-')}"
    return click.Option([flag, OWN + name], type=RecipeValues(name, spec), metavar=metavar, help=text)


def _title(ctx: click.Context) -> str:
    return f"Options of {ctx.meta['recipe'].name}" if "recipe" in ctx.meta else ""


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
