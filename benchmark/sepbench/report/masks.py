"""Masks that a method shows, and what they add up to (Fig. 5 of Verma, SepClsNet)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import torch
from matplotlib.colors import TwoSlopeNorm

from sepbench.errors import UserError
from sepbench.report.style import INK, MASK_MAP, SUM_MAP, figure, in_words

COLUMNS = 700  # of a panel, at most: frames beyond are averaged, since no picture has room for 6000
NEAR = 0.1  # a sum this close to 1 shares the mixture out
WIDTH = 38  # characters above a panel
WANTED = "wanted (source, feature, frame), a mask per estimate, 0 to 1"


@dataclass(frozen=True)
class Masks:
    """The masks of one answer, ready to be drawn."""

    values: np.ndarray  # (source, feature, frame), 0 to 1, features from the bottom up
    names: tuple[str, ...]  # of the sources
    span_s: tuple[float, float]
    extent: tuple[float, float]
    axis: str
    before: str = ""  # what is done to the sounds after the masks

    @property
    def sum(self) -> np.ndarray:
        """(feature, frame), 0 to the number of masks."""
        return self.values.sum(0)


def read_masks(trace: Mapping[str, Any] | None, names: Sequence[str], order: Sequence[int]) -> Masks | None:
    """The masks of a trace (see the package), where it has any: those of the sources in `order`, called by their `names`.

    UserError where a trace is not as the package has it.
    """
    if not trace or "masks" not in trace or not names:
        return None
    values = torch.as_tensor(trace["masks"]).detach().float().cpu().numpy()
    _check(trace, values, len(names))
    values = values[list(order)]
    start_s, hop_s = float(trace.get("mask_start_s", 0.0)), float(trace["mask_hop_s"])
    axis, n_features = str(trace["mask_axis"]), values.shape[1]
    extent = trace.get("mask_extent")
    if extent is None:
        bottom_up, by = _bottom_up(trace, values)
        values, axis = values[:, bottom_up], f"{axis}, by\n{by}" if by else axis
    return Masks(
        values, tuple(names[i] for i in order), (start_s, start_s + values.shape[2] * hop_s),
        (0.5, n_features + 0.5) if extent is None else (float(extent[0]), float(extent[1])), in_words(axis),
        str(trace.get("masks_before", "")),
    )  # fmt: skip


def _check(trace: Mapping[str, Any], values: np.ndarray, n_sources: int) -> None:
    for key in ("mask_hop_s", "mask_axis"):
        if key not in trace:
            raise UserError(f"trace: has masks and no {key}. sepbench.report says what it is.")
    if values.ndim != 3 or len(values) != n_sources or not values.size:
        raise UserError(f"trace: masks {values.shape} for {n_sources} estimates; {WANTED}.")
    if not (values.min() >= -1e-6 and values.max() <= 1 + 1e-6):  # false where one is not a number
        raise UserError(f"trace: masks from {values.min():g} to {values.max():g}; {WANTED}.")
    order = trace.get("mask_order")
    if order is not None and sorted(np.asarray(order).tolist()) != list(range(values.shape[1])):
        raise UserError(f"trace: mask_order is no order of {values.shape[1]} features. Give each index once.")


def _bottom_up(trace: Mapping[str, Any], values: np.ndarray) -> tuple[np.ndarray, str]:
    """The order of the features, and what it follows."""
    given = trace.get("mask_order")
    if given is not None:
        return np.asarray(given), str(trace.get("mask_order_by", ""))
    return np.argsort(values[0].mean(-1), kind="stable"), "mean of the first mask"


def shares_of_sum(masks: Masks) -> tuple[float, float]:
    """The mean of the sum, and the share of its cells that lie within NEAR of 1. Both are 1 where masks share all out."""
    whole = masks.sum
    return float(whole.mean()), float((np.abs(whole - 1) <= NEAR + 1e-6).mean())


def draw_masks(masks: Masks, path: Path, title: str = "", seconds: float | None = None) -> None:
    """Each mask, and their sum on a scale of its own that turns at 1; from 0 to `seconds`, None: as far as they go."""
    n = len(masks.values) + 1
    n_columns = {4: 2}.get(n, min(n, 3))
    n_rows = math.ceil(n / n_columns)
    with figure(path, 0.9 + 3.6 * n_columns, 0.75 + 2.7 * n_rows) as drawing:
        drawing.suptitle(fill(title, WIDTH * n_columns), fontsize=10.5, x=0.01, ha="left")
        panels = drawing.subplots(n_rows, n_columns, squeeze=False, sharex=True, sharey=True)
        flat = panels.ravel()
        for i, panel in enumerate(flat):
            panel.set_visible(i < n)
            if i + n_columns >= n:
                panel.tick_params(labelbottom=True)
                panel.set(xlabel="Time, s")
        for row in panels:
            row[0].set(ylabel=masks.axis)
        for panel, values, name in zip(flat, masks.values, masks.names):
            shades = show(panel, masks, values, f"Mask of {name}", MASK_MAP, vmin=0, vmax=1)
        bar = drawing.colorbar(shades, ax=panels, aspect=30, fraction=0.03, pad=0.01)
        bar.set_label("Mask of an estimate")
        bar.outline.set_visible(False)
        mean, near = shares_of_sum(masks)
        told = f"Sum{f' before {masks.before}' if masks.before else ''}: mean {mean:.2f}, {100 * near:.0f} % within {NEAR} of 1"
        norm = TwoSlopeNorm(1, 0, max(2, len(masks.values)))
        shades = show(flat[n - 1], masks, masks.sum, told, SUM_MAP, norm=norm)
        bar = drawing.colorbar(shades, ax=panels, aspect=30, fraction=0.03, pad=0.01)
        bar.set_label("Sum of the masks\n(1: nothing added or lost)")
        bar.ax.axhline(1, color=INK, linewidth=1.2)
        bar.outline.set_visible(False)
        if seconds is not None:
            flat[0].set(xlim=(0, seconds))  # frames may end before the sound does, and its last tick with them


def show(
    panel: Any, masks: Masks, values: np.ndarray, title: str, colours: Any, width: int = WIDTH, **scale: Any
) -> Any:
    """(feature, frame) in `panel`, whose title has lines of up to `width` characters."""
    panel.set_title(fill(title, width))
    return panel.imshow(
        _narrowed(values), origin="lower", aspect="auto", extent=(*masks.span_s, *masks.extent), cmap=colours,
        interpolation="nearest", **scale,
    )  # fmt: skip


def _narrowed(values: np.ndarray) -> np.ndarray:
    """Means over neighbouring frames, so that COLUMNS are left: (feature, frame) -> (feature, column)."""
    n = values.shape[-1]
    if n <= COLUMNS:
        return values
    edges = np.linspace(0, n, COLUMNS + 1).astype(int)
    return np.add.reduceat(values, edges[:-1], axis=-1) / np.diff(edges)
