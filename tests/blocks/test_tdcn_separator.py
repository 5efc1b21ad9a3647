"""The separator of TDCN++ against the sizes of the published models, and against the laws of masks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sepbench.blocks.bases import LearnedBasis, StftBasis
from sepbench.blocks.tdcn_separator import TdcnSeparator

RATE_HZ = 16000


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def n_parameters(network: nn.Module) -> int:
    return sum(each.numel() for each in network.parameters())


def paper(repeats: int, n_signals: int = 1, learned: bool = False) -> TdcnSeparator:
    basis = LearnedBasis(5, 2.5, RATE_HZ, 256) if learned else StftBasis(5, 2.5, RATE_HZ)
    return TdcnSeparator(basis, 2, n_signals, 128, 512, 8, repeats, "learned")


def small(consistency: str = "learned", n_signals: int = 1, learned: bool = False, **conditions) -> TdcnSeparator:
    torch.manual_seed(0)
    basis = LearnedBasis(5, 2.5, RATE_HZ, 24) if learned else StftBasis(5, 2.5, RATE_HZ)
    return TdcnSeparator(basis, 2, n_signals, 8, 12, 3, 2, consistency, **conditions)


# sizes


@pytest.mark.parametrize(("skips", "size"), [(True, 9_179_401), (False, 8_784_643)])
def test_the_fuss_baseline_has_its_size(skips, size):
    basis = StftBasis(32, 8, RATE_HZ)
    assert n_parameters(TdcnSeparator(basis, 4, 1, 256, 512, 8, 4, "learned", skips=skips)) == size


@pytest.mark.parametrize(("repeats", "size"), [(4, 4_384_521), (3, 3_269_958)])
def test_the_setting_of_the_paper_has_its_size(repeats, size):
    assert n_parameters(paper(repeats)) == size


@pytest.mark.parametrize(("repeats", "size"), [(4, 4_498_823), (3, 3_384_260)])
def test_learned_filters_have_their_size(repeats, size):
    assert n_parameters(paper(repeats, learned=True)) == size


@pytest.mark.parametrize(("repeats", "size"), [(4, 8_785_682), (3, 6_556_556)])
def test_a_second_network_hears_the_estimates_too(repeats, size):
    assert n_parameters(paper(repeats)) + n_parameters(paper(repeats, n_signals=3)) == size


def test_a_block_has_its_size():
    assert n_parameters(paper(3).core.blocks[0]) == 133_128


# masks


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("n_samples", [41, 1600, 1601])
def test_sources_are_as_long_as_the_mixture(learned, n_samples):
    sources, masks = small(learned=learned)(noise(3, 1, n_samples))
    assert sources.shape == (3, 2, n_samples)
    assert masks.shape == (3, 2, (n_samples - 1) // 40 + 2, 24 if learned else 65)
    assert ((masks > 0) & (masks < 1)).all()


@pytest.mark.parametrize("consistency", ["uniform", "learned"])
@pytest.mark.parametrize("learned", [False, True])
def test_estimates_add_up_to_the_mixture(consistency, learned):
    signals = 0.1 * noise(2, 3, 1600)
    sources, _ = small(consistency, 3, learned)(signals)
    torch.testing.assert_close(sources.sum(1), signals[:, 0], rtol=0, atol=1e-5)


def test_masks_of_one_give_the_mixture_in_every_source():
    separator, signals = small("none", 2), noise(2, 2, 1600)
    separator.basis.features = lambda coefficients: torch.ones(2, 130, 41)
    separator.core.input.bias.data.fill_(1.0)
    for block in separator.core.blocks:
        block.narrow.scale.data.zero_()
    separator.core.input.weight.data.zero_()
    separator.mask.data.fill_(1e3)
    sources, masks = separator(signals)
    assert (masks == 1).all()
    torch.testing.assert_close(sources, signals[:, :1].expand(-1, 2, -1), rtol=1e-4, atol=1e-5)


def test_masks_act_on_the_mixture_and_on_no_other_signal():
    separator, signals = small("none", 3), noise(1, 3, 1600)
    signals[:, 0] = 0
    sources, _ = separator(signals)
    assert float(sources.detach().abs().max()) == 0


def test_the_other_signals_change_the_masks():
    separator, signals = small("none", 3), noise(1, 3, 1600)
    _, masks = separator(signals)
    signals[:, 2] = 0
    assert not torch.allclose(separator(signals)[1], masks, atol=1e-3)


def test_conditions_reach_the_core():
    separator, signals = small(at_input=4, at_block={2: 3}), noise(1, 1, 1600)
    plain = separator(signals, noise(1, 4, 41), {2: noise(1, 3, 41)})[1]
    assert not torch.allclose(separator(signals, -noise(1, 4, 41), {2: noise(1, 3, 41)})[1], plain, atol=1e-4)
    assert not torch.allclose(separator(signals, noise(1, 4, 41), {2: -noise(1, 3, 41)})[1], plain, atol=1e-4)


@pytest.mark.parametrize("learned", [False, True])
def test_every_parameter_learns(learned):
    separator = small("learned", 2, learned, at_input=4, at_block={2: 8}, gate=True)
    sources, _ = separator(noise(2, 2, 1600), noise(2, 4, 41), {2: noise(2, 8, 41)})
    (sources * noise(2, 2, 1600, seed=5)).sum().backward()
    assert [name for name, each in separator.named_parameters() if not each.grad.abs().max() > 0] == []


@pytest.mark.parametrize("learned", [False, True])
def test_half_precision_stays_close(learned):
    separator, signals = small(learned=learned), noise(2, 1, 1600)
    exact = separator(signals)[0]
    with torch.autocast("cpu", torch.bfloat16):
        half, masks = separator(signals)
    assert half.dtype == masks.dtype == torch.float32
    assert ((half - exact).norm() / exact.norm()) < 0.05
