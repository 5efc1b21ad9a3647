"""Runs of made-up methods on a task, with made-up rows: what the tests of a task's tables share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sepbench.results import RunFolder
from sepbench.scene import Row

CLASSES = ["dog_bark", "siren"]
N_SCENES = 12
ALL_METRICS = ["si_sdri", "ca_sdri", "class_accuracy"]


def scores(shift_db: float, of: Sequence[str] = ("si_sdri", "ca_sdri"), noise: int = 0, right: float = 1.0) -> list[Row]:
    """Rows of scenes with two sources, `shift_db` above a figure of the scene alone, with noise of its own where asked."""
    scene_db, own = np.random.default_rng(1).normal(0, 3, N_SCENES), np.random.default_rng(noise)
    rows = []
    for k, base in enumerate(scene_db):
        for source, label in enumerate(CLASSES):
            value = base + shift_db + (own.normal(0, 5) if noise else 0.0)
            rows += [Row("r", "test", f"s{k}", source, label, "si_sdri", float(value))] if "si_sdri" in of else []
            if "class_accuracy" in of:
                rows.append(Row("r", "test", f"s{k}", source, label, "class_accuracy", right))
                rows.append(Row("r", "test", f"s{k}", source, label, "class_accuracy_chance", 0.5))
        rows += [Row("r", "test", f"s{k}", -1, "", "ca_sdri", float(base) + 1.0)] if "ca_sdri" in of else []
        rows += [Row("r", "test", f"s{k}", -1, "", "labels_alone", 1.0)] if "si_sdri" not in of else []
    return rows


def missing(rows: Sequence[Row], n: int) -> list[Row]:
    """The rows without an answer to the first `n` sources."""
    lost = {(row.scene, row.source) for row in [row for row in rows if row.metric == "si_sdri"][:n]}
    kept = [row for row in rows if row.metric != "si_sdri" or (row.scene, row.source) not in lost]
    return kept + [Row("r", "test", scene, source, CLASSES[source], "missed", 1.0) for scene, source in sorted(lost)]


def run(
    root: Path, recipe: str, rows: Sequence[Row], cost: Mapping[str, Any] = {}, task: str = "common", fit_s: float = 60.0,
    changed: Mapping[str, Any] = {}, supervision: str = "isolated", provenance: Mapping[str, Any] = {},
    splits: Mapping[str, Any] = {"by": "recording"}, metrics: Sequence[str] = ALL_METRICS, **settings: Any,
) -> str:  # fmt: skip
    """A finished run of a made-up recipe; its id."""
    held = {"name": task, "corpus": "esc50", "classes": CLASSES, "sample_rate_hz": 16000, "seconds": 4.0, "mixing": {},
            "splits": dict(splits), "scenes": {"test": N_SCENES, "seed": 0}, "metrics": list(metrics)}  # fmt: skip
    config = {"recipe": recipe, "name": recipe.capitalize(), "profile": "small", "seed": 0, "supervision": supervision,
              "params": dict(changed), "task": held, **settings}  # fmt: skip
    facts = {"corpus_hash": "abc", "scenes_hash": {"test": "0123"}, **provenance}
    with RunFolder.open_or_create(root, config, dict(changed), {}, facts, dict(changed)) as folder:
        folder.append_rows("test", 0, list(rows))
        folder.finish({"fit": fit_s, "score": 2.0}, dict(cost))
    return folder.id
