"""Corpora joined by "+": one corpus, in which a sound has one name and a recording serves one split."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sepbench.cli import main
from sepbench.corpora import corpus_parts, describe, open_corpus
from sepbench.corpora.cache import clip_contents, open_cache
from sepbench.corpora.files import hash_of
from sepbench.corpora.joined import SAME_SOUND, same_recordings
from sepbench.corpora.synthetic import MODELS
from sepbench.corpora.urbansound8k import UrbanSound8K
from sepbench.errors import UserError
from sepbench.tasks.class_sets import ESC50
from sepbench.tasks.splits import split_clips

BOTH = "esc50+urbansound8k"
SPLITS = {"by": "recording", "folds": None, "shares": [0.6, 0.15, 0.25]}
RATE_HZ = 8000


def noise(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).uniform(-0.3, 0.3, RATE_HZ // 4), RATE_HZ)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Six recordings of dogs and six of rain as ESC-50 has them; nine of dogs and of sirens as UrbanSound8K has them.

    Four recordings of dogs are in both, cut otherwise and in other folds.
    """
    esc, urban = tmp_path_factory.mktemp("esc"), tmp_path_factory.mktemp("urban")
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for i in range(12):
        label, recording, name = ("dog", "rain")[i % 2], 100 + i, f"{1 + i % 5}-{100 + i}-A-0.wav"
        rows.append(f"{name},{1 + i % 5},0,{label},True,{recording},A")
        noise(esc / "audio" / name, i)
    (esc / "meta").mkdir()
    (esc / "meta" / "esc50.csv").write_text("\n".join(rows) + "\n")
    rows = ["slice_file_name,fsID,start,end,salience,fold,classID,class"]
    for i in range(18):
        label, recording = ("dog_bark", 104 + i) if i % 2 == 0 else ("siren", 200 + i)
        for take in range(2):
            name = f"{recording}-3-0-{take}.wav"
            rows.append(f"{name},{recording},0,0.25,{1 + i // 12},{1 + i % 10},3,{label}")
            noise(urban / "audio" / f"fold{1 + i % 10}" / name, 100 + 2 * i + take)
    (urban / "metadata").mkdir()
    (urban / "metadata" / "UrbanSound8K.csv").write_text("\n".join(rows) + "\n")
    return {"esc50": str(esc), "urbansound8k": str(urban)}


def shared_recordings(data: dict[str, str]) -> set[str]:
    parts = [open_corpus(name, data) for name in data]
    return set.intersection(*({clip.recording for clip in part.clips} for part in parts))


def test_every_clip_of_every_part_is_there_once_under_its_parts_name(data):
    joined, parts = open_corpus(BOTH, data), {name: open_corpus(name, data) for name in data}
    wanted = sorted(f"{name}/{clip.key}" for name, part in parts.items() for clip in part.clips)
    assert [clip.key for clip in joined.clips] == wanted and len(wanted) == 12 + 36
    for clip in joined.clips[::5]:
        name, _, key = clip.key.partition("/")
        own = next(each for each in parts[name].clips if each.key == key)
        assert (clip.fold, clip.recording, clip.seconds, clip.foreground) == (
            own.fold, own.recording, own.seconds, own.foreground,
        )  # fmt: skip
        np.testing.assert_array_equal(joined.audio(clip)[0], parts[name].audio(own)[0])


def test_one_sound_has_one_name(data):
    joined = open_corpus(BOTH, data)
    assert {clip.label for clip in joined.clips} == {"dog", "rain", "siren"}
    dogs = {clip.key.split("/")[0] for clip in joined.clips if clip.label == "dog"}
    assert dogs == {"esc50", "urbansound8k"}


