"""Five street sounds: car horn, dog bark, gun shot, jackhammer, siren.

Every model is a function (recording, take, n_samples) -> (time,). What stays the same in all takes of a recording (this
horn, this dog) is drawn from `recording`, without regard to the take; what differs from take to take, from `take`.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter

from sepbench.corpora.synthesis_parts import (
    RATE_HZ,
    Generator,
    band,
    beats,
    between,
    coloured_noise,
    curve,
    formants,
    harmonic,
    level,
    partials,
    put,
    ring,
    samples,
    strikes,
    swell,
    wander,
)


def car_horn(recording: Generator, take: Generator, n_samples: int) -> np.ndarray:
    """One to three reeds in a chord, through a horn's resonances, pressed once or tapped; some drive past."""
    lorry = recording.random() < 0.2
    root_hz = between(recording, 130, 260) if lorry else between(recording, 270, 560)
    chord = [1.0, *recording.choice([1.19, 1.25, 1.26, 1.33, 1.5, 1.02], 2, replace=False)][: recording.integers(1, 4)]
    tuned = [ratio * recording.uniform(0.985, 1.015) for ratio in chord]
    reeds = [(ratio, partials(recording, 24, recording.uniform(0.3, 1.1), 5)) for ratio in tuned]
    centres_hz = [between(recording, 500, 1200), between(recording, 1300, 2600), between(recording, 2600, 5000)]
    gains = 10 ** (recording.uniform(-8, 8, 3) / 20)
    tapped, attack_s, sag = recording.random() < 0.45, between(recording, 0.008, 0.05), recording.uniform(0, 0.04)
    tap_s, gap_s = between(recording, 0.1, 0.5), between(recording, 0.06, 0.3)
    passing = recording.uniform(0.01, 0.05) if recording.random() < 0.25 else 0.0

    whole = [(0, int(n_samples * take.uniform(0.8, 1.0)))]
    presses = _presses(take, n_samples, tap_s, gap_s) if tapped else whole
    pitch, envelope = np.ones(n_samples), np.zeros(n_samples)
    for start, stop in presses:
        length = stop - start
        onset = np.exp(-np.arange(length) / samples(attack_s))  # the reeds start flat and lock in
        pitch[start:stop] = 1 - sag * onset
        envelope[start:stop] = swell(length, attack_s, 0.05)
    doppler = 1 - passing * np.tanh((np.linspace(-1, 1, n_samples) - take.uniform(-0.6, 0.6)) * 3)
    tone = sum(harmonic(root_hz * ratio * pitch * doppler, amplitudes, take.random()) for ratio, amplitudes in reeds)
    tone = tone * envelope
    return tone + 2 * formants(tone, centres_hz, [250, 400, 700], list(gains))


def _presses(take: Generator, n_samples: int, tap_s: float, gap_s: float) -> list[tuple[int, int]]:
    """Start and stop of each tap, in samples; the first tap starts at once."""
    presses, start = [], 0
    while start < n_samples - samples(0.04):
        stop = min(n_samples, start + samples(tap_s * between(take, 0.6, 1.6)))
        presses.append((start, stop))
        start = stop + samples(gap_s * between(take, 0.6, 1.6))
    return presses


def dog_bark(recording: Generator, take: Generator, n_samples: int) -> np.ndarray:
    """Barks of one dog: a pitch that rises and falls, roughness and breath, through the formants of its size."""
    size = recording.random()  # 0 a lap dog, 1 a mastiff
    pitch_hz = between(recording, 0.8, 1.25) * 1000 * (0.2**size)
    bark_s = between(recording, 0.75, 1.3) * (0.08 + 0.14 * size)
    stretch = 1.5 - 0.75 * size + recording.uniform(-0.1, 0.1)
    centres_hz = stretch * recording.uniform(0.85, 1.15, 4) * np.array([650, 1400, 2500, 3900])
    gains = 10 ** (np.array([0, -3, -9, -15]) / 20) * 10 ** (recording.normal(0, 4, 4) / 20)
    amplitudes = partials(recording, 30, recording.uniform(0.5, 1.3), 4)
    breath, rough, peak = between(recording, 0.05, 0.8), recording.uniform(0.0, 0.9), recording.uniform(0.15, 0.5)
    drop, subharmonic = recording.uniform(0.4, 0.8), recording.random() < 0.3
    period_s, doubled = between(recording, 0.22, 0.9) + bark_s, recording.random() < 0.25

    out = np.zeros(n_samples)
    for start in beats(take, n_samples, period_s, 0.25, start_s=take.uniform(0.0, 0.04)):
        for second in range(2 if doubled and take.random() < 0.7 else 1):
            length = samples(bark_s * between(take, 0.75, 1.35))
            shape = curve([0, peak, 1], [take.uniform(0.55, 0.8), 1.0, drop * take.uniform(0.85, 1.1)], length)
            frequency_hz = pitch_hz * take.uniform(0.88, 1.12) * shape * (1 + 0.04 * rough * wander(take, length, 300))
            voice = level(harmonic(frequency_hz, amplitudes, take.random()))
            if subharmonic:
                voice *= 1 + 0.7 * harmonic(frequency_hz / 2, [1.0])
            voice += breath * take.standard_normal(length)
            voice *= (1 + 0.5 * rough * wander(take, length, 120)) * swell(length, 0.012, 0.6 * bark_s)
            bark = between(take, 0.5, 1.2) * formants(voice, centres_hz, 0.16 * centres_hz, gains)
            put(out, start + second * samples(1.4 * bark_s), bark)
    return out


