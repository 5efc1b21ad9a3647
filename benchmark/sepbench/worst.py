"""The scenes on which a method fails most, by the rows of its run: no sound is needed to list them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sepbench.errors import UserError, nearest
from sepbench.metrics import CHANCE, EVENTS, FACTS, LEVELS, METRICS, OUTCOMES, expand
from sepbench.statistics import POOLED, Coded, Columns, names_behind, rows_behind

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


def rank_scenes(
    columns: Columns, metric: str, split: str, n: int | Callable[[int], Sequence[int]], best: bool = False
) -> Ranking:
    """The `n` scenes of `split` with the worst figure: lowest first, or highest where lower is better.

    `columns`: rows as `read_rows` gives them. `n` may say instead which places of the ranking are wanted, from its length.
    A scene's figure is the weighted mean over its sources, or, of a pooled metric, that of its own counts. Scenes with the
    same figure are ordered by name. UserError where the metric is unknown, or was not measured in `split`.
    """
    where = np.asarray(columns["split"] == split)
    if not where.any():
        there = ", ".join(sorted(set(columns["split"].tolist())))
        raise UserError(f"--split {split}: the run has no rows of it; it was scored on {there}.")
    _check_metric(metric, sorted(set(columns["metric"][where].tolist())))
    scenes = (_pooled if metric in POOLED else _averaged)(columns, metric, split)
    known = METRICS.get(metric)
    worst_is_low = known is None or known.higher_is_better is not False
    sign = 1 if worst_is_low != best else -1
    ranked = np.flatnonzero(np.isfinite(scenes.figures))
    ranked = ranked[np.argsort(sign * scenes.figures[ranked], kind="stable")]  # scenes lie in the order of their names
    places = range(min(n, len(ranked))) if isinstance(n, int) else n(len(ranked))
    failures = [
        Failure(k + 1, scenes.names[ranked[k]], float(scenes.figures[ranked[k]]), scenes.parts(int(ranked[k]))) for k in places
    ]
    unanswered = () if metric in POOLED else tuple(scenes.names[k] for k in np.flatnonzero(np.isnan(scenes.figures)))
    return Ranking(metric, metric in POOLED, tuple(failures), len(ranked), unanswered)


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


@dataclass(frozen=True)
class _Scenes:
    """The scenes of a split that a metric speaks of, by name."""

    names: list[str]
    figures: np.ndarray  # (scene,); NaN: it has none
    parts: Callable[[int], tuple[Part, ...]]  # what a scene's figure is made of


def _by_scene(columns: Columns, which: np.ndarray) -> tuple[list[str], list[np.ndarray]]:
    """The scenes of the rows `which`, and the rows of each."""
    scene = Coded.of(columns["scene"][which])
    order = np.argsort(scene.codes, kind="stable")
    ends = np.cumsum(np.bincount(scene.codes, minlength=len(scene.words)))[:-1]
    return scene.words, np.split(which[order], ends)


def _averaged(columns: Columns, metric: str, split: str) -> _Scenes:
    named, value, weight = (columns[name] for name in ("metric", "value", "weight"))
    missed = "missed_by_label" if metric.endswith("_by_label") else "missed"
    there = np.asarray(columns["split"] == split)
    names, rows = _by_scene(columns, np.flatnonzero(there & ((named == metric) | (named == missed))))
    before = dict(zip(*_by_scene(columns, np.flatnonzero(there & (named == INPUT)))))

    def figure(own: np.ndarray) -> float:
        held = own[(named[own] == metric) & (weight[own] > 0)]  # the sources that were answered
        return float(np.average(value[held], weights=weight[held])) if len(held) else np.nan

    def parts(k: int) -> tuple[Part, ...]:
        inputs = {int(columns["source"][i]): float(value[i]) for i in before.get(names[k], ())}
        return tuple(
            Part(source, str(columns["label"][i]), float(value[i]) if named[i] == metric else None, inputs.get(source))
            for i, source in zip(rows[k], columns["source"][rows[k]].tolist())
        )

    return _Scenes(names, np.array([figure(own) for own in rows]), parts)


def _pooled(columns: Columns, metric: str, split: str) -> _Scenes:
    statistic = POOLED[metric][1]
    places = {name: i for i, name in enumerate(names_behind(metric))}
    names, rows = _by_scene(columns, np.flatnonzero(rows_behind(columns, metric, split)))

    def counts(own: np.ndarray) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for i in own:
            of_class = found.setdefault(str(columns["label"][i]), np.zeros(len(OUTCOMES)))
            of_class[places[columns["metric"][i]]] += columns["value"][i]
        return found

    def parts(k: int) -> tuple[Part, ...]:
        own = {label: float(statistic(each)) for label, each in sorted(counts(rows[k]).items())}
        return tuple(Part(-1, label, figure, None) for label, figure in own.items() if np.isfinite(figure))

    return _Scenes(names, np.array([float(statistic(np.sum(list(counts(own).values()), 0))) for own in rows]), parts)
