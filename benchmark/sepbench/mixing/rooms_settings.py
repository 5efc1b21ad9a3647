"""What scenes in rooms are made of: the values of the task's YAML, looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sepbench.errors import UserError, nearest
from sepbench.mixing.crops import checked_count, checked_crop, is_number
from sepbench.mixing.shoebox import ShoeboxSettings

CHANNELS = {"foa": 4, "mono": 1}
MOST_DB = 60.0  # above the noise
LEAST_DBFS = -120.0  # of the noise
MOST_OF_ROOM = {"room_m": 30.0, "rt60_s": 3.0}


@dataclass(frozen=True)
class RoomsSettings:
    """What a scene is made of. Levels are mean squares at the reference channel; those of events are above the noise."""

    seconds: float
    space: str  # foa: in a room, four channels; mono: dry, one channel
    n_sources: tuple[int, int]  # fewest and most
    same_class: bool  # whether two targets may be of one class
    n_interference: tuple[int, int]  # fewest and most interfering events
    interference_classes: tuple[str, ...] | None  # None: all that are no targets
    target_level_db: tuple[float, float]
    interference_level_db: tuple[float, float]
    noise_dbfs: float
    min_peak: float  # a crop below this share of its clip's peak is drawn again
    early_ms: tuple[float, float]  # of a response, before and after its peak: what is a target
    shoeboxes: ShoeboxSettings | None  # the rooms to simulate; None where there are none
    room_ir: str | None  # a folder of measured rooms instead
    noise_from: str | None  # a folder of recorded noise; None: made
    of_split: str  # whose rooms and noise they are
    seed: int  # of the rooms
    alone: bool = False  # a target alone, without its late reverberation and without noise: one channel

    def __post_init__(self) -> None:
        if self.space not in CHANNELS:
            raise UserError(f"task.mixing.space is '{self.space}'; wanted foa or mono.{nearest(self.space, CHANNELS)}")
        checked_count(self.n_sources)
        checked_crop(self.seconds, self.min_peak)
        fewest_most = self.n_interference
        if (
            len(fewest_most) != 2
            or any(type(n) is not int for n in fewest_most)
            or not 0 <= fewest_most[0] <= fewest_most[1]
        ):
            raise UserError(
                f"task.mixing.interference is {list(fewest_most)}; wanted two whole numbers from 0, the lower one first."
            )
        for name in ("target_level_db", "interference_level_db"):
            pair = getattr(self, name)
            if len(pair) != 2 or not all(map(is_number, pair)) or not pair[0] <= pair[1]:
                raise UserError(f"task.mixing.{name} is {list(pair)}; wanted two numbers, the lower one first.")
            if pair[1] > MOST_DB:
                raise UserError(f"task.mixing.{name} is {list(pair)}; wanted {MOST_DB:g} dB above the noise at most.")
        if len(self.early_ms) != 2 or not all(map(is_number, self.early_ms)) or min(self.early_ms) < 0:
            raise UserError(
                f"task.mixing.early_ms is {list(self.early_ms)}; wanted two times from 0: before and after the peak."
            )
        if not is_number(self.noise_dbfs) or not LEAST_DBFS <= self.noise_dbfs <= 0:
            raise UserError(
                f"task.mixing.noise_dbfs is {plain(self.noise_dbfs)}; wanted a number from {LEAST_DBFS:g} to 0."
            )
        for name, folder, what in (("room_ir", self.room_ir, "SOFA files"), ("noise", self.noise_from, "wav files")):
            if not isinstance(folder, (str, type(None))):
                raise UserError(f"task.mixing.{name} is {plain(folder)}; wanted a folder of {what}, or null.")

    @property
    def n_channels(self) -> int:
        return CHANNELS[self.space]

    def single(self) -> RoomsSettings:
        """The same of one target alone, as far as it is a target: no late reverberation, interference or noise."""
        return replace(self, n_sources=(1, 1), n_interference=(0, 0), alone=True)

    def others(self, classes: Sequence[str], there: Sequence[str]) -> tuple[str, ...]:
        """The classes of interfering events, of those that are `there`. UserError where there is none to draw."""
        listed = self.interference_classes
        if not self.n_interference[1]:
            return ()
        if listed is not None and not listed:
            remedy = "List one, set null for all that are no targets, or set task.mixing.interference=[0,0] for none"
            raise UserError(f"task.mixing.interference_classes is [], an empty list. {remedy}.")
        both = [name for name in listed or () if name in classes]
        if both:
            raise UserError(
                f"task.mixing.interference_classes: '{both[0]}' is a target. Take it out of one of the two lists."
            )
        found = tuple(listed) if listed is not None else tuple(name for name in there if name not in classes)
        if not found:
            raise UserError(
                "task.mixing.interference: every class of the corpus is a target. List fewer in task.classes, or set "
                "task.mixing.interference=[0,0]."
            )
        return found


def rooms_settings(config: Mapping[str, Any], split: str) -> RoomsSettings:
    """From a task's settings; `split`: whose clips, rooms and noise."""
    mixing = config["mixing"]
    fewest = mixing["sources"] if mixing["fewest_sources"] is None else mixing["fewest_sources"]
    classes = interference_classes(mixing)
    measured = mixing["room_ir"] is not None or mixing["space"] == "mono"
    return RoomsSettings(
        seconds=float(config["seconds"]), space=mixing["space"], n_sources=(fewest, mixing["sources"]),
        same_class=mixing["same_class"], n_interference=_pair(mixing, "interference", "[1, 2]"),
        interference_classes=classes,
        target_level_db=_pair(mixing, "target_level_db", "[5.0, 20.0]"),
        interference_level_db=_pair(mixing, "interference_level_db", "[0.0, 15.0]"),
        early_ms=_pair(mixing, "early_ms", "[6.0, 50.0]"),
        noise_dbfs=mixing["noise_dbfs"], min_peak=mixing["min_peak"],
        shoeboxes=None if measured else _shoeboxes(mixing, split),
        room_ir=mixing["room_ir"], noise_from=mixing["noise"], of_split=split, seed=int(config["scenes"]["seed"]),
    )  # fmt: skip


