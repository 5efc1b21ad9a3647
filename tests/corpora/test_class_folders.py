"""One folder per class, and the door to all corpora."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from sepbench.corpora import open_corpus
from sepbench.corpora.class_folders import ClassFolders
from sepbench.errors import UserError


def write(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 1600), 16000)
    return root


def test_files_of_a_class_folder_are_recordings_and_subfolders_are_too(tmp_path: Path) -> None:
    corpus = ClassFolders(write(tmp_path, "dog/rex/a.wav", "dog/rex/deep/b.flac", "dog/c.wav", "cat/d.ogg"))
    assert [(clip.key, clip.label, clip.recording) for clip in corpus.clips] == [
        ("cat/d.ogg", "cat", "d"),
        ("dog/c.wav", "dog", "c"),
        ("dog/rex/a.wav", "dog", "rex"),
        ("dog/rex/deep/b.flac", "dog", "rex"),
    ]
    assert corpus.clips[2].fold == corpus.clips[3].fold


def test_adding_files_moves_no_other_to_another_fold(tmp_path: Path) -> None:
    names = [f"dog/{i}.wav" for i in range(40)]
    before = {clip.key: clip.fold for clip in ClassFolders(write(tmp_path, *names)).clips}
    after = {clip.key: clip.fold for clip in ClassFolders(write(tmp_path, "dog/new.wav", "ant/0.wav")).clips}
    assert before.items() <= after.items()
    assert set(before.values()) <= set(range(1, 11)) and len(set(before.values())) > 5
    assert after["ant/0.wav"] == after["dog/0.wav"]


def test_other_files_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "dog/a.wav")
    (tmp_path / "dog" / "notes.txt").write_text("woof")
    (tmp_path / "dog" / "._a.wav").write_bytes(b"resource fork")
    (tmp_path / "empty").mkdir()
    assert [clip.key for clip in ClassFolders(tmp_path).clips] == ["dog/a.wav"]


def test_folders_without_sound_say_what_is_wanted(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="--data class_folders=DIR"):
            ClassFolders(folder)


def test_the_door_opens_by_option_or_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "dog/a.wav", "cat/b.wav")
    assert len(open_corpus("class_folders", {"class_folders": str(tmp_path)}, ["dog"]).clips) == 1
    monkeypatch.setenv("SEPBENCH_DATA_CLASS_FOLDERS", str(tmp_path))
    assert len(open_corpus("class_folders", {}, None).clips) == 2


def test_the_door_says_how_to_name_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEPBENCH_DATA_ESC50", raising=False)
    with pytest.raises(UserError, match=r"--data esc50=DIR, or set SEPBENCH_DATA_ESC50=DIR"):
        open_corpus("esc50", {}, None)


def test_an_unknown_corpus_or_class_gets_its_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Did you mean 'urbansound8k'"):
        open_corpus("urbansound", {}, None)
    with pytest.raises(UserError, match="Did you mean 'esc50'"):
        open_corpus("synthetic", {"esc-50": "somewhere"}, None)
    with pytest.raises(UserError, match="no clips of class 'dgo'.*Did you mean 'dog'"):
        ClassFolders(write(tmp_path, "dog/a.wav"), ["dgo"])
