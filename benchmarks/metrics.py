"""How fast scenes are scored: the SI-SDR of every pair and the best pairing, ours beside three peers and beside reading.

    python benchmarks/metrics.py [--threads N] [--sources 2 4 8] [--scenes 1000] [--rounds 10]

Scenes of 4 s at 16 kHz in float32, in memory. Each round has scenes that nobody has seen; all take turns in one process
with the same threads, in batches of 50 scenes, and before each turn 1 GiB of other memory is read, so that nobody finds
the samples in cache. "Reading" is a compiled float32 sum over the same samples, in the same threads.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import fast_bss_eval
import numba
import numpy as np
import torch
from asteroid.losses import PITLossWrapper, pairwise_neg_sisdr
from torch import Tensor
from torchmetrics.functional.audio import permutation_invariant_training
from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio as torchmetrics_si_sdr

from sepbench.machine import threads, tune_allocator
from sepbench.metrics.gram import gram
from sepbench.metrics.pairing import best_pairs, pair_scenes
from sepbench.metrics.si_sdr import si_sdr_matrix
from sepbench.provenance import machine

N_TIME, BATCH = 4 * 16000, 50
LEVELS_DB = (0, 20, 40, 60, 80, 100)
PEERS = ("torchmetrics", "asteroid", "fast_bss_eval")
RESULT = Path(__file__).parent / "results" / "metrics.json"

Score = Callable[[Tensor, Tensor], Any]  # (scene, estimate, time), (scene, reference, time)


def main() -> None:
    given = arguments()
    n_threads = threads(given.threads)
    tune_allocator()  # as the command line does; the peers gain most from it
    warnings.simplefilter("ignore")  # torchmetrics' of its own slow lists
    with ThreadPoolExecutor(n_threads) as pool:
        scorers = scorers_of(pool, n_threads)
        facts = {"threads": n_threads, "scene_s": N_TIME / 16000, "batch": BATCH, "scenes": given.scenes,
                 "rounds": given.rounds, "sources": {n: race(n, scorers, given) for n in given.sources},
                 "deviation_db": deviations()}
    facts |= {"machine": {**machine(), "load": os.getloadavg()[0]}, "python": platform.python_version()}
    facts["packages"] = {name: version(name) for name in ("sepbench", *PEERS, "torch", "numba", "numpy", "scipy")}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten to {RESULT}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Microseconds per scene, side by side.")
    parser.add_argument("--threads", type=int, help="for each of them alike; else all cores, or OMP_NUM_THREADS")
    parser.add_argument("--sources", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--scenes", type=int, default=1000, help="in all rounds together")
    parser.add_argument("--rounds", type=int, default=10)
    return parser.parse_args()


def scorers_of(pool: ThreadPoolExecutor, n_threads: int) -> dict[str, Score]:
    asteroid = PITLossWrapper(pairwise_neg_sisdr, pit_from="pw_mtx")
    return {
        "reading": lambda e, s: read(pool, n_threads, e) + read(pool, n_threads, s),
        "sepbench": lambda e, s: pair_scenes(estimate=e, reference=s),
        "fast_bss_eval": lambda e, s: fast_bss_eval.si_sdr(s, e, zero_mean=False, return_perm=True),
        "asteroid": lambda e, s: asteroid(e, s, return_est=False),
        "torchmetrics": lambda e, s: permutation_invariant_training(e, s, torchmetrics_si_sdr, "max"),
    }


@numba.njit(nogil=True, fastmath={"reassoc"})
def total(samples: np.ndarray) -> float:
    found = np.float32(0)
    for t in range(len(samples)):
        found += samples[t]
    return found


def read(pool: ThreadPoolExecutor, n_threads: int, samples: Tensor) -> float:
    return sum(pool.map(total, np.array_split(samples.numpy().reshape(-1), 4 * n_threads)))


def scenes(n_scenes: int, n_sources: int, seed: int, levels_db: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Estimates in order and references, float32; the error is orthogonal and of a level drawn for each pair."""
    generator = torch.Generator().manual_seed(seed)
    reference = torch.empty(n_scenes, n_sources, N_TIME)
    estimate = torch.empty_like(reference)
    for e, s in zip(estimate, reference):  # scene by scene, to keep the float64 copies small
        level_db = torch.empty(n_sources, 1, dtype=torch.float64).uniform_(*levels_db, generator=generator)
        clean, error = torch.randn(2, n_sources, N_TIME, generator=generator).double()
        clean, error = (x - x.mean(-1, keepdim=True) for x in (clean, error))  # asteroid's function removes it
        error -= (error * clean).sum(-1, keepdim=True) / (clean * clean).sum(-1, keepdim=True) * clean
        error *= clean.norm(dim=-1, keepdim=True) / error.norm(dim=-1, keepdim=True) * 10 ** (-level_db / 20)
        e[:], s[:] = clean + error, clean
    return estimate, reference


