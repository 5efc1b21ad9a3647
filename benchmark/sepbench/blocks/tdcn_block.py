"""What a block of TDCN++ adds to its input, frames first, and its gradient written out.

torch's own layers keep what each of them was given; here a block keeps two tensors of hidden channels, what its PReLUs are
given, and makes the rest anew on the way back, which costs a few passes over memory. oneDNN's gradient of a convolution per
channel and torch's of PReLU and of variances along frames are slow on a CPU; these are sums and products of whole tensors,
so that a step's time is the time of its matrix products. benchmarks/tdcn.py has the figures.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import prelu

from .frames_first import dot, spread

EPSILON = 1e-3  # beside the variance


class Added(torch.autograd.Function):
    """narrow norm(PReLU(convolution per channel(norm(PReLU(widen y))))).

    Shapes: y (batch, frame, channel), widen (hidden, channel), first (3,), taps (3, hidden), bias (hidden,), second (3,),
    narrow (channel out, hidden) -> (batch, frame, channel out). `first` and `second` are slope, gain and shift of a PReLU and its
    norm, in at least float32; all else is in one precision. d is the dilation.
    """

    @staticmethod
    def forward(
        ctx: Any,
        y: Tensor,
        widen: Tensor,
        first: Tensor,
        taps: Tensor,
        bias: Tensor,
        second: Tensor,
        narrow: Tensor,
        d: int,
    ) -> Tensor:
        wide = y @ widen.T  # (batch, frame, hidden)
        normed, mean, rate = _prelu_norm(wide, first)
        heard = spread(normed, taps[0], taps[1], taps[2], d).add_(bias)
        normed_again, mean_again, rate_again = _prelu_norm(heard, second)
        ctx.dilation = d
        of_first, of_second = (first, wide, mean, rate), (second, heard, mean_again, rate_again)
        ctx.save_for_backward(y, widen, taps, narrow, *of_first, *of_second)
        return normed_again @ narrow.T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (g,), d = gradients, ctx.dilation
        y, widen, taps, narrow, first, wide, mean, rate, second, heard, mean_again, rate_again = ctx.saved_tensors
        centred = _centred(heard, second, mean_again)
        of_narrow = _weights(g, _scaled(centred, second, rate_again))
        g, of_second = _prelu_norm_back(g @ narrow, heard, centred, rate_again, second)
        centred = _centred(wide, first, mean)
        normed = _scaled(centred, first, rate)
        of_taps = torch.stack([dot(g[:, d:], normed[:, :-d]), dot(g, normed), dot(g[:, :-d], normed[:, d:])])
        of_bias = g.sum((0, 1))
        g, of_first = _prelu_norm_back(spread(g, taps[2], taps[1], taps[0], d), wide, centred, rate, first)
        return g @ widen, _weights(g, y), of_first, of_taps, of_bias, of_second, of_narrow, None


def _weights(g: Tensor, x: Tensor) -> Tensor:
    """The gradient of a dense layer's weights. Shapes: (batch, frame, out), (batch, frame, in) -> (out, in)."""
    return g.flatten(0, 1).T @ x.flatten(0, 1)


def _prelu_norm(x: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(batch, frame, channel) -> the same, and each channel's mean and 1 / deviation, (batch, 1, channel)."""
    bent = _bent(x, numbers)
    mean = _mean(bent).to(x.dtype)
    centred = bent.sub_(mean)
    rate = (_mean_product(centred, centred) + EPSILON).rsqrt()
    return _scaled(centred, numbers, rate), mean, rate


def _bent(x: Tensor, numbers: Tensor) -> Tensor:
    return prelu(x, numbers[:1].to(x.dtype))


def _centred(x: Tensor, numbers: Tensor, mean: Tensor) -> Tensor:
    return _bent(x, numbers).sub_(mean)


def _scaled(centred: Tensor, numbers: Tensor, rate: Tensor) -> Tensor:
    kind = centred.dtype
    return torch.addcmul(numbers[2].to(kind), centred, (numbers[1] * rate).to(kind))


def _mean(x: Tensor) -> Tensor:
    """Over frames, in at least float32. bfloat16 is added up in float32 anyway, and asked for that it would be copied first."""
    wide = torch.promote_types(x.dtype, torch.float32)
    total = x.sum(1, keepdim=True, dtype=wide if x.dtype == torch.float16 else None)  # float16 ends at 65,504
    return total.to(wide) / x.shape[1]


def _mean_product(one: Tensor, other: Tensor) -> Tensor:
    if one.dtype == torch.float16:
        one = one.float()  # squares of more than 256 are beyond it
    return _mean(one * other)


def _prelu_norm_back(g: Tensor, x: Tensor, centred: Tensor, rate: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of `_prelu_norm`'s x and numbers, where `g` is that of its answer."""
    (slope, gain, _), kind, n_frames = numbers, x.dtype, x.shape[1]
    mean, along = _mean(g), _mean_product(g, centred)
    factor = gain * rate
    of_bent = torch.addcmul((-factor * mean).to(kind), g, factor.to(kind))
    of_bent.addcmul_(centred, (-factor * rate**2 * along).to(kind))
    high: Tensor = torch.ops.aten.threshold_backward(of_bent, x, 0)  # 0 where x <= 0; `where` takes 20 times as long
    low = of_bent.sub_(high)
    of_slope = _mean_product(low, x).sum() * n_frames
    of_numbers = torch.stack([of_slope, (along * rate).sum() * n_frames, mean.sum() * n_frames])
    return high.addcmul_(low, slope.to(kind)), of_numbers
