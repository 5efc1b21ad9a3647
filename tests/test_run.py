"""A run from sounds to tables: it leaves what it promises, goes on where it stopped, and is not made twice."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml

import sepbench.run
import sepbench.run_fit
from sepbench.errors import UserError
from sepbench.judge import judge
from sepbench.method import Batch, WeakBatch
from sepbench.progress import PlainProgress
from sepbench.recipe import load_recipe
from sepbench.results import read_rows, read_runs
from sepbench.run import answer, finished_run, run_one
from sepbench.run import test_run as score_elsewhere  # under its own name pytest would take it for a test
from sepbench.run_weights import content
from sepbench.scene import Estimate
from sepbench.storage import FolderLock, write_json
from sepbench.tasks.task import FirstScenes, build_task
from test_cli import call
from tones import tones

REPO = Path(__file__).resolve().parents[1]
CLASSES = ["bark", "horn", "siren"]
RATE_HZ = 8000
SHORT = ["epochs=2", "steps=2", "batch=2", "valid_batches=1", "warmup=0"]
SETS = [
    f"task.classes=[{', '.join(CLASSES)}]", f"task.sample_rate_hz={RATE_HZ}", "task.seconds=0.6",
    "task.mixing.cut_s=[0.1, 0.4]", "task.scenes.valid=4", "task.scenes.test=6", "task.scenes.seen=2",
    *(f"train.{stage}.{value}" for stage in ("activity", "critic", "separator") for value in SHORT),
    "train.prior_scenes=4", "sizes.hidden=6", "sizes.layers=1", "sizes.critic_hidden=5",
    "sizes.critic_channels=[2, 3, 4]",
]  # fmt: skip


class Watched(PlainProgress):
    """Remembers which bars were opened and what was said; raises Ctrl-C at step `at` of the bar `stop`."""

    def __init__(self, stop: str = "", at: int = 1):
        super().__init__(open(os.devnull, "w"))  # noqa: SIM115
        self.stop, self.at = stop, at
        self.bars: list[str] = []
        self.said: list[str] = []

    @contextmanager
    def bar(self, what: str, total: int | None) -> Iterator[Watched]:
        self.bars.append(what)
        self.done = 0
        yield self

    def advance(self, n: int = 1, **facts: object) -> None:
        self.done += n
        if self.bars[-1] == self.stop and n and self.done >= self.at:
            raise KeyboardInterrupt

    def say(self, line: str) -> None:
        self.said.append(line)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve recordings of each class: noise around a pitch of the class's own."""
    return tones(tmp_path_factory.mktemp("sounds"), CLASSES, RATE_HZ)


@pytest.fixture(autouse=True, scope="module")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of its own, and chunks of two scenes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEPBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(sepbench.run, "CHUNK", 2)
        yield


def go(sounds: Path, results: Path, progress: Watched | None = None, again: bool = False, sets=(), **options) -> Path:
    recipe = load_recipe(REPO / "recipes" / "weak_label")
    options = {"split": "recording", **options}
    config, values = recipe.resolve("quick", options, [*SETS, *sets], corpus="class_folders")
    data = {"class_folders": str(sounds)}
    return run_one(config, values, recipe, data, results, again, "cpu", progress or Watched())


def baseline(sounds: Path, results: Path, name: str, inner: Path | None = None, sets=(), **options) -> Path:
    recipe = load_recipe(REPO / "baselines" / name)
    of_task = [text for text in [*SETS, *sets] if text.startswith("task.")]
    sets = [*of_task, "task.splits.by=recording"]
    config, values = recipe.resolve("quick", options, sets, corpus="class_folders", inner=inner)
    return run_one(config, values, recipe, {"class_folders": str(sounds)}, results, False, "cpu", Watched())


def rows_of(run: Path) -> list[tuple]:
    columns = read_rows(run)
    return list(zip(*(columns[name] for name in ("split", "scene", "source", "label", "metric", "value"))))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def whole(sounds: Path, results: Path) -> Path:
    """A run that nobody interrupted."""
    return go(sounds, results)


# what a run leaves


