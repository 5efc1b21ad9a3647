"""Rows become tables: a comparison of methods per test set, the papers' tables beside ours, and the list of runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sepbench.results import RunRecord, read_runs
from sepbench.tables_cases import case_tables
from sepbench.tables_counts import source_count_tables
from sepbench.tables_facts import (
    BY_LABELS_NOTE,
    LEGEND,
    SHARED,
    SHARED_NOTE,
    SYNTHETIC_NOTE,
    corpus_words,
    figures_of,
    interval,
    is_synthetic,
    measures,
    method_names,
    newest,
    plain,
    scene_settings,
    scenes_hash,
    shares_clips,
    short_si,
    sounds_words,
    split_fact,
    split_words,
)
from sepbench.tables_format import Cell, Line, Table, render, text, without_empty
from sepbench.tables_fuss import count_tables
from sepbench.tables_gap import gap_tables
from sepbench.tables_paper import paper_tables, read_published
from sepbench.tables_ties import NOT_SEPARABLE, in_words, letters_of

__all__ = ["Cell", "Line", "Table", "find_published", "list_runs", "make_tables", "render"]

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
RELEASED = "as released"  # where scenes are not mixed but lie ready on disk
SPLITS = {"test": "unheard recordings", "seen": "new scenes of the training recordings"}
# Never corpus and profile: a row that is copied out of its table has to go on saying what it was measured on.
FOLDABLE = ("Split", "Sources / scenes", "Supervision", "Undefined", "Missed")
OF_THE_TABLE = ("task", "protocol")  # options that a comparison's title tells: they part tables, not rows
SAME_INPUT_DB = 0.01  # runs on the same scenes agree on the mean SI-SDR of the mixture far better than this


def find_published(root: Path) -> Path | None:
    """The published figures that belong to a folder of results: in it, in one above it, else in this repository's."""
    root = Path(root).resolve()
    folders = [place for parent in (root, *root.parents) for place in (parent, parent / "results")]
    folders.append(Path(__file__).resolve().parents[2] / "results")
    found = (folder / "published" / "paper_tables.csv" for folder in folders)
    return next((path for path in found if path.is_file()), None)


def make_tables(runs: Sequence[RunRecord], published_csv: Path | None, show_all: bool = False) -> list[Table]:
    """Comparisons, what shared clips add, then the papers' tables that our runs fill in part (`show_all`: the empty too)."""
    kept: dict[tuple[str, str], RunRecord] = {}  # a run may lie in two places: here, and among the references
    for run in runs:
        key = (run.id, str(run.provenance.get("corpus_hash")))
        kept[key] = newest([run, kept.get(key, run)])
    finished = [run for run in kept.values() if run.state == "finished"]
    papers = paper_tables(finished, read_published(published_csv), show_all)
    if published_csv is None:
        absent = "The published figures were not found (published/paper_tables.csv)."
        papers = [_noted(table, absent) for table in papers]
    tables = [*_comparisons(finished), *gap_tables(finished), *papers]
    waiting = sorted(run.id for run in kept.values() if run.state != "finished")
    if tables and waiting:
        tables[0] = _noted(tables[0], f"Left out, not finished: {', '.join(waiting)}.")
    return tables


def list_runs(root: Path) -> Table:
    """Every run below `root`, the newest first."""
    runs = sorted(read_runs(root), key=lambda run: run.started or "", reverse=True)
    headings = ("State", "When", "Wall time", "SI-SDRi", "by label", "Recipe", "Corpus", "Profile", "Run")
    return Table(f"Runs in {root}", headings, tuple(map(_listed, runs)), () if runs else ("No runs here yet.",))


def _listed(run: RunRecord) -> Line:
    corpus, profile = run.config["task"]["corpus"], run.config["profile"]
    when = (run.finished or run.started or "")[:16].replace("T", " ")
    figures = (_wall(run), _cell(run, "test", MAIN, ci=False), _cell(run, "test", BY_LABEL, ci=False))
    words = (run.config["recipe"], sounds_words(run), profile, run.id)  # the long one last: there it breaks nothing
    facts = {"corpus": corpus, "profile": profile, "split": split_fact(run, "test")}
    return Line((text(run.state), text(when), *figures, *map(text, words)), facts)


