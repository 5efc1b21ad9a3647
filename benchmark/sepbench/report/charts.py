"""The charts of a report, as SVG: improvement against input, classes, and training, a small panel for each method."""

from __future__ import annotations

import base64
import io
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as MplPath

from sepbench.report.history import draw_losses, read_stages
from sepbench.report.style import COLOURS, GRID, INK, LOOK, QUIET, in_words
from sepbench.statistics import Coded, Columns, bootstrap_ci, rows_behind

BIN_DB = 5.0  # of input SI-SDR, over which improvement is averaged
INPUT = "si_sdr_mixture"
FEWEST = 10  # sources that a mean needs
RESAMPLES = 1000
POINTS = 400  # of a method, at most; the means are over all
PANEL_IN, GAP_IN = 2.35, 0.55  # width of a panel, and what the labels on its left need
ACROSS = 5  # panels side by side, at most
TITLE = 30  # characters of a panel's title in a line
DOTS_PER_INCH = 110  # of points, which are no lines
STEPS = 200  # points of a curve, at most
LABEL = 24  # characters of a class
BAR, LIGHT = 0.35, "#8fbfdc"  # half of its height, a class being 1; its colour
TALL = 30  # classes, from which on a panel has its scale above as well as below
PX_PER_IN = 96


@dataclass(frozen=True)
class Chart:
    """A picture in a page."""

    svg: str  # base64
    width_px: int
    height_px: int
    alt: str


@dataclass(frozen=True)
class Gains:
    """A method's sources: (source,) each."""

    before_db: np.ndarray
    gain_db: np.ndarray
    scene: np.ndarray


def gains(rows: Columns, metric: str, split: str) -> Gains:
    """Input SI-SDR and improvement of the sources of `split` that have both."""
    before, gain = paired_rows(rows, metric, split)
    return Gains(rows["value"][before], rows["value"][gain], rows["scene"][before])


