"""The ceiling of masking: what a perfect mask on the mixture's STFT would reach, its phase being kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sepbench.blocks.stft import Stft
from sepbench.devices import device
from sepbench.scene import Estimate, Scene, TaskInfo


def ratio(sources: Tensor, mixture: Tensor) -> Tensor:
    """|S_i| / sum_j |S_j|: the masks of a bin sum to one (Erdogan et al. 2015, Table 1, "IRM")."""
    magnitude = sources.abs()
    return _over(magnitude, magnitude.sum(0))


def binary(sources: Tensor, mixture: Tensor) -> Tensor:
    """1 for the loudest source of a bin and 0 for the others (Wang 2005; Erdogan et al. 2015, Table 1, "IBM")."""
    magnitude = sources.abs()
    each = torch.arange(len(sources), device=sources.device)[:, None, None]
    return (each == magnitude.argmax(0)).to(magnitude.dtype)


def phase_sensitive(sources: Tensor, mixture: Tensor) -> Tensor:
    """|S_i| / |X| cos(angle between S_i and X), cut to 0 ... 1 (Erdogan et al. 2015, Table 1, "PSF")."""
    return _over((sources * mixture.conj()).real, mixture.abs() ** 2).clamp(0, 1)


def _over(above: Tensor, below: Tensor) -> Tensor:
    """`above / below`, and 0 where there is nothing to share out."""
    return torch.where(below > 0, above / below.clamp(min=torch.finfo(below.dtype).tiny), 0)


# complex sources (source, frame, bin) and mixture (frame, bin) -> real masks (source, frame, bin), 0 to 1
MASKS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ratio": ratio,
    "binary": binary,
    "phase_sensitive": phase_sensitive,
}


class IdealMask:
    """Masks computed from the true sources. An oracle: `separate` is handed scenes, not mixtures."""

    def __init__(self, settings: Any, task: TaskInfo):
        self.task, self.device = task, device()
        self.mask = MASKS[settings.params.mask]
        self.stft = Stft(settings.params.window_ms, task.sample_rate_hz).to(self.device)

    def fit(self, training: Any) -> None:
        """There is nothing to learn."""

    @torch.inference_mode()
    def separate(self, scenes: Sequence[Scene]) -> list[Estimate]:
        """One source per class, silent where the class is absent; where not every class can sound, each that does."""
        return [self._answer(scene) for scene in scenes]

    def _answer(self, scene: Scene) -> Estimate:
        sounds = self._masked(scene)
        if not self.task.classes:
            return Estimate(sounds)
        if not self.task.one_per_class:
            return Estimate(sounds, tuple(source.label for source in scene.sources))
        classes = self.task.classes
        answer = torch.zeros(len(classes), sounds.shape[-1])
        for source, sound in zip(scene.sources, sounds):
            answer[classes.index(source.label)] += sound
        return Estimate(answer, classes)

    def _masked(self, scene: Scene) -> Tensor:
        """Each source as its mask leaves it of the mixture: (source, time)."""
        mixture = scene.mixture.audio[0]
        parts = (*scene.sources, *scene.rest)  # what nobody asks for takes its share of a bin too
        if not parts:
            return torch.zeros(0, len(mixture))
        spectra = self.stft(torch.stack([mixture, *(part.audio for part in parts)]).to(self.device))
        masks = self.mask(spectra[1:], spectra[0])  # (part, frame, bin)
        return self.stft.inverse(masks * spectra[0], len(mixture)).cpu()[: len(scene.sources)]

    def save(self, folder: Path) -> None:
        """There are no weights."""

    def load(self, folder: Path) -> None:
        """There are no weights."""