def interference_classes(mixing: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Those that are listed; None: all that are no targets. UserError for no list."""
    found = mixing["interference_classes"]
    if found is None:
        return None
    if not isinstance(found, (list, tuple)) or not all(isinstance(name, str) for name in found):
        such_as = "such as [rain, wind], or null for all that are no targets"
        raise UserError(f"task.mixing.interference_classes is {plain(found)}; wanted a list of classes, {such_as}.")
    return tuple(found)


def plain(value: object) -> str:
    """A value as one writes it on the command line."""
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))


def _shoeboxes(mixing: Mapping[str, Any], split: str) -> ShoeboxSettings:
    room_m, rt60_s = _pair(mixing, "room_m", "[3.0, 10.0]"), _pair(mixing, "rt60_s", "[0.2, 0.6]")
    rooms = mixing["rooms"]
    if not isinstance(rooms, Mapping) or split not in rooms:
        such_as = "{train: 60, valid: 12, test: 20}"
        raise UserError(f"task.mixing.rooms is {plain(rooms)}; wanted how many each split has, such as {such_as}.")
    found = ShoeboxSettings(rooms[split], mixing["positions"], room_m, rt60_s)
    for name, most in MOST_OF_ROOM.items():
        if mixing[name][1] > most:
            raise UserError(f"task.mixing.{name} is {list(mixing[name])}; wanted {most:g} at most.")
    return found


def _pair(mixing: Mapping[str, Any], name: str, such_as: str) -> tuple[Any, Any]:
    found = mixing[name]
    if not isinstance(found, (list, tuple)) or len(found) != 2:
        raise UserError(f"task.mixing.{name} is {found}; wanted two numbers, the lower one first, such as {such_as}.")
    return found[0], found[1]
