"""One task, every method: a row for each on the same scenes, what it scores, what it costs, what it was given to learn from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from sepbench.by_group import ALL, figures_by, whole
from sepbench.errors import UserError, nearest
from sepbench.results import RunRecord, read_rows
from sepbench.results_checks import MARK
from sepbench.statistics import Columns
from sepbench.tables_alike import each_once, leaks, on_the_same_scenes, scenes_words, table_key, title_words
from sepbench.tables_by import by_tables
from sepbench.tables_cells import (
    by_words,
    cost_cell,
    figure_cell,
    line_facts,
    memory_cell,
    real_time_factor_cell,
    seconds_cell,
    supervision_words,
)
from sepbench.tables_columns import called, sorted_by, with_columns
from sepbench.tables_facts import (
    BY_LABELS_NOTE,
    OF_THE_PROFILE,
    ORACLE_NOTE,
    SHARED_NOTE,
    SYNTHETIC_NOTE,
    budget_words,
    corpus_words,
    figures_of,
    has_rows,
    is_synthetic,
    measures,
    method_names,
    scene_settings,
    shares_clips,
)
from sepbench.tables_format import DASH, Cell, Line, Table, text, without_empty
from sepbench.tables_ties import letters_in

FIGURES = {  # metric -> heading and digits; those that no run has and the task does not ask for are left out
    "si_sdri": ("SI-SDRi, dB", 1), "si_sdr": ("SI-SDR, dB", 1), "snri": ("SNRi, dB", 1), "ca_sdri": ("CA-SDRi, dB", 1),
    "capi_sdri": ("CAPI-SDRi, dB", 1), "fuss_si_snri": ("FUSS SI-SNRi, dB", 1), "class_accuracy": ("Classes right", 2),
    "f_measure_clip": ("F clip", 2), "f_measure_frame": ("F frame", 2), "label_set_accuracy": ("Label sets right", 2),
}  # fmt: skip
MORE = {  # shown where --columns or --sort names them
    "class_accuracy_both": ("All classes right", 2), "source_precision": ("Sources, precision", 2),
    "source_recall": ("Sources, recall", 2), "source_f_measure": ("F sources", 2), "snr": ("SNR, dB", 1),
    "si_sdri_by_label": ("SI-SDRi by label, dB", 1), "si_sdr_mixture": ("Input SI-SDR, dB", 1),
    "bss_sdr": ("BSS SDR, dB", 1), "bss_isr": ("BSS ISR, dB", 1), "bss_sir": ("BSS SIR, dB", 1), "bss_sar": ("BSS SAR, dB", 1),
    "equal_separation": ("Equally separated", 2), "under_separation": ("Under-separated", 2),
    "over_separation": ("Over-separated", 2),
}  # fmt: skip
BESIDE = ("si_sdr",)  # shown only where a run has no improvement: it knows of no mixture
PLACED_BY = ("si_sdri", "si_sdri_by_label", "si_sdr", "fuss_si_snri", "label_set_accuracy", "class_accuracy")
BY_RULE = ("class_accuracy", "class_accuracy_both")  # found by separation or by the set of labels, which do not compare
OF_THE_TABLE = ("task", "protocol", "budget")  # what the title or a column tells of a run
FOLDABLE = ("Supervision", "Sources / scenes", "Missed")
LEGEND = (
    "[ ]: 95 % interval, drawing scenes. Letters: methods that share one cannot be told apart in that column (paired, 95 %; no "
    "letter: one run in the table, or several seeds). ( ): chance, the F of always saying yes or the share of classes that "
    "guessing gets right. Missed: sources without an answer, which no mean counts. Params: of all networks that answer. "
    "MACs/s: multiply-accumulates per second of audio. Real-time factor: seconds of computing per second of audio, memory: "
    "the peak of the process or of the GPU's tensors, both on the run's own machine. Training scenes: drawn to learn from, "
    "single clips too, those for validation not."
)
DASHES = (
    "–: the method cannot give the figure (who names nothing has no labels to be right, who separates nothing no sound, who "
    "learns nothing no training), or the run did not measure it; never 0."
)


def task_tables(
    runs: Sequence[RunRecord], task: str, by: str | None = None, sort: str | None = None, metrics: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> list[Table]:  # fmt: skip
    """The finished `runs` on a task, a table for each set of scenes, a row for each method; the best first, or as `sort` says.

    Runs that differ in the seed alone are one row. `by`: class, n_sources, overlap or input_si_sdr: a table for each figure
    (`metrics`, or those that most ask for), a column for each part. `sort`, `columns`: as `sorted_by` and `with_columns`
    have them; both may name one of MORE. UserError where no run is on the task, where there is no such `by` or column, and
    where no row tells of `by`.
    """
    own = [run for run in each_once(runs) if run.state == "finished" and run.config["task"]["name"] == task]
    groups = on_the_same_scenes(own, (*FIGURES, *MORE))
    if not groups:
        known = sorted({run.config["task"]["name"] for run in runs if run.state == "finished"})
        here = f" Here there are runs on {', '.join(known)}." if known else " Here there are no finished runs."
        raise UserError(f"--task {task}: no finished run is on it.{nearest(task, known)}{here}")
    methods = [(_methods(group, split), split) for group, split in groups]
    named = [*columns, *([sort.rpartition(" ")[0], sort] if sort else [])]
    tables = by_tables(methods, by, metrics, OF_THE_TABLE) if by else [_table(*each, named) for each in methods]
    tables = sorted_by(tables, sort) if sort else tables
    return with_columns(tables, columns) if columns else tables


def _methods(runs: Sequence[RunRecord], split: str) -> list[list[RunRecord]]:
    """The runs, those together that differ in nothing but the seed; the best method first."""
    alike: dict[str, list[RunRecord]] = {}
    for run in sorted(runs, key=lambda run: (int(run.config.get("seed") or 0), run.id)):
        config = {name: value for name, value in run.config.items() if name != "seed"}
        kept = run.id.partition(MARK)[2]  # beside another of its id, by a merge: no seed of it
        alike.setdefault(json.dumps([config, kept], sort_keys=True), []).append(run)
    return sorted(alike.values(), key=lambda own: (*_place(own, split), own[0].id))


def _table(methods: Sequence[Sequence[RunRecord]], split: str, named: Sequence[str]) -> Table:
    first = [own[0] for own in methods]
    runs = [run for own in methods for run in own]
    names, shown = method_names(first, OF_THE_TABLE), _shown(runs, split, named)
    rows = {own[0].id: read_rows(own[0].path) for own in methods if len(own) == 1 and has_rows(own[0])}
    letters = {metric: _letters(first, rows, metric, split) for metric in shown}
    lines = tuple(_line(own, split, names[own[0].id], shown, letters) for own in methods)
    headings = ["Method", "Supervision", "Corpus", "Profile", "Budget", "Sources / scenes"]
    guessed = {metric for metric in shown if any(figures_of(run, split, f"{metric}_chance") for run in runs)}
    headings += [f"{heading} (chance)" if metric in guessed else heading for metric, (heading, _) in shown.items()]
    headings += ["Missed", "Params", "MACs/s", "Real-time factor", "Memory, MB", "Training scenes", "Training time"]
    told, notes = _given(runs)
    title = "; ".join([title_words(first[0], split), *told])
    every = (*notes, *_notes(runs, split), LEGEND, DASHES)
    table = Table(title, tuple(headings), lines, every, FOLDABLE, table_key(first[0], split))
    return _without_budget(without_empty(table, ["Missed", "Training scenes"]))


def _shown(runs: Sequence[RunRecord], split: str, named: Sequence[str]) -> dict[str, tuple[str, int]]:
    """The figures that are columns: of FIGURES those that a run has or the task asks for; of MORE those that are `named`."""
    more = {metric: facts for metric, facts in MORE.items() if any(called(facts[0], name) for name in named)}
    there = {metric for metric in FIGURES if any(figures_of(run, split, metric) for run in runs)}
    lacking = [run for run in runs if figures_of(run, split, "si_sdri") is None and figures_of(run, split, "si_sdr")]
    asked = {metric for metric in FIGURES if any(measures(run, metric) for run in runs if run.config["task"].get("metrics"))}
    shown = {metric: facts for metric, facts in FIGURES.items()
             if (metric in there | asked and metric not in BESIDE) or (metric in BESIDE and lacking)}
    return shown | {metric: facts for metric, facts in more.items() if any(figures_of(run, split, metric) for run in runs)}


def _letters(first: Sequence[RunRecord], rows: Mapping[str, Columns], metric: str, split: str) -> dict[str, str]:
    """Tie letters by run, of methods with one run; what scenes do not tell of seeds, letters do not say."""
    fitting = [run.id for run in first if run.id in rows and (metric not in BY_RULE or by_words(run, split) == "separation")]
    return letters_in({name: rows[name] for name in fitting}, metric, split)


def _line(
    own: Sequence[RunRecord], split: str, name: str, shown: Mapping[str, tuple[str, int]],
    letters: Mapping[str, Mapping[str, str]],
) -> Line:  # fmt: skip
    run = own[0]
    figures = figures_of(run, split, next((metric for metric in PLACED_BY if figures_of(run, split, metric)), "")) or {}
    counts = " / ".join(str(figures[key]) for key in ("n", "scenes") if figures.get(key) is not None)
    words = (name, supervision_words(run.config), corpus_words(run.config["task"]["corpus"]), run.config["profile"],
             budget_words(run.config), counts)  # fmt: skip
    cells = [replace(_figure(own, split, metric, digits), tie=letters[metric].get(run.id))
             for metric, (_, digits) in shown.items()]  # fmt: skip
    return Line((*map(text, words), *cells, _missed(own, split), *_costs(own)), line_facts(run, split))


def _figure(own: Sequence[RunRecord], split: str, metric: str, digits: int) -> Cell:
    """A method's figure: its run's, or the mean over seeds with the interval of all their rows."""
    cells = [figure_cell(run, split, metric, digits) for run in own]
    if len(own) == 1 or any(cell.value is None for cell in cells):
        return cells[0]
    mean, bounds = fmean(cell.value for cell in cells if cell.value is not None), None
    if all(map(has_rows, own)):
        found = figures_by([([read_rows(run.path) for run in own], metric, whole)], split)[0]
        bounds = found[ALL].ci95 if ALL in found else None
    return replace(cells[0], value=mean, ci=bounds, runs=tuple(run.id for run in own))


def _missed(own: Sequence[RunRecord], split: str) -> Cell:
    """Sources without an answer; a dash where separation was not scored, or where there are none."""
    run = own[0]
    if figures_of(run, split, "si_sdri") is None:
        return Cell()
    n = int(((run.metrics[split].get("missed") or {}).get("all") or {}).get("n") or 0)
    return Cell(n or None, digits=0, runs=(run.id,))


def _costs(own: Sequence[RunRecord]) -> list[Cell]:
    """What a method costs; over seeds, what the first of them did."""
    run = own[0]
    learns = budget_words(run.config) is not None
    scenes = run.cost.get("training_scenes") if learns else None
    answering = [cost_cell(run, "parameters"), cost_cell(run, "macs_per_s"), real_time_factor_cell(run), memory_cell(run)]
    drawn = Cell(scenes, text=None if scenes is None else f"{scenes:,}", digits=0, runs=(run.id,))
    return [*answering, drawn, seconds_cell(run.wall_s.get("fit") if learns else None, run)]


def _given(runs: Sequence[RunRecord]) -> tuple[list[str], list[str]]:
    """What all were given, for the title: profile and budget; and, where they were given different things, notes that say so."""
    profiles = sorted({run.config["profile"] for run in runs})
    budgets = sorted({words for run in runs if (words := budget_words(run.config))})
    notes = []
    if len(profiles) > 1:
        notes.append(f"PROFILES DIFFER ({', '.join(profiles)}): these rows are no comparison on equal terms.")
    if len(budgets) > 1:
        notes.append(f"BUDGETS DIFFER ({'; '.join(budgets)}): these rows are no comparison on equal terms.")
    told = [f"profile {profiles[0]}"] if len(profiles) == 1 else []
    told += [f"budget {budgets[0]} each"] if len(budgets) == 1 and budgets != [OF_THE_PROFILE] else []
    return told, notes


def _without_budget(table: Table) -> Table:
    """The table without its column of budgets, but where they differ: else the title tells of them."""
    i = table.headings.index("Budget")
    held = {row.cells[i].show() for row in table.rows} - {DASH}
    if len(held) > 1:
        return table
    rows = tuple(Line((*row.cells[:i], *row.cells[i + 1 :]), row.facts) for row in table.rows)
    return replace(table, headings=(*table.headings[:i], *table.headings[i + 1 :]), rows=rows)


def _notes(runs: Sequence[RunRecord], split: str) -> Iterator[str]:
    settings = scene_settings(runs[0], split)
    if is_synthetic(str(settings["corpus"])):
        yield SYNTHETIC_NOTE
    yield from [SHARED_NOTE] if shares_clips(runs[0]) else leaks(runs)
    if any(by_words(run, split) != "separation" for run in runs):
        yield BY_LABELS_NOTE
    if any(run.config.get("supervision") == "oracle" for run in runs):
        yield ORACLE_NOTE
    yield scenes_words(settings)


def _place(own: Sequence[RunRecord], split: str) -> tuple[int, float]:
    """Where a method stands: by the first of the figures that it has, those without separation last."""
    for i, metric in enumerate(PLACED_BY):
        if figures := figures_of(own[0], split, metric):
            return i, -float(figures["mean"])
    return len(PLACED_BY), 0.0
