"""`sepbench new` and `sepbench copy`: what they write runs, and they write over nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sepbench.own_recipe import TEMPLATE
from sepbench.recipe import load_class, load_recipe
from test_cli import call, refused
from test_house import offences


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def test_a_new_recipe_passes_its_own_tests(here):
    code, out, _ = call("new", "my_method")
    files = ["README.md", "method.py", "recipe.yaml", "test_my_method.py"]
    assert code == 0 and all(f"my_method/{name}\n" in out for name in files)
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "my_method"], capture_output=True, text=True)
    assert done.returncode == 0 and "3 passed" in done.stdout, done.stdout + done.stderr


def test_a_new_recipe_bears_the_name_of_its_folder():
    call("new", "my_method")
    recipe = load_recipe("my_method")
    assert recipe.name == "My method" and recipe.own_task == "common"
    words = Path("my_method/README.md").read_text() + Path("my_method/recipe.yaml").read_text()
    assert not any(word in words for word in ("NAME", "FOLDER", "PATH", "TASK"))
    assert "sepbench run my_method mixture ideal_mask --task common\n" in words.replace("    #", "\n#")


@pytest.mark.parametrize("task", ["common", "common_same_class", "universal_pairs", "esc_pairs"])
def test_the_task_asked_for_comes_first_and_every_task_resolves(task):
    call("new", "my_method", "--task", task)
    recipe = load_recipe("my_method")
    assert recipe.own_task == task and len({task, *recipe.other_tasks}) == 4
    for other in recipe.other_tasks:
        for profile in recipe.profiles:
            assert recipe.on(other).resolve(profile)[0]["task"]["name"] == other


def test_the_template_uses_what_a_recipe_may_use():
    assert offences("recipes/my_method/method.py", (TEMPLATE / "method.py").read_text()) == []


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["new", "my-method"], "importable word (letters, digits, underscores), as my_method."),
        (["new", "class"], "importable word (letters, digits, underscores), as my_class."),
        (["new", "9lives"], "importable word (letters, digits, underscores), as my_9lives."),
        (["new", "nowhere/my_method"], "there is no folder nowhere"),
        (["new", "taken"], "nothing is overwritten"),
        (["new", "file"], "file"),
        (["new", "mixture"], "there is a recipe 'mixture' already"),
        (["new", "fresh", "--task", "comon"], "Did you mean 'common'?"),
        (["copy", "mixture", "taken"], "nothing is overwritten"),
        (["copy", "mixture", "mixture"], "there is a recipe 'mixture' already"),
        (["copy", "mixtur", "mine"], "Did you mean 'mixture'?"),
    ],
)
def test_what_cannot_be_written_is_refused_and_nothing_is(here, args, said):
    (here / "taken").mkdir()
    (here / "taken/notes.txt").write_text("mine")
    (here / "file").write_text("mine")
    before = sorted(here.rglob("*"))
    assert said in refused(*args)
    assert sorted(here.rglob("*")) == before


def test_an_empty_folder_is_free(here):
    (here / "my_method").mkdir()
    assert call("new", "my_method")[0] == 0 and load_recipe("my_method").folder == here / "my_method"


@pytest.mark.parametrize("name", ["weak_label", "redux", "mixture"])
def test_a_copy_is_the_recipe_under_a_name_of_its_own(here, repo, name):
    assert call("copy", name, "my_copy")[0] == 0
    ours, theirs = load_recipe("my_copy"), load_recipe(name)
    assert ours.name == f"{theirs.name} (my_copy)" and ours.folder == here / "my_copy"
    (config, _), (other, _) = ours.resolve("quick"), theirs.resolve("quick")
    assert config == {**other, "name": ours.name, "recipe": "my_copy"}
    one, another = load_class(ours), load_class(theirs)
    assert one is not another and one.__name__ == another.__name__
    assert sys.modules[one.__module__].__file__ == str(here / "my_copy/method.py")
    kept = sorted(file.name for file in theirs.folder.iterdir() if file.name != "__pycache__")
    assert sorted(file.name for file in (here / "my_copy").iterdir() if file.name != "__pycache__") == kept


def test_a_copy_does_not_lie_in_itself(here):
    call("new", "my_method")
    assert "lies in" in refused("copy", "my_method", "my_method/inner")


def test_ls_lists_methods_then_runs(here):
    code, out, _ = call("ls")
    assert code == 0 and "weak_label" in out and "Runs in" not in out
    (here / "results").mkdir()
    assert "No runs here yet." in call("ls")[1] and "weak_label" not in call("ls", "results")[1]
