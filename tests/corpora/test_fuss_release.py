"""FUSS on disk: what its lists say, and one line for each way in which a copy may be broken."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from made_fuss import COUNTS, RATE_HZ, make_fuss
from sepbench.corpora import open_corpus, open_release
from sepbench.corpora.fuss import LISTS, SECONDS, Fuss, describe_release, read_source, verify_release
from sepbench.errors import UserError
from sepbench.progress import PlainProgress

EVAL = "ssdata_reverb/eval_example_list.txt"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return make_fuss(tmp_path_factory.mktemp("fuss"), seconds=0.25)


@pytest.fixture
def copy(made, tmp_path) -> Path:
    return shutil.copytree(made, tmp_path / "fuss")


def edit(file: Path, number: int, line: str) -> None:
    lines = file.read_text().splitlines()
    lines[number - 1] = line
    file.write_text("\n".join(lines) + "\n")


def said(folder: Path, room: str = "reverb") -> str:
    with pytest.raises(UserError) as raised:
        Fuss(folder, room)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_every_line_is_an_example_with_its_background_first(made):
    release = Fuss(made, "reverb")
    for name in LISTS:
        assert [len(each.sources) for each in release.examples[name]] == list(COUNTS[name])
    third = release.examples["eval"][2]
    assert third.name == "eval/example02"  # two digits, for there are eleven
    folder = made / "ssdata_reverb/eval/example02_sources"
    assert third.sources == tuple(
        f"{folder}/{name}_sound.wav" for name in ("background0", "foreground0", "foreground1")
    )
    assert release.examples["train"][0].name == "train/example0"


def test_places_and_clips_go_through_all_lists(made):
    release = Fuss(made, "reverb")
    for name in LISTS:
        assert [release.example(i) for i in release.places(name)] == list(release.examples[name])
        assert [release.clips[i].recording for i in release.places(name)] == [
            each.name for each in release.examples[name]
        ]
    assert len(release.clips) == sum(map(len, COUNTS.values()))


def test_the_hash_is_of_names_and_sizes_wherever_they_lie(made, copy):
    first = Fuss(made, "reverb")
    assert Fuss(copy, "reverb").content_hash == first.content_hash
    file = Path(first.examples["eval"][0].sources[0]).relative_to(made)
    soundfile.write(copy / file, np.zeros(7), RATE_HZ)
    second = Fuss(copy, "reverb")
    assert second.hashes["eval"] != first.hashes["eval"] and second.hashes["train"] == first.hashes["train"]
    assert second.content_hash != first.content_hash


def test_blank_lines_and_other_line_ends_are_no_matter(copy):
    before, file = Fuss(copy, "reverb"), copy / EVAL
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n\r\n"))
    assert Fuss(copy, "reverb").content_hash == before.content_hash


def test_the_mixtures_and_texts_need_not_be_there(copy):
    for file in [*(copy / "ssdata_reverb").glob("*/*.wav"), *copy.rglob("*.txt"), *copy.rglob("*.jams")]:
        if not file.name.endswith("_list.txt"):
            file.unlink()
    Fuss(copy, "reverb")


def test_a_folder_that_is_not_there_or_holds_something_else(tmp_path, made):
    assert said(tmp_path / "nowhere").startswith(
        f"FUSS: there is no folder '{tmp_path / 'nowhere'}'. Point --data fuss=DIR"
    )
    assert said(tmp_path).startswith(f"FUSS: no ssdata_reverb under '{tmp_path}'. Point --data fuss=DIR")
    assert said(made, "dry").startswith("FUSS: no ssdata under ")
    assert said(made, "revreb") == "task.mixing.room is 'revreb'; wanted dry or reverb. Did you mean 'reverb'?"


def test_a_list_that_is_missing_empty_or_no_text(copy):
    (copy / EVAL).write_text("\n")
    assert "eval_example_list.txt' names no example" in said(copy)
    (copy / EVAL).write_bytes(b"\xff\xfe\x00")
    assert "cannot read" in said(copy) and "no UTF-8 text" in said(copy)
    (copy / EVAL).unlink()
    assert said(copy).startswith("FUSS: no ssdata_reverb/eval_example_list.txt under ")


def test_missing_sources_are_told_with_their_line_and_counted_over_all_lists(copy):
    (copy / "ssdata_reverb/eval/example03_sources/foreground1_sound.wav").unlink()
    line = f"line 4 of '{copy / EVAL}' names 'eval/example03_sources/foreground1_sound.wav', which is not there"
    assert said(copy) == f"FUSS: {line}. Unpack the archive again."
    shutil.rmtree(copy / "ssdata_reverb/eval/example07_sources")
    (copy / "ssdata_reverb/validation/example0_sources/background0_sound.wav").unlink()
    assert "validation/example0_sources/background0_sound.wav', which is not there, nor are 4 more" in said(copy)


def test_an_example_without_a_source_with_five_or_named_twice(copy):
    sources = (copy / EVAL).read_text().splitlines()[3].split("\t")
    edit(copy / EVAL, 4, sources[0])
    assert f"line 4 of '{copy / EVAL}' names 'eval/example03.wav' without any source" in said(copy)
    edit(copy / EVAL, 4, "\t".join([*sources, sources[1]]))
    assert "line 4" in said(copy) and "names 5 sources; an example has 4 at most" in said(copy)
    edit(copy / EVAL, 4, "\t".join(sources))
    edit(copy / EVAL, 5, "\t".join(sources))
    assert "line 5" in said(copy) and "names 'eval/example03.wav', as line 4 does" in said(copy)


def test_a_source_is_read_as_it_was_written(tmp_path):
    steps = np.array([0, 1, -1, 32767, -32768], np.int16)
    soundfile.write(tmp_path / "a.wav", steps, RATE_HZ, subtype="PCM_16")
    read = read_source(tmp_path / "a.wav", RATE_HZ, 5)
    assert read.dtype == np.float32 and (read * 32768 == steps).all()


@pytest.mark.parametrize(
    ("audio", "rate", "words"),
    [
        (np.zeros(100), 8000, "is at 8000 Hz; the task is at 16000 Hz"),
        (np.zeros((100, 2)), RATE_HZ, "has 2 channels; wanted one"),
        (np.zeros(90), RATE_HZ, "lasts 0.006 s; the task's scenes last 0.00625 s"),
        (np.full(100, np.nan), RATE_HZ, "holds samples that are not finite"),
    ],
)
def test_a_source_of_another_shape_is_told(tmp_path, audio, rate, words):
    file = tmp_path / "a.wav"
    soundfile.write(file, audio, rate, subtype="FLOAT")
    with pytest.raises(UserError) as raised:
        read_source(file, RATE_HZ, 100)
    assert f"'{file}' {words}" in str(raised.value)


def test_a_source_that_cannot_be_read_is_told(tmp_path):
    file = tmp_path / "a.wav"
    for content, words in ((b"", "cannot be read"), (b"no sound at all", "cannot be read")):
        file.write_bytes(content)
        with pytest.raises(UserError, match=words):
            read_source(file, RATE_HZ, 100)
    soundfile.write(file, np.ones(1000) / 2, RATE_HZ)
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(UserError, match="is cut short"):
        read_source(file, RATE_HZ, 1000)


def test_describing_counts_examples_by_their_sources(made, tmp_path):
    rooms = describe_release(made)["rooms"]
    assert rooms == {"reverb": {"train": {1: 1, 2: 2, 3: 2, 4: 1}, "validation": {1: 1, 2: 1, 4: 1},
                                "eval": {1: 2, 2: 4, 3: 3, 4: 2}}}  # fmt: skip
    both = make_fuss(tmp_path, 0.01, ("dry", "reverb"))
    assert set(describe_release(both)["rooms"]) == {"dry", "reverb"}


def test_verifying_names_every_file_that_is_broken(tmp_path):
    whole = make_fuss(tmp_path, SECONDS, counts={name: (1, 2) for name in LISTS})
    with (tmp_path / "log").open("w") as log:
        assert verify_release(whole, PlainProgress(log)) == ([], 9)
        first, second = sorted(whole.rglob("example1_sources/*.wav"))[:2]
        first.write_bytes(b"")
        soundfile.write(second, np.zeros(5), RATE_HZ)
        broken, n = verify_release(whole, PlainProgress(log))
    assert n == 9 and len(broken) == 2 and str(first) in broken[0] and str(second) in broken[1]


def test_a_release_is_no_corpus_and_a_corpus_no_release(made):
    with pytest.raises(UserError, match="No corpus 'fuss'"):
        open_corpus("fuss", {"fuss": str(made)})
    with pytest.raises(UserError, match="task.corpus is 'esc50', whose clips have to be mixed"):
        open_release("esc50", {"esc50": "."}, "dry")


def test_the_environment_may_say_where_it_lies(made, monkeypatch):
    monkeypatch.delenv("SEPBENCH_DATA_FUSS", raising=False)
    with pytest.raises(UserError, match="Pass --data fuss=DIR, or set SEPBENCH_DATA_FUSS=DIR"):
        open_release("fuss", {}, "reverb")
    monkeypatch.setenv("SEPBENCH_DATA_FUSS", str(made))
    assert open_release("fuss", {}, "reverb").room == "reverb"
