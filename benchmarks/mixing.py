"""How fast scenes are mixed: ours, beside scaper and beside plain numpy, on the same events.

    python benchmarks/mixing.py [--data urbansound8k=DIR] [--scenes 40] [--rounds 15]

Scenes of 10 s with a Poisson number of events (lambda 5), in memory, on one thread, with the clips decoded beforehand.
The mixers take turns in one process, round after round, so that whatever else the machine does hits all of them alike.
"""

# ruff: noqa: E402 - the number of threads is read once, so it is set before numpy is imported

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

import argparse
import json
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyloudnorm
import scaper
import soundfile
import torch

from sepbench.corpora import open_corpus
from sepbench.corpora.cache import ClipCache, open_cache
from sepbench.machine import tune_allocator
from sepbench.mixing.poisson import PoissonPlan, PoissonPlanner, PoissonSettings
from sepbench.mixing.scenes import IsolatedScenes, WeakScenes

CLASSES = ("car_horn", "dog_bark", "gun_shot", "jackhammer", "siren")
RATE_HZ, SECONDS = 16000, 10.0
BATCH = 20  # scenes that our mixer mixes together
PER_MS = RATE_HZ // 1000
RESULT = Path(__file__).parent / "results" / "mixing.json"

if not hasattr(np, "Inf"):
    setattr(np, "Inf", np.inf)  # noqa: B010 - scaper 1.6.5 asks for the name that numpy 2 dropped

Mixer = Callable[[int, int], Iterable[np.ndarray]]  # first scene, number of scenes


