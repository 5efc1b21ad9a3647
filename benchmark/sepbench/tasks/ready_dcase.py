"""DCASE's S5 set: soundscapes of the test as they lie on disk, and scenes to train with that are mixed of its parts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sepbench.corpora import open_release
from sepbench.corpora.cache import open_cache
from sepbench.corpora.dcase_s5 import CLASSES, LAX, N_CHANNELS, RATE_HZ, TITLE, DcaseS5, Rules, verify_release
from sepbench.corpora.dcase_s5_parts import NOISE, ROOMS, SPLITS, DcaseParts, files_to_train, hash_of_parts
from sepbench.corpora.released_files import header_fits, read_released
from sepbench.errors import UserError
from sepbench.mixing.crops import checked_count
from sepbench.mixing.released import ReleasedSoundscapes, in_order
from sepbench.mixing.sofa import broken_rooms
from sepbench.scene import TaskInfo
from sepbench.tasks.settings import load_task
from sepbench.tasks.task import Task

if TYPE_CHECKING:
    from sepbench.progress import Progress

TEST = "test"
MIXED_AS = "s5"  # the task whose mixer makes the scenes to train with


@dataclass(frozen=True)
class DcaseTask(Task):
    """A task as run.py and all after it know it. Its `cache` is the release, whose clips are the soundscapes."""

    cache: Any  # a DcaseS5: it has the clips and the content hash that are asked of a cache
    progress: Any = None

    def scenes_hash(self, split: str) -> str:
        """The same for the same scenes: as many, of files of the same names and sizes, in the same order."""
        return f"{self._identity}-{self.n_scenes(split)}"

    def recordings(self, split: str) -> list[str]:
        """The soundscapes of the test, and the files that others are mixed of."""
        if split == TEST:
            return super().recordings(split)
        return list(self.cache.to_train[split])

    @cached_property
    def parts_hash(self) -> str | None:
        """By the names and sizes of the files to train with; None where there are none."""
        return hash_of_parts(self.cache.folder)

    def weak(self, split: str, seed: int, labels_seen: str) -> Any:
        return self.mixed.weak(split, seed, labels_seen)

    def clips(self, split: str, seed: int) -> Any:
        return self.mixed.clips(split, seed)

    def isolated(self, split: str, seed: int) -> Any:
        if split != TEST:
            return self.mixed.isolated(split, seed)
        scapes = [self.cache.soundscapes[i] for i in self.members[split]]
        info = self.info
        return ReleasedSoundscapes(
            scapes, info.classes, self._identity, info.max_sources, info.sample_rate_hz, self.read
        )

    def read(self, file: str, n_channels: int) -> np.ndarray:
        """A soundscape or a target: (channel, time). UserError where it is not as long as a scene, or cannot be read."""
        rate = self.info.sample_rate_hz
        return read_released(file, TITLE, rate, n_channels, round(self.info.seconds * rate))

    @cached_property
    def mixed(self) -> Task:
        """The scenes to train with, whose rooms and noise are the release's. UserError where its parts are not there."""
        if self.n_scenes("valid") < 1:
            raise UserError(f"task.scenes.valid is {self.n_scenes('valid')}; wanted 1 or more, to choose an epoch by.")
        parts = DcaseParts(self.cache.folder, CLASSES)
        settings = mixed_settings(self.config, self.cache.folder)
        cache = open_cache(parts, parts.clips, self.info.sample_rate_hz, progress=self.progress)
        task = Task(settings, self.info, cache, parts.members())
        for split in SPLITS:
            task.planner(split, 0)  # a class without clips, or a room that cannot be read, is told before training
        return task

    @property
    def _identity(self) -> str:
        told = f"soundscapes-1|{self.cache.content_hash}|{self.config['scenes']['seed']}"
        return hashlib.blake2b(told.encode(), digest_size=4).hexdigest()


def mixed_settings(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The settings of a task whose scenes are mixed of what lies in `folder`, by the rules of `config`."""
    base = load_task(MIXED_AS, {})
    own = {name: config[name] for name in ("classes", "sample_rate_hz", "seconds")}
    places = {"space": "foa", "room_ir": str(folder / ROOMS), "noise": str(folder / NOISE)}
    mixing = {**base["mixing"], **config["mixing"], **places, "kind": base["mixing"]["kind"]}
    return {**base, **own, "mixing": mixing, "scenes": {**base["scenes"], "seed": config["scenes"]["seed"]}}


def build_dcase(config: Mapping[str, Any], data: Mapping[str, str], progress: Any, to_fit: bool) -> DcaseTask:
    """Looks into the first soundscape, every file of an odd size, and the header of all that is scored.

    What there is to train with is looked for when something trains: whoever only tests need not have it.
    """
    _check(config)
    release: DcaseS5 = open_release(config["corpus"], data, Rules(*_counts(config), config["mixing"]["same_class"]))
    places, seed = range(len(release.soundscapes)), config["scenes"]["seed"]
    members = {TEST: in_order(places, config, TEST, "test", f"{TEST}|{seed}")}
    members |= {split: tuple(range(len(release.to_train[split]))) for split in SPLITS}
    if not members[TEST]:
        raise UserError("task.scenes.test is 0, so nothing would be scored. Set it above 0.")
    scenes = {**config["scenes"], TEST: len(members[TEST])}  # null is written out
    task = DcaseTask({**config, "scenes": scenes}, dcase_info(config), release, members, progress)
    task.scene(TEST, 0)  # a wrong rate or length is told before anything is trained
    _check_files(task)
    return task


def _check_files(task: DcaseTask) -> None:
    """UserError for a file of an odd size, or of the test, that cannot be used as far as its header tells."""
    release, rate = task.cache, task.info.sample_rate_hz
    targets = {target.path for each in release.soundscapes for target in each.targets}
    for file in release.odd:
        task.read(file, 1 if file in targets else N_CHANNELS)
    for scape in (release.soundscapes[i] for i in task.members[TEST]):
        files = [(scape.path, N_CHANNELS), *((target.path, 1) for target in scape.targets)]
        for path, n_channels in files:
            if not header_fits(path, rate, n_channels, round(task.info.seconds * rate)):
                task.read(path, n_channels)  # says what is wrong


def dcase_info(config: Mapping[str, Any]) -> TaskInfo:
    """What a method is told of the task."""
    fewest, most = _counts(config)
    rate, seconds = int(config["sample_rate_hz"]), float(config["seconds"])
    return TaskInfo(CLASSES, rate, N_CHANNELS, most, seconds, fewest, config["mixing"]["same_class"])


def verify_dcase(root: Path, progress: Progress) -> tuple[list[str], int]:
    """A line for each file of the release that cannot be used, rooms among them, and how many files were read."""
    broken, n = verify_release(root, progress)
    files = files_to_train(DcaseS5(root, LAX).folder)
    rooms = [file for split in SPLITS for file in files[ROOMS, split]]
    return broken + broken_rooms(rooms, RATE_HZ, progress), n + len(rooms)


def _counts(config: Mapping[str, Any]) -> tuple[int, int]:
    """Fewest and most targets."""
    fewest, most = config["mixing"]["fewest_sources"], config["mixing"]["sources"]
    return most if fewest is None else fewest, most


def _check(config: Mapping[str, Any]) -> None:
    if list(config["classes"] or ()) != list(CLASSES):
        raise UserError(f"task.classes: the classes of {config['name']} are those of its release. Leave them away.")
    checked_count(_counts(config))
    if type(config["mixing"]["same_class"]) is not bool:
        raise UserError(f"task.mixing.same_class is {config['mixing']['same_class']}; wanted true or false.")
