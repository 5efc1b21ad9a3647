"""Scenes out of two folders: one folder per scene in both, or files with DCASE-style names in both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from sepbench.errors import UserError, nearest
from sepbench.score_files import MIXTURE, File, Listing, Sides, check_naming, folder_contents, mixtures_in, not_read
from sepbench.score_names import (
    AUDIO,
    MOST_SIDES,
    are_sides,
    by_stem,
    is_plain,
    labels_of,
    mixture_names,
    split_known,
    split_unknown,
    without_index,
)


def find_in_folders(reference: Path, estimate: Path, mixture: Path | None, naming: str, allow_empty: bool) -> Listing:
    """The scenes of two folders; `naming`: auto, plain, 2025 or 2026, see score_names.

    UserError where a folder is absent, empty or named twice, where the two are laid out differently, where names
    cannot be read, and where `naming` is not auto though there is a folder per scene. What concerns one scene is in
    `problems`: its estimate, its reference or its mixture is missing.
    """
    _check_folders({"--reference": reference, "--estimate": estimate, "--mixture": mixture})
    there, found = folder_contents(reference), folder_contents(estimate)
    for folder, (folders, sounds) in ((reference, there), (estimate, found)):
        if not folders and (why := not_read(folder, sounds)):
            raise UserError(why)
    if not any(there):
        raise UserError(f"--reference {reference}: holds no sounds ({', '.join(AUDIO[:3])} ...). Name another folder.")
    if not any(found) and not allow_empty:
        raise UserError(f"--estimate {estimate}: holds no sounds. If nothing was found anywhere, say --allow-empty.")
    _check_not_by_role("--reference", reference, there[0])
    if not {each.name for each in there[0]} & {each.name for each in found[0]}:  # else they are called as scenes are
        _check_not_by_role("--estimate", estimate, found[0])
    _check_not_one_scene(reference, *there)
    flat = _is_flat("--reference", reference, *there)
    if any(found) and _is_flat("--estimate", estimate, *found) != flat:
        kinds = ("files", "one folder per scene") if flat else ("one folder per scene", "files")
        both = f"--reference {reference} holds {kinds[0]}, --estimate {estimate} {kinds[1]}"
        raise UserError(f"{both}. Lay out both alike.")
    if not flat:
        check_naming(naming, f"{reference} holds a folder per scene")
        return _by_folder(reference, there[0], estimate, found[0], mixture, allow_empty)
    return _Flat(reference, there[1], estimate, found[1], mixture, naming, allow_empty).listing()


def _check_folders(folders: Mapping[str, Path | None]) -> None:
    seen: dict[Path, str] = {}
    for option, folder in folders.items():
        if folder is None:
            continue
        if not folder.is_dir():
            near = [str(each) for each in folder.parent.iterdir()] if folder.parent.is_dir() else []
            hint = nearest(folder, near) or " Name the folder of the sounds."
            raise UserError(f"{option} {folder}: no such folder.{hint}")
        where = folder.resolve()
        if where in seen and {option, seen[where]} != {"--reference", "--mixture"}:
            raise UserError(f"{option} {folder}: the same folder as {seen[where]}. Name the folder of each.")
        seen.setdefault(where, option)


def _check_not_by_role(option: str, folder: Path, folders: Sequence[Path]) -> None:
    """UserError where each folder holds one source of all scenes: read as scenes, they would give figures of no worth."""
    if len(folders) > MOST_SIDES:
        return
    if are_sides({each.name: {path.stem for path in folder_contents(each)[1]} for each in folders}):
        names = ", ".join(each.name for each in folders[:3]) + (" ..." if len(folders) > 3 else "")
        what = f"{names} hold files of the same names, so each seems to hold one source of all scenes"
        raise UserError(f"{option} {folder}: {what}. Make one folder per scene, or list the files in a --manifest.")


def _check_not_one_scene(folder: Path, folders: Sequence[Path], sounds: Sequence[Path]) -> None:
    """UserError where the sounds of a single scene lie there: dog.wav, cat.wav and mixture.wav."""
    stems = [path.stem.lower() for path in sounds]
    if not folders and MIXTURE in stems and not any(stem.startswith(f"{MIXTURE}_") for stem in stems):
        what = f"holds {MIXTURE}{sounds[stems.index(MIXTURE)].suffix}, as the folder of one scene does"
        advice = f"put its files into a folder of its own, {folder}/<scene>/"
        raise UserError(f"--reference {folder}: {what}. One scene: {advice}, and the estimates' too.")


def _is_flat(option: str, folder: Path, folders: Sequence[Path], sounds: Sequence[Path]) -> bool:
    """Whether sounds lie in it, not folders of sounds."""
    if sounds and any(folder_contents(each)[1] for each in folders):
        both = f"holds sounds ({sounds[0].name}) beside folders of sounds"
        raise UserError(f"{option} {folder}: {both}. Leave one kind in it.")
    return bool(sounds)


def _by_folder(
    reference: Path, there: Sequence[Path], estimate: Path, found: Sequence[Path], mixture: Path | None, lenient: bool
) -> Listing:
    sides = Sides()
    sides.mixtures = mixtures_in(mixture) if mixture else {}
    theirs = {folder.name: folder for folder in found}
    for folder in there:
        own = by_stem(folder_contents(folder)[1])
        inside = next((path for stem, path in own.items() if stem.lower() == MIXTURE), None)
        if inside is not None and mixture is None:
            sides.mixtures[folder.name] = inside
        sources = [path for path in own.values() if path != inside]
        sides.references[folder.name] = [_source(path) for path in sources]
        if why := not_read(folder, sources):
            sides.wrong(folder.name, why)
        elif not own and folder.name not in sides.mixtures:
            sides.wrong(folder.name, f"{folder}: holds no sounds. Where nothing is there, its mixture must be.")
        sides.estimates[folder.name] = _answers(folder.name, theirs.get(folder.name), estimate, sides, lenient)
    for name, folder in theirs.items():
        if name not in sides.references:
            sides.wrong(name, f"{folder}: no scene '{name}' in {reference}.{nearest(name, sides.references)}")

    def no_mixture(scene: str) -> str:
        wanted = mixture / f"{scene}.wav" if mixture else reference / scene / f"{MIXTURE}.wav"
        return f"{wanted}: no such mixture. Give every scene its mixture, or none."

    return sides.listing("one folder per scene", no_mixture, reference=reference)


def _answers(scene: str, folder: Path | None, root: Path, sides: Sides, lenient: bool) -> list[File]:
    """The estimates of a scene's folder; an empty folder says that nothing was found."""
    if folder is None:
        if not lenient:
            hint = "Make an empty folder where nothing was found, or say --allow-empty."
            sides.wrong(scene, f"{root / scene}: no such folder, so scene '{scene}' has no estimate. {hint}")
        return []
    files = by_stem(folder_contents(folder)[1])
    for stem, path in files.items():
        if stem.lower() == MIXTURE:
            sides.wrong(scene, f"{path}: a mixture among the estimates. Move it away, or give it another name.")
    if why := not_read(folder, [*files.values()]):
        sides.wrong(scene, why)
    return [_source(path) for path in files.values()]


