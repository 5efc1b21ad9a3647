"""Folders that must not pass for something else: sounds of another kind, and layouts of other data sets."""

from __future__ import annotations

import pytest

from scored_files import AUDIO, call, figures, put, refused, two_scenes
from sepbench.errors import UserError
from test_score_files import found, touch


@pytest.mark.parametrize("name", ["0_cat.m4a", "0_cat.npy", "0_cat.wav.gz", "0_cat.WMA"])
@pytest.mark.parametrize("side", ["ref", "est"])
def test_a_folder_of_sounds_that_are_not_read_does_not_pass_for_empty(tmp_path, side, name):
    touch(tmp_path, f"{side}/s1/{name}", "ref/s1/mixture.wav", "est/s1/")
    listing = found(tmp_path, "s2/mixture.wav s2/dog.wav", "s2/dog.wav")[1]
    said = f"{tmp_path / side}/s1: holds {name}, which is no sound that is read (wav, flac, ogg ...)"
    assert listing.problems["s1"].startswith(said) and [each.id for each in listing.scenes] == ["s2"]


@pytest.mark.parametrize("side", ["ref", "est"])
def test_a_folder_of_folders_does_not_pass_for_empty(tmp_path, side):
    touch(tmp_path, f"{side}/s1/sources/dog.wav", "ref/s1/mixture.wav", "est/s1/")
    listing = found(tmp_path, "s2/mixture.wav s2/dog.wav", "s2/dog.wav")[1]
    assert listing.problems["s1"].startswith(f"{tmp_path / side}/s1: holds folders")


def test_a_sound_of_another_kind_is_not_left_out_beside_others(tmp_path):
    listing = found(tmp_path, "a/dog.wav a/cat.wav", "a/dog.wav a/cat.m4a")[1]
    assert "est/a: holds cat.m4a, which is no sound" in listing.problems["a"]
    for references, estimates in (("u1.wav u2.wav", "u1.wav u2.m4a"), ("u1.wav u2.wav", "u1.npy u2.npy")):
        with pytest.raises(UserError, match="no sound that is read"):
            found(tmp_path / estimates[:5], references, estimates, allow_empty=True)


def test_what_is_no_sound_does_not_matter_in_a_folder(tmp_path):
    beside = "a/notes.txt a/facts.json a/times.csv a/README.md a/.hidden.npy"
    listing = found(tmp_path, f"{beside} a/mixture.wav a/dog.wav a/dog.png a/old/x.wav", beside)[1]
    assert not listing.problems and listing.scenes[0].estimates == ()


def test_bad_scenes_of_that_kind_can_be_skipped(tmp_path):
    ref, est = two_scenes(tmp_path)
    (est / "b/0_dog.wav").rename(est / "b/0_dog.m4a")
    assert "est/b: holds 0_dog.m4a" in refused("--reference", ref, "--estimate", est)
    told = figures(tmp_path, "--reference", ref, "--estimate", est, "--skip-bad")
    assert [each["scene"] for each in told["skipped"]] == ["b"]


@pytest.mark.parametrize(
    "names",
    [
        "s1/u0.wav s1/u1.wav s2/u0.wav s2/u1.wav",
        "s1/u0.wav s2/u0.wav mix/u0.wav",
        "spk1/01aa010b_0.97_209a010p_-0.97.wav spk2/01aa010b_0.97_209a010p_-0.97.wav",
        "source1/4446-2273_4507-16021.flac source2/4446-2273_4507-16021.flac",
        "s1/dog.wav s2/dog.wav mix_clean/dog.wav noise/dog.wav",
        "s1/u0.wav s1/u1.wav s2/u0.wav s2/u2.wav",
    ],
)
def test_a_folder_per_source_is_not_read_as_a_folder_per_scene(tmp_path, names):
    for given, other in ((names, "a/dog.wav"), (names, names), ("a/dog.wav", names)):
        with pytest.raises(UserError) as caught:
            found(tmp_path / f"{len(given)}-{len(other)}", given, other)
        said = str(caught.value)
        assert "one source of all scenes" in said and "--manifest" in said and "\n" not in said


@pytest.mark.parametrize(
    "names",
    [
        "s1/mixture.wav s1/a.wav s2/mixture.wav s2/a.wav",
        "s1/s1.wav s1/s2.wav s2/s1.wav s2/s2.wav",
        "s1/0_dog.wav s1/1_cat.wav s2/0_dog.wav s2/1_cat.wav",
        "001/1.wav 002/1.wav",
        "s1/u0.wav s2/u1.wav",
        "mix1/s1.wav mix2/s1.wav",
        "s1/x.wav",
        " ".join(f"s{i}/1.wav" for i in range(40)),
    ],
)
def test_scenes_that_are_called_as_sources_are_scenes(tmp_path, names):
    scenes, listing = found(tmp_path, names, names.replace("mixture.wav", "a.wav"))
    assert not listing.problems and scenes.keys() == {name.split("/")[0] for name in names.split()}


@pytest.mark.parametrize("mixture", ["mixture.wav", "Mixture.flac"])
def test_the_files_of_one_scene_want_a_folder_of_their_own(tmp_path, mixture):
    with pytest.raises(UserError) as caught:
        found(tmp_path, f"dog.wav cat.wav {mixture}", "dog.wav cat.wav")
    said = str(caught.value)
    assert f"One scene: put its files into a folder of its own, {tmp_path}/ref/<scene>/" in said and "\n" not in said
    scenes, _ = found(tmp_path / "named", "mixture.wav mixture_dog.wav", "mixture_dog.wav")
    assert scenes.keys() == {"mixture"}


def test_labels_that_have_nothing_in_common_are_warned_of(tmp_path):
    ref, est = two_scenes(tmp_path)
    both = ("--reference", ref, "--estimate", est, "--results", tmp_path / "runs")
    assert "Warning" not in call(*both)[1]
    for scene in "ab":
        (est / scene / "0_dog.wav").rename(est / scene / "Dog.wav")
        (est / scene / "1_siren.wav").rename(est / scene / "Siren.wav")
    said = call(*both)[1]
    assert "Warning: no label of the estimates (Dog, Siren) is one of the references' (dog, siren)." in said
    assert "Warning" not in call(*both, "--labels", "none")[1]


def test_metrics_without_any_value_are_shown_and_written_as_such(tmp_path):
    put(tmp_path / "ref/a/mixture.wav", AUDIO[0]), (tmp_path / "est/a").mkdir(parents=True)
    both = ("--reference", tmp_path / "ref", "--estimate", tmp_path / "est")
    told = figures(tmp_path, *both)
    assert told["summary"].keys() == told["signature"].keys()
    assert told["summary"]["si_sdri"] == {"mean": None, "median": None, "n": 0, "undefined": 0, "ci95": None}
    code, out = call(*both, "--results", tmp_path / "runs")[:2]
    assert code == 0 and "si_sdri" in out
