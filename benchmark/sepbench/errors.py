"""The one error that is meant for the person at the keyboard."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

NO_MEMORY = ("can't allocate memory", "out of memory", "bad_alloc", "ALLOC_FAILED")  # as torch, CUDA and cuDNN say it


class UserError(Exception):
    """One line that says what came, what was wanted and what to do. The command line prints it and exits with 2."""


class SettingsRefused(UserError):
    """A run cannot be made with these settings; with others it can be. Of a search, this trial alone is lost."""


def nearest(word: object, known: Iterable[object]) -> str:
    """` Did you mean 'x'?` for the closest of `known`, or an empty string where nothing is close."""
    names = [str(name) for name in known]
    close = difflib.get_close_matches(str(word), names, n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


@contextmanager
def memory_told(what: str, remedy: str) -> Iterator[None]:
    """Where memory runs out within, of the machine or of a GPU, SettingsRefused: `what` was done, and which one to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        whose = "the GPU's" if "CUDA" in f"{type(error).__module__} {error}" else "the machine's"
        raise SettingsRefused(f"{what}: {whose} memory does not suffice. {remedy}") from error


@contextmanager
def settings_told() -> Iterator[None]:
    """What a UserError within complains of are the settings."""
    try:
        yield
    except UserError as error:
        raise SettingsRefused(str(error)) from error


def lacks_memory(error: BaseException) -> bool:
    """Whether it was raised since memory ran out."""
    return isinstance(error, MemoryError) or any(said in str(error) for said in NO_MEMORY)


def in_a_line(error: BaseException) -> str:
    """What went wrong, for people: a UserError's own line, else `AttributeError: ... (method.py:41)`.

    The place is the last one that is no library's.
    """
    if isinstance(error, UserError):
        return " ".join(str(error).split())
    places = traceback.extract_tb(error.__traceback__)
    own = [place for place in places if not {"site-packages", "dist-packages"} & set(Path(place.filename).parts)]
    words = " ".join([f"{type(error).__name__}:", *str(error).split()]).removesuffix(":")
    if not places:
        return words
    place = (own or places)[-1]
    return f"{words} ({Path(place.filename).name}:{place.lineno})"
