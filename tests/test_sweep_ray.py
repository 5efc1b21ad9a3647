"""Runs on a cluster: what travels to a node and back, and, on a real cluster of two nodes, that nothing is lost with one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sepbench.corpora import open_corpus
from sepbench.corpora.cache import open_cache
from sepbench.corpora.listed import LISTING, listing
from sepbench.errors import UserError
from sepbench.loading import code_hash
from sepbench.recipe import load_recipe
from sepbench.results import read_runs
from sepbench.sweep_pack import arrays_of, digests, install, packed, unpack
from sepbench.sweep_plan import Asked, Planner
from sepbench.sweep_ray import RayPool
from sepbench.sweep_ray_address import prepare
from sepbench.sweep_ray_node import carry_out, forget, package_hash
from sepbench.sweep_spec import How, spec_of
from test_cli import call
from test_sweep import figures, noises, recipe_that, states, words
from test_sweep_search import ENOUGH, recipe_in, trials_in

WITHOUT = 'pip install "sepbench[ray]"'
SMALL = ["train.classifier.epochs=1", "train.classifier.steps=2", "train.classifier.batch=4", "train.classifier.valid_batches=1"]
N_RUNS = 20


# what travels


def test_a_folder_arrives_as_it_was_sent_in_the_stead_of_what_lay_there(tmp_path: Path):
    sent, place = tmp_path / "sent", tmp_path / "place"
    (sent / "weights").mkdir(parents=True)
    (sent / "weights/a.bin").write_bytes(b"abc")
    (sent / "checkpoints").mkdir()
    (sent / "checkpoints/large.bin").write_bytes(b"x")
    (sent / ".lock").write_text("1")
    place.mkdir()
    (place / "old").write_text("old")
    unpack(packed(sent), place)
    assert [str(path.relative_to(place)) for path in sorted(place.rglob("*"))] == ["weights", "weights/a.bin"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["place", "sent"]
    with pytest.raises(Exception, match="file could not be opened|truncated|unexpected|empty"):
        unpack(packed(sent)[:700], place)
    assert (place / "weights/a.bin").read_bytes() == b"abc"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["place", "sent"]


def test_a_cache_is_written_whole_and_once_and_damage_is_told(tmp_path: Path):
    sounds = tmp_path / "sent"
    sounds.mkdir()
    (sounds / "samples.i16").write_bytes(bytes(range(256)))
    arrays = arrays_of(sounds)
    install(arrays, digests(arrays), tmp_path / "cache/a")
    assert (tmp_path / "cache/a/samples.i16").read_bytes() == bytes(range(256))
    install({}, {}, tmp_path / "cache/a")  # it is there
    with pytest.raises(UserError, match="arrived damaged"):
        install(arrays, {"samples.i16": "0"}, tmp_path / "cache/b")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["a"]


def test_a_list_of_clips_stands_for_a_corpus_whose_sounds_are_in_the_cache(tmp_path: Path):
    corpus = open_corpus("class_folders", {"class_folders": str(noises(tmp_path / "sounds"))})
    first = open_cache(corpus, corpus.clips, 16000, tmp_path / "cache")
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / LISTING).write_text(json.dumps(listing(corpus, tmp_path / "cache")))
    listed = open_corpus("class_folders", {"class_folders": str(tmp_path / "list")}, ["hiss"])
    assert {clip.label for clip in listed.clips} == {"hiss"}
    listed = open_corpus("class_folders", {"class_folders": str(tmp_path / "list")})
    again = open_cache(listed, listed.clips, 16000, tmp_path / "cache")
    assert again.content_hash == first.content_hash and again.clips == first.clips
    with pytest.raises(UserError, match="only its list is here"):
        open_cache(listed, listed.clips, 8000, tmp_path / "cache")


def test_a_node_without_recipe_and_sounds_does_the_run_as_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """All but the transport: the node has another cache, and neither the recipe's folder nor the corpus."""
    folder, sounds = Path(recipe_that(tmp_path / "tiny", "pass")), noises(tmp_path / "sounds")
    here = tmp_path / "here"
    monkeypatch.setenv("SEPBENCH_CACHE", str(here / "cache"))
    line = [*words(str(folder), results=here / "runs"), "--data", f"class_folders={sounds}", "--corpus", "class_folders",
            "--set", "task.classes=[hiss, rumble]", "--set", "task.mixing.sources=2"]  # fmt: skip
    assert call("run", *line)[0] == 0
    (ours,) = read_runs(here / "runs")
    recipe = load_recipe(folder).on("common")
    data = {"class_folders": str(sounds)}
    sets = [word for word in line if word.startswith("task.")]
    config, options = recipe.resolve("quick", {}, sets, data, 0, "class_folders")
    run = Planner(tmp_path / "none", data).planned(Asked(recipe, config, options, ""))
    assert run.id == ours.id and run.state == "missing"
    place = next((here / "cache").glob(f"*-{run.sounds}"))
    arrays = arrays_of(place)
    corpus = open_corpus("class_folders", data)
    parcel = {
        "spec": spec_of(run, How(data, tmp_path / "none", "cpu", 1), 1), "code": package_hash(), "place": "x",
        "recipe hash": code_hash(folder), "recipe": packed(folder), "folder": "as/here", "begun": None, "inner": None,
        "cache": {"name": place.name, "files": arrays, "digests": digests(arrays)},
        "lists": {"class_folders": {"hash": "0", "listing": listing(corpus, here / "cache")}},
    }  # fmt: skip
    os.rename(folder, tmp_path / "gone")
    os.rename(sounds, tmp_path / "gone too")
    monkeypatch.setenv("SEPBENCH_CACHE", str(tmp_path / "there"))
    answer = carry_out(parcel, lambda sent: sent)
    assert answer["said"] == "", answer["said"]
    unpack(answer["folder"], tmp_path / "back" / run.id)
    assert figures(tmp_path / "back") == figures(here / "runs")
    (theirs,) = read_runs(tmp_path / "back")
    assert theirs.provenance["recipe_folder"] == "as/here" and theirs.provenance["recipe_hash"] == ours.provenance["recipe_hash"]
    forget([answer["place"]])
    assert not Path(answer["place"]).exists()
    other = carry_out({**parcel, "code": "0"}, lambda sent: sent)
    assert other["folder"] is None and "another sepbench" in other["said"]


