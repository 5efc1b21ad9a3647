"""Both bases: every sample is heard, unit masks give it back, features are what the papers' code makes of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sepbench.blocks.bases import LearnedBasis, StftBasis
from sepbench.errors import UserError


@pytest.fixture(autouse=True)
def same_weights_every_time() -> None:
    torch.manual_seed(0)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("window_ms", "hop_ms", "rate_hz"), [(5, 2.5, 16000), (32, 8, 16000), (5, 2.5, 22050), (6, 2, 8000)]
)
@pytest.mark.parametrize("n_samples", [1, 39, 40, 41, 1600, 1601])
def test_unit_masks_give_back_every_sample(window_ms, hop_ms, rate_hz, n_samples):
    basis, audio = StftBasis(window_ms, hop_ms, rate_hz), noise(2, 3, n_samples)
    coefficients = basis.analyse(audio)
    assert coefficients.shape == (2, 3, basis.n_frames(n_samples), basis.n_bins)
    torch.testing.assert_close(basis.synthesise(coefficients, n_samples), audio, rtol=1e-5, atol=1e-5)


def test_windows_are_filled_up_to_the_next_power_of_two():
    assert StftBasis(5, 2.5, 16000).n_bins == 65  # 80 samples, 128
    assert StftBasis(32, 8, 16000).n_bins == 257  # 512 samples as they are
    assert StftBasis(5, 2.5, 16000).n_frames(48000) == 1201  # 3 s


def test_a_frame_of_the_middle_is_a_spectrum_written_out():
    basis, audio = StftBasis(5, 2.5, 16000), noise(1, 1, 400).double()
    t = torch.arange(80).double()
    window = torch.sin(torch.pi * t / 80)  # the square root of a periodic Hann window
    wave = torch.exp(-2j * torch.pi * torch.outer(torch.arange(65).double(), t) / 128)
    expected = (wave * (window * audio[0, 0, 120:200])).sum(1)
    found = basis.analyse(audio)[0, 0, 4]  # the first begins 40 samples before the sound, so this one at 4 * 40 - 40
    torch.testing.assert_close(found.to(torch.complex128), expected, rtol=1e-4, atol=1e-4)


def test_features_have_one_mean_and_one_deviation_over_all_of_a_sample():
    basis, audio = StftBasis(5, 2.5, 16000), noise(2, 3, 4000) * torch.tensor([1.0, 5.0])[:, None, None]
    features = basis.features(basis.analyse(audio))
    assert features.shape == (2, 3 * 65, basis.n_frames(4000))
    for each in features:
        assert float(each.mean().detach()) == pytest.approx(0, abs=1e-4)
        assert float(each.std(correction=0).detach()) == pytest.approx(1, abs=1e-3)
    basis.gain.data.fill_(2.0)
    basis.shift.data.fill_(-1.0)
    torch.testing.assert_close(basis.features(basis.analyse(audio)), 2 * features - 1, rtol=1e-4, atol=1e-4)


def test_the_features_of_quiet_sounds_are_hardly_raised():
    basis = StftBasis(5, 2.5, 16000)
    coefficients = basis.analyse(1e-3 * noise(2, 1, 4000))
    magnitudes = coefficients[:, 0].abs()  # (batch, frame, bin)
    mean, variance = magnitudes.mean((1, 2), keepdim=True), magnitudes.var((1, 2), correction=0, keepdim=True)
    expected = (magnitudes - mean) / (variance + 1e-3).sqrt()
    torch.testing.assert_close(basis.features(coefficients), expected.transpose(1, 2), rtol=1e-3, atol=1e-5)
    assert 0.01 < float(expected.std()) < 0.5


def test_features_keep_how_signals_compare():
    basis, audio = StftBasis(5, 2.5, 16000), noise(1, 2, 4000)
    features = basis.features(basis.analyse(audio * torch.tensor([1.0, 0.1])[None, :, None]))[0]
    assert features[:65].mean() > features[65:].mean() + 1  # a norm for each signal would make both 0


@pytest.mark.parametrize("basis", [StftBasis(5, 2.5, 16000), LearnedBasis(5, 2.5, 16000, 24)])
def test_the_signals_of_features_are_in_order(basis):
    audio = noise(1, 2, 800)
    coefficients = basis.analyse(audio)
    magnitudes = torch.cat(list(coefficients[0].abs()), -1).T  # (signal * feature, frame)
    found = basis.features(coefficients)[0]
    assert torch.corrcoef(torch.stack([found.flatten(), magnitudes.flatten()]))[0, 1] > 0.99999
    assert found.shape == (2 * basis.n_features, basis.n_frames(800))


def test_silence_has_features_and_gradients_that_are_finite():
    basis = StftBasis(5, 2.5, 16000)
    audio = torch.zeros(1, 2, 800, requires_grad=True)
    features = basis.features(basis.analyse(audio))
    features.square().sum().backward()
    assert features.isfinite().all() and audio.grad.isfinite().all()


def test_learned_coefficients_are_never_below_zero_and_are_the_features():
    basis = LearnedBasis(5, 2.5, 16000, 24)
    coefficients = basis.analyse(noise(2, 1, 800))
    assert coefficients.shape == (2, 1, basis.n_frames(800), 24) and float(coefficients.detach().min()) == 0
    torch.testing.assert_close(basis.features(coefficients), coefficients[:, 0].transpose(1, 2))


@pytest.mark.parametrize("n_samples", [1, 40, 801])
def test_a_learned_basis_hears_every_sample_as_often_and_answers_as_long(n_samples):
    basis = LearnedBasis(5, 2.5, 16000, 24)
    audio = noise(1, 1, n_samples).requires_grad_()
    coefficients = basis.analyse(audio)
    assert coefficients.shape[2] == basis.n_frames(n_samples)
    assert basis.synthesise(coefficients, n_samples).shape == audio.shape
    for basis.encoder.filterbank._filters.data in (torch.ones(24, 1, 80), -torch.ones(24, 1, 80)):
        audio.grad = None
        basis.analyse(audio.abs()).sum().backward()
        heard = (audio.grad != 0).squeeze()
        assert heard.all() if basis.encoder.filterbank._filters.data[0, 0, 0] > 0 else not heard.any()


def test_a_learned_basis_is_made_of_two_sets_of_filters():
    assert sum(each.numel() for each in LearnedBasis(5, 2.5, 16000, 24).parameters()) == 2 * 24 * 80


@pytest.mark.parametrize(("window_ms", "hop_ms"), [(5, 2), (5, 5), (5, 10), (0.02, 0.01)])
def test_windows_that_hops_do_not_fill_are_refused_in_one_line(window_ms, hop_ms):
    with pytest.raises(UserError, match="wanted a window of 2, 3, ... hops") as found:
        StftBasis(window_ms, hop_ms, 16000)
    assert "\n" not in str(found.value)