def _comparisons(runs: Iterable[RunRecord]) -> list[Table]:
    """One table per task, corpus content and test set; runs that were scored on other scenes never share one."""
    groups: dict[tuple[str, str], list[list[RunRecord]]] = {}
    for run in runs:
        for split in run.metrics:
            if any(figures_of(run, split, metric) for metric in (MAIN, BY_LABEL, *ABSOLUTE, *ELSEWHERE)):
                same_settings = groups.setdefault((split, json.dumps(scene_settings(run, split), sort_keys=True)), [])
                home = next((group for group in same_settings if _same_input(run, group[0], split)), None)
                same_settings.append([run]) if home is None else home.append(run)
    order = sorted(groups, key=lambda key: (key[0] != "test", key[0], key[1]))
    alike = [(group, split) for split, settings in order for group in groups[split, settings]]
    beside = (count_tables, source_count_tables, case_tables)
    return [table for group in alike
            for table in (_comparison(*group), *(each for made in beside for each in made(*group, OF_THE_TABLE)))]


def _same_input(one: RunRecord, other: RunRecord, split: str) -> bool:
    """Whether two runs saw the same scenes: by their hash, and where one has none, as far as the mixtures can tell."""
    hashes = [scenes_hash(run, split) for run in (one, other)]
    if None not in hashes:
        return hashes[0] == hashes[1]
    a, b = (figures_of(run, split, "si_sdr_mixture") for run in (one, other))
    if a is None or b is None:
        return True
    return a.get("n") == b.get("n") and abs(a["mean"] - b["mean"]) < SAME_INPUT_DB


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
    first = runs[0]
    task, settings = first.config["task"], scene_settings(first, split)
    sounds = f" (content {str(settings['sounds'])[:8]})" if settings["sounds"] else ""
    strange = first.config.get("kind") == "external" and task["corpus"] == "files"  # nobody knows where they come from
    glosses = SPLITS | ({"test": SPLITS["seen"]} if shares_clips(first) else {})
    ready = (task.get("mixing") or {}).get("kind") == "ready"
    gloss = "" if strange else f": {RELEASED if ready else glosses.get(split, split)}"
    parts = [f"{task['name']} on {corpus_words(task['corpus'])}{'' if strange else ' sounds'}{sounds}"]
    parts += [f"{len(task['classes'])} classes"] if "class_set" in task else []
    title = ", ".join([*parts, *([SHARED] if shares_clips(first) else []), split]) + gloss
    unasked = [name for name, metric in OF_METRICS.items() if not any(measures(run, metric) for run in runs)]
    tied = in_words(ties, labels)
    by = "SI-SDRi by label" if tied_by == BY_LABEL else "SI-SDRi"
    words = (f"{by}, {NOT_SEPARABLE}: {tied}.",) if tied else ()
    table = Table(title, tuple(headings), rows, (*words, *_notes(runs, split, settings, tied_by)), FOLDABLE)
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
        _supervision(config),
        corpus_words(task["corpus"]),
        config["profile"],
        split_words(run, split),
        " / ".join(counts),
    ]
    cells = [
        *map(text, words),
        _cell(run, split, MAIN),
        text(tie),
        Cell(median, n=main.get("n"), unit="dB", runs=(run.id,)),
        _cell(run, split, BY_LABEL),
        _cell(run, split, "si_sdr_mixture", ci=False),
        *(_cell(run, split, metric, digits) for metric, (_, digits) in extra.items()),
        _cell(run, split, "f_measure_frame", 2, ci=False),
        _cell(run, split, "f_measure_clip", 2, ci=False),
        Cell(main.get("undefined"), digits=0, runs=(run.id,)),
        Cell(_missed(run, split), digits=0, runs=(run.id,)),
        _cost(run, "parameters"),
        _cost(run, "macs_per_s"),
        _real_time_factor(run),
        _memory(run),
        _wall(run),
    ]
    return Line(tuple(cells), {"corpus": task["corpus"], "profile": config["profile"], "split": split_fact(run, split)})


def _supervision(config: Mapping[str, Any]) -> str | None:
    """What the method may learn from; for weak labels also how much they tell. An oracle cannot be overlooked."""
    supervision = config.get("supervision")
    if supervision == "weak" and config.get("labels_seen"):
        return f"weak, {config['labels_seen']} labels"
    return "ORACLE" if supervision == "oracle" else supervision


