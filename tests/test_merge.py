"""Two results folders become one: no row lost, the same run kept once, conflicts named."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import pytest

from made_up_runs import made_up, put
from sepbench import merge_files
from sepbench.cli_merge import merge as command
from sepbench.errors import UserError
from sepbench.merge import CONFLICT, FILLED, LEFT_OUT, TAKEN, THERE, merge
from sepbench.options import Door
from sepbench.results import RunFolder, read_rows, read_runs
from sepbench.results_whole import whole_runs
from sepbench.storage import FolderLock
from sepbench.tables import make_tables


def verdicts(*folders: Path, out: Path | None = None, dry_run: bool = False) -> list[str]:
    return [fate.verdict for fate in merge(folders, out, dry_run)]


def contents(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def rows_of(root: Path) -> dict[str, list[float]]:
    """The values of every run below `root`, by its id."""
    return {run.id: read_rows(run.path)["value"].tolist() for run in read_runs(root)}


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Folders of two people: each has a run of its own, and both have copies of a third."""
    a, b = tmp_path / "a", tmp_path / "b"
    put(a, seed=1)
    put(b / "deep", seed=2)
    shutil.copytree(put(a, seed=3), b / "shared")
    return a, b


@pytest.fixture
def at_odds(tmp_path: Path) -> tuple[Path, Path]:
    """Folders of two people that hold a run of one id with other rows."""
    return put(tmp_path / "a").parent, put(tmp_path / "b", made_up(shift={"si_sdri": 1.0})).parent


def called(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        Door("sepbench", commands={"merge": command})(["merge", *map(str, arguments)])
    return int(stop.value.code or 0)


def test_no_row_is_lost_and_the_same_run_is_kept_once(two: tuple[Path, Path]) -> None:
    before = {**rows_of(two[0]), **rows_of(two[1])}
    theirs = contents(two[1])
    assert sorted(verdicts(*two)) == [THERE, TAKEN]
    assert rows_of(two[0]) == before and len(before) == 3
    assert len(read_runs(two[0])) == 3  # each of them once
    assert contents(two[1]) == theirs


def test_merging_once_more_changes_nothing(two: tuple[Path, Path]) -> None:
    merge(two, None, False)
    merged = contents(two[0])
    assert set(verdicts(*two)) == {THERE}
    assert contents(two[0]) == merged


def test_a_new_folder_leaves_those_it_is_merged_of_as_they_are(two: tuple[Path, Path], tmp_path: Path) -> None:
    before = [contents(each) for each in two]
    assert verdicts(*two, out=tmp_path / "new" / "c").count(TAKEN) == 3
    assert [contents(each) for each in two] == before
    assert rows_of(tmp_path / "new" / "c") == {**rows_of(two[0]), **rows_of(two[1])}


def test_a_dry_run_says_the_same_and_writes_nothing(at_odds: tuple[Path, Path], tmp_path: Path) -> None:
    put(at_odds[1], seed=1)
    before = contents(tmp_path)
    said = merge(at_odds, None, True)
    assert contents(tmp_path) == before
    assert said == merge(at_odds, None, False)
    assert contents(tmp_path) != before


def test_runs_of_one_id_with_other_rows_are_both_kept_and_named(
    at_odds: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    mine, theirs = (read_rows(read_runs(each)[0].path)["value"].tolist() for each in at_odds)
    for _ in range(2):  # the second time nothing is copied, and the conflict is named again
        assert called(*at_odds) == 1
        told = capsys.readouterr()
        assert "other rows (24 of 144)" in told.err and len(told.err.splitlines()) == 1
        first, second = read_runs(at_odds[0])
        assert [rows_of(at_odds[0])[run.id] for run in (first, second)] == [mine, theirs]
        assert second.id.startswith(f"{first.id}~") and second.path.name in told.err
    (table,) = make_tables(whole_runs(at_odds[0], []), None)
    assert len({line.cells[0].show() for line in table.rows}) == 2


def test_the_order_of_folders_decides_nothing_but_who_bears_the_mark(at_odds: tuple[Path, Path], tmp_path: Path) -> None:
    put(at_odds[1], seed=1)
    for name, order in (("ab", at_odds), ("ba", at_odds[::-1])):
        assert verdicts(*order, out=tmp_path / name).count(CONFLICT) == 1
    one, other = (sorted(rows_of(tmp_path / name).values()) for name in ("ab", "ba"))
    assert one == other
    assert set(verdicts(tmp_path / "ab", tmp_path / "ba")) <= {THERE, CONFLICT}
    assert sorted(rows_of(tmp_path / "ab").values()) == one


def test_of_two_makings_of_a_run_the_newest_is_kept_whatever_the_order(tmp_path: Path) -> None:
    folders = [put(tmp_path / name).parent for name in ("a", "b")]
    for folder, day in zip(folders, ("02", "01")):
        say(read_runs(folder)[0].path, finished=f"2026-11-{day}")
    for name, order in (("ab", folders), ("ba", folders[::-1])):
        assert verdicts(*order, out=tmp_path / name)[0] == TAKEN
    assert contents(tmp_path / "ab") == contents(tmp_path / "ba") == contents(tmp_path / "a")


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"weights_hash": "0badcafe"}, "other weights (a5a5a5a5 and 0badcafe)"),
        ({"facts": {"corpus_hash": "f" * 12}}, "other sounds (a1b2c3d4 and ffffffff)"),
    ],
)
def test_other_weights_or_sounds_are_a_conflict_though_the_rows_are_the_same(tmp_path: Path, told: dict, said: str) -> None:
    folders = put(tmp_path / "a", weights_hash="a5a5a5a5").parent, put(tmp_path / "b", **told).parent
    (fate,) = merge(folders, None, False)
    assert fate.verdict == CONFLICT and said in fate.line
    assert len(read_runs(folders[0])) == 2


