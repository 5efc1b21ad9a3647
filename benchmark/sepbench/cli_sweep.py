"""`sepbench sweep`: a grid or a search, planned first, several runs at a time, here or on a cluster."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sepbench.cli_run import Common
from sepbench.errors import UserError, settings_told
from sepbench.options import WORD, start
from sepbench.options_grid import run_options
from sepbench.options_recipe import OWN, RecipeCommand

if TYPE_CHECKING:
    from sepbench.sweep_plan import PlannedRun
    from sepbench.sweep_search import Search, Wanted

TRIALS = 20
OF_A_SEARCH = ("trials", "metric", "study")


@click.command(cls=RecipeCommand, options_metavar="[OPTIONS] [THE RECIPE'S OWN OPTIONS]")
@run_options
@click.option("--plan", is_flag=True, help="Print what would be done, and stop. Asks no cluster.")
@click.option(
    "--search", type=click.Choice(["random", "optuna"]),
    help='Try settings from the ranges that recipe.yaml declares; optuna learns from trials (pip install "sepbench[search]").',
)
@click.option("--trials", type=click.IntRange(min=1), metavar="N", help=f"Of --search: how many in all.  [default: {TRIALS}]")
@click.option("--metric", type=WORD, metavar="NAME", help="Of --search: what to go by, on validation scenes.  [default: si_sdri]")
@click.option("--study", type=WORD, metavar="NAME", help="Of --search: its name on disk.  [default: by what is searched]")
@click.pass_context
def sweep(ctx: click.Context, **given: Any) -> None:
    """Run a grid of the recipe in the folder RECIPE, or search for its best settings.

    Lists of values are a grid: `--lambda 5,10 --seed 0..4`, or `--table VI`. The plan comes first: what is there, what
    is stale, what is missing, how long it may take. Stopped and started again, it goes on where it stopped; one run
    that fails does not stop the others.

    \b
    sepbench sweep weak_label --lambda 5,10 --seed 0..4 -j 2
    sepbench sweep weak_label --table VI --cluster auto
    sepbench sweep weak_label --search optuna --trials 50
    """
    progress = start(given["threads"])
    if not given["search"]:
        for name in OF_A_SEARCH:
            if given[name] is not None:
                raise UserError(f"--{name}: goes with --search random or --search optuna.")
    from sepbench.cli_grid import many, plan_only

    common = Common(ctx, given, progress)
    if given["search"]:
        _search(common)
        return
    asked = common.asked()
    if given["plan"]:
        click.echo(plan_only(asked, common))
    else:
        folders = many(asked, common, each=True)
        if folders:
            click.echo(common.report(folders))
    common.end()


def _search(common: Common) -> None:
    """Carry out the trials that are left, print all of them and the command that tests the best."""
    from sepbench.cli_grid import how_of
    from sepbench.run_fit import to_begin_with
    from sepbench.sweep import pool_for, prepare, run_all
    from sepbench.sweep_search import Search
    from sepbench.tables_format import render

    wanted, folder = _wanted(common)
    how = how_of(common, folder / "runs")
    if common.given["plan"]:
        click.echo(_plan(wanted, folder))
        return
    with pool_for(how, common.given["jobs"], common.given["cluster"], common.progress) as pool:
        search = Search(folder, wanted, _planner(common, folder), pool.at_a_time, common.progress)
        try:
            left = max(0, wanted.trials - search.n_ended)
            if left and wanted.base.get("begun_with"):
                to_begin_with(wanted.base)
            common.progress.say(_begins(wanted, folder, search.n_ended))
            pool.room = min(pool.room, pool.at_a_time)  # each trial is to learn from those that have ended
            runs = search.runs()
            first = next(runs, None)
            if first is not None:
                if pool.at_a_time > 1 or common.given["cluster"]:
                    for said in prepare([first], how, common.progress).values():
                        raise UserError(said)
                run_all(chain([first], runs), left, pool, common.progress, search.done)
            _check_none_failed(search)
            metric, trials = search.ranking()
        finally:
            search.close()
    click.echo(render([_trial_table(metric, trials, wanted, folder)]))
    click.echo(f"The best setting, on the test scenes:\n{_command(common, trials[0].params, wanted)}")


def _check_none_failed(search: Search) -> None:
    """UserError where a trial failed by something else than its settings: it is lost to no search."""
    if n := search.n_failed:
        trials = "1 trial" if n == 1 else f"{n} trials"
        raise UserError(f"--search: {trials} failed; the lines above say why. Mend that, and the same command goes on.")


def _wanted(common: Common) -> tuple[Wanted, Path]:
    """The search that is asked for, and the folder of its study. UserError where there is nothing to search."""
    from sepbench.grid import asked_run, own_options
    from sepbench.ranges import dimensions
    from sepbench.sweep_search import Wanted, check_installed, checked_metric

    given = common.given
    check_installed(given["search"])
    if len(common.recipes) > 1:
        raise UserError(f"--search: got {len(common.recipes)} recipes; a search is of one.")
    recipe, own = common.recipes[0], own_options(common.recipes[0], given)
    lists = [name for name, values in own.items() if len(values) > 1]
    if given["table"] or lists or len(given["seeds"]) > 1:
        named = "--table" if given["table"] else f"--{lists[0]}" if lists else "--seed"
        raise UserError(f"{named}: is a grid, and a search takes one value of each. Leave it away, or leave --search away.")
    base = asked_run(recipe, given, common.data, common.inner, _fixed(own), given["sets"], given["seeds"][0])
    fixed = [*own, *(text.partition("=")[0].strip().removeprefix("params.") for text in given["sets"])]
    found = list(dimensions(recipe, given["profile"], fixed))
    if not found:
        why = "declares no ranges (search: in recipe.yaml)" if not recipe.search else "has no range left that is not set"
        raise UserError(f"--search: {recipe.name} {why}.")
    metric = checked_metric(given["metric"])
    wanted = Wanted(given["search"], given["trials"] or TRIALS, metric, given["seeds"][0], found, base.config)
    name = given["study"] or f"{recipe.folder.name}-{given['profile']}-{recipe.task}-{wanted.kind}-{wanted.key}"
    if Path(name).name != name or name.startswith("."):
        raise UserError(f"--study {name}: wanted a plain name, without / and not hidden.")
    return wanted, given["results"].parent / "studies" / name


def _fixed(own: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    return {name: values[0] for name, values in own.items()}


def _planner(common: Common, folder: Path) -> Any:
    """Makes the planned run of a trial: the base with the trial's values, scored on validation scenes alone."""
    from dataclasses import replace

    from sepbench.grid import asked_run, own_options
    from sepbench.sweep_plan import Planner
    from sepbench.sweep_search import SPLIT
    from sepbench.tasks.settings import SCORED_ON

    given, recipe = common.given, common.recipes[0]
    planner = Planner(folder / "runs", common.data)

    def planned(values: Mapping[str, Any], name: str) -> PlannedRun:
        options = {**_fixed(own_options(recipe, given)), **{key: value for key, value in values.items() if key in recipe.params}}
        sets = [*given["sets"], *(f"{key}={json.dumps(value)}" for key, value in values.items() if key not in recipe.params)]
        with settings_told():
            asked = asked_run(recipe, given, common.data, common.inner, options, sets, given["seeds"][0])
        asked.config["task"][SCORED_ON] = SPLIT
        metric = given["metric"]
        if metric and metric not in asked.config["task"]["metrics"]:
            asked.config["task"]["metrics"].append(metric)
        return planner.planned(replace(asked, name=name))

    return planned


