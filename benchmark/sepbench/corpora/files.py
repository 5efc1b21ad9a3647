"""Corpora made of sound files: finding, hashing and decoding them, with errors that name the file."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from sepbench.corpora.base import Clip, sorted_clips
from sepbench.corpora.truncation import ends_early
from sepbench.errors import UserError, nearest

SUFFIXES = (".wav", ".flac", ".ogg")  # in order of preference where one stem has several
SILENT = 1e-5  # full scale 1; a third of the smallest step of 16 bits
REMOVE = "Remove it, and its row in the metadata if it has one"
RESTORE_TABLE = "Restore the official table."
OTHER_NAMES = {"class_name": "class"}  # of columns, in circulating copies
Row = Mapping[str, str]
PathOf = Callable[[Row], "tuple[Path | None, Path]"]  # a row's file, if it is there, and where it should be
ClipOf = Callable[[Row, Path], Clip]


class MissingFiles(UserError):
    """Rows of a metadata table have no file. `lines` names each; `there` is the corpus without them."""

    def __init__(self, said: str, lines: list[str], there: FileCorpus):
        super().__init__(said)
        self.lines, self.there = lines, there


class FileCorpus:
    """A Corpus whose clips are files of any rate, depth and channel count; channels are averaged.

    `name` is what --data calls it, `title` what messages call it.
    """

    name: str
    title: str
    licence: str
    home: str
    citation: str

    def __init__(self, files: Iterable[tuple[Clip, Path]]) -> None:
        pairs = list(files)
        self.clips = sorted_clips(clip for clip, _ in pairs)
        self._paths = {clip.key: path for clip, path in pairs}

    def path(self, clip: Clip) -> Path:
        return self._paths[clip.key]

    def audio(self, clip: Clip) -> tuple[np.ndarray, int]:
        """float32 mono (time,), full scale 1, and its rate in Hz."""
        return decode(self.path(clip))

    def fingerprint(self, clip: Clip) -> str:
        return hash_of(self.path(clip))


def decode(path: Path) -> tuple[np.ndarray, int]:
    """The file as float32 mono (time,) and its rate in Hz.

    UserError if it is truncated, cannot be decoded, or is empty, not finite or silent.
    """
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            promised, rate = file.frames, file.samplerate
            audio = file.read(dtype="float32", always_2d=True).mean(1)  # (time,)
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        if path.is_file() and not path.stat().st_size:
            raise _broken(path, "is empty", "Copy or download it again") from None
        raise _broken(path, f"cannot be decoded ({_reason(error)})", "Copy or download it again") from None
    if len(audio) < promised or ends_early(path):
        raise _broken(path, "is truncated", "Copy or download it again")
    if not len(audio):
        raise _broken(path, "holds no samples", REMOVE)
    if not np.isfinite(audio).all():
        raise _broken(path, "holds samples that are not finite", REMOVE)
    if np.abs(audio).max() < SILENT:
        raise _broken(path, "is silent", REMOVE)
    return audio, rate


def seconds_of(path: Path) -> float:
    """Duration by the file's header, which is cheap; 0.0 if it has none, which `decode` will tell.

    So a corpus with broken files opens, and `verify` can list them all.
    """
    import soundfile

    try:
        return float(soundfile.info(str(path)).duration)
    except (soundfile.LibsndfileError, RuntimeError, OSError):
        return 0.0


def hash_of(path: Path) -> str:
    """BLAKE2b of the file's bytes."""
    try:
        with open(path, "rb") as file:
            digest = hashlib.blake2b(digest_size=16)
            while piece := file.read(1 << 20):
                digest.update(piece)
            return digest.hexdigest()
    except OSError as error:
        raise _broken(path, f"cannot be read ({error.strerror})", "Restore it") from None


