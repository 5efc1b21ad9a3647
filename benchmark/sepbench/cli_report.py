"""`sepbench report`: all runs of a folder in one file to look at and to listen to."""

from __future__ import annotations

import math
from pathlib import Path

import click

from sepbench.errors import UserError
from sepbench.options import FILE, FOLDER, data_option, device_option, places, start, threads_option

MB = 1_000_000


@click.command()
@click.argument("results", type=FOLDER, default=Path("results"))
@click.option("-o", "--out", type=FILE, default=Path("report.html"), show_default=True, metavar="FILE", help="The file.")
@click.option("--no-audio", is_flag=True, help="Tables and charts alone.")
@click.option(
    "--max-mb", type=click.FloatRange(min=0, min_open=True), default=15.0, show_default=True,
    help="Leave out sounds until the file is no larger.",
)  # fmt: skip
@click.option("--trust", is_flag=True, help="Run recipes wherever the runs say that they lie.")
@data_option
@device_option
@threads_option
def report(
    results: Path, out: Path, no_audio: bool, max_mb: float, trust: bool, data: list[tuple[str, str]], device: str,
    threads: int | None,
) -> None:  # fmt: skip
    """Write the runs in RESULTS into one HTML file: tables, charts, and scenes to listen to.  [default: results]

    The file holds all that it shows, so that it can be mailed. Sounds are those that a run kept; a run without any answers
    its best, median and worst scene again, where its weights and recordings (--data) are at hand.
    Its recipe is Python: unless you --trust the runs, it is one that is installed, or lies in recipes/ or baselines/ here.

    Example: sepbench report results/reference -o report.html --data esc50=DIR
    """
    if not math.isfinite(max_mb):
        raise UserError(f"--max-mb {max_mb}: wanted a number of megabytes above 0.")
    if not out.parent.is_dir():
        raise UserError(f"-o {out}: there is no folder {out.parent}. Make it, or choose another.")
    if out.is_dir():
        raise UserError(f"-o {out}: is a folder. Name a file, such as {out / 'report.html'}.")
    where = places(data)
    from sepbench.results_whole import whole_runs

    broken: list[str] = []
    runs = whole_runs(results, broken)
    for line in broken:
        click.echo(f"sepbench: {' '.join(line.split())}", err=True)
    if not any(run.state == "finished" for run in runs):
        raise UserError(f"{results}: holds no finished run. `sepbench run recipes/weak_label` makes one.")
    progress = start(threads)
    from sepbench import __version__
    from sepbench.relisten import sounds_of
    from sepbench.report.page import Wanted, make_page
    from sepbench.storage import write_text
    from sepbench.tables import find_published

    made = f"Made by sepbench {__version__} on {_now()}"
    hear = None if no_audio else lambda run, split: sounds_of(run, split, where, device, progress, None if trust else results)
    wanted = Wanted(runs, find_published(results), str(results), made, broken, max_mb, hear, progress.say)
    page = make_page(wanted)
    write_text(out, page.html)
    for note in page.notes:
        click.echo(note)
    size_mb = len(page.html.encode()) / MB
    click.echo(f"{out}: {page.n_runs} runs, {page.n_heard} of them with sounds, {size_mb:.1f} MB")


def _now() -> str:
    from datetime import datetime, timezone

    return datetime.now(timezone.utc).strftime("%d %B %Y, %H:%M UTC")
