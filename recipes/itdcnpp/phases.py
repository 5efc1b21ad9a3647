"""A strided network run densely: what a stride would drop becomes a phase of its own, beside the others in the batch.

A convolution that steps by two in time answers only every second frame. Run at every frame, its answers are two strided
ones, even and odd, and each can go on through the rest of the network as if it were alone: the same layers, no dilation,
and to the last bit the answers that dilated convolutions would give.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import pad


def fill(maps: Tensor, stride: int) -> Tensor:
    """Zeros after the last frame, up to a multiple of `stride`: (..., frame) -> (..., frame)."""
    return pad(maps, (0, -maps.shape[-1] % stride))


def split(maps: Tensor) -> Tensor:
    """Even frames and odd ones as maps of their own: (batch, channel, mel, 2 n) -> (batch * 2, channel, mel, n)."""
    pairs = maps.unflatten(-1, (-1, 2))  # (batch, channel, mel, frame, phase)
    return pairs.movedim(-1, 1).flatten(0, 1)


def merge(frames: Tensor, n_splits: int) -> Tensor:
    """Undo `n_splits` times `split`, once mel is gone: (batch * 2^n, channel, frame) -> (batch, channel, frame * 2^n)."""
    for _ in range(n_splits):
        frames = frames.unflatten(0, (-1, 2)).movedim(1, -1).flatten(-2)
    return frames
