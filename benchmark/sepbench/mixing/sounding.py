"""How a scene in a room sounds: each event at its level, dry, in the room, and as far as it is a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sepbench.mixing.convolve import Dry, Spectra
from sepbench.mixing.crops import Crops
from sepbench.mixing.diffuse import Noise
from sepbench.mixing.impulse_responses import Rooms
from sepbench.mixing.rooms_settings import RoomsSettings

Slot = tuple[int, int, int, int, int]  # slot, clip, start, onset, length: see CropPlan


@dataclass(frozen=True)
class Sounding:
    """The sounds of a scene, one entry each, at their levels."""

    slots: list[int]
    early: list[np.ndarray]  # float32 (time,) each: what is a target of it, or would be
    gains: np.ndarray  # (sound,), float32: what brings the dry sound to its level
    spectra: Spectra | None  # None where there is no room
    noise: np.ndarray | None  # float32 (channel, time)
    shape: tuple[int, int]  # channels and samples

    def mixture(self) -> np.ndarray:
        """float32 (channel, time)."""
        if self.spectra is not None:
            whole = self.spectra.together(self.gains)
        else:
            whole = np.zeros(self.shape, np.float32)
            for early in self.early:
                whole[0] += early
        if self.noise is not None:
            whole += self.noise
        return whole

    def image(self, index: int) -> np.ndarray:
        """A sound with all its reverberation at the reference channel: float32 (time,)."""
        if self.spectra is None:
            return self.early[index]
        return self.spectra.alone(index, self.spectra.sounds[index].response[0] * self.gains[index])


@dataclass(frozen=True)
class Stage:
    """Where scenes are made to sound."""

    settings: RoomsSettings
    crops: Crops
    rooms: Rooms | None  # None: dry
    noise: Noise

    def sounding(
        self, slots: Sequence[Slot], room: int, position: np.ndarray, level_db: np.ndarray, noise: np.ndarray
    ) -> Sounding:
        """The sounds in `slots`; `position` and `level_db` (slot,) of all slots, `noise` the numbers that its cut is drawn by."""
        dry = [self._dry(room, int(position[slot]), *where) for slot, *where in slots]
        spectra = Spectra(dry, self.crops.n_samples) if self.rooms is not None and dry else None
        early, gains = [], np.zeros(len(dry), np.float32)
        for i, (slot, each) in enumerate(zip([slot for slot, *_ in slots], dry)):
            heard = self._placed(each) if spectra is None else spectra.alone(i, self._early(each))
            power = np.square(heard[each.onset : each.onset + len(each.audio)]).mean()
            gains[i] = 10 ** (level_db[slot] / 20) / np.sqrt(power) if power > 0 else 0
            early.append(np.multiply(heard, gains[i], out=heard))
        alone, shape = self.settings.alone, (self.settings.n_channels, self.crops.n_samples)
        around = None if alone else self._noise(noise)
        return Sounding([slot for slot, *_ in slots], early, gains, None if alone else spectra, around, shape)

    def _dry(self, room: int, position: int, clip: int, start: int, onset: int, length: int) -> Dry:
        audio = self.crops.samples(clip, start, length) * self.crops.cache.scale[clip]
        if self.rooms is None:
            return Dry(audio, onset, np.ones((1, 1), np.float32), 0)
        response = self.rooms.response(room, position)
        return Dry(audio, onset, response, int(np.abs(response[0]).argmax()))

    def _placed(self, dry: Dry) -> np.ndarray:
        """The sound as it is, where it lies: float32 (time,)."""
        found = np.zeros(self.crops.n_samples, np.float32)
        found[dry.onset : dry.onset + len(dry.audio)] = dry.audio
        return found

    def _early(self, dry: Dry) -> np.ndarray:
        """What of the reference channel's response belongs to the target: (tap,), 0 elsewhere."""
        before, after = (round(ms * self.crops.cache.sample_rate_hz / 1000) for ms in self.settings.early_ms)
        found = np.zeros(dry.response.shape[1], np.float32)
        own = slice(max(dry.peak - before, 0), dry.peak + after + 1)
        found[own] = dry.response[0, own]
        return found

    def _noise(self, u: np.ndarray) -> np.ndarray:
        """float32 (channel, time), the reference channel at the level that the task says."""
        found = self.noise.cut(u, self.crops.n_samples)
        power = np.square(found[0]).mean()
        found *= np.float32(10 ** (self.settings.noise_dbfs / 20) / np.sqrt(power))
        return found
