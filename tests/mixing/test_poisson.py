"""The laws of the mixer: what is drawn, what sounds, and who may see it."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch.utils.data import DataLoader, Dataset

import sepbench
from sepbench.corpora.base import Clip
from sepbench.corpora.cache import ClipCache, open_cache
from sepbench.corpora.synthetic import Synthetic
from sepbench.corpora.urbansound8k import UrbanSound8K
from sepbench.errors import UserError
from sepbench.labels import Events
from sepbench.method import Batch, WeakBatch, WeakTraining
from sepbench.mixing.poisson import PoissonPlanner, PoissonSettings
from sepbench.mixing.scenes import IsolatedScenes, WeakScenes

CLASSES = ("car_horn", "dog_bark", "gun_shot", "jackhammer", "siren")
LENGTHS_MS = (200, 1000, 2500, 4000, 9000)
RATE_HZ = 16000
SURE = 1e-4  # a law that holds fails such a test once in so many; seeds are fixed, so it either does or never will


def settings(rate: float = 5.0) -> PoissonSettings:
    return PoissonSettings(rate, 4.0, (0.5, 4.0), (-30.0, -25.0))


def planner_of(cache: ClipCache, seed: int = 0, split: str = "test", **changed: object) -> PoissonPlanner:
    content = str(changed.get("content", cache.content_hash))
    setting = changed.get("settings", settings())
    return PoissonPlanner(cache.clips, range(len(cache.clips)), CLASSES, setting, content, split, seed, cache)


def silent_planner(rate: float) -> PoissonPlanner:
    """Plans from durations alone: one clip of each length in each class."""
    clips = [Clip(f"{name}/{ms}", name, 1, f"{name}/{ms}", ms / 1000) for name in CLASSES for ms in LENGTHS_MS]
    return PoissonPlanner(clips, range(len(clips)), CLASSES, settings(rate), "durations", "test", 0)


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> ClipCache:
    corpus = Synthetic(CLASSES)
    return open_cache(corpus, corpus.clips[::12], RATE_HZ, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def urban(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> ClipCache:
    corpus = UrbanSound8K(shared / "data" / "UrbanSound8K", CLASSES)
    return open_cache(corpus, corpus.clips[::4], RATE_HZ, tmp_path_factory.mktemp("cache"))


@pytest.fixture(params=["synthetic", "urban"])
def cache(request: pytest.FixtureRequest) -> ClipCache:
    return request.getfixturevalue(request.param)


# what is drawn


@pytest.mark.parametrize("rate", [0.3, 5.0, 40.0])
def test_event_counts_are_poisson_without_the_zero(rate: float):
    plan = silent_planner(rate).plan(0, 8000)
    found = np.bincount(np.bincount(plan.scene, minlength=8000))
    n = np.arange(1, max(len(found), 200))
    expected = 8000 * stats.poisson.pmf(n, rate) / (1 - stats.poisson.pmf(0, rate))
    observed = np.concatenate([found[1:], np.zeros(len(n) + 1 - len(found))])
    assert found[0] == 0
    common = expected > 8
    tail_observed, tail_expected = observed[~common].sum(), expected[~common].sum()
    assert stats.chisquare(
        [*observed[common], tail_observed], [*expected[common], tail_expected + 8000 - expected.sum()]
    ).pvalue > SURE


def test_classes_and_clips_of_a_class_are_equally_likely():
    plan = silent_planner(5.0).plan(0, 4000)
    assert stats.chisquare(np.bincount(plan.label, minlength=5)).pvalue > SURE
    assert stats.chisquare(np.bincount(plan.clip, minlength=25)).pvalue > SURE


def test_a_class_is_as_likely_however_many_clips_it_has():
    clips = [Clip(f"{name}/{i}", name, 1, name, 2.0) for name in CLASSES for i in range(1 if name == "siren" else 30)]
    planner = PoissonPlanner(clips, range(len(clips)), CLASSES, settings(), "uneven", "test", 0)
    plan = planner.plan(0, 4000)
    assert stats.chisquare(np.bincount(plan.label, minlength=5)).pvalue > SURE
    assert all(clips[clip].label == CLASSES[label] for clip, label in zip(plan.clip, plan.label))


def test_an_event_lasts_as_long_as_drawn_or_as_its_clip():
    plan = silent_planner(5.0).plan(0, 4000)
    clip_ms = np.array(LENGTHS_MS)[plan.clip % 5]
    assert (plan.length_ms[clip_ms == 200] == 200).all()  # a clip shorter than any cut is kept whole
    long = plan.length_ms[clip_ms >= 4000]
    assert stats.kstest(long / 1000, stats.uniform(0.5, 3.5).cdf).pvalue > SURE
    middle = plan.length_ms[clip_ms == 2500]
    assert np.mean(middle == 2500) == pytest.approx(1.5 / 3.5, abs=0.02)


def test_cuts_and_onsets_lie_inside_and_reach_both_ends():
    plan = silent_planner(5.0).plan(0, 8000)
    clip_ms = np.array(LENGTHS_MS)[plan.clip % 5]
    assert (plan.cut_ms >= 0).all() and (plan.cut_ms + plan.length_ms <= clip_ms).all()
    assert (plan.onset_ms >= 0).all() and (plan.onset_ms + plan.length_ms <= 4000).all()
    free = plan.length_ms < 3900
    assert stats.kstest((plan.onset_ms / (4001 - plan.length_ms))[free], "uniform").pvalue > SURE
    free = clip_ms - plan.length_ms > 100
    assert stats.kstest((plan.cut_ms / (clip_ms + 1 - plan.length_ms))[free], "uniform").pvalue > SURE


def test_levels_are_uniform():
    level = silent_planner(5.0).plan(0, 4000).level_lufs
    assert stats.kstest(level, stats.uniform(-30, 5).cdf).pvalue > SURE


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_no_rate_is_told(rate: float):
    with pytest.raises(UserError, match="lambda"):
        settings(rate)


def test_a_class_without_clips_is_told():
    clips = [Clip("a", "siren", 1, "a", 2.0)]
    with pytest.raises(UserError, match="'valid' has no clip of class 'car_horn'"):
        PoissonPlanner(clips, [0], ("siren", "car_horn"), settings(), "few", "valid", 0)


# what sounds


def test_sources_sum_to_the_mixture(cache: ClipCache):
    batch = IsolatedScenes(planner_of(cache)).batch(0, 40)
    assert batch.mixture.shape == (40, 4 * RATE_HZ) and batch.sources.shape == (40, 5, 4 * RATE_HZ)
    assert (batch.sources.sum(1) - batch.mixture).abs().max() < 1e-6


def test_labels_name_the_sources_that_sound(cache: ClipCache):
    batch = IsolatedScenes(planner_of(cache)).batch(0, 40)
    sounds = batch.sources.abs().amax(2).numpy() > 0
    np.testing.assert_array_equal(batch.labels, np.where(sounds, np.arange(5), -1))
    assert batch.labels.dtype == np.int64 and 0 < sounds.mean() < 1


def test_a_mixture_is_its_cuts_at_their_places(cache: ClipCache):
    planner = planner_of(cache)
    plan = planner.plan(7, 3)
    expected = np.zeros((3, 4 * RATE_HZ))
    for i, scene in enumerate(plan.scene):
        a, n, to = 16 * plan.cut_ms[i], 16 * plan.length_ms[i], 16 * plan.onset_ms[i]
        expected[scene, to : to + n] += plan.gain[i] * cache.audio(plan.clip[i], a, a + n).astype(np.float64)
    found = np.stack([IsolatedScenes(planner).scene(7 + i).mixture.audio[0].numpy() for i in range(3)])
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_class_is_silent_outside_its_events(cache: ClipCache):
    scene = IsolatedScenes(planner_of(cache)).scene(3)
    for source in scene.sources:
        audio = source.audio.clone()
        assert audio.abs().max() > 0
        for on_s, off_s in source.intervals_s:
            audio[round(on_s * RATE_HZ) : round(off_s * RATE_HZ)] = 0
        assert not audio.any()


def test_a_scene_is_a_row_of_any_batch(cache: ClipCache):
    scenes = IsolatedScenes(planner_of(cache))
    big, small = scenes.batch(0, 24), scenes.batch(3, 6)
    assert torch.equal(big.mixture[18:24], small.mixture)
    for row in range(24):
        scene = scenes.scene(row)
        assert torch.equal(scene.mixture.audio[0], big.mixture[row])
        sounding = {source.label: source.audio for source in scene.sources}
        for label, name in enumerate(CLASSES):
            assert torch.equal(sounding.get(name, torch.zeros(4 * RATE_HZ)), big.sources[row, label])


def test_a_silent_clip_is_drawn_anew_and_a_silent_class_is_told(tmp_path: Path):
    class Half(Synthetic):
        name = "half"

        def audio(self, clip: Clip) -> tuple[np.ndarray, int]:
            audio, rate = super().audio(clip)
            return audio * (clip.key not in self.muted), rate

        def fingerprint(self, clip: Clip) -> str:
            return f"{clip.key} {clip.key in self.muted}"

    corpus = Half(["siren"])
    clips = corpus.clips[:4]
    corpus.muted = {clip.key for clip in clips[:3]}
    cache = open_cache(corpus, clips, RATE_HZ, tmp_path)
    planner = PoissonPlanner(clips, range(4), ["siren"], settings(), "x", "test", 0, cache)
    assert set(planner.plan(0, 50).clip) == {3}
    corpus.muted = {clip.key for clip in clips}
    cache = open_cache(corpus, clips, RATE_HZ, tmp_path)
    planner = PoissonPlanner(clips, range(4), ["siren"], settings(), "x", "test", 0, cache)
    with pytest.raises(UserError, match="siren' is silent wherever it is cut"):
        planner.plan(0, 1)


# what depends on what


def digest(mixture: torch.Tensor) -> str:
    return hashlib.blake2b(mixture.numpy().tobytes()).hexdigest()


class Mixtures(Dataset):
    """Batches as a training loop's workers would make them."""

    def __init__(self, scenes: WeakScenes):
        self.scenes = scenes

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.scenes.batch(index, 4).mixture


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_workers_change_nothing(synthetic: ClipCache):
    batches = Mixtures(WeakScenes(planner_of(synthetic), "frame"))
    alone = list(DataLoader(batches, batch_size=None))
    shared_out = list(DataLoader(batches, batch_size=None, num_workers=4))
    assert len(alone) == 6 and all(map(torch.equal, alone, shared_out))