def race(n_sources: int, scorers: dict[str, Score], given: argparse.Namespace) -> dict[str, Any]:
    """Seconds per scene of everybody in every round, as medians and as ratios within a round."""
    n_scenes = given.scenes // given.rounds
    order = torch.randperm(n_sources, generator=torch.Generator().manual_seed(0))
    other = np.zeros(1 << 28, np.float32)  # 1 GiB
    taken: dict[str, list[float]] = {name: [] for name in scorers}
    for turn in range(given.rounds + 1):
        estimate, reference = scenes(n_scenes if turn else BATCH, n_sources, turn, (0.0, 30.0))
        estimate = estimate[:, order].contiguous()
        for name, score in scorers.items():
            total(other)
            began_s = time.perf_counter()
            for e, s in zip(estimate.split(BATCH), reference.split(BATCH)):
                score(e, s)
            taken[name].append((time.perf_counter() - began_s) / len(estimate))
    taken = {name: each[1:] for name, each in taken.items()}  # the first round compiles
    return report(n_sources, taken, parts(estimate, reference))


def parts(estimate: Tensor, reference: Tensor) -> dict[str, float]:
    """What ours consists of, in seconds per scene, the best of five each."""
    e, s = (x[:1, :, : N_TIME // 8].expand(BATCH * 8, -1, -1) for x in (estimate, reference))  # one short scene, again and again
    few, many = (estimate[:BATCH], reference[:BATCH]), (e, s)
    near, there = scenes(BATCH, estimate.shape[1], 1, (60.0, 60.0))
    tables = si_sdr_matrix(estimate=few[0], reference=few[1]).numpy()
    return {
        "the one pass, samples in cache": best_of_five(lambda: gram(*many, lambda: None)),
        "the one pass, samples in memory": best_of_five(lambda: gram(*few, lambda: None)),
        "figures and calls": best_of_five(lambda: si_sdr_matrix(estimate=few[0][..., :16], reference=few[1][..., :16])),
        "pairing": best_of_five(lambda: [best_pairs(table) for table in tables]),
        "all, every pair at 60 dB": best_of_five(lambda: pair_scenes(estimate=near, reference=there)),
    }


def best_of_five(work: Callable[[], object]) -> float:
    def seconds() -> Iterator[float]:
        for _ in range(5):
            began_s = time.perf_counter()
            work()
            yield (time.perf_counter() - began_s) / BATCH

    return min(seconds())


def report(n_sources: int, taken: dict[str, list[float]], ours: dict[str, float]) -> dict[str, Any]:
    print(f"\n{n_sources} sources{'us/scene':>27}{'fastest':>10}{'slowest':>10}{'x reading':>11}{'x sepbench':>12}")
    found: dict[str, Any] = {}
    for name, each in taken.items():
        ratios = {base: statistics.median(a / b for a, b in zip(each, taken[base])) for base in ("reading", "sepbench")}
        row = [1e6 * x for x in (statistics.median(each), min(each), max(each))]
        print(f"{name:24}{row[0]:12.0f}{row[1]:10.0f}{row[2]:10.0f}{ratios['reading']:11.1f}{ratios['sepbench']:12.1f}")
        found[name] = {"us_per_scene": row[0], "rounds_us": [1e6 * x for x in each], "times_reading": ratios["reading"],
                       "times_sepbench": ratios["sepbench"]}
    print("  of ours, us/scene: " + "; ".join(f"{name} {1e6 * x:.0f}" for name, x in ours.items()))
    return {**found, "parts_us": {name: 1e6 * x for name, x in ours.items()}}


def deviations() -> dict[str, dict[str, float]]:
    """Largest deviation of each from the definition in float64, on float32 samples, by level of the pairs."""
    figures: dict[str, Score] = {
        "sepbench": lambda e, s: si_sdr_matrix(estimate=e, reference=s).diagonal(dim1=-2, dim2=-1),
        "fast_bss_eval": lambda e, s: fast_bss_eval.si_sdr(s, e, zero_mean=False),
        "asteroid": lambda e, s: -pairwise_neg_sisdr(e, s).diagonal(dim1=-2, dim2=-1),
        "torchmetrics": lambda e, s: torchmetrics_si_sdr(e, s),
    }
    print(f"\nlargest deviation, dB {'0-30 dB':>12}" + "".join(f"{level:>9} dB" for level in LEVELS_DB))
    found: dict[str, dict[str, float]] = {name: {} for name in figures}
    for low, high in ((0, 30), *((level, level) for level in LEVELS_DB)):
        estimate, reference = scenes(100 if low < high else 10, 4, 100, (low, high))
        e, s = estimate.double(), reference.double()
        along = (e * s).sum(-1, keepdim=True) / (s * s).sum(-1, keepdim=True) * s
        definition = (10 * torch.log10(along.square().sum(-1) / (along - e).square().sum(-1))).clamp(-100, 100)
        for name, score in figures.items():
            off = (score(estimate, reference).double() - definition).abs().max().item()
            found[name][f"{low}-{high}" if low < high else str(low)] = off
    for name, each in found.items():
        print(f"{name:22}" + "".join(f"{off:12.1e}" for off in each.values()))
    return found


if __name__ == "__main__":
    main()
