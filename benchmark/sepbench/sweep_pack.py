"""Folders as bytes, and back again whole or not at all: what travels between the machines of a cluster."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from sepbench.errors import UserError
from sepbench.storage import FolderLock, locked

ARRIVING = ".arriving-"  # hidden: nobody reads it as a run
NOT_SENT = (FolderLock.NAME, "checkpoints", "__pycache__")


def packed(folder: Path, but: Collection[str] = NOT_SENT) -> bytes:
    """The files of `folder` as a tar archive; what is called as one in `but` stays."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            if path.is_file() and not path.is_symlink() and not set(name.parts) & set(but):
                archive.add(path, str(name), recursive=False)
    return buffer.getvalue()


def unpack(data: bytes, place: Path) -> None:
    """Put what `packed` has made at `place`, in the stead of what lies there: beside it first, then by renaming.

    One process at a time; of a run that others may look at, the one that holds its lock. What lay there takes the lock along.
    """
    building = place.with_name(f"{ARRIVING}{place.name}")
    try:
        _clear(building, place)
        (building / "new").mkdir(parents=True)
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            archive.extractall(building / "new", filter="data")
        for path in filter(Path.is_file, (building / "new").rglob("*")):
            with path.open("rb") as file:
                os.fsync(file.fileno())  # else a power cut may leave a finished run with empty files
        if place.exists():
            os.rename(place, building / "old")
        os.rename(building / "new", place)
    except tarfile.TarError as error:
        raise UserError(f"{place.name}: arrived damaged ({error}). Give the same command again.") from error
    except OSError as error:
        if (building / "old").exists() and not place.exists():
            os.rename(building / "old", place)
        raise UserError(f"{place}: cannot be written ({error.strerror or error}). Choose a folder you may write.") from error
    finally:
        _clear(building, place)


def recover(results: Path) -> None:
    """End what unpackings that were killed have left in `results`. A run whose lock is held is arriving now, and left alone."""
    for building in results.glob(f"{ARRIVING}*"):
        place = results / building.name.removeprefix(ARRIVING)
        if not locked(place) and not locked(building / "old"):  # in this order: the lock goes from the one to the other
            with suppress(OSError):  # another process may recover them at the same time
                _clear(building, place)


def _clear(building: Path, place: Path) -> None:
    """Remove it, but for what was whole: that was so when the old run had made room and the new one was not yet in its place."""
    if (building / "old").exists() and not place.exists():
        os.rename(building / "new", place)
    shutil.rmtree(building, ignore_errors=True)


def arrays_of(folder: Path) -> dict[str, np.ndarray]:
    """File name -> its bytes, (byte,) uint8, mapped and not read: a cache may be larger than memory."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return {path.name: np.asarray(np.memmap(path, np.uint8, "r")) for path in files}


def digests(arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    """A hash of each file."""
    return {name: hashlib.blake2b(array.data, digest_size=16).hexdigest() for name, array in arrays.items()}


def install(arrays: Mapping[str, np.ndarray], expected: Mapping[str, str], place: Path) -> None:
    """Write the files of a cache to `place` where there is none. UserError where they did not arrive as they were sent."""
    if place.exists():
        return
    if digests(arrays) != dict(expected):
        raise UserError(f"{place.name}: the decoded clips arrived damaged. Give the same command again.")
    beside = place.with_name(f".building-{uuid4().hex}")  # which the cache sweeps away where it is left behind
    try:
        beside.mkdir(parents=True)
        for name, array in arrays.items():
            array.tofile(beside / name)
        os.rename(beside, place)
    except OSError as error:
        if not place.exists():  # else another worker of this machine came first, with the same content
            raise UserError(f"{place.parent}: cannot take the decoded clips ({error.strerror or error}). Make room.") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def token() -> str:
    """Eight letters that nobody else has."""
    return uuid4().hex[:8]


Parcel = dict[str, Any]  # plain values and references to what lies in the object store
