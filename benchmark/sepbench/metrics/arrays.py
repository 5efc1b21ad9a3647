"""What every measure asks of its arguments: equal shapes and finite samples. Nothing here copies audio."""

from __future__ import annotations

import warnings
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

Array: TypeAlias = "Tensor | np.ndarray"


def as_tensor(array: Array) -> Tensor:
    """The same numbers as a tensor where they are; on the CPU where the device knows no float64 (MPS).

    Read-only arrays and memory maps are taken as they are, never written to. Only what torch cannot describe (numpy
    arrays that run backwards) is copied.
    """
    if isinstance(array, np.ndarray):
        if any(stride < 0 or stride % array.itemsize for stride in array.strides):
            array = np.ascontiguousarray(array)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, that it could write to a read-only array
            return torch.as_tensor(array)
    tensor = torch.as_tensor(array).detach()
    return tensor.cpu() if tensor.device.type == "mps" else tensor


def shape_text(array: Tensor) -> str:
    return "x".join(map(str, array.shape)) or "a scalar"


def signals(*, estimate: Array, reference: Array) -> tuple[Tensor, Tensor]:
    """Both as tensors of one shape (..., time) on one device. ValueError on other shapes.

    Samples are not looked at: whoever sums their squares learns from the sums whether all are finite.
    """
    e, s = as_tensor(estimate), as_tensor(reference)
    if e.ndim == 0 or e.shape != s.shape or e.shape[-1] == 0:
        raise ValueError(
            f"estimate (..., time) is {shape_text(e)} and reference (..., time) is {shape_text(s)}: "
            "both must have the same shape, with at least one sample"
        )
    return e, s.to(e.device)


def signal_sets(*, estimate: Array, reference: Array, check: bool = True) -> tuple[Tensor, Tensor]:
    """Both as tensors (..., source, time) that differ at most in their number of sources, on one device.

    ValueError on other shapes, and on samples that are not finite unless `check` is left to the sums (see `signals`).
    """
    e, s = as_tensor(estimate), as_tensor(reference)
    if e.ndim < 2 or e.ndim != s.ndim or e.shape[:-2] != s.shape[:-2] or e.shape[-1] != s.shape[-1] or not e.shape[-1]:
        raise ValueError(
            f"estimate (..., source, time) is {shape_text(e)} and reference (..., source, time) is {shape_text(s)}: "
            "all axes but source must be the same, with at least one sample"
        )
    if check:
        check_both(e, s)
    return e, s.to(e.device)


def mixture_like(mixture: Array, reference: Tensor) -> Tensor:
    """The mixture beside the reference, fit to be expanded to its shape (..., time). ValueError where it cannot be."""
    x = as_tensor(mixture).to(reference.device)
    fits = x.ndim <= reference.ndim and x.shape[-1:] == reference.shape[-1:]
    if not fits or any(a not in (1, b) for a, b in zip(x.shape[::-1], reference.shape[::-1], strict=False)):
        raise ValueError(
            f"mixture (..., time) is {shape_text(x)} and reference (..., time) is {shape_text(reference)}: "
            "the mixture must have the same time axis, and its other axes must be the same, 1 or absent"
        )
    return x


def check_both(estimate: Tensor, reference: Tensor) -> None:
    check_finite(estimate, "estimate")
    check_finite(reference, "reference")


def check_finite(array: Tensor, name: str, axes: tuple[str, str] = ("source", "sample")) -> None:
    """ValueError that names the first entry that is NaN or infinite: its source, and its sample, by the last axes."""
    sums = array.sum(-1) if array.ndim else array  # one pass for the usual case; a sum cannot hide NaN or infinity
    for where in torch.nonzero(~torch.isfinite(sums)).tolist():  # in order; a sum of large finite samples is here too
        row = array[tuple(where)]
        bad = torch.nonzero(~torch.isfinite(row))
        if len(bad):
            source = f" {axes[0]} {', '.join(map(str, where))}," if where else ""
            sample = f" {axes[1]} {bad[0].item()}" if array.ndim else ""
            raise ValueError(f"{name}:{source}{sample} is {row[tuple(bad[0])].item()}; it must be finite")


def log(x: Tensor) -> Tensor:
    """Natural logarithm, -infinity at 0.

    On the CPU torch leaves it to a library that starts threads even for a handful of numbers, which then wait for each
    other: milliseconds on a busy machine, more than the pass over the audio takes. So numpy does it there.
    """
    if x.device.type != "cpu":
        return torch.log(x)
    with np.errstate(divide="ignore"):
        return torch.as_tensor(np.log(x.numpy()))
