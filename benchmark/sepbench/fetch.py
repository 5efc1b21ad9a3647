"""Corpora fetched from where their authors keep them: licence first, room on the disk, download, check, unpack, in place.

A corpus takes its place by one renaming at the end, so that what looks complete is. Until then its folder's parent holds
    <archive>.part, .part.json    what has come of it so far, and of which state of the file; a later call goes on from there
    <archive>                     once it is whole and its checksum right, until it is unpacked
    .<folder>.unpacking           while it is unpacked
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepbench.errors import UserError
from sepbench.storage import FolderLock

MB = 1e6
PART = ".part"


@dataclass(frozen=True)
class Archive:
    """A file to fetch. Its checksum is what public loaders of the corpus have for it; the README says which."""

    url: str
    file: str  # its name here, and on a mirror
    checksum: str  # "sha256:..." or "md5:..."
    n_bytes: int | None  # None: known when the server says so
    needs_bytes: tuple[float, float]  # about, for the room on the disk: the archive, and what is in it
    holds: str  # the folder in it that is wanted
    becomes: str  # that folder's place below the corpus's own; "": that one itself
    witness: str  # a file that lies in it


@dataclass(frozen=True)
class Source:
    """A corpus that can be fetched."""

    title: str
    licence: str
    home: str
    agreed: bool  # whether its licence forbids a use, which is to be agreed on before anything is fetched
    archives: Mapping[str, Archive]  # by the name that --room has for it; the first is the usual one


ESC50_COMMIT = "33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6"
FUSS_URL = "https://zenodo.org/records/3743844/files"  # the corrected release; record 3694384 is its first version
SOURCES: Mapping[str, Source] = {
    "esc50": Source(
        "ESC-50", "CC BY-NC 3.0: not for commercial use; its authors are to be named", "https://github.com/karolpiczak/ESC-50",
        True, {"": Archive(
            f"https://github.com/karolpiczak/ESC-50/archive/{ESC50_COMMIT}.zip", f"ESC-50-{ESC50_COMMIT[:8]}.zip",
            "sha256:661183a6f53ef04f12c9bd618fed0ddc1713280d6c94a5a5431e844ba6f6a21f", 645_832_161, (0.65e9, 0.9e9),
            f"ESC-50-{ESC50_COMMIT}", "", "meta/esc50.csv",
        )},
    ),
    "urbansound8k": Source(
        "UrbanSound8K", "CC BY-NC 3.0: not for commercial use; its authors are to be named",
        "https://zenodo.org/records/1203745", True, {"": Archive(
            "https://zenodo.org/records/1203745/files/UrbanSound8K.tar.gz", "UrbanSound8K.tar.gz",
            "md5:9aa69802bbf37fb986f71ec1483a196e", None, (6.1e9, 7.5e9),
            "UrbanSound8K", "", "metadata/UrbanSound8K.csv",
        )},
    ),
    "fuss": Source(
        "FUSS", "CC BY 4.0: its authors are to be named", "https://zenodo.org/records/3743844", False, {
            "reverb": Archive(
                f"{FUSS_URL}/FUSS_ssdata_reverb.tar.gz", "FUSS_ssdata_reverb.tar.gz",
                "sha256:474012562eb7539f8d90acb759584907119606ac396b588d4c99822b73a86b67", 7_890_709_248, (7.9e9, 26e9),
                "ssdata_reverb", "ssdata_reverb", "eval_example_list.txt",
            ),
            "dry": Archive(
                f"{FUSS_URL}/FUSS_ssdata.tar.gz", "FUSS_ssdata.tar.gz",
                "sha256:7f51e4231661aa99150c51d42d3fad30a381a38416dba02c3b81fe217188d005", 8_892_152_218, (8.9e9, 26e9),
                "ssdata", "ssdata", "eval_example_list.txt",
            ),
        },
    ),
}  # fmt: skip


def archive_of(name: str, room: str | None) -> Archive:
    """The archive of a corpus; UserError where it has no such room, or none at all."""
    archives = SOURCES[name].archives
    known = [each for each in archives if each]
    if room is not None and room not in known:
        what = f"there is {' and '.join(known)}" if known else f"{SOURCES[name].title} has none. Leave it away"
        raise UserError(f"--room {room}: {what}.")
    return archives[room or next(iter(archives))]


def is_there(archive: Archive, folder: Path) -> bool:
    """Whether `folder` holds it. UserError where its place is taken by something else."""
    place = folder / archive.becomes
    if (place / archive.witness).is_file():
        return True
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise UserError(f"{place}: holds something else (no {archive.witness}). Choose another folder with --to DIR.")
    return False


def fetch(archive: Archive, folder: Path, mirror: str | None, stall_s: float, progress: Any) -> None:
    """Put what the archive holds at `folder`/becomes. Whatever goes wrong, nothing lies there then.

    A download that was stopped goes on where it stopped, where the server lets it. UserError where the disk has not the room,
    the server not the file, or the file not the checksum, and where another process is at it.
    """
    from sepbench.fetch_download import download
    from sepbench.fetch_unpack import unpack

    place = folder / archive.becomes
    work = place.absolute().parent
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{work}: cannot be made: {error.strerror}. Choose a folder you may write.") from None
    lock = FolderLock(work, f"fetching into {work.name or work}")
    try:
        if is_there(archive, folder):  # another process may have put it there
            clear(archive, folder)
            return
        _check_room(archive, work)
        url = f"{mirror.rstrip('/')}/{archive.file}" if mirror else archive.url
        packed = download(url, work / archive.file, archive.checksum, archive.n_bytes, stall_s, progress)
        unpacking = _unpacking(archive, folder)
        shutil.rmtree(unpacking, ignore_errors=True)
        try:
            unpack(packed, unpacking, progress)
            _put(unpacking / archive.holds, place, archive, packed)
            packed.unlink(missing_ok=True)  # before `unpacking` goes, by which `clear` knows whose it is
        finally:
            shutil.rmtree(unpacking, ignore_errors=True)
    finally:
        lock.release()


def clear(archive: Archive, folder: Path) -> None:
    """Of a corpus that is there, remove what a fetch that was killed as it ended has left. An archive of one's own stays."""
    unpacking = _unpacking(archive, folder)
    if unpacking.is_dir():
        try:
            (unpacking.parent / archive.file).unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"{unpacking.parent / archive.file}: cannot be removed: {error.strerror}. Remove it.") from None
        shutil.rmtree(unpacking, ignore_errors=True)


