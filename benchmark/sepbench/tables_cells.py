"""The cells that tables of runs share: a figure, what it costs, what the method may learn from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sepbench.results import RunRecord
from sepbench.results_checks import MARK
from sepbench.tables_facts import figures_of, interval, plain, short_si, split_fact
from sepbench.tables_format import Cell


def supervision_words(config: Mapping[str, Any]) -> str | None:
    """What the method may learn from; for weak labels also how much they tell. An oracle cannot be overlooked."""
    supervision = config.get("supervision")
    if supervision == "weak" and config.get("labels_seen"):
        return f"weak, {config['labels_seen']} labels"
    return "ORACLE" if supervision == "oracle" else supervision


def line_facts(run: RunRecord, split: str) -> dict[str, str]:
    """What a row says of its run in formats whose rows stand alone.

    `row`: recipe, changed options, a seed other than 0, and which runs taught it or are wrapped by it, whatever else was run.
    """
    changed = {name: plain(value) for name, value in sorted((run.changed or {}).items()) if name != "task"}
    for name in ("inner", "trained_by"):
        if other := (run.config.get(name) or {}).get("run"):
            changed[name] = Path(str(other)).name.rpartition("-")[0]  # its hash is not for names that last
    changed |= {"seed": str(run.config["seed"])} if run.config.get("seed") else {}
    changed |= {"kept": run.id.partition(MARK)[2]} if MARK in run.id else {}  # beside another of its id, by a merge
    row = " ".join([run.config["recipe"], *(f"{name}={value}" for name, value in changed.items())])
    corpus, profile = run.config["task"]["corpus"], run.config["profile"]
    return {"corpus": corpus, "profile": profile, "split": split_fact(run, split), "row": row}


def figure_cell(run: RunRecord, split: str, metric: str, digits: int = 1, ci: bool = True) -> Cell:
    """A run's figure over all sources, with its interval and chance level where there are any."""
    figures = figures_of(run, split, metric)
    if figures is None:
        return Cell()
    chance = (figures_of(run, split, f"{metric}_chance") or {}).get("mean")
    unit = str(run.metrics[split][metric].get("unit") or "")
    bounds = interval(figures) if ci else None
    return Cell(figures["mean"], bounds, n=figures.get("n"), chance=chance, unit=unit, digits=digits, runs=(run.id,))


def by_words(run: RunRecord, split: str) -> str:
    """What the classes of a run were held against; older runs knew separation alone."""
    return str((run.metrics[split].get("class_accuracy") or {}).get("by") or "separation")


def cost_cell(run: RunRecord, name: str) -> Cell:
    value = run.cost.get(name)
    return Cell(value, text=None if value is None else short_si(value), digits=0, runs=(run.id,))


def memory_cell(run: RunRecord) -> Cell:
    """Peak memory; whose it is, where it is not that of the process alone."""
    value, of = run.cost.get("peak_memory_mb"), run.cost.get("peak_memory_of")
    words = f"{value:.0f} ({of})" if value is not None and of not in (None, "process") else None
    return Cell(value, text=words, digits=0, unit="MB", runs=(run.id,))


def real_time_factor_cell(run: RunRecord) -> Cell:
    value = run.cost.get("real_time_factor")
    words = None if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"
    return Cell(value, text=words, digits=3, runs=(run.id,))


def wall_cell(run: RunRecord) -> Cell:
    return seconds_cell(sum(run.wall_s.values()), run) if run.wall_s else Cell()


def seconds_cell(seconds: float | None, run: RunRecord) -> Cell:
    """A time in whatever unit reads best; a dash where there is none."""
    if seconds is None:
        return Cell()
    minutes = seconds / 60
    words = f"{seconds:.0f} s" if seconds < 100 else f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"
    return Cell(seconds, text=words, unit="s", runs=(run.id,))
