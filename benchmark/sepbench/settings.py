"""Nested settings: merging them, reaching into them by path, and handing them to a method."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

from sepbench.errors import UserError, nearest

NULLABLE = (".clip_norm", ".plateau_factor")  # settings of a training stage that null turns off


class Settings(SimpleNamespace):
    """Settings as attributes, nested and frozen: `settings.params.alpha`. Lists are tuples. Pickles."""

    def __init__(self, **values: Any) -> None:
        super().__init__(**{name: _frozen(value) for name, value in values.items()})

    def __getattr__(self, name: str) -> Any:  # only where there is none of that name
        raise AttributeError(f"no setting '{name}'.{nearest(name, vars(self)) or ' Known: ' + ', '.join(vars(self))}")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"settings are frozen; '{name}' cannot be set")


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Settings(**{str(name): item for name, item in value.items()})
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(item) for item in value)
    return value


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the entries of `over` laid on it, group by group. Neither is changed."""
    result = dict(base)
    for name, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(name), Mapping)
        result[name] = merged(result[name], value) if both else value
    return result


def place(settings: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """`settings` with `value` at `path` ("mixing.rate"), which must exist. The original is not changed."""
    head, _, rest = path.partition(".")
    if head not in settings or (rest and not isinstance(settings[head], Mapping)):
        raise KeyError(path)
    return {**settings, head: place(settings[head], rest, value) if rest else value}


def has(settings: Mapping[str, Any], path: str) -> bool:
    """Whether anything lies at `path`."""
    head, _, rest = path.partition(".")
    inside = settings.get(head)
    return head in settings and (not rest or (isinstance(inside, Mapping) and has(inside, rest)))


def paths(settings: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Every path at which a value, not a group, lies."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from paths(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def reach(settings: Mapping[str, Any], path: str) -> Any:
    """What lies at `path`, a value or a group. UserError with the nearest path there is, where nothing does."""
    known = list(paths(settings))
    found: Any = settings
    for name in path.split("."):
        if not isinstance(found, Mapping) or name not in found:
            raise UserError(f"--set {path}: there is no such setting.{nearest(path, known) or _beside(path, known)}")
        found = found[name]
    return found


def _beside(path: str, known: list[str]) -> str:
    """The settings of the same group, where no path is close."""
    group = path.rpartition(".")[0]
    beside = [name for name in known if group and name.startswith(f"{group}.")] or sorted(
        {name.split(".")[0] for name in known}
    )
    return f" Known: {', '.join(beside)}."


def replace(settings: Mapping[str, Any], path: str, value: Any, text: str) -> dict[str, Any]:
    """`settings` with `value` (`text` as typed) at `path`, of the type that lies there now, else UserError.

    A group within a group can be set to null, which leaves out what it sets up; where null lies, anything may come.
    """
    present = reach(settings, path)
    if isinstance(present, Mapping) and present:
        if value is None and "." in path:
            return place(settings, path, None)
        inside = [name for name in paths(settings) if name.startswith(f"{path}.")]
        raise UserError(f"--set {path}: that is a group. Set one of {', '.join(inside)}.")
    return place(settings, path, _as_present(present, value, text, path))


def _as_present(present: Any, value: Any, text: str, path: str) -> Any:
    if present is None or (value is None and path.endswith(NULLABLE)):
        fits = True
    elif isinstance(present, bool):
        fits = isinstance(value, bool)
    elif isinstance(present, int):
        fits = isinstance(value, int) and not isinstance(value, bool)
    elif isinstance(present, float):
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
        value = float(value) if fits else value
    elif isinstance(present, str):
        fits = value is not None and not isinstance(value, (list, Mapping))
        value = text if fits else value
    else:
        fits = isinstance(value, type(present)) and _same_inside(present, value)
    if not fits or (isinstance(value, float) and not math.isfinite(value)):
        raise UserError(f"--set {path}: got {text!r}, wanted {_wanted(present)}.")
    return value


def _same_inside(present: Any, value: Any) -> bool:
    """Whether the list `value` holds the types that the list `present` holds; anything goes into an empty one."""
    kinds = {type(item) for item in present} if isinstance(present, list) else set()
    return not kinds or all(type(item) in kinds or (float in kinds and type(item) is int) for item in value)


def _wanted(present: Any) -> str:
    if isinstance(present, bool):
        return "true or false"
    if isinstance(present, (int, float)):
        return "a whole number" if isinstance(present, int) else "a number"
    if isinstance(present, (list, tuple)):
        return "a list such as [" + ", ".join(str(item) for item in present[:3]) + "]"
    return "one value, not a group" if present is None else "text"
