"""Folders as bytes, and back again whole or not at all: what travels between the machines of a cluster."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from sepbench.errors import UserError
from sepbench.results_arriving import ARRIVING, clear
from sepbench.storage import FolderLock

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
        clear(building, place)
        (building / "new").mkdir(parents=True)
        _extract(data, building / "new")
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
        clear(building, place)


def _extract(data: bytes, folder: Path) -> None:
    """Write the files of a tar archive into `folder`. UserError where it holds anything but files, or one that leads out."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            name = Path(member.name)
            file = archive.extractfile(member) if member.isreg() else None
            if file is None or name.is_absolute() or ".." in name.parts:
                raise UserError(f"'{member.name}' arrived, which is no file or leads out of its folder. Nothing of it is kept.")
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with (folder / name).open("xb") as to:
                shutil.copyfileobj(file, to)
                to.flush()
                os.fsync(to.fileno())  # else a power cut may leave a finished run with empty files
            os.chmod(folder / name, 0o600 | (member.mode & 0o755))
            os.utime(folder / name, (member.mtime, member.mtime))


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
