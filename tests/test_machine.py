"""The process is prepared without ever failing, and without changing results."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sepbench import machine

KEPT = """
import sys
from sepbench import machine
if sys.argv[1] == "tuned":
    assert machine.tune_allocator()
import numpy as np

def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

before = resident_bytes()
block = np.ones(8_000_000)
del block
print(resident_bytes() - before)
"""


def kept_bytes(how: str) -> int:
    """What stays with the process of 64 MB that it has freed."""
    done = subprocess.run([sys.executable, "-c", KEPT, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone is tuned")
def test_a_tuned_allocator_keeps_what_was_freed():
    assert kept_bytes("as it was") < 16e6 < 56e6 < kept_bytes("tuned")


def test_tuning_never_raises_where_there_is_no_glibc(monkeypatch):
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda name: object())  # no mallopt in it
    assert machine.tune_allocator() is False
    monkeypatch.setattr(machine.sys, "platform", "darwin")
    assert machine.tune_allocator() is False


def test_threads_are_as_asked(monkeypatch):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "7")
    for name in ("torch", "numpy"):
        monkeypatch.delitem(sys.modules, name, raising=False)  # leave the threads of this process alone
    assert machine.threads() == 7
    assert machine.threads(3) == 3
    assert machine.os.environ["OMP_NUM_THREADS"] == "3"


POOLS = """
import numpy, sys
from threadpoolctl import threadpool_info
from sepbench import machine
before = [pool["num_threads"] for pool in threadpool_info()]
machine.threads(1)
print(before, [pool["num_threads"] for pool in threadpool_info()])
"""


@pytest.mark.skipif(machine.cores() < 2, reason="one core: one thread anyway")
def test_what_was_loaded_before_is_told_how_many_threads_too():
    plain = {name: value for name, value in os.environ.items() if name not in machine.THREADS}
    said = subprocess.run([sys.executable, "-c", POOLS], capture_output=True, text=True, check=True, env=plain).stdout
    before, after = said.strip("[]\n").split("] [")
    assert max(map(int, before.split(", "))) > 1 and set(after.split(", ")) == {"1"}


PREPARED = """
import sys
import sepbench.cli_{module} as module
def start(n_threads):
    print("torch" in sys.modules)
    sys.exit(0)
module.start = start
from sepbench.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize(("module", "words"), [("run", ["run"]), ("sweep", ["sweep", "--lambda", "5,10"])])
def test_the_process_is_prepared_before_torch_comes(repo: Path, module: str, words: list[str]):
    call = [sys.executable, "-c", PREPARED.format(module=module), words[0], str(repo / "recipes/weak_label"), *words[1:]]
    assert subprocess.run(call, capture_output=True, text=True, check=True).stdout == "False\n"


def test_threads_are_all_cores_unless_said_otherwise(monkeypatch):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "nonsense")
    for name in ("torch", "numpy"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert machine.threads() >= 1


def test_importing_it_costs_nothing():
    began_s = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", "import sepbench.machine, sys; print('torch' in sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "False" and time.perf_counter() - began_s < 5
