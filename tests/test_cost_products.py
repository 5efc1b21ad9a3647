"""Multiply-accumulates are counted to the last one, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import flop_registry

from sepbench import cost
from sepbench.scene import Estimate, Mixture

MODES = [torch.no_grad, torch.inference_mode, torch.enable_grad]


class Doing:
    """A method that does something, whatever it is given."""

    def __init__(self, work: Callable[[], Any]):
        self.work = work

    def separate(self, given: list[Mixture]) -> list[Estimate]:
        self.work()
        return [Estimate(each.audio) for each in given]


def counted(work: Callable[[], Any]) -> dict[str, Any]:
    """What is said of the multiply-accumulates of one call, on a second of audio."""
    return cost._macs(Doing(work), Mixture(torch.zeros(1, 8000), 8000, "0"), 1.0)


def macs(work: Callable[[], Any]) -> float:
    found = counted(work)
    assert "macs_not_counted" not in found, found
    return found["macs_per_s"]


# recurrent layers

STEPS, BATCH, FEATURES, HIDDEN = 7, 2, 8, 6


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrent_layers_count_each_matrix_once_per_step(kind, gates, layers, bidirectional, batch_first):
    network = kind(FEATURES, HIDDEN, layers, batch_first=batch_first, bidirectional=bidirectional)
    directions = 2 if bidirectional else 1
    inputs = [FEATURES] + [directions * HIDDEN] * (layers - 1)
    wanted = STEPS * BATCH * directions * sum(gates * HIDDEN * (each + HIDDEN) for each in inputs)
    x = torch.randn(*((BATCH, STEPS) if batch_first else (STEPS, BATCH)), FEATURES)
    half = x.bfloat16()  # as a convolution before it hands over
    for mode in MODES:
        with mode():
            assert macs(partial(network, x)) == wanted, mode
            with torch.autocast("cpu", torch.bfloat16):
                assert macs(partial(network, x)) == wanted, mode
                assert macs(partial(network, half)) == wanted, mode


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_projected_and_packed_layers_and_single_cells_count_too():
    projected = nn.LSTM(FEATURES, HIDDEN, 2, proj_size=3)
    matrices = sum(prod(each.shape) for each in projected.parameters() if each.ndim == 2)
    assert macs(lambda: projected(torch.randn(STEPS, BATCH, FEATURES))) == STEPS * BATCH * matrices
    packed = nn.utils.rnn.pack_padded_sequence(torch.randn(STEPS, BATCH, FEATURES), torch.tensor([7, 5]))
    assert macs(lambda: nn.LSTM(FEATURES, HIDDEN)(packed)) == 12 * 4 * HIDDEN * (FEATURES + HIDDEN)
    assert macs(lambda: nn.GRUCell(FEATURES, HIDDEN)(torch.randn(BATCH, FEATURES))) == BATCH * 18 * (FEATURES + HIDDEN)


@pytest.mark.parametrize(("kind", "code", "gates"), [(nn.LSTM, 2, 4), (nn.GRU, 3, 3)])
def test_what_a_gpu_runs_for_them_counts_the_same(kind, code, gates):
    """cuDNN's one operation for all layers, called with its true arguments on tensors that have shapes alone."""
    network = kind(FEATURES, HIDDEN, 3, bidirectional=True, device="meta")
    state = torch.zeros(6, BATCH, HIDDEN, device="meta")
    x = torch.zeros(STEPS, BATCH, FEATURES, device="meta")
    weights = [each for layer in network.all_weights for each in layer]
    cell = state if kind is nn.LSTM else None
    rest = (code, HIDDEN, 0, 3, False, 0.0, False, True, [], None)
    with torch.no_grad():
        found = macs(lambda: torch.ops.aten._cudnn_rnn(x, weights, 4, None, state, cell, *rest))
    assert found == STEPS * BATCH * 2 * gates * HIDDEN * (FEATURES + HIDDEN + 2 * (2 * HIDDEN + HIDDEN))


