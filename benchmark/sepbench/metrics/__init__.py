"""The measures: pure functions, arrays in, numbers out; one measure per file, its paper on top.

This file holds only what is known of each measure without computing it, so that tables can be printed without torch.
"""

from __future__ import annotations

from dataclasses import dataclass

_LE_ROUX = "Le Roux et al. 2019, SDR - half-baked or well done?"
_WEAK_LABEL = "Pishdadian et al. 2020, Finding strength in weakness"
_PAIRED = "silent_reference=undefined|assign=label,hungarian:si_sdr"


@dataclass(frozen=True)
class Metric:
    """What a figure is: printed with it, stored with it. The signature changes whenever a figure would."""

    name: str
    unit: str  # "dB", or "ratio" (0 to 1)
    version: int
    policy: str  # the choices that move the figure
    higher_is_better: bool
    paper: str

    @property
    def signature(self) -> str:
        return f"{self.name}|v{self.version}|f64|{self.policy}"


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("si_sdr", "dB", 1, f"zero_mean=0|{_PAIRED}|clip=±100", True, _LE_ROUX),
        Metric("si_sdri", "dB", 1, f"zero_mean=0|{_PAIRED}|clip=±100", True, _LE_ROUX),
        Metric("si_sdr_mixture", "dB", 1, f"zero_mean=0|{_PAIRED}|clip=±100", True, _LE_ROUX),
        Metric("snr", "dB", 1, f"zero_mean=0|{_PAIRED}|eps=f32", True, "plain signal-to-noise ratio"),
        Metric("snri", "dB", 1, f"zero_mean=0|{_PAIRED}|eps=f32", True, "plain signal-to-noise ratio"),
        Metric("ca_sdri", "dB", 1, "snr:eps=f32|assign=label|missed=0|false=0|empty=undefined", True,
               "Nguyen et al. 2025, arXiv 2503.22088"),
        Metric("capi_sdri", "dB", 1, "snr:eps=f32|assign=label,hungarian:snr|missed=0|false=0|empty=undefined", True,
               "DCASE 2026 Task 4"),
        Metric("label_set_accuracy", "ratio", 1, "multiset=exact", True, "DCASE 2025 Task 4"),
        Metric("f_measure_frame", "ratio", 1, "threshold=0.5|counts=pooled|no_positives=undefined", True, _WEAK_LABEL),
        Metric("f_measure_clip", "ratio", 1, "threshold=0.5|counts=pooled|clip=max|no_positives=undefined", True,
               _WEAK_LABEL),
    )
}

# Rows that only say that something happened: 1.0 each, counted, never averaged.
EVENTS: dict[str, str] = {
    "missed": "an active reference that no estimate answers",
    "extra": "an estimate, not silent, that answers no active reference",
    "sign_flipped": "an estimate that lies along the reference turned upside down",
}

# Detection is stored as counts per scene and class, since only pooled counts make an F-measure.
LEVELS: tuple[str, ...] = ("frame", "clip")
OUTCOMES: tuple[str, ...] = ("tp", "fp", "fn", "tn")

__all__ = ["EVENTS", "LEVELS", "METRICS", "OUTCOMES", "Metric"]
