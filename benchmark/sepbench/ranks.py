"""The processes that train one network together: which of them this one is, and what they agree on. Alone: the first of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from sepbench.errors import UserError

T = TypeVar("T")
INTERFACE = "GLOO_SOCKET_IFNAME"  # in the environment: by which network ranks reach each other
PATIENCE = timedelta(minutes=30)  # for a rank that no longer answers and has not hung up either


@dataclass(frozen=True)
class Ranks:
    """A process among those that train together. Each learns from its share of every batch."""

    n: int = 1  # of all nodes
    rank: int = 0  # which of them this one is
    local: int = 0  # which of those of its node, and by that which GPU
    nodes: int = 1

    @property
    def leads(self) -> bool:
        """Whether it is the one that writes files and speaks."""
        return self.rank == 0


_here = Ranks()


def here() -> Ranks:
    """Where this process stands."""
    return _here


@contextmanager
def joined(ranks: Ranks, store: Any, on_gpu: bool) -> Iterator[None]:
    """Within it, this process is one of `ranks`, which find each other in `store` (torch.distributed.Store).

    UserError where they cannot reach each other.
    """
    global _here
    import torch.distributed as dist

    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    try:
        dist.init_process_group(backend, store=store, rank=ranks.rank, world_size=ranks.n, timeout=PATIENCE)
    except RuntimeError as error:
        by = f"by {os.environ[INTERFACE]}" if INTERFACE in os.environ else "by the network of their machine's name"
        why = f"Ranks cannot reach each other {by} ({str(error).splitlines()[0][:200]})."
        raise UserError(f"{why} Set {INTERFACE} on each node to the network that leads to the others.") from error
    _here = ranks
    try:
        yield
    finally:
        _here = Ranks()
        dist.destroy_process_group()


def agreed(value: T) -> T:
    """What the first rank says. All ranks ask at the same place; so with the functions below."""
    if _here.n == 1:
        return value
    import torch.distributed as dist

    held = [value]
    dist.broadcast_object_list(held, 0)
    return held[0]


def wait_for_all() -> None:
    """Go on when every rank has come here."""
    if _here.n > 1:
        import torch
        import torch.distributed as dist

        dist.all_reduce(torch.zeros(1))


def who(is_so: bool) -> list[int]:
    """The ranks of which it is so."""
    if _here.n == 1:
        return [0] if is_so else []
    import torch
    import torch.distributed as dist

    flags = torch.zeros(_here.n)
    flags[_here.rank] = float(is_so)
    dist.all_reduce(flags)
    return [int(rank) for rank in flags.nonzero().flatten()]
