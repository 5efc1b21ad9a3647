"""How fast pairs are mixed: ours, beside plain numpy and copying as many bytes.

    python benchmarks/mixing_pairs.py [--data esc50=DIR] [--sources 2] [--scenes 320] [--rounds 15]

Scenes of 3 s at 16 kHz of the ten classes of ESC-10 with their sources, in memory, in batches of 16 on one thread, with the
clips decoded beforehand. All take turns in one process, round after round, and every round has scenes that nobody has
mixed yet.
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

from sepbench.machine import threads, tune_allocator

tune_allocator()  # as the command line does; it and the next line come before torch
threads(1)

import numpy as np
import torch

from sepbench.corpora import open_corpus
from sepbench.corpora.cache import ClipCache, open_cache
from sepbench.mixing.crops import MAX_REDRAWS
from sepbench.mixing.infinite import InfinitePlanner, InfiniteSettings
from sepbench.mixing.scenes import IsolatedScenes, WeakScenes
from sepbench.provenance import machine
from sepbench.tasks.class_sets import ESC10

RATE_HZ, SECONDS, BATCH = 16000, 3.0, 16
N = round(RATE_HZ * SECONDS)
GAIN, MIN_PEAK = (0.5, 1.0), 0.05
OURS, PLAIN, COPYING = "sepbench, mixtures and sources", "plain numpy", "copying as many bytes"
RESULT = Path(__file__).parent / "results" / "mixing_pairs.json"

Mixer = Callable[[int], object]  # number of the batch -> the batch


def main() -> None:
    given = arguments()
    corpus_name, _, folder = (given.data or "synthetic").partition("=")
    corpus = open_corpus(corpus_name, {corpus_name: folder} if folder else {}, ESC10)
    cache = open_cache(corpus, corpus.clips, RATE_HZ)
    settings = InfiniteSettings((given.sources, given.sources), SECONDS, GAIN, MIN_PEAK, "scale", "pad")
    members = range(len(cache.clips))
    planner = InfinitePlanner(cache.clips, members, ESC10, settings, cache.content_hash, "train", 0, cache)
    plain = Plain(cache, given.sources)
    check(planner, plain)
    weak, isolated = WeakScenes(planner, "clip"), IsolatedScenes(planner)
    batch = torch.zeros(BATCH, given.sources + 1, N)
    mixers: dict[str, Mixer] = {
        OURS: lambda index: isolated.batch(index, BATCH),
        "sepbench, mixtures": lambda index: weak.batch(index, BATCH),
        PLAIN: plain.batch,
        COPYING: lambda index: batch.clone(),
    }
    report(race(mixers, given.scenes // BATCH, given.rounds), given, corpus_name, len(cache.clips))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Pairs mixed per second, side by side.")
    parser.add_argument("--data", metavar="NAME=DIR", help="a corpus with the ESC-10 classes; else the synthetic one")
    parser.add_argument("--sources", type=int, default=2, help="in every scene")
    parser.add_argument("--scenes", type=int, default=320, help="scenes per round, a multiple of 16")
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    if given.scenes < BATCH or given.scenes % BATCH:
        parser.error(f"--scenes {given.scenes}: wanted a multiple of {BATCH}")
    return given


class Plain:
    """The same engine as one would write it first: float32 clips in lists, a scene at a time, a step at a time."""

    def __init__(self, cache: ClipCache, n_sources: int):
        self.n_sources = n_sources
        self.sounds: list[list[tuple[np.ndarray, float]]] = [[] for _ in ESC10]  # each with its peak
        for i, clip in enumerate(cache.clips):
            sound = cache.audio(i)
            self.sounds[ESC10.index(clip.label)].append((sound, float(np.abs(sound).max())))

    def batch(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Mixtures (scene, time) and sources (scene, source, time)."""
        scenes = []
        for scene in range(index * BATCH, (index + 1) * BATCH):
            random = np.random.default_rng([0, scene])
            scenes.append(self.mixed(self.crops(random), random.uniform(*GAIN, self.n_sources).tolist()))
        mixtures, sources = zip(*scenes)
        return torch.from_numpy(np.stack(mixtures)), torch.from_numpy(np.stack(sources))

    def crops(self, random: np.random.Generator) -> list[np.ndarray]:
        found = []
        for label in random.choice(len(ESC10), self.n_sources, replace=False):
            sound, peak = self.sounds[label][random.integers(len(self.sounds[label]))]
            for _ in range(1 + MAX_REDRAWS):
                crop = self.cropped(sound, random)
                if np.abs(crop).max() >= MIN_PEAK * peak:
                    break
            found.append(crop)
        return found

    @staticmethod
    def cropped(sound: np.ndarray, random: np.random.Generator) -> np.ndarray:
        if len(sound) >= N:
            start = random.integers(len(sound) - N + 1)
            return sound[start : start + N]
        before = random.integers(N - len(sound) + 1)
        return np.pad(sound, (before, N - len(sound) - before))

    @staticmethod
    def mixed(crops: list[np.ndarray], gains: list[float]) -> tuple[np.ndarray, np.ndarray]:
        """The mixture (time,) and its sources (source, time)."""
        sources = np.stack([gain * crop / max(float(np.abs(crop).max()), 1e-8) for gain, crop in zip(gains, crops)])
        mixture = sources.sum(0)
        scale = max(1.0, float(np.abs(mixture).max()))
        return mixture / scale, sources / scale


