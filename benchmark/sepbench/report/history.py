"""How training went: losses, accuracy and learning rate, stage by stage (Figs. 2 and 3 of Verma, SepClsNet)."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sepbench.errors import UserError
from sepbench.report.style import COLOURS, GRID, INK, QUIET, figure, in_words

FEW = 30  # points; up to here each is marked
EDGE = 0.03  # of what an axis spans, below and above lines that would lie on its end
DECADE = 10.0  # highest over lowest, from which on a scale is logarithmic
SIDES = (("train", "training", COLOURS[0]), ("valid", "validation", COLOURS[1]))
NOT_PARTS = ("loss", "accuracy")
Draw = Callable[[Any], None]  # fills a panel


@dataclass(frozen=True)
class Stage:
    """What one stage of the training logged; figures that are missing are NaN, columns without any are left out."""

    name: str
    file: Path
    figures: dict[str, np.ndarray]  # column -> (epoch,)

    @property
    def has_accuracy(self) -> bool:
        return "train_accuracy" in self.figures or "valid_accuracy" in self.figures

    @property
    def epochs(self) -> np.ndarray:
        """How many epochs were through: (epoch,), from 1."""
        return self.figures["epoch"] + 1

    @property
    def parts(self) -> list[str]:
        """The losses that have a name of their own, in the order of their columns."""
        names = [name.partition("_")[2] for name in self.figures if name.startswith(("train_", "valid_"))]
        return [name for name in dict.fromkeys(names) if name not in NOT_PARTS]


def draw_history(folder: Path, out: Path | None = None, order: Sequence[str] = ()) -> bool:
    """Write training.png to `out` (`folder`/figures where it is None) from `folder`/history-<stage>.csv.

    A panel per stage: losses and learning rate over steps. Where any stage logged its accuracy, the panels of each are
    accuracy, learning rate, losses and named parts of the loss, over epochs; of several stages, each has a column.
    Stages come in the `order` of their names, such as that in which they were trained, then those that it lacks, in that
    of the alphabet. Whether there was anything to draw is handed back.

    Columns: step, epoch, lr, train_<name>, valid_<name>, where <name> is loss, accuracy (0 to 1) or that of a part; a
    figure that is missing or not finite leaves a gap. UserError, naming the file, where it has no steps, or no epochs
    and accuracy was logged.
    """
    stages = read_stages(folder, order)
    if not stages:
        return False
    rows = _rows(stages)
    n_columns = max(len(row) for row in rows)
    path = (out or folder / "figures") / "training.png"
    with figure(path, max(4.5, 3.9 * n_columns), 3.0 if len(rows) == 1 else 2.7 * len(rows)) as drawing:
        for panels, row in zip(drawing.subplots(len(rows), n_columns, squeeze=False), rows, strict=True):
            for i, panel in enumerate(panels):
                panel.set_visible(i < len(row))
                if i < len(row):
                    panel.grid(axis="y", color=GRID, linewidth=0.6)
                    row[i](panel)
    return True


def read_stages(folder: Path, order: Sequence[str] = ()) -> list[Stage]:
    """The stages of `folder`/history-<stage>.csv that logged a loss or a learning rate, in order as `draw_history` has it."""
    read = [_read(file) for file in folder.glob("history-*.csv")]
    stages = [stage for stage in read if {"lr", "train_loss", "valid_loss"} & stage.figures.keys()]
    place = {name: i for i, name in enumerate(order)}
    return sorted(stages, key=lambda stage: (place.get(stage.name, len(place)), stage.name))


def draw_losses(stage: Stage, panel: Any, most: int) -> None:
    """Losses and learning rate over steps, a point for every so many epochs that there are at most `most`."""
    every = -(-len(stage.figures["step"]) // most)
    _draw_plain(replace(stage, figures={name: values[::every] for name, values in stage.figures.items()}), panel)


def _read(file: Path) -> Stage:
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    if rows and "step" not in rows[0]:
        raise UserError(f"{file}: has no column 'step'. Restore it, or remove it.")
    columns = {name: np.array([_number(row.get(name)) for row in rows]) for name in (rows[0] if rows else ())}
    figures = {name: values for name, values in columns.items() if np.isfinite(values).any()}
    return Stage(file.stem.removeprefix("history-"), file, figures)


def _number(text: Any) -> float:
    try:
        value = float(text or "nan")
    except (TypeError, ValueError):
        return math.nan
    return value if math.isfinite(value) else math.nan


def _rows(stages: list[Stage]) -> list[list[Draw]]:
    """What is drawn where. All stages side by side; where one has accuracy, what they logged below it, in the same order.

    One stage alone is drawn two by two, or three in a row.
    """
    if not any(stage.has_accuracy for stage in stages):
        return [[partial(_draw_plain, stage) for stage in stages]]
    for stage in stages:
        if "epoch" not in stage.figures:
            raise UserError(f"{stage.file}: has no column 'epoch', over which accuracy is drawn. Restore it, or remove it.")
    names = sorted({name for stage in stages for name in stage.parts})
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    kinds: list[tuple[str, Callable[[Stage], bool], Callable[[Stage, Any], None]]] = [
        ("accuracy", lambda stage: stage.has_accuracy, _draw_accuracy),
        ("learning rate", lambda stage: "lr" in stage.figures, _draw_rate),
        ("loss", lambda stage: bool({"train_loss", "valid_loss"} & stage.figures.keys()), _draw_loss),
        ("parts of the loss", lambda stage: bool(stage.parts), partial(_draw_parts, colours)),
    ]
    rows: list[list[Draw]] = [
        [partial(draw if logged(stage) else partial(_draw_none, what), stage) for stage in stages]
        for what, logged, draw in kinds if any(logged(stage) for stage in stages)
    ]  # fmt: skip
    if len(stages) > 1:
        return rows
    panels, n_columns = [row[0] for row in rows], 2 if len(rows) == 4 else 3
    return [panels[i : i + n_columns] for i in range(0, len(panels), n_columns)]


def _draw_none(what: str, stage: Stage, panel: Any) -> None:
    """Where other stages have something."""
    panel.set_axis_off()
    panel.text(0.5, 0.5, f"{in_words(stage.name)}: no {what} logged", color=QUIET, ha="center", transform=panel.transAxes)


def _draw_plain(stage: Stage, panel: Any) -> None:
    """Losses over steps, and the learning rate on a scale of its own."""
    steps, figures = stage.figures["step"], stage.figures
    panel.set_title(in_words(stage.name))
    panel.set(xlabel="Step", ylabel="Loss")
    shown = []
    for side, words, colour in SIDES:
        if f"{side}_loss" in figures:
            shown += panel.plot(steps, figures[f"{side}_loss"], color=colour, label=words, **_marked(steps))
    if "lr" in figures:
        rate = panel.twinx()
        rate.spines["right"].set_visible(True)
        shown += rate.plot(
            steps, figures["lr"], color=QUIET, linewidth=0.9, linestyle=(0, (3, 2)), label="learning rate"
        )
        rate.set(ylabel="Learning rate", ylim=(-EDGE * np.nanmax(figures["lr"]) or None, None))
        rate.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    panel.legend(handles=shown, fontsize=8, loc="upper right")


def _draw_accuracy(stage: Stage, panel: Any) -> None:
    """Fig. 2, with the best epoch of either curve marked."""
    _over_epochs(stage, panel, "accuracy", "Accuracy, %")
    for side, words, colour in SIDES:
        values = 100 * stage.figures.get(f"{side}_accuracy", np.full(1, np.nan))
        if not np.isfinite(values).any():
            continue
        best = int(np.nanargmax(values))
        epoch = int(stage.epochs[best])
        label = f"{words}, best {values[best]:.1f} % (epoch {epoch})"
        panel.plot(stage.epochs, values, color=colour, label=label, **_marked(values))
        panel.plot(epoch, values[best], "D", color=colour, markersize=5, markeredgecolor=INK, markeredgewidth=0.8)
    panel.set(ylim=(-100 * EDGE, 100 * (1 + EDGE)), yticks=range(0, 101, 20))
    panel.legend(fontsize=8, loc="best")


def _draw_rate(stage: Stage, panel: Any) -> None:
    """Fig. 3. An epoch's rate holds from the epoch before it to its own end, unless it never stays the same."""
    rates = stage.figures["lr"]
    there = rates[np.isfinite(rates)]
    in_steps = len(np.unique(there)) <= max(1, len(there) // 2)
    _over_epochs(stage, panel, f"learning rate, {_short(there[-1])} in the end", "Learning rate")
    panel.plot(stage.epochs, rates, color=INK, drawstyle="steps-pre" if in_steps else "default", **_marked(rates))
    if _spans_a_decade(rates):
        _decades(panel)
    else:
        panel.set_ylim(-EDGE * (there.max() or 1), 1.1 * there.max() or 1)
        panel.yaxis.set_major_formatter(lambda rate, _: _short(rate))


def _draw_loss(stage: Stage, panel: Any) -> None:
    _over_epochs(stage, panel, "loss", "Loss")
    for side, words, colour in SIDES:
        if (values := stage.figures.get(f"{side}_loss")) is not None:
            panel.plot(stage.epochs, values, color=colour, label=words, **_marked(values))
    panel.legend(fontsize=8, loc="upper right")


def _draw_parts(colours: Mapping[str, str], stage: Stage, panel: Any) -> None:
    """A colour per part, the same in all stages; thin and dashed in training, whole in validation."""
    _over_epochs(stage, panel, "parts of the loss", "Loss (dashed: training)")
    drawn = []
    for name in stage.parts:
        colour, label = colours[name], name.replace("_", " ")
        for side, style, width in (("valid", "-", 1.4), ("train", (0, (3, 2)), 1.0)):
            if (values := stage.figures.get(f"{side}_{name}")) is not None:
                panel.plot(stage.epochs, values, color=colour, linestyle=style, linewidth=width, label=label, **_marked(values))
                drawn.append(values)
                label = f"_{name}"  # once in the legend
    low, high = np.nanmin(np.concatenate(drawn)), np.nanmax(np.concatenate(drawn))
    if _spans_a_decade(np.array([low, high])):
        _decades(panel)
        panel.set_ylim(low / 1.5, high * (high / low) ** 0.4)  # room for the legend
    else:
        low, span = min(low, 0), (high - min(low, 0)) or 1
        panel.set_ylim(low - 2 * EDGE * span, high + 0.4 * span)
    panel.legend(fontsize=8, loc="upper right", ncols=min(2, len(stage.parts)))


def _over_epochs(stage: Stage, panel: Any, what: str, label: str) -> None:
    panel.set_title(f"{in_words(stage.name)}: {what}")
    margin = max(0.5, 0.03 * len(stage.epochs))
    panel.set(xlabel="Epoch", ylabel=label, xlim=(stage.epochs[0] - margin, stage.epochs[-1] + margin))
    panel.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)


def _marked(values: np.ndarray) -> dict[str, Any]:
    return {"marker": "o" if len(values) < FEW else "", "markersize": 3}


def _spans_a_decade(values: np.ndarray) -> bool:
    there = values[np.isfinite(values)]
    return bool(there.min() > 0 and there.max() > DECADE * there.min())


def _decades(panel: Any) -> None:
    """A logarithmic scale whose labels are plain text, as all of ours."""
    panel.set_yscale("log")
    low, high = panel.get_ylim()
    panel.yaxis.get_major_locator().set_params(subs=(1.0,) if high > 100 * low else (1.0, 2.0, 5.0))
    panel.yaxis.set_major_formatter(lambda value, _: _short(value))
    panel.yaxis.set_minor_formatter(lambda value, _: "")


def _short(value: float) -> str:
    """0.0005 -> 5e-4; 0.05 -> 0.05."""
    if value == 0 or 0.001 <= value < 10000:
        return f"{value:.3g}"
    digits, _, power = f"{value:.2e}".partition("e")
    return f"{float(digits):g}e{int(power)}".replace("-", "\N{MINUS SIGN}")