def sound_files(folder: Path) -> dict[str, Path]:
    """The sound files right inside `folder` by stem; none if there is no such folder."""
    if not folder.is_dir():
        return {}
    files = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    files.sort(key=lambda path: SUFFIXES.index(path.suffix.lower()), reverse=True)
    return {path.stem: path for path in files}


def inside(name: str) -> str:
    """`name` where it stays in the folder that it is relative to. ValueError where it leads out of it, be it by `..` or a root.

    What lies there under that name may be a link, wherever that leads: links are of whoever keeps the corpus, names of
    whoever wrote the table.
    """
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or not parts[0] or parts[0][1:2] == ":" or "\0" in name:
        raise ValueError(f"'{name}' leads out of the corpus")
    return name


def clips_of_table(
    table: Path, title: str, columns: Sequence[str], classes: Sequence[str] | None, path_of: PathOf, clip_of: ClipOf
) -> list[tuple[Clip, Path]]:
    """The clip and file of each row of a metadata table that belongs to `classes` (None: all).

    UserError for a column that is missing, a row that does not parse or has no file, a class without a row.
    """
    rows = list(_rows(table, title, columns))
    need_classes(classes, (row[columns[0]] for _, row in rows), title)
    pairs, missing = [], []
    for line, row in rows:
        if classes is not None and row[columns[0]] not in classes:
            continue
        try:
            path, wanted = path_of(row)
            if path is None:
                missing.append(f"line {line} of '{table}' names '{wanted}', which is not there")
            else:
                pairs.append((clip_of(row, path), path))
        except ValueError as error:
            what = f"line {line} of '{table}' does not parse ({error})"
            raise UserError(f"{title}: {what}. {RESTORE_TABLE}") from None
    if missing:
        more = f", nor are the files of {len(missing) - 1} more lines" if len(missing) > 1 else ""
        said = f"{title}: {missing[0]}{more}. Restore what is missing, or remove the lines."
        raise MissingFiles(said, [f"{title}: {each}." for each in missing], FileCorpus(pairs))
    return pairs


def _rows(table: Path, title: str, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            found = [name.strip() for name in reader.fieldnames or []]
            found = [OTHER_NAMES.get(name, name) if OTHER_NAMES.get(name) not in found else name for name in found]
            reader.fieldnames = found
            for column in columns:
                if column not in found:
                    has = ", ".join(found) or "none"
                    raise UserError(f"{title}: no column '{column}' in '{table}', which has {has}. {RESTORE_TABLE}")
            for row in reader:
                if None in row.values():
                    raise UserError(f"{title}: line {reader.line_num} of '{table}' is cut short. {RESTORE_TABLE}")
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{title}: cannot read '{table}' ({_reason(error)}). {RESTORE_TABLE}") from None


def need(path: Path, root: Path, name: str, title: str) -> Path:
    """`path` under `root` if it exists; else the UserError that tells what to point at the corpus."""
    if not root.exists():
        raise UserError(f"{title}: there is no folder '{root}'. Point --data {name}=DIR at the unpacked archive.")
    if not path.exists():
        inside = path.relative_to(root)
        raise UserError(f"{title}: no {inside} under '{root}'. Point --data {name}=DIR at the unpacked archive.")
    return path


def need_classes(classes: Sequence[str] | None, known: Iterable[str], title: str) -> None:
    """UserError for the first of `classes` that the corpus at hand has no clip of."""
    there = sorted(set(known))
    for label in classes or ():
        if label not in there:
            hint = nearest(label, there) or f" It has {_shortened(there)}."
            raise UserError(f"{title}: no clips of class '{label}' there.{hint}")


def _shortened(names: Sequence[str], n: int = 12) -> str:
    return ", ".join(names[:n]) + (f" and {len(names) - n} more" if len(names) > n else "") or "none"


def _broken(path: Path, what: str, remedy: str) -> UserError:
    return UserError(f"'{path}' {what}. {remedy}.")


def _reason(error: Exception) -> str:
    words = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return " ".join(words.split()).rstrip(".")
