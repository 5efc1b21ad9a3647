"""Scenes as files: what is written is what was scored, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner

import sepbench.scene_files
from sepbench.cli_scenes import scenes as scenes_command
from sepbench.cli_scenes import worst as worst_command
from sepbench.cli_score import score as score_command
from sepbench.comparison import count_differences, explain_mismatch, paired_differences
from sepbench.errors import UserError
from sepbench.judge import judge
from sepbench.options import Door
from sepbench.progress import PlainProgress
from sepbench.recipe import load_recipe
from sepbench.results import read_rows, read_runs
from sepbench.run import run_one
from sepbench.scene import Estimate, Mixture, Scene, Source
from sepbench.scene_files import export_scenes, write_estimate, write_listed, write_scene
from tones import tones

REPO = Path(__file__).resolve().parents[1]
CLASSES = ["bark", "horn", "siren"]
RATE_HZ = 8000
TASK = [
    f"task.classes=[{', '.join(CLASSES)}]", f"task.sample_rate_hz={RATE_HZ}", "task.seconds=0.6",
    "task.mixing.cut_s=[0.1, 0.4]", "task.scenes.valid=4", "task.scenes.test=6", "task.scenes.seen=2",
    "task.splits.by=recording",
]  # fmt: skip
SHORT = ["epochs=1", "steps=1", "batch=2", "valid_batches=1", "warmup=0"]
SMALL = [
    *(f"train.{stage}.{value}" for stage in ("activity", "critic", "separator") for value in SHORT),
    "train.prior_scenes=4", "sizes.hidden=6", "sizes.layers=1", "sizes.critic_hidden=5",
    "sizes.critic_channels=[2, 3, 4]",
]  # fmt: skip


class Quiet(PlainProgress):
    """Says nothing; raises Ctrl-C at the step `at` of a bar."""

    def __init__(self, at: int | None = None):
        super().__init__(open(os.devnull, "w"))  # noqa: SIM115
        self.at, self.done = at, 0

    @contextmanager
    def bar(self, what: str, total: int | None) -> Iterator[Quiet]:
        yield self

    def advance(self, n: int = 1, **facts: object) -> None:
        self.done += n
        if self.at is not None and self.done >= self.at:
            raise KeyboardInterrupt


@pytest.fixture(autouse=True, scope="module")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of its own, and chunks of two scenes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEPBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(sepbench.scene_files, "CHUNK", 2)
        yield


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve recordings of each class: noise around a pitch of the class's own."""
    return tones(tmp_path_factory.mktemp("sounds"), CLASSES, RATE_HZ, 0)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


def made(folder: str, sounds: Path, results: Path, sets: list[str], **options: str) -> Path:
    recipe = load_recipe(REPO / folder)
    config, values = recipe.resolve("quick", options, [*TASK, *sets], corpus="class_folders")
    return run_one(config, values, recipe, {"class_folders": str(sounds)}, results, False, "cpu", Quiet())


@pytest.fixture(scope="module")
def floor(sounds: Path, results: Path) -> Path:
    return made("baselines/mixture", sounds, results, [])


@pytest.fixture(scope="module")
def ceiling(sounds: Path, results: Path) -> Path:
    return made("baselines/ideal_mask", sounds, results, [])


@pytest.fixture(scope="module")
def trained(sounds: Path, results: Path) -> Path:
    return made("recipes/weak_label", sounds, results, SMALL, labels="strong")


def record_of(run: Path):
    return read_runs(run)[0]


def export(run: Path, out: Path, sounds: Path, split="test", n=None, estimates=True, progress=None):
    where = {"class_folders": str(sounds)}
    return export_scenes(record_of(run), out, split, n, estimates, where, "cpu", progress or Quiet())


def read(path: Path) -> torch.Tensor:
    return torch.from_numpy(soundfile.read(path, dtype="float32", always_2d=True)[0].T.copy())


