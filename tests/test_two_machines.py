"""Two machines that share this one's processors: each has a network, and files, of its own. Needs Linux, root and `ip`."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sepbench.results import read_runs
from small_recipe import small_world
from test_sweep import figures

pytestmark = pytest.mark.slow
SEPBENCH = [sys.executable, "-c", "from sepbench.cli import main; main(prog_name='sepbench')"]
N_RUNS, DDP_PORT, RAY_PORT = 8, 29571, 6391


@dataclass(frozen=True)
class Machine:
    """One of the two: what is started on it, and what runs there."""

    name: str
    address: str
    link: str
    hidden: Sequence[Path]  # folders that are empty here, and its own

    def start(self, words: Sequence[str], log: Path, **env: str) -> subprocess.Popen:
        hide = "".join(f"mount -t tmpfs none {shlex.quote(str(folder))} && " for folder in self.hidden)
        made = "".join(f"mkdir -p {shlex.quote(env[name])} && " for name in ("SEPBENCH_CACHE",) if name in env and self.hidden)
        line = f"{hide}{made}cd / && exec {shlex.join(words)}"
        call = ["ip", "netns", "exec", self.name, "unshare", "--mount", "sh", "-c", line]
        with log.open("w") as out:
            return subprocess.Popen(call, env={**os.environ, **env}, stdout=out, stderr=out, start_new_session=True)

    def processes(self) -> dict[int, str]:
        """What runs there, by its number."""
        pids = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True).stdout.split()
        files = {int(pid): Path(f"/proc/{pid}/cmdline") for pid in pids}
        return {pid: file.read_text(errors="replace").replace("\0", " ") for pid, file in files.items() if file.exists()}

    def unplug(self) -> None:
        """Nothing reaches it any longer, and nobody is told."""
        subprocess.run(["ip", "-n", self.name, "link", "set", self.link, "down"], check=True)

    def end(self) -> None:
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[tuple[Machine, Machine, Path]]:
    """Two machines with a cable between them, and a folder that each has for itself; the test's own is hidden on neither."""
    if not sys.platform.startswith("linux") or os.geteuid() or shutil.which("ip") is None:
        pytest.skip("networks of their own want Linux, root and `ip`")
    own = Path(tempfile.mkdtemp(prefix="sep-"))  # short: sockets lie in it
    tag = f"{os.getpid() % 100_000}"
    names, links = [f"sepbench{tag}{side}" for side in "ab"], [f"sb{tag}{side}" for side in "ab"]
    pair = [Machine(names[i], f"10.77.{int(tag) % 250}.{i + 1}", links[i], [[], [own]][i]) for i in (0, 1)]
    made = ["link", "add", links[0], "netns", names[0], "type", "veth", "peer", "name", links[1], "netns", names[1]]
    try:
        for call in [*(["netns", "add", name] for name in names), made]:
            done = subprocess.run(["ip", *call], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"no networks can be made here: {done.stderr.strip()}")
        for each in pair:
            for rest in (["addr", "add", f"{each.address}/24", "dev", each.link], ["link", "set", each.link, "up"],
                         ["link", "set", "lo", "up"]):  # fmt: skip
                subprocess.run(["ip", "-n", each.name, *rest], check=True)
        yield (*pair, own)
    finally:
        for each in pair:
            each.end()
        shutil.rmtree(own, ignore_errors=True)


def words(root: Path, results: Path, *more: str) -> list[str]:
    rest = ["--corpus", "class_folders", "--data", f"class_folders={root / 'sounds'}", "--device", "cpu", "--threads", "1"]
    return [str(root / "contestants" / "small"), *rest, "--results", str(results), *more]


