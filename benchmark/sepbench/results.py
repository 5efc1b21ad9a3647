"""A run's folder: rows, resolved configuration, provenance; each file whole or not there, the scoring resumable.

    <recipe>-<profile>-<corpus>-<changed options>-<hash>/
        run.json  config.yaml  rows.parquet  metrics.json     and what others put beside them
        decisions.jsonl                                       where the method tells what it decided
        partial/<split>-<chunk>.parquet, .jsonl               while the run is being scored
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from sepbench.errors import UserError
from sepbench.results_checks import check_metrics, config_hash, own_id, run_json, same_run
from sepbench.results_decisions import FILE, Decisions, merge_decisions, write_decisions
from sepbench.results_format import FORMAT, config_now, renamed, tables_now
from sepbench.results_rows import (
    as_parquet,
    as_table,
    coded_rows,
    read_parquet,
    read_rows,
    row_labels,
    row_means,
    write_sorted,
)
from sepbench.scene import Row
from sepbench.storage import FolderLock, as_yaml, finite, locked, read_json, sweep, write_bytes, write_json, write_text

__all__ = ["RunFolder", "RunRecord", "read_rows", "read_runs", "row_labels", "row_means", "run_id"]


def run_id(config: Mapping[str, Any], changed: Mapping[str, Any] | None = None) -> str:
    """A name for the run that is safe as a file name, shorter than 120 characters, and the same for the same config.

    `changed` holds the options that differ from their defaults; the name shows them, the hash is what counts.
    """
    parts = [config["recipe"], config["profile"], config["task"]["corpus"]]
    parts += [f"{name}={value}" for name, value in sorted((changed or {}).items())]
    safe = [re.sub(r"[^A-Za-z0-9_.=]+", "_", str(part).lower()) for part in parts]
    return "-".join(safe).lstrip(".")[:110] + "-" + config_hash(config)[:8]


class RunFolder:
    """The one writer of a run's folder. Holds the folder's lock from `open_or_create` to `finish` or `close`."""

    def __init__(self, path: Path, run: dict[str, Any], state: str, lock: FolderLock | None) -> None:
        self.path, self.run, self.state, self._lock = path, run, state, lock
        self.id: str = run["id"]
        self._scored: dict[str, set[str]] = {}

    @classmethod
    def open_or_create(
        cls,
        root: Path,
        config: dict[str, Any],
        options: dict[str, Any],
        tables: dict[str, Any] | None,
        provenance: dict[str, Any],
        changed: Mapping[str, Any] | None = None,
    ) -> RunFolder:
        """The folder of this configuration under `root`: "new", "interrupted" (go on) or "finished" (nothing to do).

        UserError where another process is writing it, another format wrote it, or it was begun on other sounds.
        """
        name = run_id(config, changed)
        path = Path(root) / name
        known = run_json(path)
        if known and known["state"] == "finished":
            shutil.rmtree(path / "partial", ignore_errors=True)  # of one that was killed as it ended
            return cls(path, same_run(path, known, config, provenance), "finished", None)
        _make(path)
        lock = FolderLock(path)
        try:
            sweep(path)
            known = run_json(path)  # read again: it may have been written before the lock was ours
            if known:
                return cls._resume(path, same_run(path, known, config, provenance), provenance, lock)
            run: dict[str, Any] = {"format": FORMAT, "id": name, "state": "running", "started": _now()}
            run |= {"finished": None, "config": config, "config_hash": config_hash(config), "options": options}
            run |= {"changed": changed, "tables": tables or {}, "wall_s": {}, "provenance": provenance}
            run = finite(run)
            write_text(path / "config.yaml", as_yaml(run["config"]))
            write_json(path / "run.json", run)
            return cls(path, run, "new", lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def _resume(cls, path: Path, run: dict[str, Any], provenance: dict[str, Any], lock: FolderLock) -> RunFolder:
        if run["state"] != "finished" and run["format"] != FORMAT:
            raise UserError(f"{path}: was begun by an older sepbench, which cannot be gone on with. Move it away.")
        if run["state"] == "finished":
            lock.release()
            return cls(path, run, "finished", None)
        run.setdefault("resumed", []).append({"at": _now(), "provenance": finite(provenance)})
        write_json(path / "run.json", run)
        return cls(path, run, "interrupted", lock)

    def append_rows(
        self, split: str, chunk_index: int, rows: list[Row], decisions: Decisions | None = None
    ) -> None:
        """Put the rows of a chunk of whole scenes on disk, and beside them what was decided in its scenes.

        ValueError where one of the scenes was written before.
        """
        scenes = {row.scene for row in rows}
        if again := scenes & self._scored_in(split):
            raise ValueError(f"chunk {chunk_index} of {split}: scenes {sorted(again)[:3]} were scored before")
        if strange := {row.split for row in rows} - {split}:
            raise ValueError(f"chunk {chunk_index} of {split}: rows of split {sorted(strange)}")
        folder = self.path / "partial"
        _make(folder)
        while (path := folder / f"{split}-{chunk_index:06d}.parquet").exists():
            chunk_index += 1  # a resumed run counts its chunks from 0 again; the scenes are others
        if decisions:  # first, since a scene is done once its rows are there
            write_decisions(path.with_suffix(".jsonl"), split, decisions)
        write_bytes(path, as_parquet(as_table(rows)))
        self._scored[split] |= scenes

    def scored_scenes(self, split: str) -> set[str]:
        """The scenes of `split` whose rows are on disk; scoring goes on with the others."""
        return set(self._scored_in(split))

    def _scored_in(self, split: str) -> set[str]:
        if split not in self._scored:
            chunks = (read_parquet(path, ["scene"]) for path in self._chunks(split))
            self._scored[split] = {scene for chunk in chunks for scene in chunk.column("scene").to_pylist()}
        return self._scored[split]

    def finish(
        self, wall_s: dict[str, float], cost: dict[str, Any] | None = None, metrics: dict[str, Any] | None = None,
        weights_hash: str | None = None, last: Callable[[dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Merge the chunks, sum them up in metrics.json, mark the run finished; the metrics are handed back.

        `last`, called with the metrics, puts there what is drawn from the rows: a run is finished when it has that too.

        `metrics` replaces the summary where a run has no rows (statistics of labels). Rows are sorted first, so that
        the result does not depend on where the run was interrupted. `weights_hash`: of what answered, if it learns.
        """
        rows = self.path / "rows.parquet"
        n_rows = write_sorted(self._chunks("*"), rows)
        told = [path.with_suffix(".jsonl") for path in self._chunks("*")]
        if metrics is None:
            from sepbench.statistics import summarise_coded

            metrics = summarise_coded(*coded_rows(rows)) if n_rows else {}
        metrics = finite(metrics)
        merge_decisions(filter(Path.is_file, told), self.path / FILE)
        write_json(self.path / "metrics.json", metrics)
        if last is not None:
            last(metrics)
        self.run |= {"weights_hash": weights_hash} if weights_hash else {}
        self.run |= {"state": "finished", "finished": _now(), "wall_s": wall_s} | ({"cost": cost} if cost else {})
        write_json(self.path / "run.json", self.run)
        self.state = "finished"
        shutil.rmtree(self.path / "partial", ignore_errors=True)
        self.close()
        return dict(metrics)

    def close(self) -> None:
        """Let another process go on with this run."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _chunks(self, split: str) -> list[Path]:
        return sorted((self.path / "partial").glob(f"{split}-*.parquet"))


@dataclass(frozen=True)
class RunRecord:
    """What a run's folder says of itself; all that tables and reports read."""

    path: Path
    id: str  # its own; of a run that a merge kept beside another of the same id, with a mark behind it
    config: dict[str, Any]
    options: dict[str, Any]  # every option of the recipe, with the value it had
    tables: dict[str, Any]  # the recipe's tables, as in recipe.yaml
    state: str  # finished | running | interrupted
    provenance: dict[str, Any]
    metrics: dict[str, Any]  # split -> metric -> figures; empty until finished
    wall_s: dict[str, float]  # stage -> seconds
    cost: dict[str, Any] = field(default_factory=dict)
    changed: dict[str, Any] | None = None  # options that differ from their defaults; None: not recorded
    started: str | None = None
    finished: str | None = None
    weights_hash: str | None = None  # of what answered; None: it learns nothing, or the run is from before it was kept
    renamed: dict[str, str] = field(default_factory=dict)  # metrics that its files call otherwise -> as they are called here


