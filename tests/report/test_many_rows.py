"""A report of very many rows: it reads a part of them at a time, so that its memory hardly grows with them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from made_up_runs import made_up, put

N_SCENES = 25_000  # of 12 rows
MOST_MB = 180  # more than a report of few rows; with text of its own for each row it is 280

REPORT = """
import sys
from pathlib import Path
from sepbench.cli import main
try:
    main(["report", sys.argv[1], "--no-audio", "-o", sys.argv[2]])
except SystemExit as end:
    assert not end.code, end.code
print(Path("/proc/self/status").read_text())
"""


def peak_mb(results: Path) -> float:
    """The most memory that a process of its own takes for a report of these runs; getrusage would count this one in."""
    told = subprocess.run(
        [sys.executable, "-c", REPORT, str(results), str(results / "report.html")], capture_output=True, text=True, check=True
    )
    return next(int(line.split()[1]) for line in told.stdout.splitlines() if line.startswith("VmHWM")) * 1024 / 1e6


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell a process's peak")
def test_a_report_does_not_hold_the_rows_of_its_runs(tmp_path: Path) -> None:
    put(tmp_path / "few", made_up(n_scenes=12))
    put(tmp_path / "many", made_up(n_scenes=N_SCENES))
    assert peak_mb(tmp_path / "many") - peak_mb(tmp_path / "few") < MOST_MB
