"""What a run needs on the node of a cluster: all is brought there, run in a folder of the node's own, and packed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from sepbench.corpora.cache import cache_root
from sepbench.corpora.listed import LISTING
from sepbench.errors import UserError
from sepbench.loading import code_hash
from sepbench.progress import SILENT
from sepbench.storage import locked, read_json, write_json
from sepbench.sweep_pack import Parcel, install, packed, unpack
from sepbench.sweep_spec import do

OLD_S = 7 * 24 * 3600  # what no sweep has touched for so long is removed
LOCK_S = 120.0  # that the process of an attempt before may take to die


def carry_out(parcel: Parcel, fetch: Callable[[Any], Any]) -> dict[str, Any]:
    """Run what the parcel says; what `do` answers, with the packed folder in place of its path. `fetch`: of the object store.

    The folder on this node is called by the run and by what it is made from, so that another attempt here goes on in it.
    """
    try:
        _check_code(parcel["code"])
        place = cache_root().resolve() / "sweeps" / parcel["place"]
        _sweep(place.parent)
        place.mkdir(parents=True, exist_ok=True)
        spec = {**parcel["spec"], "results": str(place)}
        spec = _with_recipe(spec, parcel, place, fetch)
        _bring_sounds(parcel, fetch)
        spec["data"] = _with_lists(parcel)
        begun = place / spec["id"]
        if parcel["begun"] is not None and not begun.exists():
            unpack(fetch(parcel["begun"]), begun)
        if begun.exists():
            spec["again"] = False  # it is an attempt's before this one
            _wait_for(begun)
    except UserError as error:
        return {"said": str(error), "seconds": 0.0, "folder": None}
    with _inner_here(spec, parcel, place, fetch):
        answer = do(spec, SILENT)
    if answer["folder"]:
        folder = Path(answer["folder"]).resolve()
        run = read_json(folder / "run.json")
        run["provenance"]["recipe_folder"] = parcel["folder"]  # where it was sent to is nowhere once the sweep is over
        write_json(folder / "run.json", run)
        answer["folder"] = packed(folder)
    return {**answer, "place": str(place)}


def forget(places: Iterable[str]) -> None:
    """Remove folders of this node whose runs have arrived."""
    for place in places:
        shutil.rmtree(place, ignore_errors=True)


@cache
def package_hash() -> str:
    """Of the package's own code."""
    return code_hash(Path(__file__).resolve().parent)


def _check_code(expected: str) -> None:
    if package_hash() != expected:
        raise UserError("its node has another sepbench than the one that sent it. Install the same on all nodes.")


def _with_recipe(spec: dict[str, Any], parcel: Parcel, place: Path, fetch: Callable[[Any], Any]) -> dict[str, Any]:
    """The recipe's own folder where it lies on this node as it was sent, else what was sent. `place`: this run's own."""
    folder, wanted = Path(spec["recipe"]), parcel["recipe hash"]
    if spec["registered"] or (folder.is_dir() and code_hash(folder) == wanted):
        return spec
    sent = cache_root() / "sweeps" / "recipes" / wanted[:16] / folder.parent.name / folder.name
    if not sent.is_dir():
        sent.parent.mkdir(parents=True, exist_ok=True)
        mine = place / "recipe"
        unpack(fetch(parcel["recipe"]), mine)
        try:
            os.rename(mine, sent)
        except OSError:  # of several workers that bring it at once, the first one's stays
            if not sent.is_dir():
                raise
            shutil.rmtree(mine, ignore_errors=True)
    return {**spec, "recipe": str(sent)}


def _bring_sounds(parcel: Parcel, fetch: Callable[[Any], Any]) -> None:
    cache = parcel["cache"]
    if cache is None:
        return
    root = cache_root()
    root.mkdir(parents=True, exist_ok=True)
    place = root / cache["name"]
    if not place.exists():
        install(fetch(cache["files"]), cache["digests"], place)


def _with_lists(parcel: Parcel) -> dict[str, str]:
    """Where each corpus lies: its folder where this node has it, else a list of its clips, which the cache is enough for."""
    data = dict(parcel["spec"]["data"])
    for name, held in (parcel["lists"] or {}).items():
        if not Path(data[name]).expanduser().is_dir():
            folder = cache_root() / "sweeps" / "lists" / f"{name}-{held['hash']}"
            if not (folder / LISTING).is_file():
                folder.mkdir(parents=True, exist_ok=True)
                write_json(folder / LISTING, held["listing"])
            data[name] = str(folder)
    return data


@contextmanager
def _inner_here(spec: Mapping[str, Any], parcel: Parcel, place: Path, fetch: Callable[[Any], Any]) -> Any:
    """The wrapped run, brought to where the configuration says that it lies, as seen from the folder that this is done from."""
    inner = (spec["config"].get("inner") or {}).get("run")
    if inner is None or (Path(inner) / "run.json").is_file() or Path(inner).is_absolute():
        yield  # an absolute path that is not on this node is told of by the run itself
        return
    before = Path.cwd()
    os.chdir(place)
    try:
        if not (place / inner / "run.json").is_file():
            (place / inner).parent.mkdir(parents=True, exist_ok=True)
            unpack(fetch(parcel["inner"]), place / inner)
        yield
    finally:
        os.chdir(before)


def _wait_for(folder: Path) -> None:
    """Until the process of an attempt before has died, which holds the folder's lock."""
    until_s = time.monotonic() + LOCK_S
    while locked(folder) and time.monotonic() < until_s:
        time.sleep(0.2)


def _sweep(root: Path) -> None:
    """Remove what sweeps of long ago have left here."""
    for folder in root.glob("*-*"):  # of runs; neither recipes nor lists
        with suppress(OSError):  # another may remove it at the same time
            idle = not any(locked(run) for run in folder.iterdir())
            if idle and time.time() - folder.stat().st_mtime > OLD_S:
                shutil.rmtree(folder, ignore_errors=True)
