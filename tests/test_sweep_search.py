"""Searches over a recipe's declared ranges: what may be declared, what is tried, and that a study is taken up again."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest
import torch
import yaml

from sepbench.errors import SettingsRefused, UserError, memory_told
from sepbench.progress import SILENT
from sepbench.ranges import Dimension, Range
from sepbench.recipe import load_recipe
from sepbench.results import read_runs
from sepbench.schedule import Schedule
from sepbench.sweep_plan import PlannedRun
from sepbench.sweep_search import Search, Wanted, checked_metric, n_there
from sepbench.sweep_spec import Outcome
from sepbench.training import _Crank
from test_cli import RECIPE, call, refused
from test_faults import children_of
from test_run_several import recipe_at
from test_sweep import words

METHOD = """
import pathlib

class Tiny:
    def __init__(self, settings, task):
        self.settings = settings

    def fit(self, training):
        log = pathlib.Path(__file__).with_name("begun.txt")
        with log.open("a") as file:
            print(self.settings.params.share, file=file)
        if len(log.read_text().split()) == {stops_at} + 1:
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
    studies = results.parent / "studies"
    runs = [run for run in read_runs(studies) if run.state == "finished"] if studies.is_dir() else []
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


DIMENSIONS = [
    Dimension("share", Range(low=0.0, high=2.0), True, False),
    Dimension("train.lr", Range(low=1e-5, high=1e-1, log=True), False, False),
]


def trained(values: Mapping[str, float]) -> float:
    """What made-up runs come to: the best at share 1.3 and a learning rate of 0.001."""
    return -10 * (values["share"] - 1.3) ** 2 - (math.log10(values["train.lr"]) + 3) ** 2


def searched(
    folder: Path, kind: str, trials: int, seed: int = 0, stops: Collection[int] = (), fails: Collection[int] = ()
) -> list[tuple[float, dict]]:  # fmt: skip
    """All trials of a search over made-up runs, as drawn: (figure, values). Stopped at `stops`, failed at `fails`, begun anew."""
    n_begun, runs, finished = 0, {}, set()

    def plan(values: Mapping[str, float], name: str) -> PlannedRun:
        id = f"{values['share']!r}-{values['train.lr']!r}"
        runs[id] = folder / "runs" / id, values
        state = "cached" if runs[id][0].exists() else "missing"
        return PlannedRun(None, {}, {}, name, id, state, "", None, "", "")

    wanted = Wanted(kind, trials, "snr", seed, DIMENSIONS, {})
    while True:
        search = Search(folder, wanted, plan, 1, SILENT)
        for run in search.runs():
            n_begun += 1
            if n_begun in stops:
                break
            if n_begun in fails:
                search.done(run, Outcome(None, "its process was killed by SIGKILL"))
                continue
            place, values = runs[run.id]
            assert run.id not in finished
            finished.add(run.id)
            place.mkdir(parents=True)
            (place / "metrics.json").write_text(json.dumps({"valid": {"snr": {"all": {"mean": trained(values)}}}}))
            search.done(run, Outcome(place))
        if search.n_ended == trials:
            ranked = search.ranking()[1]
            search.close()
            return [(trial.value, trial.params) for trial in sorted(ranked, key=lambda trial: trial.user_attrs["draw"])]
        search.close()


FIT = "    def fit(self, training):\n"


def failing_in(folder: Path, lines: str) -> str:
    """A recipe whose `fit` begins with `lines`, indented by eight."""
    name = recipe_in(folder)
    method = folder / "method.py"
    method.write_text(method.read_text().replace(FIT, FIT + lines))
    return name


FULL = """
        if pathlib.Path(__file__).with_name("full").exists() and self.settings.params.share < 1.5:
            raise OSError(28, "No space left on device")
"""


