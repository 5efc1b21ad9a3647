"""DCASE S5, Task 4 of the challenges of 2025 and 2026 (Yasuda et al. 2025), as its development set is unpacked.

    dev_set/test/soundscape/<name>.wav                        four channels, first-order ambisonics in the order W, Y, Z, X
    dev_set/test/oracle_target/<name>_<Label>.wav             2025: each target as it sounds at the first channel
    dev_set/test/oracle_target/<name>_<index>_<Label>.wav     2026: two targets may be of one class, or none be there

In 2026 the folder may be synthesized/test. Beside it lies what there is to train with (dcase_s5_parts.py). Names match
as a whole, never by how they begin. dev_set/metadata, the challenge's recipes of its fixed validation scenes, is not read:
validation scenes are mixed anew. The evaluation sets have no oracle_target, so that nothing of them can be scored.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepbench.corpora.base import Clip
from sepbench.corpora.dcase_s5_parts import (
    EVENTS,
    INTERFERENCE,
    NAME,
    NOISE,
    PARTS,
    SPLITS,
    TITLE,
    files_to_train,
    recording_name,
)
from sepbench.corpora.files import decode, need
from sepbench.corpora.released_files import AGAIN, of_odd_size, read_released
from sepbench.errors import UserError, nearest

if TYPE_CHECKING:
    from sepbench.progress import Progress

CLASSES = (
    "AlarmClock", "BicycleBell", "Blender", "Buzzer", "Clapping", "Cough", "CupboardOpenClose", "Dishes", "Doorbell",
    "FootSteps", "HairDryer", "MechanicalFans", "MusicalKeyboard", "Percussion", "Pour", "Speech", "Typing", "VacuumCleaner",
)  # fmt: skip
SECONDS, RATE_HZ, N_CHANNELS = 10.0, 32000, 4  # of every soundscape; a target has one channel
MOST_SOURCES = 3  # targets of a soundscape
TESTS = ("test", "synthesized/test")  # below dev_set
SCAPES, TARGETS = "soundscape", "oracle_target"
SOUNDS = (".wav", ".flac")


@dataclass(frozen=True)
class Target:
    """What is to be separated: a class as it sounds at the first channel."""

    path: str
    label: str


@dataclass(frozen=True)
class Soundscape:
    """A mixture as it lies on disk, with its targets in the order of their numbers, or of their labels."""

    name: str  # its file without the suffix
    path: str
    targets: tuple[Target, ...]


@dataclass(frozen=True)
class Rules:
    """What a soundscape may hold; the values live in the task's YAML."""

    fewest: int  # targets; 0 as in 2026
    most: int
    same_class: bool  # whether two targets may be of one class, as in 2026


LAX = Rules(0, MOST_SOURCES, True)  # of either year


class DcaseS5:
    """The soundscapes of the test, by name. UserError for the first file that is missing or breaks the rules.

    Opening it lists the files with their sizes; no sound is decoded. `content_hash` is of names and sizes.
    """

    name = NAME
    licence = "as the LICENSE.pdf of the release says"
    home = "https://zenodo.org/records/15117227"
    citation = "M. Yasuda et al. Description and Discussion on DCASE 2025 Challenge Task 4. DCASE Workshop 2025."

    def __init__(self, root: Path, rules: Rules) -> None:
        self.folder = _dev_set(root)
        test = _test_of(self.folder, root)
        scapes, targets = _sounds(test / SCAPES), _sounds(test / TARGETS)
        found = _by_soundscape(scapes, targets)
        _check(found, rules)
        self.soundscapes = tuple(Soundscape(name, scapes[name].path, own) for name, own in sorted(found.items()))
        told = [sorted((stem, file.size) for stem, file in side.items()) for side in (scapes, targets)]
        self.content_hash = hashlib.blake2b(repr(told).encode(), digest_size=16).hexdigest()
        self.odd = _odd(scapes) + _odd(targets)  # in an intact release, none

    @cached_property
    def clips(self) -> tuple[Clip, ...]:
        """Each soundscape as one clip without a class: which recordings it was mixed from is not known."""
        return tuple(Clip(f"test/{each.name}", "", 0, f"test/{each.name}", SECONDS) for each in self.soundscapes)

    @cached_property
    def to_train(self) -> dict[str, list[str]]:
        """The recordings that scenes of train and valid are mixed of, none of them opened; none where they are not there."""
        files = files_to_train(self.folder)
        parts = (EVENTS, INTERFERENCE)
        return {
            split: [recording_name(file, self.folder) for part in parts for file in files[part, split]] for split in SPLITS
        }


