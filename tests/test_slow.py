"""What reads or draws too much for every day: whole corpora, many scenes, whole runs. `pytest -m slow`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyloudnorm
import pytest
from scipy import stats

from sepbench.corpora.cache import open_cache
from sepbench.corpora.synthetic import FOLDS, MODELS, Synthetic
from sepbench.corpora.urbansound8k import UrbanSound8K
from sepbench.corpora.verify import verify
from sepbench.mixing.poisson import PoissonPlanner, PoissonSettings
from sepbench.priors import HOP_S, label_statistics

pytestmark = pytest.mark.slow

CLASSES = ("car_horn", "dog_bark", "gun_shot", "jackhammer", "siren")
RATE_HZ, N_SCENES = 16000, 20_000
PER_MS = RATE_HZ // 1000


def settings(rate: float) -> PoissonSettings:
    return PoissonSettings(rate, 4.0, (0.5, 4.0), (-30.0, -25.0))


# corpora


@pytest.mark.parametrize("label", sorted(MODELS))
def test_every_synthetic_clip_is_finite_and_sounds_and_is_as_long_as_it_says(label: str):
    corpus = Synthetic([label])
    assert {clip.fold for clip in corpus.clips} == set(FOLDS)
    for clip in corpus.clips:
        audio, rate = corpus.audio(clip)
        assert rate == RATE_HZ and len(audio) == round(clip.seconds * rate), clip.key
        assert np.isfinite(audio).all() and 0.1 <= np.abs(audio).max() <= 0.9, clip.key
        assert np.sqrt(np.mean(audio.astype(np.float64) ** 2)) > 1e-3, clip.key


def test_every_clip_of_urbansound8k_can_be_used(shared: Path):
    corpus = UrbanSound8K(shared / "data" / "UrbanSound8K")
    assert len(corpus.clips) > 800 and verify(corpus) == []


# the mixer


@pytest.mark.parametrize("rate", [5.0, 10.0])
def test_how_often_each_synthetic_class_sounds_is_what_theory_says(rate: float):
    """Durations alone. A Poisson number of events, one class in five: each class has its own Poisson number of them.

    So, had the zero not been cut off, a class would be absent with exp(-rate / 5), independently of the others.
    """
    clips = Synthetic(CLASSES).clips
    planner = PoissonPlanner(clips, range(len(clips)), CLASSES, settings(rate), "durations", "train", 0)
    found = label_statistics(planner, N_SCENES)
    kept = 1 - np.exp(-rate)  # the share of scenes with an event
    chance = stats.binom.pmf(np.arange(6), 5, 1 - np.exp(-rate / 5))
    wanted = np.where(np.arange(6) == 0, 0, chance / kept)  # of scenes with so many classes
    per_clip = np.array(list(found["sources_per_clip"].values()))
    assert per_clip[0] == 0 and per_clip.sum() == pytest.approx(1)
    assert stats.chisquare(per_clip[1:] * N_SCENES, wanted[1:] / wanted.sum() * N_SCENES).pvalue > 1e-4
    per_frame = np.array(list(found["sources_per_frame"].values()))
    assert per_frame.sum() == pytest.approx(1)
    assert per_frame @ np.arange(6) == pytest.approx(sum(found["activity_prior"].values()))
    for label, name in enumerate(CLASSES):
        assert found["activity_prior"][name] == pytest.approx(_prior(planner, label, rate), abs=0.01), name


def _prior(planner: PoissonPlanner, label: int, rate: float) -> float:
    """The share of frames in which the class sounds, integrated over clip, length and onset.

    An event of length L covers the frame at t with the share of onsets, uniform in 0 to T - L, that lie in t - L to t.
    """
    frames = np.linspace(0, 4.0, 501)[:, None]
    uniform = 0.5 + 3.5 * (np.arange(400) + 0.5) / 400
    covered = np.zeros((501, 1))
    own = planner.members.of(label)
    for clip in own:
        length = np.minimum(np.minimum(planner.clip_ms[clip] / 1000, uniform), 4.0)
        latest = np.maximum(4.0 - length, 1e-3)
        reach = length + HOP_S  # a frame is active where an event overlaps its centre +- half a hop
        low, high = frames + HOP_S / 2 - reach, frames + HOP_S / 2
        share = (np.clip(high, 0, latest) - np.clip(low, 0, latest)) / latest
        covered += np.clip(share, 0, 1).mean(1, keepdims=True)
    silent = np.exp(-rate / 5 * covered / len(own))
    return float(((1 - silent) / (1 - np.exp(-rate))).mean())


def test_2000_real_events_are_as_loud_as_drawn(shared: Path, tmp_path: Path):
    corpus = UrbanSound8K(shared / "data" / "UrbanSound8K", CLASSES)
    cache = open_cache(corpus, corpus.clips, RATE_HZ, tmp_path)
    own = range(len(cache.clips))
    plan = PoissonPlanner(cache.clips, own, CLASSES, settings(5.0), cache.content_hash, "test", 0, cache).plan(0, 500)
    assert len(plan.clip) >= 2000
    meters: dict[float, Any] = {}
    for clip, cut, length, level, gain in zip(plan.clip, plan.cut_ms, plan.length_ms, plan.level_lufs, plan.gain):
        audio = gain * cache.audio(clip, cut * PER_MS, (cut + length) * PER_MS).astype(np.float64)
        block_s = min(length / 1000, 0.4)  # of less than a block, one as long as the event
        meter = meters.setdefault(block_s, pyloudnorm.Meter(RATE_HZ, block_size=block_s))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that samples exceed full scale
            assert meter.integrated_loudness(audio) == pytest.approx(level, abs=0.1), cache.clips[clip].key


# whole runs


def figures_of(repo: Path, folder: Path, recipe: str) -> dict[str, Any]:
    """metrics.json of a quick run, started as a person would start it."""
    code = "from sepbench.cli import main; main(prog_name='sepbench')"
    environment = {**os.environ, "PYTHONPATH": str(repo / "benchmark"), "SEPBENCH_CACHE": str(folder / "cache")}
    command = [sys.executable, "-c", code, "run", recipe, "--results", str(folder / "runs"), "--threads", "1"]
    done = subprocess.run(command, cwd=repo, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "SYNTHETIC" in done.stdout
    (path,) = (folder / "runs").glob("*/metrics.json")
    return json.loads(path.read_text())["test"]


def test_a_run_of_the_mixture_scores_exactly_0(repo: Path, tmp_path: Path):
    found = figures_of(repo, tmp_path, "baselines/mixture")["si_sdri"]
    everything = [found["all"], *found["class"].values()]
    assert found["all"]["n"] > 100 and len(everything) == 6
    assert all(figures[name] == 0 for figures in everything for name in ("mean", "median", "std"))


def test_a_run_of_the_ideal_ratio_mask_stands_well_above_10_db(repo: Path, tmp_path: Path):
    found = figures_of(repo, tmp_path, "baselines/ideal_mask")
    assert found["si_sdri"]["all"]["mean"] > 12 and found["si_sdri"]["all"]["ci95"][0] > 11
    assert min(figures["mean"] for figures in found["si_sdri"]["class"].values()) > 8
    gained = found["si_sdr"]["all"]["mean"] - found["si_sdr_mixture"]["all"]["mean"]
    assert gained == pytest.approx(found["si_sdri"]["all"]["mean"], abs=1e-6)
