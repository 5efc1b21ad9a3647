"""Whether a method finds as many sources as there are (FUSS; Wisdom et al. 2021, What's all the FUSS about free
universal sound separation data?): the share of scenes with fewer, as many and more active estimates than references.

A network with a fixed number of outputs never falls quite silent, so an estimate counts from a level on: that of the
quietest reference that sounds, less 20 dB.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from sepbench.metrics.arrays import Array, shape_text, signal_sets

ACTIVE_DB = -20.0  # against the quietest reference that sounds
BLOCK_SAMPLES = 1 << 20  # bounds the memory of one step: 8 MiB in float64, whatever the length of the signals

Outcome = Literal["under_separation", "equal_separation", "over_separation"]


def active_estimates(*, estimate: Array, reference: Array) -> Tensor:
    """Which estimates count as sources: those of more power than the quietest sounding reference has at -20 dB.

    Shapes: estimate (estimate, time), reference (reference, time) -> (estimate,), bool. At exactly -20 dB an estimate
    does not count. Where no reference sounds, every estimate counts that is not silent.
    ValueError on other shapes and on non-finite samples.
    """
    e, s = signal_sets(estimate=estimate, reference=reference)
    if e.ndim != 2:
        raise ValueError(f"estimate (estimate, time) is {shape_text(e)}: one scene at a time is wanted")
    return louder_than_threshold(e_energy=_energy(e), s_energy=_energy(s))


def louder_than_threshold(*, e_energy: Tensor, s_energy: Tensor) -> Tensor:
    """`active_estimates` from energies over the same time: (estimate,), (reference,) -> (estimate,), bool."""
    there = s_energy[s_energy > 0]
    threshold = 10 ** (ACTIVE_DB / 10) * there.min() if len(there) else 0.0
    return e_energy > threshold


def separation_outcome(*, n_estimates: int, n_references: int) -> Outcome:
    """Which of the three a scene is, from its active estimates and active references; report the share of each."""
    if n_estimates < n_references:
        return "under_separation"
    return "equal_separation" if n_estimates == n_references else "over_separation"


def _energy(sources: Tensor) -> Tensor:
    """Sum of squares over time in float64: (source, time) -> (source,). All last equally long, so it ranks power too."""
    blocks = sources.split(max(1, BLOCK_SAMPLES // max(1, len(sources))), dim=-1)
    return torch.stack([torch.linalg.vecdot(block, block) for block in map(Tensor.double, blocks)]).sum(0)
