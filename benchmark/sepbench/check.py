"""The regression gate: new runs against frozen ones, figure by figure, with an exit code. It reads and never writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sepbench.check_figures import BETTER, FAILING, Pair, judge_pair
from sepbench.check_pairing import Runs, apart, closest, known_task, recipe_names, runs_in, task_of, why_not
from sepbench.errors import UserError
from sepbench.results import RunRecord, read_rows
from sepbench.tolerances import FILE, Tolerances, names_of, read_tolerances

PASSED, FAILED, NOTHING = 0, 1, 3  # exit codes; 2 is bad usage


@dataclass(frozen=True)
class Unmatched:
    """A frozen run that no new one was held against, and why."""

    reference: RunRecord
    why: str


@dataclass(frozen=True)
class Outcome:
    """All that a check found."""

    pairs: tuple[Pair, ...]
    missing: tuple[Unmatched, ...]  # frozen runs without a counterpart
    new: tuple[RunRecord, ...]  # runs of which none is frozen
    notes: tuple[str, ...]  # what was passed over
    n_unfinished: int  # new runs that are not finished
    strict: bool = False  # what is better, new or unfinished fails too
    no_new: bool = False  # what is new fails too

    @property
    def verdicts(self) -> Counter[str]:
        """How many figures got each verdict."""
        return Counter(figure.verdict for pair in self.pairs for figure in pair.figures if not figure.label or
                       figure.tolerance is not None)

    @property
    def exit_code(self) -> int:
        """0 fine, 1 regressed, missing, new or moved, 3 nothing comparable was measured."""
        if not self.pairs:
            return NOTHING
        if self.missing or any(self.verdicts[verdict] for verdict in FAILING):
            return FAILED
        if not any(pair.n_gated for pair in self.pairs):
            return NOTHING
        if self.new and (self.strict or self.no_new):
            return FAILED
        return FAILED if self.strict and (self.verdicts[BETTER] or self.n_unfinished) else PASSED


def check(
    results: Path, reference: Path, tolerances: Path | None = None, only: Sequence[str] = (), strict: bool = False,
    no_new: bool = False, task: str | None = None,
) -> Outcome:  # fmt: skip
    """Hold every run in `results` against the frozen run of its kind in `reference`; both are folders of runs, or a run.

    UserError where the reference has no finished run, two of one kind, or no tolerances, and where the folders are one.
    """
    but_results, but_reference = apart(results, reference)
    known = runs_in(reference, but=but_reference)
    chosen = recipe_names(only, known.all, str(reference))
    task = task and known_task(task, known.all, str(reference))
    ours, theirs = runs_in(reference, chosen, but_reference, task), runs_in(results, chosen, but_results, task)
    if not ours.finished and (only or task) and known.finished:
        raise UserError(f"{reference}: no finished run of {' or '.join(chosen) or 'any recipe'} on {task or 'any task'} there.")
    if not ours.finished:
        raise UserError(f"{reference}: no finished run there to check against. "
                        f"`sepbench freeze {results} --to {reference}` puts one there.")
    _check_one_of_each_kind(ours.finished)
    names = {name for run in [*known.finished, *theirs.finished]
             for name in names_of(str(run.config.get("recipe")), task_of(run))}
    allowed = read_tolerances(tolerances or _tolerances_of(reference, results), sorted(names))
    pairs, missing = _compared(ours, theirs, allowed)
    paired = {id(run) for frozen in ours.finished for run in theirs.finished if not why_not(frozen, run)}
    new = tuple(run for run in theirs.finished if id(run) not in paired)
    return Outcome(tuple(pairs), tuple(missing), new, tuple(_notes(ours, theirs)), len(theirs.unfinished), strict, no_new)


def _compared(ours: Runs, theirs: Runs, tolerances: Tolerances) -> tuple[list[Pair], list[Unmatched]]:
    pairs: list[Pair] = []
    missing: list[Unmatched] = []
    for frozen in ours.finished:
        fitting = [run for run in theirs.finished if not why_not(frozen, run)]
        for run in fitting:
            rows = read_rows(frozen.path), read_rows(run.path)
            try:
                pairs.append(judge_pair(frozen, run, rows, tolerances))
            except UserError as error:  # their records agree, their scenes do not
                missing.append(Unmatched(frozen, f"{run.id} cannot be held against it: {error}"))
        if not fitting:
            missing.append(Unmatched(frozen, _why_unmatched(frozen, theirs)))
    return pairs, missing


def _why_unmatched(frozen: RunRecord, theirs: Runs) -> str:
    begun = [run for run in theirs.unfinished if not why_not(frozen, run)]
    if begun:
        return f"{begun[0].id} is its counterpart, and is {begun[0].state}"
    nearest_run = closest(frozen, theirs.finished)
    if nearest_run is None:
        return "there is no finished run"
    return f"the nearest run is {nearest_run.id}: {'; '.join(why_not(frozen, nearest_run))}"


def _check_one_of_each_kind(frozen: Sequence[RunRecord]) -> None:
    for i, run in enumerate(frozen):
        if same := [other for other in frozen[i + 1 :] if not why_not(run, other)]:
            raise UserError(f"{run.path} and {same[0].path} are both frozen, and are runs of one kind. Remove one of them.")


def _tolerances_of(reference: Path, results: Path) -> Path:
    """tolerances.yaml in the folder of frozen runs, or in the one above a single run."""
    places = [reference, *([reference.resolve().parent] if (reference / "run.json").is_file() else [])]
    for place in places:
        if (place / FILE).is_file():
            return place / FILE
    raise UserError(f"{reference}: no {FILE}, so nothing says how much worse a figure may get. Write one, such as "
                    f"`default: {{si_sdri: 0.3 dB}}`, or name one with --tolerances; `sepbench freeze {results} --to "
                    f"{reference}` writes one to start from.")


def _notes(ours: Runs, theirs: Runs) -> list[str]:
    notes = [f"{run.id} in the reference is {run.state}: left out" for run in ours.unfinished]
    notes += [f"{run.id} is {run.state}: left out" for run in theirs.unfinished]
    unsigned = [run for run in ours.finished if not any("signature" in own for figures in run.metrics.values()
                                                        for own in figures.values())]
    notes += [f"{run.id} in the reference has no signatures, so a changed definition would not be seen; freeze it again"
              for run in unsigned]
    bare = [*ours.without_rows, *theirs.without_rows]
    return notes + [f"{run.id} holds statistics and no rows: nothing to check" for run in bare]
