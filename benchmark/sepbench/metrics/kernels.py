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

BLOCK = 2048  # samples of each row that are worked on at a time: those of 8 rows stay near the processor


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
def _energy(row: Array) -> float:
    total = 0.0
    for t in range(len(row)):
        x = np.float64(row[t])
        total += x * x
    return total


@_part
def _products_2x2(a0: Array, a1: Array, b0: Array, b1: Array, out: Array) -> None:
    c00 = c01 = c10 = c11 = 0.0
    for t in range(len(a0)):
        p0, p1, q0, q1 = np.float64(a0[t]), np.float64(a1[t]), np.float64(b0[t]), np.float64(b1[t])
        c00 += p0 * q0
        c01 += p0 * q1
        c10 += p1 * q0
        c11 += p1 * q1
    out[0, 0], out[0, 1], out[1, 0], out[1, 1] = c00, c01, c10, c11


@_part
def _products_4x4(
    a0: Array, a1: Array, a2: Array, a3: Array, b0: Array, b1: Array, b2: Array, b3: Array, out: Array
) -> None:
    """Sixteen sums at a time: as many as there are registers for, each sample being read once."""
    c00 = c01 = c02 = c03 = c10 = c11 = c12 = c13 = 0.0
    c20 = c21 = c22 = c23 = c30 = c31 = c32 = c33 = 0.0
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
    out[0, 0], out[0, 1], out[0, 2], out[0, 3] = c00, c01, c02, c03
    out[1, 0], out[1, 1], out[1, 2], out[1, 3] = c10, c11, c12, c13
    out[2, 0], out[2, 1], out[2, 2], out[2, 3] = c20, c21, c22, c23
    out[3, 0], out[3, 1], out[3, 2], out[3, 3] = c30, c31, c32, c33


@_part
def _tile(
    e: Array, e_begins: Array, s: Array, s_begins: Array,
    i: int, j: int, size: int, start: int, n: int, out: Array, inner: Array,
) -> None:
    """Add the products of references i.. and estimates j.., `size` of each or as many as there are."""
    a0, a1 = _row(s, s_begins, i, start, n), _row(s, s_begins, i + 1, start, n)
    b0, b1 = _row(e, e_begins, j, start, n), _row(e, e_begins, j + 1, start, n)
    if size == 4:
        a2, a3 = _row(s, s_begins, i + 2, start, n), _row(s, s_begins, i + 3, start, n)
        b2, b3 = _row(e, e_begins, j + 2, start, n), _row(e, e_begins, j + 3, start, n)
        _products_4x4(a0, a1, a2, a3, b0, b1, b2, b3, out)
    else:
        _products_2x2(a0, a1, b0, b1, out)
    for p in range(min(size, len(s_begins) - i)):  # rows past the end were the last row again: left out
        for q in range(min(size, len(e_begins) - j)):
            inner[i + p, j + q] += out[p, q]


@_part
def _add_products(
    e: Array, e_begins: Array, s: Array, s_begins: Array, start: int, n: int,
    out: Array, s_energy: Array, e_energy: Array, inner: Array,
) -> None:
    """Add the sums over `n` samples from `start` on of one scene: (reference,), (estimate,), (reference, estimate)."""
    n_reference, n_estimate = len(s_begins), len(e_begins)
    for i in range(0, n_reference, 4):
        for j in range(0, n_estimate, 4):
            if n_reference - i > 2 and n_estimate - j > 2:
                _tile(e, e_begins, s, s_begins, i, j, 4, start, n, out, inner)
                continue
            for p in range(i, min(i + 4, n_reference), 2):
                for q in range(j, min(j + 4, n_estimate), 2):
                    _tile(e, e_begins, s, s_begins, p, q, 2, start, n, out, inner)
    for i in range(n_reference):  # these samples are still in cache
        s_energy[i] += _energy(_row(s, s_begins, i, start, n))
    for j in range(n_estimate):
        e_energy[j] += _energy(_row(e, e_begins, j, start, n))


@_kept
def add_gram(
    e: Array, e_begins: Array, s: Array, s_begins: Array, n_time: int, piece: int, first: int, last: int,
    s_energy: Array, e_energy: Array, inner: Array,
) -> None:
    """Sums of the jobs `first` to `last`, into rows of the last three. Job k is piece k % n of scene k // n.

    e, s: all samples in one row; e_begins (scene, estimate), s_begins (scene, reference): where each row starts in them.
    """
    out = np.empty((4, 4))
    n_pieces = (n_time + piece - 1) // piece
    for k in range(first, last):
        scene, begin = k // n_pieces, k % n_pieces * piece
        end = min(n_time, begin + piece)
        for start in range(begin, end, BLOCK):
            n = min(BLOCK, end - start)
            _add_products(e, e_begins[scene], s, s_begins[scene], start, n, out, s_energy[k], e_energy[k], inner[k])


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
