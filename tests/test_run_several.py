"""Several recipes in one command: what they share, who is left out, and that one that fails does not stop the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from test_cli import RECIPE, call, refused

METHOD = """
from sepbench.errors import UserError

class Tiny:
    def __init__(self, settings, task):
        raise {error}
"""
FEW = ("--set", "task.scenes.test=3", "--set", "task.scenes.valid=2")


def recipe_at(folder: Path, error: str, task: str = "common", **changed) -> str:
    """A recipe whose method raises `error` as soon as it is built."""
    folder.mkdir(parents=True)
    alone = {"name": folder.name, "task": task, "task_params": {}, "profiles": {"quick": {"corpus": "synthetic"}}, "tables": {}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**RECIPE, **alone, **changed}, sort_keys=False))
    (folder / "method.py").write_text(METHOD.format(error=error))
    return str(folder)


def runs_in(results: Path) -> dict[str, dict]:
    """Recipe -> run.json, of the finished runs."""
    files = [file for file in results.glob("*/run.json") if (file.parent / "metrics.json").is_file()]
    return {run["config"]["recipe"]: run for run in (json.loads(file.read_text()) for file in files)}


def test_several_run_one_after_the_other_and_one_that_fails_does_not_stop_the_rest(repo: Path, tmp_path: Path):
    plain = tmp_path / "README.md"
    plain.write_text("no recipe, but a shell makes it one of recipes/*")
    failing = recipe_at(tmp_path / "failing", "UserError('train.x is odd. Mend it.')")
    elsewhere = recipe_at(tmp_path / "elsewhere", "AssertionError('was run')", "urban_events")
    names = [failing, str(repo / "baselines/mixture"), str(plain), elsewhere, str(repo / "baselines/random_guess")]
    words = ["run", *names, "--task", "common", *FEW, "--budget", "scenes=100", "--results", str(tmp_path / "runs")]
    code, out, err = call(*words)
    assert code == 2 and set(runs_in(tmp_path / "runs")) == {"mixture", "random_guess"}
    assert err.splitlines()[-1] == "sepbench: 1 of 3 recipes failed: failing. The lines above say why."
    assert "failing: train.x is odd. Mend it." in err and "elsewhere: does not run on common; left out" in err
    assert "Run 2 of 3: mixture" in err and "Run 3 of 3: random_guess" in err
    assert out.count("All runs beside") == 1 and out.count("Run: ") == 2
    code, _, err = call(*[word for word in words if word not in (failing, "--budget", "scenes=100")])
    assert code == 0 and "2 runs: 2 cached." in err  # what learns nothing is the same run with a budget and without


BROKEN = """
class Tiny:
    def __init__(self, settings, task):
        pass

    def fit(self, training):
        pass

    def save(self, folder):
        folder.mkdir()

    def separate(self, mixtures):
        return mixtures[0].no_such_thing
"""


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (BROKEN, "broken: AttributeError: 'Mixture' object has no attribute 'no_such_thing' (method.py:"),
        (METHOD.format(error="RuntimeError('out of\\n  memory')"), "broken: RuntimeError: out of memory (method.py:6)"),
        (METHOD.format(error="AssertionError"), "broken: AssertionError (method.py:6)"),
        ("import no_such_module\n", "no_such_module"),
    ],
)
def test_a_recipe_that_breaks_is_told_in_a_line_and_the_rest_go_on(repo: Path, tmp_path: Path, method: str, said: str):
    broken = recipe_at(tmp_path / "broken", "")
    Path(broken, "method.py").write_text(method)
    words = ["run", broken, str(repo / "baselines/mixture"), "--task", "common", *FEW, "--results", str(tmp_path / "runs")]
    code, _, err = call(*words)
    assert code == 2 and set(runs_in(tmp_path / "runs")) == {"mixture"}
    (line,) = (line for line in err.splitlines() if line.startswith("broken: "))
    assert said in line and "Traceback" not in err
    assert err.splitlines()[-1] == "sepbench: 1 of 2 recipes failed: broken. The lines above say why."


def test_ctrl_c_stops_all(repo: Path, tmp_path: Path):
    stopped = recipe_at(tmp_path / "stopped", "KeyboardInterrupt")
    words = ["run", stopped, str(repo / "baselines/mixture"), "--task", "common", *FEW, "--results", str(tmp_path / "runs")]
    code, out, _ = call(*words)
    assert code == 130 and out == "" and runs_in(tmp_path / "runs") == {}


def test_a_run_says_its_budget_and_what_it_has_drawn(repo: Path, tmp_path: Path):
    words = ["run", str(repo / "baselines/mixture_cnn"), "--task", "common", *FEW, "--results", str(tmp_path / "runs")]
    code, _, err = call(*words, "--budget", "scenes=65", "--set", "train.classifier.valid_batches=1")
    assert code == 0, err
    run = runs_in(tmp_path / "runs")["mixture_cnn"]
    batch = run["config"]["train"]["classifier"]["batch"]
    assert run["config"]["budget"] == {"scenes": 65} and "budget=65_scenes" in run["id"]
    assert run["cost"]["training_scenes"] == run["cost"]["classifier"]["scenes"] == 65 // batch * batch


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    monkeypatch.chdir(tmp_path)
    params, error = RECIPE["params"], "UserError('no good.')"
    own = {"params": {name: params[name] for name in ("labels", "alpha")}, "tables": RECIPE["tables"]}
    other = {"params": {"labels": {**params["labels"], "choices": ["frame", "clip"]}, "mel_bins": params["mel_bins"]}}
    return recipe_at(Path("recipes/first"), error, **own), recipe_at(Path("recipes/second"), error, **other)


def test_options_that_all_have_are_taken_and_those_of_one_are_told(two: tuple[str, str]):
    assert "--alpha: not an option of second." in refused("run", *two, "--alpha", "3")
    assert "--mel-bins: not an option of first." in refused("run", *two, "--mel-bins=10")
    assert "second: --labels: got 'strong'; allowed: frame, clip." in refused("run", *two, "--labels", "strong")
    code, out, _ = call("run", *two, "--help")
    assert code == 0 and "--labels" in out and "--alpha" not in out and "Options that all of these recipes have" in out
    assert out.index("Recipes:") < out.index("first  ") < out.index("second  ")


def test_a_list_of_values_is_run_for_each_until_a_recipe_fails(two: tuple[str, str]):
    code, _, err = call("run", *two, "--labels", "frame,clip")
    assert code == 2 and [line for line in err.splitlines() if line.startswith("Run ") and " of " in line] == [
        "Run 1 of 4: first labels=frame", "Run 3 of 4: second labels=frame",
    ]  # fmt: skip
    assert "4 runs: 4 missing." in err
    assert "first: no good." in err and "second: no good." in err


def test_what_is_no_recipe_among_several_is_told(two: tuple[str, str], tmp_path: Path):
    Path("recipes/empty").mkdir()
    assert "recipes/empty: no recipe there" in refused("run", *two, "recipes/empty")
    said = refused("run", *two, "--task", "comon")
    assert "--task comon: none of these recipes runs on it. Did you mean 'common'?" in said


def test_a_table_that_a_recipe_lacks_is_told_of_that_recipe(two: tuple[str, str]):
    code, out, err = call("run", *two, "--table", "V")
    assert code == 2 and out == "" and "second: --table: got 'V'; second has none." in err
    assert "Run 1 of 2: first labels=strong" in err and "first: no good." in err
    assert err.splitlines()[-1].startswith("sepbench: 2 of 2 recipes failed: first, second.")
