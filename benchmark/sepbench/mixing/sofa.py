"""Measured rooms: impulse responses in SOFA files (AES69), one room a file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sepbench.corpora.cache import resample
from sepbench.errors import UserError
from sepbench.mixing.shoebox import trimmed

if TYPE_CHECKING:
    from sepbench.progress import Progress

N_CHANNELS = 4  # first-order ambisonics, in the order in which the file has them; the first is the reference
WANTED = "wanted Data.IR of (measurement, 4 receivers, sample): first-order ambisonics"


def sofa_files(folder: Path) -> list[Path]:
    """The SOFA files in `folder`, by name. UserError where there are none."""
    found = sorted(path for path in folder.glob("*.sofa") if not path.name.startswith(".")) if folder.is_dir() else []
    if not found:
        what = "there is no such folder" if not folder.is_dir() else "that folder has no *.sofa"
        raise UserError(f"SOFA file missing: '{folder}': {what}. Mend task.mixing.room_ir, or leave it away (null).")
    return found


def n_positions(path: Path) -> int:
    """How many places of a source the file has. UserError where it is no SOFA file of four receivers."""
    with _Opened(path) as data:
        shape = data.shape
    return int(shape[0]) * (int(shape[3]) if len(shape) == 4 else 1)


@lru_cache(maxsize=256)
def read_response(path: Path, position: int, sample_rate_hz: int) -> np.ndarray:
    """The response from one place at `sample_rate_hz`, without silence before it: float32 (channel, tap).

    UserError where it cannot be read.
    """
    with _Opened(path) as data:
        if len(data.shape) == 4:  # several emitters: (measurement, receiver, sample, emitter)
            measurement, emitter = divmod(position, data.shape[3])
            found = data[measurement, :, :, emitter]
        else:
            found = data[position]
        rate_hz = _rate_hz(data, path)
    response = np.stack([resample(each, rate_hz, sample_rate_hz) for each in np.asarray(found, np.float32)])
    if not np.isfinite(response).all() or not response[0].any():
        raise UserError(f"'{path}': measurement {position} is silent or not finite. Take the file out of its folder.")
    response = trimmed(response)  # what it was measured with stays in it
    response.setflags(write=False)  # it is remembered, and handed out again
    return response


def broken_rooms(files: Sequence[Path], sample_rate_hz: int, progress: Progress) -> list[str]:
    """A line for each of `files` that cannot be used: the first thing that is wrong with it."""
    broken = []
    with progress.bar("reading rooms", len(files)) as bar:
        for path in files:
            try:
                for position in range(n_positions(path)):
                    read_response(path, position, sample_rate_hz)
            except UserError as error:
                broken.append(str(error))
            bar.advance()
    return broken


class _Opened:
    """A context: the Data.IR of a file, looked at."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Any:
        import h5py

        if not self.path.is_file():
            raise UserError(f"SOFA file missing: '{self.path}'. Restore it, or mend task.mixing.room_ir.")
        try:
            self.file = h5py.File(self.path, "r")
        except OSError:
            raise UserError(f"'{self.path}' is no SOFA file, or is damaged. Copy or download it again.") from None
        try:
            return self._checked()
        except Exception as error:
            self.__exit__(type(error), error)
            raise

    def _checked(self) -> Any:
        data = self.file.get("Data.IR")
        shape: tuple[int, ...] = getattr(data, "shape", ())
        if len(shape) not in (3, 4) or "Data.SamplingRate" not in self.file:
            raise UserError(f"'{self.path}' holds no impulse responses; {WANTED}, and Data.SamplingRate.")
        for name in ("Data.IR", "Data.SamplingRate"):
            kind = getattr(self.file[name], "dtype", None)
            if kind is None or kind.kind not in "fiu":
                said = f"'{self.path}': {name} holds no numbers ({'a group' if kind is None else kind})"
                raise UserError(f"{said}. Copy or download it again, or take it out of its folder.")
        if shape[1] != N_CHANNELS:
            raise UserError(f"'{self.path}' has {shape[1]} receivers; {WANTED}.")
        if 0 in shape:
            raise UserError(f"'{self.path}' is empty: Data.IR is {shape}; {WANTED}.")
        return data

    def __exit__(self, kind: type | None = None, error: BaseException | None = None, *rest: object) -> None:
        self.file.close()
        if isinstance(error, (OSError, RuntimeError, KeyError)):  # of h5py, where a part cannot be read
            first = (str(error).splitlines() or [""])[0].rstrip(". ")
            told = f"'{self.path}' is damaged: a part of it cannot be read ({first})"
            raise UserError(f"SOFA file: {told}. Copy or download it again.") from None


def _rate_hz(data: Any, path: Path) -> int:
    rate = np.unique(np.asarray(data.file["Data.SamplingRate"], np.float64))
    if len(rate) != 1 or not np.isfinite(rate[0]) or not rate[0] > 0 or rate[0] != round(rate[0]):
        raise UserError(f"'{path}': Data.SamplingRate is {rate.tolist()}; wanted one rate in whole Hz.")
    return int(rate[0])
