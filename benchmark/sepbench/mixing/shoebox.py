"""Simulated rooms: impulse responses of a shoebox by image sources (Allen and Berkley 1979; Scheibler et al. 2018).

A tetrahedral array of cardioids is encoded to first-order ambisonics: ACN order (W, Y, Z, X), SN3D. As with a real one, its
capsules are too far apart for the directions of high tones, here from some 5 kHz on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from sepbench.errors import UserError
from sepbench.mixing.crops import is_number

RADIUS_M = 0.01  # of the array
CLEAR_M = 0.5  # between any two of source, array and wall, at least
HEIGHT_M = (2.4, 4.0)
PATH_DB = 40.0  # a path is followed until its reflections have taken so much from it ...
MOST_REFLECTIONS = 50  # ... or it has been reflected so often: else a small, live room would take minutes
TAIL_DB = 60.0  # a response ends where so much less than all of its energy is to come
CAPSULES = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / math.sqrt(
    3
)  # (capsule, xyz): where each looks
LIBRARY = "pyroomacoustics"


@dataclass(frozen=True)
class ShoeboxSettings:
    """What rooms are drawn from; the values live in the task's YAML."""

    n_rooms: int
    positions: int  # of sources in each
    room_m: tuple[float, float]  # length and width
    rt60_s: tuple[float, float]

    def __post_init__(self) -> None:
        for name, value in (("rooms", self.n_rooms), ("positions", self.positions)):
            if type(value) is not int or value < 1:
                raise UserError(f"task.mixing.{name}: {value}; wanted a whole number above 0.")
        for name, pair, least in (("room_m", self.room_m, 2.0), ("rt60_s", self.rt60_s, 0.1)):
            if len(pair) != 2 or not all(map(is_number, pair)) or not least <= pair[0] <= pair[1]:
                raise UserError(
                    f"task.mixing.{name} is {list(pair)}; wanted two numbers of at least {least:g}, the lower one first."
                )

    def told(self, split: str, seed: int, rate_hz: int) -> str:
        """All that the rooms of a split depend on, but how many there are: the first ones stay when there are more."""
        limits = (RADIUS_M, CLEAR_M, HEIGHT_M, PATH_DB, MOST_REFLECTIONS, TAIL_DB)
        own = (self.positions, self.room_m, self.rt60_s)
        return f"shoebox-1|{own}|{split}|{seed}|{rate_hz}|{limits}|{LIBRARY} {version(LIBRARY)}"


@dataclass(frozen=True)
class Shoebox:
    """A room with an array and sources in it; metres, x along the length."""

    size_m: np.ndarray  # (xyz,)
    rt60_s: float
    array_m: np.ndarray  # (xyz,), the centre of the array
    sources_m: np.ndarray  # (position, xyz)


def drawn(settings: ShoeboxSettings, random: np.random.Generator) -> Shoebox:
    """A room. Only `random.random` is used: its stream is stable."""
    low = np.array([settings.room_m[0], settings.room_m[0], HEIGHT_M[0]])
    high = np.array([settings.room_m[1], settings.room_m[1], HEIGHT_M[1]])
    size_m = low + random.random(3) * (high - low)
    shortest, longest = settings.rt60_s
    rt60_s = shortest + float(random.random()) * (longest - shortest)
    array_m = _somewhere(size_m, random)
    sources_m: list[np.ndarray] = []
    while len(sources_m) < settings.positions:
        place = _somewhere(size_m, random)
        if np.linalg.norm(place - array_m) >= CLEAR_M:
            sources_m.append(place)
    return Shoebox(size_m, rt60_s, array_m, np.stack(sources_m))


def _somewhere(size_m: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return CLEAR_M + random.random(3) * (size_m - 2 * CLEAR_M)


def responses(room: Shoebox, sample_rate_hz: int) -> np.ndarray:
    """From each position to the array in first-order ambisonics: float32 (position, channel, tap), W Y Z X.

    They begin together, where the first sound arrives at the array, and end where the last has died away. UserError
    where no walls give the room its reverberation time.
    """
    import pyroomacoustics as pra

    pra.constants.set("num_threads", 1)  # the same to the last bit on any machine's number of cores
    absorption, order = _absorption(room)
    box = pra.ShoeBox(room.size_m, fs=sample_rate_hz, materials=pra.Material(absorption), max_order=order)
    box.add_microphone_array(_array(room.array_m, sample_rate_hz))
    for place in room.sources_m:
        box.add_source(place)
    box.compute_rir()  # [capsule][position] -> (tap,), of different lengths
    n_taps = max(len(each) for capsule in box.rir for each in capsule)
    heard = np.zeros((len(room.sources_m), len(CAPSULES), n_taps))  # (position, capsule, tap)
    for capsule, own in enumerate(box.rir):
        for position, response in enumerate(own):
            heard[position, capsule, : len(response)] = response
    return trimmed(encoded(heard)).astype(np.float32)


def encoded(capsules: np.ndarray) -> np.ndarray:
    """What the capsules hear (..., capsule, time) as first-order ambisonics (..., channel, time): W, Y, Z, X in SN3D.

    A cardioid hears (1 + cos) / 2 of a plane wave, so that the four sum to 2 and W = 1 whatever the direction.
    """
    weights = np.stack([np.full(len(CAPSULES), 0.5), *(1.5 * CAPSULES[:, axis] for axis in (1, 2, 0))])
    return weights @ capsules


def trimmed(response: np.ndarray) -> np.ndarray:
    """`response` (..., tap) without the silence before and what lies TAIL_DB below all of it behind."""
    power = np.square(response, dtype=np.float64).sum(-2)  # over the channels
    power = power.reshape(-1, power.shape[-1])
    to_come = np.cumsum(power[:, ::-1], 1)[:, ::-1]
    first = int((power > 1e-8 * power.max(1, keepdims=True)).any(0).argmax())
    last = int(np.flatnonzero((to_come > 10 ** (-TAIL_DB / 10) * to_come[:, :1]).any(0)).max(initial=first))
    return response[..., first : last + 1]


def _absorption(room: Shoebox) -> tuple[float, int]:
    """Of the walls' energy at each reflection (Sabine), and how many reflections of a path are followed."""
    import pyroomacoustics as pra

    try:
        absorption, order = pra.inverse_sabine(room.rt60_s, room.size_m)
    except ValueError:
        size = " x ".join(f"{metres:.1f}" for metres in room.size_m)
        raise UserError(
            f"task.mixing: no walls give a room of {size} m a reverberation time of {room.rt60_s:.2f} s. Raise rt60_s, or "
            "lower room_m."
        ) from None
    lost_db = -10 * math.log10(1 - absorption) if absorption < 1 else math.inf
    return float(absorption), max(min(int(order), math.ceil(PATH_DB / lost_db), MOST_REFLECTIONS), 1)


def _array(centre_m: np.ndarray, sample_rate_hz: int) -> Any:
    import pyroomacoustics as pra
    from pyroomacoustics.directivities import CardioidFamily, DirectionVector

    looks = [
        CardioidFamily(DirectionVector(math.atan2(y, x), math.acos(z), degrees=False), p=0.5)
        for x, y, z in CAPSULES.tolist()
    ]
    return pra.MicrophoneArray((centre_m + RADIUS_M * CAPSULES).T, sample_rate_hz, directivity=looks)
