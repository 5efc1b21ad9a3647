"""A task with its sounds at hand: scenes for training, validation and scoring."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepbench.corpora import Clip, Corpus, open_corpus, other_names, same_recordings
from sepbench.corpora.cache import ClipCache, cache_root, open_cache
from sepbench.corpora.files import need_classes
from sepbench.errors import UserError, nearest
from sepbench.mixing.infinite import InfinitePlanner, InfiniteSettings
from sepbench.mixing.overlap import OverlapPlanner, OverlapSettings
from sepbench.mixing.pairs import PairsPlanner, PairsSettings
from sepbench.mixing.poisson import PoissonPlanner, PoissonSettings
from sepbench.mixing.rooms import RoomsPlanner
from sepbench.mixing.rooms_settings import RoomsSettings, interference_classes, plain, rooms_settings
from sepbench.mixing.scenes import IsolatedScenes, Planner, WeakScenes, WholeScenes
from sepbench.scene import Scene, TaskInfo
from sepbench.tasks.settings import SCORED_ON, is_ready, known_tasks
from sepbench.tasks.splits import split_clips

MixerSettings = PoissonSettings | InfiniteSettings | OverlapSettings | PairsSettings | RoomsSettings
PLANNERS: dict[type, Callable[..., Planner[Any]]] = {
    PoissonSettings: PoissonPlanner,
    InfiniteSettings: InfinitePlanner,
    OverlapSettings: OverlapPlanner,
    PairsSettings: PairsPlanner,
    RoomsSettings: RoomsPlanner,
}

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

    @property
    def id(self) -> str:
        """The same for the same scenes, and for as many."""
        return f"{self.scenes.id}-{self.n}"

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

    def in_test(self, corpus: str, recordings: Iterable[str]) -> set[str]:
        """Which of these recordings of `corpus` serve the test."""
        comparable = same_recordings(corpus, self.config["corpus"])
        return set(self.recordings("test")) & set(recordings) if comparable else set()

    @property
    def parts_hash(self) -> str | None:
        """By what training scenes are mixed of, where the content hash of the sounds does not tell it."""
        return None

    @property
    def scored(self) -> list[str]:
        """The splits that a run is scored on."""
        return scored_splits(self.config)

    def planner(self, split: str, seed: int) -> Any:
        """What draws the scenes of `split`."""
        return self._planner(split, seed, mixer_settings(self.config, split))

    def _planner(self, split: str, seed: int, settings: MixerSettings) -> Any:
        cache, members = self.cache, self.members[CLIPS_OF[split]]
        drawn = (cache.clips, members, self.info.classes, settings, cache.content_hash, split, seed, cache)
        return PLANNERS[type(settings)](*drawn)

    def scenes_hash(self, split: str) -> str:
        """The same for the same scenes of a split that is scored: as many, of the same sounds, drawn by the same rules.

        It hashes what scenes are made from, not the mixed samples: who changes how scenes are drawn or mixed counts up
        the name in the planner's identity.
        """
        return f"{self.planner(split, int(self.config['scenes']['seed'])).id}-{self.n_scenes(split)}"

    def weak(self, split: str, seed: int, labels_seen: str) -> WeakScenes:
        """Batches without sources; with `labels_seen` clip, without times too."""
        return WeakScenes(self.planner(split, seed), labels_seen)

    def isolated(self, split: str, seed: int) -> WholeScenes:
        return IsolatedScenes(self.planner(split, seed))

    def clips(self, split: str, seed: int) -> IsolatedScenes | None:
        """The labelled clips of `split` one by one, each class as often as any other; as long and loud as in its scenes.

        None where the scenes are not made of clips with a source each.
        """
        settings = mixer_settings(self.config, split)
        if isinstance(settings, PoissonSettings):
            return None
        return IsolatedScenes(self._planner(split, seed, settings.single()))

    @property
    def shared(self) -> Path:
        """Where a run may keep what others can use again."""
        return cache_root() / "trained"

    def first(self, split: str, scenes: Any) -> FirstScenes:
        """As many distinct scenes as the task has for `split`."""
        return FirstScenes(scenes, self.n_scenes(split))

    def scene(self, split: str, index: int) -> Scene:
        """Scene `index` of a split that is scored: the same for every run of the task."""
        return self.to_score(split).scene(index)

    def to_score(self, split: str) -> WholeScenes:
        """The scenes of a split that is scored, the same for every run of the task."""
        return self.isolated(split, int(self.config["scenes"]["seed"]))


def scored_splits(config: Mapping[str, Any]) -> list[str]:
    """The splits that runs of these settings are scored on: those that have scenes; of a trial of a search, valid alone."""
    own = config.get(SCORED_ON)
    return [own] if own else [split for split in ("test", "seen") if config["scenes"][split]]


def mixer_settings(config: Mapping[str, Any], split: str) -> MixerSettings:
    """What the scenes of `split` are drawn by."""
    mixing = config["mixing"]
    if mixing["kind"] == "infinite":
        return InfiniteSettings(
            n_sources=_counts(mixing), seconds=float(config["seconds"]), gain=_range(mixing, "gain", "[0.5, 1.0]"),
            min_peak=mixing["min_peak"], limit=mixing["limit"], short_clips=mixing["short_clips"],
        )  # fmt: skip
    if mixing["kind"] == "pairs":
        return PairsSettings(
            n_sources=_counts(mixing), seconds=float(config["seconds"]), draw=mixing["draw"],
            level_dbfs=_range(mixing, "level_dbfs", "[-28.0, -22.0]"), min_peak=mixing["min_peak"],
        )  # fmt: skip
    if mixing["kind"] == "overlap":
        return OverlapSettings(
            n_sources=_counts(mixing), seconds=float(config["seconds"]), two_of_a_class=mixing["two_of_a_class"],
            cut_s=_range(mixing, "cut_s", "[2.0, 4.0]"), level_dbfs=_range(mixing, "level_dbfs", "[-28.0, -22.0]"),
            min_peak=mixing["min_peak"],
        )  # fmt: skip
    if mixing["kind"] == "rooms":
        return rooms_settings(config, CLIPS_OF[split])
    if mixing["kind"] != "poisson":
        raise UserError(f"task.mixing.kind is '{mixing['kind']}'; wanted infinite, overlap, pairs, poisson or rooms.")
    rate = mixing["rate"] if split in ("train", "valid") else mixing["test_rate"] or mixing["rate"]
    return poisson_settings(config, rate)


def _counts(mixing: Mapping[str, Any]) -> tuple[int, int]:
    """Fewest and most sources."""
    fewest, most = mixing["fewest_sources"], mixing["sources"]
    return most if fewest is None else fewest, most


def _range(mixing: Mapping[str, Any], name: str, such_as: str) -> tuple[Any, ...]:
    found = mixing[name]
    if not isinstance(found, (list, tuple)):
        raise UserError(f"task.mixing.{name} is {found}; wanted two numbers, the lower one first, such as {such_as}.")
    return tuple(found)


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
    if is_ready(config):
        from sepbench.tasks.ready import build_ready

        return build_ready(config, data, progress, to_fit)
    if config["sample_rate_hz"] % 1000 or config["sample_rate_hz"] <= 0:
        raise UserError(
            f"task.sample_rate_hz is {config['sample_rate_hz']}; wanted a multiple of 1000, such as 16000 or 44000: scenes are "
            "laid out in whole milliseconds. Clips of any rate are resampled to it."
        )
    if to_fit:
        checked_valid(config)
    corpus, clips, config = open_clips(config, data)
    sounds = _sounds_of(config, clips)  # what is wrong with the lists of classes is told before clips are decoded
    cache = open_cache(corpus, clips, int(config["sample_rate_hz"]), progress=progress)
    scored = [split for split in scored_splits(config) if config["scenes"][split]]
    drawn_on = list(dict.fromkeys([*(("train", "valid") if to_fit else ()), *scored]))
    if not scored:
        raise UserError(
            "task.scenes: test and seen are both 0, so nothing would be scored. Set task.scenes.test above 0."
        )
    needed = {CLIPS_OF[split] for split in drawn_on}
    members = split_clips(cache.clips, config["splits"], sounds, corpus.name, sorted(needed))
    task = Task(config, task_info(config), cache, members)
    planners = [task.planner(split, 0) for split in drawn_on]  # a class without clips is told before anything is trained
    for planner in planners:
        if isinstance(planner, RoomsPlanner):
            planner.prepare(progress)
    return task


def checked_valid(config: Mapping[str, Any]) -> None:
    """UserError where there are no scenes to choose an epoch by."""
    found = config["scenes"]["valid"]
    if type(found) is not int or found < 1:
        raise UserError(f"task.scenes.valid is {plain(found)}; wanted a whole number from 1, to choose an epoch by.")


def open_clips(config: Mapping[str, Any], data: Mapping[str, str]) -> tuple[Corpus, tuple[Clip, ...], dict[str, Any]]:
    """The corpus, those clips of it that the task uses, and the settings with all their classes written out."""
    listed, mixing = config["classes"], config["mixing"]
    if listed is not None and len(set(listed)) < len(listed):
        raise UserError(f"task.classes: {', '.join(listed)} names a class twice. Name each once.")
    others = interference_classes(mixing) if "interference_classes" in mixing else ()  # None: whatever else the corpus has
    wanted = None if listed is None or others is None else [*listed, *(name for name in others if name not in listed)]
    corpus = open_corpus(config["corpus"], data, wanted)
    clips = tuple(clip for clip in corpus.clips if clip.foreground or not config["foreground_only"])
    there = sorted({clip.label for clip in clips})
    if others is None and listed is not None:
        need_classes(listed, there, corpus.name)
        alike = other_names(config["corpus"], listed)  # a target under another name would be no interference
        clips = tuple(clip for clip in clips if clip.label not in alike)
    return corpus, clips, {**config, "classes": listed or [name for name in there if name not in (others or ())]}


def _sounds_of(config: Mapping[str, Any], clips: Iterable[Clip]) -> list[str]:
    """The classes that scenes hold: the task's own, and behind them those of interfering events."""
    mixing, classes = config["mixing"], list(config["classes"])
    if mixing["kind"] != "rooms":
        return classes
    return [*classes, *rooms_settings(config, "train").others(classes, sorted({clip.label for clip in clips}))]


def task_info(config: Mapping[str, Any]) -> TaskInfo:
    """What a method is told of the task, whose classes are written out."""
    if is_ready(config):
        from sepbench.tasks.ready import ready_info

        return ready_info(config)
    settings, classes = mixer_settings(config, "train"), tuple(config["classes"])
    # events of one class make one source of a Poisson scene, so that there are as many as classes at most
    fewest, most = (1, len(classes)) if isinstance(settings, PoissonSettings) else settings.n_sources
    rate, seconds = int(config["sample_rate_hz"]), float(config["seconds"])
    if isinstance(settings, RoomsSettings):
        return TaskInfo(classes, rate, settings.n_channels, most, seconds, fewest, settings.same_class, any_order=True)
    repeat = isinstance(settings, PairsSettings) or (isinstance(settings, OverlapSettings) and settings.two_of_a_class)
    return TaskInfo(classes, rate, 1, most, seconds, fewest, repeat, any_order=not isinstance(settings, PoissonSettings))
