"""Players and spectrograms of a page, and how much of them fits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sepbench.errors import UserError
from sepbench.report.embedded import loudest_db, opus, spectrogram
from sepbench.report.listen import Heard, Listening, Shown
from sepbench.report.style import in_words
from sepbench.report.words import metric_words, signed
from sepbench.tables_format import Cell

MB = 1_000_000
SHORT_HASH = 12
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Player:
    """A sound: its spectrogram (WebP, base64), and the key of its Opus."""

    title: str
    words: str  # its SI-SDR, or what is to be said of it
    picture: str
    sound: str
    alt: str


@dataclass(frozen=True)
class PlayedScene:
    """Mixture on top, then references beside estimates; None where there is no such sound."""

    title: str
    mixture: Player
    pairs: tuple[tuple[Player | None, Player | None], ...]
    said: str
    seconds: float
    khz: float


@dataclass(frozen=True)
class Played:
    """What of one run can be heard; `lacking` says why nothing can."""

    id: str  # of its place in the page
    name: str
    summary: str
    scenes: tuple[PlayedScene, ...]
    sounds: dict[str, str]  # key -> Ogg Opus in base64
    lacking: str = ""

    @property
    def n_bytes(self) -> int:
        pictures = (player.picture for scene in self.scenes for player in _players(scene))
        return sum(map(len, self.sounds.values())) + sum(map(len, pictures))


def played(place: str, name: str, heard: Listening | str, n_unanswered: int) -> Played:
    """The players of a run whose method is called `name`; where there is nothing to hear, `heard` says why.

    `n_unanswered`: scenes without any answer, which have no figure and so are none of those that are heard.
    """
    if isinstance(heard, str):
        return Played(place, name, "", (), {}, lacking=heard)
    sounds: dict[str, str] = {}
    scenes = tuple(_scene(one, heard, sounds) for one in heard.scenes)
    figures = ", ".join(f"{one.place} {_figure(one.value, heard.unit)}" for one in heard.scenes)
    scenes_words = f"{n_unanswered} scene{'' if n_unanswered == 1 else 's'}"
    silent = f"; {scenes_words} without any answer, neither best nor worst" if n_unanswered else ""
    return Played(place, name, f"{metric_words(heard.metric)}: {figures}{silent}", scenes, sounds)


def fitting(lists: Sequence[Sequence[Played]], room: float, max_mb: float) -> tuple[list[list[Played]], int]:
    """The lists with the sounds that fit into `room` bytes, and how many runs lost theirs: the last of the longest list first."""
    kept, n_dropped = [list(each) for each in lists], 0
    while sum(one.n_bytes for each in kept for one in each) > room:
        longest = max(kept, key=lambda each: sum(bool(one.scenes) for one in each))
        last = max(i for i, one in enumerate(longest) if one.scenes)
        lacking = f"Left out, so that the page stays below {max_mb:g} MB (--max-mb)."
        longest[last] = replace(longest[last], scenes=(), sounds={}, lacking=lacking)
        n_dropped += 1
    return kept, n_dropped


def check_room(n_bytes: int, max_mb: float) -> None:
    """UserError where a page without any sound is too large already."""
    if n_bytes > max_mb * MB:
        raise UserError(
            f"--max-mb {max_mb:g}: the report has {n_bytes / MB:.1f} MB without any sound. Give it more, or fewer runs."
        )


def _scene(one: Shown, heard: Listening, sounds: dict[str, str]) -> PlayedScene:
    rate_hz, top_db = one.sample_rate_hz, loudest_db(one.mixture.audio, one.sample_rate_hz)

    def player(sound: Heard | None, title: str, words: str) -> Player | None:
        if sound is None:
            return None
        plain = str(rate_hz).encode() + sound.audio.tobytes()  # of the sound, since Ogg numbers its streams at random
        key = hashlib.sha256(plain).hexdigest()[:SHORT_HASH]
        sounds[key] = opus(sound.audio, rate_hz)
        alt = f"Spectrogram: {title}, {one.place} scene"
        return Player(title, words, spectrogram(sound.audio, rate_hz, top_db), key, alt)

    mixture = player(one.mixture, "Mixture", "")
    assert mixture is not None  # since it was given
    pairs = tuple(
        (
            player(true, f"Reference: {_named(true, i)}" if true else "", ""),
            player(said, f"Estimate: {_named(said, i)}" if said else "", _words(said) if said else ""),
        )
        for i, (true, said) in enumerate(one.pairs, 1)
    )
    place = f"The {one.place} of {heard.n_scenes} scenes: {one.scene}"
    title = f"{place}, {metric_words(heard.metric)} {_figure(one.value, heard.unit)}"
    said = "" if one.said is None else f"Said to sound: {', '.join(map(in_words, one.said)) or 'nothing'}."
    return PlayedScene(title, mixture, pairs, said, len(one.mixture.audio) / rate_hz, rate_hz / 2000)


def _named(sound: Heard, number: int) -> str:
    return in_words(sound.label) if sound.label else str(number)


def _words(estimate: Heard) -> str:
    """SI-SDR, in brackets its improvement over the mixture; and whether it is played more softly."""
    parts = []
    if estimate.si_sdr_db is not None and estimate.si_sdri_db is not None:
        parts.append(f"SI-SDR {_figure(estimate.si_sdr_db, 'dB')} ({signed(estimate.si_sdri_db)} dB)")
    elif not estimate.audio.any():
        parts.append("silent")
    if estimate.quieter_db > 0.05:
        parts.append(f"played {estimate.quieter_db:.0f} dB softer than it is")
    return "; ".join(parts)


def _figure(value: float, unit: str) -> str:
    digits = 1 if unit == "dB" else 2
    return f"{Cell(value, digits=digits).show()}{' dB' if unit == 'dB' else ''}".replace("-", MINUS)


def _players(scene: PlayedScene) -> list[Player]:
    return [scene.mixture, *(player for pair in scene.pairs for player in pair if player is not None)]
