"""Checkpoints of a training under way: read without running their code, and passed over where they are damaged."""

from __future__ import annotations

import csv
import math
import pickle
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from sepbench.errors import UserError

LAST, BEST = "last.ckpt", "best.ckpt"  # of the last epoch, and of the one that did best; the names that ModelCheckpoint gives

UNREADABLE = (  # what torch and zipfile raise of a file that is none of theirs
    OSError, RuntimeError, ValueError, EOFError, LookupError, AttributeError, TypeError, pickle.UnpicklingError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class Damaged(UserError):
    """A checkpoint of which nothing can be read."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Tensors and plain values, on the CPU; whatever else a pickle may hold is refused, and none of it is run.

    UserError where it holds code; Damaged where it is cut short, or no checkpoint at all.
    """
    try:
        if _is_bare_pickle(path):  # which no training writes
            raise pickle.UnpicklingError("global")
        with zipfile.ZipFile(path) as archive:  # by its checksums, which torch does not look at
            found = None if archive.testzip() else torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        if isinstance(error, pickle.UnpicklingError) and "global" in str(error).lower():
            raise UserError(
                f"{path}: holds code beside its weights, none of which was run: it is not what a training here has written. "
                "Remove it, and training goes on without it."
            ) from None
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("state_dict"), dict):
        raise Damaged(f"{path}: is cut short or no checkpoint. Remove it, and training starts again from its beginning.")
    return found


def to_go_on_from(folder: Path, say: Callable[[str], None]) -> Path | None:
    """The checkpoint in `folder` from which training goes on; None: from its beginning.

    Where last.ckpt is damaged, the epoch that did best is gone on from, if that is whole; where that one is damaged, its
    weights are lost, and all is trained anew. Either is said. UserError where one of them holds code.
    """
    if not (folder / LAST).is_file():
        return None
    try:
        read_checkpoint(folder / BEST)
    except Damaged:
        say(f"{folder / BEST}: is damaged or gone, and what did best is lost with it; training starts again from its beginning.")
        return None
    try:
        read_checkpoint(folder / LAST)
    except Damaged:
        say(f"{folder / LAST}: is damaged; training goes on from {BEST}, the epoch that had done best.")
        return folder / BEST
    return folder / LAST


def check_fits(name: str, path: Path, network: Mapping[str, Any], epochs: int | None) -> None:
    """UserError where a training of `epochs` (None: by the clock) cannot go on from the checkpoint `path`, or it is of a network
    with other tensors than `network` has. So it may be where a run begins with another one's checkpoint.
    """
    found = read_checkpoint(path)
    theirs = {key.removeprefix("network."): list(value.shape) for key, value in found["state_dict"].items()}
    ours = {key: list(value.shape) for key, value in network.items()}
    other = [key for key in sorted({*ours, *theirs}) if ours.get(key) != theirs.get(key)]
    if other:
        has, wants = (sizes.get(other[0], "absent") for sizes in (theirs, ours))
        raise UserError(
            f"Training {name}: {path} is of another network: its {other[0]} is {has}, wanted {wants}. Give the sizes and "
            "options of the run that it is of, or begin anew."
        )
    done = found.get("epoch", -1) + 1
    if epochs is not None and done > epochs:
        raise UserError(
            f"Training {name}: {path} has {done} epochs behind it, and train.{name}.epochs is {epochs}. Give {done} or more with "
            f"--set train.{name}.epochs=N, or begin anew."
        )


def history_rows(file: Path) -> list[dict[str, float]]:
    """A row per epoch of a history.csv; none where there is no file. UserError naming it where it is damaged."""
    if not file.is_file():
        return []
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            rows = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(lines)]
        whole = bool(rows) and all(math.isfinite(row[name]) for row in rows for name in ("epoch", "step", "seconds"))
    except (OSError, ValueError, TypeError, KeyError, csv.Error):
        whole = False
    if not whole:
        raise UserError(
            f"{file}: is damaged, so nobody knows how far the training was. Restore it, or remove its folder: this stage then "
            "starts again from its beginning."
        )
    return rows


def _is_bare_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(1) == b"\x80"