@pytest.mark.parametrize("order", list(itertools.permutations("abc")))
@pytest.mark.parametrize(
    ("told", "said"),
    [
        ([{}, {"weights_hash": "aaaaaaaa"}, {"weights_hash": "cccccccc"}], "other weights"),
        pytest.param(
            [{"facts": {"corpus_hash": None}}, {}, {"facts": {"corpus_hash": "f" * 12}}], "other sounds",
            marks=pytest.mark.xfail(reason="a run without the hash of its corpus bears the mark of another's", strict=False),
        ),
    ],
)
def test_a_run_that_knows_less_hides_no_conflict_of_two_others(tmp_path: Path, order: tuple, told: list, said: str) -> None:
    for name, facts in zip("abc", told):
        run = put(tmp_path / name, **facts)
        (run / "weights").mkdir()
        if name != "a":
            (run / "weights" / "net.bin").write_bytes(name.encode())
    for _ in range(2):
        fates = merge([tmp_path / name for name in order], tmp_path / "merged", False)
        assert [said in fate.line for fate in fates if fate.verdict == CONFLICT] == [True]
    assert len(read_runs(tmp_path / "merged")) == 2
    assert {file.read_bytes() for file in (tmp_path / "merged").rglob("net.bin")} == {b"b", b"c"}


def test_what_one_making_lacks_comes_from_the_other(tmp_path: Path) -> None:
    a = put(tmp_path / "a")
    b = Path(shutil.copytree(a, tmp_path / "b" / a.name))
    (b / "weights").mkdir()
    (b / "weights" / "net.bin").write_bytes(b"learnt")
    (a / "history-net.csv").write_text("loss\n1\n")
    (fate,) = merge([a.parent, b.parent], None, False)
    assert fate.verdict == FILLED and "gets weights of" in fate.line
    assert (a / "weights" / "net.bin").read_bytes() == b"learnt" and (a / "history-net.csv").is_file()
    assert verdicts(b.parent, a.parent) == [FILLED]
    assert contents(a) == contents(b)


def test_interrupted_and_damaged_runs_are_named_and_not_copied(tmp_path: Path) -> None:
    put(tmp_path / "a")
    begun = put(tmp_path / "b", seed=1, finished=False)
    cut = put(tmp_path / "b", seed=2) / "rows.parquet"
    cut.write_bytes(cut.read_bytes()[:-9])
    (put(tmp_path / "b", seed=3) / "metrics.json").unlink()
    fates = merge([tmp_path / "a", tmp_path / "b"], None, False)
    assert [fate.verdict for fate in fates] == [LEFT_OUT] * 3
    lines = "\n".join(fate.line for fate in fates)
    assert f"{begun}: interrupted" in lines and f"{cut}: cannot be read" in lines and "metrics.json" in lines
    assert len(lines.splitlines()) == 3
    assert len(read_runs(tmp_path / "a")) == 1