def paired_rows(rows: Columns, metric: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Which rows tell input SI-SDR and `metric` of the sources of `split` that have both, by scene and source: (source,) each."""
    scene = Coded.of(rows["scene"]).codes
    key = scene * (int(rows["source"].max(initial=0)) + 2) + rows["source"] + 1  # -1: no source
    before, gain = (np.flatnonzero(rows_behind(rows, name, split)) for name in (INPUT, metric))
    _, i, j = np.intersect1d(key[before], key[gain], return_indices=True)
    return before[i], gain[j]


def gain_chart(methods: Mapping[str, Gains], metric_words: str) -> Chart | None:
    """A panel per method: its sources as faint points, and their means in steps of BIN_DB with 95 % intervals.

    The means of the other methods are grey lines in each. None without a source.
    """
    there = {name: own for name, own in methods.items() if len(own.gain_db)}
    if not there:
        return None
    means = {name: _means(own) for name, own in there.items()}
    every = [np.concatenate([getattr(own, axis) for own in there.values()]) for axis in ("before_db", "gain_db")]
    limits = [_limits(values, cut) for values, cut in zip(every, (0.5, 2.0))]  # an oracle gains 100 dB where nothing overlaps

    def panel(axes: Any, name: str) -> None:
        own, (at, mean, low, high) = there[name], means[name]
        shown = np.random.default_rng(0).permutation(len(own.gain_db))[:POINTS]
        axes.scatter(own.before_db[shown], own.gain_db[shown], s=5, alpha=0.18, color=COLOURS[0], linewidths=0, rasterized=True)
        axes.axhline(0, color=QUIET, linewidth=0.8)
        for other in (each for each in means if each != name):
            axes.plot(*means[other][:2], color="#bbbbbb", linewidth=0.8)
        axes.errorbar(at, mean, (mean - low, high - mean), color=COLOURS[1], marker="o", markersize=3, linewidth=1.4, capsize=2)
        axes.set(xlim=limits[0], ylim=limits[1])
        axes.grid(axis="y", color=GRID, linewidth=0.5)

    words = "; ".join(f"{name} {own.gain_db.mean():.1f} dB on average" for name, own in there.items())
    return _panels(
        list(there), panel, 2.0, "Input SI-SDR, dB", metric_words, f"{metric_words} against input SI-SDR: {words}."
    )


def class_chart(methods: Mapping[str, Mapping[str, Mapping[str, Any]]], metric_words: str) -> Chart | None:
    """A panel per method: a bar per class with its 95 % interval, in one order. `methods`: name -> class -> figures."""
    there = {name: own for name, own in methods.items() if own}
    if not there:
        return None
    labels = sorted({label for own in there.values() for label in own})
    place = {label: i for i, label in enumerate(labels)}
    ends = [end for own in there.values() for each in own.values() for end in [each["mean"], *(each.get("ci95") or [])]]
    limits = _limits(np.array([end for end in ends if end is not None]), cut=0.0)

    def panel(axes: Any, name: str) -> None:
        bars, lines = [], []
        for label, figures in there[name].items():
            y, mean = place[label], figures["mean"]
            bars.append(MplPath([(0, y - BAR), (mean, y - BAR), (mean, y + BAR), (0, y + BAR), (0, y - BAR)], closed=True))
            if None not in (ends := figures.get("ci95") or [None]):
                lines += [(ends[0], y), (ends[1], y), (math.nan, y)]
        # all bars as one path, and all intervals: a page holds thousands of them
        axes.add_patch(PathPatch(MplPath.make_compound_path(*bars), facecolor=LIGHT, linewidth=0))
        axes.plot(*np.array(lines, float).reshape(-1, 2).T, color=INK, linewidth=1.1)
        axes.axvline(0, color=QUIET, linewidth=0.8)
        axes.set(xlim=limits, ylim=(len(labels) - 0.4, -0.6))
        axes.set_axisbelow(True)
        if len(labels) > TALL:
            axes.tick_params(axis="x", labeltop=True)
        axes.set_yticks(range(len(labels)), [printable(in_words(label))[:LABEL] for label in labels])
        axes.tick_params(axis="y", length=0, labelsize=8)
        axes.grid(axis="x", color=GRID, linewidth=0.5)

    alt = f"{metric_words} by class, with intervals: {', '.join(there)}; {len(labels)} classes. The tables hold the figures."
    return _panels(list(there), panel, 0.55 + 0.165 * len(labels), metric_words, "", alt)


def training_chart(folder: Path, order: Sequence[str], name: str) -> Chart | None:
    """A panel per stage: losses and learning rate over steps, from `folder`/history-<stage>.csv. None without any.

    UserError, naming the file, where one is no history.
    """
    stages = {in_words(stage.name): stage for stage in read_stages(folder, order)}
    if not stages:
        return None
    alt = f"Training of {name}: loss over steps in {len(stages)} stage{'s' if len(stages) > 1 else ''}, {', '.join(stages)}."
    return _panels(list(stages), lambda axes, stage: draw_losses(stages[stage], axes, STEPS), 2.0, "", "", alt, width_in=3.0)


def printable(words: str) -> str:
    """`words` without what cannot stand in a picture."""
    return "".join(mark if mark.isprintable() else " " for mark in words)


def _means(own: Gains) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean input, mean improvement and its interval (NaN where there is none), per bin with enough sources."""
    bins = np.floor(own.before_db / BIN_DB)
    found = []
    for each in np.unique(bins):
        inside = bins == each
        if inside.sum() >= FEWEST:
            gain = own.gain_db[inside]
            mean = float(gain.mean())
            ends = bootstrap_ci(gain, np.ones(len(gain)), own.scene[inside], RESAMPLES)
            whisker = (math.nan, math.nan) if ends is None else (min(ends[0], mean), max(ends[1], mean))
            found.append((float(own.before_db[inside].mean()), mean, *whisker))
    at, mean_db, low, high = np.array(found, float).reshape(-1, 4).T
    return at, mean_db, low, high


def _limits(values: np.ndarray, cut: float) -> tuple[float, float]:
    """From the lowest to the highest, and 0; `cut` per cent at either end are left out, lest they squeeze all others."""
    low, high = min(float(np.percentile(values, cut)), 0.0), max(float(np.percentile(values, 100 - cut)), 0.0)
    margin = 0.06 * max(high - low, 0.1)
    return low - margin, high + margin


def _panels(
    names: Sequence[str], draw: Callable[[Any, str], None], height_in: float, below: str, left: str, alt: str,
    width_in: float = PANEL_IN,
) -> Chart:  # fmt: skip
    """A panel per name, in rows, with one scale for all that `draw` gives the same limits."""
    across = min(ACROSS if width_in == PANEL_IN else 4, len(names))
    down = math.ceil(len(names) / across)
    titles = {name: fill(printable(name), TITLE) for name in names}
    lines = max(title.count("\n") + 1 for title in titles.values())
    size = (GAP_IN + 0.9 + width_in * across, down * (height_in + 0.4 + 0.16 * lines) + 0.3)
    with matplotlib.rc_context({**LOOK, "svg.fonttype": "none", "svg.hashsalt": "sepbench"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the text is in the file; the reader's fonts draw it
        drawing = Figure(figsize=size, layout="constrained", dpi=DOTS_PER_INCH)
        panels = drawing.subplots(down, across, squeeze=False).ravel()
        for i, axes in enumerate(panels):
            axes.set_visible(i < len(names))
            if i < len(names):
                draw(axes, names[i])
                axes.set_title(titles[names[i]])
                if below:  # one scale for all: its numbers on the left alone
                    axes.tick_params(labelleft=i % across == 0)
        if below:
            drawing.supxlabel(below, fontsize=9)
        if left:
            drawing.supylabel(left, fontsize=9)
        made = io.BytesIO()
        drawing.savefig(made, format="svg", dpi=DOTS_PER_INCH, metadata={"Date": None, "Creator": None})
    width, height = (round(PX_PER_IN * each) for each in size)
    return Chart(base64.b64encode(made.getvalue()).decode(), width, height, alt)
