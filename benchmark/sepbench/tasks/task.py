"""A task with its sounds at hand: scenes for training, validation and scoring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sepbench.corpora import open_corpus
from sepbench.corpora.cache import ClipCache, open_cache
from sepbench.errors import UserError
from sepbench.mixing.poisson import PoissonPlanner, PoissonScenes, PoissonSettings, WeakPoissonScenes
from sepbench.scene import Scene, TaskInfo
from sepbench.tasks.splits import split_clips

CLIPS_OF = {
    "train": "train",
    "valid": "valid",
    "test": "test",
    "seen": "train",
}  # which clips a split of scenes draws on


@dataclass(frozen=True)
class Task:
    """What `build_task` makes of a task's settings. Scenes of a split are numbered from 0."""

    config: Mapping[str, Any]
    info: TaskInfo
    cache: ClipCache
    members: Mapping[str, tuple[int, ...]]  # split -> indices of its clips

    def n_scenes(self, split: str) -> int:
        return int(self.config["scenes"][split])

    @property
    def scored(self) -> list[str]:
        """The splits that a run is scored on."""
        return [split for split in ("test", "seen") if self.n_scenes(split)]

    def planner(self, split: str, seed: int) -> PoissonPlanner:
        mixing = self.config["mixing"]
        rate = mixing["rate"] if split in ("train", "valid") else mixing["test_rate"] or mixing["rate"]
        settings = poisson_settings(self.config, rate)
        members = self.members[CLIPS_OF[split]]
        return PoissonPlanner(
            self.cache.clips, members, self.info.classes, settings, self.cache.content_hash, split, seed, self.cache
        )

    def weak(self, split: str, seed: int, labels_seen: str) -> WeakPoissonScenes:
        """Batches without sources; with `labels_seen` clip, without times too."""
        return WeakPoissonScenes(self.planner(split, seed), labels_seen)

    def isolated(self, split: str, seed: int) -> PoissonScenes:
        return PoissonScenes(self.planner(split, seed))

    def scene(self, split: str, index: int) -> Scene:
        """Scene `index` of a split that is scored: the same for every run of the task."""
        return self.isolated(split, int(self.config["scenes"]["seed"])).scene(index)


def poisson_settings(config: Mapping[str, Any], rate: float) -> PoissonSettings:
    mixing = config["mixing"]
    return PoissonSettings(float(rate), float(config["seconds"]), tuple(mixing["cut_s"]), tuple(mixing["level_lufs"]))


def build_task(config: Mapping[str, Any], data: Mapping[str, str], progress: Any = None) -> Task:
    """Open the corpus, decode what is not decoded yet, and split it. UserError where settings and corpus do not fit."""
    if config["mixing"]["kind"] != "poisson":
        raise UserError(f"task.mixing.kind is '{config['mixing']['kind']}'; wanted poisson.")
    corpus = open_corpus(config["corpus"], data, list(config["classes"]))
    clips = tuple(clip for clip in corpus.clips if clip.foreground or not config["foreground_only"])
    cache = open_cache(corpus, clips, int(config["sample_rate_hz"]), progress=progress)
    classes = tuple(config["classes"])
    members = split_clips(cache.clips, config["splits"], classes, corpus.name)
    info = TaskInfo(classes, int(config["sample_rate_hz"]), 1, len(classes), float(config["seconds"]))
    task = Task(config, info, cache, members)
    for split in ("train", "valid", *task.scored):
        task.planner(split, 0)  # a class without clips, or a rate of 0, is told before anything is trained
    return task
