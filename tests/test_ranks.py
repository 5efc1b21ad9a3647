"""Training on several devices: the same scenes, the same gradients, one who writes, and all stop together."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import sepbench.run
from sepbench import network
from sepbench.errors import UserError
from sepbench.labels import Events
from sepbench.method import Batch, batch_share
from sepbench.network import interface_to
from sepbench.recipe import load_recipe
from sepbench.results import read_runs
from sepbench.run import Spread, run_one
from sepbench.run_ranks import place_of
from sepbench.tables_notes import standing_notes
from sepbench.tasks.task import build_task
from small_recipe import STAGE, small_recipe, small_world
from test_run import Watched


@dataclass(frozen=True)
class World:
    recipe: Path
    sounds: Path

    def go(self, results: Path, progress=None, spread=Spread(), sets=(), **options) -> Path:  # noqa: B008
        recipe = load_recipe(self.recipe)
        config, values = recipe.resolve("quick", options, sets, corpus="class_folders")
        data = {"class_folders": str(self.sounds)}
        return run_one(config, values, recipe, data, results, False, "cpu", progress or Watched(), spread)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEPBENCH_CACHE", str(root / "cache"))
        patch.setattr(sepbench.run, "CHUNK", 3)
        yield World(*small_world(root))


@pytest.fixture(scope="module")
def alone(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[str]]]:
    """A run of one process, and the scenes of each of its steps."""
    root = tmp_path_factory.mktemp("alone")
    run = world.go(root / "runs", told=str(root))
    return run, told(root)[0]


@pytest.fixture(scope="module")
def pair(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[list[str]]], Watched]:
    """A run of two ranks, and the scenes of each one's steps."""
    root, progress = tmp_path_factory.mktemp("pair"), Watched()
    run = world.go(root / "runs", progress, Spread(devices=2), told=str(root))
    return run, told(root), progress


def told(folder: Path) -> list[list[list[str]]]:
    """By process, by step: the stage, then the scenes that it has learnt from."""
    return [[line.split() for line in file.read_text().splitlines()] for file in sorted(folder.glob("*.txt"))]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "weights" / "small.safetensors")


def test_two_ranks_learn_from_the_scenes_that_one_learns_from_step_by_step(alone, pair):
    steps = alone[1]
    assert len(steps) == 2 * STAGE["epochs"] * STAGE["steps"] and {len(step) for step in steps} == {1 + STAGE["batch"]}
    assert len(pair[1]) == 2
    for whole, one, other in zip(steps, *pair[1], strict=True):
        assert whole[0] == one[0] == other[0] and len(one) == len(other) == 1 + STAGE["batch"] // 2
        assert sorted(whole[1:]) == sorted([*one[1:], *other[1:]])


def test_two_ranks_end_with_the_weights_of_one(alone, pair):
    ours, theirs = weights(alone[0]), weights(pair[0])
    moved = ours["used.0.weight"] - load_recipe_start(ours)
    assert moved.abs().max() > 0.01  # it has learnt something
    for name, value in ours.items():
        assert torch.allclose(value, theirs[name], atol=1e-5), name


def load_recipe_start(like: dict[str, torch.Tensor]) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.nn.Linear(160, like["used.0.weight"].shape[0]).weight.detach()


def test_a_run_says_how_many_trained_and_what_they_shared(alone, pair):
    (run,) = read_runs(pair[0].parent)
    assert run.provenance["ranks"] == {"devices": 2, "nodes": 1}
    told = {"ranks": 2, "nodes": 1, "epochs_together": STAGE["epochs"], "batch": STAGE["batch"]}
    assert all(told.items() <= run.cost[stage].items() for stage in ("first", "second"))
    (other,) = read_runs(alone[0].parent)
    assert "ranks" not in other.provenance and "ranks" not in other.cost["first"]
    assert run.cost["training_scenes"] == other.cost["training_scenes"] == 48
    (note,) = [line for line in standing_notes([run, other], "test", False) if line.startswith("Trained on several")]
    assert "by 2 x 1 (devices x nodes), batches of 4 scenes in all" in note and note.count("Small") == 1
    figures = [each.metrics["test"]["si_sdri"]["all"]["mean"] for each in (run, other)]
    assert figures[0] == pytest.approx(figures[1], abs=1e-3)


