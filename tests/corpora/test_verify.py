"""Broken files of every kind, each in one line that names it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sepbench.corpora.class_folders import ClassFolders
from sepbench.corpora.files import decode
from sepbench.corpora.verify import verify
from sepbench.errors import UserError
from sepbench.progress import PlainProgress

NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, (16000, 2))
FORMATS = [
    ("a.wav", "PCM_16"),
    ("a.wav", "PCM_24"),
    ("a.wav", "FLOAT"),
    ("a.wav", "MS_ADPCM"),
    ("a.flac", "PCM_16"),
    ("a.ogg", "VORBIS"),
]


@pytest.mark.parametrize(("name", "depth"), FORMATS)
def test_whole_files_decode_and_truncated_ones_do_not(tmp_path: Path, name: str, depth: str) -> None:
    path = tmp_path / name
    soundfile.write(path, NOISE, 16000, depth)
    assert len(decode(path)[0]) >= 16000
    whole = path.read_bytes()
    for part in (0.9, 0.5, 0.01, 0.0):
        path.write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(UserError, match=name):
            decode(path)


def test_an_ogg_file_that_lacks_its_last_bytes_is_truncated(tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    soundfile.write(path, NOISE, 16000)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="is truncated"):
        decode(path)


def test_a_wav_whose_length_was_never_filled_in_is_whole(tmp_path: Path) -> None:
    """As recorders leave it that write to a pipe."""
    path = tmp_path / "a.wav"
    soundfile.write(path, NOISE, 16000, "PCM_16")
    whole = bytearray(path.read_bytes())
    at = whole.index(b"data") + 4
    whole[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(whole)
    assert len(decode(path)[0]) == 16000


def test_all_broken_files_are_listed_and_the_sound_one_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "dog"
    folder.mkdir()
    bad = NOISE.copy()
    bad[100, 0] = np.nan
    kinds = {"good": NOISE, "nan": bad, "empty": NOISE[:0], "silent": NOISE * 1e-6, "truncated": NOISE}
    for name, audio in kinds.items():
        soundfile.write(folder / f"{name}.wav", audio, 16000, "FLOAT")
    corpus = ClassFolders(tmp_path)
    cut = folder / "truncated.wav"
    cut.write_bytes(cut.read_bytes()[:20000])
    lines = verify(corpus)
    says = {"empty": "no samples", "nan": "not finite", "silent": "is silent", "truncated": "is truncated"}
    assert len(lines) == len(says) and not any("\n" in line for line in lines)
    for line, (name, words) in zip(lines, sorted(says.items())):
        assert f"{name}.wav" in line and words in line


def test_a_file_that_went_away_is_listed(tmp_path: Path) -> None:
    (tmp_path / "dog").mkdir()
    soundfile.write(tmp_path / "dog" / "a.wav", NOISE, 16000)
    corpus = ClassFolders(tmp_path)
    (tmp_path / "dog" / "a.wav").unlink()
    assert "a.wav" in verify(corpus)[0]


def test_files_that_are_no_sound_at_all_are_listed_too(tmp_path: Path) -> None:
    (tmp_path / "dog").mkdir()
    for name in ("junk", "more"):
        (tmp_path / "dog" / f"{name}.wav").write_bytes(b"this is no sound")
    first, second = verify(ClassFolders(tmp_path))
    assert "junk.wav' cannot be decoded" in first and "more.wav' cannot be decoded" in second


def test_each_clip_read_moves_the_bar(tmp_path: Path) -> None:
    (tmp_path / "dog").mkdir()
    for name in "abc":
        soundfile.write(tmp_path / "dog" / f"{name}.wav", NOISE, 16000)
    out = io.StringIO()
    assert verify(ClassFolders(tmp_path), PlainProgress(out)) == []
    assert "reading" in out.getvalue() and "3/3" in out.getvalue()