def scene_of(folder: Path) -> Scene:
    files = sorted(folder.glob("[0-9]*.wav"))
    sources = tuple(Source(read(file)[0], file.stem.split("_", 1)[1], ((0.0, 0.6),)) for file in files)
    return Scene(Mixture(read(folder / "mixture.wav"), RATE_HZ, folder.name), sources)


def estimate_of(folder: Path) -> Estimate:
    files = sorted(folder.glob("*.wav"))
    return Estimate(torch.cat([read(file) for file in files]), tuple(file.stem.split("_", 1)[1] for file in files))


def contents(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}


# what is written


def tiny(*labels: str, audio: torch.Tensor | None = None) -> Scene:
    sources = torch.randn(len(labels), 100) if audio is None else audio
    parts = tuple(Source(each, label, ((0.0, 0.1),)) for each, label in zip(sources, labels, strict=True))
    return Scene(Mixture(sources.sum(0)[None], 1000, "tiny"), parts)


def test_a_scene_is_its_mixture_and_the_sources_that_sound(tmp_path: Path):
    audio = torch.stack([3 * torch.randn(100), torch.zeros(100), torch.randn(100)])
    write_scene(tiny("dog", "cat", "dog", audio=audio), tmp_path / "tiny")
    assert {file.name for file in (tmp_path / "tiny").iterdir()} == {"mixture.wav", "0_dog.wav", "2_dog.wav"}
    assert torch.equal(read(tmp_path / "tiny" / "0_dog.wav")[0], audio[0])  # beyond full scale, to the last bit
    assert torch.equal(read(tmp_path / "tiny" / "mixture.wav"), audio.sum(0)[None])


def test_the_same_sound_gives_the_same_bytes_at_any_time(tmp_path: Path):
    scene = tiny("dog")
    write_scene(scene, tmp_path / "now")
    time.sleep(1.1)  # a second that a header might hold
    write_scene(scene, tmp_path / "then")
    assert contents(tmp_path / "now") == contents(tmp_path / "then")
    assert soundfile.info(tmp_path / "now" / "mixture.wav").subtype == "FLOAT"


def test_labels_are_kept_to_what_file_names_may_hold(tmp_path: Path):
    write_scene(tiny("../Speech, male/é"), tmp_path / "tiny")
    assert {file.name for file in (tmp_path / "tiny").iterdir()} == {"mixture.wav", "0_.._Speech_male_é.wav"}


def test_answers_without_labels_are_numbered_and_none_is_an_empty_folder(tmp_path: Path):
    write_estimate(Estimate(torch.randn(2, 50)), 1000, tmp_path / "blind")
    write_estimate(Estimate(torch.zeros(0, 50), ()), 1000, tmp_path / "nothing")
    write_estimate(Estimate(torch.zeros(1, 50), ("dog",)), 1000, tmp_path / "silent")
    assert {file.name for file in (tmp_path / "blind").iterdir()} == {"source0.wav", "source1.wav"}
    assert list((tmp_path / "nothing").iterdir()) == []
    assert [file.name for file in (tmp_path / "silent").iterdir()] == ["0_dog.wav"]


def test_an_answer_of_labels_alone_is_no_empty_folder(tmp_path: Path):
    with pytest.raises(UserError, match="only says what sounds"):
        write_estimate(Estimate(None, ("dog",)), 1000, tmp_path / "named")
    assert not (tmp_path / "named").exists()


def test_what_was_there_goes_as_a_whole(tmp_path: Path):
    write_scene(tiny("dog", "cat"), tmp_path / "tiny")
    write_scene(tiny("bell"), tmp_path / "tiny")
    assert {file.name for file in (tmp_path / "tiny").iterdir()} == {"mixture.wav", "0_bell.wav"}
    assert [file.name for file in tmp_path.iterdir()] == ["tiny"]


# a run's scenes


