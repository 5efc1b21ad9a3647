"""Which components of a factorisation make one source: k-means on what they sound like, or on when they sound."""

from __future__ import annotations

import warnings

import numpy as np
from torchaudio.functional import melscale_fbanks

STARTS = 10  # of k-means; the tightest is kept
FLOOR = 1e-3  # added to mel bands of a spectrum that sums to 1: what is weaker counts no more


class Grouping:
    """Sorts components into groups. In which order they come changes nothing."""

    def __init__(self, by: str, n_bins: int, n_mels: int, sample_rate_hz: int, seed: int):
        self.by, self.seed = by, seed
        self.mel = melscale_fbanks(n_bins, 0.0, sample_rate_hz / 2, n_mels, sample_rate_hz).double().numpy()  # (bin, mel)

    def __call__(self, activations: np.ndarray, spectra: np.ndarray, n_groups: int) -> np.ndarray:
        """The group of each component, (component,) from 0, of activations (frame, component), spectra (component, bin).

        Spectra sum to 1. Groups stay empty where fewer than `n_groups` components differ at all.
        """
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning

        features = self._alike(spectra) if self.by == "spectra" else _together(activations)
        order = np.argsort(-activations.sum(0), kind="stable")  # k-means starts from components drawn by their number
        groups = np.empty(len(order), np.int64)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Number of distinct clusters", ConvergenceWarning)
            groups[order] = KMeans(n_groups, n_init=STARTS, random_state=self.seed).fit_predict(features[order])
        return groups

    def _alike(self, spectra: np.ndarray) -> np.ndarray:
        """(component, mel): log-mel spectra without their mean, so that a filter's shape counts and no level."""
        bands = np.log(spectra.astype(np.float64) @ self.mel + FLOOR)
        return bands - bands.mean(1, keepdims=True)


def _together(activations: np.ndarray) -> np.ndarray:
    """(component, frame): activations of unit length, whose distance falls with the cosine between them."""
    courses = activations.T.astype(np.float64)
    length = np.linalg.norm(courses, axis=1, keepdims=True)
    return courses / np.where(length > 0, length, 1)
