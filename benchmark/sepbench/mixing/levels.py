"""How much to turn up any cut of any clip, many cuts at once, so that each sounds as loud as was drawn for it (BS.1770-4).

Energies come from prefix sums over whole clips, which know nothing of a cut; two corrections make them exact. The first
`START_UP_MS` of each cut are filtered anew, since the weighting filter starts from rest there (a cut through a loud low
tone is off by up to 20 dB otherwise). And the absolute gate applies to the cut as it will sound, so that gain and
loudness have to be found together.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import sosfilt

from sepbench.corpora.cache import ClipCache
from sepbench.corpora.loudness import (
    ABSOLUTE_GATE_LUFS,
    BLOCK_S,
    OFFSET_DB,
    RELATIVE_GATE_LU,
    STEP_S,
    k_weighting,
)

START_UP_MS = 100  # the slowest poles forget within 4 ms: 10^-10 is left
MAX_ROUNDS = 20


def gains(
    cache: ClipCache, clip: np.ndarray, cut_ms: np.ndarray, length_ms: np.ndarray, level_lufs: np.ndarray
) -> np.ndarray:
    """Amplitude factors (cut,) that bring the cuts to `level_lufs`; inf where a cut is silent or nowhere above -70 LUFS."""
    power = _block_powers(cache, clip, cut_ms, length_ms)  # (cut, block), NaN past the last block
    used = ~np.isnan(power)
    power = np.where(used, power, 0)
    shorter = length_ms / 1000 < BLOCK_S  # one ungated block, which equals repeating the event
    gain_db = level_lufs - _gated_lufs(power, used, np.full(len(clip), ABSOLUTE_GATE_LUFS))
    for _ in range(MAX_ROUNDS):
        gate = np.where(shorter | ~np.isfinite(gain_db), ABSOLUTE_GATE_LUFS, ABSOLUTE_GATE_LUFS - gain_db)
        again = level_lufs - _gated_lufs(power, used, gate)
        if np.array_equal(again, gain_db):
            break
        gain_db = again
    return 10 ** (gain_db / 20)


def _block_powers(cache: ClipCache, clip: np.ndarray, cut_ms: np.ndarray, length_ms: np.ndarray) -> np.ndarray:
    per_ms = cache.sample_rate_hz // 1000
    seconds = length_ms * per_ms / cache.sample_rate_hz
    # A rest of at least half a step gets a block of its own, padded with silence, as in pyloudnorm: were it left out, a
    # cut that ends on a bang would be measured without the bang.
    n_blocks = np.maximum(np.round((seconds - BLOCK_S) / STEP_S).astype(np.int64) + 1, 1)
    block = np.arange(n_blocks.max(initial=1))
    used = block < n_blocks[:, None]  # (cut, block)
    first_ms = np.where(used, block * round(STEP_S * 1000), 0)
    last_ms = np.minimum(first_ms + round(BLOCK_S * 1000), length_ms[:, None])
    start = (cache.energy_offset[clip] + cut_ms)[:, None]
    energy = cache.energy[start + last_ms] - cache.energy[start + first_ms]
    anew = _start_up(cache, clip, cut_ms, length_ms)  # (cut, ms)
    row = np.arange(len(clip))[:, None]
    energy += anew[row, np.minimum(last_ms, START_UP_MS)] - anew[row, np.minimum(first_ms, START_UP_MS)]
    duration = np.minimum(length_ms, round(BLOCK_S * 1000))[:, None] * per_ms
    return np.where(used, np.maximum(energy, 0) / np.maximum(duration, 1), np.nan)


def _start_up(cache: ClipCache, clip: np.ndarray, cut_ms: np.ndarray, length_ms: np.ndarray) -> np.ndarray:
    """(cut, START_UP_MS + 1): by how much the running energy of a cut exceeds that of its clip from the same place on."""
    per_ms = cache.sample_rate_hz // 1000
    sounds = np.zeros((len(clip), START_UP_MS * per_ms))
    first = np.asarray(cache.offset)[clip] + cut_ms * per_ms
    known = np.minimum(length_ms, START_UP_MS)
    for i, (a, n) in enumerate(zip(first.tolist(), (known * per_ms).tolist())):
        sounds[i, :n] = cache.samples[a : a + n]
    squares = sosfilt(k_weighting(cache.sample_rate_hz), sounds * cache.scale[clip][:, None]) ** 2
    running = squares.reshape(len(clip), START_UP_MS, per_ms).sum(2).cumsum(1)
    start = (cache.energy_offset[clip] + cut_ms)[:, None]
    point = np.minimum(np.arange(START_UP_MS + 1), known[:, None])
    anew = np.concatenate([np.zeros((len(clip), 1)), running], 1)
    return np.take_along_axis(anew, point, 1) - (cache.energy[start + point] - cache.energy[start])


def _gated_lufs(power: np.ndarray, used: np.ndarray, gate_lufs: np.ndarray) -> np.ndarray:
    gate = 10 ** ((gate_lufs - OFFSET_DB) / 10)  # (cut,)
    loud = used & (power >= gate[:, None])
    gate = np.maximum(gate, _mean(power, loud) * 10 ** (RELATIVE_GATE_LU / 10))
    loud &= power > gate[:, None]
    with np.errstate(divide="ignore"):
        return OFFSET_DB + 10 * np.log10(_mean(power, loud))


def _mean(power: np.ndarray, keep: np.ndarray) -> np.ndarray:
    total = (power * keep).cumsum(1)[:, -1]  # one after the other, so that the padding of a batch changes no rounding
    return total / np.maximum(keep.sum(1), 1)