def gun_shot(recording: Generator, take: Generator, n_samples: int) -> np.ndarray:
    """Muzzle blast with noise and a decay that darkens, echoes of the surroundings; one shot, a few, or a volley."""
    thud_s, n_echoes = between(recording, 0.0004, 0.004), recording.integers(0, 8)
    decays_s = between(recording, 0.5, 2.0) * np.array([0.12, 0.05, 0.018]) * recording.uniform(0.5, 2.0, 3)
    gains = 10 ** (np.array([0, -2, -5]) / 20) * 10 ** (recording.normal(0, 5, 3) / 20)
    edges_hz = (between(recording, 200, 500), between(recording, 1200, 3000))
    delays_s, fades = recording.uniform(0.03, 0.6, n_echoes), 10 ** (recording.uniform(-24, -6, n_echoes) / 20)
    crack_s = between(recording, 0.004, 0.06) if recording.random() < 0.3 else None
    action_s, action_hz = recording.uniform(0.06, 0.25), between(recording, 1500, 5000)
    pattern, period_s = recording.choice(["one", "few", "volley"], p=[0.5, 0.25, 0.25]), between(recording, 0.06, 0.14)

    time_s = np.arange(samples(0.6)) / RATE_HZ
    noise = take.standard_normal(len(time_s))
    bands = (band(noise, None, edges_hz[0]), band(noise, *edges_hz), band(noise, edges_hz[1], None))
    blast = sum(gain * level(part) * np.exp(-time_s / decay_s) for gain, part, decay_s in zip(gains, bands, decays_s))
    overpressure = (1 - time_s / thud_s) * np.exp(-time_s / thud_s)  # a Friedlander wave
    blast = np.asarray(blast) + 6 * overpressure
    shot = np.zeros(samples(0.75))
    put(shot, samples(crack_s or 0), blast)
    if crack_s:  # a bullet faster than sound is heard before the muzzle
        put(shot, 0, np.linspace(5, -5, samples(0.0003)))
    clack = ring(take, samples(0.05), action_hz * np.array([1.0, 1.62, 2.2]), np.full(3, 0.006), np.full(3, 0.1))
    put(shot, samples(action_s), clack)
    starts = _shots(take, n_samples, str(pattern), period_s)
    out = strikes(starts, 10 ** (take.uniform(-3, 0, len(starts)) / 20), shot, n_samples)
    for delay_s, fade in zip(delays_s, fades):  # the further wall sends less and duller sound
        put(out, samples(delay_s), band(out, None, 4000 / (1 + 6 * delay_s), order=1).copy(), fade)
    return out + coloured_noise(take, n_samples, 1) * 1e-4


def _shots(take: Generator, n_samples: int, pattern: str, period_s: float) -> np.ndarray:
    """Samples at which shots fall; there is always one near the start."""
    first_s = take.uniform(0.0, 0.03)
    if pattern == "one":
        return np.array([samples(first_s)])
    if pattern == "few":
        return beats(take, n_samples, between(take, 0.2, 0.9), 0.4, first_s)
    return beats(take, n_samples, period_s, 0.03, first_s)[: take.integers(3, 20)]


