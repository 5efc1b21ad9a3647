"""Runs that were asked for on the command line: planned, told, carried out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sepbench.results_arriving import recover
from sepbench.sweep import InTurn, Pool, pool_for, prepare, run_all
from sepbench.sweep_plan import STALE, Asked, PlannedRun, Planner, plan_table, to_do
from sepbench.sweep_spec import How, Outcome
from sepbench.tables_format import render

if TYPE_CHECKING:
    from sepbench.cli_run import Common


def how_of(common: Common, results: Path | None = None) -> How:
    """What all runs have in common."""
    given = common.given
    return How(
        common.data, results or given["results"], given["device"], given["threads"], given["again"],
        given["gpus_per_run"] or How.gpus, common.spread,
    )  # fmt: skip


def one(asked: Asked, common: Common) -> list[Path]:
    """A run alone, without a plan; stopped by whatever stops it."""
    from sepbench.run import Spread, run_one

    given = common.given
    recover(given["results"])
    with common.the_rest_goes_on(asked.recipe):
        again = given["again"] or (given["stale"] and any(run.state == STALE for run in _plan([asked], common)))
        return [
            run_one(
                asked.config, asked.options, asked.recipe, data=common.data, results=given["results"], again=again,
                device=given["device"], progress=common.progress, spread=Spread(**common.spread),
            )
        ]  # fmt: skip
    return []


def many(asked: Sequence[Asked], common: Common, each: bool = False) -> list[Path]:
    """The folders of all runs that are there in the end; the plan is said before anything runs.

    `each`: a run that fails stops no other; else, in turn, it stops its recipe's.
    """
    given, progress = common.given, common.progress
    recover(given["results"])
    plan = _plan(asked, common)
    if not plan:
        return []
    todo, folders = to_do(plan, given["again"], given["stale"]), dict.fromkeys(run.id for run in plan)
    how = how_of(common)
    with pool_for(how, given["jobs"], given["cluster"], progress) as pool:
        if common.leads:
            progress.say(render([plan_table(plan, todo, pool.at_a_time)], screen=False).rstrip())
        ended = carry_out(todo, pool, how, common, each or not isinstance(pool, InTurn))
    left = {run.id for run in todo} - ended
    return [how.results / name for name in folders if name not in left]


def plan_only(asked: Sequence[Asked], common: Common) -> str:
    """The plan as text."""
    given = common.given
    plan = _plan(asked, common)
    todo = to_do(plan, given["again"], given["stale"])
    return render([plan_table(plan, todo, given["jobs"] or 1)]).rstrip()


def carry_out(todo: Sequence[PlannedRun], pool: Pool, how: How, common: Common, each: bool) -> set[str]:
    """The ids of the runs that came to an end. What fails is told in a line, and so is what was tried more than once."""
    ended: set[str] = set()
    retried: list[str] = []

    def done(run: PlannedRun, outcome: Outcome) -> None:
        if outcome.retried:
            retried.append(f"{run.name} ({outcome.retried})")
        if outcome.folder is not None:
            ended.add(run.id)
        elif each:
            _failed(run, outcome.said, common)
        elif len(common.recipes) == 1 and outcome.error is not None:
            raise outcome.error
        else:
            common.recipe_failed(run.recipe, outcome.said)

    common.n_runs = len(todo)
    refused = {} if isinstance(pool, InTurn) or not todo else prepare(todo, how, common.progress)
    for i, said in refused.items():
        _failed(todo[i], said, common)
    rest = [run for i, run in enumerate(todo) if i not in refused]
    run_all(rest, len(todo), pool, common.progress, done, lambda run: run.recipe.folder.name in common.failed)
    if retried:
        common.progress.say(f"retried: {'; '.join(retried)}")
    return ended


def _failed(run: PlannedRun, said: str, common: Common) -> None:
    common.progress.say(f"{run.name}: {said}")
    common.failed_runs.append(run.name)


def _plan(asked: Sequence[Asked], common: Common) -> list[PlannedRun]:
    planner, plan = Planner(common.given["results"], common.data), []
    for each in asked:
        if each.recipe.folder.name not in common.failed:
            with common.the_rest_goes_on(each.recipe):
                plan.append(planner.planned(each))
    return [run for run in plan if run.recipe.folder.name not in common.failed]
