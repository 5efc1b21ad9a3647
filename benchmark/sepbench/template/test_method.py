"""The recipe beside this file runs, and what holds of its method."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sepbench.progress import make_progress
from sepbench.recipe import Recipe, build, load_recipe
from sepbench.run import run_one
from sepbench.scene import Mixture, TaskInfo

TASK = TaskInfo(classes=("dog", "rain"), sample_rate_hz=16000, n_channels=1, max_sources=2, seconds=1.0)
SHORT = ["train.separator.epochs=1", "train.separator.steps=2", "train.separator.batch=2", "train.separator.valid_batches=1"]
SHORT += ["task.scenes.valid=2", "task.scenes.test=4"]


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe(Path(__file__).parent)


def answered(recipe: Recipe, audio: torch.Tensor) -> torch.Tensor:
    """What the untrained method makes of a mixture: (source, time)."""
    (estimate,) = build(recipe, recipe.resolve("quick")[0], TASK).separate([Mixture(audio, TASK.sample_rate_hz, "scene")])
    assert estimate.sources is not None
    return estimate.sources


def test_the_quick_profile_runs_to_its_end(recipe: Recipe, tmp_path: Path) -> None:
    config, options = recipe.resolve("quick", sets=SHORT)
    run = run_one(config, options, recipe, {}, tmp_path, again=False, device="cpu", progress=make_progress(False))
    assert json.loads((run / "metrics.json").read_text())["test"]["si_sdri"]["all"]["n"] > 0


def test_the_sources_add_up_to_the_mixture(recipe: Recipe) -> None:
    audio = torch.randn(1, TASK.sample_rate_hz, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(answered(recipe, audio).sum(0), audio[0], atol=1e-4, rtol=0)


def test_silence_in_is_silence_out(recipe: Recipe) -> None:
    assert not answered(recipe, torch.zeros(1, TASK.sample_rate_hz)).any()
