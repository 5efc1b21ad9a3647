"""Damaged runs: one clear line each, no traceback; what shows many runs shows the others."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from made_up_runs import frozen, made_up, put
from sepbench.cli import main
from sepbench.results import RunFolder, read_rows, read_runs
from sepbench.results_whole import whole_runs

FILES = ("run.json", "config.yaml", "metrics.json", "rows.parquet", "decisions.jsonl")
SHOWING = ("table", "ls", "merge")  # these leave a damaged run out and go on
READ_BY = {  # which commands read a file; the others need not mind
    "rows.parquet": ("table", "ls", "merge", "check", "compare"), "decisions.jsonl": ("table", "ls", "merge"),
}  # fmt: skip
Damage = Callable[[Path], object]


def half(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def noise(file: Path) -> None:
    file.write_bytes(random.Random(1).randbytes(2000))


def noise_within(file: Path) -> None:
    held = file.read_bytes()
    start = len(held) // 3
    file.write_bytes(held[:start] + random.Random(2).randbytes(60) + held[start + 60 :])


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


DAMAGES: dict[str, Damage] = {
    "cut in half": half,
    "empty": lambda file: file.write_bytes(b""),
    "noise": noise,
    "noise within": noise_within,
    "UTF-16": lambda file: file.write_bytes("[1]".encode("utf-16")),
    "a folder": folder,
    "too deep": lambda file: file.write_text("[" * 100_000),
    "a number": lambda file: file.write_text("3"),
}


NONE = ("decisions.jsonl", "empty")  # so it is where nothing was decided


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two whole runs, of which one will be damaged; beside them what they are held against."""
    root = tmp_path_factory.mktemp("sound")
    put(root / "runs", seed=1)
    put(root / "runs", made_up(), seed=2, decisions={"s1": [{"case": "I"}]})
    frozen(root / "reference")
    return root


@pytest.fixture
def place(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "place"))


def two(place: Path) -> tuple[Path, Path]:
    """The run that stays whole, and the one to be damaged."""
    first, second = sorted((place / "runs").iterdir(), key=lambda run: (run / "decisions.jsonl").is_file())
    return first, second


