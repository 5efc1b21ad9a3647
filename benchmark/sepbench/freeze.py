"""Runs become the reference that later ones are held against. Its own command, so that no golden writes itself."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sepbench.check_pairing import apart, recipe_names, runs_in, why_not
from sepbench.errors import UserError
from sepbench.metrics import METRICS
from sepbench.results import RunRecord, read_rows
from sepbench.results_decisions import FILE as FILE_OF_DECISIONS
from sepbench.storage import FolderLock, sweep, write_bytes, write_text
from sepbench.tolerances import FILE, first_text

KEPT = ("run.json", "config.yaml", "metrics.json", "rows.parquet")  # no sounds, weights, figures: figures alone are checked
BUILDING = ".freezing-"  # hidden: no check reads it
IF_THERE = (FILE_OF_DECISIONS,)  # for tables


@dataclass(frozen=True)
class _Step:
    """One run to be frozen, and the frozen one of its kind."""

    run: RunRecord
    old: RunRecord | None

    @property
    def is_done(self) -> bool:
        """Whether this very run is frozen already."""
        return self.old is not None and all(_content(self.run.path / name) == _content(self.old.path / name)
                                            for name in (*KEPT, *IF_THERE))


def freeze(results: Path, reference: Path, only: Sequence[str] = (), replace: bool = False) -> list[str]:
    """Copy the finished runs in `results` to `reference`, and say in lines what was done.

    Either all of it is done or, by UserError, nothing: where a run of the same kind is frozen and `replace` is not set,
    where two runs are of one kind, where one is damaged, and where there is no finished run. Writes tolerances.yaml
    where there is none.
    """
    if reference.exists() and not reference.is_dir():
        raise UserError(f"--to {reference}: that is a file. Name a folder for the frozen runs.")
    with _alone(reference):
        return _freeze(results, reference, only, replace)


def _freeze(results: Path, reference: Path, only: Sequence[str], replace: bool) -> list[str]:
    but_results, but_reference = apart(results, reference)
    every = runs_in(results, but=but_results)
    chosen = runs_in(results, recipe_names(only, every.all, str(results)), but_results)
    if not chosen.finished:
        raise UserError(f"{results}: no finished run to freeze. `sepbench run recipes/weak_label` makes one.")
    _check_whole(chosen.finished)
    _check_one_of_each_kind(chosen.finished)
    frozen = runs_in(reference, but=but_reference).finished if reference.is_dir() else []
    steps = [_Step(run, next((old for old in frozen if not why_not(old, run)), None)) for run in chosen.finished]
    steps_to_do = [step for step in steps if not step.is_done]
    _check_free(steps_to_do, reference, replace)
    lines = [f"{step.run.id}: is frozen already" for step in steps if step.is_done]
    lines += [_do(step, reference) for step in steps_to_do]
    lines += [f"{run.id}: is {run.state}, left out" for run in chosen.unfinished]
    lines += [f"{run.id}: holds statistics and no rows, left out" for run in chosen.without_rows]
    return [*lines, *_tolerances(reference, chosen.finished)]


@contextlib.contextmanager
def _alone(reference: Path) -> Iterator[None]:
    """No other freezing writes there meanwhile, and what one that was killed has left is put in order."""
    if not reference.is_dir():
        yield
        return
    lock = FolderLock(reference)
    try:
        _recover(reference)
        yield
    finally:
        lock.release()


def _check_whole(runs: Sequence[RunRecord]) -> None:
    """UserError where a run lacks a file, or its rows are no figures; its metrics were checked when it was read."""
    for run in runs:
        if missing := [name for name in KEPT if not _content(run.path / name)]:
            raise UserError(f"{run.path}: {', '.join(missing)} is empty or not there. "
                            "Restore it, or run again in another folder.")
        read_rows(run.path)


def _check_one_of_each_kind(runs: Sequence[RunRecord]) -> None:
    for i, run in enumerate(runs):
        if same := [other for other in runs[i + 1 :] if not why_not(run, other)]:
            named = ", ".join(f"{each.path.name} (seed {each.config.get('seed')})" for each in (run, *same))
            raise UserError(f"{named}: runs of one kind, of which one can be the reference. Freeze it by its folder: "
                            f"sepbench freeze {run.path} --to ...")


def _check_free(steps: Sequence[_Step], reference: Path, replace: bool) -> None:
    taken = [step.old.path.name for step in steps if step.old is not None]
    if taken and not replace:
        raise UserError(f"{reference}: {len(taken)} of {len(steps)} runs have a frozen one of their kind: "
                        f"{', '.join(taken)}. Add --replace to put the new ones in their place, or choose with --only.")
    for step in steps:
        there = reference / step.run.path.name
        if there.exists() and (step.old is None or not _same(there, step.old.path)):
            raise UserError(f"{there}: is there, and is no frozen run of this kind. Move it away.")


def _do(step: _Step, reference: Path) -> str:
    """Write the run beside the old one, then let it take its place: at every moment one of them is whole."""
    _make(reference)
    try:
        building = Path(tempfile.mkdtemp(prefix=BUILDING, dir=reference))
    except OSError as error:
        raise UserError(f"{reference}: cannot be written: {error.strerror}. Choose a folder you may write.") from error
    try:
        new = building / "new"
        new.mkdir()
        for name in (*KEPT, *(name for name in IF_THERE if (step.run.path / name).is_file())):
            write_bytes(new / name, (step.run.path / name).read_bytes())
        if step.old is not None:
            (building / "old").mkdir()
            step.old.path.rename(building / "old" / step.old.path.name)
        new.rename(reference / step.run.path.name)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    instead = f", in place of {step.old.path.name}" if step.old is not None else ""
    return f"{step.run.id}: frozen{instead}"


def _recover(reference: Path) -> None:
    """Put back what a freezing that was killed had taken away before the new one was in its place, and clear up."""
    for building in reference.glob(f"{BUILDING}*"):
        if (building / "new").is_dir():
            for old in building.glob("old/*"):
                old.rename(reference / old.name)
        shutil.rmtree(building, ignore_errors=True)
    sweep(reference)


def _tolerances(reference: Path, runs: Sequence[RunRecord]) -> list[str]:
    file = reference / FILE
    if file.exists():
        return []
    metrics = {name for run in runs for figures in run.metrics.values() for name in figures if name in METRICS}
    write_text(file, first_text(metrics))
    return [f"{file}: written to start from; say in it by how much each figure may get worse"]


def _content(file: Path) -> bytes | None:
    return file.read_bytes() if file.is_file() else None


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror}. Choose a folder you may write.") from error
