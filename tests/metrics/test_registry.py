from __future__ import annotations

import subprocess
import sys

from sepbench.metrics import METRICS


def test_signatures_are_unique_and_name_what_moves_the_figure():
    signatures = [metric.signature for metric in METRICS.values()]
    assert len(set(signatures)) == len(METRICS)
    assert METRICS["si_sdri"].signature == (
        "si_sdri|v1|f64|zero_mean=0|silent_reference=undefined|assign=label,hungarian:si_sdr|clip=±100"
    )


def test_units_and_statistics_are_known_without_torch_and_pandas():
    code = "import sys, sepbench.metrics, sepbench.statistics; sys.exit(bool({'torch', 'pandas'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
