"""What shared clips add to a method's figures: on scenes of clips that it was trained on, minus on clips that it never heard."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean
from typing import Any

from sepbench.gap import figure_of, gap_interval, own_interval
from sepbench.results import RunRecord, read_rows
from sepbench.results_checks import MARK
from sepbench.statistics import Figure
from sepbench.tables_facts import (
    SHARED,
    SYNTHETIC_NOTE,
    corpus_words,
    figures_of,
    interval,
    is_synthetic,
    method_names,
    plain,
    scene_settings,
    shares_clips,
)
from sepbench.tables_format import Cell, Line, Table, text

MEASURED = {"class_accuracy": ("classes right", 2), "si_sdri": ("SI-SDRi, dB", 1)}
OF_THE_TEST = ("task", "protocol", "split", "classes")  # options that columns or the title tell
HEADINGS = (
    *("Method", "Corpus", "Profile", "Classes", "Disjoint split"),
    *("Clips shared", "Disjoint", "Gap", "Disjoint, seen", "Seen - test"),
)
NOTE = (
    f"Gap: the figure where training and test share their clips ({SHARED}), minus that of the same method where they do not "
    "(disjoint). Shared, a method is trained on the clips of the test, and on more clips. Seen: new scenes of the clips that "
    "the disjoint run was trained on; seen - test asks one model the same. [ ]: 95 % interval; of a difference, the scenes "
    "of each side are drawn apart, for they are different scenes; of other seeds it knows nothing. A method that learns "
    "nothing tells what other test clips do alone."
)

Methods = dict[str, dict[str, list[RunRecord]]]  # method -> test -> runs


@dataclass(frozen=True)
class _Side:
    """Runs of one method and one test that differ in nothing but the seed."""

    runs: Sequence[RunRecord]

    @property
    def record(self) -> RunRecord:
        return self.runs[0]

    def figure(self, split: str, metric: str) -> Figure | None:
        """Of the rows of all runs; None where one has kept none."""
        there = all((run.path / "rows.parquet").is_file() for run in self.runs)
        return figure_of([read_rows(run.path, [metric], split) for run in self.runs], split, metric) if there else None

    def mean(self, split: str, metric: str) -> float | None:
        """Over the seeds; None where one of the runs lacks it."""
        found = [figures_of(run, split, metric) for run in self.runs]
        return fmean(float(each["mean"]) for each in found if each) if all(found) else None


def gap_tables(runs: Sequence[RunRecord]) -> list[Table]:
    """For each task on which a method was run by both protocols and each figure that both have: a row for each method.

    Tables of their own, since no row of a comparison may hold figures of both.
    """
    tables = []
    for (task, scenes), methods in sorted(_methods(runs).items()):
        pairs = [pair for sides in methods.values() for pair in _pairs(sides)]
        names = method_names([shared.record for shared, _ in pairs], OF_THE_TEST)
        for metric, (words, _) in MEASURED.items():
            lines = [_line(*pair, names[pair[0].record.id], metric) for pair in pairs if _both(*pair, metric)]
            synthetic = any(is_synthetic(line.facts["corpus"]) for line in lines)
            notes = ([SYNTHETIC_NOTE] if synthetic else []) + [f"Scenes: {scenes}.", NOTE]
            lines.sort(key=lambda line: [cell.show() for cell in line.cells[1:5]])
            title = f"What shared clips add to {words}: {task}, {SHARED} minus disjoint"
            tables += [Table(title, HEADINGS, tuple(lines), tuple(notes))] if lines else []
    return tables


def _methods(runs: Sequence[RunRecord]) -> dict[tuple[str, str], Methods]:
    """By task and how its scenes are made. The same recipe, options, profile, sounds and mixing make the same method."""
    found: dict[tuple[str, str], Methods] = {}
    for run in sorted(runs, key=lambda run: run.id):
        task = run.config["task"]
        if "protocol" not in (task.get("splits") or {}) or run.config.get("trained_by"):
            continue  # what was trained elsewhere is no method of this test
        rest = {name: value for name, value in task.items() if name not in ("splits", "scenes", "metrics")}
        config = {name: value for name, value in run.config.items() if name not in ("seed", "task")}
        kept = run.id.partition(MARK)[2]  # beside another of its id, by a merge: no seed of it
        method = json.dumps([config, rest, run.provenance.get("corpus_hash"), kept], sort_keys=True)
        settings = scene_settings(run, "test")
        test = json.dumps([settings["splits"], task["scenes"].get("test"), task["scenes"].get("seed")], sort_keys=True)
        found.setdefault((task["name"], _scenes(task)), {}).setdefault(method, {}).setdefault(test, []).append(run)
    return found


def _scenes(task: Mapping[str, Any]) -> str:
    mixing = ", ".join(f"{key} {plain(value)}" for key, value in (task.get("mixing") or {}).items())
    return f"{task['seconds']:g} s at {task['sample_rate_hz']} Hz; {mixing}"


def _pairs(sides: Mapping[str, Sequence[RunRecord]]) -> Iterator[tuple[_Side, _Side]]:
    """Every test on shared clips with every one on disjoint ones."""
    every = [_Side(runs) for _, runs in sorted(sides.items())]
    shared = [side for side in every if shares_clips(side.record)]
    yield from product(shared, (side for side in every if not shares_clips(side.record)))


def _both(shared: _Side, disjoint: _Side, metric: str) -> bool:
    return None not in (shared.mean("test", metric), disjoint.mean("test", metric))


def _line(shared: _Side, disjoint: _Side, name: str, metric: str) -> Line:
    task, profile = disjoint.record.config["task"], disjoint.record.config["profile"]
    words = (name, corpus_words(task["corpus"]), profile, len(task["classes"]), f"by {task['splits'].get('by')}")
    figures = (
        _figure(shared, "test", metric),
        _figure(disjoint, "test", metric),
        _gap(shared, "test", disjoint, metric),
        _figure(disjoint, "seen", metric),
        _gap(disjoint, "seen", disjoint, metric),
    )
    facts = {"corpus": task["corpus"], "profile": profile, "split": f"test, {SHARED} and disjoint"}
    return Line((*map(text, words), *figures), facts)


def _figure(side: _Side, split: str, metric: str) -> Cell:
    """A side's figure with its interval: as its run has it, or, over several seeds, of all their rows."""
    mean = side.mean(split, metric)
    if mean is None:
        return Cell()
    held = figures_of(side.record, split, metric) or {}
    bounds = interval(held) if len(side.runs) == 1 else None
    if len(side.runs) > 1 and (figure := side.figure(split, metric)):
        bounds = own_interval(figure)
    runs = tuple(run.id for run in side.runs)
    return Cell(mean, bounds, n=held.get("n"), unit=_unit(side, split, metric), digits=MEASURED[metric][1], runs=runs)


def _gap(one: _Side, split: str, other: _Side, metric: str) -> Cell:
    """`one` on `split` minus `other` on the test."""
    ours, theirs = one.mean(split, metric), other.mean("test", metric)
    if ours is None or theirs is None:
        return Cell()
    figure, its = one.figure(split, metric), other.figure("test", metric)
    bounds = None if figure is None or its is None else gap_interval(figure, its)
    return Cell(ours - theirs, bounds, unit=_unit(one, split, metric), digits=MEASURED[metric][1])


def _unit(side: _Side, split: str, metric: str) -> str:
    return str((side.record.metrics[split].get(metric) or {}).get("unit") or "")
