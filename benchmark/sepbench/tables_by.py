"""The figures of a task's methods by class, by the number of sources, by overlap, by how loud a source is in its mixture."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sepbench.by_group import (
    CLASS,
    COUNT,
    INPUT,
    OVERLAP,
    TOLD_BY,
    WHOLE_SCENE,
    PartFigure,
    Parts,
    figures_by,
    parts_by,
    parts_by_class,
)
from sepbench.errors import UserError, nearest
from sepbench.metrics import METRICS
from sepbench.results import RunRecord, read_rows, row_labels
from sepbench.statistics import POOLED, Columns, names_behind
from sepbench.tables_alike import scenes_words, table_key, title_words
from sepbench.tables_cells import line_facts, supervision_words
from sepbench.tables_facts import budget_words, corpus_words, has_rows, method_names, scene_settings
from sepbench.tables_format import Cell, Line, Table, text
from sepbench.tables_notes import BUDGET, given, standing_notes, without_budget
from sepbench.tables_seeds import ids_of, n_of_a_run, scored, shows_seeds

SHOWN = {"si_sdri": "SI-SDRi, dB", "ca_sdri": "CA-SDRi, dB", "capi_sdri": "CAPI-SDRi, dB", "class_accuracy": "Classes right"}
OF_SCENES = ("ca_sdri", "capi_sdri")  # one figure a scene, which no part of its sources has
BY = {CLASS: "class", COUNT: "the number of sources", OVERLAP: "overlap", INPUT: "input SI-SDR"}
GLOSSES = {
    OVERLAP: "Overlap: of the time in which anything sounds in a scene, the share in which two or more sources do. ",
    INPUT: "Input SI-SDR: that of the mixture as an estimate of the source; at 0 dB it is as loud as all the rest. ",
}
DIGITS = {"dB": 1}
NOTE = "[ ]: 95 % interval, drawing scenes. (n …): where it is not that of the column. –: the method has no such figure there."
SEEDS_NOTE = (
    "(2 runs): runs that differ in the seed alone are taken together, and a scene is drawn with all of them; their n is a sum, "
    "which is shown where a run has fewer on average than the column. (1 of 2 runs): the others lack the figure."
)
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
    silent, bare = [], []
    asked = list(metrics) or [name for name in SHOWN if by in WHOLE_SCENE or name not in OF_SCENES]
    behind = {*TOLD_BY[by], *(name for metric in asked for name in names_behind(metric))}
    for methods, split in groups:
        with_rows = [run for own in methods for run in own if has_rows(run)]
        rows = {run.id: read_rows(run.path, behind, split) for run in with_rows}
        bare += [run.id for own in methods for run in own if run.id not in rows]
        if by == CLASS:
            found = parts_by_class({label for run in with_rows for label in row_labels(run.path, split)})
        else:
            found = parts_by(by, list(rows.values()), split)
        if found is None:
            silent += list(rows)
        else:
            tables += _tables([own for own in methods if _with(rows, own)], split, by, asked, but, rows, *found)
    n_runs = f"{len(silent)} run{'' if len(silent) == 1 else 's'}"
    told = f"{n_runs} from before it was kept (such as {silent[0]})" if silent else ""
    without = f"no rows.parquet in {', '.join(dict.fromkeys(bare))}" if bare else ""
    if not tables:
        lacking = f"no such figure of {', '.join(metrics)} there." if metrics else "these runs have no figure to part."
        cause = "; ".join(filter(None, (f"the rows do not tell it, of {told}" if told else "", without)))
        raise UserError(f"--by {by}: {f'{cause}. Run again.' if cause else lacking}")
    left_out = (f"Left out, without {BY[by]} in their rows: {told}." if told else "", f"Left out: {without}." if bare else "")
    return [*tables[:-1], replace(tables[-1], notes=(*tables[-1].notes, *filter(None, left_out)))]


def _tables(
    methods: Methods, split: str, by: str, asked: Sequence[str], but: Collection[str], rows: Mapping[str, Columns],
    order: Sequence[str], parts: Parts,
) -> list[Table]:  # fmt: skip
    there = [(metric, own[0].id, _with(rows, scored(own, split, metric))) for metric in asked for own in methods]
    wanted = [([rows[run.id] for run in runs], metric, parts) for metric, _, runs in there if runs]
    made_of = iter(figures_by(wanted, split))
    found = [next(made_of) if runs else {} for *_, runs in there]
    names = method_names([own[0] for own in methods], but)
    made = []
    for k, metric in enumerate(asked):
        figures = found[k * len(methods) : (k + 1) * len(methods)]
        held = [name for name in order if any(name in each for each in figures)]
        if held:
            behind = [ids_of(own, runs) for own, (*_, runs) in zip(methods, there[k * len(methods) :])]
            made.append(_table(methods, split, by, metric, names, figures, held, behind))
    return made


def _with(rows: Mapping[str, Columns], runs: Sequence[RunRecord]) -> list[RunRecord]:
    return [run for run in runs if run.id in rows]


def _table(
    methods: Methods, split: str, by: str, metric: str, names: Mapping[str, str],
    figures: Sequence[Mapping[str, PartFigure]], parts: Sequence[str], behind: Sequence[Mapping[str, Any]],
) -> Table:  # fmt: skip
    """One figure: its parts side by side, methods in the order they came in. `behind`: the runs of each, as of `ids_of`."""
    kept = [(own, _cells(metric, each, parts, ids)) for own, each, ids in zip(methods, figures, behind) if each]
    most = [max(n_of_a_run(cells[i]) for _, cells in kept) for i in range(len(parts))]
    lines = [_line(own, split, names[own[0].id], cells, most) for own, cells in kept]
    first, runs = methods[0][0], [run for own, _ in kept for run in own]
    told, notes = given(runs)
    title = "; ".join([f"{SHOWN.get(metric, metric)} by {BY[by]}: {title_words(first, split)}", *told])
    counts = "; ".join(f"{part} {n:g}" for part, n in zip(parts, most))
    notes += standing_notes(runs, split, by_labels=metric.startswith("class_accuracy"))
    notes += [f"n, {_counted(metric)}: {counts}.", f"{GLOSSES.get(by, '')}{NOTE}"]
    notes += [SEEDS_NOTE] if shows_seeds(lines) else []
    headings = ("Method", "Supervision", "Corpus", "Profile", BUDGET, *parts)
    key = f"{table_key(first, split)} by {by} {metric.replace('_', ' ')}"
    every = (*notes, scenes_words(scene_settings(first, split)))
    return without_budget(Table(title, headings, tuple(lines), every, ("Supervision",), key))


def _cells(metric: str, figures: Mapping[str, PartFigure], parts: Sequence[str], ids: Mapping[str, Any]) -> list[Cell]:
    unit = METRICS[metric].unit if metric in METRICS else ""
    look: dict[str, Any] = {"unit": unit, "digits": DIGITS.get(unit, 2), **ids}
    return [Cell(found.mean, found.ci95, n=found.n, **look) if (found := figures.get(part)) else Cell() for part in parts]


def _line(own: Sequence[RunRecord], split: str, name: str, figures: Sequence[Cell], most: Sequence[float]) -> Line:
    run = own[0]
    words = (name, supervision_words(run.config), corpus_words(run.config["task"]["corpus"]), run.config["profile"],
             budget_words(run.config))  # fmt: skip
    cells = [replace(cell, shows_n=cell.value is not None and n_of_a_run(cell) < n) for cell, n in zip(figures, most)]
    return Line((*map(text, words), *cells), line_facts(run, split))


def _counted(metric: str) -> str:
    """What a figure's n counts."""
    if metric in POOLED:
        return {"frame": "frames of a class", "clip": "clips of a class", "source": "sources, true or named"}[POOLED[metric][0]]
    return "scenes" if metric in (*OF_SCENES, "label_set_accuracy", "class_accuracy_both") else "sources"
