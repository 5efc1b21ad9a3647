"""Scenes, and what a run answers to them, as files that `sepbench score` reads.

    DIR/scenes.json                        which scenes they are, so that whoever answers them stands beside our runs
    DIR/<scene>/mixture.wav                32 bit float, since a sum of sounds may go beyond full scale
    DIR/<scene>/<index>_<Label>.wav        each source that sounds; source<index>.wav where the task has no labels
    ESTIMATES/<scene>/<index>_<Label>.wav  each answer; source<index>.wav where the method does not say what it is

A scene's folder is whole or not there: an interrupted export goes on where it stopped.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import soundfile
import torch
from scipy.io import wavfile

from sepbench.devices import choose_device
from sepbench.errors import UserError
from sepbench.recipe import build
from sepbench.results import RunRecord
from sepbench.results_format import learns_from
from sepbench.run import CHUNK, finished_run, inner_method, shown
from sepbench.scene import Estimate, Scene
from sepbench.storage import read_json, write_bytes, write_json
from sepbench.tasks.task import Task, build_task
from sepbench.worst import safe_name

LISTED = "scenes.json"
BEGUN = ".scenes.json"  # in its place while not all of them are written
Answer = Callable[[Sequence[Scene]], list[Estimate]]


def write_scene(scene: Scene, folder: Path) -> None:
    """`folder`/mixture.wav and `folder`/<index>_<Label>.wav of each source that sounds; what was in `folder` goes.

    The index is that of the source in the scene, the label as `safe_name` has it; without one it is source<index>.wav.
    UserError naming the folder where it cannot be written.
    """
    rate_hz = scene.mixture.sample_rate_hz
    with _whole(folder) as place:
        write_bytes(place / "mixture.wav", _wav(scene.mixture.audio.T, rate_hz))
        for i, source in enumerate(scene.sources):
            if bool((source.audio != 0).any()):
                name = f"{i}_{safe_name(source.label)}" if source.label else f"source{i}"
                write_bytes(place / f"{name}.wav", _wav(source.audio, rate_hz))


def write_estimate(estimate: Estimate, sample_rate_hz: int, folder: Path) -> None:
    """`folder`/<index>_<Label>.wav of each estimated source, or source<index>.wav where it bears no label.

    Silent ones too, for their label was given. An empty folder says that nothing was found. UserError where the method
    separates nothing, so that there is no sound to write.
    """
    if estimate.sources is None:
        raise UserError(f"{folder}: the method only says what sounds, and separates nothing. There is no sound to write.")
    with _whole(folder) as place:
        for i, audio in enumerate(estimate.sources):
            name = f"source{i}" if estimate.labels is None else f"{i}_{safe_name(estimate.labels[i])}"
            write_bytes(place / f"{name}.wav", _wav(audio, sample_rate_hz))


@dataclass(frozen=True)
class Wanted:
    """Some scenes of a split that a run was scored on, and where they go."""

    task: Task
    split: str
    indices: Sequence[int]
    reference: Path  # one folder per scene: mixture and references
    estimate: Path  # the same, what the run answers


def write_wanted(wanted: Wanted, answer: Answer | None, progress: Any) -> None:
    """Write mixtures and references, and what `answer` says; what is there already, whole, is kept."""
    scenes, rate_hz = wanted.task.to_score(wanted.split), wanted.task.info.sample_rate_hz
    with progress.bar(f"writing {wanted.split}", len(wanted.indices)) as bar:
        for first in range(0, len(wanted.indices), CHUNK):
            chunk = wanted.indices[first : first + CHUNK]
            folders = [(wanted.reference / name, wanted.estimate / name) for name in map(scenes.scene_id, chunk)]
            unanswered = answer is not None and not all(estimate.is_dir() for _, estimate in folders)
            if unanswered or not all(reference.is_dir() for reference, _ in folders):
                mixed = [scenes.scene(index) for index in chunk]
                # answered in the chunks in which they were scored, since roundings may depend on who stands beside
                answers = answer(mixed) if unanswered and answer is not None else [None] * len(mixed)
                for scene, said, (reference, estimate) in zip(mixed, answers, folders, strict=True):
                    if not reference.is_dir():
                        write_scene(scene, reference)
                    if said is not None and not estimate.is_dir():
                        write_estimate(said, rate_hz, estimate)
            bar.advance(len(chunk))


def export_scenes(
    record: RunRecord, out: Path, split: str, n: int | None, estimates: bool, data: Mapping[str, str], device: str,
    progress: Any,
) -> tuple[int, Path | None]:  # fmt: skip
    """Write the first `n` scenes (None: all) of a split that the run was scored on; how many, and where estimates lie.

    UserError where `out` holds anything else, where the sounds are not those of the run, and as `answers_of`.
    """
    choose_device(device)
    task = scenes_of(record, split, data, progress)
    n = min(n or task.n_scenes(split), task.n_scenes(split))
    fewer = {**task.config["scenes"], **{name: n if name == split else 0 for name in ("test", "seen")}}
    kept = replace(task, config={**task.config, "scenes": fewer})
    facts = {"task": kept.config, "split": split, "scenes_hash": kept.scenes_hash(split)}
    facts |= {"corpus_hash": task.cache.content_hash}
    answer = answers_of(record, task) if estimates else None
    beside = out.with_name(f"{out.name}-estimates")
    folders = [(out, facts)] + ([(beside, {**facts, "run": record.id, "finished": record.finished})] if answer else [])
    for folder, own in folders:
        _begin(folder, own)
    write_wanted(Wanted(task, split, range(n), out, beside), answer, progress)
    for folder, _ in folders:
        os.replace(folder / BEGUN, folder / LISTED)
    return n, beside if answer else None


def write_listed(
    record: RunRecord, split: str, names: Sequence[str], out: Path, data: Mapping[str, str], device: str, progress: Any
) -> str:
    """Write scenes by name to `out`/reference and what the run answers to `out`/estimate.

    Handed back is why the estimates could not be had (no weights, no recipe), or nothing where they were.
    """
    if record.config.get("kind") == "external":
        copy_listed(record, names, out)
        return ""
    choose_device(device)
    task = scenes_of(record, split, data, progress)
    scenes = task.to_score(split)
    index = {scenes.scene_id(i): i for i in range(task.n_scenes(split))}
    if strange := [name for name in names if name not in index]:
        raise UserError(
            f"{record.path}: scene {strange[0]} is none of those that this sepbench mixes from its task and sounds "
            f"({scenes.scene_id(0)} and so on). Use the one that it was scored with, or list them with --no-wavs."
        )
    answer, lacking = None, ""
    try:
        answer = answers_of(record, task)
    except UserError as error:
        lacking = str(error)
    wanted = Wanted(task, split, [index[name] for name in names], out / "reference", out / "estimate")
    write_wanted(wanted, answer, progress)
    return lacking


def copy_listed(record: RunRecord, names: Sequence[str], out: Path) -> None:
    """Copy the files that `sepbench score` read to `out`/reference and `out`/estimate. UserError where one is gone."""
    known = record.provenance.get("files") or {}
    for name in names:
        files = known.get(name) or {}
        sides = {"reference": [*files.get("references", ())], "estimate": [*files.get("estimates", ())]}
        mixture = [Path(files["mixture"])] if files.get("mixture") else []
        paths = [Path(path) for side in sides.values() for path in side] + mixture
        gone = next((path for path in paths if not path.is_file()), None)
        if gone is not None or not paths:
            what = f"{gone}: gone since it was scored" if paths else f"{record.path}: does not say where scene '{name}' lay"
            raise UserError(f"{what}. Score it again, or list the scenes with --no-wavs.")
        if strange := [path for path in paths if not _is_sound(path)]:  # a run may come from anybody, and name any file
            raise UserError(f"{strange[0]}: is no sound, though {record.path} names it as one of its own; nothing is copied.")
        for side, own in sides.items():
            with _whole(out / side / safe_name(name)) as place:
                for path in map(Path, own):
                    shutil.copyfile(path, place / path.name.removeprefix(f"{name}_"))
                if side == "reference" and mixture:
                    shutil.copyfile(mixture[0], place / f"mixture{mixture[0].suffix}")


def _is_sound(path: Path) -> bool:
    try:
        return bool(soundfile.info(str(path)).frames)
    except (soundfile.SoundFileError, RuntimeError, OSError):
        return False


def scenes_of(record: RunRecord, split: str, data: Mapping[str, str], progress: Any) -> Task:
    """The task that a run was scored on. UserError where the split, the sounds or the scenes are not the run's."""
    if record.config.get("kind") == "external":
        raise UserError(
            f"{record.path}: its scenes are files, and lie where they were scored from. Name a run of a recipe or baseline."
        )
    scored = [name for name, n in record.config["task"]["scenes"].items() if name in ("test", "seen") and n]
    if split not in scored:
        raise UserError(f"--split {split}: {record.id} was scored on {', '.join(scored)}.")
    task = build_task(record.config["task"], data, progress, to_fit=False)
    had, has = record.provenance.get("corpus_hash"), task.cache.content_hash
    if had and had != has:
        raise UserError(
            f"{record.path}: was scored on other sounds (corpus content {had[:8]}; here it is {has[:8]}). "
            f"Point --data {record.config['task']['corpus']}=DIR at those that it was scored on."
        )
    drawn, hashed = (record.provenance.get("scenes_hash") or {}).get(split), task.scenes_hash(split)
    if drawn and drawn != hashed:
        raise UserError(
            f"{record.path}: its scenes are mixed otherwise by this sepbench ({drawn}; now {hashed}). "
            "Use the one that it was scored with, or score it anew."
        )
    return task


