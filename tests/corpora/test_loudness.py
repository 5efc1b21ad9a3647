"""Loudness: laws first, then pyloudnorm's opinion."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from sepbench.corpora.loudness import (
    START_UP_MS,
    cut_loudness_lufs,
    k_weighted_energy_prefix,
    loudness_lufs,
)

RATES = [8000, 16000, 22050, 44100, 48000]


def noise(seconds: float, rate: int, seed: int = 0) -> np.ndarray:
    """Noise whose level swells, so that the relative gate has something to do."""
    time_s = np.arange(int(seconds * rate)) / rate
    return np.random.default_rng(seed).standard_normal(len(time_s)) * 0.1 * np.abs(np.sin(2 * time_s))


def sine(frequency_hz: float, seconds: float, rate: int) -> np.ndarray:
    return np.sin(2 * np.pi * frequency_hz * np.arange(int(seconds * rate)) / rate)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("seconds", [0.4, 0.46, 0.5, 1.337, 3.0])
def test_loudness_agrees_with_pyloudnorm(rate: int, seconds: float) -> None:
    pyloudnorm = pytest.importorskip("pyloudnorm")
    for signal in (noise(seconds, rate), sine(997, seconds, rate), sine(3000, seconds, rate), sine(60, seconds, rate)):
        assert loudness_lufs(signal, rate) == pytest.approx(
            pyloudnorm.Meter(rate).integrated_loudness(signal), abs=1e-3
        )


def test_a_full_scale_sine_of_997_hz_reads_as_the_standard_says() -> None:
    assert loudness_lufs(sine(997, 3, 48000), 48000) == pytest.approx(-3.01, abs=0.05)


def test_near_full_scale_is_not_clamped() -> None:
    loud = sine(3000, 2, 16000)
    assert loudness_lufs(loud, 16000) == pytest.approx(loudness_lufs(loud / 4, 16000) + 20 * math.log10(4), abs=1e-9)


@pytest.mark.parametrize("seconds", [0.05, 0.3, 2.0])
def test_gain_moves_loudness_by_its_decibels(seconds: float) -> None:
    signal = noise(seconds, 16000) + 0.01
    assert loudness_lufs(signal * 0.1, 16000) == pytest.approx(loudness_lufs(signal, 16000) - 20, abs=1e-9)


def test_silence_and_whispers_below_the_gate_have_no_loudness() -> None:
    for seconds in (0.0, 0.1, 2.0):
        n = int(16000 * seconds)
        assert loudness_lufs(np.zeros(n), 16000) == -math.inf
        assert loudness_lufs(noise(seconds, 16000) * 1e-4, 16000) == -math.inf


def test_below_one_block_repeating_the_event_changes_little() -> None:
    tone = sine(1000, 0.1, 16000)  # a whole number of periods
    assert loudness_lufs(tone, 16000) == pytest.approx(loudness_lufs(np.tile(tone, 30), 16000), abs=0.05)


def test_silence_around_a_long_event_is_gated_away() -> None:
    signal = noise(3, 16000, 1) + 0.1 * np.random.default_rng(2).standard_normal(48000)
    padded = np.concatenate([signal, np.zeros(16000 * 20)])
    assert loudness_lufs(padded, 16000) == pytest.approx(loudness_lufs(signal, 16000), abs=0.4)


@pytest.mark.parametrize("rate", [8000, 16000, 32000, 48000])
def test_prefix_sums_add_up_to_the_energy_of_the_weighted_signal(rate: int) -> None:
    prefix = k_weighted_energy_prefix(noise(1.2345, rate), rate)
    assert prefix[0] == 0 and len(prefix) == int(1.2345 * rate) // (rate // 1000) + 1
    assert (np.diff(prefix) >= 0).all()


@pytest.mark.parametrize("rate", RATES)
def test_a_cut_reads_as_if_it_had_been_measured_alone(rate: int) -> None:
    """Even where it goes through an offset and a loud low tone, which the clip's own prefix sums know nothing of."""
    rng, step = np.random.default_rng(3), rate // 1000
    hard = 0.02 * noise(4, rate) + 0.5 + 0.3 * sine(20, 4, rate)
    for clip in (noise(4, rate), hard):
        prefix = k_weighted_energy_prefix(clip, rate)
        for length in (5, 40, 64, 100, 399, 460, 1234, 3000):
            start = int(rng.integers(1, len(prefix) - length))
            cut = clip[start * step : (start + length) * step]
            read = cut_loudness_lufs(prefix, start, start + length, rate, cut[: START_UP_MS * step])
            # where a millisecond is no whole number of samples, block edges are off by up to half a grid point
            close = 1e-4 if rate % 1000 == 0 else 0.06
            assert read == pytest.approx(loudness_lufs(cut, rate), abs=close)


def test_without_its_head_a_cut_through_an_offset_reads_far_off() -> None:
    clip = 0.01 * noise(2, 16000) + 0.5
    prefix = k_weighted_energy_prefix(clip, 16000)
    assert abs(cut_loudness_lufs(prefix, 700, 1500, 16000) - loudness_lufs(clip[11200:24000], 16000)) > 3


def test_a_cut_of_stationary_noise_needs_no_head() -> None:
    clip = np.random.default_rng(4).standard_normal(64000) * 0.1
    prefix = k_weighted_energy_prefix(clip, 16000)
    for start, stop in ((10, 300), (500, 2500), (1, 3999)):
        alone = loudness_lufs(clip[start * 16 : stop * 16], 16000)
        assert cut_loudness_lufs(prefix, start, stop, 16000) == pytest.approx(alone, abs=0.1)


def test_cuts_of_real_recordings_read_within_a_tenth_of_a_decibel(shared: Path, tmp_path: Path) -> None:
    from sepbench.corpora.cache import open_cache
    from sepbench.corpora.urbansound8k import UrbanSound8K

    corpus = UrbanSound8K(shared / "data" / "UrbanSound8K", ["gun_shot", "dog_bark"])
    cache = open_cache(corpus, [clip for clip in corpus.clips if clip.foreground][::3], 16000, tmp_path)
    rng = np.random.default_rng(5)
    for index in rng.integers(len(cache.clips), size=300):
        whole = int(cache.length[index]) // 16
        length = min(whole, int(rng.uniform(500, 4000)))
        start = int(rng.integers(whole - length + 1))
        alone = loudness_lufs(cache.audio(index, start * 16, (start + length) * 16), 16000)
        assert cache.loudness_lufs(index, start, start + length) == pytest.approx(alone, abs=0.01)
