"""The U that all separators share (section 3.3, Table 1): five levels down, three blocks at the bottom, five levels up."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from .attention import Gate
from .blocks import ResNetBlock, ResNeXtBlock
from .film import Bend

WIDTHS = (32, 64, 128, 256, 384)  # of the encoders' outputs; the decoders mirror them
N_INTERMEDIATE = 3
FOLD = 2 ** len(WIDTHS)  # how many frames, and bins, become one at the bottom
MULTIPLE = 8  # of channels, which eq. 1 wants


def widths(width: float) -> tuple[int, ...]:
    """Channels by level: Table 1's times `width`, to the nearest multiple of 8 and never fewer."""
    return tuple(max(MULTIPLE, round(width * each / MULTIPLE) * MULTIPLE) for each in WIDTHS)


class Blocks(nn.ModuleList):
    """Residual blocks one after the other, the first of which changes the width."""

    def __init__(self, block: Any, n_in: int, n_out: int, n_blocks: int):
        super().__init__(block(n_out if each else n_in, n_out) for each in range(n_blocks))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        for block in self:
            x = block(x, condition)
        return x


class Decoder(nn.Module):
    """Up by a transposed convolution, beside it what the encoder of this level has kept, then blocks."""

    def __init__(self, block: Any, n_in: int, n_out: int, n_blocks: int, condition: int, attentive: bool):
        super().__init__()
        self.bend = Bend(n_in, condition)
        self.up = nn.ConvTranspose2d(n_in, n_out, 2, stride=2, bias=False)
        self.gate = Gate(n_out) if attentive else None
        self.blocks = Blocks(block, 2 * n_out, n_out, n_blocks)

    def forward(self, x: Tensor, kept: Tensor, condition: Tensor) -> Tensor:
        """(batch, channel in, frame, bin), (batch, channel out, 2 frame, 2 bin) -> as the second."""
        up = self.up(self.bend(x, condition))
        if self.gate is not None:
            kept = self.gate(kept, up)
        return self.blocks(torch.cat([up, kept], 1), condition)


class ResUNet(nn.Module):
    """Feature maps and a condition -> feature maps of the same size; frames and bins halve five times, by means of 2 x 2.

    layer           channels                     frames x bins, of 1024 x 512
    encoders        32, 32, 64, 128, 256, 384    1024 x 512, 512 x 256, 256 x 128, 128 x 64, 64 x 32
    intermediate    384, three times             32 x 16
    decoders        384, 384, 256, 128, 64, 32   64 x 32, 128 x 64, 256 x 128, 512 x 256, 1024 x 512
    """

    def __init__(self, next_: bool, attentive: bool, width: float, cardinality: int, n_blocks: int, condition: int):
        super().__init__()
        block = partial(ResNeXtBlock if next_ else ResNetBlock, condition=condition, cardinality=cardinality)
        levels = widths(width)
        self.encoders = nn.ModuleList(Blocks(block, *each, n_blocks) for each in pairwise((levels[0], *levels)))
        self.intermediate = Blocks(block, levels[-1], levels[-1], N_INTERMEDIATE)
        back = pairwise((levels[-1], *levels[::-1]))
        self.decoders = nn.ModuleList(Decoder(block, *each, n_blocks, condition, attentive) for each in back)

    def forward(self, maps: Tensor, condition: Tensor) -> Tensor:
        """(batch, channel, frame, bin), (batch, condition) -> the first's shape; multiples of FOLD of frames and bins."""
        x, kept = maps, []
        for encoder in self.encoders:
            kept.append(encoder(x, condition))
            x = avg_pool2d(kept[-1], 2)
        x = self.intermediate(x, condition)
        for decoder in self.decoders:
            x = decoder(x, kept.pop(), condition)
        return x
