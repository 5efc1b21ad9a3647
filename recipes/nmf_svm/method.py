"""The classical way: factorise the spectrogram, sort the components into sources, and ask an SVM what each source is.

The baseline of Verma's SepClsNet (Table II), of which the paper says no more than its name. README.md has the choices.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from sepbench.blocks.weights import keep_all, recall_all
from sepbench.errors import UserError
from sepbench.method import Budget, Training
from sepbench.scene import Estimate, Mixture, TaskInfo

from .crops import SCENES, clean_crops
from .features import CepstralStatistics, peak_normalised
from .grouping import Grouping
from .nmf import activate, factorise, n_products, ratio_masks
from .spectrogram import Spectrogram
from .svm import Machines

HEARING = 0.5  # of a budget in minutes; the rest is for what is learnt from the crops
MOST_CROPS = 10_000  # that a budget may ask for: the SVM's time grows with their square
Split = Callable[[int], tuple[np.ndarray, list[int]]]  # number of sources -> parts (source, frame, bin), their classes


class Dictionary(nn.Module):
    """Spectra that each class is made of."""

    def __init__(self, n_classes: int, n_atoms: int, n_bins: int):
        super().__init__()
        self.spectra = nn.Parameter(torch.zeros(n_classes, n_atoms, n_bins), requires_grad=False)


class NmfSvm:
    """Separates by non-negative factorisation, all on the CPU. Learns the SVM, and with class dictionaries the spectra."""

    def __init__(self, settings: Any, task: TaskInfo):
        self.settings, self.task = settings, task
        _check(settings, task)
        sizes, params, rate_hz = settings.sizes, settings.params, task.sample_rate_hz
        self.stft = Spectrogram(sizes.window, sizes.hop)
        self.grouping = Grouping(params.grouping, self.stft.n_bins, sizes.grouping_mels, rate_hz, settings.seed)
        self.features = CepstralStatistics(rate_hz, sizes.mfccs, sizes.mels, sizes.window, sizes.hop)
        self.machines = Machines(len(task.classes), self.features.n_features)
        self.dictionary: Dictionary | None = None
        if params.dictionary == "class":
            self.dictionary = Dictionary(len(task.classes), params.atoms, self.stft.n_bins)

    @property
    def macs_per_s_outside_torch(self) -> float:
        """Those of the factorisation; the products of k-means are a thousandth of them."""
        params, n_sources = self.settings.params, self.task.max_sources
        shape = (self.stft.n_frames(round(self.task.seconds * self.task.sample_rate_hz)), self.stft.n_bins)
        if self.dictionary is None:
            n = n_products(*shape, n_sources * params.components, params.iterations, learn_spectra=True)
        else:
            n_atoms = (len(self.task.classes) + n_sources) * params.atoms
            n = n_products(*shape, n_atoms, params.iterations, learn_spectra=False)
        return n / self.task.seconds

    # learning

    def fit(self, training: Training) -> dict[str, Any]:
        """The SVM, and each class's spectra where they are wanted, from clean crops. Hands back what it cost.

        train.crops of them; with a budget those that its scenes hold or that half of its minutes let hear, at most MOST_CROPS.
        """
        began_s, n_pieces = time.perf_counter(), 0
        train, limits = self.settings.train, _limits(training.budget)
        wanted = MOST_CROPS if limits else train.crops
        features, labels, spectrograms = [], [], _Spectrograms(self.stft, len(self.task.classes), train.dictionary_crops)
        with training.progress.bar("hearing crops", None if limits else wanted) as bar:
            for crops, own in clean_crops(training.scenes, wanted, **limits):
                n_pieces += 1
                features.append(self.features(crops).numpy())
                labels.append(own)
                if self.dictionary is not None:
                    spectrograms.add(crops, own)
                bar.advance(len(own))
        everything = np.concatenate(labels)
        self._check_all_there(everything)
        self.machines.fit(np.concatenate(features), everything, self.settings.params.svm_c)
        if self.dictionary is not None:
            self._learn_spectra(self.dictionary, spectrograms.of_class, training.progress)
        accuracy = self._accuracy(clean_crops(training.valid, train.valid_crops))
        training.progress.say(f"of {train.valid_crops} clean validation crops, the SVM names {100 * accuracy:.0f} % rightly")
        found = {"crops": len(everything), "points": len(self.machines.points), "valid_accuracy": accuracy}
        return {"svm": {**found, "scenes": n_pieces * SCENES, "seconds": time.perf_counter() - began_s}}

    def _check_all_there(self, labels: np.ndarray) -> None:
        missing = sorted(set(range(len(self.task.classes))) - set(labels.tolist()))
        if missing:
            raise UserError(
                f"{len(labels)} crops to learn from: none of them is of '{self.task.classes[missing[0]]}'. Let train.crops be "
                "more, or the budget."
            )

    def _learn_spectra(self, dictionary: Dictionary, of_class: Sequence[Sequence[np.ndarray]], progress: Any) -> None:
        params = self.settings.params
        with progress.bar("learning spectra", len(of_class)) as bar:
            for spectra, own in zip(dictionary.spectra, of_class):
                learnt = factorise(np.concatenate(own), params.atoms, params.iterations, self.settings.seed)[1]
                spectra.copy_(torch.from_numpy(learnt))
                bar.advance()

    def _accuracy(self, crops: Iterable[tuple[Tensor, np.ndarray]]) -> float:
        hits = [self.machines(self.features(sounds)).argmax(1).numpy() == labels for sounds, labels in crops]
        return float(np.concatenate(hits).mean())

    # answering

    @torch.inference_mode()
    def separate(self, mixtures: Sequence[Mixture]) -> list[Estimate]:
        """One by one, so that no answer depends on what else was asked. Sources always sum to the mixture."""
        return [self._answer(mixture.audio[:1].cpu()) for mixture in mixtures]

    def _answer(self, audio: Tensor) -> Estimate:
        """(1, time) -> sources, the one with the most energy first.

        Confidences stay unknown: a machine tells on which side of its boundary a sound lies, and no probability.
        """
        spectrum = self.stft(audio)[0]  # (frame, bin)
        masks, origin = self._masks(self.stft(peak_normalised(audio))[0].abs().numpy())
        sources = self.stft.inverse(spectrum * masks, audio.shape[-1])
        named = origin if self.settings.params.labels == "dictionary" else self._heard(sources)
        return Estimate(sources, tuple(self.task.classes[each] for each in named), trace=self._trace(masks))

    def _masks(self, magnitude: np.ndarray) -> tuple[Tensor, Sequence[int]]:
        """(source, frame, bin), and where classes have dictionaries, the class that each is made of.

        As many as the task has sources. Where their number varies: as many as there can be with none below least_share.
        """
        split = self._by_class(magnitude) if self.dictionary is not None else self._blind(magnitude)
        most = self.task.max_sources
        for n_sources in range(most, min(max(self.task.min_sources, 1), most) - 1, -1):
            parts, origin = split(n_sources)
            masks = ratio_masks(parts)
            energy = np.square(masks * magnitude).sum((1, 2), dtype=np.float64)
            if energy.min() > 0 and energy.min() >= self.settings.params.least_share * energy.sum():
                break
        order = np.argsort(-energy, kind="stable")
        return torch.from_numpy(masks[order]), [origin[each] for each in order] if origin else []

    def _blind(self, magnitude: np.ndarray) -> Split:
        """Groups of the components of one factorisation, which knows of no classes."""
        params = self.settings.params
        n_components = self.task.max_sources * params.components
        activations, spectra = factorise(magnitude, n_components, params.iterations, self.settings.seed)

        def split(n_sources: int) -> tuple[np.ndarray, list[int]]:
            group = self.grouping(activations, spectra, n_sources)
            return np.stack([activations[:, group == i] @ spectra[group == i] for i in range(n_sources)]), []

        return split

    def _by_class(self, magnitude: np.ndarray) -> Split:
        """The classes with the most energy when all of them share the mixture; they then share it among themselves."""
        assert self.dictionary is not None
        iterations, dictionary = self.settings.params.iterations, self.dictionary.spectra.numpy()  # (class, atom, bin)

        def parts_of(classes: list[int]) -> np.ndarray:
            spectra = dictionary[classes]
            activations = activate(magnitude, spectra.reshape(-1, spectra.shape[-1]), iterations)
            each = activations.reshape(len(magnitude), len(classes), -1).swapaxes(0, 1)  # (class, frame, atom)
            return each @ spectra

        energy = np.square(parts_of(list(range(len(dictionary))))).sum((1, 2), dtype=np.float64)
        loudest = np.argsort(-energy, kind="stable").tolist()
        return lambda n_sources: (parts_of(loudest[:n_sources]), loudest[:n_sources])

    def _heard(self, sources: Tensor) -> list[int]:
        """The class whose machine is surest of each source (source, time); with labels distinct, no two the same."""
        sure = self.machines(self.features(sources))  # (source, class)
        if self.settings.params.labels == "distinct" and not self.task.classes_repeat:
            return linear_sum_assignment(sure.numpy(), maximize=True)[1].tolist()
        return sure.argmax(1).tolist()

    def _trace(self, masks: Tensor) -> dict[str, Any]:
        hop_s, top_khz = self.stft.hop / self.task.sample_rate_hz, self.task.sample_rate_hz / 2000
        axis = {"mask_axis": "frequency, kHz", "mask_extent": (0.0, top_khz)}
        return {"masks": masks.transpose(1, 2), "mask_hop_s": hop_s, "mask_start_s": -hop_s / 2, **axis}

    # keeping

    def _learnt(self) -> dict[str, nn.Module]:
        return {"svm": self.machines} | ({"dictionary": self.dictionary} if self.dictionary is not None else {})

    def save(self, folder: Path) -> None:
        """One safetensors file for the SVM, one for the dictionary where there is one."""
        keep_all(self._learnt(), folder)

    def load(self, folder: Path) -> None:
        recall_all(self._learnt(), folder)


class _Spectrograms:
    """The first crops of each class as magnitudes, so many of each."""

    def __init__(self, stft: Spectrogram, n_classes: int, n_crops: int):
        self.stft, self.n_crops = stft, n_crops
        self.of_class: list[list[np.ndarray]] = [[] for _ in range(n_classes)]  # (frame, bin) each

    def add(self, crops: Tensor, labels: np.ndarray) -> None:
        for crop, label in zip(crops, labels.tolist()):
            if len(self.of_class[label]) < self.n_crops:
                self.of_class[label].append(self.stft(crop[None])[0].abs().numpy())


def _limits(budget: Budget | None) -> dict[str, float]:
    """What a budget allows `clean_crops`. UserError where it has no room for the first piece."""
    if budget is None:
        return {}
    if budget.scenes is None:
        return {"seconds": HEARING * 60 * budget.minutes}
    if budget.scenes < SCENES:
        raise UserError(f"--budget scenes={budget.scenes}: too few to learn from. Give {SCENES} or more.")
    return {"n_scenes": budget.scenes}


def _check(settings: Any, task: TaskInfo) -> None:
    """UserError for settings that no method could be built from."""
    for group in ("sizes", "train"):
        for name, value in vars(getattr(settings, group)).items():
            if value < 1:
                raise UserError(f"{group}.{name} is {value}; wanted 1 or more.")
    sizes, params = settings.sizes, settings.params
    if sizes.hop > sizes.window // 2:
        raise UserError(f"sizes.hop is {sizes.hop}; wanted at most half of sizes.window, {sizes.window // 2}.")
    if sizes.mfccs > sizes.mels:
        raise UserError(f"sizes.mfccs is {sizes.mfccs}; {sizes.mels} mel bands (sizes.mels) have no more than as many.")
    if params.labels == "dictionary" and params.dictionary == "blind":
        raise UserError("labels dictionary: what is learnt blindly has no names. Add --dictionary class, or leave --labels away.")
    if len(task.classes) < 2:
        raise UserError(f"'{task.classes[0]}' is the only class; an SVM wants two or more to tell apart. Give the task more.")
