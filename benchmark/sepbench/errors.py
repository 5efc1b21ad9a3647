"""The one error that is meant for the person at the keyboard."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

NO_MEMORY = ("can't allocate memory", "out of memory", "bad_alloc", "ALLOC_FAILED")  # as torch, CUDA and cuDNN say it


class UserError(Exception):
    """One line that says what came, what was wanted and what to do. The command line prints it and exits with 2."""


def nearest(word: object, known: Iterable[object]) -> str:
    """` Did you mean 'x'?` for the closest of `known`, or an empty string where nothing is close."""
    names = [str(name) for name in known]
    close = difflib.get_close_matches(str(word), names, n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""


@contextmanager
def memory_told(what: str, remedy: str) -> Iterator[None]:
    """Where memory runs out within, of the machine or of a GPU, a UserError: `what` was done, and which setting to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        whose = "the GPU's" if "CUDA" in f"{type(error).__module__} {error}" else "the machine's"
        raise UserError(f"{what}: {whose} memory does not suffice. {remedy}") from error


def lacks_memory(error: BaseException) -> bool:
    """Whether it was raised since memory ran out."""
    return isinstance(error, MemoryError) or any(said in str(error) for said in NO_MEMORY)
