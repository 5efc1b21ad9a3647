"""How figures look, and how they get to disk whole. matplotlib without a screen: figures are made, never shown."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sepbench.errors import UserError
from sepbench.storage import write_bytes

INK, QUIET, GRID = "#222222", "#777777", "#dddddd"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito: told apart by all eyes
# In steps of 2 dB and of 0.05: noise in more colours than that makes files twice as large, and shows no more.
LOUDNESS_MAP, MASK_MAP = matplotlib.colormaps["magma"].resampled(35), matplotlib.colormaps["viridis"].resampled(20)
DENSITY_MAP, SUM_MAP = "viridis", matplotlib.colormaps["RdBu_r"].resampled(41)  # the latter turns at its middle
DPI = 130
LOOK: Any = {
    "font.size": 9, "font.family": "DejaVu Sans", "axes.titlesize": 9.5, "axes.titlelocation": "left",
    "axes.edgecolor": QUIET, "axes.labelcolor": INK, "axes.linewidth": 0.7, "text.color": INK,
    "xtick.color": QUIET, "ytick.color": QUIET, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "lines.linewidth": 1.4,
    "text.usetex": False, "text.parse_math": False,
}  # fmt: skip


@contextmanager
def figure(path: Path, width_in: float, height_in: float) -> Iterator[Any]:
    """A figure to draw on; in the end it is at `path` as PNG, whole, its folder made."""
    with matplotlib.rc_context(LOOK):
        drawing = Figure(figsize=(width_in, height_in), layout="constrained")
        FigureCanvasAgg(drawing)
        yield drawing
        made = io.BytesIO()
        drawing.savefig(made, format="png", dpi=DPI, metadata={"Software": None})
    make_folder(path.parent)
    write_bytes(path, made.getvalue())


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror}. Choose a folder you may write.") from error


def in_words(label: str) -> str:
    """car_horn -> Car horn."""
    words = label.replace("_", " ").strip()
    return words[:1].upper() + words[1:]
