"""What goes wrong in the middle of a run: one line each time, nothing half-written, and the same command goes on."""

from __future__ import annotations

import fcntl
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import sepbench.run
from made_fuss import make_fuss
from sepbench.errors import UserError
from sepbench.recipe import load_recipe
from sepbench.results import read_runs
from sepbench.run import Spread, run_one
from sepbench.storage import FolderLock
from test_ranks import World, alone, weights, world  # noqa: F401
from test_run import Watched
from test_training import Line, history, loss_of, new_network, same_weights, trained

# a figure that is none


class Poisoned(Line):
    """The second scene of batch `at` is no number."""

    def __init__(self, stream: int, at: int):
        super().__init__(stream)
        self.at = at

    def batch(self, index: int, size: int):
        batch = super().batch(index, size)
        mixture = batch.mixture.clone()
        if index == self.at:
            mixture[1, 3] = float("nan")
        return replace(batch, mixture=mixture)


def test_a_scene_that_is_no_number_is_named_and_the_last_whole_epoch_stays(tmp_path: Path):
    whole, again = new_network(), new_network()
    trained(tmp_path / "whole", whole)
    with pytest.raises(UserError) as error:
        trained(tmp_path / "poisoned", new_network(), Poisoned(0, at=7))
    said = str(error.value)
    assert "\n" not in said and said.startswith("Training tiny: the loss is nan at step 7, on batch 7, scenes 14 to 15.")
    assert "Of these, 15 hold samples that are no numbers" in said
    trained(tmp_path / "poisoned", again)  # mended, it goes on from the epoch before
    assert same_weights(whole, again) and history(tmp_path / "poisoned") == history(tmp_path / "whole")


def test_a_validation_that_is_no_number_keeps_no_weights(tmp_path: Path):
    whole, again = new_network(), new_network()
    trained(tmp_path / "whole", whole)

    class Later(Poisoned):
        def batch(self, index: int, size: int):
            self.at = 1 if len(self.asked) >= 4 else -1
            return super().batch(index, size)

    with pytest.raises(UserError, match="Training tiny: the validation loss is nan after step 9") as error:
        trained(tmp_path / "poisoned", new_network(), valid=Later(1, -1))
    assert "\n" not in str(error.value)
    trained(tmp_path / "poisoned", again)
    assert same_weights(whole, again)


def test_an_absurd_learning_rate_is_told_with_stage_step_and_scenes(world: World, tmp_path: Path):  # noqa: F811
    with pytest.raises(UserError) as error:
        world.go(tmp_path, sets=["train.second.lr=1.0e+30"])
    said = str(error.value)
    assert said.startswith("Training second: the") and "train.second.lr=" in said and "\n" not in said
    (stopped,) = tmp_path.iterdir()
    assert (stopped / "checkpoints" / "first" / "best.safetensors").is_file()


def test_another_run_begins_with_the_last_whole_epoch(world: World, tmp_path: Path):  # noqa: F811
    """As after a loss that is no number, at a lower rate."""
    with pytest.raises(KeyboardInterrupt):
        world.go(tmp_path, Watched("training second", 4))
    (stopped,) = tmp_path.iterdir()
    recipe, progress = load_recipe(world.recipe), Watched()
    config, values = recipe.resolve("quick", {}, ["train.second.lr=0.001"], corpus="class_folders")
    config["begun_with"] = {"run": str(stopped)}
    run = run_one(config, values, recipe, {"class_folders": str(world.sounds)}, tmp_path, False, "cpu", progress)
    assert "training first" not in progress.bars and run != stopped and "begun_with" in run.name
    rows = (run / "history-second.csv").read_text().splitlines()[1:]
    assert [float(row.split(",")[2]) for row in rows] == pytest.approx([0.01, 0.001])
    assert (stopped / "checkpoints").is_dir() and read_runs(run)[0].cost["training_scenes"] == 48
    config["begun_with"] = {"run": str(run)}
    with pytest.raises(UserError, match="holds no checkpoints"):
        run_one(config, values, recipe, {"class_folders": str(world.sounds)}, tmp_path, False, "cpu", progress)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("train.second.epochs=1", "last.ckpt has 2 epochs behind it, and train.second.epochs is 1. Give 2 or more"),
        ("sizes.hidden=9", "last.ckpt is of another network: its used.0.bias is [8], wanted [9]"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_one_line_and_leaves_no_folder(
    world: World, tmp_path: Path, setting: str, said: str  # noqa: F811
):
    sets = ["train.second.epochs=3"]
    with pytest.raises(KeyboardInterrupt):
        world.go(tmp_path, Watched("training second", 7), sets=sets)
    (stopped,) = tmp_path.iterdir()
    recipe = load_recipe(world.recipe)
    if setting.startswith("sizes"):  # of the stage under way, and not of the one that is through
        shutil.rmtree(stopped / "checkpoints" / "first")
        (stopped / "checkpoints" / "second").rename(stopped / "checkpoints" / "first")
        for name in ("summary.json", "best.safetensors"):
            (stopped / "checkpoints" / "first" / name).unlink(missing_ok=True)
    config, values = recipe.resolve("quick", {}, [setting], corpus="class_folders")
    config["begun_with"] = {"run": str(stopped)}
    with pytest.raises(UserError) as error:
        run_one(config, values, recipe, {"class_folders": str(world.sounds)}, tmp_path, False, "cpu", Watched())
    assert said in str(error.value) and "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == [stopped]


@pytest.mark.parametrize(
    "damage", [b"\xff\x00\x9c\x81", b"epoch,loss\n1,abc", b"epoch,loss\n1,2", b"", b"noise", b"epoch\n0,1,2\n"]
)
def test_a_damaged_history_is_one_line_and_without_its_folder_the_stage_begins_anew(tmp_path: Path, damage: bytes):
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, new_network(), Line(0, 6))
    file = tmp_path / "tiny" / "history.csv"
    file.write_bytes(damage)
    with pytest.raises(UserError) as error:
        trained(tmp_path, new_network())
    assert str(error.value).startswith(f"{file}: is damaged") and "remove its folder" in str(error.value)
    shutil.rmtree(file.parent)
    assert trained(tmp_path, new_network())["epochs"] == 4


