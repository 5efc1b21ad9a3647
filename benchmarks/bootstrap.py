"""How long an interval takes: 10,000 resamples of 5,000 scenes, ours beside scipy's bootstrap and a plain numpy loop.

    python benchmarks/bootstrap.py [--threads N] [--scenes 5000] [--resamples 10000] [--rounds 7]

All give the 95 % percentile interval of the same mean, in turns, in one process. Ours counts how often each scene was
drawn, so that one set of resamples serves every figure of a run; so it is also asked for 40 figures, and for scenes of
four rows that are drawn together.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import scipy.stats

from sepbench.machine import threads
from sepbench.provenance import machine
from sepbench.statistics import bootstrap_ci, intervals, mean_figure

RESULT = Path(__file__).parent / "results" / "bootstrap.json"


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds for a bootstrap interval, side by side.")
    parser.add_argument("--threads", type=int, help="of BLAS; else all cores, or OMP_NUM_THREADS")
    parser.add_argument("--scenes", type=int, default=5000)
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    n_threads = threads(given.threads)
    n, n_resamples = given.scenes, given.resamples
    values = np.random.default_rng(0).normal(8, 5, n)
    four = values.repeat(4) + np.random.default_rng(1).normal(0, 2, 4 * n)
    ways: dict[str, Callable[[], tuple[float, float] | None]] = {
        "sepbench": partial(bootstrap_ci, values, np.ones(n), np.arange(n), n_resamples),
        "sepbench, 4 rows a scene": partial(bootstrap_ci, four, np.ones(4 * n), np.arange(n).repeat(4), n_resamples),
        "sepbench, 40 figures": partial(forty_figures, values, n_resamples),
        "scipy": partial(with_scipy, values, n_resamples),
        "numpy, a loop": partial(with_a_loop, values, n_resamples),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(given.rounds):
        for name, way in ways.items():
            began_s = time.perf_counter()
            low, high = way()
            taken[name].append(time.perf_counter() - began_s)
            if not turn:
                print(f"{name:26} {low:.3f} to {high:.3f}")
    found = {}
    print(f"\n{'':26}{'median s':>10}{'fastest':>10}{'slowest':>10}{'x sepbench':>12}")
    for name, each in taken.items():
        ratio = statistics.median(theirs / ours for theirs, ours in zip(each, taken["sepbench"]))
        print(f"{name:26}{statistics.median(each):10.2f}{min(each):10.2f}{max(each):10.2f}{ratio:12.1f}")
        found[name] = {"median_s": statistics.median(each), "rounds_s": each, "times_sepbench": ratio}
    facts = {"ways": found, "scenes": n, "resamples": n_resamples, "threads": n_threads,
             "machine": {**machine(), "load": os.getloadavg()[0]}, "python": platform.python_version(),
             "packages": {name: version(name) for name in ("sepbench", "scipy", "numpy")}}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten to {RESULT}")


def forty_figures(values: np.ndarray, n_resamples: int) -> tuple[float, float] | None:
    """The interval of the first of 40 means, all of them formed."""
    scene = np.arange(len(values))
    figures = [mean_figure(np.roll(values, i), np.ones(len(values)), scene, len(values)) for i in range(40)]
    return intervals(figures, n_resamples, seed=0)[0]


def with_scipy(values: np.ndarray, n_resamples: int) -> tuple[float, float]:
    found = scipy.stats.bootstrap((values,), np.mean, n_resamples=n_resamples, batch=250, method="percentile",
                                  rng=np.random.default_rng(0))
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def with_a_loop(values: np.ndarray, n_resamples: int) -> tuple[float, float]:
    generator = np.random.default_rng(0)
    means = [values[generator.integers(0, len(values), len(values))].mean() for _ in range(n_resamples)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


if __name__ == "__main__":
    main()
