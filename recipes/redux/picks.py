"""What classifiers say of a sound, and which of them is believed. No sound and no network in here, only probabilities."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .rules import SILENCE, Rules


@dataclass(frozen=True, eq=False)
class Said:
    """A label, how probable it is, and what else was held possible."""

    label: int  # index of the class, or SILENCE
    probability: float
    every: Tensor  # (class,), the most that anyone who was asked about this sound gave each class


def likeliest(every: Tensor, n: int, but: Collection[int]) -> list[Said]:
    """The n most probable labels that are none of `but`, the most probable first; of equals, the first class."""
    order = every.argsort(descending=True, stable=True).tolist()
    return [Said(label, float(every[label]), every) for label in order if label not in but][:n]


def in_mixture(every: Tensor, rules: Rules) -> list[Said]:
    """C_1: the labels at or above the threshold, but never fewer nor more than a scene may have. `every` is (class,)."""
    n = int((every >= rules.threshold).sum())
    return likeliest(every, min(max(n, rules.fewest), rules.most), ())


def in_output(every: Tensor, power: float, mixture_power: float, rules: Rules) -> Said:
    """C_2 and its like: one label for a sound alone. `every` is (class,); powers are mean squares.

    It is silence where no class is heard (every probability below `silence_threshold`) and the sound is more than
    `silence_db` below the scene's mixture.
    """
    quiet = power == 0 or power * 10 ** (rules.silence_db / 10) < mixture_power
    if quiet and bool((every < rules.silence_threshold).all()):
        return Said(SILENCE, rules.silence_probability, every)
    return likeliest(every, 1, ())[0]


def most_probable(said: Sequence[Said]) -> Said:
    """The one of highest probability, of equals the first; it remembers what all of them held possible."""
    best = max(said, key=lambda each: each.probability)
    return replace(best, every=torch.stack([each.every for each in said]).amax(0))


def matched(found: Sequence[Said], carried: Sequence[Said]) -> list[Said]:
    """What is found in a residual, as many as there are open outputs, for the outputs that carry these labels.

    An output that carries one of the labels has it; the others have what is left, both by order of probability.
    """
    left, place = list(found), dict[int, Said]()
    for i, own in enumerate(carried):
        same = next((each for each in left if each.label == own.label), None)
        if same is not None:
            place[i] = same
            left.remove(same)
    open_ = sorted((i for i in range(len(carried)) if i not in place), key=lambda i: -carried[i].probability)
    place |= dict(zip(open_, left))
    return [place[i] for i in range(len(carried))]


def told_apart(picks: Sequence[Said | None], taken: Sequence[int], rules: Rules) -> list[Said | None]:
    """`picks` with every label once, and none of those `taken` by confirmed outputs, as `duplicates` wants it.

    A label stays with its most probable pick. `next_best`: the others take their next best label that nobody has,
    the more probable pick first; `drop`, or where no label is left: None. Silence may be there as often as it likes.
    """
    if rules.duplicates == "keep":
        return list(picks)
    real = [(i, each) for i, each in enumerate(picks) if each is not None and each.label != SILENCE]
    held, found, repeats = set(taken), list(picks), []
    for i, each in sorted(real, key=lambda pair: -pair[1].probability):
        if each.label in held:
            repeats.append((i, each))
        held.add(each.label)
    for i, each in repeats:
        best = likeliest(each.every, 1, held) if rules.duplicates == "next_best" else []
        found[i] = best[0] if best else None
        held |= {other.label for other in best}
    return found


def enough(
    found: Sequence[Said | None], picks: Sequence[Said], taken: Sequence[int], rules: Rules
) -> list[Said | None]:
    """`found` with as many outputs brought back as a scene has sources at least, the likeliest label nobody has first."""
    full = list(found)
    while len(taken) + sum(each is not None for each in full) < rules.fewest:
        held = {*taken, *(each.label for each in full if each is not None)}
        dropped = [i for i, each in enumerate(full) if each is None]
        best = {i: each for i in dropped for each in likeliest(picks[i].every, 1, held)}
        if not best:
            break
        first = max(best, key=lambda i: best[i].probability)
        full[first] = best[first]
    return full


def carried_on(picks: Sequence[Said], taken: Sequence[int], rules: Rules) -> list[Said | None]:
    """The picks with which outputs go into another round; None for one that is dropped. Silence may prove wrong yet."""
    return enough(told_apart(picks, taken, rules), picks, taken, rules)


def final(picks: Sequence[Said], taken: Sequence[int], rules: Rules) -> list[Said | None]:
    """The labels that outputs end with; None for one that is dropped, as silence is."""
    sounding = [None if each.label == SILENCE else each for each in picks]
    return enough(told_apart(sounding, taken, rules), picks, taken, rules)
