"""Which runs of a table their scenes cannot tell apart: as letters, and in words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from sepbench.results import RunRecord, read_rows
from sepbench.statistics import Columns, names_behind
from sepbench.tables_facts import figures_of, has_rows
from sepbench.tables_format import Line
from sepbench.ties import MOST, tie_groups

TOO_MANY = (
    f"No letters: of more than {MOST} methods, none is compared with all others. Fewer are, with --task, --corpus or --profile, "
    "or in a folder of their own."
)
NOT_SEPARABLE = "not separable by these scenes (paired, 95 %)"


def letters_of(runs: Sequence[RunRecord], metric: str, split: str) -> dict[str, str]:
    """Letters by run, of those that have the figure and its rows: two share one where they are not told apart."""
    scored = [run for run in runs if figures_of(run, split, metric) and has_rows(run)]
    if not 1 < len(scored) <= MOST:
        return {}
    return letters_in({run.id: read_rows(run.path, names_behind(metric), split) for run in scored}, metric, split)


def letters_in(rows: Mapping[str, Columns], metric: str, split: str) -> dict[str, str]:
    """The same from rows that were read before, by run; those without the figure have no letter."""
    letters = tie_groups(rows, metric, split)
    return letters if len(letters) > 1 else {}


def in_words(letters: Mapping[str, str], names: Mapping[str, str]) -> str:
    """The groups of two and more by their `names`, such as "one | two; two | three"; empty where there are none."""
    groups: dict[str, list[str]] = {}
    for run, own in letters.items():
        for letter in re.findall(r"[A-Za-z]\d*", own):
            groups.setdefault(letter, []).append(names[run])
    return "; ".join(" | ".join(group) for group in groups.values() if len(group) > 1)


def column_note(heading: str, column: int, lines: Sequence[Line], runs: Sequence[RunRecord], metric: str, split: str) -> str:
    """Which rows of a paper's table stand no further apart in one of its columns than chance has it; empty where all do.

    Rows whose figure is a mean over seeds are passed over: their scenes do not tell how seeds scatter.
    """
    rows = {line.cells[column].runs[0]: line.cells[0].show() for line in lines if len(line.cells[column].runs) == 1}
    words = in_words(letters_of([run for run in runs if run.id in rows], metric, split), rows)
    return f"{heading}, {NOT_SEPARABLE}: {words}." if words else ""
