"""The task of any two sounds: all classes of the corpus, single clips to learn from, and what the command line makes of it."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import sepbench.run
from sepbench.cli import main
from sepbench.corpora.synthetic import MODELS
from sepbench.errors import UserError
from sepbench.judge import judge
from sepbench.progress import PlainProgress
from sepbench.recipe import Recipe, build, load_recipe
from sepbench.results import read_rows, read_runs
from sepbench.run import test_run as score_elsewhere  # under its own name pytest would take it for a test
from sepbench.scene import Estimate
from sepbench.tasks import load_task, settled
from sepbench.tasks.task import Task, build_task, open_clips

REPO = Path(__file__).resolve().parents[2]
ALL_ITS_TASKS = [file.parent for folder in ("baselines", "recipes") for file in (REPO / folder).glob("*/recipe.yaml")]
BASELINES = ("ideal_mask", "mixture", "mixture_cnn", "random_guess")
OWN = {"esc50": "somewhere", "urbansound8k": "elsewhere"}
RATE_HZ = 8000
QUIET = PlainProgress(open(os.devnull, "w"))  # noqa: SIM115
FEW = ["task.sample_rate_hz=8000", "task.seconds=0.5", "task.scenes.valid=4", "task.scenes.test=6"]


def config(**overrides: Any) -> dict[str, Any]:
    own = {"corpus": "class_folders", "sample_rate_hz": RATE_HZ, "seconds": 0.5, "scenes": {"valid": 4, "test": 4}}
    return settled(load_task("universal_pairs", {**own, **overrides}))


@pytest.fixture(scope="module", autouse=True)
def one_cache(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("SEPBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Eight recordings of two clips each of dogs, cats and hens; and one of a pig, which can be in one split alone."""
    root = tmp_path_factory.mktemp("sounds")
    for name, n in {"dog": 8, "cat": 8, "hen": 8, "pig": 1}.items():
        for i in range(n):
            for take in range(2):
                path = root / name / f"{name}{i}" / f"{take}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                noise = np.random.default_rng([i, take, len(name), ord(name[0])]).uniform(-0.3, 0.3, 6000)
                soundfile.write(path, noise, RATE_HZ)
    return root


@pytest.fixture(scope="module")
def task(folder: Path) -> Task:
    return build_task(config(), {"class_folders": str(folder)})


def on(name: str, kind: str = "baselines") -> Recipe:
    return load_recipe(REPO / kind / name).on("universal_pairs")


# what it is


def test_the_task_is_two_sounds_of_three_seconds_of_two_corpora():
    asked = load_task("universal_pairs", {})
    assert (asked["corpus"], asked["seconds"], asked["sample_rate_hz"]) == ("esc50+urbansound8k", 3.0, 16000)
    assert (asked["classes"], asked["mixing"]["sources"], asked["splits"]["by"]) == (None, 2, "recording")


def test_without_a_list_the_classes_are_all_that_the_corpus_has(task: Task, folder: Path):
    assert task.info.classes == ("cat", "dog", "hen", "pig") and task.config["classes"] == list(task.info.classes)
    assert (task.info.min_sources, task.info.max_sources, task.info.seconds) == (2, 2, 0.5)
    listed = build_task(config(classes=["hen", "dog"]), {"class_folders": str(folder)})
    assert listed.info.classes == ("hen", "dog")
    assert {clip.label for clip in listed.cache.clips} == {"hen", "dog"}


def test_the_generated_corpus_has_all_of_its_classes():
    assert open_clips(config(corpus="synthetic"), {})[2]["classes"] == sorted(MODELS)


def test_a_class_that_a_split_lacks_is_no_error(task: Task):
    there = [{task.cache.clips[i].label for i in task.members[split]} for split in ("train", "valid", "test")]
    assert sum("pig" in each for each in there) == 1
    assert all({"cat", "dog", "hen"} <= each for each in there)
    assert all(
        task.isolated(split, 0).batch(0, 4).sources.shape == (4, 2, 4000) for split in ("train", "valid", "test")
    )


