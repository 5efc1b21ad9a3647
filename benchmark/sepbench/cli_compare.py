"""`sepbench compare`: two runs on the same scenes, figure by figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sepbench.errors import UserError, nearest
from sepbench.options import FILE, WORD, results_option, run_folder

if TYPE_CHECKING:
    from sepbench.comparison import Difference
    from sepbench.results import RunRecord
    from sepbench.tables_format import Line, Table

LEGEND = (
    "[ ]: 95 % interval of the paired difference, drawing scenes. "
    "No difference found: it holds 0, or less than half of the last digit, which is no proof that there is none."
)

NOT_THE_SAME = "not the same figure"


@click.command()
@click.argument("run_a", type=FILE)
@click.argument("run_b", type=FILE)
@click.option("--metric", "metrics", type=WORD, multiple=True, metavar="NAME", help="Only this metric; may be repeated.")
@click.option(
    "--format", "form", default="terminal", show_default=True, metavar="terminal|md|csv|latex", help="How to write it."
)
@click.option("--json", "json_file", type=FILE, metavar="FILE", help="Write the figures here, too.")
@results_option
def compare(
    run_a: Path, run_b: Path, metrics: tuple[str, ...], form: str, json_file: Path | None, results: Path
) -> None:
    """Compare RUN_B with RUN_A on the scenes that both were scored on: B - A per metric and per class.

    Example: sepbench compare results/runs/ONE results/runs/OTHER --metric si_sdri
    """
    from sepbench.comparison import count_differences, explain_mismatch, paired_differences
    from sepbench.results import read_rows
    from sepbench.tables_format import render

    runs = [finished_record(run_folder(run, results)) for run in (run_a, run_b)]
    rows = [read_rows(run.path) for run in runs]
    why = explain_mismatch(*runs)
    found = paired_differences(rows[0], rows[1], why=why)
    _check_same_sounds(runs, why)
    left_out = {split: _measured_otherwise(runs, split, figures) for split, figures in found.items()}
    found = {split: {name: own for name, own in figures.items() if name not in left_out[split]}
             for split, figures in found.items()}  # fmt: skip
    found = _asked_for(found, metrics, left_out)
    counts = count_differences(rows[0], rows[1])
    tables = []
    for split, figures in found.items():
        shown = {name: own for name, own in figures.items() if name in metrics or not _of_the_scenes(name)}
        notes = [*_notes(runs, split, figures, counts[split], left_out[split], why), LEGEND]
        tables += _tables(runs, split, shown or figures, notes)
    text = render(tables, form)
    if json_file is not None:
        _write(json_file, runs, found, counts, left_out)
    click.echo(text)


def finished_record(folder: Path) -> RunRecord:
    """What the run in `folder` says of itself. UserError where it is not finished or was never scored."""
    from sepbench.results import read_runs

    record = next(iter(read_runs(folder)), None)
    if record is None or record.state != "finished":
        raise UserError(f"{folder}: not a finished run. Give its command again, and it goes on where it stopped.")
    if not (folder / "rows.parquet").exists():
        raise UserError(
            f"{folder}: holds no rows, so there are no scenes in it. Name a run of a method; `sepbench ls` lists the runs."
        )
    return record


def _check_same_sounds(runs: Sequence[RunRecord], why: str) -> None:
    """UserError where scenes of the same names hold other sounds, as those of two data sets may."""
    hashes = {run.provenance.get("corpus_hash") for run in runs} - {None}
    if len(hashes) > 1:
        raise UserError(
            f"the scenes of {runs[0].id} and {runs[1].id} have the same names and other content. {why} "
            "Score both on the same files, then compare."
        )


def _measured_otherwise(runs: Sequence[RunRecord], split: str, figures: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """The metrics that the two runs measured in different ways, with both signatures."""
    found = {}
    for name in figures:
        a, b = (((run.metrics.get(split) or {}).get(name) or {}).get("signature") for run in runs)
        if a and b and a != b:
            found[name] = (a, b)
    return found


def _asked_for(
    found: dict[str, dict[str, Any]], metrics: Sequence[str], left_out: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The differences of `metrics`; of all, where none is named. UserError where one is unknown or not to be had."""
    from sepbench.metrics import expand

    both = list(dict.fromkeys(name for figures in found.values() for name in figures))
    otherwise = {name: pair for own in left_out.values() for name, pair in own.items()}
    if not both:
        what = f"they measured {', '.join(otherwise)} differently" if otherwise else "they have no metric in common"
        raise UserError(f"nothing to compare: {what}. Score both with the same sepbench and task.metrics.")
    wanted = set(both if not metrics else ())
    for name in metrics:
        members = [name] if name in both else expand([name], "--metric")
        if members[0] in otherwise:
            signatures = " and ".join(otherwise[members[0]])
            raise UserError(f"--metric {name}: the two runs measured it differently ({signatures}). Score both anew.")
        if not set(members) & set(both):
            raise UserError(f"--metric {name}: not in both runs; they share {', '.join(both)}.{nearest(name, both)}")
        wanted |= set(members)
    kept = {
        split: {name: own for name, own in figures.items() if name in wanted} for split, figures in found.items()
    }
    return {split: figures for split, figures in kept.items() if figures}


