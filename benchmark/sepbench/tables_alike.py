"""Which runs may stand in one table: those that were scored on the same scenes; and what is to be said of these scenes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sepbench.results import RunRecord
from sepbench.tables_facts import (
    SHARED,
    corpus_words,
    figures_of,
    newest,
    plain,
    scene_settings,
    scenes_hash,
    shares_clips,
)

RELEASED = "as released"  # where scenes are not mixed but lie ready on disk
SPLITS = {"test": "unheard recordings", "seen": "new scenes of the training recordings"}
SAME_INPUT_DB = 0.01  # runs on the same scenes agree on the mean SI-SDR of the mixture far better than this


def each_once(runs: Iterable[RunRecord]) -> list[RunRecord]:
    """The runs, of those that lie in two places (here, and among the references) the newest."""
    kept: dict[tuple[str, str], RunRecord] = {}
    for run in runs:
        key = (run.id, str(run.provenance.get("corpus_hash")))
        kept[key] = newest([run, kept.get(key, run)])
    return list(kept.values())


def on_the_same_scenes(runs: Iterable[RunRecord], having: Sequence[str]) -> list[tuple[list[RunRecord], str]]:
    """The runs with a figure of one of the metrics `having`, by test set: (runs, split), the test before other splits.

    That is task, corpus content and settings of the scenes; runs that were scored on other scenes never share a group.
    """
    groups: dict[tuple[str, str], list[list[RunRecord]]] = {}
    for run in runs:
        for split in run.metrics:
            if any(figures_of(run, split, metric) for metric in having):
                same_settings = groups.setdefault((split, json.dumps(scene_settings(run, split), sort_keys=True)), [])
                home = next((group for group in same_settings if _same_input(run, group[0], split)), None)
                same_settings.append([run]) if home is None else home.append(run)
    order = sorted(groups, key=lambda key: (key[0] != "test", key[0], key[1]))
    return [(group, split) for split, settings in order for group in groups[split, settings]]


def _same_input(one: RunRecord, other: RunRecord, split: str) -> bool:
    """Whether two runs saw the same scenes: by their hash, and where one has none, as far as the mixtures can tell."""
    hashes = [scenes_hash(run, split) for run in (one, other)]
    if None not in hashes:
        return hashes[0] == hashes[1]
    a, b = (figures_of(run, split, "si_sdr_mixture") for run in (one, other))
    if a is None or b is None:
        return True
    return a.get("n") == b.get("n") and abs(a["mean"] - b["mean"]) < SAME_INPUT_DB


def title_words(run: RunRecord, split: str) -> str:
    """The test set as a title has it: task, sounds, number of classes where that is a choice, split."""
    task, sounds = run.config["task"], run.provenance.get("corpus_hash")
    content = f" (content {str(sounds)[:8]})" if sounds else ""
    strange = run.config.get("kind") == "external" and task["corpus"] == "files"  # nobody knows where they come from
    glosses = SPLITS | ({"test": SPLITS["seen"]} if shares_clips(run) else {})
    ready = (task.get("mixing") or {}).get("kind") == "ready"
    gloss = "" if strange else f": {RELEASED if ready else glosses.get(split, split)}"
    parts = [f"{task['name']} on {corpus_words(task['corpus'])}{'' if strange else ' sounds'}{content}"]
    parts += [f"{len(task['classes'])} classes"] if "class_set" in task else []
    return ", ".join([*parts, *([SHARED] if shares_clips(run) else []), split]) + gloss


def table_key(run: RunRecord, split: str) -> str:
    """The test set by a name that does not change with the content of the sounds or with what else was run."""
    task = run.config["task"]
    n_classes = f"{len(task['classes'])} classes" if "class_set" in task else ""
    return " ".join(filter(None, (task["name"], n_classes, SHARED if shares_clips(run) else "", split)))


def scenes_words(settings: Mapping[str, Any]) -> str:
    """How the scenes of these `scene_settings` are made, in a sentence."""
    mixing = ", ".join(f"{key} {plain(value)}" for key, value in settings["mixing"].items())
    classes = ", ".join(settings["classes"] or [])
    seconds = "various lengths" if settings["seconds"] is None else f"{settings['seconds']:g} s"
    rate = "various rates" if settings["sample_rate_hz"] is None else f"{settings['sample_rate_hz']} Hz"
    facts = [f"{seconds} at {rate}", mixing, f"classes {classes}" if classes else "no labels"]
    return f"Scenes: {'; '.join(filter(None, facts))}."


def leaks(runs: Sequence[RunRecord]) -> Iterator[str]:
    """Runs that were tested on what they were trained on, though their protocol does not say so."""
    for run in runs:
        audit = run.provenance.get("audit") or {}
        if any(n for shared in (audit.get("shared") or {}).values() for n in shared.values()):
            yield f"LEAK: {run.id}: {audit['verdict']}"
