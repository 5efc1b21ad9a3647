"""TDCN++ against one block written out with loops, and against the laws of its residuals, skips and conditions."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from sepbench.blocks.frames_first import spread
from sepbench.blocks.tdcn import Block, Dense, PreluNorm, Tdcn


@pytest.fixture(autouse=True)
def same_weights_every_time() -> None:
    torch.manual_seed(0)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def shaken(module: nn.Module) -> nn.Module:
    """Every parameter moved away from where it starts, so that none goes unnoticed."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return module


def by_hand(block: Block, y: Tensor, dilation: int) -> Tensor:
    """One block, one sample (channel, frame), step by step as the table of the specification has it."""

    def bent_and_normed(x: Tensor, slope: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
        x = torch.where(x > 0, x, slope * x)
        mean = x.mean(1, keepdim=True)
        variance = ((x - mean) ** 2).mean(1, keepdim=True)
        return gain * (x - mean) / torch.sqrt(variance + 1e-3) + shift

    state = dict(block.named_parameters())
    x = state["widen.scale"] * (state["widen.weight"] @ y)
    x = bent_and_normed(x, state["first.slope"], state["first.gain"], state["first.shift"])
    n_frames, spread = x.shape[1], torch.zeros_like(x)
    for t in range(n_frames):
        for tap in range(3):
            source = t + (tap - 1) * dilation
            if 0 <= source < n_frames:
                spread[:, t] += state["taps"][:, tap] * x[:, source]
    spread = spread + state["bias"][:, None]
    x = bent_and_normed(spread, state["second.slope"], state["second.gain"], state["second.shift"])
    return y[: state["narrow.weight"].shape[0]] + state["narrow.scale"] * (state["narrow.weight"] @ x)


@pytest.mark.parametrize("dilation", [1, 2, 8, 9, 64])  # beyond all frames too
def test_a_block_is_what_the_specification_writes(dilation):
    block = shaken(Block(4, 0, 6, dilation, 0.5)).double()
    y = noise(2, 4, 9).double()
    expected = torch.stack([by_hand(block, each, dilation) for each in y])
    torch.testing.assert_close(block(y.transpose(1, 2)).transpose(1, 2), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("n_frames", "dilation"), [(1, 1), (2, 1), (9, 1), (9, 2), (9, 4), (9, 16)])
@pytest.mark.parametrize("condition", [0, 3])
def test_a_block_has_the_right_gradients(n_frames, dilation, condition):
    block = shaken(Block(4, condition, 6, dilation, 0.5)).double()
    block.first.slope.data.fill_(-0.2)  # where one bends back, signs say nothing about what came in
    asked = [noise(2, n_frames, 4).double(), *([noise(2, n_frames, condition, seed=1).double()] if condition else [])]
    asked += [each.detach().clone() for each in block.parameters()]
    names = [name for name, _ in block.named_parameters()]
    n_inputs = len(asked) - len(names)

    def answer(*given: Tensor) -> Tensor:
        return torch.func.functional_call(block, dict(zip(names, given[n_inputs:])), given[:n_inputs])

    assert torch.autograd.gradcheck(answer, [each.requires_grad_() for each in asked])


def test_a_block_keeps_two_tensors_of_hidden_channels_for_its_gradient():
    block, y = Block(8, 0, 512, 2, 0.5), noise(2, 300, 8).requires_grad_()
    kept: dict[int, Tensor] = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.setdefault(id(x), x), lambda x: x):
        block(y)
    assert sum(x.shape[1:] == (300, 512) for x in kept.values() if x.dim() == 3) == 2


def test_silence_has_gradients_that_are_finite():
    core, x = Tdcn(5, 16, 32, 3, 2), torch.zeros(2, 5, 40, requires_grad=True)
    core(x).square().sum().backward()
    assert all(each.grad.isfinite().all() for each in (x, *core.parameters()))


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_half_precision_stays_close(precision):
    core, x = Tdcn(5, 16, 32, 3, 2), noise(2, 5, 40)
    exact = core(x)
    with torch.autocast("cpu", precision):
        half = core(x)
    assert ((half - exact).norm() / exact.norm()) < 0.03


def test_what_blocks_add_to_squares_beyond_float16_stays_close():
    core, x = Tdcn(5, 16, 32, 3, 2, skips=False), 3000 * noise(2, 5, 40)
    exact = core(x)
    with torch.autocast("cpu", torch.float16):
        half = core(x)
    added, added_half = (each - core.input(x.transpose(1, 2)).transpose(1, 2) for each in (exact, half))
    assert torch.cosine_similarity(added.flatten(), added_half.flatten(), 0) > 0.9


