"""Sounds and their spectrograms, small enough to be written into a page."""

from __future__ import annotations

import base64
import io
from math import gcd

import numpy as np
import soundfile
import torch
from matplotlib.image import imsave
from scipy.signal import resample_poly

from sepbench.report.style import LOUDNESS_MAP

OPUS_HZ = (8000, 12000, 16000, 24000, 48000)  # the rates that Opus knows
COMPRESSION = 0.93  # of libsndfile's 0 to 1: about 20 kbit/s, which is enough to hear what is wrong
WINDOW_S, RANGE_DB = 0.032, 70.0  # as in the pictures of a run: shown is this much below the mixture's loudest bin
COLUMNS, ROWS, QUALITY = 250, 64, 40  # of a spectrogram, in pixels, and WebP's 0 to 100: 2 to 3 kB


def opus(audio: np.ndarray, rate_hz: int) -> str:
    """(time,) as Ogg Opus, in base64. Rates that Opus does not know are brought to the next one below (8 kHz at least)."""
    to_hz = max((each for each in OPUS_HZ if each <= rate_hz), default=OPUS_HZ[0])
    common = gcd(to_hz, rate_hz)
    heard = audio if to_hz == rate_hz else resample_poly(audio, to_hz // common, rate_hz // common)
    made = io.BytesIO()
    limited = np.clip(np.asarray(heard, np.float32), -1.0, 1.0)
    soundfile.write(made, limited, to_hz, format="OGG", subtype="OPUS", compression_level=COMPRESSION)
    return base64.b64encode(made.getvalue()).decode()


def loudest_db(audio: np.ndarray, rate_hz: int) -> float:
    """The level of the loudest bin of (time,), to which a scene's spectrograms are drawn."""
    return float(_level_db(audio, rate_hz).max())


def spectrogram(audio: np.ndarray, rate_hz: int, top_db: float) -> str:
    """(time,) as WebP of COLUMNS x ROWS, in base64; the lightest colour is `top_db`, the darkest RANGE_DB below."""
    shades = np.clip((_level_db(audio, rate_hz) - top_db) / RANGE_DB + 1, 0, 1)[::-1]  # low frequencies at the bottom
    return _webp(LOUDNESS_MAP(_fitted(shades)))


def colour_bar() -> str:
    """The scale of every spectrogram, from RANGE_DB below on the left to the top on the right, as WebP in base64."""
    return _webp(LOUDNESS_MAP(np.tile(np.linspace(0, 1, COLUMNS), (8, 1))))


def _webp(picture: np.ndarray) -> str:
    made = io.BytesIO()
    imsave(made, np.round(255 * picture[..., :3]).astype(np.uint8), format="webp", pil_kwargs={"quality": QUALITY})
    return base64.b64encode(made.getvalue()).decode()


def _level_db(audio: np.ndarray, rate_hz: int) -> np.ndarray:
    """(bin, frame): the level of each bin, in dB re an arbitrary but constant reference."""
    length = round(WINDOW_S * rate_hz)
    hop = max(1, min(length // 4, len(audio) // COLUMNS))
    window = torch.hann_window(length)
    heard = torch.from_numpy(np.ascontiguousarray(audio, np.float32))
    spectrum = torch.stft(heard, length, hop, window=window, pad_mode="constant", return_complex=True)
    return (20 * torch.log10(spectrum.abs() / window.sum() + 1e-10)).numpy()


def _fitted(levels: np.ndarray) -> np.ndarray:
    """(bin, frame) -> (ROWS, COLUMNS): each pixel is the loudest of what it covers."""
    for axis, n in ((0, ROWS), (1, COLUMNS)):
        edges = np.linspace(0, levels.shape[axis], n, endpoint=False).astype(int)
        levels = np.maximum.reduceat(levels, edges, axis=axis)
    return levels
