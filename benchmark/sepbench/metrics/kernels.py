"""The loops of `gram`, compiled: sums over time in float64, straight from float32 or float64 samples.

Numba is slow to import, so whoever needs these imports this file late. Sums may be reordered and multiplications fused;
nothing is assumed of NaN and infinity, which must come through to the sums.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numba
import numpy as np

Array: TypeAlias = np.ndarray

# Samples that are worked on at a time: of each row where it is read once; else of all rows together, which so stay in
# the second cache. Longer sums would round more: by 2e-13 rather than 2e-14 for 2^18 samples.
BLOCK = 1 << 14
LEAST = 512  # of each row

_OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": {"reassoc", "contract"}}

_part = numba.njit(**_OPTIONS)  # becomes part of whoever calls it


def _kept(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled once for this machine, where there is a folder to keep the code in; else once in each process."""
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:
        return numba.njit(**_OPTIONS)(function)


@_part
def _row(samples: Array, begins: Array, i: int, start: int, n: int) -> Array:
    """`n` samples of row i from `start` on; of the last row where there is no row i."""
    first = begins[min(i, len(begins) - 1)] + start
    return samples[first : first + n]


@_part
def _sums_1x1(a: Array, b: Array, out: Array) -> None:
    c = u = v = 0.0
    for t in range(len(a)):
        p, q = np.float64(a[t]), np.float64(b[t])
        c += p * q
        u += p * p
        v += q * q
    out[0, 0], out[4, 0], out[5, 0] = c, u, v


@_part
def _sums_2x2(a0: Array, a1: Array, b0: Array, b1: Array, out: Array) -> None:
    c00 = c01 = c10 = c11 = 0.0
    u0 = u1 = v0 = v1 = 0.0
    for t in range(len(a0)):
        p0, p1, q0, q1 = np.float64(a0[t]), np.float64(a1[t]), np.float64(b0[t]), np.float64(b1[t])
        c00 += p0 * q0
        c01 += p0 * q1
        c10 += p1 * q0
        c11 += p1 * q1
        u0 += p0 * p0
        u1 += p1 * p1
        v0 += q0 * q0
        v1 += q1 * q1
    out[0, 0], out[0, 1], out[1, 0], out[1, 1] = c00, c01, c10, c11
    out[4, 0], out[4, 1], out[5, 0], out[5, 1] = u0, u1, v0, v1


@_part
def _sums_4x4(
    a0: Array, a1: Array, a2: Array, a3: Array, b0: Array, b1: Array, b2: Array, b3: Array,
    out: Array,
) -> None:
    """24 sums at a time: with the 8 samples, as many as there are registers (AVX-512).

    A loop of its own for the energies would read and convert each sample again, while none is fetched from memory.
    """
    c00 = c01 = c02 = c03 = c10 = c11 = c12 = c13 = 0.0
    c20 = c21 = c22 = c23 = c30 = c31 = c32 = c33 = 0.0
    u0 = u1 = u2 = u3 = v0 = v1 = v2 = v3 = 0.0
    for t in range(len(a0)):
        p0, p1, p2, p3 = np.float64(a0[t]), np.float64(a1[t]), np.float64(a2[t]), np.float64(a3[t])
        q0, q1, q2, q3 = np.float64(b0[t]), np.float64(b1[t]), np.float64(b2[t]), np.float64(b3[t])
        c00 += p0 * q0
        c01 += p0 * q1
        c02 += p0 * q2
        c03 += p0 * q3
        c10 += p1 * q0
        c11 += p1 * q1
        c12 += p1 * q2
        c13 += p1 * q3
        c20 += p2 * q0
        c21 += p2 * q1
        c22 += p2 * q2
        c23 += p2 * q3
        c30 += p3 * q0
        c31 += p3 * q1
        c32 += p3 * q2
        c33 += p3 * q3
        u0 += p0 * p0
        u1 += p1 * p1
        u2 += p2 * p2
        u3 += p3 * p3
        v0 += q0 * q0
        v1 += q1 * q1
        v2 += q2 * q2
        v3 += q3 * q3
    out[0, 0], out[0, 1], out[0, 2], out[0, 3] = c00, c01, c02, c03
    out[1, 0], out[1, 1], out[1, 2], out[1, 3] = c10, c11, c12, c13
    out[2, 0], out[2, 1], out[2, 2], out[2, 3] = c20, c21, c22, c23
    out[3, 0], out[3, 1], out[3, 2], out[3, 3] = c30, c31, c32, c33
    out[4, 0], out[4, 1], out[4, 2], out[4, 3] = u0, u1, u2, u3
    out[5, 0], out[5, 1], out[5, 2], out[5, 3] = v0, v1, v2, v3


@_part
def _is_one_tile(n_reference: int, n_estimate: int) -> bool:
    """Whether to read all rows once, side by side: faster than tiles that fit, even if most is unused."""
    return max(n_reference, n_estimate) <= 4