def test_merged_names_are_of_classes_that_there_are(shared: Path):
    urban = {
        clip.label for clip in UrbanSound8K.from_metadata(shared / "published" / "UrbanSound8K_metadata.csv").clips
    }
    assert SAME_SOUND["urbansound8k"].keys() <= urban and SAME_SOUND["synthetic"].keys() <= MODELS.keys()
    assert {common for names in SAME_SOUND.values() for common in names.values()} <= set(ESC50)


def test_only_the_classes_that_were_asked_for_are_there(data):
    assert {clip.label for clip in open_corpus(BOTH, data, ["dog", "siren"]).clips} == {"dog", "siren"}
    with pytest.raises(UserError, match=r"^esc50\+urbansound8k: no clips of class 'dgo' there. Did you mean 'dog'"):
        open_corpus(BOTH, data, ["dgo"])
    with pytest.raises(UserError, match="no clips of class 'dog_bark' there"):  # it has another name there
        open_corpus(BOTH, data, ["dog_bark"])


def test_a_recording_in_both_never_serves_two_splits(data):
    assert len(shared_recordings(data)) == 4
    assert_disjoint(open_corpus(BOTH, data), shared_recordings(data))


def test_the_recordings_that_are_in_both_real_corpora_never_serve_two_splits(shared: Path):
    data = {"esc50": str(shared / "data" / "ESC-50"), "urbansound8k": str(shared / "data" / "UrbanSound8K")}
    assert len(shared_recordings(data)) == 8
    assert_disjoint(open_corpus(BOTH, data), shared_recordings(data))


def assert_disjoint(corpus, in_both: set[str]) -> None:
    classes = sorted({clip.label for clip in corpus.clips})
    members = split_clips(corpus.clips, SPLITS, classes, corpus.name)
    assert sorted(i for own in members.values() for i in own) == list(range(len(corpus.clips)))
    homes = [{corpus.clips[i].recording for i in own} for own in members.values()]
    assert all(homes) and sum(map(len, homes)) == len(set().union(*homes))
    for recording in in_both:
        parts = {clip.key.split("/")[0] for clip in corpus.clips if clip.recording == recording}
        assert parts == {"esc50", "urbansound8k"} and sum(recording in home for home in homes) == 1


def test_folds_that_part_a_recording_are_refused(data):
    corpus = open_corpus(BOTH, data)
    folds = {"by": "fold", "train": [1, 2, 3], "valid": [4], "test": [5]}
    with pytest.raises(UserError, match="would serve .* Choose --split recording") as told:
        split_clips(corpus.clips, folds, ("dog", "rain", "siren"), corpus.name)
    assert "\n" not in str(told.value)


def test_a_generated_corpus_joins_recordings(data):
    corpus = open_corpus("synthetic+esc50", data, ["dog", "rain"])
    recordings = {
        name: {clip.recording for clip in corpus.clips if clip.key.startswith(name)} for name in corpus.name.split("+")
    }
    assert all(each.startswith("synthetic/") for each in recordings["synthetic"])
    assert recordings["esc50"] == {str(100 + i) for i in range(12)}
    made = {clip.key for clip in corpus.clips if clip.key.startswith("synthetic") and clip.label == "dog"}
    assert {key.split("/")[2].split("-")[0] for key in made} == {"dog", "dog_bark"}


@pytest.mark.parametrize(
    ("one", "other", "comparable"),
    [
        ("esc50", "esc50", True), ("esc50", BOTH, True), ("urbansound8k", "esc50", True), (BOTH, "synthetic+esc50", True),
        ("synthetic", "synthetic", True), ("synthetic", "synthetic+esc50", False), ("class_folders", "esc50", False),
    ],
)  # fmt: skip
def test_names_of_recordings_mean_the_same_where_freesound_gives_them(one: str, other: str, comparable: bool):
    assert same_recordings(one, other) == same_recordings(other, one) == comparable


# caches, fingerprints, and what a user sees


