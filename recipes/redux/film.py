"""FiLM (Perez et al. 2018): labels become a gain and a shift per channel, before each activation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, one_hot

SLOPE = 0.01  # of LeakyReLU below 0; the paper names none


def one_hots(labels: Tensor, n_classes: int) -> Tensor:
    """Labels (batch, slot), -1 where a slot is empty -> (batch, slot * class): a 1 per label, nothing for an empty slot."""
    return one_hot(labels + 1, n_classes + 1)[..., 1:].flatten(1).float()


class Condition(nn.Module):
    """What to separate, as all of a separator's FiLM layers hear it: two layers of `width`, LeakyReLU after each.

    Weights begin so large that one label among many zeros comes out at a scale of 1: with torch's own, far smaller ones, labels
    are all but unheard at first. So every separator learns to hand out noise bands by their labels in 100 steps, to 12 dB.
    """

    def __init__(self, n_in: int, width: int):
        super().__init__()
        layers = nn.Linear(n_in, width), nn.Linear(width, width)
        nn.init.normal_(layers[0].weight)
        nn.init.kaiming_normal_(layers[1].weight, SLOPE)
        self.layers = nn.Sequential(layers[0], nn.LeakyReLU(SLOPE), layers[1], nn.LeakyReLU(SLOPE))

    def forward(self, labels: Tensor) -> Tensor:
        """(batch, slot * class) -> (batch, condition)."""
        return self.layers(labels)


class Bend(nn.Module):
    """BatchNorm, FiLM, LeakyReLU: what comes before every convolution of the blocks.

    The norm has no gain and shift of its own, since FiLM's biases are just that; a gain of FiLM is 1 + what its layer says.
    """

    def __init__(self, channels: int, condition: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.film = nn.Linear(condition, 2 * channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(batch, channel, frame, bin), (batch, condition) -> (batch, channel, frame, bin)."""
        gain, shift = self.film(condition).to(x.dtype)[:, :, None, None].chunk(2, 1)  # (batch, channel, 1, 1)
        return leaky_relu(torch.addcmul(shift, self.norm(x), 1 + gain), SLOPE, inplace=True)
