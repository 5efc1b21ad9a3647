"""The recipes and baselines that have a name here, as a table."""

from __future__ import annotations

from sepbench.catalogue import Found, everything
from sepbench.errors import UserError
from sepbench.recipe import Recipe, load_recipe
from sepbench.tables import Line, Table
from sepbench.tables_format import text

HEADINGS = ("Name", "Method", "Kind", "Paper", "Supervision", "Tasks", "From")


def list_methods() -> Table:
    """Every recipe that `sepbench run NAME` finds, and a note on each that is there and cannot be used."""
    found, complaints = everything()
    rows = []
    for each in found:
        try:
            rows.append(_listed(each, load_recipe(each)))
        except UserError as error:
            complaints.append(f"{each.name}: {error}")
    return Table("Methods: sepbench run NAME", HEADINGS, tuple(rows), tuple(complaints))


def _listed(found: Found, recipe: Recipe) -> Line:
    paper = recipe.paper
    authors = paper.authors.split(",")[0].strip() + (" et al." if "," in paper.authors else "") if paper else ""
    claims = dict.fromkeys([recipe.supervision, *(each.supervision for each in recipe.variants if each.supervision)])
    tasks = ", ".join([recipe.own_task, *recipe.other_tasks])
    cited = f"{authors} {paper.year}" if paper else None
    return Line(tuple(map(text, (found.name, recipe.name, recipe.kind, cited, ", ".join(claims), tasks, found.whence))))
