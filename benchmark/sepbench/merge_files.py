"""A run's folder is put together from the files of several and takes its place whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from sepbench.errors import UserError
from sepbench.storage import write_bytes

BUILDING = ".merging-"  # hidden: nobody reads it as a run
WHILE_RUNNING = ("partial", "checkpoints")


def entries_of(run: Path) -> dict[str, Path]:
    """The files and folders of a finished run, by name."""
    return {path.name: path for path in run.iterdir()
            if not path.name.startswith(".") and path.name not in WHILE_RUNNING} if run.is_dir() else {}  # fmt: skip


def copy_whole(entries: Mapping[str, Path], run: Path) -> None:
    """Put copies of `entries` into a folder beside `run`, and let it take the place of what lies there."""
    building = run.parent / f"{BUILDING}{run.name}"
    try:
        (building / "new").mkdir(parents=True)
        for source, name in ((file, Path(name) / file.relative_to(path)) for name, path in entries.items()
                             for file in _files(path)):  # fmt: skip
            (building / "new" / name).parent.mkdir(parents=True, exist_ok=True)
            write_bytes(building / "new" / name, source.read_bytes())
        if run.exists():
            run.rename(building / "old")
        (building / "new").rename(run)
        shutil.rmtree(building)
    except OSError as error:
        where = error.filename or building
        raise UserError(f"{where}: cannot be copied to {run}: {error.strerror}. Mend that, then merge again.") from error


def recover(root: Path) -> None:
    """Put back what an interrupted merge left aside anywhere below `root`, and remove what it had not finished."""
    for folder, subfolders, _ in os.walk(root):
        for building in (Path(folder) / name for name in subfolders if name.startswith(BUILDING)):
            run = building.with_name(building.name.removeprefix(BUILDING))
            if (building / "old").exists() and not run.exists():
                (building / "old").rename(run)
            shutil.rmtree(building)
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]


def _files(path: Path) -> Iterator[Path]:
    yield from ([path] if path.is_file() else (file for file in path.rglob("*") if file.is_file()))
