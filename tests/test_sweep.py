"""Many runs: the plan, several processes at a time, and what happens when one of them dies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sepbench.children import death_words
from sepbench.results import read_rows, read_runs
from test_cli import call, refused
from test_faults import children_of
from test_run_several import FEW, recipe_at

ONCE = """
import os, pathlib, signal

class Tiny:
    def __init__(self, settings, task):
        self.settings = settings

    def fit(self, training):
        flag = pathlib.Path(__file__).with_name(f"begun-{{self.settings.seed}}")
        if self.settings.seed == {seed} and not flag.exists():
            {first}
            {then}

    def save(self, folder):
        folder.mkdir()

    def load(self, folder):
        pass

    def separate(self, mixtures):
        from sepbench.scene import Estimate
        return [Estimate(each.audio[:1]) for each in mixtures]
"""
TOUCH = "flag.touch()"


def recipe_that(folder: Path, does: str, seed: int = 1, first: str = TOUCH) -> str:
    """A recipe that learns nothing, and in the run of one seed does what it is told, the first time alone."""
    name = recipe_at(folder, "", params={}, profiles={"quick": {"corpus": "synthetic", "minutes": 3}})
    (folder / "method.py").write_text(ONCE.format(seed=seed, first=first, then=does))
    return name


def words(*names: str, results: Path) -> list[str]:
    return [*names, "--task", "common", *FEW, "--results", str(results), "--device", "cpu", "--threads", "1"]


def figures(results: Path) -> dict[str, tuple]:
    """Run -> all of its rows, and the hash of its weights."""
    found = {}
    for run in read_runs(results):
        rows = read_rows(run.path)
        found[run.id] = ([tuple(column.tolist()) for column in rows.values()], run.weights_hash)
    return found


def states(text: str) -> dict[str, str]:
    """Run -> state, of a printed plan."""
    lines = text.split("---\n", 1)[1].split("\n\n")[0].splitlines()
    return {line.split("  ")[0].strip(): [part.strip() for part in line.split("  ") if part.strip()][1] for line in lines}


def noises(folder: Path) -> Path:
    """A corpus of class folders: two classes, some noises each."""
    rng = np.random.default_rng(0)
    for label in ("hiss", "rumble"):
        (folder / label).mkdir(parents=True)
        for i in range(8):
            soundfile.write(folder / label / f"{label}{i}.wav", rng.uniform(-0.3, 0.3, 32000), 16000)
    return folder


def test_the_plan_says_what_is_cached_stale_interrupted_and_missing(tmp_path: Path):
    recipe = recipe_that(tmp_path / "tiny", "raise KeyboardInterrupt")
    sounds = noises(tmp_path / "sounds")
    line = [*words(recipe, results=tmp_path / "runs"), "--data", f"class_folders={sounds}", "--corpus", "class_folders",
            "--set", "task.classes=[hiss, rumble]", "--set", "task.mixing.sources=2"]  # fmt: skip
    code, out, err = call("sweep", *line, "--seed", "0..2", "--plan")
    assert code == 0, err
    assert set(states(out).values()) == {"missing"} and "To run: 3; about 9:00." in out
    assert not (tmp_path / "runs").exists()
    assert call("sweep", *line, "--seed", "0,1")[0] == 130
    code, out, _ = call("sweep", *line, "--seed", "0..2", "--plan")
    assert states(out) == {"seed=0": "cached", "seed=1": "interrupted", "seed=2": "missing"}
    assert "3 runs: 1 cached, 1 interrupted, 1 missing." in out and "1 finished run" in out
    code, _, err = call("sweep", *line, "--seed", "0..2")
    assert code == 0 and "Done 2 of 2: seed=2" in err and "seed=0: " not in err
    newest = {run.config["seed"]: run.finished for run in read_runs(tmp_path / "runs")}
    (tmp_path / "tiny/begun-9").touch()  # no code
    assert set(states(call("sweep", *line, "--seed", "0..2", "--plan")[1]).values()) == {"cached"}
    (tmp_path / "tiny/more.py").write_text("X = 1\n")
    code, out, _ = call("sweep", *line, "--seed", "0..2", "--plan")
    assert set(states(out).values()) == {"stale: its recipe's files have changed"} and "Nothing to run." in out
    assert "Stale runs are kept" in out
    rate = 16000
    soundfile.write(sounds / "hiss/hiss0.wav", np.random.default_rng(1).uniform(-0.3, 0.3, 2 * rate), rate)
    said = "stale: its sounds have changed and its recipe's files have changed"
    assert set(states(call("sweep", *line, "--seed", "0..2", "--plan")[1]).values()) == {said}
    code, _, err = call("sweep", *line, "--seed", "0..2")
    assert code == 0 and {run.config["seed"]: run.finished for run in read_runs(tmp_path / "runs")} == newest
    code, _, err = call("run", *line, "--seed", "0,2", "--stale")
    assert code == 0 and "Run 2 of 2" in err
    assert states(call("sweep", *line, "--seed", "0..2", "--plan")[1]) == {
        "seed=0": "cached", "seed=1": said, "seed=2": "cached",
    }  # fmt: skip
    file = next((tmp_path / "runs").glob("*/run.json"))
    file.write_text(file.read_text()[:100])
    assert any(state.startswith("damaged: ") for state in states(call("sweep", *line, "--seed", "0..2", "--plan")[1]).values())


def test_a_plan_of_many_runs_decodes_nothing(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SEPBENCH_CACHE", str(tmp_path / "cache"))
    began_s = time.process_time()
    code, out, _ = call("sweep", *words(str(repo / "recipes/weak_label"), results=tmp_path / "runs"), "--alpha",
                        "1,2,3,4,5", "--seed", "0..19", "--plan")  # fmt: skip
    assert code == 0 and "100 runs: 100 missing." in out and "alpha=5.0, seed=19" in out
    assert time.process_time() - began_s < 20 and not list((tmp_path / "cache").glob("*-16000-*"))


def test_two_at_a_time_give_the_same_rows_as_one_after_the_other(repo: Path, tmp_path: Path):
    small = [f"train.classifier.{each}" for each in ("epochs=1", "steps=2", "batch=4", "valid_batches=1")]
    sets = [word for each in small for word in ("--set", each)]
    line = [str(repo / "baselines/mixture_cnn"), "--seed", "0..1", *sets]
    assert call("sweep", *words(*line, results=tmp_path / "one"))[0] == 0
    code, out, err = call("run", *words(*line, results=tmp_path / "two"), "-j2")
    assert code == 0 and "To run: 2, 2 at a time" in err and "Done 2 of 2" in err and "All runs beside" in out
    assert figures(tmp_path / "one") == figures(tmp_path / "two") and len(figures(tmp_path / "two")) == 2


def test_a_worker_that_is_killed_is_begun_once_more_and_told(tmp_path: Path):
    recipe = recipe_that(tmp_path / "tiny", "os.kill(os.getpid(), signal.SIGKILL)")
    code, _, err = call("sweep", *words(recipe, results=tmp_path / "runs"), "--seed", "0..1", "-j", "2")
    assert code == 0 and {run.state for run in read_runs(tmp_path / "runs")} == {"finished"}
    assert "seed=1: its process was killed by SIGKILL (out of memory?); it is begun once more" in err
    assert err.splitlines()[-1] == "retried: seed=1 (2 attempts; killed by SIGKILL (out of memory?))"


def test_a_worker_that_dies_again_is_one_line_and_the_rest_goes_on(tmp_path: Path):
    recipe = recipe_that(tmp_path / "tiny", "os._exit(7)", first="print('the last words')")
    code, _, err = call("sweep", *words(recipe, results=tmp_path / "runs"), "--seed", "0..1", "-j", "2")
    assert code == 2 and [run.config["seed"] for run in read_runs(tmp_path / "runs") if run.state == "finished"] == [0]
    assert "seed=1: its process was ended with code 7 and then ended with code 7." in err
    assert err.splitlines()[-1] == "sepbench: 1 of 2 runs failed: seed=1. The lines above say why."


def test_how_a_process_died_is_said():
    assert death_words(-9) == "killed by SIGKILL (out of memory?)" and death_words(-15) == "killed by SIGTERM"
    assert death_words(3) == "ended with code 3" and death_words(-200) == "killed by signal 200"


def test_ctrl_c_stops_all_workers_and_the_same_command_goes_on(tmp_path: Path):
    recipe = recipe_that(tmp_path / "tiny", "import time; time.sleep(300)", seed=0)
    line = ["sweep", *words(recipe, results=tmp_path / "runs"), "--seed", "0..2", "-j", "2"]
    code = "from sepbench.cli import main; main(prog_name='sepbench')"
    sweep = subprocess.Popen([sys.executable, "-c", code, *line], stderr=subprocess.PIPE, text=True, start_new_session=True)
    flag = tmp_path / "tiny/begun-0"
    until_s = time.monotonic() + 500
    while not flag.exists() and time.monotonic() < until_s and sweep.poll() is None:
        time.sleep(0.1)
    assert flag.exists()
    children = children_of(sweep.pid)
    os.kill(sweep.pid, signal.SIGINT)
    began_s = time.monotonic()
    _, err = sweep.communicate(timeout=60)
    assert sweep.returncode == 130 and time.monotonic() - began_s < 10 and "the same command goes on" in err
    assert children and not any(Path(f"/proc/{pid}/exe").exists() for pid in children)
    assert call(*line)[0] == 0 and len(read_runs(tmp_path / "runs")) == 3


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--seed", "4..0"], "--seed 4..0: 4..0 ends before it begins."),
        (["--seed", "-1"], "--seed -1: wanted a whole number from 0"),
        (["--seed", "0..x"], "--seed 0..x: wanted"),
        (["-j", "0"], "'-j' / '--jobs'"),
        (["--cluster", "nowhere"], "--cluster nowhere: wanted auto, local or HOST:PORT"),
        (["--cluster", "nowhere", "--plan"], "--cluster nowhere: wanted auto, local or HOST:PORT"),
        (["--cluster", "127.0.0.1:9"], "--cluster 127.0.0.1:9: nobody answers there"),
        (["--cluster", "127.0.0.1:99999"], "--cluster 127.0.0.1:99999: wanted auto, local or HOST:PORT"),
        (["--gpus-per-run", "0.5"], "--gpus-per-run: goes with --cluster, and not with --device cpu."),
        (["--gpus-per-run", "0.5", "-j", "2", "--plan"], "--gpus-per-run: goes with --cluster"),
        (["--gpus-per-run", "1", "--cluster", "auto", "--plan"], "goes with --cluster, and not with --device cpu."),
        (["--gpus-per-run", "1.5", "--cluster", "auto", "--device", "auto"], "wanted a part of one, or a whole number."),
        (["--gpus-per-run", "nan", "--cluster", "auto", "--device", "auto"], "wanted a part of one, or a whole number."),
        (["--trials", "5"], "--trials: goes with --search random or --search optuna."),
        (["--search", "grid"], "'grid' is not one of 'random', 'optuna'"),
        (["--search", "random", "--seed", "0..4"], "--seed: is a grid, and a search takes one value of each."),
        (["--search", "random", "--metric", "si_sdry"], "there is no metric 'si_sdry'. Did you mean"),
        (["--search", "random", "--metric", "bss_eval"], "--metric bss_eval: stands for"),
        (["--search", "random", "--study", "a/b"], "--study a/b: wanted a plain name"),
    ],
)
def test_bad_input_is_one_line(repo: Path, tmp_path: Path, extra: list[str], said: str):
    if "--search" in extra and "grid" not in extra:
        pytest.importorskip("optuna", reason='pip install "sepbench[search]"')
    assert said in refused("sweep", *words(str(repo / "recipes/nmf_svm"), results=tmp_path / "runs"), *extra)


@pytest.mark.parametrize(
    ("module", "extra", "said"),
    [
        ("ray", ["--cluster", "auto"], '--cluster: ray is not installed. pip install "sepbench[ray]"'),
        ("optuna", ["--search", "random"], '--search random: optuna is not installed. pip install "sepbench[search]"'),
    ],
)
@pytest.mark.parametrize("plan", [[], ["--plan"]])
def test_what_is_not_installed_is_told(repo: Path, tmp_path: Path, monkeypatch, module: str, extra: list[str], said: str, plan):
    monkeypatch.setitem(sys.modules, module, None)
    code, out, err = call("sweep", *words(str(repo / "recipes/nmf_svm"), results=tmp_path / "runs"), *extra, *plan)
    assert code == 2 and out == "" and err.splitlines()[-1] == f"sepbench: {said}"


def test_what_declares_no_ranges_is_not_searched(repo: Path, tmp_path: Path):
    said = refused("sweep", *words(str(repo / "baselines/mixture"), results=tmp_path / "runs"), "--search", "random")
    assert "declares no ranges (search: in recipe.yaml)" in said
    two = [str(repo / "recipes/nmf_svm"), str(repo / "recipes/weak_label")]
    assert "a search is of one." in refused("sweep", *words(*two, results=tmp_path / "runs"), "--search", "random")


def test_a_run_says_what_its_recipe_was(tmp_path: Path):
    recipe = recipe_that(tmp_path / "tiny", "pass")
    assert call("run", *words(recipe, results=tmp_path / "runs"))[0] == 0
    file = next((tmp_path / "runs").glob("*/run.json"))
    run = json.loads(file.read_text())
    assert len(run["provenance"]["recipe_hash"]) == 64
    del run["provenance"]["recipe_hash"]  # as of a run from before it was kept
    file.write_text(json.dumps(run))
    Path(recipe, "more.py").write_text("X = 1\n")
    assert "1 cached" in call("sweep", *words(recipe, results=tmp_path / "runs"), "--plan")[1]
    shutil.rmtree(file.parent)
    assert "1 missing" in call("sweep", *words(recipe, results=tmp_path / "runs"), "--plan")[1]
