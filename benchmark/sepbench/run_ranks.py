"""Training on several devices or nodes: who starts which process, and where they find each other.

`--devices N` alone: this process is the first rank and starts the others of its node, which build the same method from the
same configuration. Nothing is handed over but that, so a recipe may hold whatever cannot be pickled; and nothing is forked, and
no command line run again, so it works from Python and from tests as well. On several nodes the user gives the command on each,
with MASTER_ADDR, MASTER_PORT and NODE_RANK, or under srun with a task per node; torchrun, and srun with a task per device,
start every rank themselves.

Longer than most: where a rank stands, how it meets the others and how they end are one protocol, read together.
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
LOOPBACK = "127.0.0.1"
NOW = "now"  # in the store: the run that the first rank is at

_stores: dict[tuple[str, int, bool], Any] = {}
_n_followed = 0  # the number of the last run


class Elsewhere(Exception):
    """The first rank is at another run."""


@dataclass(frozen=True)
class Place:
    """Where this process stands among all that the command asked for, and where they meet."""

    ranks: Ranks = Ranks()
    starts: bool = True  # the other ranks of its node; else somebody has started them
    address: str = LOOPBACK
    port: int = 0  # 0: any, where all are on this machine
    hosts: bool = True  # the first rank keeps the store; else torchrun does


def place_of(devices: int, nodes: int, env: Mapping[str, str] = os.environ) -> Place:
    """What --devices and --nodes and the environment say. UserError where they do not fit, or something is missing."""
    if "TORCHELASTIC_RUN_ID" in env:
        n, own = _number(env, "WORLD_SIZE", 1), _number(env, "LOCAL_WORLD_SIZE", 1)
        _check_number(n, devices, nodes, "torchrun has")
        ranks = Ranks(n, _number(env, "RANK"), _number(env, "LOCAL_RANK"), n // own)
        hosts = env.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
        return Place(ranks, False, env["MASTER_ADDR"], _port(env), hosts)
    n = devices * nodes
    if n > 1 and env.get("SLURM_NTASKS", "1") != "1" and "SLURM_PROCID" in env:
        return _of_slurm(devices, nodes, env)
    if nodes == 1:
        return Place(Ranks(n))
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK") if not env.get(name)]
    if missing:
        raise UserError(
            f"--nodes {nodes}: {', '.join(missing)} not set. On every node, give this command with MASTER_ADDR and MASTER_PORT "
            "of the first node and NODE_RANK counted from 0, or start it by torchrun or srun."
        )
    return _on_node(_number(env, "NODE_RANK"), devices, nodes, env["MASTER_ADDR"], _port(env))


def _of_slurm(devices: int, nodes: int, env: Mapping[str, str]) -> Place:
    n_tasks, task = _number(env, "SLURM_NTASKS", 1), _number(env, "SLURM_PROCID")
    hosts = env.get("SLURM_STEP_NODELIST") or env.get("SLURM_NODELIST") or ""
    if not (hosts or env.get("MASTER_ADDR")):
        raise UserError("srun: SLURM_NODELIST not set. Set MASTER_ADDR to the first node, or start it by srun.")
    address = env.get("MASTER_ADDR") or _first_host(hosts)
    job = env.get("SLURM_JOB_ID", "0")
    port = _port(env) if env.get("MASTER_PORT") else 15_000 + (int(job) if job.isdigit() else 0) % 10_000
    if n_tasks == nodes and nodes > 1:
        return _on_node(task, devices, nodes, address, port)
    _check_number(n_tasks, devices, nodes, "srun has")
    return Place(Ranks(n_tasks, task, _number(env, "SLURM_LOCALID"), nodes), False, address, port)


def _number(env: Mapping[str, str], name: str, least: int | None = None, most: int = 1 << 31) -> int:
    """A whole number of the environment. UserError where it is none, or none that can be."""
    given = env.get(name, "").strip()
    if not re.fullmatch(r"-?\d+", given) or not (least if least is not None else -most) <= int(given) <= most:
        wanted = "a whole number" if least is None else f"a whole number from {least}" + (f" to {most}" if most < 1 << 31 else "")
        raise UserError(f"{name}={given}: wanted {wanted}. Set it so in the environment of every node.")
    return int(given)


def _port(env: Mapping[str, str]) -> int:
    return _number(env, "MASTER_PORT", 1, 65_535)


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
    interface = None if INTERFACE in os.environ else interface_to(place.address)
    try:
        if interface is not None:
            os.environ[INTERFACE] = interface  # else gloo takes that of the machine's own name, which may lead nowhere
        torch.set_num_threads(job.threads)
        store = _store_of(place)
        now = _announced(store, job) if ranks.leads else _followed(store, job)
        for local in range(1, own if place.starts else 1):
            other = replace(ranks, rank=ranks.rank + local, local=local)
            told = (job, other, place.address, place.port or store.port)
            children.append(Child(f"Rank {other.rank} of {ranks.n}", train_rank, told, job.threads))
        store = _met(store, now, ranks, children, progress)
        with _not_left_alone(children), joined(ranks, store, device().type == "cuda"):
            yield
            wait_for_all()
        for child in children:
            child.stop(GRACE_S)
    except (UserError, KeyboardInterrupt):
        raise
    except Exception as error:  # most often: another rank has hung up
        if failed := _first_failed(children):
            raise UserError(failed.complaint()) from error
        if _hung_up(error):
            said = f"{job.config['name']}: a rank of another node has ended ({str(error).splitlines()[0][:150]})."
            raise UserError(f"{said} See what it said there; the same command goes on where the run stopped.") from error
        raise
    finally:
        for child in children:
            child.stop()
        if interface is not None:
            os.environ.pop(INTERFACE, None)
        torch.set_num_threads(n_threads)


def train_rank(told: tuple[Job, Ranks, str, int], pipe: Connection) -> None:
    """What a rank does that another process has started."""
    job, ranks, address, port = told
    check_gpu(ranks)
    method, task = rebuilt(job)
    store = _store_of(Place(ranks, False, address, port))
    store = _met(store, _followed(store, job), ranks, [], SILENT)
    with joined(ranks, store, device().type == "cuda"):
        learn(method, job.config, task, job.folder, SILENT, None)
        wait_for_all()


def check_gpu(ranks: Ranks) -> None:
    """Have this process compute on the GPU of its number, where there are any."""
    import torch

    if torch.cuda.is_available() and ranks.local < torch.cuda.device_count():
        torch.cuda.set_device(ranks.local)


def _store_of(place: Place) -> Any:
    """Where the ranks leave word for each other, by all runs of a command; waited for where another process keeps it."""
    from torch.distributed import TCPStore

    keeps = place.hosts and place.ranks.leads
    key = (place.address, place.port, keeps)
    if key not in _stores:
        if not keeps:
            _await_first(place)
        try:  # who keeps it listens on all networks, and need not be known to itself by the address that others have
            where = LOOPBACK if keeps else place.address
            _stores[key] = TCPStore(where, place.port, None, keeps, timeout=KNOCK, wait_for_workers=False)
        except RuntimeError as error:
            why = str(error).splitlines()[0][:150]
            said = f"MASTER_PORT={place.port}: cannot be listened on ({why}). Choose another on all nodes."
            if not keeps:
                said = f"{place.address}:{place.port}: is no first rank ({why}). Give all nodes its address and port."
            raise UserError(said) from None
    return _stores[key]


def _await_first(place: Place) -> None:
    """Until somebody listens where the first rank is to be; one process of each node says so.

    By a plain socket: torch's own waiting fills the screen.
    """
    told, until_s = place.ranks.local > 0, time.monotonic() + PATIENCE.total_seconds()
    while True:
        try:
            return socket.create_connection((place.address, place.port), KNOCK.total_seconds()).close()
        except (socket.gaierror, UnicodeError) as error:  # it will not become one by waiting
            why = getattr(error, "strerror", None) or error
            said = f"MASTER_ADDR={place.address}: is not known here ({why})."
            raise UserError(f"{said} Give the first node's name or number.") from None
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


def _announced(store: Any, job: Job) -> str:
    """By the first rank: which run it is at, counted, so that none meets in what an earlier one has left."""
    now = f"{job.folder.name}#{store.add('n_runs', 1)}"
    store.set(NOW, now)
    return now


def _followed(store: Any, job: Job) -> str:
    """By the others: wait until the first rank is at this run. Elsewhere where it is at another one."""
    global _n_followed
    while True:
        now = _now(store)
        name, _, n = now.rpartition("#")
        if n and int(n) > _n_followed:
            if name != job.folder.name:
                raise Elsewhere(now)
            _n_followed = int(n)
            return now
        time.sleep(LOOK_S)


def _now(store: Any) -> str:
    try:
        return str(store.get(NOW).decode()) if store.check([NOW]) else ""
    except RuntimeError:
        raise UserError("The first rank has ended. See what it said there; the same command goes on where it stopped.") from None


def _met(store: Any, now: str, ranks: Ranks, children: Sequence[Child], progress: Any) -> Any:
    """The part of the store that is this run's, when every rank is there. In Python, so that Ctrl-C is heard.

    UserError where one of ours has failed, or one does not come; Elsewhere where the first rank has gone on to another run.
    """
    from torch.distributed import PrefixStore

    own = PrefixStore(f"{now}/", store)
    own.set(f"here/{ranks.rank}", "1")
    began_s, told = time.monotonic(), False
    while _now(store) == now:
        missing = [rank for rank in range(ranks.n) if not own.check([f"here/{rank}"])]
        if not missing:
            return own
        waited_s, who = time.monotonic() - began_s, ", ".join(map(str, missing))
        if ranks.leads and waited_s > PATIENCE.total_seconds():
            raise UserError(f"Ranks {who} of {ranks.n} have not come for {waited_s / 60:.0f} minutes. See what became of them.")
        if waited_s > LONG_S and not told:
            progress.say(f"Waiting for {len(missing)} of {ranks.n} ranks: {who}")
            told = True
        for child in children:
            if child.has_failed():
                raise UserError(child.complaint())
        time.sleep(LOOK_S)
    raise Elsewhere(now)


def _hung_up(error: Exception) -> bool:
    """Whether it says that another rank is there no longer."""
    from torch.distributed import DistError

    return isinstance(error, DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error).lower())


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
