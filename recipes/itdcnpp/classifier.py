"""The sound classifier whose logits condition the separator (section 2.1).

layer (J classes, width 1)                                  per 96 frames      parameters
log-mel                                                     1 x 64 x 96
convolution 3x3, stride 2, batch norm, ReLU                 32 x 32 x 48              352
10 x depthwise-separable convolution, each a 3x3 filter     1024 x 2 x 3        1,606,560
  per channel and a 1x1 convolution, both with batch norm
  and ReLU: 64 128/2 128 256/2 256 512/2 512 512 512 1024/2
mean over what is left                                      1024
dense                                                       J                   1,025 * J

2,147,087 for the 527 classes of AudioSet. The paper says "MobileNet-style" and 10 layers; the channels are those of
MobileNet (Howard et al. 2017), as many as there are layers.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, conv2d

from .patches import PATCH, STRIDE, LogMelPatches
from .phases import fill, merge, split

STEM = 32
LAYERS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1), (512, 1), (1024, 2))
HOPS = (1, 2, 4, 8, 16, 32)  # frames between two decisions: strides of two, up to all five of them
TAILS = {1: 0, 3: 2}  # how many convolution layers a tail has before the dense one


class SoundClassifier(nn.Module):
    """Logits of sound classes over time, one decision per window of 96 frames, from the sound alone.

    Windows are centred on every `hop`-th frame of 10 ms: 301 of 3 s where hop is 1. The network is run over the whole
    sound at once, in training too, where the paper cuts patches out: a decision also hears, ever more faintly, the 77
    frames beyond each end of its window.

    Its batch norms use their running statistics, unless `learning` is set: a stage that trains another network, or the
    tail of this one, leaves them as they were learnt.
    """

    def __init__(self, n_classes: int, sample_rate_hz: int, width: float, hop: int):
        """`width` multiplies the channels, in steps of 8. ValueError for a hop that is not 1, 2, 4, 8, 16 or 32."""
        super().__init__()
        if hop not in HOPS:
            raise ValueError(f"the classifier's hop is {hop} frames; wanted one of {', '.join(map(str, HOPS))}")
        self.n_classes, self.hop, self.width = n_classes, hop, width
        self.sample_rate_hz = sample_rate_hz
        self.names: tuple[str, ...] | None = None  # of its classes, once it has learnt them
        self.learning = False
        self.log_mel = LogMelPatches(sample_rate_hz)
        channels = [max(8, 8 * round(n * width / 8)) for n in (STEM, *(n for n, _ in LAYERS))]
        self.stem = _Filtered(1, channels[0], 1, 2)
        self.layers = nn.ModuleList(
            _Separable(before, after, stride) for before, after, (_, stride) in zip(channels, channels[1:], LAYERS)
        )
        self.dense = nn.Linear(channels[-1], n_classes)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types leave it out
        self.eval()

    def train(self, mode: bool = True) -> SoundClassifier:
        super().train(mode and self.learning)
        return self

    def forward(self, audio: Tensor) -> Tensor:
        """(batch, time) at full scale = 1 -> logits (batch, class, frame), ceil((time // 10 ms + 1) / hop) frames."""
        return self._decide(audio, self.hop)

    def strided(self, audio: Tensor) -> Tensor:
        """Every 32nd frame's logits, at the cost of the strided network: what it is trained with."""
        return self._decide(audio, STRIDE)

    def tail(self, n: int) -> Iterator[nn.Parameter]:
        """The parameters of its last layers: 1, the dense one; 3, also of the two convolutions before it. ValueError else."""
        if n not in TAILS:
            raise ValueError(f"a tail of {n} layers; wanted one of {', '.join(map(str, TAILS))}")
        for layer in list(self.layers)[len(self.layers) - TAILS[n] :]:
            yield from layer.parameters()
        yield from self.dense.parameters()

    def _decide(self, audio: Tensor, hop: int) -> Tensor:
        maps = self.log_mel(audio)
        n_frames = -(-maps.shape[-1] // hop)
        maps = fill(maps, STRIDE).contiguous(memory_format=torch.channels_last)
        step, n_splits = 1, 0
        for layer in (self.stem, *self.layers):
            strides = layer.stride == 2 and step < hop
            step *= 2 if strides else 1
            maps = layer(maps, strides)  # (batch, channel, mel, frame)
            n_splits += layer.stride == 2 and not strides
        cells = maps.mean(-2)  # (batch * phase, channel, cell), 32 frames from one cell to the next
        n_cells = PATCH // STRIDE
        windows = avg_pool1d(cells, n_cells, 1, n_cells // 2, count_include_pad=False)
        logits = self.dense(windows.transpose(1, 2)).transpose(1, 2).float()
        return merge(logits, n_splits)[..., :n_frames]


class _Filtered(nn.Module):
    """A 3x3 convolution, batch norm, ReLU. `stride` is that of both axes; mel always steps, time where it is told to."""

    def __init__(self, before: int, after: int, groups: int, stride: int):
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, stride, 1, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(after)
        self.stride = stride

    def forward(self, maps: Tensor, strides: bool) -> Tensor:
        steps = (self.stride, self.stride if strides else 1)
        maps = conv2d(maps, self.conv.weight, None, steps, 1, groups=self.conv.groups)
        maps = self.norm(maps).relu()
        return split(maps) if self.stride == 2 and not strides else maps


class _Separable(nn.Module):
    """A filter per channel, then a 1x1 convolution; batch norm and ReLU after each."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.depthwise = _Filtered(before, before, before, stride)
        self.pointwise = nn.Conv2d(before, after, 1, bias=False)
        self.norm = nn.BatchNorm2d(after)
        self.stride = stride

    def forward(self, maps: Tensor, strides: bool) -> Tensor:
        return self.norm(self.pointwise(self.depthwise(maps, strides))).relu()
