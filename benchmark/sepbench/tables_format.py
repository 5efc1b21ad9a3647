"""Tables as values, and the ways to write them: terminal, Markdown and CSV here, LaTeX and JSON in files of their own."""

from __future__ import annotations

import csv
import io
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sepbench.errors import UserError, nearest

if TYPE_CHECKING:
    from sepbench.results import RunRecord

DASH = "–"
MAX_WIDTH = 1000  # of a terminal, in characters
SHORT = 16  # words of a column that are no longer than this stay on one line


@dataclass(frozen=True)
class Cell:
    """One figure and what stands beside it. What was not measured is None and prints as a dash, never as 0."""

    value: float | None = None
    ci: tuple[float, float] | None = None  # 95 % interval
    std: float | None = None
    n: int | None = None  # scored sources (or scenes, frames) behind the value
    published: str | None = None  # the paper's figure as printed; "–": it cannot be read; None: not in the paper
    published_std: str | None = None
    chance: float | None = None  # what answering without listening scores
    names_chance: bool = False  # the cell says so itself; else its heading does
    text: str | None = None  # printed in place of the value
    unit: str = ""
    digits: int = 1
    runs: tuple[str, ...] = ()  # run ids; the mean over runs that differ in nothing but the seed
    tie: str | None = None  # letters: rows that share one cannot be told apart in this column
    shows_n: bool = False  # the cell says its n, for it is not that of its neighbours
    of_runs: int = 0  # how many runs there are, where not all of them have the figure

    @property
    def is_dash(self) -> bool:
        """Whether there is nothing in it."""
        return self.show() == DASH

    def show(self) -> str:
        """The cell as people read it: `3.4 ± 5.1 [3.1, 3.7] (paper 6.8 ± 6.3)`, `66.3 (chance 10.0; paper 70.0)`."""
        if self.text is not None:
            return self.text
        parts, beside = [DASH if self.value is None else self.number(self.value)], []
        if self.value is not None:
            parts += [] if self.std is None else [f"± {self.number(self.std)}"]
            parts += [] if self.ci is None else [f"[{self.number(self.ci[0])}, {self.number(self.ci[1])}]"]
            if self.chance is not None and self.names_chance:
                beside.append(f"chance {self.number(self.chance)}")
            elif self.chance is not None:
                parts.append(f"({self.number(self.chance)})")
            of = f" of {self.of_runs}" if self.of_runs else ""
            parts += [f"({len(self.runs)}{of} runs)"] if of or len(self.runs) > 1 else []
            parts += [f"(n {self.n})"] if self.shows_n and self.n is not None else []
            parts += [self.tie] if self.tie else []
        if self.published is not None:
            beside.append(f"paper {self.published}" + (f" ± {self.published_std}" if self.published_std else ""))
        return " ".join([*parts, f"({'; '.join(beside)})"] if beside else parts)

    def number(self, value: float) -> str:
        """A number with the digits of this cell; a zero has no sign."""
        shown = f"{value:.{self.digits}f}"
        return shown.lstrip("-") if float(shown) == 0 else shown


def text(words: object) -> Cell:
    """A cell of words; a dash where there are none."""
    return Cell(text=DASH if words is None or words == "" else str(words))


@dataclass(frozen=True)
class Line:
    """A row of a table, and which sounds its figures are on."""

    cells: tuple[Cell, ...]
    facts: Mapping[str, str] = field(default_factory=dict)  # corpus, profile, split; row: its name whatever else was run


