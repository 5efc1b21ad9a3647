"""iTDCN++ from sounds to figures: an oracle that learns is taught, told, kept and tested as what it is."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sepbench.audit import audit_of
from sepbench.errors import UserError
from sepbench.progress import PlainProgress
from sepbench.recipe import load_recipe
from sepbench.report.words import run_words
from sepbench.results import read_runs
from sepbench.run import run_one
from sepbench.run import test_run as score_elsewhere  # under its own name pytest would take it for a test
from sepbench.separate import separate_file
from tones import tones

RECIPE = load_recipe(Path(__file__).resolve().parents[2] / "recipes" / "itdcnpp")
CLASSES = ["bark", "horn", "siren"]
RATE_HZ = 8000
QUIET = PlainProgress(open(os.devnull, "w"))  # noqa: SIM115
SETS = [
    f"task.classes=[{', '.join(CLASSES)}]", f"task.sample_rate_hz={RATE_HZ}", "task.seconds=0.6",
    "task.scenes.valid=4", "task.scenes.test=6",
    *(f"train.{stage}.{value}" for stage in ("classifier", "separator")
      for value in ("epochs=1", "steps=2", "batch=2", "valid_batches=1", "warmup=0")),
    "sizes.channels=8", "sizes.hidden=8", "sizes.blocks=2", "sizes.repeats=2", "sizes.classifier_width=0.1",
]  # fmt: skip
ORACLE = {"network": "tdcn", "embeddings": "all", "oracle": True}


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tones(tmp_path_factory.mktemp("sounds"), CLASSES, RATE_HZ)


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEPBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def go(sounds: Path, results: Path, **options) -> Path:
    config, values = RECIPE.resolve("quick", {"embedding_channels": 8, **options}, SETS, corpus="class_folders")
    return run_one(config, values, RECIPE, {"class_folders": str(sounds)}, results, False, "cpu", QUIET)


@pytest.fixture(scope="module")
def oracle(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return go(sounds, tmp_path_factory.mktemp("oracle"), **ORACLE)


def test_an_oracle_that_learns_is_taught_and_is_known_as_an_oracle(oracle: Path):
    (record,) = read_runs(oracle)
    assert (record.config["supervision"], record.config["learns_from"]) == ("oracle", "isolated")
    assert {file.name for file in (oracle / "weights").iterdir()} == {"iteration_1.safetensors", "classifier.safetensors"}
    assert record.cost["separator"]["steps"] == 2 and record.cost["parameters"] == sum(record.cost["parameters_of"].values())
    assert record.metrics["test"]["class_accuracy"]["all"]["n"] == 12
    audit = audit_of(record)
    assert audit.learns and set(audit.training) == {"train", "valid"} and audit.total.recordings == ()


def test_what_an_oracle_has_learnt_is_scored_again_on_other_scenes(oracle: Path, sounds: Path, tmp_path: Path):
    data = {"class_folders": str(sounds)}
    again = score_elsewhere(oracle, data, ["task.scenes.test=4"], tmp_path, False, "cpu", QUIET)
    (record,) = read_runs(again)
    assert record.metrics["test"]["si_sdri"]["all"]["scenes"] == 4
    assert record.config["trained_by"]["weights"]


def test_an_oracle_takes_no_recording_apart(oracle: Path, sounds: Path, tmp_path: Path):
    with pytest.raises(UserError, match="must be told the sources. Choose a run that is no oracle"):
        separate_file(oracle, next(sounds.rglob("*.wav")), tmp_path / "out", 0.5, "cpu", QUIET)


def test_a_run_that_is_no_oracle_says_nothing_of_what_it_learns_from(sounds: Path, tmp_path: Path):
    run = go(sounds, tmp_path, network="itdcn", embeddings="all")
    config = json.loads((run / "run.json").read_text())["config"]
    assert config["supervision"] == "isolated" and "learns_from" not in config
    assert {file.stem for file in (run / "weights").iterdir()} == {"iteration_1", "iteration_2", "classifier"}
    mask = go(sounds, tmp_path, network="binary_mask", embeddings="none")
    config = json.loads((mask / "run.json").read_text())["config"]
    assert config["supervision"] == "oracle" and "learns_from" not in config and not (mask / "weights").exists()


def test_what_an_oracle_leaves_says_so_in_its_pictures(oracle: Path):
    (record,) = read_runs(oracle)
    assert run_words(record.config, "test").startswith("iTDCN++ (ORACLE), ")
    assert "ORACLE" not in run_words({**record.config, "supervision": "isolated"}, "test")


def test_a_brought_classifier_is_known_by_its_content_and_whom_it_heard_is_not(oracle: Path, sounds: Path, tmp_path: Path):
    file = tmp_path / "classifier.safetensors"
    shutil.copy(oracle / "weights" / file.name, file)
    brought = {"network": "tdcn", "embeddings": "mixture", "classifier_checkpoint": str(file)}
    first = go(sounds, tmp_path / "runs", **brought)
    (record,) = read_runs(first)
    assert audit_of(record).verdict.startswith(f"unknown: {file}")
    assert go(sounds, tmp_path / "runs", **brought) == first
    weights, facts = load_file(file), safe_open(file, "pt").metadata()
    weights["dense.bias"] += 1
    save_file(weights, file, facts)
    assert go(sounds, tmp_path / "runs", **brought) != first
    file.unlink()
    with pytest.raises(UserError, match="--classifier-checkpoint .*: cannot be read .No such file"):
        go(sounds, tmp_path / "runs", **brought)


def test_a_run_that_was_refused_before_it_began_leaves_no_folder(sounds: Path, tmp_path: Path):
    (tmp_path / "no classifier").write_text("words")
    with pytest.raises(UserError, match="cannot be read as a classifier"):
        go(sounds, tmp_path / "runs", classifier_checkpoint=str(tmp_path / "no classifier"))
    with pytest.raises(UserError, match="--loss thresholded"):
        go(sounds, tmp_path / "runs", sources=2, fewest_sources=1)
    assert not list((tmp_path / "runs").glob("itdcnpp*"))


def test_a_source_alone_has_no_improvement(sounds: Path, tmp_path: Path):
    run = go(sounds, tmp_path, network="tdcn", embeddings="none", loss="thresholded", sources=2, fewest_sources=1)
    (record,) = read_runs(run)
    scored = record.metrics["test"]["si_sdri"]["all"]
    assert 0 < scored["scenes"] < 6 and scored["n"] == 2 * scored["scenes"]
    assert RECIPE.resolve("quick", {})[0]["task"]["minimum_active"] == 1


def test_options_of_another_task_are_told_as_such():
    with pytest.raises(UserError, match="sources: iTDCN.. has no such option on task fuss"):
        RECIPE.on("fuss").resolve("quick", {"sources": 2})
