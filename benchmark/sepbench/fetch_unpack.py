"""Archives unpacked into a folder of their own, which nothing in them can leave."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from sepbench.errors import UserError
from sepbench.storage import NO_ROOM

Member = tuple[str, bool, "IO[bytes] | None"]  # its name, whether it is a folder, its bytes where it is a file


def unpack(packed: Path, folder: Path, progress: Any) -> None:
    """All files of a zip or tar archive below `folder`, which is made for them.

    UserError where the archive is damaged, or holds a name that leads out (absolute, `..`), a link, a device, or a file twice.
    Nothing of such an archive is to be used; what was unpacked before is the caller's to remove.
    """
    members = _zip_members if zipfile.is_zipfile(packed) else _tar_members
    try:
        folder.mkdir(parents=True)
        with progress.bar(f"unpacking {packed.name}", None) as bar:
            for name, is_folder, content in members(packed):
                place = _place(packed, folder, name)
                (place if is_folder else place.parent).mkdir(parents=True, exist_ok=True)
                if content is not None:
                    with content, place.open("xb") as file:  # x: never over what is there
                        shutil.copyfileobj(content, file, 1 << 20)
                bar.advance()
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, NotImplementedError) as error:
        raise _damaged(packed, error) from None
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"{packed}: holds '{error.filename}' twice, and is not unpacked. Remove it.") from None
    except OSError as error:
        if error.errno in NO_ROOM:
            said = f"no room left to unpack {packed.name}"
            raise UserError(f"{folder.parent}: {said}. Free some, and give the command again.") from None
        if error.errno is None or error.filename is None:  # what gzip says of bytes that are none of its own
            raise _damaged(packed, error) from None
        raise UserError(f"{folder}: cannot be written: {error.strerror}. Choose a folder you may write.") from None


def _place(packed: Path, folder: Path, name: str) -> Path:
    """Where a member goes. UserError where its name leads out of `folder`."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or parts[0] == "/" or ".." in parts or parts[0][1:2] == ":" or "\0" in name:
        raise UserError(f"{packed}: '{name}' in it leads out of its folder, and is not unpacked. Remove it.")
    return folder.joinpath(*parts)


def _zip_members(packed: Path) -> Iterator[Member]:
    with zipfile.ZipFile(packed) as archive:
        for each in archive.infolist():
            kind = stat.S_IFMT(each.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _no_file(packed, each.filename)
            if each.flag_bits & 1:
                raise UserError(f"{packed}: '{each.filename}' in it is encrypted, and is not unpacked. Remove it.")
            yield each.filename, each.is_dir(), None if each.is_dir() else archive.open(each)


def _tar_members(packed: Path) -> Iterator[Member]:
    with tarfile.open(packed, "r:*") as archive:
        for each in archive:
            if each.name in (".", "./"):
                continue
            if not (each.isreg() or each.isdir()):
                raise _no_file(packed, each.name)
            yield each.name, each.isdir(), None if each.isdir() else archive.extractfile(each)


def _no_file(packed: Path, name: str) -> UserError:
    return UserError(f"{packed}: '{name}' in it is a link or a device, and is not unpacked. Remove it.")


def _damaged(packed: Path, error: Exception) -> UserError:
    reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(":")
    return UserError(f"{packed}: is damaged ({reason}). Remove it, and fetch it again.")
