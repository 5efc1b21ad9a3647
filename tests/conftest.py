"""What several tests share."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: tests are many and small
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with Ctrl-C ignored

import pytest

from sepbench.report import style

REPO = Path(__file__).resolve().parents[1]


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """No further processes for a file or two, which are done before others have loaded torch; else xdist says how many."""
    return 0 if len(config.args) < 3 and all(".py" in each for each in config.args) else None


@pytest.fixture(autouse=True, scope="module")
def nothing_old_is_garbage() -> None:
    """What earlier files have imported stays to the end. Runs collect garbage before they measure, and need not look at it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def small_pictures() -> Iterator[None]:
    """Figures are painted in few dots: in all of them, they are a third of the time of a small run; tests/report has all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "DPI", 20)
        yield


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
