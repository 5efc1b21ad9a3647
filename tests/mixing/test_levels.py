"""Each cut, turned up, sounds as loud as was drawn for it: pyloudnorm says so, which measures cut after cut."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pyloudnorm
import pytest

from sepbench.corpora.base import Clip
from sepbench.corpora.cache import ClipCache, open_cache
from sepbench.corpora.synthetic import Synthetic
from sepbench.corpora.urbansound8k import UrbanSound8K
from sepbench.mixing.levels import gains

RATE_HZ = 16000
PER_MS = RATE_HZ // 1000
TOLERANCE_DB = 0.1


class Invented:
    """Signals by name, as a corpus."""

    name, licence, home, citation = "invented", "", "", ""

    def __init__(self, **signals: np.ndarray):
        self.signals = signals
        self.clips = tuple(Clip(name, "any", 1, name, len(audio) / RATE_HZ) for name, audio in sorted(signals.items()))

    def audio(self, clip: Clip) -> tuple[np.ndarray, int]:
        return self.signals[clip.key].astype(np.float32), RATE_HZ

    def fingerprint(self, clip: Clip) -> str:
        return clip.key


def measured_lufs(audio: np.ndarray) -> float:
    """What pyloudnorm says; of less than a block, in one block as long as the signal."""
    seconds = len(audio) / RATE_HZ
    meter = pyloudnorm.Meter(RATE_HZ, block_size=min(seconds, 0.4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # says that silence has no loudness, which is what we ask
        return float(meter.integrated_loudness(audio.astype(np.float64)))


def cuts(cache: ClipCache, clip: np.ndarray, longest_ms: int, seed: int) -> tuple[np.ndarray, ...]:
    """One cut of each clip in `clip`, anywhere in it, 1 ms to `longest_ms` long, and a level for it."""
    random = np.random.default_rng(seed)
    clip_ms = np.asarray(cache.length)[clip] // PER_MS
    length = np.minimum(np.ceil(random.random(len(clip)) * longest_ms).astype(np.int64), clip_ms)
    start = (random.random(len(clip)) * (clip_ms - length + 1)).astype(np.int64)
    return clip, start, length, random.uniform(-30, -25, len(clip))


def sound(cache: ClipCache, clip: int, start_ms: int, length_ms: int, gain: float) -> np.ndarray:
    return cache.audio(clip, start_ms * PER_MS, (start_ms + length_ms) * PER_MS).astype(np.float64) * gain


def errors_db(cache: ClipCache, cut: tuple[np.ndarray, ...]) -> np.ndarray:
    """How far each cut that can be brought to its level is from it. The others have no loudness at all."""
    gain, (clip, start, length, level) = gains(cache, *cut), cut
    able = np.flatnonzero(np.isfinite(gain))
    assert len(able) > 0.8 * len(gain)
    for i in np.flatnonzero(~np.isfinite(gain)):
        assert measured_lufs(sound(cache, clip[i], start[i], length[i], 1.0)) == -np.inf
    return np.array([measured_lufs(sound(cache, clip[i], start[i], length[i], gain[i])) - level[i] for i in able])


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> ClipCache:
    corpus = Synthetic(["car_horn", "dog_bark", "gun_shot", "jackhammer", "siren"])
    return open_cache(corpus, corpus.clips[::12], RATE_HZ, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def urban(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> ClipCache:
    corpus = UrbanSound8K(shared / "data" / "UrbanSound8K", ["car_horn", "dog_bark", "gun_shot", "jackhammer", "siren"])
    clips = [clip for i, clip in enumerate(corpus.clips) if clip.label == "gun_shot" or i % 4 == 0]
    return open_cache(corpus, clips, RATE_HZ, tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize(("longest_ms", "seed"), [(4000, 0), (400, 1)])
def test_synthetic_events_are_as_loud_as_drawn(synthetic: ClipCache, longest_ms: int, seed: int):
    clip = np.tile(np.arange(len(synthetic.clips)), 4)
    assert np.abs(errors_db(synthetic, cuts(synthetic, clip, longest_ms, seed))).max() < TOLERANCE_DB


@pytest.mark.parametrize(("longest_ms", "seed"), [(4000, 2), (400, 3)])
def test_real_events_are_as_loud_as_drawn(urban: ClipCache, longest_ms: int, seed: int):
    clip = np.tile(np.arange(len(urban.clips)), 2)
    assert np.abs(errors_db(urban, cuts(urban, clip, longest_ms, seed))).max() < TOLERANCE_DB


def test_cuts_through_the_low_tails_of_gun_shots_are_as_loud_as_drawn(urban: ClipCache):
    clip = np.tile([i for i, each in enumerate(urban.clips) if each.label == "gun_shot"], 4)
    assert len(clip) > 200
    assert np.abs(errors_db(urban, cuts(urban, clip, 800, 4))).max() < TOLERANCE_DB


def time_s(seconds: float) -> np.ndarray:
    return np.arange(round(seconds * RATE_HZ)) / RATE_HZ


@pytest.fixture(scope="module")
def invented(tmp_path_factory: pytest.TempPathFactory) -> ClipCache:
    noise = np.random.default_rng(5).standard_normal(4 * RATE_HZ)
    t = time_s(4)
    corpus = Invented(
        bang=np.where(t > 3.95, 0.3, 1e-3) * noise,  # quiet until the last 50 ms
        fading=0.3 * 10 ** (-t) * noise,  # 80 dB down at the end: the gates have work to do
        offset=0.9 + 1e-3 * noise,
        rumble=0.9 * np.sin(2 * np.pi * 8 * t) + 1e-3 * noise,
        silence=np.zeros(len(t)),
        whisper=np.where((t > 1) & (t < 3), 1e-7, 0.1) * noise,  # below -70 LUFS, once turned up by any sane gain
    )
    return open_cache(corpus, corpus.clips, RATE_HZ, tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize("name", ["bang", "fading", "offset", "rumble", "whisper"])
@pytest.mark.parametrize("longest_ms", [350, 4000])
def test_no_signal_is_too_nasty(invented: ClipCache, name: str, longest_ms: int):
    clip = np.full(60, [each.key for each in invented.clips].index(name))
    _, start, length, level = cuts(invented, clip, longest_ms, 6)
    gain = gains(invented, clip, start, length, level)
    sounding = np.flatnonzero(np.isfinite(gain) & (gain < 1e4))  # further up, the rounding to 16 bits is what sounds
    assert len(sounding) > 20
    found = [measured_lufs(sound(invented, clip[i], start[i], length[i], gain[i])) - level[i] for i in sounding]
    assert np.abs(found).max() < TOLERANCE_DB


def test_silence_cannot_be_turned_up(invented: ClipCache):
    clip = np.full(3, [each.key for each in invented.clips].index("silence"))
    gain = gains(invented, clip, np.array([0, 5, 1000]), np.array([100, 400, 3000]), np.full(3, -27.0))
    assert np.isinf(gain).all()


def test_more_level_is_as_much_more_gain(synthetic: ClipCache):
    clip, start, length, level = cuts(synthetic, np.arange(len(synthetic.clips)), 390, 7)  # shorter than any gate
    ratio = gains(synthetic, clip, start, length, level + 6) / gains(synthetic, clip, start, length, level)
    np.testing.assert_allclose(20 * np.log10(ratio), 6, atol=1e-9)


def test_a_steady_tone_needs_what_the_formula_says(tmp_path: Path):
    """BS.1770 reads a full-scale 997 Hz sine as -3.01 LUFS, to the 0.1 dB by which its filter differs at 16 kHz."""
    corpus = Invented(tone=0.5 * np.sin(2 * np.pi * 997 * time_s(2)))
    cache = open_cache(corpus, corpus.clips, RATE_HZ, tmp_path)
    gain = gains(cache, np.zeros(1, np.int64), np.array([200]), np.array([1500]), np.array([-25.0]))
    assert 20 * math.log10(gain[0]) == pytest.approx(-25.0 + 3.01 + 6.02, abs=0.15)


def test_what_is_played_does_not_depend_on_the_other_cuts(synthetic: ClipCache):
    clip, start, length, level = cuts(synthetic, np.arange(len(synthetic.clips)), 4000, 8)
    together = gains(synthetic, clip, start, length, level)
    alone = [gains(synthetic, *(each[i : i + 1] for each in (clip, start, length, level)))[0] for i in range(len(clip))]
    np.testing.assert_array_equal(together.astype(np.float32), np.array(alone, np.float32))


def test_no_cuts_need_no_gains(synthetic: ClipCache):
    none = np.zeros(0, np.int64)
    assert gains(synthetic, none, none, none, none.astype(float)).shape == (0,)
