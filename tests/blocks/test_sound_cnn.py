"""The classifier of SepClsNet against the sizes its paper prints, and its front end against mel bands worked out anew."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchaudio.functional import melscale_fbanks

from sepbench.blocks.log_mel import EPSILON, LogMel
from sepbench.blocks.sound_cnn import SoundCnn
from sepbench.errors import UserError

CHANNELS = (32, 64, 128, 256)
RATE_HZ = 16000
SEPARATOR, GROUP_NORM, BOTTLENECK = 1_217_298, 2 * 256, 256 * 256 + 256  # what SepClsNet's `default` has beside it


def n_parameters(network: torch.nn.Module) -> int:
    return sum(each.numel() for each in network.parameters())


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# sizes


def test_one_convolution_per_layer_is_the_paper_taken_literally():
    assert n_parameters(SoundCnn(51, CHANNELS, 1)) == 401_907


def test_two_convolutions_per_layer_make_up_both_sizes_that_the_paper_prints():
    classifier = n_parameters(SoundCnn(51, CHANNELS, 2))
    assert classifier == 1_186_707 and round(classifier / 1e6, 1) == 1.2  # the Baseline CNN of Table II
    assert SEPARATOR + GROUP_NORM + BOTTLENECK + classifier == 2_470_309  # SepClsNet, 2.5 M


def test_the_front_end_learns_nothing_and_keeps_nothing():
    assert n_parameters(LogMel(RATE_HZ)) == 0 and not LogMel(RATE_HZ).state_dict()


def test_three_seconds_become_the_shapes_of_the_table():
    features = LogMel(RATE_HZ)(noise(2, 48000))
    assert features.shape == (2, 1, 64, 188)
    network = SoundCnn(51, CHANNELS, 2).eval()
    assert network.layers(features).shape == (2, 256, 4, 11) and network(features).shape == (2, 51)


# the front end


def test_mel_bands_are_powers_of_centred_frames():
    audio = 0.1 * noise(1, 4000).double().numpy()[0]
    padded = np.pad(audio, 256)
    frames = np.stack([padded[start : start + 512] for start in range(0, len(padded) - 511, 256)])
    power = np.abs(np.fft.rfft(frames * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)))) ** 2
    bank = melscale_fbanks(257, 0.0, 8000.0, 64, RATE_HZ).double().numpy()  # (bin, mel)
    expected = np.log(power @ bank + EPSILON).T
    found = LogMel(RATE_HZ)(torch.from_numpy(audio).float()[None])[0, 0]
    assert found.shape == expected.shape == (64, 16)
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-3)


def test_silence_is_the_floor_and_has_a_finite_gradient():
    audio = torch.zeros(1, 48000)
    audio[0, 20000:20100] = 1e-4 * noise(100)  # nearly silent too: there the logarithm is steepest
    audio.requires_grad_()
    features = LogMel(RATE_HZ)(audio)
    assert torch.allclose(features[..., :60], torch.tensor(EPSILON).log())
    features.sum().backward()
    assert audio.grad.isfinite().all() and audio.grad.abs().max() > 0


def test_features_stay_in_float32_where_the_network_does_not():
    front, network, audio = LogMel(RATE_HZ), SoundCnn(5, (4, 8), 2), 0.1 * noise(2, 8000)
    plain = front(audio)
    with torch.autocast("cpu", torch.bfloat16):
        features = front(audio.bfloat16().float())
        logits = network(features)
        assert torch.equal(front(audio), plain)
    assert features.dtype == torch.float32 and logits.dtype == torch.bfloat16
    logits.float().logsumexp(-1).sum().backward()
    assert all(each.grad.isfinite().all() for each in network.parameters())


# the network


@pytest.mark.parametrize("convs_per_layer", [1, 2])
def test_each_layer_has_its_convolutions_and_halves_both_axes(convs_per_layer: int):
    network = SoundCnn(3, (4, 8, 16), convs_per_layer)
    kinds = [type(each).__name__ for each in network.layers]
    assert kinds == ["Conv2d", "BatchNorm2d", "ReLU"] * convs_per_layer + ["MaxPool2d"] + kinds[3 * convs_per_layer + 1 :]
    assert kinds.count("Conv2d") == 3 * convs_per_layer and kinds.count("MaxPool2d") == 3
    assert network.layers(noise(1, 1, 64, 40)).shape == (1, 16, 8, 5)


def test_a_sound_counts_as_a_whole_wherever_its_parts_lie():
    network = SoundCnn(3, (4, 8), 1).eval()
    features = torch.zeros(2, 1, 64, 64)
    features[0, 0, 20:30, 8:16] = features[1, 0, 20:30, 40:48] = noise(10, 8)  # a multiple of what is pooled apart
    here, there = network(features)
    torch.testing.assert_close(here, there)


def test_a_sound_too_short_for_its_poolings_is_told_in_one_line():
    network = SoundCnn(3, CHANNELS, 1).eval()
    assert network(noise(1, 1, 64, 16)).shape == (1, 3)
    with pytest.raises(UserError, match="64 mel bands x 15 frames is too short .* takes 16. Choose longer") as told:
        network(noise(1, 1, 64, 15))
    assert "\n" not in str(told.value)