def test_without_a_cluster_it_is_said_how_to_start_one(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("ray", reason=WITHOUT)
    from ray._private.services import find_gcs_addresses

    if find_gcs_addresses():
        pytest.skip("a cluster is running on this machine")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))  # where the address of the last one is remembered
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    line = words(str(repo / "baselines/mixture"), results=tmp_path / "runs")
    code, _, err = call("run", *line, "--cluster", "auto")
    assert code == 2 and "--cluster auto: no cluster was found. Start one with `ray start --head`" in err.splitlines()[-1]


def test_a_run_that_the_object_store_has_no_room_for_is_a_line_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Full(Exception):
        """As Ray raises it."""

    def parcel(*of: object) -> None:
        raise Full("\x1b[36mThe object store\n is full.\x1b[39m")

    task = SimpleNamespace(options=lambda **how: SimpleNamespace(remote=None))
    pool = RayPool.__new__(RayPool)  # which no cluster is asked for
    pool.ray = SimpleNamespace(exceptions=SimpleNamespace(RayError=Full), remote=lambda each: task)
    pool.how, pool.threads, pool.gpus = How({}, tmp_path, "cpu", 1, False), 1, 0.0
    pool._runs, pool._not_sent, pool._locks = {}, deque(), {}
    monkeypatch.setattr(RayPool, "_parcel", parcel)
    run = SimpleNamespace(id="tiny-0", name="seed=0", state="missing", why="")
    pool.submit(run)
    ended, outcome = pool.wait()
    assert ended is run and outcome.folder is None and "Full: The object store is full." in outcome.said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("RAY_ADDRESS", " at 127.0.0.1:9, as RAY_ADDRESS has it (Connection refused)."),
        ("file", ":9, where the last cluster of this machine was (Connection refused)."),
    ],
)
def test_a_cluster_that_has_died_is_told_and_not_waited_for(repo: Path, tmp_path: Path, monkeypatch, where: str, said: str):
    pytest.importorskip("ray", reason=WITHOUT)
    from ray._private.services import find_gcs_addresses

    if where == "RAY_ADDRESS":
        monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    elif find_gcs_addresses():
        pytest.skip("a cluster is running on this machine")
    else:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray/ray_current_cluster").write_text("127.0.0.1:9")
    began_s = time.monotonic()
    code, _, err = call("run", *words(str(repo / "baselines/mixture"), results=tmp_path / "runs"), "--cluster", "auto")
    assert code == 2 and err.startswith("sepbench: --cluster auto: nobody answers at ") and err.count("\n") == 1
    assert f"{said} Start one with `ray start --head`" in err
    assert time.monotonic() - began_s < 20 and not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_what_answers_and_is_no_cluster_is_not_waited_for_long(repo: Path, tmp_path: Path):
    pytest.importorskip("ray", reason=WITHOUT)
    code = "from sepbench import cli, sweep_ray_address; sweep_ray_address.JOIN_S = 3; cli.main(prog_name='sepbench')"
    with socket.create_server(("0.0.0.0", 0)) as silent:
        line = ["run", *words(str(repo / "baselines/mixture"), results=tmp_path / "runs")]
        line += ["--cluster", f"127.0.0.1:{silent.getsockname()[1]}"]
        done = subprocess.run([sys.executable, "-c", code, *line], capture_output=True, text=True, timeout=100)
    assert done.returncode == 2 and "something answers there, but no cluster in 3 s." in done.stderr.splitlines()[-1]