def _unpacking(archive: Archive, folder: Path) -> Path:
    place = (folder / archive.becomes).absolute()
    return place.parent / f".{place.name}.unpacking"


def _check_room(archive: Archive, work: Path) -> None:
    """UserError where the disk has not the room for what is still to come and for what is in it."""
    whole, unpacked = archive.needs_bytes
    here = [work / archive.file, work / f"{archive.file}{PART}"]
    needed = unpacked + max(0.0, whole - sum(file.stat().st_size for file in here if file.is_file()))
    free = shutil.disk_usage(work).free
    if free < needed:
        raise UserError(
            f"{work}: needs {needed / MB:,.0f} MB free (the archive and what is in it), has {free / MB:,.0f} MB. "
            "Make room, or choose another folder with --to DIR."
        )


def _put(unpacked: Path, place: Path, archive: Archive, packed: Path) -> None:
    if not (unpacked / archive.witness).is_file():
        raise UserError(f"{packed}: holds no {archive.holds}/{archive.witness}, so it is not what was wanted. Remove it.")
    try:
        if place.is_dir():
            place.rmdir()  # it is empty, or `is_there` had said so
        os.replace(unpacked, place)
    except OSError as error:
        said = f"cannot take what was unpacked: {error.strerror}"
        raise UserError(f"{place}: {said}. Choose another folder with --to DIR.") from None
