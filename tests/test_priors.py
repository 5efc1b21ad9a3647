"""The mixer's labels are the paper's: Tables I and II from durations alone, and what theory says of the rest."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from sepbench.corpora.base import Clip
from sepbench.corpora.urbansound8k import UrbanSound8K
from sepbench.mixing.poisson import PoissonPlanner
from sepbench.priors import label_statistics
from sepbench.tasks.settings import load_task
from sepbench.tasks.task import poisson_settings

N_SCENES = 20_000
TOLERANCE = 0.015  # the published figures have two decimals


@pytest.fixture(scope="module", params=[5, 10])
def statistics(request: pytest.FixtureRequest, shared: Path) -> tuple[int, dict]:
    """lambda, and the shares that folds 1-6 give."""
    task = load_task("urban_events", {"mixing": {"rate": float(request.param)}})
    corpus = UrbanSound8K.from_metadata(shared / "published" / "UrbanSound8K_metadata.csv", task["classes"])
    clips = [clip for clip in corpus.clips if clip.foreground]
    members = [i for i, clip in enumerate(clips) if clip.fold in task["splits"]["train"]]
    settings = poisson_settings(task, task["mixing"]["rate"])
    planner = PoissonPlanner(clips, members, task["classes"], settings, "metadata", "train", 0)
    return request.param, label_statistics(planner, N_SCENES)


def published(shared: Path, table: str, row: str) -> dict[str, float]:
    """Column -> figure; cells that are not legible are left out."""
    with open(shared / "published" / "paper_tables.csv", newline="", encoding="utf-8") as file:
        cells = [cell for cell in csv.DictReader(file) if (cell["paper"], cell["table"]) == ("weak_label", table)]
    return {cell["column"]: float(cell["value"]) for cell in cells if cell["row"] == row and cell["value"] != "missing"}


def test_classes_sound_as_often_as_in_table_i(statistics: tuple[int, dict], shared: Path):
    rate, found = statistics
    wanted = published(shared, "I", f"lambda={rate}")
    assert len(wanted) == 5
    ours = {name.replace("_", " ").capitalize(): share for name, share in found["activity_prior"].items()}
    assert ours == pytest.approx(wanted, abs=TOLERANCE)


def test_as_many_sound_at_once_as_in_table_ii(statistics: tuple[int, dict], shared: Path):
    rate, found = statistics
    wanted = published(shared, "II", f"sources per frame, lambda={rate}")
    assert len(wanted) == 6
    assert found["sources_per_frame"] == pytest.approx(wanted, abs=TOLERANCE)


def test_as_many_classes_are_in_a_clip_as_theory_says(statistics: tuple[int, dict]):
    """Counts of the classes are independent Poisson variables of a fifth of the rate, not all of them 0."""
    rate, found = statistics
    absent = math.exp(-rate / 5)
    binomial = {n: math.comb(5, n) * (1 - absent) ** n * absent ** (5 - n) for n in range(1, 6)}
    expected = {str(n): share / (1 - absent**5) for n, share in binomial.items()}
    assert found["sources_per_clip"] == pytest.approx({"0": 0.0, **expected}, abs=0.01)


def test_both_ways_of_counting_agree(statistics: tuple[int, dict]):
    _, found = statistics
    mean = sum(int(n) * share for n, share in found["sources_per_frame"].items())
    assert mean == pytest.approx(sum(found["activity_prior"].values()), abs=1e-9)


@pytest.mark.parametrize("n_scenes", [1, 37, 501])
def test_shares_sum_to_one_however_many_scenes(n_scenes: int):
    clips = [Clip(f"{name}/0", name, 1, name, 1.5) for name in ("siren", "dog_bark")]
    task = load_task("urban_events", {"classes": ["siren", "dog_bark"]})
    planner = PoissonPlanner(clips, [0, 1], task["classes"], poisson_settings(task, 3.0), "two", "train", 0)
    found = label_statistics(planner, n_scenes)
    assert sum(found["sources_per_frame"].values()) == pytest.approx(1)
    assert sum(found["sources_per_clip"].values()) == pytest.approx(1)
    assert list(found["activity_prior"]) == ["siren", "dog_bark"]
