"""What several tests share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: tests are many and small
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with Ctrl-C ignored

import pytest

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def repo() -> Path:
    """The root of the checkout."""
    return REPO


@pytest.fixture(scope="session")
def shared() -> Path:
    """Golden figures and real recordings; they are not in the checkout, and tests that need them are skipped."""
    folder = REPO.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"no ../shared beside the checkout: {folder} would hold golden figures and recordings")
    return folder
