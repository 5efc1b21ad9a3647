"""The strategy of REDUX (section 3.4) for any number of sources K: classify, separate, classify, and repair what disagrees.

It knows no network: it asks for probabilities and for waveforms (asking.py), and decides by labels and probabilities
(picks.py). With a = how many of K outputs are confirmed:

| case | a | what happens | asks for |
| --- | --- | --- | --- |
| I | K | stop | nothing |
| II | K - 1, K > 1 | the last output is what the others leave of the mixture, labelled anew (eq. 5) | 1 classification |
| III | 1 .. K - 2 | the confirmed leave the mixture, and another round begins on the residual (eq. 6) | a round, and its case |
| IV | 0 | separate once more, by the more probable labels | 1 separation |
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor

from .asking import Course, Separate, Separator, Tag, Tagger, together
from .picks import Said, carried_on, enough, final, in_mixture, in_output, likeliest, matched, most_probable
from .residual import residual
from .rules import SILENCE, Rules

Choice = Callable[[Sequence[Said], Sequence[int], Rules], list[Said | None]]


@dataclass(frozen=True)
class Verdict:
    """The answer to one scene, and how it came about."""

    labels: tuple[int, ...]
    sources: Tensor  # (label, time)
    confidences: Tensor  # (label,), probability of each label
    decisions: list[dict[str, Any]]  # one a round; plain JSON types


@dataclass(frozen=True)
class Output:
    """One waveform of a round: the label it was separated by, the one it was heard as, the most probable of all so far."""

    waveform: Tensor  # (time,)
    asked: Said
    heard: Said
    pick: Said

    @property
    def confirmed(self) -> bool:
        """Whether it is heard as what it was separated by, and no earlier, more probable word stands against that."""
        return self.asked.label == self.heard.label == self.pick.label


def answer(
    mixtures: Sequence[Tensor], rules: Rules, tagger: Tagger, separator: Separator, verify: bool
) -> list[Verdict]:
    """The sources of each scene. `mixtures` are (channel, time); without `verify`, what is separated first is the answer.

    A scene's answer does not depend on the others: they only share calls of the tagger and the separator.
    """
    return together([course(mixture, rules, verify) for mixture in mixtures], tagger, separator)


def course(mixture: Tensor, rules: Rules, verify: bool) -> Course[Verdict]:
    """The strategy of one scene: yields what it needs, returns its answer. Where nothing is heard, nothing is answered."""
    asked = in_mixture((yield Tag(mixture[:1]))[0], rules)
    scene = _Scene(mixture, rules, len(asked))
    if verify and asked:
        yield from scene.verified(asked)
    elif verify:
        scene.note(1, "I", [])
    else:
        waveforms = (yield Separate(mixture, _labels(asked))) if asked else mixture[:0]
        scene.settled = dict(enumerate(zip(asked, waveforms)))
        scene.decisions = [{"round": 1, "case": "none", "mixture": _plain(asked, rules)}]
    return scene.verdict()


def case_of(n_confirmed: int, n_outputs: int) -> str:
    """Which of the four cases it is. Of a single output, not confirmed, it is IV: II would have nothing to subtract."""
    if n_confirmed == n_outputs:
        return "I"
    if n_confirmed == 0:
        return "IV"
    return "II" if n_confirmed == n_outputs - 1 else "III"


class _Scene:
    """What is decided of one scene. Outputs keep the places in which the first classifier named them."""

    def __init__(self, mixture: Tensor, rules: Rules, n_sources: int):
        self.mixture, self.rules = mixture, rules
        self.n_rounds = n_sources if rules.max_rounds is None else rules.max_rounds
        self.power = _power(mixture[0])
        self.settled: dict[int, tuple[Said, Tensor]] = {}  # place -> label and waveform of the answer
        self.decisions: list[dict[str, Any]] = []

    @property
    def taken(self) -> list[int]:
        """The labels of what is settled."""
        return [said.label for said, _ in self.settled.values()]

    def verified(self, asked: Sequence[Said]) -> Course[None]:
        """Rounds of separation and classification until one is the last. `asked` are the labels of C_1."""
        mixture, places, carried = self.mixture, list(range(len(asked))), None
        for number in count(1):
            outputs = yield from self._round(mixture, asked, carried)
            sure = {i: each for i, each in enumerate(outputs) if each.confirmed}
            open_ = {i: each for i, each in enumerate(outputs) if not each.confirmed}
            case = case_of(len(sure), len(outputs))
            note = self.note(number, case, outputs)
            self._settle(places, {i: (each.pick, each.waveform) for i, each in sure.items()})
            if case == "II":
                yield from self._second(mixture, places, outputs, note)
            if case == "IV":
                yield from self._fourth(mixture, places, outputs, note)
            if case != "III":
                return
            if number == self.n_rounds:
                note["capped"] = True
                chosen = self._chosen(final, open_, note)
                self._settle(places, {i: (said, open_[i].waveform) for i, said in chosen.items()})
                return
            going = self._chosen(carried_on, open_, note)
            if not going:
                return
            mixture = residual(mixture, _sum(sure.values()), self.rules.residual, self.rules.window)
            places, carried = [places[i] for i in going], list(going.values())
            asked = yield from self._asked_again(mixture, carried)

    def _round(self, mixture: Tensor, asked: Sequence[Said], carried: Sequence[Said] | None) -> Course[list[Output]]:
        """Sep_i by the labels `asked`, and C_i+1 of what comes out."""
        waveforms = yield Separate(mixture, _labels(asked))
        found = yield Tag(waveforms)
        heard = [in_output(every, _power(each), self.power, self.rules) for every, each in zip(found, waveforms)]
        picks = map(most_probable, zip(asked, heard) if carried is None else zip(carried, asked, heard))
        return [Output(*each) for each in zip(waveforms, asked, heard, picks)]

    def _asked_again(self, mixture: Tensor, carried: Sequence[Said]) -> Course[list[Said]]:
        """C_i: what a residual holds, a label for each output that is open, none of those confirmed."""
        every = (yield Tag(mixture[:1]))[0]
        return matched(likeliest(every, len(carried), self._barred()), carried)

    def _second(
        self, mixture: Tensor, places: Sequence[int], outputs: Sequence[Output], note: dict[str, Any]
    ) -> Course[None]:
        """Case II: the open output is what the others leave; where that is silence, or more of them, there is none."""
        (last,) = (i for i, each in enumerate(outputs) if not each.confirmed)
        gone = _sum(each for each in outputs if each.confirmed)
        left = residual(mixture[:1], gone, self.rules.residual, self.rules.window)  # (1, time)
        said = in_output((yield Tag(left))[0], _power(left[0]), self.power, self.rules)
        kept: Said | None = None if said.label == SILENCE or said.label in self._barred() else said
        (kept,) = enough([kept], [said], self.taken, self.rules)
        note["residual"] = {
            "label": self.rules.name(said.label),
            "probability": _rounded(said),
            "kept": kept is not None,
        }
        self._pick(note, {last: kept})
        self._settle(places, {} if kept is None else {last: (kept, left[0])})

    def _fourth(
        self, mixture: Tensor, places: Sequence[int], outputs: Sequence[Output], note: dict[str, Any]
    ) -> Course[None]:
        """Case IV: separated once more, by the labels of highest probability."""
        chosen = self._chosen(final, dict(enumerate(outputs)), note)
        if chosen:
            waveforms = yield Separate(mixture, _labels(chosen.values()))
            self._settle(places, dict(zip(chosen, zip(chosen.values(), waveforms))))

    def _barred(self) -> Collection[int]:
        """The labels that no other output may have."""
        return () if self.rules.duplicates == "keep" else self.taken

    def _chosen(self, how: Choice, outputs: Mapping[int, Output], note: dict[str, Any]) -> dict[int, Said]:
        """The labels of `outputs` that are not dropped, by `how`; what changed is noted."""
        picks = [each.pick for each in outputs.values()]
        chosen = dict(zip(outputs, how(picks, self.taken, self.rules)))
        for (i, now), pick in zip(chosen.items(), picks):
            if pick.label != SILENCE and (now is None or now.label != pick.label):
                after = None if now is None else self.rules.name(now.label)
                note["repeated"].append([i, self.rules.name(pick.label), after])
        self._pick(note, chosen)
        return {i: said for i, said in chosen.items() if said is not None}

    def _settle(self, places: Sequence[int], answers: Mapping[int, tuple[Said, Tensor]]) -> None:
        self.settled |= {places[i]: each for i, each in answers.items()}

    def note(self, number: int, case: str, outputs: Sequence[Output]) -> dict[str, Any]:
        """The record of a round, as far as it is known when its case is; it is written on as more is decided."""
        said = {
            "mixture": _plain([each.asked for each in outputs], self.rules),
            "heard": _plain([each.heard for each in outputs], self.rules),
            "confirmed": [each.confirmed for each in outputs],
            "picks": _plain([each.pick for each in outputs], self.rules),
        }
        self.decisions.append({"round": number, "case": case, **said, "repeated": [], "capped": False})
        return self.decisions[-1]

    def _pick(self, note: dict[str, Any], chosen: Mapping[int, Said | None]) -> None:
        """Outputs that are dropped are written down as silence, by the probability that silence counts."""
        for i, said in chosen.items():
            note["picks"]["labels"][i] = self.rules.name(SILENCE if said is None else said.label)
            note["picks"]["probabilities"][i] = self.rules.silence_probability if said is None else _rounded(said)

    def verdict(self) -> Verdict:
        """What is settled, in order of place."""
        said, waveforms = zip(*(self.settled[place] for place in sorted(self.settled))) if self.settled else ((), ())
        sources = torch.stack(waveforms) if waveforms else self.mixture[:0]
        labels = _labels(said)
        self.decisions[-1]["labels"] = [self.rules.name(label) for label in labels]
        return Verdict(labels, sources, torch.tensor([each.probability for each in said]), self.decisions)


def _labels(said: Iterable[Said]) -> tuple[int, ...]:
    return tuple(each.label for each in said)


def _plain(said: Sequence[Said], rules: Rules) -> dict[str, Any]:
    return {"labels": [rules.name(each.label) for each in said], "probabilities": [_rounded(each) for each in said]}


def _rounded(said: Said) -> float:
    return round(said.probability, 4)


def _power(audio: Tensor) -> float:
    """Mean square of (time,)."""
    return float(audio.square().mean())


def _sum(outputs: Iterable[Output]) -> Tensor:
    return torch.stack([each.waveform for each in outputs]).sum(0)
