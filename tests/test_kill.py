"""Killed at any moment, the same command ends where it would have ended: bit for bit, and nothing is left over.

Each command runs in a fork of a process that has everything imported, which takes a second and not five. When it is killed is
counted in its own processor time, so that moments spread over the whole of it on a busy machine too.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sepbench.results import read_runs
from small_recipe import small_world
from test_sweep import words
from test_sweep_search import ENOUGH, recipe_in, trials_in

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads processor times in /proc"),
]
GROUPS, KILLS = 5, 10  # 50 in all

WARM = r"""
import importlib.util, json, os, signal, sys, time
import torch.utils.flop_counter, pytorch_lightning, pyarrow.parquet, pandas, matplotlib.figure, numba
import sepbench.cli, sepbench.run, sepbench.training, sepbench.report.listen, sepbench.report.scene, sepbench.report.scatter
import sepbench.printing, sepbench.freeze, sepbench.merge, sepbench.check, sepbench.tables_json, sepbench.cli_grid
if importlib.util.find_spec("optuna"):
    import optuna


def used(pid):
    fields = open(f"/proc/{pid}/schedstat").read().split()
    return int(fields[0]) / 1e9

print("ready", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.update(asked["env"])
        log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1), os.dup2(log, 2)
        code = 1
        try:
            sepbench.cli.main(asked["args"])
        except SystemExit as ended:
            code = ended.code or 0
        except BaseException:
            import traceback
            traceback.print_exc()
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)
    spent, killed, killed_s = 0.0, False, None
    while True:
        try:
            spent = used(pid)
        except (FileNotFoundError, ProcessLookupError, IndexError):
            pass
        if asked["cpu_s"] is not None and spent >= asked["cpu_s"] and not killed:
            os.kill(pid, asked["signal"])
            killed, killed_s = True, time.monotonic()
        done, status = os.waitpid(pid, 0 if killed else os.WNOHANG)
        if done:
            break
        time.sleep(0.001 if asked["cpu_s"] is not None else 0.02)
    took_s = killed_s and time.monotonic() - killed_s
    print(json.dumps({"code": os.waitstatus_to_exitcode(status), "cpu_s": spent, "took_s": took_s}), flush=True)
"""


@dataclass
class Warm:
    """Runs commands of sepbench in forks, to their end or until they have used so much processor time."""

    process: subprocess.Popen
    log: Path

    def run(self, *args: str, cpu_s: float | None = None, by: int = signal.SIGKILL, **env: str) -> dict[str, Any]:
        asked = {"args": args, "cpu_s": cpu_s, "signal": by, "env": env, "log": str(self.log)}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def through(self, *args: str, **env: str) -> float:
        """Run it to its end; the processor time."""
        ended = self.run(*args, **env)
        assert ended["code"] == 0, self.log.read_text()
        return ended["cpu_s"]


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen([sys.executable, "-c", WARM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
    try:
        assert process.stdout.readline() == "ready\n"
        yield Warm(process, tmp_path_factory.mktemp("log") / "log.txt")
    finally:
        process.kill()


@dataclass(frozen=True)
class Made:
    args: tuple[str, ...]  # the command, without where its results go
    run: Path  # undisturbed
    cpu_s: float


@pytest.fixture(scope="module")
def made(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("made")
    recipe, sounds = small_world(root)
    args = ("run", str(recipe), "--data", f"class_folders={sounds}", "--corpus", "class_folders", "--device", "cpu",
            "--threads", "1", "--score-chunk", "2")  # fmt: skip
    cpu_s = warm.through(*args, "--results", str(root / "runs"), SEPBENCH_CACHE=str(root / "cache"))
    return Made(args, next((root / "runs").iterdir()), cpu_s)


def content(folder: Path) -> dict[str, bytes]:
    """All that has to be the same bit for bit."""
    kept = ("rows.parquet", "metrics.json", "decisions.jsonl", "config.yaml", "weights/small.safetensors")
    return {name: (folder / name).read_bytes() for name in kept}


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("group", range(GROUPS))
def test_a_run_that_is_killed_at_any_moment_ends_the_same(warm: Warm, made: Made, tmp_path: Path, group: int):
    moments = random.Random(group)
    states = []
    for kill in range(KILLS):
        share = (group + GROUPS * kill + moments.random()) / (GROUPS * KILLS)  # each tenth of it has its own
        results, cache = tmp_path / f"{kill}", tmp_path / f"cache{kill}"
        args = (*made.args, "--results", str(results))
        warm.run(*args, cpu_s=share * made.cpu_s, SEPBENCH_CACHE=str(cache))
        states += [run.state for run in read_runs(results)] if results.is_dir() else ["nothing yet"]
        warm.through(*args, SEPBENCH_CACHE=str(cache))
        (run,) = results.iterdir()
        assert content(run) == content(made.run), f"killed after {share:.0%}"
        assert names(run) == names(made.run), f"killed after {share:.0%}"
        shutil.rmtree(results)
        shutil.rmtree(cache)
    assert states.count("finished") <= 2, states


@pytest.mark.parametrize("kind", ["random", "optuna"])
def test_a_search_that_is_killed_at_any_moment_loses_no_trial_and_runs_none_twice(warm: Warm, tmp_path: Path, kind: str):
    pytest.importorskip("optuna", reason='pip install "sepbench[search]"')

    def search(name: str, cpu_s: float | None = None) -> dict[str, Any]:
        folder = tmp_path / name
        recipe = str(folder / "tiny") if folder.exists() else recipe_in(folder / "tiny")
        args = ["sweep", *words(recipe, results=folder / "runs"), *ENOUGH, "--search", kind, "--trials", "4", "--metric", "snr"]
        return warm.run(*args, cpu_s=cpu_s, SEPBENCH_CACHE=str(tmp_path / "cache"))

    def ranking() -> list[str]:
        """The trials as they are printed, and the best one's command, but for where it lies."""
        said = warm.log.read_text()
        lines = said[said.index("Trials of") :].splitlines()
        return [*lines[1:-1], lines[-1].rsplit(" --results", 1)[0].split("tiny ", 1)[1]]

    search("first")  # after which the sounds are there
    ended = search("whole")
    assert ended["code"] == 0, warm.log.read_text()
    wanted, n_stopped = ranking(), 0
    kills = KILLS // 2
    for kill in range(kills):
        name = f"{kill}"
        search(name, cpu_s=ended["cpu_s"] * (kill + 0.5) / kills)
        there = {share for share, _ in trials_in(tmp_path / name / "runs")}
        n_stopped += len(there) < 4
        before = (tmp_path / name / "tiny/begun.txt").read_text().split() if there else []
        assert search(name)["code"] == 0, warm.log.read_text()
        assert ranking() == wanted, kill
        begun = (tmp_path / name / "tiny/begun.txt").read_text().split()
        assert not there & set(map(float, begun[len(before) :])) and len(begun) <= 4 + 1, kill
        assert not list((tmp_path / name).rglob("*.lock*"))
    assert n_stopped > kills / 2


