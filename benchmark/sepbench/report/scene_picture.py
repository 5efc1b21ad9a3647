"""A scene as a picture: spectrograms, waveforms, masks and activity (Fig. 4 of Verma, SepClsNet)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import torch

from sepbench.metrics.si_sdr import si_sdr
from sepbench.report.masks import Masks, show
from sepbench.report.style import COLOURS, GRID, LOUDNESS_MAP, MASK_MAP, figure, in_words
from sepbench.report.words import signed
from sepbench.scene import Activity, Estimate, Scene

WINDOW_S = 0.032
RANGE_DB = 70.0  # shown below the loudest bin of the mixture
FEW = 3  # sources, up to which waveforms and masks are shown too; beyond, the picture would be too long to read
WAVE, MASK = 0.42, 1.2  # height of a waveform and of a mask, a spectrogram being 1
COLUMNS = 1200  # of a waveform; samples beyond are drawn from their lowest to their highest
TITLE, WIDTH, HALF, THIRD = 100, 110, 48, 28  # characters above all, the mixture, what is on either side, a third mask
BELOW = "Mixture. Below: SI-SDR of each estimate, in brackets its improvement over the mixture, beside the reference"
BY_LABEL, BY_SEPARATION = f"{BELOW} of its label", f"{BELOW} that it is paired with by SI-SDR"
JUDGED = "; right or wrong: whether its label is that reference's"


@dataclass(frozen=True)
class Sound:
    """What is written to a file and drawn."""

    name: str  # reference_dog_bark
    label: str
    audio: np.ndarray  # (time,), or (time, channel)


@dataclass(frozen=True)
class Side:
    """A row: what should be heard, beside what was."""

    reference: Sound | None
    answer: Sound | None


@dataclass(frozen=True)
class Picture:
    """What is drawn."""

    scene: Scene
    estimate: Estimate
    rows: Sequence[Side]
    by_label: bool  # whether rows were made by label; else labels are told to be right or wrong
    masks: Masks | None
    title: str = ""  # which run, which scene

    @property
    def mixture(self) -> np.ndarray:
        return np.ascontiguousarray(self.scene.mixture.audio[0].detach().float().cpu().numpy())

    @property
    def rate_hz(self) -> int:
        return self.scene.mixture.sample_rate_hz

    @property
    def is_small(self) -> bool:
        return len(self.rows) <= FEW


def draw_scene(picture: Picture, path: Path) -> None:
    """The mixture on top; below, a row per source: as it is, and as it was estimated, in one scale of colours.

    Where a method separates nothing, references stand two in a row. Small scenes have waveforms, all in one scale, and
    the masks below.
    """
    lines = _lines(picture)
    sound = [1.0, WAVE] if picture.is_small else [1.0]
    masks = picture.masks if picture.masks is not None and len(picture.masks.values) <= FEW else None
    activity = picture.estimate.activity
    heights = sound * (1 + len(lines)) + ([MASK] if masks else [])
    if activity is not None:
        heights.append(0.15 + 0.11 * len(activity.probability))
    with figure(path, 9.0, 0.65 + 1.7 * sum(heights)) as drawing:
        drawing.suptitle(fill(picture.title, TITLE), fontsize=10.5, x=0.01, ha="left")
        grid = drawing.add_gridspec(len(heights), 2, height_ratios=heights)
        canvas = _Canvas(drawing, grid, picture, len(sound))
        canvas.sound(0, slice(None), picture.mixture, _top(picture), last=True)
        for number, line in enumerate(lines, 1):
            for column, cell in enumerate(line):
                below = lines[number][column : column + 1] if number < len(lines) else []
                if cell is not None:
                    canvas.sound(number, column, *cell, last=not any(below))
        canvas.level_bar()
        if masks is not None:
            canvas.masks(len(sound) * (1 + len(lines)), masks)
        if activity is not None:
            panel = drawing.add_subplot(grid[-1, :], sharex=canvas.first)
            _activity(panel, picture.scene, picture.estimate, activity)
            canvas.label_time(panel)
        canvas.fit()


Cell = tuple[np.ndarray, str]  # audio, title


def _lines(picture: Picture) -> list[list[Cell | None]]:
    """What stands on the left and on the right of each line below the mixture."""
    if picture.estimate.sources is None:
        told = Counter(picture.estimate.labels or ())
        cells: list[Cell | None] = []
        for row in picture.rows:
            assert row.reference is not None  # without estimates there is nothing else
            known = "" if picture.estimate.labels is None else f": {_named(row.reference.label, told)}"
            cells.append((row.reference.audio, in_words(row.reference.name) + known))
        return [cells[i : i + 2] for i in range(0, len(cells), 2)]
    return [[_left(row), _right(row, picture)] for row in picture.rows]


def _named(label: str, left: Counter[str]) -> str:
    """Whether `label` is among those that are left; it is then taken away."""
    left[label] -= 1
    return "named" if left[label] >= 0 else "not named"


def _top(picture: Picture) -> str:
    labels = picture.estimate.labels
    if picture.estimate.sources is not None:
        told = BY_LABEL if picture.by_label else BY_SEPARATION + (JUDGED if labels is not None else "")
        return fill(told, WIDTH) if any(row.answer and row.reference for row in picture.rows) else "Mixture"
    if labels is None:
        return "Mixture"
    true = Counter(source.label for source in picture.scene.sources)
    words = [f"{in_words(label).lower()} ({'right' if _named(label, true) == 'named' else 'wrong'})" for label in labels]
    return fill(f"Mixture; said to sound: {', '.join(words) or 'nothing'}", WIDTH)


def _left(row: Side) -> Cell | None:
    return None if row.reference is None else (row.reference.audio, in_words(row.reference.name))


def _right(row: Side, picture: Picture) -> Cell | None:
    """The answer, with its SI-SDR, and in brackets how much of that is improvement over the mixture."""
    if row.answer is None:
        return None
    name, answer, reference = in_words(row.answer.name), row.answer.audio, row.reference
    if reference is None:
        return answer, f"{name}: answers no reference"
    if not picture.by_label and row.answer.label and reference.label:
        name += ", right" if row.answer.label == reference.label else ", wrong"
    if not (np.abs(reference.audio).max() > 0 and np.abs(answer).max() > 0):
        return answer, name
    heard, target, whole = (torch.from_numpy(audio) for audio in (answer, reference.audio, picture.mixture))
    after, before = (float(si_sdr(estimate=each, reference=target)) for each in (heard, whole))
    figures = f"SI-SDR {signed(after).removeprefix('+')} ({signed(after - before)}) dB"
    between = " " if len(f"{name}: {figures}") <= HALF else "\n"
    return answer, f"{name}:{between}{figures}"


class _Canvas:
    """The panels that share a time axis, and what they have in common."""

    def __init__(self, drawing: Any, grid: Any, picture: Picture, per_sound: int):
        self.drawing, self.grid, self.rate_hz, self.per_sound = drawing, grid, picture.rate_hz, per_sound
        self.top_db = _level_db(picture.mixture, self.rate_hz).max()
        loudest = [picture.mixture, *(row.reference.audio for row in picture.rows if row.reference)]
        self.peak = max(float(np.abs(audio).max()) for audio in loudest) or 1.0
        self.first: Any = None
        self.first_wave: Any = None
        self.spectrograms: list[Any] = []
        self.timed: list[Any] = []

    def sound(self, number: int, column: Any, audio: np.ndarray, title: str, last: bool) -> None:
        """Spectrogram and, where there is room, waveform in line `number`; times below where it is the `last`."""
        line = number * self.per_sound
        panel = self.drawing.add_subplot(self.grid[line, column], sharex=self.first, sharey=self.first)
        self.first = self.first or panel
        self.spectrograms.append(panel)
        whole = "\n".join(fill(line, WIDTH if number == 0 else HALF) for line in title.splitlines())
        _spectrogram(panel, audio, self.rate_hz, self.top_db, whole)
        panels = [panel]
        if self.per_sound == 2:
            panels.append(self.drawing.add_subplot(self.grid[line + 1, column], sharex=self.first, sharey=self.first_wave))
            self.first_wave = self.first_wave or panels[1]
            _waveform(panels[1], audio, self.rate_hz, self.peak)
        for each in panels:
            each.tick_params(labelbottom=last and each is panels[-1], labelleft=column != 1)
            if column == 1:
                each.set(ylabel="")
        if last:
            self.label_time(panels[-1], words=number > 0)

    def masks(self, line: int, masks: Masks) -> None:
        """A panel per mask; up to two stand below the columns above them."""
        n = len(masks.values)
        own = self.grid[line, :].subgridspec(1, n) if n > 2 else None
        panels: list[Any] = []
        for i, (values, name) in enumerate(zip(masks.values, masks.names)):
            place = self.grid[line, i] if own is None else own[0, i]
            panel = self.drawing.add_subplot(place, sharex=self.first, sharey=panels[0] if panels else None)
            shades = show(panel, masks, values, f"Mask of {name}", MASK_MAP, HALF if own is None else THIRD, vmin=0, vmax=1)
            panel.tick_params(labelleft=i == 0)
            self.label_time(panel)
            panels.append(panel)
        panels[0].set(ylabel=masks.axis)
        bar = self.drawing.colorbar(shades, ax=panels, aspect=12, pad=0.01, fraction=0.02)
        bar.set_label("Mask")
        bar.outline.set_visible(False)

    def level_bar(self) -> None:
        shades = self.first.images[0]
        bar = self.drawing.colorbar(shades, ax=self.spectrograms, aspect=16 * len(self.spectrograms), pad=0.01, fraction=0.02)
        bar.set_label("Level re the mixture's loudest bin, dB")
        bar.outline.set_visible(False)

    def label_time(self, panel: Any, words: bool = True) -> None:
        """Times below `panel`; the `words` that say so only on the lowest."""
        for each in self.timed:
            if each.get_subplotspec().rowspan.stop <= panel.get_subplotspec().rowspan.start:
                each.set(xlabel="")
        panel.set(xlabel="Time, s" if words else "")
        self.timed.append(panel)

    def fit(self) -> None:
        """Show what the first spectrogram shows."""
        extent = self.first.images[0].get_extent()
        self.first.set(xlim=extent[:2], ylim=extent[2:])


def _spectrogram(axes: Any, audio: np.ndarray, rate_hz: int, top_db: float, title: str) -> None:
    level_db = _level_db(audio, rate_hz) - top_db
    axes.set_title(title)
    axes.set(ylabel="Frequency, kHz")
    axes.imshow(
        level_db, origin="lower", aspect="auto", extent=(0, len(audio) / rate_hz, 0, rate_hz / 2000), cmap=LOUDNESS_MAP,
        vmin=-RANGE_DB, vmax=0, interpolation="nearest",
    )  # fmt: skip


def _level_db(audio: np.ndarray, rate_hz: int) -> np.ndarray:
    """(bin, frame): the level of each bin, in dB re an arbitrary but constant reference."""
    length = round(WINDOW_S * rate_hz)
    window = torch.hann_window(length)
    spectrum = torch.stft(
        torch.from_numpy(audio), length, length // 4, window=window, pad_mode="constant", return_complex=True
    )
    return (20 * torch.log10(spectrum.abs() / window.sum() + 1e-10)).numpy()


def _waveform(axes: Any, audio: np.ndarray, rate_hz: int, peak: float) -> None:
    """From the lowest to the highest sample of each column; what is louder than `peak` is cut off."""
    starts = np.unique(np.linspace(0, len(audio), min(COLUMNS, len(audio)), endpoint=False).astype(int))
    low, high = np.minimum.reduceat(audio, starts), np.maximum.reduceat(audio, starts)
    axes.fill_between(starts / rate_hz, low, high, step="post", color=COLOURS[0], linewidth=0.3)
    axes.set(ylabel="Sample", ylim=(-1.05 * peak, 1.05 * peak))


def _activity(axes: Any, scene: Scene, estimate: Estimate, activity: Activity) -> None:
    """Probabilities in grey, a row per class; a bar below where the class does sound."""
    probability = activity.probability.detach().float().cpu().numpy()
    n_classes, n_frames = probability.shape
    told = estimate.labels is not None and len(estimate.labels) == n_classes
    names = list(estimate.labels or ()) if told else [f"class_{i + 1}" for i in range(n_classes)]
    end_s = activity.start_s + n_frames * activity.hop_s
    axes.imshow(
        probability, aspect="auto", extent=(activity.start_s, end_s, n_classes - 0.5, -0.5), cmap="Greys",
        vmin=0, vmax=1, interpolation="nearest",
    )  # fmt: skip
    for source in (source for source in scene.sources if source.label in names):
        row = names.index(source.label)
        for on_s, off_s in source.intervals_s:
            axes.plot([on_s, off_s], [row + 0.36] * 2, color=COLOURS[1], linewidth=2.2, solid_capstyle="butt")
    axes.hlines(np.arange(1, n_classes) - 0.5, activity.start_s, end_s, color=GRID, linewidth=0.6)
    axes.set_yticks(range(n_classes), [in_words(name) for name in names])
    axes.tick_params(axis="y", length=0)
    title = "Probability that the class sounds (white 0, black 1)"
    axes.set_title(f"{title}; line: when it does sound" if told else title)
