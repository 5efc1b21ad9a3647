"""Anybody's sounds through the judge: listed files are read, judged, summed up, and kept as a run beside ours."""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sepbench.errors import UserError
from sepbench.home import checkout
from sepbench.judge import judge
from sepbench.metrics import GROUPS
from sepbench.provenance import provenance
from sepbench.results import RunFolder, run_id
from sepbench.scene import Row
from sepbench.score_audio import Heard, read_ahead
from sepbench.score_files import Listing, SceneFiles
from sepbench.score_metrics import answerable, judged, only, result
from sepbench.score_task import Asked, asked_of, in_words_of
from sepbench.storage import locked, write_json

COLUMNS = tuple(Row.__dataclass_fields__)[1:]  # all but the run


@dataclass
class Scored:
    """What came of it, scene by scene."""

    rows: list[Row] = field(default_factory=list)
    scenes: dict[str, dict[str, Any]] = field(default_factory=dict)  # id -> what --json says beside its figures
    skipped: list[dict[str, str]] = field(default_factory=list)  # {"scene", "reason"}
    formats: set[tuple[int, float]] = field(default_factory=set)  # (rate_hz, seconds)
    hashes: dict[str, tuple[str, str, str]] = field(default_factory=dict)  # id -> reference, estimate, mixture


