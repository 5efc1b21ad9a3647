"""The runs of a folder that can be read throughout: what shows many runs is not stopped by one that is damaged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sepbench.errors import UserError
from sepbench.results import RunRecord, read_runs, row_means
from sepbench.results_checks import REMEDY
from sepbench.results_decisions import read_decisions
from sepbench.results_format import is_trial

SAME = 1e-6  # figures nearer than this are the same but for rounding


def whole_runs(root: Path, passed_over: list[str], trials: bool = False) -> list[RunRecord]:
    """The runs below `root`, by id, but those of which a file is damaged: the one line of each goes to `passed_over`.

    So it is with a run that was scored and whose rows are gone, or whose metrics.json says otherwise than they do; one that
    never had any (statistics of labels) is whole. Of runs of one id that have other figures the newest is there, and the
    others are named likewise. The trials of a search, scored on validation scenes, stand beside no other run: they are here
    where `trials` says so, else counted in a line.
    """
    whole, n_trials = [], 0
    for run in read_runs(root, passed_over):
        if is_trial(run.config) and not trials:
            n_trials += 1
            continue
        try:
            if run.state == "finished" and ("score" in run.wall_s or (run.path / "rows.parquet").exists()):
                _check_figures(run)
            read_decisions(run.path)
        except UserError as error:
            passed_over.append(str(error))
        else:
            whole.append(run)
    if n_trials:
        passed_over.append(f"{root}: {n_trials} trials of searches, scored on validation scenes alone. `sepbench ls` lists them.")
    return _told_apart(whole, passed_over)


def _check_figures(run: RunRecord) -> None:
    """UserError where a mean in metrics.json is not that of the rows, or a whole split is not there.

    Pooled figures have no rows of their own name.
    """
    held = _means(run)
    for (split, name), mean in row_means(run.path).items():
        if split not in run.metrics:
            raise UserError(f"{run.path / 'metrics.json'}: holds no figures of {split}, though there are rows of it beside it. "
                            f"{REMEDY}")  # fmt: skip
        told = held.get((split, run.renamed.get(name, name)))
        if told is not None and not abs(told - mean) <= SAME * max(1.0, abs(mean)):
            raise UserError(f"{run.path / 'metrics.json'}: {split}.{name} is {told:.6g}, by the rows beside it "
                            f"{mean:.6g}: one of them was changed. {REMEDY}")  # fmt: skip


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
    figures = {(split, name): held.get("all") or {} for split, own in run.metrics.items() for name, held in own.items()}
    return {key: held["mean"] for key, held in figures.items() if held.get("mean") is not None}
