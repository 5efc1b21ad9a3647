"""The laws of rooms: what an array hears of a plane wave, how sound dies away, and files that are whole or made anew."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.signal import resample_poly

from sepbench.errors import UserError
from sepbench.mixing import impulse_responses, shoebox
from sepbench.mixing.impulse_responses import MeasuredRooms, SimulatedRooms, sealed
from sepbench.mixing.shoebox import CAPSULES, Shoebox, ShoeboxSettings, drawn, encoded, responses, trimmed
from sepbench.mixing.sofa import read_response

RATE_HZ = 8000
SMALL = ShoeboxSettings(n_rooms=2, positions=3, room_m=(3.0, 5.0), rt60_s=(0.2, 0.3))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEPBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def random_of(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def rooms_of(split: str = "train", seed: int = 0, rate_hz: int = RATE_HZ, **settings) -> SimulatedRooms:
    return SimulatedRooms(dataclasses.replace(SMALL, **settings), split, seed, rate_hz)


# ambisonics


@pytest.mark.parametrize("direction", [(1, 0, 0), (0, 1, 0), (0, 0, -1), (0.6, -0.64, 0.48)])
def test_a_plane_wave_is_one_in_w_and_its_direction_in_y_z_x(direction):
    heard = (1 + CAPSULES @ np.array(direction)) / 2  # cardioids in one place
    x, y, z = direction
    np.testing.assert_allclose(encoded(heard[:, None])[:, 0], [1, y, z, x], atol=1e-12)


@pytest.mark.parametrize("axis", range(3))
def test_the_direct_sound_comes_from_where_the_source_is(axis, monkeypatch):
    monkeypatch.setattr(shoebox, "RADIUS_M", 0.0)  # capsules apart hear high tones from elsewhere, too
    array_m, away = np.array([4.0, 4.5, 3.0]), np.zeros(3)
    away[axis] = 2.5
    room = Shoebox(np.array([8.0, 9.0, 6.0]), 0.3, array_m, np.stack([array_m + away, array_m - away]))
    found = responses(room, 32000)  # (position, channel, tap)
    peak = np.abs(found[:, 0]).argmax(1)
    arrived = [each[:, at - 20 : at + 20] for each, at in zip(found, peak)]  # before any reflection
    for sound, sign in zip(arrived, (1, -1)):
        w, y, z, x = sound @ sound[0] / (sound[0] @ sound[0])
        assert w == pytest.approx(1)
        np.testing.assert_allclose([x, y, z], sign * np.eye(3)[axis], atol=1e-3)


# rooms


def test_rooms_are_as_large_as_asked_and_nothing_in_them_is_close_to_anything_else():
    for seed in range(200):
        room = drawn(ShoeboxSettings(1, 8, (3.0, 10.0), (0.2, 0.6)), random_of(seed))
        assert ((room.size_m[:2] >= 3) & (room.size_m[:2] <= 10)).all() and 2.4 <= room.size_m[2] <= 4
        assert 0.2 <= room.rt60_s <= 0.6 and room.sources_m.shape == (8, 3)
        placed = np.vstack([room.array_m, room.sources_m])
        assert (placed >= 0.5).all() and (placed <= room.size_m - 0.5).all()
        assert np.linalg.norm(room.sources_m - room.array_m, axis=1).min() >= 0.5


def test_sound_dies_away_in_about_the_reverberation_time():
    room = Shoebox(np.array([6.0, 5.0, 3.0]), 0.35, np.array([2.5, 2.0, 1.3]), np.array([[4.5, 3.5, 1.8], [1.2, 3.6, 1.1]]))
    for response in responses(room, 16000):
        to_come = np.cumsum(response[0, ::-1].astype(np.float64) ** 2)[::-1]
        level_db = 10 * np.log10(to_come / to_come[0])
        seconds = (np.argmax(level_db < -25) - np.argmax(level_db < -5)) / 16000 * 3
        assert seconds == pytest.approx(0.35, rel=0.25)


def test_no_draw_takes_more_reflections_than_the_limit():
    live = Shoebox(np.array([3.0, 3.0, 2.4]), 0.6, np.full(3, 1.2), np.array([[2.0, 2.0, 1.5]]))
    dead = dataclasses.replace(live, rt60_s=0.15)
    assert shoebox._absorption(live)[1] == shoebox.MOST_REFLECTIONS
    absorption, order = shoebox._absorption(dead)
    assert 10 ** (-shoebox.PATH_DB / 10) >= (1 - absorption) ** order > (1 - absorption) ** (order + 2)


def test_a_reverberation_time_that_no_walls_give_is_told():
    with pytest.raises(UserError, match=r"rt60_s.*lower room_m|Raise rt60_s"):
        responses(Shoebox(np.array([10.0, 10.0, 4.0]), 0.1, np.full(3, 2.0), np.array([[5.0, 5.0, 2.0]])), RATE_HZ)


@pytest.mark.parametrize(
    "wrong", [{"n_rooms": 0}, {"positions": 0}, {"room_m": (1.0, 3.0)}, {"room_m": (5.0, 3.0)}, {"rt60_s": (0.0, 0.3)}]
)
def test_rooms_that_cannot_be_are_told(wrong):
    with pytest.raises(UserError, match="task.mixing"):
        dataclasses.replace(SMALL, **wrong)


def test_trimming_leaves_out_silence_before_and_a_millionth_of_the_energy_behind():
    random = np.random.default_rng(0)
    response = np.zeros((4, 3000))
    response[:, 100:2600] = random.standard_normal((4, 2500)) * np.exp(-np.arange(2500) / 100)
    found = trimmed(response)
    n = found.shape[1]
    np.testing.assert_array_equal(found, response[:, 100 : 100 + n])
    left, all_of_it = np.square(response[:, 100 + n :]).sum(), np.square(response).sum()
    assert 0 < left <= 1e-6 * all_of_it < np.square(response[:, 100 + n - 1 :]).sum()


def test_responses_are_trimmed_together_from_the_first_that_begins_to_the_last_that_ends():
    response = np.zeros((2, 4, 1200))
    response[0, :, 100:500] = 1
    response[1, :, 300:1000] = 1
    np.testing.assert_array_equal(trimmed(response), response[:, :, 100:1000])


# on disk


def test_rooms_are_made_once_and_read_from_then_on(monkeypatch):
    made = rooms_of()
    made.prepare(None)
    monkeypatch.setattr(impulse_responses, "responses", lambda *_: pytest.fail("made again"))
    again = rooms_of()
    again.prepare(None)
    for room in range(2):
        np.testing.assert_array_equal(again.room(room), made.room(room))
    assert sorted(path.name for path in made.folder.iterdir()) == ["00000.npy", "00001.npy"]


def test_more_rooms_keep_those_that_are_there():
    few, more = rooms_of(n_rooms=1), rooms_of(n_rooms=2)
    assert few.folder == more.folder and few.id != more.id


@pytest.mark.parametrize("other", [{"split": "test"}, {"seed": 1}, {"rate_hz": 16000}, {"rt60_s": (0.2, 0.31)}, {"positions": 4}])
def test_other_rooms_lie_elsewhere_and_sound_otherwise(other):
    one, two = rooms_of(n_rooms=1), rooms_of(n_rooms=1, **other)
    assert one.folder != two.folder
    a, b = one.response(0, 0), two.response(0, 0)
    assert a.shape != b.shape or not np.allclose(a, b, atol=1e-3)


def npy(samples: np.ndarray) -> bytes:
    written = BytesIO()
    np.save(written, samples)
    return written.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"x" * 500,
        lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),  # samples lost behind an intact head
        lambda data: data[:-16],  # without a digest, as older ones are
        lambda data: sealed(npy(np.load(BytesIO(data))[:2])),  # whole, and of too few positions
        lambda data: sealed(npy(np.load(BytesIO(data)).astype(np.float64))),
        lambda data: sealed(npy(np.load(BytesIO(data))[0])),
    ],
    ids=["half", "empty", "other", "zeroed", "no digest", "positions", "float64", "axes"],
)
def test_a_damaged_file_is_made_anew(damage):
    whole = rooms_of(n_rooms=1)
    expected = whole.room(0).copy()
    file = whole.folder / "00000.npy"
    file.write_bytes(damage(file.read_bytes()))
    found = rooms_of(n_rooms=1).room(0)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(np.load(file), expected)


def test_several_may_make_the_same_rooms_at_once():
    several = [rooms_of() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda each: each.prepare(None), several))
    for each in several[1:]:
        np.testing.assert_array_equal(each.room(1), several[0].room(1))
    assert len(list(several[0].folder.iterdir())) == 2  # and nothing half-written


# measured ones


def sofa(path: Path, shape=(3, 4, 400), rate_hz: float = RATE_HZ, **other) -> np.ndarray:
    """A SOFA file of decaying noise; what it holds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    decay = np.exp(-np.arange(shape[2]) / 40).reshape((-1,) + (1,) * (len(shape) - 3))
    found = np.random.default_rng(shape[0]).standard_normal(shape) * decay
    with h5py.File(path, "w") as file:
        file.attrs["Conventions"] = "SOFA"
        for name, value in {"Data.IR": found, "Data.SamplingRate": np.array([rate_hz]), **other}.items():
            if value is not None:
                file[name] = value
    return found


