"""What tables need to know of a run: its figures, its sounds, its test scenes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sepbench.results import RunRecord

SYNTHETIC_NOTE = (
    "SYNTHETIC: sounds made by a generator, no recordings. Such a figure shows that the code runs; "
    "it does not compare with one on recordings, a paper's least of all."
)


def is_synthetic(corpus: str) -> bool:
    """Whether the corpus is made by a generator."""
    return corpus.startswith("synthetic")


def corpus_words(corpus: str) -> str:
    """The corpus as tables name it; in capitals where its sounds are no recordings."""
    return corpus.upper() if is_synthetic(corpus) else corpus


def figures_of(run: RunRecord, split: str, metric: str, key: str = "all") -> Mapping[str, Any] | None:
    """mean, std, median, n, undefined, ci95 of a metric, over all sources or one class; None where not measured."""
    held = (run.metrics.get(split) or {}).get(metric) or {}
    figures = held.get("all") if key == "all" else (held.get("class") or {}).get(key)
    return figures if figures and figures.get("mean") is not None else None


def interval(figures: Mapping[str, Any]) -> tuple[float, float] | None:
    """The 95 % interval, where there is one."""
    bounds = figures.get("ci95")
    return (bounds[0], bounds[1]) if bounds and None not in bounds else None


def newest(runs: Iterable[RunRecord]) -> RunRecord:
    """The run that finished last."""
    return max(runs, key=lambda run: (run.finished or "", run.id))


def scene_settings(run: RunRecord, split: str) -> dict[str, Any]:
    """All that decides which scenes the run was scored on. What only training uses is left out."""
    task = run.config["task"]
    names = ("name", "corpus", "classes", "sample_rate_hz", "seconds", "splits", "minimum_active")
    settings = {name: task.get(name) for name in names}
    mixing = dict(task.get("mixing") or {})
    for name in [name for name in mixing if name.startswith("test_")]:
        value = mixing.pop(name)
        mixing[name[5:]] = mixing.get(name[5:]) if value is None else value  # null: as in training
    settings |= {"mixing": mixing, "scenes": (task.get("scenes") or {}).get(split)}
    facts = run.provenance
    return settings | {"sounds": facts.get("corpus_hash"), "drawn": (facts.get("scenes_hash") or {}).get(split)}