def test_a_whole_run_comes_beside_an_interrupted_one_of_its_id(tmp_path: Path) -> None:
    begun = put(tmp_path / "a", finished=False)
    put(tmp_path / "b")
    assert verdicts(tmp_path / "a", tmp_path / "b") == [TAKEN]
    assert begun.is_dir() and {run.state for run in read_runs(tmp_path / "a")} == {"interrupted", "finished"}
    assert verdicts(tmp_path / "a", tmp_path / "b") == [THERE]


def test_a_run_that_is_being_written_stops_the_merge_before_anything_is_copied(two: tuple[Path, Path]) -> None:
    busy = put(two[1], seed=4, finished=False)
    before, lock = contents(two[0]), FolderLock(busy)
    try:
        with pytest.raises(UserError, match=rf"{busy}: being written now"):
            merge(two, None, False)
    finally:
        lock.release()
    assert contents(two[0]) == before


@pytest.mark.parametrize("n_files", [0, 3, 5])
def test_an_interrupted_merge_can_be_given_again(
    two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_files: int
) -> None:
    merge(two, tmp_path / "whole", False)
    written, write = [], merge_files.write_bytes

    def stopped(path: Path, data: bytes) -> None:
        if len(written) == n_files:
            raise KeyboardInterrupt
        written.append(path)
        write(path, data)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(merge_files, "write_bytes", stopped)
        merge(two, tmp_path / "c", False)
    for run in read_runs(tmp_path / "c"):
        assert contents(run.path) == contents(tmp_path / "whole" / run.path.relative_to(tmp_path / "c"))
    merge(two, tmp_path / "c", False)
    assert contents(tmp_path / "c") == contents(tmp_path / "whole")


def test_a_run_that_was_set_aside_when_the_power_went_is_put_back(two: tuple[Path, Path]) -> None:
    before = contents(two[0])
    run = read_runs(two[0])[0].path
    aside = run.with_name(f"{merge_files.BUILDING}{run.name}")
    aside.mkdir()
    run.rename(aside / "old")
    assert len(read_runs(two[0])) == 1  # what lies in a hidden folder is no run
    merge(two, None, False)
    assert contents(two[0]).items() >= before.items() and not aside.exists()


def test_a_place_that_something_else_has_taken_costs_no_run(tmp_path: Path) -> None:
    taken = put(tmp_path / "b" / "deep", seed=1).name
    (tmp_path / "a").mkdir()
    shutil.copytree(put(tmp_path / "elsewhere"), tmp_path / "a" / "deep")  # a run where a folder of runs should be
    assert verdicts(tmp_path / "a", tmp_path / "b") == [TAKEN]
    assert {run.path.name for run in read_runs(tmp_path / "a")} == {"deep", taken}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a"], "with what"),
        (["a", "a"], "lies in the other"),
        (["a", "a/below"], "lies in the other"),
        (["a", "nowhere"], "no such folder of results"),
        (["nowhere", "a"], "nowhere: no such folder of results. Name the one"),
        (["a", "empty"], "no runs in it"),
        (["RUN", "b"], "is a run"),
    ],
)
def test_what_cannot_be_merged_is_said_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], names: list[str], said: str
) -> None:
    run = put(tmp_path / "a")
    put(tmp_path / "b")
    for name in ("empty", "a/below"):
        (tmp_path / name).mkdir()
    assert called(*(run if name == "RUN" else tmp_path / name for name in names)) == 2
    told = capsys.readouterr()
    assert said in told.err and len(told.err.splitlines()) == 1 and not told.out


def test_statistics_alone_are_a_run_too(tmp_path: Path) -> None:
    config = {"recipe": "counted", "profile": "quick", "seed": 0, "task": {"name": "t", "corpus": "synthetic"}}
    for name, mean in (("a", 0.4), ("c", 0.5)):
        with RunFolder.open_or_create(tmp_path / name, config, {}, None, {}) as run:
            run.finish({}, metrics={"train": {"activity_prior": {"all": {"mean": mean}}}})
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert verdicts(*(tmp_path / name for name in "abc")) == [THERE, CONFLICT]


def say(run: Path, **facts: object) -> None:
    held = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**held, **facts}, indent=2))