def test_a_sofa_file_is_a_room_and_each_measurement_a_place_in_it(tmp_path: Path):
    found = sofa(tmp_path / "train" / "b.sofa"), sofa(tmp_path / "train" / "a.sofa", (2, 4, 300))
    rooms = MeasuredRooms.of_split(tmp_path, "train", RATE_HZ)
    assert (rooms.n_rooms, rooms.n_positions(0), rooms.n_positions(1)) == (2, 2, 3)  # by name
    for room, own in enumerate(found[::-1]):
        for position, expected in enumerate(own):
            np.testing.assert_allclose(rooms.response(room, position), trimmed(expected), rtol=1e-6)


def test_emitters_are_places_too(tmp_path: Path):
    found = sofa(tmp_path / "train" / "a.sofa", (2, 4, 300, 3))
    rooms = MeasuredRooms.of_split(tmp_path, "train", RATE_HZ)
    assert rooms.n_positions(0) == 6
    np.testing.assert_allclose(rooms.response(0, 5), trimmed(found[1, :, :, 2]), rtol=1e-6)


def test_measured_rooms_are_brought_to_the_rate_of_the_task(tmp_path: Path):
    found = sofa(tmp_path / "a.sofa", (1, 4, 2000), rate_hz=48000)
    expected = resample_poly(found[0], 1, 6, axis=-1)
    np.testing.assert_allclose(read_response(tmp_path / "a.sofa", 0, 8000), trimmed(expected), atol=1e-5)


