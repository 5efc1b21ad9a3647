"""What a method decided on the way to its answers, kept beside its rows: for tables and people, never scored."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sepbench.errors import UserError
from sepbench.storage import finite, write_text

FILE = "decisions.jsonl"

Decisions = Mapping[str, Sequence[Mapping[str, Any]]]  # scene -> what was decided in it, the first first


def write_decisions(path: Path, split: str, decisions: Decisions) -> None:
    """A line of JSON for each scene: split, scene, decisions. TypeError where one is not of plain types."""
    _write(path, [{"split": split, "scene": scene, "decisions": own} for scene, own in decisions.items()])


def merge_decisions(chunks: Iterable[Path], path: Path) -> None:
    """The lines of all `chunks` in one file, by split and scene; no file where there are no lines."""
    merged = {(line["split"], line["scene"]): line for chunk in chunks for line in _read(chunk)}
    if merged:
        _write(path, [merged[key] for key in sorted(merged)])


def has_decisions(folder: Path) -> bool:
    """Whether the run in `folder` kept any."""
    return (Path(folder) / FILE).is_file()


def read_decisions(folder: Path) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """{(split, scene): what was decided there}, of the run in `folder`; empty where it kept none.

    UserError naming file and line where one is no decisions of a scene.
    """
    file = Path(folder) / FILE
    lines = _read(file) if file.exists() else []
    return {(line["split"], line["scene"]): line["decisions"] for line in lines}


def _write(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    text = [json.dumps(finite(line), ensure_ascii=False, separators=(",", ":"), allow_nan=False) for line in lines]
    write_text(path, "".join(f"{line}\n" for line in text))


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        lines = [line for line in file.read_text(encoding="utf-8").split("\n") if line]
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read: {error}. Restore it, or move its folder away.") from error
    return [_line(file, i, line) for i, line in enumerate(lines, 1)]


def _line(file: Path, number: int, text: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        line = None
    if isinstance(line, dict) and all(isinstance(line.get(name), str) for name in ("split", "scene")):
        decisions = line.get("decisions")
        if isinstance(decisions, list) and all(isinstance(decision, dict) for decision in decisions):
            return line
    raise UserError(f"{file}: line {number} holds no decisions of a scene. Restore it, or move its folder away.")
