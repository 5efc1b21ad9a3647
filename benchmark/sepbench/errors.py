"""The one error that is meant for the person at the keyboard."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """One line that says what came, what was wanted and what to do. The command line prints it and exits with 2."""


def nearest(word: object, known: Iterable[object]) -> str:
    """` Did you mean 'x'?` for the closest of `known`, or an empty string where nothing is close."""
    names = [str(name) for name in known]
    close = difflib.get_close_matches(str(word), names, n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""