@pytest.mark.parametrize("which", ["floor", "ceiling", "trained"])
def test_judged_from_the_files_a_run_gets_its_own_figures(which, sounds, tmp_path, request):
    run = request.getfixturevalue(which)
    n, beside = export(run, tmp_path / "scenes", sounds)
    assert n == 6 and beside == tmp_path / "scenes-estimates"
    task = json.loads((tmp_path / "scenes" / "scenes.json").read_text())["task"]
    metrics = [name for name in task["metrics"] if not name.startswith("f_measure")]
    again = {}
    for folder in sorted((tmp_path / "scenes").iterdir()):
        if folder.is_dir():
            rows = judge(scene_of(folder), estimate_of(beside / folder.name), CLASSES, metrics, "again", "test", 2)
            again |= {(row.scene, row.source, row.label, row.metric): row.value for row in rows}
    columns = read_rows(run)
    own = {
        key: value
        for split, value, *key_ in zip(*(columns[name] for name in ("split", "value", "scene", "source", "label", "metric")))
        if split == "test" and not (key := tuple(key_))[3].startswith(("frame_", "clip_", "overlap"))
    }
    again = {key: value for key, value in again.items() if key[3] != "overlap"}  # of files it is not known when they sound
    assert again.keys() == own.keys() and any(key[3] == "si_sdri" for key in own)
    np.testing.assert_allclose([again[key] for key in own], list(own.values()), atol=1e-6)


def test_the_list_says_which_scenes_they_are(floor, sounds, tmp_path):
    export(floor, tmp_path / "all", sounds, estimates=False)
    export(floor, tmp_path / "some", sounds, n=2, estimates=False)
    whole, part = (json.loads((tmp_path / name / "scenes.json").read_text()) for name in ("all", "some"))
    facts = record_of(floor).provenance
    assert whole.keys() == {"task", "split", "scenes_hash", "corpus_hash"} and whole["split"] == "test"
    assert whole["scenes_hash"] == facts["scenes_hash"]["test"] and whole["corpus_hash"] == facts["corpus_hash"]
    assert part["scenes_hash"] != whole["scenes_hash"] and part["task"]["scenes"]["test"] == 2
    assert len([each for each in (tmp_path / "some").iterdir() if each.is_dir()]) == 2
    assert not (tmp_path / "all-estimates").exists()


def test_an_interrupted_export_goes_on_and_ends_the_same(floor, sounds, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        export(floor, tmp_path / "half", sounds, progress=Quiet(at=4))
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "half").glob("*/*.wav")}
    assert kept and not (tmp_path / "half" / "scenes.json").exists()
    (tmp_path / "half" / ".left.part").mkdir()
    export(floor, tmp_path / "half", sounds)
    export(floor, tmp_path / "whole", sounds)
    for suffix in ("", "-estimates"):
        assert contents(tmp_path / f"half{suffix}") == contents(tmp_path / f"whole{suffix}")
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert not list((tmp_path / "half").glob(".*"))


def test_a_folder_of_something_else_is_left_alone(floor, sounds, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    with pytest.raises(UserError, match="holds something else"):
        export(floor, tmp_path / "mine", sounds)
    export(floor, tmp_path / "scenes", sounds, n=2, estimates=False)
    before = contents(tmp_path / "scenes")
    with pytest.raises(UserError, match="holds other scenes"):
        export(floor, tmp_path / "scenes", sounds, split="seen", estimates=False)
    assert contents(tmp_path / "scenes") == before


def test_other_sounds_are_refused(floor, tmp_path):
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="other sounds"):
        export(floor, tmp_path / "scenes", tones(tmp_path / "other", CLASSES, RATE_HZ, seed=1))
    assert not (tmp_path / "scenes").exists()


def test_a_split_that_was_not_scored_is_refused(floor, sounds, tmp_path):
    with pytest.raises(UserError, match="--split valid: .* was scored on test, seen"):
        export(floor, tmp_path / "scenes", sounds, split="valid")


