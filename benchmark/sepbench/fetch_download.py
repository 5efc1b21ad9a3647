"""One file from a server: whole and with the right checksum, or not there.

pooch asks whether it is there, checks what has come and puts it in place. It cannot go on with a download that was stopped:
the downloader that it is handed does, by HTTP's Range, from a .part file beside it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pooch
import requests

from sepbench.errors import UserError
from sepbench.fetch import PART
from sepbench.storage import NO_ROOM, write_text

TRIES, BACKOFF_S, LONGEST_WAIT_S = 5, 1.0, 60.0  # tries without a byte that is new; the wait doubles
BUSY = (408, 429, 500, 502, 503, 504)  # what passes
REASONS = {  # words of requests' errors, and what they mean
    "timed out": "the server said nothing for {:g} s", "resolve": "its name is not known to this machine's network",
    "NameResolutionError": "its name is not known to this machine's network", "refused": "nobody answers there",
    "unreachable": "the network does not reach it",
}  # fmt: skip
CHUNK, MB = 1 << 14, 1_000_000  # where the connection breaks off, so much is fetched again at most


def download(url: str, file: Path, checksum: str, n_bytes: int | None, stall_s: float, progress: Any) -> Path:
    """`file` with the bytes at `url`, fetched only where they are not there yet.

    `checksum` is "md5:..." or "sha256:...", `n_bytes` the size where it is known, `stall_s` how long a server may say nothing.
    UserError where it cannot be had, when what came so far is kept for the next call; or where it is not what was wanted, when
    nothing of it is kept.
    """
    pooch.get_logger().setLevel("WARNING")  # the bar says the rest
    fetching = _Resuming(file, n_bytes, stall_s, progress)
    try:
        pooch.retrieve(url, checksum, file.name, file.parent, downloader=fetching)
    except ValueError:  # what pooch raises where the checksum is another; it has removed the file
        fetching.drop()
        said = f"has another checksum than the {checksum.partition(':')[0]} that was wanted, and was removed"
        raise UserError(f"{url}: what came {said}. Try again later, or give --mirror URL.") from None
    except OSError as error:
        if error.errno in NO_ROOM:
            raise UserError(f"{file.parent}: no room left for {file.name}. Free some, and give the command again.") from None
        raise UserError(f"{file.parent}: cannot be written: {error.strerror or error}. Choose a folder you may write.") from None
    fetching.drop()
    return file


class _Passing(Exception):
    """Something that may be over when it is tried again."""

    def __init__(self, said: str, wait_s: float = 0.0):
        super().__init__(said)
        self.wait_s = wait_s


@dataclass(frozen=True)
class _State:
    """Of which state of the file a part is; a part of another is of no use."""

    url: str
    etag: str
    modified: str
    n_bytes: int | None

    @classmethod
    def of(cls, url: str, headers: Mapping[str, str], n_bytes: int | None) -> _State:
        return cls(url, headers.get("ETag", ""), headers.get("Last-Modified", ""), n_bytes)

    @property
    def condition(self) -> dict[str, str]:
        """If-Range: the rest if it is still the same file, else all of it. Weak tags do not promise the same bytes."""
        tag = self.etag if self.etag and not self.etag.startswith("W/") else self.modified
        return {"If-Range": tag} if tag else {}


class _Resuming:
    """pooch's downloader: called with URL, the file to write and the Pooch, of which there is none here."""

    def __init__(self, file: Path, n_bytes: int | None, stall_s: float, progress: Any):
        self.name, self.n_bytes, self.stall_s, self.progress = file.name, n_bytes, stall_s, progress
        self.part = file.with_name(f"{file.name}{PART}")
        self.notes = file.with_name(f"{file.name}{PART}.json")

    def __call__(self, url: str, output_file: Any, pooch: Any) -> None:
        furthest, lost = self._size(), 0
        while True:
            try:
                self._go_on(url)
                break
            except _Passing as error:
                lost = 0 if self._size() > furthest else lost + 1
                furthest = max(furthest, self._size())
                if lost >= TRIES:
                    size = self._size()
                    then = f"{size / MB:,.1f} MB are kept in {self.part}: the same command goes on from there"
                    then = then if size else "See to the network, or give --mirror URL"
                    raise UserError(f"{url}: {error}, {TRIES} times over. {then}.") from None
                time.sleep(min(max(BACKOFF_S * 2**lost, error.wait_s), LONGEST_WAIT_S))
        Path(output_file).unlink(missing_ok=True)
        try:
            os.link(self.part, output_file)  # the part stays until the checksum is known to be right
        except OSError:  # a disk without links
            os.replace(self.part, output_file)

    def _go_on(self, url: str) -> None:
        """Ask for what is lacking, and write it behind what is there. _Passing where less than all has come."""
        had, state = self._size(), self._state(url)
        if had and state is None:  # nobody knows of what it is a part
            had = 0
        if state is not None and had and had == state.n_bytes:
            return
        asked = {"Range": f"bytes={had}-", **state.condition} if state is not None and had else {}
        try:
            headers = {"Accept-Encoding": "identity", **asked}
            with requests.get(url, headers=headers, stream=True, timeout=self.stall_s) as answer:
                self._take(url, answer, had, state)
        except requests.Timeout:
            raise _Passing(f"the server said nothing for {self.stall_s:g} s") from None
        except (requests.exceptions.InvalidURL, requests.exceptions.MissingSchema, requests.exceptions.InvalidSchema):
            raise UserError(f"{url}: is no address. Give --mirror URL as http(s)://...") from None
        except requests.exceptions.SSLError as error:
            said = f"the server's certificate is not accepted ({error})"
            raise UserError(f"{url}: {said}. Mend the machine's certificates, or give --mirror URL.") from None
        except requests.RequestException as error:
            said = str(error)
            for words, why in REASONS.items():
                if words in said:
                    raise _Passing(why.format(self.stall_s)) from None
            raise _Passing("the connection broke off") from None

    def _take(self, url: str, answer: requests.Response, had: int, state: _State | None) -> None:
        first, total = _span(answer)
        now = _State.of(url, answer.headers, total)
        if answer.status_code == 416 or (answer.status_code == 206 and (first != had or _differ(state, now))):
            self.drop()
            raise _Passing("the file on the server is another than the one that was begun")
        if answer.status_code not in (200, 206):
            _refuse(url, answer)
        if self.n_bytes is not None and total is not None and total != self.n_bytes:
            self.drop()
            raise UserError(f"{url}: has {total:,} bytes there, wanted {self.n_bytes:,}: it is another file. Give --mirror URL.")
        if answer.status_code == 200:
            if had:
                why = "as the server does not go on, or has another file now"
                self.progress.say(f"{self.name}: fetched from its beginning, {why}.")
            had = 0
            write_text(self.notes, json.dumps(vars(now)))
        with self.part.open("ab" if had else "wb") as file:
            self._write(answer, file, had, total or self.n_bytes)
        if self._size() < (total or self.n_bytes or 0):
            raise _Passing("the connection broke off")

    def _write(self, answer: requests.Response, file: IO[bytes], had: int, total: int | None) -> None:
        n_mb = None if total is None else -(-total // MB)
        with self.progress.bar(f"fetching {self.name}, MB", n_mb) as bar:
            bar.advance(had // MB)
            for chunk in answer.iter_content(CHUNK):
                file.write(chunk)
                had += len(chunk)
                if (step := had // MB - (had - len(chunk)) // MB) > 0:
                    bar.advance(step)

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def _state(self, url: str) -> _State | None:
        try:
            found = _State(**json.loads(self.notes.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        return found if found.url == url else None

    def drop(self) -> None:
        self.part.unlink(missing_ok=True)
        self.notes.unlink(missing_ok=True)


def _span(answer: requests.Response) -> tuple[int, int | None]:
    """The first byte that comes, and how many the whole file has; None where the server does not say."""
    if answer.status_code == 206:
        span, _, total = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        first = span.partition("-")[0]
        return int(first) if first.isdigit() else -1, int(total) if total.isdigit() else None
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() and answer.status_code == 200 else None


def _differ(state: _State | None, now: _State) -> bool:
    """Whether what comes is of another file than what is there; what either does not say does not count."""
    if state is None:
        return True
    pairs = ((state.etag, now.etag), (state.modified, now.modified), (state.n_bytes, now.n_bytes))
    return any(had and has and had != has for had, has in pairs)


def _refuse(url: str, answer: requests.Response) -> None:
    said = f"the server answers {answer.status_code} ({answer.reason})"
    if answer.status_code in BUSY:
        wait = answer.headers.get("Retry-After", "")
        raise _Passing(said, float(wait) if wait.isdigit() else 0.0)
    raise UserError(f"{url}: {said}, not the file. It may have moved: give --mirror URL, or fetch and unpack it by hand.")
