"""What the SVM hears of a sound: how its cepstrum lies, spreads and moves."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchaudio.functional import compute_deltas
from torchaudio.transforms import MFCC


def peak_normalised(audio: Tensor) -> Tensor:
    """(batch, time) with a peak of 1 each; silence stays silence."""
    peak = audio.abs().amax(-1, keepdim=True)
    return audio / torch.where(peak > 0, peak, 1)


class CepstralStatistics(nn.Module):
    """Mean and standard deviation over time of the MFCCs, and standard deviation of their slope over five frames.

    The same whatever the gain: the peak is brought to 1 first. Log-mel bands end 80 dB below the sound's loudest.
    """

    def __init__(self, sample_rate_hz: int, n_mfccs: int, n_mels: int, window: int, hop: int):
        super().__init__()
        self.n_features = 3 * n_mfccs
        mel = {"n_fft": window, "hop_length": hop, "n_mels": n_mels, "pad_mode": "constant"}
        self.mfcc = MFCC(sample_rate_hz, n_mfccs, melkwargs=mel)

    def forward(self, audio: Tensor) -> Tensor:
        """(batch, time) -> (batch, feature), float64."""
        cepstrum = self.mfcc(peak_normalised(audio)[:, None])[:, 0]  # a channel each: only so, each has its own 80 dB
        statistics = (cepstrum.mean(-1), cepstrum.std(-1, correction=0), compute_deltas(cepstrum).std(-1, correction=0))
        return torch.cat(statistics, -1).double()
