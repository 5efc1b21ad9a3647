"""`sepbench merge`: results folders of several people become one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sepbench.errors import UserError
from sepbench.options import FOLDER

if TYPE_CHECKING:
    from sepbench.merge import Fate
    from sepbench.tables_format import Table

CONFLICTS = 1  # exit code


@click.command()
@click.argument("folders", nargs=-1, required=True, type=FOLDER, metavar="A B...")
@click.option("-o", "--out", type=FOLDER, metavar="DIR", help="Merge all into this folder instead; A stays as it is.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
def merge(folders: tuple[Path, ...], out: Path | None, dry_run: bool) -> int:
    """Bring the runs in B and all that follow into the results folder A.

    The same run (same id, rows, weights and sounds) is kept once; what one making of it lacks, such as weights, comes
    from the other. Runs of one id that differ are conflicts: both are kept, the second with a mark behind its id.
    Interrupted and broken runs are left out by name. Exit code: 0 merged; 1 merged, with conflicts; 2 nothing done.
    """
    if len(folders) + (out is not None) < 2:
        raise UserError(f"merge {folders[0]}: with what? Name another folder of results, or a new one with -o DIR.")
    from sepbench.merge import CONFLICT
    from sepbench.merge import merge as merged
    from sepbench.tables_format import render

    fates = merged(folders, out, dry_run)
    for fate in fates:
        if fate.line:
            click.echo(f"{fate.verdict}: {fate.line}", err=fate.verdict == CONFLICT)
    click.echo(render([_counts(fates, out or folders[0], dry_run)]))
    return CONFLICTS if any(fate.verdict == CONFLICT for fate in fates) else 0


def _counts(fates: Sequence[Fate], to: Path, dry_run: bool) -> Table:
    """How many runs of each folder were taken, and so on."""
    from sepbench.merge import VERDICTS
    from sepbench.tables_format import Cell, Line, Table, text

    rows = []
    for source in dict.fromkeys(fate.source for fate in fates):
        own = [fate.verdict for fate in fates if fate.source == source]
        rows.append(Line((text(str(source)), *(Cell(own.count(verdict), digits=0) for verdict in VERDICTS))))
    title = f"{'Would be merged' if dry_run else 'Merged'} into {to}"
    return Table(title, ("From", *(verdict.capitalize() for verdict in VERDICTS)), tuple(rows))
