"""The runs of a folder that can be read throughout: what shows many runs is not stopped by one that is damaged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sepbench.errors import UserError
from sepbench.results import RunRecord, read_runs, row_table
from sepbench.results_decisions import read_decisions

SAME = 1e-6  # figures nearer than this are the same but for rounding


def whole_runs(root: Path, passed_over: list[str]) -> list[RunRecord]:
    """The runs below `root`, by id, but those of which a file is damaged: the one line of each goes to `passed_over`.

    A finished run without rows is none of these: its figures can be shown all the same. Of runs of one id that have other
    figures the newest is there, and the others are named likewise.
    """
    whole = []
    for run in read_runs(root, passed_over):
        try:
            if run.state == "finished" and (run.path / "rows.parquet").exists():
                row_table(run.path)
            read_decisions(run.path)
        except UserError as error:
            passed_over.append(str(error))
        else:
            whole.append(run)
    return _told_apart(whole, passed_over)


def _told_apart(runs: Sequence[RunRecord], passed_over: list[str]) -> list[RunRecord]:
    kept, newest = [], dict[tuple[str, str], RunRecord]()
    for run in sorted(runs, key=lambda run: run.finished or "", reverse=True):
        first = newest.setdefault((run.id, str(run.provenance.get("corpus_hash"))), run)
        ours, theirs = _means(run), _means(first)
        if any(abs(mean - theirs.get(name, mean)) > SAME for name, mean in ours.items()):
            passed_over.append(f"{run.path}: {first.path} is a newer run of the same id with other figures. "
                               "`sepbench merge` of their folders tells them apart.")  # fmt: skip
        else:
            kept.append(run)
    return sorted(kept, key=lambda run: (run.id, str(run.path)))


def _means(run: RunRecord) -> dict[tuple[str, str], float]:
    """Its figures over all sources, by split and metric."""
    every = ((split, name, held.get("all") or {}) for split, own in run.metrics.items() for name, held in own.items())
    return {(split, name): held["mean"] for split, name, held in every if held.get("mean") is not None}
