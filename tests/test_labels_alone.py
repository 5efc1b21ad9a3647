"""A method that names what sounds and separates nothing, from its run through every command that meets it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from sepbench.cli_compare import compare
from sepbench.cli_scenes import scenes, worst
from sepbench.cli_score import score
from sepbench.errors import UserError
from sepbench.options import Door
from sepbench.printing import report
from sepbench.progress import PlainProgress
from sepbench.recipe import load_recipe
from sepbench.results import read_rows, read_runs
from sepbench.run import run_one
from sepbench.separate import separate_file
from tones import tones

REPO = Path(__file__).resolve().parents[1]
CLASSES = ["bark", "horn", "siren"]
RATE_HZ = 8000
TASK = [
    f"task.classes=[{', '.join(CLASSES)}]", f"task.sample_rate_hz={RATE_HZ}", "task.seconds=0.6", "task.scenes.valid=4",
    "task.scenes.test=12", "task.splits.by=recording", "task.mixing.short_clips=pad",
]  # fmt: skip
SMALL = [*(f"train.classifier.{each}" for each in ("epochs=2", "steps=2", "batch=4", "valid_batches=1", "warmup=0")),
         "sizes.channels=[3, 4]"]
QUIET = PlainProgress(open(os.devnull, "w"))  # noqa: SIM115


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEPBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tones(tmp_path_factory.mktemp("sounds"), CLASSES, RATE_HZ)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


def made(name: str, sounds: Path, results: Path, sets: list[str]) -> Path:
    recipe = load_recipe(REPO / "baselines" / name)
    config, values = recipe.resolve("quick", {}, [*TASK, *sets], corpus="class_folders")
    return run_one(config, values, recipe, {"class_folders": str(sounds)}, results, False, "cpu", QUIET)


@pytest.fixture(scope="module")
def named(sounds: Path, results: Path) -> Path:
    """A run of the classifier that hears mixtures."""
    return made("mixture_cnn", sounds, results, SMALL)


@pytest.fixture(scope="module")
def guessed(sounds: Path, results: Path) -> Path:
    """A run that hands back sounds under labels, on the same scenes."""
    return made("random_guess", sounds, results, [])


def call(*words: object):
    main = Door(commands={"compare": compare, "scenes": scenes, "score": score, "worst": worst})
    return CliRunner().invoke(main, [str(word) for word in words], prog_name="sepbench")


def test_its_run_has_accuracy_beside_its_chance_and_no_figure_of_separation(named: Path):
    (run,) = read_runs(named)
    figures = run.metrics["test"]
    assert figures["class_accuracy"]["by"] == "label set" and figures["class_accuracy"]["all"]["n"] == 24
    assert figures["class_accuracy_chance"]["all"]["mean"] == pytest.approx(2 / 3)
    assert not {"si_sdr", "si_sdri", "missed", "extra", "sign_flipped"} & figures.keys()
    assert run.config["labels_seen"] == "clip" and run.cost["real_time_factor"] > 0
    history = (named / "history-classifier.csv").read_text().splitlines()[0]
    assert {"train_accuracy", "valid_accuracy"} <= set(history.split(","))


def test_separation_is_guessed_at_half_its_chance(guessed: Path):
    figures = read_runs(guessed)[0].metrics["test"]
    assert figures["class_accuracy"]["by"] == "separation"
    assert figures["class_accuracy_chance"]["all"]["mean"] == pytest.approx(1 / 3)


def test_a_table_prints_the_chance_and_no_one_is_told_to_separate_with_it(named: Path, guessed: Path, results: Path):
    told = report([named, guessed], results)
    assert "(0.67)" in told and "(0.33)" in told
    assert "sepbench separate" not in told


def test_comparing_says_which_accuracy_is_which_and_leaves_chance_alone(named: Path, guessed: Path, tmp_path: Path):
    told = call("compare", guessed, named, "--json", tmp_path / "out.json")
    assert told.exit_code == 0, told.output
    found = json.loads((tmp_path / "out.json").read_text())["splits"]["test"]
    assert "class_accuracy" in found and not [name for name in found if name.endswith("_chance")]
    plain = " ".join(told.output.split())
    by = ["by separation (guessing scores 0.33) in A", "by label set (guessing scores 0.67) in B"]
    assert f"class_accuracy is had {' and '.join(by)}: not the same figure, and no verdict." in plain
    assert "Only A has si_sdr, si_sdri" in plain
    assert "is had" not in call("compare", named, named).output


def test_its_worst_scenes_are_those_it_named_wrongly(named: Path, sounds: Path, tmp_path: Path):
    told = call("worst", named, "-n", 2, "-o", tmp_path / "out", "--data", f"class_folders={sounds}")
    assert told.exit_code == 0, told.output
    assert "Ranked by class_accuracy" in told.output and "has no sounds to write" in told.output
    rows = read_rows(named)
    right = {scene: rows["value"][(rows["scene"] == scene) & (rows["metric"] == "class_accuracy")].mean()
             for scene in np.unique(rows["scene"])}
    listed = [path.name for path in (tmp_path / "out" / "reference").iterdir()]
    assert sorted(right[name] for name in listed) == sorted(right.values())[:2]
    assert not (tmp_path / "out" / "estimate").exists()
    assert "there is no metric 'class_accuracy_chance'" in call("worst", named, "--metric", "class_accuracy_chance").stderr


def test_its_scenes_are_written_and_its_estimates_are_none(named: Path, sounds: Path, tmp_path: Path):
    data = ("--data", f"class_folders={sounds}")
    refused = call("scenes", named, "-o", tmp_path / "out", "--estimates", *data)
    assert refused.exit_code == 2 and "has no sounds to write" in refused.stderr and refused.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert call("scenes", named, "-o", tmp_path / "out", "-n", 2, *data).exit_code == 0


def test_a_system_that_is_scored_on_the_same_scenes_has_the_same_chance(guessed: Path, sounds: Path, tmp_path: Path):
    out = tmp_path / "out"
    assert call("scenes", guessed, "-o", out, "--estimates", "--data", f"class_folders={sounds}").exit_code == 0
    words = ("score", "--reference", out, "--estimate", tmp_path / "out-estimates")
    ours = read_runs(guessed)[0].metrics["test"]
    assert call(*words, "--results", tmp_path / "told").exit_code == 0
    theirs = read_runs(tmp_path / "told")[0].metrics["test"]
    for name in ("class_accuracy", "class_accuracy_chance"):
        assert theirs[name]["all"]["mean"] == pytest.approx(ours[name]["all"]["mean"])
    (out / "scenes.json").unlink()  # now nobody says how many classes there are
    assert call(*words, "--results", tmp_path / "untold").exit_code == 0
    untold = read_runs(tmp_path / "untold")[0].metrics["test"]
    assert "class_accuracy" in untold and "class_accuracy_chance" not in untold


def test_nothing_can_be_separated_with_it(named: Path, tmp_path: Path):
    with pytest.raises(UserError, match="only says what sounds, and separates nothing") as told:
        separate_file(named, named / "audio" / "mixture.wav", tmp_path / "out", 0.5, "cpu", QUIET)
    assert "\n" not in str(told.value) and not list(tmp_path.rglob("*.wav"))


def test_separating_asks_for_as_many_sources_as_the_task_has(guessed: Path, tmp_path: Path):
    file = guessed / "audio" / "mixture.wav"
    separate_file(guessed, file, tmp_path / "out", 0.0, "cpu", QUIET)
    parts = [soundfile.read(path)[0] for path in (tmp_path / "out").glob("*.wav")]
    np.testing.assert_allclose(np.sum(parts, 0), 2 * soundfile.read(file)[0], atol=1e-5)  # the mixture, twice
