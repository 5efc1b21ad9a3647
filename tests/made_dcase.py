"""A small development set of DCASE's S5 task, as it is unpacked, written from scenes of any kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch

from sepbench.corpora.dcase_s5 import CLASSES
from sepbench.scene import Mixture, Scene, Source

RATE_HZ = 8000
INTERFERING = ("Siren", "Rain")


def drawn_scenes(labels: Sequence[Sequence[str]], seconds: float = 0.5, rate_hz: int = RATE_HZ) -> list[Scene]:
    """A scene for each of `labels`, its targets of noise, silent at both ends; four channels, and something else in them."""
    return [_drawn(i, own, round(seconds * rate_hz), rate_hz) for i, own in enumerate(labels)]


def _drawn(seed: int, labels: Sequence[str], n: int, rate_hz: int) -> Scene:
    random = np.random.default_rng(seed)
    window = np.zeros(n)
    window[n // 10 : n - n // 8] = 1
    targets = [np.convolve(random.standard_normal(n), random.standard_normal(16), "same") * window for _ in labels]
    targets = [0.1 * each / np.abs(each).max() for each in targets]
    gains = np.vstack([np.ones(len(labels)), random.uniform(-1, 1, (3, len(labels)))])  # (channel, target)
    audio = gains @ np.array(targets).reshape(len(labels), n) + 0.003 * random.standard_normal((4, n))
    sources = tuple(Source(torch.tensor(own, dtype=torch.float32), label, ()) for own, label in zip(targets, labels))
    return Scene(Mixture(torch.tensor(audio, dtype=torch.float32), rate_hz, f"{seed:04d}"), sources)


def make_dcase(root: Path, scenes: Sequence[Scene], year: int = 2025, subtype: str = "FLOAT") -> Path:
    """Write their mixtures and sources below `root`, called by their ids, in the layout of that year; `root`."""
    test = root / "dev_set" / "test"
    for folder in ("soundscape", "oracle_target"):
        (test / folder).mkdir(parents=True, exist_ok=True)
    for scene in scenes:
        name, rate_hz = scene.mixture.id, scene.mixture.sample_rate_hz
        soundfile.write(test / "soundscape" / f"{name}.wav", scene.mixture.audio.numpy().T, rate_hz, subtype=subtype)
        for i, source in enumerate(scene.sources):
            stem = f"{name}_{source.label}" if year == 2025 else f"{name}_{i}_{source.label}"
            soundfile.write(test / "oracle_target" / f"{stem}.wav", source.audio.numpy(), rate_hz, subtype=subtype)
    return root


def add_parts(root: Path, n_events: int = 2, seconds: float = 0.4, rate_hz: int = RATE_HZ) -> Path:
    """Write what there is to train with below `root`: events, interference, noise, rooms, and metadata; `root`."""
    dev, random = root / "dev_set", np.random.default_rng(7)
    n = round(seconds * rate_hz)
    counts = Counter({("sound_event", name): n_events for name in CLASSES})
    counts |= Counter({("interference", name): n_events for name in INTERFERING})
    for split in ("train", "valid"):
        for (part, name), number in counts.items():
            for i in range(number):
                _write(dev / part / split / name / f"{split}_{i}.wav", random.uniform(-0.5, 0.5, n), rate_hz)
        for i in range(2):
            _write(dev / "noise" / split / f"{i}.wav", random.uniform(-0.1, 0.1, (3 * n, 4)), rate_hz)
            write_sofa(dev / "room_ir" / split / f"room{i}.sofa", rate_hz, random.integers(1 << 30))
    for name in ("valid.json", "valid/0000.json"):  # which scenes the challenge has in valid: nobody reads it
        (dev / "metadata" / name).parent.mkdir(parents=True, exist_ok=True)
        (dev / "metadata" / name).write_text("[]")
    return root


def write_sofa(path: Path, rate_hz: int, seed: int, n_positions: int = 4, n_receivers: int = 4) -> None:
    """Responses with a sound after 10 ms that decays within 60 ms, as SOFA has them: (measurement, receiver, sample)."""
    import h5py

    random, n = np.random.default_rng(seed), round(0.08 * rate_hz)
    decay = np.exp(-np.arange(n) / (0.01 * rate_hz)) * random.standard_normal((n_positions, n_receivers, n)) * 0.1
    decay[:, 0, 0] = 1
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.attrs["Conventions"] = "SOFA"
        file["Data.IR"] = np.pad(decay, [(0, 0), (0, 0), (round(0.01 * rate_hz), 0)])
        file["Data.SamplingRate"] = np.array([float(rate_hz)])


def _write(path: Path, audio: np.ndarray, rate_hz: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, audio, rate_hz, subtype="PCM_16")
