"""What the strategy is told beforehand: the options that section 3.4 leaves open, by one name each."""

from __future__ import annotations

from dataclasses import dataclass

SILENCE = -1  # where the index of a class would stand


@dataclass(frozen=True)
class Rules:
    """All settings of the strategy. Nothing in it is a network's."""

    classes: tuple[str, ...]  # in the order of the tagger's probabilities
    fewest: int  # sources of a scene; an answer never has fewer
    most: int  # and never more
    threshold: float  # from which probability on the first classifier names a class
    silence_threshold: float  # silence is where every class is below it ...
    silence_db: float  # ... and the sound more than so many dB below the mixture
    silence_probability: float  # what silence counts when labels are held against each other; 0.51 in the paper
    duplicates: str  # next_best | drop | keep: what becomes of a label that another output has, and more surely
    max_rounds: int | None  # of classify, separate, classify; None: as many as the scene has sources
    residual: str  # reference_channel | mask_all: how a mono estimate is taken out of several channels
    window: int  # samples of the STFT in which channels are masked; its hop is a quarter

    def name(self, label: int) -> str:
        """What a person calls it."""
        return "silence" if label == SILENCE else self.classes[label]
