"""UrbanSound8K in its official layout, complete and partial, sound and damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sepbench.corpora import describe
from sepbench.corpora.urbansound8k import UrbanSound8K
from sepbench.errors import UserError

ROWS = [
    "101415-3-0-2.wav,101415,1,5,1,1,3,dog_bark",
    "102305-6-0-0.wav,102305,0,2.611610,1,1,6,gun_shot",
    "7061-6-0-0.wav,7061,0,0.5,2,10,6,gun_shot",
]


def write(root: Path, heading: str = "class", rows: list[str] = ROWS) -> Path:
    table = root / "metadata" / "UrbanSound8K.csv"
    table.parent.mkdir(parents=True)
    columns = f"slice_file_name,fsID,start,end,salience,fold,classID,{heading}"
    table.write_text("\n".join([columns, *rows]) + "\n")
    rng = np.random.default_rng(0)
    formats = [("1/101415-3-0-2.wav", 48000, 2, "PCM_24"), ("1/102305-6-0-0.flac", 8000, 1, "PCM_16")]
    for name, rate, channels, depth in [*formats, ("10/7061-6-0-0.ogg", 22050, 1, "VORBIS")]:
        path = root / "audio" / f"fold{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.uniform(-0.5, 0.5, (rate // 2, channels)), rate, depth)
    return table


@pytest.mark.parametrize("heading", ["class", "class_name"])
def test_clips_carry_what_the_metadata_say(tmp_path: Path, heading: str) -> None:
    write(tmp_path, heading)
    corpus = UrbanSound8K(tmp_path)
    assert [clip.key for clip in corpus.clips] == ["fold1/101415-3-0-2", "fold1/102305-6-0-0", "fold10/7061-6-0-0"]
    assert [clip.label for clip in corpus.clips] == ["dog_bark", "gun_shot", "gun_shot"]
    assert [clip.fold for clip in corpus.clips] == [1, 1, 10]
    assert [clip.recording for clip in corpus.clips] == ["101415", "102305", "7061"]
    assert [clip.foreground for clip in corpus.clips] == [True, True, False]
    assert all(clip.seconds == pytest.approx(0.5, abs=0.01) for clip in corpus.clips)


def test_any_rate_depth_and_channel_count_comes_as_mono_float32(tmp_path: Path) -> None:
    write(tmp_path)
    corpus = UrbanSound8K(tmp_path)
    for clip, rate in zip(corpus.clips, (48000, 8000, 22050)):
        audio, found = corpus.audio(clip)
        assert found == rate and audio.dtype == np.float32 and audio.shape == (rate // 2,)
    stereo, _ = soundfile.read(tmp_path / "audio/fold1/101415-3-0-2.wav")
    np.testing.assert_allclose(corpus.audio(corpus.clips[0])[0], stereo.mean(1), atol=1e-6)


def test_the_wav_is_taken_where_a_stem_has_two_files(tmp_path: Path) -> None:
    write(tmp_path)
    soundfile.write(tmp_path / "audio/fold1/102305-6-0-0.wav", np.full(100, 0.25), 16000, "FLOAT")
    corpus = UrbanSound8K(tmp_path)
    assert corpus.path(corpus.clips[1]).suffix == ".wav"


def test_classes_that_were_not_asked_for_need_no_files(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "audio/fold1/101415-3-0-2.wav").unlink()
    assert {clip.label for clip in UrbanSound8K(tmp_path, ["gun_shot"]).clips} == {"gun_shot"}


def test_a_row_without_its_file_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    shutil.rmtree(tmp_path / "audio/fold10")
    with pytest.raises(UserError, match=r"line 4 of .*UrbanSound8K.csv.* names .*fold10/7061-6-0-0.wav'.*not there"):
        UrbanSound8K(tmp_path)


def test_all_missing_files_are_counted(tmp_path: Path) -> None:
    write(tmp_path)
    shutil.rmtree(tmp_path / "audio")
    with pytest.raises(UserError, match="line 2 of .* 2 more lines"):
        UrbanSound8K(tmp_path)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    table = write(tmp_path)
    table.write_text(table.read_text().replace("salience", "loudness"))
    with pytest.raises(UserError, match="no column 'salience'"):
        UrbanSound8K(tmp_path)


@pytest.mark.parametrize("row", ["101415-3-0-2.wav,101415,1,5,1,one,3,dog_bark", "101415-3-0-2.wav,101415"])
def test_a_row_that_does_not_parse_is_named(tmp_path: Path, row: str) -> None:
    write(tmp_path, rows=[row])
    with pytest.raises(UserError, match="line 2 of .*UrbanSound8K.csv"):
        UrbanSound8K(tmp_path)


def test_a_folder_that_is_not_the_corpus_says_what_to_point_at(tmp_path: Path) -> None:
    point = "Point --data urbansound8k=DIR at the unpacked archive."
    with pytest.raises(UserError) as caught:
        UrbanSound8K(tmp_path / "us8k")
    assert str(caught.value) == f"UrbanSound8K: there is no folder '{tmp_path / 'us8k'}'. {point}"
    (tmp_path / "us8k").mkdir()
    with pytest.raises(UserError) as caught:
        UrbanSound8K(tmp_path / "us8k")
    wanted = f"UrbanSound8K: no metadata/UrbanSound8K.csv under '{tmp_path / 'us8k'}'."
    assert str(caught.value) == f"{wanted} {point}"


def test_a_misspelt_class_gets_its_nearest(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(UserError, match="Did you mean 'gun_shot'"):
        UrbanSound8K(tmp_path, ["gunshot"])


def test_metadata_alone_give_clips_but_no_sound(tmp_path: Path) -> None:
    corpus = UrbanSound8K.from_metadata(write(tmp_path, "class_name"), ["dog_bark", "gun_shot"])
    assert [clip.seconds for clip in corpus.clips] == pytest.approx([4.0, 2.61161, 0.5])
    for ask in (corpus.audio, corpus.fingerprint):
        with pytest.raises(UserError, match="only the metadata"):
            ask(corpus.clips[0])


def test_the_description_counts_clips_by_class_and_fold(tmp_path: Path) -> None:
    write(tmp_path)
    told = describe(UrbanSound8K(tmp_path))
    assert told["clips"] == told["recordings"] == 3 and told["folds"] == [1, 10]
    assert told["classes"]["gun_shot"]["folds"] == {1: 1, 10: 1}
    assert told["classes"]["gun_shot"]["foreground"] == 1
    assert told["hours"] == pytest.approx(1.5 / 3600, rel=0.05)


def test_the_published_metadata_hold_the_published_counts(shared: Path) -> None:
    corpus = UrbanSound8K.from_metadata(shared / "published" / "UrbanSound8K_metadata.csv")
    counts = {label: facts["clips"] for label, facts in describe(corpus)["classes"].items()}
    assert len(corpus.clips) == 8732 and len(counts) == 10
    assert (counts["car_horn"], counts["gun_shot"], counts["siren"], counts["dog_bark"]) == (429, 374, 929, 1000)


def test_the_partial_copy_opens_and_its_audio_is_as_long_as_it_says(shared: Path) -> None:
    corpus = UrbanSound8K(shared / "data" / "UrbanSound8K")
    assert len(corpus.clips) == 888
    for clip in corpus.clips[::200]:
        audio, rate = corpus.audio(clip)
        assert len(audio) / rate == pytest.approx(clip.seconds, abs=1e-3)
