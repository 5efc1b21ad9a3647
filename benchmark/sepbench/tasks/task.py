"""A task with its sounds at hand: scenes for training, validation and scoring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sepbench.corpora import open_corpus
from sepbench.corpora.cache import ClipCache, open_cache
from sepbench.errors import UserError, nearest
from sepbench.mixing.infinite import InfinitePlanner, InfiniteScenes, InfiniteSettings, WeakInfiniteScenes
from sepbench.mixing.poisson import PoissonPlanner, PoissonScenes, PoissonSettings, WeakPoissonScenes
from sepbench.scene import Scene, TaskInfo
from sepbench.tasks.settings import known_tasks
from sepbench.tasks.splits import split_clips

Planner = PoissonPlanner | InfinitePlanner

CLIPS_OF = {
    "train": "train",
    "valid": "valid",
    "test": "test",
    "seen": "train",
}  # which clips a split of scenes draws on


@dataclass(frozen=True)
class FirstScenes:
    """The first `n` scenes of a split, in batches; batches past them start over."""

    scenes: Any
    n: int

    def batch(self, index: int, size: int) -> Any:
        size = min(size, self.n)
        return self.scenes.batch(index % (self.n // size), size)


@dataclass(frozen=True)
class Task:
    """What `build_task` makes of a task's settings. Scenes of a split are numbered from 0."""

    config: Mapping[str, Any]
    info: TaskInfo
    cache: ClipCache
    members: Mapping[str, tuple[int, ...]]  # split -> indices of its clips

    def n_scenes(self, split: str) -> int:
        return int(self.config["scenes"][split])

    def recordings(self, split: str) -> list[str]:
        """The recordings whose clips serve `split`."""
        return sorted({self.cache.clips[i].recording for i in self.members[split]})

    @property
    def scored(self) -> list[str]:
        """The splits that a run is scored on."""
        return [split for split in ("test", "seen") if self.n_scenes(split)]

    def planner(self, split: str, seed: int) -> Planner:
        """What draws the scenes of `split`."""
        cache, settings = self.cache, mixer_settings(self.config, split)
        members, classes, content = self.members[CLIPS_OF[split]], self.info.classes, cache.content_hash
        if isinstance(settings, InfiniteSettings):
            return InfinitePlanner(cache.clips, members, classes, settings, content, split, seed, cache)
        return PoissonPlanner(cache.clips, members, classes, settings, content, split, seed, cache)

    def scenes_hash(self, split: str) -> str:
        """The same for the same scenes of a split that is scored: as many, of the same sounds, drawn by the same rules.

        It hashes what scenes are made from, not the mixed samples: who changes how scenes are drawn or mixed counts up
        the name in the planner's identity.
        """
        return f"{self.planner(split, int(self.config['scenes']['seed'])).id}-{self.n_scenes(split)}"

    def weak(self, split: str, seed: int, labels_seen: str) -> WeakPoissonScenes | WeakInfiniteScenes:
        """Batches without sources; with `labels_seen` clip, without times too."""
        planner = self.planner(split, seed)
        if isinstance(planner, InfinitePlanner):
            return WeakInfiniteScenes(planner, labels_seen)
        return WeakPoissonScenes(planner, labels_seen)

    def isolated(self, split: str, seed: int) -> PoissonScenes | InfiniteScenes:
        planner = self.planner(split, seed)
        return InfiniteScenes(planner) if isinstance(planner, InfinitePlanner) else PoissonScenes(planner)

    def first(self, split: str, scenes: Any) -> FirstScenes:
        """As many distinct scenes as the task has for `split`."""
        return FirstScenes(scenes, self.n_scenes(split))

    def scene(self, split: str, index: int) -> Scene:
        """Scene `index` of a split that is scored: the same for every run of the task."""
        return self.to_score(split).scene(index)

    def to_score(self, split: str) -> PoissonScenes | InfiniteScenes:
        """The scenes of a split that is scored, the same for every run of the task."""
        return self.isolated(split, int(self.config["scenes"]["seed"]))


