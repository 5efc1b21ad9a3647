"""What is said below a task's tables, whichever way they are parted: terms that are not equal, and what the scenes are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from sepbench.results import RunRecord
from sepbench.tables_alike import leaks
from sepbench.tables_cells import by_words
from sepbench.tables_facts import (
    BY_LABELS_NOTE,
    OF_THE_PROFILE,
    ORACLE_NOTE,
    SHARED_NOTE,
    SYNTHETIC_NOTE,
    budget_words,
    figures_of,
    is_synthetic,
    measures,
    method_names,
    shares_clips,
)
from sepbench.tables_format import DASH, Line, Table

BUDGET = "Budget"  # the heading of its column
EQUAL = "these rows are no comparison on equal terms."
SEEDS_NOTE = (
    "(2 runs): runs that differ in the seed alone are taken together, and a scene is drawn with all of them; n, sources, scenes "
    "and what is missed are sums over the runs, costs those of the first. (1 of 2 runs): the others lack the figure."
)


def given(runs: Sequence[RunRecord]) -> tuple[list[str], list[str]]:
    """What all were given, for the title: profile and budget; and, where they were given different things, notes that say so."""
    profiles = sorted({run.config["profile"] for run in runs})
    budgets = sorted({words for run in runs if (words := budget_words(run.config))})
    counted = [run.cost.get("training_scenes") for run in runs if budget_words(run.config)]
    drawn = [int(n) for n in counted if n is not None]
    least, most = (min(drawn), max(drawn)) if drawn else (0, 0)
    told, notes = [f"profile {profiles[0]}"] if len(profiles) == 1 else [], []
    if len(profiles) > 1:
        notes.append(f"PROFILES DIFFER ({', '.join(profiles)}): {EQUAL}")
    if len(budgets) > 1:
        notes.append(f"BUDGETS DIFFER ({'; '.join(budgets)}): {EQUAL}")
    elif budgets == [OF_THE_PROFILE] and least < most:
        own = f"each profile's own training, of {least:,} to {most:,} scenes: see Training scenes"
        notes.append(f"TRAINING DIFFERS, since no budget was given ({own}): {EQUAL}")
    elif budgets and budgets != [OF_THE_PROFILE]:
        fewer = least < most and budgets[0].endswith(" scenes")
        told.append(f"budget: at most {budgets[0]} each" if fewer else f"budget {budgets[0]} each")
    return told, notes


def without_budget(table: Table) -> Table:
    """The table without its column of budgets, but where they differ: else the title tells of them."""
    i = table.headings.index(BUDGET)
    if len({row.cells[i].show() for row in table.rows} - {DASH}) > 1:
        return table
    rows = tuple(Line((*row.cells[:i], *row.cells[i + 1 :]), row.facts) for row in table.rows)
    return replace(table, headings=(*table.headings[:i], *table.headings[i + 1 :]), rows=rows)


def standing_notes(runs: Sequence[RunRecord], split: str, by_labels: bool) -> Iterator[str]:
    """What must be said wherever figures of these runs stand; `by_labels`: the figures are of classes, among others."""
    if is_synthetic(str(runs[0].config["task"]["corpus"])):
        yield SYNTHETIC_NOTE
    yield from [SHARED_NOTE] if shares_clips(runs[0]) else leaks(runs)
    if by_labels and any(by_words(run, split) != "separation" for run in runs):
        yield BY_LABELS_NOTE
    if any(run.config.get("supervision") == "oracle" for run in runs):
        yield ORACLE_NOTE
    yield from _several_devices(runs)


def _several_devices(runs: Sequence[RunRecord]) -> Iterator[str]:
    """Who was trained by several processes together, how many, what they shared, and how much of it was."""
    names = method_names(runs)
    told = []
    for run in runs:
        stages = [stage for stage in run.cost.values() if isinstance(stage, dict) and "epochs" in stage]
        shared = [stage for stage in stages if "ranks" in stage]
        if not shared:
            continue
        kinds = sorted({(stage["ranks"] // stage["nodes"], stage["nodes"]) for stage in shared})
        places = " and ".join(f"{devices} x {nodes}" for devices, nodes in kinds)
        sizes = ", ".join(f"{size}" for size in sorted({stage["batch"] for stage in shared}))
        n, n_all = sum(stage["epochs_together"] for stage in shared), sum(stage["epochs"] for stage in stages)
        part = f", {n} of {n_all} epochs" if n < n_all else ""
        told.append(f"{names[run.id]} by {places} (devices x nodes), batches of {sizes} scenes in all{part}")
    if told:
        yield f"Trained on several devices together: {'; '.join(told)}. Times of training do not compare with those of one."


def clip_note(runs: Sequence[RunRecord], split: str) -> Iterator[str]:
    """That F clip is had in two ways, where it is; in general words where rows do not tell which run has it which way.

    Who answers when a class sounds has frames as well; of others the labels are counted (`judge`).
    """
    scored = [run for run in runs if figures_of(run, split, "f_measure_clip")]
    if len(scored) < 2:
        return
    in_time = [bool(figures_of(run, split, "f_measure_frame")) for run in scored]
    told = all(measures(run, "f_measure_frame") for run in scored)
    if any(in_time) != all(in_time) or not told:
        which = ", of those with an F frame" if told else ", of a method that answers when a class sounds"
        yield f"F clip{which}: a class is there whose likeliest frame reaches 0.5; of the others: one that is among their labels."
