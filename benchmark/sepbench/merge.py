"""Results folders of several people become one: no row is lost, the same run is kept once, and conflicts are named."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sepbench.errors import UserError
from sepbench.merge_files import copy_whole, entries_of, recover
from sepbench.merge_same import Making, difference
from sepbench.results import RunRecord, read_runs
from sepbench.results_checks import MARK
from sepbench.storage import FolderLock

TAKEN, FILLED, THERE, CONFLICT, LEFT_OUT = "taken", "filled", "already there", "conflict", "left out"
VERDICTS = (TAKEN, FILLED, THERE, CONFLICT, LEFT_OUT)


@dataclass(frozen=True)
class Fate:
    """What becomes of a run that was merged, with a line for people where there is something to say."""

    source: Path  # the folder of results that it comes from
    verdict: str
    line: str = ""


@dataclass
class _Home:
    """Where a run lies in the merged folder or will lie, and all that was made of it: makings of one and the same run."""

    path: Path
    makings: list[Making] = field(default_factory=list)

    @property
    def entries(self) -> dict[str, Path]:
        """The files and folders that the run will hold. The newest making goes first, as in tables; others fill in."""
        newest_first = sorted(self.makings, key=lambda making: (making.age, making.path == self.path), reverse=True)
        found: dict[str, Path] = {}
        for making in newest_first:
            found = {**entries_of(making.path), **found}
        return found

    def difference(self, making: Making) -> str:
        """In what a making differs from any of these; empty: from none, and it is of the same run.

        One that does not know its weights or sounds is like those that do, which may yet differ from each other.
        """
        return next(filter(None, (difference(each, making) for each in self.makings)), "")

    @property
    def coming(self) -> dict[str, Path]:
        """Those of `entries` that do not lie in the merged folder yet."""
        return {name: path for name, path in self.entries.items() if path.parent != self.path}


def merge(folders: Sequence[Path], out: Path | None, dry_run: bool) -> list[Fate]:
    """Bring the finished runs of all `folders` into the first, or all into `out`; what became of each that was brought.

    Runs of one id with the same rows, weights and sounds are one run, which then has whatever one of them had, such as
    weights. With others, both are kept: the later under its id with a mark, by which tables tell it from the first.
    UserError, before anything is written, where a run is being written or the folders are not apart. Each run is whole
    or not there, so that an interrupted merge can be given again.
    """
    to, sources = (folders[0], folders[1:]) if out is None else (out, folders)
    if out is None and not to.is_dir():
        raise UserError(f"{to}: no such folder of results. Name the one that the others go into, or a new one with -o DIR.")
    _check_apart([*folders, *([out] if out is not None else [])])
    with contextlib.nullcontext() if dry_run else _writing(to):
        plan = _Plan(to, read_runs(to, []) if to.is_dir() else [])
        fates = [fate for source in sources for fate in plan.add(source)]
        if plan.being_written:
            raise UserError(f"{', '.join(plan.being_written)}: being written now. Wait for it to end, or stop it, then merge.")
        if not dry_run:
            for home in plan.homes:
                if home.coming:
                    copy_whole(home.entries, home.path)
    return fates


class _Plan:
    """What will lie where. Nothing is written by it."""

    def __init__(self, to: Path, there: Sequence[RunRecord]) -> None:
        self.to, self.homes, self.being_written = to, list[_Home](), list[str]()
        self._there = there
        self._of: dict[str, list[_Home]] = {}  # by the id of the run

    def add(self, source: Path) -> Iterator[Fate]:
        """Find a place for each run of a folder of results."""
        broken: list[str] = []
        runs = read_runs(source, broken)
        if not runs and not broken:
            raise UserError(f"{source}: no runs in it. Name a folder of results; `sepbench ls FOLDER` lists its runs.")
        for run in runs:
            if run.state == "finished":
                yield self._place(source, Making(run))
            elif run.state == "running":
                self.being_written.append(str(run.path))
            else:
                yield Fate(source, LEFT_OUT, f"{run.path}: interrupted. Give its command again, then merge again.")
        yield from (Fate(source, LEFT_OUT, line) for line in broken)

    def _place(self, source: Path, making: Making) -> Fate:
        try:
            making.check()
        except UserError as error:
            return Fate(source, LEFT_OUT, str(error))
        homes = self._homes(making.base)
        differences = [home.difference(making) for home in homes]
        home = next((home for home, differs in zip(homes, differences) if not differs), None)
        verdict, line = THERE, ""
        if home is None:
            home = _Home(self._free_place(source, making, marked=bool(homes)))
            self.homes.append(home)
            homes.append(home)
            verdict = TAKEN
        before = home.coming
        home.makings.append(making)
        if verdict == THERE and home.coming != before:
            verdict = FILLED
            line = f"{home.path}: gets {', '.join(sorted(set(home.coming) - set(before)) or home.coming)} of {making.path}"
        if home is not homes[0] and differences[0]:
            first = homes[0].makings[0].path
            return Fate(source, CONFLICT, f"{making.path}: not the run that {first} is: {differences[0]}. Kept as {home.path}")
        return Fate(source, verdict, line)

    def _homes(self, base: str) -> list[_Home]:
        """Where runs of this id lie in the merged folder, and those that were placed there since."""
        if base not in self._of:
            own: list[_Home] = []
            for run in (run for run in self._there if run.id.partition(MARK)[0] == base):
                making = Making(run)
                if run.state == "running":
                    self.being_written.append(str(run.path))
                elif making.is_whole and all(home.difference(making) for home in own):
                    own.append(_Home(run.path, [making]))
            self._of[base] = own
            self.homes += own
        return self._of[base]

    def _free_place(self, source: Path, making: Making, marked: bool) -> Path:
        """Where a run goes: as deep as it lay; marked where one of its id is there, or where its place is taken."""
        folder = self.to / making.path.relative_to(source).parent if making.path != source else self.to
        plain, mark = making.path.name, f"{making.base}{MARK}{making.mark}"
        names = [mark] if marked and MARK not in plain else [plain, mark]
        taken = {home.path for home in self.homes}
        for place in (place / name for place in (folder, self.to) for name in names):
            above = [parent for parent in place.parents if parent.is_relative_to(self.to)]
            inside = any((parent / "run.json").exists() or parent.is_file() or parent in taken for parent in above)
            if not place.exists() and place not in taken and not inside:
                return place
        raise UserError(f"{folder / mark}: is there, and is not the run {making.path}. Move it away, then merge again.")


@contextlib.contextmanager
def _writing(to: Path) -> Iterator[None]:
    try:
        to.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{to}: cannot be made: {error.strerror}. Choose a folder you may write.") from error
    lock = FolderLock(to)
    try:
        recover(to)
        yield
    finally:
        lock.release()


def _check_apart(folders: Sequence[Path]) -> None:
    """UserError where one of the folders is another or lies in it."""
    for i, one in enumerate(folders):
        for other in folders[i + 1 :]:
            first, second = one.resolve(), other.resolve()
            if first.is_relative_to(second) or second.is_relative_to(first):
                raise UserError(f"{other}: is {one}, or one of them lies in the other. Name folders that lie apart.")
    if (folders[0] / "run.json").exists():
        raise UserError(f"{folders[0]}: is a run. Name the folder that holds runs, such as {folders[0].parent}.")
