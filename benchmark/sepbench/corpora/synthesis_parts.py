"""What the synthetic sounds are made of: oscillators, noises, resonators, and the road from a sound to its recording.

All signals are float64 (time,) at `RATE_HZ`. Every draw comes from a generator that is handed in, so a sound is a
function of its seeds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.fft import next_fast_len
from scipy.signal import butter, lfilter, sosfilt

RATE_HZ = 16000
TOP_HZ = 7800.0  # no partial is made above this, so none folds back

Generator = np.random.Generator
Series = Sequence[float] | np.ndarray


def between(rng: Generator, low: float, high: float) -> float:
    """A draw that is uniform in the logarithm: as many octaves (or decibels) above the middle as below."""
    return float(low * (high / low) ** rng.random())


def samples(seconds: float) -> int:
    """The nearest whole number of samples, at least one."""
    return max(1, round(seconds * RATE_HZ))


def level(signal: np.ndarray, rms: float = 1.0) -> np.ndarray:
    """The signal at this root mean square; silence stays silence."""
    power = float(np.mean(signal**2))
    return signal * (rms / np.sqrt(power)) if power > 0 else signal


def curve(times: Sequence[float], values: Sequence[float], n_samples: int) -> np.ndarray:
    """Straight lines through points whose times run from 0 (first sample) to 1 (last sample)."""
    return np.interp(np.linspace(0.0, 1.0, n_samples), times, values)


def wander(rng: Generator, n_samples: int, rate_hz: float) -> np.ndarray:
    """A slow random curve of about unit variance that turns `rate_hz` times a second."""
    n_knots = int(n_samples / RATE_HZ * rate_hz) + 3
    where = np.arange(n_samples) * (rate_hz / RATE_HZ) + rng.random()
    return np.interp(where, np.arange(n_knots), rng.standard_normal(n_knots))


def swell(n_samples: int, attack_s: float, release_s: float) -> np.ndarray:
    """An envelope that is 1 but for an eased start and end; both shrink where they would meet."""
    time = np.arange(n_samples)
    attack, release = (min(samples(part), n_samples / 2) for part in (attack_s, release_s))
    ramp = np.minimum(np.minimum((time + 1) / attack, (n_samples - time) / release), 1.0)
    return np.asarray(ramp * ramp * (3.0 - 2.0 * ramp))


def harmonic(frequency_hz: np.ndarray, amplitudes: Series, phase: float = 0.0) -> np.ndarray:
    """A tone with these amplitudes of partials 1, 2, ... at a moving pitch (time,), without those above `TOP_HZ`.

    The partials follow from sin(k x) = 2 cos(x) sin((k-1) x) - sin((k-2) x): one sine and one cosine in all.
    """
    angle = 2.0 * np.pi * (np.cumsum(frequency_hz) / RATE_HZ + phase)
    twice_cosine = 2.0 * np.cos(angle)
    before, partial = np.zeros_like(angle), np.sin(angle)
    lowest, highest = float(frequency_hz.min()), float(frequency_hz.max())
    out = np.zeros_like(angle)
    for number, amplitude in enumerate(amplitudes, start=1):
        if number * lowest >= TOP_HZ:
            break
        out += (
            amplitude * partial
            if number * highest < TOP_HZ - 400.0
            else _faded(amplitude, partial, number * frequency_hz)
        )
        before, partial = partial, twice_cosine * partial - before
    return out


def _faded(amplitude: float, partial: np.ndarray, frequency_hz: np.ndarray) -> np.ndarray:
    """The partial, fading out where its own frequency nears the top."""
    return np.asarray(amplitude * partial * np.clip((TOP_HZ - frequency_hz) / 400.0, 0.0, 1.0))


def partials(rng: Generator, n_partials: int, slope: float, spread_db: float) -> np.ndarray:
    """Amplitudes k ** -slope of partials k, each off by a normal draw of `spread_db`."""
    number = np.arange(1, n_partials + 1)
    return np.asarray(number**-slope * 10 ** (spread_db * rng.standard_normal(n_partials) / 20))


def coloured_noise(rng: Generator, n_samples: int, slope: float) -> np.ndarray:
    """Noise of unit level whose power falls as frequency ** -slope above 30 Hz (0 white, 1 pink, 2 brown)."""
    n_padded = next_fast_len(n_samples, real=True)
    frequency_hz = np.maximum(np.fft.rfftfreq(n_padded, 1 / RATE_HZ), 30.0)
    spectrum = np.fft.rfft(rng.standard_normal(n_padded)) * frequency_hz ** (-slope / 2)
    return level(np.fft.irfft(spectrum, n_padded)[:n_samples])


def band(signal: np.ndarray, low_hz: float | None, high_hz: float | None, order: int = 2) -> np.ndarray:
    """What lies between the edges (Butterworth); None leaves a side open."""
    high_hz = None if high_hz is None or high_hz >= TOP_HZ else high_hz
    if low_hz and high_hz:
        sections = butter(order, [low_hz, high_hz], "bandpass", fs=RATE_HZ, output="sos")
    elif low_hz:
        sections = butter(order, low_hz, "highpass", fs=RATE_HZ, output="sos")
    elif high_hz:
        sections = butter(order, high_hz, "lowpass", fs=RATE_HZ, output="sos")
    else:
        return signal
    return np.asarray(sosfilt(sections, signal))


def formants(signal: np.ndarray, centres_hz: Series, widths_hz: Series, gains: Series) -> np.ndarray:
    """The sum of two-pole resonators, each of unit gain at its centre before its own gain; none above `TOP_HZ`."""
    out = np.zeros_like(signal)
    for centre_hz, width_hz, gain in zip(centres_hz, widths_hz, gains):
        if centre_hz >= TOP_HZ:
            continue
        radius, angle = np.exp(-np.pi * width_hz / RATE_HZ), 2 * np.pi * centre_hz / RATE_HZ
        unit = (1 - radius) * np.sqrt(1 - 2 * radius * np.cos(2 * angle) + radius**2)
        out += gain * lfilter([unit], [1.0, -2 * radius * np.cos(angle), radius**2], signal)
    return out


def ring(rng: Generator, n_samples: int, modes_hz: np.ndarray, decays_s: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """A struck body: a sum of decaying sines, mode by mode, that starts at once. Only the phases are drawn."""
    time_s = np.arange(n_samples) / RATE_HZ
    phases = rng.uniform(0, 2 * np.pi, len(modes_hz))[:, None]
    waves = np.sin(2 * np.pi * modes_hz[:, None] * time_s + phases)  # (mode, time)
    return np.asarray((gains[:, None] * np.exp(-time_s / decays_s[:, None]) * waves).sum(axis=0))


def put(out: np.ndarray, start: int, sound: np.ndarray, gain: float = 1.0) -> None:
    """Adds the sound to `out` from this sample on, as far as it reaches."""
    if 0 <= start < len(out):
        part = sound[: len(out) - start]
        out[start : start + len(part)] += gain * part


def strikes(times: np.ndarray, gains: np.ndarray, sound: np.ndarray, n_samples: int) -> np.ndarray:
    """The same short sound at each of these samples, with these gains: many events for one convolution."""
    train = np.zeros(n_samples)
    inside = (times >= 0) & (times < n_samples)
    np.add.at(train, times[inside], gains[inside])
    n_padded = next_fast_len(n_samples + len(sound), real=True)
    return np.fft.irfft(np.fft.rfft(train, n_padded) * np.fft.rfft(sound, n_padded), n_padded)[:n_samples]


def beats(rng: Generator, n_samples: int, period_s: float, jitter: float, start_s: float = 0.0) -> np.ndarray:
    """Samples of events that come every `period_s`, each interval off by a normal draw of the relative `jitter`."""
    n_events = int(n_samples / RATE_HZ / period_s * 1.5) + 4
    intervals_s = period_s * np.maximum(1 + jitter * rng.standard_normal(n_events), 0.3)
    times = np.round((start_s + np.cumsum(intervals_s) - intervals_s[0]) * RATE_HZ).astype(int)
    return times[times < n_samples]


def record(dry: np.ndarray, recording: Generator, take: Generator) -> np.ndarray:
    """The sound as a recorder at some distance keeps it: air, room, microphone, noise, level; peak 0.1 to 0.9.

    Place and recorder are drawn from `recording`, the noise and the exact level from `take`.
    """
    response, gain_db, knots_hz = _room(recording), recording.normal(0.0, 4.0, 7), np.geomspace(60.0, 8000.0, 7)
    far_hz, far_order = between(recording, 1800.0, 16000.0), recording.integers(1, 3)
    floor_slope, floor_db, drive = recording.uniform(0.0, 2.0), recording.uniform(20.0, 50.0), recording.random()
    peak = between(recording, 0.15, 0.8) * between(take, 0.7, 1.1)
    n_samples = len(dry)
    n_padded = next_fast_len(n_samples + len(response), real=True)
    frequency_hz = np.fft.rfftfreq(n_padded, 1 / RATE_HZ)
    equaliser = 10 ** (np.interp(frequency_hz, knots_hz, gain_db) / 20)
    air = (1 + (frequency_hz / far_hz) ** 2) ** (-0.5 * far_order) * frequency_hz**2 / (frequency_hz**2 + 50.0**2)
    spectrum = np.fft.rfft(dry, n_padded) * np.fft.rfft(response, n_padded) * equaliser * air
    wet = level(np.fft.irfft(spectrum, n_padded)[:n_samples])
    wet += coloured_noise(take, n_samples, floor_slope) * 10 ** (-floor_db / 20)
    wet *= swell(n_samples, 0.002, 0.004)
    if drive > 0.8:  # one recorder in five is turned up too far
        wet = np.tanh(2.5 * wet / np.abs(wet).max())
        wet -= wet.mean()
    return wet * (peak / np.abs(wet).max())


def _room(rng: Generator) -> np.ndarray:
    """Direct sound and a tail of decaying noise that darkens as it dies; from nearly dry to wetter than dry."""
    decay_s, wet_db, dark_hz = between(rng, 0.08, 1.0), rng.uniform(-30.0, 0.0), between(rng, 1000.0, 8000.0)
    time_s = np.arange(samples(decay_s)) / RATE_HZ
    tail = rng.standard_normal(len(time_s)) * np.exp(-6.9 * time_s / decay_s)
    tail = band(tail, 80.0, dark_hz, order=1)
    tail *= 10 ** (wet_db / 20) / np.sqrt(np.sum(tail**2))
    gap = samples(rng.uniform(0.002, 0.03))
    response = np.zeros(gap + len(tail))
    response[0] = 1.0
    response[gap:] += tail
    return response
