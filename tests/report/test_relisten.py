"""Runs that kept no sounds, answered again; and that a run keeps them when it is made."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sepbench.cli_report import report
from sepbench.errors import UserError
from sepbench.options import Door
from sepbench.progress import PlainProgress
from sepbench.recipe import load_recipe
from sepbench.relisten import sounds_of
from sepbench.report.listen import read_sounds
from sepbench.results import read_rows, read_runs
from sepbench.run import finished_run, run_one
from tones import tones

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "weak_label"
CLASSES = ["bark", "horn", "siren"]
TASK = [
    f"task.classes=[{', '.join(CLASSES)}]", "task.sample_rate_hz=8000", "task.seconds=0.6", "task.mixing.cut_s=[0.1, 0.4]",
    "task.scenes.valid=4", "task.scenes.test=6", "task.scenes.seen=0", "task.splits.by=recording",
]  # fmt: skip
SHORT = ["epochs=1", "steps=1", "batch=2", "valid_batches=1", "warmup=0"]
SMALL = [
    *(f"train.{stage}.{value}" for stage in ("activity", "critic", "separator") for value in SHORT),
    "train.prior_scenes=4", "sizes.hidden=6", "sizes.layers=1", "sizes.critic_hidden=5", "sizes.critic_channels=[2, 3, 4]",
]  # fmt: skip


@pytest.fixture(scope="module")
def quiet() -> Iterator[PlainProgress]:
    with open(os.devnull, "w") as nowhere:
        yield PlainProgress(nowhere)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {"class_folders": str(tones(tmp_path_factory.mktemp("sounds"), CLASSES, 8000, 0))}


@pytest.fixture(scope="module")
def trained(data, quiet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEPBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        recipe = load_recipe(RECIPE)
        config, values = recipe.resolve("quick", {"labels": "strong"}, [*TASK, *SMALL], corpus="class_folders")
        yield run_one(config, values, recipe, data, tmp_path_factory.mktemp("results"), False, "cpu", quiet)


def heard(folder: Path, data, quiet):
    return sounds_of(read_runs(folder)[0], "test", data, "cpu", quiet, None)


def test_a_finished_run_has_kept_its_sounds(trained):
    kept = read_sounds(trained)
    assert [one.place for one in kept.scenes] == ["best", "median", "worst"]
    rows = read_rows(trained)
    for shown in kept.scenes:
        which = (rows["scene"] == shown.scene) & (rows["metric"] == "si_sdri")
        assert shown.value == pytest.approx(rows["value"][which].mean())
        assert {true.label for true, _ in shown.pairs} == set(rows["label"][which])


def test_what_is_answered_again_sounds_as_it_did(trained, data, quiet, tmp_path):
    copy = Path(shutil.copytree(trained, tmp_path / trained.name))
    shutil.rmtree(copy / "listen")
    again, before = heard(copy, data, quiet), read_sounds(trained)
    assert [one.scene for one in again.scenes] == [one.scene for one in before.scenes]
    for one, other in zip(again.scenes, before.scenes):
        np.testing.assert_array_equal(one.mixture.audio, other.mixture.audio)
        for (_, said), (_, was) in zip(one.pairs, other.pairs):
            np.testing.assert_allclose(said.audio, was.audio, atol=3 / 2**15)
    assert read_sounds(copy).n_scenes == again.n_scenes  # and is kept: the next report need not ask again


@pytest.mark.parametrize(("lost", "said"), [("weights", "holds no weights"), ("sounds", "class_folders")])
def test_it_is_said_why_nothing_can_be_heard(trained, data, quiet, tmp_path, lost, said):
    copy = Path(shutil.copytree(trained, tmp_path / trained.name))
    shutil.rmtree(copy / "listen")
    if lost == "weights":
        shutil.rmtree(copy / "weights")
    told = heard(copy, data if lost == "weights" else {}, quiet)
    assert isinstance(told, str) and said in told and not (copy / "listen").exists()


def made_by(trained: Path, root: Path, recipe: Path | str) -> Path:
    """The run without its sounds, in a folder of results; it says that `recipe` made it."""
    copy = Path(shutil.copytree(trained, root / "runs" / trained.name))
    shutil.rmtree(copy / "listen")
    told = json.loads((copy / "run.json").read_text())
    told["provenance"]["recipe_folder"] = str(recipe)
    (copy / "run.json").write_text(json.dumps(told))
    return copy


def recipe_at(folder: Path, above: str = "", instead: str = "") -> Path:
    """The recipe of the run in `folder`: with `above` on top of its method, or `instead` of what its separate() does."""
    shutil.copytree(RECIPE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    method = (folder / "method.py").read_text().replace("from __future__ import annotations\n", "")
    head, signature, rest = method.partition("    def separate(")
    assert signature
    rest = rest.replace(":\n", f":\n        {instead}\n", 1) if instead else rest
    (folder / "method.py").write_text(f"from __future__ import annotations\n{above}\n{head}{signature}{rest}")
    return folder


def leaves(file: Path) -> str:
    return f"from pathlib import Path\nPath({str(file)!r}).write_text('run')"


def reported(folder: Path, data, out: Path, *options: str) -> str:
    """The page of `sepbench report`."""
    arguments = [str(folder), "-o", str(out), "--data", f"class_folders={data['class_folders']}", "--threads", "1", *options]
    with pytest.raises(SystemExit) as stop:
        Door("sepbench", commands={"report": report})(["report", *arguments])
    assert stop.value.code in (0, None)
    return out.read_text(encoding="utf-8")


@pytest.mark.parametrize("place", ["in the run", "in the results", "above the results", "in a shelf of the results"])
def test_a_report_runs_no_recipe_that_came_with_the_results(trained, data, tmp_path, monkeypatch, place):
    results, mark = tmp_path / "sent" / "runs", tmp_path / "mark"
    folder = {
        "in the run": results / trained.name / "payload", "in the results": results / "payload",
        "above the results": tmp_path / "sent" / "payload", "in a shelf of the results": results / "recipes" / "payload",
    }[place]  # fmt: skip
    made_by(trained, tmp_path / "sent", folder if place == "in the results" else folder.relative_to(tmp_path / "sent"))
    recipe_at(folder, above=leaves(mark))
    monkeypatch.chdir(results if "shelf" in place else tmp_path)
    page = reported(results, data, tmp_path / "report.html")
    assert not mark.exists() and "<audio" not in page
    assert "no sounds: " in page and ("which a report does not run" in page or "lies in the run itself" in page)
    if place == "above the results":  # the payload works: it is run where the user says so
        assert "<audio" in reported(results, data, tmp_path / "report.html", "--trust") and mark.exists()


def test_a_report_runs_recipes_of_the_folder_that_it_is_called_from(trained, data, tmp_path, monkeypatch):
    recipe_at(tmp_path / "recipes" / "mine", above=leaves(tmp_path / "mark"))
    made_by(trained, tmp_path / "sent", "recipes/mine")
    monkeypatch.chdir(tmp_path)
    assert "<audio" in reported(tmp_path / "sent" / "runs", data, tmp_path / "report.html") and (tmp_path / "mark").exists()


def test_nobody_runs_a_recipe_that_lies_in_the_run_itself(trained, tmp_path, monkeypatch):
    copy = made_by(trained, tmp_path, "payload")
    recipe_at(copy / "payload")
    monkeypatch.chdir(copy)
    with pytest.raises(UserError, match="in the run itself"):
        finished_run(copy)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"above": "import nothing_of_that_name"}, "ModuleNotFoundError: No module named"),
        ({"above": "from pathlib import Nothing"}, "ImportError: cannot import name"),
        ({"instead": "return self.nothing_of_that_name"}, "AttributeError: "),
        ({"instead": "return [][3]"}, "IndexError: "),
        ({"instead": "return open('/nowhere/at/all')"}, "FileNotFoundError: "),
        ({"instead": "raise Exception"}, "Exception: no reason is given"),
    ],
)
def test_whatever_a_recipe_raises_is_one_line_of_the_page(trained, data, tmp_path, monkeypatch, broken, said):
    recipe_at(tmp_path / "recipes" / "broken", **broken)
    made_by(trained, tmp_path, "recipes/broken")
    monkeypatch.chdir(tmp_path)
    assert f"no sounds: {said}" in reported(tmp_path / "runs", data, tmp_path / "report.html")
