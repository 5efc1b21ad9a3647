"""Inner products of all references and estimates of a scene in float64, from one pass over the audio.

The samples are never copied as a whole, nor turned into float64 as a whole. On the CPU, float32 and float64 rows whose
samples lie side by side are read where they are, by compiled loops; expanded, sliced and memory-mapped ones too. Beside
the results, this takes at most PIECES of them per scene. All else (other devices, other types, rows with their samples
apart) goes through torch, a block of references and estimates together at a time: the bound is ten blocks in float64,
40 MiB on the CPU and 640 MiB on other devices, whatever the length and the number of scenes.

Threads (as many as torch may use) share scenes and pieces of long scenes. The pieces do not depend on their number, so
the figures do not either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

BLOCK_SAMPLES = 1 << 19  # of all rows together, on the CPU
DEVICE_BLOCK_SAMPLES = 1 << 23  # elsewhere, where small steps cost more
PIECES = 64  # of a scene, at most
PIECE_SAMPLES = 1 << 18  # of each row, at least
THREAD_SAMPLES = 1 << 20  # what is worth the starting of a thread
# Energies outside of this are formed anew from rows brought to a peak near 1, so that no product is lost. Samples of
# float32 stay inside, except for silence.
SAFE_ENERGY = 1e-200, 1e200

Sums = tuple[Tensor, Tensor, Tensor]
Where = tuple[Tensor, ...]  # indices of pairs: one tensor for each axis of (..., reference, estimate)


@dataclass(frozen=True)
class Gram:
    """Sums over time of rows times their scale: powers of two, 1 unless the energy would not fit into a float64."""

    s_energy: Tensor  # (..., reference)
    e_energy: Tensor  # (..., estimate)
    inner: Tensor  # (..., reference, estimate)
    s_scale: Tensor  # (..., reference)
    e_scale: Tensor  # (..., estimate)


def gram(e: Tensor, s: Tensor, complain: Callable[[], None]) -> Gram:
    """All inner products: estimates (..., estimate, time) and references (..., reference, time) on one device.

    Whether samples are finite is told by the energies: where one is not, `complain` is called to find the sample and
    raise. It returns where samples are finite and only so large that their squares are not.
    """
    s_energy, e_energy, inner = _sums(e, s)
    if not (torch.isfinite(s_energy).all() and torch.isfinite(e_energy).all()):
        complain()
    s_scale, e_scale = _scales(s, s_energy), _scales(e, e_energy)
    extreme = (s_scale != 1).any(-1) | (e_scale != 1).any(-1)
    for scene in torch.nonzero(extreme).tolist():
        at = tuple(scene)
        found = _sums_in_torch(e[at][None], s[at][None], e_scale[at][None, :, None], s_scale[at][None, :, None])
        s_energy[at], e_energy[at], inner[at] = (each[0] for each in found)
    return Gram(s_energy, e_energy, inner, s_scale, e_scale)


def residual_energy(e: Tensor, s: Tensor, where: Where, e_gain: Tensor, s_gain: Tensor) -> Tensor:
    """Energy of s_gain * s - e_gain * e, formed sample by sample, of the pairs at `where`: gains (pair,) -> (pair,)."""
    e_rows, s_rows = (*where[:-2], where[-1]), where[:-1]  # scene and estimate, scene and reference, of each pair
    if _fits_kernels(e) and _fits_kernels(s):
        return _residual_compiled(e, s, e_rows, s_rows, e_gain, s_gain)
    energy = e_gain.new_zeros(len(e_gain))
    for some, time in _chunks(len(e_gain), 2, e):
        e_some, s_some = (tuple(index[some] for index in rows) for rows in (e_rows, s_rows))
        difference = s[..., time][s_some].double() * s_gain[some, None]  # (pair, time)
        difference -= e[..., time][e_some].double() * e_gain[some, None]
        energy[some] += torch.linalg.vecdot(difference, difference)
    return energy


def _residual_compiled(e: Tensor, s: Tensor, e_rows: Where, s_rows: Where, e_gain: Tensor, s_gain: Tensor) -> Tensor:
    from sepbench.metrics import kernels

    e_samples, e_begins = _rows(e)
    s_samples, s_begins = _rows(s)
    e_begins, s_begins = e_begins[tuple(map(np.asarray, e_rows))], s_begins[tuple(map(np.asarray, s_rows))]
    n_pairs, n_time = len(e_begins), e.shape[-1]
    piece, n_pieces = _pieces(n_time)
    energy = np.zeros(n_pairs * n_pieces)
    pairs = e_samples, e_begins, e_gain.contiguous().numpy(), s_samples, s_begins, s_gain.contiguous().numpy()

    def work(first: int, last: int) -> None:
        kernels.add_residual(*pairs, n_time, piece, first, last, energy)

    _in_threads(work, len(energy), 2 * n_pairs * n_time)
    return torch.from_numpy(energy.reshape(n_pairs, n_pieces).sum(1))


def _sums(e: Tensor, s: Tensor) -> Sums:
    """Energies of s, energies of e, and their inner products, however they are best formed."""
    if _fits_kernels(e) and _fits_kernels(s):
        return _sums_compiled(e, s)
    if e.ndim > 3 and len(e):  # one by one, since to merge axes may be to copy
        s_sums, e_sums, inners = zip(*(_sums(a, b) for a, b in zip(e, s, strict=True)), strict=True)
        return torch.stack(s_sums), torch.stack(e_sums), torch.stack(inners)
    shape = e.shape[:-2]
    e, s = (x.reshape(math.prod(shape), *x.shape[-2:]) for x in (e, s))  # (scene, source, time)
    s_energy, e_energy, inner = (x.reshape(*shape, *x.shape[1:]) for x in _sums_in_torch(e, s))
    return s_energy, e_energy, inner


def _sums_in_torch(e: Tensor, s: Tensor, e_scale: Tensor | None = None, s_scale: Tensor | None = None) -> Sums:
    """(scene, estimate, time), (scene, reference, time), scales (scene, row, 1) that multiply them."""
    n_scenes, n_estimate, n_time = e.shape
    n_reference = s.shape[1]
    new = torch.zeros((), dtype=torch.float64, device=e.device).new_zeros
    s_energy, e_energy = new(n_scenes, n_reference), new(n_scenes, n_estimate)
    inner = new(n_scenes, n_reference, n_estimate)
    for some, time in _chunks(n_scenes, n_reference + n_estimate, e):
        a, b = s[some, :, time].double(), e[some, :, time].double()
        if s_scale is not None and e_scale is not None:
            a, b = a * s_scale[some], b * e_scale[some]
        s_energy[some] += torch.linalg.vecdot(a, a)
        e_energy[some] += torch.linalg.vecdot(b, b)
        inner[some] += a @ b.mT
    return s_energy, e_energy, inner


def _sums_compiled(e: Tensor, s: Tensor) -> Sums:
    from sepbench.metrics import kernels

    e_samples, e_begins = _rows(e)
    s_samples, s_begins = _rows(s)
    shape, n_time, n_estimate, n_reference = e.shape[:-2], e.shape[-1], e.shape[-2], s.shape[-2]
    n_scenes = math.prod(shape)
    piece, n_pieces = _pieces(n_time)
    n_jobs = n_scenes * n_pieces
    sums = np.zeros((n_jobs, n_reference)), np.zeros((n_jobs, n_estimate)), np.zeros((n_jobs, n_reference, n_estimate))
    rows = e_samples, e_begins.reshape(n_scenes, n_estimate), s_samples, s_begins.reshape(n_scenes, n_reference)

    def work(first: int, last: int) -> None:
        kernels.add_gram(*rows, n_time, piece, first, last, *sums)

    _in_threads(work, n_jobs, n_scenes * (n_estimate + n_reference) * n_time)
    totals = (x.reshape(n_scenes, n_pieces, *x.shape[1:]).sum(1).reshape(*shape, *x.shape[1:]) for x in sums)
    s_energy, e_energy, inner = map(torch.from_numpy, totals)
    return s_energy, e_energy, inner


def _fits_kernels(x: Tensor) -> bool:
    """Whether the compiled loops can read it where it is."""
    in_order = x.stride(-1) == 1 or x.shape[-1] == 1
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64) and in_order and x.numel() > 0


def _rows(x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(..., time) as all samples that it reaches, in one row, and where each of its rows begins in them (...)."""
    reach = 1 + sum((n - 1) * stride for n, stride in zip(x.shape, x.stride(), strict=True))
    begins = np.zeros(x.shape[:-1], np.int64)
    for axis, (n, stride) in enumerate(zip(x.shape[:-1], x.stride()[:-1], strict=True)):
        begins += (np.arange(n) * stride).reshape(n, *[1] * (x.ndim - 2 - axis))
    return torch.as_strided(x, (reach,), (1,)).numpy(), begins


