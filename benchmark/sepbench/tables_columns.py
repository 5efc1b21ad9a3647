"""A table's columns by name: some of them, and its rows in the order of one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from sepbench.errors import UserError, nearest
from sepbench.tables_format import Cell, Line, Table

UNIT = r", (?:dB|MB|%|M)$"
ALSO_CALLED = {  # as metrics and run.json call them, beside the headings themselves
    "class_accuracy": "Classes right", "class_accuracy_both": "All classes right", "label_set_accuracy": "Label sets right",
    "f_measure_clip": "F clip", "f_measure_frame": "F frame", "source_f_measure": "F sources",
    "source_precision": "Sources, precision", "source_recall": "Sources, recall", "si_sdr_mixture": "Input SI-SDR",
    "equal_separation": "Equally separated", "under_separation": "Under-separated", "over_separation": "Over-separated",
    "parameters": "Params", "macs_per_s": "MACs/s", "MAC/s": "MACs/s",
    "rtf": "Real-time factor", "peak_memory_mb": "Memory, MB", "peak memory": "Memory, MB", "scenes": "Training scenes",
}  # fmt: skip
LESS_IS_BETTER = (  # what is counted against a method: its costs and its faults
    *("Params", "MACs/s", "Real-time factor", "Memory, MB", "Training scenes", "Training time", "Wall time"),
    *("Undefined", "Missed", "Left out", "Under-separated", "Over-separated"),
)
TELLING = ("Corpus", "Profile")  # come along where they tell rows of one name apart
BY_SEPARATION = (  # what is missed has no such figure, so that methods that miss some are ranked by other sources
    "SI-SDRi", "SI-SDR", "SNRi", "SNR", "Median", "BSS SDR", "BSS ISR", "BSS SIR", "BSS SAR", "ISR", "SIR", "SAR",
)  # fmt: skip


def with_columns(tables: Sequence[Table], names: Sequence[str]) -> list[Table]:
    """The tables with their first column and those named, in that order; tables that have none of them are left out.

    What a reader cannot do without comes along: Budget, which is there where budgets differ; corpus and profile, where rows
    of one name differ in them; Missed beside a figure by separation, if any source is. UserError for a name that no table has.
    """
    for name in names:
        _check(tables, name, "--columns")
    found = []
    for table in tables:
        columns = [i for name in names if (i := column_of(table, name)) is not None]
        before, behind = _along(table, columns)
        kept = list(dict.fromkeys([0, *before, *columns, *behind]))
        rows = tuple(Line(tuple(row.cells[i] for i in kept), row.facts) for row in table.rows)
        headings = tuple(table.headings[i] for i in kept)
        found += [replace(table, headings=headings, rows=rows)] if columns else []
    return found


def _along(table: Table, columns: Sequence[int]) -> tuple[list[int], list[int]]:
    """The columns that come along unasked, before those asked for and after them."""

    def tells(i: int) -> bool:
        named = {row.cells[0].show() for row in table.rows}
        return len(named) < len({(row.cells[0].show(), row.cells[i].show()) for row in table.rows})

    own = [i for i, heading in enumerate(table.headings) if i not in columns]
    before = [i for i in own if table.headings[i] == "Budget" or (table.headings[i] in TELLING and tells(i))]
    separated = any(short(table.headings[i]) in BY_SEPARATION for i in columns)
    missed = [i for i in own if separated and table.headings[i] == "Missed" and any(row.cells[i].value for row in table.rows)]
    return before, missed


def sorted_by(tables: Sequence[Table], wanted: str) -> list[Table]:
    """The tables with their rows in the order of a column, the best first; "COLUMN asc" or "COLUMN desc" says otherwise.

    The best is the highest figure, of costs and faults the lowest. Words go by the alphabet, dashes stand last. Tables
    without that column stay as they are. UserError where no table has it.
    """
    name, _, direction = wanted.strip().rpartition(" ")
    if not name or direction not in ("asc", "desc"):
        name, direction = wanted.strip(), ""
    _check(tables, name, "--sort")
    return [table if (i := column_of(table, name)) is None else _sorted(table, i, direction) for table in tables]


def column_of(table: Table, name: str) -> int | None:
    """Where the column of that name is: its heading, with or without its unit, or what metrics call it; None: nowhere."""
    exact = (i for i, heading in enumerate(table.headings) if _letters(heading) == _letters(name))
    return next(exact, next((i for i, heading in enumerate(table.headings) if called(heading, name)), None))


def called(heading: str, name: str) -> bool:
    """Whether a column of that heading may be called so."""
    return _plain(heading) in (_plain(name), _plain(ALSO_CALLED.get(name, name)))


def short(heading: str) -> str:
    """A heading without its unit and what stands in brackets."""
    return re.sub(UNIT, "", re.sub(r" \([^)]*\)", "", heading))


def _sorted(table: Table, i: int, direction: str) -> Table:
    figures = any(row.cells[i].value is not None for row in table.rows)
    falling = direction == "desc" if direction else figures and table.headings[i] not in LESS_IS_BETTER

    def place(row: Line) -> float | str:
        cell = row.cells[i]
        return cell.show() if cell.value is None else cell.value

    def absent(cell: Cell) -> bool:
        return cell.value is None if figures else cell.is_dash

    there = [row for row in table.rows if not absent(row.cells[i])]
    last = [row for row in table.rows if absent(row.cells[i])]
    return replace(table, rows=(*sorted(there, key=place, reverse=falling), *last))


def _check(tables: Sequence[Table], name: str, option: str) -> None:
    if not any(column_of(table, name) is not None for table in tables):
        known = list(dict.fromkeys(short(heading) for table in tables for heading in table.headings))
        close = {_plain(heading): heading for heading in [*known, *ALSO_CALLED]}
        hint = nearest(_plain(name), close)
        hint = re.sub(r"'(.*)'", lambda found: f"'{close[found[1]]}'", hint)
        raise UserError(f"{option}: no column '{name}'.{hint} There are: {', '.join(known)}.")


def _plain(heading: str) -> str:
    return _letters(short(heading))


def _letters(words: str) -> str:
    return re.sub(r"[^a-z0-9<>+-]|(?<=[a-z])-", "", words.lower())
