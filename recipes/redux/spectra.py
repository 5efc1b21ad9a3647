"""Sound to spectra and back, and the head that makes one sound of several channels (Kong et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

OPEN = 2.0  # what a mask says before it has learnt anything, before its sigmoid: 0.88
SMALL = 0.1  # the head's first weights, of their usual size, so that masks begin near there
TINY = 1e-12


class Spectra(nn.Module):
    """Short-time Fourier transform with a Hann window, in float32 whatever autocast says; unit masks give back the sound."""

    hann: Tensor

    def __init__(self, window: int, hop: int):
        super().__init__()
        self.window, self.hop = window, hop
        self.register_buffer("hann", torch.hann_window(window), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """(batch, channel, time) -> complex (batch, channel, frame, bin). Frame k is centred on sample k * hop."""
        with torch.autocast(audio.device.type, enabled=False):
            audible = pad(audio.float(), (0, -audio.shape[-1] % self.hop))  # so that two windows hear the end
            spectra = torch.stft(
                audible.flatten(0, 1),
                self.window,
                self.hop,
                window=self.hann,
                center=True,
                pad_mode="constant",
                return_complex=True,
            )
        return spectra.unflatten(0, audio.shape[:2]).transpose(-1, -2)

    def inverse(self, spectra: Tensor, n_samples: int) -> Tensor:
        """Complex (batch, slot, frame, bin) -> (batch, slot, time)."""
        flat = spectra.flatten(0, 1).transpose(-1, -2)  # (batch * slot, bin, frame)
        audio = torch.istft(flat, self.window, self.hop, window=self.hann, center=True)
        return audio.unflatten(0, spectra.shape[:2])[..., :n_samples]


class Head(nn.Module):
    """For each output a mask, 0 to 1, and a rotation of the phase, which act on every channel; the channels' mix is learned.

    Since a mask is the same for all channels, they are mixed first, once for all outputs. The mix begins as the reference
    channel, so that every output begins as the mixture that is heard there.
    """

    def __init__(self, n_maps: int, n_outputs: int, n_channels: int):
        super().__init__()
        self.n_outputs = n_outputs
        self.masks = nn.Conv2d(n_maps, 3 * n_outputs, 1)  # magnitude, cosine and sine of each
        self.mix = nn.Parameter(torch.eye(1, n_channels)[0])
        with torch.no_grad():
            self.masks.weight *= SMALL
            for bias, start in zip(self.masks.bias.chunk(3), (OPEN, 1.0, 0.0)):
                bias.fill_(start)

    def forward(self, maps: Tensor, spectra: Tensor) -> Tensor:
        """(batch, map, frame, bin), complex (batch, channel, frame, bin) -> complex (batch, output, frame, bin).

        Maps of more frames and bins than the spectra are cut. Without a map for the last bin, it is treated as its neighbour.
        """
        magnitude, rotation = self.answers(self._fit(self.masks(maps), *spectra.shape[-2:]))
        mixed = (spectra * self.mix[:, None, None]).sum(1, keepdim=True)  # (batch, 1, frame, bin)
        return magnitude * rotation * mixed

    def answers(self, said: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, 3 * output, frame, bin) -> masks, and rotations (complex, of modulus 1), both (batch, output, frame, bin)."""
        magnitude, cosine, sine = said.unflatten(1, (3, self.n_outputs)).unbind(1)
        length = (cosine.square() + sine.square() + TINY).sqrt()
        return magnitude.sigmoid(), torch.complex(cosine / length, sine / length)

    def _fit(self, said: Tensor, frames: int, bins: int) -> Tensor:
        said = said[..., :frames, :bins].float().contiguous()
        return pad(said, (0, bins - said.shape[-1], 0, 0), mode="replicate")
