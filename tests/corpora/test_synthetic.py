"""The built-in corpus: the same everywhere, well formed, varied, and a task that asks for generalising."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from functools import cache

import numpy as np
import pytest

from sepbench.corpora.base import Clip
from sepbench.corpora.synthesis_parts import RATE_HZ, Generator, harmonic, record
from sepbench.corpora.synthetic import FOLDS, MODELS, RECORDINGS, Synthetic
from sepbench.errors import UserError

URBAN = ("car_horn", "dog_bark", "gun_shot", "jackhammer", "siren")


def generator(seed: int) -> Generator:
    return np.random.Generator(np.random.PCG64(seed))


@cache
def sound(clip: Clip) -> np.ndarray:
    audio, rate_hz = Synthetic([clip.label]).audio(clip)
    assert rate_hz == RATE_HZ
    return audio


def some(label: str, n_clips: int) -> list[Clip]:
    """Clips of as many recordings, from all folds in turn."""
    firsts = [clip for clip in Synthetic([label]).clips if clip.key.endswith("-0")]
    return sorted(firsts, key=lambda clip: (clip.recording[-1], clip.fold))[:n_clips]


def features(audio: np.ndarray) -> np.ndarray:
    """Mean and deviation over time of 32 log-spaced bands, in dB below the clip's loudest."""
    n_frames = max(1, (len(audio) - 512) // 256)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(audio, (0, 512)), 512)[::256][:n_frames]
    power = np.abs(np.fft.rfft(frames * np.hanning(512))) ** 2  # (frame, bin)
    edges = np.unique(np.geomspace(2, 257, 33).astype(int))
    bands = 10 * np.log10(np.add.reduceat(power, edges[:-1], axis=1) + 1e-9)
    bands -= bands.max()
    return np.concatenate([bands.mean(axis=0), bands.std(axis=0)])


def centroid_octave(audio: np.ndarray) -> float:
    """Where the middle of the spectrum's power lies, in octaves."""
    power = np.abs(np.fft.rfft(audio)) ** 2
    frequency_hz = np.fft.rfftfreq(len(audio), 1 / RATE_HZ)
    return float(np.log2(np.sum(power * frequency_hz) / np.sum(power)))


def test_two_corpora_give_the_same_clips_and_the_same_bytes_in_any_order() -> None:
    one, other = Synthetic(), Synthetic(list(reversed(MODELS)))
    assert one.clips == other.clips
    chosen = one.clips[::200]
    forward = [one.audio(clip)[0].tobytes() for clip in chosen]
    backward = [other.audio(clip)[0].tobytes() for clip in reversed(chosen)]
    assert forward == backward[::-1]


def test_another_process_with_another_hash_seed_makes_the_same_bytes() -> None:
    program = (
        "import hashlib; from sepbench.corpora.synthetic import Synthetic; c = Synthetic(['siren']);"
        "print(hashlib.sha256(c.audio(c.clips[0])[0].tobytes()).hexdigest(), c.fingerprint(c.clips[0]))"
    )
    env = {**os.environ, "PYTHONHASHSEED": "7"}
    said = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True).stdout
    corpus = Synthetic(["siren"])
    clip = corpus.clips[0]
    assert said.split() == [hashlib.sha256(sound(clip).tobytes()).hexdigest(), corpus.fingerprint(clip)]


def test_every_class_and_fold_has_its_recordings_and_no_recording_is_in_two_folds_or_classes() -> None:
    clips = Synthetic().clips
    assert [clip.key for clip in clips] == sorted({clip.key for clip in clips})
    homes = {(clip.recording, clip.fold, clip.label) for clip in clips}
    assert len({recording for recording, _, _ in homes}) == len(homes)
    per_home = Counter((label, fold) for _, fold, label in homes)
    assert per_home == {(label, fold): RECORDINGS for label in MODELS for fold in FOLDS}
    assert set(Counter(clip.recording for clip in clips).values()) == {2, 3}


def test_no_two_clips_share_a_fingerprint_or_their_sound() -> None:
    corpus = Synthetic()
    assert len({corpus.fingerprint(clip) for clip in corpus.clips}) == len(corpus.clips)
    takes = [clip for clip in corpus.clips if clip.recording in ("fold1/dog_bark-0", "fold2/dog_bark-0")]
    starts = {sound(clip)[:4000].tobytes() for clip in takes}
    assert len(takes) >= 4 and len(starts) == len(takes)


