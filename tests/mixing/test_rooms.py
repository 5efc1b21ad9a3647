"""The laws of scenes in rooms: what they sum to, how loud everything is, and that a scene is its number's alone."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import soundfile
import torch
from scipy.signal import fftconvolve, welch

import sepbench
from sepbench.corpora.base import Clip, sorted_clips
from sepbench.corpora.cache import ClipCache, open_cache
from sepbench.errors import UserError
from sepbench.mixing.crops import Crops
from sepbench.mixing.diffuse import MadeNoise, RecordedNoise
from sepbench.mixing.impulse_responses import SimulatedRooms
from sepbench.mixing.rooms import LATE, NOISE, RoomsPlanner
from sepbench.mixing.rooms_settings import RoomsSettings
from sepbench.mixing.scenes import IsolatedScenes, WeakScenes
from sepbench.mixing.shoebox import ShoeboxSettings
from sepbench.scene import Scene

RATE_HZ = 8000
SECONDS, N = 0.6, 4800
CLASSES, OTHERS = ("cat", "dog", "hen"), ("rain", "wind")
BOXES = ShoeboxSettings(n_rooms=2, positions=6, room_m=(3.0, 5.0), rt60_s=(0.2, 0.3))
IN_ROOMS = RoomsSettings(
    seconds=SECONDS, space="foa", n_sources=(1, 3), same_class=False, n_interference=(1, 2), interference_classes=None,
    target_level_db=(5.0, 20.0), interference_level_db=(0.0, 15.0), noise_dbfs=-50.0, min_peak=0.05, early_ms=(6.0, 50.0),
    shoeboxes=BOXES, room_ir=None, noise_from=None, of_split="test", seed=0,
)  # fmt: skip
MONO: dict[str, Any] = {"space": "mono", "shoeboxes": None}


class MadeUp:
    """Noise bursts: "class/recording/clip" -> (time,); some are longer than a scene."""

    name, licence, home, citation = "made_up", "", "", ""

    def __init__(self) -> None:
        self.lengths = {f"{label}/{label}{i}/{i}": (1500, 3000, 6000)[i % 3] for label in CLASSES + OTHERS for i in range(4)}
        self.clips = sorted_clips(
            Clip(key, key.split("/")[0], 1, key.split("/")[1], n / RATE_HZ) for key, n in self.lengths.items()
        )

    def audio(self, clip: Clip) -> tuple[np.ndarray, int]:
        seed = int.from_bytes(hashlib.blake2b(clip.key.encode(), digest_size=4).digest(), "big")
        return np.random.default_rng(seed).uniform(-0.3, 0.3, self.lengths[clip.key]).astype(np.float32), RATE_HZ

    def fingerprint(self, clip: Clip) -> str:
        return clip.key


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory):
    patch = pytest.MonkeyPatch()
    patch.setenv("SEPBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield made_up()
    patch.undo()


def made_up() -> ClipCache:
    return open_cache(MadeUp(), MadeUp().clips, RATE_HZ)


def planner_of(cache: ClipCache, seed: int = 0, members=None, classes=CLASSES, **settings: Any) -> RoomsPlanner:
    mine = dataclasses.replace(IN_ROOMS, **settings)
    members = range(len(cache.clips)) if members is None else members
    return RoomsPlanner(cache.clips, members, classes, mine, cache.content_hash, mine.of_split, seed, cache)


def scene_of(cache: ClipCache, index: int, **settings: Any) -> Scene:
    return IsolatedScenes(planner_of(cache, **settings)).scene(index)


def power_db(audio: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.asarray(audio, np.float64) ** 2)))


def by_hand(planner: RoomsPlanner, index: int) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray], np.ndarray]:
    """Scene `index` event by event and channel by channel, in float64, by scipy's convolution.

    Its events' images (channel, time) summed, the targets, the images of interfering events at channel 0, and the
    targets' late reverberation.
    """
    plan = planner.plan(index, 1)
    together, targets, others, late = np.zeros((4, N)), [], [], np.zeros(N)
    for slot, clip, start, onset, length in plan.slots(0):
        dry = np.zeros(N)
        dry[onset : onset + length] = planner.cache.audio(clip, start, start + length)
        response = planner.rooms.response(int(plan.room[0]), int(plan.position[0, slot])).astype(np.float64)
        peak = np.abs(response[0]).argmax()
        image = np.stack([fftconvolve(dry, each)[peak:][:N] for each in response])
        kept = np.zeros_like(response[0])
        kept[max(peak - 48, 0) : peak + 401] = response[0, max(peak - 48, 0) : peak + 401]  # 6 and 50 ms
        early = fftconvolve(dry, kept)[peak:][:N]
        gain = 10 ** ((plan.level_db[0, slot] - power_db(early[onset : onset + length])) / 20)
        together += gain * image
        if slot < planner.n_targets:
            targets.append(gain * early)
            late += gain * (image[0] - early)
        else:
            others.append(gain * image[0])
    return together, targets, others, late


# what a scene sums to


@pytest.mark.parametrize("index", range(4))
def test_a_scene_is_what_convolving_event_by_event_makes_of_it(cache, index):
    planner = planner_of(cache)
    scene = IsolatedScenes(planner).scene(index)
    together, targets, others, late = by_hand(planner, index)
    rest = {each.label: each.audio.numpy() for each in scene.rest}
    plan = planner.plan(index, 1)
    noise = planner.stage._noise(plan.noise[0])
    scale = np.abs(together).max()
    np.testing.assert_allclose(scene.mixture.audio.numpy() - noise, together, atol=3e-6 * scale)
    assert len(scene.sources) == len(targets)
    for source, target in zip(scene.sources, targets):
        np.testing.assert_allclose(source.audio.numpy(), target, atol=3e-6 * scale)
    events = [each for each in scene.rest if each.label in OTHERS]
    for event, image in zip(events, others, strict=True):
        np.testing.assert_allclose(event.audio.numpy(), image, atol=3e-6 * scale)
    np.testing.assert_allclose(rest[LATE], late, atol=1e-5 * scale)
    np.testing.assert_array_equal(rest[NOISE], noise[0])


def test_sources_and_rest_sum_to_the_first_channel_of_the_mixture(cache):
    for settings in ({}, MONO, {"n_interference": (0, 0)}, {"n_sources": (0, 1)}):
        scenes = IsolatedScenes(planner_of(cache, **settings))
        for index in range(6):
            scene = scenes.scene(index)
            whole = scene.mixture.audio[0].numpy()
            parts = np.sum([each.audio.numpy() for each in (*scene.sources, *scene.rest)], axis=0)
            np.testing.assert_allclose(parts, whole, atol=1e-6 * np.abs(whole).max())


def test_without_late_reverberation_targets_interference_and_noise_are_the_mixture(cache):
    planner = planner_of(cache, early_ms=(1000.0, 1000.0))
    for index in range(4):
        scene = IsolatedScenes(planner).scene(index)
        late = next(each.audio.numpy() for each in scene.rest if each.label == LATE)
        assert np.abs(late).max() < 1e-6 * scene.mixture.audio[0].abs().max()


def test_the_early_part_ends_so_long_before_and_after_the_direct_sound(cache):
    planner = planner_of(cache)
    plan = planner.plan(0, 1)
    slot, clip, start, onset, _ = plan.slots(0)[0]
    click = planner.stage._dry(int(plan.room[0]), int(plan.position[0, slot]), clip, start, onset, 1)
    kept = planner.stage._early(click)
    taps = np.flatnonzero(kept)
    assert taps[0] >= click.peak - 48 and taps[-1] == click.peak + 400  # 6 and 50 ms of 8 kHz
    np.testing.assert_array_equal(kept[taps[0] : taps[-1] + 1], click.response[0, taps[0] : taps[-1] + 1])


def test_an_event_begins_where_its_direct_sound_arrives(cache):
    planner = planner_of(cache, early_ms=(0.0, 0.0), n_sources=(1, 1), n_interference=(0, 0))
    for index in range(4):
        (source,) = IsolatedScenes(planner).scene(index).sources
        sounding = np.flatnonzero(np.abs(source.audio.numpy()) > 1e-3 * source.audio.abs().max().item())
        ((on_s, off_s),) = source.intervals_s
        assert abs(sounding[0] - on_s * RATE_HZ) < 20 and abs(sounding[-1] + 1 - off_s * RATE_HZ) < 20


# how loud


@pytest.mark.parametrize("settings", [{}, MONO], ids=["foa", "mono"])
def test_levels_are_as_drawn_within_a_tenth_of_a_decibel(cache, settings):
    planner = planner_of(cache, **settings)
    for index in range(20):
        plan, scene = planner.plan(index, 1), IsolatedScenes(planner).scene(index)
        noise = next(each.audio.numpy() for each in scene.rest if each.label == NOISE)
        assert power_db(noise) == pytest.approx(-50, abs=0.1)
        slots = plan.slots(0)
        for source, (slot, _, _, onset, length) in zip(scene.sources, slots):
            level_db = power_db(source.audio.numpy()[onset : onset + length])
            assert level_db == pytest.approx(plan.level_db[0, slot], abs=0.1) and -45 <= level_db <= -30
        sounding = planner._sounding(plan, 0)
        for early, (slot, _, _, onset, length) in zip(sounding.early, slots):
            if slot >= planner.n_targets:
                level_db = power_db(early[onset : onset + length])
                assert level_db == pytest.approx(plan.level_db[0, slot], abs=0.1) and -50 <= level_db <= -35


def test_diffuse_noise_is_alike_in_w_and_a_third_of_it_in_each_direction_and_uncorrelated():
    pool = MadeNoise(4, RATE_HZ, np.array([1, 2], np.uint64)).pool
    powers = np.square(pool, dtype=np.float64).mean(1)
    np.testing.assert_allclose(powers, [1, 1 / 3, 1 / 3, 1 / 3], rtol=1e-3)
    assert np.abs(np.corrcoef(pool) - np.eye(4)).max() < 0.05


def test_made_noise_falls_by_three_decibels_an_octave_and_rings_without_a_seam():
    noise = MadeNoise(1, RATE_HZ, np.array([1, 2], np.uint64))
    frequency_hz, power = welch(noise.pool[0], RATE_HZ, nperseg=1024)
    octaves = [10 * np.log10(power[(frequency_hz > f / 1.2) & (frequency_hz < f * 1.2)].mean()) for f in (200, 400, 800, 1600)]
    np.testing.assert_allclose(np.diff(octaves), -3, atol=0.7)
    n = noise.pool.shape[1]
    around = noise.cut(np.array([0, 1 - 10 / n, 0, 0, 0]), 20)[0]
    np.testing.assert_array_equal(around, np.roll(noise.pool[0], 10)[:20])


def test_each_channel_of_made_noise_is_cut_at_a_place_of_its_own():
    noise = MadeNoise(4, RATE_HZ, np.array([1, 2], np.uint64))
    u = np.array([0, 0.1, 0.7, 0.4, 0.25])
    for row, share, found in zip(noise.pool, u[1:], noise.cut(u, 20), strict=True):
        np.testing.assert_array_equal(found, np.roll(row, -int(share * len(row)))[:20])


# whose alone a scene is


def test_a_scene_is_the_same_in_any_batch_to_the_last_bit(cache):
    isolated = IsolatedScenes(planner_of(cache))
    four, ones = isolated.batch(1, 4), [isolated.batch(i, 1) for i in range(4, 8)]
    assert four.mixture.shape == (4, 4, N) and four.sources.shape == (4, 3, N)
    for name in ("mixture", "sources", "labels"):
        together, single = getattr(four, name), [getattr(each, name)[0] for each in ones]
        np.testing.assert_array_equal(together, np.stack(single))
    np.testing.assert_array_equal(four.mixture[2], isolated.scene(6).mixture.audio)
    np.testing.assert_array_equal(four.mixture, WeakScenes(planner_of(cache), "clip").batch(1, 4).mixture)


class MostlySilent(MadeUp):
    """Long clips that sound for a tenth of their length, so that most crops are too quiet."""

    name = "mostly_silent"

    def __init__(self) -> None:
        super().__init__()
        self.lengths = dict.fromkeys(self.lengths, 40000)
        self.clips = sorted_clips(dataclasses.replace(clip, seconds=40000 / RATE_HZ) for clip in self.clips)

    def audio(self, clip: Clip) -> tuple[np.ndarray, int]:
        audio, rate_hz = super().audio(clip)
        audio[:18000] = audio[22000:] = 0
        return audio, rate_hz


@pytest.mark.parametrize("redrawn", [Crops, RoomsPlanner], ids=["quiet crop", "recording twice"])
def test_what_is_drawn_again_is_the_same_in_any_batch(cache, redrawn, monkeypatch: pytest.MonkeyPatch):
    clips = open_cache(MostlySilent(), MostlySilent().clips, RATE_HZ) if redrawn is Crops else cache
    planner = planner_of(clips, same_class=redrawn is RoomsPlanner, n_sources=(3, 3))
    again, n = redrawn._again, []
    monkeypatch.setattr(redrawn, "_again", lambda *given: n.append(1) or again(*given))
    together = planner.plan(0, 30)
    assert len(n) > 5
    for i in range(30):
        alone = planner.plan(i, 1)
        for kind in ("targets", "interference"):
            for what in ("label", "clip", "start"):
                whole, one = (getattr(getattr(plan, kind), what) for plan in (together, alone))
                np.testing.assert_array_equal(whole[i], one[0])


def test_threads_change_nothing(cache):
    isolated = IsolatedScenes(planner_of(cache))
    n_before = torch.get_num_threads()
    try:
        found = []
        for n in (1, 4):
            torch.set_num_threads(n)
            found.append(isolated.batch(0, 8))
    finally:
        torch.set_num_threads(n_before)
    assert torch.equal(found[0].mixture, found[1].mixture) and torch.equal(found[0].sources, found[1].sources)


def test_another_process_mixes_the_same_scene_from_rooms_of_its_own(cache, tmp_path: Path):
    code = (
        "import hashlib, test_rooms as t; from sepbench.mixing.scenes import IsolatedScenes\n"
        "b = IsolatedScenes(t.planner_of(t.made_up())).batch(0, 2)\n"
        "print(hashlib.blake2b(b.mixture.numpy().tobytes() + b.sources.numpy().tobytes()).hexdigest())"
    )
    where = [str(Path(sepbench.__file__).parents[1]), str(Path(__file__).parent)]
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True,
        env={**os.environ, "SEPBENCH_CACHE": str(tmp_path), "PYTHONPATH": os.pathsep.join(where)},
    )  # fmt: skip
    ours = IsolatedScenes(planner_of(cache)).batch(0, 2)
    expected = hashlib.blake2b(ours.mixture.numpy().tobytes() + ours.sources.numpy().tobytes()).hexdigest()
    assert found.stdout.strip() == expected


def test_another_seed_split_or_setting_has_other_scenes_and_another_name(cache):
    others = [
        planner_of(cache, seed=1), planner_of(cache, of_split="valid"), planner_of(cache, noise_dbfs=-49.0),
        planner_of(cache, shoeboxes=dataclasses.replace(BOXES, n_rooms=1)), planner_of(cache, members=range(19)),
    ]  # fmt: skip
    names = {each.id for each in (planner_of(cache), *others)}
    assert len(names) == 6 and planner_of(cache).id in names
    one = IsolatedScenes(planner_of(cache)).batch(0, 1).mixture
    assert all(not np.array_equal(one, IsolatedScenes(each).batch(0, 1).mixture) for each in others[:3])


def test_splits_have_rooms_of_their_own():
    rooms = [SimulatedRooms(BOXES, split, 0, RATE_HZ) for split in ("train", "valid", "test")]
    heard = [each.room(room).tobytes() for each in rooms for room in range(2)]
    assert len(set(heard)) == 6


# what is in it


def test_targets_are_of_distinct_classes_and_interference_is_never_of_theirs(cache):
    planner = planner_of(cache)
    plan = planner.plan(0, 300)
    for targets in plan.labels:
        own = targets[targets >= 0]
        assert len(set(own.tolist())) == len(own)
    held = plan.interference.label[plan.interference.label >= 0]
    assert planner.others == OTHERS and set(held.tolist()) == {3, 4}
    assert {each.label for each in IsolatedScenes(planner).scene(0).rest} <= {*OTHERS, NOISE, LATE}
    assert (np.bincount((plan.labels >= 0).sum(1), minlength=4)[1:] > 60).all()  # 100 each as expected
    assert set((plan.interference.label >= 0).sum(1).tolist()) == {1, 2}


def test_two_targets_may_be_of_one_class_where_that_is_asked_for(cache):
    plan = planner_of(cache, same_class=True, n_sources=(3, 3)).plan(0, 200)
    repeated = [len(set(own.tolist())) < 3 for own in plan.labels]
    assert np.mean(repeated) == pytest.approx(7 / 9, abs=0.1)  # 1 - 3! / 3 ** 3


@pytest.mark.parametrize("same_class", [False, True])
def test_no_recording_and_no_place_is_in_a_scene_twice(cache, same_class):
    planner = planner_of(cache, same_class=same_class)
    plan = planner.plan(0, 200)
    for scene in range(200):
        slots = plan.slots(scene)
        recordings = [cache.clips[clip].recording for _, clip, *_ in slots]
        places = [int(plan.position[scene, slot]) for slot, *_ in slots]
        assert len(set(recordings)) == len(recordings) and len(set(places)) == len(places)


def test_places_repeat_only_where_a_room_has_too_few(cache):
    plan = planner_of(cache, shoeboxes=dataclasses.replace(BOXES, positions=3)).plan(0, 50)
    assert all(np.bincount(own, minlength=3).tolist() in ([2, 2, 1], [2, 1, 2], [1, 2, 2]) for own in plan.position)


def test_a_scene_may_hold_no_target_at_all(cache):
    planner = planner_of(cache, n_sources=(0, 1), n_interference=(0, 1))
    counts = [(planner.plan(i, 1).labels >= 0).sum() for i in range(30)]
    empty = IsolatedScenes(planner).scene(counts.index(0))
    assert empty.sources == () and empty.mixture.audio.shape == (4, N) and NOISE in [each.label for each in empty.rest]
    assert set(counts) == {0, 1}


def test_mono_is_the_dry_sounds_and_the_noise(cache):
    planner = planner_of(cache, **MONO)
    scene, plan = IsolatedScenes(planner).scene(2), planner.plan(2, 1)
    assert scene.mixture.audio.shape == (1, N) and LATE not in [each.label for each in scene.rest]
    _, clip, start, onset, length = plan.slots(0)[0]
    heard = scene.sources[0].audio.numpy()[onset : onset + length]
    dry = cache.audio(clip, start, start + length)
    np.testing.assert_allclose(heard, dry * (heard @ dry / (dry @ dry)), atol=1e-7)
    assert not scene.sources[0].audio[:onset].any() and planner.rooms is None
    assert IsolatedScenes(planner).batch(0, 2).mixture.shape == (2, N)


def test_a_single_target_is_its_early_part_and_nothing_else(cache):
    settings = dataclasses.asdict(IN_ROOMS.single()) | {"shoeboxes": BOXES}
    batch = IsolatedScenes(planner_of(cache, **settings)).batch(0, 8)
    assert batch.mixture.shape == batch.reference.shape == (8, N)
    np.testing.assert_array_equal(batch.mixture, batch.sources[:, 0])
    assert (batch.labels >= 0).all() and batch.sources.abs().amax(-1).min() > 0


def test_the_reference_is_the_first_channel(cache):
    batch = IsolatedScenes(planner_of(cache)).batch(0, 2)
    np.testing.assert_array_equal(batch.reference, batch.mixture[:, 0])


# rooms and noise of somebody else


@pytest.fixture
def recorded(tmp_path: Path) -> dict[str, str]:
    random = np.random.default_rng(0)
    for folder in ("ir/valid", "noise/valid"):
        (tmp_path / folder).mkdir(parents=True)
    with h5py.File(tmp_path / "ir" / "valid" / "a.sofa", "w") as file:
        file["Data.IR"] = random.standard_normal((5, 4, 900)) * np.exp(-np.arange(900) / 150)
        file["Data.SamplingRate"] = [float(RATE_HZ)]
    soundfile.write(tmp_path / "noise" / "valid" / "a.wav", random.uniform(-0.1, 0.1, (N // 2, 4)), RATE_HZ)
    return {"room_ir": str(tmp_path / "ir"), "noise_from": str(tmp_path / "noise")}


def test_other_measured_rooms_under_the_same_settings_make_other_scenes(cache, recorded, tmp_path: Path):
    first = planner_of(cache, shoeboxes=None, **recorded)
    copied = shutil.copytree(recorded["room_ir"], tmp_path / "copy")
    assert planner_of(cache, shoeboxes=None, **{**recorded, "room_ir": str(copied)}).id == first.id
    with h5py.File(copied / "valid" / "a.sofa", "a") as file:
        file["Data.IR"][...] = file["Data.IR"][...][::-1]
    other = planner_of(cache, shoeboxes=None, **{**recorded, "room_ir": str(copied)})
    assert other.id != first.id and IsolatedScenes(other).scene_id(0) != IsolatedScenes(first).scene_id(0)


def test_measured_rooms_and_recorded_noise_make_scenes_too(cache, recorded):
    planner = planner_of(cache, shoeboxes=None, **recorded)
    scene = IsolatedScenes(planner).scene(0)
    together, targets, _, _ = by_hand(planner, 0)
    noise = next(each.audio.numpy() for each in scene.rest if each.label == NOISE)
    assert power_db(noise) == pytest.approx(-50, abs=0.1)
    np.testing.assert_allclose(scene.mixture.audio[0].numpy() - noise, together[0], atol=1e-5 * np.abs(together).max())
    np.testing.assert_allclose(scene.sources[0].audio.numpy(), targets[0], atol=1e-5 * np.abs(together).max())


def test_recorded_noise_begins_anew_behind_its_end(recorded):
    noise = RecordedNoise.of_split(recorded["noise_from"], "valid", 4, RATE_HZ)
    whole = soundfile.read(Path(recorded["noise_from"]) / "valid" / "a.wav", dtype="float32")[0].T
    found = noise.cut(np.array([0.3, 0.5, 0, 0, 0]), N)
    np.testing.assert_array_equal(found, np.take(whole, np.arange(N // 4, N // 4 + N), axis=1, mode="wrap"))


def test_noise_that_cannot_serve_is_told_in_a_line(recorded, tmp_path: Path):
    folder = Path(recorded["noise_from"])
    with pytest.raises(UserError, match=r"Noise missing.*train.*task.mixing.noise"):
        RecordedNoise.of_split(folder, "train", 4, RATE_HZ)
    soundfile.write(folder / "valid" / "b.wav", np.zeros((100, 2)), RATE_HZ)
    with pytest.raises(UserError, match=r"b.wav' has 2 channels; noise of 4 is wanted"):
        RecordedNoise.of_split(folder, "valid", 4, RATE_HZ)
    soundfile.write(folder / "valid" / "b.wav", np.zeros((100, 4)), RATE_HZ)
    with pytest.raises(UserError, match="b.wav' is silent"):
        RecordedNoise.of_split(folder, "valid", 4, RATE_HZ).cut(np.array([0.9, 0, 0, 0, 0]), N)


# bad settings


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"space": "stereo"}, "space is 'stereo'; wanted foa or mono"),
        ({"n_sources": (4, 3)}, "Sources in a scene"),
        ({"n_sources": (1, 4)}, "the task has 3"),
        ({"n_interference": (2, 1)}, "interference is"),
        ({"target_level_db": (20.0, 5.0)}, "target_level_db"),
        ({"early_ms": (-1.0, 50.0)}, "early_ms"),
        ({"noise_dbfs": 3.0}, "noise_dbfs is 3.0"),
        ({"interference_classes": ("rain", "dog")}, "'dog' is a target"),
        ({"interference_classes": ("rain", "snow")}, "no clip of class 'snow'"),
        ({"classes": CLASSES + OTHERS}, "every class of the corpus is a target"),
        ({"members": [0, 4, 8, 12]}, "2 interfering events, all of different recordings; split 'test' has 1"),
    ],
)
def test_settings_that_cannot_be_are_told_in_a_line(cache, wrong, message):
    with pytest.raises(UserError, match=message) as told:
        planner_of(cache, **wrong).plan(0, 1)
    assert "\n" not in str(told.value)


def test_a_recording_that_two_classes_share_is_no_way_round(cache):
    planner = planner_of(cache, n_sources=(3, 3))
    planner.recordings.recording[:] = 0
    with pytest.raises(UserError, match="No clip of cat, dog, hen is left"):
        planner.plan(0, 1)


def test_one_recording_of_each_class_is_enough(cache):
    ones = [i for i, clip in enumerate(cache.clips) if clip.recording.endswith("0")]
    for same_class in (False, True):
        planner = planner_of(cache, members=ones, same_class=same_class, n_sources=(3, 3), n_interference=(2, 2))
        plan = planner.plan(0, 40)
        assert (np.sort(plan.labels) == [0, 1, 2]).all() and (np.sort(plan.interference.label) == [3, 4]).all()
