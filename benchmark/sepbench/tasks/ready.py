"""Tasks whose scenes nobody has to mix: a release on disk, list by list."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sepbench.corpora import open_release
from sepbench.corpora.fuss import LISTS, MOST_SOURCES, Fuss, read_source
from sepbench.errors import UserError, nearest
from sepbench.mixing.released import ReleasedScenes, in_order
from sepbench.scene import TaskInfo
from sepbench.tasks.ready_dcase import build_dcase, dcase_info
from sepbench.tasks.settings import load_task
from sepbench.tasks.task import Task

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class ReadyTask(Task):
    """A task as run.py and all after it know it. Its `cache` is the release, and its clips are the examples."""

    cache: Any  # a Fuss: it has the clips and the content hash that are asked of a cache

    def scenes_hash(self, split: str) -> str:
        """The same for the same scenes: as many, of files of the same names and sizes, in the same order."""
        return f"{self._identity(split)}-{self.n_scenes(split)}"

    def weak(self, split: str, seed: int, labels_seen: str) -> Any:
        raise UserError(
            f"task {self.config['name']}: tells no labels to learn from. Choose a method that learns from sources."
        )

    def clips(self, split: str, seed: int) -> None:
        """There are no labelled clips."""

    def isolated(self, split: str, seed: int) -> ReleasedScenes:
        """Training scenes in an order of `seed`, another in every pass; the others in the order in which they are scored."""
        release, rate = self.cache, self.info.sample_rate_hz
        examples = [release.example(i) for i in self.members[split]]
        own_seed = seed if split == "train" else None
        return ReleasedScenes(examples, release.room, self._identity(split), MOST_SOURCES, rate, self.read, own_seed)

    def read(self, file: str) -> np.ndarray:
        """A source: (time,). UserError where it is not as long as a scene, or cannot be read."""
        rate = self.info.sample_rate_hz
        return read_source(file, rate, round(self.info.seconds * rate))

    def _identity(self, split: str) -> str:
        told = f"released-1|{self.cache.room}|{self.cache.hashes[self.config['splits'][split]]}|{self.config['scenes']['seed']}"
        return hashlib.blake2b(told.encode(), digest_size=4).hexdigest()


def build_ready(config: Mapping[str, Any], data: Mapping[str, str], progress: Any, to_fit: bool) -> Task:
    """Open the release, and look into what may be wrong with it before anything is trained.

    UserError where settings and release do not fit.
    """
    own = load_task(config["name"], {})["corpus"]
    if config["corpus"] != own:
        raise UserError(f"task.corpus is '{config['corpus']}'; the task {config['name']} is the release '{own}'. Leave it away.")
    return BUILDERS[own](config, data, progress, to_fit)


def ready_info(config: Mapping[str, Any]) -> TaskInfo:
    """What a method is told of the task."""
    return INFOS[load_task(config["name"], {})["corpus"]](config)


def build_fuss(config: Mapping[str, Any], data: Mapping[str, str], progress: Any, to_fit: bool) -> ReadyTask:
    """Looks into one example of each list and every file of an odd size."""
    _check(config)
    release = open_release(config["corpus"], data, config["mixing"]["room"])
    members = {split: _members(release, config, split) for split in SPLITS}
    counts = {split: len(own) for split, own in members.items()}  # null is written out
    task = ReadyTask({**config, "scenes": {**config["scenes"], **counts}}, fuss_info(config), release, members)
    for split in ("train", "valid", "test") if to_fit else ("test",):
        if not counts[split]:
            what = "nothing would be scored" if split == "test" else "there is nothing to train with"
            raise UserError(f"task.scenes.{split} is 0, so {what}. Set it above 0.")
        task.isolated(split, 0).batch(0, 1)  # a wrong rate or length is told before anything is trained
    for file in release.odd:
        task.read(file)
    return task


def fuss_info(config: Mapping[str, Any]) -> TaskInfo:
    return TaskInfo((), int(config["sample_rate_hz"]), 1, MOST_SOURCES, float(config["seconds"]), 1)


def _check(config: Mapping[str, Any]) -> None:
    name = config["name"]
    if config["classes"]:
        raise UserError(f"task.classes: the task {name} has none, since its release tells none. Leave them away.")
    lists = [config["splits"][split] for split in SPLITS]
    for split, own in zip(SPLITS, lists):
        if own not in LISTS:
            raise UserError(f"task.splits.{split} is '{own}'; wanted {', '.join(LISTS)}.{nearest(str(own), LISTS)}")
    if len(set(lists)) < len(lists):
        raise UserError(f"task.splits: {', '.join(lists)} names a list twice; a list may serve one split only.")


def _members(release: Fuss, config: Mapping[str, Any], split: str) -> tuple[int, ...]:
    """Which of the release's examples serve a split, in the order in which they are numbered."""
    name = config["splits"][split]
    return in_order(release.places(name), config, split, f"list '{name}'", f"{name}|{config['scenes']['seed']}")


BUILDERS: dict[str, Callable[..., Task]] = {"fuss": build_fuss, "dcase_s5": build_dcase}
INFOS: dict[str, Callable[[Mapping[str, Any]], TaskInfo]] = {"fuss": fuss_info, "dcase_s5": dcase_info}
