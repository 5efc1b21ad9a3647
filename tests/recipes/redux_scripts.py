"""Taggers and separators that say what a test has written down for them, and keep what they were asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sepbench.loading import load_from

FOLDER = Path(__file__).resolve().parents[2] / "recipes" / "redux"
load_from(FOLDER, "strategy.py", "Verdict")
from recipes.redux.residual import residual as residual  # noqa: E402  (a package once it is loaded)
from recipes.redux.rules import Rules  # noqa: E402
from recipes.redux.strategy import Verdict, answer  # noqa: E402
from recipes.redux.wrapped import blind as blind  # noqa: E402

NAMES = tuple("abcdefghijklmnop")
FLOOR = 0.01  # what a scripted tagger gives each class that the script does not name
N_SAMPLES = 480
SETTINGS: dict[str, Any] = {
    "classes": NAMES, "fewest": 1, "most": 5, "threshold": 0.5, "silence_threshold": 0.5, "silence_db": 40.0,
    "silence_probability": 0.51, "duplicates": "next_best", "max_rounds": None, "residual": "reference_channel",
    "window": 64,
}  # fmt: skip


def rules(**changed: Any) -> Rules:
    return Rules(**{**SETTINGS, **changed})


def said(**named: float) -> Tensor:
    """A vector of probabilities: said(a=0.9, c=0.6)."""
    every = torch.full((len(NAMES),), FLOOR)
    for name, probability in named.items():
        every[NAMES.index(name)] = probability
    return every


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Script:
    """One scene's tagger and separator. `heard` is what the tagger says: one list of vectors a call, in order.

    Output k of separation n is the same noise whatever the label, 60 dB quieter where (n, k) is in `quiet`, both from 0.
    """

    def __init__(self, *heard: Sequence[Tensor], quiet: Sequence[tuple[int, int]] = (), n_channels: int = 4):
        self.heard, self.quiet = list(heard), set(quiet)
        self.mixture = noise(0, n_channels, N_SAMPLES)
        self.calls: list[str] = []  # "tag 2", "separate ab"
        self.tagged: list[Tensor] = []
        self.separated: list[Tensor] = []

    def output(self, separation: int, index: int) -> Tensor:
        loud = 0.001 if (separation, index) in self.quiet else 1.0
        return loud * noise(1 + 10 * separation + index, N_SAMPLES)

    def tagger(self, waveforms: Tensor) -> Tensor:
        self.calls.append(f"tag {len(waveforms)}")
        self.tagged.append(waveforms)
        every = torch.stack(list(self.heard.pop(0)))
        assert len(every) == len(waveforms), f"{self.calls}: the script is for {len(every)}"
        return every

    def separator(self, mixtures: Tensor, labels: Sequence[Sequence[int]]) -> list[Tensor]:
        n = len(self.separated)
        (wanted,) = labels
        self.calls.append("separate " + "".join(NAMES[label] for label in wanted))
        self.separated.append(mixtures[0])
        return [torch.stack([self.output(n, k) for k in range(len(wanted))])]

    def run(self, verify: bool = True, **changed: Any) -> Verdict:
        """The scene's verdict; nothing of the script may be left over."""
        (verdict,) = answer([self.mixture], rules(**changed), self.tagger, self.separator, verify)
        assert not self.heard
        return verdict


def names(verdict: Verdict) -> str:
    return "".join(NAMES[label] for label in verdict.labels)


def equal(found: Tensor, *wanted: Tensor) -> bool:
    """Whether the answer's sources are these, bit for bit."""
    return found.shape == (len(wanted), N_SAMPLES) and all(torch.equal(*pair) for pair in zip(found, wanted))


def listed(labels: str, *probabilities: float) -> Mapping[str, Any]:
    """Labels with probabilities as decisions have them; "-" is silence."""
    return {"labels": ["silence" if name == "-" else name for name in labels], "probabilities": list(probabilities)}


class World:
    """Sounds that a tagger cannot mistake: class c sounds in its own stretch of time, and nowhere else."""

    def __init__(self, right: float):
        self.right, self.n_calls = right, 0

    def scene(self, labels: list[int], n_channels: int) -> Tensor:
        return self.masked(noise(sum(labels), n_channels, N_SAMPLES), labels)

    @staticmethod
    def masked(audio: Tensor, labels: list[int]) -> Tensor:
        there = torch.zeros(len(NAMES), N_SAMPLES // len(NAMES))
        there[labels] = 1
        return audio * there.flatten()

    def tagger(self, waveforms: Tensor) -> Tensor:
        """Right, but for a share of classes: which, the sound itself decides, not its place in a batch."""
        self.n_calls += 1
        loud = waveforms.reshape(len(waveforms), len(NAMES), -1).square().sum(-1) > 1e-6
        drawn = torch.stack([torch.rand(len(NAMES), generator=self._random(each)) for each in waveforms])
        sure = torch.stack([torch.rand(len(NAMES), generator=self._random(2 * each)) for each in waveforms])
        return torch.where((drawn < self.right) == loud, 0.5 + sure / 2, sure / 2)

    def separator(self, mixtures: Tensor, labels) -> list[Tensor]:
        self.n_calls += 1
        return [torch.stack([self.masked(audio[0], [label]) for label in own]) for audio, own in zip(mixtures, labels)]

    @staticmethod
    def _random(audio: Tensor) -> torch.Generator:
        return torch.Generator().manual_seed(int(audio.double().abs().sum() * 1e4))
