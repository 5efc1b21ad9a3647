"""How much the sources of a scene overlap."""

from __future__ import annotations

from collections.abc import Sequence


def overlap(times: Sequence[Sequence[tuple[float, float]]]) -> float:
    """The share of the time in which any source sounds, in which two or more do: 0 to 1.

    `times`: of each source the (on, off) of its events, in seconds. Events of one source that touch are no overlap.
    ValueError where none lasts any time.
    """
    turns = sorted((at, step) for own in times for on, off in _merged(own) for at, step in ((on, 1), (off, -1)))
    sounding, any_s, shared_s, before = 0, 0.0, 0.0, 0.0
    for at, step in turns:
        any_s += (at - before) * (sounding >= 1)
        shared_s += (at - before) * (sounding >= 2)
        sounding, before = sounding + step, at
    if any_s <= 0:
        raise ValueError("no source sounds for any time; wanted (on, off) with on below off")
    return shared_s / any_s


def _merged(events: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The same times without any that is covered twice."""
    merged: list[tuple[float, float]] = []
    for on, off in sorted(events):
        if merged and on <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], off))
        else:
            merged.append((on, off))
    return merged
