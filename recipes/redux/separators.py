"""Separators that are told what to look for: a mixture and labels in, a waveform per label out (sections 3.1 to 3.3).

kind                  block     labels            attentive path    parameters    of blocks_per_level 8
resunet               ResNet    one at a time     no                27,441,063    111,355,047
resunetk              ResNet    all at once       no                27,459,693    111,373,677
resunext              ResNeXt   all at once       no                15,719,405    63,210,093
attentive_resunext    ResNeXt   all at once       yes               16,483,682    63,974,370

The last is the paper's. The counts are at full size: 18 classes, 3 slots, 4 channels, window 1024, width 1, FiLM 512. By layer:

layer                       output (frame x bin)    resunet       attentive_resunext
STFT, magnitudes            4 x 1001 x 512
BatchNorm per bin           4 x 1001 x 512          1,024         1,024
convolution 3x3, 4 to 32    32 x 1024 x 512         1,152         1,152
labels, 2 layers            512                     272,384       290,816
5 encoders                  384 x 64 x 32           4,944,576     3,080,192
3 intermediate blocks       384 x 32 x 16           10,326,528    4,928,256
5 decoders                  32 x 1024 x 512         11,862,464    8,149,109
BatchNorm, FiLM, bend       32 x 1024 x 512         32,832        32,832
masks and mix, iSTFT        3 x 320000              103           301

FiLM's layers have 7,715,520 of the parameters in ResNet blocks, 10,670,400 in ResNeXt blocks; the gates have 764,277.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from sepbench.errors import UserError

from .film import Bend, Condition, one_hots
from .resunet import FOLD, ResUNet, widths
from .spec_augment import SpecAugment
from .spectra import Head, Spectra

KINDS = {  # ResNeXt blocks, attentive path, all labels at once
    "resunet": (False, False, False),
    "resunetk": (False, False, True),
    "resunext": (True, False, True),
    "attentive_resunext": (True, True, True),
}
EPSILON = 1e-8  # beside the variance of magnitudes, which noise at -50 dB makes as small as 1e-6


def build_separator(
    kind: str, n_classes: int, n_slots: int, n_channels: int, sizes: Any, blocks_per_level: int, spec_augment: int
) -> Separator:
    """One of KINDS. `sizes`: window, hop (samples), width (times Table 1's channels), film, cardinality.

    `spec_augment` is the widest band and stretch that are hidden, in bins and frames. UserError for sizes that cannot be.
    """
    check(sizes)
    next_, attentive, together = KINDS[kind]
    trunk = ResUNet(next_, attentive, sizes.width, sizes.cardinality, blocks_per_level, sizes.film)
    return Separator(trunk, (n_classes, n_slots, n_channels), together, sizes, spec_augment)


def check(sizes: Any) -> None:
    """UserError where windows do not overlap by half or more, or nothing would be left of them."""
    if sizes.window < 2 or sizes.window % 2 or not 1 <= sizes.hop <= sizes.window // 2:
        raise UserError(
            f"a window of {sizes.window} samples every {sizes.hop}: wanted an even window, and a hop of half of it or less. "
            "Change sizes.window or sizes.hop."
        )


def whole(features: Tensor) -> Tensor:
    """Zeros after the last frame and bin, up to the next multiple of what the U folds: (batch, channel, frame, bin)."""
    frames, bins = features.shape[-2:]
    return pad(features, (0, -bins % FOLD, 0, -frames % FOLD)).contiguous(memory_format=torch.channels_last)


class Separator(nn.Module):
    """STFT, magnitudes of all channels, the U, masks and rotations, iSTFT."""

    def __init__(self, trunk: ResUNet, shape: tuple[int, int, int], together: bool, sizes: Any, spec_augment: int):
        """`shape`: how many classes, slots and channels; `together`: all labels are answered at once."""
        super().__init__()
        self.n_classes, self.n_slots, self.n_channels = n_classes, n_slots, n_channels = shape
        self.together = together
        self.masking = False  # SpecAugment, while it learns
        n_at_once, n_maps = n_slots if together else 1, widths(sizes.width)[0]
        self.spectra = Spectra(sizes.window, sizes.hop)
        self.norm = nn.BatchNorm1d(sizes.window // 2, eps=EPSILON)
        self.spec_augment = SpecAugment(spec_augment)
        self.before = nn.Conv2d(n_channels, n_maps, 3, padding=1, bias=False)
        self.condition = Condition(n_at_once * n_classes, sizes.film)
        self.trunk = trunk
        self.bend = Bend(n_maps, sizes.film)
        self.head = Head(n_maps, n_at_once, n_channels)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types leave it out

    def forward(self, mixture: Tensor, labels: Tensor) -> Tensor:
        """(batch, channel, time), (batch, slot) of class indices, -1 for an empty slot -> (batch, slot, time), float32.

        An empty slot is silent, and so is the answer to a silent mixture. Fewer slots than the separator has may be asked for;
        more only where they are answered one by one (`resunet`). UserError for more, and for another number of channels.
        """
        self._check(mixture, labels)
        if not labels.shape[1]:
            return mixture.new_zeros(len(mixture), 0, mixture.shape[-1], dtype=torch.float32)
        spectra = self.spectra(mixture)  # (batch, channel, frame, bin)
        maps = self.before(whole(self.features(spectra)))
        answer = self._together if self.together else self._one_by_one
        waveforms = self.spectra.inverse(answer(maps, spectra, labels), mixture.shape[-1])
        return torch.where(labels[..., None] >= 0, waveforms, 0.0)

    def features(self, spectra: Tensor) -> Tensor:
        """Magnitudes, normalised bin by bin over scenes, channels and frames, without the last bin (half the sample rate)."""
        magnitudes = spectra[..., :-1].abs()
        features = self.norm(magnitudes.flatten(0, 2)).view_as(magnitudes)
        return self.spec_augment(features) if self.masking and self.training else features

    def _together(self, maps: Tensor, spectra: Tensor, labels: Tensor) -> Tensor:
        wanted = pad(labels, (0, self.n_slots - labels.shape[1]), value=-1)
        return self._answer(maps, spectra, wanted)[:, : labels.shape[1]]

    def _one_by_one(self, maps: Tensor, spectra: Tensor, labels: Tensor) -> Tensor:
        """Each label of each scene as a scene of its own; empty slots are not computed (one is where there are no others)."""
        scene, slot = torch.where(labels >= 0)
        if not len(scene):
            scene = slot = scene.new_zeros(1)
        found = self._answer(maps[scene], spectra[scene], labels[scene, slot][:, None])[:, 0]
        answer = found.new_zeros(*labels.shape, *found.shape[1:])  # (batch, slot, frame, bin)
        return answer.index_put((scene, slot), found)

    def _answer(self, maps: Tensor, spectra: Tensor, labels: Tensor) -> Tensor:
        """Spectra (batch, output, frame, bin)."""
        condition = self.condition(one_hots(labels, self.n_classes))
        return self.head(self.bend(self.trunk(maps, condition), condition), spectra)

    def _check(self, mixture: Tensor, labels: Tensor) -> None:
        if mixture.shape[1] != self.n_channels:
            raise UserError(
                f"a mixture of {mixture.shape[1]} channel(s); the separator was built for {self.n_channels}. Give it such sound."
            )
        if self.together and labels.shape[1] > self.n_slots:
            raise UserError(
                f"{labels.shape[1]} labels at once; the separator was built for {self.n_slots}. Ask for fewer, or choose resunet."
            )
