"""DCASE's S5 set on disk: which file is whose target, and one line for each way in which a copy may be broken."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from made_dcase import INTERFERING, RATE_HZ, add_parts, drawn_scenes, make_dcase
from sepbench.corpora import open_corpus, open_release
from sepbench.corpora.dcase_s5 import CLASSES, LAX, DcaseS5, Rules, describe_release, verify_release
from sepbench.corpora.dcase_s5_parts import DcaseParts
from sepbench.errors import UserError
from sepbench.progress import PlainProgress

LABELS = [["Speech"], ["Dishes", "Speech"], ["Cough", "Pour", "Typing"]]
OF_2025 = Rules(1, 3, False)
OF_2026 = Rules(0, 3, True)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return make_dcase(tmp_path_factory.mktemp("dcase"), drawn_scenes(LABELS, 0.05))


@pytest.fixture
def copy(made, tmp_path) -> Path:
    return shutil.copytree(made, tmp_path / "dcase")


def named(root: Path, soundscapes: list[str], targets: list[str]) -> Path:
    """Files of those names, without any sound."""
    for folder, names in (("soundscape", soundscapes), ("oracle_target", targets)):
        (root / "dev_set/test" / folder).mkdir(parents=True)
        for name in names:
            (root / "dev_set/test" / folder / f"{name}.wav").write_bytes(b"RIFF")
    return root


def found(root: Path, rules: Rules = OF_2026) -> dict[str, list[str]]:
    """The names of the files that are targets of each soundscape."""
    return {each.name: [Path(target.path).stem for target in each.targets] for each in DcaseS5(root, rules).soundscapes}


def said(root: Path, rules: Rules = OF_2025) -> str:
    with pytest.raises(UserError) as raised:
        DcaseS5(root, rules)
    assert "\n" not in str(raised.value)
    return str(raised.value).removeprefix("DCASE S5: ")


def test_every_soundscape_has_its_targets_with_their_labels(made):
    release = DcaseS5(made, OF_2025)
    assert [each.name for each in release.soundscapes] == ["0000", "0001", "0002"]
    assert [[target.label for target in each.targets] for each in release.soundscapes] == LABELS
    test = made / "dev_set/test"
    assert release.soundscapes[1].path == str(test / "soundscape/0001.wav")
    assert release.soundscapes[1].targets[1].path == str(test / "oracle_target/0001_Speech.wav")
    assert [clip.recording for clip in release.clips] == ["test/0000", "test/0001", "test/0002"] and not release.odd


def test_there_are_eighteen_classes_in_the_order_of_the_challenge():
    assert len(CLASSES) == 18 and list(CLASSES) == sorted(CLASSES)


def test_the_folder_may_be_dev_set_itself_and_its_test_that_of_2026(made, copy):
    whole = DcaseS5(made, OF_2025).content_hash
    assert DcaseS5(made / "dev_set", OF_2025).content_hash == whole
    (copy / "dev_set/synthesized").mkdir()
    (copy / "dev_set/test").rename(copy / "dev_set/synthesized/test")
    assert DcaseS5(copy, OF_2025).content_hash == whole
    shutil.copytree(made / "dev_set/test", copy / "dev_set/test")
    assert "holds test and synthesized/test. Keep the one" in said(copy)


def test_numbers_in_names_are_told_apart_from_names(tmp_path):
    root = make_dcase(tmp_path, drawn_scenes([["Speech", "Speech", "Dishes"], [], ["Pour"]], 0.05), 2026)
    assert found(root) == {"0000": ["0000_0_Speech", "0000_1_Speech", "0000_2_Dishes"], "0001": [], "0002": ["0002_0_Pour"]}
    labels = [[target.label for target in each.targets] for each in DcaseS5(root, OF_2026).soundscapes]
    assert labels == [["Speech", "Speech", "Dishes"], [], ["Pour"]]


def test_targets_are_in_the_order_of_their_numbers(tmp_path):
    root = named(tmp_path, ["a"], ["a_10_Speech", "a_2_Typing", "a_0_Pour"])
    assert found(root) == {"a": ["a_0_Pour", "a_2_Typing", "a_10_Speech"]}


@pytest.mark.parametrize(
    ("soundscapes", "targets", "wanted"),
    [
        (["a", "a_1"], ["a_Speech", "a_1_Dishes"], {"a": ["a_Speech"], "a_1": ["a_1_Dishes"]}),
        (["a", "a_1"], ["a_0_Speech", "a_1_Dishes", "a_1_0_Pour"], {"a": ["a_0_Speech", "a_1_Dishes"], "a_1": ["a_1_0_Pour"]}),
        (["a", "a_1"], ["a_1_Dishes"], {"a": ["a_1_Dishes"], "a_1": []}),  # of 2026, where one may have none
        (["x_1", "x_10"], ["x_1_Speech", "x_10_Pour"], {"x_1": ["x_1_Speech"], "x_10": ["x_10_Pour"]}),
        (["dev_7"], ["dev_7_0_Speech"], {"dev_7": ["dev_7_0_Speech"]}),
    ],
)
def test_names_match_as_a_whole_and_never_by_how_they_begin(tmp_path, soundscapes, targets, wanted):
    assert found(named(tmp_path, soundscapes, targets)) == wanted


def test_other_files_do_not_matter(copy):
    before = DcaseS5(copy, OF_2025).content_hash
    for name in ("soundscape/._0000.wav", "soundscape/readme.txt", "oracle_target/list.json", "oracle_target/.DS_Store"):
        (copy / "dev_set/test" / name).write_text("nothing")
    assert DcaseS5(copy, OF_2025).content_hash == before


def test_the_hash_is_of_names_and_sizes_wherever_they_lie(made, copy):
    assert DcaseS5(copy, LAX).content_hash == DcaseS5(made, LAX).content_hash
    file = copy / "dev_set/test/oracle_target/0001_Speech.wav"
    soundfile.write(file, np.zeros(7), RATE_HZ)
    changed = DcaseS5(copy, LAX)
    assert changed.content_hash != DcaseS5(made, LAX).content_hash and changed.odd == [str(file)]
    file.rename(file.with_name("0001_Pour.wav"))
    assert DcaseS5(copy, LAX).content_hash not in (changed.content_hash, DcaseS5(made, LAX).content_hash)


def test_a_folder_that_is_not_there_or_holds_something_else(tmp_path, copy):
    assert said(tmp_path / "nowhere").startswith(f"there is no folder '{tmp_path / 'nowhere'}'. Point --data dcase_s5=DIR")
    (tmp_path / "other").mkdir()
    assert said(tmp_path / "other").startswith(f"no dev_set under '{tmp_path / 'other'}'. Point --data dcase_s5=DIR")
    shutil.rmtree(copy / "dev_set/test/oracle_target")
    assert "no oracle_target beside" in said(copy)
    shutil.rmtree(copy / "dev_set/test")
    assert said(copy).startswith("no dev_set/test/soundscape under ")


@pytest.mark.parametrize("inside", ["soundscape", "eval_set/soundscape"])
def test_an_evaluation_set_has_no_targets_to_be_scored_by(tmp_path, inside):
    (tmp_path / inside).mkdir(parents=True)
    assert "is an evaluation set, whose targets were not released" in said(tmp_path)


@pytest.mark.parametrize(
    ("soundscapes", "targets", "words"),
    [
        (["a"], ["a_Speech", "a_Pour", "a_Cough", "a_Dishes"],
         "soundscape 'a' has 4 targets (Cough, Dishes, Pour, Speech); wanted 3 at most"),
        (["a"], ["a_Speach"], "a_Speach.wav' bears no label of the task ('Speach'). Did you mean 'Speech'?"),
        (["a"], ["Speech"], "Speech.wav' bears no label of the task"),
        (["a", "b"], ["a_Speech"], "soundscape 'b' has no target, wanted 1 at least. Unpack the archive again, or set "
         "task.mixing.fewest_sources=0 where so few may be"),
        (["a", "b", "c"], ["a_Speech"], "wanted 1 at least, and 1 more have too few"),
        (["abc"], ["abc_Pour", "abd_Pour"], "abd_Pour.wav' belongs to no soundscape: none is called 'abd'. Did you mean 'abc'?"),
        (["a", "c"], ["a_0_Pour", "c_0_Pour", "b_0_Pour"], "b_0_Pour.wav' belongs to no soundscape: none is called 'b'"),
        (["a", "c"], ["a_0_Pour", "c_1_Pour", "a_Cough"], "a_Cough.wav' is not called <name>_<index>_<Label>, as the others are"),
        (["a"], ["a_1_Pour", "a_01_Cough"], "a_01_Cough.wav' and 'a_1_Pour.wav' are both number 1 of 'a'"),
        (["a"], ["a_1_Pour", "a_2_Pour"], "soundscape 'a' has two targets of one class (Pour, Pour)"),
        ([], ["a_Pour"], "soundscape' holds no .wav or .flac file"),
        (["a"], [], "oracle_target' holds no .wav or .flac file"),
    ],
)  # fmt: skip
def test_names_that_break_the_rules_are_told(tmp_path, soundscapes, targets, words):
    assert words in said(named(tmp_path, soundscapes, targets))


def test_two_files_of_one_name_are_told(copy):
    file = copy / "dev_set/test/soundscape/0001.wav"
    file.with_suffix(".flac").write_bytes(b"fLaC")
    assert "holds '0001.flac' and '0001.wav', of one name" in said(copy)


def test_describing_counts_soundscapes_labels_and_what_there_is_to_train_with(made, copy):
    facts = describe_release(made)
    assert facts["by_count"] == {1: 1, 2: 1, 3: 1} and facts["same_class"] == 0
    assert facts["classes"]["Speech"] == {"test": 2, "train": 0, "valid": 0} and facts["classes"]["Blender"]["test"] == 0
    assert {tuple(own.values()) for own in facts["to_train"].values()} == {(0, 0)}
    facts = describe_release(add_parts(copy, n_events=1, seconds=0.02))
    assert facts["classes"]["Speech"] == {"test": 2, "train": 1, "valid": 1}
    assert facts["to_train"] == {"sound_event": {"train": 18, "valid": 18}, "interference": {"train": 2, "valid": 2},
                                 "noise": {"train": 2, "valid": 2}, "room_ir": {"train": 2, "valid": 2}}  # fmt: skip


def test_verifying_names_every_file_that_is_broken(tmp_path):
    root = make_dcase(tmp_path / "whole", drawn_scenes([["Speech"], ["Pour"]], 10.0, 32000), subtype="PCM_16")
    add_parts(root, n_events=1, seconds=0.02, rate_hz=48000)  # training resamples them
    n_files = 4 + 2 * (18 + len(INTERFERING) + 2)
    with (tmp_path / "log").open("w") as log:
        assert verify_release(root, PlainProgress(log)) == ([], n_files)
        scape, target = root / "dev_set/test/soundscape/0000.wav", root / "dev_set/test/oracle_target/0001_Pour.wav"
        event, noise = root / "dev_set/sound_event/valid/Pour/valid_0.wav", root / "dev_set/noise/train/1.wav"
        soundfile.write(scape, np.zeros((320000, 2)), 32000)
        target.write_bytes(target.read_bytes()[:-999])
        event.write_bytes(b"")
        soundfile.write(noise, np.zeros((320, 3)), 16000)
        broken, n = verify_release(root, PlainProgress(log))
    words = {scape: "has 2 channels; wanted 4", target: "is cut short", noise: "has 3 channels; wanted 4", event: "is empty"}
    assert n == n_files and len(broken) == 4
    assert all(f"'{file}' {word}" in line for (file, word), line in zip(words.items(), broken))


def test_the_parts_to_train_with_are_clips_of_their_split(copy):
    dev = add_parts(copy, n_events=2, seconds=0.02) / "dev_set"
    shutil.copytree(dev / "sound_event/train/Pour", dev / "sound_event/train/Speech/of one speaker")  # folders within are read
    (dev / "sound_event/train/Speech/of one speaker/train_1.wav").unlink()
    (dev / "sound_event/train/Speech/train_1.wav").unlink()
    shutil.copy(dev / "sound_event/train/Pour/train_0.wav", dev / "sound_event/train/astray.wav")  # of no class
    parts = DcaseParts(dev, CLASSES)
    assert len(parts.clips) == 2 * 2 * (18 + len(INTERFERING)) == len({clip.recording for clip in parts.clips})
    members = parts.members()
    assert sorted([*members["train"], *members["valid"]]) == list(range(len(parts.clips)))
    for split, own in members.items():
        assert {parts.clips[i].recording.split("/")[1] for i in own} == {split}
        assert {parts.clips[i].label for i in own} == {*CLASSES, *INTERFERING}
    audio, rate_hz = parts.audio(parts.clips[0])
    assert rate_hz == RATE_HZ and len(audio) == round(0.02 * RATE_HZ)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (lambda dev: shutil.rmtree(dev / "noise"), "noise/train' is not there. Unpack that part, too, to train"),
        (lambda dev: [each.unlink() for each in (dev / "room_ir/valid").iterdir()], "room_ir/valid' holds no .sofa file"),
        (lambda dev: shutil.rmtree(dev / "interference/train/Rain") or shutil.rmtree(dev / "interference/train/Siren"),
         "interference/train' holds no .wav or .flac or .ogg file"),
        (lambda dev: (dev / "sound_event/train/Pour").rename(dev / "sound_event/train/Poor"),
         "sound_event/train/Poor' is of no class of the task. Did you mean 'Pour'?"),
        (lambda dev: (dev / "interference/valid/Rain").rename(dev / "interference/valid/Speech"),
         "interference/valid/Speech' holds interference of a class that is a target"),
    ],
)  # fmt: skip
def test_parts_that_are_missing_or_misplaced_are_told(copy, broken, words):
    dev = add_parts(copy, n_events=1, seconds=0.01) / "dev_set"
    broken(dev)
    with pytest.raises(UserError) as raised:
        DcaseParts(dev, CLASSES)
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_it_is_a_release_and_no_corpus(made, monkeypatch):
    with pytest.raises(UserError, match="No corpus 'dcase_s5'"):
        open_corpus("dcase_s5", {"dcase_s5": str(made)})
    monkeypatch.setenv("SEPBENCH_DATA_DCASE_S5", str(made))
    assert len(open_release("dcase_s5", {}, OF_2025).soundscapes) == 3
