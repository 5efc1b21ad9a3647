"""Runs with made-up rows, written as `sepbench run` writes them: what the tests of checking and freezing share."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from sepbench.cli_check import check, freeze
from sepbench.options import Door
from sepbench.results import RunFolder
from sepbench.results_decisions import Decisions
from sepbench.scene import Row
from sepbench.tolerances import FILE

CLASSES = ("dog_bark", "siren")
TOLERANCES = "default: {si_sdri: 0.3 dB, si_sdr_mixture: 0.005 dB, f_measure: 0.01}"
CONFIG = {
    "recipe": "weak_label", "name": "Weak-label separator", "profile": "quick", "seed": 0, "supervision": "weak",
    "labels_seen": "frame", "params": {"alpha": 10.0}, "train": {"critic": {"epochs": 5}}, "inner": None,
    "task": {"name": "urban_events", "corpus": "synthetic", "classes": list(CLASSES), "mixing": {"rate": 5.0},
             "splits": {"by": "fold"}, "scenes": {"test": 12, "seed": 0}, "metrics": ["si_sdri"]},
}  # fmt: skip
FACTS = {"corpus_hash": "a1b2c3d4e5f6", "scenes_hash": {"test": "0123abcd"}}


def made_up(
    shift: Mapping[str, float] = {}, of: Mapping[str, float] = {}, drop: Sequence[str] = (), add: Sequence[Row] = (),
    n_missed: int = 0, n_scenes: int = 12,
) -> list[Row]:  # fmt: skip
    """Rows of a run: a figure is a number of its scene and source, plus `shift` of its metric and `of` its class."""
    random = np.random.default_rng(1)
    rows: list[Row] = [*add]
    for k in range(n_scenes):
        for source, label in enumerate(CLASSES):
            fixed, found = random.normal(-4, 3), random.normal(3, 4)
            values = {"si_sdr_mixture": fixed, "si_sdri": found + of.get(label, 0.0)}
            if 2 * k + source < n_missed:
                rows.append(Row("r", "test", f"s{k}", source, label, "missed", 1.0))
                values = {"si_sdr_mixture": fixed}
            rows += [Row("r", "test", f"s{k}", source, label, name, value + shift.get(name, 0.0))
                     for name, value in values.items()]
            lost = shift.get("frame_tp", 0.0)
            for outcome, count in {"tp": 60 - lost, "fp": 10, "fn": 10 + lost, "tn": 120}.items():
                rows.append(Row("r", "test", f"s{k}", -1, label, f"frame_{outcome}", float(count)))
    return [row for row in rows if not row.metric.startswith(tuple(drop))] if drop else rows


def put(
    root: Path, rows: Sequence[Row] | None = None, options: Mapping[str, object] = {}, facts: Mapping[str, object] = {},
    changed: Mapping[str, object] | None = None, finished: bool = True, decisions: Decisions | None = None,
    weights_hash: str | None = None, **settings: object,
) -> Path:  # fmt: skip
    """A run in `root`, written as `sepbench run` writes it; `task__rate=1` in `settings` sets config["task"]["rate"]."""
    config = copy.deepcopy(CONFIG)
    for name, value in settings.items():
        *above, last = name.split("__")
        place: dict = config
        for part in above:
            place = place[part]
        place[last] = value
    config["params"] |= options
    every = {"alpha": 10.0, "lambda": 5.0, **options}
    with RunFolder.open_or_create(root, config, every, None, {**FACTS, **facts}, changed or {}) as folder:
        every_row = made_up() if rows is None else list(rows)
        for split in dict.fromkeys(["test", *(row.split for row in every_row)]):
            own = [row for row in every_row if row.split == split]
            folder.append_rows(split, 0, own, decisions if split == "test" else None)
        if finished:
            folder.finish({"score": 1.0}, weights_hash=weights_hash)
    return folder.path


def frozen(root: Path) -> Path:
    """A folder with one frozen run, and tolerances."""
    put(root)
    (root / FILE).write_text(TOLERANCES)
    return root


def called(*arguments: object) -> int:
    """The exit code of `sepbench` with these arguments, through the door that users come by."""
    with pytest.raises(SystemExit) as stop:
        Door("sepbench", commands={"check": check, "freeze": freeze})([*map(str, arguments)])
    return int(stop.value.code or 0)


def named_scenes(
    truth: Mapping[str, Sequence[str]], named: Mapping[str, Sequence[str]], gain_db: Mapping[str, float]
) -> list[Row]:
    """Rows of scenes that hold the labels `truth` and were answered with `named`, as the judge writes them.

    `gain_db`: CA-SDRi (CAPI-SDRi where a label repeats) of each scene; one that is not in it has none.
    """
    rows = []
    for scene, labels in truth.items():
        there, said = Counter(labels), Counter(named[scene])
        metric = "ca_sdri" if max([*there.values(), *said.values()], default=1) == 1 else "capi_sdri"
        rows += [Row("r", "test", scene, -1, "", each, gain_db[scene]) for each in {metric, "capi_sdri"} if scene in gain_db]
        rows.append(Row("r", "test", scene, -1, "", "label_set_accuracy", float(there == said)))
        for label in sorted(there | said):
            right = min(there[label], said[label])
            counts = {"tp": right, "fp": said[label] - right, "fn": there[label] - right}
            rows += [Row("r", "test", scene, -1, label, f"source_{what}", float(n)) for what, n in counts.items()]
        rows += [Row("r", "test", scene, i, label, "si_sdri", 1.0 + i) for i, label in enumerate(labels)]
    return rows
