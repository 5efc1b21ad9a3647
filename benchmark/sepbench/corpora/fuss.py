"""FUSS (Wisdom et al. 2021) in its official layout: lists of examples, and a wav for each source of an example.

    ssdata/                dry sounds; ssdata_reverb/, of the same layout, holds them as they sound in a room
        train_example_list.txt, validation_example_list.txt, eval_example_list.txt
            a line for each example, tab-separated, relative to the list: mixture, background, none to three foregrounds
        eval/example00012_sources/background0_sound.wav, foreground0_sound.wav, ...

The release's mixtures are sums that were rounded and are not read; .jams and .txt, of which some are missing, neither.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sepbench.corpora.base import Clip
from sepbench.corpora.files import inside, need
from sepbench.corpora.released_files import AGAIN, of_odd_size, read_released
from sepbench.errors import UserError, nearest

if TYPE_CHECKING:
    from sepbench.progress import Progress

TITLE = "FUSS"
ROOMS = {"dry": "ssdata", "reverb": "ssdata_reverb"}  # room -> folder
LISTS = ("train", "validation", "eval")
MOST_SOURCES = 4  # in an example: a background and up to three foregrounds
SECONDS, RATE_HZ = 10.0, 16000  # of every file of the release


@dataclass(frozen=True)
class Example:
    """One line of a list: a scene as it lies on disk."""

    name: str  # the mixture's without its suffix: "eval/example00012"
    sources: tuple[str, ...]  # paths, the background first; no Path objects, for there are 50,000


@dataclass
class _Missing:
    """What lists name and nobody can find: the first in words, and how many."""

    first: str = ""
    n: int = 0

    def add(self, words: str) -> None:
        self.first, self.n = self.first or words, self.n + 1


class Fuss:
    """The examples of one room, list by list. UserError where the folder, a list, or a file that a list names is missing.

    Opening it reads the lists and asks for every file's size; no sound is decoded. `content_hash` is of names and sizes.
    """

    name = "fuss"
    licence = "CC BY 4.0"
    home = "https://zenodo.org/record/3743844"
    citation = "S. Wisdom et al. What's All the FUSS About Free Universal Sound Separation Data? ICASSP 2021."

    def __init__(self, root: Path, room: str) -> None:
        if room not in ROOMS:
            raise UserError(f"task.mixing.room is '{room}'; wanted {' or '.join(ROOMS)}.{nearest(str(room), ROOMS)}")
        self.room, self.folder = room, need(root / ROOMS[room], root, self.name, TITLE)
        files = {name: need(self.folder / f"{name}_example_list.txt", root, self.name, TITLE) for name in LISTS}
        missing = _Missing()
        read = {name: _read_list(file, missing) for name, file in files.items()}
        if missing.n:
            more = f", nor are {missing.n - 1} more that the lists name" if missing.n > 1 else ""
            raise UserError(f"{TITLE}: {missing.first}{more}. {AGAIN}.")
        self.examples = {name: own.examples for name, own in read.items()}
        self.hashes = {name: own.content_hash for name, own in read.items()}
        self.odd = [file for own in read.values() for file in own.odd]  # in an intact release, none

    @property
    def content_hash(self) -> str:
        """Of all three lists."""
        told = repr((self.room, sorted(self.hashes.items())))
        return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()

    @cached_property
    def clips(self) -> tuple[Clip, ...]:
        """Each example as one clip without a class, list after list: what it was mixed from is not known."""
        return tuple(Clip(each.name, "", 0, each.name, SECONDS) for each in self.every)

    @cached_property
    def every(self) -> tuple[Example, ...]:
        """All examples, list after list."""
        return tuple(each for name in LISTS for each in self.examples[name])

    def example(self, place: int) -> Example:
        """The one that is `clips[place]`."""
        return self.every[place]

    def places(self, name: str) -> range:
        """Where the examples of the list `name` stand among all."""
        first = sum(len(self.examples[each]) for each in LISTS[: LISTS.index(name)])
        return range(first, first + len(self.examples[name]))


@dataclass(frozen=True)
class _List:
    examples: tuple[Example, ...]
    content_hash: str
    odd: list[str]  # files that are not of the size that most are of


def _read_list(file: Path, missing: _Missing) -> _List:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise UserError(f"{TITLE}: cannot read '{file}' ({reason}). {AGAIN}.") from None
    digest, examples, line_of, size_of = hashlib.blake2b(digest_size=16), [], dict[str, int](), dict[str, int]()
    folder = str(file.parent)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"line {number} of '{file}'"
        mixture, *sources = (part.strip() for part in line.split("\t") if part.strip())
        _check_line(where, mixture, sources, line_of)
        line_of[mixture] = number
        own = tuple(os.path.join(folder, source) for source in sources)
        examples.append(Example(os.path.splitext(mixture)[0], own))
        sizes = [
            _size(path, f"{where} names '{source}', which is not there", missing) for path, source in zip(own, sources)
        ]
        size_of |= dict(zip(own, sizes))
        digest.update(repr((mixture, sources, sizes)).encode())
    if not examples:
        raise UserError(f"{TITLE}: '{file}' names no example. {AGAIN}.")
    return _List(tuple(examples), digest.hexdigest(), of_odd_size(size_of))


def _check_line(where: str, mixture: str, sources: list[str], line_of: Mapping[str, int]) -> None:
    if not sources:
        raise UserError(f"{TITLE}: {where} names '{mixture}' without any source. {AGAIN}, or remove the line.")
    if len(sources) > MOST_SOURCES:
        raise UserError(
            f"{TITLE}: {where} names {len(sources)} sources; an example has {MOST_SOURCES} at most. {AGAIN}."
        )
    try:
        for name in (mixture, *sources):
            inside(name)
    except ValueError as error:
        raise UserError(f"{TITLE}: {where} names a file elsewhere: {error}. {AGAIN}.") from None
    if mixture in line_of:
        raise UserError(f"{TITLE}: {where} names '{mixture}', as line {line_of[mixture]} does. Remove one of them.")


def _size(file: str, lacking: str, missing: _Missing) -> int:
    """In bytes; -1, and noted as missing, where there is no such file."""
    try:
        return os.stat(file).st_size
    except OSError:
        missing.add(lacking)
        return -1


def read_source(path: str | Path, sample_rate_hz: int, n_samples: int) -> np.ndarray:
    """The file as float32 (time,), full scale 1. UserError where it cannot be read or has another rate or length."""
    return read_released(path, TITLE, sample_rate_hz, 1, n_samples)[0]


def rooms_of(root: Path) -> dict[str, Fuss]:
    """The release as it lies in `root`, for each room that is there. UserError where none is."""
    there = [room for room, folder in ROOMS.items() if (root / folder).is_dir()] or [*ROOMS][
        -1:
    ]  # which says what is missing
    return {room: Fuss(root, room) for room in there}


def describe_release(root: Path) -> dict[str, Any]:
    """What `sepbench data fuss` prints: how many examples have how many sources, by room and list."""
    rooms = {
        room: {name: Counter(len(each.sources) for each in own) for name, own in release.examples.items()}
        for room, release in rooms_of(root).items()
    }
    return {"name": Fuss.name, "licence": Fuss.licence, "home": Fuss.home, "seconds": SECONDS, "rooms": rooms}


def verify_release(root: Path, progress: Progress) -> tuple[list[str], int]:
    """A line for each file that is not 10 s of sound at 16 kHz, and how many files were read."""
    files = [file for release in rooms_of(root).values() for each in release.every for file in each.sources]
    broken = []
    with progress.bar("reading", len(files)) as bar:
        for file in files:
            try:
                read_source(file, RATE_HZ, round(SECONDS * RATE_HZ))
            except UserError as error:
                broken.append(str(error))
            bar.advance()
    return broken, len(files)
