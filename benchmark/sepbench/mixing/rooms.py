"""Sounds in a room, heard in first-order ambisonics among interference and noise: the scenes of DCASE 2025 Task 4.

A target is what reaches the reference channel, the first, around the peak of its response (`early_ms`); what of it comes
later or earlier is rest, as are interfering events and noise. Time runs as at the array: an event begins where that peak
arrives, which mostly is the direct sound; where a reflection is louder, the direct sound comes before it.
`space: mono` leaves the room away: one channel, and every sound as dry as its clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from sepbench.corpora.base import Clip
from sepbench.corpora.cache import ClipCache
from sepbench.errors import UserError
from sepbench.labels import Events
from sepbench.mixing.crops import CropPlan, Crops, distinct
from sepbench.mixing.diffuse import N_NUMBERS, MadeNoise, Noise, RecordedNoise
from sepbench.mixing.impulse_responses import MeasuredRooms, Rooms, SimulatedRooms
from sepbench.mixing.members import Members, Recordings, identity
from sepbench.mixing.rooms_settings import RoomsSettings
from sepbench.mixing.scenes import Heard
from sepbench.mixing.sounding import Slot, Sounding, Stage

BLOCK = 4  # numbers that Philox makes at a time
HEAD, EACH = 2, 2  # blocks of a scene and of each slot: a few more numbers than are wanted
IN_CLASS, MOST_REDRAWS = 20, 200  # of a clip whose recording is in the scene already: of its class, and altogether
LATE, NOISE = "late reverberation", "noise"  # what rest is called, beside the interfering events
Part = tuple[str, np.ndarray, tuple[tuple[float, float], ...]]  # name, float32 (time,), its times as `Heard` has them


@dataclass(frozen=True)
class RoomsPlan:
    """Which crop sounds where in which room, and how loud. Slots are targets first, then interference."""

    targets: CropPlan
    interference: CropPlan  # its labels count on where those of the targets end
    room: np.ndarray  # (scene,)
    position: np.ndarray  # (scene, slot), of its source in the room
    level_db: np.ndarray  # (scene, slot), mean square at the reference channel; 0 dB is a mean square of 1
    noise: np.ndarray  # (scene, number), what noise is cut out by

    @property
    def labels(self) -> np.ndarray:
        """(scene, target slot)."""
        return self.targets.label

    def events(self) -> Events:
        """Those of the targets."""
        return self.targets.events()

    def heard(self) -> list[Heard]:
        return self.targets.heard()

    def slots(self, scene: int) -> list[Slot]:
        """Those that sound."""
        found: list[Slot] = []
        for first, own in ((0, self.targets), (self.targets.label.shape[1], self.interference)):
            for i in np.flatnonzero(own.label[scene] >= 0).tolist():
                clip, start, onset, length = (
                    int(each[scene, i]) for each in (own.clip, own.start, own.onset, own.length)
                )
                found.append((first + i, clip, start, onset, length))
        return found


class RoomsPlanner:
    """Draws plans and makes them sound. A room's responses are made when it is first needed, or by `prepare`."""

    def __init__(
        self,
        clips: Sequence[Clip],
        members: Sequence[int],
        classes: Sequence[str],
        settings: RoomsSettings,
        content: str,
        split: str,
        seed: int,
        cache: ClipCache,
    ):
        self.settings, self.classes, self.cache = settings, tuple(classes), cache
        self.n_targets, self.n_slots = settings.n_sources[1], settings.n_sources[1] + settings.n_interference[1]
        self.kinds = (slice(0, self.n_targets), slice(self.n_targets, self.n_slots))  # the slots of each
        rate = cache.sample_rate_hz
        self.crops = Crops(cache, max(round(settings.seconds * rate), 1), settings.min_peak)
        self.sample_rate_hz, self.seconds = rate, settings.seconds
        self.shape = (self.n_targets, self.crops.n_samples)
        self.others = settings.others(self.classes, sorted({clips[i].label for i in members}))
        self.recordings = self._recordings(clips, members, split)
        self.rooms = _rooms(settings, rate)
        drawn_from = [clips[i].key for i in members]
        told = (replace(settings, room_ir=None, noise_from=None), self.rooms.id if self.rooms else None)
        noise = _recorded_noise(settings, rate)
        drawn_by = (*told, noise.id if noise else None)
        named = (*self.classes, "|", *self.others)
        self.key, self.id = identity("rooms-1", content, drawn_from, split, seed, named, drawn_by)
        self.stage = Stage(settings, self.crops, self.rooms, noise or MadeNoise(settings.n_channels, rate, self.key))

    def prepare(self, progress: Any) -> None:
        """Make the rooms that are not in the cache yet."""
        if self.rooms is not None:
            self.rooms.prepare(progress)

    def plan(self, first: int, size: int) -> RoomsPlan:
        """Scenes first ... first + size - 1."""
        blocks = HEAD + EACH * self.n_slots
        u = self._random([first * blocks, 0, 0, 0]).random((size, blocks * BLOCK))
        head, each = u[:, : HEAD * BLOCK], u[:, HEAD * BLOCK :].reshape(size, self.n_slots, EACH * BLOCK)
        n_drawn = (_count(head[:, 0], self.settings.n_sources), _count(head[:, 1], self.settings.n_interference))
        room = (head[:, 2] * (self.rooms.n_rooms if self.rooms else 1)).astype(np.int64)
        clip = self._clips(each[:, :, :3], n_drawn, first)
        label = self.recordings.label[clip]
        start, onset, length = self.crops.place(clip, each[:, :, 3])
        for n, of in zip(n_drawn, self.kinds):
            label[:, of][np.arange(of.stop - of.start) >= n[:, None]] = -1

        def again(scene: int, slot: int) -> np.random.Generator:
            return self._random([0, 0, slot + 1, first + scene])

        self.crops.silence_the_quiet(label, clip, start, length, again)
        targets, interference = (
            CropPlan(
                n, label[:, of], clip[:, of], start[:, of], onset[:, of], length[:, of], self.cache.scale[clip[:, of]],
                self.sample_rate_hz, len(self.classes),
            )
            for n, of in zip(n_drawn, self.kinds)
        )  # fmt: skip
        position, level_db = self._positions(room, each[:, :, 4]), self._levels_db(each[:, :, 5])
        return RoomsPlan(targets, interference, room, position, level_db, head[:, 3 : 3 + N_NUMBERS])

    def render(self, plan: RoomsPlan, sources: np.ndarray | None) -> np.ndarray:
        """Mixtures: (scene, channel, time), or (scene, time) where there is one channel. `sources` as `Planner` says.

        Scene by scene, on as many threads as torch has, so that a scene sounds the same to the last bit in any batch.
        """
        several, n_scenes = self.settings.n_channels > 1 and not self.settings.alone, len(plan.room)
        shape = (self.settings.n_channels, self.crops.n_samples) if several else (self.crops.n_samples,)
        mixture = np.empty((n_scenes, *shape), np.float32)

        def one(scene: int) -> None:
            sounding = self._sounding(plan, scene)
            whole = sounding.mixture()
            mixture[scene] = whole if several else whole[0]
            if sources is not None:
                sources[scene] = 0
                for slot, early in zip(sounding.slots, sounding.early):
                    if slot < self.n_targets:
                        sources[scene, slot] = early

        with ThreadPoolExecutor(min(torch.get_num_threads(), n_scenes)) as threads:  # what takes long lets others run
            list(threads.map(one, range(n_scenes)))
        return mixture

    def rest(self, plan: RoomsPlan) -> list[Part]:
        """What the first scene holds at the reference channel beside its sources, so that all of it sums to the mixture."""
        sounding = self._sounding(plan, 0)
        names = (*self.classes, *self.others)
        interference = {slot: (names[label], on_off) for slot, label, on_off in plan.interference.heard()}
        found: list[Part] = []
        left = sounding.mixture()[0]
        for i, (slot, early) in enumerate(zip(sounding.slots, sounding.early)):
            if slot < self.n_targets:
                left -= early
            else:
                name, on_off = interference[slot - self.n_targets]
                found.append((name, sounding.image(i), on_off))
        if sounding.noise is not None:
            found.append((NOISE, sounding.noise[0], ()))
        if sounding.spectra is not None:
            for _, audio, _ in found:
                left -= audio
            found.append((LATE, left, ()))
        return found

    def _sounding(self, plan: RoomsPlan, scene: int) -> Sounding:
        where = (int(plan.room[scene]), plan.position[scene], plan.level_db[scene], plan.noise[scene])
        return self.stage.sounding(plan.slots(scene), *where)

    def _random(self, counter: list[int]) -> np.random.Generator:
        """Only `random` is used: its stream is stable."""
        return np.random.Generator(np.random.Philox(key=self.key, counter=counter))

    def _recordings(self, clips: Sequence[Clip], members: Sequence[int], split: str) -> Recordings:
        """Those of targets and interference. UserError where the split has too few of them."""
        if len(self.classes) < self.n_targets and not self.settings.same_class:
            raise UserError(
                f"task.mixing.sources is {self.n_targets}, all of different classes; the task has {len(self.classes)}. Give the "
                "task more classes, its scenes fewer sources, or set task.mixing.same_class=true."
            )
        Members(clips, members, (*self.classes, *self.others), split)  # a class without a clip is told
        for what, of, n in (
            ("targets", self.classes, self.n_targets),
            ("interfering events", self.others, self.settings.n_interference[1]),
        ):
            there = {clips[i].recording for i in members if clips[i].label in of}
            if len(there) < n:
                raise UserError(
                    f"A scene may hold {n} {what}, all of different recordings; split '{split}' has {len(there)}. Give the split "
                    "more of them, or its scenes fewer events (task.mixing.sources, task.mixing.interference)."
                )
        return Recordings(clips, members, (*self.classes, *self.others), by_class=True)

    def _clips(self, u: np.ndarray, n_drawn: tuple[np.ndarray, np.ndarray], first: int) -> np.ndarray:
        """Clips (scene, slot) from `u` (scene, slot, 3): class, recording, clip, and no recording twice in a scene."""
        n_classes, n_others, n_targets = len(self.classes), len(self.others), self.n_targets
        u = u.copy()
        chosen = (u[:, :n_targets, 0] * n_classes).astype(np.int64)
        if not self.settings.same_class:
            chosen = distinct(u[:, :n_targets, 0], n_classes)
        others = n_classes + (u[:, n_targets:, 0] * n_others).astype(np.int64)
        u[:, :, 0] = (np.concatenate([chosen, others], 1) + 0.5) / (n_classes + n_others)
        clip = self.recordings.draw(u)
        for scene in range(len(clip)):
            slots = [*range(n_drawn[0][scene]), *range(n_targets, n_targets + n_drawn[1][scene])]
            for i, slot in enumerate(slots):
                taken = self.recordings.recording[clip[scene, slots[:i]]]
                if self.recordings.recording[clip[scene, slot]] in taken:
                    random = self._random([0, 1, slot + 1, first + scene])
                    clip[scene, slot] = self._again(slot, u[scene, slot, 0], taken, random)
        return clip

    def _again(self, slot: int, of_class: float, taken: np.ndarray, random: np.random.Generator) -> int:
        """A clip of a recording that is not taken: of the same class, else of any of its kind that the scene may have too."""
        n_classes, n_all = len(self.classes), len(self.classes) + len(self.others)
        low, high = (0, n_classes) if slot < self.n_targets else (n_classes, n_all)
        for attempt, u in enumerate(random.random((MOST_REDRAWS, 3))):
            if attempt >= IN_CLASS and (slot >= self.n_targets or self.settings.same_class):
                of_class = (low + int(u[0] * (high - low)) + 0.5) / n_all
            clip = int(self.recordings.draw(np.array([of_class, u[1], u[2]])))
            if self.recordings.recording[clip] not in taken:
                return clip
        raise UserError(
            f"No clip of {', '.join((*self.classes, *self.others)[low:high])} is left for a scene whose events are all of "
            "different recordings. Give the split more of them, or its scenes fewer events."
        )

    def _positions(self, room: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Places of the sources (scene, slot), all different as far as the room has so many."""
        found = np.zeros(u.shape, np.int64)
        for scene in range(len(u) if self.rooms is not None else 0):
            n = self.rooms.n_positions(int(room[scene])) if self.rooms is not None else 1
            for begin in range(0, self.n_slots, n):
                found[scene, begin : begin + n] = distinct(u[scene : scene + 1, begin : begin + n], n)[0]
        return found

    def _levels_db(self, u: np.ndarray) -> np.ndarray:
        settings = self.settings
        low, high = np.array(
            [settings.target_level_db] * self.n_targets + [settings.interference_level_db] * settings.n_interference[1]
        ).T
        return np.asarray(settings.noise_dbfs + low + u * (high - low))


def _count(u: np.ndarray, fewest_most: tuple[int, int]) -> np.ndarray:
    """A number from the fewest to the most, each as likely, from `u` in [0, 1)."""
    fewest, most = fewest_most
    return fewest + (u * (most - fewest + 1)).astype(np.int64)


def _rooms(settings: RoomsSettings, rate_hz: int) -> Rooms | None:
    if settings.space == "mono":
        return None
    if settings.room_ir is not None:
        return MeasuredRooms.of_split(settings.room_ir, settings.of_split, rate_hz)
    assert settings.shoeboxes is not None
    return SimulatedRooms(settings.shoeboxes, settings.of_split, settings.seed, rate_hz)


def _recorded_noise(settings: RoomsSettings, rate_hz: int) -> Noise | None:
    if settings.noise_from is None:
        return None
    return RecordedNoise.of_split(settings.noise_from, settings.of_split, settings.n_channels, rate_hz)
