"""Any method as a separator by labels: it separates blindly, and a tagger says which of its outputs is which label's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sepbench.blocks.permutation import best_order
from sepbench.errors import UserError
from sepbench.method import Method
from sepbench.scene import Estimate, Mixture, TaskInfo

from .asking import Separator, Tagger

LEAST = 1e-6  # the probability below which no class is less likely than another: logarithms are finite


def blind(inner: Method, task: TaskInfo, tagger: Tagger) -> Separator:
    """A separator by labels made of `inner`, which is handed mixtures as they come, with all their channels.

    An output that `inner` itself calls by a wanted label answers that label. The other labels share the other outputs so
    that the sum of the tagger's log probabilities is greatest; a label for which none is left gets silence.
    """

    def separate(mixtures: Tensor, labels: Sequence[Sequence[int]]) -> list[Tensor]:
        given = [Mixture(audio, task.sample_rate_hz, "") for audio in mixtures.cpu()]
        return [
            _by_label(estimate, wanted, mixture, task.classes, tagger)
            for estimate, wanted, mixture in zip(inner.separate(given), labels, mixtures, strict=True)
        ]

    return separate


def _by_label(
    estimate: Estimate, wanted: Sequence[int], mixture: Tensor, classes: Sequence[str], tagger: Tagger
) -> Tensor:
    """(label, time), on the mixture's device."""
    if estimate.sources is None:
        raise UserError("--inner: that method names what sounds and separates nothing. Give the run of a separator.")
    outputs = estimate.sources.to(mixture)  # (source, time)
    place = _named(estimate.labels or (), [classes[label] for label in wanted])
    unnamed = [i for i in range(len(wanted)) if i not in place]
    left = [j for j in range(len(outputs)) if j not in place.values()]
    if unnamed and left:
        probability = tagger(outputs[left])[:, [wanted[i] for i in unnamed]].T.float().cpu()  # (label, source)
        place |= {unnamed[i]: left[j] for i, j in _assigned(probability).items()}
    silence = torch.zeros_like(mixture[0])
    return torch.stack([outputs[place[i]] if i in place else silence for i in range(len(wanted))])


def _named(said: Sequence[str], wanted: Sequence[str]) -> dict[int, int]:
    """Which output bears each label that some output bears: index in `wanted` -> index in `said`, none twice."""
    place: dict[int, int] = {}
    for i, name in enumerate(wanted):
        own = [j for j, each in enumerate(said) if each == name and j not in place.values()]
        place |= {i: own[0]} if own else {}
    return place


def _assigned(probability: Tensor) -> dict[int, int]:
    """The pairs of the greatest product: (label, source) -> label -> source, as many as the fewer of both."""
    n_labels, n_sources = probability.shape
    costs = torch.zeros(1, n_labels, max(n_labels, n_sources))  # of as many silent outputs as are missing, all the same
    costs[0, :, :n_sources] = -probability.clamp(min=LEAST).log()
    order = best_order(costs)[0].tolist()
    return {i: j for i, j in enumerate(order) if j < n_sources}