def read_runs(root: Path, passed_over: list[str] | None = None) -> list[RunRecord]:
    """Every run below `root`, by id. Folders without a run.json of ours, and hidden ones, are passed over.

    UserError for a broken run; where `passed_over` is given, its one line goes there, and the other runs are read.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder of results. Name the folder that holds your runs, such as results/.")
    records = []
    for path, found in _walk(root):
        try:
            if isinstance(found, UserError):
                raise found
            records.append(_record(path, found))
        except UserError as error:
            if passed_over is None:
                raise
            passed_over.append(str(error))
    return sorted(records, key=lambda run: (run.id, str(run.path)))


def _walk(root: Path) -> Iterator[tuple[Path, dict[str, Any] | UserError]]:
    """Every folder of a run with its run.json, or with what is wrong with that."""
    for folder, subfolders, _ in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        found: dict[str, Any] | UserError | None
        try:
            found = run_json(Path(folder))
        except UserError as error:
            found = error
        if found is not None:
            subfolders.clear()  # a run holds no runs
            yield Path(folder), found


def _record(path: Path, run: Mapping[str, Any]) -> RunRecord:
    finished, names = run["state"] == "finished", renamed(run)
    return RunRecord(
        path=path,
        id=own_id(path, run),
        config=config_now(run),
        options=run.get("options") or {},
        tables=tables_now(run.get("tables") or {}, names),
        state="finished" if finished else "running" if locked(path) else "interrupted",
        provenance=run.get("provenance") or {},
        metrics=_metrics(path, names) if finished else {},
        wall_s={stage: seconds for stage, seconds in (run.get("wall_s") or {}).items() if seconds is not None},
        cost=run.get("cost") or {},
        changed=run.get("changed"),
        started=run.get("started"),
        finished=run.get("finished"),
        weights_hash=run.get("weights_hash"),
        renamed=names,
    )


def _metrics(path: Path, names: Mapping[str, str]) -> dict[str, Any]:
    metrics = read_json(path / "metrics.json")
    check_metrics(path / "metrics.json", metrics)
    return {split: {names.get(name, name): held for name, held in own.items()} for split, own in metrics.items()}


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be made: {error.strerror}. Choose a folder you may write.") from error


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
