"""One scene to listen to and to look at: the mixture, what should be heard, and what the method heard."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.io import wavfile

from sepbench.metrics.pairing import pair_by_separation
from sepbench.report.masks import draw_masks, read_masks
from sepbench.report.scene_picture import Picture, Side, Sound, draw_scene
from sepbench.report.style import in_words, make_folder
from sepbench.scene import Estimate, Scene
from sepbench.storage import write_bytes


def keep_scene(
    scene: Scene, estimate: Estimate, folder: Path, classes: Sequence[str] | None = None, run: str = ""
) -> None:
    """As `write_scene`, to `folder`/figures and `folder`/audio."""
    write_scene(scene, estimate, folder / "figures", folder / "audio", classes, run)


def write_scene(
    scene: Scene, estimate: Estimate, figures: Path, audio: Path, classes: Sequence[str] | None = None, run: str = ""
) -> list[str]:
    """Write `figures`/scene.png, masks.png where there are any, `audio`/{mixture,reference_<label>,estimate_<label>}.wav.

    Each reference stands beside the estimate of its label where the method has one for each of the task's `classes`, in
    their order; else beside the one that the judge pairs it with, by SI-SDR, and labels are said to be right or wrong.
    A label that occurs twice is numbered; an estimate without labels is estimate_1, estimate_2, ... Where the method
    separates nothing there are no estimates, and no wavs of any. The wavs are 32 bit float, since a sum of sounds may
    go beyond full scale. What an earlier scene left here goes; the names of the pictures are handed back. Above them
    stands which scene they show, after `run`, which says whose answer it is.
    UserError where the estimate's trace is not as `sepbench.report` has it.
    """
    rate_hz = scene.mixture.sample_rate_hz
    references, estimates, pairs, by_label = paired(scene, estimate, classes)
    names = [in_words(each.name)[:1].lower() + in_words(each.name)[1:] for each in estimates]
    shown = [j for _, j in pairs if j is not None]
    masks = read_masks(estimate.trace, names, [*shown, *(j for j in range(len(estimates)) if j not in shown)])
    _write_sounds([Sound("mixture", "", _plain(scene.mixture.audio).T), *references, *estimates], rate_hz, audio)
    rows = [Side(None if i is None else references[i], None if j is None else estimates[j]) for i, j in pairs]
    title = ", ".join(part for part in (run, f"scene {scene.mixture.id}") if part)
    draw_scene(Picture(scene, estimate, rows, by_label, masks, title), figures / "scene.png")
    if masks is None:
        (figures / "masks.png").unlink(missing_ok=True)
        return ["scene.png"]
    draw_masks(masks, figures / "masks.png", title, scene.mixture.audio.shape[-1] / rate_hz)
    return ["scene.png", "masks.png"]


Places = list[tuple[int | None, int | None]]  # (reference, estimate), one of them None where it has no partner


def paired(
    scene: Scene, estimate: Estimate, classes: Sequence[str] | None
) -> tuple[list[Sound], list[Sound], Places, bool]:
    """References, estimates, which of them stand side by side, and whether that is by label (as `write_scene` says)."""
    references = _named("reference", [source.label for source in scene.sources], [each.audio for each in scene.sources])
    found = [] if estimate.sources is None else list(estimate.sources)
    estimates = _named("estimate", estimate.labels or [""] * len(found), found)
    by_label = classes is not None and found != [] and estimate.labels is not None and tuple(estimate.labels) == tuple(classes)
    pairs = _by_label(references, estimates) if by_label else _by_separation(references, estimates)
    return references, estimates, pairs, by_label


def _by_label(references: list[Sound], estimates: list[Sound]) -> Places:
    """Each reference beside the estimate of its label; a second of one label has none."""
    place = {sound.name.split("_", 1)[1]: j for j, sound in enumerate(estimates)}
    return [(i, place.get(sound.name.split("_", 1)[1])) for i, sound in enumerate(references)]


def _by_separation(references: list[Sound], estimates: list[Sound]) -> Places:
    """Each reference beside the estimate that the judge pairs it with; then the estimates that answer none."""
    if not references or not estimates:
        return [*((i, None) for i in range(len(references))), *((None, j) for j in range(len(estimates)))]
    found, true = (np.stack([sound.audio for sound in each]) for each in (estimates, references))
    paired: dict[int | None, int] = dict(pair_by_separation(estimate=found, reference=true))
    rest = [j for j in range(len(estimates)) if j not in paired.values()]
    return [*((i, paired.get(i)) for i in range(len(references))), *((None, j) for j in rest)]


def _named(kind: str, labels: Sequence[str], sounds: Sequence[Any]) -> list[Sound]:
    """A name for each sound: <kind>_<label>, with a number where the label is empty or there are several."""
    count, seen = Counter(labels), Counter[str]()
    named = []
    for label, sound in zip(labels, sounds):
        seen[label] += 1
        parts = [kind, label, str(seen[label]) if count[label] > 1 or not label else ""]
        named.append(Sound("_".join(part for part in parts if part), label, _plain(sound)))
    return named


def _plain(audio: Any) -> np.ndarray:
    return np.ascontiguousarray(torch.as_tensor(audio).detach().float().cpu().numpy())


def _write_sounds(sounds: Sequence[Sound], rate_hz: int, folder: Path) -> None:
    files = {f"{_safe(sound.name)}.wav": sound.audio for sound in sounds}
    make_folder(folder)
    for old in folder.glob("*.wav"):  # of an earlier scene, whose classes may have been others
        if old.name not in files and re.match("(reference|estimate)_", old.name):
            old.unlink()
    for name, audio in files.items():
        write_bytes(folder / name, _wav(audio, rate_hz))


def _safe(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", name)


def _wav(audio: np.ndarray, rate_hz: int) -> bytes:
    """The same bytes for the same sound: libsndfile would write the time of day into its header of peaks."""
    made = io.BytesIO()
    wavfile.write(made, rate_hz, audio)
    return made.getvalue()