@_part
def _size(n_rows: int) -> int:
    """References and estimates of the tile that covers so many rows, or the first of them."""
    return 4 if n_rows > 2 else n_rows


@_part
def _add_tile(
    e: Array, e_begins: Array, s: Array, s_begins: Array, i: int, j: int, size: int, start: int, n: int,
    out: Array, s_energy: Array, e_energy: Array, inner: Array,
) -> None:
    """Add what references i.. and estimates j.. give, `size` of each or as many as there are."""
    a0, b0 = _row(s, s_begins, i, start, n), _row(e, e_begins, j, start, n)
    if size == 1:
        _sums_1x1(a0, b0, out)
    else:
        a1, b1 = _row(s, s_begins, i + 1, start, n), _row(e, e_begins, j + 1, start, n)
        if size == 2:
            _sums_2x2(a0, a1, b0, b1, out)
        else:
            a2, a3 = _row(s, s_begins, i + 2, start, n), _row(s, s_begins, i + 3, start, n)
            b2, b3 = _row(e, e_begins, j + 2, start, n), _row(e, e_begins, j + 3, start, n)
            _sums_4x4(a0, a1, a2, a3, b0, b1, b2, b3, out)
    n_a, n_b = min(size, len(s_begins) - i), min(size, len(e_begins) - j)  # past the end was the last row again
    for p in range(n_a):
        for q in range(n_b):
            inner[i + p, j + q] += out[p, q]
    if j == 0:  # every tile has the energies of its rows: they count once
        for p in range(n_a):
            s_energy[i + p] += out[4, p]
    if i == 0:
        for q in range(n_b):
            e_energy[j + q] += out[5, q]


@_part
def _add_sums(
    e: Array, e_begins: Array, s: Array, s_begins: Array, start: int, n: int,
    out: Array, s_energy: Array, e_energy: Array, inner: Array,
) -> None:
    """Add the sums over `n` samples from `start` on of one scene: (reference,), (estimate,), (reference, estimate)."""
    n_reference, n_estimate = len(s_begins), len(e_begins)
    if _is_one_tile(n_reference, n_estimate):
        size = _size(max(n_reference, n_estimate))
        return _add_tile(e, e_begins, s, s_begins, 0, 0, size, start, n, out, s_energy, e_energy, inner)
    for i in range(0, n_reference, 4):
        for j in range(0, n_estimate, 4):
            size = _size(min(n_reference - i, n_estimate - j))
            for p in range(i, min(i + 4, n_reference), size):
                for q in range(j, min(j + 4, n_estimate), size):
                    _add_tile(e, e_begins, s, s_begins, p, q, size, start, n, out, s_energy, e_energy, inner)


@_kept
def add_gram(
    e: Array, e_begins: Array, s: Array, s_begins: Array, n_time: int, piece: int, first: int, last: int,
    s_energy: Array, e_energy: Array, inner: Array,
) -> None:
    """Sums of the jobs `first` to `last`, into rows of the last three. Job k is piece k % n of scene k // n.

    e, s: all samples in one row; e_begins (scene, estimate), s_begins (scene, reference): where each row starts in them.
    """
    out = np.empty((6, 4))  # of a tile: products (reference, estimate), energies of references, of estimates
    n_pieces = (n_time + piece - 1) // piece
    n_reference, n_estimate = s_begins.shape[1], e_begins.shape[1]
    together = max(LEAST, BLOCK // (n_reference + n_estimate) // 64 * 64)
    block = BLOCK if _is_one_tile(n_reference, n_estimate) else together
    for k in range(first, last):
        scene, begin = k // n_pieces, k % n_pieces * piece
        end = min(n_time, begin + piece)
        e_rows, s_rows, s_sum, e_sum, inner_sum = e_begins[scene], s_begins[scene], s_energy[k], e_energy[k], inner[k]
        for start in range(begin, end, block):
            _add_sums(e, e_rows, s, s_rows, start, min(block, end - start), out, s_sum, e_sum, inner_sum)


@_kept
def add_residual(
    e: Array, e_begins: Array, e_gain: Array, s: Array, s_begins: Array, s_gain: Array,
    n_time: int, piece: int, first: int, last: int, energy: Array,
) -> None:
    """Energies of s_gain * s - e_gain * e of the jobs `first` to `last`: piece k % n of pair k // n."""
    n_pieces = (n_time + piece - 1) // piece
    for k in range(first, last):
        pair, begin = k // n_pieces, k % n_pieces * piece
        end = min(n_time, begin + piece)
        for start in range(begin, end, BLOCK):
            n = min(BLOCK, end - start)
            a, b = _row(s, s_begins, pair, start, n), _row(e, e_begins, pair, start, n)
            total = 0.0
            for t in range(len(a)):
                d = s_gain[pair] * np.float64(a[t]) - e_gain[pair] * np.float64(b[t])
                total += d * d
            energy[k] += total