def test_a_run_leaves_what_it_promises(whole: Path):
    assert {each.name for each in whole.iterdir()} >= {
        "run.json", "config.yaml", "metrics.json", "rows.parquet", "weights", "figures", "audio",
        "history-critic.csv", "history-separator.csv", "history-activity.csv",
    }  # fmt: skip
    assert {each.name for each in (whole / "weights").iterdir()} == {"separator.safetensors", "critic.safetensors"}
    assert list((whole / "figures").glob("*.png")) and list((whole / "audio").glob("*.wav"))
    assert not (whole / "checkpoints").exists() and not (whole / "partial").exists() and not (whole / ".lock").exists()


def test_run_json_says_where_it_comes_from(whole: Path):
    run = json.loads((whole / "run.json").read_text())
    assert run["state"] == "finished" and run["id"] == whole.name and run["config"]["task"]["classes"] == CLASSES
    assert run["weights_hash"] == content(whole / "weights")
    facts = run["provenance"]
    assert facts["recipe_folder"] == "recipes/weak_label" and facts["device"] == "cpu"
    assert set(facts["scenes_hash"]) == {"test", "seen"} and facts["scenes_hash"]["test"].endswith("-6")
    assert facts["seeds"] == {"run": 0, "scenes": 0} and facts["corpus_clips"] == 36 and facts["corpus_hash"]
    assert sum(facts["splits"].values()) == 36 and set(facts["splits"]) == {"train", "valid", "test"}
    assert set(run["wall_s"]) == {"data", "fit", "score", "cost"} and run["wall_s"]["fit"] > 0
    assert set(run["tables"]) == {"III", "IV", "V", "VI", "VII", "VIII", "IX", "X"}
    assert yaml.safe_load((whole / "config.yaml").read_text()) == run["config"]


def test_a_run_says_what_it_cost(whole: Path):
    cost = read_runs(whole.parent)[0].cost
    assert {"activity", "critic", "separator", "parameters", "parameters_of"} <= set(cost)
    assert cost["macs_per_s"] > cost["parameters"] and cost["real_time_factor"] > 0
    assert cost["peak_memory_mb"] > 50 and cost["fit_peak_memory_mb"] > 50
    assert cost["critic"]["epochs"] == 2 and cost["critic"]["steps"] == 4
    assert cost["parameters"] == sum(cost["parameters_of"].values()) > 0
    with (whole / "history-separator.csv").open(newline="") as lines:
        assert len(list(csv.DictReader(lines))) == cost["separator"]["epochs"]


def test_metrics_that_are_asked_for_are_scored_beside_the_tasks_own(sounds: Path, tmp_path: Path):
    run = baseline(sounds, tmp_path, "mixture", None, ["task.metrics=[si_sdri, snr]"])
    more = score_elsewhere(run, {"class_folders": str(sounds)}, [], tmp_path, False, "cpu", Watched(), ["bss_sir"])
    metrics = [json.loads((each / "metrics.json").read_text())["test"] for each in (run, more)]
    assert {"si_sdri", "snr"} <= set(metrics[0]) and "bss_sir" not in metrics[0] and "bss_sir" in metrics[1]


def test_rows_and_metrics_tell_of_the_scenes_asked_for(whole: Path):
    rows, metrics = rows_of(whole), json.loads((whole / "metrics.json").read_text())
    assert set(metrics) == {"test", "seen"}
    f_rows = {(split, scene) for split, scene, _, _, metric, _ in rows if metric.startswith("clip_")}
    assert sum(split == "test" for split, _ in f_rows) == 6 and sum(split == "seen" for split, _ in f_rows) == 2
    found = metrics["test"]["si_sdri"]
    values = [value for split, *_, metric, value in rows if split == "test" and metric == "si_sdri"]
    assert found["all"]["mean"] == pytest.approx(np.mean(values)) and found["all"]["n"] == len(values)
    assert set(metrics["test"]) >= {"si_sdr", "si_sdr_mixture", "f_measure_frame", "f_measure_clip"}


# stopping and going on