def test_another_process_makes_the_same_scenes(synthetic: ClipCache, tmp_path: Path):
    code = (
        "import sys, hashlib, pathlib\n"
        "from sepbench.corpora.cache import open_cache\n"
        "from sepbench.corpora.synthetic import Synthetic\n"
        "from sepbench.mixing.poisson import PoissonPlanner, PoissonSettings\n"
        "from sepbench.mixing.scenes import WeakScenes\n"
        f"corpus = Synthetic({CLASSES})\n"
        "cache = open_cache(corpus, corpus.clips[::12], 16000, pathlib.Path(sys.argv[1]))\n"
        "planner = PoissonPlanner(cache.clips, range(len(cache.clips)), "
        f"{CLASSES}, PoissonSettings(5.0, 4.0, (0.5, 4.0), (-30.0, -25.0)), cache.content_hash, 'test', 0, cache)\n"
        "mixture = WeakScenes(planner, 'frame').batch(3, 4).mixture\n"
        "print(hashlib.blake2b(mixture.numpy().tobytes()).hexdigest())\n"
    )
    where = str(Path(sepbench.__file__).parents[1])
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": where, "PYTHONHASHSEED": "7"},
    )  # fmt: skip
    assert run.stdout.strip() == digest(WeakScenes(planner_of(synthetic), "frame").batch(3, 4).mixture)


