"""The machine a run has: its threads, and memory that stays once it was asked for."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")  # read once, as BLAS and OpenMP are loaded
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_NEVER_TRIM = -1
_THRESHOLDS_BYTES = (1 << 30, 32 << 20)  # older glibc refuses the first


def tune_allocator() -> bool:
    """Keep freed pages for the next tensor; call before torch is imported. True where it took effect.

    glibc hands every block above 128 KiB back to the kernel when it is freed, and the kernel zeroes it page by page
    when it is asked for again: a tensor of 20 MB costs five times what its arithmetic costs. Does nothing, and never
    raises, where there is no glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt  # absent in musl
        mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
        kept = any(mallopt(_M_MMAP_THRESHOLD, size) for size in _THRESHOLDS_BYTES)
        return bool(mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM)) and kept
    return False


def threads(n: int | None = None) -> int:
    """Have torch, BLAS and OpenMP use `n` threads; hand back `n`. None: OMP_NUM_THREADS, else all our cores.

    Best before torch is imported. Those that are loaded already are told by their own doors.
    """
    count = n or _wanted() or cores()
    for name in THREADS:
        os.environ[name] = str(count)
    if "numpy" in sys.modules:
        from threadpoolctl import threadpool_limits

        threadpool_limits(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)
    return count


def threads_given() -> int:
    """How many the process was given to use."""
    return _wanted() or cores()


def _wanted() -> int | None:
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdigit() and int(first) > 0 else None


def cores() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
