"""Fetching corpora, from a server that breaks off, lies, stalls and changes its mind; archives that want out of their folder."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pooch
import pytest
import soundfile

from made_fuss import make_fuss
from sepbench import fetch, fetch_download
from sepbench.corpora import open_corpus
from sepbench.corpora.fuss import Fuss
from sepbench.errors import UserError
from sepbench.fetch_unpack import unpack
from sepbench.progress import PlainProgress
from sepbench.storage import FolderLock
from test_cli import call, refused

QUIET = PlainProgress(open(os.devnull, "w"))  # noqa: SIM115
ESC = "filename,fold,target,category,esc10,src_file,take\n1-1-A-0.wav,1,0,dog,True,1,A\n2-2-A-42.wav,2,42,siren,False,2,A\n"
URBAN = (
    "slice_file_name,fsID,start,end,salience,fold,classID,class\n"
    "7-3-0-0.wav,7,0.0,1.0,1,1,3,dog_bark\n8-8-0-0.wav,8,0.0,1.0,2,10,8,siren\n"
)


class Server(ThreadingHTTPServer):
    """Serves `content` at any path, and misbehaves as it is told; what it was asked is in `asked`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.etag = b"", '"1"'
        self.cuts: list[int] = []  # the next answers break off after so many bytes
        self.answers: list[int] = []  # the next answers are of these statuses
        self.stalls_s: list[float] = []  # the next answers wait so long in their middle
        self.ranges, self.lengths = True, True
        self.asked: list[str] = []
        self.slowly_s = 0.0  # between pieces of 64 kB

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address) -> None: ...


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range", "")
        server.asked.append(wanted)
        if server.answers:
            status = server.answers.pop(0)
            return self.send_error(status)
        first, content, total = 0, server.content, len(server.content)
        if wanted and server.ranges and self.headers.get("If-Range", server.etag) == server.etag:
            first = int(wanted.removeprefix("bytes=").rstrip("-"))
            if first >= total:
                return self.send_error(416)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{total - 1}/{total}")
        else:
            self.send_response(200)
        content = content[first:]
        if server.etag:
            self.send_header("ETag", server.etag)
        if server.lengths:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if server.stalls_s:
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            time.sleep(server.stalls_s.pop(0))
            return None
        content = content[: server.cuts.pop(0)] if server.cuts else content
        for place in range(0, len(content), 1 << 16):
            self.wfile.write(content[place : place + (1 << 16)])
            time.sleep(server.slowly_s)
        return None

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(fetch_download, "BACKOFF_S", 0.01)
    served = Server()
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield served
    served.shutdown()
    served.server_close()


def noise(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).uniform(-0.5, 0.5, 44100), 44100)


def esc50(folder: Path) -> bytes:
    """As GitHub packs it: one folder named after the commit."""
    root = folder / f"ESC-50-{fetch.ESC50_COMMIT}"
    (root / "meta").mkdir(parents=True)
    (root / "meta" / "esc50.csv").write_text(ESC)
    for i, name in enumerate(("1-1-A-0", "2-2-A-42")):
        noise(root / "audio" / f"{name}.wav", i)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for path in sorted(root.rglob("*")):
            archive.write(path, path.relative_to(folder))
    return made.getvalue()


def packed(folder: Path, name: str) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        archive.add(folder / name, name)
    return made.getvalue()


def urbansound8k(folder: Path) -> bytes:
    root = folder / "UrbanSound8K"
    (root / "metadata").mkdir(parents=True)
    (root / "metadata" / "UrbanSound8K.csv").write_text(URBAN)
    noise(root / "audio" / "fold1" / "7-3-0-0.wav", 1)
    noise(root / "audio" / "fold10" / "8-8-0-0.wav", 2)
    return packed(folder, "UrbanSound8K")


def fuss(folder: Path) -> bytes:
    make_fuss(folder, counts={"train": (1, 2), "validation": (2,), "eval": (1, 3)})
    return packed(folder, "ssdata_reverb")


MADE: dict[str, Callable[[Path], bytes]] = {"esc50": esc50, "urbansound8k": urbansound8k, "fuss": fuss}


def offer(server: Server, folder: Path, patch: pytest.MonkeyPatch, name: str = "esc50") -> bytes:
    """Have the server offer a small corpus, and sepbench want that one; its archive."""
    content = server.content = MADE[name](folder / "made")
    source = fetch.SOURCES[name]
    first = next(iter(source.archives))
    checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
    small = replace(source.archives[first], checksum=checksum, n_bytes=None, needs_bytes=(1e6, 1e6))
    patch.setattr(fetch, "SOURCES", {**fetch.SOURCES, name: replace(source, archives={**source.archives, first: small})})
    return content


