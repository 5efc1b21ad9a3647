"""Rows become tables: a comparison of methods per test set, the papers' tables beside ours, and the list of runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sepbench.errors import UserError, nearest
from sepbench.home import home
from sepbench.results import RunRecord, read_runs
from sepbench.results_whole import whole_runs
from sepbench.tables_alike import each_once, on_the_same_scenes, scenes_words, table_key, title_words
from sepbench.tables_cases import case_tables
from sepbench.tables_cells import (
    cost_cell,
    figure_cell,
    line_facts,
    memory_cell,
    real_time_factor_cell,
    supervision_words,
    wall_cell,
)
from sepbench.tables_counts import source_count_tables
from sepbench.tables_facts import (
    LEGEND,
    corpus_words,
    figures_of,
    measures,
    method_names,
    scene_settings,
    sounds_words,
    split_fact,
    split_words,
)
from sepbench.tables_format import Cell, Line, Table, render, text, without_empty
from sepbench.tables_fuss import count_tables
from sepbench.tables_gap import gap_tables
from sepbench.tables_notes import standing_notes
from sepbench.tables_paper import paper_tables, read_published
from sepbench.tables_ties import NOT_SEPARABLE, TOO_MANY, in_words, letters_of
from sepbench.ties import MOST

__all__ = ["Cell", "Line", "Table", "find_published", "list_runs", "make_tables", "named_tables", "render"]

MAIN, BY_LABEL = "si_sdri", "si_sdri_by_label"
ELSEWHERE = {"snri": ("SNRi, dB", 1), "ca_sdri": ("CA-SDRi, dB", 1), "capi_sdri": ("CAPI-SDRi, dB", 1)}
ELSEWHERE |= {"label_set_accuracy": ("Label sets right", 2), "source_precision": ("Sources, precision", 2)}
ELSEWHERE |= {"source_recall": ("Sources, recall", 2), "source_f_measure": ("F sources", 2)}
ELSEWHERE |= {"class_accuracy": ("Classes right", 2), "class_accuracy_both": ("All classes right", 2)}
ELSEWHERE |= {"bss_sdr": ("BSS SDR, dB", 1), "bss_isr": ("ISR, dB", 1)}
ELSEWHERE |= {"bss_sir": ("SIR, dB", 1), "bss_sar": ("SAR, dB", 1)}
ELSEWHERE |= {"equal_separation": ("Equally separated", 2)}  # columns that are there only where a run has the figure
WITH_F = ("source_precision", "source_recall")  # which every run with that F has, so that they are shown where a task asks
OF_METRICS = {"SI-SDRi, dB": MAIN, "Median": MAIN, "SI-SDRi by label, dB": BY_LABEL, "Input SI-SDR": "si_sdr_mixture"}
OF_METRICS |= {"F frame (chance)": "f_measure_frame", "F clip (chance)": "f_measure_clip"}  # left out where no task asks
ABSOLUTE = {"si_sdr": ("SI-SDR, dB", 1), "snr": ("SNR, dB", 1)}  # columns for runs that know of no mixture
IN_DB = (MAIN, BY_LABEL, *ABSOLUTE, "ca_sdri", "capi_sdri")
NAMING = ("label_set_accuracy", "class_accuracy")  # where nothing is separated; such runs stand last
PLACED_BY = (*IN_DB, *NAMING)  # a run is placed by the first it has
# Never corpus and profile: a row that is copied out of its table has to go on saying what it was measured on.
FOLDABLE = ("Split", "Sources / scenes", "Supervision", "Undefined", "Missed")
OF_THE_TABLE = ("task", "protocol")  # options that a comparison's title tells: they part tables, not rows


def find_published(root: Path) -> Path | None:
    """The published figures that belong to a folder of results: in it, in one above it, else in this repository's."""
    root = Path(root).resolve()
    folders = [place for parent in (root, *root.parents) for place in (parent, parent / "results")]
    folders.append(home() / "results")
    found = (folder / "published" / "paper_tables.csv" for folder in folders)
    return next((path for path in found if path.is_file()), None)


