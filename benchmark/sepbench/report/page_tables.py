"""Tables as a page shows them: what a column is sorted by stands beside what is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sepbench.tables_columns import LESS_IS_BETTER, short
from sepbench.tables_format import DASH, Cell, Line, Table, folded, is_numeric, text

WIDE = 16  # columns that a page is wide enough for


@dataclass(frozen=True)
class Shown:
    """A cell: its figure, what stands beside it (interval, chance, the paper's figure), and what it sorts by."""

    main: str
    rest: str
    key: str | None  # a number in full precision; None: words, or nothing


@dataclass(frozen=True)
class Column:
    """A heading; `falling`: a first click puts the highest on top."""

    heading: str
    numeric: bool
    falling: bool


@dataclass(frozen=True)
class PageTable:
    """A table of the page. `runs`: those behind each row, in words."""

    title: str
    subtitle: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Shown, ...], ...]
    runs: tuple[str, ...]
    named: tuple[tuple[str, str], ...]  # the same to be read: row, or column where all rows have the same, and its runs
    notes: tuple[str, ...]


def upright(table: Table, heading: str) -> Table:
    """A table of more than WIDE columns with a row for each figure instead, and a column for each row; others as they are.

    `heading` stands above what were headings. Words of a row other than its first stay in the tables that are not parted.
    """
    if len(table.headings) <= WIDE:
        return table
    figures = [i for i in range(1, len(table.headings)) if is_numeric(table, i)]
    rows = tuple(Line((text(table.headings[i]), *(row.cells[i] for row in table.rows))) for i in figures)
    return replace(table, headings=(heading, *(row.cells[0].show() for row in table.rows)), rows=rows, foldable=())


def page_tables(tables: Iterable[Table]) -> list[PageTable]:
    """The tables without their empty columns; those without a row are left out."""
    return [_page_table(folded(table)) for table in tables if table.rows]


def _page_table(table: Table) -> PageTable:
    title, _, subtitle = table.title.partition("\n")
    columns = [
        Column(heading, is_numeric(table, i), is_numeric(table, i) and short(heading) not in map(short, LESS_IS_BETTER))
        for i, heading in enumerate(table.headings)
    ]
    rows = tuple(tuple(map(_shown, row.cells)) for row in table.rows)
    runs = tuple(", ".join(dict.fromkeys(run for cell in row.cells for run in cell.runs)) for row in table.rows)
    return PageTable(title, subtitle.strip("()"), tuple(columns), rows, runs, _named(table, runs), table.notes)


def _named(table: Table, runs: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Whose runs are which: a line per row; where rows do not differ in them, per column."""
    lines = [(row.cells[0].show(), own) for row, own in zip(table.rows, runs)]
    if len(lines) > 1 and len(set(runs)) == 1:
        columns = [(heading, ", ".join(dict.fromkeys(run for row in table.rows for run in row.cells[i].runs)))
                   for i, heading in enumerate(table.headings)]  # fmt: skip
        lines = columns if len({own for _, own in columns if own}) > 1 else [("All rows", runs[0])]
    return tuple(dict.fromkeys((name, own) for name, own in lines if own))


def _shown(cell: Cell) -> Shown:
    figure = DASH if cell.value is None else cell.number(cell.value)
    main = figure if cell.text is None else cell.text
    return Shown(main, cell.show().removeprefix(main).strip(), None if cell.value is None else repr(float(cell.value)))
