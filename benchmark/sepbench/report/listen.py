"""The best, the median and the worst test scene of a run, kept so that a report lets them be heard.

    <run>/listen/listen.json     which scenes, by which figure, and what stands beside what
    <run>/listen/<place>-*.flac  mixture, references and estimates, mono, 16 bit

All sounds of a scene share one gain, so that they are as loud beside one another as in the scene; an estimate that would
then be clipped is turned down further, and how far is kept.
"""

from __future__ import annotations

import io
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from sepbench.errors import UserError
from sepbench.metrics import METRICS
from sepbench.metrics.si_sdr import si_sdr
from sepbench.report.scene import paired
from sepbench.report.style import make_folder
from sepbench.results import read_rows
from sepbench.scene import Estimate, Scene
from sepbench.storage import read_json, write_bytes, write_json
from sepbench.worst import INPUT, PREFERRED, rank_scenes, usual_metric

FOLDER, LISTED, FORMAT = "listen", "listen.json", 1
PEAK = 0.9  # of the loudest sound of a scene; full scale is 1
BEHIND = (*PREFERRED, INPUT, "missed", "missed_by_label")  # metrics whose rows rank scenes


@dataclass(frozen=True)
class Heard:
    """One sound, as it is played."""

    label: str  # empty where nobody says what it is
    audio: np.ndarray  # (time,), full scale = 1
    quieter_db: float = 0.0  # than the other sounds of its scene, so that it is not clipped
    si_sdr_db: float | None = None  # of an estimate, against the reference beside it; None: silent, or none is beside it
    si_sdri_db: float | None = None


@dataclass(frozen=True)
class Shown:
    """One scene: what should be heard beside what was; either may be lacking."""

    place: str  # best | median | worst
    scene: str
    value: float  # of the metric that ranked it
    sample_rate_hz: int
    mixture: Heard
    pairs: tuple[tuple[Heard | None, Heard | None], ...]  # (reference, estimate)
    said: tuple[str, ...] | None  # labels that a method gives to no sound; None: it gives sounds, or no labels


@dataclass(frozen=True)
class Listening:
    """What there is to hear of a run."""

    split: str
    metric: str
    unit: str
    n_scenes: int  # that were ranked
    scenes: tuple[Shown, ...]


def keep_sounds(
    folder: Path, split: str, scenes: Any, n_scenes: int, answer: Callable[[Sequence[Scene]], list[Estimate]],
    classes: Sequence[str] | None,
) -> bool:  # fmt: skip
    """Write `folder`/listen from the rows of the finished run in `folder`; whether it has a figure to rank scenes by.

    `scenes` has scene(index) and scene_id(index); `answer` gives the run's estimates of some scenes.
    """
    rows = read_rows(folder, BEHIND, split)
    metric = usual_metric(rows, split)
    try:
        ranking = rank_scenes(rows, metric, split, lambda n: list(_places(n).values()), best=True)
    except UserError:
        return False
    chosen = dict(zip(_places(ranking.n_scenes), ranking.failures))
    index = {scenes.scene_id(i): i for i in range(n_scenes)}
    mixed = [scenes.scene(index[one.scene]) for one in chosen.values()]
    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    make_folder(folder / FOLDER)
    kept = []
    for (place, one), scene, estimate in zip(chosen.items(), mixed, answer(mixed) if mixed else [], strict=True):
        facts = {"place": place, "scene": one.scene, "value": one.value}
        kept.append({**facts, **_write(folder / FOLDER, place, scene, estimate, classes)})
    unit = METRICS[metric].unit if metric in METRICS else ""
    head = {"format": FORMAT, "split": split, "metric": metric, "unit": unit, "n_scenes": ranking.n_scenes}
    write_json(folder / FOLDER / LISTED, {**head, "scenes": kept})  # last: without it nothing counts as kept
    return True


def is_kept(folder: Path) -> bool:
    """Whether the run in `folder` kept sounds."""
    return (folder / FOLDER / LISTED).is_file()


def read_sounds(folder: Path) -> Listening:
    """What `keep_sounds` wrote. UserError, naming the file, where it cannot be read."""
    path = folder / FOLDER / LISTED
    listed = read_json(path)
    try:
        if listed["format"] != FORMAT:
            raise UserError(f"{path}: has format {listed['format']}, wanted {FORMAT}. Remove its folder: it is made again.")
        scenes = tuple(_read(folder / FOLDER, one) for one in listed["scenes"])
        return Listening(listed["split"], listed["metric"], listed["unit"], int(listed["n_scenes"]), scenes)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: cannot be read ({reason}). Remove its folder: it is made again.") from error


