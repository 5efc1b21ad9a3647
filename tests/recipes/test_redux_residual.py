"""What is left of several channels once an estimate at the first is taken out."""

from __future__ import annotations

import math

import pytest
import torch
from redux_scripts import noise, residual

KINDS = ["reference_channel", "mask_all"]
WINDOW = 256


def tone(cycles_per_sample: float, n_samples: int = 4000) -> torch.Tensor:
    return torch.sin(2 * math.pi * cycles_per_sample * torch.arange(n_samples))


def power_db(left: torch.Tensor, whole: torch.Tensor) -> float:
    return 10 * math.log10(float(left.square().mean() / whole.square().mean()) + 1e-30)


def test_the_reference_channel_is_subtracted_exactly():
    mixture, gone = noise(0, 4, 3001), noise(1, 3001)
    assert torch.equal(residual(mixture, gone, "reference_channel", WINDOW)[0], mixture[0] - gone)
    assert torch.equal(residual(mixture[:1], gone, "reference_channel", WINDOW), (mixture[0] - gone)[None])


def test_what_is_left_of_the_first_channel_is_the_same_alone_and_among_others():
    mixture, gone = noise(0, 4, 3001), 0.3 * noise(1, 3001)
    for kind in KINDS:
        alone = residual(mixture[:1], gone, kind, WINDOW)
        torch.testing.assert_close(alone, residual(mixture, gone, kind, WINDOW)[:1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_samples", [255, 1000, 4096])
def test_where_nothing_goes_everything_stays(kind: str, n_samples: int):
    mixture = noise(0, 4, n_samples)
    mixture[0, : n_samples // 2] = 0  # of a silent channel, too, nothing was taken
    left = residual(mixture, torch.zeros(n_samples), kind, WINDOW)
    torch.testing.assert_close(left, mixture, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_where_all_goes_nothing_stays(kind: str):
    mixture = noise(0, 4, 3000)
    assert residual(mixture, mixture[0], kind, WINDOW).abs().max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_two_tones_are_told_apart_in_every_channel(kind: str):
    low, high = tone(10 / WINDOW), tone(70 / WINDOW)
    gains = torch.tensor([[1.0, 0.7], [0.5, -0.3], [-0.2, 0.9], [0.8, 0.1]])
    mixture = gains @ torch.stack([low, high])
    left = residual(mixture, 0.7 * high, kind, WINDOW)
    for channel, gain in enumerate(gains[:, 0]):
        middle = slice(WINDOW, -WINDOW)  # at the ends, tones are cut off and spread
        assert power_db((left[channel] - gain * low)[middle], (gain * low)[middle]) < -25


def test_a_mask_never_makes_louder():
    mixture = noise(0, 3, 3000)
    left = residual(mixture, -mixture[0], "reference_channel", WINDOW)
    torch.testing.assert_close(left[0], 2 * mixture[0])
    torch.testing.assert_close(left[1:], mixture[1:], atol=1e-5, rtol=0)
    torch.testing.assert_close(residual(mixture, -mixture[0], "mask_all", WINDOW), mixture, atol=1e-5, rtol=0)


def test_it_is_as_loud_as_what_comes_in():
    mixture, gone = noise(0, 4, 3000), noise(1, 3000)
    for kind in KINDS:
        quiet = residual(1e-3 * mixture, 1e-3 * gone, kind, WINDOW)
        torch.testing.assert_close(quiet, 1e-3 * residual(mixture, gone, kind, WINDOW), atol=1e-7, rtol=1e-3)
