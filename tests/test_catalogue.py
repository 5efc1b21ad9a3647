"""A recipe is found by its name: in a folder here, among those that sepbench brings, or in an installed package."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest

import sepbench.home
from sepbench.catalogue import everything, find
from sepbench.errors import UserError
from sepbench.listing import list_methods
from sepbench.recipe import load_class, load_recipe

RECIPE = """
name: Tiny
method: method.py:Tiny
supervision: none
task: esc_pairs
profiles: {quick: {corpus: synthetic, train: {}, sizes: {}}}
"""
METHOD = """
from dataclasses import dataclass
from ..shared import WIDTH

@dataclass(frozen=True)
class Tiny:
    width: int = WIDTH
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """An empty working folder; what is imported in a test is forgotten after it."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield place
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("acme", "broken", "tools"):
            del sys.modules[name]


def write(folder: Path, name: str = "Tiny") -> Path:
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(RECIPE.replace("Tiny\n", f"{name}\n", 1))
    (folder / "method.py").write_text("class Tiny: ...\n")
    return folder


def install(site: Path, package: str, line: str, init: str = "") -> Path:
    """A package with a recipe in <package>/methods/tiny, as pip leaves it, that registers `line`."""
    folder = write(site / package / "methods" / "tiny", f"Tiny of {package}")
    (folder / "method.py").write_text(METHOD)
    (folder.parent / "shared.py").write_text("WIDTH = 5\n")
    (site / package / "__init__.py").write_text(init)
    info = site / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[sepbench.methods]\n{line}\n")
    if str(site) not in sys.path:
        sys.path.append(str(site))
    return folder


def test_what_sepbench_brings_is_found_from_an_empty_folder(repo):
    assert find("weak_label").folder == repo / "recipes/weak_label"
    assert load_recipe("mixture").folder == repo / "baselines/mixture"
    shipped = {file.parent.name for shelf in ("recipes", "baselines") for file in (repo / shelf).glob("*/recipe.yaml")}
    assert {found.name for found in everything()[0] if found.whence == "sepbench"} == shipped


def test_the_nearer_folder_of_a_name_wins(here):
    write(here / "baselines/mixture")
    assert load_recipe("mixture").folder == here / "baselines/mixture"
    write(here / "recipes/mixture")
    assert load_recipe("mixture").folder == here / "recipes/mixture"
    write(here / "mixture")
    assert load_recipe("mixture").folder == here / "mixture"
    assert [str(found.folder) for found in everything()[0] if found.name == "mixture"] == ["mixture"]


def test_a_folder_without_a_recipe_hides_nothing(here, repo):
    (here / "mixture").mkdir()
    assert load_recipe("mixture").folder == repo / "baselines/mixture"


def test_a_path_is_never_taken_for_a_name(here):
    for path in (here / "mixture", "./mixture", "recipes/mixture"):
        with pytest.raises(UserError, match="no recipe there.*Did you mean 'mixture'"):
            load_recipe(path)


def test_an_unknown_name_is_answered_with_the_nearest_and_all_that_are_known():
    with pytest.raises(UserError, match="weak_lable: no recipe of that name. Did you mean 'weak_label'.*Known: .*mixture_cnn"):
        load_recipe("weak_lable")


def test_a_packages_method_is_found_by_the_name_that_it_registers(tmp_path):
    folder = install(tmp_path / "site", "acme", "fast_one = acme.methods.tiny")
    recipe = load_recipe("fast_one")
    assert recipe.folder == folder.resolve()
    assert recipe.resolve("quick")[0]["recipe"] == "fast_one"
    (row,) = [row for row in list_methods().rows if row.cells[0].text == "fast_one"]
    assert [cell.text for cell in row.cells][1::5] == ["Tiny of acme", "package acme"]


def test_a_packages_method_has_the_modules_of_its_package(tmp_path):
    install(tmp_path / "site", "acme", "fast_one = acme.methods.tiny")
    found = load_class(load_recipe("fast_one"))
    assert found().width == 5 and found.__module__ == "acme.methods.tiny.method"
    assert pickle.loads(pickle.dumps(found(7))) == found(7)


def test_sepbenchs_own_name_is_not_taken_over_and_that_is_told(tmp_path, repo):
    install(tmp_path / "site", "acme", "mixture = acme.methods.tiny")
    assert load_recipe("mixture").folder == repo / "baselines/mixture"
    assert "mixture: of package acme; hidden by that of sepbench." in list_methods().notes


def test_two_packages_with_one_name_are_both_named(tmp_path):
    install(tmp_path / "site", "acme", "fast_one = acme.methods.tiny")
    install(tmp_path / "site", "tools", "fast_one = tools.methods.tiny")
    with pytest.raises(UserError, match=r"fast_one: package acme \(.*\) and package tools \(.*\) both register"):
        load_recipe("fast_one")
    assert sum("both register" in note for note in list_methods().notes) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("slow = broken.methods.nothing", "holds no recipe.yaml"),
        ("slow = broken.methods.tiny:Tiny", "nothing behind it"),
        ("slow = absent.methods.tiny", r"cannot be imported \(ModuleNotFoundError"),
        ("slow-one = broken.methods.tiny", "must be an importable word"),
    ],
)
def test_a_broken_entry_point_is_one_line_and_hides_no_other(tmp_path, line, said):
    install(tmp_path / "site", "broken", line)
    with pytest.raises(UserError, match=said) as error:
        load_recipe(line.split()[0])
    assert "\n" not in str(error.value)
    listed = list_methods()
    assert "weak_label" in [row.cells[0].text for row in listed.rows] and len(listed.notes) == 1


def test_a_package_that_fails_when_imported_is_one_line(tmp_path):
    install(tmp_path / "site", "broken", "slow = broken.methods.tiny", init="raise RuntimeError('no licence')")
    (note,) = list_methods().notes
    assert "RuntimeError: no licence" in note and "package broken" in note


def test_a_damaged_recipe_here_is_a_note_below_the_others(here):
    (write(here / "torn") / "recipe.yaml").write_text("name: [")
    listed = list_methods()
    assert "weak_label" in [row.cells[0].text for row in listed.rows]
    assert len(listed.notes) == 1 and listed.notes[0].startswith("torn: ")


def test_installed_without_a_checkout_the_package_carries_its_own(here, monkeypatch):
    monkeypatch.setattr(sepbench.home, "CARRIED", here / "bundled")
    write(here / "bundled/recipes/carried")
    assert (sepbench.home.home(), sepbench.home.checkout()) == (here / "bundled", None)
    assert load_recipe("carried").folder == here / "bundled/recipes/carried"
