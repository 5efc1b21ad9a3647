"""tasks/<name>.yaml -> a plain dict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from sepbench.errors import UserError, nearest
from sepbench.tasks.class_sets import CLASS_SETS
from sepbench.tasks.splits import DISJOINT, SHARED_POOL

SCORED_ON = "scored_on"  # the one split that a run is scored on, of those that are not scored on test
READY = "ready"  # the kind of mixing of tasks whose scenes lie ready on disk


def known_tasks() -> list[str]:
    return sorted(path.stem for path in Path(__file__).parent.glob("*.yaml"))


def load_task(name: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The task's settings with `overrides` (nested) laid over them. UserError for a task or a setting that does not exist."""
    if name not in known_tasks():
        raise UserError(f"task: there is no '{name}'; known: {', '.join(known_tasks())}.{nearest(name, known_tasks())}")
    file = Path(__file__).parent / f"{name}.yaml"
    try:
        settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{file}: not YAML: {' '.join(str(error).split())}") from None
    return _laid_over(settings, overrides, "task")


def corpus_of(name: str, asked: str | None, data: Iterable[str], otherwise: str | None) -> str:
    """The corpus of a task's clips: what is `asked` for, else its own where all that joins in it is in `data`, else the other.

    UserError where another corpus is asked for than the release that the task is, and where a part of its own is in `data`
    and the rest is not, so that the other would be taken in silence.
    """
    task = load_task(name, {})
    own: str = task["corpus"]
    if is_ready(task) and asked not in (None, own):
        raise UserError(f"--corpus {asked}: {name} is a release, of which nothing is mixed. Leave it away.")
    lacking = [part for part in own.split("+") if part not in data]
    given = is_ready(task) or not lacking
    if not given and asked is None and otherwise not in (None, own) and len(lacking) < len(own.split("+")):
        there = ", ".join(part for part in own.split("+") if part not in lacking)
        raise UserError(f"--data: {name} mixes {own.replace('+', ' and ')}, and {', '.join(lacking)} is not given. Give --data "
                        f"{lacking[0]}=DIR too, or --corpus {there.replace(', ', '+')} for that alone.")  # fmt: skip
    return asked or (own if given else otherwise or own)


def _laid_over(base: dict[str, Any], overrides: Mapping[str, Any], path: str) -> dict[str, Any]:
    result = dict(base)
    for key, value in overrides.items():
        if key not in base:
            raise UserError(f"{path}.{key}: no such setting; known: {', '.join(base)}.{nearest(key, base)}")
        inner = isinstance(base[key], dict) and isinstance(value, Mapping)
        result[key] = _laid_over(base[key], value, f"{path}.{key}") if inner else value
    return result


def is_ready(task: Mapping[str, Any]) -> bool:
    """Whether the task is a release whose scenes lie ready on disk, so that none are mixed and no other corpus will do."""
    return (task.get("mixing") or {}).get("kind") == READY


def settled(task: Mapping[str, Any], changed: Iterable[str] = ()) -> dict[str, Any]:
    """`task` with its named set of classes written out, and nothing in it that its split would not read.

    `changed`: paths ("splits.by") that the user has set. UserError where one of them would have no effect, and for a
    set of classes that does not exist.
    """
    result = dict(task)
    if "class_set" in task:
        result |= _classes(task, "class_set" in changed)
    _check_read(result, set(changed))
    mixing = task.get("mixing") or {}
    noisy = mixing.get("noise_dbfs") is not None  # where a source alone is not yet its mixture
    if mixing.get("fewest_sources") == 0 and not noisy:
        raise UserError("fewest_sources: got '0'; allowed: a whole number of at least 1 where nothing sounds but sources.")
    if mixing.get("fewest_sources") in (0, 1) and not noisy and "minimum_active" not in changed:
        result["minimum_active"] = max(result["minimum_active"], 2)  # a source alone is its mixture, which nothing improves
    if result["splits"].get("protocol") == SHARED_POOL or is_ready(task):
        # the test itself is of the training clips; or nothing is mixed, and so nothing mixed anew
        result["scenes"] = {**result["scenes"], "seen": 0}
    return result


def _classes(task: Mapping[str, Any], set_asked: bool) -> dict[str, Any]:
    """The classes and the name of their set, None where they are no set that has one."""
    name, listed = task["class_set"], task["classes"]
    if listed is not None and not set_asked:
        known = [each for each, classes in CLASS_SETS.items() if list(classes) == list(listed)]
        return {"class_set": known[0] if known else None}
    if name not in CLASS_SETS:
        known = list(CLASS_SETS)
        raise UserError(f"task.class_set: there is no '{name}'; known: {', '.join(known)}.{nearest(str(name), known)}")
    if listed is not None and list(listed) != list(CLASS_SETS[name]):
        raise UserError("--classes: task.classes lists other ones, one by one. Leave one of the two away.")
    return {"classes": list(CLASS_SETS[name])}


UNREAD = {  # settings of the splits that nobody reads
    "fold": (("splits.folds", "splits.shares"), "the clips are split by fold", "task.splits.by=recording"),
    "recording": (
        ("splits.train", "splits.valid", "splits.test"), "the clips are split by recording", "task.splits.by=fold",
    ),
    SHARED_POOL: (
        ("splits.by", "splits.train", "splits.valid", "splits.test", "splits.shares", "scenes.seen"),
        "every clip serves all splits", f"task.splits.protocol={DISJOINT}",
    ),
    READY: (("scenes.seen",), "no new scenes can be made of a release", "task.scenes.test=1000"),
}  # fmt: skip


def _check_read(task: Mapping[str, Any], changed: set[str]) -> None:
    splits = task["splits"]
    for path in {"name", "mixing.kind"} & changed:
        raise UserError(f"--set task.{path}: belongs to the task, as what else it sets up does. Choose another with --task.")
    shared = splits.get("protocol") == SHARED_POOL
    of = READY if is_ready(task) else SHARED_POOL if shared else splits["by"]
    paths, why, remedy = UNREAD.get(of, ((), "", ""))
    unread = [path for path in paths if path in changed]
    if unread:
        option = "--split" if unread[0] == "splits.by" else f"--set task.{unread[0]}"
        raise UserError(f"{option}: has no effect, since {why}. Leave it away, or add --set {remedy}.")
