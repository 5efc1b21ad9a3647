"""The pictures of a finished run, drawn again: of any of its scenes, wherever they are wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepbench.devices import choose_device
from sepbench.errors import UserError, nearest
from sepbench.report.history import draw_history
from sepbench.report.scatter import draw_scatter
from sepbench.report.scene import write_scene
from sepbench.report.words import run_words
from sepbench.results import RunRecord
from sepbench.run import CHUNK, telling
from sepbench.scene import Scene
from sepbench.scene_files import answers_of, scenes_of
from sepbench.tasks.task import Task


@dataclass(frozen=True)
class Redrawn:
    """What was drawn, and what could not be."""

    files: tuple[str, ...]
    figures: Path
    audio: Path
    scene: str = ""  # the one that is shown
    lacking: str = ""  # why none is


def redraw(
    record: RunRecord, out: Path | None, split: str, wanted: str | None, data: Mapping[str, str], device: str, progress: Any
) -> Redrawn:
    """Draw training, improvement and a scene of `split` to `out`, its sounds to `out`/audio; None: to the run's folder.

    `wanted` is the scene, by its name or by its number from 0; None: the one that the run showed when it was made. Where
    that cannot be answered (no weights, no sounds) the rest is drawn and it is said why. UserError where a scene that
    was asked for cannot be, or nothing at all.
    """
    figures, audio = (record.path / "figures", record.path / "audio") if out is None else (out, out / "audio")
    if split not in record.metrics:
        raise UserError(f"--split {split}: {record.id} was scored on {', '.join(record.metrics)}.")
    files, shown, lacking, told = [], "", "", run_words(record.config, split)
    try:
        choose_device(device)
        task = scenes_of(record, split, data, progress)
        scene = _scene(task, split, wanted)
        estimate = answers_of(record, task, labels_alone=True)([scene])[0]
        files, shown = write_scene(scene, estimate, figures, audio, task.info.classes, told), scene.mixture.id
    except UserError as error:
        if wanted is not None:
            raise
        lacking = str(error)
    if draw_scatter(record.path, split, told, figures):
        files.insert(0, "si_sdri.png")
    if draw_history(record.path, figures, tuple(record.cost)):
        files.insert(0, "training.png")
    if not files:
        raise UserError(lacking)
    return Redrawn(tuple(files), figures, audio, shown, lacking)


def _scene(task: Task, split: str, wanted: str | None) -> Scene:
    """The scene of that name or number. UserError where there is none."""
    scenes, n = task.to_score(split), task.n_scenes(split)
    if wanted is None:
        return telling([scenes.scene(index) for index in range(min(CHUNK, n))])
    if wanted.isdecimal():
        if int(wanted) < n:
            return scenes.scene(int(wanted))
        raise UserError(f"--scene {wanted}: the run has {n} scenes of {split}, 0 to {n - 1}.")
    names = [scenes.scene_id(index) for index in range(n)]
    if wanted in names:
        return scenes.scene(names.index(wanted))
    raise UserError(f"--scene {wanted}: no scene of {split} has that name ({names[0]} and so on).{nearest(wanted, names)}")
