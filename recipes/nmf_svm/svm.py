"""Support vector machines with a Gaussian kernel, one per class against the rest: learnt by scikit-learn, kept as tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

CACHE_MB = 500  # for rows of the kernel, taken as they are needed


class Machines(nn.Module):
    """f_c(x) = bias_c + sum_i weight_ci exp(-gamma |z(x) - point_i|^2), z(x) = (x - mean) / scale.

    The points are what any of the machines kept as a support vector; weight_ci is 0 where machine c did not.
    """

    mean: Tensor  # (feature,)
    scale: Tensor  # (feature,)

    def __init__(self, n_classes: int, n_features: int):
        super().__init__()
        self.gamma = 1 / n_features  # scikit-learn's "scale" for features whose variance is 1
        self.register_buffer("mean", torch.zeros(n_features, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(n_features, dtype=torch.float64))
        self._take(np.zeros((0, n_features)), np.zeros((n_classes, 0)), np.zeros(n_classes))

    def _take(self, points: np.ndarray, weights: np.ndarray, bias: np.ndarray) -> None:
        """(point, feature), standardised; (class, point); (class,)."""
        self.points = nn.Parameter(torch.from_numpy(points), requires_grad=False)
        self.weights = nn.Parameter(torch.from_numpy(weights), requires_grad=False)
        self.bias = nn.Parameter(torch.from_numpy(bias), requires_grad=False)

    def fit(self, features: np.ndarray, labels: np.ndarray, c: float) -> None:
        """Learn from `features` (sound, feature) and `labels` (sound,), in which every class must be."""
        from sklearn.svm import SVC

        scale = features.std(0)
        self.mean, self.scale = torch.from_numpy(features.mean(0)), torch.from_numpy(np.where(scale > 0, scale, 1))
        points = self._standardised(torch.from_numpy(features)).numpy()
        weights, bias = np.zeros((len(self.bias), len(points))), np.zeros(len(self.bias))
        for label, row in enumerate(weights):
            machine = SVC(C=c, kernel="rbf", gamma=self.gamma, cache_size=CACHE_MB).fit(points, labels == label)
            row[machine.support_] = machine.dual_coef_[0]
            bias[label] = float(machine.intercept_[0])
        kept = weights.any(0)
        self._take(points[kept], weights[:, kept], bias)

    def forward(self, features: Tensor) -> Tensor:
        """How far on its side each machine has a sound: (sound, feature) -> (sound, class), no probabilities."""
        found = self._standardised(features)
        square = found.square().sum(1)[:, None] + self.points.square().sum(1) - 2 * found @ self.points.T
        return (-self.gamma * square).exp() @ self.weights.T + self.bias

    def _standardised(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.scale

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        """How many points there are, only the file knows."""
        points, weights = state.get(f"{prefix}points"), state.get(f"{prefix}weights")
        if points is not None and weights is not None and weights.shape[1:] == points.shape[:1]:
            n_points, (n_classes, n_features) = len(points), (len(self.bias), len(self.mean))
            self._take(np.zeros((n_points, n_features)), np.zeros((n_classes, n_points)), np.zeros(n_classes))
        super()._load_from_state_dict(state, prefix, *rest)
