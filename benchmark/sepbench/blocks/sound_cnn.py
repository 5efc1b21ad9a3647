"""The convolutional classifier of SepClsNet (section III-E; its Baseline CNN is the same, on mixtures).

layer (channels 32, 64, 128, 256; 3 s at 16 kHz)                output            parameters, by convolutions per layer
                                                                                            1            2
log-mel                                                         1 x 64 x 188
4 x [convolution 3x3, batch norm, ReLU, maximum pooling 2x2]    256 x 4 x 11          388,800    1,173,600
mean over all that is left, fully connected                     51                     13,107       13,107
                                                                                      401,907    1,186,707
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sepbench.errors import UserError


class SoundCnn(nn.Module):
    """Log-mel spectrograms (batch, 1, mel, frame) -> logits (batch, class). UserError where too short for its poolings."""

    def __init__(self, n_classes: int, channels: Sequence[int], convs_per_layer: int):
        super().__init__()
        self.shortest = 2 ** len(channels)  # frames, and mel bands: each layer halves them
        layers: list[nn.Module] = []
        for before, after in zip((1, *channels), channels):
            for each in range(convs_per_layer):
                layers += [nn.Conv2d(after if each else before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
        self.layers = nn.Sequential(*layers)
        self.layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types leave it out
        self.classes = nn.Linear(channels[-1], n_classes)

    def maps(self, features: Tensor) -> Tensor:
        """What the last layer makes of them: (batch, channel, mel / shortest, frame / shortest)."""
        if min(features.shape[-2:]) < self.shortest:
            bands, frames = features.shape[-2:]
            raise UserError(
                f"a sound of {bands} mel bands x {frames} frames is too short for the classifier: each of its layers halves "
                f"both, which takes {self.shortest}. Choose longer scenes (task.seconds) or fewer layers (sizes.channels)."
            )
        found: Tensor = self.layers(features)
        return found

    def forward(self, features: Tensor) -> Tensor:
        return self.classes(self.maps(features).mean((-2, -1)))
