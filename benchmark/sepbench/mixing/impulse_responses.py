"""Rooms to put sounds into: simulated once and kept on disk, or measured by somebody else and read from SOFA files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property, partial
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sepbench.corpora.cache import cache_root
from sepbench.corpora.files import hash_of
from sepbench.corpora.fingerprints import Fingerprints
from sepbench.errors import UserError
from sepbench.mixing.shoebox import CAPSULES, ShoeboxSettings, drawn, responses
from sepbench.mixing.sofa import n_positions, read_response, sofa_files
from sepbench.storage import write_bytes

SEAL = 16  # bytes of the digest behind a file of simulated responses


class Rooms(Protocol):
    """Impulse responses, room by room. The first channel is the reference."""

    @property
    def id(self) -> str:
        """The same for the same responses."""
        ...

    @property
    def n_rooms(self) -> int: ...

    def n_positions(self, room: int) -> int: ...

    def response(self, room: int, position: int) -> np.ndarray:
        """From one place in a room: float32 (channel, tap)."""
        ...

    def prepare(self, progress: Any) -> None:
        """Whatever takes long, so that nobody has to wait for it later."""


class SimulatedRooms:
    """The rooms of a split, drawn from `seed`: a folder of the cache, a file each, made where it is not there yet.

    Two processes may make them at once: a file is whole or not there. Behind the samples stands a digest of all that comes
    before it; a file that is damaged, or has none, is made anew.
    """

    def __init__(self, settings: ShoeboxSettings, split: str, seed: int, sample_rate_hz: int):
        self.settings, self.sample_rate_hz, self.n_rooms = settings, sample_rate_hz, settings.n_rooms
        told = hashlib.blake2b(settings.told(split, seed, sample_rate_hz).encode(), digest_size=16).digest()
        self._key = np.frombuffer(told, np.uint64)
        self._folder = f"rooms-{told.hex()}"
        self._opened: dict[int, np.ndarray] = {}  # room -> (position, channel, tap)

    @property
    def id(self) -> str:
        return f"{self._folder}-{self.n_rooms}"

    @cached_property
    def folder(self) -> Path:
        return cache_root() / self._folder

    def n_positions(self, room: int) -> int:
        return self.settings.positions

    def response(self, room: int, position: int) -> np.ndarray:
        return self.room(room)[position]

    def room(self, room: int) -> np.ndarray:
        """All responses of a room: float32 (position, channel, tap). They begin and end together."""
        if room not in self._opened:
            found = self._read(room)
            self._opened[room] = self._made(room) if found is None else found
        return self._opened[room]

    def prepare(self, progress: Any) -> None:
        lacking = [room for room in range(self.n_rooms) if self._read(room) is None]
        with progress.bar("simulating rooms", len(lacking)) if progress and lacking else nullcontext() as bar:
            for room in lacking:
                self.room(room)  # which another process may have made meanwhile
                if bar is not None:
                    bar.advance()

    def _file(self, room: int) -> Path:
        return self.folder / f"{room:05d}.npy"

    def _read(self, room: int) -> np.ndarray | None:
        """What the file has, mapped into memory; None where there is none, or one that is not what was written."""
        file = self._file(room)
        try:
            data = file.read_bytes()
            if sealed(data[:-SEAL]) != data:
                return None
            found = np.load(file, mmap_mode="r")
        except (OSError, ValueError, EOFError):
            return None
        wanted = (np.float32, 3, (self.settings.positions, len(CAPSULES)))
        return np.asarray(found) if (found.dtype, found.ndim, found.shape[:2]) == wanted else None

    def _made(self, room: int) -> np.ndarray:
        random = np.random.Generator(np.random.Philox(key=self._key, counter=[0, 0, 0, room]))
        found = responses(drawn(self.settings, random), self.sample_rate_hz)
        written = BytesIO()
        np.save(written, found)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"The cache folder '{self.folder}' cannot be made ({error.strerror}). Set SEPBENCH_CACHE to a folder elsewhere."
            ) from None
        write_bytes(self._file(room), sealed(written.getvalue()))
        return found


def sealed(data: bytes) -> bytes:
    """`data` with its digest behind it, which numpy overlooks."""
    return data + hashlib.blake2b(data, digest_size=SEAL).digest()


class MeasuredRooms:
    """The rooms of SOFA files, a room each, at the rate that is asked for."""

    def __init__(self, files: Sequence[Path], sample_rate_hz: int):
        self.files, self.sample_rate_hz, self.n_rooms = list(files), sample_rate_hz, len(files)
        self._n = [n_positions(file) for file in self.files]

    @classmethod
    def of_split(cls, folder: str | Path, split: str, sample_rate_hz: int) -> MeasuredRooms:
        """Those of `folder`/`split`; where there is no test/, the test has the rooms of valid/."""
        return cls(sofa_files(split_folder(folder, split)), sample_rate_hz)

    @cached_property
    def id(self) -> str:
        """By what the files hold, wherever they lie."""
        cache_root().mkdir(parents=True, exist_ok=True)
        with Fingerprints(cache_root() / "fingerprints.json") as known:
            held = [known.of(file, partial(hash_of, file)) for file in self.files]
        told = "|".join([f"sofa-1|{self.sample_rate_hz}", *held]).encode()
        return f"sofa-{hashlib.blake2b(told, digest_size=16).hexdigest()}"

    def n_positions(self, room: int) -> int:
        return self._n[room]

    def response(self, room: int, position: int) -> np.ndarray:
        return read_response(self.files[room], position, self.sample_rate_hz)

    def prepare(self, progress: Any) -> None:
        """They are read as they are needed."""


def split_folder(folder: str | Path, split: str) -> Path:
    """`folder`/`split`; where there is no test/, valid/."""
    root = Path(folder).expanduser()
    return root / ("valid" if split == "test" and not (root / "test").is_dir() else split)
