"""Runs in processes of their own, several at a time, cores and GPUs shared out among them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sepbench import machine
from sepbench.errors import UserError
from sepbench.results_checks import run_json
from sepbench.storage import read_json, write_json
from sepbench.sweep_plan import PlannedRun
from sepbench.sweep_spec import How, Outcome, spec_of

ATTEMPTS = 2  # a process that dies is begun once more
LOOK_EVERY_S = 0.05
TO_END_S = 3.0  # that a worker has to stop by itself
CALL = "import sys; sys.path[:] = filter(None, sys.path); from sepbench.sweep_worker import main; sys.exit(main(*sys.argv[1:]))"


@dataclass
class Worker:
    """A process, and what it is at."""

    run: PlannedRun
    slot: int
    files: Path  # its spec, its answer, what it printed
    attempt: int = 1
    began_s: float = field(default_factory=time.perf_counter)
    deaths: list[str] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None


class LocalPool:
    """As many processes as `jobs`, each with its share of the cores; worker k has GPU k modulo their number."""

    def __init__(self, how: How, jobs: int, progress: Any) -> None:
        self.how, self.progress, self.at_a_time = how, progress, jobs
        self.room = float(jobs)
        self.threads = how.threads or max(1, machine.cores() // jobs)
        self.gpus = visible_gpus() if how.device != "cpu" else []
        self._slots = deque(range(jobs))
        self._workers: list[Worker] = []
        self._folder = tempfile.TemporaryDirectory(prefix="sepbench-sweep-")
        self._n = 0

    def submit(self, run: PlannedRun) -> None:
        self._n += 1
        files = Path(self._folder.name) / str(self._n)
        files.mkdir()
        write_json(files / "spec.json", spec_of(run, self.how, self.threads))
        worker = Worker(run, self._slots.popleft(), files)
        self._workers.append(worker)
        self._begin(worker)

    def wait(self) -> tuple[PlannedRun, Outcome]:
        while True:
            for worker in self._workers:
                if worker.process is not None and worker.process.poll() is not None:
                    outcome = self._ended(worker)
                    if outcome is not None:
                        self._workers.remove(worker)
                        self._slots.append(worker.slot)
                        return worker.run, outcome
            time.sleep(LOOK_EVERY_S)

    def close(self) -> None:
        running = [worker.process for worker in self._workers if worker.process is not None]
        for process in running:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
        until_s = time.monotonic() + TO_END_S
        for process in running:
            try:
                process.wait(max(0.0, until_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._workers.clear()
        self._folder.cleanup()

    def _begin(self, worker: Worker) -> None:
        if worker.attempt > 1:
            self._go_on(worker)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [_package_root(), os.environ.get("PYTHONPATH")]))}
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpus[worker.slot % len(self.gpus)]
        call = [sys.executable, "-c", CALL, str(worker.files / "spec.json"), str(worker.files / "answer.json")]
        try:
            with open(worker.files / "printed.txt", "ab") as printed:
                # a session of its own: Ctrl-C reaches the sweep alone, which stops its workers
                worker.process = subprocess.Popen(
                    call, stdin=subprocess.PIPE, stdout=printed, stderr=printed, env=environment, start_new_session=True
                )
        except OSError as error:
            raise UserError(f"no further process could be started ({error.strerror}). Use a smaller -j.") from error

    def _go_on(self, worker: Worker) -> None:
        """What was to be run anew is gone on with, once it was begun."""
        begun = run_json(self.how.results / worker.run.id)
        if begun is not None and begun["state"] != "finished":
            spec = read_json(worker.files / "spec.json")
            write_json(worker.files / "spec.json", {**spec, "again": False})

    def _ended(self, worker: Worker) -> Outcome | None:
        """How it went; None where the process died and was begun anew."""
        assert worker.process is not None
        if worker.process.stdin is not None:
            worker.process.stdin.close()
        seconds, answer = time.perf_counter() - worker.began_s, worker.files / "answer.json"
        if answer.is_file():
            told = read_json(answer)
            retried = f"{worker.attempt} attempts; {', '.join(worker.deaths)}" if worker.deaths else ""
            return Outcome(Path(told["folder"]) if told["folder"] else None, told["said"], seconds, retried=retried)
        worker.deaths.append(death_words(worker.process.returncode))
        if worker.attempt < ATTEMPTS:
            worker.attempt += 1
            self.progress.say(f"{worker.run.name}: its process was {worker.deaths[-1]}; it is begun once more")
            self._begin(worker)
            return None
        last = _last_line(worker.files / "printed.txt")
        return Outcome(None, f"its process was {' and then '.join(worker.deaths)}.{last}", seconds)


def death_words(code: int) -> str:
    """How a process ended that has not answered."""
    if code >= 0:
        return f"ended with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def visible_gpus() -> list[str]:
    """The names of the GPUs that may be used, as CUDA_VISIBLE_DEVICES has them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [each.strip() for each in named.split(",") if each.strip() and each.strip() != "-1"]
    return [str(i) for i in range(torch.cuda.device_count())]


def _package_root() -> str:
    return str(Path(__file__).resolve().parents[1])


def _last_line(file: Path) -> str:
    lines = [line for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return f" The last that it printed: {lines[-1].strip()[:200]}" if lines else ""
