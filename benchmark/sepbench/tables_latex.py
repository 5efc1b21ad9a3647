"""Tables in LaTeX, ruled by booktabs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from sepbench.tables_format import Cell, Table, folded, is_numeric

LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "±": r"$\pm$"}
LATEX |= {"λ": r"$\lambda$", "≥": r"$\geq$", "…": r"\dots{}", "|": r"\textbar{}"} | {mark: f"${mark}$" for mark in "<>"}
LATEX |= {mark: "\\" + mark for mark in "&%$#_{}"}


def tex(words: str) -> str:
    """`words` so that LaTeX prints them as they are."""
    escaped = re.sub("|".join(map(re.escape, LATEX)), lambda found: LATEX[found[0]], words)
    return "{}" + escaped if escaped.startswith("[") else escaped  # else the line break before it would eat the bracket


def latex(tables: Sequence[Table]) -> str:
    return "% \\usepackage{booktabs}\n" + "\n".join(map(_latex_table, tables))


def _latex_table(table: Table) -> str:
    table = folded(table)
    columns = "".join("r" if is_numeric(table, i) else "l" for i in range(len(table.headings)))
    rows = [" & ".join(map(_shown, row.cells)) + r" \\" for row in table.rows]
    caption = " ".join([table.title.replace("\n", " ") + ".", *table.notes])
    lines = [r"\begin{table}", r"\centering", *([rf"\caption{{{tex(caption)}}}"] if table.title else [])]
    lines += [rf"\begin{{tabular}}{{{columns}}}"]
    lines += [r"\toprule", " & ".join(map(tex, table.headings)) + r" \\", r"\midrule", *rows, r"\bottomrule"]
    return "\n".join([*lines, r"\end{tabular}", r"\end{table}"]) + "\n"


def _shown(cell: Cell) -> str:
    """A cell; what it is tied with stands above the line."""
    words = tex(replace(cell, tie=None).show())
    return f"{words}$^{{\\mathrm{{{cell.tie}}}}}$" if cell.tie and cell.text is None and cell.value is not None else words
