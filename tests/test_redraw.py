"""`sepbench figures`: the pictures of a finished run, drawn again of any of its scenes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from click.testing import CliRunner

from sepbench.cli_figures import figures
from sepbench.options import Door
from sepbench.progress import PlainProgress
from sepbench.recipe import load_recipe
from sepbench.results import read_rows
from sepbench.run import run_one
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


@pytest.fixture(autouse=True, scope="module")
def small_pictures() -> None:
    """Here figures are painted in all their dots."""


@pytest.fixture(autouse=True, scope="module")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEPBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve recordings of each class: noise around a pitch of the class's own."""
    return tones(tmp_path_factory.mktemp("sounds"), CLASSES, RATE_HZ, 0)


@pytest.fixture(scope="module")
def trained(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with weights and the history of its training."""
    recipe = load_recipe(REPO / "recipes" / "weak_label")
    config, values = recipe.resolve("quick", {"labels": "strong"}, [*TASK, *SMALL], corpus="class_folders")
    quiet = PlainProgress(open(os.devnull, "w"))  # noqa: SIM115
    results = tmp_path_factory.mktemp("results")
    return run_one(config, values, recipe, {"class_folders": str(sounds)}, results, False, "cpu", quiet)


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    """The run, to do with as one likes."""
    return Path(shutil.copytree(trained, tmp_path / "copies" / trained.name))


def call(*arguments: object):
    return CliRunner().invoke(Door(commands={"figures": figures}), ["figures", *map(str, arguments)], prog_name="sepbench")


def said(told) -> str:
    assert told.exit_code == 0, (told.output, told.exception)
    return told.stdout


def refused(told) -> str:
    assert told.exit_code == 2 and told.stderr.splitlines()[-1].startswith("sepbench: "), (told.output, told.exception)
    return told.stderr.splitlines()[-1]


def contents(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}


def pictures(folder: Path) -> set[str]:
    return {file.name for file in folder.glob("*.png")}


def test_a_run_is_drawn_again_as_it_was(copy, sounds, trained):
    shutil.rmtree(copy / "figures")
    shutil.rmtree(copy / "audio")
    told = said(call(copy, "--data", f"class_folders={sounds}"))
    assert contents(copy) == contents(trained) and pictures(copy / "figures") == {"training.png", "si_sdri.png", "scene.png"}
    assert f"training.png, si_sdri.png, scene.png in {copy / 'figures'}" in told and str(copy / "audio") in told


def test_any_scene_is_drawn_by_number_or_name_and_the_run_is_left_alone(trained, sounds, tmp_path):
    before = contents(trained)
    names = sorted(set(read_rows(trained)["scene"][read_rows(trained)["split"] == "test"]))
    data = ("--data", f"class_folders={sounds}")
    number = int(names[1].split("-")[1])
    assert f"the sounds of scene {names[1]}" in said(call(trained, "--scene", number, "-o", tmp_path / "number", *data))
    said(call(trained, "--scene", names[1], "-o", tmp_path / "name", *data))
    said(call(trained, "--scene", names[0], "-o", tmp_path / "other", *data))
    number, name, other = (contents(tmp_path / folder) for folder in ("number", "name", "other"))
    assert number == name and number.keys() >= {"training.png", "si_sdri.png", "scene.png", "audio/mixture.wav"}
    assert other["scene.png"] != number["scene.png"] and other["training.png"] == number["training.png"]
    assert contents(trained) == before


def test_the_other_split_has_scenes_and_a_scatter_of_its_own(trained, sounds, tmp_path):
    data = ("--data", f"class_folders={sounds}", "-o", tmp_path)
    said(call(trained, "--scene", 1, *data))
    before = contents(tmp_path)
    said(call(trained, "--scene", 1, "--split", "seen", *data))
    assert all(contents(tmp_path)[name] != before[name] for name in ("scene.png", "si_sdri.png", "audio/mixture.wav"))
    assert soundfile.info(tmp_path / "audio" / "mixture.wav").frames == 0.6 * RATE_HZ


def test_a_method_that_only_names_is_drawn_again_as_it_was(sounds, tmp_path):
    recipe = load_recipe(REPO / "baselines" / "mixture_cnn")
    small = [*(f"train.classifier.{value}" for value in SHORT), "sizes.channels=[3, 4]", "task.mixing.short_clips=pad"]
    sets = [value for value in (*TASK, *small) if "cut_s" not in value and "scenes.seen" not in value]
    config, values = recipe.resolve("quick", {}, sets, corpus="class_folders")
    quiet = PlainProgress(open(os.devnull, "w"))  # noqa: SIM115
    run = run_one(config, values, recipe, {"class_folders": str(sounds)}, tmp_path / "results", False, "cpu", quiet)
    said(call(run, "-o", tmp_path / "same", "--data", f"class_folders={sounds}"))
    assert contents(tmp_path / "same") == contents(run / "figures") | {
        f"audio/{name}": held for name, held in contents(run / "audio").items()
    }
    told = said(call(run, "--scene", 3, "-o", tmp_path / "other", "--data", f"class_folders={sounds}"))
    assert "training.png, scene.png in" in told and "-000003 in" in told


def test_without_weights_the_rest_is_drawn_and_it_is_said_why(copy, sounds, tmp_path):
    shutil.rmtree(copy / "weights")
    kept = (copy / "figures" / "scene.png").read_bytes()
    told = said(call(copy, "--data", f"class_folders={sounds}"))
    assert "No scene could be drawn." in told and "holds no weights" in told
    assert (copy / "figures" / "scene.png").read_bytes() == kept  # what can no longer be made is not thrown away
    said(call(copy, "--data", f"class_folders={sounds}", "-o", tmp_path / "out"))
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"training.png", "si_sdri.png"}


def test_a_scene_that_was_asked_for_and_cannot_be_drawn_is_an_error(copy, sounds, tmp_path):
    shutil.rmtree(copy / "weights")
    assert "holds no weights" in refused(call(copy, "--scene", 0, "-o", tmp_path / "out", "--data", f"class_folders={sounds}"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--scene", "6"), "--scene 6: the run has 6 scenes of test, 0 to 5."),
        (("--scene", "2", "--split", "seen"), "--scene 2: the run has 2 scenes of seen, 0 to 1."),
        (("--split", "valid"), "was scored on seen, test."),
        (("--scene", "beef-000003"), "--scene beef-000003: no scene of test has that name"),
    ],
)
def test_a_scene_that_there_is_not_is_told_in_a_line(trained, sounds, tmp_path, words, line):
    told = call(trained, *words, "-o", tmp_path / "out", "--data", f"class_folders={sounds}")
    assert line in refused(told) and not (tmp_path / "out").exists()


def test_a_run_that_is_not_there_is_told(tmp_path):
    assert "no run there" in refused(call(tmp_path / "nothing"))


def test_runs_in_the_checkout_can_be_drawn_without_sounds(tmp_path):
    run = next((REPO / "results" / "reference").glob("weak_label-*-labels=strong-*"))
    told = said(call(run, "-o", tmp_path))
    assert pictures(tmp_path) == {"training.png", "si_sdri.png"} and "No scene could be drawn." in told
