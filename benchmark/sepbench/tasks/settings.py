"""tasks/<name>.yaml -> a plain dict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from sepbench.errors import UserError, nearest
from sepbench.tasks.class_sets import CLASS_SETS
from sepbench.tasks.splits import DISJOINT, SHARED_POOL


def known_tasks() -> list[str]:
    return sorted(path.stem for path in Path(__file__).parent.glob("*.yaml"))


def load_task(name: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The task's settings with `overrides` (nested) laid over them. UserError for a task or a setting that does not exist."""
    if name not in known_tasks():
        raise UserError(f"task: there is no '{name}'; known: {', '.join(known_tasks())}.{nearest(name, known_tasks())}")
    text = (Path(__file__).parent / f"{name}.yaml").read_text(encoding="utf-8")
    return _laid_over(yaml.safe_load(text), overrides, "task")


def _laid_over(base: dict[str, Any], overrides: Mapping[str, Any], path: str) -> dict[str, Any]:
    result = dict(base)
    for key, value in overrides.items():
        if key not in base:
            raise UserError(f"{path}.{key}: no such setting; known: {', '.join(base)}.{nearest(key, base)}")
        inner = isinstance(base[key], dict) and isinstance(value, Mapping)
        result[key] = _laid_over(base[key], value, f"{path}.{key}") if inner else value
    return result


def settled(task: Mapping[str, Any], changed: Iterable[str] = ()) -> dict[str, Any]:
    """`task` with its named set of classes written out, and nothing in it that its split would not read.

    `changed`: paths ("splits.by") that the user has set. UserError where one of them would have no effect, and for a
    set of classes that does not exist.
    """
    result = dict(task)
    if "class_set" in task:
        result |= _classes(task, "class_set" in changed)
    _check_read(result, set(changed))
    if result["splits"].get("protocol") == SHARED_POOL:
        result["scenes"] = {**result["scenes"], "seen": 0}  # the test itself is of the training clips
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
}  # fmt: skip


def _check_read(task: Mapping[str, Any], changed: set[str]) -> None:
    splits = task["splits"]
    paths, why, remedy = UNREAD.get(SHARED_POOL if splits.get("protocol") == SHARED_POOL else splits["by"], ((), "", ""))
    unread = [path for path in paths if path in changed]
    if unread:
        option = "--split" if unread[0] == "splits.by" else f"--set task.{unread[0]}"
        raise UserError(f"{option}: has no effect, since {why}. Leave it away, or add --set {remedy}.")