def test_one_rank_writes_and_leaves_what_one_process_leaves(alone, pair):
    assert {each.name for each in pair[0].iterdir()} == {each.name for each in alone[0].iterdir()}
    assert pair[2].bars.count("training first") == 1


def test_a_run_goes_on_with_another_number_of_ranks(world: World, alone, tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        world.go(tmp_path, Watched("training second", 4), told="")
    run = world.go(tmp_path, spread=Spread(devices=2), told="")
    assert len(json.loads((run / "run.json").read_text())["resumed"]) == 1
    for name, value in weights(alone[0]).items():
        assert torch.allclose(value, weights(run)[name], atol=1e-5), name


def test_ranks_stop_together_where_the_time_is_up(world: World, tmp_path: Path):
    recipe = load_recipe(world.recipe)
    config, values = recipe.resolve("quick", {}, ["train.first.steps=5", "train.second.steps=5"], corpus="class_folders")
    config["budget"] = {"minutes": 0.05}
    data = {"class_folders": str(world.sounds)}
    run = run_one(config, values, recipe, data, tmp_path, False, "cpu", Watched(), Spread(devices=2))
    (record,) = read_runs(run.parent)
    assert record.state == "finished" and record.cost["first"]["steps"] >= 1


def test_ctrl_c_stops_all_ranks_and_the_run_goes_on(world: World, tmp_path: Path, alone):
    with pytest.raises(KeyboardInterrupt):
        world.go(tmp_path, Watched("training second", 4), Spread(devices=2))
    run = world.go(tmp_path)
    for name, value in weights(alone[0]).items():
        assert torch.allclose(value, weights(run)[name], atol=1e-5), name


def test_a_run_does_not_forget_that_several_began_it(world: World, tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        world.go(tmp_path, Watched("training second", 4), Spread(devices=2), told="")
    run = world.go(tmp_path, told="")
    (record,) = read_runs(tmp_path)
    first, second = record.cost["first"], record.cost["second"]
    assert first["ranks"] == second["ranks"] == 2 and first["epochs_together"] == first["epochs"] == STAGE["epochs"]
    assert 0 < second["epochs_together"] < second["epochs"]
    n = first["epochs"] + second["epochs_together"]
    (note,) = [line for line in standing_notes([record], "test", False) if line.startswith("Trained on several")]
    assert f"batches of 4 scenes in all, {n} of {2 * STAGE['epochs']} epochs." in note
    with (run / "history-second.csv").open() as lines:
        assert [row["ranks"] for row in csv.DictReader(lines)].count("2.0") == second["epochs_together"]


def test_a_loss_that_is_no_number_on_another_rank_stops_all_of_them(world: World, tmp_path: Path):
    folder = small_recipe(tmp_path)
    loss, method = "100 * error.square().mean()", (folder / "method.py").read_text()
    assert method.count(loss) == 1
    there = f'(float("nan") if name == "second" and here().rank == 1 and torch.is_grad_enabled() else 1) * {loss}'
    (folder / "method.py").write_text("from sepbench.ranks import here\n" + method.replace(loss, there))
    with pytest.raises(UserError, match="Training second: the loss is not finite on rank 1 at step 0, on batch 0, ") as error:
        replace(world, recipe=folder).go(tmp_path / "runs", spread=Spread(devices=2))
    assert "\n" not in str(error.value) and "Lower the learning rate" in str(error.value)
    (run,) = (tmp_path / "runs").iterdir()
    assert json.loads((run / "run.json").read_text())["state"] != "finished"
    assert (run / "checkpoints" / "first" / "best.safetensors").is_file()


def test_a_batch_that_ranks_cannot_share_is_told(world: World, tmp_path: Path):
    with pytest.raises(UserError, match="train.first.batch is 4, which 3 ranks cannot share equally") as error:
        world.go(tmp_path, spread=Spread(devices=3))
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_what_no_loop_trains_is_trained_by_one_process_and_said(repo: Path, world: World, tmp_path: Path):
    recipe, progress = load_recipe(repo / "baselines" / "mixture"), Watched()
    sets = ["task.classes=[bark, horn, siren]", "task.sample_rate_hz=8000", "task.seconds=0.6", "task.mixing.cut_s=[0.1, 0.4]"]
    sets += ["task.scenes.test=2", "task.scenes.seen=0", "task.splits.by=recording"]
    config, values = recipe.resolve("quick", {}, sets, corpus="class_folders")
    data = {"class_folders": str(world.sounds)}
    run = run_one(config, values, recipe, data, tmp_path, False, "cpu", progress, Spread(devices=2))
    assert progress.said == [f"{recipe.name}: no part of it is trained by sepbench's loop, so one process does it all."]
    assert read_runs(run.parent)[0].state == "finished"


def started(world: World, results: Path, told: Path, *before: str, more: Sequence[str] = (), **env: str) -> subprocess.Popen:
    args = ["sweep" if "sweep" in more else "run", str(world.recipe), "--results", str(results)]
    args += ["--data", f"class_folders={world.sounds}"]
    args += ["--corpus", "class_folders", "--device", "cpu", "--threads", "1", "--told", str(told)]
    code = "from sepbench.cli import main; main()"
    begin = [*before, sys.executable, "-c", code, *args, *(["--nodes", "2"] if env else []),
             *(word for word in more if word != "sweep")]  # fmt: skip
    return subprocess.Popen(begin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **env})


def check_pair(processes: list[subprocess.Popen], alone, results: Path, told_in: Path) -> list[str]:
    said = [process.communicate(timeout=550) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), said
    (run,) = results.iterdir()
    for name, value in weights(alone[0]).items():
        assert torch.allclose(value, weights(run)[name], atol=1e-5), name
    for whole, one, other in zip(alone[1], *told(told_in), strict=True):
        assert sorted(whole[1:]) == sorted([*one[1:], *other[1:]])
    assert read_runs(results)[0].cost["first"]["ranks"] == 2
    return [out for out, _ in said]


@pytest.mark.slow
def test_two_nodes_train_one_run_and_the_first_one_speaks(world: World, alone, tmp_path: Path):
    (tmp_path / "told").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    env = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    nodes = [started(world, tmp_path / "runs", tmp_path / "told", NODE_RANK=str(node), **env) for node in (0, 1)]
    outs = check_pair(nodes, alone, tmp_path / "runs", tmp_path / "told")
    assert "Small" in outs[0] and outs[1] == ""
    (record,) = read_runs(tmp_path / "runs")
    assert record.provenance["ranks"] == {"devices": 1, "nodes": 2} and record.cost["first"]["nodes"] == 2


@pytest.mark.slow
def test_two_nodes_train_a_grid_run_by_run(world: World, tmp_path: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        env = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    grid = ["--seed", "0..2"]
    nodes = [started(world, tmp_path / "pair", tmp_path, more=grid, NODE_RANK=str(node), **env) for node in (0, 1)]
    said = [node.communicate(timeout=550) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0] and said[1][0] == "", said
    assert [line for line in said[1][1].splitlines() if not line.startswith(("Waiting", str(world.recipe)))] == [], said[1][1]
    for seed in range(3):
        recipe = load_recipe(world.recipe)
        config, values = recipe.resolve("quick", {}, (), corpus="class_folders", seed=seed)
        data = {"class_folders": str(world.sounds)}
        run_one(config, values, recipe, data, tmp_path / "alone", False, "cpu", Watched())
    ours_theirs = [sorted(read_runs(tmp_path / each), key=lambda run: run.config["seed"]) for each in ("alone", "pair")]
    for ours, theirs in zip(*ours_theirs, strict=True):
        assert theirs.config["seed"] == ours.config["seed"] and theirs.cost["second"]["ranks"] == 2
        assert all(torch.allclose(value, weights(theirs.path)[name], atol=1e-5) for name, value in weights(ours.path).items())


def two_nodes(world: World, results: Path, told: Path, *more: str) -> list[subprocess.Popen]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        env = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    return [started(world, results, told, more=more, NODE_RANK=str(node), **env) for node in (0, 1)]


def lines(said: str, world: World) -> list[str]:
    """What stands on stderr, without what is no complaint."""
    quiet = ("Waiting", str(world.recipe), "training", "scoring", "decoding", "[")
    return [line for line in said.splitlines() if line.strip() and not line.startswith(quiet)]


def that_fails(world: World, root: Path, training: int, scoring: int) -> World:
    """A recipe whose loss is NaN with the one seed, and which cannot answer with the other."""
    folder = small_recipe(root)
    loss, answer, method = "100 * error.square()", "audio = torch.stack", (folder / "method.py").read_text()
    assert method.count(loss) == method.count(answer) == 1
    method = method.replace(loss, f"(float('nan') if self.settings.seed == {training} else 1) * {loss}")
    method = method.replace(answer, f"1 / (self.settings.seed != {scoring}); {answer}")
    (folder / "method.py").write_text(method)
    return replace(world, recipe=folder)


@pytest.mark.slow
def test_a_sweep_of_two_nodes_goes_on_behind_runs_that_fail(world: World, tmp_path: Path):
    nodes = two_nodes(that_fails(world, tmp_path, 0, 1), tmp_path / "runs", tmp_path, "--seed", "0..2", "sweep")
    said = [node.communicate(timeout=300) for node in nodes]
    assert [run.config["seed"] for run in read_runs(tmp_path / "runs") if run.state == "finished"] == [2], said
    assert nodes[0].returncode == 2 and "2 of 3 runs failed" in said[0][1] and "ZeroDivisionError" in said[0][1], said[0][1]
    assert nodes[1].returncode == 2 and "1 of 3 runs failed" in said[1][1], said[1][1]


@pytest.mark.slow
def test_nobody_waits_for_a_first_rank_that_has_failed_alone(world: World, tmp_path: Path):
    nodes = two_nodes(that_fails(world, tmp_path, 9, 0), tmp_path / "runs", tmp_path, "--seed", "0,1")
    said = [node.communicate(timeout=300) for node in nodes]
    assert nodes[0].returncode != 0 and "ZeroDivisionError" in said[0][1], said[0]
    assert nodes[1].returncode == 2 and "The first rank has ended. See what it said there" in said[1][1], said[1]


@pytest.mark.slow
def test_a_node_that_is_killed_ends_the_other_with_a_line(world: World, tmp_path: Path):
    (tmp_path / "told").mkdir()
    steps = ("--set", "train.first.steps=3000")
    nodes = two_nodes(world, tmp_path / "runs", tmp_path / "told", *steps)
    until_s = time.monotonic() + 120
    while len(told(tmp_path / "told")) < 2 or min(map(len, told(tmp_path / "told"))) < 20:
        assert time.monotonic() < until_s and all(node.poll() is None for node in nodes)
        time.sleep(0.1)
    nodes[1].kill()
    _, said = nodes[0].communicate(timeout=100)
    nodes[1].communicate()
    assert nodes[0].returncode == 2, said
    (line,) = lines(said, world)
    assert line.startswith("sepbench: Small: a rank of another node has ended (") and "goes on where the run stopped." in line


def test_a_node_that_waits_for_the_first_one_says_so_once_and_can_be_stopped(world: World, tmp_path: Path):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        port = str(nobody.getsockname()[1])
        process = started(world, tmp_path / "runs", tmp_path, NODE_RANK="1", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        assert process.stderr is not None
        said = next(line for line in process.stderr if line.startswith("Waiting"))
        time.sleep(4)  # twice as long as one knock
        process.send_signal(signal.SIGINT)
        out, rest = process.communicate(timeout=60)
    assert said == f"Waiting for the first rank at 127.0.0.1:{port} (Connection refused)\n"
    assert (process.returncode, out, rest) == (130, "", "\nsepbench: stopped; the same command goes on where it stopped.\n")


@pytest.mark.slow
def test_torchrun_starts_ranks_that_find_each_other(world: World, alone, tmp_path: Path):
    (tmp_path / "told").mkdir()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "--no-python"]
    process = started(world, tmp_path / "runs", tmp_path / "told", *torchrun)
    (out,) = check_pair([process], alone, tmp_path / "runs", tmp_path / "told")
    assert out.count("Small") >= 1


LEARNING = ["recipes/weak_label", "recipes/sepclsnet", "recipes/itdcnpp", "recipes/redux", "baselines/mixture_cnn",
            "baselines/conv_tasnet"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNING)
def test_no_recipe_has_to_know_of_ranks(repo: Path, tmp_path: Path, monkeypatch, name: str):
    """Two ranks take each of them through all of its stages, and close to where one process takes it."""
    recipe, losses = load_recipe(repo / name).on("common"), []
    options = {"loss": "thresholded"} if recipe.folder.name == "itdcnpp" else {}
    short = ["task.scenes.valid=8", "task.scenes.test=2", "task.scenes.seen=0", "task.seconds=1.0"]
    short += ["task.mixing.cut_s=[0.5, 1.0]"]
    config, values = recipe.resolve("quick", options, short)
    stages = {key: each for key, each in config["train"].items() if isinstance(each, dict)}
    for stage in stages.values():
        stage |= {"epochs": 1, "steps": 4, "batch": 4, "valid_batches": 2, "warmup": 0}
    for devices in (1, 2):
        monkeypatch.setenv("SEPBENCH_CACHE", str(tmp_path / f"cache{devices}"))
        args = (config, values, recipe, {}, tmp_path / f"runs{devices}", False, "cpu", Watched(), Spread(devices=devices))
        (record,) = read_runs(run_one(*args).parent)
        assert record.state == "finished"
        assert {record.cost[key].get("ranks", 1) for key in stages if key in record.cost} == {devices}
        losses.append({key: cost["valid_loss"] for key, cost in record.cost.items() if key in stages and "valid_loss" in cost})
    assert losses[0].keys() == losses[1].keys() and losses[0]
    for stage, loss in losses[0].items():
        assert losses[1][stage] == pytest.approx(loss, rel=0.1, abs=0.3), stage  # BatchNorm of two scenes is not that of four


# shares


def test_the_shares_of_a_batch_are_its_scenes(world: World):
    recipe = load_recipe(world.recipe)
    config, _ = recipe.resolve("quick", {}, corpus="class_folders")
    task = build_task(config["task"], {"class_folders": str(world.sounds)})
    for scenes in (task.isolated("train", 3), task.weak("train", 3, "frame")):
        whole, parts = scenes.batch(5, 6), [scenes.share(5, 6, rank, 3) for rank in range(3)]
        assert torch.equal(whole.mixture, torch.cat([each.mixture for each in parts]))
        assert np.array_equal(whole.events.presence(), np.concatenate([each.events.presence() for each in parts]))
        if isinstance(whole, Batch):
            assert torch.equal(whole.sources, torch.cat([each.sources for each in parts]))


def test_a_batch_that_is_mixed_whole_is_dealt_out_in_turns():
    events = Events(np.array([0, 1, 1, 3]), np.array([2, 0, 1, 2]), np.arange(4.0), np.arange(4.0) + 1, 4, 3)
    batch = Batch(torch.arange(8.0).reshape(4, 2), events, torch.arange(16.0).reshape(4, 2, 2), np.arange(8).reshape(4, 2))
    parts = [batch_share(batch, rank, 2) for rank in range(2)]
    assert parts[0].mixture.tolist() == [[0, 1], [4, 5]] and parts[1].labels.tolist() == [[2, 3], [6, 7]]
    for rank, part in enumerate(parts):
        assert np.array_equal(part.events.presence(), events.presence()[rank::2])
        assert np.array_equal(part.events.activity(5, 1.0, 0.0), events.activity(5, 1.0, 0.0)[rank::2])


# who is who


def test_alone_is_the_first_of_one():
    place = place_of(1, 1, {})
    assert (place.ranks.n, place.ranks.rank, place.ranks.leads) == (1, 0, True)


def test_on_nodes_each_command_starts_the_ranks_of_its_own():
    env = {"MASTER_ADDR": "first", "MASTER_PORT": "2900", "NODE_RANK": "1"}
    place = place_of(4, 2, env)
    assert (place.ranks.n, place.ranks.rank, place.ranks.nodes, place.starts) == (8, 4, 2, True)
    assert (place.address, place.port, place.ranks.leads) == ("first", 2900, False)
    with pytest.raises(UserError, match="NODE_RANK not set"):
        place_of(4, 2, {"MASTER_ADDR": "first", "MASTER_PORT": "2900"})
    with pytest.raises(UserError, match="wanted NODE_RANK from 0 to 1"):
        place_of(4, 2, {**env, "NODE_RANK": "2"})
    for name, given in {"MASTER_PORT": "abc", "NODE_RANK": "x"}.items():
        with pytest.raises(UserError, match=f"{name}={given}: wanted a whole number"):
            place_of(4, 2, {**env, name: given})
    for port in ("0", "99999", "-1"):
        with pytest.raises(UserError, match=f"MASTER_PORT={port}: wanted a whole number from 1 to 65535"):
            place_of(4, 2, {**env, "MASTER_PORT": port})
    with pytest.raises(UserError, match="SLURM_NODELIST not set"):
        place_of(4, 2, {"SLURM_NTASKS": "2", "SLURM_PROCID": "0"})


def test_torchrun_has_started_every_rank():
    env = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "RANK": "5", "LOCAL_RANK": "1",
           "MASTER_ADDR": "first", "MASTER_PORT": "29500", "TORCHELASTIC_USE_AGENT_STORE": "True"}  # fmt: skip
    place = place_of(1, 1, env)
    assert (place.ranks.n, place.ranks.rank, place.ranks.local, place.ranks.nodes) == (8, 5, 1, 2)
    assert not place.starts and not place.hosts
    with pytest.raises(UserError, match="torchrun has started 8"):
        place_of(2, 2, env)


@pytest.mark.parametrize(
    ("tasks", "rank", "local", "starts"), [(("8", "5", "1"), 5, 1, False), (("2", "1", "0"), 4, 0, True)]
)
def test_slurm_has_started_every_rank_or_one_on_each_node(tasks, rank, local, starts):
    env = dict(zip(("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID"), tasks))
    place = place_of(4, 2, {**env, "SLURM_NODELIST": "node[03-05,9],other", "SLURM_JOB_ID": "1234567"})
    assert (place.ranks.n, place.ranks.rank, place.ranks.local, place.starts) == (8, rank, local, starts)
    assert (place.address, place.port) == ("node03", 15_000 + 4567)


# networks


def test_ranks_meet_by_the_network_that_leads_to_the_first_one(monkeypatch: pytest.MonkeyPatch):
    assert interface_to("127.0.0.1") == interface_to("localhost") in ("lo", "lo0")
    assert interface_to("no.such.host.invalid") is None
    held = {"lo": ["127.0.0.1"], "wlan0": ["10.1.0.5"], "eth0": ["10.2.0.7", "fe80::1%eth0"]}
    addresses = {name: [SimpleNamespace(address=each) for each in own] for name, own in held.items()}
    monkeypatch.setattr(network.psutil, "net_if_addrs", lambda: addresses)
    own = {"10.2.0.9": "10.2.0.7", "by-wlan": "10.1.0.5", "v6": "fe80::1",
           "my-own-name": "127.0.1.1", network.ELSEWHERE: "10.1.0.5"}  # fmt: skip
    monkeypatch.setattr(network, "_own_address", lambda address: ip_address(own[address]))
    assert interface_to("10.2.0.9") == "eth0" and interface_to("by-wlan") == "wlan0" and interface_to("v6") == "eth0"
    assert interface_to("my-own-name") == "wlan0"  # what /etc/hosts says of it is of use here alone
