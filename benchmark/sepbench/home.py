"""Where this package lives: in a checkout, or installed without one."""

from __future__ import annotations

from pathlib import Path

CARRIED = Path(__file__).resolve().parent / "bundled"  # what a wheel has in place of the checkout


def checkout() -> Path | None:
    """The root of the work tree whose code runs; None where the package was installed without one."""
    return None if CARRIED.is_dir() else Path(__file__).resolve().parents[2]


def home() -> Path:
    """The folder that holds recipes/, baselines/ and results/published: the checkout, or what the wheel carries."""
    return checkout() or CARRIED
