"""Runs on a Ray cluster. Ray places them, retries those whose node or process died, and carries sounds and results."""

from __future__ import annotations

import hashlib
import json
import re
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sepbench.corpora import FROM_FILES, corpus_parts, folder_of, open_corpus
from sepbench.corpora.cache import cache_root
from sepbench.corpora.listed import listing
from sepbench.errors import UserError, in_a_line
from sepbench.loading import code_hash
from sepbench.results_checks import run_json
from sepbench.run_identity import folder_words
from sepbench.storage import FolderLock
from sepbench.sweep_pack import Parcel, arrays_of, digests, packed, token, unpack
from sepbench.sweep_plan import DAMAGED, STALE, PlannedRun
from sepbench.sweep_ray_address import connect, prepare, watch
from sepbench.sweep_ray_node import carry_out, forget, package_hash
from sepbench.sweep_spec import How, Outcome, spec_of
from sepbench.tasks import is_ready

RETRIES = 4  # of a run whose node or process dies; what a run itself refuses is not tried again
QUEUE = 200  # runs that the cluster is handed at most: each holds a lock, which is an open file
FORGET_S = 20.0


class RayPool:
    """Every run is one task of the cluster at `address`, as `check_address` lets it through. UserError where it is not there.

    Its folder here is locked from when it is handed over, and not when a node begins it: by then another process may have begun.
    """

    def __init__(self, address: str, how: How, jobs: int | None, progress: Any) -> None:
        prepare(address)
        import ray

        self.ray, self.how, self.token = ray, how, token()
        self.threads = how.threads or 1
        connect(ray, address, self.threads, jobs)
        self._over = watch(address, ray.get_runtime_context().gcs_address)
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self.gpus = how.gpus if how.device != "cpu" and any(node.get("GPU") for node in nodes) else 0.0
        fits = sum(_fits(node, self.threads, self.gpus) for node in nodes)
        if not fits:
            gpus = f" and {self.gpus:g} GPUs" if self.gpus else ""
            progress.say(f"No node of the cluster has {self.threads} cores{gpus}: runs wait until one comes.")
        self.room = min(jobs or QUEUE, QUEUE)
        self.at_a_time = max(1, min(fits, self.room))
        self.attempts = _attempts(ray, self.token)
        self._runs: dict[Any, PlannedRun] = {}
        self._not_sent: deque[tuple[PlannedRun, Outcome]] = deque()
        self._locks: dict[str, FolderLock] = {}
        self._sent: dict[str, Any] = {}

    def submit(self, run: PlannedRun) -> None:
        try:
            begun = self._take(run)
            if begun is not None and begun["state"] == "finished":  # by another process, since the plan was made
                self._not_sent.append((run, Outcome(self.how.results / run.id)))
                self._let_go(run.id)
                return
            task = self.ray.remote(_one_run).options(
                num_cpus=self.threads, num_gpus=self.gpus, max_retries=RETRIES, retry_exceptions=False,
                name=f"sepbench {run.name}"[:100],
            )  # fmt: skip
            self._runs[task.remote(self._parcel(run, begun is not None), self.attempts)] = run
        except (UserError, OSError, self.ray.exceptions.RayError) as error:  # of Ray's, that its object store is full
            self._not_sent.append((run, Outcome(None, _plain(error))))
            self._let_go(run.id)

    def wait(self) -> tuple[PlannedRun, Outcome]:
        if self._not_sent:
            return self._not_sent.popleft()
        (ref,), _ = self.ray.wait(list(self._runs), num_returns=1)
        run = self._runs.pop(ref)
        try:
            return run, self._outcome(run, ref)
        finally:
            self._let_go(run.id)

    def close(self) -> None:
        self._over.set()
        try:
            for ref in self._runs:
                self.ray.cancel(ref, force=True)
            if not self._runs:
                with suppress(self.ray.exceptions.RayError):
                    self._forget_the_rest()
            self.ray.shutdown()
        finally:
            self._runs.clear()
            for name in list(self._locks):
                self._let_go(name)

    def _take(self, run: PlannedRun) -> dict[str, Any] | None:
        """Lock the run's folder; its run.json where it is to be gone on with. UserError where another process has the lock."""
        place = self.how.results / run.id
        place.mkdir(parents=True, exist_ok=True)
        self._locks[run.id] = FolderLock(place)
        if self._anew(run):
            return None
        if run.state == DAMAGED:
            raise UserError(run.why)
        return run_json(place)

    def _let_go(self, name: str) -> None:
        """Unlock the folder of that run, and leave none where nothing has come."""
        if name in self._locks:
            self._locks.pop(name).release()
            with suppress(OSError):
                (self.how.results / name).rmdir()

    def _anew(self, run: PlannedRun) -> bool:
        return self.how.again or run.state == STALE

    def _outcome(self, run: PlannedRun, ref: Any) -> Outcome:
        """How a run went that has ended; what comes back of it lies in the results then."""
        try:
            answer = self.ray.get(ref)
        except self.ray.exceptions.RayError as error:  # its node or process died more often than it is tried
            return Outcome(None, _plain(error), retried=self._retried(run))
        if not answer["folder"]:
            refused = answer.get("refused", False)
            return Outcome(None, answer["said"], answer["seconds"], refused=refused, retried=self._retried(run))
        place = self.how.results / run.id
        try:
            unpack(answer["folder"], place)
        except (UserError, OSError) as error:
            return Outcome(None, in_a_line(error), answer["seconds"])
        self.attempts.arrived.remote(answer["node"], answer["place"])
        return Outcome(place, "", answer["seconds"], retried=self._retried(run))

    def _parcel(self, run: PlannedRun, begun: bool) -> Parcel:
        """Plain values; what is large stands behind references within it, so that only nodes that lack it fetch it."""
        recipe = run.recipe
        spec = spec_of(run, self.how, self.threads)
        spec["data"] = {name: str(Path(folder).expanduser().resolve()) for name, folder in spec["data"].items()}
        lists = self._lists(run, spec["data"])
        recipe_hash = code_hash(recipe.folder)
        made_of = f"{recipe_hash} {run.sounds} {package_hash()} {self.token if self._anew(run) else ''}"
        place = self.how.results / run.id
        inner = (run.config.get("inner") or {}).get("run")
        return {
            "spec": spec, "lists": lists, "code": package_hash(), "recipe hash": recipe_hash, "folder": folder_words(recipe),
            "place": f"{run.id[-8:]}-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}",
            "recipe": self._put(f"recipe {recipe.folder}", lambda: packed(recipe.folder)),
            "cache": self._cache(run),
            "begun": self.ray.put(packed(place, (FolderLock.NAME,))) if begun else None,
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
        try:
            nodes = self.ray.get(self.attempts.of.remote(run.id))
        except self.ray.exceptions.RayError:  # the cluster itself is failing, and the run's own line says how
            return ""
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


def _plain(error: Exception) -> str:
    """What went wrong in a line, without the colours that Ray gives its words."""
    said = re.sub(r"\x1b\[[0-9;]*m", "", in_a_line(error))
    return said if isinstance(error, UserError) else said[:300]


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


def _fits(node: Mapping[str, float], threads: int, gpus: float) -> int:
    """How many runs a node of these resources carries out together."""
    by_cores = int(node.get("CPU", 0) / threads)
    return min(by_cores, int(node.get("GPU", 0) / gpus)) if gpus else by_cores
