"""Log-mel spectrogram, the front end of the sound classifiers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchaudio.transforms import MelSpectrogram

N_MELS, N_FFT, HOP = 64, 512, 256  # SepClsNet, eq. 9; at 16 kHz 32 ms every 16 ms
EPSILON = 1e-6  # the power of noise 83 dB below full scale; the paper names no value


class LogMel(nn.Module):
    """log(power + EPSILON) in 64 mel bands from 0 Hz to half the sample rate; frame k is centred on sample k * HOP.

    Always in float32, whatever autocast says: powers span more than half precision holds. Gradients of silence are finite.
    """

    def __init__(self, sample_rate_hz: int):
        super().__init__()
        self.mel = MelSpectrogram(sample_rate_hz, N_FFT, hop_length=HOP, n_mels=N_MELS, pad_mode="constant")
        for module in self.mel.modules():  # window and filters follow from the sample rate: they are no weights
            for name, constant in list(module.named_buffers(recurse=False)):
                module.register_buffer(name, constant, persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """(batch, time) at full scale = 1 -> (batch, 1, mel, frame), time // HOP + 1 frames."""
        with torch.autocast(audio.device.type, enabled=False):
            return (self.mel(audio.float()) + EPSILON).log()[:, None]
