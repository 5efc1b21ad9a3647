"""The scenes on which a method fails most, by the rows of its run: no sound is needed to list them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sepbench.errors import UserError, nearest
from sepbench.metrics import CHANCE, EVENTS, FACTS, LEVELS, METRICS, OUTCOMES, expand
from sepbench.statistics import POOLED, Columns

INPUT = "si_sdr_mixture"
PREFERRED = ("si_sdri", "si_sdri_by_label", "si_sdr", "snr", "ca_sdri", "capi_sdri", "class_accuracy")  # where none is asked for
COLUMNS = ("rank", "scene", "metric", "value", "source", "label", "of_source", "input_si_sdr_db", "missed")


@dataclass(frozen=True)
class Part:
    """A source of a scene; or a class, where the figure is pooled; or the scene as a whole."""

    source: int  # index in the scene; -1 where the figure is of no single source
    label: str
    value: float | None  # None: missed, so that there is no figure
    input_db: float | None  # SI-SDR of the mixture


@dataclass(frozen=True)
class Failure:
    """One scene of the ranking."""

    rank: int
    scene: str
    value: float  # the mean over its sources, or pooled over its classes
    parts: tuple[Part, ...]

    @property
    def missed(self) -> list[str]:
        return [part.label or str(part.source) for part in self.parts if part.value is None]


@dataclass(frozen=True)
class Ranking:
    """The worst scenes (or the best) of a split by one metric."""

    metric: str
    by_class: bool  # whether the parts of a scene are its classes, not its sources
    failures: tuple[Failure, ...]
    n_scenes: int  # that have a figure
    unanswered: tuple[str, ...]  # scenes without a figure, since every source was missed


def rank_scenes(columns: Columns, metric: str, split: str, n: int, best: bool = False) -> Ranking:
    """The `n` scenes of `split` with the worst figure: lowest first, or highest where lower is better.

    `columns`: rows as `read_rows` gives them. A scene's figure is the weighted mean over its sources, or, of a pooled
    metric, that of its own counts. Scenes with the same figure are ordered by name. UserError where the metric is
    unknown, or was not measured in `split`.
    """
    where = np.asarray(columns["split"] == split)
    if not where.any():
        there = ", ".join(sorted(set(columns["split"].tolist())))
        raise UserError(f"--split {split}: the run has no rows of it; it was scored on {there}.")
    rows = {name: column[where] for name, column in columns.items()}
    _check_metric(metric, sorted(set(rows["metric"].tolist())))
    of_scene = _pooled(rows, metric) if metric in POOLED else _averaged(rows, metric)
    figures = {scene: value for scene, (value, _) in of_scene.items() if value is not None}
    known = METRICS.get(metric)
    worst_is_low = known is None or known.higher_is_better is not False
    sign = 1 if worst_is_low != best else -1
    order = sorted(figures, key=lambda scene: (sign * figures[scene], scene))
    failures = [Failure(i, scene, figures[scene], of_scene[scene][1]) for i, scene in enumerate(order[:n], 1)]
    return Ranking(metric, metric in POOLED, tuple(failures), len(figures), tuple(sorted(of_scene.keys() - figures.keys())))


def usual_metric(columns: Columns, split: str) -> str:
    """What ranks the scenes of `split` where no metric is asked for: the first of PREFERRED that was measured there."""
    there = set(columns["metric"][columns["split"] == split].tolist())
    return next((name for name in PREFERRED if name in there), PREFERRED[0])


def as_csv(ranking: Ranking) -> str:
    """A line per source: COLUMNS."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in ranking.failures:
        for part in one.parts:
            source = "" if part.source < 0 else part.source
            own = (source, part.label, part.value, part.input_db, int(part.value is None))
            writer.writerow((one.rank, one.scene, ranking.metric, one.value, *own))
    return out.getvalue()


def scenes_in(text: str) -> list[str]:
    """The scenes that an `as_csv` lists."""
    return list(dict.fromkeys(row["scene"] for row in csv.DictReader(io.StringIO(text)) if row.get("scene")))


def safe_name(text: str) -> str:
    """A label or a scene as part of a file's name: letters, digits and `_ . + -`; anything else becomes `_`."""
    plain = re.sub(r"[^\w.+-]+", "_", text)
    return plain if plain.strip(".") else "_"  # never the folder itself, nor the one above


def _check_metric(metric: str, names: Sequence[str]) -> None:
    counts = {f"{level}_{outcome}" for level in LEVELS for outcome in OUTCOMES} | EVENTS.keys() | FACTS.keys()
    there = [name for name in names if name not in counts and not name.endswith(("_undefined", CHANCE))]
    there += [name for name, (level, _) in POOLED.items() if f"{level}_tp" in names and not name.endswith(CHANCE)]
    if metric in there:
        return
    if metric not in METRICS:
        members = expand([metric], "--metric")  # raises, with the nearest, where it is no group either
        raise UserError(f"--metric {metric}: stands for {', '.join(members)}. Choose one of them.")
    close = nearest(f"{metric}_by_label", [name for name in there if name == f"{metric}_by_label"]) or nearest(metric, there)
    raise UserError(f"--metric {metric}: the run did not measure it; it has {', '.join(there)}.{close}")


Scenes = dict[str, tuple[float | None, tuple[Part, ...]]]  # scene -> its figure, and what it is made of


def _averaged(rows: Columns, metric: str) -> Scenes:
    named, scene, source, value = (rows[name] for name in ("metric", "scene", "source", "value"))
    before = {(scene[i], source[i]): float(value[i]) for i in np.flatnonzero(named == INPUT)}
    missed = "missed_by_label" if metric.endswith("_by_label") else "missed"
    found: dict[str, list[tuple[Part, float]]] = {}
    for i in np.flatnonzero((named == metric) | (named == missed)):
        own = float(value[i]) if named[i] == metric else None
        part = Part(int(source[i]), str(rows["label"][i]), own, before.get((scene[i], source[i])))
        found.setdefault(str(scene[i]), []).append((part, float(rows["weight"][i])))
    return {name: (_mean(parts), tuple(part for part, _ in parts)) for name, parts in found.items()}


def _mean(parts: Sequence[tuple[Part, float]]) -> float | None:
    """The weighted mean over the sources that were answered."""
    held = [(part.value, weight) for part, weight in parts if part.value is not None and weight > 0]
    return float(np.average([value for value, _ in held], weights=[weight for _, weight in held])) if held else None


def _pooled(rows: Columns, metric: str) -> Scenes:
    level, statistic = POOLED[metric]
    found: dict[str, dict[str, np.ndarray]] = {}
    for i, outcome in enumerate(OUTCOMES):
        for row in np.flatnonzero(rows["metric"] == f"{level}_{outcome}"):
            classes = found.setdefault(str(rows["scene"][row]), {})
            classes.setdefault(str(rows["label"][row]), np.zeros(len(OUTCOMES)))[i] += rows["value"][row]
    scenes: Scenes = {}
    for scene, classes in found.items():
        whole = float(statistic(np.sum(list(classes.values()), 0)))
        own = {label: float(statistic(counts)) for label, counts in sorted(classes.items())}
        parts = tuple(Part(-1, label, figure, None) for label, figure in own.items() if np.isfinite(figure))
        if np.isfinite(whole):
            scenes[scene] = (whole, parts)
    return scenes