def answers_of(record: RunRecord, task: Task, labels_alone: bool = False, sent: Path | None = None) -> Answer:
    """What answers scenes as the run did. UserError where its recipe, or what it has learnt, is not here, or where it
    answers with labels and no sounds, unless `labels_alone` will do. `sent`: as in `finished_run`."""
    known, recipe = finished_run(record.path, sent)
    config = known.config
    method = build(recipe, config, task.info, inner_method(config, task, sent))
    if learns_from(config):
        method.load(known.path / "weights")
    first = task.scene(task.scored[0], 0)
    if not labels_alone and method.separate(shown([first], config))[0].sources is None:
        raise UserError(f"{known.path}: {config['name']} only says what sounds: it has no sounds to write.")
    return lambda scenes: method.separate(shown(scenes, config))


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A place to write to, that becomes `folder` when all is written."""
    begun = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(begun, ignore_errors=True)
        begun.mkdir(parents=True)
        yield begun
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(begun, folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}. Choose a folder you may write.") from error
    finally:
        shutil.rmtree(begun, ignore_errors=True)


def _begin(folder: Path, facts: Mapping[str, Any]) -> None:
    """Say in `folder` which scenes come there. UserError where it holds others, or anything else."""
    known = next((folder / name for name in (LISTED, BEGUN) if (folder / name).is_file()), None)
    if known is not None:
        plain = {name: value for name, value in facts.items() if name != "task"}
        had = read_json(known)
        if {name: had.get(name) for name in plain} != plain:
            what = f"holds other scenes, or another number of them ({known.name})"
            raise UserError(f"{folder}: {what}. Choose another folder, or remove it.")
        for half in folder.glob(".*.part"):
            shutil.rmtree(half, ignore_errors=True)
    elif folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder}: holds something else (no {LISTED}). Choose an empty folder, or a new one.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror}. Choose a folder you may write.") from error
    write_json(folder / BEGUN, facts)
    (folder / LISTED).unlink(missing_ok=True)


def _wav(audio: Any, rate_hz: int) -> bytes:
    """The same bytes for the same sound: libsndfile would write the time of day into its header of peaks."""
    made = io.BytesIO()
    wavfile.write(made, rate_hz, torch.as_tensor(audio).detach().float().cpu().contiguous().numpy())
    return made.getvalue()
