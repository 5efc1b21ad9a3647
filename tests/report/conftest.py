"""What the tests of the report share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from matplotlib.figure import Figure

from sepbench.report import history, masks, scatter, scene_picture
from sepbench.report.style import LOOK


@pytest.fixture(autouse=True, scope="module")
def small_pictures() -> None:
    """Here figures are painted in all their dots."""


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The figures that a test has drawn, by file name. They are looked at and not written, which takes most of the time."""
    seen: dict[str, Any] = {}

    @contextmanager
    def unwritten(path: Path, width_in: float, height_in: float) -> Iterator[Any]:
        with matplotlib.rc_context(LOOK):
            seen[path.name] = Figure(figsize=(width_in, height_in))
            yield seen[path.name]

    for module in (history, masks, scatter, scene_picture):
        monkeypatch.setattr(module, "figure", unwritten)
    return seen