def test_a_run_from_before_scenes_had_a_hash_is_written_all_the_same(floor, sounds, tmp_path):
    copy = changed(floor, tmp_path, lambda run: run["provenance"].pop("scenes_hash"))
    export(copy, tmp_path / "old", sounds, estimates=False)
    export(floor, tmp_path / "new", sounds, estimates=False)
    assert contents(tmp_path / "old") == contents(tmp_path / "new")


def test_scenes_that_are_mixed_otherwise_now_are_refused(floor, sounds, tmp_path):
    copy = changed(floor, tmp_path, lambda run: run["provenance"]["scenes_hash"].update(test="12345678-6"))
    with pytest.raises(UserError, match="mixed otherwise"):
        export(copy, tmp_path / "scenes", sounds)


def changed(run: Path, place: Path, change) -> Path:
    """A copy of the run whose run.json says something else."""
    copy = place / "copies" / run.name
    shutil.copytree(run, copy)
    facts = json.loads((copy / "run.json").read_text())
    change(facts)
    (copy / "run.json").write_text(json.dumps(facts))
    return copy


# some scenes of a run, by name


def test_listed_scenes_are_those_of_the_whole_export(ceiling, sounds, tmp_path):
    export(ceiling, tmp_path / "all", sounds)
    names = sorted(folder.name for folder in (tmp_path / "all-estimates").iterdir() if folder.is_dir())[1::3]
    where = {"class_folders": str(sounds)}
    assert write_listed(record_of(ceiling), "test", names[::-1], tmp_path / "some", where, "cpu", Quiet()) == ""
    for name in names:
        assert contents(tmp_path / "some" / "reference" / name) == contents(tmp_path / "all" / name)
        assert contents(tmp_path / "some" / "estimate" / name) == contents(tmp_path / "all-estimates" / name)
    assert len(list((tmp_path / "some" / "estimate").iterdir())) == len(names)


def test_without_weights_the_references_are_written_and_it_is_said(trained, sounds, tmp_path):
    copy = tmp_path / "copies" / trained.name
    shutil.copytree(trained, copy)
    shutil.rmtree(copy / "weights")
    name = read_rows(copy)["scene"][0]
    said = write_listed(record_of(copy), "seen", [name], tmp_path / "out", {"class_folders": str(sounds)}, "cpu", Quiet())
    assert "no weights" in said
    assert (tmp_path / "out" / "reference" / name / "mixture.wav").is_file() and not (tmp_path / "out" / "estimate").exists()


def test_a_scene_that_cannot_be_mixed_is_named(floor, sounds, tmp_path):
    with pytest.raises(UserError, match="scene beef-000001 is none of those"):
        write_listed(record_of(floor), "test", ["beef-000001"], tmp_path, {"class_folders": str(sounds)}, "cpu", Quiet())


def scored(reference: Path, estimate: Path, results: Path) -> Path:
    """The run that `sepbench score` makes of files."""
    main = Door(commands={"score": score_command})
    words = ["score", "--reference", reference, "--estimate", estimate, "--results", results]
    told = CliRunner().invoke(main, list(map(str, words)), prog_name="sepbench")
    assert told.exit_code == 0, told.output
    return read_runs(results)[0].path


def external(place: Path) -> Path:
    """Two scenes that are files, and nobody's run."""
    for name in ("one", "two"):
        write_scene(tiny("dog", "cat"), place / "reference" / name)
        write_estimate(Estimate(torch.randn(2, 100), ("dog", "cat")), 1000, place / "estimate" / name)
    return scored(place / "reference", place / "estimate", place / "runs")


