"""SI-SNR by the number of sources (FUSS; Wisdom et al. 2021, What's all the FUSS about free universal sound separation
data?): absolute where one source sounds, for its mixture is no worse than any answer; else the improvement.

SI-SNR is SI-SDR under another name. Estimates are assigned by it, and a pair counts only if its estimate is louder than
the quietest sounding reference less 20 dB, as in `separation_rate`. What does not count leaves no figure, so a method
that finds too few sources is flattered: the shares of under-, equally and over-separated scenes belong beside it.

No epsilon is added. In the challenge's own code there is one, by which a silent estimate scores 0 dB and is assigned
before one that scores less; here it comes last.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sepbench.metrics.arrays import Array, signal_sets
from sepbench.metrics.pairing import Pairs, pair_by_separation
from sepbench.metrics.separation_rate import active_estimates
from sepbench.metrics.si_sdr import si_sdr, si_sdri

ALONE = "fuss_si_snr_1"  # absolute
POOLED = "fuss_si_snri"  # over all pairs of scenes with two sources and more
MOST_SOURCES = 4  # scenes of more are no part of the measure


def names_of(n_references: int) -> tuple[str, ...]:
    """The figures of a scene in which so many references sound; none where nothing does, or more than four do."""
    if n_references == 1:
        return (ALONE,)
    return (f"{POOLED}_{n_references}", POOLED) if 1 < n_references <= MOST_SOURCES else ()


def counted(pairs: Pairs, loud: Sequence[bool]) -> Pairs:
    """Those of the `pairs` (reference, estimate) whose estimate counts as a source."""
    return [(i, j) for i, j in pairs if loud[j]]


def fuss_si_snr(*, estimate: Array, reference: Array, mixture: Array) -> dict[str, Tensor]:
    """The figures of one scene in dB, higher is better: name -> (pair,), the same pairs for each name.

    Shapes: estimate (estimate, time), reference (reference, time), mixture (time,). Silent references are left out, and
    a reference without an estimate that counts has no figure. ValueError on other shapes and on non-finite samples.
    """
    e, s = signal_sets(estimate=estimate, reference=reference)
    s = s[(s != 0).any(-1)]
    pairs = counted(pair_by_separation(estimate=e, reference=s), active_estimates(estimate=e, reference=s).tolist())
    own, true = e[[j for _, j in pairs]], s[[i for i, _ in pairs]]
    absolute, gained = si_sdr(estimate=own, reference=true), si_sdri(estimate=own, reference=true, mixture=mixture)
    return {name: absolute if name == ALONE else gained for name in names_of(len(s))}
