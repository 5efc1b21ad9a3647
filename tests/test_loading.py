"""A folder that is no installed package behaves like one once it is loaded."""

from __future__ import annotations

import multiprocessing
import pickle
import sys
from pathlib import Path

import pytest

from sepbench.errors import UserError
from sepbench.loading import load_from

METHOD = """
from __future__ import annotations
from dataclasses import dataclass
from .network import WIDTH

@dataclass(frozen=True)
class Answer:
    value: int = WIDTH
"""


def write(folder: Path, width: int = 3) -> Path:
    folder.mkdir(parents=True)
    (folder / "method.py").write_text(METHOD)
    (folder / "network.py").write_text(f"WIDTH = {width}\n")
    return folder


@pytest.fixture(autouse=True)
def clean_imports(monkeypatch):
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("contest", "other", "sepbench_", "json_", "museval_")):
            del sys.modules[name]


def test_relative_imports_and_dataclasses_work(tmp_path):
    found = load_from(write(tmp_path / "contest" / "alpha"), "method.py", "Answer")
    assert found().value == 3
    assert found.__module__ == "contest.alpha.method"


def test_what_it_makes_can_be_pickled(tmp_path):
    found = load_from(write(tmp_path / "contest" / "alpha"), "method.py", "Answer")
    assert pickle.loads(pickle.dumps(found(7))) == found(7)


def test_a_spawned_process_can_unpickle_it(tmp_path):
    found = load_from(write(tmp_path / "contest" / "alpha"), "method.py", "Answer")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(repr, [found(7)]) == "Answer(value=7)"


def test_loading_twice_gives_the_same_class(tmp_path):
    folder = write(tmp_path / "contest" / "alpha")
    assert load_from(folder, "method.py", "Answer") is load_from(folder, "method.py", "Answer")


def test_another_folder_of_the_same_names_is_not_mistaken_for_it(tmp_path):
    first = load_from(write(tmp_path / "one" / "contest" / "alpha", 3), "method.py", "Answer")
    second = load_from(write(tmp_path / "two" / "contest" / "alpha", 4), "method.py", "Answer")
    assert (first().value, second().value) == (3, 4)


def test_two_folders_side_by_side_do_not_mix(tmp_path):
    found = [load_from(write(tmp_path / "contest" / name, i), "method.py", "Answer") for i, name in enumerate("ab")]
    assert [each().value for each in found] == [0, 1]


def test_a_package_file_runs_first(tmp_path):
    folder = write(tmp_path / "contest" / "alpha")
    (folder / "__init__.py").write_text("FACTOR = 5\n")
    (folder / "network.py").write_text("from . import FACTOR\nWIDTH = 2 * FACTOR\n")
    assert load_from(folder, "method.py", "Answer")().value == 10


def test_a_missing_file_or_class_is_named_with_the_nearest(tmp_path):
    folder = write(tmp_path / "contest" / "alpha")
    with pytest.raises(UserError, match="no file metod.py. Did you mean 'method.py'"):
        load_from(folder, "metod.py", "Answer")
    with pytest.raises(UserError, match="no class Anser. Did you mean 'Answer'"):
        load_from(folder, "method.py", "Anser")


def test_a_folder_above_that_bears_an_installed_name_hides_no_installed_package(tmp_path):
    for above in ("sepbench", "json", "museval"):
        found = load_from(write(tmp_path / above / "method"), "method.py", "Answer")
        assert found().value == 3 and found.__module__ == f"{above}_.method.method"
    assert sys.modules["sepbench"].__file__ and "sepbench_" in sys.modules


def test_the_files_of_an_installed_package_keep_its_name(tmp_path, monkeypatch):
    folder = write(tmp_path / "installed_contest" / "alpha")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_from(folder, "method.py", "Answer", "installed_contest.alpha").__module__ == "installed_contest.alpha.method"
