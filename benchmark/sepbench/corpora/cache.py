"""Clips decoded and resampled once, then memory-mapped: what mixing draws from.

A cache is a folder named by the hash of its content: clips end to end as int16 with a scale each, and prefix sums of
their K-weighted energy. It is built beside its place and moved there whole: a half-written one is never opened.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from math import gcd
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4
from zipfile import BadZipFile

import numpy as np

from sepbench.corpora.base import Clip, Corpus, sorted_clips
from sepbench.corpora.fingerprints import Fingerprints
from sepbench.corpora.joined import path_of
from sepbench.corpora.loudness import START_UP_MS, cut_loudness_lufs, k_weighted_energy_prefix, samples_per_point
from sepbench.errors import UserError
from sepbench.home import cache_root

if TYPE_CHECKING:
    from sepbench.progress import Progress

FORMAT = 1
RESAMPLER = "scipy.signal.resample_poly, Kaiser 5.0"
FULL = 32767
BUILDING = ".building-"
STALE_S = 24 * 3600  # an unfinished build this old was killed


@dataclass(frozen=True)
class ClipCache:
    """Clips sorted by key, at one rate. Clip i is samples[offset[i]:offset[i] + length[i]] * scale[i], full scale 1.

    Its energy is energy[energy_offset[i]:][: length[i] // step + 1]; one grid point spans step = rate // 1000 samples.
    """

    clips: tuple[Clip, ...]
    samples: np.ndarray  # (sample,) int16, memory-mapped
    offset: np.ndarray  # (clip,) int64, in samples
    length: np.ndarray  # (clip,) int64, in samples
    scale: np.ndarray  # (clip,) float32
    energy: np.ndarray  # (grid point,) float64, memory-mapped
    energy_offset: np.ndarray  # (clip,) int64
    sample_rate_hz: int
    content_hash: str
    contents: tuple[str, ...]  # (clip,) a hash of each clip's content

    def audio(self, index: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Samples [start, stop) of clip `index`: float32 (time,), full scale 1."""
        first, length = int(self.offset[index]), int(self.length[index])
        stop = length if stop is None else min(stop, length)
        return self.samples[first + start : first + stop] * self.scale[index]

    def loudness_lufs(self, index: int, start: int, stop: int) -> float:
        """Loudness of grid points [start, stop) of clip `index`, as if the cut were measured alone; -inf if silent."""
        rate, first = self.sample_rate_hz, int(self.energy_offset[index])
        step = samples_per_point(rate)
        head = self.audio(index, start * step, min(stop, start + START_UP_MS) * step) if start else None
        return cut_loudness_lufs(self.energy[first : first + stop + 1], start, stop, rate, head)


def open_cache(
    corpus: Corpus,
    clips: Iterable[Clip],
    sample_rate_hz: int,
    root: Path | None = None,
    progress: Progress | None = None,
) -> ClipCache:
    """The cache of `clips` at `sample_rate_hz`, built first where `root` has none of this content.

    `root` is SEPBENCH_CACHE or ~/.cache/sepbench by default. Two processes may build the same cache at once.
    UserError where a clip cannot be read or `root` cannot be written.
    """
    chosen = sorted_clips(clips)
    if not chosen:
        raise UserError(f"{corpus.name}: no clips left. Widen the classes, folds or saliences that were asked for.")
    root = cache_root() if root is None else Path(root)
    needed = _needed_bytes(chosen, sample_rate_hz)
    try:
        root.mkdir(parents=True, exist_ok=True)
        contents = clip_contents(corpus, chosen, root)
        key = content_hash(chosen, contents, sample_rate_hz)
        place = root / f"{corpus.name}-{sample_rate_hz}-{key}"
        opened = _open(place, chosen, sample_rate_hz, key, contents)
        if opened is None:
            # asked twice, as another process may have just put it there
            if place.exists() and _open(place, chosen, sample_rate_hz, key, contents) is None:
                shutil.rmtree(place)
            _build(corpus, chosen, sample_rate_hz, place, progress)
            opened = _open(place, chosen, sample_rate_hz, key, contents)
    except OSError as error:
        raise _unwritable(root, needed, error) from None
    if opened is None:
        raise UserError(f"The clip cache '{place}' is damaged and cannot be replaced. Remove that folder.")
    return opened


def clip_contents(corpus: Corpus, clips: Sequence[Clip], root: Path) -> tuple[str, ...]:
    """The fingerprint of each clip, remembered under `root` so that a file is read again only where it has changed."""
    with Fingerprints(root / "fingerprints.json") as known:
        return tuple(known.of(path_of(corpus, clip), partial(corpus.fingerprint, clip)) for clip in clips)


def content_hash(clips: Sequence[Clip], contents: Sequence[str], sample_rate_hz: int) -> str:
    """A hash of all that the cache depends on, whatever the files' names on disk and times of change."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr((FORMAT, sample_rate_hz, RESAMPLER)).encode())
    for clip, content in zip(clips, contents, strict=True):
        digest.update(repr((clip.key, clip.label, clip.fold, clip.recording, content)).encode())
    return digest.hexdigest()


def resample(audio: np.ndarray, rate_hz: int, to_hz: int) -> np.ndarray:
    """`audio` (time,) at another rate, by a polyphase filter: float32 (ceil(time * to / from),)."""
    if rate_hz == to_hz:
        return audio
    from scipy.signal import resample_poly

    common = gcd(rate_hz, to_hz)
    return resample_poly(audio, to_hz // common, rate_hz // common, window=("kaiser", 5.0)).astype(np.float32)


def _build(corpus: Corpus, clips: Sequence[Clip], rate: int, place: Path, progress: Progress | None) -> None:
    _sweep(place.parent)
    folder = place.parent / f"{BUILDING}{uuid4().hex}"  # not tempfile's, which nobody else could read once moved
    try:
        folder.mkdir()
        _write(corpus, clips, rate, folder, progress)
        _move(folder, place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # still there where it failed or came second


def _write(corpus: Corpus, clips: Sequence[Clip], rate: int, folder: Path, progress: Progress | None) -> None:
    lengths, scales = np.zeros(len(clips), np.int64), np.zeros(len(clips), np.float32)
    with (
        open(folder / "samples.i16", "wb") as samples,
        open(folder / "energy.f64", "wb") as energy,
        progress.bar("decoding", len(clips)) if progress else nullcontext() as bar,
    ):
        for index, clip in enumerate(clips):
            audio = resample(*corpus.audio(clip), rate)
            scales[index] = max(float(np.abs(audio).max()), 1e-30) / FULL
            whole = np.rint(audio / scales[index]).clip(-FULL, FULL).astype("<i2")
            lengths[index] = len(whole)
            samples.write(whole.tobytes())
            # of the samples as they will be played, rounding included
            energy.write(k_weighted_energy_prefix(whole * scales[index], rate).astype("<f8").tobytes())
            if bar is not None:
                bar.advance()
    np.savez(folder / "index.npz", length=lengths, scale=scales)


def _move(folder: Path, place: Path) -> None:
    try:
        os.replace(folder, place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # another process came first, with the same content
            raise


def _open(
    place: Path, clips: tuple[Clip, ...], rate: int, key: str, contents: tuple[str, ...]
) -> ClipCache | None:
    """The cache at `place`, or None where there is none, or one whose files are not of the size that its index says."""
    try:
        with np.load(place / "index.npz") as index:
            length, scale = index["length"], index["scale"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    points = length // samples_per_point(rate) + 1
    if len(length) != len(clips) or _sizes(place) != (int(length.sum()) * 2, int(points.sum()) * 8):
        return None
    # asarray: plain views of the maps, whose slicing is several times faster than numpy.memmap's own
    samples = np.asarray(np.memmap(place / "samples.i16", "<i2", "r"))
    energy = np.asarray(np.memmap(place / "energy.f64", "<f8", "r"))
    return ClipCache(clips, samples, _starts(length), length, scale, energy, _starts(points), rate, key, contents)


def _sizes(place: Path) -> tuple[int, ...]:
    files = [place / "samples.i16", place / "energy.f64"]
    return tuple(path.stat().st_size if path.exists() else -1 for path in files)


def _starts(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)


def _sweep(root: Path) -> None:
    """Remove what killed builds left behind."""
    for folder in root.glob(BUILDING + "*"):
        with suppress(FileNotFoundError):  # another build may end and take it away
            if time.time() - folder.stat().st_mtime > STALE_S:
                shutil.rmtree(folder, ignore_errors=True)


def _needed_bytes(clips: Sequence[Clip], rate: int) -> int:
    return int(sum(clip.seconds for clip in clips) * (2 * rate + 8 * 1000))


def _unwritable(root: Path, needed: int, error: OSError) -> UserError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    what = f"is full: it needs {needed / 1e6:.0f} MB free" if full else f"cannot be used ({error.strerror or error})"
    return UserError(f"The clip cache folder '{root}' {what}. Make room, or set SEPBENCH_CACHE to a folder elsewhere.")
