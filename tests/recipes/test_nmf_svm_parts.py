"""The parts of NMF + SVM: transform, masks, factorisation and grouping, features, and machines held against scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from bands import Sounds, noise, two_sounds
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from sepbench.loading import load_from

load_from(Path(__file__).resolve().parents[2] / "recipes" / "nmf_svm", "method.py", "NmfSvm")
from recipes.nmf_svm import crops, features, grouping, nmf, spectrogram, svm  # noqa: E402

# transform and masks


@pytest.mark.parametrize("n_time", [1, 100, 127, 128, 129, 255, 256, 257, 384, 385, 511, 512, 513, 4000, 4095, 48000])
def test_the_transform_gives_every_sample_back(n_time: int):
    stft, audio = spectrogram.Spectrogram(512, 256), noise(n_time)[None]
    spectrum = stft(audio)
    assert spectrum.shape == (1, stft.n_frames(n_time), 257)
    torch.testing.assert_close(stft.inverse(spectrum, n_time), audio, atol=1e-6, rtol=0)


def test_three_seconds_are_257_by_188():
    assert spectrogram.Spectrogram(512, 256)(noise(48000)[None]).shape == (1, 188, 257)


@pytest.mark.parametrize("n_sources", [1, 2, 5])
def test_masks_are_shares_and_sum_to_one(n_sources: int):
    parts = np.random.default_rng(0).random((n_sources, 6, 7)).astype(np.float32)
    parts[:, 2] = 0  # silence
    parts[:, 3] *= np.float32(1e-44)  # next to it
    masks = nmf.ratio_masks(parts)
    assert masks.dtype == np.float32 and masks.min() >= 0 and masks.max() <= 1
    assert masks.sum(0) == pytest.approx(np.ones((6, 7)), abs=1e-6)
    assert (masks[:, 2] == np.float32(1 / n_sources)).all()
    assert masks[:, 0] == pytest.approx(parts[:, 0] / parts[:, 0].sum(0), rel=1e-6)


# factorisation


def divergence(magnitude: np.ndarray, product: np.ndarray) -> float:
    """The generalised Kullback-Leibler divergence."""
    return float((magnitude * np.log(magnitude / product) - magnitude + product).sum())


def test_the_divergence_falls_with_every_iteration_and_vanishes_where_the_model_is_true():
    random = np.random.default_rng(0)
    magnitude = (random.random((30, 3)) @ random.random((3, 20))).astype(np.float32)
    found = [divergence(magnitude, np.matmul(*nmf.factorise(magnitude, 3, n, seed=0))) for n in (1, 2, 5, 20, 100, 2000)]
    assert found == sorted(found, reverse=True) and found[-1] < 1e-3 * found[0]


def test_spectra_sum_to_one_and_activations_to_the_magnitude():
    magnitude = np.random.default_rng(0).random((30, 20)).astype(np.float32)
    activations, spectra = nmf.factorise(magnitude, 4, 50, seed=0)
    assert activations.shape == (30, 4) and spectra.shape == (4, 20) and activations.dtype == np.float32
    assert spectra.sum(1) == pytest.approx(np.ones(4), rel=1e-5) and min(activations.min(), spectra.min()) >= 0
    assert activations.sum() == pytest.approx(magnitude.sum(), rel=1e-3)


def test_activations_follow_the_multiplicative_rule():
    random = np.random.default_rng(0)
    magnitude, spectra = random.random((9, 12)), random.random((5, 12))
    wanted = np.ones((9, 5))
    for n in range(1, 4):
        for t in range(9):
            ratio = magnitude[t] / (wanted[t] @ spectra)
            wanted[t] *= [(spectra[k] * ratio).sum() / spectra[k].sum() for k in range(5)]
        assert nmf.activate(magnitude, spectra, n) == pytest.approx(wanted, rel=1e-6)


# grouping


def components(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Activations (frame, 8), spectra (8, 257): two timbres, 0-3 low and 4-7 high; two times, even ones early, odd ones late."""
    random = np.random.default_rng(seed)
    spectra, activations = 0.01 * random.random((8, 257)), 0.01 * random.random((40, 8))
    for k in range(8):
        spectra[k, 10 + 120 * (k // 4) :][:100] += random.random(100)
        activations[20 * (k % 2) :][:20, k] += random.random(20)
    return activations, spectra / spectra.sum(1, keepdims=True)


def partition(groups: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(groups == each).tolist()) for each in set(groups.tolist())}


@pytest.mark.parametrize("by, wanted", [("spectra", ({0, 1, 2, 3}, {4, 5, 6, 7})), ("activations", ({0, 2, 4, 6}, {1, 3, 5, 7}))])
def test_components_are_grouped_by_what_was_asked(by: str, wanted: tuple):
    for seed in range(3):
        found = grouping.Grouping(by, 257, 40, 16000, seed)(*components(seed), 2)
        assert partition(found) == {frozenset(each) for each in wanted}


@pytest.mark.parametrize("by", ["spectra", "activations"])
def test_the_order_and_the_level_of_components_change_no_group(by: str):
    random = np.random.default_rng(0)
    group = grouping.Grouping(by, 257, 40, 16000, 0)
    activations, spectra = random.random((40, 9)), random.random((9, 257))  # nothing to find: hardest to agree on
    spectra /= spectra.sum(1, keepdims=True)
    wanted = partition(group(activations, spectra, 3))
    assert len(wanted) == 3
    for _ in range(5):
        order = random.permutation(9)
        found = group(activations[:, order], spectra[order], 3)
        back = np.empty(9, np.int64)
        back[order] = found
        assert partition(back) == wanted
    assert partition(group(8 * activations, spectra, 3)) == wanted


# the SVM and what it hears


def test_sixty_features_whatever_the_gain_and_the_company():
    hear = features.CepstralStatistics(16000, 20, 64, 512, 256)
    sounds = torch.stack([noise(48000), 1e-3 * torch.sin(0.3 * torch.arange(48000)), torch.zeros(48000)])
    found = hear(sounds)
    assert found.shape == (3, 60) and hear.n_features == 60 and found.isfinite().all()
    torch.testing.assert_close(hear(sounds / 256), found, atol=0, rtol=0)
    for alone, each in zip(sounds, found):
        torch.testing.assert_close(hear(alone[None])[0], each, atol=1e-3, rtol=1e-4)


def test_features_are_mean_spread_and_spread_of_the_slope():
    hear = features.CepstralStatistics(8000, 20, 64, 512, 256)
    audio = two_sounds()[:1]
    cepstrum = hear.mfcc(features.peak_normalised(audio)[:, None])[0, 0].numpy().astype(np.float64)  # (mfcc, frame)
    padded = np.pad(cepstrum, ((0, 0), (2, 2)), mode="edge")
    n = cepstrum.shape[1]
    slope = sum(k * (padded[:, 2 + k : 2 + k + n] - padded[:, 2 - k : 2 - k + n]) for k in (1, 2)) / 10
    wanted = np.concatenate([cepstrum.mean(1), cepstrum.std(1), slope.std(1)])
    assert hear(audio)[0].numpy() == pytest.approx(wanted, rel=1e-3, abs=1e-3)


def problem(n_classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = np.arange(120) % n_classes
    points = random.standard_normal((120, 6)) * [1, 10, 0.1, 1, 1, 0] + labels[:, None] * [0.7, 0, 0.1, 0, 1, 0]
    return points, labels


@pytest.mark.parametrize("c", [0.1, 10.0])
def test_the_machines_say_what_scikit_learn_says(c: float):
    points, labels = problem()
    machines = svm.Machines(4, 6)
    machines.fit(points[:90], labels[:90], c)
    # a feature that never changes has no variance, which "scale" would take the mean over
    theirs = make_pipeline(StandardScaler(), OneVsRestClassifier(SVC(C=c, gamma=1 / 6))).fit(points[:90], labels[:90])
    assert machines(torch.from_numpy(points)).numpy() == pytest.approx(theirs.decision_function(points), rel=1e-9, abs=1e-9)
    scaled = make_pipeline(StandardScaler(), OneVsRestClassifier(SVC(C=c, gamma="scale")))
    scaled.fit(points[:90, :5], labels[:90])
    machines = svm.Machines(4, 5)
    machines.fit(points[:90, :5], labels[:90], c)
    found = machines(torch.from_numpy(points[:, :5])).numpy()
    assert found == pytest.approx(scaled.decision_function(points[:, :5]), rel=1e-9, abs=1e-9)
    assert len(machines.points) < 90 or c == 0.1  # the others are no support vectors


def test_clean_crops_sound_have_a_peak_of_one_and_are_as_many_as_asked():
    found = list(crops.clean_crops(Sounds(), 61))
    sounds, labels = torch.cat([each for each, _ in found]), np.concatenate([each for _, each in found])
    assert len(sounds) == len(labels) == 61 and set(labels.tolist()) == {0, 1, 2}
    assert sounds.abs().amax(1).numpy() == pytest.approx(np.ones(61))
    batch = Sounds().batch(0, crops.SCENES)
    first = batch.sources.flatten(0, 1)[torch.from_numpy(batch.labels.reshape(-1) >= 0)][0]
    assert torch.equal(sounds[0], first / first.abs().max())