def score(
    listing: Listing, asked: Sequence[str] | None, name: str, results: Path, skip_bad: bool, n_threads: int,
    progress: Any, json_file: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Judge the scenes of a listing; the dict that `--json` writes, with "run": the folder that was written.

    `asked`: metrics, or None for all that the input can answer. The run replaces one of the same name and sounds.
    UserError, naming the file, for the first scene with something wrong; with `skip_bad` it is skipped, and counted,
    unless nothing is left. Nothing is written before all scenes are judged.
    """
    began_s = time.perf_counter()
    _check_whole(listing, skip_bad)
    task = asked_of(listing)
    listing = in_words_of(task, listing)
    metrics = _metrics(listing, asked)
    scored = _judged(listing, metrics, task, name, skip_bad, n_threads, progress)
    config = _config(listing, scored, metrics, task, name)
    summary = result(scored.rows, scored.scenes, metrics)
    summary |= {"name": name, "layout": listing.layout, "labels": listing.labels, "skipped": scored.skipped}
    summary["run"] = str(results / run_id(config))
    if json_file is not None:
        write_json(json_file, summary)
    _keep(listing, scored, config, task, results, time.perf_counter() - began_s)
    return summary


def _check_whole(listing: Listing, skip_bad: bool) -> None:
    """All scenes are looked at for what is missing before the first sound is read."""
    if listing.problems and not skip_bad:
        raise UserError(_first(list(listing.problems.values()), "; --skip-bad scores the rest"))
    if not listing.scenes:
        raise UserError(f"no scene is left to score. {_first(list(listing.problems.values()))}")


def _first(problems: Sequence[str], hint: str = "") -> str:
    """One of several problems, and how many there are beside it."""
    more = len(problems) - 1
    return problems[0] + (f" (And {more} more{hint}.)" if more > 0 else "")


def _metrics(listing: Listing, asked: Sequence[str] | None) -> list[str]:
    return answerable(asked, mixture=any(each.mixture for each in listing.scenes), labelled=listing.labelled)


def _judged(
    listing: Listing, metrics: Sequence[str], task: Asked, name: str, skip_bad: bool, n_threads: int, progress: Any
) -> Scored:
    scored = Scored(skipped=[{"scene": scene, "reason": reason} for scene, reason in listing.problems.items()])
    classes = sorted({file.label for each in listing.scenes for file in (*each.references, *each.estimates)})
    reading = read_ahead(listing.scenes, listing.labelled, n_threads)
    with progress.bar("scoring", len(listing.scenes)) as bar:
        for files, heard in zip(listing.scenes, reading, strict=True):
            try:
                if isinstance(heard, UserError):
                    raise heard
                _check_channels(heard, metrics)
                told = judge(
                    heard.scene, heard.estimate, classes, judged(metrics), name, task.split, task.minimum_active,
                    task.n_classes,
                )  # fmt: skip
                rows = [row for row in told if row.metric != "overlap"]  # files do not say when their sources sound
            except UserError as error:
                if not skip_bad:
                    raise
                scored.skipped.append({"scene": files.id, "reason": str(error)})
            else:
                _add(scored, heard, only(rows, metrics))
            bar.advance()
    if not scored.scenes:
        raise UserError(f"no scene is left to score. {_first([each['reason'] for each in scored.skipped])}")
    return scored


def _check_channels(heard: Heard, metrics: Sequence[str]) -> None:
    several = [name for name in metrics if name in GROUPS["bss_eval"]]
    if heard.n_channels > 1 and several:
        file = (*heard.files.references, *heard.files.estimates)[0].path
        raise UserError(f"{file}: has {heard.n_channels} channels; {several[0]} is for one. Leave it out of --metrics.")


def _add(scored: Scored, heard: Heard, rows: Sequence[Row]) -> None:
    files = heard.files
    scored.rows += rows
    scored.formats.add((heard.scene.mixture.sample_rate_hz, heard.seconds))
    scored.hashes[files.id] = (heard.reference_hash, heard.estimate_hash, heard.mixture_hash)
    facts: dict[str, Any] = {"files": files_of(files)}
    if heard.estimate.labels is not None:
        facts["labels"] = {"references": [s.label for s in heard.scene.sources], "estimates": [*heard.estimate.labels]}
    scored.scenes[files.id] = facts


def files_of(scene: SceneFiles) -> dict[str, Any]:
    """The files of a scene, in the order of its pairs."""
    mixture = None if scene.mixture is None else str(scene.mixture)
    references, estimates = ([str(file.path) for file in side] for side in (scene.references, scene.estimates))
    return {"references": references, "estimates": estimates, "mixture": mixture}


def _config(
    listing: Listing, scored: Scored, metrics: Sequence[str], task: Asked, name: str
) -> dict[str, Any]:
    """As a recipe's run has one, so that tables show both; what a stranger does not tell is None."""
    rates, lengths = ({each[i] for each in scored.formats} for i in (0, 1))
    own = {
        "name": "scored",
        "corpus": "files",
        "classes": sorted({file.label for each in listing.scenes for file in each.references} - {""}),
        "sample_rate_hz": rates.pop() if len(rates) == 1 else None,
        "seconds": lengths.pop() if len(lengths) == 1 else None,
        "foreground_only": False,
        "mixing": {},
        "splits": None,
        "scenes": {task.split: len(scored.scenes)},
        "minimum_active": task.minimum_active,
    }
    return {
        "recipe": re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or "system",
        "name": name,
        "kind": "external",
        "paper": None,
        "profile": "score",
        "supervision": None,
        "labels_seen": None,
        "params": {},
        "train": {},
        "sizes": {},
        "task": (task.config or own) | {"metrics": list(metrics)},
        "seed": 0,
        "inner": None,
        "estimates": _hash_of(f"{scene} {own[1]}" for scene, own in sorted(scored.hashes.items())),
        "references": _scenes_hash(scored),
    }


def _scenes_hash(scored: Scored) -> str:
    """Of what was asked: the references and mixtures of all scenes that were scored."""
    return _hash_of(f"{scene} {own[0]} {own[2]}" for scene, own in sorted(scored.hashes.items()))


def _keep(
    listing: Listing, scored: Scored, config: dict[str, Any], task: Asked, results: Path, wall_s: float
) -> Path:
    """The run's folder, in place of one that was made from the same sounds under the same name."""
    path = results / run_id(config)
    if not locked(path):  # what another process is writing stays, and `open_or_create` says who it is
        shutil.rmtree(path, ignore_errors=True)
    corpus = {"hash": _hash_of(own[0] for _, own in sorted(scored.hashes.items()))}
    facts = provenance(checkout(), {}, corpus)
    facts |= {"scenes_hash": {task.split: _scenes_hash(scored)}, "recipe_folder": None, "layout": listing.layout}
    if task.config and not scored.skipped:  # else they are other scenes than those that were written
        facts |= {"corpus_hash": task.corpus_hash, "scenes_hash": {task.split: task.scenes_hash}}
    facts |= {"labels": listing.labels, "skipped": scored.skipped}
    files = {scene: own["files"] for scene, own in scored.scenes.items()}
    facts["files"] = {scene: {key: _absolute(held) for key, held in own.items()} for scene, own in files.items()}
    numbers = {scene.id: task.indices(scene) for scene in listing.scenes}
    with RunFolder.open_or_create(results, config, {}, {}, facts) as folder:
        rows = [_row_of(folder.id, row, numbers[row.scene]) for row in scored.rows]
        folder.append_rows(task.split, 0, rows)
        folder.finish({"score": wall_s})
    return folder.path


def _row_of(run: str, row: Row, numbers: Sequence[int]) -> Row:
    """The row in the run's folder, with the index that the source has in its scene."""
    own = {name: getattr(row, name) for name in COLUMNS}
    return Row(run, **own | {"source": numbers[row.source] if row.source >= 0 else -1})


def _absolute(held: Any) -> Any:
    """Paths that still lead there when `worst` is called from elsewhere."""
    if isinstance(held, list):
        return [_absolute(each) for each in held]
    return None if held is None else str(Path(held).absolute())


def _hash_of(parts: Any) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