# other layers


def attention(x):
    return nn.functional.scaled_dot_product_attention(x, x[..., :3, :], x[..., :3, :])


PRODUCTS = {
    "linear": (lambda: nn.Linear(8, 3), (5, 4, 8), 5 * 4 * 8 * 3),
    "linear, one row": (lambda: nn.Linear(8, 3), (8,), 8 * 3),
    "matrix by vector": (lambda: lambda x: x @ x[0], (4, 8), 4 * 8),
    "vector by vector": (lambda: lambda x: x @ x, (8,), 8),
    "batches": (lambda: lambda x: x @ x.mT, (3, 4, 8), 3 * 4 * 8 * 4),
    "einsum": (lambda: lambda x: torch.einsum("bfk,bgk->bfg", x, x), (3, 4, 8), 3 * 4 * 8 * 4),
    "added in place": (lambda: lambda x: torch.zeros(4, 4, dtype=x.dtype).addmm_(x, x.mT), (4, 8), 4 * 8 * 4),
    "sum of batches": (lambda: lambda x: torch.addbmm(x[0] @ x[0].mT, x, x.mT), (3, 4, 8), 4 * 4 * 8 * 4),
    "matrix by vector, added": (lambda: lambda x: torch.addmv(x[:, 0], x, x[0]), (4, 8), 4 * 8),
    "conv1d": (lambda: nn.Conv1d(8, 4, 5, stride=2), (2, 8, 50), 2 * 23 * 5 * 8 * 4),
    "conv1d, groups": (lambda: nn.Conv1d(8, 4, 5, groups=2), (2, 8, 50), 2 * 46 * 5 * 8 * 4 // 2),
    "conv1d, depthwise": (lambda: nn.Conv1d(8, 8, 3, groups=8, padding="same"), (2, 8, 50), 2 * 50 * 3 * 8),
    "conv1d, dilated": (lambda: nn.Conv1d(8, 4, 3, dilation=4), (2, 8, 50), 2 * 42 * 3 * 8 * 4),
    "conv1d, no batch": (lambda: nn.Conv1d(8, 4, 5), (8, 50), 46 * 5 * 8 * 4),
    "conv2d": (lambda: nn.Conv2d(2, 4, (3, 2)), (3, 2, 9, 9), 3 * 7 * 8 * 6 * 2 * 4),
    "conv2d, groups": (lambda: nn.Conv2d(2, 4, (3, 2), groups=2), (3, 2, 9, 9), 3 * 7 * 8 * 6 * 2 * 4 // 2),
    "transposed conv1d": (lambda: nn.ConvTranspose1d(8, 4, 5, stride=2), (2, 8, 50), 2 * 50 * 5 * 8 * 4),
    "transposed conv1d, groups": (lambda: nn.ConvTranspose1d(8, 4, 5, groups=2), (2, 8, 50), 2 * 50 * 5 * 8 * 4 // 2),
    "transposed conv2d": (lambda: nn.ConvTranspose2d(2, 4, (3, 2)), (3, 2, 9, 9), 3 * 9 * 9 * 6 * 2 * 4),
    "attention": (lambda: attention, (3, 2, 5, 8), 3 * 2 * 5 * 3 * (8 + 8)),
    "transformer": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2).eval(),
        (3, 5, 8),
        2 * 3 * 5 * (4 * 8 * 8 + 2 * 5 * 8 + 2 * 8 * 16),
    ),
    "no product": (lambda: lambda x: torch.relu(x) * x + torch.fft.rfft(x).abs().sum(), (4, 8), 0),
}


@pytest.mark.filterwarnings("ignore:.*enable_nested_tensor")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", PRODUCTS)
def test_products_count_as_on_paper(name: str, mode):
    make, shape, wanted = PRODUCTS[name]
    layer, x = make(), torch.randn(shape)
    with mode():
        assert macs(lambda: layer(x)) == wanted
        with torch.autocast("cpu", torch.bfloat16):
            assert macs(lambda: layer(x)) == wanted


def test_operands_of_two_precisions_count_where_autocast_brings_them_together():
    convolution, recurrent = nn.Conv1d(3, 8, 3), nn.LSTM(8, 6, batch_first=True)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = macs(lambda: recurrent(convolution(torch.randn(2, 3, 22)).mT))
        assert found == 2 * 20 * (3 * 3 * 8 + 24 * (8 + 6))
        found = macs(lambda: torch.einsum("bfk,bkl->bfl", torch.randn(2, 3, 4).bfloat16(), torch.randn(2, 4, 5)))
        assert found == 2 * 3 * 4 * 5


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_scripted_and_compiled_code_count_as_what_they_were_made_from():
    x = torch.randn(5, 8)
    scripted = torch.jit.script(nn.Linear(8, 4))
    with torch.inference_mode():
        assert macs(lambda: scripted(x)) == 5 * 8 * 4

    def in_numpy(graph, examples):  # a compiler whose code torch cannot see into
        return lambda x: (torch.from_numpy(x.numpy() @ x.numpy().T),)

    compiled = torch.compile(lambda x: x @ x.mT, backend=in_numpy)
    assert torch.allclose(compiled(x), x @ x.mT, atol=1e-5)
    assert macs(lambda: compiled(x)) == 5 * 8 * 5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_a_gpu_counts_as_the_cpu_does(kind):
    layers = [kind(8, 6, 3, bidirectional=True), nn.Conv1d(2, 4, 3), lambda x: attention(x[None])]
    for layer in layers:
        x, there = torch.randn(STEPS, BATCH, 8), torch.randn(STEPS, BATCH, 8, device="cuda")
        for mode in (torch.no_grad, torch.inference_mode):
            for bfloat16 in (False, True):
                with mode(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                    here = macs(lambda layer=layer, x=x: (layer.cpu() if isinstance(layer, nn.Module) else layer)(x))
                with mode(), torch.autocast("cuda", torch.bfloat16, enabled=bfloat16):
                    gpu = layer.cuda() if isinstance(layer, nn.Module) else layer
                    assert macs(partial(gpu, there)) == here > 0


# what cannot be counted has no figure


def test_products_without_a_formula_leave_no_figure_and_are_named():
    x = torch.randn(30, 3)
    assert counted(lambda: (x @ x.mT, nn.Bilinear(3, 3, 2)(x, x))) == {"macs_not_counted": ["aten._trilinear"]}
    assert counted(lambda: torch.cdist(x, x)) == {"macs_not_counted": ["aten._euclidean_dist"]}


def test_an_operation_of_ones_own_counts_once_it_has_a_formula(monkeypatch: pytest.MonkeyPatch):
    @torch.library.custom_op("sepbench_tests::own_product", mutates_args=())
    def own_product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a @ b

    x = torch.randn(4, 4)
    assert counted(lambda: own_product(x, x)) == {"macs_not_counted": ["sepbench_tests.own_product"]}
    formula = flop_registry[torch.ops.aten.mm]
    monkeypatch.setitem(flop_registry, torch.ops.sepbench_tests.own_product, formula)
    assert macs(lambda: own_product(x, x)) == 4 * 4 * 4


LEAVING = [lambda x: x.numpy(), np.asarray, lambda x: x.tolist(), np.from_dlpack]


@pytest.mark.parametrize("leave", LEAVING)
def test_what_is_computed_outside_torch_is_not_taken_for_nothing(leave):
    assert "macs_per_s" not in counted(lambda: leave(torch.randn(8)))
    assert macs(lambda: leave(torch.arange(8))) == 0  # indices, lengths
    assert macs(lambda: torch.randn(1).numpy()) == 0  # a threshold
