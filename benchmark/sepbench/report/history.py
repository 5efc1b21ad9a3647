"""How training went: loss and learning rate over steps, a panel per stage."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

from sepbench.errors import UserError
from sepbench.report.style import COLOURS, GRID, QUIET, figure, in_words

Curve = tuple[list[float], list[float]]  # steps, values


def draw_history(folder: Path) -> None:
    """Write `folder`/figures/training.png from `folder`/history-<stage>.csv. Without any, writes nothing.

    Columns read: step, lr, train_loss, valid_loss; a figure that is missing or not finite leaves a gap.
    UserError, naming the file, where it has no steps.
    """
    stages = {file.stem.removeprefix("history-"): _read(file) for file in sorted(folder.glob("history-*.csv"))}
    stages = {name: curves for name, curves in stages.items() if curves}
    if not stages:
        return
    with figure(folder / "figures" / "training.png", max(4.5, 3.9 * len(stages)), 3.0) as drawing:
        for panel, (name, curves) in zip(drawing.subplots(1, len(stages), squeeze=False)[0], stages.items()):
            _draw_stage(panel, name, curves)


def _read(file: Path) -> dict[str, Curve]:
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    if rows and "step" not in rows[0]:
        raise UserError(f"{file}: has no column 'step'. Restore it, or remove it.")
    curves: dict[str, Curve] = {}
    for name in ("train_loss", "valid_loss", "lr"):
        pairs = [(_number(row["step"]), _number(row.get(name))) for row in rows]
        if any(math.isfinite(value) for _, value in pairs):
            curves[name] = ([step for step, _ in pairs], [value for _, value in pairs])
    return curves


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan


def _draw_stage(panel: Any, name: str, curves: dict[str, Curve]) -> None:
    panel.grid(axis="y", color=GRID, linewidth=0.6)
    panel.set_title(in_words(name))
    panel.set(xlabel="Step", ylabel="Loss")
    marker = "o" if len(next(iter(curves.values()))[0]) < 30 else ""
    shown = []
    for key, words, colour in (("train_loss", "training", COLOURS[0]), ("valid_loss", "validation", COLOURS[1])):
        if key in curves:
            shown += panel.plot(*curves[key], color=colour, label=words, marker=marker, markersize=3)
    if "lr" in curves:
        rate = panel.twinx()
        rate.spines["right"].set_visible(True)
        shown += rate.plot(*curves["lr"], color=QUIET, linewidth=0.9, linestyle=(0, (3, 2)), label="learning rate")
        rate.set(ylabel="Learning rate", ylim=(0, None))
        rate.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    panel.legend(handles=shown, fontsize=8, loc="upper right")