def test_ctrl_c_at_any_moment_is_one_line_and_the_run_ends_the_same(warm: Warm, made: Made, tmp_path: Path):
    results, stopped, took_s = tmp_path / "runs", 0, []
    for moment in range(20):
        args = (*made.args, "--results", str(results))
        cache = {"SEPBENCH_CACHE": str(tmp_path / f"cache{moment}")}
        ended = warm.run(*args, cpu_s=(0.02 + moment / 20) * made.cpu_s, by=signal.SIGINT, **cache)
        said = warm.log.read_text()
        assert ended["code"] in (0, 130) and "Traceback" not in said, said
        if ended["code"] == 130:
            stopped += 1
            took_s.append(ended["took_s"])
            assert said.splitlines()[-1] == "sepbench: stopped; the same command goes on where it stopped."
        warm.through(*args, **cache)
        (run,) = results.iterdir()
        assert content(run) == content(made.run) and names(run) == names(made.run), moment
        shutil.rmtree(results)
    assert stopped >= 15
    if os.getloadavg()[0] < (os.cpu_count() or 1):
        assert max(took_s) < 5


@pytest.fixture
def two(warm: Warm, made: Made, tmp_path: Path) -> Path:
    """Results with another seed of the same run."""
    args = (*made.args, "--seed", "1", "--results", str(tmp_path / "other"))
    warm.through(*args, SEPBENCH_CACHE=str(made.run.parents[1] / "cache"))
    return tmp_path / "other"


def test_a_freezing_that_is_killed_leaves_the_old_or_the_new_and_goes_on(warm: Warm, made: Made, two: Path, tmp_path: Path):
    first = tmp_path / "first"
    warm.through("freeze", str(made.run.parent), "--to", str(first))
    args = ("freeze", str(two), "--replace", "--to")
    shutil.copytree(first, tmp_path / "reference")
    cpu_s = warm.through(*args, str(tmp_path / "reference"))
    wanted, tried = names(tmp_path / "reference"), tmp_path / "tried"
    for kill in range(20):
        shutil.copytree(first, tried)
        warm.run(*args, str(tried), cpu_s=cpu_s * (0.5 + kill / 40))
        for run in read_runs(tried):  # what is there is whole
            assert content_of_frozen(run.path) in [content_of_frozen(tmp_path / "reference" / next(two.iterdir()).name),
                                                   content_of_frozen(first / made.run.name)]  # fmt: skip
        warm.through(*args, str(tried))
        assert names(tried) == wanted
        shutil.rmtree(tried)


def content_of_frozen(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in ("rows.parquet", "metrics.json", "config.yaml")]


def test_a_merge_that_is_killed_goes_on(warm: Warm, made: Made, two: Path, tmp_path: Path):
    wanted, tried = tmp_path / "wanted", tmp_path / "tried"
    shutil.copytree(made.run.parent, wanted)
    cpu_s = warm.through("merge", str(wanted), str(two))
    for kill in range(20):
        shutil.copytree(made.run.parent, tried)
        warm.run("merge", str(tried), str(two), cpu_s=cpu_s * (0.5 + kill / 40))
        for run in read_runs(tried):
            assert names(run.path) == names(wanted / run.path.name)
        warm.through("merge", str(tried), str(two))
        assert names(tried) == names(wanted)
        shutil.rmtree(tried)


def test_a_table_that_is_killed_while_it_is_written_is_the_old_one_or_the_new(warm: Warm, made: Made, tmp_path: Path):
    file = tmp_path / "table.csv"
    args = ("table", str(made.run.parent), "--format", "csv", "-o", str(file))
    cpu_s = warm.through(*args)
    whole = file.read_text()
    for kill in range(20):
        file.write_text("old")
        warm.run(*args, cpu_s=cpu_s * (0.5 + kill / 40))
        assert file.read_text() in ("old", whole)
