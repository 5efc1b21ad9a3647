"""Runs that arrive from another machine are put beside their place first; here is ended what a kill has left half-way."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from sepbench.errors import UserError
from sepbench.storage import FolderLock, locked

ARRIVING = ".arriving-"  # hidden: nobody reads it as a run


def recover(results: Path) -> None:
    """End what unpackings that were killed have left in `results`. A run whose lock is held is arriving now, and left alone."""
    for building in results.glob(f"{ARRIVING}*"):
        place = results / building.name.removeprefix(ARRIVING)
        if not locked(place) and not locked(building / "old"):  # in this order: the lock goes from the one to the other
            with suppress(OSError, UserError):  # another process may recover them at the same time, or have begun to receive
                _end(building, place)


def _end(building: Path, place: Path) -> None:
    """`clear` with the run's lock held, so that nobody begins to receive it meanwhile."""
    made = not place.exists() and not (building / "old").exists()
    if made:
        place.mkdir()
    lock = FolderLock(place if place.exists() else building / "old")
    try:
        clear(building, place)
    finally:
        lock.release()
        if made:
            with suppress(OSError):  # somebody has begun it since
                place.rmdir()


def clear(building: Path, place: Path) -> None:
    """Remove it, but for what was whole: that was so when the old run had made room and the new one was not yet in its place."""
    if (building / "old").exists() and not place.exists():
        os.rename(building / "new", place)
    shutil.rmtree(building, ignore_errors=True)