def test_an_epoch_is_said_to_be_kept_only_where_one_was_through(tmp_path: Path):
    for at, kept in ((1, False), (4, True)):
        with pytest.raises(UserError, match="the loss is nan") as error:
            trained(tmp_path / f"{at}", new_network(), Poisoned(0, at))
        assert ("--begin-with RUN" in str(error.value)) == kept


# memory


@contextmanager
def little_memory(more_bytes: int) -> Iterator[None]:
    """No more than this beside what the process has."""
    has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (has + more_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


linux = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")


@linux
def test_a_batch_too_big_for_the_machine_says_which_setting_to_lower(tmp_path: Path):
    network = new_network()

    def loss(batch):
        wide = batch.mixture.repeat(500_000_000, 1)  # 64 GB
        return {"loss": wide.sum() + loss_of(network)(batch)["loss"]}

    with little_memory(1 << 30), pytest.raises(UserError) as error:
        trained(tmp_path, network, loss=loss)
    assert str(error.value) == (
        "Training tiny: the machine's memory does not suffice. Lower train.tiny.batch, which is 2: --set train.tiny.batch=N."
    )


@linux
def test_mixing_that_runs_out_of_memory_is_told_as_well(tmp_path: Path):
    class Vast(Line):
        def batch(self, index: int, size: int):
            return np.ones((1 << 33, size))

    with little_memory(1 << 30), pytest.raises(UserError, match="Lower train.tiny.batch"):
        trained(tmp_path, new_network(), Vast(0))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_that_is_full_is_told(tmp_path: Path):
    network = new_network()

    def loss(batch):
        return {"loss": torch.empty(1 << 45, device="cuda").sum() + loss_of(network)(batch)["loss"]}

    with pytest.raises(UserError, match="the GPU's memory does not suffice. Lower train.tiny.batch, which is 2"):
        trained(tmp_path, network, loss=loss)


@linux
def test_scoring_that_runs_out_of_memory_says_what_needs_less(world: World, tmp_path: Path, monkeypatch):  # noqa: F811
    judged = sepbench.run.answer

    def hungry(method, scenes, *rest):
        if len(scenes) > 1:
            torch.empty(1 << 36).fill_(1)
        return judged(method, scenes, *rest)

    monkeypatch.setattr(sepbench.run, "answer", hungry)
    with little_memory(2 << 30), pytest.raises(UserError) as error:
        world.go(tmp_path)
    assert "Scoring 3 scenes of 0.6 s together: the machine's memory does not suffice." in str(error.value)
    assert "--score-chunk 1" in str(error.value) and "\n" not in str(error.value)
    assert (world.go(tmp_path, spread=Spread(chunk=1)) / "rows.parquet").is_file()


# disks


class Acting(Watched):
    """Does something at step `at` of the bar `what`, once."""

    def __init__(self, what: str, at: int, act: Callable[[], object]):
        super().__init__()
        self.what, self.when, self.act = what, at, act

    def advance(self, n: int = 1, **facts: object) -> None:
        super().advance(n, **facts)
        if self.bars[-1] == self.what and n and self.done >= self.when and self.act:
            act, self.act = self.act, None
            act()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


def fill(disk: Path) -> None:
    with open(disk / "filler", "wb", buffering=0) as file:
        for size in (1 << 16, 1 << 10, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue


@pytest.mark.parametrize(("what", "at"), [("training second", 2), ("scoring test", 4), ("scoring test", 10)])
def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(
    world: World, alone, disk: Path, tmp_path: Path, what: str, at: int  # noqa: F811
):
    results = disk / "runs"
    with pytest.raises(UserError, match="no room left for") as error:
        world.go(results, Acting(what, at, lambda: fill(disk)))
    assert "\n" not in str(error.value)
    assert [run.state for run in read_runs(results)] == ["interrupted"]
    (disk / "filler").unlink()
    run = world.go(results)
    for name, value in weights(alone[0]).items():
        assert torch.equal(value, weights(run)[name])
    assert not [path for path in run.rglob("*") if path.name.startswith(".")]
    ours, theirs = (next(iter(read_runs(each.parent))).metrics for each in (run, alone[0]))
    assert ours == theirs


def test_a_folder_that_cannot_be_written_is_one_line(world: World, disk: Path):  # noqa: F811
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for results in (disk, disk / "runs"):
        with pytest.raises(UserError, match="Choose a folder you may write") as error:
            world.go(results)
        assert "\n" not in str(error.value) and "Read-only file system" in str(error.value)


@pytest.mark.parametrize(("what", "at"), [("training second", 2), ("scoring test", 4)])
def test_sounds_that_disappear_in_the_middle_change_no_figure(
    world: World, alone, tmp_path: Path, monkeypatch, what: str, at: int  # noqa: F811
):
    """All is in the cache's files, and those that are open stay until they are closed."""
    cache, sounds = tmp_path / "cache", tmp_path / "sounds"
    shutil.copytree(world.sounds, sounds)
    monkeypatch.setenv("SEPBENCH_CACHE", str(cache))

    def vanish() -> None:
        shutil.rmtree(cache)
        shutil.rmtree(sounds)

    run = replace(world, sounds=sounds).go(tmp_path / "runs", Acting(what, at, vanish))
    for name, value in weights(alone[0]).items():
        assert torch.equal(value, weights(run)[name])
    assert next(iter(read_runs(run.parent))).metrics == next(iter(read_runs(alone[0].parent))).metrics


def test_a_release_whose_files_disappear_while_they_are_scored_is_one_line(repo: Path, tmp_path: Path):
    """Scenes that lie on disk are read as they are needed."""
    release = make_fuss(tmp_path / "fuss")
    recipe = load_recipe(repo / "baselines" / "mixture").on("fuss")
    config, values = recipe.resolve("quick", {}, ["task.scenes.test=9", "task.scenes.valid=3"], data={"fuss": str(release)})
    config["task"]["seconds"] = 1.0
    rest = (config, values, recipe, {"fuss": str(release)}, tmp_path / "runs", False, "cpu")
    away = Acting("scoring test", 3, lambda: release.joinpath("ssdata_reverb").rename(tmp_path / "away"))
    with pytest.raises(UserError, match="cannot be read") as error:
        run_one(*rest, away, Spread(chunk=3))
    assert "\n" not in str(error.value)
    (tmp_path / "away").rename(release / "ssdata_reverb")
    run = run_one(*rest, Watched(), Spread(chunk=3))
    again = run_one(*rest[:4], tmp_path / "whole", *rest[5:], Watched(), Spread(chunk=3))
    assert (run / "rows.parquet").read_bytes() == (again / "rows.parquet").read_bytes()


# two processes, and Ctrl-C


def test_a_lock_says_which_process_has_it_and_on_which_machine(tmp_path: Path):
    lock = FolderLock(tmp_path)
    try:
        with pytest.raises(UserError, match=f"process {os.getpid()} is writing this run"):
            FolderLock(tmp_path)
        assert (tmp_path / ".lock").read_text() == f"{os.getpid()} {socket.gethostname()}\n"
        (tmp_path / ".lock").write_text("4711 another.machine\n")  # as a process there would have written it
        with pytest.raises(UserError, match="process 4711 on another.machine is writing this run"):
            FolderLock(tmp_path)
    finally:
        lock.release()


def test_who_asks_whether_a_folder_is_locked_keeps_nobody_out(tmp_path: Path):
    (tmp_path / ".lock").touch()
    asking = os.open(tmp_path / ".lock", os.O_RDONLY)
    fcntl.flock(asking, fcntl.LOCK_SH)
    over = threading.Timer(0.1, os.close, [asking])
    over.start()
    FolderLock(tmp_path).release()
    over.join()


def command(world: World, results: Path, *more: str) -> subprocess.Popen:  # noqa: F811
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from sepbench.cli import main; main()"
    args = ["run", str(world.recipe), "--results", str(results), "--data", f"class_folders={world.sounds}"]
    args += ["--corpus", "class_folders", "--device", "cpu", "--threads", "1", *more]
    return subprocess.Popen([sys.executable, "-c", code, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(results: Path, pattern: str, process: subprocess.Popen) -> None:
    until_s = time.monotonic() + 500
    while not list(results.glob(pattern)):
        assert process.poll() is None and time.monotonic() < until_s, process.stderr.read()
        time.sleep(0.05)


def children_of(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


LONG = ("--set", "train.second.epochs=10000", "--set", "train.second.patience=10000")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "pattern", "n_children"),
    [
        (LONG, "*/checkpoints/second/last.ckpt", 0),
        ((*LONG, "--devices", "2"), "*/checkpoints/second/last.ckpt", 1),
        (("--set", "task.scenes.test=20000"), "*/partial/*.parquet", 0),
        (("--set", "task.scenes.test=20000", "--score-workers", "2"), "*/partial/*.parquet", 2),
    ],
    ids=["training", "two ranks", "scoring", "two workers"],
)
def test_ctrl_c_stops_within_seconds_with_one_line(world: World, tmp_path: Path, more, pattern: str, n_children: int):  # noqa: F811
    process = command(world, tmp_path, *more)
    try:
        wait_for(tmp_path, pattern, process)
        children = children_of(process.pid)
        began_s = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
        took_s = time.monotonic() - began_s
    finally:
        process.kill()
    assert process.returncode == 130 and len(children) == n_children
    assert said.splitlines()[-1] == "sepbench: stopped; the same command goes on where it stopped."
    assert "Traceback" not in said
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    if os.getloadavg()[0] < (os.cpu_count() or 1):  # else the machine is slow for other reasons
        assert took_s < 5
    assert [run.state for run in read_runs(tmp_path)] == ["interrupted"]
    if pattern.endswith("last.ckpt"):
        assert not list(tmp_path.glob("*/.lock.*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "pattern"),
    [((*LONG, "--devices", "2"), "*/checkpoints/second/last.ckpt"),
     (("--set", "task.scenes.test=20000", "--score-workers", "2"), "*/partial/*.parquet")],
    ids=["two ranks", "two workers"],
)  # fmt: skip
def test_a_run_that_is_killed_takes_its_processes_along(world: World, tmp_path: Path, more, pattern: str):  # noqa: F811
    process = command(world, tmp_path, *more)
    try:
        wait_for(tmp_path, pattern, process)
        children = children_of(process.pid)
    finally:
        process.kill()
    process.wait()
    until_s = time.monotonic() + 60
    while any(Path(f"/proc/{pid}/exe").exists() for pid in children):
        assert time.monotonic() < until_s
        time.sleep(0.1)
    assert children and [run.state for run in read_runs(tmp_path)] == ["interrupted"]


@pytest.mark.slow
def test_a_rank_that_is_killed_ends_the_others_with_a_line(world: World, tmp_path: Path):  # noqa: F811
    process = command(world, tmp_path, *LONG, "--devices", "2")
    try:
        wait_for(tmp_path, "*/checkpoints/second/last.ckpt", process)
        (rank,) = children_of(process.pid)
        os.kill(rank, signal.SIGKILL)
        _, said = process.communicate(timeout=200)
    finally:
        process.kill()
    assert process.returncode == 2
    last = said.splitlines()[-1]
    assert last == "sepbench: Rank 1 of 2 was killed by SIGKILL (out of memory?). The same command goes on where the run stopped."


@pytest.mark.slow
def test_the_second_of_two_commands_is_told_who_is_writing(world: World, tmp_path: Path):  # noqa: F811
    first = command(world, tmp_path, *LONG)
    try:
        wait_for(tmp_path, "*/checkpoints/second/last.ckpt", first)
        recipe = load_recipe(world.recipe)
        config, values = recipe.resolve("quick", {}, list(LONG[1::2]), corpus="class_folders")
        with pytest.raises(UserError, match=f"process {first.pid} is writing this run"):
            run_one(config, values, recipe, {"class_folders": str(world.sounds)}, tmp_path, False, "cpu", Watched())
    finally:
        first.kill()
