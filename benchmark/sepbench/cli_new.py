"""`sepbench new` and `sepbench copy`: a recipe folder of one's own."""

from __future__ import annotations

from pathlib import Path

import click

from sepbench.options import FOLDER, WORD


@click.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option("--task", type=WORD, metavar="NAME", help="The task that it runs on unless told otherwise.  [default: common]")
def new(folder: Path, task: str | None) -> None:
    """Write a recipe folder that runs at once: a small method, its recipe.yaml, a README and a test.

    DIR's last part is the recipe's name; nothing is overwritten. Then: sepbench run DIR, and pytest DIR.
    """
    from sepbench.own_recipe import new_recipe

    for file in new_recipe(folder, task):
        click.echo(str(file))
    click.echo(f"Next: sepbench run {folder}    (a minute, on sounds made by sepbench)\n      pytest {folder}")


@click.command()
@click.argument("recipe", metavar="NAME")
@click.argument("folder", metavar="DIR", type=FOLDER)
def copy(recipe: str, folder: Path) -> None:
    """Copy the recipe NAME (or the one in a folder) to DIR, to change it there. `sepbench ls` lists those that have a name."""
    from sepbench.own_recipe import copy_recipe

    click.echo(str(copy_recipe(recipe, folder)))
    click.echo(f"Next: sepbench run {folder}")
