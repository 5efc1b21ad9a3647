"""`sepbench score`: what any system made of any scenes, from files alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sepbench.errors import UserError
from sepbench.options import FILE, MetricNames, results_option, start, threads_option

if TYPE_CHECKING:
    from sepbench.score_files import Listing

READERS = 4  # threads that read ahead, at most: more do not help one disk
LISTED = 10  # skipped scenes that are shown; --json and run.json name all
COUNTS = {"missed": "missed", "missed_by_label": "missed by label", "extra": "extra", "sign_flipped": "sign-flipped"}
LEGEND = (
    "[ ]: 95 % interval, drawing scenes. n: sources, or scenes where a metric has one figure for each. "
    "Undefined: silent references, and scenes on which a metric says nothing."
)


@click.command()
@click.option("--reference", type=FILE, metavar="DIR", help="The true sources, and the mixtures; or a CSV.")
@click.option("--estimate", type=FILE, metavar="DIR", help="What the system answers, laid out alike; or a CSV.")
@click.option("--mixture", type=FILE, metavar="DIR", help="<scene>.wav or <scene>/mixture.wav.  [default: --reference]")
@click.option("--manifest", type=FILE, metavar="FILE", help="A CSV or JSON that lists all files, instead.")
@click.option("--metrics", type=MetricNames(), help="Only these, as si_sdri,bss_eval.  [default: all but bss_eval]")
@click.option("--json", "json_file", type=FILE, metavar="FILE", help="Write the figures of every scene here, too.")
@click.option("--name", help="The system's name in tables.  [default: that of the folder of the estimates]")
@click.option(
    "--labels", type=click.Choice(["auto", "names", "none"]), default="auto", show_default=True,
    help="Whether names of files hold labels: auto leaves out such as s1 or est_2.",
)  # fmt: skip
@click.option(
    "--naming", type=click.Choice(["auto", "plain", "2025", "2026"]), default="auto", show_default=True,
    help="Of files that lie together: <scene>.wav, <scene>_<Label>.wav or <scene>_<index>_<Label>.wav.",
)  # fmt: skip
@click.option("--allow-empty", is_flag=True, help="A scene without an estimate: nothing was found in it.")
@click.option("--skip-bad", is_flag=True, help="Score the rest where scenes are broken or incomplete, and count them.")
@results_option
@threads_option
def score(
    reference: Path | None, estimate: Path | None, mixture: Path | None, manifest: Path | None,
    metrics: list[str] | None, json_file: Path | None, name: str | None, labels: str, naming: str, allow_empty: bool,
    skip_bad: bool, results: Path, threads: int | None,
) -> None:  # fmt: skip
    """Score the sounds that any system made against the true ones, and keep the figures as a run.

    \b
    A folder per scene:  REF/<scene>/<index>_<Label>.wav and mixture.wav, EST/<scene>/*.wav
    Or all in one:       REF/<scene>_<Label>.wav and <scene>.wav (the mixture), EST/<scene>_<Label>.wav
    Or a manifest:       CSV of scene, role (mixture, reference, estimate), file, label

    Labels may be missing. An empty folder of estimates says that nothing was found in the scene.

    Example: sepbench score --reference REF --estimate EST --json figures.json
    """
    listing = _listing(reference, estimate, mixture, manifest, naming, labels, allow_empty)
    if metrics == []:
        raise UserError("--metrics: names no metric. `sepbench metrics` lists them.")
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise UserError(f"--json {json_file}: there is no folder {json_file.parent}. Make it, or choose another.")
    if json_file is not None and json_file.is_dir():
        raise UserError(f"--json {json_file}: is a folder. Name a file.")
    called = name or _called(manifest or estimate)
    progress = start(threads)
    from sepbench.score import score as scored

    readers = min(READERS, threads or os.cpu_count() or 1)
    found = scored(listing, metrics, called, results, skip_bad, readers, progress, json_file)
    click.echo(report(found, json_file))


def _listing(
    reference: Path | None, estimate: Path | None, mixture: Path | None, manifest: Path | None, naming: str,
    labels: str, allow_empty: bool,
) -> Listing:  # fmt: skip
    """The files of each scene, whichever way they were named."""
    from sepbench.score_files import check_naming, decide_labels
    from sepbench.score_layouts import find_in_folders
    from sepbench.score_manifest import find_in_lists, find_in_manifest

    if manifest is not None:
        given = {"--reference": reference, "--estimate": estimate, "--mixture": mixture}
        if others := [option for option, path in given.items() if path is not None]:
            raise UserError(f"--manifest lists all files, so {others[0]} says nothing. Leave one of them away.")
        check_naming(naming, f"{manifest} lists all files")
        return decide_labels(find_in_manifest(manifest, allow_empty), labels)
    if reference is None or estimate is None:
        absent = "--reference" if reference is None else "--estimate"
        raise UserError(f"missing option '{absent}'. `sepbench score --help` says what it takes.")
    lists = [path.suffix.lower() == ".csv" and not path.is_dir() for path in (reference, estimate)]
    if all(lists):
        check_naming(naming, f"{reference} lists all files")
        return decide_labels(find_in_lists(reference, estimate, mixture, allow_empty), labels)
    if any(lists):
        raise UserError(f"{reference} and {estimate}: one is a CSV and one is not. Name two folders, or two CSVs.")
    return decide_labels(find_in_folders(reference, estimate, mixture, naming, allow_empty), labels)


def _called(path: Path | None) -> str:
    """A name for a system that has none."""
    return path.resolve().stem if path is not None else "system"


def report(found: Mapping[str, Any], json_file: Path | None = None) -> str:
    """What `score` found, as text: a line per metric, what was counted and skipped, where it lies, what next."""
    from sepbench.metrics import METRICS
    from sepbench.tables_format import Cell, Line, Table, render, text

    lines = []
    for name, figures in found["summary"].items():
        unit = METRICS[name].unit
        digits = 2 if unit == "dB" else 3
        interval = tuple(figures["ci95"]) if figures["ci95"] else None
        cells = [
            text(f"{name}, dB" if unit == "dB" else name),
            Cell(figures["mean"], interval, digits=digits),
            Cell(figures["median"], digits=digits),
            Cell(figures["n"], digits=0),
            Cell(figures["undefined"], digits=0),
        ]
        lines.append(Line(tuple(cells)))
    counts = ", ".join(f"{words} {found['counts'][name]}" for name, words in COUNTS.items() if name in found["counts"])
    notes = (f"Counted: {counts}, skipped scenes {len(found['skipped'])}.", LEGEND)
    title = f"{found['name']}: {len(found['scenes'])} scenes ({found['layout']}; {found['labels']})"
    table = render([Table(title, ("Metric", "Mean", "Median", "n", "Undefined"), tuple(lines), notes)])
    return "\n".join([table, *_strange_labels(found), *_skipped(found["skipped"]), *_next(found, json_file)])


def _strange_labels(found: Mapping[str, Any]) -> list[str]:
    """A warning where labels count and those of the two sides have nothing in common."""
    told = [each["labels"] for each in found["scenes"] if "labels" in each]
    ours, theirs = ({label for each in told for label in each[side]} for side in ("references", "estimates"))
    if not ours or not theirs or ours & theirs:
        return []
    shown = [", ".join(sorted(side)[:3]) + (" ..." if len(side) > 3 else "") for side in (theirs, ours)]
    what = f"no label of the estimates ({shown[0]}) is one of the references' ({shown[1]})"
    return [f"Warning: {what}. Name them alike, or say --labels none to score by separation alone."]


def _skipped(skipped: list[dict[str, str]]) -> list[str]:
    shown = [f"Skipped: {each['scene']}: {each['reason']}" for each in skipped[:LISTED]]
    return shown + ([f"Skipped: {len(skipped) - LISTED} more, all named in run.json"] if len(skipped) > LISTED else [])


def _next(found: Mapping[str, Any], json_file: Path | None) -> list[str]:
    run = Path(found["run"])
    where = [f"Figures: {json_file}"] if json_file is not None else []
    return [
        *where,
        f"Run:     {run}",
        f"Beside all others: sepbench table {run.parent}",
        f"Against one other: sepbench compare OTHER_RUN {run}",
        f"Where it fails:    sepbench worst {run}",
    ]