def _scales(x: Tensor, energy: Tensor) -> Tensor:
    """The power of two that brings the peak of a row near 1, for rows with an energy outside SAFE_ENERGY; else 1."""
    scale = torch.ones_like(energy)
    if x.dtype != torch.float64:
        return scale
    low, high = SAFE_ENERGY
    for where in torch.nonzero((energy < low) | ~(energy <= high)).tolist():
        at = tuple(where)
        peak = max(float(part.abs().amax()) for part in x[at].split(BLOCK_SAMPLES))
        if peak > 0:
            scale[at] = 2.0 ** -max(-1000, min(1000, math.frexp(peak)[1]))
    return scale


def _pieces(n_time: int) -> tuple[int, int]:
    """Samples of a piece, and pieces of a row."""
    piece = max(PIECE_SAMPLES, -(-n_time // PIECES))
    return piece, -(-n_time // piece)


def _chunks(n: int, n_rows: int, x: Tensor) -> Iterator[tuple[slice, slice]]:
    """(some of n, some of the time of x) such that n_rows for each of the first are at most a block."""
    n_time, block = x.shape[-1], BLOCK_SAMPLES if x.device.type == "cpu" else DEVICE_BLOCK_SAMPLES
    n_together = max(1, block // max(1, n_rows * n_time))
    length = max(1, min(n_time, block // max(1, n_rows)))
    for first in range(0, n, n_together):
        for start in range(0, n_time, length):
            yield slice(first, first + n_together), slice(start, start + length)


def _in_threads(work: Callable[[int, int], None], n_jobs: int, n_samples: int) -> None:
    """work(first, last) over all jobs, in threads where it is worth it."""
    n_threads = min(torch.get_num_threads(), n_jobs, n_samples // THREAD_SAMPLES)
    if n_threads < 2:
        return work(0, n_jobs)
    bounds = np.linspace(0, n_jobs, min(n_jobs, 8 * n_threads) + 1).astype(int).tolist()  # 8 each: some are held up
    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(work, bounds[:-1], bounds[1:]))
