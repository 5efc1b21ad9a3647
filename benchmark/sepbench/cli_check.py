"""`sepbench check` and `sepbench freeze`: the regression gate, and what it is held against."""

from __future__ import annotations

import os
from pathlib import Path

import click

from sepbench.options import FILE, FOLDER, WORD

only_option = click.option("--only", multiple=True, metavar="RECIPE", help="This recipe alone; may be given more than once.")


@click.command()
@click.argument("results", type=FOLDER)
@click.option("--against", type=FOLDER, required=True, metavar="REFERENCE", help="The frozen runs.")
@click.option("--tolerances", type=FILE, metavar="FILE",
              help="By how much a figure may get worse.  [default: tolerances.yaml beside the frozen runs]")
@only_option
@click.option("--task", type=WORD, metavar="NAME", help="The runs on this task alone.")
@click.option("--no-new", is_flag=True, help="A run that is not frozen fails, too: nothing goes unchecked.")
@click.option("--strict", is_flag=True, help="What is better, not frozen or not finished fails, too.")
@click.option("--format", "form", type=click.Choice(["terminal", "github", "json", "md"]), default="terminal",
              show_default=True, help="How to say it; github: annotations, and a table in the job's summary.")
def check(
    results: Path, against: Path, tolerances: Path | None, only: tuple[str, ...], task: str | None, no_new: bool,
    strict: bool, form: str,
) -> int:
    """Hold the runs in RESULTS against frozen ones: has a figure got worse?

    Runs pair by recipe, profile, options, task, sounds and scenes. Exit code: 0 fine; 1 a figure or a run regressed, is
    missing, is new or has moved; 2 wrong usage; 3 nothing comparable was measured.
    """
    from sepbench.check import check as checked
    from sepbench.check_print import append_summary, printed

    outcome = checked(results, against, tolerances, only, strict, no_new, task)
    click.echo(printed(outcome, form))
    page = os.environ.get("GITHUB_STEP_SUMMARY")
    if form == "github" and page and (warning := append_summary(outcome, page)):
        click.echo(warning)
    return outcome.exit_code


@click.command()
@click.argument("results", type=FOLDER)
@click.option("--to", "reference", type=FOLDER, required=True, metavar="REFERENCE", help="Where frozen runs are kept.")
@only_option
@click.option("--replace", is_flag=True, help="Take the place of frozen runs of the same kind.")
def freeze(results: Path, reference: Path, only: tuple[str, ...], replace: bool) -> None:
    """Make the runs in RESULTS the reference of later checks: their figures are copied, no sounds and no weights."""
    from sepbench.freeze import freeze as frozen

    for line in frozen(results, reference, only, replace):
        click.echo(line)
    click.echo(f"Now: sepbench check NEW_RESULTS --against {reference}")
