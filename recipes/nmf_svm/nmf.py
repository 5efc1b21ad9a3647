"""Non-negative factorisation under the Kullback-Leibler divergence (Lee and Seung 2001, theorem 2), by scikit-learn.

V ~ A B: a spectrogram V (frame, bin) as activations A (frame, component) times spectra B (component, bin). The updates

    A <- A * ((V / (A B)) B^T) / (sum of each spectrum)
    B <- B * (A^T (V / (A B))) / (sum of each activation)

never let the divergence D(V | A B) = sum V log(V / (A B)) - V + A B grow.
"""

from __future__ import annotations

from typing import Any

import numpy as np

UPDATES: dict[str, Any] = {"solver": "mu", "beta_loss": "kullback-leibler", "tol": 0.0}  # tol 0: no stop before the last


def factorise(magnitude: np.ndarray, n_components: int, iterations: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Activations (frame, component) and spectra (component, bin) of `magnitude` (frame, bin), from random ones.

    Each spectrum sums to 1, so that an activation is the magnitude that its component brings; one that brings nothing
    is all 0.
    """
    from sklearn.decomposition import non_negative_factorization

    activations, spectra, _ = non_negative_factorization(
        magnitude, n_components=n_components, init="random", max_iter=iterations, random_state=seed, **UPDATES
    )
    whole = spectra.sum(1)
    return activations * whole, spectra / np.where(whole > 0, whole, 1)[:, None]


def activate(magnitude: np.ndarray, spectra: np.ndarray, iterations: int) -> np.ndarray:
    """Activations (frame, component) of `spectra` (component, bin) in `magnitude` (frame, bin); these stay as they are."""
    from sklearn.decomposition import non_negative_factorization

    activations, _, _ = non_negative_factorization(
        magnitude, H=spectra, n_components=len(spectra), init=None, update_H=False, max_iter=iterations, **UPDATES
    )
    return activations


def n_products(n_frames: int, n_bins: int, n_components: int, iterations: int, learn_spectra: bool) -> int:
    """Multiply-accumulates of the updates: two products of (frame, bin, component) for each factor that is updated."""
    return (4 if learn_spectra else 2) * n_frames * n_bins * n_components * iterations


def ratio_masks(parts: np.ndarray) -> np.ndarray:
    """(source, frame, bin): each part's share of their sum, so that masks sum to 1. Where all are 0, equal shares."""
    whole = parts.sum(0)
    return np.divide(parts, whole, out=np.full_like(parts, 1 / len(parts)), where=whole > 0)