def got(server: Server, name: str, to: Path, *more: str) -> tuple[int, str, str]:
    return call("data", "fetch", name, "--to", str(to), "--agree", "--mirror", server.url, *more)


def whole_chunks(n_bytes: int) -> int:
    return n_bytes // fetch_download.CHUNK * fetch_download.CHUNK


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "made")


def failed(server: Server, to: Path, *more: str) -> str:
    """The last line of a fetch that failed; no traceback."""
    code, out, err = got(server, "esc50", to, *more)
    assert code == 2 and out == "" and "Traceback" not in err, (code, out, err)
    line = err.splitlines()[-1]
    assert line.startswith("sepbench: ")
    return line


@pytest.mark.parametrize("name", ["esc50", "urbansound8k"])
def test_what_is_fetched_opens_as_the_corpus(server, tmp_path, monkeypatch, name):
    offer(server, tmp_path, monkeypatch, name)
    code, out, err = got(server, name, tmp_path / "mine")
    assert code == 0 and f"--data {name}={tmp_path / 'mine'}" in out, err
    assert "CC BY-NC 3.0: not for commercial use" in err
    corpus = open_corpus(name, {name: str(tmp_path / "mine")})
    assert len(corpus.clips) == 2 and all(corpus.audio(clip)[1] == 44100 for clip in corpus.clips)
    assert left(tmp_path) == ["mine"]  # no archive, no part, no lock


def test_what_is_fetched_opens_as_the_release(server, tmp_path, monkeypatch):
    offer(server, tmp_path, monkeypatch, "fuss")
    code, out, err = call("data", "fetch", "fuss", "--to", str(tmp_path / "mine"), "--mirror", server.url)  # nothing to agree on
    assert code == 0 and "Licence: CC BY 4.0" in err
    assert [len(Fuss(tmp_path / "mine", "reverb").examples[each]) for each in ("train", "validation", "eval")] == [2, 1, 2]
    assert left(tmp_path / "mine") == ["ssdata_reverb"]
    assert "data fetch fuss" in call("data", "fuss")[1]  # what `sepbench data` says where it is not found


def test_fetched_twice_nothing_is_done_the_second_time(server, tmp_path, monkeypatch):
    offer(server, tmp_path, monkeypatch)
    assert got(server, "esc50", tmp_path / "mine")[0] == 0
    code, out, err = got(server, "esc50", tmp_path / "mine")
    assert code == 0 and "nothing is fetched" in out and "--data esc50=" in out and len(server.asked) == 1 and not err


def test_a_licence_that_forbids_a_use_is_agreed_on(server, tmp_path, monkeypatch):
    offer(server, tmp_path, monkeypatch)
    code, _, err = call("data", "fetch", "esc50", "--to", str(tmp_path / "mine"), "--mirror", server.url)
    assert code == 2 and "Give --agree if you agree" in err and server.asked == [] and left(tmp_path) == []


