"""The figures of a task's methods by class, by the number of sources, by overlap, by how loud a source is in its mixture."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sepbench.by_group import CLASS, COUNT, INPUT, OVERLAP, WHOLE_SCENE, PartFigure, Parts, figures_by, parts_by
from sepbench.errors import UserError, nearest
from sepbench.metrics import METRICS
from sepbench.results import RunRecord, read_rows
from sepbench.statistics import POOLED, Columns
from sepbench.tables_alike import scenes_words, table_key, title_words
from sepbench.tables_cells import by_words, line_facts, supervision_words
from sepbench.tables_facts import (
    BY_LABELS_NOTE,
    ORACLE_NOTE,
    SYNTHETIC_NOTE,
    corpus_words,
    has_rows,
    is_synthetic,
    method_names,
    scene_settings,
)
from sepbench.tables_format import Cell, Line, Table, text

SHOWN = {"si_sdri": "SI-SDRi, dB", "ca_sdri": "CA-SDRi, dB", "capi_sdri": "CAPI-SDRi, dB", "class_accuracy": "Classes right"}
OF_SCENES = ("ca_sdri", "capi_sdri")  # one figure a scene, which no part of its sources has
BY = {CLASS: "class", COUNT: "the number of sources", OVERLAP: "overlap", INPUT: "input SI-SDR"}
GLOSSES = {
    OVERLAP: "Overlap: of the time in which anything sounds in a scene, the share in which two or more sources do. ",
    INPUT: "Input SI-SDR: that of the mixture as an estimate of the source; at 0 dB it is as loud as all the rest. ",
}
DIGITS = {"dB": 1}
NOTE = "[ ]: 95 % interval, drawing scenes. (n …): where it is not that of the column. –: the method has no such figure there."
Methods = Sequence[Sequence[RunRecord]]  # the runs of each method: one, or several seeds


def by_tables(
    groups: Sequence[tuple[Methods, str]], by: str, metrics: Sequence[str], but: Collection[str]
) -> list[Table]:
    """For each (methods on the same scenes, split): a table for each metric, a row for each method, a column for each part.

    `by`: one of BY. `metrics`: those wanted; none: SI-SDRi and the classes that are right, and by scenes CA- and CAPI-SDRi.
    `but`: as in `method_names`. UserError for another `by`, and where no run has rows that tell it or has such a figure.
    """
    if by not in BY:
        raise UserError(f"--by {by}: wanted one of {', '.join(BY)}.{nearest(by, BY)}")
    tables: list[Table] = []
    silent = []
    for methods, split in groups:
        kept = [own for own in methods if all(map(has_rows, own))]
        rows = {run.id: read_rows(run.path) for own in kept for run in own}
        found = parts_by(by, list(rows.values()), split) if rows else None
        if found is None:
            silent += [run.id for own in methods for run in own]
        else:
            tables += _tables(kept, split, by, metrics, but, rows, *found)
    n_runs = f"{len(silent)} run{'' if len(silent) == 1 else 's'}"
    told = f"{n_runs} from before it was kept (such as {silent[0]})" if silent else ""
    if not tables:
        lacking = f"no such figure of {', '.join(metrics)} there." if metrics else "these runs have no figure to part."
        raise UserError(f"--by {by}: {f'the rows do not tell it, of {told}. Run again.' if told else lacking}")
    if told:
        last = tables.pop()
        tables.append(replace(last, notes=(*last.notes, f"Left out, without {BY[by]} in their rows: {told}.")))
    return tables


def _tables(
    methods: Methods, split: str, by: str, metrics: Sequence[str], but: Collection[str], rows: Mapping[str, Columns],
    order: Sequence[str], parts: Parts,
) -> list[Table]:  # fmt: skip
    asked = list(metrics) or [name for name in SHOWN if by in WHOLE_SCENE or name not in OF_SCENES]
    wanted = [([rows[run.id] for run in own], metric, parts) for metric in asked for own in methods]
    found = figures_by(wanted, split)
    names = method_names([own[0] for own in methods], but)
    made = []
    for k, metric in enumerate(asked):
        figures = found[k * len(methods) : (k + 1) * len(methods)]
        there = [name for name in order if any(name in each for each in figures)]
        if there:
            made.append(_table(methods, split, by, metric, names, figures, there))
    return made


def _table(
    methods: Methods, split: str, by: str, metric: str, names: Mapping[str, str],
    figures: Sequence[Mapping[str, PartFigure]], parts: Sequence[str],
) -> Table:  # fmt: skip
    """One figure: its parts side by side, the methods in the order they came in."""
    most = {part: max(each[part].n for each in figures if part in each) for part in parts}
    lines = [_line(own, split, metric, names[own[0].id], each, most) for own, each in zip(methods, figures) if each]
    first = methods[0][0]
    settings = scene_settings(first, split)
    what = SHOWN.get(metric, metric)
    title = f"{what} by {BY[by]}: {title_words(first, split)}"
    counts = "; ".join(f"{part} {n}" for part, n in most.items())
    notes = [SYNTHETIC_NOTE] if is_synthetic(str(settings["corpus"])) else []
    by_labels = any(by_words(run, split) != "separation" for own in methods for run in own)
    notes += [BY_LABELS_NOTE] if by_labels and metric.startswith("class_accuracy") else []
    notes += [ORACLE_NOTE] if any(own[0].config.get("supervision") == "oracle" for own in methods) else []
    notes += [f"n, {_counted(metric)}: {counts}.", f"{GLOSSES.get(by, '')}{NOTE}", scenes_words(settings)]
    headings = ("Method", "Supervision", "Corpus", "Profile", *parts)
    key = f"{table_key(first, split)} by {by} {metric.replace('_', ' ')}"
    return Table(title, headings, tuple(lines), tuple(notes), ("Supervision",), key)


def _line(
    own: Sequence[RunRecord], split: str, metric: str, name: str, figures: Mapping[str, PartFigure], most: Mapping[str, int]
) -> Line:
    unit = METRICS[metric].unit if metric in METRICS else ""
    run, ids = own[0], tuple(run.id for run in own)
    look: dict[str, Any] = {"unit": unit, "digits": DIGITS.get(unit, 2), "runs": ids}
    cells = [Cell(found.mean, found.ci95, n=found.n, shows_n=found.n < n, **look) if (found := figures.get(part)) else Cell()
             for part, n in most.items()]  # fmt: skip
    words = (name, supervision_words(run.config), corpus_words(run.config["task"]["corpus"]), run.config["profile"])
    return Line((*map(text, words), *cells), line_facts(run, split))


def _counted(metric: str) -> str:
    """What a figure's n counts."""
    if metric in POOLED:
        return {"frame": "frames of a class", "clip": "clips of a class", "source": "sources, true or named"}[POOLED[metric][0]]
    return "scenes" if metric in (*OF_SCENES, "label_set_accuracy", "class_accuracy_both") else "sources"
