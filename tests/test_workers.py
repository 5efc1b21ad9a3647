"""Scoring by several processes: bit for bit what one process finds, and told where one of them dies."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

import sepbench.run_workers
from sepbench.errors import UserError
from sepbench.results_decisions import FILE
from sepbench.run import Spread
from sepbench.run import test_run as score_elsewhere
from test_ranks import World, alone, world  # noqa: F401
from test_run import Watched

FIGURES = ("rows.parquet", "metrics.json", FILE)


def figures(run: Path) -> list[bytes]:
    return [(run / name).read_bytes() for name in FIGURES]


@pytest.fixture(scope="module")
def half(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """Results in which a run has learnt and has begun to score."""
    results = tmp_path_factory.mktemp("half")
    with pytest.raises(KeyboardInterrupt):
        world.go(results, Watched("scoring test", 3))
    return results


def go_on(world: World, half: Path, results: Path, workers: int) -> Path:  # noqa: F811
    shutil.copytree(half, results)
    return world.go(results, spread=Spread(score_workers=workers))


def test_two_processes_find_what_one_finds_and_in_a_test_as_well(world: World, half: Path, tmp_path: Path):  # noqa: F811
    one, two = (go_on(world, half, tmp_path / str(n), n) for n in (1, 2))
    assert figures(one) == figures(two) and {each.name for each in one.iterdir()} == {each.name for each in two.iterdir()}
    data, rest = {"class_folders": str(world.sounds)}, (["task.scenes.test=7"], tmp_path / "tests", False, "cpu", Watched())
    tested = score_elsewhere(one, data, *rest)
    before = figures(tested)
    shutil.rmtree(tested)
    assert figures(score_elsewhere(one, data, *rest, (), Spread(score_workers=2))) == before


def test_a_worker_that_dies_is_told_and_the_run_goes_on(world: World, half: Path, tmp_path: Path, monkeypatch):  # noqa: F811
    begun: list[sepbench.run_workers.Child] = []

    class Watching(Watched):
        def advance(self, n: int = 1, **facts: object) -> None:
            if begun and self.bars[-1] == "scoring test" and n:
                os.kill(begun[0].process.pid, signal.SIGKILL)

    class Marked(sepbench.run_workers.Child):
        def __init__(self, *rest):
            super().__init__(*rest)
            begun.append(self)

    monkeypatch.setattr(sepbench.run_workers, "Child", Marked)
    monkeypatch.setattr(sepbench.run, "CHUNK", 1)
    shutil.copytree(half, tmp_path / "runs")
    with pytest.raises(UserError, match=r"Scoring process 1 of 2 was killed by SIGKILL \(out of memory\?\)") as error:
        world.go(tmp_path / "runs", Watching(), Spread(score_workers=2))
    assert "\n" not in str(error.value)
    assert all(child.process.poll() is not None for child in begun)
    run = world.go(tmp_path / "runs")
    assert (run / "rows.parquet").is_file()


def test_an_answer_in_other_company_may_round_differently_so_chunks_stay_as_they_are(world: World, half: Path, tmp_path: Path):  # noqa: F811
    """Smaller chunks are another way to compute: the same to a thousandth, and the run says so."""
    import pyarrow.parquet as pq

    usual = go_on(world, half, tmp_path / "usual", 1)
    shutil.copytree(half, tmp_path / "small")
    small = world.go(tmp_path / "small", spread=Spread(chunk=1))
    values = [pq.read_table(run / "rows.parquet").column("value").to_pylist() for run in (usual, small)]
    assert values[0] == pytest.approx(values[1], abs=1e-3)
    said = [json.loads((run / "run.json").read_text())["resumed"][-1]["provenance"].get("score_chunk") for run in (usual, small)]
    assert said == [None, 1]


def test_corpus_gone_before_workers_start_is_one_line(world: World, half: Path, tmp_path: Path):  # noqa: F811
    shutil.copytree(half, tmp_path / "runs")
    away = world.sounds.with_name("away")

    class Taking(Watched):
        def advance(self, n: int = 1, **facts: object) -> None:
            if self.bars[-1] == "scoring test" and world.sounds.exists():
                world.sounds.rename(away)

    try:
        with pytest.raises(UserError) as error:
            world.go(tmp_path / "runs", Taking(), Spread(score_workers=2))
    finally:
        away.rename(world.sounds)
    assert "\n" not in str(error.value) and str(world.sounds) in str(error.value)