def mixer_settings(config: Mapping[str, Any], split: str) -> PoissonSettings | InfiniteSettings:
    """What the scenes of `split` are drawn by."""
    mixing = config["mixing"]
    if mixing["kind"] == "infinite":
        most, fewest, gain = mixing["sources"], mixing["fewest_sources"], mixing["gain"]
        if not isinstance(gain, (list, tuple)):
            raise UserError(f"task.mixing.gain is {gain}; wanted two numbers, the lower one first, such as [0.5, 1.0].")
        return InfiniteSettings(
            n_sources=(most if fewest is None else fewest, most), seconds=float(config["seconds"]), gain=tuple(gain),
            min_peak=mixing["min_peak"], limit=mixing["limit"], short_clips=mixing["short_clips"],
        )  # fmt: skip
    if mixing["kind"] != "poisson":
        raise UserError(f"task.mixing.kind is '{mixing['kind']}'; wanted infinite or poisson.")
    rate = mixing["rate"] if split in ("train", "valid") else mixing["test_rate"] or mixing["rate"]
    return poisson_settings(config, rate)


def poisson_settings(config: Mapping[str, Any], rate: float) -> PoissonSettings:
    mixing = config["mixing"]
    return PoissonSettings(float(rate), float(config["seconds"]), tuple(mixing["cut_s"]), tuple(mixing["level_lufs"]))


def build_task(config: Mapping[str, Any], data: Mapping[str, str], progress: Any = None, to_fit: bool = True) -> Task:
    """Open the corpus, decode what is not decoded yet, and split it. UserError where settings and corpus do not fit.

    `to_fit` False: nothing will be trained, so the splits that only training needs may be empty.
    """
    if config["name"] not in known_tasks():
        known = known_tasks()
        raise UserError(
            f"task.name: there is no task '{config['name']}'; known: {', '.join(known)}.{nearest(config['name'], known)}"
        )
    if len(set(config["classes"])) < len(config["classes"]):
        raise UserError(f"task.classes: {', '.join(config['classes'])} names a class twice. Name each once.")
    if config["sample_rate_hz"] % 1000 or config["sample_rate_hz"] <= 0:
        raise UserError(
            f"task.sample_rate_hz is {config['sample_rate_hz']}; wanted a multiple of 1000, such as 16000 or 44000: scenes are "
            "laid out in whole milliseconds. Clips of any rate are resampled to it."
        )
    info = task_info(config)
    corpus = open_corpus(config["corpus"], data, list(config["classes"]))
    clips = tuple(clip for clip in corpus.clips if clip.foreground or not config["foreground_only"])
    cache = open_cache(corpus, clips, int(config["sample_rate_hz"]), progress=progress)
    classes = tuple(config["classes"])
    scored = [split for split in ("test", "seen") if config["scenes"][split]]
    drawn_on = [*(("train", "valid") if to_fit else ()), *scored]
    if not scored:
        raise UserError(
            "task.scenes: test and seen are both 0, so nothing would be scored. Set task.scenes.test above 0."
        )
    needed = {CLIPS_OF[split] for split in drawn_on}
    members = split_clips(cache.clips, config["splits"], classes, corpus.name, sorted(needed))
    task = Task(config, info, cache, members)
    for split in drawn_on:
        task.planner(split, 0)  # a class without clips, or a rate of 0, is told before anything is trained
    return task


def task_info(config: Mapping[str, Any]) -> TaskInfo:
    """What a method is told of the task."""
    fewest, most = _n_sources(config)
    return TaskInfo(
        tuple(config["classes"]), int(config["sample_rate_hz"]), 1, most, float(config["seconds"]), fewest
    )


def _n_sources(config: Mapping[str, Any]) -> tuple[int, int]:
    """Fewest and most in a scene. Events of one class make one source, so that there are as many as classes at most."""
    settings = mixer_settings(config, "train")
    return settings.n_sources if isinstance(settings, InfiniteSettings) else (1, len(config["classes"]))
