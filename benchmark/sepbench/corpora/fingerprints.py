"""Hashes of files remembered by path, size and time of change, so that gigabytes are not hashed anew on every run."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from uuid import uuid4

RACY_S = 3.0  # a file changed so recently may change again within one tick of the file system's clock


class Fingerprints:
    """A context: reads `store` on entry, asks `of(path, compute)`, and writes what is new on exit, atomically."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self._known: dict[str, list] = {}
        self._new: dict[str, list] = {}

    def __enter__(self) -> Fingerprints:
        self._known = _load(self.store)
        return self

    def of(self, path: Path | None, compute: Callable[[], str]) -> str:
        """The fingerprint of the file at `path`: as remembered if size and time of change still hold, else `compute()`.

        No path: nothing to remember it by.
        """
        if path is None:
            return compute()
        name = os.path.abspath(path)
        try:
            stat = os.stat(name)
        except OSError:
            return compute()  # which says what is wrong
        stamp = [stat.st_size, stat.st_mtime_ns]
        entry = self._known.get(name)
        if entry is not None and entry[:2] == stamp:
            return str(entry[2])
        value = compute()
        if time.time() - stat.st_mtime > RACY_S:
            self._new[name] = [*stamp, value]
        return value

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._new:
            return
        entries = {**_load(self.store), **self._new}  # another process may have written meanwhile
        draft = self.store.with_name(f".{self.store.name}-{uuid4().hex}")
        with suppress(OSError):  # a folder that cannot be written costs time, no more
            draft.write_text(json.dumps(entries), encoding="utf-8")
            os.replace(draft, self.store)
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _load(store: Path) -> dict[str, list]:
    """What was remembered; nothing where the store is missing or damaged, as it only saves time."""
    try:
        entries = json.loads(store.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(entries, dict):
        return {}
    return {path: entry for path, entry in entries.items() if isinstance(entry, list) and len(entry) == 3}
