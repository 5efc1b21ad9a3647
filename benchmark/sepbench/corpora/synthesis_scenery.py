"""Six sounds of weather, fire and machines: rain, sea waves, crackling fire, clock tick, helicopter, chainsaw.

Models are functions (recording, take, n_samples) -> (time,), as in `synthesis_urban`.
"""

from __future__ import annotations

import numpy as np

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
    ring,
    samples,
    strikes,
    wander,
)


def rain(recording: Generator, take: Generator, n_samples: int) -> np.ndarray:
    """Drops that ring in several ways, from single ones to so many that they are noise, over the rush of far ones."""
    density_hz, rush = between(recording, 60, 3000), between(recording, 0.15, 2.0)
    slope, low_hz = recording.uniform(0, 1.2), between(recording, 200, 1500)
    modes_hz = np.array([between(recording, 700, 6500) for _ in range(8)])
    decays_s, hollow = [between(recording, 0.0003, 0.002) for _ in range(8)], recording.uniform(0.3, 1.3)

    out = np.zeros(n_samples)
    for mode_hz, decay_s in zip(modes_hz, decays_s):
        n_drops = take.poisson(density_hz / 8 * n_samples / RATE_HZ)
        drop = ring(take, samples(0.02), mode_hz * np.array([1.0, 1.7]), np.full(2, decay_s), np.array([1.0, 0.5]))
        drop += take.standard_normal(len(drop)) * np.exp(-np.arange(len(drop)) / samples(0.0008))
        sizes = np.exp(hollow * take.standard_normal(n_drops)) * take.choice([-1.0, 1.0], n_drops)
        out += strikes(take.integers(0, n_samples, n_drops), sizes, drop, n_samples)
    far = band(coloured_noise(take, n_samples, slope), low_hz, None, order=1)
    return level(out) + rush * level(far) * (1 + 0.08 * wander(take, n_samples, 1.5))


def sea_waves(recording: Generator, take: Generator, n_samples: int) -> np.ndarray:
    """Surf: noise that swells and ebbs slowly and is brightest when it is loudest, over the rumble of the sea."""
    period_s, depth = between(recording, 1.8, 8.0), recording.uniform(0.6, 1.8)
    slopes, rise = recording.uniform([0.3, 1.2], [1.0, 2.2]), recording.uniform(0.25, 0.6)
    split_hz, foam, rumble = between(recording, 500, 2000), between(recording, 0.4, 2.0), between(recording, 0.1, 0.8)

    cycle = (np.arange(n_samples) / RATE_HZ / period_s + take.random()) % 1.0
    swell_up = np.where(cycle < rise, cycle / rise, (1 - cycle) / (1 - rise))
    power = np.exp(depth * (2 * swell_up**1.5 - 1) + 0.15 * wander(take, n_samples, 4))
    bright = level(band(coloured_noise(take, n_samples, slopes[0]), split_hz, None, order=1)) * power**1.5
    dark = level(band(coloured_noise(take, n_samples, slopes[1]), 60, split_hz)) * power
    return foam * bright + dark + rumble * coloured_noise(take, n_samples, 2.0)


def crackling_fire(recording: Generator, take: Generator, n_samples: int) -> np.ndarray:
    """Pops of very unequal size, singly and in bursts, over the roar of the flames and hiss of the sap."""
    density_hz, tail = between(recording, 10, 80), recording.uniform(1.2, 2.5)
    roar, hiss, bursts = between(recording, 0.02, 0.4), between(recording, 0.005, 0.1), recording.uniform(0.2, 1.4)
    centres_hz = [between(recording, 800, 6500) for _ in range(4)]
    decays_s = [between(recording, 0.0005, 0.006) for _ in range(4)]

    seconds = n_samples / RATE_HZ
    mood = np.exp(bursts * wander(take, n_samples, 6))
    chances = np.cumsum(mood[::16]) / mood[::16].sum()
    out = np.zeros(n_samples)
    for centre_hz, decay_s in zip(centres_hz, decays_s):
        n_pops = take.poisson(density_hz / 4 * seconds) + 1
        length = samples(8 * decay_s)
        pop = take.standard_normal(length) * np.exp(-np.arange(length) / RATE_HZ / decay_s)
        pop = 0.3 * level(pop) + level(formants(pop, [centre_hz], [0.4 * centre_hz], [1.0]))
        times = np.searchsorted(chances, take.random(n_pops)) * 16 + take.integers(0, 16, n_pops)
        times = np.minimum(times, n_samples - 1)
        sizes = np.minimum(take.pareto(tail, n_pops) + 0.1, 20.0)
        out += strikes(times, sizes, pop, n_samples)
    flames = roar * band(coloured_noise(take, n_samples, 1.5), 50, 900) * (1 + 0.4 * wander(take, n_samples, 5))
    return out / max(np.abs(out).max(), 1e-9) + 0.3 * flames + 0.2 * hiss * coloured_noise(take, n_samples, 0.0)


