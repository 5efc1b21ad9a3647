"""`sepbench scenes` and `sepbench worst`: the sounds behind a run's figures."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sepbench.errors import UserError
from sepbench.options import (
    FILE,
    FOLDER,
    WORD,
    data_option,
    device_option,
    places,
    results_option,
    run_folder,
    start,
    threads_option,
)

if TYPE_CHECKING:
    from sepbench.results import RunRecord
    from sepbench.tables_format import Table
    from sepbench.worst import Part, Ranking

split_option = click.option(
    "--split", default="test", show_default=True, metavar="test|seen", help="Which of the run's scenes."
)


@click.command()
@click.argument("run", type=FILE)
@click.option("-o", "--out", type=FOLDER, required=True, metavar="DIR", help="Where the scenes go.")
@split_option
@click.option("-n", "--number", type=click.IntRange(min=1), help="Only the first so many.  [default: all]")
@click.option("--estimates", is_flag=True, help="What RUN answers, too, in DIR-estimates.")
@data_option
@results_option
@device_option
@threads_option
def scenes(
    run: Path, out: Path, split: str, number: int | None, estimates: bool, data: list[tuple[str, str]], results: Path,
    device: str, threads: int | None,
) -> None:  # fmt: skip
    """Write the scenes that RUN was scored on as wav files, for other systems to answer.

    Whatever answers DIR/*/mixture.wav is scored with `sepbench score --reference DIR --estimate THEIRS`, and stands in
    one table with RUN.
    """
    from sepbench.cli_compare import finished_record

    record = finished_record(run_folder(run, results))
    progress = start(threads)
    from sepbench.scene_files import export_scenes

    n, beside = export_scenes(record, out, split, number, estimates, places(data), device, progress)
    click.echo(f"{n} scenes of {split} lie in {out}" + (f", what {record.id} answers in {beside}" if beside else ""))
    click.echo(f"Score what answers them: sepbench score --reference {out} --estimate {beside or 'YOUR_DIR'}")


@click.command()
@click.argument("run", type=FILE)
@click.option("--metric", type=WORD, metavar="NAME", help="What to rank by.  [default: si_sdri, or the nearest that RUN has]")
@click.option("-n", "--number", type=click.IntRange(min=1), default=10, show_default=True, help="How many scenes.")
@split_option
@click.option("-o", "--out", type=FOLDER, metavar="DIR", help="Where their sounds go.  [default: worst/RUN]")
@click.option("--best", is_flag=True, help="The best scenes instead.")
@click.option("--no-wavs", is_flag=True, help="List them and write nothing.")
@data_option
@results_option
@device_option
@threads_option
def worst(
    run: Path, metric: str | None, number: int, split: str, out: Path | None, best: bool, no_wavs: bool,
    data: list[tuple[str, str]], results: Path, device: str, threads: int | None,
) -> None:  # fmt: skip
    """List the scenes on which RUN fails most, and write their sounds: DIR/reference and DIR/estimate, a folder each.

    Example: sepbench worst results/runs/NAME --metric si_sdri -n 10
    """
    from sepbench.cli_compare import finished_record
    from sepbench.results import read_rows
    from sepbench.tables_format import render
    from sepbench.worst import PREFERRED, rank_scenes, usual_metric

    record = finished_record(run_folder(run, results))
    rows = read_rows(record.path)
    ranking = rank_scenes(rows, metric or usual_metric(rows, split), split, number, best)
    click.echo(render([ranked(record, ranking, split, best)]))
    if metric is None and ranking.metric != PREFERRED[0]:
        click.echo(f"Ranked by {ranking.metric}, for the run has no {PREFERRED[0]}; --metric chooses another.")
    if no_wavs or not ranking.failures:
        return
    kind = "best" if best else "worst"
    said = _write(record, ranking, split, out or Path(kind) / record.id, kind, places(data), device, threads)
    click.echo(said)


def ranked(record: RunRecord, ranking: Ranking, split: str, best: bool) -> Table:
    """The ranking as a table."""
    from sepbench.metrics import METRICS
    from sepbench.tables_facts import split_fact
    from sepbench.tables_format import Cell, Line, Table, text

    unit = METRICS[ranking.metric].unit if ranking.metric in METRICS else ""
    digits = 1 if unit == "dB" else 2
    facts = {"corpus": str(record.config["task"].get("corpus", "")), "profile": str(record.config.get("profile", ""))}
    lines = [
        Line(
            (
                Cell(one.rank, digits=0),
                text(one.scene),
                Cell(one.value, unit=unit, digits=digits, runs=(record.id,)),
                text(", ".join(_shown(part, digits) for part in one.parts if part.value is not None and part.label)),
                text(", ".join(one.missed)),
            ),
            {**facts, "split": split_fact(record, split)},
        )
        for one in ranking.failures
    ]
    heading = f"{ranking.metric}, {unit}" if unit == "dB" else ranking.metric
    told = any(part.input_db is not None for one in ranking.failures for part in one.parts)
    notes = ["( ): SI-SDR of the mixture, dB."] if told else []
    if ranking.unanswered:
        notes.append(f"Without a figure, for every source was missed: {_listed(ranking.unanswered)}.")
    kind = "best" if best else "worst"
    title = f"{record.id}, {split_fact(record, split)}: the {len(lines)} {kind} of {ranking.n_scenes} scenes"
    parts = "Its classes" if ranking.by_class else "Its sources"
    return Table(title, ("Rank", "Scene", heading, parts, "Missed"), tuple(lines), tuple(notes))


def _shown(part: Part, digits: int) -> str:
    from sepbench.tables_format import Cell

    before = "" if part.input_db is None else f" ({Cell(part.input_db).show()})"
    return f"{part.label} {Cell(part.value, digits=digits).show()}{before}"


def _listed(names: Sequence[str], n: int = 5) -> str:
    return ", ".join(names[:n]) + (f" and {len(names) - n} more" if len(names) > n else "")


def _write(
    record: RunRecord, ranking: Ranking, split: str, out: Path, kind: str, data: Mapping[str, str], device: str,
    threads: int | None,
) -> str:  # fmt: skip
    """Put the sounds of the ranked scenes, and the list, into `out`; what there is to say of it."""
    from sepbench.storage import write_text
    from sepbench.worst import as_csv, safe_name, scenes_in

    # of an earlier ranking the scenes go, and nothing else that may lie there
    for before in (file for file in (out / "worst.csv", out / "best.csv") if file.is_file()):
        for scene in scenes_in(before.read_text(encoding="utf-8")):
            for side in ("reference", "estimate"):
                shutil.rmtree(out / side / safe_name(scene), ignore_errors=True)
        before.unlink()
    listed = out / f"{kind}.csv"
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"-o {out}: cannot be made: {error.strerror}. Choose a folder you may write.") from error
    write_text(listed, as_csv(ranking))
    progress = start(threads)
    from sepbench.scene_files import write_listed

    lacking = write_listed(record, split, [one.scene for one in ranking.failures], out, data, device, progress)
    what = "mixtures and references" if lacking else "mixtures, references and estimates"
    said = f"Their {what} lie in {out}, the list in {listed}"
    return said + (f"\nThe estimates could not be written. {lacking}" if lacking else "")
