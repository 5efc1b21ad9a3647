"""Permutation-invariant training (Yu et al. 2017): costs of every pair first, then the order in which they are least."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

HUGE = 1e30


def best_order(costs: Tensor) -> Tensor:
    """Which estimate answers which reference, so that the sum of costs is least; the S! are never written out.

    Shapes: costs (batch, reference, estimate) -> (batch, reference), index of the estimate.
    """
    known = costs.detach().nan_to_num(HUGE, HUGE, -HUGE)  # a loss that is not finite is told by the training loop
    found = [linear_sum_assignment(each)[1] for each in known.cpu().double().numpy()]
    return torch.tensor(np.stack(found), device=costs.device).reshape(costs.shape[:2])


def chosen(costs: Tensor, order: Tensor) -> Tensor:
    """The mean of the costs that `order` has picked: (batch, reference, estimate), (batch, reference) -> ()."""
    return costs.gather(2, order[:, :, None]).mean()


def in_order(values: Tensor, order: Tensor) -> Tensor:
    """`values` (batch, estimate, ...) as the references stand: (batch, reference, ...)."""
    index = order.reshape(*order.shape, *[1] * (values.ndim - 2)).expand(-1, -1, *values.shape[2:])
    return values.gather(1, index)
