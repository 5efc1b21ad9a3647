"""Four sounds of living things: rooster, crying baby, sneezing, and the dog that `synthesis_urban` has already.

Models are functions (recording, take, n_samples) -> (time,), as in `synthesis_urban`.
"""

from __future__ import annotations

import numpy as np

from sepbench.corpora.synthesis_parts import (
    RATE_HZ,
    Generator,
    band,
    between,
    curve,
    formants,
    harmonic,
    level,
    partials,
    put,
    samples,
    swell,
    wander,
)


def rooster(recording: Generator, take: Generator, n_samples: int) -> np.ndarray:
    """A crow: two short calls, a high one and a long one that falls and grows hoarse."""
    pitch_hz, pace = between(recording, 420, 850), between(recording, 0.75, 1.3)
    amplitudes = partials(recording, 16, recording.uniform(0.1, 0.7), 4)
    centres_hz = [between(recording, 900, 1500), between(recording, 1900, 3000), between(recording, 3200, 4800)]
    gains = 10 ** (recording.uniform(-8, 4, 3) / 20)
    steps = np.array([0.8, 1.0, 1.25, 1.05]) * recording.uniform(0.9, 1.1, 4)
    shares = np.array([0.14, 0.14, 0.2, 0.4]) * recording.uniform(0.8, 1.25, 4)
    hoarse, tremble_hz, fall = recording.uniform(0.05, 0.6), between(recording, 8, 30), recording.uniform(0.55, 0.85)

    out = np.zeros(n_samples)
    start = samples(take.uniform(0.0, 0.04))
    for number, (step, share) in enumerate(zip(steps, shares)):
        length = samples(share * pace * 1.7 * take.uniform(0.9, 1.1))
        end = fall if number == 3 else take.uniform(0.9, 1.0)
        shape = curve([0, 0.2, 0.6, 1], [0.85, 1.0, 0.98, end], length)
        tremble = 0.02 * np.sin(2 * np.pi * tremble_hz * np.arange(length) / RATE_HZ) * (number == 3)
        frequency_hz = pitch_hz * step * shape * (1 + tremble + 0.02 * hoarse * wander(take, length, 200))
        voice = level(harmonic(frequency_hz, amplitudes, take.random()))
        voice *= (1 + hoarse * wander(take, length, 150)) * swell(length, 0.03, 0.08 if number < 3 else 0.3)
        put(out, start, voice, [0.5, 0.6, 1.0, 0.9][number])
        start += length + samples(take.uniform(0.01, 0.07))
    out += 0.02 * np.abs(out) * take.standard_normal(n_samples)
    return 0.4 * out + formants(out, centres_hz, [300, 450, 700], gains)


def crying_baby(recording: Generator, take: Generator, n_samples: int) -> np.ndarray:
    """Cries on one breath each, their pitch an arch with tremor, and the gasp between them."""
    pitch_hz, cry_s = between(recording, 320, 620), between(recording, 0.5, 1.3)
    amplitudes = partials(recording, 24, recording.uniform(0.2, 0.9), 4)
    centres_hz = recording.uniform(0.85, 1.15, 4) * np.array([1050, 2000, 3300, 4700])
    gains = 10 ** (np.array([0, -5, -6, -12]) / 20) * 10 ** (recording.normal(0, 3, 4) / 20)
    arch, tremor_hz, tremor = recording.uniform(0.6, 0.95), between(recording, 4, 9), recording.uniform(0, 0.03)
    hoarse, gasp, gap_s = recording.uniform(0, 0.7), between(recording, 0.03, 0.4), between(recording, 0.12, 0.4)

    out, start = np.zeros(n_samples), 0
    while start < n_samples:
        length = samples(cry_s * between(take, 0.7, 1.3))
        shape = curve([0, 0.15, 0.6, 1], [arch, 1.0, take.uniform(0.92, 1.02), arch * take.uniform(0.8, 1.0)], length)
        shaking = tremor * np.sin(2 * np.pi * tremor_hz * np.arange(length) / RATE_HZ)
        frequency_hz = pitch_hz * take.uniform(0.93, 1.07) * shape * (1 + shaking + 0.006 * wander(take, length, 40))
        voice = level(harmonic(frequency_hz, amplitudes, take.random()))
        voice *= np.maximum(1 + hoarse * wander(take, length, 90), 0.0) * swell(length, 0.06, 0.15)
        voice += 0.05 * hoarse * take.standard_normal(length) * swell(length, 0.06, 0.15)
        put(out, start, formants(voice, centres_hz, 0.12 * centres_hz, gains))
        pause = samples(gap_s * take.uniform(0.7, 1.3))
        breath = band(take.standard_normal(pause), 1200, 4500) * swell(pause, 0.6 * pause / RATE_HZ, 0.04)
        put(out, start + length, breath, gasp)
        start += length + pause
    return out


def sneezing(recording: Generator, take: Generator, n_samples: int) -> np.ndarray:
    """Breath drawn in, then a burst of hiss whose vowel follows."""
    draw_s, burst_s = between(recording, 0.08, 0.5), between(recording, 0.12, 0.4)
    pitch_hz, voiced = between(recording, 140, 420), recording.uniform(0.0, 1.2)
    hiss_hz, inhale_hz = between(recording, 1500, 4500), between(recording, 700, 2000)
    stretch = 0.75 + 0.5 * pitch_hz / 420
    centres_hz = stretch * recording.uniform(0.85, 1.15, 3) * np.array([480, 1250, 2600])
    amplitudes, quiet, spoken = partials(recording, 24, 1.0, 3), between(recording, 0.03, 0.4), recording.random() < 0.4

    out = np.zeros(n_samples)
    length = min(samples(draw_s * take.uniform(0.8, 1.2)), n_samples // 3)
    inhale = band(take.standard_normal(length), inhale_hz, 3 * inhale_hz)
    if spoken:
        rising_hz = pitch_hz * curve([0, 1], [0.8, 1.2], length)
        vowel = formants(harmonic(rising_hz, amplitudes), centres_hz * 1.3, [120, 180, 250], [1, 0.5, 0.2])
        inhale = level(inhale) + vowel
    put(out, 0, level(inhale) * curve([0, 0.9, 1], [0.1, 1, 0.2], length), quiet)
    length = samples(burst_s * 2.5)
    fall = np.exp(-np.arange(length) / samples(0.4 * burst_s)) * swell(length, 0.004, 0.05)
    hiss = level(band(take.standard_normal(length), 0.6 * hiss_hz, min(2.5 * hiss_hz, 7500))) * fall
    falling_hz = pitch_hz * curve([0, 0.2, 1], [1.3, 1.1, 0.7], length) * take.uniform(0.9, 1.1)
    throat = level(harmonic(falling_hz, amplitudes)) + 0.5 * take.standard_normal(length)
    vowel = level(formants(throat, centres_hz, [120, 180, 250], [1, 0.6, 0.3]))
    vowel *= curve([0, 0.12, 0.35, 1], [0.1, 1.0, 0.5, 0.0], length)
    put(out, min(samples(draw_s), n_samples // 3), hiss + voiced * vowel)
    return out