@pytest.mark.parametrize(
    ("stop", "at"), [("training critic", 1), ("training separator", 3), ("scoring test", 4), ("scoring seen", 2)]
)
def test_a_run_that_was_stopped_goes_on_and_ends_the_same(
    sounds: Path, tmp_path: Path, whole: Path, stop: str, at: int
):
    with pytest.raises(KeyboardInterrupt):
        go(sounds, tmp_path, Watched(stop, at))
    half = next(tmp_path.iterdir())
    assert half.name == whole.name and [run.state for run in read_runs(tmp_path)] == ["interrupted"]
    kept = {path: path.stat().st_mtime_ns for path in half.glob("partial/*")}
    rest = Watched()
    assert go(sounds, tmp_path, rest) == half
    assert rows_of(half) == rows_of(whole)
    resumed = json.loads((half / "run.json").read_text())
    assert resumed["state"] == "finished" and len(resumed["resumed"]) == 1
    if stop.startswith("scoring"):
        assert kept and not [bar for bar in rest.bars if bar.startswith("training")]
        assert resumed["wall_s"]["fit"] > 0


@pytest.mark.parametrize("written", [False, True])
def test_a_run_stopped_as_its_training_was_put_away_loses_nothing(
    sounds: Path, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, written: bool
):
    def stopped(path, value):
        if written:
            write_json(path, value)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sepbench.run_fit, "write_json", stopped)
        with pytest.raises(KeyboardInterrupt):
            go(sounds, tmp_path)
    half = go(sounds, tmp_path)
    assert {each.name for each in half.iterdir()} == {each.name for each in whole.iterdir()}
    assert rows_of(half) == rows_of(whole)


def test_scenes_that_were_scored_are_not_scored_again(sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    scored: list[str] = []

    def counted(scene, *rest):
        scored.append(scene.mixture.id)
        return judge(scene, *rest)

    monkeypatch.setattr(sepbench.run, "judge", counted)
    with pytest.raises(KeyboardInterrupt):
        go(sounds, tmp_path, Watched("scoring test", 4))
    assert len(scored) == 4
    go(sounds, tmp_path)
    assert len(scored) == len(set(scored)) == 8


def test_a_finished_run_is_not_made_twice(sounds: Path, results: Path, whole: Path):
    before = (whole / "run.json").stat().st_mtime_ns
    progress = Watched()
    assert go(sounds, results, progress) == whole
    assert (whole / "run.json").stat().st_mtime_ns == before and "--again" in progress.said[-1]
    assert not [bar for bar in progress.bars if bar.startswith(("training", "scoring"))]


@pytest.mark.parametrize(("damage", "said"), [(None, "rows.parquet: is gone"), (100, "rows.parquet: cannot be read")])
def test_a_finished_run_whose_rows_are_lost_is_told_and_not_said_to_be_finished(
    sounds: Path, tmp_path: Path, whole: Path, damage: int | None, said: str
):
    file = shutil.copytree(whole, tmp_path / whole.name) / "rows.parquet"
    held = file.read_bytes()
    file.unlink()
    if damage is not None:
        file.write_bytes(held[:damage])
    with pytest.raises(UserError, match=said) as error:
        go(sounds, tmp_path)
    assert "--again" in str(error.value) and "\n" not in str(error.value)
    for command in ("table", "ls"):
        assert "--again" in "".join(call(command, str(tmp_path))[1:])


def test_again_runs_anew_and_ends_the_same(sounds: Path, tmp_path: Path, whole: Path):
    copy = tmp_path / whole.name
    shutil.copytree(whole, copy)
    (copy / "left-over.txt").write_text("of the run before")
    progress = Watched()
    assert go(sounds, tmp_path, progress, again=True) == copy
    assert "training critic" in progress.bars and not (copy / "left-over.txt").exists()
    assert rows_of(copy) == rows_of(whole)


def test_again_leaves_alone_what_another_process_is_writing(sounds: Path, tmp_path: Path, whole: Path):
    copy = tmp_path / whole.name
    shutil.copytree(whole, copy)
    run = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**run, "state": "running"}))
    lock = FolderLock(copy)
    with pytest.raises(UserError, match="is writing this run"):
        go(sounds, tmp_path, again=True)
    lock.release()
    assert (copy / "rows.parquet").is_file()


