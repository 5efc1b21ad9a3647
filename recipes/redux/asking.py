"""How the strategies of many scenes share a tagger and a separator: each says what it needs, and all are served together."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

import torch
from torch import Tensor

# (item, time) -> (item, class), probabilities
Tagger = Callable[[Tensor], Tensor]
# (item, channel, time) and the labels of each -> (label, time) of each
Separator = Callable[[Tensor, Sequence[Sequence[int]]], Sequence[Tensor]]


@dataclass(frozen=True)
class Tag:
    """Which classes sound in each of these? Answered by (item, class), on the CPU."""

    waveforms: Tensor  # (item, time)


@dataclass(frozen=True)
class Separate:
    """One waveform for each of these labels, please. Answered by (label, time)."""

    mixture: Tensor  # (channel, time)
    labels: tuple[int, ...]


Ask = Tag | Separate
Found = TypeVar("Found")
Course = Generator[Ask, Tensor, Found]


def together(courses: Sequence[Course[Found]], tagger: Tagger, separator: Separator) -> list[Found]:
    """What each course ends with. In every step, all that wait are served by as few calls as their lengths allow."""
    ends: dict[int, Found] = {}
    replies: dict[int, Any] = dict.fromkeys(range(len(courses)))
    while replies:
        asks: dict[int, Ask] = {}
        for i, reply in replies.items():
            try:
                asks[i] = courses[i].send(reply)
            except StopIteration as end:
                ends[i] = end.value
        replies = _tagged(asks, tagger) | _separated(asks, separator)
    return [ends[i] for i in range(len(courses))]


def _tagged(asks: Mapping[int, Ask], tagger: Tagger) -> dict[int, Tensor]:
    waiting = {i: ask.waveforms for i, ask in asks.items() if isinstance(ask, Tag)}
    replies: dict[int, Tensor] = {}
    for some in _alike({i: waveforms.shape[1:] for i, waveforms in waiting.items()}):
        found = tagger(torch.cat([waiting[i] for i in some])).float().cpu()
        replies |= dict(zip(some, found.split([len(waiting[i]) for i in some]), strict=True))
    return replies


def _separated(asks: Mapping[int, Ask], separator: Separator) -> dict[int, Tensor]:
    waiting = {i: ask for i, ask in asks.items() if isinstance(ask, Separate)}
    replies: dict[int, Tensor] = {}
    for some in _alike({i: ask.mixture.shape for i, ask in waiting.items()}):
        found = separator(torch.stack([waiting[i].mixture for i in some]), [waiting[i].labels for i in some])
        replies |= dict(zip(some, found, strict=True))
    return replies


def _alike(shapes: Mapping[int, Sequence[int]]) -> Iterable[list[int]]:
    """Those that fit into one batch."""
    for _, some in groupby(sorted(shapes, key=lambda i: tuple(shapes[i])), key=lambda i: tuple(shapes[i])):
        yield list(some)
