"""One scene to listen to and to look at: the mixture, what should be heard, and what the method heard."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from sepbench.metrics.si_sdr import si_sdr
from sepbench.report.style import COLOURS, GRID, LOUDNESS_MAP, figure, in_words, make_folder
from sepbench.scene import Activity, Estimate, Scene
from sepbench.storage import write_bytes

WINDOW_S = 0.032
RANGE_DB = 70.0  # shown below the loudest bin of the mixture
TOP = "Mixture (below: SI-SDR of each estimate, and in brackets its improvement over the mixture)"
Sound = tuple[str, np.ndarray]  # file name without suffix, (time,) or (time, channel)


def keep_scene(scene: Scene, estimate: Estimate, folder: Path) -> None:
    """Write `folder`/audio/{mixture,reference_<label>,estimate_<label>}.wav and `folder`/figures/scene.png.

    A label that occurs twice is numbered; an estimate without labels is estimate_1, estimate_2, ... The wavs are 32 bit
    float, since a sum of sounds may go beyond full scale.
    """
    rate_hz = scene.mixture.sample_rate_hz
    references = _numbered("reference", [source.label for source in scene.sources], [s.audio for s in scene.sources])
    estimates = _numbered("estimate", estimate.labels or [""] * len(estimate.sources), estimate.sources)
    sounds = [("mixture", _plain(scene.mixture.audio).T), *references, *estimates]
    make_folder(folder / "audio")
    for old in (folder / "audio").glob("*.wav"):  # of an earlier scene, whose classes may have been others
        if old.stem not in {name for name, _ in sounds} and re.match("(reference|estimate)_", old.stem):
            old.unlink()
    for name, audio in sounds:
        write_bytes(folder / "audio" / f"{_safe(name)}.wav", _wav(audio, rate_hz))
    _draw(scene, references, estimates, estimate, folder / "figures" / "scene.png")


def _numbered(kind: str, labels: Sequence[str], sounds: Any) -> list[Sound]:
    """A name for each sound: <kind>_<label>, with a number where the label is empty or there are several."""
    count, seen = Counter(labels), Counter[str]()
    named = []
    for label, sound in zip(labels, sounds):
        seen[label] += 1
        parts = [kind, label, str(seen[label]) if count[label] > 1 or not label else ""]
        named.append(("_".join(part for part in parts if part), _plain(sound)))
    return named


def _plain(audio: Any) -> np.ndarray:
    return np.ascontiguousarray(torch.as_tensor(audio).detach().float().cpu().numpy())


def _safe(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", name)


def _wav(audio: np.ndarray, rate_hz: int) -> bytes:
    made = io.BytesIO()
    soundfile.write(made, audio, rate_hz, format="WAV", subtype="FLOAT")
    return made.getvalue()


# the picture


def _draw(scene: Scene, references: list[Sound], estimates: list[Sound], estimate: Estimate, path: Path) -> None:
    """The mixture on top; below, a row per source: as it is, and as it was estimated. All in one scale of colours."""
    rate_hz = scene.mixture.sample_rate_hz
    mixture = _plain(scene.mixture.audio)[0]
    top_db = _level_db(mixture, rate_hz).max()
    rows = _rows(references, estimates, estimate.labels is None)
    heights = [1.0] * (1 + len(rows))
    if estimate.activity is not None:
        heights.append(0.15 + 0.11 * len(estimate.activity.probability))
    with figure(path, 9.0, 0.4 + 1.7 * sum(heights)) as drawing:
        grid = drawing.add_gridspec(len(heights), 2, height_ratios=heights)
        panels = [drawing.add_subplot(grid[0, :])]
        shades = _spectrogram(panels[0], mixture, rate_hz, top_db, TOP)
        for row, (reference, answer) in enumerate(rows, 1):
            for column, sound in enumerate((reference, answer)):
                panels.append(drawing.add_subplot(grid[row, column], sharex=panels[0], sharey=panels[0]))
                if sound is None:
                    panels[-1].set_axis_off()
                    continue
                title = _title(sound, reference, mixture) if column else in_words(sound[0])
                _spectrogram(panels[-1], sound[1], rate_hz, top_db, title)
                if column:
                    panels[-1].set(ylabel="")
                    panels[-1].tick_params(labelleft=False)
        bar = drawing.colorbar(shades, ax=panels, aspect=16 * len(heights), pad=0.01, fraction=0.02)
        bar.set_label("Level re the mixture's loudest bin, dB")
        bar.outline.set_visible(False)
        if estimate.activity is not None:
            panels.append(drawing.add_subplot(grid[-1, :], sharex=panels[0]))
            _activity(panels[-1], scene, estimate, estimate.activity)
        _label_time(panels, len(rows))


def _rows(references: list[Sound], estimates: list[Sound], blind: bool) -> list[tuple[Sound | None, Sound | None]]:
    """Each reference beside the estimate of its label; what bears no labels stands in its own order."""
    if blind:
        return list(zip_longest(references, estimates))
    by_label = {name.split("_", 1)[1]: (name, audio) for name, audio in estimates}
    return [(sound, by_label.get(sound[0].split("_", 1)[1])) for sound in references]


def _title(sound: Sound, reference: Sound | None, mixture: np.ndarray) -> str:
    """What it is, its SI-SDR, and in brackets how much of that is improvement over the mixture."""
    name = in_words(sound[0])
    if reference is None or not (np.abs(reference[1]).max() > 0 and np.abs(sound[1]).max() > 0):
        return name
    heard, target, whole = (torch.from_numpy(audio) for audio in (sound[1], reference[1], mixture))
    after, before = (float(si_sdr(estimate=each, reference=target)) for each in (heard, whole))
    figures = f"{round(after, 1) + 0.0:.1f} ({round(after - before, 1) + 0.0:+.1f})".replace("-", "\N{MINUS SIGN}")
    return f"{name}: SI-SDR {figures} dB"


def _spectrogram(axes: Any, audio: np.ndarray, rate_hz: int, top_db: float, title: str) -> Any:
    level_db = _level_db(audio, rate_hz) - top_db
    seconds = len(audio) / rate_hz
    axes.set_title(title)
    axes.set(ylabel="Frequency, kHz")
    return axes.imshow(
        level_db, origin="lower", aspect="auto", extent=(0, seconds, 0, rate_hz / 2000), cmap=LOUDNESS_MAP,
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


def _activity(axes: Any, scene: Scene, estimate: Estimate, activity: Activity) -> None:
    """Probabilities in grey, a row per class; a bar below where the class does sound."""
    probability = _plain(activity.probability)
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


def _label_time(panels: list[Any], n_rows: int) -> None:
    """Times below the mixture, the last row and the strip; panels of one width share them."""
    rows = panels[1 : 1 + 2 * n_rows]
    strips = panels[1 + 2 * n_rows :]
    for panel in panels:
        panel.tick_params(labelbottom=panel in [panels[0], *rows[-2:], *strips])
    for panel in strips or rows[-2:] or panels:
        panel.set(xlabel="Time, s")
    image = panels[0].images[0]
    panels[0].set_xlim(*image.get_extent()[:2])
    panels[0].set_ylim(*image.get_extent()[2:])