# a cluster of two node processes


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Any]:
    """Two nodes of a core each, with a cache each; the driver is a process of its own."""
    pytest.importorskip("ray", reason=WITHOUT)
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "env_vars": {"SEPBENCH_CACHE": str(tmp_path / "node0")}})
    made.add_node(num_cpus=1, env_vars={"SEPBENCH_CACHE": str(tmp_path / "node1")})
    made.wait_for_nodes()
    yield made
    made.shutdown()


def grid(repo: Path, results: Path, *more: str) -> list[str]:
    sets = [word for each in SMALL for word in ("--set", each)]
    return ["sweep", *words(str(repo / "baselines/mixture_cnn"), results=results), *sets, "--seed", f"0..{N_RUNS - 1}", *more]


def started(line: list[str]) -> tuple[subprocess.Popen, list[str]]:
    """The command in a process, and what it says on stderr, line by line as it comes."""
    code = "from sepbench.cli import main; main(prog_name='sepbench')"
    process = subprocess.Popen([sys.executable, "-c", code, *line], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    said: list[str] = []
    threading.Thread(target=lambda: said.extend(process.stderr), daemon=True).start()  # type: ignore[arg-type]
    return process, said


@pytest.mark.slow
def test_twenty_runs_on_two_nodes_are_the_same_as_in_sequence(repo: Path, tmp_path: Path, cluster: Any):
    began_s = time.monotonic()
    process, said = started(grid(repo, tmp_path / "cluster", "--cluster", cluster.address))
    assert process.wait(3000) == 0, said
    print(f"on two nodes, with sounds to bring and processes to start: {time.monotonic() - began_s:.0f} s")
    assert any("To run: 20, 2 at a time" in line for line in said) and any("Done 20 of 20" in line for line in said)
    assert all((tmp_path / node / "sweeps").is_dir() for node in ("node0", "node1"))  # both have worked
    began_s = time.monotonic()
    code, _, err = call(*grid(repo, tmp_path / "sequence"))
    assert code == 0, err
    print(f"in sequence: {time.monotonic() - began_s:.0f} s")
    ours = figures(tmp_path / "sequence")
    assert len(ours) == N_RUNS and figures(tmp_path / "cluster") == ours


@pytest.mark.slow
def test_a_node_that_dies_in_the_middle_costs_no_run_and_those_tried_again_are_named(repo: Path, tmp_path: Path, cluster: Any):
    process, said = started(grid(repo, tmp_path / "cluster", "--cluster", cluster.address))
    until_s, known = time.monotonic() + 3000, set[Path]()
    while time.monotonic() < until_s and process.poll() is None:
        locks = set((tmp_path / "node1").glob("sweeps/*/*/.lock"))
        if sum(line.startswith("Done") for line in said) >= 4 and locks - known:
            break  # a run has begun there just now
        known |= locks
        time.sleep(0.05)
    assert process.poll() is None, said
    cluster.remove_node(cluster.worker_nodes.copy().pop(), allow_graceful=False)
    assert process.wait(3000) == 0, said
    runs = read_runs(tmp_path / "cluster")
    assert len(runs) == N_RUNS and all(run.state == "finished" for run in runs)
    retried = [line for line in said if line.startswith("retried: ")]
    assert len(retried) == 1 and "2 attempts; node died" in retried[0] and "seed=" in retried[0], said
    plan = call(*grid(repo, tmp_path / "cluster", "--plan"))[1]
    assert f"{N_RUNS} runs: {N_RUNS} cached." in plan
    code, _, err = call(*grid(repo, tmp_path / "sequence"))
    assert code == 0, err
    assert figures(tmp_path / "cluster") == figures(tmp_path / "sequence")  # runs that were tried again have the same rows, too


WAITING = """
import os, pathlib, time

class Tiny:
    def __init__(self, settings, task):
        self.seed = settings.seed

    def fit(self, training):
        here = pathlib.Path(__file__).parent
        (here / f"began-{self.seed}").write_text(f"{time.time()} {os.environ.get('CUDA_VISIBLE_DEVICES')}")
        until_s = time.time() + 300
        while not (here / "go").exists() and time.time() < until_s:
            time.sleep(0.05)
        (here / f"ended-{self.seed}").write_text(str(time.time()))

    def save(self, folder):
        folder.mkdir()

    def load(self, folder):
        pass

    def separate(self, mixtures):
        from sepbench.scene import Estimate
        return [Estimate(each.audio[:1]) for each in mixtures]
"""


def waiting_recipe(folder: Path) -> Path:
    """A recipe whose runs say when they begin, and end when there is a file `go` beside its code."""
    recipe_that(folder, "pass")
    (folder / "method.py").write_text(WAITING)
    return folder


def begun(recipe: Path, n: int, process: subprocess.Popen, said: list[str]) -> set[str]:
    """The seeds of the runs that have begun, when there are so many."""
    until_s = time.monotonic() + 300
    while len(files := list(recipe.glob("began-*"))) < n:
        assert process.poll() is None and time.monotonic() < until_s, said
        time.sleep(0.05)
    return {file.name.split("-")[1] for file in files}


@pytest.mark.slow
def test_runs_that_a_cluster_has_are_nobody_elses_until_its_sweep_has_ended_however_it_does(tmp_path: Path, cluster: Any):
    recipe, results = waiting_recipe(tmp_path / "tiny"), tmp_path / "runs"
    line = [*words(str(recipe), results=results), "--seed", "0..2"]
    sweep = ["sweep", *line, "--cluster", cluster.address]
    process, said = started(sweep)
    begun(recipe, 2, process, said)  # the third waits for a core
    for seed in range(3):
        code, _, err = call("run", *line[:-1], str(seed))
        assert code == 2 and f"process {process.pid} is writing this run. Wait for it to end, or stop it" in err.splitlines()[-1]
    assert set(states(call("sweep", *line, "--plan")[1]).values()) == {"running: by another process"}
    assert read_runs(results) == []
    second, words_of_second = started(sweep)
    assert second.wait(200) == 2 and "3 of 3 runs failed" in words_of_second[-1]
    assert sum(f"process {process.pid} is writing this run" in each for each in words_of_second) == 3

    process.send_signal(signal.SIGINT)
    began_s = time.monotonic()
    assert process.wait(60) == 130 and "the same command goes on" in said[-1]
    print(f"Ctrl-C: {time.monotonic() - began_s:.1f} s")
    assert time.monotonic() - began_s < 15 and list(results.iterdir()) == []

    for file in recipe.glob("began-*"):
        file.unlink()
    process, said = started(sweep)
    begun(recipe, 2, process, said)
    process.kill()
    process.wait()
    assert set(states(call("sweep", *line, "--plan")[1]).values()) == {"missing"}
    (recipe / "go").touch()
    process, said = started(sweep)
    assert process.wait(400) == 0, said
    assert sorted(run.config["seed"] for run in read_runs(results) if run.state == "finished") == [0, 1, 2]
    assert len(list(results.iterdir())) == 3 and not list(results.rglob(".*"))


@pytest.mark.slow
def test_runs_have_gpus_of_their_own_and_there_are_no_more_at_a_time_than_asked_for(tmp_path: Path):
    pytest.importorskip("ray", reason=WITHOUT)
    import torch
    from ray.cluster_utils import Cluster

    if torch.cuda.is_available():
        pytest.skip("counts GPUs that are not there")
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 2})
    try:
        recipe = waiting_recipe(tmp_path / "tiny")
        line = ["sweep", *words(str(recipe), results=tmp_path / "runs"), "--device", "auto", "--cluster", made.address]
        process, said = started([*line, "--seed", "0,1"])
        assert begun(recipe, 2, process, said) == {"0", "1"}
        (recipe / "go").touch()
        assert process.wait(200) == 0 and any("To run: 2, 2 at a time" in each for each in said), said
        assert {(recipe / f"began-{seed}").read_text().split()[1] for seed in "01"} == {"0", "1"}
        for more, gpus in (["--seed", "2,3", "--gpus-per-run", "2"], "0,1"), (["--seed", "4,5", "-j", "1"], "0"):
            process, said = started([*line, *more])
            assert process.wait(200) == 0 and any("To run: 2; " in each for each in said), said
            one, other = more[1].split(",")
            began, seen = zip(*((recipe / f"began-{seed}").read_text().split() for seed in (one, other)))
            ended = [(recipe / f"ended-{seed}").read_text() for seed in (one, other)]
            assert float(ended[0]) < float(began[1]) or float(ended[1]) < float(began[0])
            assert set(seen) == {gpus}
        process, said = started([*line, "--seed", "6", "--gpus-per-run", "3"])
        until_s = time.monotonic() + 100
        while not any("No node of the cluster has 1 cores and 3 GPUs: runs wait until one comes." in each for each in said):
            assert process.poll() is None and time.monotonic() < until_s, said
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        made.shutdown()


