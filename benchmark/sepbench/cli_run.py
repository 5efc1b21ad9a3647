"""`sepbench run`: train and score recipes; one after the other, or several at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from sepbench.errors import UserError, in_a_line
from sepbench.options import known_corpora, places, run_folder, start
from sepbench.options_grid import run_options
from sepbench.options_recipe import RecipeCommand

if TYPE_CHECKING:
    from sepbench.recipe import Recipe
    from sepbench.sweep_plan import Asked


@click.command(cls=RecipeCommand, options_metavar="[OPTIONS] [THE RECIPE'S OWN OPTIONS]")
@run_options
@click.pass_context
def run(ctx: click.Context, **given: Any) -> None:
    """Train and score the recipe in the folder RECIPE, then print its table.

    `sepbench run RECIPE --help` lists the recipe's own options. A list of values, such as `--lambda 5,10` or
    `--seed 0..4`, runs them all: what is there already, what will be run and how long that may take is said first.
    Several recipes run one after the other, by the options that all of them have: those that lack the task are left
    out, and one that fails does not stop the rest. With -j N, N runs at a time. Started again, an interrupted run goes
    on where it stopped, and a finished one is not run twice.
    """
    progress = start(given["threads"])
    from sepbench.cli_grid import many, one  # torch comes with it

    common = Common(ctx, given, progress)
    asked = common.asked()
    alone = len(asked) == 1 and not given["cluster"]
    folders = one(asked[0], common) if alone else many(asked, common)
    if folders and common.leads:
        click.echo(common.report(folders))
    common.end()


class Common:
    """What a command line asks for: whose runs there are, and which recipes have failed."""

    def __init__(self, ctx: click.Context, given: dict[str, Any], progress: Any) -> None:
        self.given, self.progress = given, progress
        self.recipes: Sequence[Recipe] = ctx.meta["recipes"]
        self.named = ctx.meta.get("recipe folder", "")
        self.data = places(given["data"])
        if given["corpus"]:
            known_corpora(given["corpus"], "--corpus")
        self.inner = run_folder(given["inner"], given["results"], "--inner ") if given["inner"] else None
        if given["begin_with"]:
            given["begin_with"] = run_folder(given["begin_with"], given["results"], "--begin-with ")
        self.spread = {name: given[name] for name in ("devices", "nodes", "score_workers")} | {"chunk": given["score_chunk"]}
        shared = [f"--{name} {given[name]}" for name in ("devices", "nodes") if given[name] > 1]
        if shared and (given["cluster"] or (given["jobs"] or 1) > 1):
            other = "--cluster" if given["cluster"] else "-j"
            raise UserError(f"{' '.join(shared)}: so trained, one run follows the other. Leave {other} away.")
        if given["cluster"]:
            from sepbench.sweep_ray_address import check_address

            check_address(given["cluster"])
        if given["gpus_per_run"] and (not given["cluster"] or given["device"] == "cpu"):
            raise UserError("--gpus-per-run: goes with --cluster, and not with --device cpu.")
        gpus = given["gpus_per_run"] or 1.0
        if not (gpus <= 1 or gpus % 1 == 0):  # as nan is not either
            raise UserError(f"--gpus-per-run {gpus:g}: wanted a part of one, or a whole number.")
        if given["cluster"] and given["begin_with"]:
            raise UserError("--begin-with: is not brought to the nodes of a cluster. Leave --cluster away, or --begin-with.")
        if given.get("search") and self._place is not None and (self._place.ranks.nodes > 1 or not self._place.starts):
            raise UserError("--search: its trials are chosen on one machine; several nodes, torchrun and srun train grids.")
        if not self.leads:
            from sepbench.progress import SILENT

            self.progress = progress = SILENT
        for recipe in ctx.meta["without the task"]:
            progress.say(f"{recipe.folder.name}: does not run on {given['task']}; left out")
        self.failed: list[str] = []  # recipes
        self.failed_runs: list[str] = []
        self.n_runs = 0

    @property
    def leads(self) -> bool:
        """Whether this process speaks for all that train together."""
        return self._place is None or self._place.ranks.leads

    @cached_property
    def _place(self) -> Any:
        """None where this process is the only one."""
        if self.given["devices"] * self.given["nodes"] == 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
            return None
        from sepbench.run_ranks import place_of

        return place_of(self.given["devices"], self.given["nodes"])

    def asked(self) -> list[Asked]:
        """The runs that are asked for, each once and with its name."""
        from sepbench.grid import asked_runs, with_names

        found: list[Asked] = []
        for recipe in self.recipes:
            with self.the_rest_goes_on(recipe):
                found += asked_runs(recipe, self.given, self.data, self.inner)
        return with_names(found, len(self.recipes) > 1)

    @contextmanager
    def the_rest_goes_on(self, recipe: Recipe) -> Iterator[None]:
        """Of several recipes, one that fails, however it does, is told and written down; one alone fails as it does."""
        try:
            yield
        except Exception as error:
            if len(self.recipes) == 1:
                raise
            self.recipe_failed(recipe, in_a_line(error))

    def recipe_failed(self, recipe: Recipe, said: str) -> None:
        self.progress.say(f"{recipe.folder.name}: {said}")
        self.failed.append(recipe.folder.name)

    def report(self, folders: Sequence[Any]) -> str:
        from sepbench.printing import report

        return report(folders, self.given["results"])

    def end(self) -> None:
        """UserError where anything has failed."""
        if self.failed:
            named = ", ".join(recipe.folder.name for recipe in self.recipes if recipe.folder.name in self.failed)
            raise UserError(f"{len(set(self.failed))} of {len(self.recipes)} recipes failed: {named}. The lines above say why.")
        if self.failed_runs:
            named = ", ".join(self.failed_runs[:5]) + (" and others" if len(self.failed_runs) > 5 else "")
            raise UserError(f"{len(self.failed_runs)} of {self.n_runs} runs failed: {named}. The lines above say why.")
