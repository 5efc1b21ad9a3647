"""UrbanSound8K (Salamon, Jacoby & Bello 2014) in its official layout: metadata/UrbanSound8K.csv and audio/fold{n}/."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from sepbench.corpora.base import Clip
from sepbench.corpora.files import FileCorpus, Row, clips_of_table, inside, need, seconds_of, sound_files
from sepbench.errors import UserError

TITLE = "UrbanSound8K"
COLUMNS = ("class", "slice_file_name", "fsID", "start", "end", "salience", "fold")


class UrbanSound8K(FileCorpus):
    """Street sounds of up to 4 s, ten classes, ten folds; `foreground` is salience 1, `recording` the Freesound id.

    A copy may lack folds or classes if its metadata lacks them too; a row of `classes` without its file is an error.
    """

    name = "urbansound8k"
    title = TITLE
    licence = "CC BY-NC 3.0 (clips by Freesound users)"
    home = "https://zenodo.org/records/1203745"
    citation = "J. Salamon, C. Jacoby, J. P. Bello. A Dataset and Taxonomy for Urban Sound Research. ACM MM 2014."

    def __init__(self, root: Path, classes: Sequence[str] | None = None) -> None:
        files = lru_cache(lambda fold: sound_files(root / "audio" / fold))

        def path_of(row: Row) -> tuple[Path | None, Path]:
            fold, name = f"fold{int(row['fold'])}", inside(row["slice_file_name"])
            return files(fold).get(Path(name).stem), root / "audio" / fold / name

        table = need(root / "metadata" / "UrbanSound8K.csv", root, self.name, TITLE)
        super().__init__(
            clips_of_table(table, TITLE, COLUMNS, classes, path_of, lambda row, path: _clip(row, seconds_of(path)))
        )

    @classmethod
    def from_metadata(cls, table: Path, classes: Sequence[str] | None = None) -> UrbanSound8K:
        """The clips of a metadata table with no audio, `seconds` being end - start: for statistics of labels."""

        def clip_of(row: Row, path: Path) -> Clip:
            return _clip(row, float(row["end"]) - float(row["start"]))

        corpus = cls.__new__(cls)
        pairs = clips_of_table(table, TITLE, COLUMNS, classes, lambda row: (Path(), Path()), clip_of)
        FileCorpus.__init__(corpus, pairs)
        corpus._paths.clear()
        return corpus

    def path(self, clip: Clip) -> Path:
        if not self._paths:
            remedy = f"Point --data {self.name}=DIR at the unpacked archive."
            raise UserError(f"{TITLE}: only the metadata were opened, which hold no sound. {remedy}")
        return super().path(clip)


def _clip(row: Row, seconds: float) -> Clip:
    return Clip(
        key=f"fold{int(row['fold'])}/{Path(row['slice_file_name']).stem}",
        label=row["class"],
        fold=int(row["fold"]),
        recording=row["fsID"],
        seconds=seconds,
        foreground=int(row["salience"]) == 1,
    )
