"""The door: parse, call, print. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from sepbench import __version__
from sepbench.cli_audit import audit
from sepbench.cli_check import check, freeze
from sepbench.cli_compare import compare
from sepbench.cli_data import data_group
from sepbench.cli_figures import figures
from sepbench.cli_scenes import scenes, worst
from sepbench.cli_score import score
from sepbench.errors import UserError
from sepbench.options import (
    FILE,
    FOLDER,
    RUNS,
    Door,
    again_option,
    data_option,
    device_option,
    known_corpora,
    metrics_option,
    places,
    results_option,
    run_folder,
    sets_option,
    start,
    threads_option,
)
from sepbench.options_recipe import OWN, RecipeCommand, grid


@click.group(cls=Door, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="sepbench")
def main() -> None:
    """Sound separation methods behind one interface, judged by one evaluator.

    Start with: sepbench run recipes/weak_label
    """


@main.command(cls=RecipeCommand, options_metavar="[OPTIONS] [THE RECIPE'S OWN OPTIONS]")
@click.argument("recipe")
@click.option(
    "--profile", default="quick", show_default=True, metavar="quick|small|paper", help="How much of everything."
)
@click.option("--task", metavar="NAME", help="Another of the recipe's tasks.  [default: the recipe's own]")
@click.option("--table", metavar="NAME", help="Every run that this table of the paper needs.")
@data_option
@click.option("--corpus", help="Take the clips from this corpus.  [default: the profile's]")
@sets_option
@metrics_option
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of scenes and weights.")
@results_option
@again_option
@device_option
@threads_option
@click.option("--inner", type=FOLDER, metavar="RUN", help="The finished run of the method that this recipe wraps.")
@click.pass_context
def run(ctx: click.Context, **given: Any) -> None:
    """Train and score the recipe in the folder RECIPE, then print its table.

    `sepbench run RECIPE --help` lists the recipe's own options. A list of values, such as `--lambda 5,10`, runs them
    all. Started again, an interrupted run goes on where it stopped, and a finished one is not run twice.
    """
    from sepbench.printing import differing, report

    progress = start(given["threads"])
    recipe, data = ctx.meta["recipe"], places(given["data"])
    if given["corpus"]:
        known_corpora(given["corpus"], "--corpus")
    own = {name.removeprefix(OWN): values for name, values in given.items() if name.startswith(OWN) and values}
    inner = run_folder(given["inner"], given["results"], "--inner ") if given["inner"] else None
    resolved = [
        recipe.resolve(given["profile"], options, given["sets"], data, given["seed"], given["corpus"], inner)
        for options in grid(recipe, own, given["table"])
    ]
    for config, _ in resolved:
        config["task"]["metrics"] = list(dict.fromkeys([*config["task"]["metrics"], *(given["metrics"] or [])]))
    planned = list({json.dumps(config, sort_keys=True): (config, options) for config, options in resolved}.values())
    from sepbench.run import run_one

    folders = []
    for i, (config, options) in enumerate(planned):
        if len(planned) > 1:
            progress.say(f"Run {i + 1} of {len(planned)}: {differing(options, [options for _, options in planned])}")
        folder = run_one(
            config, options, recipe, data=data, results=given["results"], again=given["again"], device=given["device"],
            progress=progress,
        )  # fmt: skip
        folders.append(folder)
    click.echo(report(folders, given["results"]))


@main.command()
@click.argument("run", type=FILE)
@data_option
@sets_option
@metrics_option
@results_option
@again_option
@device_option
@threads_option
def test(
    run: Path,
    data: list[tuple[str, str]],
    sets: tuple[str, ...],
    metrics: list[str] | None,
    results: Path,
    again: bool,
    device: str,
    threads: int | None,
) -> None:
    """Score the trained RUN on other folds, another task or other sounds, as a run of its own.

    Example: sepbench test results/runs/NAME --data urbansound8k=DIR --set task.splits.test=[10]
    """
    folder = run_folder(run, results)
    progress = start(threads)
    from sepbench.printing import report
    from sepbench.run import test_run

    scored = test_run(folder, places(data), list(sets), results, again, device, progress, metrics or ())
    click.echo(report([scored], results))


@main.command()
@click.argument("run", type=FILE)
@click.argument("file", type=FILE)
@click.option("-o", "--out", type=FOLDER, required=True, metavar="DIR", help="Where the separated sounds go.")
@click.option(
    "--threshold", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Heard from this probability on."
)
@device_option
@threads_option
def separate(run: Path, file: Path, out: Path, threshold: float, device: str, threads: int | None) -> None:
    """Separate the recording FILE with the trained RUN: one wav per class heard, and when it was heard."""
    if not file.is_file():
        raise UserError(f"{file}: no such file. Name a recording (wav, flac, ogg).")
    folder = run_folder(run, RUNS)
    progress = start(threads)
    from sepbench.printing import heard_when
    from sepbench.separate import separate_file

    heard = separate_file(folder, file, out, threshold, device, progress)
    if not heard:
        click.echo(f"Nothing was heard in {file} with a probability of {threshold:g} or more.")
        return
    click.echo(heard_when(heard, f"Heard in {file}"))
    click.echo(f"The separated sounds lie in {out}")


@main.command()
@click.argument("results", type=FOLDER, default=Path("results"))
@click.option(
    "--format", "form", default="terminal", show_default=True, metavar="terminal|md|csv|latex", help="How to write it."
)
@click.option("-o", "--out", type=FILE, metavar="FILE", help="Write to a file instead.")
@click.option("--all", "everything", is_flag=True, help="The paper's tables of which no run of ours fills a cell, too.")
def table(results: Path, form: str, out: Path | None, everything: bool) -> None:
    """Print the runs in RESULTS beside the published figures.  [default: results]"""
    from sepbench.results import read_runs
    from sepbench.tables import find_published, make_tables, render

    text = render(make_tables(read_runs(results), find_published(results), everything), form)
    if out is None or not text:
        click.echo(text or f"No finished runs in {results}. `sepbench run recipes/weak_label` makes one.")
        return
    from sepbench.storage import write_text

    if not out.parent.is_dir():
        raise UserError(f"-o {out}: there is no folder {out.parent}. Make it, or choose another.")
    write_text(out, text)


@main.command()
@click.option("--format", "form", default="terminal", show_default=True, metavar="terminal|md|csv|latex", help="How to write it.")
def metrics(form: str) -> None:
    """List every metric: unit, what it needs, and the signature that is stored with each figure."""
    from sepbench.printing import metrics_table

    click.echo(metrics_table(form))


@main.command()
@click.argument("results", type=FOLDER, default=Path("results"))
def ls(results: Path) -> None:
    """List the runs in RESULTS, the newest first.  [default: results]"""
    from sepbench.tables import list_runs, render

    click.echo(render([list_runs(results)]))


for command in (score, audit, compare, worst, scenes, figures, check, freeze, data_group):
    main.add_command(command)