def _begins(wanted: Wanted, folder: Path, n_ended: int) -> str:
    ranges = "; ".join(f"{each.name} {_range_words(each.range)}" for each in wanted.dimensions)
    there = f"; {n_ended} of them are there" if n_ended else ""
    return f"Search ({wanted.kind}) of {wanted.trials} trials{there}, kept in {folder}: {ranges}"


def _plan(wanted: Wanted, folder: Path) -> str:
    from sepbench.sweep_search import n_there

    begun = " It is begun; the same command without --plan goes on." if (folder / "study.journal").is_file() else ""
    return _begins(wanted, folder, n_there(folder, wanted)) + "." + begun


def _range_words(own: Any) -> str:
    if own.choices is not None:
        return "one of " + ", ".join("null" if each is None else str(each) for each in own.choices)
    how = ", logarithmic" if own.log else f", in steps of {own.step:g}" if own.step else ""
    return f"{own.low:g} to {own.high:g}{how}"


def _trial_table(metric: str, trials: Sequence[Any], wanted: Wanted, folder: Path) -> Any:
    from sepbench.metrics import METRICS
    from sepbench.tables_format import Cell, Line, Table, text

    names = [each.name for each in wanted.dimensions]
    rows = [
        Line((
            Cell(float(i), digits=0), text(trial.user_attrs["draw"]), *(_value_cell(trial.params[name]) for name in names),
            Cell(trial.value, digits=2), text(trial.user_attrs.get("run")),
        ))
        for i, trial in enumerate(trials, 1)
    ]  # fmt: skip
    unit = METRICS[metric].unit
    heading = f"{metric}, {unit}" if unit else metric
    note = "On validation scenes, by which epochs were chosen, too: such figures are too good, and stand beside no test's."
    return Table(f"Trials of {folder.name}, the best first", ("Rank", "Trial", *names, heading, "Run"), tuple(rows), (note,))


def _value_cell(value: Any) -> Any:
    from sepbench.tables_format import text

    return text(f"{value:.4g}" if isinstance(value, float) else "null" if value is None else value)


def _command(common: Common, values: Mapping[str, Any], wanted: Wanted) -> str:
    """`sepbench run` with all that the search was given and the values of a trial."""
    given, recipe = common.given, common.recipes[0]
    words = ["sepbench", "run", common.named, "--profile", given["profile"]]
    words += ["--task", given["task"]] if given["task"] else []
    for name, value in given.items():
        if name.startswith(OWN) and value:
            words += [_flag(name.removeprefix(OWN)), str(value[0])]
    for name, value in values.items():
        shown = json.dumps(value).strip('"')
        words += [_flag(name), shown] if name in recipe.params else ["--set", f"{name}={shown}"]
    words += [word for text in given["sets"] for word in ("--set", text)]
    words += [word for name, place in common.data.items() for word in ("--data", f"{name}={place}")]
    for name in ("corpus", "inner"):
        words += [f"--{name}", str(given[name])] if given[name] else []
    for of, most in (given["budget"] or {}).items():
        words += ["--budget", f"{of}={most:g}" if of == "minutes" else f"{of}={most}"]
    words += ["--metrics", ",".join(given["metrics"])] if given["metrics"] else []
    words += ["--seed", str(wanted.seed)] if wanted.seed else []
    words += ["--results", str(given["results"])]
    return shlex.join(words)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
