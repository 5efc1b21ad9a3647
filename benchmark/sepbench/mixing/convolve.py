"""Sounds in a room: overlap-save convolution, summed over the sounds while they are still spectra."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft


@dataclass(frozen=True)
class Dry:
    """A sound as it lies in a scene before it is put into a room; elsewhere there is silence."""

    audio: np.ndarray  # float32 (time,)
    onset: int  # sample of the scene where it begins
    response: np.ndarray  # float32 (channel, tap), what the room does to it
    peak: int  # tap at which the scene's clock and the sound's agree: the response's peak at the first channel


class Spectra:
    """Some sounds of a scene of `n_samples`, block by block in the frequency domain.

    What comes out of a block are `step` samples; before them, each block holds as many as the longest response needs.
    """

    def __init__(self, sounds: Sequence[Dry], n_samples: int):
        self.sounds, self.n_samples = sounds, n_samples
        self.n_taps = max(each.response.shape[1] for each in sounds)
        whole = scipy.fft.next_fast_len(n_samples + self.n_taps, real=True)  # no more than one block for everything
        self.n_fft = min(scipy.fft.next_fast_len(3 * self.n_taps, real=True), whole)  # fastest around 3, as measured
        self.step = self.n_fft - self.n_taps + 1
        self.n_blocks = -(-n_samples // self.step)
        self._blocks = [self._of(each) for each in sounds]  # (first block, spectra (block, bin)) of each

    def _of(self, sound: Dry) -> tuple[int, np.ndarray]:
        """The blocks that the sound is in, the others being silent."""
        lead = self.n_taps - 1 - sound.peak  # how far a block begins before its output, on the sound's clock
        first = max((sound.onset + lead - self.n_fft) // self.step + 1, 0)  # the first block that reaches its onset
        last = min((sound.onset + len(sound.audio) - 1 + lead) // self.step, self.n_blocks - 1)
        n = max(last - first + 1, 0)
        begin = first * self.step - lead  # sample of the scene at which the first of them begins
        line = np.zeros((n - 1) * self.step + self.n_fft if n else 0, np.float32)
        a, b = max(sound.onset, begin), min(sound.onset + len(sound.audio), begin + len(line))
        if b > a:
            line[a - begin : b - begin] = sound.audio[a - sound.onset : b - sound.onset]
        blocks = np.lib.stride_tricks.as_strided(line, (n, self.n_fft), (self.step * 4, 4), writeable=False)
        return first, scipy.fft.rfft(blocks, axis=-1) if n else np.zeros((0, self.n_fft // 2 + 1), np.complex64)

    def alone(self, index: int, response: np.ndarray) -> np.ndarray:
        """Sound `index` through `response` (tap,) in place of its own: float32 (time,)."""
        first, blocks = self._blocks[index]
        found = np.zeros(self.n_blocks * self.step, np.float32)
        if len(blocks):
            out = scipy.fft.irfft(blocks * scipy.fft.rfft(response, self.n_fft), self.n_fft, overwrite_x=True)
            at = first * self.step
            found[at : at + len(blocks) * self.step] = out[:, self.n_taps - 1 :].reshape(-1)
        return found[: self.n_samples]

    def together(self, gains: np.ndarray) -> np.ndarray:
        """All sounds through their own responses, each times its gain (sound,): float32 (channel, time)."""
        n_channels = len(self.sounds[0].response)
        summed = np.zeros((n_channels, self.n_blocks, self.n_fft // 2 + 1), np.complex64)
        for (first, blocks), sound, gain in zip(self._blocks, self.sounds, gains.astype(np.float32)):
            through = scipy.fft.rfft(sound.response * gain, self.n_fft)  # (channel, bin)
            summed[:, first : first + len(blocks)] += through[:, None] * blocks
        out = scipy.fft.irfft(summed, self.n_fft, overwrite_x=True)[:, :, self.n_taps - 1 :]
        return out.reshape(n_channels, -1)[:, : self.n_samples]
