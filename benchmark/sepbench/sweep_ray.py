"""Runs on a Ray cluster. Ray places them, retries those whose node or process died, and carries sounds and results."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import socket
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sepbench.corpora import FROM_FILES, corpus_parts, folder_of, open_corpus
from sepbench.corpora.cache import cache_root
from sepbench.corpora.listed import listing
from sepbench.errors import UserError, in_a_line
from sepbench.loading import code_hash
from sepbench.run_identity import folder_words
from sepbench.storage import locked
from sepbench.sweep_pack import Parcel, arrays_of, digests, packed, token, unpack
from sepbench.sweep_plan import INTERRUPTED, PlannedRun
from sepbench.sweep_ray_node import carry_out, forget, package_hash
from sepbench.sweep_spec import How, Outcome, spec_of
from sepbench.tasks import is_ready

RETRIES = 4  # of a run whose node or process dies; what a run itself refuses is not tried again
REACH_S = 5.0
FORGET_S = 20.0
START = "Start one with `ray start --head`, and on other machines `ray start --address=HOST:6379`."
KEEPALIVE_MS = {"RAY_grpc_client_keepalive_time_ms": 20_000, "RAY_grpc_client_keepalive_timeout_ms": 20_000}
TOKEN = "If it asks for a token: the one in ~/.ray/auth_token of its first machine is wanted here, too."
NO_RAY = 'ray is not installed. pip install "sepbench[ray]"'


class RayPool:
    """Every run is one task of the cluster at `address`: auto, local or HOST:PORT."""

    room = math.inf

    def __init__(self, address: str, how: How, jobs: int | None, progress: Any) -> None:
        if address not in ("auto", "local"):
            _check_reachable(address)
        _prepare()
        try:
            import ray
        except ImportError:
            raise UserError(f"--cluster: {NO_RAY}") from None
        self.ray, self.how, self.progress, self.token = ray, how, progress, token()
        self.threads = how.threads or 1
        _connect(ray, address, self.threads, jobs)
        resources = ray.cluster_resources()
        self.gpus = how.gpus if resources.get("GPU", 0) and how.device != "cpu" else 0.0
        fits = [int(resources.get("CPU", 1) // self.threads)]
        fits += [int(resources["GPU"] / self.gpus)] if self.gpus else []
        self.at_a_time = max(1, min([*fits, *([jobs] if jobs else [])]))
        if jobs:
            self.room = jobs
        self.attempts = _attempts(ray, self.token)
        self._runs: dict[Any, PlannedRun] = {}
        self._sent: dict[str, Any] = {}

    def submit(self, run: PlannedRun) -> None:
        ray = self.ray
        task = ray.remote(_one_run).options(
            num_cpus=self.threads, num_gpus=self.gpus, max_retries=RETRIES, retry_exceptions=False,
            name=f"sepbench {run.name}"[:100],
        )  # fmt: skip
        self._runs[task.remote(self._parcel(run), self.attempts)] = run

    def wait(self) -> tuple[PlannedRun, Outcome]:
        ray = self.ray
        (ref,), _ = ray.wait(list(self._runs), num_returns=1)
        run = self._runs.pop(ref)
        try:
            answer = ray.get(ref)
        except ray.exceptions.RayError as error:  # its node or process died more often than it is tried
            said = re.sub(r"\x1b\[[0-9;]*m", "", in_a_line(error))[:300]
            return run, Outcome(None, said, retried=self._retried(run))
        if not answer["folder"]:
            return run, Outcome(None, answer["said"], answer["seconds"], retried=self._retried(run))
        place = self.how.results / run.id
        try:
            if locked(place):
                raise UserError(f"{place}: another process is writing this run. Wait for it to end, and start again.")
            place.parent.mkdir(parents=True, exist_ok=True)
            unpack(answer["folder"], place)
        except (UserError, OSError) as error:
            return run, Outcome(None, in_a_line(error), answer["seconds"])
        self.attempts.arrived.remote(answer["node"], answer["place"])
        return run, Outcome(place, "", answer["seconds"], retried=self._retried(run))

    def close(self) -> None:
        for ref in self._runs:
            self.ray.cancel(ref, force=True)
        if not self._runs:
            with suppress(self.ray.exceptions.RayError):
                self._forget_the_rest()
        self._runs.clear()
        self.ray.shutdown()

    def _parcel(self, run: PlannedRun) -> Parcel:
        """Plain values; what is large stands behind references within it, so that only nodes that lack it fetch it."""
        recipe, again = run.recipe, self.how.again or run.state == "stale"
        spec = spec_of(run, self.how, self.threads)
        spec["data"] = {name: str(Path(folder).expanduser().resolve()) for name, folder in spec["data"].items()}
        lists = self._lists(run, spec["data"])
        recipe_hash = code_hash(recipe.folder)
        made_of = f"{recipe_hash} {run.sounds} {package_hash()} {self.token if again else ''}"
        place = self.how.results / run.id
        begun = run.state == INTERRUPTED and not again
        inner = (run.config.get("inner") or {}).get("run")
        return {
            "spec": spec, "lists": lists, "code": package_hash(), "recipe hash": recipe_hash, "folder": folder_words(recipe),
            "place": f"{run.id[-8:]}-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}",
            "recipe": self._put(f"recipe {recipe.folder}", lambda: packed(recipe.folder)),
            "cache": self._cache(run),
            "begun": self.ray.put(packed(place, (".lock",))) if begun else None,
            "inner": self._put(f"inner {inner}", lambda: packed(Path(inner))) if inner else None,
        }  # fmt: skip

    def _put(self, key: str, make: Any) -> Any:
        if key not in self._sent:
            self._sent[key] = self.ray.put(make())
        return self._sent[key]

    def _cache(self, run: PlannedRun) -> dict[str, Any] | None:
        """The decoded clips that the run draws on; None where there are none, as of a release."""
        task = run.config["task"]
        place = next(cache_root().glob(f"*-{task['sample_rate_hz']}-{run.sounds}"), None)
        if is_ready(task) or place is None:
            return None
        name = place.name
        if name not in self._sent:
            arrays = arrays_of(place)
            self._sent[name] = {"name": name, "files": self.ray.put(arrays), "digests": digests(arrays)}
        return dict(self._sent[name])

    def _lists(self, run: PlannedRun, data: dict[str, str]) -> dict[str, Any]:
        """Of each corpus of files, its clips; `data` is told where it lies here, which the environment may have said."""
        found: dict[str, Any] = {}
        task = run.config["task"]
        if is_ready(task):
            data[task["corpus"]] = str(folder_of(task["corpus"], data).resolve())
            return found
        for name in corpus_parts(task["corpus"]):
            if name in FROM_FILES:
                data[name] = str(folder_of(name, data).resolve())
                key = f"list {data[name]}"
                if key not in self._sent:
                    held = listing(open_corpus(name, data), cache_root())
                    digest = hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()[:16]
                    self._sent[key] = {"listing": held, "hash": digest}
                found[name] = self._sent[key]
        return found

    def _retried(self, run: PlannedRun) -> str:
        """"2 attempts; node died", where one was not enough."""
        nodes = self.ray.get(self.attempts.of.remote(run.id))
        if len(nodes) < 2:
            return ""
        alive = {node["NodeID"] for node in self.ray.nodes() if node["Alive"]}
        died = ["worker died" if node in alive else "node died" for node in nodes[:-1]]
        return f"{len(nodes)} attempts; {', '.join(dict.fromkeys(died))}"

    def _forget_the_rest(self) -> None:
        """Have every node remove the folders of the last runs that have arrived from it."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        alive = {node["NodeID"] for node in self.ray.nodes() if node["Alive"]}
        sent = []
        for node in alive:
            if places := self.ray.get(self.attempts.arrived_from.remote(node)):
                there = NodeAffinitySchedulingStrategy(node, soft=False)
                sent.append(self.ray.remote(forget).options(num_cpus=0, scheduling_strategy=there, max_retries=0).remote(places))
        self.ray.wait(sent, num_returns=len(sent), timeout=FORGET_S) if sent else None