def _dev_set(root: Path) -> Path:
    """The folder dev_set in `root`, or `root` where it is that folder itself."""
    if (root / "dev_set").is_dir():
        return root / "dev_set"
    if any((root / inside).is_dir() for inside in (*(f"{test}/{SCAPES}" for test in TESTS), *PARTS)):
        return root
    if any((root / inside).is_dir() for inside in ("eval_set", SCAPES)):
        raise UserError(f"{TITLE}: '{root}' is an evaluation set, {_NO_TARGETS}")
    return need(root / "dev_set", root, NAME, TITLE)


_NO_TARGETS = (
    "whose targets were not released, so that nothing of it can be scored. Point --data dcase_s5=DIR at the development set."
)


def _test_of(folder: Path, root: Path) -> Path:
    """Where soundscapes and targets lie."""
    there = [folder / test for test in TESTS if (folder / test / SCAPES).is_dir()]
    if len(there) > 1:
        raise UserError(f"{TITLE}: '{folder}' holds {' and '.join(TESTS)}. Keep the one that is to be scored.")
    test = there[0] if there else need(folder / TESTS[0] / SCAPES, root, NAME, TITLE).parent
    if not (test / TARGETS).is_dir():
        raise UserError(f"{TITLE}: no {TARGETS} beside '{test / SCAPES}'. An evaluation set has none; else unpack it, too.")
    return test


@dataclass(frozen=True)
class _File:
    path: str
    size: int  # in bytes


def _sounds(folder: Path) -> dict[str, _File]:
    """The sounds right inside `folder` by stem, in order."""
    found: dict[str, _File] = {}
    with os.scandir(folder) as entries:
        files = sorted((each.name, each) for each in entries if not each.name.startswith("."))
    for name, entry in files:
        stem, suffix = os.path.splitext(name)
        if suffix.lower() not in SOUNDS or not entry.is_file():
            continue
        if stem in found:
            first = os.path.basename(found[stem].path)
            raise UserError(f"{TITLE}: '{folder}' holds '{first}' and '{name}', of one name. Remove one of them.")
        found[stem] = _File(entry.path, entry.stat().st_size)
    if not found:
        raise UserError(f"{TITLE}: '{folder}' holds no {' or '.join(SOUNDS)} file. {AGAIN}.")
    return found


def _odd(side: Mapping[str, _File]) -> list[str]:
    return of_odd_size({file.path: file.size for file in side.values() if file.path.lower().endswith(".wav")})


def _by_soundscape(scapes: Mapping[str, _File], targets: Mapping[str, _File]) -> dict[str, tuple[Target, ...]]:
    """The targets of each soundscape. UserError for one without a soundscape, and for two of one number."""
    parted = {stem: _parted(stem, file.path) for stem, file in targets.items()}
    numbered = _numbered([head for head, _ in parted.values()], scapes)
    found: dict[str, dict[int, Target]] = {name: {} for name in scapes}
    for stem, (head, label) in parted.items():
        path, (name, index) = targets[stem].path, _numbered_name(head) if numbered else (head, None)
        if name not in scapes:
            what = f"belongs to no soundscape: none is called '{name}'.{nearest(name, scapes)}"
            raise UserError(f"{TITLE}: '{path}' {what} Restore the soundscape, or remove it.")
        if numbered and index is None:
            raise UserError(f"{TITLE}: '{path}' is not called <name>_<index>_<Label>, as the others are. Mend its name.")
        own = found[name]
        place = len(own) if index is None else index
        if place in own:
            both = f"'{own[place].path}' and '{os.path.basename(path)}' are both number {place} of '{name}'"
            raise UserError(f"{TITLE}: {both}. Remove one of them.")
        own[place] = Target(path, label)
    return {name: tuple(own[place] for place in sorted(own)) for name, own in found.items()}


def _parted(stem: str, path: str) -> tuple[str, str]:
    """What stands before the label, and the label."""
    head, _, label = stem.rpartition("_")
    if label not in CLASSES or not head:
        raise UserError(f"{TITLE}: '{path}' bears no label of the task ('{label}').{nearest(label, CLASSES)} Mend its name.")
    return head, label


