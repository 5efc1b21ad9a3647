"""Whether two runs of one id are the same run: the same rows, weights and sounds."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from functools import cached_property
from typing import TYPE_CHECKING

from sepbench.errors import UserError
from sepbench.metrics import METRICS
from sepbench.results import RunRecord, read_rows
from sepbench.results_checks import MARK
from sepbench.results_decisions import read_decisions
from sepbench.scene import Row

if TYPE_CHECKING:
    import numpy as np

SOUNDS = {"corpus_hash": "other sounds", "parts_hash": "another set of training clips"}
COMPARED = [each.name for each in fields(Row) if each.name != "run"]  # rows are sorted, and their `run` is the id


class Making:
    """A finished run as it lies in one place; what is compared of it is read once, and when it is asked for."""

    def __init__(self, record: RunRecord) -> None:
        self.record, self.path = record, record.path
        self.base = record.id.partition(MARK)[0]

    @property
    def age(self) -> tuple[str, bytes]:
        """By which makings of one run are ordered, the oldest first."""
        return self.record.finished or "", (self.path / "run.json").read_bytes()

    @cached_property
    def rows(self) -> dict[str, np.ndarray] | None:
        """None where a run has statistics alone. UserError where they are lost or damaged."""
        if (self.path / "rows.parquet").exists():
            return read_rows(self.path)
        if any(name in METRICS for figures in self.record.metrics.values() for name in figures):
            raise UserError(f"{self.path}: has figures and no rows.parquet. Restore it, or move the folder away.")
        return None

    @cached_property
    def weights(self) -> str | None:
        """Which weights answered; None where nobody knows, or where nothing was learnt."""
        if self.record.weights_hash or not any((self.path / "weights").glob("*.safetensors")):
            return self.record.weights_hash
        from sepbench.run_weights import content

        try:
            return content(self.path / "weights")
        except Exception as error:  # safetensors has an error of its own
            reason = str(error).splitlines()[0]
            raise UserError(f"{self.path / 'weights'}: cannot be read: {reason}. Restore it, or move it away.") from error

    def check(self) -> None:
        """UserError where what makes it a run cannot be read."""
        _ = self.rows, self.weights, read_decisions(self.path)

    @property
    def is_whole(self) -> bool:
        """Whether it is finished and can be read."""
        try:
            self.check()
        except UserError:
            return False
        return self.record.state == "finished"

    @property
    def mark(self) -> str:
        """Eight letters that other rows, weights or sounds make others."""
        told = [self.weights, *(self.record.provenance.get(name) for name in SOUNDS)]
        told += [self.record.metrics] if self.rows is None else [self.rows[name].tolist() for name in COMPARED]
        return hashlib.sha256(repr(told).encode()).hexdigest()[:8]


def difference(one: Making, other: Making) -> str:
    """In what two finished runs of one id differ so that they are not the same run; empty: they are."""
    for name, words in SOUNDS.items():
        had, has = one.record.provenance.get(name), other.record.provenance.get(name)
        if had and has and had != has:
            return f"{words} ({str(had)[:8]} and {str(has)[:8]})"
    if one.weights and other.weights and one.weights != other.weights:
        return f"other weights ({one.weights[:8]} and {other.weights[:8]})"
    if one.rows is None or other.rows is None:
        same = one.rows is other.rows and one.record.metrics == other.record.metrics
        return "" if same else "other statistics"
    n_rows = [len(each.rows["value"]) for each in (one, other) if each.rows is not None]
    if n_rows[0] != n_rows[1]:
        return f"other rows ({n_rows[0]} and {n_rows[1]})"
    unequal = sum((one.rows[name] != other.rows[name]).astype(bool) for name in COMPARED)
    n_unequal = int((unequal > 0).sum()) if n_rows[0] else 0
    return f"other rows ({n_unequal} of {n_rows[0]})" if n_unequal else ""