def _of_the_scenes(metric: str) -> bool:
    """Whether the figure is the same for every method, so that it need not be shown."""
    from sepbench.metrics import METRICS

    return metric in METRICS and METRICS[metric].higher_is_better is None


def _tables(runs: Sequence[RunRecord], split: str, figures: Mapping[str, Any], notes: Sequence[str]) -> list[Table]:
    """Over everything, then class by class."""
    from sepbench.tables_format import Table

    headings = ("Metric", "A", "B", "B - A", "In words", "n / scenes", "Unpaired")
    facts = _facts(runs, split)
    title = f"{_shown_split(runs, split)}: A is {runs[0].id}, B is {runs[1].id}"
    same = {name: _same_figure(runs, split, name) for name in figures}
    over_all = [_line(runs, name, name, own["all"], facts, same[name]) for name, own in figures.items() if own["all"]]
    by_class = [
        _line(runs, name, f"{name}: {label}", difference, facts, same[name])
        for name, own in figures.items() for label, difference in own["class"].items()
    ]  # fmt: skip
    tables = [Table(title, headings, tuple(over_all), tuple(notes))]
    return [*tables, Table(f"{title}, per class", headings, tuple(by_class))] if by_class else tables


def _shown_split(runs: Sequence[RunRecord], split: str) -> str:
    """The split; and where its clips were trained on, that too, if only by one of the two."""
    from sepbench.tables_facts import shares_clips, split_fact

    return split_fact(next((run for run in runs if shares_clips(run)), runs[0]), split)


def _facts(runs: Sequence[RunRecord], split: str) -> dict[str, str]:
    config, split = runs[0].config, _shown_split(runs, split)
    return {"corpus": str(config["task"].get("corpus", "")), "profile": str(config.get("profile", "")), "split": split}


def _line(
    runs: Sequence[RunRecord], metric: str, shown: str, difference: Difference, facts: Mapping[str, str], same: bool
) -> Line:
    from sepbench.comparison import DIGITS
    from sepbench.tables_format import Cell, Line, text

    unit = difference.unit
    look: dict[str, Any] = {"unit": unit, "digits": DIGITS[unit], "n": difference.n}
    counts = f"{difference.n} / {difference.scenes}"
    return Line(
        (
            text(f"{shown}, {unit}" if unit == "dB" else shown),
            Cell(difference.a, runs=(runs[0].id,), **look),
            Cell(difference.b, runs=(runs[1].id,), **look),
            Cell(difference.value, difference.ci95, **look),
            text(in_words(metric, difference) if same else NOT_THE_SAME),
            text(counts),
            Cell(difference.unpaired or None, digits=0),
        ),
        facts,
    )


def in_words(metric: str, difference: Difference) -> str:
    """What the interval says: which of the two is better, if the scenes tell."""
    from sepbench.metrics import METRICS

    if difference.ci95 is None:
        return "too few scenes to tell"
    if not difference.excludes_zero:
        return "no difference found"
    higher = METRICS[metric].higher_is_better if metric in METRICS else None
    if higher is None:
        return "B higher" if difference.value > 0 else "A higher"
    return "B better" if (difference.value > 0) == higher else "A better"