@pytest.mark.slow
def test_a_cluster_of_this_machine_alone_does_a_grid_and_a_search_as_one_process_does(tmp_path: Path):
    pytest.importorskip("ray", reason=WITHOUT)
    recipe = recipe_that(tmp_path / "tiny", "pass")
    found = {}
    for name, where in ("local", ["--cluster", "local", "-j", "2"]), ("here", []):
        began_s = time.monotonic()
        process, said = started(["sweep", *words(recipe, results=tmp_path / name / "runs"), "--seed", "0..2", *where])
        assert process.wait(300) == 0, said
        print(f"{name}: {time.monotonic() - began_s:.0f} s")
        assert not where or any("To run: 3, 2 at a time" in each for each in said), said
        found[name] = figures(tmp_path / name / "runs")
    assert found["local"] == found["here"] and len(found["here"]) == 3


@pytest.mark.slow
def test_a_search_on_a_cluster_tries_what_one_process_tries(tmp_path: Path, cluster: Any):
    pytest.importorskip("optuna", reason='pip install "sepbench[search]"')
    found = {}
    for name, where in ("cluster", ["--cluster", cluster.address]), ("here", []):
        results = tmp_path / name / "runs"
        line = ["sweep", *words(recipe_in(tmp_path / name / "tiny"), results=results), *ENOUGH, "--metric", "snr"]
        process, said = started([*line, "--search", "random", "--trials", "4", *where])
        assert process.wait(300) == 0, said
        found[name] = trials_in(results)
    assert found["cluster"] == found["here"] and len(found["here"]) == 4


