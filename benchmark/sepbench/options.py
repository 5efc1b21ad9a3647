"""What click does not bring: one-line errors, options read from recipe.yaml, the value types of the command line."""

from __future__ import annotations

import errno
import itertools
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

from sepbench.errors import UserError, nearest

if TYPE_CHECKING:
    from sepbench.recipe import Recipe

BAD_INPUT, INTERRUPTED = 2, 130
NOT_OURS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)  # the disk's and its owner's to mend
ALSO_CALLED = {"gpu": "cuda"}  # else `cpu` would be the nearest
OWN = "recipe_"  # prefix of parameter names that come from recipe.yaml: `lambda` alone could not be a Python name


class Door(click.Group):
    """A group whose every failure that a user can cause is one line on stderr and exit code 2."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        call: Any = super().main
        if not standalone_mode:
            return call(*args, standalone_mode=False, **extra)
        try:
            result = call(*args, standalone_mode=False, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            sys.exit(BAD_INPUT)
        except click.Abort:
            _fail("stopped; the same command goes on where it stopped.", INTERRUPTED)
        except click.ClickException as error:
            _fail(one_line(error))
        except UserError as error:
            _fail(str(error))
        except OSError as error:
            if error.errno not in NOT_OURS:
                raise
            where = f"{error.filename}: " if error.filename else ""
            _fail(f"{where}{error.strerror}. Mend that and give the same command again: it goes on where it stopped.")
        sys.exit(result if isinstance(result, int) else 0)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise UserError(
                f"no such command '{args[0]}'.{nearest(args[0], self.commands)} `sepbench --help` lists them."
            )
        return super().resolve_command(ctx, args)


def _fail(line: str, code: int = BAD_INPUT) -> NoReturn:
    click.echo("sepbench: " + " ".join(line.split()), err=True)
    sys.exit(code)


def one_line(error: click.ClickException) -> str:
    """click's complaint, with the nearest match where a name was misspelt."""
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        known = [
            name for param in error.ctx.command.get_params(error.ctx) for name in param.opts if name.startswith("--")
        ]
        recipe = f" {error.ctx.meta['recipe folder']}" if "recipe" in error.ctx.meta else ""
        close = nearest(error.option_name, known) or f" `{error.ctx.command_path}{recipe} --help` lists them."
        return f"no such option {error.option_name}.{close}"
    said = error.format_message()
    kind = getattr(getattr(error, "param", None), "type", None)
    if isinstance(kind, click.Choice) and (given := re.search(r"'([^']*)' is not one of", said)):
        said += nearest(ALSO_CALLED.get(given[1], given[1]), kind.choices)
    command = getattr(getattr(error, "ctx", None), "command_path", None)
    if said.startswith(("Missing", "Got unexpected")) and command:
        said = f"{said.rstrip('.')}. `{command} --help` says what it takes."
    return said[0].lower() + said[1:]


class CommaList(click.ParamType):
    """Text with commas, such as `5,10` or `1-6`; each part is read by `read`, which raises ValueError."""

    def __init__(self, name: str, read: Any) -> None:
        self.name = name
        self.read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[Any]:
        if isinstance(value, list):
            return value
        try:
            return [item for part in value.split(",") for item in self.read(part.strip())]
        except ValueError:
            self.fail(f"got {value!r}, wanted {self.name.lower()} such as {'1-6' if self.name == 'FOLDS' else '5,10'}")


def _positive(text: str) -> list[float]:
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError
    return [number]


def _span(text: str) -> list[int]:
    first, _, last = text.partition("-")
    found = list(range(int(first), int(last or first) + 1))
    if not found:
        raise ValueError
    return found


NUMBERS = CommaList("NUMBERS", _positive)
FOLDS = CommaList("FOLDS", _span)


class Named(click.ParamType):
    """NAME=DIR: where a corpus lies."""

    name = "NAME=DIR"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, equals, folder = value.partition("=")
        if not equals or not folder:
            raise UserError(f"--data {value}: wanted NAME=DIR, such as urbansound8k=/data/UrbanSound8K.")
        return name, folder


def places(given: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Corpus name -> folder, as --data gave them. UserError where there is no such corpus."""
    return {known_corpus(name, "--data"): folder for name, folder in given}


def known_corpus(name: str, option: str) -> str:
    """`name`, or a UserError with the nearest corpus there is."""
    from sepbench.corpora import CORPORA

    if name not in CORPORA:
        raise UserError(
            f"{option}: there is no corpus '{name}'.{nearest(name, CORPORA) or ''} Known: {', '.join(CORPORA)}."
        )
    return name


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

            ctx.meta["recipe"], ctx.meta["recipe folder"] = load_recipe(folder), folder
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
    """What a recipe has beside options: profiles, and the paper's tables."""
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
