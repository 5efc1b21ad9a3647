"""`sepbench run`: train and score recipes, one after the other."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sepbench.errors import UserError
from sepbench.options import (
    FOLDER,
    WORD,
    again_option,
    data_option,
    device_option,
    devices_option,
    known_corpora,
    metrics_option,
    nodes_option,
    places,
    results_option,
    run_folder,
    score_chunk_option,
    score_workers_option,
    sets_option,
    start,
    threads_option,
)
from sepbench.options_recipe import OWN, BudgetValue, RecipeCommand, grid, with_budget

if TYPE_CHECKING:
    from sepbench.recipe import Recipe

Planned = tuple["Recipe", dict[str, Any], dict[str, Any]]  # whose run, its configuration, the value of each option


@click.command(cls=RecipeCommand, options_metavar="[OPTIONS] [THE RECIPE'S OWN OPTIONS]")
@click.argument("recipe", nargs=-1, required=True)
@click.option(
    "--profile", default="quick", show_default=True, metavar="quick|small|paper", help="How much of everything."
)
@click.option("--task", type=WORD, metavar="NAME", help="Another of the recipe's tasks.  [default: the recipe's own]")
@click.option("--table", type=WORD, metavar="NAME", help="Every run that this table of the paper needs.")
@click.option(
    "--budget",
    type=BudgetValue(),
    metavar="minutes=N|scenes=N",
    help="What each may train for: so many minutes, or scenes drawn to learn from; validation comes on top of scenes.  "
    "[default: as the profile says]",
)
@data_option
@click.option("--corpus", type=WORD, help="Take the clips from this corpus.  [default: the profile's]")
@sets_option
@metrics_option
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of scenes and weights.")
@results_option
@again_option
@device_option
@devices_option
@nodes_option
@score_workers_option
@score_chunk_option
@threads_option
@click.option("--inner", type=FOLDER, metavar="RUN", help="The finished run of the method that this recipe wraps.")
@click.option("--begin-with", type=FOLDER, metavar="RUN", help="The stopped run whose last whole epoch to go on from.")
@click.pass_context
def run(ctx: click.Context, **given: Any) -> None:
    """Train and score the recipe in the folder RECIPE, then print its table.

    `sepbench run RECIPE --help` lists the recipe's own options. A list of values, such as `--lambda 5,10`, runs them
    all. Several recipes run one after the other, by the options that all of them have: those that lack the task are
    left out, and one that fails does not stop the rest. Started again, an interrupted run goes on where it stopped,
    and a finished one is not run twice.
    """
    from sepbench.printing import report

    progress = start(given["threads"])
    recipes, data = ctx.meta["recipes"], places(given["data"])
    if given["corpus"]:
        known_corpora(given["corpus"], "--corpus")
    inner = run_folder(given["inner"], given["results"], "--inner ") if given["inner"] else None
    for recipe in ctx.meta["without the task"]:
        progress.say(f"{recipe.folder.name}: does not run on {given['task']}; left out")
    failed: list[str] = []
    planned: list[Planned] = []
    for recipe in recipes:
        with _the_rest_goes_on(recipe, recipes, failed, progress):
            planned += _planned(recipe, given, data, inner)
    from sepbench.run import Spread, place_of, run_one

    spread = Spread(given["devices"], given["nodes"], given["score_workers"], given["score_chunk"])
    folders = []
    for i, (recipe, config, options) in enumerate(planned):
        if recipe.folder.name in failed:
            continue
        if len(planned) > 1:
            progress.say(f"Run {i + 1} of {len(planned)}: {_named(recipe, options, planned, len(recipes))}")
        with _the_rest_goes_on(recipe, recipes, failed, progress):
            folders.append(
                run_one(
                    config, options, recipe, data=data, results=given["results"], again=given["again"],
                    device=given["device"], progress=progress, spread=spread,
                )
            )  # fmt: skip
    if folders and place_of(spread.devices, spread.nodes).ranks.leads:
        click.echo(report(folders, given["results"]))
    if failed:
        named = ", ".join(recipe.folder.name for recipe in recipes if recipe.folder.name in failed)
        raise UserError(f"{len(failed)} of {len(recipes)} recipes failed: {named}. The lines above say why.")


def _planned(recipe: Recipe, given: Mapping[str, Any], data: dict[str, str], inner: Path | None) -> list[Planned]:
    """The runs that are asked for, each once."""
    own = {name.removeprefix(OWN): values for name, values in given.items() if name.startswith(OWN) and values}
    own = {name: [recipe.options[name].read(name, value) for value in values] for name, values in own.items()}
    found: dict[str, Planned] = {}
    for chosen in grid(recipe, own, given["table"]):
        config, options = recipe.resolve(
            given["profile"], chosen, given["sets"], data, given["seed"], given["corpus"], inner
        )
        config["task"]["metrics"] = list(dict.fromkeys([*config["task"]["metrics"], *(given["metrics"] or [])]))
        config = with_budget(config, given["budget"])
        if given["begin_with"]:
            begun = run_folder(given["begin_with"], given["results"], "--begin-with ")
            config["begun_with"] = {"run": str(begun)}
        found[json.dumps(config, sort_keys=True)] = (recipe, config, options)
    return list(found.values())


@contextmanager
def _the_rest_goes_on(recipe: Recipe, recipes: Sequence[Recipe], failed: list[str], progress: Any) -> Iterator[None]:
    """Of several recipes, one that fails, however it does, is told and written down in `failed`; one alone fails as it does."""
    try:
        yield
    except Exception as error:
        if len(recipes) == 1:
            raise
        said = str(error) if isinstance(error, UserError) else _in_a_line(error)
        progress.say(f"{recipe.folder.name}: {said}")
        failed.append(recipe.folder.name)


def _in_a_line(error: Exception) -> str:
    """AttributeError: ... (method.py:41), the place being the last that is no library's."""
    places = traceback.extract_tb(error.__traceback__)
    own = [place for place in places if not {"site-packages", "dist-packages"} & set(Path(place.filename).parts)]
    place = (own or places)[-1]
    words = " ".join([f"{type(error).__name__}:", *str(error).split()]).removesuffix(":")
    return f"{words} ({Path(place.filename).name}:{place.lineno})"


def _named(recipe: Recipe, options: Mapping[str, Any], planned: Sequence[Planned], n_recipes: int) -> str:
    """The recipe where there are several, and the options in which this run differs from its others."""
    from sepbench.printing import differing

    own = differing(options, [theirs for other, _, theirs in planned if other is recipe])
    return " ".join(filter(None, (recipe.folder.name if n_recipes > 1 else "", own)))
