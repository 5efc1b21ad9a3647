"""A mask per source on the spectrogram, from a small recurrent network. Put your own method in its place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sepbench.blocks.permutation import best_order, chosen
from sepbench.blocks.snr_costs import errors
from sepbench.blocks.stft import Stft
from sepbench.blocks.weights import keep_all, recall_all
from sepbench.devices import device
from sepbench.method import Batch, Training
from sepbench.scene import Estimate, Mixture, TaskInfo
from sepbench.training import Schedule, train, within


class Masks(nn.Module):
    """Recurrent over time; in each time-frequency bin the masks of all sources add up to 1."""

    def __init__(self, stft: Stft, n_sources: int, hidden: int):
        super().__init__()
        self.stft, self.n_sources = stft, n_sources
        self.over_time = nn.GRU(stft.n_bins, hidden, batch_first=True, bidirectional=True)
        self.to_masks = nn.Linear(2 * hidden, n_sources * stft.n_bins)

    def forward(self, mixture: Tensor) -> Tensor:
        """(batch, time) -> (batch, source, time)."""
        spectrum = self.stft(mixture)  # (batch, frame, bin)
        heard, _ = self.over_time(spectrum.abs().clamp_min(1e-5).log())
        masks = self.to_masks(heard).unflatten(-1, (self.n_sources, -1)).softmax(-2)  # (batch, frame, source, bin)
        parts = masks.transpose(1, 2) * spectrum[:, None]  # (batch, source, frame, bin)
        return self.stft.inverse(parts.flatten(0, 1), mixture.shape[-1]).unflatten(0, parts.shape[:2])


class MaskSeparator:
    """Learns from scenes whose sources are known, in whatever order suits it; names nothing."""

    def __init__(self, settings: Any, task: TaskInfo):
        self.settings, self.device = settings, device()
        torch.manual_seed(settings.seed)
        stft = Stft(settings.params.window_ms, task.sample_rate_hz)
        self.network = Masks(stft, task.max_sources, settings.sizes.hidden).to(self.device)

    def fit(self, training: Training) -> dict[str, Any]:
        """Permutation invariant training (Yu et al. 2017), within the budget if there is one."""
        stages = within(training.budget, {"separator": Schedule.of("separator", self.settings.train.separator)})
        cost = {}
        for name, stage in stages.items():
            cost[name] = train(
                name, self.network, self._loss, training.scenes, training.valid, stage,
                training.folder, training.seed, self.device, training.progress,
            )  # fmt: skip
        self.network.to(self.device)
        return cost

    def _loss(self, batch: Batch) -> dict[str, Tensor]:
        """The error's energy over the mixture's; in dB, silent slots would count as much as sources."""
        estimate = self.network(batch.reference)
        energy = batch.reference.square().sum(-1).clamp_min(torch.finfo().tiny)
        costs = errors(estimate, batch.sources) / energy[:, None, None]  # (batch, reference, estimate)
        return {"loss": chosen(costs, best_order(costs))}

    @torch.inference_mode()
    def separate(self, mixtures: Sequence[Mixture]) -> list[Estimate]:
        """As many sounds as there may be sources, without names; what a method does not know is left away."""
        audio = torch.stack([mixture.audio[0] for mixture in mixtures]).to(self.device)
        return [Estimate(sources) for sources in self.network.eval()(audio).cpu()]

    def save(self, folder: Path) -> None:
        keep_all({"masks": self.network}, folder)

    def load(self, folder: Path) -> None:
        recall_all({"masks": self.network}, folder)