def _notes(
    runs: Sequence[RunRecord], split: str, figures: Mapping[str, Any], counts: Mapping[str, tuple[int, int]],
    left_out: Mapping[str, tuple[str, str]], why: str,
) -> Iterator[str]:  # fmt: skip
    """Whatever the reader should know that the figures do not say."""
    a, b = runs
    if a.path.resolve() == b.path.resolve():
        yield "A and B are the same run."
    for name, (one, other) in left_out.items():
        yield f"Not compared, for it was measured differently: {name} ({one} in A, {other} in B)."
    unsigned = [who for who, run in zip("AB", runs) if not _signed(run, split, figures)]
    if len(unsigned) == 1:
        yield f"{unsigned[0]} was written before signatures were kept; its metrics are taken to be those of the same name."
    for name, own in figures.items():
        if _of_the_scenes(name):
            yield f"Of the scenes, the same in both: {name} {own['all'].a:.2f} {own['all'].unit}."
    if why:
        yield f"The scenes pair, though the tasks are not the same. {why}"
    for name in figures:
        if not _same_figure(runs, split, name):
            ways = " and ".join(f"{_how_had(run, split, name)} in {who}" for who, run in zip("AB", runs))
            yield f"{name} is had {ways}: {NOT_THE_SAME}, and no verdict.{_found_alike(runs, split)}"
    for name, (n_a, n_b) in counts.items():
        yield f"{name}: {n_a} in A, {n_b} in B."
    for who, run, rest in (("A", a, b), ("B", b, a)):
        alone = [name for name in run.metrics.get(split) or {} if name not in (rest.metrics.get(split) or {})]
        alone = [name for name in alone if name not in counts and not name.endswith("_chance")]
        if alone:
            yield f"Only {who} has {', '.join(alone)}."
        if splits := [name for name in run.metrics if name not in rest.metrics]:
            yield f"Only {who} was scored on {', '.join(splits)}."


def _by(run: RunRecord, split: str, name: str) -> str:
    """Of the accuracy of classes, by what an estimate was held against a reference; older runs knew separation alone."""
    held = (run.metrics.get(split) or {}).get(name) or {}
    return str(held.get("by") or "separation")


def _same_figure(runs: Sequence[RunRecord], split: str, name: str) -> bool:
    """Whether both runs found the figure by one rule; a difference of two rules tells nothing of the methods."""
    return len({_by(run, split, name) for run in runs}) == 1


def _found_alike(runs: Sequence[RunRecord], split: str) -> str:
    """Which figures of the labels are in both runs that are had in one way, whatever a method separates."""
    held = [run.metrics.get(split) or {} for run in runs]
    there = [name for name in ("source_f_measure", "source_recall") if all(name in each for each in held)]
    return f" Found by one rule in both: {', '.join(there)}." if there else ""


def _how_had(run: RunRecord, split: str, name: str) -> str:
    from sepbench.metrics import CHANCE

    chance = (((run.metrics.get(split) or {}).get(f"{name}{CHANCE}") or {}).get("all") or {}).get("mean")
    return f"by {_by(run, split, name)}" + ("" if chance is None else f" (guessing scores {chance:.2f})")


def _signed(run: RunRecord, split: str, figures: Mapping[str, Any]) -> bool:
    held = run.metrics.get(split) or {}
    return any((held.get(name) or {}).get("signature") for name in figures)


def _write(
    file: Path, runs: Sequence[RunRecord], found: Mapping[str, Any], counts: Mapping[str, Any],
    left_out: Mapping[str, Any],
) -> None:  # fmt: skip
    from dataclasses import asdict

    from sepbench.storage import write_json

    if not file.parent.is_dir():
        raise UserError(f"--json {file}: there is no folder {file.parent}. Make it, or choose another.")

    def plain(split: str, metric: str, difference: Difference) -> dict[str, Any]:
        same = _same_figure(runs, split, metric)
        return {**asdict(difference), "in_words": in_words(metric, difference) if same else NOT_THE_SAME}

    splits = {
        split: {
            name: {
                "all": plain(split, name, own["all"]) if own["all"] else None,
                "class": {label: plain(split, name, each) for label, each in own["class"].items()},
            }
            for name, own in figures.items()
        }
        for split, figures in found.items()
    }
    a, b = ({"run": run.id, "folder": str(run.path)} for run in runs)
    write_json(file, {"a": a, "b": b, "splits": splits, "counts": counts, "measured_differently": left_out})