@contextmanager
def headed(**env: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """A cluster of one node as `ray start` makes it: its process, and where it is."""
    pytest.importorskip("ray", reason=WITHOUT)
    own = Path(tempfile.mkdtemp(prefix="sep-"))  # short: sockets lie in it
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    head = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--head", "--block", "--num-cpus", "1",
            "--port", str(port), "--temp-dir", str(own), "--include-dashboard", "false", "--disable-usage-stats"]  # fmt: skip
    log = own / "printed.txt"
    with log.open("w") as out:
        cluster = subprocess.Popen(head, env={**os.environ, **env}, stdout=out, stderr=out, start_new_session=True)
    try:
        until_s = time.monotonic() + 120
        while "Ray runtime started" not in log.read_text():
            assert time.monotonic() < until_s and cluster.poll() is None, log.read_text()
            time.sleep(0.1)
        yield cluster, f"127.0.0.1:{port}"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(cluster.pid, signal.SIGKILL)
        cluster.wait(60)
        shutil.rmtree(own, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["disabled", "token"])
def test_a_token_is_shown_to_a_cluster_that_asks_for_it_and_to_no_other(mode: str):
    ours = {**os.environ, "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}
    ours.pop("RAY_AUTH_MODE", None)
    with headed(RAY_AUTH_TOKEN=ours["RAY_AUTH_TOKEN"], RAY_AUTH_MODE=mode) as (_, address):
        prepare(address, ours)
    assert ours.get("RAY_AUTH_MODE") == {"disabled": None, "token": "token"}[mode]


@pytest.mark.slow
def test_a_cluster_whose_head_dies_ends_in_a_line_and_the_same_command_goes_on(repo: Path, tmp_path: Path):
    with headed(RAY_AUTH_MODE="disabled", SEPBENCH_CACHE=str(tmp_path / "node")) as (cluster, address):
        process, said = started(grid(repo, tmp_path / "runs", "--cluster", address))
        until_s = time.monotonic() + 300
        while not any(line.startswith("Done 2 of") for line in said):
            assert time.monotonic() < until_s and process.poll() is None, said
            time.sleep(0.1)
        os.killpg(cluster.pid, signal.SIGKILL)
        began_s = time.monotonic()
        assert process.wait(120) == 2 and time.monotonic() - began_s < 55, said  # before Ray's own minute
    assert said[-1] == (f"sepbench: --cluster {address}: its head no longer answers. What has come back is kept, and the same "
                        "command goes on with the rest.\n")  # fmt: skip
    plan = call(*grid(repo, tmp_path / "runs", "--plan"))[1]
    n_there = sum(run.state == "finished" for run in read_runs(tmp_path / "runs"))
    assert 2 <= n_there < N_RUNS and f"{N_RUNS} runs: {n_there} cached, {N_RUNS - n_there} missing." in plan