def test_splits_share_no_recording(task: Task):
    train, valid, test = (set(task.recordings(split)) for split in ("train", "valid", "test"))
    assert train and valid and test and not (train & valid or train & test or valid & test)


def test_a_method_is_told_that_classes_may_repeat(task: Task, folder: Path):
    assert task.info.classes_repeat
    assert not build_task(settled(load_task("esc_pairs", PAIRED)), {"class_folders": str(folder)}).info.classes_repeat
    two = dataclasses.replace(task.info, classes=("cat", "dog"))
    once = dataclasses.replace(two, classes_repeat=False)
    assert not two.one_per_class and not once.one_per_class  # in any order, so that no output is of a class
    assert dataclasses.replace(once, any_order=False).one_per_class


PAIRED: dict[str, Any] = {
    "corpus": "class_folders", "classes": ["dog", "cat", "hen"], "class_set": None, "sample_rate_hz": RATE_HZ,
    "seconds": 0.5, "splits": {"by": "recording"}, "scenes": {"valid": 4, "test": 4},
}  # fmt: skip


@pytest.mark.parametrize(("sources", "fewest", "expected"), [(1, None, (1, 1)), (3, None, (3, 3)), (4, 2, (2, 4))])
def test_any_number_of_sources(folder: Path, sources: int, fewest: int | None, expected: tuple[int, int]):
    changed = {"mixing": {"sources": sources, "fewest_sources": fewest}, "splits": {"shares": [0.4, 0.3, 0.3]}}
    made = build_task(config(**changed), {"class_folders": str(folder)})
    assert (made.info.min_sources, made.info.max_sources) == expected
    heard = {int((row >= 0).sum()) for row in made.isolated("train", 0).batch(0, 60).labels}
    assert (min(heard), max(heard)) == expected


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"mixing": {"sources": 0}}, "Sources in a scene: the fewest 0, the most 0"),
        ({"mixing": {"sources": 8}}, r"sources is 8, all of different recordings; split 'valid' has \d\."),
        ({"mixing": {"sources": 2, "fewest_sources": 3}}, "the fewest 3, the most 2"),
        (
            {"mixing": {"level_dbfs": -20.0}},
            r"level_dbfs is -20.0; wanted two numbers, the lower one first, such as \[-28.0",
        ),
        ({"mixing": {"draw": "any"}}, "task.mixing.draw is 'any'; wanted recording or class"),
        ({"classes": ["dog", "dog"]}, "task.classes: dog, dog names a class twice"),
        ({"classes": ["dog", "ape"]}, "no clips of class 'ape'"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(folder: Path, overrides: dict[str, Any], said: str):
    with pytest.raises(UserError, match=said) as told:
        build_task(config(**overrides), {"class_folders": str(folder)})
    assert "\n" not in str(told.value)


# single clips to learn from


def test_clips_are_those_of_their_split_one_by_one(task: Task):
    for split in ("train", "valid"):
        clips = task.clips(split, 0)
        assert clips is not None
        batch = clips.batch(0, 80)
        assert batch.sources.shape == (80, 1, 4000) and batch.labels.shape == (80, 1)
        assert (batch.sources[:, 0] == batch.mixture).all()
        drawn = clips.planner.plan(0, 400)
        assert set(drawn.clip.ravel()) == set(task.members[split])  # and so none of the test
        there = {task.cache.clips[i].label for i in task.members[split]}
        assert {task.info.classes[label] for label in batch.labels.ravel()} == there


def test_clips_are_as_loud_and_as_long_as_in_the_scenes(task: Task):
    batches = [scenes.batch(0, 300) for scenes in (task.isolated("train", 0), task.clips("train", 0)) if scenes]
    levels = [10 * np.log10((batch.sources.numpy().astype(float) ** 2).sum(-1) / 4000).ravel() for batch in batches]
    levels = [each[each > -60] for each in levels]
    assert [each.mean() for each in levels] == pytest.approx([-25, -25], abs=0.4)
    assert min(map(np.min, levels)) > -28.01 and max(map(np.max, levels)) < -21.99


def test_clips_have_a_name_that_says_what_they_are(task: Task, folder: Path):
    again = build_task(config(), {"class_folders": str(folder)})
    names = [task.clips("train", 0), task.clips("valid", 0), task.clips("train", 1), task.isolated("train", 0)]
    names = [each.id for each in names]
    assert len(set(names)) == 4 and again.clips("train", 0).id == names[0]
    other = build_task(config(mixing={"level_dbfs": [-28.0, -20.0]}), {"class_folders": str(folder)})
    assert other.clips("train", 0).id not in names
    more = build_task(config(mixing={"sources": 3}), {"class_folders": str(folder)})
    assert more.clips("train", 0).id == names[0]  # of what sounds beside them clips know nothing
    firsts = [task.first("valid", task.clips("valid", 0)), task.first("test", task.clips("valid", 0))]
    assert firsts[0].id.startswith(names[1]) and firsts[0].id == firsts[1].id != names[1]


def test_tasks_have_single_clips_where_a_clip_is_a_source(folder: Path):
    data = {"class_folders": str(folder)}
    pairs = build_task(settled(load_task("esc_pairs", PAIRED)), data)
    batch = pairs.clips("train", 0).batch(0, 60)
    assert batch.sources.shape == (60, 1, 4000) and set(batch.labels.ravel()) == {0, 1, 2}
    events = {key: value for key, value in PAIRED.items() if key != "class_set"}
    assert build_task(settled(load_task("urban_events", events)), data).clips("train", 0) is None


def test_fit_is_handed_clips_and_a_place_to_share(folder: Path, tmp_path: Path):
    class Learner:
        def fit(self, training: Any) -> None:
            self.training = training
            raise KeyboardInterrupt

    recipe = load_recipe(REPO / "recipes" / "weak_label")
    made, seen = build_task(config(), {"class_folders": str(folder)}), {}
    for supervision in ("isolated", "weak"):
        learner, asked = Learner(), recipe.resolve("quick", seed=5)[0]
        with pytest.raises(KeyboardInterrupt):
            told = {**asked, "supervision": supervision, "task": made.config}
            sepbench.run.fit(learner, told, made, tmp_path, {}, QUIET)
        seen[supervision] = learner.training
    training, weak = seen["isolated"], seen["weak"]
    assert training.clips.id == made.clips("train", 5).id
    assert training.valid_clips.id == made.first("valid", made.clips("valid", 0)).id
    assert training.shared == Path(os.environ["SEPBENCH_CACHE"]) / "trained"
    assert not {"clips", "valid_clips", "shared", "sources"} & {field.name for field in dataclasses.fields(weak)}


# which corpus, which options


@pytest.mark.parametrize(
    ("profile", "data", "corpus", "expected"),
    [
        ("quick", {}, None, "synthetic"),
        ("quick", OWN, None, "esc50+urbansound8k"),
        ("quick", {"esc50": "somewhere"}, "synthetic", "synthetic"),
        ("small", {}, None, "esc50+urbansound8k"),
        ("quick", OWN, "esc50", "esc50"),
        ("small", {}, "synthetic", "synthetic"),
    ],
)
def test_the_joined_corpus_is_the_recipes_own_where_all_of_it_is_given(profile, data, corpus, expected):
    recipe = on("mixture")
    asked, options = recipe.resolve(profile, data=data, corpus=corpus)
    assert asked["task"]["corpus"] == expected
    again = recipe.retarget(asked, options, [], data if corpus is None or data == OWN else {})[0]["task"]["corpus"]
    assert again == ("esc50+urbansound8k" if data == OWN else expected)


def test_a_part_of_the_joined_corpus_is_not_it():
    with pytest.raises(UserError, match="urbansound8k is not given"):
        on("mixture").resolve("quick", data={"esc50": "somewhere"})


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("profile", ["quick", "small", "paper"])
def test_on_another_task_an_option_is_what_that_task_has_unless_it_is_given(name: str, profile: str):
    recipe = on(name)
    plain, options = recipe.resolve(profile)
    assert (options["split"], plain["task"]["splits"]["by"]) == ("recording", "recording")
    assert (options["sources"], options["fewest_sources"], options["protocol"]) == (2, None, "disjoint")
    assert "classes" not in options and "lambda" not in options
    asked = recipe.resolve(profile, {"sources": 3, "fewest_sources": 1, "split": "fold"})[0]["task"]
    assert (asked["mixing"]["sources"], asked["mixing"]["fewest_sources"], asked["splits"]["by"]) == (3, 1, "fold")
    elsewhere = load_recipe(REPO / "baselines" / name).on("esc_pairs").resolve(profile)[1]
    assert elsewhere["split"] == "fold"


@pytest.mark.parametrize("profile", ["quick", "small", "paper"])
def test_all_are_scored_on_the_same_scenes(profile: str):
    scored = {}
    for folder in ALL_ITS_TASKS:
        recipe = load_recipe(folder)
        if "universal_pairs" in (recipe.own_task, *recipe.other_tasks):
            scored[folder.name] = recipe.on("universal_pairs").resolve(profile)[0]["task"]
            scored[folder.name]["scenes"].pop("valid")  # how many a method is chosen on is its own business
    assert scored.keys() >= {*BASELINES}
    assert all(each == scored["mixture"] for each in scored.values()), scored


@pytest.mark.parametrize("options", [{"sources": 0}, {"fewest_sources": 0}])
def test_no_sources_are_refused_by_the_option_too(options: dict[str, int]):
    with pytest.raises(UserError, match="sources: got '0'; allowed: a whole number of at least 1"):
        on("mixture").resolve("quick", options)


# two sounds of one class


def test_two_sources_of_one_class_have_an_ideal_mask_each(task: Task):
    scenes = [task.scene("test", i) for i in range(40)]
    twins = [scene for scene in scenes if len({source.label for source in scene.sources}) < len(scene.sources)]
    assert twins
    method = build(on("ideal_mask"), on("ideal_mask").resolve("quick")[0], task.info)
    metrics = task.config["metrics"]
    for scene, answer in zip(twins, method.separate(twins)):
        assert answer.labels == tuple(source.label for source in scene.sources) and len(set(answer.labels)) == 1
        rows = judge(scene, answer, task.info.classes, metrics, "run", "test", 1, len(task.info.classes))
        assert not [row for row in rows if row.metric == "ca_sdri"]  # which is of scenes whose labels differ
        right = [row.value for row in rows if row.metric == "class_accuracy"]
        improved = [row.value for row in rows if row.metric == "si_sdri"]
        assert right == [1.0, 1.0] and len(improved) == 2 and min(improved) > 0
        swapped = Estimate(answer.sources.flip(0), answer.labels[::-1])
        again = judge(scene, swapped, task.info.classes, metrics, "run", "test", 1, len(task.info.classes))
        for metric in ("si_sdri", "capi_sdri", "class_accuracy"):
            values = [sorted(row.value for row in each if row.metric == metric) for each in (rows, again)]
            assert values[0] and values[0] == pytest.approx(values[1], abs=1e-4)


# the command line, from sounds to pictures


@pytest.fixture(scope="module")
def runs(folder: Path, tmp_path_factory) -> dict[str, Path]:
    results = tmp_path_factory.mktemp("runs")
    for name in ("ideal_mask", "mixture", "random_guess"):
        sets = [word for text in [*FEW, "task.classes=[cat, dog, hen, pig]"] for word in ("--set", text)]
        given = ["--task", "universal_pairs", "--corpus", "class_folders", "--data", f"class_folders={folder}"]
        main(["run", str(REPO / "baselines" / name), *given, *sets, "--results", str(results)], standalone_mode=False)
    return {record.config["recipe"]: record.path for record in read_runs(results)}


def test_yardsticks_are_where_they_belong(runs: dict[str, Path]):
    rows = {name: read_rows(path) for name, path in runs.items()}
    improved = {name: own["value"][own["metric"] == "si_sdri"] for name, own in rows.items()}
    assert set(improved["mixture"]) == set(improved["random_guess"]) == {0.0}
    assert improved["ideal_mask"].mean() > 3
    assert {"ca_sdri", "capi_sdri", "class_accuracy_both", "source_tp"} <= {*rows["ideal_mask"]["metric"]}


def test_a_run_is_audited_exported_and_drawn_again(runs: dict[str, Path], folder: Path, tmp_path: Path, capsys):
    run, data = str(runs["ideal_mask"]), ["--data", f"class_folders={folder}"]
    assert main(["audit", run], standalone_mode=False) == 0
    assert "disjoint: no clip, recording or audio serves both" in capsys.readouterr().out
    main(["scenes", run, "-o", str(tmp_path / "scenes"), "-n", "2", "--estimates", *data], standalone_mode=False)
    assert len(list((tmp_path / "scenes").glob("*/mixture.wav"))) == 2
    main(["figures", run, "-o", str(tmp_path / "figures"), *data], standalone_mode=False)
    assert (tmp_path / "figures" / "scene.png").is_file()


def test_a_recording_of_ones_own_is_separated(runs: dict[str, Path], folder: Path, tmp_path: Path):
    given = [str(runs["random_guess"]), str(next(folder.rglob("*.wav"))), "-o", str(tmp_path), "--threshold", "0"]
    main(["separate", *given], standalone_mode=False)
    assert list(tmp_path.rglob("*.wav"))


@pytest.mark.parametrize("classes", [[], ["--set", "classes=[dog, cat]"]])
def test_the_task_is_audited_by_name_with_all_classes_or_some(folder: Path, capsys, classes: list[str]):
    given = ["universal_pairs", "--corpus", "class_folders", "--data", f"class_folders={folder}"]
    assert main(["audit", *given, *classes], standalone_mode=False) == 0
    told = capsys.readouterr().out
    assert "disjoint:" in told and ("2 classes" in told) == bool(classes)


def test_a_run_is_not_tested_on_what_it_heard_in_another_corpus(tmp_path: Path):
    """Trained on ESC-50's clips alone, it has heard recordings that the joined corpus has in its test."""
    esc, urban = tmp_path / "esc", tmp_path / "urban"
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    for i in range(12):
        rows.append(f"{i}.wav,1,0,dog,True,{i},A")
        write(esc / "audio" / f"{i}.wav", i)
    table(esc / "meta" / "esc50.csv", rows)
    rows = ["slice_file_name,fsID,start,end,salience,fold,classID,class"]
    for i in range(6, 24):
        rows.append(f"{i}.wav,{i},0,0.5,1,1,3,dog_bark")
        write(urban / "audio" / "fold1" / f"{i}.wav", 100 + i)
    table(urban / "metadata" / "UrbanSound8K.csv", rows)
    data, results = {"esc50": str(esc), "urbansound8k": str(urban)}, tmp_path / "runs"
    recipe = on("mixture")
    told, options = recipe.resolve("quick", {}, [*FEW, "task.classes=[dog]"], {}, corpus="esc50")
    run = sepbench.run.run_one(told, options, recipe, data, results, False, "cpu", QUIET)
    with pytest.raises(UserError, match=r"was trained on \d of the recordings of this test"):
        score_elsewhere(run, data, [], results, False, "cpu", QUIET)  # the joined corpus, as all of it is given
    shutil.rmtree(urban)


def write(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).uniform(-0.3, 0.3, RATE_HZ), RATE_HZ)


def table(path: Path, rows: list[str]) -> None:
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(rows) + "\n")
