"""Which clip serves which split. A recording, and so a clip, never serves two, but where the protocol is to share them all."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sepbench.corpora.base import Clip
from sepbench.errors import UserError

SPLITS = ("train", "valid", "test")
DISJOINT, SHARED_POOL = "disjoint", "shared_pool"  # protocols; a task that names none is disjoint


def split_clips(
    clips: Sequence[Clip], splits: Mapping[str, Any], classes: Sequence[str], where: str, wanted: Sequence[str] = SPLITS
) -> dict[str, tuple[int, ...]]:
    """Indices of the clips of each split. `where` names the corpus in errors.

    Where `splits` has the protocol shared_pool, every clip serves them all. Else, by fold: as listed, and every listed
    fold of the splits that are `wanted` must be there. By recording: class by class, the recording with most clips
    first, each to the split that lacks most of its share; ties by a hash of the recording's name.
    """
    protocol = splits.get("protocol", DISJOINT)
    if protocol == SHARED_POOL:
        everything = tuple(_kept(clips, splits["folds"], where))
        return {split: everything for split in SPLITS}
    if protocol != DISJOINT:
        raise UserError(f"task.splits.protocol is '{protocol}'; wanted {DISJOINT} or {SHARED_POOL}.")
    if splits["by"] == "fold":
        members = _by_fold(clips, splits, where, wanted)
    elif splits["by"] == "recording":
        members = _by_recording(clips, splits, classes, where)
    else:
        raise UserError(f"task.splits.by is '{splits['by']}'; wanted fold or recording.")
    _check_disjoint(clips, members, splits["by"])
    return members


def _by_fold(
    clips: Sequence[Clip], splits: Mapping[str, Any], where: str, wanted: Sequence[str]
) -> dict[str, tuple[int, ...]]:
    there = sorted({clip.fold for clip in clips})
    for split in SPLITS:
        missing = [fold for fold in splits[split] if fold not in there]
        if split in wanted and (missing or not splits[split]):
            raise UserError(
                f"{where} has folds {there}; split '{split}' wants {list(splits[split])}. A partial copy needs a choice: "
                f"--split recording, or --set task.splits.{split}=[...] for each split."
            )
    twice = [fold for fold, n in Counter(fold for split in SPLITS for fold in set(splits[split])).items() if n > 1]
    if twice:
        raise UserError(f"task.splits: fold {twice[0]} is in two splits; a clip may serve one only.")
    return {split: tuple(i for i, clip in enumerate(clips) if clip.fold in splits[split]) for split in SPLITS}


def _by_recording(
    clips: Sequence[Clip], splits: Mapping[str, Any], classes: Sequence[str], where: str
) -> dict[str, tuple[int, ...]]:
    shares = dict(zip(SPLITS, splits["shares"]))
    if len(splits["shares"]) != 3 or abs(sum(splits["shares"]) - 1) > 1e-6 or min(splits["shares"]) <= 0:
        raise UserError(
            f"task.splits.shares is {list(splits['shares'])}; wanted three shares above 0 that sum to 1: train, valid, test."
        )
    kept = _kept(clips, splits["folds"], where)
    home: dict[str, str] = {}
    for name in classes:
        own = Counter(clips[i].recording for i in kept if clips[i].label == name)
        filled = Counter({split: 0 for split in SPLITS})
        for recording in sorted(own, key=lambda each: (-own[each], _hash(each))):
            lacking = {split: shares[split] - filled[split] / sum(own.values()) for split in SPLITS}
            split = home.setdefault(recording, max(SPLITS, key=lacking.__getitem__))
            filled[split] += own[recording]
    return {split: tuple(i for i in kept if home.get(clips[i].recording) == split) for split in SPLITS}


def _kept(clips: Sequence[Clip], folds: Sequence[int] | None, where: str) -> list[int]:
    kept = [i for i, clip in enumerate(clips) if folds is None or clip.fold in folds]
    if not kept:
        raise UserError(f"{where} has no clip in folds {folds}. Choose among {sorted({clip.fold for clip in clips})}.")
    return kept


def _check_disjoint(clips: Sequence[Clip], members: Mapping[str, Sequence[int]], by: str) -> None:
    homes: dict[str, str] = {}
    for split, own in members.items():
        for i in own:
            if homes.setdefault(clips[i].recording, split) != split:
                raise UserError(
                    f"task.splits (by {by}): recording '{clips[i].recording}' would serve {homes[clips[i].recording]} and "
                    f"{split}. Choose --split recording, or folds that keep a recording together."
                )


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