def test_the_cache_holds_both_and_hashes_files_once(data, tmp_path: Path, monkeypatch):
    corpus = open_corpus(BOTH, data)
    contents = clip_contents(corpus, corpus.clips, tmp_path)
    assert contents == tuple(hash_of(corpus.path(clip)) for clip in corpus.clips) and len(set(contents)) == 48
    cache = open_cache(corpus, corpus.clips, RATE_HZ, tmp_path)
    assert cache.clips == corpus.clips and cache.contents == contents
    monkeypatch.setattr(type(corpus), "audio", None)  # opened again, nothing is decoded
    assert open_cache(corpus, corpus.clips, RATE_HZ, tmp_path).content_hash == cache.content_hash


def test_a_file_that_changed_makes_another_cache(data, tmp_path: Path):
    corpus = open_corpus(BOTH, data)
    key = open_cache(corpus, corpus.clips[:8], RATE_HZ, tmp_path).content_hash
    changed = corpus.path(corpus.clips[0])
    before = changed.read_bytes()
    noise(changed, 999)
    assert open_cache(corpus, corpus.clips[:8], RATE_HZ, tmp_path).content_hash != key
    changed.write_bytes(before)


def test_a_description_tells_of_both(data):
    told = describe(open_corpus(BOTH, data))
    assert (told["name"], told["clips"], told["recordings"]) == (BOTH, 48, 12 + 18 - 4)
    assert told["classes"]["dog"]["clips"] == 6 + 18
    assert "esc50: CC BY-NC" in told["licence"] and "Piczak" in told["citation"] and "Salamon" in told["citation"]


def test_folders_come_from_the_environment_too(data, monkeypatch):
    monkeypatch.setenv("SEPBENCH_DATA_ESC50", data["esc50"])
    assert len(open_corpus(BOTH, {"urbansound8k": data["urbansound8k"]}).clips) == 48


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        (BOTH, ["esc50"], "urbansound8k=DIR"),
        ("esc50+urbansound", ["esc50"], "No corpus 'urbansound'; there are .*Did you mean 'urbansound8k'"),
        ("esc50+esc50", ["esc50"], "joins a corpus with itself. Name each once."),
        ("esc50+", ["esc50"], "No corpus ''"),
    ],
)
def test_what_cannot_be_joined_is_told_in_one_line(data, monkeypatch, name: str, given: list[str], said: str):
    monkeypatch.delenv("SEPBENCH_DATA_URBANSOUND8K", raising=False)
    with pytest.raises(UserError, match=said) as told:
        open_corpus(name, {each: data[each] for each in given})
    assert "\n" not in str(told.value)


def test_one_corpus_is_a_join_of_one():
    assert corpus_parts("esc50") == ["esc50"] and corpus_parts(BOTH) == ["esc50", "urbansound8k"]


def test_the_data_command_shows_and_verifies_them_together(data, capsys):
    given = [word for name, folder in data.items() for word in ("--data", f"{name}={folder}")]
    assert main(["data", BOTH, *given], standalone_mode=False) in (None, 0)
    assert f"{BOTH}: 48 clips of 26 recordings" in capsys.readouterr().out
    main(["data", "verify", BOTH, *given], standalone_mode=False)
    assert f"{BOTH}: all 48 clips can be used." in capsys.readouterr().out


def test_verifying_names_what_is_missing_in_either(data, tmp_path: Path, capsys):
    urban = shutil.copytree(data["urbansound8k"], tmp_path / "urban")
    esc = shutil.copytree(data["esc50"], tmp_path / "esc")
    next(iter(urban.rglob("*-1.wav"))).unlink()
    next(iter(esc.rglob("*.wav"))).write_bytes(b"RIFF")
    given = ["--data", f"esc50={esc}", "--data", f"urbansound8k={urban}"]
    with pytest.raises(UserError, match="2 of 48 clips are broken"):
        main(["data", "verify", BOTH, *given], standalone_mode=False)
    said = capsys.readouterr().out
    assert "which is not there" in said and "cannot be decoded" in said
