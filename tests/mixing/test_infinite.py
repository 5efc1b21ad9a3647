"""The laws of the Infinite Mixture Engine: what is drawn, what sounds, and what is refused."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from scipy import stats

from sepbench.corpora.base import Clip, sorted_clips
from sepbench.corpora.cache import FULL, ClipCache, open_cache
from sepbench.corpora.class_folders import ClassFolders
from sepbench.errors import UserError
from sepbench.labels import Events
from sepbench.method import WeakBatch
from sepbench.mixing.infinite import InfinitePlanner, InfiniteSettings
from sepbench.mixing.scenes import IsolatedScenes, WeakScenes

RATE_HZ = 8000
SECONDS, N = 0.25, 2000
CLASSES = ("cat", "dog", "hen", "pig", "sheep")
TWO = InfiniteSettings((2, 2), SECONDS, (0.5, 1.0), 0.05, "scale", "refuse")
SURE = 1e-4  # a law that holds fails such a test once in so many; seeds are fixed, so it either does or never will


class MadeUp:
    """A corpus of the given sounds: key -> (time,), the class being what comes before the slash."""

    name, licence, home, citation = "made_up", "", "", ""

    def __init__(self, sounds: dict[str, np.ndarray]):
        self.sounds = sounds
        self.clips = sorted_clips(
            Clip(key, key.split("/")[0], 1, key, len(audio) / RATE_HZ) for key, audio in sounds.items()
        )

    def audio(self, clip: Clip) -> tuple[np.ndarray, int]:
        return self.sounds[clip.key].astype(np.float32), RATE_HZ

    def fingerprint(self, clip: Clip) -> str:
        return hashlib.blake2b(self.sounds[clip.key].tobytes()).hexdigest()


def noise(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.3, 0.3, n)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> ClipCache:
    """Three clips of each class, of different lengths and levels; the second is short, but not too short."""
    lengths = (6000, N, 9000)
    sounds = {f"{name}/{i}": noise(10 * c + i, n) * 2.0**-i for c, name in enumerate(CLASSES) for i, n in enumerate(lengths)}
    return open_cache(MadeUp(sounds), MadeUp(sounds).clips, RATE_HZ, tmp_path_factory.mktemp("cache"))


def cache_of(folder: Path, sounds: dict[str, np.ndarray]) -> ClipCache:
    return open_cache(MadeUp(sounds), MadeUp(sounds).clips, RATE_HZ, folder)


def planner_of(cache: ClipCache, classes=CLASSES, split="test", seed=0, content=None, **settings) -> InfinitePlanner:
    content = cache.content_hash if content is None else content
    mine = dataclasses.replace(TWO, **settings)
    return InfinitePlanner(cache.clips, range(len(cache.clips)), classes, mine, content, split, seed, cache)


# what is drawn


def test_classes_of_a_scene_are_distinct_and_all_ordered_pairs_equally_likely(cache: ClipCache):
    label = planner_of(cache).plan(0, 8000).label
    pairs = np.zeros((5, 5))
    np.add.at(pairs, (label[:, 0], label[:, 1]), 1)
    assert not np.diag(pairs).any()
    assert stats.chisquare(pairs[~np.eye(5, dtype=bool)]).pvalue > SURE


def test_a_scene_may_hold_every_class_once(cache: ClipCache):
    label = planner_of(cache, n_sources=(5, 5)).plan(0, 6000).label
    assert (np.sort(label, 1) == np.arange(5)).all()
    orders = np.unique(label, axis=0, return_counts=True)[1]
    assert len(orders) == 120 and stats.chisquare(orders).pvalue > SURE


def test_clips_of_a_class_are_equally_likely(cache: ClipCache):
    plan = planner_of(cache).plan(0, 8000)
    assert all(cache.clips[clip].label == CLASSES[label] for clip, label in zip(plan.clip.flat, plan.label.flat))
    assert stats.chisquare(np.bincount(plan.clip.ravel(), minlength=15)).pvalue > SURE


def test_crops_lie_inside_and_reach_both_ends_of_their_clip(cache: ClipCache):
    plan = planner_of(cache).plan(0, 20000)
    spare = np.asarray(cache.length)[plan.clip] - N
    assert (plan.length == N).all() and (plan.onset == 0).all()
    assert (plan.start >= 0).all() and (plan.start <= spare).all()
    assert {0, 4000} <= set(plan.start[spare == 4000]) and not plan.start[spare == 0].any()
    assert stats.kstest((plan.start / (spare + 1))[spare > 0], "uniform").pvalue > SURE


def test_gains_are_uniform(cache: ClipCache):
    gain = planner_of(cache, gain=(0.25, 0.75)).plan(0, 4000).gain
    assert stats.kstest(gain.ravel(), stats.uniform(0.25, 0.5).cdf).pvalue > SURE
    assert len(np.unique(gain)) == gain.size  # nor do two scenes or slots share what they draw


def test_any_number_of_sources_is_as_likely_as_any_other(cache: ClipCache):
    label = planner_of(cache, n_sources=(0, 3)).plan(0, 8000).label
    sounding = label >= 0
    assert stats.chisquare(np.bincount(sounding.sum(1), minlength=4)).pvalue > SURE
    assert (np.diff(sounding.astype(int), axis=1) <= 0).all()  # slots that stay empty come last


# what sounds


@pytest.mark.parametrize("n_sources", [(1, 1), (2, 2), (0, 3), (5, 5)])
def test_sources_sum_to_the_mixture_after_the_common_scale(cache: ClipCache, n_sources: tuple[int, int]):
    batch = IsolatedScenes(planner_of(cache, n_sources=n_sources)).batch(0, 60)
    assert batch.mixture.shape == (60, N) and batch.sources.shape == (60, n_sources[1], N)
    assert batch.mixture.dtype == batch.sources.dtype == torch.float32
    assert (batch.sources.double().sum(1) - batch.mixture).abs().max() < 1e-6
    assert batch.mixture.abs().max() <= 1 + 1e-6


@pytest.mark.parametrize("n_sources", [(2, 2), (1, 4)])
def test_a_scene_is_its_crops_at_their_gains(cache: ClipCache, n_sources: tuple[int, int]):
    """Against the definition, in float64, from the clips as they are."""
    planner = planner_of(cache, n_sources=n_sources)
    plan, batch = planner.plan(8, 40), IsolatedScenes(planner).batch(1, 8)
    for row in range(8):
        crops = np.zeros((n_sources[1], N))
        for slot in np.flatnonzero(plan.label[row] >= 0):
            start = plan.start[row, slot]
            crop = cache.audio(plan.clip[row, slot], start, start + N).astype(np.float64)
            crops[slot] = plan.gain[row, slot] * crop / np.abs(crop).max()
        crops /= max(1, np.abs(crops.sum(0)).max())
        np.testing.assert_allclose(batch.sources[row], crops, atol=1e-6)
        np.testing.assert_allclose(batch.mixture[row], crops.sum(0), atol=1e-6)


def test_peaks_are_the_gains_drawn_until_the_mixture_would_be_too_loud(cache: ClipCache):
    planner = planner_of(cache, gain=(0.3, 0.9))
    gain, batch = planner.plan(0, 200).gain, IsolatedScenes(planner).batch(0, 200)
    assert gain.min() >= 0.3 and gain.max() <= 0.9
    scale = batch.sources.abs().amax(2).numpy() / gain  # (scene, slot)
    np.testing.assert_allclose(scale[:, 0], scale[:, 1], rtol=1e-5)  # one for all sources of a scene
    peak = batch.mixture.abs().amax(1).numpy()
    as_drawn = scale[:, 0] > 1 - 1e-5
    assert 20 < as_drawn.sum() < 180 and (peak[as_drawn] <= 1).all()
    np.testing.assert_allclose(peak[~as_drawn], 1, rtol=1e-6)
    assert (scale[~as_drawn] < 1).all()


def test_a_hard_limit_cuts_the_mixture_and_leaves_the_sources(cache: ClipCache):
    planner = planner_of(cache, limit="clip")
    batch = IsolatedScenes(planner).batch(0, 100)
    total = batch.sources.sum(1)
    assert torch.equal(batch.mixture, total.clamp(-1, 1)) and not torch.equal(batch.mixture, total)
    np.testing.assert_allclose(batch.sources.abs().amax(2), planner.plan(0, 100).gain, rtol=1e-5)


def test_labels_and_events_and_sources_tell_the_same(cache: ClipCache):
    scenes = IsolatedScenes(planner_of(cache, n_sources=(0, 3)))
    batch = scenes.batch(0, 60)
    assert batch.labels.dtype == np.int64
    np.testing.assert_array_equal(batch.labels >= 0, batch.sources.abs().amax(2) > 0)
    presence = np.zeros((60, 5))
    for row in range(60):
        scene = scenes.scene(row)
        slots = np.flatnonzero(batch.labels[row] >= 0)
        presence[row, batch.labels[row, slots]] = 1
        assert [source.label for source in scene.sources] == [CLASSES[label] for label in batch.labels[row, slots]]
        assert all(source.intervals_s == ((0.0, SECONDS),) for source in scene.sources)
        assert torch.equal(scene.mixture.audio[0], batch.mixture[row])
        for source, slot in zip(scene.sources, slots):
            assert torch.equal(source.audio, batch.sources[row, slot])
    np.testing.assert_array_equal(batch.events.presence(), presence)
    assert (batch.events.on_s == 0).all() and (batch.events.off_s == SECONDS).all()
    silent = np.flatnonzero((batch.labels < 0).all(1))
    assert len(silent) and not batch.mixture[silent].any() and not scenes.scene(int(silent[0])).sources


# crops without sound


def test_a_crop_without_sound_is_drawn_again_twenty_times_and_then_is_silence(tmp_path: Path):
    """All but the last 100 samples are zero, so that of the 2001 crops 1901 hold no sound."""
    cache = cache_of(tmp_path, {"cat/0": np.r_[np.zeros(3900), 0.5 * np.ones(100)], "dog/0": noise(0, 4000)})
    planner = planner_of(cache, ("cat", "dog"))
    plan, batch = planner.plan(0, 2000), IsolatedScenes(planner).batch(0, 2000)
    cat = plan.clip == 0
    silent = cat & (plan.label < 0)
    assert stats.binomtest(int(silent.sum()), 2000, (1901 / 2001) ** 21).pvalue > SURE
    assert not (plan.label[~cat] < 0).any()
    assert stats.kstest((plan.start[cat & ~silent] - 1901) / 100, "uniform").pvalue > SURE
    np.testing.assert_array_equal(batch.labels, plan.label)
    np.testing.assert_array_equal(batch.sources.abs().amax(2) == 0, silent)
    scene = IsolatedScenes(planner).scene(int(np.flatnonzero(silent.any(1))[0]))
    assert [source.label for source in scene.sources] == ["dog"]


@pytest.mark.parametrize("min_peak", [0.0, 0.2, 0.5, 1.0])
def test_no_crop_is_quieter_than_its_share_of_the_clip(tmp_path: Path, min_peak: float):
    """A clip that grows from silence to its peak: the share is reached from some sample on."""
    cache = cache_of(tmp_path, {"cat/0": np.linspace(0, 0.5, 12000), "dog/0": noise(0, 4000)})
    plan = planner_of(cache, ("cat", "dog"), min_peak=min_peak).plan(0, 500)
    cat = plan.clip == 0
    sounding = cat & (plan.label >= 0)
    assert sounding.any() and plan.peak[sounding].min() >= min_peak * FULL
    if min_peak == 0:
        assert sounding.sum() == 500 and plan.peak[cat].min() < 0.25 * FULL  # nothing was drawn again


def test_an_all_silent_clip_is_silence_in_every_scene(tmp_path: Path):
    """A corpus that decodes files refuses it; others may hold one."""
    cache = cache_of(tmp_path, {"cat/0": np.zeros(4000), "dog/0": noise(0, 4000)})
    batch = IsolatedScenes(planner_of(cache, ("cat", "dog"), min_peak=0.0)).batch(0, 20)
    assert (np.sort(batch.labels, 1) == [-1, 1]).all() and torch.isfinite(batch.mixture).all()


def test_an_all_silent_file_is_told_in_one_line(tmp_path: Path):
    (tmp_path / "cat").mkdir()
    soundfile.write(tmp_path / "cat" / "still.wav", np.zeros(RATE_HZ), RATE_HZ)
    corpus = ClassFolders(tmp_path)
    with pytest.raises(UserError, match=r"^[^\n]*still\.wav' is silent\. [^\n]*$"):
        open_cache(corpus, corpus.clips, RATE_HZ, tmp_path / "cache")


# clips shorter than a scene


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> ClipCache:
    sounds = {"cat/0": noise(0, 500), "cat/1": noise(1, N), "dog/0": noise(2, 1900), "dog/1": noise(3, 5000)}
    return cache_of(tmp_path_factory.mktemp("cache"), sounds)


def test_a_short_clip_sounds_whole_and_anywhere(short: ClipCache):
    planner = planner_of(short, ("cat", "dog"), short_clips="pad")
    plan, batch = planner.plan(0, 4000), IsolatedScenes(planner).batch(0, 50)
    cut = plan.clip == 0
    assert (plan.start[cut] == 0).all() and (plan.length[cut] == 500).all()
    assert plan.onset[cut].min() == 0 and plan.onset[cut].max() == 1500
    assert stats.kstest(plan.onset[cut] / 1501, "uniform").pvalue > SURE
    whole = short.audio(0) / np.abs(short.audio(0)).max()
    for row, slot in np.argwhere(cut[:50]):
        source, onset = batch.sources[row, slot].numpy(), plan.onset[row, slot]
        inside = source[onset : onset + 500]
        np.testing.assert_allclose(inside, whole * np.abs(inside).max(), atol=1e-6)
        assert not source[:onset].any() and not source[onset + 500 :].any()


def test_a_short_clip_is_timed_where_it_sounds(short: ClipCache):
    planner = planner_of(short, ("cat", "dog"), short_clips="pad")
    plan = planner.plan(0, 30)
    for index in range(30):
        scene = IsolatedScenes(planner).scene(index)
        for slot, source in enumerate(scene.sources):
            on, off = plan.onset[index, slot], plan.onset[index, slot] + plan.length[index, slot]
            assert source.intervals_s == ((on / RATE_HZ, off / RATE_HZ),)
    frame, clip = (WeakScenes(planner, seen).batch(0, 30).events for seen in ("frame", "clip"))
    assert frame.on_s.any() and (clip.on_s == 0).all() and (clip.off_s == SECONDS).all()
    np.testing.assert_array_equal(frame.presence(), clip.presence())


def test_short_clips_are_told_where_they_are_refused(short: ClipCache):
    with pytest.raises(UserError) as told:
        planner_of(short, ("cat", "dog"), split="valid")
    words = str(told.value)
    assert "\n" not in words and "Clip 'cat/0' lasts 0.06 s" in words and "2 of the 4 clips of split 'valid'" in words
    assert "a scene of 0.25 s" in words and "--set task.mixing.short_clips=pad" in words


# what depends on what


def digest(mixture: torch.Tensor) -> str:
    return hashlib.blake2b(mixture.numpy().tobytes()).hexdigest()


@pytest.mark.parametrize("n_sources", [(2, 2), (0, 4)])
def test_a_scene_is_a_row_of_any_batch_whatever_came_before(cache: ClipCache, n_sources: tuple[int, int]):
    scenes = IsolatedScenes(planner_of(cache, n_sources=n_sources))
    small, big = scenes.batch(3, 6), scenes.batch(0, 24)
    assert torch.equal(big.mixture[18:], small.mixture) and torch.equal(big.sources[18:], small.sources)
    for row in (23, 0, 11):
        assert torch.equal(scenes.scene(row).mixture.audio[0], big.mixture[row])


def test_a_crop_drawn_again_is_the_same_in_any_batch(tmp_path: Path):
    cache = cache_of(tmp_path, {"cat/0": np.r_[np.zeros(9000), noise(1, 3000)], "dog/0": noise(0, 4000)})
    scenes = IsolatedScenes(planner_of(cache, ("cat", "dog")))
    whole = scenes.batch(0, 64).mixture
    assert all(torch.equal(scenes.batch(index, 1).mixture[0], whole[index]) for index in range(64))


def test_weak_and_isolated_batches_sound_the_same(cache: ClipCache):
    planner = planner_of(cache, n_sources=(1, 3))
    weak, isolated = WeakScenes(planner, "frame").batch(2, 16), IsolatedScenes(planner).batch(2, 16)
    assert torch.equal(weak.mixture, isolated.mixture) and type(weak) is WeakBatch
    for field in dataclasses.fields(Events):
        np.testing.assert_array_equal(getattr(weak.events, field.name), getattr(isolated.events, field.name))


def test_weak_scenes_offer_batches_and_nothing_else(cache: ClipCache):
    scenes = WeakScenes(planner_of(cache), "frame")
    assert [name for name in dir(scenes) if not name.startswith("_")] == ["batch", "scene_id", "share"]
    assert vars(scenes.share(0, 4, 1, 2)).keys() == vars(scenes.batch(0, 4)).keys()  # a rank's share tells no more than a batch


def test_another_seed_split_setting_or_content_makes_other_scenes(cache: ClipCache):
    changes: list[dict] = [
        {}, {"seed": 1}, {"split": "valid"}, {"content": "other"}, {"gain": (0.5, 0.9)}, {"classes": CLASSES[::-1]},
    ]  # fmt: skip
    scenes = [IsolatedScenes(planner_of(cache, **change)).scene(0) for change in changes]
    assert len({digest(scene.mixture.audio) for scene in scenes}) == len(changes)
    assert len({scene.mixture.id for scene in scenes}) == len(changes)


def test_no_two_scenes_are_the_same(cache: ClipCache):
    scenes = IsolatedScenes(planner_of(cache))
    assert len({digest(mixture) for mixture in scenes.batch(0, 300).mixture}) == 300
    assert scenes.scene(7).mixture.id == scenes.scene_id(7) != scenes.scene_id(8)


# what is refused


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"n_sources": (0, 0)}, "the most 0"),
        ({"n_sources": (-1, 2)}, "the fewest -1"),
        ({"n_sources": (3, 2)}, "the fewest 3"),
        ({"n_sources": (2.0, 2.0)}, "the most 2.0"),
        ({"n_sources": (True, True)}, "the most True"),
        ({"gain": (1.0, 0.5)}, "task.mixing.gain is [1.0, 0.5]"),
        ({"gain": (0.0, 0.5)}, "task.mixing.gain is [0.0, 0.5]"),
        ({"gain": (0.5,)}, "task.mixing.gain is [0.5]"),
        ({"gain": (0.5, float("inf"))}, "task.mixing.gain is [0.5, inf]"),
        ({"gain": ("a", 0.5)}, "task.mixing.gain is ['a', 0.5]"),
        ({"min_peak": 1.01}, "task.mixing.min_peak is 1.01"),
        ({"min_peak": -0.1}, "task.mixing.min_peak is -0.1"),
        ({"min_peak": float("nan")}, "task.mixing.min_peak is nan"),
        ({"seconds": 0.0}, "task.seconds is 0.0"),
        ({"seconds": float("inf")}, "task.seconds is inf"),
        ({"limit": "soft"}, "task.mixing.limit is 'soft'; wanted scale or clip."),
        ({"short_clips": "loop"}, "task.mixing.short_clips is 'loop'; wanted refuse or pad."),
    ],
)
def test_settings_that_make_no_scene_are_told(changed: dict, named: str):
    with pytest.raises(UserError) as told:
        dataclasses.replace(TWO, **changed)
    assert named in str(told.value) and "wanted" in str(told.value) and "\n" not in str(told.value)


def test_more_sources_than_classes_are_told(cache: ClipCache):
    with pytest.raises(UserError, match=r"^task\.mixing\.sources is 3, all of different classes; the task has 2 \(cat, dog\)\."):
        planner_of(cache, ("cat", "dog"), n_sources=(1, 3))


def test_a_class_without_clips_is_told(cache: ClipCache):
    with pytest.raises(UserError, match="^Split 'valid' has no clip of class 'cow'"):
        planner_of(cache, (*CLASSES, "cow"), split="valid")