def jackhammer(recording: Generator, take: Generator, n_samples: int) -> np.ndarray:
    """A chisel struck many times a second: steel, ground and exhaust, over a compressor; some let go now and then."""
    rate_hz, jitter = between(recording, 10, 32), recording.uniform(0.01, 0.08)
    modes_hz = np.array([between(recording, 300, 6500) for _ in range(8)])
    decays_s = np.geomspace(0.002, 0.02, 8)[recording.permutation(8)]
    mode_gains = 10 ** (recording.uniform(-15, 0, 8) / 20)
    ground_hz, ground = between(recording, 55, 170), between(recording, 0.2, 3.0)
    splash, hiss = between(recording, 0.2, 3.0), between(recording, 0.03, 0.6)
    hiss_slope, splash_s = recording.uniform(0, 1.5), between(recording, 0.002, 0.02)
    motor_hz, motor = between(recording, 22, 70), between(recording, 0.01, 0.4)
    motor_partials, releases = partials(recording, 20, recording.uniform(0.3, 1.2), 5), recording.random() < 0.35

    times = beats(take, n_samples, 1 / rate_hz, jitter, take.uniform(0, 1 / rate_hz))
    working = np.ones(n_samples)
    if releases:
        start = int(n_samples * take.uniform(0.2, 0.8))
        working[start : start + samples(take.uniform(0.2, 0.7))] = 0.0
    length = samples(0.09)
    time_s = np.arange(length) / RATE_HZ
    out, kinds = np.zeros(n_samples), take.integers(0, 2, len(times))
    for kind in range(2):  # two ways the chisel lands, in turn by chance
        strike = ring(take, length, modes_hz, decays_s, mode_gains * 10 ** (take.uniform(-4, 4, 8) / 20))
        strike += splash * take.standard_normal(length) * np.exp(-time_s / splash_s)
        strike += ground * np.sin(2 * np.pi * ground_hz * time_s) * np.exp(-time_s / 0.02)
        chosen = times[kinds == kind]
        out += strikes(chosen, working[chosen] * 10 ** (take.normal(0, 2, len(chosen)) / 20), strike, n_samples)
    out = level(out) + hiss * coloured_noise(take, n_samples, hiss_slope) * (0.3 + 0.7 * working)
    engine = harmonic(motor_hz * (1 + 0.01 * wander(take, n_samples, 3)), motor_partials, take.random())
    return out + motor * level(engine)


def siren(recording: Generator, take: Generator, n_samples: int) -> np.ndarray:
    """Wail, yelp, phaser or two tones of an overdriven horn loudspeaker that comes nearer or goes away."""
    kind = recording.choice(["wail", "yelp", "phaser", "tones"], p=[0.4, 0.25, 0.1, 0.25])
    low_hz = between(recording, 330, 750)
    high_hz = low_hz * (recording.uniform(1.2, 1.5) if kind == "tones" else between(recording, 1.6, 3.0))
    ranges_s = {"wail": (2.0, 8.0), "yelp": (0.18, 0.5), "phaser": (0.04, 0.12), "tones": (0.7, 1.9)}
    period_s, rise = between(recording, *ranges_s[str(kind)]), recording.uniform(0.25, 0.75)
    amplitudes = partials(recording, 14, recording.uniform(0.6, 1.8), 4)
    amplitudes[1::2] *= recording.uniform(0.05, 1.0)  # a square wave has no even partials
    cone_hz, cone = between(recording, 700, 2500), recording.uniform(0.0, 4.0)
    doppler, glide_s, nearing = recording.uniform(0.0, 0.05), between(recording, 0.004, 0.05), recording.uniform(-9, 9)

    cycle = (np.arange(n_samples) / RATE_HZ / period_s + take.random()) % 1.0
    if kind == "tones":
        step = (cycle < 0.5).astype(float)
        keep = np.exp(-1 / (glide_s * RATE_HZ))
        sweep = lfilter([1 - keep], [1, -keep], step, zi=[keep * step[0]])[0]
    else:
        sweep = np.where(cycle < rise, cycle / rise, (1 - cycle) / (1 - rise))
        sweep = np.sin(0.5 * np.pi * sweep) if kind == "wail" else sweep
    passing = 1 - doppler * np.tanh((np.linspace(-1, 1, n_samples) - take.uniform(-1, 1)) * 2)
    frequency_hz = low_hz * (high_hz / low_hz) ** sweep * passing
    tone = harmonic(frequency_hz, amplitudes, take.random())
    tone += cone * formants(tone, [cone_hz], [0.5 * cone_hz], [1.0])
    swelling_db = nearing * np.linspace(-0.5, 0.5, n_samples) + 1.5 * wander(take, n_samples, 2)
    return band(tone * 10 ** (swelling_db / 20), 250, None)
