"""Which clips and recordings serve both training and test, by name and by content.

A clip that was trained on is recognised in a new mixture: a figure on such clips is not one on sounds that were never
heard. Every run keeps the answer in run.json (provenance.audit), with the clips and recordings that it rests on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepbench.corpora.base import Clip
from sepbench.corpora.joined import same_recordings
from sepbench.errors import UserError
from sepbench.results import RunRecord, read_runs
from sepbench.results_format import learns_from
from sepbench.tasks import is_ready
from sepbench.tasks.splits import DISJOINT, SHARED_POOL, split_clips

if TYPE_CHECKING:
    from sepbench.tasks.task import Task

TEST = "test"
RELEASED = "released"  # instead of a protocol: the lists of a release, whose scenes are known by their names alone
INNER = "inner "  # before the splits of a wrapped method's own run: "inner train"
CONTENT_DIGITS = 10  # of a clip's hash: among 10,000 clips, the odds that any two agree by chance are 1 in 20,000


@dataclass(frozen=True)
class Part:
    """What serves one split."""

    corpus: str  # names mean the same clips within one corpus alone
    recordings: tuple[str, ...]
    clips: Mapping[str, str] | None = None  # key -> content; None: of a run from before clips were kept

    @classmethod
    def of(cls, corpus: str, clips: Sequence[Clip], contents: Sequence[str], members: Iterable[int]) -> Part:
        own = list(members)
        recordings = tuple(sorted({clips[i].recording for i in own}))
        return cls(corpus, recordings, {clips[i].key: contents[i][:CONTENT_DIGITS] for i in own})


@dataclass(frozen=True)
class Shared:
    """What a split has in common with the test. None: not to be known from recordings alone."""

    clips: tuple[str, ...] | None
    recordings: tuple[str, ...]
    same_audio: tuple[tuple[str, str], ...] | None  # (clip of the test, clip of the split): one content, two names

    @property
    def counts(self) -> dict[str, int | None]:
        clips, same = (None if found is None else len(found) for found in (self.clips, self.same_audio))
        return {"clips": clips, "recordings": len(self.recordings), "same_audio": same}


@dataclass(frozen=True)
class Audit:
    """What serves each split of a run or a task; what is shared follows from it."""

    protocol: str  # disjoint, or shared_pool, which declares that all is shared
    parts: Mapping[str, Part]  # train, valid, test; a wrapped method's too. Those of training: of what was trained on
    learns: bool = True  # whether there is anything that could have been learnt from a clip
    trained_by: str | None = None  # the run that trained what this one tests
    unknown: tuple[str, ...] = ()  # runs and files that it learnt from, too, and that keep no list of their clips

    @property
    def training(self) -> list[str]:
        """The splits that training or the choice of an epoch drew on."""
        return [name for name in self.parts if name != TEST]

    @cached_property
    def shared(self) -> dict[str, Shared]:
        """What each of them shares with the test."""
        return {name: _shared(self.parts[name], self.parts[TEST]) for name in self.training}

    @cached_property
    def total(self) -> Shared:
        """What the test shares with any of them."""
        found = list(self.shared.values())
        known = [each for each in found if each.clips is not None]
        clips = {key for each in known for key in each.clips or ()}
        pairs = {key: other for each in reversed(known) for key, other in each.same_audio or () if key not in clips}
        recordings = tuple(sorted({name for each in found for name in each.recordings}))
        if len(known) < len(found):
            return Shared(None, recordings, None)
        return Shared(tuple(sorted(clips)), recordings, tuple(sorted(pairs.items())))

    @property
    def declared(self) -> bool:
        """Whether the protocol says of itself that training and test share their clips."""
        return self.protocol == SHARED_POOL

    @property
    def names_alone(self) -> str:
        """Why no clips are known."""
        if self.protocol == RELEASED:
            return "by the names of scenes: which recordings they were mixed from, the release does not say"
        return "recordings only, from before clips were kept"

    @property
    def any_shared(self) -> bool:
        total = self.total
        return bool(total.clips or total.recordings or total.same_audio)

    @property
    def verdict(self) -> str:
        """All in one line."""
        total, test = self.total, self.parts[TEST]
        said = ", as the protocol shared_pool says" if self.declared else f"; the protocol is {self.protocol}: a leak"
        alone = "" if total.clips is not None else f" ({self.names_alone})"
        if total.clips:
            return f"CLIPS SHARED: {len(total.clips)} of {len(test.clips or ())} test clips also serve training{said}."
        if total.recordings:
            shared = f"{len(total.recordings)} of {len(test.recordings)} test recordings"
            return f"RECORDINGS SHARED: {shared} also serve training{said}{alone}."
        if total.same_audio:
            shared = f"{len(total.same_audio)} of {len(test.clips or ())} test clips"
            return f"SAME AUDIO: {shared} hold the audio of a training clip under another name{said}."
        if self.unknown:
            return f"unknown: {', '.join(self.unknown)} keeps no list of what it was trained on. Run it again if it is a run."
        if self.protocol == RELEASED:
            return f"disjoint: no scene is in two lists{alone}."
        what = "recording" if alone else "clip, recording or audio"
        return f"disjoint: no {what} serves both training and test{alone}."

    def plain(self) -> dict[str, Any]:
        """For run.json: counts, the verdict, and each clip once, beside the others that serve the same splits."""
        known = {name: part for name, part in self.parts.items() if part.clips is not None}
        return {
            "protocol": self.protocol,
            "learns": self.learns,
            "trained_by": self.trained_by,
            "unknown": list(self.unknown),
            "verdict": self.verdict,
            "corpora": {name: part.corpus for name, part in self.parts.items()},
            "clips": {name: None if part.clips is None else len(part.clips) for name, part in self.parts.items()},
            "recordings": {name: len(part.recordings) for name, part in self.parts.items()},
            "shared": {name: each.counts for name, each in self.shared.items()},
            "serving": _packed(known),
        }

    @property
    def provenance(self) -> dict[str, Any]:
        """What a run keeps: the recordings of each split, and the audit."""
        return {"recordings": {name: list(part.recordings) for name, part in self.parts.items()}, "audit": self.plain()}


def audit_run(task: Task, config: Mapping[str, Any], learnt_by: RunRecord | None = None) -> Audit:
    """The audit of a run that is about to begin. `learnt_by`: the run whose weights it tests, where it trains nothing."""
    ready = is_ready(task.config)
    parts = _released(task) if ready else _parts(config, task.cache.clips, task.cache.contents, task.members)
    return _of_config(config, parts, None, learnt_by)


def _released(task: Task) -> dict[str, Part]:
    """The scenes of each split, for recordings."""
    return {split: Part(task.config["corpus"], tuple(task.recordings(split))) for split in task.members}


def audit_task(settings: Mapping[str, Any], data: Mapping[str, str]) -> Audit:
    """The audit of a task's split, by names and the bytes of files; nothing is decoded. UserError as `build_task` has."""
    if is_ready(settings):
        from sepbench.tasks.task import build_task

        return Audit(RELEASED, _released(build_task(settings, data, to_fit=False)))
    from sepbench.corpora.cache import cache_root, clip_contents
    from sepbench.tasks.task import open_clips

    corpus, clips, settings = open_clips(settings, data)
    members = split_clips(clips, settings["splits"], settings["classes"], corpus.name)
    parts = _parts({"task": settings}, clips, clip_contents(corpus, clips, cache_root()), members)
    return Audit(_protocol({"task": settings}), parts)


