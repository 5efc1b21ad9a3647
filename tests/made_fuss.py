"""A small FUSS in the layout of the real one: lists, a folder of sources for each example, some of the texts missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile

RATE_HZ = 16000
FOLDERS = {"dry": "ssdata", "reverb": "ssdata_reverb"}
COUNTS = {
    "train": (1, 2, 3, 4, 2, 3),
    "validation": (2, 1, 4),
    "eval": (1, 2, 3, 4, 2, 1, 4, 3, 2, 2, 3),
}  # sources of each


def sound(seed: int, seconds: float) -> np.ndarray:
    """A noise with a colour and a level of its own, silent at both ends: (time,)."""
    rng = np.random.default_rng(seed)
    n = round(seconds * RATE_HZ)
    noise = np.convolve(rng.standard_normal(n), rng.standard_normal(24), "same")
    window = np.zeros(n)
    window[n // 10 : n - n // 8] = 1
    return window * noise / np.abs(noise).max() * rng.uniform(0.05, 0.25)


def make_fuss(
    root: Path, seconds: float = 1.0, rooms: Sequence[str] = ("reverb",), counts: Mapping[str, Sequence[int]] = COUNTS
) -> Path:
    """Write it below `root`. The mixture is written a little too loud, as nobody should read it."""
    for room in rooms:
        for place, (name, own) in enumerate(counts.items()):
            folder = root / FOLDERS[room]
            lines = [
                _example(folder, name, i, len(own), n, seconds, 1000 * place + len(room)) for i, n in enumerate(own)
            ]
            (folder / f"{name}_example_list.txt").write_text("".join(f"{line}\n" for line in lines))
    return root


def _example(folder: Path, name: str, i: int, n_examples: int, n_sources: int, seconds: float, seed: int) -> str:
    stem = f"{name}/example{i:0{len(str(n_examples))}d}"
    files = ["background0_sound.wav", *(f"foreground{k}_sound.wav" for k in range(n_sources - 1))]
    sounds = [sound(seed + 10 * i + k, seconds) for k in range(n_sources)]
    for file, audio in zip(files, sounds):
        path = folder / f"{stem}_sources" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, audio, RATE_HZ, subtype="PCM_16")
    soundfile.write(folder / f"{stem}.wav", 1.01 * np.sum(sounds, 0), RATE_HZ, subtype="PCM_16")
    (folder / f"{stem}.jams").write_text("{}")
    if i % 2:
        (folder / f"{stem}.txt").write_text(f"0.0\t{seconds}\tsound\n")
    return "\t".join([f"{stem}.wav", *(f"{stem}_sources/{file}" for file in files)])
