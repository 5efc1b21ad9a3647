"""MobileNetV1 as PANNs publish it (Kong et al. 2020), so that their AudioSet weights load by name: 527 classes, 32 kHz.

Sound at 32 kHz; Hann window of 1024 samples every 320 (10 ms); 64 mel bands of 50 Hz to 14 kHz, in dB; batch norm per
band; features.0, a 3x3 convolution; features.1 to 13, depthwise-separable ones. A stride is a mean over 2 x 2, taken after
the 3x3 convolution. The published network then takes the mean over mel, the maximum plus the mean over the time of a
clip, fc1 with ReLU, and fc_audioset.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, avg_pool2d, conv2d, linear, max_pool1d, pad
from torchaudio.functional import resample

from .patches import PATCH, STRIDE
from .phases import merge, split

RATE_HZ, N_FFT, HOP, N_MELS, N_CLASSES = 32000, 1024, 320, 64, 527
LEAST_POWER, SILENCE_DB = 1e-10, -100.0
LAYERS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
N_CELLS = PATCH // STRIDE
TAILS = {1: ("fc_audioset",), 3: ("features.13", "fc1", "fc_audioset")}


class PannsMobileNet(nn.Module):
    """Logits over time, where the published network gives one answer per clip.

    Its maximum and mean over time are taken over a window instead: frame k is decided by the 96 frames of 10 ms around it,
    three cells of 32 frames, as the paper's classifier hears patches of 96. Beyond the sound's ends is silence. As in
    SoundClassifier, there is a window centred on every `hop`-th frame, and the batch norms never learn.
    """

    names = None  # its 527 classes are AudioSet's, which no task here has
    n_classes = N_CLASSES

    def __init__(self, sample_rate_hz: int, hop: int):
        """`sample_rate_hz` is that of the sounds to come."""
        super().__init__()
        self.sample_rate_hz, self.hop = sample_rate_hz, hop
        self.spectrogram_extractor = nn.ModuleDict({"stft": _Stft()})
        self.logmel_extractor = nn.ParameterDict({"melW": nn.Parameter(torch.zeros(N_FFT // 2 + 1, N_MELS), False)})
        self.bn0 = nn.BatchNorm2d(N_MELS)
        channels = [32, *(n for n, _ in LAYERS)]
        self.features = nn.Sequential(nn.Sequential(*_pooled(1, channels[0], 1, 2)))
        for before, after, (_, stride) in zip(channels, channels[1:], LAYERS):
            pointwise = [nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
            self.features.append(nn.Sequential(*_pooled(before, before, before, stride), *pointwise))
        self.fc1 = nn.Linear(channels[-1], channels[-1])
        self.fc_audioset = nn.Linear(channels[-1], N_CLASSES)
        self.eval()

    def train(self, mode: bool = True) -> PannsMobileNet:
        super().train(False)
        return self

    def tail(self, n: int) -> Iterator[nn.Parameter]:
        """The parameters of its last layers: 1, fc_audioset; 3, also features.13 and fc1. ValueError else."""
        if n not in TAILS:
            raise ValueError(f"a tail of {n} layers; wanted one of {', '.join(map(str, TAILS))}")
        for name in TAILS[n]:
            yield from self.get_submodule(name).parameters()

    def forward(self, audio: Tensor) -> Tensor:
        """(batch, time) at full scale = 1 -> logits (batch, class, frame), ceil((time // 10 ms + 1) / hop) frames."""
        maps = self._log_mel(audio)
        n_frames = -(-maps.shape[-1] // self.hop)
        end = -maps.shape[-1] % STRIDE
        maps = pad(maps, (PATCH // 2, PATCH - STRIDE - PATCH // 2 + end), value=SILENCE_DB)
        cells, n_splits = self._cells(self.bn0(maps.transpose(1, 2)).transpose(1, 2))
        windows = max_pool1d(cells, N_CELLS, 1) + avg_pool1d(cells, N_CELLS, 1)  # (batch * phase, channel, window)
        logits: Tensor = self.fc_audioset(self.fc1(windows.transpose(1, 2)).relu()).transpose(1, 2)
        return merge(logits.float(), n_splits)[..., :n_frames]

    def _log_mel(self, audio: Tensor) -> Tensor:
        """(batch, time) -> dB (batch, 1, mel, frame), in float32 whatever autocast says."""
        with torch.autocast(audio.device.type, enabled=False):
            audio = resample(audio.float(), self.sample_rate_hz, RATE_HZ)
            power = self.spectrogram_extractor["stft"](audio)  # (batch, bin, frame)
            mel = linear(power.transpose(1, 2), self.logmel_extractor["melW"].T)
            return 10 * mel.clamp_min(LEAST_POWER).log10().transpose(1, 2)[:, None]

    def _cells(self, maps: Tensor) -> tuple[Tensor, int]:
        """Channels over time, 32 frames from one cell to the next: (batch, 1, mel, frame) -> (batch * phase, channel, cell)."""
        step, n_splits = 1, 0
        for layer in self.features.children():
            filtered, pool, *rest = layer.children()
            assert isinstance(filtered, nn.Conv2d) and isinstance(pool, nn.AvgPool2d)  # said for the types
            # the published layers have time before mel
            maps = conv2d(maps, filtered.weight.transpose(2, 3), None, 1, 1, groups=filtered.groups)
            stride = 1 if pool.kernel_size == 1 else 2
            splits = stride == 2 and step >= self.hop
            if splits:
                maps = split(avg_pool2d(pad(maps, (0, 1, 0, 0), "replicate"), 2, (2, 1)))
                n_splits += 1
            else:
                maps = pool(maps)
                step *= stride
            maps = nn.Sequential(*rest)(maps)
        return maps.mean(-2), n_splits


class _Stft(nn.Module):
    """The power spectrum, by the checkpoint's own sines and cosines: (batch, time) -> (batch, bin, frame)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_real, self.conv_imag = (nn.Conv1d(1, N_FFT // 2 + 1, N_FFT, HOP, bias=False) for _ in range(2))
        self.requires_grad_(False)

    def forward(self, audio: Tensor) -> Tensor:
        around = pad(audio[:, None], (N_FFT // 2, N_FFT // 2), "reflect")
        return self.conv_real(around).square() + self.conv_imag(around).square()


def _pooled(before: int, after: int, groups: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(before, after, 3, 1, 1, groups=groups, bias=False)
    return [convolution, nn.AvgPool2d(stride), nn.BatchNorm2d(after), nn.ReLU()]
