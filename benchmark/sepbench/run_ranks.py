"""Training on several devices or nodes: who starts which process, and where they find each other.

`--devices N` alone: this process is the first rank and starts the others of its node, which build the same method from the
same configuration. Nothing is handed over but that, so a recipe may hold whatever cannot be pickled; and nothing is forked, and
no command line run again, so it works from Python and from tests as well. On several nodes the user gives the command on each,
with MASTER_ADDR, MASTER_PORT and NODE_RANK, or under srun with a task per node; torchrun, and srun with a task per device,
start every rank themselves.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

from sepbench.children import GRACE_S, Child
from sepbench.devices import device
from sepbench.errors import UserError
from sepbench.network import interface_to
from sepbench.progress import SILENT, PlainProgress
from sepbench.ranks import INTERFACE, PATIENCE, Ranks, joined, wait_for_all
from sepbench.run_fit import learn
from sepbench.run_job import Job, rebuilt

KNOCK = timedelta(seconds=2)  # on the first rank's door, again and again
LOOK_S, LONG_S = 0.1, 60.0
FAILED = 2


@dataclass(frozen=True)
class Place:
    """Where this process stands among all that the command asked for, and where they meet."""

    ranks: Ranks = Ranks()
    starts: bool = True  # the other ranks of its node; else somebody has started them
    address: str = "127.0.0.1"
    port: int = 0  # 0: any, where all are on this machine
    hosts: bool = True  # the first rank keeps the store; else torchrun does


def place_of(devices: int, nodes: int, env: Mapping[str, str] = os.environ) -> Place:
    """What --devices and --nodes and the environment say. UserError where they do not fit, or something is missing."""
    if "TORCHELASTIC_RUN_ID" in env:
        n, own = int(env["WORLD_SIZE"]), int(env["LOCAL_WORLD_SIZE"])
        _check_number(n, devices, nodes, "torchrun has")
        ranks = Ranks(n, int(env["RANK"]), int(env["LOCAL_RANK"]), n // own)
        hosts = env.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        return Place(ranks, False, env["MASTER_ADDR"], int(env["MASTER_PORT"]), hosts)
    n = devices * nodes
    if n > 1 and int(env.get("SLURM_NTASKS", 1)) > 1 and "SLURM_PROCID" in env:
        return _of_slurm(devices, nodes, env)
    if nodes == 1:
        return Place(Ranks(n))
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK") if not env.get(name)]
    if missing:
        raise UserError(
            f"--nodes {nodes}: {', '.join(missing)} not set. On every node, give this command with MASTER_ADDR and MASTER_PORT "
            "of the first node and NODE_RANK counted from 0, or start it by torchrun or srun."
        )
    return _on_node(int(env["NODE_RANK"]), devices, nodes, env["MASTER_ADDR"], int(env["MASTER_PORT"]))


def _of_slurm(devices: int, nodes: int, env: Mapping[str, str]) -> Place:
    n_tasks = int(env["SLURM_NTASKS"])
    address = env.get("MASTER_ADDR") or _first_host(env.get("SLURM_STEP_NODELIST") or env["SLURM_NODELIST"])
    port = int(env.get("MASTER_PORT") or 15_000 + int(env.get("SLURM_JOB_ID", "0")) % 10_000)
    if n_tasks == nodes and nodes > 1:
        return _on_node(int(env["SLURM_PROCID"]), devices, nodes, address, port)
    _check_number(n_tasks, devices, nodes, "srun has")
    ranks = Ranks(n_tasks, int(env["SLURM_PROCID"]), int(env["SLURM_LOCALID"]), nodes)
    return Place(ranks, False, address, port)


def _first_host(hosts: str) -> str:
    """node[03-05,9],other -> node03."""
    return re.sub(r"\[(\w+)[^\]]*\].*", r"\1", hosts).split(",")[0]


def _on_node(node: int, devices: int, nodes: int, address: str, port: int) -> Place:
    if not 0 <= node < nodes:
        raise UserError(f"--nodes {nodes}: this is node {node}; wanted NODE_RANK from 0 to {nodes - 1}.")
    return Place(Ranks(devices * nodes, node * devices, 0, nodes), devices > 1, address, port)


def _check_number(n: int, devices: int, nodes: int, who: str) -> None:
    if devices * nodes not in (1, n):
        raise UserError(f"--devices {devices} --nodes {nodes}: {devices * nodes} ranks, but {who} started {n}. Make them agree.")


def check_devices(place: Place) -> None:
    """UserError where this node has fewer GPUs than it is asked for; else the process is put on its own."""
    import torch

    own = place.ranks.n // place.ranks.nodes
    if place.ranks.n == 1 or device().type != "cuda":
        return
    if own > torch.cuda.device_count():
        raise UserError(f"--devices {own}: torch sees {torch.cuda.device_count()} here. Give so many, or --device cpu.")
    torch.cuda.set_device(place.ranks.local)


@contextmanager
def together(place: Place, job: Job, progress: Any) -> Iterator[None]:
    """Within it, this process trains as one of all ranks; those that it has to start it starts, and ends.

    UserError with the word of another rank where that has failed.
    """
    if place.ranks.n == 1:
        yield
        return
    import torch

    ranks, n_threads = place.ranks, torch.get_num_threads()
    own = ranks.n // ranks.nodes
    job = replace(job, threads=max(1, n_threads // own))
    children: list[Child] = []
    if (interface := interface_to(place.address)) is not None:
        os.environ.setdefault(INTERFACE, interface)  # else gloo takes that of the machine's own name, which may lead nowhere
    try:
        torch.set_num_threads(job.threads)
        store = _store(place)
        for local in range(1, own if place.starts else 1):
            other = replace(ranks, rank=ranks.rank + local, local=local)
            told = (job, other, place.address, store.port)
            children.append(Child(f"Rank {other.rank} of {ranks.n}", train_rank, told, job.threads))
        _meet(store, ranks, children, progress)
        with _not_left_alone(children), joined(ranks, _own(store, job), device().type == "cuda"):
            yield
            wait_for_all()
        for child in children:
            child.stop(GRACE_S)
    except (UserError, KeyboardInterrupt):
        raise
    except Exception as error:  # most often: another rank has hung up
        if failed := _first_failed(children):
            raise UserError(failed.complaint()) from error
        raise
    finally:
        for child in children:
            child.stop()
        torch.set_num_threads(n_threads)


def train_rank(told: tuple[Job, Ranks, str, int], pipe: Connection) -> None:
    """What a rank does that another process has started."""
    job, ranks, address, port = told
    check_gpu(ranks)
    method, task = rebuilt(job)
    store = _store(Place(ranks, False, address, port))
    _meet(store, ranks, [], SILENT)
    with joined(ranks, _own(store, job), device().type == "cuda"):
        learn(method, job.config, task, job.folder, SILENT, None)
        wait_for_all()


def check_gpu(ranks: Ranks) -> None:
    """Have this process compute on the GPU of its number, where there are any."""
    import torch

    if torch.cuda.is_available() and ranks.local < torch.cuda.device_count():
        torch.cuda.set_device(ranks.local)


def _store(place: Place) -> Any:
    """Where the ranks leave word for each other; waited for where another process keeps it."""
    from torch.distributed import TCPStore

    if not (keeps := place.hosts and place.ranks.leads):
        _await_first(place)
    try:
        return TCPStore(place.address, place.port, None, keeps, timeout=KNOCK, wait_for_workers=False)
    except RuntimeError as error:
        why = str(error).splitlines()[0]
        if keeps:
            raise UserError(f"MASTER_PORT {place.port}: cannot be listened on ({why}). Choose another on all nodes.") from None
        raise UserError(f"{place.address}:{place.port}: is no first rank ({why}). Give all nodes its address and port.") from None


def _await_first(place: Place) -> None:
    """Until somebody listens where the first rank is to be; one process of each node says so.

    By a plain socket: torch's own waiting fills the screen.
    """
    told, until_s = place.ranks.local > 0, time.monotonic() + PATIENCE.total_seconds()
    while True:
        try:
            return socket.create_connection((place.address, place.port), KNOCK.total_seconds()).close()
        except OSError as error:
            why = error.strerror or str(error)
        where = f"{place.address}:{place.port}"
        if time.monotonic() > until_s:
            waited = f"no first rank for {PATIENCE.total_seconds() / 60:.0f} minutes ({why})"
            raise UserError(f"{where}: {waited}. See what became of it there.")
        if not told:
            PlainProgress().say(f"Waiting for the first rank at {where} ({why})")
            told = True
        time.sleep(LOOK_S)


def _own(store: Any, job: Job) -> Any:
    """The part of the store for this run alone, since a command may make several."""
    from torch.distributed import PrefixStore

    return PrefixStore(f"{job.folder.name}/", store)


def _meet(store: Any, ranks: Ranks, children: Sequence[Child], progress: Any) -> None:
    """Wait until every rank is there, or one of ours has failed; in Python, so that Ctrl-C is heard."""
    store.set(f"here/{ranks.rank}", "1")
    began_s, told = time.monotonic(), False
    while not store.check([f"here/{rank}" for rank in range(ranks.n)]):
        if not told and time.monotonic() - began_s > LONG_S:
            missing = [rank for rank in range(ranks.n) if not store.check([f"here/{rank}"])]
            progress.say(f"Waiting for {len(missing)} of {ranks.n} ranks: {', '.join(map(str, missing))}")
            told = True
        for child in children:
            if child.has_failed():
                raise UserError(child.complaint())
        time.sleep(LOOK_S)


def _first_failed(children: Sequence[Child]) -> Child | None:
    """The rank that failed, where one has or does within a moment."""
    end_s = time.monotonic() + (GRACE_S if children else 0)
    while time.monotonic() < end_s:
        for child in children:
            if child.has_failed():
                return child
        time.sleep(LOOK_S)
    return None


@contextmanager
def _not_left_alone(children: Sequence[Child]) -> Iterator[None]:
    """Where a rank dies and its GPU's peers would wait for it for ever, this process ends with a line that says so."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(1.0):
            for child in children:
                if child.has_failed() and not done.wait(2 * GRACE_S):  # else the failure was noticed in the usual way
                    with contextlib.suppress(Exception):
                        os.write(2, f"sepbench: {child.complaint()}\n".encode())
                    os._exit(FAILED)

    watcher = threading.Thread(target=watch, daemon=True)
    if children:
        watcher.start()
    try:
        yield
    finally:
        done.set()