def test_another_option_is_another_run(sounds: Path, tmp_path: Path, whole: Path):
    other = go(sounds, tmp_path, labels="strong")
    assert other.name != whole.name and "labels=strong" in other.name
    assert {each.name for each in (other / "weights").iterdir()} == {"separator.safetensors"}
    assert "f_measure_frame" not in json.loads((other / "metrics.json").read_text())["test"]


# scoring elsewhere


def test_what_was_learnt_is_scored_on_other_scenes_as_a_run_of_its_own(sounds: Path, tmp_path: Path, whole: Path):
    progress, data = Watched(), {"class_folders": str(sounds)}
    sets = ["task.mixing.test_rate=10", "task.scenes.test=3", "task.scenes.seen=0"]
    found = score_elsewhere(whole, data, sets, tmp_path, False, "cpu", progress)
    assert not [bar for bar in progress.bars if bar.startswith("training")]
    run = json.loads((found / "run.json").read_text())
    assert run["config"]["trained_by"]["run"] == whole.name and run["options"]["test_lambda"] == 10
    assert run["cost"]["parameters"] == json.loads((whole / "run.json").read_text())["cost"]["parameters"]
    assert run["weights_hash"] == json.loads((whole / "run.json").read_text())["weights_hash"]  # the same networks
    assert {split for split, *_ in rows_of(found)} == {"test"}
    assert not {scene for _, scene, *_ in rows_of(found)} & {scene for _, scene, *_ in rows_of(whole)}
    assert score_elsewhere(whole, data, sets, tmp_path, False, "cpu", progress) == found and progress.said


def test_scored_on_the_same_scenes_it_answers_the_same(sounds: Path, tmp_path: Path, whole: Path):
    found = score_elsewhere(whole, {"class_folders": str(sounds)}, [], tmp_path, False, "cpu", Watched())
    assert found.name != whole.name and rows_of(found) == rows_of(whole)


def test_what_was_learnt_cannot_be_changed_by_scoring_it(sounds: Path, tmp_path: Path, whole: Path):
    with pytest.raises(UserError, match=r"params\.alpha"):
        score_elsewhere(whole, {"class_folders": str(sounds)}, ["params.alpha=1"], tmp_path, False, "cpu", Watched())


# runs that are not to be had


