"""ESC-50 in its official layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from sepbench.corpora.esc50 import Esc50
from sepbench.errors import UserError

TABLE = """filename,fold,target,category,esc10,src_file,take
1-100032-A-0.wav,1,0,dog,True,100032,A
4-99193-B-42.wav,4,42,siren,False,99193,B
"""


def write(root: Path) -> Path:
    (root / "meta").mkdir(parents=True)
    (root / "audio").mkdir()
    (root / "meta" / "esc50.csv").write_text(TABLE)
    for name in ("1-100032-A-0.ogg", "4-99193-B-42.wav"):
        soundfile.write(root / "audio" / name, np.random.default_rng(0).uniform(-0.5, 0.5, 4410), 44100)
    return root


def test_clips_carry_what_the_metadata_say(tmp_path: Path) -> None:
    first, second = Esc50(write(tmp_path)).clips
    assert (first.key, first.label, first.fold, first.recording) == ("fold1/1-100032-A-0", "dog", 1, "100032")
    assert (second.key, second.label, second.fold, second.recording) == ("fold4/4-99193-B-42", "siren", 4, "99193")
    assert first.seconds == pytest.approx(0.1) and first.foreground


def test_a_row_without_its_file_is_named(tmp_path: Path) -> None:
    (write(tmp_path) / "audio" / "4-99193-B-42.wav").unlink()
    with pytest.raises(UserError, match=r"line 3 of .*esc50.csv.*4-99193-B-42.wav"):
        Esc50(tmp_path)
    assert len(Esc50(tmp_path, ["dog"]).clips) == 1


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    table = write(tmp_path) / "meta" / "esc50.csv"
    table.write_text(TABLE.replace("src_file", "source"))
    with pytest.raises(UserError, match="no column 'src_file'"):
        Esc50(tmp_path)


def test_a_folder_that_is_not_the_corpus_says_what_to_point_at(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ESC-50: no meta/esc50.csv under .*--data esc50=DIR"):
        Esc50(tmp_path)


def test_recordings_of_the_partial_copy_stay_in_one_fold(shared: Path) -> None:
    clips = Esc50(shared / "data" / "ESC-50").clips
    folds: dict[str, set[int]] = {}
    for clip in clips:
        folds.setdefault(clip.recording, set()).add(clip.fold)
    assert len(clips) == 640 and all(len(found) == 1 for found in folds.values())
    assert sum(abs(clip.seconds - 5) < 0.01 for clip in clips) > 600  # that copy holds a few of other lengths
