"""Many runs: the plan is made first, then a pool carries it out, on this machine or on a cluster."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from sepbench.errors import SettingsRefused, in_a_line
from sepbench.progress import clock_words
from sepbench.results_arriving import recover
from sepbench.storage import read_json
from sepbench.sweep_plan import PlannedRun
from sepbench.sweep_spec import How, Outcome

SHOWN = ("si_sdri", "si_sdri_by_label", "si_sdr", "ca_sdri", "fuss_si_snri", "label_set_accuracy", "class_accuracy")


class Pool(Protocol):
    """Where runs are carried out."""

    room: int  # how many may have been submitted and not have ended
    at_a_time: int  # how many of those are carried out together

    def submit(self, run: PlannedRun) -> None:
        """Have it run. It may have to wait."""

    def wait(self) -> tuple[PlannedRun, Outcome]:
        """The next one that ends, of those that were submitted."""

    def close(self) -> None:
        """Stop what still runs; it can be gone on with."""


class InTurn:
    """In this process, one after the other."""

    room = 1
    at_a_time = 1

    def __init__(self, how: How, progress: Any) -> None:
        self.how, self.progress = how, progress
        self._waiting: deque[PlannedRun] = deque()

    def submit(self, run: PlannedRun) -> None:
        self._waiting.append(run)

    def wait(self) -> tuple[PlannedRun, Outcome]:
        from sepbench.run import Spread, run_one

        run, began_s = self._waiting.popleft(), time.perf_counter()
        try:
            folder = run_one(
                run.config, run.options, run.recipe, data=self.how.data, results=self.how.results,
                again=self.how.again or run.state == "stale", device=self.how.device, progress=self.progress,
                spread=Spread(**self.how.spread),
            )  # fmt: skip
        except Exception as error:
            refused = isinstance(error, SettingsRefused)
            return run, Outcome(None, in_a_line(error), time.perf_counter() - began_s, error, refused)
        return run, Outcome(folder, "", time.perf_counter() - began_s)

    def close(self) -> None:
        self._waiting.clear()


@contextmanager
def pool_for(how: How, jobs: int | None, cluster: str | None, progress: Any) -> Iterator[Pool]:
    """The pool that is asked for; what still runs in it when the context is left is stopped. UserError without a cluster."""
    pool: Pool
    recover(how.results)
    if cluster is not None:
        from sepbench.sweep_ray import RayPool

        pool = RayPool(cluster, how, jobs, progress)
    elif (jobs or 1) > 1:
        from sepbench.sweep_local import LocalPool

        pool = LocalPool(how, jobs or 1, progress)
    else:
        pool = InTurn(how, progress)
    try:
        yield pool
    finally:
        pool.close()


def run_all(
    runs: Iterable[PlannedRun], n: int, pool: Pool, progress: Any, done: Callable[[PlannedRun, Outcome], None],
    skipped: Callable[[PlannedRun], bool] = lambda run: False,
) -> None:  # fmt: skip
    """Have all `runs` carried out, `n` of them; `done` is told of each as it ends, and a line is said.

    `runs` is asked for the next one when there is room, so that it may depend on those that have ended.
    """
    coming, under_way, n_ended, number = iter(runs), 0, 0, 0
    more = True
    while more or under_way:
        while more and under_way < pool.room:
            run = next(coming, None)
            if run is None:
                more = False
                break
            number += 1
            if skipped(run):
                continue
            if pool.room == 1:
                progress.say(f"Run {number} of {n}: {run.name}")
            pool.submit(run)
            under_way += 1
        if not under_way:
            break
        run, outcome = pool.wait()
        under_way, n_ended = under_way - 1, n_ended + 1
        if outcome.folder is not None:
            progress.say(_ended(run, outcome, n_ended, n))
        done(run, outcome)


def _ended(run: PlannedRun, outcome: Outcome, i: int, n: int) -> str:
    """Done 3 of 20: lambda=5, seed=1: 21.3 s, si_sdri 3.21 (2 attempts; node died)."""
    figure = main_figure(outcome)
    shown = f", {figure[0]} {figure[1]:.2f}" if figure else ""
    retried = f" ({outcome.retried})" if outcome.retried else ""
    return f"Done {i} of {n}: {run.name}: {clock_words(outcome.seconds)}{shown}{retried}"


def main_figure(outcome: Outcome) -> tuple[str, float] | None:
    """The first of SHOWN that a run has, over all sources of the first split that it was scored on."""
    if outcome.folder is None or not (outcome.folder / "metrics.json").is_file():  # a rank that only helps is done sooner
        return None
    metrics = read_json(outcome.folder / "metrics.json")
    split = "test" if "test" in metrics else next(iter(metrics), "")
    means = {name: ((metrics.get(split) or {}).get(name, {}).get("all") or {}).get("mean") for name in SHOWN}
    return next(((name, mean) for name, mean in means.items() if mean is not None), None)


def prepare(todo: Sequence[PlannedRun], how: How, progress: Any) -> dict[int, str]:
    """Have the sounds of all runs decoded, and their rooms simulated, once: else every worker would do it at the same time.

    By position, the runs whose task cannot be built, and why.
    """
    from sepbench.tasks.task import build_task

    built: dict[str, str] = {}
    failed = {}
    for i, run in enumerate(todo):
        key = f"{run.sounds} {run.config['task']['mixing']} {run.config['task']['splits']} {run.config['task']['classes']}"
        if key not in built:
            try:
                build_task(run.config["task"], how.data, progress)
                built[key] = ""
            except Exception as error:
                built[key] = in_a_line(error)
        if built[key]:
            failed[i] = built[key]
    return failed

