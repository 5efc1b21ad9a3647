"""Runs in processes of their own, several at a time, cores and GPUs shared out among them."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import IO, Any

from sepbench import machine
from sepbench.children import GRACE_S, Child, death_words
from sepbench.errors import UserError
from sepbench.results_checks import run_json
from sepbench.sweep_plan import PlannedRun
from sepbench.sweep_spec import How, Outcome, spec_of
from sepbench.sweep_worker import one_run

ATTEMPTS = 2  # a process that dies is begun once more
LOOK_EVERY_S = 0.05  # at processes: one that dies may leave its pipe open in the hands of its own
TO_END_S = 3.0  # that a worker has to stop by itself


@dataclass
class Worker:
    """A run, and the process that is at it."""

    run: PlannedRun
    slot: int
    spec: dict[str, Any]
    printed: IO[bytes] = field(default_factory=tempfile.TemporaryFile)
    began_s: float = field(default_factory=time.perf_counter)
    deaths: list[str] = field(default_factory=list)
    child: Child | None = None


class LocalPool:
    """As many processes as `jobs`, each with its share of the cores; worker k has GPU k modulo their number."""

    def __init__(self, how: How, jobs: int, progress: Any) -> None:
        self.how, self.progress, self.room, self.at_a_time = how, progress, jobs, jobs
        self.threads = how.threads or max(1, machine.cores() // jobs)
        self.gpus = visible_gpus() if how.device != "cpu" else []
        self._slots = deque(range(jobs))
        self._workers: list[Worker] = []

    def submit(self, run: PlannedRun) -> None:
        worker = Worker(run, self._slots.popleft(), spec_of(run, self.how, self.threads))
        self._workers.append(worker)
        self._begin(worker)

    def wait(self) -> tuple[PlannedRun, Outcome]:
        while True:
            wait([worker.child.pipe for worker in self._workers if worker.child], LOOK_EVERY_S)
            for worker in self._workers:
                if worker.child and (worker.child.pipe.poll() or worker.child.process.poll() is not None):
                    outcome = self._ended(worker, worker.child)
                    if outcome is not None:
                        self._workers.remove(worker)
                        self._slots.append(worker.slot)
                        return worker.run, outcome

    def close(self) -> None:
        running = [worker.child for worker in self._workers if worker.child]
        for child in running:
            child.process.send_signal(signal.SIGINT)
        until_s = time.monotonic() + TO_END_S
        for child in running:
            child.stop(max(0.0, until_s - time.monotonic()))
        self._workers.clear()

    def _begin(self, worker: Worker) -> None:
        env = {"CUDA_VISIBLE_DEVICES": self.gpus[worker.slot % len(self.gpus)]} if self.gpus else {}
        try:
            worker.child = Child(worker.run.name, one_run, worker.spec, self.threads, env, worker.printed)
        except OSError as error:
            raise UserError(f"no further process could be started ({error.strerror}). Use a smaller -j.") from error

    def _ended(self, worker: Worker, child: Child) -> Outcome | None:
        """How it went; None where the process died and was begun anew."""
        seconds, answer = time.perf_counter() - worker.began_s, None
        with suppress(EOFError, OSError):  # as of a pipe that ends in the middle of a word
            answer = child.pipe.recv() if child.pipe.poll() else None
        child.stop(GRACE_S)
        if answer is not None:
            kind, told = answer
            if kind == "failed":
                return Outcome(None, told, seconds)
            retried = f"{len(worker.deaths) + 1} attempts; {', '.join(worker.deaths)}" if worker.deaths else ""
            folder, refused = Path(told["folder"]) if told["folder"] else None, told.get("refused", False)
            return Outcome(folder, told["said"], seconds, refused=refused, retried=retried)
        worker.deaths.append(death_words(child.process.returncode))
        if len(worker.deaths) < ATTEMPTS:
            self.progress.say(f"{worker.run.name}: its process was {worker.deaths[-1]}; it is begun once more")
            self._go_on(worker)
            self._begin(worker)
            return None
        return Outcome(None, f"its process was {' and then '.join(worker.deaths)}.{_last_line(worker.printed)}", seconds)

    def _go_on(self, worker: Worker) -> None:
        """What was to be run anew is gone on with, once it was begun."""
        begun = run_json(self.how.results / worker.run.id)
        if begun is not None and begun["state"] != "finished":
            worker.spec["again"] = False


def visible_gpus() -> list[str]:
    """The names of the GPUs that may be used, as CUDA_VISIBLE_DEVICES has them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [each.strip() for each in named.split(",") if each.strip() and each.strip() != "-1"]
    return [str(i) for i in range(torch.cuda.device_count())]


def _last_line(printed: IO[bytes]) -> str:
    printed.seek(0)
    lines = [line for line in printed.read().decode(errors="replace").splitlines() if line.strip()]
    return f" The last that it printed: {lines[-1].strip()[:200]}" if lines else ""
