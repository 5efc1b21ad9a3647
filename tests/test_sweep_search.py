"""Searches over a recipe's declared ranges: what may be declared, what is tried, and that a study is taken up again."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from sepbench.errors import UserError
from sepbench.recipe import load_recipe
from sepbench.results import read_runs
from test_cli import RECIPE, call, refused
from test_run_several import recipe_at
from test_sweep import words

METHOD = """
import pathlib

class Tiny:
    def __init__(self, settings, task):
        self.settings = settings

    def fit(self, training):
        log = pathlib.Path(__file__).with_name("begun.txt")
        begun = log.read_text().split() if log.exists() else []
        log.write_text(" ".join([*begun, repr(self.settings.params.share)]))
        if len(begun) == {stops_at}:
            raise KeyboardInterrupt

    def save(self, folder):
        folder.mkdir()

    def load(self, folder):
        pass

    def separate(self, mixtures):
        from sepbench.scene import Estimate
        return [Estimate(self.settings.params.share * each.audio[:1]) for each in mixtures]
"""
ENOUGH = ("--set", "task.scenes.valid=8", "--set", "task.scenes.test=8")  # scenes, for two sounds to meet in one
SHARE = {"share": {"default": 1.0, "min": 0, "max": 2}}


def recipe_in(folder: Path, stops_at: int = -1, search: dict | None = None) -> str:
    search = search or {"share": {"low": 0.1, "high": 2.0}, "train.lr": {"low": 1e-4, "high": 1e-2, "log": True}}
    profiles = {"quick": {"corpus": "synthetic", "train": {"lr": 1e-3}}}
    name = recipe_at(folder, "", params=SHARE, search=search, profiles=profiles)
    (folder / "method.py").write_text(METHOD.format(stops_at=stops_at))
    return name


def trials_in(results: Path) -> list[tuple[float, float]]:
    """share and learning rate of every finished trial."""
    runs = [run for run in read_runs(results.parent / "studies") if run.state == "finished"]
    return sorted((run.config["params"]["share"], run.config["train"]["lr"]) for run in runs)


def test_a_study_that_was_stopped_goes_on_and_tries_what_it_would_have_tried(tmp_path: Path):
    pytest.importorskip("optuna", reason='pip install "sepbench[search]"')
    found, begun = {}, {}
    for name, stops_at in (("whole", -1), ("stopped", 2)):
        results = tmp_path / name / "runs"
        line = ["sweep", *words(recipe_in(tmp_path / name / "tiny", stops_at), results=results), *ENOUGH]
        line += ["--search", "random", "--trials", "4", "--metric", "snr"]
        code, out, err = call(*line)
        if stops_at >= 0:
            assert code == 130 and len(trials_in(results)) == 2
            (journal,) = results.parent.rglob("study.journal")
            with journal.open("ab") as file:  # as a full disk leaves it
                file.write(b'{"op_code": 4, "worker')
            code, out, err = call(*line)
            assert "goes on with trial 2" in err and "2 of them are there" in err
        assert code == 0, err
        found[name], begun[name] = trials_in(results), len((tmp_path / name / "tiny/begun.txt").read_text().split())
        again = call(*line)
        assert again[0] == 0 and begun[name] == len((tmp_path / name / "tiny/begun.txt").read_text().split())
    assert found["whole"] == found["stopped"] and len(found["whole"]) == 4
    assert begun == {"whole": 4, "stopped": 5}  # the one that was stopped, twice; no finished one
    assert "the best first" in out and "snr," in out
    run = shlex.split(out.splitlines()[-1])
    shares = {share for share, _ in found["stopped"]}
    best = float(run[run.index("--share") + 1])
    assert run[:2] == ["sepbench", "run"] and best in shares and any(word.startswith("train.lr=") for word in run)
    # who answers with the mixture has the best SNR where it is scaled best: far from the ends
    assert abs(best - 0.3) == min(abs(share - 0.3) for share in shares) or best == min(shares)
    assert call(*run[1:])[0] == 0
    (tested,) = read_runs(tmp_path / "stopped/runs")
    assert set(tested.metrics) == {"test"} and tested.config["params"]["share"] == best


def test_trials_are_scored_on_validation_scenes_and_stand_in_no_table(tmp_path: Path):
    pytest.importorskip("optuna", reason='pip install "sepbench[search]"')
    recipe, results = recipe_in(tmp_path / "tiny"), tmp_path / "results/runs"
    line = [*words(recipe, results=results), *ENOUGH]
    code, out, err = call("sweep", *line, "--search", "optuna", "--trials", "2", "--study", "mine", "--metric", "snr")
    assert code == 0, err
    trials = read_runs(tmp_path / "results/studies/mine/runs")
    assert len(trials) == 2 and all(set(run.metrics) == {"valid"} for run in trials)
    assert all(run.config["task"]["scored_on"] == "valid" and set(run.provenance["scenes_hash"]) == {"valid"} for run in trials)
    assert call("run", *line)[0] == 0
    code, out, err = call("table", str(tmp_path / "results"), "--task", "common")
    assert code == 0 and out.count("Tiny") == 0 and "2 trials of searches, scored on validation scenes alone" in err
    assert all(run.id not in out for run in trials)
    assert call("ls", str(tmp_path / "results"))[1].count("tiny-quick") == 3
    other = [*line, "--search", "random", "--trials", "2", "--study", "mine", "--metric", "snr"]
    assert "--study mine: was begun with other settings, ranges or seed." in refused("sweep", *other)


def test_what_is_given_is_not_searched(tmp_path: Path):
    pytest.importorskip("optuna", reason='pip install "sepbench[search]"')
    recipe = recipe_in(tmp_path / "tiny")
    line = [*words(recipe, results=tmp_path / "runs"), "--search", "random", "--plan"]
    assert "share 0.1 to 2; train.lr 0.0001 to 0.01, logarithmic." in call("sweep", *line)[1]
    out = call("sweep", *line, "--share", "0.5")[1]
    assert "share" not in out and "train.lr 0.0001" in out
    assert "has no range left" in refused("sweep", *line, "--share", "0.5", "--set", "train.lr=0.1")
    assert "--share: is a grid" in refused("sweep", *line, "--share", "0.5,0.6")
    assert not (tmp_path / "studies").exists()


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"alhpa": {"low": 1, "high": 2}}, "search.alhpa: there is no such option or setting. Did you mean 'alpha'?"),
        ({"train.stepz": {"low": 1, "high": 2}}, "search.train.stepz: there is no such option or setting. Did you mean"),
        ({"alpha": {"low": 2, "high": 1}}, "search.alpha: low is 2 and high 1; low must be below high"),
        ({"alpha": {"low": 0, "high": 1, "log": True}}, "search.alpha: low is 0, of which there is no logarithm"),
        ({"alpha": {"low": -1, "high": 1}}, "search.alpha: got '-1'; allowed: a number of at least 0."),
        ({"alpha": {"low": 1}}, "search.alpha: wanted low and high, or choices"),
        ({"alpha": {"low": 1, "high": 2, "choices": [1, 2]}}, "search.alpha: choices stand alone"),
        ({"alpha": {"low": 1, "high": 2, "steps": 1}}, "search.alpha: unknown key 'steps'. Did you mean 'step'?"),
        ({"alpha": {"low": 1, "high": 2, "step": 3}}, "search.alpha: step is 3; wanted one above 0 that fits"),
        ({"labels": {"low": 1, "high": 2}}, "search.labels: its values are words; wanted choices."),
        ({"labels": {"choices": ["frame", "strnog"]}}, "search.labels: got 'strnog'"),
        ({"mel_bins": {"low": 10, "high": 40.5}}, "search.mel_bins: wanted whole numbers"),
        ({"train.steps": {"low": 1, "high": 2.5}}, "search.train.steps: wanted whole numbers, as it is 10."),
        ({"lambda": {"low": 1, "high": 2}}, "search.lambda: sets the scenes"),
        ({"task.seconds": {"low": 1, "high": 2}}, "search.task.seconds: sets the scenes"),
    ],
)
def test_a_range_that_cannot_be_is_refused_in_one_line(tmp_path: Path, search: dict, said: str):
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**RECIPE, "search": search}, sort_keys=False))
    with pytest.raises(UserError, match=re.escape(said)) as error:
        load_recipe(folder)
    assert "\n" not in str(error.value)


def test_every_recipe_declares_what_can_be_searched(repo: Path):
    for file in sorted(repo.glob("recipes/*/recipe.yaml")):
        recipe = load_recipe(file.parent)
        assert len(recipe.search) >= 2, file
        for name, own in recipe.search.items():
            for profile in recipe.profiles:
                ends = own.ends if name in recipe.params else []
                for value in ends:
                    recipe.resolve(profile, {name: value})
        learns = json.dumps(recipe.profiles["quick"].train)
        assert ("lr" not in learns) or any(name.endswith(".lr") for name in recipe.search)