def _numbered(heads: Sequence[str], scapes: Mapping[str, _File]) -> bool:
    """Whether names are <name>_<index>_<Label>, which all files tell together: `a_1_Speech` alone may be of `a` or of `a_1`.

    Where both readings fit every file they are numbered: else the soundscape `a`, whose name begins others, had none.
    """
    n_numbered = sum(name in scapes and index is not None for name, index in map(_numbered_name, heads))
    return n_numbered > 0 and n_numbered >= sum(head in scapes for head in heads)


def _numbered_name(head: str) -> tuple[str, int | None]:
    """Name and index of `<name>_<index>`; all of it and None where it does not end in one."""
    name, _, index = head.rpartition("_")
    return (name, int(index)) if name and index.isascii() and index.isdigit() else (head, None)


def _check(found: Mapping[str, Sequence[Target]], rules: Rules) -> None:
    """UserError where a soundscape has too few targets, too many, or two of a class."""
    few = [name for name, own in found.items() if len(own) < rules.fewest]
    if few:
        has = f"{len(found[few[0]])} target" if found[few[0]] else "no target"
        more = f", and {len(few) - 1} more have too few" if len(few) > 1 else ""
        remedy = f"{AGAIN}, or set task.mixing.fewest_sources={len(found[few[0]])} where so few may be, as none in 2026"
        raise UserError(f"{TITLE}: soundscape '{few[0]}' has {has}, wanted {rules.fewest} at least{more}. {remedy}.")
    for name, own in found.items():
        labels = [target.label for target in own]
        what = f"{TITLE}: soundscape '{name}' has"
        if len(own) > rules.most:
            many = f"{len(own)} targets ({', '.join(labels)}); wanted {rules.most} at most"
            raise UserError(f"{what} {many}. Remove those that are not its own, or mend task.mixing.sources.")
        if len(set(labels)) < len(labels) and not rules.same_class:
            remedy = "Set task.mixing.same_class=true where that may be, as in 2026"
            raise UserError(f"{what} two targets of one class ({', '.join(labels)}). {remedy}.")


def describe_release(root: Path) -> dict[str, Any]:
    """What `sepbench data dcase_s5` prints: soundscapes by their number of targets, labels, and what there is to train with."""
    release = DcaseS5(root, LAX)
    files = files_to_train(release.folder)
    events = Counter((split, file.relative_to(release.folder / EVENTS / split).parts[0])
                     for split in SPLITS for file in files[EVENTS, split])  # fmt: skip
    targets = Counter(target.label for each in release.soundscapes for target in each.targets)
    return {
        "name": NAME, "licence": DcaseS5.licence, "home": DcaseS5.home, "seconds": SECONDS,
        "by_count": dict(sorted(Counter(len(each.targets) for each in release.soundscapes).items())),
        "same_class": sum(len({target.label for target in each.targets}) < len(each.targets) for each in release.soundscapes),
        "classes": {name: {"test": targets[name], **{split: events[split, name] for split in SPLITS}} for name in CLASSES},
        "to_train": {part: {split: len(files[part, split]) for split in SPLITS} for part in PARTS},
    }  # fmt: skip


def verify_release(root: Path, progress: Progress) -> tuple[list[str], int]:
    """A line for each sound that cannot be used, and how many files were read. Rooms are not among them."""
    release, n_samples = DcaseS5(root, LAX), round(SECONDS * RATE_HZ)
    files = files_to_train(release.folder)
    to_read: list[tuple[str | Path, int | None, int | None, int | None]] = [  # path, rate, channels, samples; None: any
        *((each.path, RATE_HZ, N_CHANNELS, n_samples) for each in release.soundscapes),
        *((target.path, RATE_HZ, 1, n_samples) for each in release.soundscapes for target in each.targets),
        *((file, None, N_CHANNELS, None) for split in SPLITS for file in files[NOISE, split]),
        *((file, None, None, None) for part in (EVENTS, INTERFERENCE) for split in SPLITS for file in files[part, split]),
    ]
    broken = []
    with progress.bar("reading", len(to_read)) as bar:
        for path, rate_hz, n_channels, n_wanted in to_read:
            try:
                if n_channels is None:
                    decode(Path(path))
                else:
                    read_released(path, TITLE, rate_hz, n_channels, n_wanted)
            except UserError as error:
                broken.append(str(error))
            bar.advance()
    return broken, len(to_read)
