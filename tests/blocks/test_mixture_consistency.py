"""What mixture consistency promises: the estimates add up to the mixture, and the weights to 1."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sepbench.blocks.mixture_consistency import MixtureConsistency


@pytest.fixture(autouse=True)
def same_weights_every_time() -> None:
    torch.manual_seed(0)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def given() -> tuple[Tensor, Tensor, Tensor]:
    """Sources (batch, source, time), a mixture (batch, time), a core's answer (batch, channel, frame)."""
    return noise(2, 3, 500), noise(2, 500, seed=1), noise(2, 8, 20, seed=2)


@pytest.mark.parametrize("kind", ["uniform", "learned"])
@pytest.mark.parametrize("half", [False, True])
def test_estimates_add_up_to_the_mixture(kind, half):
    sources, mixture, core = given()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        found = MixtureConsistency(kind, 3, 8)(sources.bfloat16() if half else sources, mixture, core)
    torch.testing.assert_close(found.sum(1), mixture, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["uniform", "learned"])
def test_weights_add_up_to_one(kind):
    shares = MixtureConsistency(kind, 3, 8).shares(given()[2], 3)
    assert shares.shape == (2, 3) and (shares > 0).all()
    torch.testing.assert_close(shares.sum(-1), torch.ones(2))


@pytest.mark.parametrize("kind", ["uniform", "learned"])
def test_estimates_that_add_up_already_stay_as_they_are(kind):
    sources, _, core = given()
    torch.testing.assert_close(MixtureConsistency(kind, 3, 8)(sources, sources.sum(1), core), sources)


def test_uniform_gives_every_source_as_much():
    sources, mixture, core = given()
    added = MixtureConsistency("uniform", 3, 8)(sources, mixture, core) - sources
    torch.testing.assert_close(added, ((mixture - sources.sum(1)) / 3)[:, None].expand_as(added), rtol=1e-4, atol=1e-5)


def test_learned_weights_follow_from_the_mean_over_time():
    consistency, core = MixtureConsistency("learned", 3, 8), given()[2]
    expected = (consistency.weight @ core.mean(-1).T).T.softmax(-1)
    torch.testing.assert_close(consistency.shares(core, 3), expected)
    torch.testing.assert_close(consistency.shares(core.flip(-1), 3), expected)
    assert not torch.allclose(expected[0], expected[1], atol=1e-3)
    assert sum(each.numel() for each in consistency.parameters()) == 3 * 8


def test_learned_weights_learn():
    sources, mixture, core = given()
    consistency = MixtureConsistency("learned", 3, 8)
    consistency(sources, mixture, core)[:, 0].square().sum().backward()
    assert consistency.weight.grad.abs().max() > 0


def test_none_leaves_the_estimates_alone():
    sources, mixture, core = given()
    assert torch.equal(MixtureConsistency("none", 3, 8)(sources, mixture, core), sources)


def test_a_kind_that_is_none_is_refused():
    with pytest.raises(ValueError, match="'magsq': wanted one of none, uniform, learned"):
        MixtureConsistency("magsq", 3, 8)
