"""What the separators learn by: the SDR of section 3.1, which is a plain SNR in dB, of the slots that hold a source."""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-8  # of energies, full scale 1, added before the logarithm
SILENT_RMS = 1e-8


def snr_loss(estimate: Tensor, reference: Tensor, labels: Tensor) -> Tensor:
    """Minus the SNR in dB, its mean over all slots of the batch that have a label and a source that sounds.

    The others are left out of the mean, and no gradient comes from them; without any, the loss is 0, and so is its gradient.
    Shapes: estimate, reference (batch, slot, time), labels (batch, slot), -1 where a slot is empty -> (). In float32.
    """
    estimate, reference = estimate.float(), reference.float()
    sounds = (labels >= 0) & (reference.square().mean(-1).sqrt() > SILENT_RMS)  # (batch, slot)
    costs = _db((estimate - reference).square().sum(-1)) - _db(reference.square().sum(-1))
    return torch.where(sounds, costs, 0.0 * costs).sum() / sounds.sum().clamp_min(1)


def _db(energy: Tensor) -> Tensor:
    return 10 * torch.log10(energy + TINY)