@dataclass(frozen=True)
class Table:
    """Headings and as many cells in each row; `foldable` headings may move to the title where they hold one value."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[Line, ...]
    notes: tuple[str, ...] = ()
    foldable: tuple[str, ...] = ()
    key: str = ""  # what it is called where names must not change with what else was run; empty: its title


def without_empty(table: Table, headings: Collection[str]) -> Table:
    """The table without those columns of `headings` that hold a dash in every row."""
    columns = [[row.cells[i].show() for row in table.rows] for i in range(len(table.headings))]
    keep = [i for i, name in enumerate(table.headings) if name not in headings or set(columns[i]) != {DASH}]
    rows = tuple(Line(tuple(row.cells[i] for i in keep), row.facts) for row in table.rows)
    return replace(table, headings=tuple(table.headings[i] for i in keep), rows=rows)


def render(
    tables: Sequence[Table], format: str = "terminal", screen: bool | None = None, runs: Sequence[RunRecord] = ()
) -> str:
    """The tables as text. `format`: one of FORMATS; csv (every figure on its own row) and json have full precision.

    `screen`: whether a terminal's colours and width are to be used; None: where standard output is one. `runs`: those
    that the tables were made of, of which JSON tells more than their ids.
    """
    if format not in FORMATS:
        known = ", ".join(FORMATS)
        raise UserError(f"no table format '{format}'. Choose one of {known}.{nearest(format, FORMATS)}")
    if format == "terminal" and (sys.stdout.isatty() if screen is None else screen):
        return "\n".join(_rich(folded(table)) for table in tables)
    if format == "json":
        from sepbench.tables_json import as_json

        return as_json(tables, runs)
    return FORMATS[format](tables)


def _terminal(tables: Sequence[Table]) -> str:
    return "\n".join(_plain(folded(table)) for table in tables)


def folded(table: Table) -> Table:
    """Empty columns leave, foldable ones of one value move into the title: screens and pages are narrow."""
    shown = [[cell.show() for cell in row.cells] for row in table.rows]
    values = [{row[i] for row in shown} for i in range(len(table.headings))]
    empty = {i for i, held in enumerate(values) if held == {DASH}}
    single = {i for i, held in enumerate(values) if len(held) == 1} - empty
    fold = [i for i in sorted(single) if table.headings[i] in table.foldable]
    keep = [i for i in range(len(table.headings)) if i not in empty and i not in fold]
    facts = "; ".join(f"{table.headings[i].lower()}: {next(iter(values[i]))}" for i in fold)
    rows = tuple(Line(tuple(row.cells[i] for i in keep), row.facts) for row in table.rows)
    title = f"{table.title}\n({facts})" if facts else table.title
    return Table(title, tuple(table.headings[i] for i in keep), rows, table.notes, key=table.key)


def _plain(table: Table) -> str:
    shown = [[cell.show() for cell in row.cells] for row in table.rows]
    heads = [_fitting(heading, [row[i] for row in shown]).split("\n") for i, heading in enumerate(table.headings)]
    height = max(map(len, heads), default=0)
    above = [list(line) for line in zip(*([""] * (height - len(head)) + head for head in heads))]
    grid = [*above, *shown]
    widths = [max(map(len, column)) for column in zip(*grid)]
    right = [is_numeric(table, i) for i in range(len(widths))]
    lines = [
        "  ".join(word.rjust(width) if r else word.ljust(width) for word, width, r in zip(row, widths, right)).rstrip()
        for row in grid
    ]
    lines.insert(height, "  ".join("-" * width for width in widths))
    title = [table.title, ""] if table.title else []
    return "\n".join([*title, *lines, "", *table.notes]).rstrip() + "\n"


def _fitting(heading: str, words: Sequence[str]) -> str:
    """The heading, over several lines where it is wider than all that stands below it."""
    return "\n".join(textwrap.wrap(heading, max(map(len, [*words, *heading.split()])), break_long_words=False))


def _rich(table: Table) -> str:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.measure import Measurement
    from rich.table import Table as RichTable

    shown = [[re.sub(r" \((?=paper |chance )", "\n(", cell.show()) for cell in row.cells] for row in table.rows]
    grid = RichTable(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title=escape(table.title) or None,
        title_justify="left",
        title_style="bold",
        caption=escape("\n".join(table.notes)) or None,
        caption_justify="left",
    )
    for i, heading in enumerate(table.headings):
        words = [row[i] for row in shown]
        numeric = is_numeric(table, i)
        lines = [line for word in words for line in word.split("\n")]
        widest = max(map(len, lines), default=0)
        whole = numeric or widest <= SHORT or not any(" " in word for word in words)  # figures and ids are not broken
        fitting = _fitting(heading, lines)
        least = widest if whole else max(len(part) for word in words for part in word.split())
        least = max(least, *map(len, fitting.split("\n")))
        grid.add_column(escape(fitting), justify="right" if numeric else "left", no_wrap=whole, min_width=least)
    for row in shown:
        grid.add_row(*map(escape, row))
    out = io.StringIO()
    console = Console(file=out, width=MAX_WIDTH, force_terminal=True, highlight=False)
    needed = Measurement.get(console, console.options, grid).minimum
    console.width = max(needed, shutil.get_terminal_size((100, 24)).columns)
    console.print(grid)
    return "\n".join(line.rstrip() for line in out.getvalue().split("\n"))


def is_numeric(table: Table, i: int) -> bool:
    return any(row.cells[i].value is not None for row in table.rows)


def _markdown(tables: Sequence[Table]) -> str:
    return "\n".join(map(_markdown_table, tables))


def _markdown_table(table: Table) -> str:
    def line(words: Sequence[str]) -> str:
        return "| " + " | ".join(word.replace("|", "\\|").replace("\n", " ") for word in words) + " |"

    rules = ["---:" if is_numeric(table, i) else "---" for i in range(len(table.headings))]
    rows = [line([cell.show() for cell in row.cells]) for row in table.rows]
    notes = [f"- {note}" for note in table.notes]
    title = [f"### {table.title}", ""] if table.title else []
    return "\n".join([*title, line(table.headings), line(rules), *rows, "", *notes]).rstrip() + "\n"


CSV_COLUMNS = ["table", "row", "column", "value", "ci_low", "ci_high", "std", "n", "unit", "chance", "published"]
CSV_COLUMNS += ["published_std", "corpus", "profile", "split", "runs"]


def _csv(tables: Sequence[Table]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for table in tables:
        for row in table.rows:
            for heading, cell in zip(table.headings, row.cells):
                if cell.value is not None or cell.published not in (None, DASH):
                    writer.writerow(_csv_row(table.title, row, heading, cell))
    return out.getvalue()


def _csv_row(title: str, row: Line, heading: str, cell: Cell) -> list[object]:
    low, high = cell.ci or (None, None)
    published = [None if figure == DASH else figure for figure in (cell.published, cell.published_std)]
    facts = [row.facts.get(name) for name in ("corpus", "profile", "split")]
    figures = [cell.value, low, high, cell.std, cell.n, cell.unit, cell.chance]
    return [title, row.cells[0].show(), heading, *figures, *published, *facts, " ".join(cell.runs)]


def _latex(tables: Sequence[Table]) -> str:
    from sepbench.tables_latex import latex

    return latex(tables)


def _macros(tables: Sequence[Table]) -> str:
    from sepbench.tables_macros import macros

    return macros(tables)


def _json(tables: Sequence[Table]) -> str:
    from sepbench.tables_json import as_json

    return as_json(tables, ())


FORMATS: dict[str, Callable[[Sequence[Table]], str]] = {
    "terminal": _terminal,
    "md": _markdown,
    "markdown": _markdown,
    "csv": _csv,
    "latex": _latex,
    "tex-macros": _macros,
    "json": _json,
}