def check(planner: InfinitePlanner, plain: Plain) -> None:
    """That plain numpy mixes the same scenes from the same crops."""
    plan, batch = planner.plan(0, BATCH), IsolatedScenes(planner).batch(0, BATCH)
    for scene in range(BATCH):
        crops = np.zeros(plan.label.shape[1:] + (N,), np.float32)
        for slot in np.flatnonzero(plan.label[scene] >= 0):
            start, onset, length = (int(each[scene, slot]) for each in (plan.start, plan.onset, plan.length))
            crops[slot, onset : onset + length] = planner.cache.audio(plan.clip[scene, slot], start, start + length)
        for found, expected in zip(plain.mixed(list(crops), plan.gain[scene].tolist()), (batch.mixture, batch.sources)):
            if not np.allclose(found, expected[scene].numpy(), atol=1e-6):
                raise SystemExit("plain numpy does not mix the same scenes; the comparison would mean nothing.")


def race(mixers: dict[str, Mixer], n_batches: int, rounds: int) -> dict[str, list[float]]:
    """Seconds per scene in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in mixers}
    for turn in range(rounds + 1):
        for name, mix in mixers.items():
            began = time.perf_counter()
            for index in range(turn * n_batches, (turn + 1) * n_batches):
                mix(index)
            seconds[name].append((time.perf_counter() - began) / (n_batches * BATCH))
    return {name: each[1:] for name, each in seconds.items()}  # the first round reads the clips from disk


def report(seconds: dict[str, list[float]], given: argparse.Namespace, corpus: str, n_clips: int) -> None:
    found = {}
    print(f"{'mixer':34}{'scenes/s':>10}{'slowest':>10}{'fastest':>10}{'x plain':>10}{'x copying':>10}")
    for name, own in seconds.items():
        rates = [1 / each for each in own]
        median = statistics.median(rates)
        plain, copying = (  # of the same round
            statistics.median(theirs / ours for ours, theirs in zip(own, seconds[base])) for base in (PLAIN, COPYING)
        )
        print(f"{name:34}{median:10.0f}{min(rates):10.0f}{max(rates):10.0f}{plain:10.2f}{copying:10.2f}")
        found[name] = {
            "scenes_per_s": median, "rounds_scenes_per_s": rates, "times_plain": plain, "times_copying": copying,
        }  # fmt: skip
    facts = {
        "mixers": found, "corpus": corpus, "clips": n_clips, "scene_s": SECONDS, "sources": given.sources, "batch": BATCH,
        "threads": 1, "scenes_per_round": given.scenes, "rounds": given.rounds,
        "machine": {**machine(), "load": os.getloadavg()[0]}, "python": platform.python_version(),
        "packages": {name: version(name) for name in ("sepbench", "numpy", "torch")},
    }  # fmt: skip
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten to {RESULT}")


if __name__ == "__main__":
    main()