def make_tables(runs: Sequence[RunRecord], published_csv: Path | None, show_all: bool = False) -> list[Table]:
    """Comparisons, what shared clips add, then the papers' tables that our runs fill in part (`show_all`: the empty too)."""
    kept = each_once(runs)
    finished = [run for run in kept if run.state == "finished"]
    papers = paper_tables(finished, read_published(published_csv), show_all)
    if published_csv is None:
        absent = "The published figures were not found (published/paper_tables.csv)."
        papers = [_noted(table, absent) for table in papers]
    tables = [*_comparisons(finished), *gap_tables(finished), *papers]
    waiting = sorted(run.id for run in kept if run.state != "finished")
    if tables and waiting:
        tables[0] = _noted(tables[0], f"Left out, not finished: {', '.join(waiting)}.")
    return tables


def named_tables(runs: Sequence[RunRecord], published_csv: Path | None, name: str) -> list[Table]:
    """The papers' tables of that name alone: those that our runs fill in part, else as they were published.

    UserError where no recipe of these runs has one.
    """
    finished = [run for run in each_once(runs) if run.state == "finished"]
    known = sorted({each for run in finished for each in run.tables})
    if name not in known:
        there = f"There are: {', '.join(known)}." if known else "These runs have none."
        raise UserError(f"--table {name}: no recipe of these runs has such a table.{nearest(name, known)} {there}")
    published = read_published(published_csv)
    return paper_tables(finished, published, False, name) or paper_tables(finished, published, True, name)


def list_runs(root: Path, passed_over: list[str] | None = None) -> Table:
    """Every run below `root`, the newest first. `passed_over`, if given: as in `whole_runs`."""
    runs = read_runs(root) if passed_over is None else whole_runs(root, passed_over, trials=True)
    runs = sorted(runs, key=lambda run: run.started or "", reverse=True)
    headings = ("State", "When", "Wall time", "SI-SDRi", "by label", "Recipe", "Corpus", "Profile", "Run")
    return Table(f"Runs in {root}", headings, tuple(map(_listed, runs)), () if runs else ("No runs here yet.",))


def _listed(run: RunRecord) -> Line:
    corpus, profile = run.config["task"]["corpus"], run.config["profile"]
    when = (run.finished or run.started or "")[:16].replace("T", " ")
    figures = (wall_cell(run), figure_cell(run, "test", MAIN, ci=False), figure_cell(run, "test", BY_LABEL, ci=False))
    words = (run.config["recipe"], sounds_words(run), profile, run.id)  # the long one last: there it breaks nothing
    facts = {"corpus": corpus, "profile": profile, "split": split_fact(run, "test")}
    return Line((text(run.state), text(when), *figures, *map(text, words)), facts)


def _comparisons(runs: Iterable[RunRecord]) -> list[Table]:
    """One table per task, corpus content and test set; runs that were scored on other scenes never share one."""
    beside = (count_tables, source_count_tables, case_tables)
    return [table for group in on_the_same_scenes(runs, (MAIN, BY_LABEL, *ABSOLUTE, *ELSEWHERE))
            for table in (_comparison(*group), *(each for made in beside for each in made(*group, OF_THE_TABLE)))]


def _missed(run: RunRecord, split: str) -> int | None:
    """How many sources the method did not answer; None where separation was not scored."""
    main = _main(run, split)
    if main == "class_accuracy" or figures_of(run, split, main) is None:
        return None
    name = "missed_by_label" if main == BY_LABEL else "missed"
    return int(((run.metrics[split].get(name) or {}).get("all") or {}).get("n") or 0)


def _main(run: RunRecord, split: str) -> str:
    """The metric that a run is placed by: by separation, which most have; older runs have it by label alone."""
    return next((metric for metric in PLACED_BY if figures_of(run, split, metric)), MAIN)


