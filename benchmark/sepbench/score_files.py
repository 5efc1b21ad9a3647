"""Scenes as they lie on disk: which file is whose reference, estimate or mixture, and what is missing.

They are found in folders by score_layouts and in manifests by score_manifest. Nothing is opened here: all scenes are
checked for what is missing before the first sound is read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sepbench.errors import UserError
from sepbench.score_names import AUDIO, by_stem, is_label, natural

MIXTURE = "mixture"  # the stem of a mixture in the folder of its scene
UNREAD = (".m4a", ".aac", ".mp4", ".wma", ".webm", ".wv", ".ape", ".sph", *(f"{kind}.gz" for kind in AUDIO))
SIDECARS = (".txt", ".json", ".csv", ".tsv", ".md", ".yaml", ".yml", ".jams", ".log", ".ini", ".db")  # no sounds, no matter


@dataclass(frozen=True)
class File:
    """A source as it lies on disk."""

    path: Path
    name: str  # what its file name calls it
    label: str = ""  # "" where nothing says what sounds in it

    @classmethod
    def named(cls, path: Path, name: str) -> File:
        return cls(path, name, name if is_label(name) else "")


@dataclass(frozen=True)
class SceneFiles:
    """One scene: sources in the order that pairs count them."""

    id: str
    references: tuple[File, ...]
    estimates: tuple[File, ...]
    mixture: Path | None


@dataclass(frozen=True)
class Listing:
    """All scenes that are whole, what is wrong with the others, and how the names were read."""

    scenes: tuple[SceneFiles, ...]
    problems: Mapping[str, str]  # scene -> one line
    layout: str  # as people read it
    reference: Path | None = None  # the folder in which a scenes.json may lie
    told_by: str = "file names"  # where labels come from
    labelled: bool = False  # whether references and estimates have labels
    labels: str = ""  # what was decided on labels, as people read it


class Sides:
    """Scenes under construction: files by scene for each side, and what is wrong with a scene."""

    def __init__(self) -> None:
        self.references: dict[str, list[File]] = {}
        self.estimates: dict[str, list[File]] = {}
        self.mixtures: dict[str, Path] = {}
        self.problems: dict[str, str] = {}

    def wrong(self, scene: str, line: str) -> None:
        """Note the first thing that is wrong with a scene."""
        self.problems.setdefault(scene, line)

    def listing(self, layout: str, no_mixture: Callable[[str], str], **facts: Any) -> Listing:
        """The scenes that are whole, in natural order. Where one scene has a mixture, all must."""
        if self.mixtures:
            for scene in sorted(self.references.keys() - self.mixtures.keys(), key=natural):
                self.wrong(scene, no_mixture(scene))
        whole = [scene for scene in sorted(self.references, key=natural) if scene not in self.problems]
        scenes = tuple(
            SceneFiles(each, tuple(self.references[each]), tuple(self.estimates.get(each, ())), self.mixtures.get(each))
            for each in whole
        )
        return Listing(scenes, dict(self.problems), layout, **facts)


def decide_labels(listing: Listing, mode: str) -> Listing:
    """Keep labels where every source has one. `mode`: auto, names (each name is a label) or none.

    Where only the references have labels, they keep them for figures per class, and the estimates answer by separation.
    """
    scenes = listing.scenes
    if mode == "names":
        scenes = tuple(_relabelled(each, lambda file: file.label or file.name, False) for each in scenes)
    references = [file for scene in scenes for file in scene.references]
    estimates = [file for scene in scenes for file in scene.estimates]
    bare = [next((file for file in side if not file.label), None) for side in (references, estimates)]
    lost = bare[0] or bare[1]
    if lost and mode == "names":
        raise UserError(f"{lost.path}: its name holds no label. Rename it, or leave --labels names away.")
    if mode == "none" or lost or not (references or estimates):
        keep = mode != "none" and bare[0] is None and bool(references)
        scenes = tuple(_relabelled(each, lambda file: "", keep) for each in scenes)
        why = "as asked" if mode == "none" else f"{lost.path} has none" if lost else "no sources"
        words = f"labels: {'of the references alone' if keep else 'none'} ({why}); scored by separation alone"
        return replace(listing, scenes=scenes, labels=words)
    n_classes = len({file.label for file in [*references, *estimates]})
    words = f"labels: from the {listing.told_by}, {n_classes} {'class' if n_classes == 1 else 'classes'}"
    return replace(listing, scenes=scenes, labelled=True, labels=words)


def check_naming(naming: str, why: str) -> None:
    """UserError where `--naming` is given and, for the reason in `why`, tells nothing."""
    if naming != "auto":
        raise UserError(f"--naming {naming}: says how names of files that lie together are read, but {why}. Leave it away.")


def folder_contents(folder: Path) -> tuple[list[Path], list[Path]]:
    """(folders, sounds) in a folder, in natural order; hidden ones and all other files are passed over."""
    try:
        entries = [each for each in os.scandir(folder) if not each.name.startswith((".", "__MACOSX"))]
        folders = [Path(each.path) for each in entries if each.is_dir()]
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {error.strerror}. Name a folder that you may read.") from error
    sounds = [Path(each.path) for each in entries if not each.is_dir() and each.name.lower().endswith(AUDIO)]
    return sorted(folders, key=_by_name), sorted(sounds, key=_by_stem)


def not_read(folder: Path, sounds: Sequence[Path]) -> str | None:
    """Why what a folder holds is not all read, in one line; None where it is, or nothing is in it. `sounds`: its sources.

    An empty folder says that nothing is there, so one that holds anything else must not pass for empty. Beside sounds,
    folders and files that are no sounds of any kind do not matter.
    """
    names = (each.name for each in os.scandir(folder) if not each.is_dir() and not each.name.startswith((".", "__MACOSX")))
    for name in sorted(names, key=natural):
        kind = name.lower()
        if not kind.endswith((*AUDIO, *SIDECARS)) and (kind.endswith(UNREAD) or not sounds):
            wanted = f"which is no sound that is read ({', '.join(each[1:] for each in AUDIO[:3])} ...)"
            return f"{folder}: holds {name}, {wanted}. Convert it, or move it away."
    if not sounds and folder_contents(folder)[0]:
        return f"{folder}: holds folders. Name {folder} itself, or put the sounds of the scene into it."
    return None


def mixtures_in(folder: Path) -> dict[str, Path]:
    """scene -> its mixture in --mixture: `<scene>.wav`, or `<scene>/mixture.wav`."""
    folders, sounds = folder_contents(folder)
    found = by_stem(sounds)
    for scene in folders:
        own = [path for path in folder_contents(scene)[1] if path.stem.lower() == MIXTURE]
        for path in own:
            if scene.name in found:
                raise UserError(f"{path}: {found[scene.name]} is a mixture of the same scene. Keep one of them.")
            found[scene.name] = path
    if not found:
        raise UserError(f"--mixture {folder}: holds neither <scene>.wav nor <scene>/mixture.wav. Name another folder.")
    return found


def _relabelled(scene: SceneFiles, label: Callable[[File], str], keep_references: bool) -> SceneFiles:
    """The estimates with other labels, the references too unless they keep theirs."""
    estimates = tuple(replace(file, label=label(file)) for file in scene.estimates)
    references = scene.references if keep_references else tuple(replace(f, label=label(f)) for f in scene.references)
    return replace(scene, references=references, estimates=estimates)


def _by_name(path: Path) -> tuple[list[str | int], str]:
    return natural(path.name)


def _by_stem(path: Path) -> tuple[list[str | int], str]:
    return natural(path.stem)
