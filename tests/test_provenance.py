"""Where a figure comes from is written down, and without loading anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sepbench.provenance import provenance


def git(folder: Path, *arguments: str) -> None:
    roles = ("AUTHOR", "COMMITTER")
    who = {f"GIT_{role}_{what}": "someone@example.org" for role in roles for what in ("NAME", "EMAIL")}
    environment = {**os.environ, **who, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, env=environment)


@pytest.fixture
def committed(tmp_path: Path) -> Path:
    (tmp_path / "a.py").write_text("a = 1\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    return tmp_path


def test_a_clean_tree_is_its_commit_and_nothing_else(committed: Path) -> None:
    facts = provenance(committed, seeds={"train": 0}, corpus={"hash": "abc", "clips": 7})
    assert len(facts["git_commit"]) == 40
    assert facts["dirty_diff_hash"] is None
    assert (facts["seeds"], facts["corpus_hash"], facts["corpus_clips"]) == ({"train": 0}, "abc", 7)


def test_every_change_to_the_tree_is_seen(committed: Path) -> None:
    def dirty() -> str:
        return provenance(committed, None, None)["dirty_diff_hash"]

    (committed / "a.py").write_text("a = 2\n")
    edited = dirty()
    (committed / "b.py").write_text("")
    added = dirty()
    (committed / "a.py").write_text("a = 1\n")
    assert len({None, edited, added, dirty()}) == 4


def test_outside_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    facts = provenance(tmp_path, None, None)
    assert facts["git_commit"] is None
    assert facts["dirty_diff_hash"] is None
    assert provenance(None, None, None)["git_commit"] is None


def test_packages_python_and_machine_are_named_and_nothing_heavy_is_loaded(repo: Path) -> None:
    code = (
        "import json, sys; from sepbench.provenance import provenance; facts = provenance(None, 1, None);"
        "print(json.dumps([facts, sorted({'torch', 'numpy', 'pandas', 'pyarrow'} & set(sys.modules))]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(repo / "benchmark")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    facts, loaded = json.loads(done.stdout)
    assert loaded == []
    assert {"torch", "numpy", "scipy", "scikit-learn", "sepbench"} <= set(facts["packages"])
    assert facts["python"].split(".")[0] == "3"
    assert facts["machine"]["cores"] >= 1
    assert facts["machine"]["gpu"] is None
