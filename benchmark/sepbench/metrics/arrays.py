"""What every measure asks of its arguments: equal shapes, finite samples, float64 arithmetic in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

Array: TypeAlias = "Tensor | np.ndarray"

BLOCK_SAMPLES = 1 << 23  # bounds the memory of one step: 64 MiB for each float64 array


def as_tensor(array: Array) -> Tensor:
    """The same numbers as a tensor where they are; on the CPU where the device knows no float64 (MPS)."""
    if isinstance(array, np.ndarray):
        array = np.require(array, requirements=["C", "W"])  # torch takes neither read-only nor reversed arrays
    tensor = torch.as_tensor(array).detach()
    return tensor.cpu() if tensor.device.type == "mps" else tensor


def shape_text(array: Tensor) -> str:
    return "x".join(map(str, array.shape)) or "a scalar"


def signals(*, estimate: Array, reference: Array) -> tuple[Tensor, Tensor]:
    """Both as tensors of one shape (..., time) on one device. ValueError on other shapes and non-finite samples."""
    e, s = as_tensor(estimate), as_tensor(reference)
    if e.ndim == 0 or e.shape != s.shape or e.shape[-1] == 0:
        raise ValueError(
            f"estimate (..., time) is {shape_text(e)} and reference (..., time) is {shape_text(s)}: "
            "both must have the same shape, with at least one sample"
        )
    return _finite(e, s)


def signal_sets(*, estimate: Array, reference: Array) -> tuple[Tensor, Tensor]:
    """Both as tensors (..., source, time) that differ at most in their number of sources. Errors as in `signals`."""
    e, s = as_tensor(estimate), as_tensor(reference)
    if e.ndim < 2 or e.ndim != s.ndim or e.shape[:-2] != s.shape[:-2] or e.shape[-1] != s.shape[-1] or not e.shape[-1]:
        raise ValueError(
            f"estimate (..., source, time) is {shape_text(e)} and reference (..., source, time) is {shape_text(s)}: "
            "all axes but source must be the same, with at least one sample"
        )
    return _finite(e, s)


def mixture_like(mixture: Array, reference: Tensor) -> Tensor:
    """The mixture, repeated for each source where it has no source axis: (..., time). ValueError where it cannot be."""
    x = as_tensor(mixture).to(reference.device)
    fits = x.ndim <= reference.ndim and x.shape[-1:] == reference.shape[-1:]
    if not fits or any(a not in (1, b) for a, b in zip(x.shape[::-1], reference.shape[::-1], strict=False)):
        raise ValueError(
            f"mixture (..., time) is {shape_text(x)} and reference (..., time) is {shape_text(reference)}: "
            "the mixture must have the same time axis, and its other axes must be the same, 1 or absent"
        )
    check_finite(x, "mixture")
    return x.expand(reference.shape)


def check_finite(array: Tensor, name: str, axes: tuple[str, str] = ("source", "sample")) -> None:
    """ValueError that names the first entry that is NaN or infinite: its source, and its sample, by the last axes."""
    if bool(torch.isfinite(array.sum())):  # one pass for the usual case; a sum cannot hide a NaN or an infinity
        return
    bad = torch.nonzero(~torch.isfinite(array))
    if len(bad):  # else finite samples so large that their sum is not
        *where, last = bad[0].tolist()
        source = f" {axes[0]} {', '.join(map(str, where))}," if where else ""
        raise ValueError(f"{name}:{source} {axes[1]} {last} is {array[tuple(bad[0])].item()}; it must be finite")


def by_blocks(function: Callable[[Tensor, Tensor], Tensor], e: Tensor, s: Tensor) -> Tensor:
    """`function` of (row, time) float64 pairs -> (row,), for (..., time) pairs -> (...), a few rows at a time."""
    rows = max(1, BLOCK_SAMPLES // e.shape[-1])
    flat = zip(e.reshape(-1, e.shape[-1]).split(rows), s.reshape(-1, s.shape[-1]).split(rows), strict=True)
    return torch.cat([function(a.double(), b.double()) for a, b in flat]).reshape(e.shape[:-1])


def energy(array: Tensor) -> Tensor:
    """Sum of squares over time: (..., time) -> (...)."""
    return torch.linalg.vecdot(array, array)


def decibels(numerator: Tensor, denominator: Tensor) -> Tensor:
    """10 log10 of a ratio of energies; infinite where one of them is zero."""
    return 10 * (torch.log10(numerator) - torch.log10(denominator))


def _finite(e: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    check_finite(e, "estimate")
    check_finite(s, "reference")
    return e, s.to(e.device)
