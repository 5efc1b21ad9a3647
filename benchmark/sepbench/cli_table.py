"""`sepbench table`: the runs of a folder beside the published figures; one task, one table of a paper, part by part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sepbench.errors import UserError, nearest
from sepbench.options import FILE, FOLDER, WORD, MetricNames

if TYPE_CHECKING:
    from sepbench.results import RunRecord
    from sepbench.tables_format import Table

SHAPES = "terminal|markdown|csv|latex|tex-macros|json"


@click.command()
@click.argument("results", type=FOLDER, default=Path("results"))
@click.option("--task", type=WORD, metavar="NAME", help="The methods on this task alone, one row each: figures, costs, budgets.")
@click.option("--by", type=WORD, metavar="WHAT", help="Of --task: by class, n_sources, overlap or input_si_sdr.")
@click.option("--metric", type=MetricNames(), help="Of --by: these figures rather than SI-SDRi and so on.")
@click.option("--table", "paper_table", type=WORD, metavar="NAME", help="This table of the papers alone, such as IV.")
@click.option("--corpus", type=WORD, metavar="NAME", help="Runs on this corpus alone.")
@click.option("--profile", type=WORD, metavar="NAME", help="Runs of this profile alone.")
@click.option("--sort", type=WORD, metavar="COLUMN", help="Order of rows, the best first; or 'COLUMN asc', 'COLUMN desc'.")
@click.option("--columns", type=WORD, metavar="NAME,...", help="The first column and these, in this order.")
@click.option("--format", "form", default="terminal", show_default=True, metavar=SHAPES, help="How to write it.")
@click.option("--bare", is_flag=True, help="Without titles and notes.")
@click.option("-o", "--out", type=FILE, metavar="FILE", help="Write to a file instead.")
@click.option("--all", "everything", is_flag=True, help="The paper's tables of which no run of ours fills a cell, too.")
def table(
    results: Path, task: str | None, by: str | None, metric: list[str] | None, paper_table: str | None, corpus: str | None,
    profile: str | None, sort: str | None, columns: str | None, form: str, bare: bool, out: Path | None, everything: bool,
) -> None:  # fmt: skip
    """Print the runs in RESULTS beside the published figures.  [default: results]

    \b
    sepbench table results/ --task common --sort params
    sepbench table results/ --task common --by n_sources
    sepbench table results/ --table IV --format latex
    """
    from sepbench.results_whole import whole_runs
    from sepbench.tables import render

    if task is None and (by or metric):
        raise UserError(f"{'--by' if by else '--metric'} parts the table of a task. Name it with --task, such as --task common.")
    if metric and not by:
        raise UserError("--metric goes with --by; without it, --columns chooses among a task's figures.")
    passed_over: list[str] = []
    runs = whole_runs(results, passed_over)
    last = passed_over.pop() if passed_over and not runs else None
    for line in passed_over:
        click.echo(f"left out: {line}", err=True)
    if last is not None:
        raise UserError(last)  # with nothing left to tell of
    runs = _only(_only(runs, "corpus", corpus), "profile", profile)
    wanted = [name.strip() for name in (columns or "").split(",") if name.strip()]
    tables = _made(runs, results, task, by, metric or (), paper_table, sort, wanted, everything)
    text = render([_bare(each) for each in tables] if bare else tables, form, runs=runs) if tables else ""
    if out is None or not text:
        click.echo(text.rstrip("\n") if text else f"No finished runs in {results}. `sepbench run recipes/weak_label` makes one.")
        return
    from sepbench.storage import write_text

    if not out.parent.is_dir():
        raise UserError(f"-o {out}: there is no folder {out.parent}. Make it, or choose another.")
    write_text(out, text)


def _made(
    runs: Sequence[RunRecord], results: Path, task: str | None, by: str | None, metrics: Sequence[str],
    paper_table: str | None, sort: str | None, columns: Sequence[str], everything: bool,
) -> list[Table]:  # fmt: skip
    from sepbench.tables import find_published, make_tables, named_tables
    from sepbench.tables_columns import sorted_by, with_columns
    from sepbench.tables_task import task_tables

    if paper_table is not None:
        own = runs if task is None else _only(runs, "task", task)
        tables = named_tables(own, find_published(results), paper_table)
    elif task is not None:
        return task_tables(runs, task, by, sort, metrics, columns)
    else:
        tables = make_tables(runs, find_published(results), everything)
    if not tables:
        return []
    tables = sorted_by(tables, sort) if sort else tables
    return with_columns(tables, columns) if columns else tables


def _only(runs: Sequence[RunRecord], what: str, name: str | None) -> list[RunRecord]:
    """The runs of that corpus, profile or task; all where none is named. UserError where no run is."""
    if name is None:
        return list(runs)

    def of(run: RunRecord) -> str:
        task = run.config["task"]
        return str({"task": task["name"], "corpus": task["corpus"], "profile": run.config["profile"]}[what])

    found = [run for run in runs if of(run) == name]
    if not found:
        known = sorted({of(run) for run in runs})
        raise UserError(f"--{what} {name}: no run here is of it.{nearest(name, known)} There are: {', '.join(known)}.")
    return found


def _bare(table: Table) -> Table:
    return replace(table, title="", notes=())
