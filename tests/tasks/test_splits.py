"""A clip serves one split, and so does all that was recorded with it."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from sepbench.corpora.base import Clip
from sepbench.corpora.synthetic import Synthetic
from sepbench.corpora.urbansound8k import UrbanSound8K
from sepbench.errors import UserError
from sepbench.tasks import load_task
from sepbench.tasks.splits import split_clips

CLASSES = ("car_horn", "dog_bark", "gun_shot", "jackhammer", "siren")


def splits(**changed: object) -> dict:
    return {**load_task("urban_events", {})["splits"], **changed}


def clips_of(shared: Path) -> tuple[Clip, ...]:
    return UrbanSound8K(shared / "data" / "UrbanSound8K", CLASSES).clips


def assert_apart(clips: tuple[Clip, ...], members: dict[str, tuple[int, ...]]) -> None:
    assert list(members) == ["train", "valid", "test"] and all(members.values())
    clip_homes = Counter(i for own in members.values() for i in own)
    assert set(clip_homes.values()) == {1}
    homes = Counter(name for own in members.values() for name in {clips[i].recording for i in own})
    assert set(homes.values()) == {1}


def shares(clips: tuple[Clip, ...], members: dict[str, tuple[int, ...]], label: str) -> list[float]:
    own = [sum(clips[i].label == label for i in members[split]) for split in ("train", "valid", "test")]
    return [n / sum(own) for n in own]


def test_folds_are_taken_as_listed():
    clips = Synthetic(CLASSES).clips
    members = split_clips(clips, splits(), CLASSES, "synthetic")
    assert_apart(clips, members)
    assert [{clips[i].fold for i in members[split]} for split in members] == [{1, 2, 3, 4, 5, 6}, {7, 8}, {9, 10}]
    assert sum(map(len, members.values())) == len(clips)


def test_recordings_stay_together_and_shares_come_near():
    clips = Synthetic(CLASSES).clips
    members = split_clips(clips, splits(by="recording"), CLASSES, "synthetic")
    assert_apart(clips, members)
    assert sum(map(len, members.values())) == len(clips)
    for label in CLASSES:
        assert shares(clips, members, label) == pytest.approx([0.7, 0.15, 0.15], abs=0.02)


def test_real_recordings_stay_together_and_shares_come_near(shared: Path):
    clips = clips_of(shared)
    members = split_clips(clips, splits(by="recording"), CLASSES, "urbansound8k")
    assert_apart(clips, members)
    for label in CLASSES:  # a single recording may hold a tenth of a class
        assert shares(clips, members, label) == pytest.approx([0.7, 0.15, 0.15], abs=0.1)


def test_a_partial_copy_is_told_that_it_needs_a_choice(shared: Path):
    with pytest.raises(UserError, match=r"has folds \[1, 2, 3\].*--split recording.*task\.splits\.train") as told:
        split_clips(clips_of(shared), splits(), CLASSES, "urbansound8k")
    assert "\n" not in str(told.value)


def test_folds_of_ones_own_will_do(shared: Path):
    clips = clips_of(shared)
    members = split_clips(clips, splits(train=[1], valid=[2], test=[3]), CLASSES, "urbansound8k")
    assert_apart(clips, members)
    assert {clips[i].fold for i in members["test"]} == {3}


def test_the_order_of_the_clips_changes_nothing():
    clips = Synthetic(CLASSES).clips
    mixed = list(clips)
    random.Random(0).shuffle(mixed)
    homes = []
    for each in (clips, tuple(mixed)):
        members = split_clips(each, splits(by="recording"), CLASSES, "x")
        homes.append({each[i].key: split for split, own in members.items() for i in own})
    assert homes[0] == homes[1]


def test_only_the_folds_asked_for_are_used():
    clips = Synthetic(CLASSES).clips
    members = split_clips(clips, splits(by="recording", folds=[1, 2]), CLASSES, "synthetic")
    assert_apart(clips, members)
    assert {clips[i].fold for own in members.values() for i in own} == {1, 2}


def test_a_recording_in_two_classes_has_one_home():
    clips = tuple(
        Clip(f"{label}/{i}", label, 1, f"recording {i}", 1.0) for label in ("siren", "dog_bark") for i in range(20)
    )
    assert_apart(clips, split_clips(clips, splits(by="recording"), ("siren", "dog_bark"), "x"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train": [1, 2], "valid": [2], "test": [3]}, "fold 2 is in two splits"),
        ({"train": []}, "split 'train' wants"),
        ({"by": "moon"}, "'moon'; wanted fold or recording"),
        ({"by": "recording", "shares": [0.9, 0.2, 0.1]}, "sum to 1"),
        ({"by": "recording", "shares": [0.9, 0.1]}, "three shares"),
        ({"by": "recording", "shares": [1.0, 0.0, 0.0]}, "above 0"),
        ({"by": "recording", "folds": [77]}, r"no clip in folds \[77\]"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(changed: dict, message: str):
    with pytest.raises(UserError, match=message) as told:
        split_clips(Synthetic(CLASSES).clips, splits(**changed), CLASSES, "synthetic")
    assert "\n" not in str(told.value)


def test_folds_that_tear_a_recording_apart_are_told():
    clips = tuple(Clip(f"{fold}", "siren", fold, "one recording", 1.0) for fold in range(1, 11))
    with pytest.raises(UserError, match="recording 'one recording' would serve"):
        split_clips(clips, splits(), ("siren",), "x")