@pytest.mark.parametrize("jobs", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_what_is_not_of_the_settings_stops_a_search_and_uses_up_no_trial(tmp_path: Path, jobs: str):
    pytest.importorskip("optuna", reason='pip install "sepbench[search]"')
    rest = [*ENOUGH, "--search", "random", "--trials", "4", "--metric", "snr"]
    whole, results = tmp_path / "whole/runs", tmp_path / "full/runs"
    assert call("sweep", *words(recipe_in(tmp_path / "whole/tiny"), results=whole), *rest)[0] == 0
    line = ["sweep", *words(failing_in(tmp_path / "full/tiny", FULL), results=results), *rest, "-j", jobs]
    full = tmp_path / "full/tiny/full"
    full.touch()
    for _ in range(2):
        code, out, err = call(*line)
        assert code == 2 and not out and "No space left on device" in err, err
        assert re.fullmatch(r"sepbench: --search: [12] trials? failed; .* the same command goes on\.", err.splitlines()[-1])
        assert len(trials_in(results)) < 4 and err.count("No space left") <= int(jobs)
    full.unlink()
    code, out, err = call(*line)
    assert code == 0, err
    assert trials_in(results) == trials_in(whole) and len(trials_in(whole)) == 4
    assert "4 of them are there" in call(*line)[2]


@pytest.mark.parametrize("jobs", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_settings_that_cannot_be_trained_are_a_trial_and_the_search_goes_on(tmp_path: Path, jobs: str):
    pytest.importorskip("optuna", reason='pip install "sepbench[search]"')
    lines = """
        from sepbench.errors import SettingsRefused
        if self.settings.params.share > 0.5:
            raise SettingsRefused("the loss is nan")
"""
    line = [*words(failing_in(tmp_path / "tiny", lines), results=tmp_path / "runs"), *ENOUGH, "--metric", "snr", "-j", jobs]
    line = ["sweep", *line, "--search", "random", "--trials", "6"]
    code, out, err = call(*line)
    n = err.count("the loss is nan")
    assert code == 0 and 1 <= n <= 5 and len(trials_in(tmp_path / "runs")) == 6 - n, err
    code, out, err = call(*line)
    assert code == 0 and "6 of them are there" in err and "nan" not in err


def test_a_loss_that_is_not_finite_memory_that_does_not_suffice_and_a_wrong_size_are_of_the_settings(tmp_path: Path):
    with pytest.raises(SettingsRefused, match="memory does not suffice"), memory_told("Training", "Lower it."):
        raise MemoryError
    with pytest.raises(SettingsRefused, match="train.separator"):
        Schedule.of("separator", None)
    told = {"name": "separator", "loss": lambda batch: {"loss": torch.tensor(float("nan"))}, "global_step": 3}
    told["place"] = tmp_path / "separator"
    alone = type("Alone", (), {**told, "source": type("Source", (), {"told": staticmethod(str)})})
    with pytest.raises(SettingsRefused, match="the loss is nan at step 3"):
        _Crank.training_step(alone, None, 0)


def test_a_corpus_that_vanishes_fails_a_trial_and_refuses_none(tmp_path: Path):
    pytest.importorskip("optuna", reason='pip install "sepbench[search]"')

    def plan(values: Mapping[str, float], name: str) -> PlannedRun:
        raise UserError("us8k: no metadata under 'data/us8k'.")

    search = Search(tmp_path, Wanted("random", 3, "snr", 0, DIMENSIONS, {}), plan, 1, SILENT)
    assert list(search.runs()) == [] and (search.n_failed, search.n_ended) == (1, 0)
    search.close()
    assert len(searched(tmp_path, "random", 3)) == 3


@pytest.mark.parametrize("kind", ["random", "optuna"])
def test_a_search_draws_the_same_whichever_of_its_runs_fail(tmp_path: Path, kind: str):
    pytest.importorskip("optuna", reason='pip install "sepbench[search]"')
    whole = searched(tmp_path / "whole", kind, 14)
    assert searched(tmp_path / "failed", kind, 14, fails=(1, 4, 5, 12, 13, 16)) == whole


DAMAGES = {
    "random bytes": lambda held: bytes(range(128, 256)) * 3,
    "random lines": lambda held: held + b"\x93\xff\x00\n",
    "a line in the middle": lambda held: held.replace(b"\n", b"\nweg\n", 4),
    "an empty object": lambda held: held + b"{}\n",
    "a list": lambda held: held + b"[]\n",
    "an unknown operation": lambda held: held + b'{"op_code":99,"worker_id":"a"}\n',
    "no first line": lambda held: held.split(b"\n", 1)[1],
    "no first two lines": lambda held: held.split(b"\n", 2)[2],
    "no key": lambda held: b"\n".join(line for line in held.split(b"\n") if b'"key"' not in line),
    "another direction": lambda held: held.replace(b'"directions":[2]', b'"directions":[1]'),
    "a folder": None,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_journal_is_told_of_in_a_line_and_stays_as_it_is(tmp_path: Path, damage: str):
    pytest.importorskip("optuna", reason='pip install "sepbench[search]"')
    searched(tmp_path, "random", 3)
    journal = tmp_path / "study.journal"
    held = journal.read_bytes()
    if damage == "a folder":
        journal.unlink()
        journal.mkdir()
    else:
        journal.write_bytes(DAMAGES[damage](held))
    before = journal.read_bytes() if journal.is_file() else b""
    wanted = Wanted("random", 4, "snr", 0, DIMENSIONS, {})
    for look in (lambda: searched(tmp_path, "random", 4), lambda: n_there(tmp_path, wanted)):
        with pytest.raises(UserError, match=re.escape(str(journal))) as error:
            look()
        assert "\n" not in str(error.value) and "Restore it, or move it away" in str(error.value)
    assert (journal.read_bytes() if journal.is_file() else b"") == before


def test_a_run_of_another_recipe_is_refused_before_the_first_trial_begins_with_it(tmp_path: Path):
    pytest.importorskip("optuna", reason='pip install "sepbench[search]"')
    other = words(recipe_in(tmp_path / "other"), results=tmp_path / "runs")
    assert call("run", *other, *ENOUGH)[0] == 0
    (run,) = read_runs(tmp_path / "runs")
    line = [*words(recipe_in(tmp_path / "tiny"), results=tmp_path / "runs"), *ENOUGH, "--search", "random"]
    said = refused("sweep", *line, "--begin-with", str(run.path))
    assert "is a run of" in said and "trial" not in said
    (journal,) = tmp_path.rglob("study.journal")
    assert b'"draw"' not in journal.read_bytes()


def test_the_metric_that_help_says_is_the_default_can_be_given():
    (shown,) = re.findall(r"validation\s+scenes\.\s+\[default:\s+(\S+)\]", call("sweep", "--help")[1])
    assert checked_metric(shown) == shown


def test_the_plan_of_a_search_says_what_is_there(tmp_path: Path):
    pytest.importorskip("optuna", reason='pip install "sepbench[search]"')
    line = ["sweep", *words(recipe_in(tmp_path / "tiny"), results=tmp_path / "runs"), *ENOUGH, "--metric", "snr"]
    line += ["--search", "random"]
    assert call(*line, "--trials", "2")[0] == 0
    (journal,) = tmp_path.rglob("study.journal")
    before = journal.read_bytes()
    code, out, _ = call(*line, "--trials", "3", "--plan")
    assert code == 0 and "of 3 trials; 2 of them are there, kept in" in out and "It is begun" in out
    assert journal.read_bytes() == before


@pytest.mark.parametrize("kind", ["random", "optuna"])
def test_a_search_one_run_at_a_time_draws_the_same_wherever_it_was_stopped(tmp_path: Path, kind: str):
    pytest.importorskip("optuna", reason='pip install "sepbench[search]"')
    whole = searched(tmp_path / "whole", kind, 14)
    assert len(whole) == 14 and searched(tmp_path / "stopped", kind, 14, stops=(1, 4, 5, 12, 13, 16)) == whole
    assert searched(tmp_path / "fewer", kind, 11) == whole[:11] and searched(tmp_path / "fewer", kind, 14) == whole


def test_optuna_learns_from_trials_and_random_does_not(tmp_path: Path):
    pytest.importorskip("optuna", reason='pip install "sepbench[search]"')
    gained = {}
    for kind in ("random", "optuna"):
        figures = [[figure for figure, _ in searched(tmp_path / f"{kind}{seed}", kind, 30, seed)] for seed in range(6)]
        gained[kind] = sum(sum(each[-10:]) - sum(each[:10]) for each in figures) / 60  # from the first ten to the last ten
    assert gained["optuna"] > 2 and abs(gained["random"]) < 1


def test_a_journal_that_was_being_written_as_its_search_was_killed_is_not_waited_for(tmp_path: Path, monkeypatch):
    pytest.importorskip("optuna", reason='pip install "sepbench[search]"')
    monkeypatch.chdir(tmp_path)
    study = Path("study")  # relative: optuna's lock, a link, then leads nowhere
    whole = searched(study, "random", 3)
    os.symlink(study / "study.journal", study / "study.journal.lock")

    def late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    try:
        assert searched(study, "random", 4)[:3] == whole
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["random", "optuna"])
def test_two_trials_at_a_time_are_each_tried_once_also_where_the_search_is_killed(tmp_path: Path, kind: str):
    pytest.importorskip("optuna", reason='pip install "sepbench[search]"')
    results, recipe = tmp_path / "two/runs", recipe_in(tmp_path / "two/tiny")
    rest = [*ENOUGH, "--search", kind, "--trials", "4", "--metric", "snr"]
    line = ["sweep", *words(recipe, results=results), *rest, "-j", "2"]
    code = "from sepbench.cli import main; main(prog_name='sepbench')"
    process = subprocess.Popen([sys.executable, "-c", code, *line], start_new_session=True)
    until_s = time.monotonic() + 300
    while not trials_in(results):
        assert process.poll() is None and time.monotonic() < until_s
        time.sleep(0.05)
    workers = children_of(process.pid)
    process.kill()
    process.wait()
    while any(Path(f"/proc/{pid}/exe").exists() for pid in workers):
        assert time.monotonic() < until_s
        time.sleep(0.05)
    n_ended = len(trials_in(results))
    assert 1 <= n_ended < 4
    assert call(*line)[0] == 0
    tried = trials_in(results)
    assert len(tried) == 4
    n_begun = Path(recipe, "begun.txt").read_text().split()
    assert set(n_begun) == {repr(share) for share, _ in tried} and len(n_begun) <= 4 + 2  # two were under way
    if kind == "random":  # which draws the same whatever has ended before
        one = tmp_path / "one/runs"
        assert call("sweep", *words(recipe_in(tmp_path / "one/tiny"), results=one), *rest)[0] == 0
        assert trials_in(one) == tried


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