def test_another_seed_split_setting_or_content_makes_other_scenes(synthetic: ClipCache):
    changes: list[dict] = [{}, {"seed": 1}, {"split": "valid"}, {"content": "other"}, {"settings": settings(5.5)}]
    scenes = [IsolatedScenes(planner_of(synthetic, **change)).scene(0) for change in changes]
    assert len({digest(scene.mixture.audio) for scene in scenes}) == len(changes)
    assert len({scene.mixture.id for scene in scenes}) == len(changes)


def test_no_two_scenes_are_the_same(synthetic: ClipCache):
    mixtures = IsolatedScenes(planner_of(synthetic)).batch(0, 100).mixture
    assert len({digest(mixture) for mixture in mixtures}) == 100


# who may see it


def names(kind: type) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def test_weak_and_isolated_batches_sound_the_same(cache: ClipCache):
    planner = planner_of(cache)
    weak, isolated = WeakScenes(planner, "frame").batch(2, 16), IsolatedScenes(planner).batch(2, 16)
    assert torch.equal(weak.mixture, isolated.mixture)
    for name in names(Events):
        np.testing.assert_array_equal(getattr(weak.events, name), getattr(isolated.events, name))


def test_a_weak_batch_has_no_place_for_a_source(synthetic: ClipCache):
    assert names(WeakBatch) == {"mixture", "events"}
    assert names(Batch) - names(WeakBatch) == {"sources", "labels"}
    assert names(Events) == {"scene", "label", "on_s", "off_s", "n_scenes", "n_classes"}
    batch = WeakScenes(planner_of(synthetic), "frame").batch(0, 4)
    assert type(batch) is WeakBatch
    assert not vars(batch).keys() - names(WeakBatch)


