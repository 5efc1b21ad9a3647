"""What file names tell: which scene a file belongs to, its label, and the order of sources.

In a folder per scene a file is `<Label>.wav` or `<index>_<Label>.wav`. Files that lie together are `<name>_<Label>.wav`
(DCASE 2025) or `<name>_<index>_<Label>.wav` (DCASE 2026). Names and labels may hold underscores and digits, so

- where the mixtures are there, their names are the scenes' names, and the longest that fits is meant;
- without mixtures, it is 2026 where every reference can be read so, no (name, index) comes twice, the indices of a name
  run on from 0 or 1, and none has more than two digits; else 2025, where the name ends with the last part but one, or
  an earlier one, that ends in a digit (`mix12_dog_bark`), and at the last underscore where none does (`parkA_speech`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sepbench.errors import UserError

AUDIO = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".caf", ".w64", ".rf64", ".au")
NAMINGS = ("auto", "plain", "2025", "2026")

# Words that say what a file is for, not what sounds in it. Single letters are none either: s1, x2.
GENERIC = {
    *("audio", "ch", "channel", "clean", "denoised", "enhanced", "est", "estimate", "estimated", "estimates"),
    *("estimation", "event", "ex", "example", "fg", "bg", "file", "foreground", "background", "gt", "mix"),
    *("mixture", "out", "output", "pred", "predicted", "prediction", "ref", "reference", "references", "sample"),
    *("sep", "separated", "separation", "sig", "signal", "sound", "source", "sources", "speaker", "spk", "src", "stem"),
    *("target", "track", "true", "truth"),
}


# What folders and files are called that hold a source each, whatever sounds in it; more than so many are scenes.
ROLE = r"(s|x|e|spk|speaker|source|src|est|estimate|ref|target|sig|signal|stem|track)[_-]?\d+|noise"
MOST_SIDES = 10


def natural(name: str) -> tuple[list[str | int], str]:
    """A key that sorts numbers in names as numbers: s2 before s10."""
    parts: list[str | int] = [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", name))]
    return parts, name


def is_label(text: str) -> bool:
    """Whether `text` can name what sounds. `s1`, `source0`, `est_1`, `foreground0_sound` and numbers cannot."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    return any(len(word) > 1 and word not in GENERIC for word in words)


def are_sides(folders: Mapping[str, set[str]]) -> bool:
    """Whether folders of these stems hold a kind of source each (s1, s2, mix of WSJ0-mix), not a scene each.

    They are called so and share names of files. Where a folder `mix` is not among them, s1 and s2 may also be scenes:
    then a file in them is a mixture, is called as a source is, or says what sounds.
    """
    of_mixtures = [name for name in folders if re.fullmatch(r"mix(ture)?s?([_-]\D*)?", name.lower())]
    named = [name for name in folders if re.fullmatch(ROLE, name.lower())]
    if len(folders) < 2 or not named or len(of_mixtures) + len(named) < len(folders):
        return False
    shared = set.intersection(*folders.values())
    if of_mixtures:
        return bool(shared)
    return bool(shared) and not any(_is_of_a_scene(stem) for own in folders.values() for stem in own)


def _is_of_a_scene(stem: str) -> bool:
    """Whether a file of that name is one of a scene's: its mixture, `s1`, `0_dog`. Names of scenes hold digits."""
    word = stem.lower()
    told = without_index(word)
    return bool(word == "mixture" or re.fullmatch(ROLE, word) or (is_label(told) and not re.search(r"\d", told)))


def without_index(text: str) -> str:
    """`3_dog_bark` -> `dog_bark`: a source's name in a scene's own folder, without the number that may stand before."""
    return re.sub(r"^\d+[_-](?=.)", "", text)


def split_known(stem: str, names: Mapping[str, object] | set[str]) -> tuple[str, str] | None:
    """(scene, what follows its name) for the longest of `names` that `stem` begins with; None where there is none."""
    parts = stem.split("_")
    for n in range(len(parts), 0, -1):
        if (name := "_".join(parts[:n])) in names:
            return name, "_".join(parts[n:])
    return None


def mixture_names(references: Iterable[str], estimates: Iterable[str]) -> set[str]:
    """Those of the reference stems that are mixtures: `a` where `a_dog` lies beside it, or among the estimates.

    Where there is one, files that neither begin another's name nor continue one are mixtures too: of scenes in which
    nothing is. `a_dog` beside `a` and `a_dog_bark` is a source, `a_1` beside `a` and `a_1_dog` is a mixture.
    """
    stems = sorted(set(references), key=len)
    begun = {prefix for stem in stems for prefix in _prefixes(stem)}
    labelled = (pair for stem in estimates if (pair := split_known(stem, set(stems))) is not None)
    answered = {name for name, rest in labelled if is_label(rest)}
    found: set[str] = set()
    alone: set[str] = set()
    for stem in stems:
        parent = split_known(stem, found)
        if parent is None:
            (found if stem in begun or stem in answered else alone).add(stem)
        elif stem in begun and not is_label(parent[1]):
            found.add(stem)
    if not found:
        return set()
    labels = {without_index(pair[1]) for stem in stems if (pair := split_known(stem, found)) and pair[1]}
    return found | {stem for stem in alone if not _ends_with(stem, labels)}


