"""What a sound classifier says of sounds, put together for a separator to be conditioned on (paper, section 2.2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

KINDS = ("none", "mixture", "all", "soft_or")


def soft_or(logits: Tensor) -> Tensor:
    """The logit of "at least one of the sources is of the class", the sources being independent (eq. 1 and its inverse).

    Shapes: (batch, source, class, frame) -> (batch, class, frame). 1 - prod(1 - P) is 1 in floating point long before the
    sources are sure. -log(1 - P) is softplus(logit), so their sum z is -log prod(1 - P), and the logit of 1 - exp(-z) is
    log(exp(z) - 1), which stays exact: of one source it is the source's own logit.
    """
    z = softplus(logits.float()).sum(1).clamp_min(torch.finfo(torch.float32).tiny)
    return z + torch.log(-torch.expm1(-z))


def n_signals(kind: str, n_sources: int) -> int:
    """How many signals' embeddings a separator is given, one after the other along the channels."""
    return {"none": 0, "mixture": 1, "all": n_sources + 1, "soft_or": 1}[kind]


def joined(kind: str, mixture: Tensor | None, sources: Tensor | None) -> Tensor:
    """The embedding of that kind from the logits of the mixture and of the sources, those that it is made of.

    Shapes: mixture (batch, class, frame), sources (batch, source, class, frame) -> (batch, channel, frame). The paper stacks
    "all" along time, which could not line up with the separator's frames; here it is stacked along the channels.
    """
    if kind == "mixture":
        return _there(mixture, kind)
    if kind == "soft_or":
        return soft_or(_there(sources, kind))
    return torch.cat([_there(mixture, kind), _there(sources, kind).flatten(1, 2)], 1)


def _there(logits: Tensor | None, kind: str) -> Tensor:
    if logits is None:
        raise ValueError(f"an embedding of kind {kind} was asked for without what it is made of")
    return logits


def guidance_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of the probabilities that `logits` give to those that `target`, logits too, gives (eq. 3).

    The paper prints the term of the positive class alone, which infinite logits minimise whatever the target; this is the
    whole sum of both, in nats and not bits, its mean over everything. Shapes: any, both the same -> ().
    """
    return binary_cross_entropy_with_logits(logits.float(), target.float().sigmoid())
