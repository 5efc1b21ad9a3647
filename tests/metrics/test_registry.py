from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from sepbench.errors import UserError
from sepbench.metrics import GROUPS, METRICS, expand
from sepbench.metrics.bss_eval import bss_eval
from sepbench.metrics.f_measure import THRESHOLD
from sepbench.metrics.separation_rate import ACTIVE_DB
from sepbench.metrics.si_sdr import CLIP_DB
from sepbench.metrics.snr import EPSILON

EPSILONS = {torch.finfo(torch.float32).eps: "f32", torch.finfo(torch.float64).eps: "f64", 0.0: "0"}
SI_SDR = ("si_sdr", "si_sdri", "si_sdr_mixture", "si_sdr_by_label", "si_sdri_by_label")


def test_signatures_are_unique_and_name_what_moves_the_figure():
    signatures = [metric.signature for metric in METRICS.values()]
    assert len(set(signatures)) == len(METRICS)
    policy = "v1|f64|zero_mean=0|silent_reference=undefined"
    assert METRICS["si_sdr"].signature == f"si_sdr|{policy}|assign=hungarian:si_sdr|clip=±100"
    assert METRICS["si_sdri_by_label"].signature == f"si_sdri_by_label|{policy}|assign=label,hungarian:si_sdr|clip=±100"


@pytest.mark.parametrize(
    ("metrics", "part"),
    [
        (SI_SDR, f"clip=±{CLIP_DB:g}"),
        (("snr", "snri"), f"eps={EPSILONS.get(EPSILON, EPSILON)}"),
        (("ca_sdri", "capi_sdri"), f"snr:eps={EPSILONS.get(EPSILON, EPSILON)}"),
        (GROUPS["f_measure"], f"threshold={THRESHOLD:g}"),
        (GROUPS["separation_rate"], f"active=>{ACTIVE_DB:g}dB:quietest_reference"),
    ],
)
def test_signatures_say_the_constants_that_are_reckoned_with(metrics, part):
    for name in metrics:
        assert part in METRICS[name].signature.split("|"), name


def told(name, part):
    """The number that a signature gives for one of its parts."""
    parts = dict(each.split("=", 1) for each in METRICS[name].signature.split("|") if "=" in each)
    return int(parts[part].removesuffix("s"))


@pytest.mark.parametrize("name", GROUPS["bss_eval"])
def test_frames_and_filters_of_bss_eval_are_as_long_as_its_signature_says(name):
    """They have no name in the module: frames are laid by hand, and a delay is forgiven as far as a filter reaches."""
    rate_hz, n_taps = 2000, told(name, "filters")
    sound, noise = np.random.default_rng(0).standard_normal((2, 1, 3 * rate_hz))
    found = bss_eval(estimate=sound + noise, reference=sound, sample_rate_hz=rate_hz)
    frames = range(0, 3 * rate_hz - told(name, "window") * rate_hz + 1, told(name, "hop") * rate_hz)
    parts = [slice(first, first + told(name, "window") * rate_hz) for first in frames]
    by_hand = [10 * np.log10((sound[0, part] ** 2).sum() / (noise[0, part] ** 2).sum()) for part in parts]
    np.testing.assert_allclose(found.sdr, [by_hand], atol=1e-9)
    short = sound[:, :rate_hz] * (np.arange(rate_hz) < rate_hz - n_taps)  # one frame, with room for the delay
    forgiven, lost = (bss_eval(estimate=np.roll(short, n, 1), reference=short, sample_rate_hz=rate_hz).sar.item()
                      for n in (n_taps - 1, n_taps))  # fmt: skip
    assert forgiven > 100 and lost < 0


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
