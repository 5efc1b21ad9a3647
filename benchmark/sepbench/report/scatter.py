"""SI-SDR improvement against input SI-SDR, a panel per class: Fig. 3 of Pishdadian et al. 2020."""

from __future__ import annotations

import math
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from sepbench.report.charts import INPUT, paired_rows
from sepbench.report.style import COLOURS, DENSITY_MAP, INK, QUIET, figure, in_words
from sepbench.report.words import signed
from sepbench.results import read_rows
from sepbench.statistics import Coded

MANY = 400  # points; from here on their density says more than they do
CELLS = 45  # of the density, across a panel
PER_INCH = 12  # characters above the panels
COLUMNS = 5  # panels side by side, at most
MEANS = 12  # the line of means, at most so many
PER_MEAN, FEWEST = 10, 3  # points that a mean needs, and means that a line needs


def draw_scatter(folder: Path, split: str, title: str, out: Path | None = None) -> bool:
    """Write si_sdri.png to `out` (`folder`/figures where it is None) from the rows of the finished run in `folder`.

    `title` stands above, and says which run and which split. Without rows to show, writes nothing; whether there were any
    is handed back.
    """
    points = _points(read_rows(folder, (INPUT, "si_sdri", "si_sdri_by_label")), split)
    if not points:
        return False
    n_columns = min(COLUMNS, len(points))
    n_rows = math.ceil(len(points) / n_columns)
    limits = [_limits(np.concatenate([pairs[axis] for pairs in points.values()])) for axis in (0, 1)]
    path = (out or folder / "figures") / "si_sdri.png"
    width_in = max(4.2, 0.7 + 2.3 * n_columns)
    with figure(path, width_in, 0.75 + 2.5 * n_rows) as drawing:
        panels = drawing.subplots(n_rows, n_columns, squeeze=False, sharex=True, sharey=True).ravel()
        for panel, (label, pairs) in zip(panels, points.items()):
            _draw_class(panel, *pairs, label, limits)
        for i, panel in enumerate(panels):
            panel.set_visible(i < len(points))
            panel.tick_params(labelbottom=i + n_columns >= len(points))
        drawing.supxlabel("Input SI-SDR, dB (dashed: mean, orange: local mean)", fontsize=9)
        drawing.supylabel("SI-SDR improvement, dB", fontsize=9)
        drawing.suptitle(fill(title, int(PER_INCH * width_in)), fontsize=10.5, x=0.01, ha="left")
    return True


def _points(rows: dict[str, np.ndarray], split: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By class, in order of the alphabet: input SI-SDR and improvement of the same source of the same scene, in dB.

    The improvement is that of the estimate with the source's label, as in the paper; of a blind method's, by separation.
    """
    gained = "si_sdri_by_label" if "si_sdri_by_label" in rows["metric"] else "si_sdri"
    before, gain = paired_rows(rows, gained, split)
    label = Coded.of(rows["label"][gain])
    inside = [label.codes == k for k in range(len(label.words))]
    return {name: (rows["value"][before[own]], rows["value"][gain[own]]) for name, own in zip(label.words, inside)}


def _limits(values: np.ndarray) -> tuple[float, float]:
    """What a panel shows: every point whole, and 0."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    margin = 0.06 * max(high - low, 1.0)
    return low - margin, high + margin


def _draw_class(
    panel: Any, before: np.ndarray, gain: np.ndarray, label: str, limits: list[tuple[float, float]]
) -> None:
    if len(before) >= MANY:
        panel.hexbin(
            before, gain, gridsize=(CELLS, round(CELLS / 1.73)), extent=(*limits[0], *limits[1]), mincnt=1,
            bins="log", cmap=DENSITY_MAP, linewidths=0.1,
        )  # fmt: skip
    else:
        alpha = float(np.clip(12 / math.sqrt(len(before)), 0.25, 0.8)) if len(before) else 1.0
        panel.scatter(before, gain, s=9, alpha=alpha, color=COLOURS[0], linewidths=0)
    panel.axhline(0, color=QUIET, linewidth=0.8, zorder=0.5)
    panel.plot(*_line_of_means(before, gain), color=COLOURS[1], linewidth=1.8)
    panel.axhline(gain.mean(), color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    panel.set(xlim=limits[0], ylim=limits[1])
    panel.set_title(f"{in_words(label)}\nmean {signed(float(gain.mean()))} dB, n = {len(gain):,}")


def _line_of_means(before: np.ndarray, gain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean improvement against mean input in groups of equal size along the input; empty with too few points."""
    n_groups = min(MEANS, len(before) // PER_MEAN)
    if n_groups < FEWEST:
        return np.zeros(0), np.zeros(0)
    groups = np.array_split(np.argsort(before, kind="stable"), n_groups)
    return np.array([before[each].mean() for each in groups]), np.array([gain[each].mean() for each in groups])
