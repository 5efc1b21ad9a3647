"""Where this package lives, in a checkout or installed without one, and where it keeps what can be made again."""

from __future__ import annotations

import os
from pathlib import Path

CARRIED = Path(__file__).resolve().parent / "bundled"  # what a wheel has in place of the checkout


def checkout() -> Path | None:
    """The root of the work tree whose code runs; None where the package was installed without one."""
    return None if CARRIED.is_dir() else Path(__file__).resolve().parents[2]


def home() -> Path:
    """The folder that holds recipes/, baselines/ and results/published: the checkout, or what the wheel carries."""
    return checkout() or CARRIED


def cache_root() -> Path:
    """SEPBENCH_CACHE, or ~/.cache/sepbench."""
    return Path(os.environ.get("SEPBENCH_CACHE") or Path.home() / ".cache" / "sepbench")