def _comparison(runs: Sequence[RunRecord], split: str) -> Table:
    bare = {name: facts for name, facts in ABSOLUTE.items() if any(_main(run, split) in ABSOLUTE for run in runs)}
    every = (bare | ELSEWHERE).items()
    asked = [name for name, _ in every if name not in WITH_F or any(measures(run, name) for run in runs)]
    extra = {name: facts for name, facts in every if name in asked and any(figures_of(run, split, name) for run in runs)}
    guessed = {name for name in extra if any(figures_of(run, split, f"{name}_chance") for run in runs)}
    headings = ["Method", "Supervision", "Corpus", "Profile", "Split", "Sources / scenes", "SI-SDRi, dB"]
    headings += ["Tie group", "Median", "SI-SDRi by label, dB", "Input SI-SDR"]
    headings += [f"{heading} (chance)" if name in guessed else heading for name, (heading, _) in extra.items()]
    headings += ["F frame (chance)", "F clip (chance)"]
    headings += ["Undefined", "Missed", "Params", "MACs/s", "Real-time factor", "Memory, MB", "Wall time"]
    labels, (ties, tied_by) = method_names(runs, OF_THE_TABLE), _ties(runs, split)
    best_first = sorted(runs, key=lambda run: (*_place(run, split, tied_by), run.id))
    rows = tuple(_compared(run, labels[run.id], split, extra, ties.get(run.id)) for run in best_first)
    title, settings = title_words(runs[0], split), scene_settings(runs[0], split)
    unasked = [name for name, metric in OF_METRICS.items() if not any(measures(run, metric) for run in runs)]
    tied = in_words(ties, labels)
    by = "SI-SDRi by label" if tied_by == BY_LABEL else "SI-SDRi"
    words = (f"{by}, {NOT_SEPARABLE}: {tied}.",) if tied else (TOO_MANY,) if len(runs) > MOST else ()
    notes = (*words, *_notes(runs, split, settings, tied_by))
    table = Table(title, tuple(headings), rows, notes, FOLDABLE, table_key(runs[0], split))
    return without_empty(table, ["Tie group", *unasked])


def _ties(runs: Sequence[RunRecord], split: str) -> tuple[dict[str, str], str]:
    """Letters by run: two share one where their paired difference cannot be told from 0. And the metric that tells.

    That is SI-SDRi by separation, unless more runs have it by label (older runs have no other).
    """
    n_scored = {name: sum(figures_of(run, split, name) is not None for run in runs) for name in (MAIN, BY_LABEL)}
    metric = max(n_scored, key=n_scored.__getitem__)  # the first of equals
    return letters_of(runs, metric, split), metric


def _compared(
    run: RunRecord, name: str, split: str, extra: Mapping[str, tuple[str, int]], tie: str | None
) -> Line:
    config, task = run.config, run.config["task"]
    main = figures_of(run, split, _main(run, split)) or {}
    median = (figures_of(run, split, MAIN) or {}).get("median")
    counts = [str(main[key]) for key in ("n", "scenes") if main.get(key) is not None]
    words = [
        name,
        supervision_words(config),
        corpus_words(task["corpus"]),
        config["profile"],
        split_words(run, split),
        " / ".join(counts),
    ]
    cells = [
        *map(text, words),
        figure_cell(run, split, MAIN),
        text(tie),
        Cell(median, n=main.get("n"), unit="dB", runs=(run.id,)),
        figure_cell(run, split, BY_LABEL),
        figure_cell(run, split, "si_sdr_mixture", ci=False),
        *(figure_cell(run, split, metric, digits) for metric, (_, digits) in extra.items()),
        figure_cell(run, split, "f_measure_frame", 2, ci=False),
        figure_cell(run, split, "f_measure_clip", 2, ci=False),
        Cell(main.get("undefined"), digits=0, runs=(run.id,)),
        Cell(_missed(run, split), digits=0, runs=(run.id,)),
        cost_cell(run, "parameters"),
        cost_cell(run, "macs_per_s"),
        real_time_factor_cell(run),
        memory_cell(run),
        wall_cell(run),
    ]
    return Line(tuple(cells), line_facts(run, split))


def _place(run: RunRecord, split: str, tied_by: str) -> tuple[bool, float]:
    """Where a run stands: by the metric of the table, else by another in dB; what only names classes, after those."""
    metric = tied_by if figures_of(run, split, tied_by) else _main(run, split)
    figures = figures_of(run, split, metric)
    return metric in NAMING, -float("-inf") if figures is None else -float(figures["mean"])


def _notes(runs: Sequence[RunRecord], split: str, settings: Mapping[str, Any], tied_by: str) -> tuple[str, ...]:
    notes = [*standing_notes(runs, split, by_labels=True)]
    if tied_by == BY_LABEL:
        notes.append("Order and tie groups are of SI-SDRi by label, since some of the runs have no other.")
    return (*notes, scenes_words(settings), LEGEND)


def _noted(table: Table, note: str) -> Table:
    return replace(table, notes=(*table.notes, note))
