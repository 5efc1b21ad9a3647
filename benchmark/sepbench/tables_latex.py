"""Tables in LaTeX, ruled by booktabs, made as narrow as the page; what is to be said of them stands below."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from sepbench.tables_format import Cell, Table, folded, is_numeric

WIDE_PT = 345.0  # a line of `article` in 10 pt
CHARACTER_PT, BETWEEN_PT = 5.0, 12.0  # of a figure, and between two columns
LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "±": r"$\pm$"}
LATEX |= {"λ": r"$\lambda$", "≥": r"$\geq$", "…": r"\dots{}", "|": r"\textbar{}"} | {mark: f"${mark}$" for mark in "<>"}
LATEX |= {mark: "\\" + mark for mark in "&%$#_{}"}


def tex(words: str) -> str:
    """`words` so that LaTeX prints them as they are."""
    escaped = re.sub("|".join(map(re.escape, LATEX)), lambda found: LATEX[found[0]], words)
    return "{}" + escaped if escaped.startswith("[") else escaped  # else the line break before it would eat the bracket


def number_tex(words: str) -> str:
    """The same of numbers: a minus is no hyphen."""
    return re.sub(r"(?<![\w.)])-(?=[\d.])", "$-$", tex(words))


def latex(tables: Sequence[Table]) -> str:
    return "% \\usepackage{booktabs}\n% \\usepackage{graphicx}\n" + "\n".join(map(_latex_table, tables))


def _latex_table(table: Table) -> str:
    table = folded(table)
    columns = "".join("r" if is_numeric(table, i) else "l" for i in range(len(table.headings)))
    rows = [" & ".join(map(_shown, row.cells)) + r" \\" for row in table.rows]
    caption = table.title.replace("\n", " ") + "."
    grid = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", " & ".join(map(tex, table.headings)) + r" \\", r"\midrule"]
    grid += [*rows, r"\bottomrule", r"\end{tabular}"]
    if _width_pt(table) > WIDE_PT:
        grid = [r"\resizebox{\textwidth}{!}{%", *grid[:-1], grid[-1] + "}"]
    lines = [r"\begin{table}", r"\centering", *([rf"\caption{{{tex(caption)}}}"] if table.title else []), *grid]
    if table.notes:
        lines += [r"\par\smallskip", rf"\parbox{{\textwidth}}{{\footnotesize {tex(' '.join(table.notes))}}}"]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _width_pt(table: Table) -> float:
    """About how wide the table is at its natural size."""
    columns = zip(table.headings, *([cell.show() for cell in row.cells] for row in table.rows))
    return sum(CHARACTER_PT * max(map(len, column)) + BETWEEN_PT for column in columns)


def _shown(cell: Cell) -> str:
    """A cell; what it is tied with stands above the line."""
    words = (tex if cell.text is not None else number_tex)(replace(cell, tie=None).show())
    return f"{words}$^{{\\mathrm{{{cell.tie}}}}}$" if cell.tie and cell.text is None and cell.value is not None else words
