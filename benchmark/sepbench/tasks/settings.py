"""tasks/<name>.yaml -> a plain dict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sepbench.errors import UserError, nearest


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
