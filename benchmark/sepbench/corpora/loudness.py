"""Loudness of a mono signal in LUFS (ITU-R BS.1770-4): of a whole signal, and of any cut of it from prefix sums.

K-weighting and gating agree with pyloudnorm's default meter, the field's reference, at every rate (torchaudio has the
same filters, but clamps). Two of its habits come along: its biquads read 0.04 dB below the standard's own table at
48 kHz, and where half a step or more is left over at the end, one more block is measured as if silence followed. Below
0.4 s, where the standard defines nothing, it is that of one ungated block over the event itself, as if repeated.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

BLOCK_S, STEP_S = 0.4, 0.1  # gating blocks overlap by 75 %
ABSOLUTE_GATE_LUFS, RELATIVE_GATE_LU = -70.0, -10.0
OFFSET_DB = -0.691  # K-weighting lifts 997 Hz by about this much
_ABSOLUTE_GATE = 10 ** ((ABSOLUTE_GATE_LUFS - OFFSET_DB) / 10)  # as mean squares
_RELATIVE_GATE = 10 ** (RELATIVE_GATE_LU / 10)
START_UP_MS = 64  # what the filter remembers of the time before a cut has died away by then (its slowest poles: 4 ms)


@lru_cache
def k_weighting(rate: int) -> np.ndarray:
    """Both biquads as second-order sections (2, 6) b0 b1 b2 1 a1 a2: a +4 dB shelf at 1500 Hz, a high-pass at 38 Hz.

    Bilinear transforms of the analog prototypes, by R. Bristow-Johnson's audio EQ cookbook.
    """
    cosine, alpha = _angle(rate, 1500.0, 1 / math.sqrt(2))
    a = 10 ** (4.0 / 40)
    root = 2 * math.sqrt(a) * alpha
    plus, minus = (a + 1) + (a - 1) * cosine, (a + 1) - (a - 1) * cosine
    shelf = [a * (plus + root), -2 * a * ((a - 1) + (a + 1) * cosine), a * (plus - root)]
    shelf += [minus + root, 2 * ((a - 1) - (a + 1) * cosine), minus - root]
    cosine, alpha = _angle(rate, 38.0, 0.5)
    high_pass = [(1 + cosine) / 2, -(1 + cosine), (1 + cosine) / 2, 1 + alpha, -2 * cosine, 1 - alpha]
    sections = np.array([shelf, high_pass])
    return sections / sections[:, 3:4]


def _angle(rate: int, frequency_hz: float, q: float) -> tuple[float, float]:
    angle = 2 * math.pi * frequency_hz / rate
    return math.cos(angle), math.sin(angle) / (2 * q)


def k_weighted(audio: np.ndarray, rate: int) -> np.ndarray:
    """`audio` (time,) as the ear weighs it: float64 (time,), from a filter at rest, with no clamping."""
    from scipy.signal import sosfilt

    signal = np.asarray(audio, np.float64)
    return sosfilt(k_weighting(rate), signal) if len(signal) else signal


def samples_per_point(rate: int) -> int:
    """The grid of prefix sums has one point per millisecond, rounded down to whole samples."""
    return rate // 1000


def k_weighted_energy_prefix(audio: np.ndarray, rate: int) -> np.ndarray:
    """Running sums of the squared K-weighted signal on the 1 ms grid: (time,) -> float64 (time // step + 1,), first 0.

    The energy of grid points [a, b) is prefix[b] - prefix[a]. Samples past the last whole point are left out.
    """
    step = samples_per_point(rate)
    squares = k_weighted(audio, rate)[: len(audio) // step * step] ** 2
    return np.concatenate([[0.0], np.cumsum(squares.reshape(-1, step).sum(1))])  # (point,)


def loudness_lufs(audio: np.ndarray, rate: int) -> float:
    """Loudness of `audio` (time,), full scale 1; -inf where it is silent or below -70 LUFS."""
    prefix = np.concatenate([[0.0], np.cumsum(k_weighted(audio, rate) ** 2)])
    return _gated(prefix, len(audio), rate, 1)


def cut_loudness_lufs(prefix: np.ndarray, start: int, stop: int, rate: int, head: np.ndarray | None = None) -> float:
    """Loudness of grid points [start, stop) of a clip with this `k_weighted_energy_prefix`; -inf if silent.

    Inside the clip the filter is not at rest where the cut begins, so a cut through an offset or a loud low tone reads
    wrong: by over 0.1 dB for one cut in 200 of UrbanSound8K's, by 20 dB and more for the worst. `head`, the first
    START_UP_MS of the cut's audio (or all of a shorter one), mends that; a cut from the clip's beginning needs none.
    """
    cut, step = prefix[start : stop + 1], samples_per_point(rate)
    if head is None or start == 0:
        return _gated(cut, stop - start, rate, step)
    n_points = len(head) // step
    at_rest = _k_weighted_quickly(head[: n_points * step], rate)
    return _gated(cut, stop - start, rate, step, float(at_rest @ at_rest - (cut[n_points] - cut[0])))


def _gated(prefix: np.ndarray, n_points: int, rate: int, step: int, start_up: float = 0.0) -> float:
    """Gated loudness from prefix sums; `start_up` is energy to add to the first block, the only one with the start."""
    if n_points * step / rate < BLOCK_S:
        power = (prefix[n_points] - prefix[0] + start_up) / (n_points * step) if n_points else 0.0
        return _lufs(power) if power >= _ABSOLUTE_GATE else -math.inf
    first, last = _blocks(n_points, rate, step)
    powers = prefix.take(last)
    powers -= prefix.take(first)
    powers[0] += start_up
    powers *= 1 / (BLOCK_S * rate)
    powers = powers[powers >= _ABSOLUTE_GATE]
    if not len(powers):
        return -math.inf
    gate = max(np.add.reduce(powers) / len(powers) * _RELATIVE_GATE, _ABSOLUTE_GATE)
    powers = powers[powers > gate]
    return _lufs(np.add.reduce(powers) / len(powers)) if len(powers) else -math.inf


@lru_cache(maxsize=8192)
def _blocks(n_points: int, rate: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """First and last grid point of each gating block of a signal of `n_points`: two int64 (block,)."""
    n_blocks = round((n_points * step / rate - BLOCK_S) / STEP_S) + 1
    first = np.rint(np.arange(n_blocks) * (STEP_S * rate / step)).astype(np.int64)
    last = np.rint((np.arange(n_blocks) * STEP_S + BLOCK_S) * (rate / step)).astype(np.int64)
    return first, np.minimum(last, n_points)


@lru_cache
def _transfer_function(rate: int) -> tuple[np.ndarray, np.ndarray]:
    shelf, high_pass = k_weighting(rate)
    return np.convolve(shelf[:3], high_pass[:3]), np.convolve(shelf[3:], high_pass[3:])


def _k_weighted_quickly(audio: np.ndarray, rate: int) -> np.ndarray:
    """`k_weighted` of a short signal: one filter of order four, whose rounding does no harm over some milliseconds."""
    from scipy.signal import lfilter

    return lfilter(*_transfer_function(rate), np.asarray(audio, np.float64))


def _lufs(power: float) -> float:
    return OFFSET_DB + 10 * math.log10(power)