def audit_of(record: RunRecord) -> Audit:
    """The audit of a run by what it keeps. UserError where it has no training and test, or keeps too little.

    Runs from before clips were kept have their recordings. Where such a run tests what another one trained, or wraps
    it, that one must lie beside it.
    """
    kind = str(record.config.get("kind") or "recipe")
    if kind not in ("recipe", "baseline"):
        raise UserError(f"{record.path}: is of kind {kind}, without training and test. Name a run of a method, or a task.")
    facts, config = record.provenance, record.config
    if facts.get("audit"):
        return _unpacked(facts["audit"], facts["recordings"])
    if not facts.get("recordings"):
        task = config["task"]["name"]
        raise UserError(f"{record.path}: keeps no list of its recordings. Run it again, or audit its task: {task}.")
    corpus, trained_by = config["task"]["corpus"], (config.get("trained_by") or {}).get("run")
    parts = {name: Part(corpus, tuple(own)) for name, own in facts["recordings"].items()}
    learnt_by = _neighbour(record, trained_by) if trained_by and _learns(config) else None
    return _of_config(config, parts, record, learnt_by)


def _learns(config: Mapping[str, Any]) -> bool:
    return learns_from(config) is not None or bool(config.get("inner"))


def _of_config(
    config: Mapping[str, Any], own: Mapping[str, Part], record: RunRecord | None, learnt_by: RunRecord | None
) -> Audit:
    """The audit of a run whose task has the parts `own`: its training is that of the runs that it took weights from."""
    learns, training = _learns(config), {name: part for name, part in own.items() if name != TEST}
    teacher, prefix = learnt_by if learns else None, ""
    if teacher is not None:
        training = {}
    elif config.get("inner"):
        teacher, prefix = _neighbour(record, config["inner"]["run"]), INNER
        training = training if learns_from(config) else {}
    unknown: tuple[str, ...] = ()
    if teacher is not None:
        heard, unknown = _heard(teacher)
        training |= {prefix + name: part for name, part in heard.items()}
    trained_by = learnt_by.id if learnt_by is not None and learns else None
    brought = tuple(str(config["params"][name]) for name in config.get("files") or {})  # whoever trained that
    return Audit(_protocol(config), {**training, TEST: own[TEST]}, learns or bool(brought), trained_by, (*unknown, *brought))


