"""What arrives from another machine takes its place whole, whoever is killed meanwhile; and who waits for it holds the lock."""

from __future__ import annotations

import io
import os
import shutil
import signal
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sepbench import results_arriving
from sepbench.errors import UserError
from sepbench.results import RunFolder, read_runs, run_id
from sepbench.results_arriving import recover
from sepbench.storage import FolderLock, locked
from sepbench.sweep_pack import packed, unpack
from test_cli import call
from test_results import CONFIG, FACTS, rows
from test_sweep import recipe_that, states, words

CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "open")  # audit events: what a kill may fall before


def run_in(root: Path, finished: bool) -> Path:
    """A run of CONFIG, finished or stopped."""
    with RunFolder.open_or_create(root, CONFIG, {}, None, FACTS) as folder:
        folder.append_rows("test", 0, rows("a", "b"))
        if finished:
            folder.finish({"score": 1.0})
    return folder.path


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != FolderLock.NAME)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def killed_before(change: int, do: Callable[[], None]) -> bool:
    """Have a fork `do` it, and die before the file system is changed for the `change`-th time; False where it came to its end."""
    pid = os.fork()
    if pid == 0:
        n = iter(range(change + 1))

        def hook(event: str, arguments: tuple) -> None:
            if event in CHANGES and next(n) == change:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(hook)
            do()
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


def each_moment(do: Callable[[], None]) -> Iterator[int]:
    change = 0
    while killed_before(change, do):
        yield change
        change += 1
    assert change > 10


def test_a_run_that_arrives_as_its_receiver_is_killed_is_the_old_one_or_the_new(tmp_path: Path):
    sent, results = run_in(tmp_path / "sent", finished=True), tmp_path / "runs"
    place, data, stopped = results / sent.name, packed(sent), run_in(tmp_path / "stopped", finished=False)
    shutil.copytree(stopped, place)
    before, after, seen = content(stopped), content(sent), set()

    def receive() -> None:
        lock = FolderLock(place)
        unpack(data, place)
        lock.release()

    for change in each_moment(receive):
        assert [run.path.name for run in read_runs(results)] in ([place.name], []), change  # nothing else is read as a run
        assert not place.exists() or content(place) in (before, after), change
        recover(results)
        assert [path.name for path in results.iterdir()] == [place.name], change
        seen.add(read_runs(results)[0].state)
        assert content(place) in (before, after), change
        unpack(packed(sent), place)
        assert content(place) == after and not list(results.glob(".*")), change
        shutil.rmtree(place)
        shutil.copytree(stopped, place)
    assert seen == {"interrupted", "finished"}
    assert content(place) == after and not list(results.glob(".*")) and not (place / FolderLock.NAME).exists()


def test_the_next_that_arrives_clears_what_the_one_before_has_left(tmp_path: Path):
    sent = run_in(tmp_path / "sent", finished=True)
    place = tmp_path / "runs" / sent.name
    for _ in each_moment(lambda: unpack(packed(sent), place)):
        assert not place.exists() or content(place) == content(sent)
        unpack(packed(sent), place)
        assert [path.name for path in place.parent.iterdir()] == [place.name] and content(place) == content(sent)


def test_the_next_sweep_clears_what_was_arriving_as_one_was_killed(tmp_path: Path):
    recipe, left = recipe_that(tmp_path / "tiny", "pass"), tmp_path / "runs/.arriving-tiny-0"
    (left / "new").mkdir(parents=True)
    assert call("sweep", *words(recipe, results=tmp_path / "runs"))[0] == 0
    assert not left.exists() and len(read_runs(tmp_path / "runs")) == 1


def test_what_arrives_just_now_is_left_alone(tmp_path: Path):
    for name, of in (("a", "a"), ("b", ".arriving-b/old")):
        (tmp_path / f".arriving-{name}/new").mkdir(parents=True)
        (tmp_path / of).mkdir()
        lock = FolderLock(tmp_path / of)
        recover(tmp_path)
        assert (tmp_path / f".arriving-{name}/new").is_dir()
        lock.release()
        recover(tmp_path)
        assert not (tmp_path / f".arriving-{name}").exists()
    assert (tmp_path / "b").is_dir()  # its old one had made room, so the new one was whole


