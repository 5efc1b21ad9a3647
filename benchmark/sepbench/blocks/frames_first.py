"""A TCN's layers as a CPU likes them in bfloat16: (batch, frame, filter), one filter beside the next in memory.

The same numbers as torch's own layers, to rounding, from the same parameters. oneDNN's gradient of a convolution per channel
is the slowest part of a step; here it is a few products of shifted frames, a 1 x 1 convolution is one matrix product, and
PReLU's one slope needs no sum per element. SepClsNet's TCN gains nothing by that in float32; benchmarks/tcn.py has the figures.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, leaky_relu, linear


class _Turned(torch.autograd.Function):
    """The last two axes exchanged, in memory too, on the way back as well: products of mixed layouts are ten times slower."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.transpose(1, 2).contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].transpose(1, 2).contiguous()


class _Depthwise(torch.autograd.Function):
    """y[t] = w0 x[t - d] + w1 x[t] + w2 x[t + d] + b for each filter, silence beyond the ends."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, dilation: int) -> Tensor:
        before, here, after = weight.to(x.dtype).T.contiguous()  # (filter,) each
        ctx.save_for_backward(x, weight)
        ctx.dilation = dilation
        return spread(x, before, here, after, dilation).add_(bias.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        (g,), (x, weight), d = gradients, ctx.saved_tensors, ctx.dilation
        before, here, after = weight.to(x.dtype).T.contiguous()
        taps = [dot(g[:, d:], x[:, :-d]), dot(g, x), dot(g[:, :-d], x[:, d:])]
        bias = g.sum((0, 1))
        return spread(g, after, here, before, d), torch.stack(taps, 1).to(weight.dtype), bias.to(weight.dtype), None


def spread(x: Tensor, before: Tensor, here: Tensor, after: Tensor, d: int) -> Tensor:
    """before x[t - d] + here x[t] + after x[t + d]. Shapes: x (batch, frame, filter), the others (filter,) -> as x."""
    y = x * here
    y[:, d:].addcmul_(x[:, :-d], before)
    y[:, :-d].addcmul_(x[:, d:], after)
    return y


def dot(one: Tensor, other: Tensor) -> Tensor:
    """Of each filter over all frames. Shapes: (batch, frame, filter) each -> (filter,)."""
    return (one * other).sum((0, 1))  # added up in float32, whatever comes in


class _Prelu(torch.autograd.Function):
    """x where positive, else slope * x; one slope for all."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        return leaky_relu(x, float(slope))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (g,), (x, slope) = gradients, ctx.saved_tensors
        of_slope = (g * x.clamp(max=0)).sum()
        through: Tensor = torch.ops.aten.leaky_relu_backward(g, x, float(slope), False)
        return through, of_slope.to(slope.dtype).reshape(slope.shape)


def turned(x: Tensor) -> Tensor:
    """(batch, filter, frame) <-> (batch, frame, filter)."""
    result: Tensor = _Turned.apply(x)
    return result


def depthwise(x: Tensor, layer: nn.Conv1d) -> Tensor:
    """`layer`, of three taps and a group per filter. Shapes: (batch, frame, filter) -> the same."""
    dilation = layer.dilation[0]
    if dilation >= x.shape[1]:  # the outer taps hear nothing but silence
        return x * layer.weight[:, 0, 1].to(x.dtype) + layer.bias.to(x.dtype)  # type: ignore[union-attr]
    result: Tensor = _Depthwise.apply(x, layer.weight[:, 0], layer.bias, dilation)
    return result


def pointwise(x: Tensor, layer: nn.Conv1d) -> Tensor:
    """`layer`, a 1 x 1 convolution. Shapes: (batch, frame, filter) -> (batch, frame, filter out)."""
    return linear(x, layer.weight[:, :, 0].to(x.dtype), None if layer.bias is None else layer.bias.to(x.dtype))


def group_norm(x: Tensor, layer: nn.GroupNorm) -> Tensor:
    """`layer`, of one group. Shapes: (batch, frame, filter) -> the same."""
    level = layer_norm(x, x.shape[1:], eps=layer.eps)
    return torch.addcmul(layer.bias.to(x.dtype), level, layer.weight.to(x.dtype))


def prelu(x: Tensor, layer: nn.PReLU) -> Tensor:
    """`layer`, of one slope."""
    result: Tensor = _Prelu.apply(x, layer.weight)
    return result
