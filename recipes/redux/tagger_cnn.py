"""The tagger that the recipe trains from nothing: a convolutional network on log-mel spectrograms.

layer (channels 32, 64, 128, 256; 10 s at 32 kHz, 18 classes)   output            parameters, by convolutions per layer
                                                                                            1            2
log-mel                                                         1 x 64 x 1251
4 x [convolution 3x3, batch norm, ReLU, maximum pooling 2x2]    256 x 4 x 78          388,800    1,173,600
mean over mel; over time mean plus maximum                      256
fully connected                                                 18                      4,626        4,626
                                                                                      393,426    1,178,226
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from sepbench.blocks.log_mel import LogMel
from sepbench.blocks.sound_cnn import SoundCnn


class CnnTagger(nn.Module):
    """(item, time) at full scale = 1 -> logits (item, class). UserError where a sound is too short for its poolings.

    The maximum over time lets a short event speak for itself in a long mixture (as in PANNs, Kong et al. 2020).
    """

    def __init__(self, n_classes: int, sample_rate_hz: int, channels: Sequence[int], convs_per_layer: int):
        super().__init__()
        self.log_mel = LogMel(sample_rate_hz)
        self.cnn = SoundCnn(n_classes, channels, convs_per_layer)
        nn.init.constant_(self.cnn.classes.bias, -math.log(n_classes))  # classes begin as rare as they are

    def forward(self, audio: Tensor) -> Tensor:
        maps = self.cnn.maps(self.log_mel(audio)).mean(-2)  # (item, channel, frame)
        logits: Tensor = self.cnn.classes(maps.mean(-1) + maps.amax(-1))
        return logits.float()
