"""The laws of pairs of any sounds: recordings are drawn alike, and each sounds at a level of its own."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from sepbench.corpora.base import Clip, sorted_clips
from sepbench.corpora.cache import FULL, ClipCache, open_cache
from sepbench.errors import UserError
from sepbench.mixing.pairs import PairsPlanner, PairsSettings
from sepbench.mixing.scenes import IsolatedScenes, WeakScenes

RATE_HZ = 8000
SECONDS, N = 0.25, 2000
CLASSES = ("cat", "dog", "hen")
TWO = PairsSettings((2, 2), SECONDS, "recording", (-28.0, -22.0), 0.05)
SURE = 1e-4  # a law that holds fails such a test once in so many; seeds are fixed, so it either does or never will


class MadeUp:
    """A corpus of the given sounds: "class/recording/clip" -> (time,)."""

    name, licence, home, citation = "made_up", "", "", ""

    def __init__(self, sounds: dict[str, np.ndarray]):
        self.sounds = sounds
        self.clips = sorted_clips(
            Clip(key, key.split("/")[0], 1, key.split("/")[1], len(audio) / RATE_HZ) for key, audio in sounds.items()
        )

    def audio(self, clip: Clip) -> tuple[np.ndarray, int]:
        return self.sounds[clip.key].astype(np.float32), RATE_HZ

    def fingerprint(self, clip: Clip) -> str:
        return hashlib.blake2b(self.sounds[clip.key].tobytes()).hexdigest()


def noise(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.3, 0.3, n)


def cache_of(folder: Path, sounds: dict[str, np.ndarray]) -> ClipCache:
    return open_cache(MadeUp(sounds), MadeUp(sounds).clips, RATE_HZ, folder)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> ClipCache:
    """Five recordings: a cat's with ten clips, another cat's, two of dogs, and one that holds a dog and a hen."""
    cuts = {"cat/a": 10, "cat/b": 1, "dog/c": 3, "dog/d": 2, "dog/e": 1, "hen/e": 2}
    keys = [f"{name}/{i}" for name, n in cuts.items() for i in range(n)]
    lengths = itertools.cycle((6000, 1200, N, 9000))
    sounds = {key: noise(i, n) * 2.0 ** -(i % 5) for i, (key, n) in enumerate(zip(keys, lengths))}
    return cache_of(tmp_path_factory.mktemp("cache"), sounds)


def planner_of(cache: ClipCache, classes=CLASSES, split="test", seed=0, members=None, **settings) -> PairsPlanner:
    mine = dataclasses.replace(TWO, **settings)
    members = range(len(cache.clips)) if members is None else members
    return PairsPlanner(cache.clips, members, classes, mine, cache.content_hash, split, seed, cache)


def recordings_of(cache: ClipCache, clip: np.ndarray) -> np.ndarray:
    return np.array([each.recording for each in cache.clips])[clip]


# what is drawn


def test_a_recording_of_ten_clips_comes_no_more_often_than_one_of_one(cache: ClipCache):
    drawn = recordings_of(cache, planner_of(cache).plan(0, 8000).clip)
    counts = np.unique(drawn, return_counts=True)[1]
    assert len(counts) == 5 and stats.chisquare(counts).pvalue > SURE


def test_all_pairs_of_recordings_are_equally_likely_and_none_is_of_one_recording(cache: ClipCache):
    drawn = recordings_of(cache, planner_of(cache).plan(0, 8000).clip)
    pairs, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(pairs) == 20 and stats.chisquare(counts).pvalue > SURE  # 5 * 4, in order
    assert (pairs[:, 0] != pairs[:, 1]).all()


def test_clips_of_a_recording_are_equally_likely(cache: ClipCache):
    plan = planner_of(cache).plan(0, 8000)
    for recording in "acde":
        counts = np.unique(plan.clip[recordings_of(cache, plan.clip) == recording], return_counts=True)[1]
        assert len(counts) > 1 and stats.chisquare(counts).pvalue > SURE


def test_labels_are_those_of_the_clips_and_two_sources_may_share_one(cache: ClipCache):
    plan = planner_of(cache).plan(0, 400)
    assert all(cache.clips[clip].label == CLASSES[label] for clip, label in zip(plan.clip.flat, plan.label.flat))
    assert {True, False} == set((plan.label[:, 0] == plan.label[:, 1]).tolist())


def test_by_class_the_classes_are_equally_likely_and_then_their_recordings(cache: ClipCache):
    plan = planner_of(cache, draw="class", n_sources=(1, 1)).plan(0, 8000)
    assert stats.chisquare(np.bincount(plan.label.ravel(), minlength=3)).pvalue > SURE
    drawn = recordings_of(cache, plan.clip[:, 0])
    for label, n in enumerate((2, 3, 1)):
        counts = np.unique(drawn[plan.label[:, 0] == label], return_counts=True)[1]
        assert len(counts) == n and (n == 1 or stats.chisquare(counts).pvalue > SURE)


def test_by_class_a_pair_is_of_two_recordings_too(cache: ClipCache):
    drawn = recordings_of(cache, planner_of(cache, draw="class", n_sources=(4, 4)).plan(0, 500).clip)
    assert all(len(set(row)) == 4 for row in drawn)


@pytest.mark.parametrize("draw", ["recording", "class"])
def test_classes_without_clips_are_passed_over(cache: ClipCache, draw: str):
    own = [i for i, clip in enumerate(cache.clips) if clip.label != "dog"]
    plan = planner_of(cache, members=own, draw=draw).plan(0, 300)
    assert set(plan.label.ravel()) == {0, 2}


def test_a_scene_may_hold_every_recording_once(cache: ClipCache):
    drawn = recordings_of(cache, planner_of(cache, n_sources=(5, 5)).plan(0, 6000).clip)
    orders, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(orders) == 120 and stats.chisquare(counts).pvalue > SURE


def test_any_number_of_sources_is_as_likely_as_any_other(cache: ClipCache):
    sounding = planner_of(cache, n_sources=(0, 3)).plan(0, 8000).label >= 0
    assert stats.chisquare(np.bincount(sounding.sum(1), minlength=4)).pvalue > SURE
    assert (np.diff(sounding.astype(int), axis=1) <= 0).all()  # slots that stay empty come last


def test_crops_lie_inside_and_short_clips_anywhere_in_silence(cache: ClipCache):
    plan = planner_of(cache).plan(0, 20000)
    spare = np.asarray(cache.length)[plan.clip] - N
    assert ((plan.start >= 0) & (plan.start <= np.maximum(spare, 0))).all()
    short = plan.onset[spare == -800]
    assert short.min() == 0 and short.max() == 800 and not plan.onset[spare >= 0].any()
    assert (plan.length[spare == -800] == 1200).all() and (plan.length[spare >= 0] == N).all()
    for place in (plan.start[spare == 4000] / 4001, short / 801):
        assert stats.kstest(place, "uniform").pvalue > SURE


# what sounds


@pytest.mark.parametrize("n_sources", [(1, 1), (2, 2), (3, 3), (4, 4), (0, 5)])
def test_sources_sum_to_the_mixture(cache: ClipCache, n_sources: tuple[int, int]):
    batch = IsolatedScenes(planner_of(cache, n_sources=n_sources)).batch(0, 60)
    assert batch.sources.shape == (60, n_sources[1], N)
    assert (batch.sources.sum(1) - batch.mixture).abs().max() < 1e-6
    silent = torch.from_numpy(batch.labels < 0)
    assert not batch.sources[silent].any() and batch.sources[~silent].abs().amax(1).min() > 0


def test_each_source_has_a_level_of_its_own_where_it_lies(cache: ClipCache):
    planner = planner_of(cache)
    plan, sources = planner.plan(0, 2000), IsolatedScenes(planner).batch(0, 2000).sources.numpy()
    power = (sources.astype(np.float64) ** 2).sum(
        -1
    ) / plan.length  # the samples where it lies, silence around it aside
    level_dbfs = 10 * np.log10(power)
    assert level_dbfs.min() >= -28.001 and level_dbfs.max() <= -21.999
    assert stats.kstest((level_dbfs.ravel() + 28) / 6, "uniform").pvalue > SURE
    assert abs(np.corrcoef(level_dbfs.T)[0, 1]) < 0.1


def test_what_is_too_loud_is_scaled_together(cache: ClipCache):
    quiet, loud = (IsolatedScenes(planner_of(cache, level_dbfs=(level, level))).batch(0, 60) for level in (-40.0, 0.0))
    assert loud.mixture.abs().max() <= 1 + 1e-6 and quiet.mixture.abs().max() < 0.5
    assert (loud.sources.sum(1) - loud.mixture).abs().max() < 1e-6
    too_loud = torch.isclose(loud.mixture.abs().amax(1), torch.tensor(1.0), atol=1e-5)
    assert too_loud.float().mean() > 0.9
    ratio = [(batch.sources[:, 0] ** 2).sum(-1) / (batch.sources[:, 1] ** 2).sum(-1) for batch in (quiet, loud)]
    crops = [planner_of(cache, level_dbfs=(level, level)).plan(0, 60).length for level in (-40.0, 0.0)]
    torch.testing.assert_close(ratio[1], torch.from_numpy(crops[1][:, 0] / crops[1][:, 1]).float(), rtol=1e-3, atol=0)
    torch.testing.assert_close(ratio[0], torch.from_numpy(crops[0][:, 0] / crops[0][:, 1]).float(), rtol=1e-3, atol=0)


def test_a_scene_says_what_sounds_when(cache: ClipCache):
    planner = planner_of(cache, n_sources=(0, 3))
    plan = planner.plan(0, 30)
    for index in range(30):
        scene = IsolatedScenes(planner).scene(index)
        slots = np.flatnonzero(plan.label[index] >= 0)
        assert [source.label for source in scene.sources] == [CLASSES[plan.label[index, slot]] for slot in slots]
        for source, slot in zip(scene.sources, slots):
            (on_s, off_s), heard = source.intervals_s[0], np.flatnonzero(source.audio.numpy())
            assert round(on_s * RATE_HZ) == plan.onset[index, slot] <= heard[0]
            assert round((off_s - on_s) * RATE_HZ) == plan.length[index, slot] and heard[-1] < round(off_s * RATE_HZ)


def test_a_crop_too_quiet_is_drawn_again_and_what_is_never_loud_is_no_source(tmp_path: Path):
    half = noise(0, 8000)
    half[:6000] = 1e-4  # three quarters of it are next to nothing
    never = np.full(400_000, 1e-5)
    never[-1] = 0.5  # that one sample apart
    cache = cache_of(tmp_path, {"cat/a/0": half, "dog/b/0": never})
    plan = planner_of(cache, ("cat", "dog")).plan(0, 400)
    sounding = plan.label >= 0
    assert sounding[cache_label(cache, plan) == "cat"].mean() > 0.9
    assert sounding[cache_label(cache, plan) == "dog"].mean() < 0.2
    peaks = [
        np.abs(cache.samples[cache.offset[c] + s :][:n].astype(int)).max()
        for c, s, n in zip(plan.clip[sounding], plan.start[sounding], plan.length[sounding])
    ]
    assert min(peaks) >= 0.05 * FULL
    anything = planner_of(cache, ("cat", "dog"), min_peak=0.0).plan(0, 400)
    assert (anything.label >= 0).sum() > sounding.sum()


def cache_label(cache: ClipCache, plan) -> np.ndarray:
    return np.array([clip.label for clip in cache.clips])[plan.clip]


# a pure function of seed and index


@pytest.mark.parametrize("change", [{}, {"n_sources": (5, 5)}, {"draw": "class", "n_sources": (1, 4)}])
def test_a_scene_is_the_same_in_any_batch(cache: ClipCache, change: dict):
    scenes = IsolatedScenes(planner_of(cache, **change))
    whole = scenes.batch(0, 12)
    for parts in ([scenes.batch(i, 4) for i in range(3)], [scenes.batch(i, 1) for i in range(12)]):
        assert torch.equal(torch.cat([part.sources for part in parts]), whole.sources)
        assert torch.equal(torch.cat([part.mixture for part in parts]), whole.mixture)
    assert torch.equal(scenes.scene(7).mixture.audio[0], whole.mixture[7])


def test_weak_scenes_are_the_same_mixtures(cache: ClipCache):
    planner = planner_of(cache)
    weak, isolated = WeakScenes(planner, "clip").batch(2, 8), IsolatedScenes(planner).batch(2, 8)
    assert torch.equal(weak.mixture, isolated.mixture) and not hasattr(weak, "sources")
    assert set(weak.events.on_s) == {0.0} and set(weak.events.off_s) == {SECONDS}
    present = np.zeros((8, 3))
    np.put_along_axis(present, isolated.labels, 1, 1)
    assert (weak.events.presence() == present).all()


def test_whatever_changes_the_scenes_changes_their_names(cache: ClipCache):
    changes = [
        {}, {"seed": 1}, {"split": "valid"}, {"members": range(12)}, {"level_dbfs": (-28.0, -21.0)}, {"draw": "class"},
        {"n_sources": (1, 2)}, {"min_peak": 0.1}, {"classes": ("hen", "dog", "cat")},
    ]  # fmt: skip
    scenes = [IsolatedScenes(planner_of(cache, **change)) for change in changes]
    assert len({each.id for each in scenes}) == len({each.scene_id(0) for each in scenes}) == len(changes)
    assert IsolatedScenes(planner_of(cache)).id == scenes[0].id
    assert len({each.scene(0).mixture.audio.numpy().tobytes() for each in scenes}) == len(changes)


def test_single_sounds_are_drawn_by_class_at_the_same_levels(cache: ClipCache):
    settings = dataclasses.replace(TWO, n_sources=(1, 4)).single()
    assert (settings.n_sources, settings.draw) == ((1, 1), "class")
    assert (settings.level_dbfs, settings.seconds, settings.min_peak) == (TWO.level_dbfs, TWO.seconds, TWO.min_peak)


# what cannot be


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"n_sources": (0, 0)}, "the fewest 0, the most 0"),
        ({"n_sources": (3, 2)}, "the fewest 3, the most 2"),
        ({"n_sources": (2, 2.0)}, "the most 2.0"),
        ({"n_sources": (6, 6)}, r"sources is 6, all of different recordings; split 'test' has 5\."),
        ({"draw": "clip"}, "task.mixing.draw is 'clip'; wanted recording or class"),
        ({"level_dbfs": (-22.0, -28.0)}, r"level_dbfs is \[-22.0, -28.0\]"),
        ({"level_dbfs": (-22.0,)}, r"level_dbfs is \[-22.0\]"),
        ({"level_dbfs": (-22.0, 1.0)}, r"level_dbfs is \[-22.0, 1.0\]"),
        ({"level_dbfs": ("low", 0.0)}, r"level_dbfs is \['low', 0.0\]"),
        ({"min_peak": 1.5}, "min_peak is 1.5"),
        ({"seconds": 0.0}, "task.seconds is 0.0"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(cache: ClipCache, settings: dict, said: str):
    with pytest.raises(UserError, match=said) as told:
        planner_of(cache, **settings)
    assert "\n" not in str(told.value)