def here(line: Sequence[str], cache: Path) -> None:
    """The command on this machine, for comparison."""
    environment = {**os.environ, "SEPBENCH_CACHE": str(cache)}
    done = subprocess.run([*SEPBENCH, *line], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_ranks_of_two_machines_find_each_other_by_their_network(machines, tmp_path: Path):
    """Neither knows its own name by an address that the other could reach, as is usual; results are on a disk that both have."""
    first, second, _ = machines
    small_world(tmp_path)
    line = [*SEPBENCH, "run", *words(tmp_path, tmp_path / "pair", "--devices", "2", "--nodes", "2")]
    env = {"SEPBENCH_CACHE": str(tmp_path / "cache"), "MASTER_ADDR": first.address, "MASTER_PORT": str(DDP_PORT)}
    nodes = [
        Machine(each.name, each.address, each.link, ()).start(line, tmp_path / f"{i}.log", **env, NODE_RANK=str(i))
        for i, each in enumerate((first, second))
    ]
    codes = [node.wait(300) for node in nodes]
    assert codes == [0, 0], [(tmp_path / f"{i}.log").read_text()[-2000:] for i in (0, 1)]
    here(["run", *words(tmp_path, tmp_path / "alone")], tmp_path / "cache")
    (ours,), (theirs,) = read_runs(tmp_path / "alone"), read_runs(tmp_path / "pair")
    assert theirs.cost["first"]["ranks"] == 4 and theirs.cost["first"]["nodes"] == 2
    weights = [load_file(run.path / "weights" / "small.safetensors") for run in (ours, theirs)]
    assert all(torch.allclose(value, weights[1][name], atol=1e-5) for name, value in weights[0].items())


def test_a_cluster_outlives_a_machine_that_is_unplugged(machines, tmp_path: Path):
    """The second machine has neither sounds nor recipe nor results of the first. Its cable is pulled while it works."""
    pytest.importorskip("ray", reason='pip install "sepbench[ray]"')
    first, second, own = machines
    second = Machine(second.name, second.address, second.link, [own, tmp_path])
    small_world(tmp_path)
    home = own / "home"
    (home / ".ray").mkdir(parents=True)
    token = "0123456789abcdef" * 4
    (home / ".ray" / "auth_token").write_text(token)  # with which `ray start` lets nobody in who has it not
    ray = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--num-cpus", "1", "--block",
           "--disable-usage-stats", "--object-store-memory", "100000000", "--node-ip-address"]  # fmt: skip
    head = ["--head", "--port", str(RAY_PORT), "--include-dashboard", "false", "--temp-dir", str(own)]
    env = {"SEPBENCH_CACHE": str(tmp_path / "cache"), "HOME": str(home), "OMP_NUM_THREADS": "1", "RAY_TMPDIR": str(own)}
    logs = Path(tempfile.mkdtemp(dir=tmp_path))
    first.start([*ray, first.address, *head], logs / "first", **env)
    _until(lambda: "Ray runtime started" in (logs / "first").read_text(), logs / "first")
    more = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    second.start([*ray, second.address, "--address", f"{first.address}:{RAY_PORT}"], logs / "second", **env, **more)
    _until(lambda: "Ray runtime started" in (logs / "second").read_text(), logs / "second")

    seeds = ["--seed", f"0..{N_RUNS - 1}"]
    line = ["sweep", *words(tmp_path, tmp_path / "pair", *seeds, "--cluster", f"{first.address}:{RAY_PORT}")]
    sweep = first.start([*SEPBENCH, *line], logs / "sweep", **env)

    def at_work() -> bool:  # on the second machine, whose own files are seen through its processes
        pids = [pid for pid, told in second.processes().items() if told.startswith("ray::sepbench seed=")]
        return any(any(Path(f"/proc/{pid}/root{tmp_path}/cache").glob("sweeps/*/*/.lock")) for pid in pids)

    _until(at_work, logs / "sweep")
    second.unplug()
    code = sweep.wait(330)  # Ray by itself took longer to give the runs there up
    said = (logs / "sweep").read_text()
    assert code == 0 and f"Done {N_RUNS} of {N_RUNS}" in said, said[-3000:]
    assert "retried: " in said and "2 attempts" in said, said[-3000:]

    here(["sweep", *words(tmp_path, tmp_path / "alone", *seeds)], tmp_path / "cache")
    assert len(figures(tmp_path / "alone")) == N_RUNS and figures(tmp_path / "pair") == figures(tmp_path / "alone")


def _until(so, log: Path, most_s: float = 180.0) -> None:
    until_s = time.monotonic() + most_s
    while not so():
        assert time.monotonic() < until_s, log.read_text()[-3000:]
        time.sleep(0.1)
