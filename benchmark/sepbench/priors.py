"""What the mixer's labels look like, from durations alone: how often each class sounds, and how many sound at once."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sepbench.corpora.urbansound8k import UrbanSound8K
from sepbench.errors import UserError
from sepbench.home import checkout
from sepbench.mixing.poisson import PoissonPlanner
from sepbench.provenance import provenance
from sepbench.results import RunFolder
from sepbench.tasks import load_task
from sepbench.tasks.task import poisson_settings

HOP_S = 0.008  # of the frames that are counted: a quarter of the paper's 32 ms window
CHUNK = 500  # scenes
PAPER = {
    "title": "Finding Strength in Weakness: Learning to Separate Sounds with Weak Supervision",
    "authors": "Pishdadian, Wichern, Le Roux",
    "year": 2020,
}
TABLES: dict[str, Any] = {
    "I": {
        "title": "Frame-level prior probability of activity", "metric": "activity_prior", "split": "train",
        "rows": [{"published": f"lambda={rate}", "when": {"lambda": float(rate)}} for rate in (5, 10)],
        "columns": "classes", "published": {"paper": "weak_label", "table": "I"},
    },
    "II": {
        "title": "Share of frames and clips with so many sources", "metric": "sources_per_frame", "split": "train",
        "rows": [
            {"published": f"sources per {what}, lambda={rate}", "when": {"lambda": float(rate)}, "metric": f"sources_per_{what}"}
            for what in ("frame", "clip") for rate in (5, 10)
        ],
        "columns": [{"published": str(n), "key": str(n)} for n in range(6)],
        "published": {"paper": "weak_label", "table": "II"},
    },
}  # fmt: skip


def label_statistics(planner: PoissonPlanner, n_scenes: int, progress: Any = None) -> dict[str, dict[str, float]]:
    """Shares over the first `n_scenes` plans: activity_prior per class, sources_per_frame and sources_per_clip per count."""
    n_classes = len(planner.classes)
    n_frames = round(planner.settings.seconds / HOP_S) + 1
    active = np.zeros(n_classes)
    per_frame, per_clip = np.zeros(n_classes + 1), np.zeros(n_classes + 1)
    for first in range(0, n_scenes, CHUNK):
        size = min(CHUNK, n_scenes - first)
        events = planner.plan(first, size).events()
        labels = events.activity(n_frames, HOP_S, -HOP_S / 2)
        active += labels.sum((0, 2))
        per_frame += np.bincount(labels.sum(1).astype(int).ravel(), minlength=n_classes + 1)
        per_clip += np.bincount(events.presence().sum(1).astype(int), minlength=n_classes + 1)
        if progress is not None:
            progress.advance(size)
    return {
        "activity_prior": dict(zip(planner.classes, (active / (n_scenes * n_frames)).tolist())),
        "sources_per_frame": {str(n): float(share) for n, share in enumerate(per_frame / per_frame.sum())},
        "sources_per_clip": {str(n): float(share) for n, share in enumerate(per_clip / per_clip.sum())},
    }


def write_priors(
    metadata: Path, lambdas: Sequence[float], scenes: int, folds: Sequence[int], results: Path, progress: Any
) -> list[Path]:
    """One run per lambda, kept like any other: the weak-label paper's Tables I and II from our mixer, without audio."""
    return [_write(metadata, float(rate), scenes, list(folds), results, progress) for rate in lambdas]


def _write(metadata: Path, rate: float, scenes: int, folds: list[int], results: Path, progress: Any) -> Path:
    task = load_task("urban_events", {"mixing": {"rate": rate}, "splits": {"train": folds}})
    corpus = UrbanSound8K.from_metadata(metadata, task["classes"])
    clips = [clip for clip in corpus.clips if clip.foreground or not task["foreground_only"]]
    members = [i for i, clip in enumerate(clips) if clip.fold in folds]
    if not members:
        raise UserError(f"{metadata}: no clip in folds {folds}. It has folds {sorted({clip.fold for clip in clips})}.")
    content = hashlib.blake2b(metadata.read_bytes(), digest_size=16).hexdigest()
    planner = PoissonPlanner(clips, members, task["classes"], poisson_settings(task, rate), content, "train", 0)
    config = {
        "recipe": "label_statistics", "name": "Labels of the scenes", "kind": "statistics", "paper": PAPER,
        "profile": "paper", "seed": 0, "supervision": "none", "labels_seen": "frame", "params": {}, "train": {}, "sizes": {},
        "task": task, "inner": None, "scenes": scenes,
    }  # fmt: skip
    facts = provenance(checkout(), {"run": 0}, {"hash": content, "clips": len(members)})
    began_s = time.perf_counter()
    with RunFolder.open_or_create(results, config, {"lambda": rate}, TABLES, facts, {"lambda": rate}) as folder:
        if folder.state != "finished":
            with progress.bar(f"planning scenes, lambda {rate:g}", scenes) as bar:
                found = label_statistics(planner, scenes, bar)
            metrics = {
                name: {"unit": "", "class": {key: {"mean": value, "n": scenes} for key, value in shares.items()}}
                for name, shares in found.items()
            }
            folder.finish({"plan": time.perf_counter() - began_s}, metrics={"train": metrics})
    return folder.path
