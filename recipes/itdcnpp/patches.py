"""What the classifier hears: 64 log-mel bands every 10 ms, and which of its windows hold any sound."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d
from torchaudio.transforms import MelSpectrogram

N_MELS, WINDOW_MS, HOP_MS = 64, 25, 10  # section 2.1
PATCH, STRIDE = 96, 32  # frames that a decision hears, and frames between two decisions of the strided network
LOWEST_HZ, HIGHEST_HZ = 125.0, 7500.0  # the range of the public AudioSet front ends; the paper names none
FLOOR = 1e-4  # power of noise 62 dB below full scale, about those front ends' 0.01 on magnitudes
SILENT_DBFS = -45.0  # "energy threshold silence labels"; the paper gives no figure. Clips are some 20 dB above it


class LogMelPatches(nn.Module):
    """log(1 + power / FLOOR) in 64 mel bands; frame k is centred on k * 10 ms. Silence is 0, as what convolutions pad with.

    Always in float32, whatever autocast says: powers span more than half precision holds.
    """

    def __init__(self, sample_rate_hz: int):
        super().__init__()
        length = round(WINDOW_MS * sample_rate_hz / 1000)
        self.hop = round(HOP_MS * sample_rate_hz / 1000)
        self.mel = MelSpectrogram(
            sample_rate_hz, 2 ** (length - 1).bit_length(), length, self.hop, LOWEST_HZ, min(HIGHEST_HZ, sample_rate_hz / 2),
            n_mels=N_MELS, pad_mode="constant",
        )  # fmt: skip
        for module in self.mel.modules():  # window and filters follow from the sample rate: they are no weights
            for name, constant in list(module.named_buffers(recurse=False)):
                module.register_buffer(name, constant, persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """(batch, time) at full scale = 1 -> (batch, 1, mel, frame), time // hop + 1 frames."""
        with torch.autocast(audio.device.type, enabled=False):
            return (self.mel(audio.float()) / FLOOR).log1p()[:, None]

    def sounding(self, audio: Tensor) -> Tensor:
        """Which windows of the strided network hold more power than SILENT_DBFS: (batch, time) -> bool (batch, window)."""
        with torch.autocast(audio.device.type, enabled=False):
            power = audio.float().square()[:, None]  # (batch, 1, time)
            window, stride = PATCH * self.hop, STRIDE * self.hop
            mean = avg_pool1d(power, window, stride, window // 2)[:, 0]
            return mean > 10 ** (SILENT_DBFS / 10)
