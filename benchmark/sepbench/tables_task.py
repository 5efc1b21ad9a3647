"""One task, every method: a row for each on the same scenes, what it scores, what it costs, what it was given to learn from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sepbench.errors import UserError, nearest
from sepbench.results import RunRecord
from sepbench.results_checks import MARK
from sepbench.tables_alike import each_once, on_the_same_scenes, scenes_words, table_key, title_words
from sepbench.tables_by import by_tables
from sepbench.tables_cells import (
    by_words,
    cost_cell,
    line_facts,
    memory_cell,
    real_time_factor_cell,
    seconds_cell,
    supervision_words,
)
from sepbench.tables_columns import called, sorted_by, with_columns
from sepbench.tables_facts import (
    budget_words,
    corpus_words,
    figures_of,
    has_rows,
    measures,
    method_names,
    scene_settings,
)
from sepbench.tables_format import Cell, Line, Table, text, without_empty
from sepbench.tables_notes import BUDGET, SEEDS_NOTE, clip_note, given, standing_notes, without_budget
from sepbench.tables_seeds import BY_RULE, cells_of, figure_printed, ids_of, scored, shows_seeds, with_n
from sepbench.tables_ties import TOO_MANY, letters_of
from sepbench.ties import MOST

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
OF_THE_TABLE = ("task", "protocol", "budget", "seed")  # what the title or a column tells of a run; seeds are one row
FOLDABLE = ("Supervision", "Sources / scenes", "Missed")
LEGEND = (
    "[ ]: 95 % interval, drawing scenes. Letters: methods that share one cannot be told apart in that column (paired, 95 %; no "
    "letter: one run in the table, or several seeds). ( ): chance, the F of always saying yes or the share of classes that "
    "guessing gets right. Missed: sources without an answer, which are in no mean by separation. Params: of all networks that "
    "answer. MACs/s: multiply-accumulates per second of audio. Real-time factor: seconds of computing per second of audio, "
    "memory: the peak of the process or of the GPU's tensors, both on the run's own machine. Training scenes: drawn to learn "
    "from, single clips too, those for validation not."
)
N_NOTE = (
    "(n …): the figure is a mean over so many, and over more in another row: sources (of CA-, CAPI-SDRi and all that is right or "
    "not of a whole scene: scenes). Sources that are missed have no SI-SDRi, scenes in which a label repeats no CA-SDRi."
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
    alone = [own[0] for own in methods if len(own) == 1 and has_rows(own[0])]
    figures = _figures(methods, alone if len(alone) <= MOST else [], split, shown)
    lines = tuple(_line(own, split, names[own[0].id], cells) for own, cells in zip(methods, figures))
    headings = ["Method", "Supervision", "Corpus", "Profile", BUDGET, "Sources / scenes"]
    guessed = {metric for metric in shown if any(figures_of(run, split, f"{metric}_chance") for run in runs)}
    headings += [f"{heading} (chance)" if metric in guessed else heading for metric, (heading, _) in shown.items()]
    headings += ["Missed", "Params", "MACs/s", "Real-time factor", "Memory, MB", "Training scenes", "Training time"]
    told, notes = given(runs)
    title = "; ".join([title_words(first[0], split), *told])
    notes += [*standing_notes(runs, split, by_labels=True), *clip_note(runs, split)]
    notes += [N_NOTE] if any(cell.shows_n for line in lines for cell in line.cells) else []
    notes += [SEEDS_NOTE] if shows_seeds(lines) else []
    notes += [TOO_MANY] if len(alone) > MOST else []
    every = (*notes, scenes_words(scene_settings(first[0], split)), LEGEND, DASHES)
    table = Table(title, tuple(headings), lines, every, FOLDABLE, table_key(first[0], split))
    return without_budget(without_empty(table, ["Missed", "Training scenes"]))


def _shown(runs: Sequence[RunRecord], split: str, named: Sequence[str]) -> dict[str, tuple[str, int]]:
    """The figures that are columns: of FIGURES those that a run has or the task asks for; of MORE those that are `named`."""
    more = {metric: facts for metric, facts in MORE.items() if any(called(facts[0], name) for name in named)}
    there = {metric for metric in FIGURES if any(figures_of(run, split, metric) for run in runs)}
    lacking = [run for run in runs if figures_of(run, split, "si_sdri") is None and figures_of(run, split, "si_sdr")]
    asked = {metric for metric in FIGURES if any(measures(run, metric) for run in runs if run.config["task"].get("metrics"))}
    shown = {metric: facts for metric, facts in FIGURES.items()
             if (metric in there | asked and metric not in BESIDE) or (metric in BESIDE and lacking)}
    return shown | {metric: facts for metric, facts in more.items() if any(figures_of(run, split, metric) for run in runs)}


def _letters(alone: Sequence[RunRecord], metric: str, split: str) -> dict[str, str]:
    """Tie letters by run, of methods with one run; what scenes do not tell of seeds, letters do not say."""
    fitting = [run for run in alone if metric not in BY_RULE or by_words(run, split) == "separation"]
    return letters_of(fitting, metric, split)


def _figures(
    methods: Sequence[Sequence[RunRecord]], alone: Sequence[RunRecord], split: str, shown: Mapping[str, tuple[str, int]]
) -> list[list[Cell]]:
    """The figures of each method, in the order of `shown`, with the tie letters of those `alone`, and n where it is less than
    in other rows.
    """
    digits = {metric: places for metric, (_, places) in shown.items()}
    held, first = [cells_of(own, split, digits) for own in methods], [own[0] for own in methods]
    columns = []
    for metric in shown:
        letters = _letters(alone, metric, split)
        tied = [replace(cells[metric], tie=letters.get(run.id)) for cells, run in zip(held, first)]
        columns.append(with_n(tied, first, split, metric))
    return [list(cells) for cells in zip(*columns)]


def _line(own: Sequence[RunRecord], split: str, name: str, figures: Sequence[Cell]) -> Line:
    run = own[0]
    words = (name, supervision_words(run.config), corpus_words(run.config["task"]["corpus"]), run.config["profile"],
             budget_words(run.config), _counts(own, split))  # fmt: skip
    return Line((*map(text, words), *figures, _missed(own, split), *_costs(own)), line_facts(run, split))


def _counts(own: Sequence[RunRecord], split: str) -> str:
    """Sources and scenes behind the figure that a method is placed by, over seeds their sums."""
    metric = next((metric for metric in PLACED_BY if scored(own, split, metric)), "")
    there = [figures for run in own if (figures := figures_of(run, split, metric))]
    held = [[int(figures[key]) for figures in there if figures.get(key) is not None] for key in ("n", "scenes")]
    sums = [sum(each) for each in held if each]
    return " / ".join(map(str, sums)) + (f" ({len(there)} runs)" if len(there) > 1 else "")


def _missed(own: Sequence[RunRecord], split: str) -> Cell:
    """Sources without an answer, over seeds their sum; a dash where separation was not scored, or where there are none."""
    there = scored(own, split, "si_sdri")
    n = sum(int(((run.metrics[split].get("missed") or {}).get("all") or {}).get("n") or 0) for run in there)
    facts: dict[str, Any] = ids_of(own, there)
    return Cell(n, digits=0, **facts) if n else Cell()


def _costs(own: Sequence[RunRecord]) -> list[Cell]:
    """What a method costs; over seeds, what the first of them did."""
    run = own[0]
    learns = budget_words(run.config) is not None
    scenes = run.cost.get("training_scenes") if learns else None
    answering = [cost_cell(run, "parameters"), cost_cell(run, "macs_per_s"), real_time_factor_cell(run), memory_cell(run)]
    drawn = Cell(scenes, text=None if scenes is None else f"{scenes:,}", digits=0, runs=(run.id,))
    return [*answering, drawn, seconds_cell(run.wall_s.get("fit") if learns else None, run)]


def _place(own: Sequence[RunRecord], split: str) -> tuple[int, float]:
    """Where a method stands: by the first of the figures that it has, those without separation last."""
    for i, metric in enumerate(PLACED_BY):
        mean = figure_printed(own, split, metric)
        if mean is not None:
            return i, -mean
    return len(PLACED_BY), 0.0
