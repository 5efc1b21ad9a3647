"""ESC-50 (Piczak 2015) in its official layout: meta/esc50.csv and audio/."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sepbench.corpora.base import Clip
from sepbench.corpora.files import FileCorpus, Row, clips_of_table, inside, need, seconds_of, sound_files

TITLE = "ESC-50"
COLUMNS = ("category", "filename", "fold", "src_file")


class Esc50(FileCorpus):
    """Environmental sounds of 5 s in fifty classes and five folds; `recording` is the Freesound id.

    A copy may lack folds or classes if its metadata lacks them too; a row of `classes` without its file is an error.
    """

    name = "esc50"
    title = TITLE
    licence = "CC BY-NC 3.0 (the ESC-10 clips CC BY 3.0; clips by Freesound users)"
    home = "https://github.com/karolpiczak/ESC-50"
    citation = "K. J. Piczak. ESC: Dataset for Environmental Sound Classification. ACM Multimedia 2015."

    def __init__(self, root: Path, classes: Sequence[str] | None = None) -> None:
        table = need(root / "meta" / "esc50.csv", root, self.name, TITLE)
        files = sound_files(root / "audio")

        def path_of(row: Row) -> tuple[Path | None, Path]:
            name = inside(row["filename"])
            return files.get(Path(name).stem), root / "audio" / name

        super().__init__(clips_of_table(table, TITLE, COLUMNS, classes, path_of, _clip))


def _clip(row: Row, path: Path) -> Clip:
    fold = int(row["fold"])
    return Clip(f"fold{fold}/{path.stem}", row["category"], fold, row["src_file"], seconds_of(path))
