"""The process is prepared without ever failing, and without changing results."""

from __future__ import annotations

import subprocess
import sys
import time

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
    monkeypatch.delitem(sys.modules, "torch", raising=False)  # leave the threads of this process alone
    assert machine.threads() == 7
    assert machine.threads(3) == 3
    assert machine.os.environ["OMP_NUM_THREADS"] == "3"


def test_threads_are_all_cores_unless_said_otherwise(monkeypatch):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "nonsense")
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert machine.threads() >= 1


def test_importing_it_costs_nothing():
    began_s = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", "import sepbench.machine, sys; print('torch' in sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "False" and time.perf_counter() - began_s < 5
