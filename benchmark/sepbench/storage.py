"""Files that are whole or not there: atomic writes, a full disk said plainly, one writer per folder."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from sepbench.errors import UserError

_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}")  # as `write_bytes` names what it has not finished
ASKING_S = 0.5  # who asks whether a folder is locked holds its lock for a moment; who wants it asks again for so long
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, as `replacing` does."""
    with replacing(path) as file:
        file.write(data)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, which becomes `path` in the end, or leaves what was there: a neighbour, flushed to disk, then renamed.

    UserError naming the folder where the disk is full or may not be written.
    """
    if path.exists() and not path.is_file():  # a device, a pipe, a folder: renaming over it would put a file in its place
        raise UserError(f"{path}: is no ordinary file, so nothing is written over it. Choose another name.")
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        if isinstance(error, OSError):
            raise _plain(error, path) from error
        raise


def sweep(folder: Path) -> None:
    """Remove what writers that were killed have left anywhere in `folder`. Only where nobody else writes there."""
    for path in folder.rglob(".*"):
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            with contextlib.suppress(OSError):
                path.unlink()


def write_text(path: Path, text: str) -> None:
    """As `write_bytes`, in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """As `write_bytes`, indented JSON; what is not a finite number becomes null, for JSON knows no NaN."""
    write_text(path, json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """What `write_json` wrote. UserError naming the file where it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"not JSON ({error})"
        raise UserError(f"{path}: cannot be read: {reason}. Restore it, or move its folder away.") from error


def finite(value: Any) -> Any:
    """`value` as plain JSON: numpy scalars and arrays unpacked, tuples as lists, NaN and infinities as None."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if hasattr(value, "tolist"):
        return finite(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def as_yaml(value: Any, indent: str = "") -> str:
    """Nested dicts as YAML for people to read; lists and scalars are written as JSON, which is YAML too."""
    lines = []
    for key, item in value.items():
        name = key if re.fullmatch(r"[A-Za-z_]\w*", key) and key.lower() not in _YAML_WORDS else json.dumps(key)
        if isinstance(item, Mapping) and item:
            lines.append(f"{indent}{name}:\n{as_yaml(item, indent + '  ')}")
        else:
            lines.append(f"{indent}{name}: {_scalar(item)}\n")
    return "".join(lines)


_YAML_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


def _scalar(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_scalar, value)) + "]"
    if isinstance(value, float):  # YAML 1.1 wants a dot before the exponent
        return re.sub(r"^(-?\d+)e", r"\1.0e", json.dumps(value))
    return json.dumps(value, ensure_ascii=False)


class FolderLock:
    """One writer per folder, across processes. The kernel drops the lock when its process dies, so none goes stale."""

    NAME = ".lock"

    def __init__(self, folder: Path, doing: str = "writing this run") -> None:
        """Take the lock. UserError naming the process that has it, where another one does, and what it is doing."""
        import fcntl

        self.path = folder / self.NAME
        until_s = time.monotonic() + ASKING_S
        while True:
            try:
                self.handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            except OSError as error:
                raise _plain(error, self.path) from error
            try:
                fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                owner = _owner(os.read(self.handle, 300).decode(errors="replace").split())
                os.close(self.handle)
                if time.monotonic() < until_s:
                    time.sleep(0.01)
                    continue
                raise UserError(
                    f"{folder}: process {owner} is {doing}. Wait for it to end, or stop it, and start again."
                ) from error
            if _same_file(self.handle, self.path):  # else the last owner removed it between our open and our lock
                break
            os.close(self.handle)
        with contextlib.suppress(OSError):  # the number is for people; the lock holds without it
            os.ftruncate(self.handle, 0)
            os.write(self.handle, f"{os.getpid()} {socket.gethostname()}\n".encode())

    def release(self) -> None:
        """Let the next one in. Does nothing the second time, and leaves the lock of a folder that came into this one's place."""
        if self.handle >= 0:
            with contextlib.suppress(OSError):
                if _same_file(self.handle, self.path):
                    os.unlink(self.path)
            os.close(self.handle)
            self.handle = -1


def locked(folder: Path) -> bool:
    """Whether some process holds the folder's lock now. Creates nothing."""
    import fcntl

    try:
        handle = os.open(folder / FolderLock.NAME, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _owner(words: list[str]) -> str:
    """Of the words in a lock, the process, and its machine where that is another."""
    elsewhere = words[1:] and words[1] != socket.gethostname()
    return f"{words[0]} on {words[1]}" if elsewhere else words[0] if words else "unknown"


def _same_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _plain(error: OSError, path: Path) -> UserError:
    if error.errno in NO_ROOM:
        return UserError(f"{path.parent}: no room left for {path.name}. Free some space, or choose another folder.")
    reason = error.strerror or error
    return UserError(f"{path.parent}: cannot write {path.name}: {reason}. Choose a folder you may write.")
