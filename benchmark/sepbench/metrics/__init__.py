"""The measures: pure functions, arrays in, numbers out; one measure per file, its paper on top.

This file holds only what is known of each measure without computing it, so that tables can be printed without torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sepbench.errors import UserError, nearest

_LE_ROUX = "Le Roux et al. 2019, SDR - half-baked or well done?"
_WEAK_LABEL = "Pishdadian et al. 2020, Finding strength in weakness"
_DCASE_2025 = "DCASE 2025 Task 4"
_MUSEVAL = "Stöter et al. 2018, The 2018 signal separation evaluation campaign (museval)"
_FUSS = "Wisdom et al. 2021, What's all the FUSS about free universal sound separation data?"
_SEPCLSNET = "Verma, SepClsNet: a unified end-to-end architecture"

_SI_SDR = "zero_mean=0|silent_reference=undefined|assign={}|clip=±100"
_BY_SEPARATION, _BY_LABEL = "hungarian:si_sdr", "label,hungarian:si_sdr"
_SNR = f"silent_reference=undefined|assign={_BY_SEPARATION}|eps=f32"
_SETS = "missed=0|false=0|silent_reference=left_out|empty=undefined"
_SOURCES = "multiset=min|silent_reference=left_out|counts=pooled"
_CLASSES = f"assign={_BY_SEPARATION}|missed=wrong|extra=ignored|labels_alone=multiset"
_BSS = (
    f"museval:v4|window=1s|hop=1s|filters=512|frames=median|silent=undefined|infinite=undefined|assign={_BY_SEPARATION}"
)
_ACTIVE = "active=>-20dB:quietest_reference|no_reference=any_not_silent"
_FUSS_PAIRS = f"zero_mean=0|assign={_BY_SEPARATION}|clip=±100|estimate=>-20dB:quietest_reference|sources={{}}|pairs=pooled"


@dataclass(frozen=True)
class Metric:
    """What a figure is: printed with it, stored with it. The signature changes whenever a figure would."""

    name: str
    unit: str  # "dB", or "ratio" (0 to 1)
    version: int
    policy: str  # the choices that move the figure
    higher_is_better: bool | None  # None: a property of the scenes, whatever the method
    paper: str
    needs: str = ""  # beside estimates and references: mixture, labels, activity; what of it is missing leaves no figure

    @property
    def signature(self) -> str:
        return f"{self.name}|v{self.version}|f64|{self.policy}"


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("si_sdr", "dB", 1, _SI_SDR.format(_BY_SEPARATION), True, _LE_ROUX),
        Metric("si_sdri", "dB", 1, _SI_SDR.format(_BY_SEPARATION), True, _LE_ROUX, "mixture"),
        Metric("si_sdr_mixture", "dB", 1, _SI_SDR.format("none"), None, _LE_ROUX, "mixture"),
        Metric("si_sdr_by_label", "dB", 1, _SI_SDR.format(_BY_LABEL), True, _LE_ROUX, "labels"),
        Metric("si_sdri_by_label", "dB", 1, _SI_SDR.format(_BY_LABEL), True, _LE_ROUX, "labels, mixture"),
        Metric("snr", "dB", 1, _SNR, True, "plain signal-to-noise ratio"),
        Metric("snri", "dB", 1, _SNR, True, "plain signal-to-noise ratio", "mixture"),
        Metric("ca_sdri", "dB", 1, f"snr:eps=f32|assign=label|repeated_label=undefined|{_SETS}", True,
               "Nguyen et al. 2025, arXiv 2503.22088", "labels, mixture"),
        Metric("capi_sdri", "dB", 1, f"snr:eps=f32|assign=label,hungarian:snr|{_SETS}", True,
               "DCASE 2026 Task 4", "labels, mixture"),
        Metric("label_set_accuracy", "ratio", 1, "multiset=exact|silent_reference=left_out", True, _DCASE_2025, "labels"),
        Metric("source_precision", "ratio", 1, _SOURCES, True, _DCASE_2025, "labels"),
        Metric("source_recall", "ratio", 1, _SOURCES, True, _DCASE_2025, "labels"),
        Metric("source_f_measure", "ratio", 1, _SOURCES, True, _DCASE_2025, "labels"),
        Metric("class_accuracy", "ratio", 1, _CLASSES, True, _SEPCLSNET, "labels"),
        Metric("class_accuracy_both", "ratio", 1, f"{_CLASSES}|scene=all_right", True,
               _SEPCLSNET, "labels"),
        Metric("f_measure_frame", "ratio", 1, "threshold=0.5|counts=pooled|no_positives=undefined", True, _WEAK_LABEL,
               "activity"),
        Metric("f_measure_clip", "ratio", 1, "threshold=0.5|counts=pooled|clip=max|no_positives=undefined", True,
               _WEAK_LABEL, "activity"),
        Metric("bss_sdr", "dB", 1, _BSS, True, _MUSEVAL),
        Metric("bss_isr", "dB", 1, _BSS, True, _MUSEVAL),
        Metric("bss_sir", "dB", 1, _BSS, True, _MUSEVAL),
        Metric("bss_sar", "dB", 1, _BSS, True, _MUSEVAL),
        Metric("fuss_si_snr_1", "dB", 1, _FUSS_PAIRS.format("1"), True, _FUSS),
        *(Metric(f"fuss_si_snri_{n}", "dB", 1, _FUSS_PAIRS.format(n), True, _FUSS, "mixture") for n in (2, 3, 4)),
        Metric("fuss_si_snri", "dB", 1, _FUSS_PAIRS.format("2-4"), True, _FUSS, "mixture"),
        Metric("under_separation", "ratio", 1, _ACTIVE, False, _FUSS),
        Metric("equal_separation", "ratio", 1, _ACTIVE, True, _FUSS),
        Metric("over_separation", "ratio", 1, _ACTIVE, False, _FUSS),
    )
}

# Names that stand for several, where metrics are asked for.
GROUPS: dict[str, tuple[str, ...]] = {
    "bss_eval": ("bss_sdr", "bss_isr", "bss_sir", "bss_sar"),
    "source_detection": ("source_precision", "source_recall", "source_f_measure"),
    "fuss": (
        "fuss_si_snr_1", "fuss_si_snri_2", "fuss_si_snri_3", "fuss_si_snri_4", "fuss_si_snri",
        "under_separation", "equal_separation", "over_separation",
    ),
    "separation_rate": ("under_separation", "equal_separation", "over_separation"),
    "f_measure": ("f_measure_frame", "f_measure_clip"),
}

# Rows that only say that something happened: 1.0 each, counted, never averaged.
EVENTS: dict[str, str] = {
    "missed": "an active reference that no estimate answers, by separation",
    "missed_by_label": "an active reference that no estimate answers, by label",
    "extra": "an active estimate that answers no active reference",
    "sign_flipped": "an estimate that lies along the reference turned upside down",
}

# Rows that say how a figure came about, neither averaged nor counted; `paired_...` hold the index of an estimate.
FACTS: dict[str, str] = {
    "paired_with": "the estimate that answers the reference, by separation",
    "paired_by_label": "the estimate that answers the reference, by label",
    "n_sources": "how many sources sound in the scene",
    "overlap": "the share of the time in which anything sounds, in which two sources or more do, 0 to 1",
    "labels_alone": "the answer to the scene holds labels and no sound: its classes are right by the set of labels",
}

# What guessing scores is kept beside a metric under its name and this, and is none itself: compared with nothing.
CHANCE = "_chance"

# Detection is stored as counts per scene and class, since only pooled counts make a precision, a recall, an F-measure.
LEVELS: tuple[str, ...] = ("frame", "clip", "source")  # among sources nothing can be a true negative
OUTCOMES: tuple[str, ...] = ("tp", "fp", "fn", "tn")


def expand(names: Iterable[str], where: str = "--metrics") -> list[str]:
    """Names of metrics and groups -> names of metrics, each once, in the order given. UserError for one not known."""
    found: list[str] = []
    for name in names:
        if name not in METRICS and name not in GROUPS:
            known = [*METRICS, *GROUPS]
            raise UserError(f"{where}: there is no metric '{name}'.{nearest(name, known)} `sepbench metrics` lists them.")
        found += [each for each in GROUPS.get(name, (name,)) if each not in found]
    return found


__all__ = ["CHANCE", "EVENTS", "FACTS", "GROUPS", "LEVELS", "METRICS", "OUTCOMES", "Metric", "expand"]