def test_weak_scenes_offer_batches_and_nothing_else(synthetic: ClipCache):
    scenes = WeakScenes(planner_of(synthetic), "frame")
    assert [name for name in dir(scenes) if not name.startswith("_")] == ["batch", "scene_id", "share"]
    assert vars(scenes.share(0, 4, 1, 2)).keys() == vars(scenes.batch(0, 4)).keys()  # a rank's share tells no more than a batch
    assert names(WeakTraining) == {"scenes", "valid", "folder", "seed", "progress", "budget"}


def test_clip_labels_hide_times(synthetic: ClipCache):
    planner = planner_of(synthetic)
    clip, frame = (WeakScenes(planner, seen).batch(0, 30).events for seen in ("clip", "frame"))
    assert np.array_equal(clip.presence(), frame.presence())
    assert (clip.on_s == 0).all() and (clip.off_s == 4.0).all()
    assert len(clip.scene) == frame.presence().sum()  # nor is it told how often a class sounds


def test_frame_labels_are_the_events_rasterised(synthetic: ClipCache):
    """Against whole milliseconds counted one by one."""
    plan = planner_of(synthetic).plan(0, 25)
    for hop_ms, start_ms, n_frames in ((8, -4, 501), (32, -4, 125), (10, 0, 400), (2, -1, 2001)):
        slow = np.zeros((25, 5, n_frames), np.float32)
        for scene, label, on_ms, length_ms in zip(plan.scene, plan.label, plan.onset_ms, plan.length_ms):
            for ms in range(on_ms, on_ms + length_ms):
                frame = (ms - start_ms) // hop_ms
                if frame < n_frames:
                    slow[scene, label, frame] = 1
        np.testing.assert_array_equal(plan.events().activity(n_frames, hop_ms / 1000, start_ms / 1000), slow)
