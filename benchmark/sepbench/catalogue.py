"""Recipes by name: those that lie here, those that sepbench brings, and those that other packages register."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.metadata import EntryPoint
from pathlib import Path

from sepbench.errors import UserError, nearest
from sepbench.home import home
from sepbench.recipe_yaml import FILE

GROUP = "sepbench.methods"  # of entry points; each names the package folder that holds recipe.yaml
OURS = "sepbench"
SHELVES = ("recipes", "baselines")


@dataclass(frozen=True)
class Found:
    """The folder of a recipe, and how it came to be known."""

    name: str  # by which it is called, and its runs are
    folder: Path
    whence: str  # "sepbench", the package that registers it, or where it lies
    package: str | None = None  # its importable name, where it is part of an installed package


def find(text: Path | str) -> Found:
    """The recipe that `text` points at or names.

    A folder as typed; else, of a bare name, the first of: NAME, recipes/NAME and baselines/NAME here, what sepbench brings,
    what a package registers. UserError with the nearest match, and all that are known, where there is none.
    """
    folder = Path(text)
    if (folder / FILE).is_file():
        return Found(folder.resolve().name, folder, str(folder))
    if not _bare(text):
        raise UserError(f"{folder}: no recipe there (no {FILE}).{_nearest_folder(folder)}")
    for found in _lying():
        if found.name == text:
            return found
    return registered(str(text))


def registered(name: str) -> Found:
    """The recipe that an installed package registers as `name`. UserError where there is none, or more than one."""
    entries = _entries().get(name, [])
    if len(entries) == 1:
        return _of_package(entries[0])
    if entries:
        both = " and ".join(f"{_owner(entry)} ({entry.value})" for entry in entries)
        raise UserError(f"{name}: {both} both register a method of that name. Uninstall one, or point at the folder.")
    known = names()
    raise UserError(f"{name}: no recipe of that name.{nearest(name, known)} Known: {', '.join(known)}; or a folder of yours.")


def names() -> list[str]:
    """Every name that is taken, whether or not what bears it can be used."""
    return list(dict.fromkeys([*(found.name for found in _lying()), *_entries()]))


def everything() -> tuple[list[Found], list[str]]:
    """All recipes that have a name here, each once; and a line for each that a package registers in vain."""
    found = {each.name: each for each in reversed(list(_lying()))}
    complaints = []
    for name, entries in _entries().items():
        if name in found:
            owners = ", ".join(map(_owner, entries))
            complaints.append(f"{name}: of {owners}; hidden by that of {found[name].whence}.")
            continue
        try:
            found[name] = registered(name)
        except UserError as error:
            complaints.append(str(error))
    return sorted(found.values(), key=lambda each: (each.package is not None, each.name)), complaints


def is_of_here(folder: Path, sent: Path) -> bool:
    """Whether a recipe folder is one that sepbench brings, or one in recipes/ or baselines/ here that is not inside `sent`."""
    shelf = folder.resolve().parent
    if shelf in [(home() / name).resolve() for name in SHELVES]:
        return True
    return shelf in [Path(name).resolve() for name in SHELVES] and not shelf.is_relative_to(sent.resolve())


def _bare(text: Path | str) -> bool:
    """Whether it is a name and no path."""
    return str(text) == Path(text).name


def _lying() -> Iterator[Found]:
    """What lies in folders, in the order in which a name is looked up; of one name perhaps several."""
    ours, here = home(), Path()
    for place in (here, *(here / shelf for shelf in SHELVES), *(ours / shelf for shelf in SHELVES)):
        for file in sorted(place.glob(f"*/{FILE}")):
            folder = file.parent
            whence = OURS if folder.resolve().parents[1] == ours else str(folder)
            yield Found(folder.name, folder, whence)


def _entries() -> dict[str, list[EntryPoint]]:
    """What installed packages register, by name."""
    found: dict[str, list[EntryPoint]] = {}
    for entry in sorted(metadata.entry_points(group=GROUP), key=lambda each: (each.name, _owner(each))):
        found.setdefault(entry.name, []).append(entry)
    return found


def _owner(entry: EntryPoint) -> str:
    return f"package {entry.dist.name}" if entry.dist is not None else "a package"


def _of_package(entry: EntryPoint) -> Found:
    """Where the package folder lies that an entry point names. UserError where it names none with a recipe.yaml."""
    said = f"{entry.name}: {_owner(entry)} registers '{entry.value}'"
    if entry.value != entry.module:
        raise UserError(f"{said}; wanted the dotted name of the package that holds {FILE}, and nothing behind it.")
    try:
        spec = importlib.util.find_spec(entry.module)
    except Exception as error:  # whatever the package above it raises: that is another's code
        raise UserError(f"{said}, which cannot be imported ({type(error).__name__}: {error}).") from None
    for place in (spec and spec.submodule_search_locations) or ():
        if (Path(place) / FILE).is_file():
            return Found(entry.name, Path(place), _owner(entry), entry.module)
    raise UserError(f"{said}, which holds no {FILE}. The package has to install it beside its code.")


def _nearest_folder(folder: Path) -> str:
    """The recipe that was probably meant: in the same parent, or one that has a name."""
    beside = {str(file.parent): file.parent.name for file in sorted(folder.parent.glob(f"*/{FILE}"))}
    known = beside | {str(found.folder) if found.whence != OURS else found.name: found.name for found in _lying()}
    same = [path for path, name in known.items() if name == folder.name]
    close = nearest(folder.name, known.values())
    matches = same or [path for path, name in known.items() if f"'{name}'" in close]
    return f" Did you mean '{matches[0]}'?" if matches else " Point at a folder that holds one, or name one of `sepbench ls`."