def _source(path: Path) -> File:
    return File.named(path, without_index(path.stem))


class _Flat:
    """Sounds of all scenes in one folder for each side."""

    def __init__(
        self, reference: Path, there: Sequence[Path], estimate: Path, found: Sequence[Path], mixture: Path | None,
        naming: str, lenient: bool,
    ) -> None:  # fmt: skip
        self.reference, self.estimate, self.naming, self.lenient = reference, estimate, naming, lenient
        self.ours, self.theirs = by_stem(there), by_stem(found)
        self.apart = mixture if mixture is not None and mixture.resolve() != reference.resolve() else None
        self.mixtures = mixtures_in(self.apart) if self.apart else {}
        self.told = mixture is not None and self.apart is None  # the mixtures lie in the folder of the references
        self.sides = Sides()

    def listing(self) -> Listing:
        names = set(self.mixtures) or self._names_inside()
        apart = names if self.apart else None
        if self.naming == "plain" or (
            self.naming == "auto" and (self.apart or not names) and is_plain(set(self.ours), set(self.theirs), apart)
        ):
            return self._plain()
        if not names:
            return self._without_mixtures()
        split = {stem: split_known(stem, names) for stem in self.ours}
        for stem, pair in split.items():
            if pair is None:
                lost = f"its mixture is missing{self._wanted()}. Name it alike, or add it."
                self.sides.wrong(stem, f"{self.ours[stem]}: {lost}")
        if all(pair is None for pair in split.values()):
            first = self.ours[min(split)]
            raise UserError(f"{first}: begins with no name of a mixture in {self.apart}, nor do the others.")
        self.sides.mixtures = self.mixtures or {name: self.ours[name] for name in names}
        self.sides.references = {name: [] for name in names}
        return self._finish({stem: pair for stem, pair in split.items() if pair and pair[1]})

    def _names_inside(self) -> set[str]:
        """The names of the mixtures that lie among the references."""
        names = mixture_names(self.ours, self.theirs)
        nothing = not self.theirs and is_plain(set(self.ours), set(self.ours), None)  # nothing there, nothing found
        return names or (set(self.ours) if self.told or nothing else set())

    def _wanted(self) -> str:
        return f" in {self.apart}" if self.apart else ", and other scenes have theirs beside them"

    def _plain(self) -> Listing:
        """Each file is a scene of one source."""
        for stem, path in self.ours.items():
            self.sides.references[stem] = [File(path, stem)]
            if stem in self.mixtures:
                self.sides.mixtures[stem] = self.mixtures[stem]
        for stem, path in self.theirs.items():
            self._answer(stem, stem, File(path, stem))
        return self._whole("one source per scene, files of the same name")

    def _without_mixtures(self) -> Listing:
        split = split_unknown(list(self.ours), list(self.theirs), self.naming)
        self.sides.references = {name: [] for name, _ in split.values()}
        return self._finish(split)

    def _finish(self, split: Mapping[str, tuple[str, str]]) -> Listing:
        """Sort the references, as they were split, and the estimates into the scenes that are known by now."""
        scenes = self.sides.references
        labels = labels_of({stem: rest for stem, (_, rest) in split.items()}, self.naming, "--reference")
        for stem, (name, _) in split.items():
            scenes[name].append(File.named(self.ours[stem], labels[stem]))
        known = {stem: split_known(stem, scenes) for stem in self.theirs}
        rests = {stem: pair[1] for stem, pair in known.items() if pair}
        named = labels_of({stem: rest for stem, rest in rests.items() if rest}, self.naming, "--estimate")
        for stem, pair in known.items():
            if pair and pair[0] in self.sides.mixtures and not pair[1]:
                hint = "Estimates are named <name>_<Label>.wav; scenes without mixtures want a manifest."
                self.sides.wrong(pair[0], f"{self.theirs[stem]}: has the name of a mixture. {hint}")
            else:
                self._answer(pair[0] if pair else stem, stem, File.named(self.theirs[stem], named.get(stem, "")))
        return self._whole(_words(split, labels))

    def _answer(self, scene: str, stem: str, file: File) -> None:
        if scene in self.sides.references:
            self.sides.estimates.setdefault(scene, []).append(file)
        else:
            close = nearest(stem, self.ours)
            self.sides.wrong(stem, f"{file.path}: an estimate of no scene in {self.reference}.{close}")

    def _whole(self, layout: str) -> Listing:
        for scene in self.sides.references:
            if scene not in self.sides.estimates and not self.lenient:
                hint = "Where that means that nothing was found, say --allow-empty."
                self.sides.wrong(scene, f"{self.estimate}: no file for scene '{scene}'. {hint}")

        def no_mixture(scene: str) -> str:
            folder = self.apart or self.reference
            return f"{folder / scene}.wav: no such mixture. Give every scene its mixture, or none."

        return self.sides.listing(layout, no_mixture, reference=self.reference)


def _words(split: Mapping[str, tuple[str, str]], labels: Mapping[str, str]) -> str:
    """How names were read, with an example to look at."""
    numbered = any(labels[stem] != rest for stem, (_, rest) in split.items())
    pattern = "<name>_<index>_<Label>" if numbered else "<name>_<Label>"
    example = next(iter(split.items()), None)
    shown = f", such as '{example[1][0]}' + '{example[1][1]}'" if example else ""
    return f"files {pattern}{shown}"
