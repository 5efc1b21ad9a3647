"""What an estimate costs as an answer to a reference, in dB: minus its SNR, and a term for references that may be silent.

Shapes everywhere: estimate, reference (batch, source, time), mixture (batch, time) -> (batch, reference, estimate).
"""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-8  # of energies, full scale 1: what FUSS adds before it takes a logarithm
ENOUGH = 10 ** (-30 / 10)  # of the reference's energy: an error this small gains nothing more
QUIET = 10 ** (-20 / 10)  # of the mixture's energy: a silent reference is answered, once the estimate is as quiet as this
SILENT_RMS = 1e-8


def snr_costs(estimate: Tensor, reference: Tensor, mixture: Tensor) -> Tensor:
    """Minus the SNR (Tzinis et al. 2020, eq. 2). A silent reference has none: there, the term of `thresholded_costs`."""
    error, energy = errors(estimate, reference), _energy(reference)[:, :, None]
    return torch.where(_sounds(reference), _db(error) - _db(energy), _silence_costs(estimate, mixture))


def thresholded_costs(estimate: Tensor, reference: Tensor, mixture: Tensor) -> Tensor:
    """The loss of FUSS (Wisdom et al. 2021): the error's energy, as far as it is above -30 dB of the reference's.

    Where the reference is silent: the estimate's energy, as far as it is above -20 dB of the mixture's, so that silence
    is learnt too. Other than `snr_costs` it does not take the reference's own level off, which moves no gradient.
    """
    error, energy = errors(estimate, reference), _energy(reference)[:, :, None]
    return torch.where(_sounds(reference), _db(error + ENOUGH * energy), _silence_costs(estimate, mixture))


def errors(estimate: Tensor, reference: Tensor) -> Tensor:
    """Energy of what lies between every reference and every estimate; no more than one difference is held at a time."""
    return torch.stack([_energy(estimate - one[:, None]) for one in reference.unbind(1)], 1)


def pairing_costs(estimate: Tensor, reference: Tensor) -> Tensor:
    """What the order of the estimates is chosen by: the error's energy in dB without any threshold."""
    return _db(errors(estimate, reference))


def _silence_costs(estimate: Tensor, mixture: Tensor) -> Tensor:
    return _db(_energy(estimate)[:, None] + QUIET * _energy(mixture)[:, None, None])


def _sounds(reference: Tensor) -> Tensor:
    """(batch, reference, 1)."""
    return reference.square().mean(-1, keepdim=True).sqrt() > SILENT_RMS


def _energy(signal: Tensor) -> Tensor:
    return signal.square().sum(-1)


def _db(energy: Tensor) -> Tensor:
    return 10 * torch.log10(energy + TINY)


COSTS = {"snr": snr_costs, "thresholded": thresholded_costs}
