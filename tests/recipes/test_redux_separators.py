"""The separators of REDUX: sizes against the paper's table and formula, each part against plain torch, and what they promise."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import batch_norm, conv2d, leaky_relu

from sepbench.errors import UserError
from sepbench.loading import load_from

REPO = Path(__file__).resolve().parents[2]

load_from(REPO / "recipes" / "redux", "separators.py", "Separator")
from recipes.redux import resunet, separators  # noqa: E402  (a package once it is loaded)
from recipes.redux.attention import Gate  # noqa: E402
from recipes.redux.blocks import ResNetBlock, ResNeXtBlock, grouped_channels  # noqa: E402
from recipes.redux.film import Bend, Condition, one_hots  # noqa: E402
from recipes.redux.losses import snr_loss  # noqa: E402
from recipes.redux.separators import KINDS, build_separator  # noqa: E402
from recipes.redux.spec_augment import SpecAugment  # noqa: E402
from recipes.redux.spectra import Head, Spectra  # noqa: E402

FULL = SimpleNamespace(window=1024, hop=320, width=1.0, film=512, cardinality=8)
TINY = SimpleNamespace(window=64, hop=32, width=0.25, film=16, cardinality=8)
N_CLASSES, N_SLOTS, N_CHANNELS = 5, 3, 4
LABELS = torch.tensor([[0, 1, 2], [3, -1, 4]])
TOGETHER = [kind for kind in KINDS if kind != "resunet"]
TABLE_1 = {  # the paper's, channels in and out
    "encoders": [(32, 32), (32, 64), (64, 128), (128, 256), (256, 384)],
    "intermediate": [(384, 384)] * 3,
    "decoders": [(384, 384), (384, 256), (256, 128), (128, 64), (64, 32)],
}


def small(kind: str, seed: int = 0, sizes: SimpleNamespace = TINY, n_blocks: int = 1) -> separators.Separator:
    torch.manual_seed(seed)
    return build_separator(kind, N_CLASSES, N_SLOTS, N_CHANNELS, sizes, n_blocks, 8)


def answering(kind: str, seed: int = 0) -> separators.Separator:
    """One whose running statistics are no longer those of a new network, and whose masks say something."""
    network = small(kind, seed)
    network.head.masks.weight.data *= 10
    for _ in range(3):
        network(noise(4), torch.randint(N_CLASSES, (4, N_SLOTS)))
    return network.eval()


def noise(batch: int = 2, time: int = 2048, n_channels: int = N_CHANNELS) -> torch.Tensor:
    return 0.1 * torch.randn(batch, n_channels, time)


def snr_db(estimate: torch.Tensor, reference: torch.Tensor) -> float:
    error = (estimate - reference).detach()
    return 10 * math.log10(float(reference.square().sum() / error.square().sum()))


def n_parameters(network: nn.Module) -> int:
    return sum(each.numel() for each in network.parameters())


# sizes


@pytest.mark.parametrize("width", sorted({out for level in TABLE_1.values() for _, out in level}))
def test_grouped_convolutions_are_as_wide_as_the_block_at_the_papers_widths(width):
    assert grouped_channels(width, 8) == math.floor(4 * width / 32) * 8 == width


@pytest.mark.parametrize("cardinality", [1, 2, 4, 8, 16])
def test_grouped_convolutions_follow_equation_1(cardinality):
    for n_out in range(8, 400):
        assert grouped_channels(n_out, cardinality) == math.floor(4 * n_out / 32) * cardinality


def test_a_resnext_block_has_three_convolutions_of_which_the_second_is_grouped():
    shapes = [tuple(each.weight.shape) for each in ResNeXtBlock(64, 128, 16, 8).convolutions]
    assert shapes == [(128, 64, 1, 1), (128, 16, 3, 3), (128, 128, 1, 1)]
    shapes = [tuple(each.weight.shape) for each in ResNeXtBlock(64, 128, 16, 4).convolutions]  # half as wide inside
    assert shapes == [(64, 64, 1, 1), (64, 16, 3, 3), (128, 64, 1, 1)]


def test_levels_are_those_of_table_1():
    with torch.device("meta"):
        trunk = resunet.ResUNet(True, True, 1.0, 8, 1, 512)
    first = [level[0].bends[0].norm.num_features for level in trunk.encoders]
    last = [level[-1].convolutions[-1].out_channels for level in trunk.encoders]
    assert list(zip(first, last)) == TABLE_1["encoders"]
    first = [block.bends[0].norm.num_features for block in trunk.intermediate]
    last = [block.convolutions[-1].out_channels for block in trunk.intermediate]
    assert list(zip(first, last)) == TABLE_1["intermediate"]
    ups = [(level.up.in_channels, level.up.out_channels) for level in trunk.decoders]
    assert ups == TABLE_1["decoders"]
    assert [level.blocks[-1].convolutions[-1].out_channels for level in trunk.decoders] == [n_out for _, n_out in ups]


@pytest.mark.parametrize("width", [0.1, 0.25, 0.33, 0.5, 1.0])
def test_widths_are_multiples_of_eight_that_rise(width):
    found = resunet.widths(width)
    assert all(each % 8 == 0 and each >= 8 for each in found) and list(found) == sorted(found)


def film(channels: int) -> int:
    return (512 + 1) * 2 * channels


def resnet(n_in: int, n_out: int) -> int:
    return film(n_in) + film(n_out) + 9 * (n_in + n_out) * n_out + (n_in * n_out if n_in != n_out else 0)


def resnext(n_in: int, n_out: int) -> int:
    convolutions = n_in * n_out + 9 * n_out * n_out // 8 + n_out * n_out
    return film(n_in) + 2 * film(n_out) + convolutions + (n_in * n_out if n_in != n_out else 0)


def gate(n: int) -> int:
    half = n // 2
    return 2 * n * half + 9 * half * half + 2 * 2 * half + half + 1


def counted(kind: str, n_blocks: int) -> int:
    """How many parameters there must be, by the sizes in the papers: none of it is read off the network."""
    block = resnet if kind in ("resunet", "resunetk") else resnext
    n_at_once = 1 if kind == "resunet" else 3
    total = 2 * 512 + 9 * 4 * 32 + (18 * n_at_once + 1) * 512 + (512 + 1) * 512
    total += sum(block(*each) + (n_blocks - 1) * block(each[1], each[1]) for each in TABLE_1["encoders"])
    total += sum(block(*each) for each in TABLE_1["intermediate"])
    for n_in, n_out in TABLE_1["decoders"]:
        total += film(n_in) + 4 * n_in * n_out + (gate(n_out) if kind == "attentive_resunext" else 0)
        total += block(2 * n_out, n_out) + (n_blocks - 1) * block(n_out, n_out)
    return total + film(32) + (32 + 1) * 3 * n_at_once + 4


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_blocks", [1, 8])
def test_parameters_are_as_many_as_the_table_says(kind, n_blocks):
    with torch.device("meta"):
        trunk = resunet.ResUNet(*KINDS[kind][:2], 1.0, 8, n_blocks, 512)
        network = separators.Separator(trunk, (18, 3, 4), KINDS[kind][2], FULL, 80)
    assert n_parameters(network) == counted(kind, n_blocks)
    line = next(each for each in separators.__doc__.splitlines() if each.startswith(f"{kind} "))
    assert f"{counted(kind, n_blocks):,}" in line.split()


# parts, against plain torch


def test_one_hots_have_nothing_for_an_empty_slot():
    found = one_hots(torch.tensor([[2, -1], [0, 0]]), 3)
    assert found.tolist() == [[0, 0, 1, 0, 0, 0], [1, 0, 0, 1, 0, 0]]


@pytest.mark.parametrize(("n_in", "width"), [(15, 16), (54, 64), (54, 512)])
def test_labels_are_heard_from_the_first_step(n_in, width):
    torch.manual_seed(0)
    said = Condition(n_in, width)(torch.eye(n_in))  # each label alone
    assert 0.4 < float(said.detach().std(0).mean()) < 2  # over labels
    gain, _ = Bend(64, width).film(said.detach()).chunk(2, 1)
    assert 0.1 < float(gain.detach().std(0).mean()) < 1


def test_a_bend_is_batch_norm_then_film_then_leaky_relu():
    layer, x, condition = Bend(8, 4), torch.randn(2, 8, 5, 7), torch.randn(2, 4)
    gain, shift = layer.film(condition).split(8, 1)
    normal = batch_norm(x, None, None, training=True)
    wanted = leaky_relu((1 + gain[:, :, None, None]) * normal + shift[:, :, None, None], 0.01)
    torch.testing.assert_close(layer(x, condition), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block", [ResNetBlock, ResNeXtBlock])
@pytest.mark.parametrize("n_out", [16, 24])
def test_a_block_adds_to_what_came_in(block, n_out):
    layer, x, condition = block(16, n_out, 4, 8), torch.randn(2, 16, 6, 6), torch.randn(2, 4)
    with torch.no_grad():
        layer.convolutions[-1].weight.zero_()
    brought = x if n_out == 16 else conv2d(x, layer.shortcut.weight)
    torch.testing.assert_close(layer(x, condition), brought)


def test_a_gate_lets_through_a_share_for_each_frame_and_bin():
    gate, encoded, decoded = Gate(32), torch.randn(2, 32, 6, 10), torch.randn(2, 32, 6, 10)
    shares = gate.eval().requires_grad_(False).shares(encoded, decoded)
    assert shares.shape == (2, 1, 6, 10) and float(shares.min()) > 0 and float(shares.max()) < 1
    torch.testing.assert_close(gate(encoded, decoded), encoded * shares)
    assert float((gate.shares(encoded, -decoded) - shares).abs().max()) > 1e-3  # it hears the decoder
    assert float((gate.shares(-encoded, decoded) - shares).abs().max()) > 1e-3  # and the encoder


def test_a_gate_bends_what_both_convolutions_say_before_it_is_a_share():
    """After each of them a norm that says -1 everywhere: LeakyReLU leaves a hundredth of it."""
    gate = Gate(32).eval().requires_grad_(False)
    for part in (gate.encoded, gate.decoded, gate.across):
        part.weight.zero_()
    gate.share.weight.fill_(1.0), gate.share.bias.zero_()
    gate.norms[1].bias.fill_(-1.0)
    shares = gate.shares(torch.randn(1, 32, 3, 4), torch.randn(1, 32, 3, 4))
    torch.testing.assert_close(shares, torch.full((1, 1, 3, 4), -0.01 * 16).sigmoid())
    gate.norms[0].bias.fill_(-1.0), gate.norms[1].bias.zero_()
    gate.across.weight[:, :, 1, 1] = torch.eye(16)
    shares = gate.shares(torch.randn(1, 32, 3, 4), torch.randn(1, 32, 3, 4))
    torch.testing.assert_close(shares, torch.full((1, 1, 3, 4), -0.0001 * 16).sigmoid(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("time", [64, 65, 1000, 1024, 1055])
@pytest.mark.parametrize(("window", "hop"), [(64, 32), (64, 20), (1024, 320)])
def test_spectra_go_back_to_what_they_came_from(time, window, hop):
    audio, spectra = noise(2, time), Spectra(window, hop)
    torch.testing.assert_close(spectra.inverse(spectra(audio), time), audio, rtol=1e-4, atol=1e-6)


def test_rotations_have_modulus_one_and_masks_lie_between_0_and_1():
    head = Head(8, 3, 4)
    magnitude, rotation = head.answers(5 * torch.randn(2, 9, 6, 10))
    torch.testing.assert_close(rotation.abs(), torch.ones(2, 3, 6, 10))
    assert float(magnitude.min()) > 0 and float(magnitude.max()) < 1
    assert float(rotation.angle().abs().max()) > 3  # any angle can be


def test_a_mask_for_every_channel_and_then_a_mix_is_the_heads_answer():
    head, maps = Head(8, 3, 4), torch.randn(2, 8, 6, 10)
    head.mix.data = torch.randn(4)
    spectra = torch.randn(2, 4, 6, 10, dtype=torch.complex64)
    magnitude, rotation = head.answers(conv2d(maps, head.masks.weight, head.masks.bias))
    masked = (magnitude * rotation)[:, :, None] * spectra[:, None]  # (batch, output, channel, frame, bin)
    torch.testing.assert_close(head(maps, spectra), torch.einsum("bocft,c->boft", masked, head.mix.to(masked)))


# what separators promise


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("time", [64, 65, 999, 2048, 3001])
def test_answers_are_as_long_as_the_mixture(kind, time):
    found = small(kind).eval()(noise(2, time), LABELS)
    assert found.shape == (2, 3, time) and found.dtype == torch.float32 and bool(found.isfinite().all())


@pytest.mark.parametrize("kind", KINDS)
def test_empty_slots_and_silent_mixtures_are_answered_with_silence(kind):
    network = answering(kind)
    found = network(noise(), LABELS)
    assert (found.abs().amax(-1) > 0).tolist() == (LABELS >= 0).tolist()
    assert not network(noise(), torch.full((2, 3), -1)).any()
    assert not network(torch.zeros(2, 4, 1000), LABELS).any()
    assert network(noise(), LABELS[:, :0]).shape == (2, 0, 2048)


@pytest.mark.parametrize("kind", KINDS)
def test_before_it_has_learnt_every_output_is_nearly_the_reference_channel(kind):
    mixture = noise()
    found = small(kind).eval()(mixture, LABELS)
    assert min(snr_db(each, mixture[0, 0]) for each in found[0]) > 15


def test_the_order_of_labels_is_the_order_of_outputs_where_they_are_answered_one_by_one():
    network, mixture = answering("resunet"), noise()
    wanted = network(mixture, LABELS)
    for order in ([2, 0, 1], [1, 0, 2], [0], [2]):
        torch.testing.assert_close(network(mixture, LABELS[:, order]), wanted[:, order], rtol=1e-4, atol=1e-6)
    many = network(mixture, torch.arange(5).repeat(2, 1))  # more labels than slots
    torch.testing.assert_close(many[0, LABELS[0]], wanted[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", TOGETHER)
def test_labels_that_are_left_out_are_empty_slots(kind):
    network, mixture = answering(kind), noise()
    alone = LABELS.clone()
    alone[:, 1:] = -1
    torch.testing.assert_close(network(mixture, LABELS[:, :1]), network(mixture, alone)[:, :1])


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_answers_depend_on_the_label_and_on_every_channel(kind):
    network, mixture = answering(kind), noise()
    plain = network(mixture, LABELS)[0]
    assert float((network(mixture, (LABELS + 1) % 5)[0] - plain).abs().max()) > 1e-4
    for channel in range(N_CHANNELS):
        other = mixture.clone()
        other[:, channel] = 0
        assert float((network(other, LABELS)[0] - plain).abs().max()) > 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_scenes_of_a_batch_do_not_hear_one_another(kind):
    network, mixture = answering(kind), noise()
    each = torch.cat([network(mixture[[i]], LABELS[[i]]) for i in range(2)])
    torch.testing.assert_close(network(mixture, LABELS), each, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_blocks", [1, 2])
def test_the_loss_teaches_every_parameter(kind, n_blocks):
    network = small(kind, n_blocks=n_blocks)
    snr_loss(network(noise(), LABELS), 0.1 * torch.randn(2, 3, 2048), LABELS).backward()
    assert [name for name, each in network.named_parameters() if each.grad is None or not each.grad.any()] == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_without_sources_teaches_nothing(kind):
    network = small(kind)
    empty = torch.full((2, 3), -1)
    loss = snr_loss(network(noise(), empty), torch.zeros(2, 3, 2048), empty)
    loss.backward()
    assert loss.item() == 0 and not any(each.grad is not None and each.grad.any() for each in network.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_says_the_same_to_its_rounding(kind):
    network, mixture = answering(kind), noise()
    with torch.autocast("cpu", torch.bfloat16):
        found = network(mixture, LABELS)
    assert found.dtype == torch.float32 and snr_db(found, network(mixture, LABELS)) > 20
    with torch.autocast("cpu", torch.bfloat16):
        learnt = network.train()(mixture, LABELS)
    snr_loss(learnt, torch.randn_like(learnt), LABELS).backward()
    assert all(bool(each.grad.isfinite().all()) for each in network.parameters())


def test_another_number_of_channels_is_told_in_a_line():
    with pytest.raises(UserError, match=r"a mixture of 2 channel\(s\); the separator was built for 4"):
        small("resunetk")(noise(n_channels=2), LABELS)


def test_too_many_labels_are_told_in_a_line():
    with pytest.raises(UserError, match="4 labels at once; the separator was built for 3"):
        small("resunetk")(noise(), torch.zeros(2, 4, dtype=torch.long))


@pytest.mark.parametrize(("window", "hop"), [(64, 33), (63, 20), (64, 0)])
def test_windows_that_do_not_overlap_are_told_in_a_line(window, hop):
    with pytest.raises(UserError, match=f"a window of {window} samples every {hop}: wanted"):
        small("resunet", sizes=SimpleNamespace(**{**vars(TINY), "window": window, "hop": hop}))


# SpecAugment


def test_whole_bands_and_stretches_are_hidden_in_all_channels_of_a_scene():
    torch.manual_seed(0)
    kept = SpecAugment(8)(torch.ones(64, 4, 40, 30))
    assert set(kept.unique().tolist()) == {0.0, 1.0} and bool((kept == kept[:, :1]).all())
    frames, bins = kept[:, 0].amax(2), kept[:, 0].amax(1)  # 0 where a whole frame, a whole bin is hidden
    torch.testing.assert_close(kept[:, 0], frames[:, :, None] * bins[:, None])
    for axis in (frames, bins):
        hidden = (axis == 0).sum(1)
        assert 0 < int(hidden.max()) < 8 and len(hidden.unique()) > 3
        assert int(axis.diff(dim=1).abs().sum(1).max()) <= 2  # in one piece


def test_what_is_hidden_goes_on_where_it_stopped():
    torch.manual_seed(0)
    first, other, features = SpecAugment(8), SpecAugment(8), torch.ones(4, 1, 40, 30)
    first(features)
    other.load_state_dict(first.state_dict())
    before = torch.random.get_rng_state()
    following = first(features)
    assert bool((torch.random.get_rng_state() == before).all())
    assert bool((other(features) == following).all()) and not bool((first(features) == following).all())


def test_no_more_is_hidden_than_there_is():
    assert SpecAugment(80)(torch.ones(8, 1, 3, 2)).shape == (8, 1, 3, 2)


def test_parts_are_hidden_while_it_learns_and_is_told_to_and_only_from_the_features():
    network, spectra = small("resunext"), torch.randn(2, 4, 65, 33, dtype=torch.complex64)
    plain = network.features(spectra)
    network.masking = True
    assert float((network.features(spectra) != plain).float().mean()) > 0.01
    network.eval()
    masked = network.features(spectra)
    network.masking = False
    assert bool((masked == network.features(spectra)).all())  # nothing is hidden from one that answers
    network.train().masking = True
    network.head.masks.weight.data.zero_()  # then masks do not depend on features, and nothing else may be hidden
    mixture = noise()
    wanted = mixture[0, 0] * torch.sigmoid(torch.tensor(2.0))
    torch.testing.assert_close(network(mixture, LABELS)[0, 0], wanted, rtol=1e-4, atol=1e-5)


# the loss


def test_the_loss_is_minus_the_snr():
    rng = np.random.default_rng(0)
    reference, error = rng.normal(size=(2, 2, 3, 500))
    error *= np.sqrt((reference**2).sum(-1) / (error**2).sum(-1))[..., None]  # as loud as the reference
    gains_db = np.array([[-3.0, -10.0, -20.0], [0.0, -6.0, 5.0]])
    estimate = reference + 10 ** (gains_db / 20)[..., None] * error
    found = snr_loss(torch.tensor(estimate), torch.tensor(reference), torch.zeros(2, 3, dtype=torch.long))
    assert float(found) == pytest.approx(gains_db.mean(), abs=1e-4)


def test_slots_without_a_source_count_for_nothing():
    reference = torch.randn(2, 3, 500)
    estimate = (reference + torch.randn(2, 3, 500)).requires_grad_()
    labels = torch.tensor([[0, 1, -1], [2, -1, 3]])
    reference[1, 2] = 0  # labelled, and silent in these seconds
    found = snr_loss(estimate, reference, labels)
    each = [-snr_db(estimate[i, k].detach(), reference[i, k]) for i, k in ((0, 0), (0, 1), (1, 0))]
    assert float(found.detach()) == pytest.approx(np.mean(each), abs=1e-4)
    found.backward()
    assert (estimate.grad.abs().amax(-1) > 0).tolist() == [[True, True, False], [True, False, False]]


def test_without_any_source_the_loss_is_0_and_so_is_its_gradient():
    estimate = torch.zeros(2, 3, 500, requires_grad=True)
    loss = snr_loss(estimate, torch.zeros(2, 3, 500), torch.zeros(2, 3))
    loss.backward()
    assert float(loss) == 0 and not estimate.grad.any() and bool(estimate.grad.isfinite().all())


def test_a_perfect_answer_has_a_finite_loss_and_gradient():
    reference = torch.randn(1, 1, 500)
    estimate = reference.clone().requires_grad_()
    loss = snr_loss(estimate, reference, torch.zeros(1, 1))
    loss.backward()
    assert -130 < float(loss) < -80 and bool(estimate.grad.isfinite().all())


# learning


def bands(n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noise in one of 5 bands each for two of three slots: mixture, references, labels."""
    labels = torch.stack([torch.randperm(N_CLASSES, generator=generator)[:3] for _ in range(n)])
    labels[:, 2] = -1
    spectra = torch.fft.rfft(0.3 * torch.randn(n, 3, 2000, generator=generator))
    band = torch.arange(1001) // 200  # (bin,), 1001 -> class 5 at the very end
    sources = torch.fft.irfft(spectra * (band == labels[..., None]), 2000)
    mixture = sources.sum(1, keepdim=True) * torch.tensor([1.0, 0.5, -0.5, 0.2])[:, None]
    return mixture, sources, labels


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_to_hand_out_what_the_label_names(kind):
    network, generator = small(kind), torch.Generator().manual_seed(0)
    adam = torch.optim.AdamW(network.parameters(), 3e-3)
    for _ in range(100):
        mixture, sources, labels = bands(8, generator)
        loss = snr_loss(network(mixture, labels), sources, labels)
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        adam.step()
    mixture, sources, labels = bands(32, generator)
    with torch.no_grad():
        assert float(snr_loss(network.eval()(mixture, labels), sources, labels)) < -12