def _places(n_scenes: int) -> dict[str, int]:
    """Of scenes in order, the best first, where to find the first, the one in the middle, the last; each once."""
    found: dict[str, int] = {}
    for place, i in (("best", 0), ("median", n_scenes // 2), ("worst", n_scenes - 1)):
        if n_scenes and i not in found.values():
            found[place] = i
    return found


def _write(folder: Path, place: str, scene: Scene, estimate: Estimate, classes: Sequence[str] | None) -> dict[str, Any]:
    references, estimates, pairs, _ = paired(scene, estimate, classes)
    mixture = np.ascontiguousarray(scene.mixture.audio[0].detach().float().cpu().numpy())
    rate_hz = scene.mixture.sample_rate_hz
    gain = PEAK / (max(float(np.abs(each).max()) for each in [mixture, *(one.audio for one in references)]) or 1.0)

    def kept(name: str, label: str, audio: np.ndarray) -> dict[str, Any]:
        peak = gain * float(np.abs(audio).max()) if audio.size else 0.0
        down = min(1.0, 1.0 / peak) if peak > 0 else 1.0
        write_bytes(folder / f"{place}-{name}.flac", _flac(gain * down * audio, rate_hz))
        return {"file": f"{place}-{name}.flac", "label": label, "quieter_db": -20 * math.log10(down) + 0.0}

    rows = []
    for i, (true, said) in enumerate(pairs):
        row: dict[str, Any] = {"reference": None, "estimate": None}
        if true is not None:
            row["reference"] = kept(f"{i}-reference", references[true].label, references[true].audio)
        if said is not None:
            row["estimate"] = kept(f"{i}-estimate", estimates[said].label, estimates[said].audio)
        if true is not None and said is not None:
            row["estimate"] |= _figures(estimates[said].audio, references[true].audio, mixture)
        if true is not None or np.abs(estimates[said or 0].audio).max() > 0:  # a silent answer to nothing is none
            rows.append(row)
    said_alone = list(estimate.labels) if estimate.sources is None and estimate.labels is not None else None
    return {"sample_rate_hz": rate_hz, "mixture": kept("mixture", "", mixture), "pairs": rows, "said": said_alone}


def _figures(estimate: np.ndarray, reference: np.ndarray, mixture: np.ndarray) -> dict[str, float]:
    """SI-SDR and its improvement, in dB; nothing where either is silent."""
    if not (np.abs(estimate).max() > 0 and np.abs(reference).max() > 0):
        return {}
    heard, target, whole = map(torch.from_numpy, (estimate, reference, mixture))
    after, before = (float(si_sdr(estimate=each, reference=target)) for each in (heard, whole))
    return {"si_sdr_db": after, "si_sdri_db": after - before}


def _read(folder: Path, one: dict[str, Any]) -> Shown:
    def sound(facts: dict[str, Any] | None) -> Heard | None:
        if facts is None:
            return None
        audio, _ = soundfile.read(_own_file(folder, str(facts["file"])), dtype="float32")
        figures = [None if facts.get(name) is None else float(facts[name]) for name in ("si_sdr_db", "si_sdri_db")]
        return Heard(str(facts["label"]), audio, float(facts["quieter_db"]), *figures)

    mixture = sound(one["mixture"])
    if mixture is None:
        raise ValueError("a scene has no mixture")
    pairs = tuple((sound(pair["reference"]), sound(pair["estimate"])) for pair in one["pairs"])
    if {len(each.audio) for pair in pairs for each in pair if each} - {len(mixture.audio)}:
        raise ValueError(f"of the {one['place']} scene, some sounds are shorter than others")
    said = None if one["said"] is None else tuple(map(str, one["said"]))
    rate_hz = int(one["sample_rate_hz"])
    return Shown(str(one["place"]), str(one["scene"]), float(one["value"]), rate_hz, mixture, pairs, said)


def _own_file(folder: Path, name: str) -> Path:
    """ValueError where it is not of this folder, by its name or by a link: results may come from anybody, and are mailed on."""
    path = folder / name
    if Path(name).name != name or path.resolve().parent != folder.resolve():
        raise ValueError(f"'{name}' is no file of its own folder")
    return path


def _flac(audio: np.ndarray, rate_hz: int) -> bytes:
    made = io.BytesIO()
    soundfile.write(made, audio, rate_hz, format="FLAC", subtype="PCM_16")
    return made.getvalue()
