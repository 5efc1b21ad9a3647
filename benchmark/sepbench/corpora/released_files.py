"""Files of a release: of one rate, length and channel count, so that whatever differs is broken or something else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sepbench.corpora.truncation import ends_early
from sepbench.errors import UserError

AGAIN = "Unpack the archive again"


def read_released(
    path: str | Path, title: str, sample_rate_hz: int | None, n_channels: int, n_samples: int | None
) -> np.ndarray:
    """The file as float32 (channel, time), full scale 1.

    UserError, with the release's `title`, where it cannot be read, is cut short, not finite, or has another rate, another
    number of channels, or another length. None: of any rate, of any length but none.
    """
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            if sample_rate_hz not in (None, rate):
                said = f"is at {rate} Hz; the task is at {sample_rate_hz} Hz"
                raise UserError(f"{title}: '{path}' {said}. {AGAIN}, or set task.sample_rate_hz={rate}.")
            if file.channels != n_channels:
                has = f"{file.channels} channel{'s' if file.channels > 1 else ''}"
                raise UserError(f"{title}: '{path}' has {has}; wanted {'one' if n_channels == 1 else n_channels}. {AGAIN}.")
            audio = file.read(dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        reason = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
        raise UserError(f"{title}: '{path}' cannot be read ({reason.rstrip('. ')}). {AGAIN}.") from None
    if ends_early(Path(path)):
        raise UserError(f"{title}: '{path}' is cut short. {AGAIN}.")
    if not len(audio):
        raise UserError(f"{title}: '{path}' holds no samples. {AGAIN}.")
    if n_samples not in (None, len(audio)):
        said = f"lasts {len(audio) / rate:.3f} s; the task's scenes last {(n_samples or 0) / rate:g} s"
        raise UserError(f"{title}: '{path}' {said}. {AGAIN}, or mend task.seconds.")
    if not np.isfinite(audio).all():
        raise UserError(f"{title}: '{path}' holds samples that are not finite. {AGAIN}.")
    return np.ascontiguousarray(audio.T)  # (channel, time)


def header_fits(path: str | Path, sample_rate_hz: int, n_channels: int, n_samples: int) -> bool:
    """Whether the file is one as its header tells; `read_released` says what is wrong."""
    import soundfile

    try:
        facts = soundfile.info(path)
    except (soundfile.LibsndfileError, RuntimeError, OSError):
        return False
    return (facts.samplerate, facts.channels, facts.frames) == (sample_rate_hz, n_channels, n_samples)


def of_odd_size(size_of: Mapping[str, int]) -> list[str]:
    """The files that are not as large as most are: where all last as long and none is packed, something is wrong with them."""
    if not size_of:
        return []
    ((usual, _),) = Counter(size_of.values()).most_common(1)
    return [path for path, size in size_of.items() if size != usual]