def test_a_download_that_breaks_off_goes_on_where_it_was(server, tmp_path, monkeypatch):
    content = offer(server, tmp_path, monkeypatch)
    server.cuts = [len(content) // 3, len(content) // 3]
    assert got(server, "esc50", tmp_path / "mine")[0] == 0
    places = [int(each.removeprefix("bytes=").rstrip("-") or 0) for each in server.asked]
    third = whole_chunks(len(content) // 3)
    assert places == [0, third, 2 * third] and third > 0


def test_a_download_that_fails_is_gone_on_with_by_the_next_command(server, tmp_path, monkeypatch):
    content = offer(server, tmp_path, monkeypatch)
    server.cuts, n_kept = [40_000], whole_chunks(40_000)
    monkeypatch.setattr(fetch_download, "TRIES", 2)
    server.cuts += [0, 0]
    line = failed(server, tmp_path / "mine")
    assert "the connection broke off, 2 times over" in line and "the same command goes on from there" in line
    assert left(tmp_path) == ["ESC-50-33c8ce9e.zip.part", "ESC-50-33c8ce9e.zip.part.json"]
    assert (tmp_path / "ESC-50-33c8ce9e.zip.part").read_bytes() == content[:n_kept]
    server.asked.clear()
    assert got(server, "esc50", tmp_path / "mine")[0] == 0 and server.asked == [f"bytes={n_kept}-"]


def test_a_server_that_knows_no_ranges_is_asked_from_the_beginning(server, tmp_path, monkeypatch):
    offer(server, tmp_path, monkeypatch)
    server.ranges, server.cuts = False, [50_000]
    code, _, err = got(server, "esc50", tmp_path / "mine")
    assert code == 0 and "fetched from its beginning" in err and left(tmp_path) == ["mine"]


def test_a_server_that_tells_no_length_is_believed_by_the_checksum(server, tmp_path, monkeypatch):
    content = offer(server, tmp_path, monkeypatch)
    server.lengths = server.ranges = False
    assert got(server, "esc50", tmp_path / "mine")[0] == 0
    server.cuts = [len(content) // 2]  # and nobody can tell that it broke off
    line = failed(server, tmp_path / "other")
    assert "another checksum than the sha256" in line and left(tmp_path) == ["mine"]


@pytest.mark.parametrize("tagged", [True, False])
def test_a_file_that_changed_on_the_server_is_fetched_anew(server, tmp_path, monkeypatch, tagged):
    content = offer(server, tmp_path, monkeypatch)
    server.content, server.etag = b"an older file" * 10_000, '"0"' if tagged else ""
    server.cuts = [50_000]
    monkeypatch.setattr(fetch_download, "TRIES", 1)
    server.cuts += [0] * 2
    failed(server, tmp_path / "mine")
    server.content, server.etag = content, '"1"' if tagged else ""  # without a tag, its size says so
    server.cuts = []
    monkeypatch.setattr(fetch_download, "TRIES", 3)
    assert got(server, "esc50", tmp_path / "mine")[0] == 0
    assert open_corpus("esc50", {"esc50": str(tmp_path / "mine")}).clips


def test_corrupted_bytes_are_removed(server, tmp_path, monkeypatch):
    content = offer(server, tmp_path, monkeypatch)
    server.content = content[:100] + bytes([content[100] ^ 1]) + content[101:]
    line = failed(server, tmp_path / "mine")
    assert "another checksum than the sha256 that was wanted, and was removed" in line and left(tmp_path) == []


def test_a_part_of_something_else_does_not_get_through(server, tmp_path, monkeypatch):
    offer(server, tmp_path, monkeypatch)
    (tmp_path / "ESC-50-33c8ce9e.zip.part").write_bytes(b"x" * 700)  # no note says of what it is a part
    assert got(server, "esc50", tmp_path / "mine")[0] == 0 and server.asked == [""]


def test_a_stall_is_timed_out_and_the_rest_is_fetched(server, tmp_path, monkeypatch):
    content = offer(server, tmp_path, monkeypatch)
    server.stalls_s = [3.0]
    began_s = time.perf_counter()
    assert got(server, "esc50", tmp_path / "mine", "--timeout", "0.3")[0] == 0
    assert time.perf_counter() - began_s < 2.5 and server.asked[1] == f"bytes={whole_chunks(len(content) // 2)}-"


def test_a_server_that_stalls_for_good_is_told(server, tmp_path, monkeypatch):
    offer(server, tmp_path, monkeypatch)
    server.stalls_s = [1.0] * 9
    server.ranges = False
    monkeypatch.setattr(fetch_download, "TRIES", 2)
    assert "the server said nothing for 0.2 s, 2 times over" in failed(server, tmp_path / "mine", "--timeout", "0.2")


@pytest.mark.parametrize("status", [500, 503, 429])
def test_what_passes_is_tried_again(server, tmp_path, monkeypatch, status):
    offer(server, tmp_path, monkeypatch)
    server.answers = [status, status]
    assert got(server, "esc50", tmp_path / "mine")[0] == 0 and len(server.asked) == 3
    server.answers = [status] * 9
    assert f"answers {status}" in failed(server, tmp_path / "other") and left(tmp_path) == ["mine"]


def test_what_does_not_pass_is_told_at_once(server, tmp_path, monkeypatch):
    offer(server, tmp_path, monkeypatch)
    server.answers = [404]
    line = failed(server, tmp_path / "mine")
    assert "answers 404 (Not Found)" in line and "--mirror URL" in line and len(server.asked) == 1 and left(tmp_path) == []


def test_a_server_that_is_not_there_is_told(server, tmp_path, monkeypatch):
    offer(server, tmp_path, monkeypatch)
    monkeypatch.setattr(fetch_download, "TRIES", 2)
    line = refused_to(tmp_path, "http://127.0.0.1:9")
    assert "nobody answers there, 2 times over. See to the network, or give --mirror URL." in line
    assert "is no address" in refused_to(tmp_path, "nonsense")


def refused_to(folder: Path, mirror: str) -> str:
    code, _, err = call("data", "fetch", "esc50", "--to", str(folder / "mine"), "--agree", "--mirror", mirror)
    assert code == 2 and "Traceback" not in err
    return err.splitlines()[-1]


def test_another_size_than_the_known_one_is_not_fetched_to_its_end(server, tmp_path, monkeypatch):
    offer(server, tmp_path, monkeypatch)
    archive = replace(fetch.SOURCES["esc50"].archives[""], n_bytes=645_832_161)
    with pytest.raises(UserError, match="wanted 645,832,161: it is another file"):
        fetch.fetch(archive, tmp_path / "mine", server.url, 5.0, QUIET)
    assert left(tmp_path) == []


def test_a_disk_without_room_is_told_before_anything_is_fetched(server, tmp_path, monkeypatch):
    offer(server, tmp_path, monkeypatch)
    archive = replace(fetch.SOURCES["esc50"].archives[""], needs_bytes=(1e17, 2e17))
    with pytest.raises(UserError, match=r"needs 300,000,000,000 MB free .* has [\d,]+ MB"):
        fetch.fetch(archive, tmp_path / "mine", server.url, 5.0, QUIET)
    assert server.asked == [] and left(tmp_path) == []


def test_a_folder_with_something_else_in_it_is_left_alone(server, tmp_path, monkeypatch):
    offer(server, tmp_path, monkeypatch)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years")
    assert "holds something else" in failed(server, tmp_path / "mine") and left(tmp_path / "mine") == ["thesis.tex"]


def test_who_comes_second_is_told_who_is_at_it(server, tmp_path, monkeypatch):
    offer(server, tmp_path, monkeypatch)
    lock = FolderLock(tmp_path, "fetching")
    try:
        assert f"process {os.getpid()} is fetching into" in failed(server, tmp_path / "mine")
    finally:
        lock.release()


def test_an_archive_that_lacks_what_was_wanted_is_told(server, tmp_path, monkeypatch):
    offer(server, tmp_path, monkeypatch)
    archive = replace(fetch.SOURCES["esc50"].archives[""], holds="ESC-51")
    with pytest.raises(UserError, match="holds no ESC-51/meta/esc50.csv"):
        fetch.fetch(archive, tmp_path / "mine", server.url, 5.0, QUIET)
    assert left(tmp_path) == ["ESC-50-33c8ce9e.zip"]


def test_killed_before_the_archive_is_removed_the_next_call_removes_it(server, tmp_path, monkeypatch):
    content = offer(server, tmp_path, monkeypatch)
    packed = tmp_path / "ESC-50-33c8ce9e.zip"

    unlink = Path.unlink

    def killed(path: Path, missing_ok: bool = False) -> None:
        if path.name == packed.name:
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        patch.setattr(fetch.shutil, "rmtree", lambda *args, **how: None)
        with pytest.raises(KeyboardInterrupt):
            fetch.fetch(fetch.SOURCES["esc50"].archives[""], tmp_path / "mine", server.url, 5.0, QUIET)
    assert packed.is_file() and (tmp_path / "mine" / "meta").is_dir()
    code, out, _ = got(server, "esc50", tmp_path / "mine")
    assert code == 0 and "nothing is fetched" in out and left(tmp_path) == ["mine"]
    packed.write_bytes(content)  # an archive of one's own
    assert got(server, "esc50", tmp_path / "mine")[0] == 0 and packed.is_file()


def test_ctrl_c_leaves_the_part_alone_and_the_rest_is_fetched_later(server, tmp_path, monkeypatch):
    server.slowly_s = 0.3
    offer(server, tmp_path, monkeypatch)
    content = server.content = os.urandom(1 << 20) + server.content  # which zip does not mind
    archive = fetch.SOURCES["esc50"].archives[""]
    archive = replace(archive, checksum=f"sha256:{hashlib.sha256(content).hexdigest()}")
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from sepbench import fetch; from sepbench.fetch import Archive, Source\nfrom sepbench.cli import main\n"
        f"fetch.SOURCES['esc50'].archives[''] = {archive!r}\n"
        f"main(['data', 'fetch', 'esc50', '--agree', '--to', {str(tmp_path / 'mine')!r}, '--mirror', {server.url!r}])"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    part = tmp_path / "ESC-50-33c8ce9e.zip.part"
    until_s = time.perf_counter() + 60
    while not (part.is_file() and part.stat().st_size > 100_000) and time.perf_counter() < until_s:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "stopped; the same command goes on where it stopped." in err, err
    assert left(tmp_path) == [part.name, f"{part.name}.json"]
    server.slowly_s = 0.0
    fetch.fetch(archive, tmp_path / "mine", server.url, 5.0, QUIET)
    assert left(tmp_path) == ["mine"] and server.asked[-1].startswith("bytes=")


# archives


def test_a_download_that_is_stopped_while_it_is_checked_is_not_fetched_again(server, tmp_path, monkeypatch):
    offer(server, tmp_path, monkeypatch)
    real = pooch.core.hash_matches

    def stopped(*given: object, **more: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr("pooch.core.hash_matches", stopped)
    assert got(server, "esc50", str(tmp_path / "to"))[0] == 130
    assert [name for name in left(tmp_path) if name.endswith(".part")] and not (tmp_path / "to").exists()
    monkeypatch.setattr("pooch.core.hash_matches", real)
    asked = len(server.asked)
    assert got(server, "esc50", str(tmp_path / "to"))[0] == 0
    assert len(server.asked) == asked and (tmp_path / "to").is_dir() and left(tmp_path) == ["to"]


def tar_of(folder: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(folder / "a.tar.gz", "w:gz") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return folder / "a.tar.gz"


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def zip_of(folder: Path, name: str, mode: int = stat.S_IFREG | 0o644) -> Path:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr(info, b"/etc/passwd")
    return folder / "a.zip"


def not_unpacked(archive: Path, said: str) -> None:
    shutil.rmtree(archive.parent / "in", ignore_errors=True)
    before = sorted(archive.parent.iterdir())
    with pytest.raises(UserError) as told:
        unpack(archive, archive.parent / "in" / "side", QUIET)
    assert said in str(told.value) and "\n" not in str(told.value)
    inside = [path for path in (archive.parent / "in").rglob("*") if not path.is_dir()]
    assert sorted(path for path in archive.parent.iterdir() if path.name != "in") == before
    assert all(path.is_relative_to(archive.parent / "in" / "side") and not path.is_symlink() for path in inside)


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/evil_of_sepbench", "..\\evil", "C:\\evil", "C:/evil"])
def test_no_name_leads_out_of_the_folder(tmp_path, name):
    not_unpacked(tar_of(tmp_path, (member(name), b"evil")), "leads out of its folder")
    not_unpacked(zip_of(tmp_path, name), "leads out of its folder")
    assert not Path("/tmp/evil_of_sepbench").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    not_unpacked(tar_of(tmp_path, (member("way", kind, "/etc"), b""), (member("way/evil"), b"evil")), "is a link or a device")


def test_links_in_a_zip_are_refused(tmp_path):
    not_unpacked(zip_of(tmp_path, "way", stat.S_IFLNK | 0o777), "is a link or a device")


def test_no_member_writes_over_another(tmp_path):
    not_unpacked(tar_of(tmp_path, (member("a"), b"1"), (member("a"), b"2")), "twice")


@pytest.mark.parametrize("content", [b"", b"no archive at all" * 100, None])
def test_a_damaged_archive_is_told(tmp_path, content):
    whole = tar_of(tmp_path, (member("a"), os.urandom(100_000))).read_bytes()
    (tmp_path / "a.tar.gz").write_bytes(whole[:50_000] if content is None else content)
    not_unpacked(tmp_path / "a.tar.gz", "is damaged")


def test_a_damaged_zip_is_told(tmp_path):
    content = zip_of(tmp_path, "a").read_bytes()
    (tmp_path / "a.zip").write_bytes(content.replace(b"/etc/passwd", b"/etc/passwe"))
    not_unpacked(tmp_path / "a.zip", "is damaged (Bad CRC-32")


def test_what_cannot_be_asked_for_is_told():
    assert "there is reverb and dry" in refused("data", "fetch", "fuss", "--room", "wet")
    assert "ESC-50 has none" in refused("data", "fetch", "esc50", "--room", "dry")
    assert "Did you mean 'esc50'?" in refused("data", "fetch", "esc05")