def is_plain(references: set[str], estimates: set[str], mixtures: set[str] | None) -> bool:
    """Whether each file is a scene of one source, with the same name among the estimates (and the mixtures)."""
    if mixtures is not None:
        continued = (pair for stem in estimates if (pair := split_known(stem, mixtures)))
        return references <= mixtures and not any(rest for _, rest in continued)
    plain = all("_" not in stem or stem.rpartition("_")[2].isdecimal() for stem in references)
    return plain and bool(references & estimates)


def split_unknown(stems: Sequence[str], others: Sequence[str], naming: str) -> dict[str, tuple[str, str]]:
    """stem -> (name, what follows it) for reference stems without mixtures; `others` are the estimates' stems."""
    indexed = {stem: _split_2026(stem) for stem in stems}
    if naming == "2026" or (naming == "auto" and _looks_like_2026(stems, others)):
        return {stem: pair or _refuse_2026(stem) for stem, pair in indexed.items()}
    return {stem: _split_2025(stem) for stem in stems}


def labels_of(rests: Mapping[str, str], naming: str, side: str) -> dict[str, str]:
    """stem -> label as written, from stem -> what follows the scene's name. An index before all of them is taken off.

    UserError where some have one and some have none, since `5_string_guitar` may be a label.
    """
    has = {stem: bool(re.match(r"\d+_.", rest)) for stem, rest in rests.items()}
    if naming == "2025" or not any(has.values()):
        return dict(rests)
    if not all(has.values()):
        bare, numbered = (next(stem for stem, there in has.items() if there is kind) for kind in (False, True))
        raise UserError(
            f"{side}: '{numbered}' has an index before its label and '{bare}' has none. Name all of them "
            "<name>_<index>_<Label>, or say --naming 2025 where the number belongs to the label."
        )
    return {stem: rest.partition("_")[2] for stem, rest in rests.items()}


def by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    """stem -> file. UserError where two files differ in nothing but their kind."""
    found: dict[str, Path] = {}
    for path in paths:
        if path.stem in found:
            raise UserError(f"{path}: lies beside {found[path.stem].name}, the same name. Keep one of them.")
        found[path.stem] = path
    return found


def _prefixes(stem: str) -> list[str]:
    """The beginnings of a name at its underscores: a_b_c -> a, a_b."""
    parts = stem.split("_")
    return ["_".join(parts[:n]) for n in range(1, len(parts))]


def _ends_with(stem: str, labels: set[str]) -> bool:
    """Whether a label that others have stands at the end: then it is a source whose mixture is missing."""
    parts = stem.split("_")
    return any("_".join(parts[n:]) in labels for n in range(1, len(parts)))


def _split_2026(stem: str) -> tuple[str, str] | None:
    parts = stem.split("_")
    at = next((n for n in range(len(parts) - 2, 0, -1) if parts[n].isdecimal()), None)
    return None if at is None else ("_".join(parts[:at]), "_".join(parts[at:]))


def _split_2025(stem: str) -> tuple[str, str]:
    parts = stem.split("_")
    at = next((n + 1 for n in range(len(parts) - 2, -1, -1) if parts[n][-1:].isdecimal()), len(parts) - 1)
    return "_".join(parts[:at]) or stem, "_".join(parts[at:]) if at else ""


def _looks_like_2026(references: Sequence[str], estimates: Sequence[str]) -> bool:
    """As the head of this file says. UserError where all could be sources of one scene, or one scene each."""
    indices: dict[str, list[int]] = defaultdict(list)
    for stem in references:
        pair = _split_2026(stem)
        if pair is None or len(index := pair[1].partition("_")[0]) > 2:
            return False
        indices[pair[0]].append(int(index))
    twice = [pair[0] + "_" + pair[1].partition("_")[0] for stem in estimates if (pair := _split_2026(stem))]
    if len(set(twice)) < len(twice):
        return False
    if not all(sorted(own) in (list(range(len(own))), list(range(1, len(own) + 1))) for own in indices.values()):
        return False
    if len(indices) == 1 and len(references) > 1:
        raise UserError(
            f"'{references[0]}' and the others could be sources of one scene (--naming 2026) or one scene each "
            "(--naming 2025). Say which, or name the mixtures with --mixture."
        )
    return True


def _refuse_2026(stem: str) -> tuple[str, str]:
    raise UserError(f"'{stem}': wanted <name>_<index>_<Label>. Rename it, or leave --naming 2026 away.")