def test_what_blocks_add_to_is_not_in_half_precision():
    core, heard = Tdcn(5, 16, 32, 3, 2, skips=False), []
    for block in core.blocks:
        block.register_forward_pre_hook(lambda _, given: heard.append(given[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        assert core(noise(2, 5, 40)).dtype == torch.float32
    assert heard == 6 * [torch.float32]


def test_half_precision_has_gradients_close_to_the_exact_ones():
    core = Tdcn(5, 16, 32, 3, 2)
    x, towards = noise(2, 5, 400), noise(2, 16, 400, seed=1)
    (core(x) * towards).sum().backward()
    exact = {name: each.grad.clone() for name, each in core.named_parameters()}
    core.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        half = core(x)
    (half * towards).sum().backward()
    for name, each in core.named_parameters():
        assert each.grad.dtype == torch.float32
        if each.dim() > 1:  # one number, or one per channel, sums over so much that half precision leaves noise
            assert torch.cosine_similarity(each.grad.flatten(), exact[name].flatten(), 0) > 0.9, name


def test_the_scale_of_a_residual_falls_with_the_block_over_all_repeats():
    core = Tdcn(5, 4, 6, 3, 2)
    found = [float(block.narrow.scale.detach()) for block in core.blocks]
    assert found == pytest.approx([0.9**i for i in range(6)])
    assert all(float(block.widen.scale.detach()) == 1 for block in core.blocks)


def test_every_activation_starts_at_a_slope_of_a_tenth_and_its_norm_at_nothing():
    norms = [each for each in Tdcn(5, 4, 6, 3, 2).modules() if isinstance(each, PreluNorm)]
    assert len(norms) == 12
    assert all(torch.equal(each.numbers(), torch.tensor([0.1, 1.0, 0.0])) for each in norms)


def test_the_scale_of_a_dense_layer_is_that_of_its_bias_too():
    dense, x = shaken(Dense(3, 4, bias=True, scale=1.0)), noise(2, 9, 3)
    once = dense(x)
    dense.scale.data *= 2
    torch.testing.assert_close(dense(x), 2 * once)
    assert dense.bias.abs().min() > 1e-3


def test_dilations_double_and_start_anew_in_every_repeat():
    assert [block.dilation for block in Tdcn(5, 4, 6, 3, 2).blocks] == [1, 2, 4, 1, 2, 4]


@pytest.mark.parametrize(("repeats", "n_skips"), [(1, 0), (2, 1), (3, 3), (4, 6)])
def test_every_repeat_hears_the_input_of_every_earlier_one(repeats, n_skips):
    count = lambda core: sum(each.numel() for each in core.parameters())  # noqa: E731
    with_skips, without = Tdcn(5, 4, 6, 2, repeats), Tdcn(5, 4, 6, 2, repeats, skips=False)
    assert count(with_skips) - count(without) == n_skips * (4 * 4 + 4 + 1)


def test_skips_start_at_the_input_of_a_repeat_as_it_was_after_its_own_skips():
    core = shaken(Tdcn(3, 4, 6, 1, 3)).double()
    x = noise(1, 3, 7).double()
    b0, b1, b2 = core.blocks
    (first,), (second, third) = core.skips[1], core.skips[2]
    y0 = core.input(x.transpose(1, 2))
    y1 = b0(y0) + first(y0)
    y2 = b1(y1) + second(y0) + third(y1)
    torch.testing.assert_close(core(x), b2(y2).transpose(1, 2))


@pytest.mark.parametrize(("repeats", "n_frames"), [(4, 2041), (3, 1531)])
def test_the_receptive_field_is_what_the_dilations_add_up_to(repeats, n_frames):
    assert Tdcn(1, 1, 1, 8, repeats).receptive_field == n_frames


def without_norms(block: Block, y: Tensor, beside: Tensor | None = None) -> Tensor:
    return y + block.narrow(spread(block.widen(y), *block.taps.T, block.dilation))


def test_an_answer_depends_on_the_frames_of_the_receptive_field_and_no_other():
    core = shaken(Tdcn(2, 3, 4, 3, 2)).double()
    for block in core.blocks:  # norms hear everything
        block.forward = partial(without_norms, block)
    x = noise(1, 2, 101).double().requires_grad_()
    core(x)[0, :, 50].sum().backward()
    heard = x.grad[0].abs().sum(0).nonzero()
    assert int(heard.max() - heard.min()) + 1 == core.receptive_field == 29


def test_the_gain_of_a_block_passes_no_norm():
    block = shaken(Block(4, 0, 6, 2, 0.5)).double()
    y = 100 * noise(2, 50, 4).double()
    torch.testing.assert_close(block(2 * y) - 2 * y, block(y) - y, rtol=1e-4, atol=1e-4)


# conditions


def test_concatenated_channels_follow_the_features():
    core = shaken(Tdcn(3, 4, 6, 2, 1, at_input=5))
    x, condition = noise(2, 3, 9), noise(2, 5, 9, seed=1)
    plain = Tdcn(8, 4, 6, 2, 1)
    plain.load_state_dict(core.state_dict())
    torch.testing.assert_close(core(x, condition), plain(torch.cat([x, condition], 1)))


def test_a_block_adds_to_its_input_without_the_condition():
    core = shaken(Tdcn(3, 4, 6, 2, 1, at_block={1: 5}))
    x, condition = noise(2, 3, 9), noise(2, 5, 9, seed=1)
    first, second = core.blocks
    assert second.widen.weight.shape == (6, 4 + 5) and first.widen.weight.shape == (6, 4)
    y = first(core.input(x.transpose(1, 2)))
    second.narrow.scale.data.zero_()
    torch.testing.assert_close(core(x, None, {1: condition}), y.transpose(1, 2))


def test_a_condition_that_the_weights_ignore_changes_nothing():
    core, plain = shaken(Tdcn(3, 4, 6, 2, 1, at_block={0: 5})), Tdcn(3, 4, 6, 2, 1)
    weight = core.blocks[0].widen.weight
    weight.data[:, 4:] = 0
    plain.load_state_dict({**core.state_dict(), "blocks.0.widen.weight": weight[:, :4]})
    x = noise(2, 3, 9)
    torch.testing.assert_close(core(x, None, {0: noise(2, 5, 9)}), plain(x))
    weight.data[:, 4:] = 1
    assert not torch.allclose(core(x, None, {0: noise(2, 5, 9)}), plain(x), atol=1e-2)


def test_a_gate_multiplies_and_the_block_adds_to_the_product():
    core = shaken(Tdcn(3, 4, 6, 1, 1, at_block={0: 4}, gate=True))
    x, condition = noise(2, 3, 9), noise(2, 4, 9, seed=1)
    (block,) = core.blocks
    u = core.input(x.transpose(1, 2)) * condition.transpose(1, 2)
    torch.testing.assert_close(core(x, None, {0: condition}), block(u).transpose(1, 2))
    block.narrow.scale.data.zero_()
    torch.testing.assert_close(core(x, None, {0: condition}), u.transpose(1, 2))


def test_a_gate_of_ones_changes_nothing():
    gated, plain = shaken(Tdcn(3, 4, 6, 2, 1, at_block={0: 4, 1: 4}, gate=True)), Tdcn(3, 4, 6, 2, 1)
    plain.load_state_dict(gated.state_dict())
    x, ones = noise(2, 3, 9), torch.ones(2, 4, 9)
    torch.testing.assert_close(gated(x, None, {0: ones, 1: ones}), plain(x))


def test_a_gate_of_other_channels_than_the_input_is_refused():
    with pytest.raises(ValueError, match="a gate of 5 channels for block 0: its input has 4"):
        Tdcn(3, 4, 6, 2, 1, at_block={0: 5}, gate=True)


def test_a_condition_for_a_block_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="the blocks are 0 to 1"):
        Tdcn(3, 4, 6, 2, 1, at_block={2: 5})


@pytest.mark.parametrize("at_input", [None, torch.zeros(1, 5, 9)])
def test_conditions_that_nobody_asked_for_or_that_are_missing_are_refused(at_input):
    core = Tdcn(3, 4, 6, 2, 1, at_input=0 if at_input is not None else 5)
    with pytest.raises(ValueError, match="wanted blocks"):
        core(noise(1, 3, 9), at_input)
    with pytest.raises(ValueError, match="conditions for blocks"):
        Tdcn(3, 4, 6, 2, 1)(noise(1, 3, 9), None, {1: noise(1, 5, 9)})