def _heard(record: RunRecord) -> tuple[dict[str, Part], tuple[str, ...]]:
    """What a run was trained and chosen on; and the runs, itself among them, that keep no list of that."""
    try:
        audit = audit_of(record)
    except UserError:
        return {}, (record.id,)
    return {name: audit.parts[name] for name in audit.training}, audit.unknown


def _neighbour(record: RunRecord | None, run: str) -> RunRecord:
    """The run of that name or path, where it was or beside `record`."""
    places = [Path(run), *([] if record is None else [record.path.parent / Path(run).name])]
    for place in places:
        if (place / "run.json").is_file():
            return read_runs(place)[0]
    where = f"{record.path}: learnt from" if record else "learnt from"
    raise UserError(f"{where} '{Path(run).name}', which is not there to be asked. Put it beside this run, or audit it.")


def _protocol(config: Mapping[str, Any]) -> str:
    return RELEASED if is_ready(config["task"]) else str(config["task"]["splits"].get("protocol", DISJOINT))


def _parts(
    config: Mapping[str, Any], clips: Sequence[Clip], contents: Sequence[str], members: Mapping[str, Sequence[int]]
) -> dict[str, Part]:
    return {split: Part.of(config["task"]["corpus"], clips, contents, own) for split, own in members.items()}


def _shared(part: Part, test: Part) -> Shared:
    same_corpus, comparable = part.corpus == test.corpus, same_recordings(part.corpus, test.corpus)
    recordings = tuple(sorted(set(part.recordings) & set(test.recordings))) if comparable else ()
    if part.clips is None or test.clips is None:
        return Shared(None, recordings, None)
    clips = sorted(part.clips.keys() & test.clips.keys()) if same_corpus else []
    holder = {content: key for key, content in sorted(part.clips.items(), reverse=True)}  # the first of equals
    others = sorted(test.clips.keys() - set(clips))
    pairs = tuple((key, holder[test.clips[key]]) for key in others if test.clips[key] in holder)
    return Shared(tuple(clips), recordings, pairs)


def _packed(parts: Mapping[str, Part]) -> dict[str, str]:
    """{"train|test": "content key\\ncontent key"}: each clip once, under the splits that it serves.

    One text and no list, which would take half as much again: run.json is indented.
    """
    homes: dict[tuple[str, str, str], list[str]] = {}
    for name, part in parts.items():
        for key, content in (part.clips or {}).items():
            homes.setdefault((part.corpus, key, content), []).append(name)
    groups: dict[str, list[str]] = {}
    for (_, key, content), names in homes.items():
        groups.setdefault("|".join(names), []).append(f"{content} {key}")
    return {names: "\n".join(lines) for names, lines in groups.items()}


def _unpacked(held: Mapping[str, Any], recordings: Mapping[str, Sequence[str]]) -> Audit:
    """What `plain` and `provenance` wrote."""
    clips: dict[str, dict[str, str]] = {name: {} for name in held["corpora"]}
    for names, lines in held["serving"].items():
        for line in lines.split("\n"):
            content, _, key = line.partition(" ")
            for name in names.split("|"):
                clips[name][key] = content
    parts = {
        name: Part(corpus, tuple(recordings[name]), clips[name] if held["clips"][name] is not None else None)
        for name, corpus in held["corpora"].items()
    }
    return Audit(held["protocol"], parts, held["learns"], held["trained_by"], tuple(held["unknown"]))