def main() -> None:
    given = arguments()
    torch.set_num_threads(1)
    tune_allocator()  # as the command line does
    corpus_name, _, folder = (given.data or "synthetic").partition("=")
    corpus = open_corpus(corpus_name, {corpus_name: folder} if folder else {}, CLASSES)
    cache = open_cache(corpus, [clip for clip in corpus.clips if clip.foreground], RATE_HZ)
    settings = PoissonSettings(5.0, SECONDS, (0.5, 4.0), (-30.0, -25.0))
    members = list(range(len(cache.clips)))
    planner = PoissonPlanner(cache.clips, members, CLASSES, settings, cache.content_hash, "train", 0, cache)
    with tempfile.TemporaryDirectory() as folder:
        write_wav(cache, members, Path(folder))
        mixers: dict[str, Mixer] = {
            "sepbench, mixtures": lambda first, n: in_batches(WeakScenes(planner, "frame"), first, n),
            "sepbench, mixtures and sources": lambda first, n: in_batches(IsolatedScenes(planner), first, n),
            "numpy, pyloudnorm on each cut": lambda first, n: plain_numpy(cache, planner.plan(first, n)),
            "scaper, in memory": lambda first, n: with_scaper(Path(folder), cache, planner.plan(first, n)),
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scaper's about clipping: nothing is clipped in memory
            check(mixers)
            seconds = race(mixers, given.scenes, given.rounds)
    report(seconds, given, corpus_name, len(members))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Scenes per second, side by side.")
    parser.add_argument("--data", metavar="NAME=DIR", help="a corpus with the five urban classes; else the synthetic one")
    parser.add_argument("--scenes", type=int, default=40, help="scenes per round, a multiple of 20")
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    if given.scenes < BATCH or given.scenes % BATCH:
        parser.error(f"--scenes {given.scenes}: wanted a multiple of {BATCH}")
    return given


def in_batches(scenes: WeakScenes | IsolatedScenes, first: int, n: int) -> np.ndarray:
    """The last mixtures of n scenes that are mixed as a training loop would ask for them: (BATCH, time)."""
    for index in range(first // BATCH, (first + n) // BATCH):
        mixture = scenes.batch(index, BATCH).mixture
    return mixture.numpy()


def write_wav(cache: ClipCache, members: list[int], folder: Path) -> None:
    """The clips as scaper wants them: foreground/<class>/<clip>.wav, 16 bit, at the scenes' rate."""
    (folder / "background").mkdir()
    for i in members:
        path = wav_of(folder, cache, i)
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, cache.audio(i), RATE_HZ, "PCM_16")


def wav_of(folder: Path, cache: ClipCache, clip: int) -> Path:
    return folder / "foreground" / cache.clips[clip].label / f"{clip}.wav"


def plain_numpy(cache: ClipCache, plan: PoissonPlan) -> np.ndarray:
    """The same mixtures from the same cache, with each cut measured by itself: (scene, time)."""
    mixture = np.zeros((plan.n_scenes, round(SECONDS * RATE_HZ)), np.float32)
    for i, scene in enumerate(plan.scene):
        first, n, to = plan.cut_ms[i] * PER_MS, plan.length_ms[i] * PER_MS, plan.onset_ms[i] * PER_MS
        sound = cache.audio(plan.clip[i], first, first + n)
        meter = pyloudnorm.Meter(RATE_HZ, block_size=min(n / RATE_HZ, 0.4))
        gain = 10 ** ((plan.level_lufs[i] - meter.integrated_loudness(sound)) / 20)
        mixture[scene, to : to + n] += np.float32(gain) * sound
    return mixture


def with_scaper(folder: Path, cache: ClipCache, plan: PoissonPlan) -> list[np.ndarray]:
    """The same events through scaper: nothing is drawn by it and nothing written."""
    mixtures = []
    for scene in range(plan.n_scenes):
        scape = scaper.Scaper(SECONDS, str(folder / "foreground"), str(folder / "background"))
        scape.sr, scape.n_channels, scape.ref_db = RATE_HZ, 1, 0
        scape.fade_in_len = scape.fade_out_len = 0
        for i in np.flatnonzero(plan.scene == scene):
            scape.add_event(
                label=("const", CLASSES[plan.label[i]]),
                source_file=("const", str(wav_of(folder, cache, plan.clip[i]))),
                source_time=("const", plan.cut_ms[i] / 1000),
                event_time=("const", plan.onset_ms[i] / 1000),
                event_duration=("const", plan.length_ms[i] / 1000),
                snr=("const", float(plan.level_lufs[i])),  # above a reference of 0 LUFS: the level itself
                pitch_shift=None,
                time_stretch=None,
            )
        audio, _, _, _ = scape.generate(fix_clipping=False, no_audio=False, disable_instantiation_warnings=True)
        mixtures.append(audio[:, 0])
    return mixtures


def check(mixers: dict[str, Mixer]) -> None:
    """That they mix the same scenes.

    What differs is loudness: pyloudnorm on a cut applies the absolute gate to the cut as it was recorded, we to the cut
    as it will sound; and scaper measures what is shorter than 0.5 s repeated.
    """
    n = BATCH
    ours = np.asarray(mixers["sepbench, mixtures"](0, n))
    for name, tolerance in (("numpy, pyloudnorm on each cut", 0.1), ("scaper, in memory", 0.1)):
        theirs = np.stack(list(mixers[name](0, n)))
        off = float(np.sqrt(((theirs - ours) ** 2).sum() / (ours**2).sum()))
        print(f"{name}: differs from ours by {100 * off:.2f} % (root mean square)")
        if off > tolerance:
            raise SystemExit(f"{name} does not mix the same scenes; the comparison would mean nothing.")


def race(mixers: dict[str, Mixer], n_scenes: int, rounds: int) -> dict[str, list[float]]:
    """Seconds per round of each mixer; every round has scenes that nobody has mixed yet."""
    seconds: dict[str, list[float]] = {name: [] for name in mixers}
    for turn in range(rounds + 1):
        for name, mix in mixers.items():
            n = n_scenes * (1 if "scaper" in name else 5)  # the fast ones would be over before the clock ticks
            began = time.perf_counter()
            mix(turn * n, n)
            seconds[name].append((time.perf_counter() - began) / n)
    for name in mixers:
        seconds[name] = seconds[name][1:]  # the first round reads the clips from disk
    return seconds


def report(seconds: dict[str, list[float]], given: argparse.Namespace, corpus: str, n_clips: int) -> None:
    rates = {name: [1 / each for each in times] for name, times in seconds.items()}
    base = rates["scaper, in memory"]
    print(f"\n{'mixer':34}{'scenes/s':>10}{'slowest':>10}{'fastest':>10}{'x scaper':>10}")
    found = {}
    for name, each in rates.items():
        median = statistics.median(each)
        ratio = statistics.median(ours / theirs for ours, theirs in zip(each, base))  # of the same round
        print(f"{name:34}{median:10.0f}{min(each):10.0f}{max(each):10.0f}{ratio:10.1f}")
        found[name] = {"scenes_per_s": median, "rounds_scenes_per_s": each, "times_scaper": ratio}
    packages = ("sepbench", "scaper", "soxbindings", "pyloudnorm", "numpy", "scipy", "torch", "soundfile")
    facts = {
        "mixers": found, "corpus": corpus, "clips": n_clips, "scene_s": SECONDS, "lambda": 5.0, "threads": 1,
        "scenes_per_round": given.scenes, "rounds": given.rounds,
        "machine": {"cpu": cpu(), "cores": os.cpu_count(), "system": platform.platform(), "load": os.getloadavg()[0]},
        "python": platform.python_version(), "packages": {name: found_version(name) for name in packages},
    }  # fmt: skip
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten to {RESULT}")


def cpu() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def found_version(package: str) -> str | None:
    try:
        return version(package)
    except ModuleNotFoundError:
        return None


if __name__ == "__main__":
    main()
