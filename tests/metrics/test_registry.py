from __future__ import annotations

import subprocess
import sys

import pytest

from sepbench.errors import UserError
from sepbench.metrics import GROUPS, METRICS, expand


def test_signatures_are_unique_and_name_what_moves_the_figure():
    signatures = [metric.signature for metric in METRICS.values()]
    assert len(set(signatures)) == len(METRICS)
    policy = "v1|f64|zero_mean=0|silent_reference=undefined"
    assert METRICS["si_sdr"].signature == f"si_sdr|{policy}|assign=hungarian:si_sdr|clip=±100"
    assert METRICS["si_sdri_by_label"].signature == f"si_sdri_by_label|{policy}|assign=label,hungarian:si_sdr|clip=±100"


def test_a_group_stands_for_its_members_each_once():
    assert expand(["bss_eval"]) == ["bss_sdr", "bss_isr", "bss_sir", "bss_sar"]
    assert expand(["si_sdr", "bss_sir", "bss_eval", "si_sdr"])[:2] == ["si_sdr", "bss_sir"]
    assert len(expand(["bss_sir", "bss_eval"])) == 4
    assert {name for members in GROUPS.values() for name in members} <= METRICS.keys()


def test_a_metric_that_there_is_not_is_told_with_the_nearest():
    with pytest.raises(UserError, match=r"--metrics: there is no metric 'si_sdir'. Did you mean 'si_sdr'\?"):
        expand(["si_sdir"])


def test_units_and_statistics_are_known_without_torch_and_pandas():
    code = "import sys, sepbench.metrics, sepbench.statistics; sys.exit(bool({'torch', 'pandas'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
