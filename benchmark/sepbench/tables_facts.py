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
    return settings | {"sounds": run.provenance.get("corpus_hash")}


def scenes_hash(run: RunRecord, split: str) -> str | None:
    """The same for the same scenes; None for runs from before it was kept."""
    return (run.provenance.get("scenes_hash") or {}).get(split)


def short_si(value: float) -> str:
    """1234567 -> 1.23 M; 12 -> 12."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}" if value < 1000 * size else f"{value / size:.0f} {letter}"
    return f"{value:.3g}"
