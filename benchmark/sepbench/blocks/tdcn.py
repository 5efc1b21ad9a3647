"""TDCN++, the dilated convolutions between a basis and its masks (Kavalerov et al. 2019, Tzinis et al. 2020).

With 65 features, B = 128 channels, H = 512 hidden, 8 blocks in each of 4 repeats:

    input      dense with bias, scaled                            8,449 parameters
    block x 32 see Block                                        133,128 each
    skips      from the input of every repeat to that of each
               later one, dense with bias, scaled: 6             16,513 each

The text of the papers leaves details open; they are settled as in Google's public code: the activation comes before the norm,
a norm looks along time alone and has one gain and one shift for all channels, the dense layers within a block have no bias.
Dense layers start uniform as Glorot and Bengio (2010, eq. 16), biases at 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from .tdcn_block import Added

SLOPE = 0.1  # of negative values, at first
DECAY = 0.9  # of what each block adds to its input, per block, at first


def glorot(n_out: int, n_in: int) -> nn.Parameter:
    """The weights of a dense layer, uniform within sqrt(6 / (in + out))."""
    return nn.Parameter(nn.init.xavier_uniform_(torch.empty(n_out, n_in)))


class Dense(nn.Module):
    """scale * (weight x + bias) of each frame. Shapes: (batch, frame, channel) -> (batch, frame, channel out)."""

    def __init__(self, n_in: int, n_out: int, bias: bool, scale: float):
        super().__init__()
        self.weight = glorot(n_out, n_in)
        self.bias = nn.Parameter(torch.zeros(n_out)) if bias else None
        self.scale = nn.Parameter(torch.tensor(scale))

    def scaled(self) -> Tensor:
        return self.scale * self.weight

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.scaled(), None if self.bias is None else self.scale * self.bias)


class PreluNorm(nn.Module):
    """PReLU, then each channel normalised over time: the slope of negative values, one gain and one shift."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(SLOPE))
        self.gain = nn.Parameter(torch.tensor(1.0))
        self.shift = nn.Parameter(torch.tensor(0.0))

    def numbers(self) -> Tensor:
        return torch.stack([self.slope, self.gain, self.shift])


class Block(nn.Module):
    """y + dense(norm(PReLU(convolution per channel(norm(PReLU(dense(y and what lies beside it)))))))."""

    def __init__(self, channels: int, condition: int, hidden: int, dilation: int, scale: float):
        super().__init__()
        self.widen = Dense(channels + condition, hidden, bias=False, scale=1.0)
        self.first = PreluNorm()
        self.taps = nn.Parameter(nn.init.kaiming_uniform_(torch.empty(hidden, 3), a=5**0.5))  # as nn.Conv1d starts
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.second = PreluNorm()
        self.narrow = Dense(hidden, channels, bias=False, scale=scale)
        self.dilation = dilation

    def forward(self, y: Tensor, beside: Tensor | None = None) -> Tensor:
        """(batch, frame, channel), and the condition that is concatenated -> the first's shape."""
        device = y.device.type
        precision = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else y.dtype
        x = y if beside is None else torch.cat([y, beside], -1)
        x, widen, taps, bias, narrow = (
            each.to(precision).contiguous()
            for each in (x, self.widen.scaled(), self.taps.T, self.bias, self.narrow.scaled())
        )
        with torch.autocast(device, enabled=False):
            return y + Added.apply(
                x, widen, self.first.numbers(), taps, bias, self.second.numbers(), narrow, self.dilation
            )


class Tdcn(nn.Module):
    """Features (batch, feature, frame) -> (batch, channel, frame), for a basis to make masks of.

    Conditions are (batch, channel, frame) too. `at_input` counts channels that follow the features. `at_block` maps blocks,
    counted from 0 through all repeats, to channels that follow the block's input; what the block adds to goes on without them.
    With `gate` the condition, of as many channels as the input, multiplies it instead, and the block adds to the product.
    ValueError where it has another number.
    """

    def __init__(
        self,
        n_features: int,
        channels: int,
        hidden: int,
        blocks: int,
        repeats: int,
        *,
        at_input: int = 0,
        at_block: Mapping[int, int] | None = None,
        gate: bool = False,
        skips: bool = True,
    ):
        super().__init__()
        self.at_input, self.at_block, self.gate, self.per_repeat = at_input, dict(at_block or {}), gate, blocks
        self._check(channels, blocks * repeats)
        self.input = Dense(n_features + at_input, channels, bias=True, scale=1.0)
        beside = {} if gate else self.at_block
        self.blocks = nn.ModuleList(
            Block(channels, beside.get(i, 0), hidden, 2 ** (i % blocks), DECAY**i) for i in range(blocks * repeats)
        )
        self.skips = nn.ModuleList(  # to each repeat, from those before it
            nn.ModuleList(Dense(channels, channels, bias=True, scale=1.0) for _ in range(k if skips else 0))
            for k in range(repeats)
        )

    def _check(self, channels: int, n_blocks: int) -> None:
        for i, condition in self.at_block.items():
            if not 0 <= i < n_blocks:
                raise ValueError(f"a condition for block {i}: the blocks are 0 to {n_blocks - 1}")
            if self.gate and condition != channels:
                raise ValueError(
                    f"a gate of {condition} channels for block {i}: its input has {channels}, and so must the gate"
                )

    @property
    def receptive_field(self) -> int:
        """How many frames one frame of the answer depends on, apart from the norms, which hear all."""
        return 1 + 2 * sum(2 ** (i % self.per_repeat) for i in range(len(self.blocks)))

    def forward(
        self, features: Tensor, at_input: Tensor | None = None, at_block: Mapping[int, Tensor] | None = None
    ) -> Tensor:
        """Conditions are wanted where the constructor was told of them, and nowhere else: ValueError."""
        conditions = {i: each.transpose(1, 2) for i, each in (at_block or {}).items()}
        if conditions.keys() != self.at_block.keys() or (at_input is not None) != (self.at_input > 0):
            raise ValueError(
                f"conditions for blocks {sorted(conditions)}{' and the input' * (at_input is not None)}: "
                f"wanted blocks {sorted(self.at_block)}{' and the input' * (self.at_input > 0)}"
            )
        y = features if at_input is None else torch.cat([features, at_input], 1)
        y = self.input(y.transpose(1, 2))  # (batch, frame, channel), as it stays
        y = y.to(torch.promote_types(y.dtype, torch.float32))  # what is added up is not in half precision
        inputs: list[Tensor] = []  # of the repeats
        for i, block in enumerate(self.blocks):
            if i % self.per_repeat == 0:
                y = self._with_skips(y, inputs)
                inputs.append(y)
            gated = self.gate and i in conditions
            y = block(conditions[i] * y) if gated else block(y, conditions.get(i))
        return y.transpose(1, 2)

    def _with_skips(self, y: Tensor, inputs: Sequence[Tensor]) -> Tensor:
        """The next repeat's input, where `inputs` are those of the repeats so far."""
        for j, skip in enumerate(self.skips[len(inputs)].children()):
            y = y + skip(inputs[j])
        return y