@pytest.mark.parametrize("label", MODELS)
def test_sounds_are_finite_audible_as_long_as_promised_and_within_full_scale(label: str) -> None:
    _, shortest_s, longest_s = MODELS[label]
    for clip in some(label, 12):
        audio = sound(clip)
        assert audio.dtype == np.float32 and audio.ndim == 1
        assert np.isfinite(audio).all()
        assert abs(len(audio) - clip.seconds * RATE_HZ) < 1e-6
        assert shortest_s <= clip.seconds <= longest_s
        assert 0.1 <= np.abs(audio).max() <= 0.9
        assert np.sqrt(np.mean(audio**2)) > 1e-3
        assert abs(audio.mean()) < 0.01


@pytest.mark.parametrize("label", MODELS)
def test_what_a_recording_fixes_does_not_depend_on_the_take(label: str) -> None:
    """Whatever the take and its length, a model draws as much from the recording: the next draw is the same."""
    model, shortest_s, longest_s = MODELS[label]
    next_draws = set()
    for take, seconds in ((1, shortest_s), (2, longest_s), (3, longest_s)):
        source, place = generator(11), generator(12)
        dry = model(source, generator(take), round(seconds * RATE_HZ))
        record(dry, place, generator(take))
        next_draws.add((source.random(), place.random()))
    assert len(next_draws) == 1


@pytest.mark.parametrize("label", MODELS)
def test_recordings_of_a_class_differ_widely(label: str) -> None:
    """The middle of the spectrum spreads by a third of an octave or more (one deviation) over recordings."""
    octaves = [centroid_octave(sound(clip)) for clip in some(label, 12)]
    assert np.std(octaves) > 0.33


@pytest.mark.parametrize("label", URBAN)
def test_takes_of_a_recording_are_more_alike_than_recordings(label: str) -> None:
    clips = [clip for clip in Synthetic([label]).clips if clip.fold == 1]
    table = {clip.key: features(sound(clip)) for clip in clips}
    same, other = [], []
    for one in clips:
        for two in clips:
            if one.key < two.key:
                distance = float(np.linalg.norm(table[one.key] - table[two.key]))
                (same if one.recording == two.recording else other).append(distance)
    assert np.mean(same) < 0.8 * np.mean(other)


def accuracy(train: list[Clip], test: list[Clip]) -> float:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    model.fit([features(sound(clip)) for clip in train], [clip.label for clip in train])
    return float(model.score([features(sound(clip)) for clip in test], [clip.label for clip in test]))


def test_classes_can_be_told_apart_by_whoever_has_heard_enough_recordings_and_not_from_one() -> None:
    """Chance is 0.2. Eighteen recordings a class carry over to a new fold; one a class falls clearly short of them."""
    clips = Synthetic(URBAN).clips
    test = [clip for clip in clips if clip.fold == 9]
    many = accuracy([clip for clip in clips if clip.fold <= 3], test)
    single = [
        accuracy([clip for clip in clips if clip.fold == 1 and clip.recording.endswith(f"-{number}")], test)
        for number in range(RECORDINGS)
    ]
    assert many > 0.6
    assert max(single) < 0.65
    assert np.mean(single) < many - 0.15


def test_partials_near_the_top_are_left_out_instead_of_folding_back() -> None:
    """A tone of 3 kHz with five partials holds 3 and 6 kHz and nothing at the mirror images 7, 4 and 1 kHz."""
    spectrum = np.abs(np.fft.rfft(harmonic(np.full(RATE_HZ, 3000.0), np.ones(5)))) / (RATE_HZ / 2)  # a bin is 1 Hz
    assert spectrum[[3000, 6000]] == pytest.approx([1.0, 1.0], abs=1e-6)
    assert spectrum[[1000, 4000, 7000]] == pytest.approx([0.0, 0.0, 0.0], abs=1e-6)


def test_a_corpus_holds_only_the_classes_asked_for() -> None:
    assert {clip.label for clip in Synthetic(["siren", "rain"]).clips} == {"siren", "rain"}


def test_an_unknown_class_is_named_with_the_nearest_one() -> None:
    with pytest.raises(UserError, match=r"^synthetic: no class 'sirene'\. Did you mean 'siren'\? Choose among .+\.$"):
        Synthetic(["car_horn", "sirene"])
