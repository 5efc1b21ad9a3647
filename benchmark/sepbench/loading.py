"""Importing the files of a folder that is no installed package."""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import importlib.util
import re
import sys
from pathlib import Path

from sepbench.errors import UserError, nearest


def load_from(folder: Path, path: str, name: str, package: str | None = None) -> type:
    """The class `name` of the file `path` in `folder`, imported as part of a package called after parent and folder.

    `package`: the importable name of the folder, where it is part of an installed package. UserError with the nearest
    match where there is no such file or class; what the file itself raises goes through.
    """
    if not (folder / path).is_file():
        raise UserError(f"there is no file {path}.{nearest(path, [file.name for file in folder.glob('*.py')])}")
    module = importlib.import_module(".".join([package or _package(folder), *Path(path).with_suffix("").parts]))
    found = getattr(module, name, None)
    if not isinstance(found, type):
        known = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise UserError(f"{path} has no class {name}.{nearest(name, known)}")
    return found


def code_hash(folder: Path) -> str:
    """A hash of the Python and YAML files of `folder` and below, hidden ones left out, by their paths in it."""
    digest = hashlib.sha256()
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.suffix in (".py", ".yaml")}
    for name in sorted(files):
        if not any(part.startswith(".") for part in name.split("/")):
            data = files[name].read_bytes()
            digest.update(f"{name} {len(data)}\n".encode() + data)
    return digest.hexdigest()


def _package(folder: Path) -> str:
    """Have `recipes.weak_label` in sys.modules before its files run, so that relative imports and dataclasses work.

    Spawned processes find it again, to unpickle, because the folder above is on the search path, last.
    """
    parent = re.sub(r"\W", "_", folder.parent.name) or "root"
    known = importlib.util.find_spec(parent)
    if known is not None and known.origin is not None:
        parent += "_"  # what is installed under that name stays what it is
    if parent not in sys.modules:
        _register(parent, folder.parent, None)
    name = f"{parent}.{folder.name}"
    if list(getattr(sys.modules.get(name), "__path__", [])) != [str(folder)]:
        for old in [key for key in sys.modules if key == name or key.startswith(f"{name}.")]:
            del sys.modules[old]  # of another folder with the same two names
        importlib.invalidate_caches()
        _register(name, folder, folder / "__init__.py")
    above = str(folder.parent.parent)
    if above not in sys.path:
        sys.path.append(above)
    return name


def _register(name: str, folder: Path, init: Path | None) -> None:
    """Put the package `name`, whose files lie in `folder`, into sys.modules; then run `init` where there is one."""
    if init is not None and init.is_file():
        spec = importlib.util.spec_from_file_location(name, init, submodule_search_locations=[str(folder)])
    else:
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(folder)]
    assert spec is not None  # a .py file always has one
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if spec.loader is not None:
        spec.loader.exec_module(module)
