"""What pictures say in words: which run they are of, and figures with a sign."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SHARED_POOL = "shared_pool"  # the protocol of a task whose training and test draw on the same clips (tasks/splits.py)

METRICS = {"si_sdri": "SI-SDRi", "si_sdri_by_label": "SI-SDRi by label", "si_sdr": "SI-SDR", "snr": "SNR", "snri": "SNRi"}
METRICS |= {"ca_sdri": "CA-SDRi", "capi_sdri": "CAPI-SDRi"}


def metric_words(name: str) -> str:
    """A metric as tables call it, without its unit: si_sdri -> SI-SDRi, class_accuracy -> class accuracy."""
    return METRICS.get(name, name.replace("_", " "))


def run_words(config: Mapping[str, Any], split: str) -> str:
    """The method, its profile, the corpus, whether clips are shared, and the split; an oracle cannot be overlooked."""
    task = config["task"]
    shared = ["clips shared"] if (task.get("splits") or {}).get("protocol") == SHARED_POOL else []
    name = f"{config['name']} (ORACLE)" if config.get("supervision") == "oracle" else config["name"]
    return ", ".join([name, f"profile {config['profile']}", task["corpus"], *shared, f"split {split}"])


def signed(value: float) -> str:
    """4.71 -> +4.7, -0.04 -> 0.0; with a minus sign where there is one."""
    rounded = round(value, 1)
    return f"{rounded:+.1f}".replace("-", "\N{MINUS SIGN}") if rounded else "0.0"
