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

NOT_SENT = (".lock", "checkpoints", "__pycache__")


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
    """Put what `packed` has made at `place`, in the stead of what lies there: beside it first, then by renaming."""
    beside = place.with_name(f".{place.name}-{uuid4().hex[:8]}")
    old = place.with_name(f"{beside.name}-old")
    try:
        beside.mkdir(parents=True)
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            archive.extractall(beside, filter="data")
        if place.exists():
            os.rename(place, old)
        os.rename(beside, place)
    except tarfile.TarError as error:
        raise UserError(f"{place.name}: arrived damaged ({error}). Give the same command again.") from error
    except OSError as error:
        if old.exists() and not place.exists():
            os.rename(old, place)
        raise UserError(f"{place}: cannot be written ({error.strerror or error}). Choose a folder you may write.") from error
    finally:
        for leftover in (beside, old):
            shutil.rmtree(leftover, ignore_errors=True)


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
