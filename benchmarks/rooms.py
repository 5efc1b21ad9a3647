"""How fast scenes in rooms are mixed: ours, beside convolving event by event and channel by channel.

    python benchmarks/rooms.py [--data NAME=DIR] [--scenes 48] [--rounds 7]

Scenes of 10 s at 32 kHz and of 4 s at 16 kHz, in four channels with their targets, in memory, in batches of 4 on one thread,
clips decoded and rooms simulated beforehand. Both take turns in one process, round after round, and every round has
scenes that nobody has mixed yet.
"""

# ruff: noqa: E402 - the number of threads is read once, so it is set before numpy is imported

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sepbench.machine import threads, tune_allocator

tune_allocator()  # as the command line does; it and the next line come before torch
threads(1)

import numpy as np
import torch
from scipy.signal import fftconvolve

from sepbench.mixing.rooms import RoomsPlanner
from sepbench.mixing.scenes import IsolatedScenes
from sepbench.progress import PlainProgress
from sepbench.provenance import machine
from sepbench.tasks import load_task, settled
from sepbench.tasks.class_sets import ESC10
from sepbench.tasks.task import build_task

BATCH = 4
SIZES = {"10 s at 32 kHz": (10.0, 32000), "4 s at 16 kHz": (4.0, 16000)}
OURS, PLAIN = "sepbench", "scipy.signal.fftconvolve"
RESULT = Path(__file__).parent / "results" / "rooms.json"

Mixer = Callable[[int], object]  # number of the batch -> the batch


def main() -> None:
    given = arguments()
    found = {}
    for size, (seconds, rate_hz) in SIZES.items():
        planner = planner_of(given, seconds, rate_hz)
        plain, scenes = Plain(planner), IsolatedScenes(planner)
        check(scenes, plain)
        mixers: dict[str, Mixer] = {OURS: lambda i, scenes=scenes: scenes.batch(i, BATCH), PLAIN: plain.batch}
        found[size] = report(size, race(mixers, given.scenes // BATCH, given.rounds))
    write(found, given)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Scenes in rooms mixed per second, side by side.")
    parser.add_argument("--data", metavar="NAME=DIR", help="a corpus with the ESC-10 classes and others; else the synthetic one")
    parser.add_argument("--scenes", type=int, default=48, help="scenes per round, a multiple of 4")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    if given.scenes < BATCH or given.scenes % BATCH:
        parser.error(f"--scenes {given.scenes}: wanted a multiple of {BATCH}")
    return given


def planner_of(given: argparse.Namespace, seconds: float, rate_hz: int) -> RoomsPlanner:
    """Training scenes of the task s5, in the rooms that it has by default, but fewer of them."""
    corpus, _, folder = (given.data or "synthetic").partition("=")
    rooms = {"train": 12, "valid": 1, "test": 1}
    own: dict[str, Any] = {
        "corpus": corpus, "classes": list(ESC10), "seconds": seconds, "sample_rate_hz": rate_hz, "mixing": {"rooms": rooms},
    }  # fmt: skip
    task = build_task(settled(load_task("s5", own)), {corpus: folder} if folder else {}, PlainProgress())
    planner: RoomsPlanner = task.planner("train", 0)
    return planner


class Plain:
    """The same scenes as one would write it first: each event by itself through each channel's response."""

    def __init__(self, planner: RoomsPlanner):
        self.planner = planner

    def batch(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Mixtures (scene, channel, time) and targets (scene, slot, time)."""
        plan = self.planner.plan(index * BATCH, BATCH)
        mixed = [self.mixed(plan, scene) for scene in range(BATCH)]
        mixtures, targets = zip(*mixed)
        return torch.from_numpy(np.stack(mixtures)), torch.from_numpy(np.stack(targets))

    def mixed(self, plan: Any, scene: int) -> tuple[np.ndarray, np.ndarray]:
        planner = self.planner
        n = planner.crops.n_samples
        mixture, targets = planner.stage._noise(plan.noise[scene]), np.zeros(planner.shape, np.float32)
        for slot, clip, start, onset, length in plan.slots(scene):
            audio = planner.cache.audio(clip, start, start + length)
            response = planner.rooms.response(int(plan.room[scene]), int(plan.position[scene, slot]))
            peak = int(np.abs(response[0]).argmax())
            early = self.placed(fftconvolve(audio, self.window(response[0], peak)), onset - peak, n)
            gain = 10 ** (plan.level_db[scene, slot] / 20) / np.sqrt(np.mean(early[onset : onset + length] ** 2))
            for channel, taps in enumerate(response):
                mixture[channel] += gain * self.placed(fftconvolve(audio, taps), onset - peak, n)
            if slot < planner.n_targets:
                targets[slot] = gain * early
        return mixture, targets

    def window(self, response: np.ndarray, peak: int) -> np.ndarray:
        before, after = (round(ms * self.planner.sample_rate_hz / 1000) for ms in self.planner.settings.early_ms)
        found = np.zeros_like(response[: peak + after + 1])
        found[max(peak - before, 0) :] = response[max(peak - before, 0) : peak + after + 1]
        return found

    @staticmethod
    def placed(sound: np.ndarray, begin: int, n: int) -> np.ndarray:
        found = np.zeros(n, np.float32)
        a, b = max(begin, 0), min(begin + len(sound), n)
        found[a:b] = sound[a - begin : b - begin]
        return found


def check(scenes: IsolatedScenes, plain: Plain) -> None:
    """That both mix the same scenes."""
    ours, theirs = scenes.batch(0, BATCH), plain.batch(0)
    for found, expected in zip((ours.mixture, ours.sources), theirs):
        if not torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max())):
            raise SystemExit("scipy.signal.fftconvolve does not mix the same scenes; the comparison would mean nothing.")


def race(mixers: dict[str, Mixer], n_batches: int, rounds: int) -> dict[str, list[float]]:
    """Seconds per scene in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in mixers}
    for turn in range(rounds + 1):
        for name, mix in mixers.items():
            began = time.perf_counter()
            for index in range(turn * n_batches, (turn + 1) * n_batches):
                mix(index)
            seconds[name].append((time.perf_counter() - began) / (n_batches * BATCH))
    return {name: each[1:] for name, each in seconds.items()}  # the first round reads clips and rooms from disk


def report(size: str, seconds: dict[str, list[float]]) -> dict[str, Any]:
    print(f"\n{size}\n{'mixer':30}{'scenes/s':>10}{'slowest':>10}{'fastest':>10}{'x plain':>10}")
    found = {}
    for name, own in seconds.items():
        rates = [1 / each for each in own]
        times = statistics.median(theirs / ours for ours, theirs in zip(own, seconds[PLAIN]))  # of the same round
        print(f"{name:30}{statistics.median(rates):10.1f}{min(rates):10.1f}{max(rates):10.1f}{times:10.2f}")
        found[name] = {"scenes_per_s": statistics.median(rates), "rounds_scenes_per_s": rates, "times_plain": times}
    return found


def write(found: dict[str, Any], given: argparse.Namespace) -> None:
    facts = {
        "sizes": found, "corpus": (given.data or "synthetic").partition("=")[0], "batch": BATCH, "threads": 1,
        "scenes_per_round": given.scenes, "rounds": given.rounds,
        "machine": {**machine(), "load": os.getloadavg()[0]}, "python": platform.python_version(),
        "packages": {name: version(name) for name in ("sepbench", "numpy", "scipy", "torch", "pyroomacoustics")},
    }  # fmt: skip
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten to {RESULT}")


if __name__ == "__main__":
    main()
