"""Which file belongs to which scene: names, folders and manifests. Nothing is read here, so the files are empty."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sepbench.errors import UserError
from sepbench.score_files import decide_labels
from sepbench.score_layouts import find_in_folders
from sepbench.score_manifest import find_in_lists, find_in_manifest
from sepbench.score_names import is_label, natural, split_known


def touch(root: Path, *names: str) -> Path:
    """Empty files, and empty folders for names that end in a slash."""
    root.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    return root


def found(tmp_path, references, estimates, mixtures=None, naming="auto", allow_empty=False, labels="auto"):
    """{scene: (mixture, [(reference, label)], [(estimate, label)])} and the listing."""
    folders = [touch(tmp_path / "ref", *references.split()), touch(tmp_path / "est", *estimates.split())]
    mixture = None if mixtures is None else touch(tmp_path / "mix", *mixtures.split())
    listing = decide_labels(find_in_folders(*folders, mixture, naming, allow_empty), labels)
    return {
        scene.id: (
            scene.mixture and str(scene.mixture.relative_to(tmp_path)),
            [(file.path.name, file.label) for file in scene.references],
            [(file.path.name, file.label) for file in scene.estimates],
        )
        for scene in listing.scenes
    }, listing


def labels_by_scene(scenes):
    return {name: ([label for _, label in there], [label for _, label in heard])
            for name, (_, there, heard) in scenes.items()}  # fmt: skip


def test_numbers_in_names_sort_as_numbers():
    assert sorted(["s10", "s2", "s1", "2_dog", "10_dog", "a", "10"], key=natural) == [
        "2_dog", "10", "10_dog", "a", "s1", "s2", "s10",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["s1", "source0", "spk2", "est_1", "ref", "foreground0_sound", "07", "x", "", "track-3"])
def test_words_for_what_a_file_is_for_are_no_labels(name):
    assert not is_label(name)


@pytest.mark.parametrize("name", ["Speech", "dog_bark", "siren2", "vocals", "source_speech", "Türglocke", "808_drum"])
def test_words_for_what_sounds_are_labels(name):
    assert is_label(name)


def test_the_longest_name_that_fits_is_meant():
    assert split_known("a_1_dog_bark", {"a", "a_1"}) == ("a_1", "dog_bark")
    assert split_known("a_12_dog", {"a", "a_1"}) == ("a", "12_dog")
    assert split_known("b_dog", {"a"}) is None


def test_a_folder_per_scene_is_read_with_labels_and_indices_of_the_names(tmp_path):
    scenes, listing = found(
        tmp_path, "s2/mixture.wav s2/0_dog_bark.wav s2/10_dog_bark.flac s2/2_siren.wav s10/mixture.flac s10/notes.txt",
        "s2/dog_bark.wav s10/0_Speech.flac",
    )  # fmt: skip
    assert list(scenes) == ["s2", "s10"]
    mixture, references, estimates = scenes["s2"]
    assert mixture == "ref/s2/mixture.wav"
    assert references == [("0_dog_bark.wav", "dog_bark"), ("2_siren.wav", "siren"), ("10_dog_bark.flac", "dog_bark")]
    assert estimates == [("dog_bark.wav", "dog_bark")]
    assert scenes["s10"] == ("ref/s10/mixture.flac", [], [("0_Speech.flac", "Speech")])
    assert listing.labelled and listing.labels == "labels: from the file names, 3 classes"


def test_an_empty_folder_of_estimates_says_that_nothing_was_found(tmp_path):
    scenes, listing = found(tmp_path, "a/dog.wav b/dog.wav", "a/ b/dog.wav")
    assert labels_by_scene(scenes) == {"a": (["dog"], []), "b": (["dog"], ["dog"])}
    assert not listing.problems and scenes["a"][0] is None


def test_labels_count_only_where_every_source_has_one(tmp_path):
    scenes, listing = found(tmp_path, "a/dog.wav b/cat.wav", "a/dog.wav b/s1.wav")
    assert labels_by_scene(scenes) == {"a": (["dog"], [""]), "b": (["cat"], [""])}
    assert not listing.labelled and "of the references alone" in listing.labels and "s1.wav" in listing.labels
    scenes, listing = found(tmp_path / "other", "a/s1.wav b/cat.wav", "a/dog.wav b/cat.wav")
    assert labels_by_scene(scenes) == {"a": ([""], [""]), "b": ([""], [""])}
    assert listing.labels.startswith("labels: none") and listing.labels.endswith("scored by separation alone")


def test_labels_can_be_told(tmp_path):
    scenes, listing = found(tmp_path, "a/1_s1.wav", "a/s1.wav", labels="names")
    assert listing.labelled and labels_by_scene(scenes) == {"a": (["s1"], ["s1"])}
    scenes, listing = found(tmp_path / "other", "a/dog.wav", "a/dog.wav", labels="none")
    assert not listing.labelled and labels_by_scene(scenes) == {"a": ([""], [""])}


@pytest.mark.parametrize("naming", ["auto", "2025"])
def test_names_of_2025_are_told_apart_by_the_mixtures_beside_them(tmp_path, naming):
    scenes, _ = found(
        tmp_path, "scene_1.wav scene_1_dog.wav scene_1_dog_bark.wav scene_12.wav scene_12_Speech.wav quiet_3.wav",
        "scene_1_dog_bark.wav scene_12_Speech.wav quiet_3_dog.wav", naming=naming,
    )  # fmt: skip
    assert labels_by_scene(scenes) == {
        "quiet_3": ([], ["dog"]), "scene_1": (["dog", "dog_bark"], ["dog_bark"]), "scene_12": (["Speech"], ["Speech"]),
    }  # fmt: skip
    assert scenes["quiet_3"][0] == "ref/quiet_3.wav"


@pytest.mark.parametrize("naming", ["auto", "2026"])
@pytest.mark.parametrize("mixtures", [None, "n_001.wav n_002/mixture.wav n_003.flac"])
def test_names_of_2026_hold_an_index(tmp_path, naming, mixtures):
    inside = "" if mixtures else "n_001.wav n_002.wav n_003.flac "
    scenes, listing = found(
        tmp_path, inside + "n_001_0_dog_bark.wav n_001_1_dog_bark.wav n_001_10_cat.wav n_001_2_cat.wav n_002_0_cat.wav",
        "n_001_0_cat.wav n_002_0_cat.wav n_003_0_siren.wav", mixtures, naming,
    )  # fmt: skip
    assert labels_by_scene(scenes) == {
        "n_001": (["dog_bark", "dog_bark", "cat", "cat"], ["cat"]), "n_002": (["cat"], ["cat"]), "n_003": ([], ["siren"]),
    }  # fmt: skip
    assert [name for name, _ in scenes["n_001"][1]][-1] == "n_001_10_cat.wav"
    assert listing.layout.startswith("files <name>_<index>_<Label>, such as 'n_00")


def test_without_mixtures_all_names_together_tell_2025_from_2026(tmp_path):
    of_2025 = "soundscape_001_dog_bark.wav soundscape_001_Speech.wav soundscape_002_Speech.wav"
    scenes, _ = found(tmp_path / "a", of_2025, "soundscape_001_Speech.wav soundscape_002_Speech.wav")
    assert labels_by_scene(scenes)["soundscape_001"] == (["Speech", "dog_bark"], ["Speech"])
    of_2026 = "n1_0_dog_bark.wav n1_1_Speech.wav n2_0_Speech.wav"
    scenes, _ = found(tmp_path / "b", of_2026, "n1_0_Speech.wav n2_0_dog_bark.wav n2_1_Speech.wav")
    assert labels_by_scene(scenes) == {"n1": (["dog_bark", "Speech"], ["Speech"]), "n2": (["Speech"], ["dog_bark", "Speech"])}
    scenes, _ = found(tmp_path / "c", "parkA_Speech.wav parkB_Speech.wav", "parkA_Speech.wav parkB_Dog.wav")
    assert labels_by_scene(scenes) == {"parkA": (["Speech"], ["Speech"]), "parkB": (["Speech"], ["Dog"])}


def test_where_names_could_be_either_the_user_is_asked(tmp_path):
    either = "scene_1_Speech.wav scene_2_Dog.wav"
    with pytest.raises(UserError, match="--naming 2026.*--naming 2025"):
        found(tmp_path, either, either)
    assert list(found(tmp_path, "", "", naming="2025")[0]) == ["scene_1", "scene_2"]
    assert labels_by_scene(found(tmp_path, "", "", naming="2026")[0]) == {"scene": (["Speech", "Dog"], ["Speech", "Dog"])}


def test_files_of_the_same_names_are_a_scene_of_one_source_each(tmp_path):
    plain = "p232_001.wav p232_002.wav"
    scenes, listing = found(tmp_path / "a", plain, plain)
    assert scenes["p232_001"] == (None, [("p232_001.wav", "")], [("p232_001.wav", "")]) and len(scenes) == 2
    assert listing.layout == "one source per scene, files of the same name"
    scenes, _ = found(tmp_path / "b", plain, plain, plain)
    assert scenes["p232_002"][0] == "mix/p232_002.wav"
    scenes, _ = found(tmp_path / "c", "a_dog.wav b_dog.wav", "a_dog.wav b_dog.wav", naming="plain")
    assert list(scenes) == ["a_dog", "b_dog"]


def test_sources_without_labels_are_read_in_one_folder_too(tmp_path):
    scenes, listing = found(tmp_path, "mix.wav mix_1.wav mix_2.wav", "mix_1.wav mix_2.wav")
    assert [len(side) for side in scenes["mix"][1:]] == [2, 2] and not listing.labelled
    scenes, _ = found(tmp_path / "other", "m1_s1.wav m1_s2.wav m2_s1.wav", "m1_s1.wav m1_s2.wav m2_s1.wav")
    assert {name: len(there) for name, (_, there, _) in scenes.items()} == {"m1": 2, "m2": 1}


def test_nothing_there_and_nothing_found_can_be_all_there_is(tmp_path):
    scenes, _ = found(tmp_path, "soundscape_001.wav", "", allow_empty=True)
    assert scenes == {"soundscape_001": ("ref/soundscape_001.wav", [], [])}
    listing = find_in_folders(touch(tmp_path / "r", "a_b.wav"), touch(tmp_path / "e"), tmp_path / "r", "auto", True)
    assert [(each.id, each.references) for each in listing.scenes] == [("a_b", ())]


@pytest.mark.parametrize(
    ("references", "estimates", "mixtures", "scene", "said"),
    [
        ("a/dog.wav b/dog.wav", "a/dog.wav", None, "b", "est/b: no such folder"),
        ("a/dog.wav", "a/dog.wav bb/dog.wav", None, "bb", "est/bb: no scene 'bb'"),
        ("a/dog.wav a/mixture.wav b/dog.wav", "a/dog.wav b/dog.wav", None, "b", "ref/b/mixture.wav: no such mixture"),
        ("a/dog.wav b/dog.wav", "a/dog.wav b/dog.wav", "a.wav", "b", "mix/b.wav: no such mixture"),
        ("a/dog.wav b/", "a/dog.wav b/dog.wav", None, "b", "ref/b: holds no sounds"),
        ("a/dog.wav b/c/dog.wav", "a/dog.wav b/c/dog.wav", None, "b", "ref/b: holds folders. Name"),
        ("a/dog.wav b/cat.wav", "a/mixture.wav b/cat.wav", None, "a", "est/a/mixture.wav: a mixture among the estimates"),
        ("a.wav a_dog.wav b.wav b_cat.wav", "a_dog.wav", None, "b", "est: no file for scene 'b'"),
        ("a.wav a_dog.wav", "a_dog.wav b_dog.wav", None, "b_dog", "est/b_dog.wav: an estimate of no scene"),
        ("a.wav a_dog.wav b_dog.wav", "a_dog.wav", None, "b_dog", "ref/b_dog.wav: its mixture is missing"),
        ("a.wav a_dog.wav b.wav b_dog.wav", "a.wav a_dog.wav b_dog.wav", None, "a", "est/a.wav: has the name of a mixture"),
        ("a_dog.wav c_dog.wav", "a_dog.wav", "a.wav b.wav", "c_dog", "ref/c_dog.wav: its mixture is missing in"),
        ("u1.wav u2.wav", "u1.wav", None, "u2", "no file for scene 'u2'"),
    ],
)  # fmt: skip
def test_what_a_scene_lacks_is_said_of_that_scene(tmp_path, references, estimates, mixtures, scene, said):
    listing = found(tmp_path, references, estimates, mixtures)[1]
    assert said in listing.problems[scene] and "\n" not in listing.problems[scene]
    assert scene not in [each.id for each in listing.scenes]


@pytest.mark.parametrize(
    ("references", "estimates", "said"),
    [
        ("", "a_dog.wav", "ref: holds no sounds"),
        ("a_dog.txt", "a_dog.wav", "ref: holds no sounds"),
        ("a_dog.wav", "", "--allow-empty"),
        ("a/dog.wav", "a_dog.wav", "Lay out both alike"),
        ("a_dog.wav", "a/dog.wav", "Lay out both alike"),
        ("a/dog.wav b_dog.wav", "a/dog.wav", "holds sounds (b_dog.wav) beside folders"),
        ("a/dog.wav a/dog.flac", "a/dog.wav", "the same name. Keep one"),
        ("a.wav a_1_dog.wav a_cat.wav", "a_cat.wav", "'a_1_dog' has an index before its label and 'a_cat' has none"),
    ],
)
def test_folders_that_cannot_be_read_are_refused(tmp_path, references, estimates, said):
    with pytest.raises(UserError) as caught:
        found(tmp_path, references, estimates)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("naming", ["plain", "2025", "2026"])
def test_a_naming_is_refused_where_no_names_of_files_are_split(tmp_path, naming):
    with pytest.raises(UserError) as caught:
        found(tmp_path, "a/dog.wav", "a/dog.wav", naming=naming)
    said = str(caught.value)
    assert said.startswith(f"--naming {naming}: ") and f"{tmp_path / 'ref'} holds a folder per scene" in said and "\n" not in said


def test_a_name_that_holds_no_label_cannot_be_one(tmp_path):
    with pytest.raises(UserError, match="its name holds no label"):
        found(tmp_path, "one.wav two_dog.wav", "one.wav two_dog.wav", labels="names")


CSV = "scene,role,file,label\na,mixture,x/mix.wav,\na,reference,x/r.wav,dog\na,estimate,x/e.wav,cat\n"


def manifest(tmp_path, text, name="all.csv"):
    touch(tmp_path, "x/mix.wav", "x/r.wav", "x/e.wav", "x/f.wav")
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    return tmp_path / name


def test_a_csv_lists_all_files_relative_to_itself(tmp_path):
    listing = decide_labels(find_in_manifest(manifest(tmp_path, CSV), False), "auto")
    (scene,) = listing.scenes
    assert (scene.id, scene.mixture) == ("a", tmp_path / "x/mix.wav")
    assert [(f.path.name, f.label) for f in (*scene.references, *scene.estimates)] == [("r.wav", "dog"), ("e.wav", "cat")]
    assert listing.labels == "labels: from the manifest, 2 classes"


def test_a_json_lists_all_files_and_an_empty_list_is_nothing(tmp_path):
    scenes = [
        {"scene": "a", "mixture": "x/mix.wav", "references": ["x/f.wav", {"file": "x/r.wav"}], "estimates": []},
        {"scene": "b", "mixture": "x/mix.wav", "references": [], "estimates": [{"file": "x/e.wav", "label": "dog"}]},
    ]
    listing = decide_labels(find_in_manifest(manifest(tmp_path, json.dumps({"scenes": scenes}), "all.json"), False), "auto")
    a, b = listing.scenes
    assert [file.path.name for file in a.references] == ["f.wav", "r.wav"] and a.estimates == b.references == ()
    assert not listing.labelled and not listing.problems


def test_a_csv_for_each_side_says_the_same(tmp_path):
    reference = manifest(tmp_path, "file,scene\nx/r.wav,a\n", "reference.csv")
    estimate = manifest(tmp_path, "scene,file\na,x/e.wav\n", "estimate.csv")
    mixture = manifest(tmp_path, "scene,file\na,x/mix.wav\n", "mixture.csv")
    for mixed in (mixture, touch(tmp_path / "mix", "a.wav")):
        (scene,) = find_in_lists(reference, estimate, mixed, False).scenes
        assert scene.mixture and [f.path.name for f in (*scene.references, *scene.estimates)] == ["r.wav", "e.wav"]
    assert find_in_lists(reference, estimate, None, False).scenes[0].mixture is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scene,roll,file\na,reference,x/r.wav\n", "no column role; it has scene, roll, file. Did you mean 'roll'?"),
        ("", "no column scene, role, file; it has nothing."),
        ("scene,role,file\n", "lists no files"),
        ("scene,role,file\na,referense,x/r.wav\n", "line 2: role 'referense' is none of mixture, reference, estimate. Did you"),
        ("scene,role,file\na,reference,\n", "line 2: no file"),
        ('{"scene": []}', 'no "scenes" in it'),
        ("[1]", 'no "scenes" in it'),
        ("{", "not JSON"),
        ('{"scenes": []}', "must be a list of scenes, with at least one"),
        ('{"scenes": [{"scene": "a", "reference": [], "estimates": []}]}', "no references in it. Did you mean 'reference'?"),
        ('{"scenes": [{"scene": "a", "references": "r.wav", "estimates": []}]}', "references must be a list"),
        ('{"scenes": [{"scene": "a", "references": [3], "estimates": []}]}', "must be a file or {file, label}, got 3"),
        ('{"scenes": [{"scene": 1, "references": [], "estimates": []}]}', "its name must be a text, got 1"),
        ('{"scenes": [3]}', "wanted an object with scene, references, estimates, got 3"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_refused(tmp_path, text, said):
    path = manifest(tmp_path, text, "all.json" if text.startswith(("{", "[")) else "all.csv")
    with pytest.raises(UserError) as caught:
        find_in_manifest(path, False)
    assert said in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "scene", "said"),
    [
        ("a,estimate,x/e.wav,cat", "a", "line 5: {}/x/e.wav stands there twice"),
        ("a,mixture,x/f.wav,", "a", "line 5: a second mixture of scene 'a'"),
        ("a,estimate,x/none.wav,cat", "a", "line 5: {}/x/none.wav: no such file"),
        ("b,reference,x/r.wav,dog", "b", "no estimate for scene 'b'"),
        ("b,estimate,x/e.wav,dog", "b", "line 5: an estimate of scene 'b', which has no reference"),
    ],
)
def test_what_a_manifest_lacks_is_said_of_the_scene(tmp_path, line, scene, said):
    listing = find_in_manifest(manifest(tmp_path, CSV + line + "\n"), False)
    assert said.format(tmp_path) in listing.problems[scene]
    assert find_in_manifest(manifest(tmp_path, CSV + "b,mixture,x/f.wav,\n"), True).scenes[1].references == ()


def test_a_manifest_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(UserError, match="none.csv: cannot be read: No such file"):
        find_in_manifest(tmp_path / "none.csv", False)