@pytest.mark.parametrize("which", ["floor", "ceiling", "trained"])
def test_scored_from_the_files_a_run_stands_beside_itself(which, sounds, tmp_path, request):
    run = request.getfixturevalue(which)
    _, beside = export(run, tmp_path / "scenes", sounds)
    other = scored(tmp_path / "scenes", beside, tmp_path / "runs")
    ours, theirs = record_of(run), record_of(other)
    assert theirs.provenance["scenes_hash"]["test"] == ours.provenance["scenes_hash"]["test"]
    assert explain_mismatch(ours, theirs) == ""
    found = paired_differences(read_rows(run), read_rows(other))["test"]
    assert {"si_sdr", "si_sdri", "si_sdri_by_label"} <= set(found)
    for metric, held in found.items():
        for difference in (held["all"], *held["class"].values()):
            assert abs(difference.value) < 1e-6 and difference.unpaired == 0 and not difference.excludes_zero, metric
    assert count_differences(read_rows(run), read_rows(other))["test"] == {}


def test_of_scored_files_the_files_are_copied(tmp_path):
    run = external(tmp_path)
    assert write_listed(record_of(run), "test", ["two"], tmp_path / "out", {}, "cpu", Quiet()) == ""
    for side in ("reference", "estimate"):
        assert contents(tmp_path / "out" / side) == {
            f"two/{name}": data for name, data in contents(tmp_path / side / "two").items()
        }
    gone = tmp_path / "estimate" / "one" / "0_dog.wav"
    gone.unlink()
    with pytest.raises(UserError, match="0_dog.wav: gone"):
        write_listed(record_of(run), "test", ["one"], tmp_path / "out", {}, "cpu", Quiet())


def test_the_scenes_of_scored_files_are_not_exported(tmp_path):
    with pytest.raises(UserError, match="its scenes are files"):
        export_scenes(record_of(external(tmp_path)), tmp_path / "out", "test", None, False, {}, "cpu", Quiet())


# the commands


def call(*arguments: object):
    main = Door(commands={"scenes": scenes_command, "worst": worst_command})
    return CliRunner().invoke(main, [str(each) for each in arguments], prog_name="sepbench")


def test_scenes_says_where_they_lie_and_how_they_are_scored(floor, sounds, tmp_path):
    told = call("scenes", floor, "-o", tmp_path / "out", "-n", 3, "--estimates", "--data", f"class_folders={sounds}")
    assert told.exit_code == 0, told.output
    assert f"sepbench score --reference {tmp_path / 'out'} --estimate {tmp_path / 'out-estimates'}" in told.output
    assert len(list((tmp_path / "out").glob("*/mixture.wav"))) == 3


def test_worst_lists_and_writes_and_forgets_the_list_before(ceiling, sounds, tmp_path):
    data = ("--data", f"class_folders={sounds}")
    first = call("worst", ceiling, "-n", 3, "-o", tmp_path / "out", *data)
    assert first.exit_code == 0, first.output
    (tmp_path / "out" / "reference" / "mine").mkdir()
    second = call("worst", ceiling, "-n", 2, "--best", "-o", tmp_path / "out", *data)
    assert second.exit_code == 0, second.output
    assert not (tmp_path / "out" / "worst.csv").exists()
    lines = (tmp_path / "out" / "best.csv").read_text().splitlines()
    listed = {line.split(",")[1] for line in lines[1:]}
    assert len(listed) == 2 and all(name in second.output for name in listed)
    assert {each.name for each in (tmp_path / "out" / "reference").iterdir()} == listed | {"mine"}
    assert {each.name for each in (tmp_path / "out" / "estimate").iterdir()} == listed


def test_worst_without_the_sounds_lists_and_then_says_what_is_missing(floor, tmp_path):
    told = call("worst", floor, "-n", 1, "-o", tmp_path / "out", "--data", f"class_folders={tmp_path}")
    assert told.exit_code == 2 and "the 1 worst of" in told.output and told.stderr.count("\n") == 1
    alone = call("worst", floor, "-n", 1, "--no-wavs", "-o", tmp_path / "none")
    assert alone.exit_code == 0 and "the 1 worst of" in alone.output and not (tmp_path / "none").exists()