def clock_tick(recording: Generator, take: Generator, n_samples: int) -> np.ndarray:
    """Tick and tock of an escapement: each a few clicks that ring small parts of steel in a wooden or tin case."""
    period_s, offset_s = between(recording, 0.12, 0.9), between(recording, 0.002, 0.03)
    modes_hz = np.array([between(recording, 1200, 7200) for _ in range(6)])
    decays_s = np.array([between(recording, 0.001, 0.02) for _ in range(6)])
    gains, tock = 10 ** (recording.uniform(-15, 0, 6) / 20), 10 ** (recording.uniform(-9, 9, 6) / 20)
    case_hz, case, shift = between(recording, 180, 900), between(recording, 0.05, 1.0), recording.uniform(0.92, 1.08)
    limp = recording.uniform(-0.15, 0.15)

    length = samples(0.12)
    out, times = np.zeros(n_samples), beats(take, n_samples, period_s, 0.004, take.uniform(0.0, min(period_s, 0.1)))
    box = case * np.sin(2 * np.pi * case_hz * np.arange(length) / RATE_HZ) * np.exp(-np.arange(length) / samples(0.012))
    for kind in range(2):
        click = ring(take, length, modes_hz * shift**kind, decays_s, gains * tock**kind) + box
        own = times[kind::2] + kind * samples(abs(limp) * period_s)
        strength = 10 ** (take.uniform(-1.5, 0, len(own)) / 20)
        out += strikes(own, strength, click, n_samples)
        out += strikes(own + samples(offset_s), 0.5 * strength, click, n_samples)
    return out + 1e-4 * take.standard_normal(n_samples)


def helicopter(recording: Generator, take: Generator, n_samples: int) -> np.ndarray:
    """Slap of the blades many times a second, the wash they chop, and the whine of turbine and gears."""
    rate_hz, sharp = between(recording, 9, 28), between(recording, 1.5, 12.0)
    body_hz, wash, chop = between(recording, 50, 220), between(recording, 0.2, 2.0), recording.uniform(0.3, 0.95)
    slopes, whine_hz = recording.uniform(0.6, 1.8), between(recording, 500, 3500)
    whine, ratio, nearing = between(recording, 0.01, 0.4), recording.uniform(1.3, 2.7), recording.uniform(-9, 9)
    slap_low_hz, slap_high_hz = between(recording, 30, 90), between(recording, 250, 1800)

    turn = np.cumsum(rate_hz * (1 + 0.006 * wander(take, n_samples, 2))) / RATE_HZ + take.random()
    blade = np.exp(sharp * (np.cos(2 * np.pi * turn) - 1))
    slap = level(band(blade * (take.standard_normal(n_samples) + 0.5), slap_low_hz, slap_high_hz))
    thump = level(formants(blade - blade.mean(), [body_hz, 2.3 * body_hz], [40, 90], [1.0, 0.5]))
    rush = coloured_noise(take, n_samples, slopes) * (1 - chop + chop * blade)
    steady = whine_hz * (1 + 0.002 * wander(take, n_samples, 3))
    tones = harmonic(steady, [1.0, 0.4, 0.2], take.random()) + 0.6 * harmonic(steady * ratio, [1.0, 0.3], take.random())
    out = slap + thump + wash * level(rush) + whine * level(tones)
    return out * 10 ** (nearing * np.linspace(-0.5, 0.5, n_samples) / 20)


def chainsaw(recording: Generator, take: Generator, n_samples: int) -> np.ndarray:
    """A two-stroke engine that idles, revs and bites: explosions through the exhaust, and the rasp of the chain."""
    idle_hz, full_hz = between(recording, 38, 65), between(recording, 95, 210)
    centres_hz = [between(recording, 250, 700), between(recording, 800, 1800), between(recording, 2000, 4500)]
    gains, slope = 10 ** (recording.uniform(-9, 3, 3) / 20), recording.uniform(0.1, 0.8)
    amplitudes, rasp = partials(recording, 45, slope, 4), between(recording, 0.1, 1.5)
    rasp_hz, rough, style = between(recording, 1200, 4000), recording.uniform(0.02, 0.35), recording.random()

    marks = [0.0, *np.sort(take.uniform(0.05, 0.95, 4)), 1.0]
    held = take.uniform(0.8, 1.0, 6) if style < 0.5 else take.choice([0.0, 0.15, 0.9, 1.0], 6)
    throttle = np.clip(curve(marks, held.tolist(), n_samples) + 0.02 * wander(take, n_samples, 5), 0.0, 1.1)
    frequency_hz = idle_hz * (full_hz / idle_hz) ** throttle * (1 + 0.01 * wander(take, n_samples, 40))
    engine = level(harmonic(frequency_hz, amplitudes, take.random()))
    firing = np.cumsum(frequency_hz) / RATE_HZ % 1.0
    stroke = np.exp(-4 * firing)
    load = np.maximum(1 + rough * wander(take, n_samples, 60), 0.0) * (0.35 + 0.65 * throttle)
    exhaust = formants(engine + 0.3 * stroke * take.standard_normal(n_samples), centres_hz, [120, 300, 700], gains)
    chain = level(band(take.standard_normal(n_samples), rasp_hz, None, order=1)) * (0.3 + 0.7 * stroke)
    return (level(exhaust) + 0.3 * engine + 0.5 * rasp * chain * throttle) * load
