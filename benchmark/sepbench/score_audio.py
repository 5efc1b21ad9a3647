"""The sounds of a scene as the judge wants them, read ahead by a few threads, and hashes of what was read.

Whole numbers of up to 24 bits and 32 bit floats are exact in float32; 32 bit numbers and 64 bit floats are read as
float64. The channels of a file are scored as one long signal, with one gain for all. A mixture of more channels than
mono references gives its first (as in DCASE). A hash is of the decoded samples, so that a FLAC file has its WAV's.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch

from sepbench.errors import UserError
from sepbench.scene import Estimate, Mixture, Scene, Source
from sepbench.score_files import File, SceneFiles

READING_ERRORS = (soundfile.SoundFileError, OSError, RuntimeError, TypeError, ValueError, MemoryError)
EXACT_IN_64 = ("DOUBLE", "PCM_32", "ALAC_32")  # subtypes that float32 would round
FORMAT = (("sample rate", "Hz"), ("channel count", "channels"), ("length", "samples"))
AHEAD_BYTES = 64 << 20  # files of later scenes are read ahead up to this size; a long scene is read alone


@dataclass(frozen=True)
class Sound:
    """A file that was read."""

    path: Path
    samples: np.ndarray  # (time, channel), float32 or float64
    rate_hz: int
    digest: bytes  # of rate, shape and samples

    @property
    def format(self) -> tuple[int, int, int]:
        return self.rate_hz, self.samples.shape[1], self.samples.shape[0]

    def signal(self, n_channels: int, kind: np.dtype) -> np.ndarray:
        """(channel * time,): all its channels, or the first where one is wanted."""
        return np.ascontiguousarray(self.samples[:, :n_channels].T, kind).reshape(-1)


@dataclass(frozen=True)
class Heard:
    """A scene with its answer, ready for the judge."""

    files: SceneFiles
    scene: Scene
    estimate: Estimate
    n_channels: int
    seconds: float
    reference_hash: str  # of sounds and labels
    estimate_hash: str
    mixture_hash: str


def read_ahead(scenes: Sequence[SceneFiles], labelled: bool, n_threads: int) -> Iterator[Heard | UserError]:
    """Each scene in turn, or what is wrong with its files; a few later ones are read meanwhile."""
    with ThreadPoolExecutor(n_threads, "reading") as pool:
        waiting: deque[tuple[Future[Heard | UserError], int]] = deque()
        try:
            for files in scenes:
                size = _size(files)
                while waiting and (len(waiting) > n_threads or size + sum(each for _, each in waiting) > AHEAD_BYTES):
                    yield waiting.popleft()[0].result()
                waiting.append((pool.submit(_read_or_refuse, files, labelled), size))
            while waiting:
                yield waiting.popleft()[0].result()
        finally:
            for future, _ in waiting:
                future.cancel()


def read_scene(files: SceneFiles, labelled: bool) -> Heard:
    """The sounds of a scene. `labelled`: the estimates' labels are given too, not the references' alone.

    UserError, naming the file, where one is no audio, is empty or not finite, or differs from the others in sample
    rate, channel count or length.
    """
    references = [_read(file.path) for file in files.references]
    estimates = [_read(file.path) for file in files.estimates]
    mixture = _read(files.mixture) if files.mixture else None
    rate_hz, n_channels, n_time = _agreed(references, estimates, mixture)
    sounds = [*references, *estimates, *([mixture] if mixture else [])]
    kind = np.result_type(np.float32, *(sound.samples.dtype for sound in sounds))
    length, seconds = n_channels * n_time, n_time / rate_hz
    # without a mixture nothing is asked that needs one
    mixed = mixture.signal(n_channels, kind) if mixture else np.zeros(length, kind)
    sources = tuple(
        Source(torch.from_numpy(sound.signal(n_channels, kind)), file.label, ((0.0, seconds),))
        for file, sound in zip(files.references, references)
    )
    scene = Scene(Mixture(torch.from_numpy(mixed)[None], rate_hz, files.id), sources)
    found = np.empty((len(estimates), length), kind)
    for row, sound in zip(found, estimates):
        row[:] = sound.signal(n_channels, kind)
    labels = tuple(file.label for file in files.estimates) if labelled else None
    return Heard(
        files, scene, Estimate(torch.from_numpy(found), labels), n_channels, seconds,
        reference_hash=_hash(files.references, references), estimate_hash=_hash(files.estimates, estimates),
        mixture_hash=mixture.digest.decode() if mixture else "",
    )  # fmt: skip


def _read_or_refuse(files: SceneFiles, labelled: bool) -> Heard | UserError:
    try:
        return read_scene(files, labelled)
    except UserError as error:
        return error


def _read(path: Path) -> Sound:
    try:
        with soundfile.SoundFile(path) as file:
            kind = "float64" if file.subtype in EXACT_IN_64 else "float32"
            samples, rate_hz = file.read(dtype=kind, always_2d=True), file.samplerate
    except READING_ERRORS as error:
        raise UserError(f"{path}: cannot be read as audio ({_reason(path, error)}). Mend it, or remove it.") from error
    if not len(samples):
        raise UserError(f"{path}: holds no samples. Write it again, or remove it.")
    if not np.isfinite(samples.sum()):  # one pass for the usual case
        bad = np.argwhere(~np.isfinite(samples))
        if len(bad):  # else finite samples so large that their sum is not
            time, channel = bad[0].tolist()
            where = f"sample {time}" + (f" of channel {channel}" if samples.shape[1] > 1 else "")
            raise UserError(f"{path}: {where} is {samples[time, channel]}; all must be finite. Write it again.")
    return Sound(path, samples, rate_hz, _digest(samples, rate_hz))


def _digest(samples: np.ndarray, rate_hz: int) -> bytes:
    """The same for samples that float32 holds exactly, whatever they were read as.

    A checksum for each file: nobody forges sounds here, and a cryptographic hash takes as long as reading.
    """
    single = samples.astype(np.float32, copy=False)
    exact = single if single is samples or np.array_equal(single, samples) else samples
    return f"{rate_hz} {exact.shape} {exact.dtype} {zlib.crc32(exact.data)}".encode()


def _reason(path: Path, error: BaseException) -> str:
    """What the system says of the file, else what libsndfile says of its content."""
    try:
        with path.open("rb") as file:
            if not file.read(1):
                return "0 bytes"
    except OSError as system:
        return str(system.strerror)
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or "not a sound file"
    return str(text).strip(" .")


def _agreed(references: Sequence[Sound], estimates: Sequence[Sound], mixture: Sound | None) -> tuple[int, int, int]:
    """(rate_hz, channels, samples) of all; what differs is named beside the first that it differs from."""
    sounds = [*references, *estimates, *([mixture] if mixture else [])]
    if not sounds:
        return 1, 1, 1  # nothing is there and nothing was found: labels alone are judged
    first = sounds[0]
    for sound in sounds[1:]:
        spare = sound is mixture and first.samples.shape[1] == 1  # its first channel is taken
        for (name, unit), theirs, ours in zip(FORMAT, sound.format, first.format):
            if theirs != ours and not (spare and unit == "channels"):
                other = f"that of {first.path} is {ours} {unit}"
                raise UserError(f"{sound.path}: its {name} is {theirs} {unit}; {other}. Make them the same.")
    n_channels = 1 if first is mixture and first.samples.shape[1] > 1 and not references else first.samples.shape[1]
    return first.rate_hz, n_channels, first.samples.shape[0]


def _hash(files: Sequence[File], sounds: Sequence[Sound]) -> str:
    """A hash of labels and sounds, whatever the files are called."""
    whole = hashlib.sha256()
    for file, sound in zip(files, sounds):
        whole.update(f"{len(file.label)} {file.label} ".encode() + sound.digest)
    return whole.hexdigest()


def _size(files: SceneFiles) -> int:
    """About how many bytes the files of a scene hold, by the first of them: asking for each would cost as reading."""
    paths = [each.path for each in (*files.references, *files.estimates)] + ([files.mixture] if files.mixture else [])
    try:
        return len(paths) * paths[0].stat().st_size if paths else 0
    except OSError:
        return 0  # reading will tell
