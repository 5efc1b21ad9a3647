"""Diffuse noise: sound from everywhere at once, in one channel or in first-order ambisonics (W, Y, Z, X in SN3D).

Plane waves from all directions, independent of each other, leave the channels uncorrelated, Y, Z and X each with a third
of W's power: the mean square of a direction cosine.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol

import numpy as np
import scipy.fft

from sepbench.corpora.cache import cache_root, resample
from sepbench.corpora.files import hash_of
from sepbench.corpora.fingerprints import Fingerprints
from sepbench.errors import UserError
from sepbench.mixing.impulse_responses import split_folder

FLAT_HZ = 50.0  # 1/f above, as much as there below, none at 0
POOL_S = 32.0  # of made noise, a ring: scenes are cut out anywhere, each channel elsewhere

N_NUMBERS = 5  # that a scene's cut is drawn from: file or none, and a place for each channel


class Noise(Protocol):
    @property
    def id(self) -> str:
        """The same for the same noise."""
        ...

    def cut(self, u: np.ndarray, n_samples: int) -> np.ndarray:
        """Noise of any level: float32 (channel, time), from numbers in [0, 1) (N_NUMBERS,)."""
        ...


class MadeNoise:
    """Pink-ish noise that `key`, (2,) uint64, decides."""

    def __init__(self, n_channels: int, sample_rate_hz: int, key: np.ndarray):
        self.n_channels, self.sample_rate_hz, self.key = n_channels, sample_rate_hz, key
        self.id = f"made-1-{POOL_S:g}-{FLAT_HZ:g}"

    @cached_property
    def pool(self) -> np.ndarray:
        """A ring of noise: float32 (channel, time), the mean square of the first channel 1."""
        n = 2 * math.ceil(POOL_S * self.sample_rate_hz / 2)
        random = np.random.Generator(np.random.Philox(key=self.key, counter=[0, 2, 0, 0]))
        phase = 2 * np.pi * random.random((self.n_channels, n // 2 + 1), np.float32)
        frequency_hz = np.arange(n // 2 + 1) * (self.sample_rate_hz / n)
        magnitude = np.sqrt(1 / np.maximum(frequency_hz, FLAT_HZ)).astype(np.float32)
        magnitude[[0, -1]] = 0
        found = scipy.fft.irfft(magnitude * np.exp(1j * phase), n)
        found /= np.sqrt(np.square(found).mean(-1, keepdims=True))
        found[1:] /= math.sqrt(3)
        return found

    def cut(self, u: np.ndarray, n_samples: int) -> np.ndarray:
        n = self.pool.shape[1]
        starts = (u[1 : 1 + self.n_channels] * n).astype(np.int64)
        return np.stack([_ring(row, int(start), n_samples) for row, start in zip(self.pool, starts)])


class RecordedNoise:
    """Noise of sound files: all channels of one file from one place on, from its beginning again behind its end."""

    def __init__(self, files: Sequence[Path], n_channels: int, sample_rate_hz: int):
        """UserError where a file cannot be read or has other than `n_channels`; of one channel, the first is taken."""
        self.files, self.n_channels, self.sample_rate_hz = list(files), n_channels, sample_rate_hz
        self._heads = [_head(file, n_channels) for file in self.files]  # samples and rate of each

    @classmethod
    def of_split(cls, folder: str | Path, split: str, n_channels: int, sample_rate_hz: int) -> RecordedNoise:
        """Those of `folder`/`split`; where there is no test/, the test has the noise of valid/. UserError if there is none."""
        place = split_folder(folder, split)
        files = sorted(path for path in place.glob("*.wav") if not path.name.startswith("."))
        if not files:
            raise UserError(f"Noise missing: '{place}' has no *.wav. Mend task.mixing.noise, or leave it away (null).")
        return cls(files, n_channels, sample_rate_hz)

    @cached_property
    def id(self) -> str:
        """By what the files hold, wherever they lie."""
        cache_root().mkdir(parents=True, exist_ok=True)
        with Fingerprints(cache_root() / "fingerprints.json") as known:
            held = [known.of(file, partial(hash_of, file)) for file in self.files]
        return f"files-1-{hashlib.blake2b('|'.join(held).encode(), digest_size=16).hexdigest()}"

    def cut(self, u: np.ndarray, n_samples: int) -> np.ndarray:
        which = int(u[0] * len(self.files))
        n_of_file, rate_hz = self._heads[which]
        n_read = math.ceil(n_samples * rate_hz / self.sample_rate_hz) + 1
        audio = _read_ring(self.files[which], int(u[1] * n_of_file), min(n_read, n_of_file))[: self.n_channels]
        found = np.stack([resample(channel, rate_hz, self.sample_rate_hz) for channel in audio])
        if not found[0].any():
            raise UserError(
                f"'{self.files[which]}' is silent somewhere; noise sounds all the time. Take it out of its folder."
            )
        return np.stack([_ring(channel, 0, n_samples) for channel in found])


def _ring(row: np.ndarray, start: int, n: int) -> np.ndarray:
    """`n` samples of `row` (time,) from `start` on, from its beginning again behind its end."""
    if start + n <= len(row):
        return row[start : start + n]
    return np.take(row, np.arange(start, start + n), mode="wrap")


def _head(path: Path, n_channels: int) -> tuple[int, int]:
    """How many samples a file has, and their rate."""
    import soundfile

    try:
        head = soundfile.info(str(path))
    except (soundfile.LibsndfileError, RuntimeError, OSError):
        raise UserError(f"'{path}' cannot be decoded. Copy or download it again.") from None
    if n_channels > 1 and head.channels != n_channels:
        raise UserError(
            f"'{path}' has {head.channels} channels; noise of {n_channels} is wanted. Take it out of its folder."
        )
    if not head.frames:
        raise UserError(f"'{path}' holds no samples. Take it out of its folder.")
    return head.frames, head.samplerate


def _read_ring(path: Path, start: int, n: int) -> np.ndarray:
    """`n` samples from `start` on, no more than the file has: float32 (channel, time)."""
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            file.seek(start)
            found = file.read(n, dtype="float32", always_2d=True)
            if len(found) < n:
                file.seek(0)
                found = np.concatenate([found, file.read(n - len(found), dtype="float32", always_2d=True)])
    except (soundfile.LibsndfileError, RuntimeError, OSError):
        raise UserError(f"'{path}' cannot be decoded. Copy or download it again.") from None
    return found.T
