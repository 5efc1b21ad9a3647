r"""One LaTeX macro for each number of a table, so that a paper that \inputs the file says what was last measured.

    \sepCommonTestWeakLabelSmallSISDRi        the figure as the table prints it
    \sepCommonTestWeakLabelSmallSISDRiLow     the lower end of its 95 % interval; High: the upper one
    ...Std  ...N  ...Chance  ...Paper  ...PaperStd

A name is made of the table, the row (the recipe and its options that are not at their defaults), profile and sounds, and
the column. Nothing in it depends on what else was run, and it holds letters alone, as TeX wants: 8 is Eight, ++ is PlusPlus.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sepbench.errors import UserError
from sepbench.tables_columns import short
from sepbench.tables_format import DASH, Cell, Line, Table
from sepbench.tables_latex import number_tex

PREFIX = "sep"
NUMBERS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
SIGNS = {"+": "Plus", "<": "Below", ">": "Above", "%": "Percent", "*": "Star", "&": "And", "δ": "Delta", "λ": "Lambda"}


class Macro(NamedTuple):
    """A number with a name."""

    name: str
    value: str  # as LaTeX has it
    said: str  # table, row, column, and which of the cell's numbers it is
    runs: tuple[str, ...]  # ids of those behind it


def macros(tables: Sequence[Table]) -> str:
    r"""A line with a \newcommand for each number, and above those of each row what they are.

    UserError where two numbers would have one name; it names both.
    """
    lines = ["% Written by sepbench table --format tex-macros; give it again rather than edit this."]
    held: dict[str, Macro] = {}
    for table in tables:
        lines += ["", f"% {_plain(table.title)}"]
        for row in table.rows:
            own = [macro for heading, cell in zip(table.headings, row.cells) for macro in _of(table, row, heading, cell)]
            lines += [f"% {_plain(row.cells[0].show())}"] if own else []
            for macro in own:
                if macro.name in held:
                    raise _collision(held[macro.name], macro)
                held[macro.name] = macro
                lines.append(f"\\newcommand{{\\{macro.name}}}{{{macro.value}}}")
    return "\n".join(lines) + "\n"


def _collision(one: Macro, other: Macro) -> UserError:
    told = f"two numbers would both be \\{one.name}: {one.said}; and {other.said}."
    if set(one.runs) - set(other.runs) and set(other.runs) - set(one.runs):
        folders = " or ".join(f"'{', '.join(macro.runs)}'" for macro in (one, other))
        return UserError(f"{told} Give the folder of one of these runs in place of all results: {folders}.")
    return UserError(f"{told} Ask for one of the two tables or columns alone, by --task, --table or --columns.")


def letters(words: str) -> str:
    """`words` with letters alone, each word with a capital: "esc50, TDCN++" -> "EscFiveZeroTDCNPlusPlus"."""
    words = "".join(mark for mark in unicodedata.normalize("NFKD", words) if not unicodedata.combining(mark))  # ö: o
    words = re.sub(r"(?<![\w)])-(?=\d)", " Minus ", words)
    words = re.sub(r"(?<=\d)\.(?=\d)", " Point ", words)
    words = "".join(f" {SIGNS[each]} " if (each := mark.lower()) in SIGNS else mark for mark in words)
    words = re.sub(r"\d", lambda found: f" {NUMBERS[int(found[0])]} ", words)
    return "".join(word[0].upper() + word[1:] for word in re.findall(r"[A-Za-z]+", words))


def _of(table: Table, row: Line, heading: str, cell: Cell) -> Iterator[Macro]:
    """The numbers of a cell; none of a dash or a word."""
    facts = [row.facts.get(name, "") for name in ("profile", "corpus")]
    key = table.key or re.sub(r" \(content [^)]*\)", "", table.title)
    place = " ".join([key, row.facts.get("row") or row.cells[0].show(), *facts, short(heading)])
    name, where = PREFIX + letters(place), f"{_plain(table.title)}, row '{row.cells[0].show()}' of {', '.join(facts)}"
    for what, shown in _numbers(cell):
        yield Macro(name + what, number_tex(shown), f"{where}, column '{heading}'", cell.runs)


def _numbers(cell: Cell) -> Iterator[tuple[str, str]]:
    if cell.value is not None:
        yield "", cell.number(cell.value) if cell.text is None else cell.text
        for what, value in (("Std", cell.std), ("Chance", cell.chance)):
            if value is not None:
                yield what, cell.number(value)
        for what, value in zip(("Low", "High"), cell.ci or ()):
            yield what, cell.number(value)
        if cell.n is not None:
            yield "N", str(cell.n)
    for what, printed in (("Paper", cell.published), ("PaperStd", cell.published_std)):
        if printed not in (None, DASH):
            yield what, str(printed)


def _plain(words: str) -> str:
    """In one line, for a comment."""
    return " ".join(words.split())