def test_the_test_has_the_rooms_of_valid_where_it_has_none_of_its_own(tmp_path: Path):
    sofa(tmp_path / "valid" / "a.sofa")
    assert MeasuredRooms.of_split(tmp_path, "test", RATE_HZ).files == [tmp_path / "valid" / "a.sofa"]
    sofa(tmp_path / "test" / "b.sofa")
    assert MeasuredRooms.of_split(tmp_path, "test", RATE_HZ).files == [tmp_path / "test" / "b.sofa"]


def test_measured_rooms_are_told_apart_by_what_they_hold_wherever_they_lie(tmp_path: Path):
    for folder, shape in (("a", (3, 4, 400)), ("b", (3, 4, 400)), ("c", (2, 4, 400))):
        sofa(tmp_path / folder / "train" / "x.sofa", shape)
    a, b, c = (MeasuredRooms.of_split(tmp_path / each, "train", RATE_HZ).id for each in "abc")
    assert a == b != c


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ({"shape": (3, 2, 400)}, "has 2 receivers; wanted Data.IR"),
        ({"shape": (0, 4, 400)}, "is empty"),
        ({"Data.SamplingRate": None}, "holds no impulse responses"),
        ({"Data.IR": None}, "holds no impulse responses"),
        ({"rate_hz": -1.0}, "wanted one rate"),
        ({"Data.IR": np.zeros((1, 4, 8))}, "silent or not finite"),
        (None, "is no SOFA file"),
    ],
)
def test_a_file_that_cannot_serve_is_told_in_a_line(tmp_path: Path, file, message):
    path = tmp_path / "train" / "a.sofa"
    if file is None:
        path.parent.mkdir()
        path.write_bytes(b"RIFF")
    else:
        sofa(path, **file)
    with pytest.raises(UserError, match=message) as told:
        MeasuredRooms.of_split(tmp_path, "train", RATE_HZ).response(0, 0)
    assert str(path) in str(told.value) and "\n" not in str(told.value)


def test_a_folder_without_sofa_files_is_told(tmp_path: Path):
    with pytest.raises(UserError, match=r"SOFA file missing.*no such folder.*room_ir"):
        MeasuredRooms.of_split(tmp_path, "train", RATE_HZ)
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError, match=r"SOFA file missing.*no \*\.sofa"):
        MeasuredRooms.of_split(tmp_path, "train", RATE_HZ)
