"""Estimates that add up to their mixture (Wisdom et al. 2019, "Differentiable consistency constraints", section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from .tdcn import glorot

KINDS = ("none", "uniform", "learned")


class MixtureConsistency(nn.Module):
    """s_j + w_j (x - sum s): what the estimates miss of the mixture is shared out, by weights that add up to 1.

    none     estimates stay as they are
    uniform  the same for every source
    learned  softmax of a dense layer without bias on the mean over time of what the masks are made of, as in the FUSS
             baseline; n_sources * channels parameters
    """

    def __init__(self, kind: str, n_sources: int, channels: int):
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"mixture consistency {kind!r}: wanted one of {', '.join(KINDS)}")
        self.kind = kind
        if kind == "learned":
            self.weight = glorot(n_sources, channels)

    def forward(self, sources: Tensor, mixture: Tensor, core: Tensor) -> Tensor:
        """Shapes: sources (batch, source, time), mixture (batch, time), core (batch, channel, frame) -> as sources, float32."""
        if self.kind == "none":
            return sources
        with torch.autocast(sources.device.type, enabled=False):
            sources = sources.float()
            missed = mixture - sources.sum(1)
            return sources + self.shares(core, sources.shape[1])[..., None] * missed[:, None]

    def shares(self, core: Tensor, n_sources: int) -> Tensor:
        """(batch, channel, frame) -> (batch, source), adding up to 1."""
        if self.kind == "learned":
            return linear(core.float().mean(-1), self.weight).softmax(-1)
        return core.new_full((core.shape[0], n_sources), 1 / n_sources, dtype=torch.float32)
