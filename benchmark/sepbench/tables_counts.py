"""Figures by the number of sources in a scene: how well they are separated under their labels, and how often named right."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sepbench.by_scene import (
    BY_CLASS,
    BY_SOURCE,
    RIGHT,
    TRUE,
    SceneMean,
    means_over,
    metric_for,
    scene_values,
    sources_of,
)
from sepbench.metrics import METRICS
from sepbench.results import RunRecord, read_rows
from sepbench.tables_facts import (
    SYNTHETIC_NOTE,
    corpus_words,
    figures_of,
    is_synthetic,
    method_names,
    scene_settings,
    split_fact,
)
from sepbench.tables_format import Cell, Line, Table, text

WORDS = {BY_CLASS: "CA-SDRi, dB", BY_SOURCE: "CAPI-SDRi, dB", RIGHT: "label sets right"}
DIGITS = {BY_CLASS: 1, BY_SOURCE: 1, RIGHT: 2}
NOTE = (
    "A mean over the scenes with so many sources; without a source there is nothing to improve. Label sets right: the share of "
    "scenes of which exactly the labels were named. [ ]: 95 % interval, drawing scenes."
)


def source_count_tables(runs: Sequence[RunRecord], split: str, but: Collection[str]) -> list[Table]:
    """A table of those `runs`, all on the same scenes, that name sources; none where all scenes have as many.

    `but`: as in `method_names`.
    """
    scored = [run for run in runs if figures_of(run, split, RIGHT) and (run.path / "rows.parquet").is_file()]
    if not scored or not _may_vary(scored[0], split):
        return []
    rows = {run.id: read_rows(run.path, (BY_CLASS, BY_SOURCE, RIGHT, *TRUE), split) for run in scored}
    sources = {scene: own for each in rows.values() for scene, own in sources_of(each, split).items()}
    scenes: dict[int, list[str]] = {}  # by the number of sources
    for scene, own in sources.items():
        scenes.setdefault(sum(own.values()), []).append(scene)
    if len(scenes) < 2:
        return []
    metric = metric_for(rows.values(), split)
    asked = [(name, n) for name in (metric, RIGHT) for n in sorted(scenes) if n or name == RIGHT]
    values = {(run, name): scene_values(rows[run], split, name) for run in rows for name in (metric, RIGHT)}
    means = iter(means_over([(values[run.id, name], scenes[n]) for run in scored for name, n in asked]))
    cells = {run.id: [_cell(run, name, next(means)) for name, _ in asked] for run in scored}
    names = method_names(scored, but)
    best_first = sorted(scored, key=lambda run: (*(-_mean(run, split, name) for name in (metric, RIGHT)), run.id))
    lines = tuple(_line(run, names[run.id], split, cells[run.id]) for run in best_first)
    task = scored[0].config["task"]
    title = f"{task['name']} by the number of sources, on {corpus_words(task['corpus'])} sounds, {split}"
    headings = ("Method", "Supervision", "Corpus", "Profile", *(f"{_counted(n)}: {WORDS[name]}" for name, n in asked))
    return [Table(title, headings, lines, _notes(task, scenes), ("Supervision",))]


def _may_vary(run: RunRecord, split: str) -> bool:
    """Whether the settings leave room for scenes with fewer sources than others."""
    mixing = scene_settings(run, split)["mixing"]
    return mixing.get("kind") == "ready" or mixing.get("fewest_sources") not in (None, mixing.get("sources"))


def _cell(run: RunRecord, metric: str, found: SceneMean | None) -> Cell:
    if found is None:
        return Cell()
    unit, digits = METRICS[metric].unit, DIGITS[metric]
    return Cell(found.mean, found.ci95, n=found.n, unit=unit, digits=digits, runs=(run.id,))


def _line(run: RunRecord, name: str, split: str, cells: Sequence[Cell]) -> Line:
    supervision = "ORACLE" if run.config.get("supervision") == "oracle" else run.config.get("supervision")
    corpus, profile = run.config["task"]["corpus"], run.config["profile"]
    words = map(text, (name, supervision, corpus_words(corpus), profile))
    return Line((*words, *cells), {"corpus": corpus, "profile": profile, "split": split_fact(run, split)})


def _notes(task: Mapping[str, str], scenes: Mapping[int, Sequence[str]]) -> tuple[str, ...]:
    counts = ", ".join(f"{len(scenes[n])} with {_counted(n)}" for n in sorted(scenes))
    return (*([SYNTHETIC_NOTE] if is_synthetic(task["corpus"]) else []), f"Scenes: {counts}.", NOTE)


def _mean(run: RunRecord, split: str, metric: str) -> float:
    figures = figures_of(run, split, metric)
    return -float("inf") if figures is None else float(figures["mean"])


def _counted(n: int) -> str:
    return f"{n} source" if n == 1 else f"{n} sources"
