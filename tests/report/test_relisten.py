"""Runs that kept no sounds, answered again; and that a run keeps them when it is made."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sepbench.progress import PlainProgress
from sepbench.recipe import load_recipe
from sepbench.relisten import sounds_of
from sepbench.report.listen import read_sounds
from sepbench.results import read_rows, read_runs
from sepbench.run import run_one
from tones import tones

CLASSES = ["bark", "horn", "siren"]
TASK = [
    f"task.classes=[{', '.join(CLASSES)}]", "task.sample_rate_hz=8000", "task.seconds=0.6", "task.mixing.cut_s=[0.1, 0.4]",
    "task.scenes.valid=4", "task.scenes.test=6", "task.scenes.seen=0", "task.splits.by=recording",
]  # fmt: skip
SHORT = ["epochs=1", "steps=1", "batch=2", "valid_batches=1", "warmup=0"]
SMALL = [
    *(f"train.{stage}.{value}" for stage in ("activity", "critic", "separator") for value in SHORT),
    "train.prior_scenes=4", "sizes.hidden=6", "sizes.layers=1", "sizes.critic_hidden=5", "sizes.critic_channels=[2, 3, 4]",
]  # fmt: skip


@pytest.fixture(scope="module")
def quiet() -> Iterator[PlainProgress]:
    with open(os.devnull, "w") as nowhere:
        yield PlainProgress(nowhere)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {"class_folders": str(tones(tmp_path_factory.mktemp("sounds"), CLASSES, 8000, 0))}


@pytest.fixture(scope="module")
def trained(data, quiet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEPBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        recipe = load_recipe(Path(__file__).resolve().parents[2] / "recipes" / "weak_label")
        config, values = recipe.resolve("quick", {"labels": "strong"}, [*TASK, *SMALL], corpus="class_folders")
        yield run_one(config, values, recipe, data, tmp_path_factory.mktemp("results"), False, "cpu", quiet)


def heard(folder: Path, data, quiet):
    return sounds_of(read_runs(folder)[0], "test", data, "cpu", quiet)


def test_a_finished_run_has_kept_its_sounds(trained):
    kept = read_sounds(trained)
    assert [one.place for one in kept.scenes] == ["best", "median", "worst"]
    rows = read_rows(trained)
    for shown in kept.scenes:
        which = (rows["scene"] == shown.scene) & (rows["metric"] == "si_sdri")
        assert shown.value == pytest.approx(rows["value"][which].mean())
        assert {true.label for true, _ in shown.pairs} == set(rows["label"][which])


def test_what_is_answered_again_sounds_as_it_did(trained, data, quiet, tmp_path):
    copy = Path(shutil.copytree(trained, tmp_path / trained.name))
    shutil.rmtree(copy / "listen")
    again, before = heard(copy, data, quiet), read_sounds(trained)
    assert [one.scene for one in again.scenes] == [one.scene for one in before.scenes]
    for one, other in zip(again.scenes, before.scenes):
        np.testing.assert_array_equal(one.mixture.audio, other.mixture.audio)
        for (_, said), (_, was) in zip(one.pairs, other.pairs):
            np.testing.assert_allclose(said.audio, was.audio, atol=3 / 2**15)
    assert read_sounds(copy).n_scenes == again.n_scenes  # and is kept: the next report need not ask again


@pytest.mark.parametrize(("lost", "said"), [("weights", "holds no weights"), ("sounds", "class_folders")])
def test_it_is_said_why_nothing_can_be_heard(trained, data, quiet, tmp_path, lost, said):
    copy = Path(shutil.copytree(trained, tmp_path / trained.name))
    shutil.rmtree(copy / "listen")
    if lost == "weights":
        shutil.rmtree(copy / "weights")
    told = heard(copy, data if lost == "weights" else {}, quiet)
    assert isinstance(told, str) and said in told and not (copy / "listen").exists()
