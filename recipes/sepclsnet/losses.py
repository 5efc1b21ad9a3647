"""The four-part loss of SepClsNet (Verma, section III-D). All in float32, whatever the network computes in."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy

SILENT = 1e-8  # mean square at full scale 1: -80 dB
ENOUGH = 1e-3  # of the reference's energy: -30 dB


def separation_costs(estimate: Tensor, reference: Tensor) -> Tensor:
    """Eq. 12 for every estimate and every reference: their mean absolute difference ("MAE").

    Shapes: estimate, reference (batch, source, time) -> (batch, reference, estimate).
    """
    each = [(estimate - one[:, None]).abs().mean(-1) for one in reference.unbind(1)]  # a difference at a time in memory
    return torch.stack(each, 1)


def log_costs(estimate: Tensor, reference: Tensor, mixture: Tensor) -> Tensor:
    """Not the paper's: ln of the error's energy over the reference's (over the mixture's, where the reference is silent).

    That is minus the SNR, in nepers twice over, which a quiet source counts in as much as a loud one. Beyond -30 dB there
    is nothing to gain (Wisdom et al. 2021, "What's all the FUSS about free universal sound separation data?", section 3).

    Shapes: estimate, reference (batch, source, time), mixture (batch, time) -> (batch, reference, estimate).
    """
    energy = reference.square().mean(-1)  # (batch, source)
    energy = torch.where(energy > SILENT, energy, mixture.square().mean(-1, keepdim=True)) + SILENT
    error = torch.stack([(estimate - one[:, None]).square().mean(-1) for one in reference.unbind(1)], 1)
    return (error / energy[:, :, None] + ENOUGH).log()


def class_costs(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of every estimate against the label of every reference.

    Shapes: logits (batch, source, class), labels (batch, source) -> (batch, reference, estimate).
    """
    log_p = logits.log_softmax(-1)
    return -log_p[:, None].expand(-1, labels.shape[1], -1, -1).gather(-1, _spread(labels, logits.shape[1]))[..., 0]


def _spread(labels: Tensor, n_estimates: int) -> Tensor:
    return labels[:, :, None, None].expand(-1, -1, n_estimates, 1)


def classification_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Eq. 13. Shapes: logits (batch, source, class), labels (batch, source), in the same order."""
    return cross_entropy(logits.flatten(0, 1), labels.flatten())


def reconstruction_loss(estimate: Tensor, mixture: Tensor) -> Tensor:
    """Eq. 14, as a mean over samples; 0 where the estimates sum to the mixture. Shapes: (batch, source, time), (batch, time)."""
    return (mixture - estimate.sum(1)).abs().mean()


def orthogonality_loss(estimate: Tensor) -> Tensor:
    """Eq. 15: mean |cosine| over pairs of estimates; 0 for one source, and for silence. Shape: (batch, source, time)."""
    n_sources = estimate.shape[1]
    if n_sources < 2:
        return estimate.new_zeros(())
    one, other = torch.triu_indices(n_sources, n_sources, 1, device=estimate.device)
    return cosine_similarity(estimate[:, one], estimate[:, other], dim=-1).abs().mean()
