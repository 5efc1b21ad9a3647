"""Which metrics an input can answer, and rows as the plain dict that `--json` and `sepbench.evaluate` give."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from sepbench import __version__
from sepbench.errors import UserError
from sepbench.metrics import EVENTS, GROUPS, METRICS, expand
from sepbench.scene import Row
from sepbench.statistics import summarise

ASKED_FOR = {*GROUPS["bss_eval"], *GROUPS["fuss"]} - {*GROUPS["separation_rate"]}  # slow, or one data set's
PAIRING = "si_sdr"  # what pairs are chosen on; judged always, so that pairs are known
FIGURES = ("mean", "median", "n", "undefined", "ci95")
NO_FIGURES = {"mean": None, "median": None, "n": 0, "undefined": 0, "ci95": None}  # of what had nothing to measure


def answerable(
    asked: Sequence[str] | None, *, mixture: bool, labelled: bool, where: str = "--metrics"
) -> list[str]:
    """The metrics to score: those asked for, or without any all that the input can answer but BSS Eval and FUSS's.

    UserError, naming all that lack the same, where one is asked for that the input cannot answer.
    """
    lacking = {"activity": "activities (which class is heard when), and sounds alone, such as wav files, do not hold them"}
    lacking |= {} if mixture else {"mixture": "the mixtures, and there are none (see --mixture)"}
    lacking |= {} if labelled else {"labels": "labels of references and estimates, and not all have one (see --labels)"}
    if asked is None:
        return [name for name in METRICS if name not in ASKED_FOR and not _lacks(name, lacking)]
    metrics = expand(asked, where)
    if why := next(filter(None, (_lacks(name, lacking) for name in metrics)), None):
        lost = [name for name in metrics if _lacks(name, lacking) == why]
        needs, them = ("needs", "it") if len(lost) == 1 else ("need", "them")
        raise UserError(f"{where} {', '.join(lost)}: {needs} {why}. Leave {them} out.")
    return metrics


def judged(metrics: Sequence[str]) -> list[str]:
    """What the judge is asked, so that its rows say who was paired with whom."""
    return list(metrics) if PAIRING in metrics else [*metrics, PAIRING]


def only(rows: Iterable[Row], metrics: Sequence[str]) -> list[Row]:
    """The rows without those of a metric that was judged for its pairs alone."""
    hidden = set() if PAIRING in metrics else {PAIRING, f"{PAIRING}_undefined"}
    return [row for row in rows if row.metric not in hidden]


def result(rows: Sequence[Row], scenes: Mapping[str, Mapping[str, Any]], metrics: Sequence[str]) -> dict[str, Any]:
    """Rows of one split -> {"signature", "scenes", "summary", "counts", "sepbench"}, plain and fit for strict JSON.

    `scenes`: id -> what else is to stand beside the scene's pairs and figures, in the order wanted. A scene's figure is
    the mean over its references; the summary's is over all references (or scenes, where a metric has one figure each;
    or pooled over scenes). What is undefined is left out of a scene and counted in the summary, which has an entry for
    every metric of the signature.
    """
    by_scene: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_scene[row.scene].append(row)
    return {
        "signature": {name: METRICS[name].signature for name in metrics},
        "scenes": [{"scene": scene, **_scene(by_scene[scene], metrics), **more} for scene, more in scenes.items()],
        "summary": _summary(rows, metrics),
        "counts": dict(_events(rows)),
        "sepbench": __version__,
    }


def _lacks(name: str, lacking: Mapping[str, str]) -> str | None:
    return next((why for need, why in lacking.items() if need in METRICS[name].needs), None)


def _scene(rows: Sequence[Row], metrics: Sequence[str]) -> dict[str, Any]:
    values: dict[str, list[float]] = {name: [] for name in metrics}
    pairs = []
    for row in rows:
        if row.metric in values:
            values[row.metric].append(row.value)
        elif row.metric == "paired_with":
            pairs.append([row.source, int(row.value)])
    figures = {name: float(np.mean(held)) for name, held in values.items() if held}
    return {"pairs": sorted(pairs), "metrics": figures, **_events(rows)}


def _summary(rows: Sequence[Row], metrics: Sequence[str]) -> dict[str, Any]:
    """An entry for every metric, be it one of no value."""
    if not rows:
        return {name: dict(NO_FIGURES) for name in metrics}
    columns = {key: np.array([getattr(row, key) for row in rows]) for key in ("split", "scene", "label", "metric")}
    columns |= {key: np.array([getattr(row, key) for row in rows], np.float64) for key in ("value", "weight")}
    (figures,) = summarise(columns).values()
    found = {name: {key: figures[name]["all"][key] for key in FIGURES} for name in metrics if name in figures}
    return {name: found.get(name, dict(NO_FIGURES)) for name in metrics}


def _events(rows: Iterable[Row]) -> dict[str, int]:
    """How often what merely happens did; by label only where there are labels."""
    seen = Counter(row.metric for row in rows)
    return {name: seen[name] for name in EVENTS if name in seen or name != "missed_by_label"}
