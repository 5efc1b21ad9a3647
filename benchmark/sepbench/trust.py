"""Whose code a recipe is: said once of a folder that is neither sepbench's, nor a package's, nor written by `sepbench new`.

A small file in the cache remembers what was said: path -> the content then, or that the folder is the user's own.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from sepbench.catalogue import SHELVES, Found
from sepbench.errors import UserError
from sepbench.home import cache_root, home
from sepbench.progress import PlainProgress
from sepbench.storage import read_json, write_json

FILE = "recipes.json"  # in the cache
OWN = "own"  # in place of a hash: whatever the folder holds, its user began it here
CODE = (".py", ".pyc", ".so", ".yaml", ".yml")
_said: set[tuple[str, str]] = set()  # by this process, where the cache cannot be written


def say_once(found: Found) -> None:
    """A line on stderr before the recipe's code runs, where it is from elsewhere; again only when its content has changed."""
    folder = found.folder.resolve()
    if found.package is not None or folder.parent in [(home() / shelf).resolve() for shelf in SHELVES]:
        return
    known, content = _known(), content_of(folder)
    had = known.get(str(folder))
    if had in (OWN, content) or (str(folder), content) in _said:
        return
    what = "this one is from elsewhere" if had is None else "this one is from elsewhere and has changed since it last ran"
    PlainProgress().say(f"{folder}: a recipe is Python code, and {what}; it runs with your rights. Said once.")
    _said.add((str(folder), content))
    _remember(known, folder, content)


def remember_own(folder: Path) -> None:
    """The user has begun the recipe in `folder` here: nothing is ever said of it."""
    _remember(_known(), folder.resolve(), OWN)


def content_of(folder: Path) -> str:
    """A hash of the names and bytes of all files that are code, or say which code runs."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.rglob("*")):
        if path.suffix in CODE and path.parent.name != "__pycache__" and path.is_file():
            digest.update(repr((path.relative_to(folder).as_posix(), hashlib.sha256(path.read_bytes()).digest())).encode())
    return digest.hexdigest()


def _known() -> dict[str, str]:
    """What the cache remembers; nothing where it cannot be read."""
    try:
        held = read_json(cache_root() / FILE)
    except UserError:
        return {}
    return {str(path): str(content) for path, content in held.items()} if isinstance(held, dict) else {}


def _remember(known: dict[str, str], folder: Path, content: str) -> None:
    """Folders that are gone are forgotten. Where the cache cannot be written, it is said again another time."""
    there = {path: held for path, held in known.items() if Path(path).is_dir()}
    with contextlib.suppress(UserError, OSError):
        cache_root().mkdir(parents=True, exist_ok=True)
        write_json(cache_root() / FILE, there | {str(folder): content})