def test_a_plain_run_takes_what_was_arriving_whole_as_its_receiver_was_killed(tmp_path: Path):
    recipe = recipe_that(tmp_path / "tiny", "pass")
    line = words(recipe, results=tmp_path / "runs")
    assert call("run", *line)[0] == 0
    (run,) = read_runs(tmp_path / "runs")
    before, building = content(run.path), tmp_path / f"runs/.arriving-{run.path.name}"
    (building / "old").mkdir(parents=True)
    run.path.rename(building / "new")
    code, _, err = call("run", *line)
    assert code == 0 and "is finished" in err and content(run.path) == before and not building.exists()


def test_nobody_receives_a_run_while_its_arrival_is_ended(tmp_path: Path, monkeypatch):
    for name, of in (("a", "a"), ("b", ".arriving-b/old"), ("c", "c")):
        (tmp_path / f".arriving-{name}/new").mkdir(parents=True)
        if name != "c":  # of which nothing had been there
            (tmp_path / of).mkdir()
        held = []

        def clear(building: Path, place: Path, of: str = of, held: list = held) -> None:
            held.append(locked(tmp_path / of))
            shutil.rmtree(building)

        monkeypatch.setattr(results_arriving, "clear", clear)
        recover(tmp_path)
        assert held == [True]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


@pytest.mark.parametrize("name", ["../beside.txt", "/absolute.txt", "a/../../beside.txt"])
def test_what_leads_out_of_its_folder_is_not_unpacked(tmp_path: Path, name: str):
    data = tar(name, tarfile.REGTYPE)
    with pytest.raises(UserError, match="leads out of its folder"):
        unpack(data, tmp_path / "runs" / "a")
    assert [path.name for path in tmp_path.rglob("*")] == ["runs"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_only_files_are_unpacked(tmp_path: Path, kind: bytes):
    with pytest.raises(UserError, match="is no file"):
        unpack(tar("a", kind), tmp_path / "runs" / "a")
    assert [path.name for path in tmp_path.rglob("*")] == ["runs"]


def tar(name: str, kind: bytes) -> bytes:
    buffer, member = io.BytesIO(), tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/hostname"
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(member)
    return buffer.getvalue()


def test_who_holds_the_lock_of_a_folder_may_replace_it_and_takes_no_other_lock_away(tmp_path: Path):
    sent = run_in(tmp_path / "sent", finished=True)
    place = tmp_path / "runs" / sent.name
    place.mkdir(parents=True)
    lock = FolderLock(place)
    with pytest.raises(UserError, match=f"process {os.getpid()} is writing this run"):
        run_in(place.parent, finished=True)
    unpack(packed(sent), place)
    other = FolderLock(place)  # of who runs it anew
    lock.release()
    assert locked(place)
    other.release()
    assert content(place) == content(sent) and not (place / FolderLock.NAME).exists()


def test_a_folder_with_nothing_but_a_lock_is_no_run(tmp_path: Path):
    recipe = recipe_that(tmp_path / "tiny", "pass")
    line = words(recipe, results=tmp_path / "runs")
    assert call("run", *line)[0] == 0
    (run,) = read_runs(tmp_path / "runs")
    other = run.path.with_name(run_id({**run.config, "seed": 1}, run.changed))
    other.mkdir()
    lock = FolderLock(other)
    plan = ["sweep", *line, "--seed", "0,1", "--plan"]
    assert states(call(*plan)[1]) == {"seed=0": "cached", "seed=1": "running: by another process"}
    table = call("table", str(tmp_path / "runs"))
    assert table[0] == 0 and [each.path for each in read_runs(tmp_path / "runs")] == [run.path]
    assert other.name not in call("ls", str(tmp_path / "runs"))[1]
    code, _, err = call("run", *line, "--seed", "1")
    assert code == 2 and f"process {os.getpid()} is writing this run" in err and other.is_dir()
    os.close(lock.handle)  # as where its process was killed
    lock.handle = -1
    assert (other / FolderLock.NAME).is_file()
    assert states(call(*plan)[1]) == {"seed=0": "cached", "seed=1": "missing"}
    assert call("run", *line, "--seed", "1")[0] == 0 and len(read_runs(tmp_path / "runs")) == 2
