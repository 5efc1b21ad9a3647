"""The door: parse, call, print. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

from pathlib import Path

import click

from sepbench import __version__
from sepbench.cli_audit import audit
from sepbench.cli_check import check, freeze
from sepbench.cli_compare import compare
from sepbench.cli_data import data_group
from sepbench.cli_figures import figures
from sepbench.cli_merge import merge
from sepbench.cli_new import copy, new
from sepbench.cli_report import report
from sepbench.cli_run import run
from sepbench.cli_scenes import scenes, worst
from sepbench.cli_score import score
from sepbench.cli_sweep import sweep
from sepbench.cli_table import table
from sepbench.errors import UserError
from sepbench.options import (
    FILE,
    FOLDER,
    RUNS,
    Door,
    again_option,
    data_option,
    device_option,
    metrics_option,
    places,
    results_option,
    run_folder,
    score_chunk_option,
    score_workers_option,
    sets_option,
    start,
    threads_option,
)


@click.group(cls=Door, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="sepbench")
def main() -> None:
    """Sound separation methods behind one interface, judged by one evaluator.

    Start with: sepbench run weak_label
    """


@main.command()
@click.argument("run", type=FILE)
@data_option
@sets_option
@metrics_option
@results_option
@again_option
@device_option
@score_workers_option
@score_chunk_option
@threads_option
def test(
    run: Path,
    data: list[tuple[str, str]],
    sets: tuple[str, ...],
    metrics: list[str] | None,
    results: Path,
    again: bool,
    device: str,
    score_workers: int,
    score_chunk: int | None,
    threads: int | None,
) -> None:
    """Score the trained RUN on other folds, another task or other sounds, as a run of its own.

    Example: sepbench test results/runs/NAME --data urbansound8k=DIR --set task.splits.test=[10]
    """
    folder = run_folder(run, results)
    progress = start(threads)
    from sepbench.printing import report
    from sepbench.run import Spread, test_run

    spread = Spread(score_workers=score_workers, chunk=score_chunk)
    scored = test_run(folder, places(data), list(sets), results, again, device, progress, metrics or (), spread)
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
@click.option("--format", "form", default="terminal", show_default=True, metavar="terminal|md|csv|latex", help="How to write it.")
def metrics(form: str) -> None:
    """List every metric: unit, what it needs, and the signature that is stored with each figure."""
    from sepbench.printing import metrics_table

    click.echo(metrics_table(form))


@main.command()
@click.argument("results", type=FOLDER, required=False)
def ls(results: Path | None) -> None:
    """List the runs in RESULTS, the newest first. Without RESULTS: the methods there are, then the runs in results/."""
    from sepbench.tables import list_runs, render

    if results is None:
        from sepbench.listing import list_methods

        click.echo(render([list_methods()]))
        results = Path("results")
        if not results.is_dir():
            return
    passed_over: list[str] = []
    click.echo(render([list_runs(results, passed_over)]))
    for line in passed_over:
        click.echo(f"left out: {line}", err=True)


COMMANDS = (
    run, sweep, table, score, report, audit, compare, worst, scenes, figures, check, freeze, merge, new, copy, data_group,
)  # fmt: skip
for command in COMMANDS:
    main.add_command(command)