def _cell(run: RunRecord, split: str, metric: str, digits: int = 1, ci: bool = True) -> Cell:
    """A run's figure over all sources, with its interval and chance level where there are any."""
    figures = figures_of(run, split, metric)
    if figures is None:
        return Cell()
    chance = (figures_of(run, split, f"{metric}_chance") or {}).get("mean")
    unit = str(run.metrics[split][metric].get("unit") or "")
    bounds = interval(figures) if ci else None
    return Cell(figures["mean"], bounds, n=figures.get("n"), chance=chance, unit=unit, digits=digits, runs=(run.id,))


def _place(run: RunRecord, split: str, tied_by: str) -> tuple[bool, float]:
    """Where a run stands: by the metric of the table, else by another in dB; what only names classes, after those."""
    metric = tied_by if figures_of(run, split, tied_by) else _main(run, split)
    figures = figures_of(run, split, metric)
    return metric in NAMING, -float("-inf") if figures is None else -float(figures["mean"])


def _notes(runs: Sequence[RunRecord], split: str, settings: Mapping[str, Any], tied_by: str) -> tuple[str, ...]:
    mixing = ", ".join(f"{key} {plain(value)}" for key, value in settings["mixing"].items())
    classes = ", ".join(settings["classes"] or [])
    seconds = "various lengths" if settings["seconds"] is None else f"{settings['seconds']:g} s"
    rate = "various rates" if settings["sample_rate_hz"] is None else f"{settings['sample_rate_hz']} Hz"
    facts = [f"{seconds} at {rate}", mixing, f"classes {classes}" if classes else "no labels"]
    scenes = f"Scenes: {'; '.join(filter(None, facts))}."
    notes = [SYNTHETIC_NOTE] if is_synthetic(str(settings["corpus"])) else []
    notes += [SHARED_NOTE] if shares_clips(runs[0]) else [*_leaks(runs)]
    if any(_by(run, split) != "separation" for run in runs):
        notes.append(BY_LABELS_NOTE)
    if any(run.config.get("supervision") == "oracle" for run in runs):
        notes.append("ORACLE: the method is handed the true sources; a ceiling, not a contestant.")
    if tied_by == BY_LABEL:
        notes.append("Order and tie groups are of SI-SDRi by label, since some of the runs have no other.")
    return (*notes, scenes, LEGEND)


def _by(run: RunRecord, split: str) -> str:
    """What the classes of a run were held against; older runs knew separation alone."""
    return str((run.metrics[split].get("class_accuracy") or {}).get("by") or "separation")


def _leaks(runs: Sequence[RunRecord]) -> Iterator[str]:
    """Runs that were tested on what they were trained on, though their protocol does not say so."""
    for run in runs:
        audit = run.provenance.get("audit") or {}
        if any(n for shared in (audit.get("shared") or {}).values() for n in shared.values()):
            yield f"LEAK: {run.id}: {audit['verdict']}"


def _cost(run: RunRecord, name: str) -> Cell:
    value = run.cost.get(name)
    return Cell(value, text=None if value is None else short_si(value), digits=0, runs=(run.id,))


def _memory(run: RunRecord) -> Cell:
    """Peak memory; whose it is, where it is not that of the process alone."""
    value, of = run.cost.get("peak_memory_mb"), run.cost.get("peak_memory_of")
    words = f"{value:.0f} ({of})" if value is not None and of not in (None, "process") else None
    return Cell(value, text=words, digits=0, unit="MB", runs=(run.id,))


def _real_time_factor(run: RunRecord) -> Cell:
    value = run.cost.get("real_time_factor")
    words = None if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"
    return Cell(value, text=words, digits=3, runs=(run.id,))


def _wall(run: RunRecord) -> Cell:
    if not run.wall_s:
        return Cell()
    seconds = sum(run.wall_s.values())
    minutes = seconds / 60
    words = f"{seconds:.0f} s" if seconds < 100 else f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"
    return Cell(seconds, text=words, unit="s", runs=(run.id,))


def _noted(table: Table, note: str) -> Table:
    return Table(table.title, table.headings, table.rows, (*table.notes, note), table.foldable)