def test_an_unfinished_run_is_not_tested(sounds: Path, tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        go(sounds, tmp_path, Watched("training critic"))
    with pytest.raises(UserError, match="not a finished run"):
        finished_run(next(tmp_path.iterdir()))


def test_a_folder_that_is_no_run_is_told(tmp_path: Path):
    with pytest.raises(UserError, match="not a finished run"):
        finished_run(tmp_path)


def test_a_run_without_weights_is_told(whole: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    shutil.rmtree(copy / "weights")
    with pytest.raises(UserError, match="no weights"):
        finished_run(copy)


def test_a_run_whose_recipe_is_gone_is_told(whole: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    run = json.loads((copy / "run.json").read_text())
    run["provenance"]["recipe_folder"] = "recipes/nowhere"
    (copy / "run.json").write_text(json.dumps(run))
    with pytest.raises(UserError, match="recipes/nowhere"):
        finished_run(copy)


# who may look


def test_weak_supervision_is_handed_batches_without_sources_and_strong_with(sounds: Path, tmp_path: Path, whole: Path):
    class Learner:
        def fit(self, training):
            self.seen = training.scenes.batch(0, 2), training.valid.batch(0, 2)
            raise KeyboardInterrupt

    recipe = load_recipe(REPO / "recipes" / "weak_label")
    for labels, kind in (("frame", WeakBatch), ("clip", WeakBatch), ("strong", Batch)):
        options = {"split": "recording", "labels": labels}
        config, _ = recipe.resolve("quick", options, SETS, corpus="class_folders")
        task, learner = build_task(config["task"], {"class_folders": str(sounds)}), Learner()
        with pytest.raises(KeyboardInterrupt):
            sepbench.run.fit(learner, config, task, tmp_path, {}, Watched())
        assert [type(batch) for batch in learner.seen] == [kind, kind]
        times = {*learner.seen[0].events.on_s, *(learner.seen[0].events.off_s - 0.6)}
        assert (times == {0.0}) == (labels == "clip")


def test_only_an_oracle_is_handed_the_truth(sounds: Path):
    recipe = load_recipe(REPO / "baselines" / "mixture")
    sets = [*(text for text in SETS if text.startswith("task.")), "task.splits.by=recording"]
    config, _ = recipe.resolve("quick", {}, sets, corpus="class_folders")
    task = build_task(config["task"], {"class_folders": str(sounds)})
    scenes, shown = [task.scene("test", i) for i in range(2)], []

    class Spy:
        def separate(self, given):
            shown.append([type(each).__name__ for each in given])
            return [Estimate(scene.mixture.audio) for scene in scenes]

    for supervision in ("none", "weak", "isolated", "oracle"):
        answer(Spy(), scenes, {**config, "supervision": supervision}, "run", "test")
    assert shown == [["Mixture"] * 2] * 3 + [["Scene"] * 2]


def test_a_floor_run_improves_by_nothing(sounds: Path, tmp_path: Path):
    run = baseline(sounds, tmp_path, "mixture")
    improvements = [value for *_, metric, value in rows_of(run) if metric == "si_sdri"]
    assert improvements and set(improvements) == {0.0}


def test_a_run_that_wraps_another_uses_what_that_one_learnt(sounds: Path, tmp_path: Path, whole: Path):
    run = baseline(sounds, tmp_path, "activity_gate", whole, driver="critic")
    counts = [{row[1:] for row in rows_of(each) if row[4].startswith("frame_")} for each in (run, whole)]
    assert counts[0] == counts[1] != set()


def test_a_wrapped_run_of_other_classes_is_told(sounds: Path, tmp_path: Path, whole: Path):
    with pytest.raises(UserError, match="classes"):
        baseline(sounds, tmp_path, "activity_gate", whole, ["task.classes=[bark, horn]"], driver="critic")


def test_a_test_never_scores_recordings_that_the_run_has_heard(sounds: Path, tmp_path: Path, whole: Path):
    data, sets = {"class_folders": str(sounds)}, ["task.splits.shares=[0.2, 0.2, 0.6]"]
    with pytest.raises(UserError, match="was trained on .* of the recordings of this test"):
        score_elsewhere(whole, data, sets, tmp_path, False, "cpu", Watched())
    older = tmp_path / "older"
    shutil.copytree(whole, older)
    run = json.loads((older / "run.json").read_text())
    del run["provenance"]["recordings"]  # as runs from before they were kept
    (older / "run.json").write_text(json.dumps(run))
    with pytest.raises(UserError, match="was trained on .* of the recordings of this test"):
        score_elsewhere(older, data, sets, tmp_path, False, "cpu", Watched())
    assert not list(tmp_path.glob("weak_label*"))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("task.classes=[bark, bark]", "names a class twice"),
        ("task.sample_rate_hz=22050", "a multiple of 1000"),
        ("task.name=urban_event", "--set task.name: belongs to the task"),
        ("task.scenes.test=0|task.scenes.seen=0", "nothing would be scored"),
        ("task.mixing.cut_s=[1.0]", "wanted two numbers"),
        ("task.splits.test=[3]", "--set task.splits.by=fold"),
        ("train.separator.epochs=0", "train.separator: epochs is 0"),
        ("train.critic=null", "nothing is learnt without it"),
        ("sizes.hidden=0", "sizes.hidden is 0"),
    ],
)
def test_a_setting_that_cannot_be_is_told_before_anything_is_kept(sounds: Path, tmp_path: Path, setting: str, said: str):
    with pytest.raises(UserError) as error:
        go(sounds, tmp_path, sets=setting.split("|"))
    assert said in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_validation_draws_on_as_many_scenes_as_the_task_has():
    class Counted:
        def batch(self, index: int, size: int) -> tuple[int, int]:
            return index, size

    first = FirstScenes(Counted(), 20)
    assert [first.batch(index, 8) for index in range(5)] == [(0, 8), (1, 8), (0, 8), (1, 8), (0, 8)]
    assert first.batch(3, 50) == (0, 20)
