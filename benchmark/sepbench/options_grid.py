"""What `sepbench run` and `sepbench sweep` have in common: whose runs, with which options, how many at a time and where."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click

from sepbench.errors import UserError
from sepbench.options import (
    FOLDER,
    WORD,
    again_option,
    data_option,
    device_option,
    devices_option,
    metrics_option,
    nodes_option,
    results_option,
    score_chunk_option,
    score_workers_option,
    sets_option,
)
from sepbench.options_recipe import BudgetValue

MOST_SEEDS = 1000
LARGEST_SEED = 2**32 - 1  # as the generators of numpy and lightning have it


class Seeds(click.ParamType):
    """A seed, or several: 3, or 0,1,2, or 0..4; as a list, each once."""

    name = "SEED,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        if isinstance(value, list):
            return value
        found: list[int] = []
        for part in str(value).split(","):
            match = re.fullmatch(r"(\d+)(?:\.\.(\d+))?", part.strip())
            if match is None:
                wanted = "a whole number from 0, several such as 0,1,2, or a range such as 0..4"
                raise UserError(f"--seed {value or repr(value)}: wanted {wanted}.")
            first, last = int(match[1]), int(match[2] or match[1])
            if last < first:
                raise UserError(f"--seed {value}: {part.strip()} ends before it begins. Turn it round.")
            if last > LARGEST_SEED:
                raise UserError(f"--seed {value}: wanted seeds from 0 to {LARGEST_SEED}. Give smaller ones.")
            if last - first >= MOST_SEEDS:
                raise UserError(f"--seed {value}: {last - first + 1:,} seeds; {MOST_SEEDS:,} at most, in one range.")
            found += range(first, last + 1)
        return list(dict.fromkeys(found))


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The argument and the options of a command that runs recipes."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


OPTIONS: tuple[Callable[..., Any], ...] = (
    click.argument("recipe", nargs=-1, required=True),
    click.option("--profile", default="quick", show_default=True, metavar="quick|small|paper", help="How much of everything."),
    click.option("--task", type=WORD, metavar="NAME", help="Another of the recipe's tasks.  [default: the recipe's own]"),
    click.option("--table", type=WORD, metavar="NAME", help="Every run that this table of the paper needs."),
    click.option(
        "--budget",
        type=BudgetValue(),
        metavar="minutes=N|scenes=N",
        help="What each may train for: so many minutes, or scenes drawn to learn from; validation comes on top of scenes.  "
        "[default: as the profile says]",
    ),
    data_option,
    click.option("--corpus", type=WORD, help="Take the clips from this corpus.  [default: the profile's]"),
    sets_option,
    metrics_option,
    click.option(
        "--seed", "seeds", type=Seeds(), default="0", show_default=True, help="Of scenes and weights; 0..4 or 0,1,2 runs each."
    ),
    results_option,
    again_option,
    device_option,
    devices_option,
    nodes_option,
    score_workers_option,
    score_chunk_option,
    click.option(
        "--threads", type=click.IntRange(min=1),
        help="Threads for arithmetic, of each run.  [default: all cores, shared out among -j; 1 on a cluster]",
    ),
    click.option("--inner", type=FOLDER, metavar="RUN", help="The finished run of the method that this recipe wraps."),
    click.option("--begin-with", type=FOLDER, metavar="RUN", help="The stopped run whose last whole epoch to go on from."),
    click.option(
        "-j", "--jobs", type=click.IntRange(min=1), metavar="N",
        help="So many runs at a time, each in a process of its own, with its share of cores and GPUs; on a cluster, at most so "
        "many.  [default: 1; on a cluster, as many as it has room for]",
    ),
    click.option(
        "--cluster", type=WORD, metavar="auto|local|HOST:PORT", help='Run on a Ray cluster instead (pip install "sepbench[ray]").'
    ),
    click.option(
        "--gpus-per-run", type=click.FloatRange(min=0, min_open=True), metavar="N",
        help="Of --cluster, where it has GPUs; 0.5 lets two runs share one.  [default: 1]",
    ),
    click.option("--stale", is_flag=True, help="Run those anew whose recipe or sounds have changed since."),
)  # fmt: skip
