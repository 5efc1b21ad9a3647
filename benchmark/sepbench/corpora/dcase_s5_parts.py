"""What DCASE S5's development set holds to mix scenes of, beside those of its test.

    dev_set/sound_event/{train,valid}/<Class>/*.wav      targets
    dev_set/interference/{train,valid}/<class>/*.wav     what else sounds, of other classes
    dev_set/noise/{train,valid}/*.wav                    four channels
    dev_set/room_ir/{train,valid}/*.sofa                 impulse responses of four channels
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sepbench.corpora.base import Clip
from sepbench.corpora.files import SUFFIXES, FileCorpus, seconds_of
from sepbench.errors import UserError, nearest

NAME, TITLE = "dcase_s5", "DCASE S5"
EVENTS, INTERFERENCE, NOISE, ROOMS = PARTS = ("sound_event", "interference", "noise", "room_ir")
SPLITS = ("train", "valid")
SUFFIXES_OF: Mapping[str, tuple[str, ...]] = {
    EVENTS: SUFFIXES, INTERFERENCE: SUFFIXES, NOISE: (".wav",), ROOMS: (".sofa",),
}  # fmt: skip
Listed = dict[tuple[str, str], list[Path]]  # (part, split) -> its files


class DcaseParts(FileCorpus):
    """Clips of targets and interference, of `folder`, which is dev_set. A file is a recording of its own.

    UserError where a part is missing or empty, where a class of sound_event is none of `classes`, and where one of
    interference is. Fold 1 is train, fold 2 valid. Nothing but the headers of the sounds is read.
    """

    name, title = NAME, TITLE
    licence = "as the LICENSE.pdf of the release says"
    home = "https://zenodo.org/records/15117227"
    citation = ""

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        self.folder = folder
        self.files = files_to_train(folder)
        for (part, split), files in self.files.items():
            where = folder / part / split
            if not files:
                lack = f"holds no {' or '.join(SUFFIXES_OF[part])} file" if where.is_dir() else "is not there"
                raise UserError(f"{TITLE}: '{where}' {lack}. Unpack that part, too, to train; testing needs none of it.")
        super().__init__(pair for part in (EVENTS, INTERFERENCE) for pair in self._clips(part, classes))

    def _clips(self, part: str, classes: Sequence[str]) -> Iterator[tuple[Clip, Path]]:
        for fold, split in enumerate(SPLITS, 1):
            for file in self.files[part, split]:
                label = file.relative_to(self.folder / part / split).parts[0]
                if part == EVENTS and label not in classes:
                    close = nearest(label, classes)
                    raise UserError(f"{TITLE}: '{file.parent}' is of no class of the task.{close} Rename or remove it.")
                if part == INTERFERENCE and label in classes:
                    raise UserError(f"{TITLE}: '{file.parent}' holds interference of a class that is a target. Remove it.")
                name = recording_name(file, self.folder)
                yield Clip(name, label, fold, name, seconds_of(file)), file

    def members(self) -> dict[str, tuple[int, ...]]:
        """Indices of the clips of each split."""
        return {
            split: tuple(i for i, clip in enumerate(self.clips) if clip.fold == fold)
            for fold, split in enumerate(SPLITS, 1)
        }


def files_to_train(folder: Path) -> Listed:
    """Every file of each part and split, sorted; none where a folder is missing. Sounds of a class lie in its folder."""
    return {(part, split): _files(folder / part / split, part) for part in PARTS for split in SPLITS}


def hash_of_parts(folder: Path) -> str | None:
    """By the names and sizes of all files to train with, wherever they lie; None where there are none."""
    told = [(file.relative_to(folder).as_posix(), file.stat().st_size)
            for files in files_to_train(folder).values() for file in files]  # fmt: skip
    return hashlib.blake2b(repr(told).encode(), digest_size=16).hexdigest() if told else None


def recording_name(file: Path, folder: Path) -> str:
    """Such as sound_event/train/Speech/p001: no name of another file, nor of a soundscape."""
    return file.relative_to(folder).with_suffix("").as_posix()


def _files(folder: Path, part: str) -> list[Path]:
    found = folder.glob("*/**/*" if part in (EVENTS, INTERFERENCE) else "*") if folder.is_dir() else ()
    return sorted(
        path for path in found
        if path.suffix.lower() in SUFFIXES_OF[part] and not path.name.startswith(".") and path.is_file()
    )  # fmt: skip