def said(place: Path, damaged: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[tuple[str, int, list[str], str]]:
    """Each command with its exit code, its lines about a run left out or refused, and what else it printed."""
    runs, mine = place / "runs", place / "mine"
    mine.mkdir(exist_ok=True)
    commands = {
        "table": [runs], "ls": [runs], "merge": [mine, runs, "--dry-run"], "check": [runs, "--against", place / "reference"],
        "compare": [damaged, next((place / "reference").glob("*/run.json")).parent, "--metric", "si_sdri"],
    }  # fmt: skip
    for command, given in commands.items():
        with pytest.raises(SystemExit) as stop:
            main([command, *map(str, given)])
        told = capsys.readouterr()
        left_out = [line for line in told.out.splitlines() if line.startswith("left out: ")]
        yield command, int(stop.value.code or 0), told.err.splitlines() + left_out, told.out


@pytest.mark.parametrize(("file", "damage"), [(file, damage) for file in FILES for damage in DAMAGES if (file, damage) != NONE])
def test_a_damaged_file_is_named_in_one_line(
    place: Path, capsys: pytest.CaptureFixture[str], file: str, damage: str
) -> None:
    whole, damaged = two(place)
    DAMAGES[damage](damaged / file)
    for command, code, lines, out in said(place, damaged, capsys):
        reads = command in READ_BY.get(file, (command,))
        assert len(lines) == reads, f"{command}: {lines}"
        assert code == (2 if reads and command not in SHOWING else 0), f"{command}: {lines}"
        assert all(str(damaged) in line and file in line for line in lines)
        if command == "ls":
            assert whole.name in out


@pytest.mark.parametrize(
    ("file", "told_by"),
    [
        ("run.json", ("table", "ls", "merge", "check", "compare")),
        ("metrics.json", ("table", "ls", "merge", "check", "compare")),
        ("rows.parquet", ("table", "ls", "merge", "check", "compare")),
        ("config.yaml", ()),
        ("decisions.jsonl", ()),
    ],
)
def test_a_file_that_is_not_there_is_told_by_who_needs_it(
    place: Path, capsys: pytest.CaptureFixture[str], file: str, told_by: tuple[str, ...]
) -> None:
    whole, damaged = two(place)
    (damaged / file).unlink()
    for command, code, lines, _ in said(place, damaged, capsys):
        if (file, command) != ("run.json", "check"):  # a folder without run.json and metrics.json is no run at all
            assert len(lines) == (command in told_by), f"{command}: {lines}"
            assert code == (2 if command in told_by and command not in SHOWING else 0)


WRONG: dict[str, tuple[Callable[[dict], object], str]] = {
    "format": (lambda run: run.update(format=99), "written by format 99; this sepbench reads format 2"),
    "format of another kind": (lambda run: run.update(format=[1]), r"written by format \[1\]"),
    "no format": (lambda run: run.pop("format"), "no format in it"),
    "no id": (lambda run: run.pop("id"), "no id in it"),
    "id": (lambda run: run.update(id=7), "id is 7, not text"),
    "state": (lambda run: run.update(state="done"), "state is 'done', not running or finished"),
    "started": (lambda run: run.update(started=7), "started is 7, not text"),
    "wall_s": (lambda run: run.update(wall_s={"fit": "long"}), "wall_s.fit is 'long', not a number"),
    "cost": (lambda run: run.update(cost={"parameters": True}), "cost.parameters is True, not a number"),
    "tables": (lambda run: run.update(tables={"2": {"metric": "si_sdri"}}), "tables.2.rows is None, not a list"),
    "columns": (
        lambda run: run.update(tables={"2": {"metric": "si_sdri", "rows": [], "columns": [1]}}),
        r"tables.2.columns.0 is 1, not a mapping",
    ),
    "provenance": (lambda run: run["provenance"].update(scenes_hash={"test": 3}), "scenes_hash.test is 3, not text"),
    "config": (lambda run: run["config"].update(seed=5), "the configuration in it has the hash [0-9a-f]{8}, but"),
    "config_hash": (lambda run: run.update(config_hash="0" * 64), "config_hash is 00000000"),
    "id of another": (lambda run: run.update(id=run["id"][:-8] + "0" * 8), "the id ends with 00000000"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_run_json_that_holds_something_else_is_named_with_what_it_holds(place: Path, name: str) -> None:
    whole, damaged = two(place)
    change, wanted = WRONG[name]
    held = json.loads((damaged / "run.json").read_text())
    change(held)
    (damaged / "run.json").write_text(json.dumps(held))
    passed_over: list[str] = []
    assert [run.path for run in read_runs(place / "runs", passed_over)] == [whole]
    assert len(passed_over) == 1 and passed_over[0].startswith(f"{damaged / 'run.json'}: ")
    with pytest.raises(Exception, match=wanted):
        read_runs(place / "runs")


def test_a_folder_named_for_another_configuration_is_named(place: Path) -> None:
    _, damaged = two(place)
    damaged.rename(other := damaged.with_name(damaged.name[:-8] + "0123abcd"))
    passed_over: list[str] = []
    assert len(read_runs(place / "runs", passed_over)) == 1
    assert str(other) in passed_over[0] and "its folder with 0123abcd" in passed_over[0]


def test_a_folder_may_have_a_name_of_ones_own(place: Path) -> None:
    two(place)[1].rename(place / "runs" / "the best of last week")
    assert len(read_runs(place / "runs")) == 2


def test_a_configuration_edited_for_people_alone_is_named_and_its_layout_may_change(place: Path) -> None:
    file = two(place)[1] / "config.yaml"
    text = file.read_text()
    file.write_text("# mine\n" + text.replace('recipe: "weak_label"', "recipe:   weak_label"))
    assert len(read_runs(place / "runs")) == 2
    file.write_text(text.replace("epochs: 5", "epochs: 50"))
    assert text != file.read_text()
    passed_over: list[str] = []
    assert len(read_runs(place / "runs", passed_over)) == 1
    assert passed_over[0].startswith(f"{file}: does not say what run.json does")


def test_rows_that_were_changed_on_disk_are_found_by_their_checksums(place: Path) -> None:
    file = two(place)[1] / "rows.parquet"
    held = bytearray(file.read_bytes())
    held[200] ^= 1  # one bit of a page
    file.write_bytes(held)
    with pytest.raises(Exception, match="rows.parquet: cannot be read"):
        read_rows(file.parent)


@pytest.mark.parametrize("by", [1e-3, -0.5])
def test_figures_that_are_not_those_of_the_rows_are_named(place: Path, capsys: pytest.CaptureFixture[str], by: float) -> None:
    whole, damaged = two(place)
    file = damaged / "metrics.json"
    held = json.loads(file.read_text())
    held["test"]["si_sdri"]["all"]["mean"] += by
    file.write_text(json.dumps(held))
    for command, _, lines, out in said(place, damaged, capsys):
        if command in ("table", "ls"):
            assert len(lines) == 1 and f"{file}: test.si_sdri is" in lines[0] and "by the rows beside it" in lines[0]
            assert command == "table" or whole.name in out


def test_figures_that_are_gone_are_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, damaged = two(place)
    (damaged / "metrics.json").write_text("{}")
    for command, _, lines, out in said(place, damaged, capsys):
        if command in ("table", "ls"):
            assert len(lines) == 1 and f"{damaged / 'metrics.json'}: holds no figures of test" in lines[0]
            assert command == "table" or whole.name in out


def test_a_run_that_never_had_rows_is_whole(place: Path) -> None:
    _, damaged = two(place)
    held = json.loads((damaged / "run.json").read_text())
    (damaged / "run.json").write_text(json.dumps({**held, "wall_s": {"plan": 1.0}}))
    (damaged / "rows.parquet").unlink()
    passed_over: list[str] = []
    assert len(whole_runs(place / "runs", passed_over)) == 2 and not passed_over


@pytest.mark.parametrize(
    "given",
    [
        ["table", ""], ["ls", ""], ["table", "RUNS", "--task", "x", "--by", ""], ["table", "RUNS", "--columns", ","],
        ["table", "RUNS", "-o", ""], ["merge", "RUNS", "-o", ""], ["check", "RUNS", "--against", ""],
        ["report", "RUNS", "-o", ""],
    ],
)  # fmt: skip
def test_an_empty_name_is_refused(place: Path, capsys: pytest.CaptureFixture[str], given: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([str(place / "runs") if word == "RUNS" else word for word in given])
    said = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and len(said) == 1 and ("empty name" in said[0] or "got ','" in said[0] or "got ''" in said[0])


def test_a_file_is_no_folder_of_results(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "file").touch()
    with pytest.raises(SystemExit) as stop:
        main(["table", str(place / "file")])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and said.endswith(f"{place / 'file'} is a file, wanted a folder: choose another.\n")


def test_what_lies_in_hidden_folders_is_no_run(place: Path) -> None:
    two(place)[1].rename(place / "runs" / ".aside")
    assert len(read_runs(place / "runs")) == 1


def test_of_two_runs_of_one_id_with_other_figures_the_older_is_named(tmp_path: Path) -> None:
    older, newer = put(tmp_path / "a", made_up(shift={"si_sdri": 1.0})), put(tmp_path / "b")
    copy = Path(shutil.copytree(newer, tmp_path / "c" / newer.name))
    for run, day in ((older, "01"), (newer, "02"), (copy, "02")):
        held = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps({**held, "finished": f"2026-11-{day}"}))
    passed_over: list[str] = []
    assert [run.path for run in whole_runs(tmp_path, passed_over)] == [newer, copy]
    assert len(passed_over) == 1 and passed_over[0].startswith(f"{older}: ") and "sepbench merge" in passed_over[0]


@pytest.mark.parametrize(
    ("command", "code", "wanted"),
    [
        (["table"], 0, "No finished runs in"),
        (["ls"], 0, "No runs here yet"),
        (["check", "--against", "REFERENCE"], 3, "there is no finished run"),
        (["merge", "REFERENCE"], 2, "no finished|no runs in it"),
    ],
)
def test_an_empty_folder_of_results_is_said_to_be_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str], code: int, wanted: str
) -> None:
    (tmp_path / "empty").mkdir()
    reference = str(frozen(tmp_path / "reference"))
    name, *rest = [reference if word == "REFERENCE" else word for word in command]
    given = [name, *rest, str(tmp_path / "empty")] if name == "merge" else [name, str(tmp_path / "empty"), *rest]
    with pytest.raises(SystemExit) as stop:
        main(given)
    told = capsys.readouterr()
    assert (stop.value.code or 0) == code
    assert any(word in told.out + told.err for word in wanted.split("|"))


def test_a_run_without_its_scoring_is_interrupted_and_no_more(tmp_path: Path) -> None:
    config = {"recipe": "x", "profile": "quick", "task": {"name": "t", "corpus": "synthetic"}}
    RunFolder.open_or_create(tmp_path, config, {}, None, {}).close()
    assert [run.state for run in read_runs(tmp_path)] == ["interrupted"]