class Attempts:
    """Where each run was begun, and what has arrived from where: beside the driver, so that it outlives nodes."""

    def __init__(self) -> None:
        self._nodes: dict[str, list[str]] = {}
        self._arrived: dict[str, list[str]] = {}

    def began(self, run: str, node: str) -> list[str]:
        """The folders that the node need not keep any longer."""
        self._nodes.setdefault(run, []).append(node)
        return self.arrived_from(node)

    def arrived(self, node: str, place: str) -> None:
        self._arrived.setdefault(node, []).append(place)

    def arrived_from(self, node: str) -> list[str]:
        return self._arrived.pop(node, [])

    def of(self, run: str) -> list[str]:
        return self._nodes.get(run, [])


def _one_run(parcel: Parcel, attempts: Any) -> dict[str, Any]:
    """A task: it runs on a node. What goes wrong in the run is its answer, so that only what kills it is tried again."""
    import ray

    from sepbench import machine

    machine.tune_allocator()
    machine.threads(parcel["spec"]["threads"])
    node = ray.get_runtime_context().get_node_id()
    forget(ray.get(attempts.began.remote(parcel["spec"]["id"], node)))
    return {**carry_out(parcel, ray.get), "node": node}


def _attempts(ray: Any, name: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    made = ray.remote(Attempts).options(num_cpus=0, name=f"sepbench-attempts-{name}", scheduling_strategy=here)
    return made.remote()


def _prepare(env: MutableMapping[str, str] = os.environ) -> None:
    """What Ray reads as it is imported, where the user has not said otherwise.

    Its token, where there is one here: `ray start` asks for it as soon as one lies in the home folder, which a cluster started
    from Python puts there; a cluster that asks for none does not mind. And how soon a machine counts as gone that was
    unplugged: Ray itself would wait for the runs there for longer than most of them take.
    """
    for name, milliseconds in KEEPALIVE_MS.items():
        env.setdefault(name, str(milliseconds))
    token_file = Path(env.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if env.get("RAY_AUTH_TOKEN") or token_file.is_file():
        env.setdefault("RAY_AUTH_MODE", "token")


def _connect(ray: Any, address: str, threads: int, jobs: int | None) -> None:
    """UserError where there is no such cluster."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "configure_logging": False}
    if address == "local":
        if ray.is_initialized():
            return
        ray.init(address="local", include_dashboard=False, num_cpus=threads * jobs if jobs else None, **quiet)
        return
    try:
        ray.init(address=address, ignore_reinit_error=True, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        why = "no cluster was found" if address == "auto" else in_a_line(error)[:200]
        raise UserError(f"--cluster {address}: {why}. {START} {TOKEN}") from None


def _check_reachable(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        raise UserError(f"--cluster {address}: wanted auto, local or HOST:PORT, such as 192.168.0.1:6379.")
    try:
        socket.create_connection((host, int(port)), REACH_S).close()
    except OSError as error:
        raise UserError(f"--cluster {address}: nobody answers there ({error.strerror or error}). {START}") from None
