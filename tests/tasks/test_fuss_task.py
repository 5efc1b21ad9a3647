"""The task fuss: scenes as they lie on disk, in an order that is a pure function; and what the command line makes of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner

from made_fuss import COUNTS, RATE_HZ, make_fuss
from sepbench.cli import main
from sepbench.errors import UserError
from sepbench.recipe import load_recipe
from sepbench.tasks import load_task, settled
from sepbench.tasks.task import Task, build_task, task_info

REPO = Path(__file__).resolve().parents[2]
SECONDS = 0.5
SETTINGS = [f"--set=task.{name}" for name in (f"seconds={SECONDS}", "scenes.test=11", "scenes.valid=3")]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return make_fuss(tmp_path_factory.mktemp("fuss"), SECONDS, ("dry", "reverb"))


def settings(**over) -> dict:
    return settled(load_task("fuss", {"seconds": SECONDS, **over}))


def task_of(made: Path, **over) -> Task:
    return build_task(settings(**over), {"fuss": str(made)})


@pytest.fixture(scope="module")
def task(made) -> Task:
    return task_of(made)


def test_a_method_is_told_of_one_to_four_sources_without_classes(task):
    info = task.info
    assert (info.classes, info.min_sources, info.max_sources, info.n_channels) == ((), 1, 4, 1)
    assert (info.seconds, info.sample_rate_hz, info.one_per_class) == (SECONDS, RATE_HZ, False)
    assert task_info(task.config) == info
    assert (task_info(load_task("fuss", {})).seconds, load_task("fuss", {})["sample_rate_hz"]) == (10.0, 16000)


def test_the_lists_serve_the_splits_and_every_example_is_there_once(task):
    names = {"train": "train", "valid": "validation", "test": "eval"}
    for split, name in names.items():
        assert task.n_scenes(split) == len(COUNTS[name])
        assert {each.split("/")[0] for each in task.recordings(split)} == {name}
        assert len(task.recordings(split)) == len(COUNTS[name])
    assert task.scored == ["test"] and task.config["scenes"]["test"] == 11
    scenes = task.to_score("test")
    assert len({scenes.scene_id(i) for i in range(11)}) == 11


def test_a_scene_is_the_sum_of_the_files_and_not_the_file_of_the_mixture(made, task):
    scenes = task.to_score("test")
    for i in range(11):
        scene = scenes.scene(i)
        assert scene.mixture.id == scenes.scene_id(i)
        example = made / "ssdata_reverb/eval" / scene.mixture.id.removeprefix("reverb-eval-")
        files = sorted(Path(f"{example}_sources").glob("*.wav"))  # the background comes first
        sounds = [soundfile.read(file, dtype="float32")[0] for file in files]
        assert [source.label for source in scene.sources] == [""] * len(files)
        assert all((source.audio.numpy() == sound).all() for source, sound in zip(scene.sources, sounds))
        assert (scene.mixture.audio.numpy() == np.sum(sounds, 0)).all()
        assert (scene.mixture.audio.numpy() != soundfile.read(f"{example}.wav", dtype="float32")[0]).any()


def test_a_source_sounds_from_its_first_sample_to_its_last(task):
    (interval,) = task.scene("test", 0).sources[0].intervals_s
    assert interval == pytest.approx((0.1 * SECONDS, SECONDS * 7 / 8), abs=2e-3)


def test_a_batch_fills_up_with_silence_and_sums_to_its_mixture(task):
    batch, scenes = task.isolated("test", 0).batch(0, 11), task.to_score("test")
    assert batch.sources.shape == (11, 4, round(SECONDS * RATE_HZ)) and batch.sources.dtype == torch.float32
    assert (batch.labels == -1).all() and batch.events.n_classes == 0 and not len(batch.events.label)
    assert torch.equal(batch.sources.sum(1), batch.mixture)
    for i in range(11):
        own = scenes.scene(i)
        assert torch.equal(batch.mixture[i], own.mixture.audio[0])
        assert [bool(each.any()) for each in batch.sources[i]] == [k < len(own.sources) for k in range(4)]


def test_a_batch_is_a_pure_function_and_a_pass_holds_every_example_once(made, task):
    scenes, n = task.isolated("train", 7), len(COUNTS["train"])
    passes = [scenes.batch(i, n).mixture for i in range(3)]
    assert torch.equal(task_of(made).isolated("train", 7).batch(1, n).mixture, passes[1])
    sets = [{row.numpy().tobytes() for row in each} for each in passes]
    assert sets[0] == sets[1] == sets[2] and len(sets[0]) == n
    assert not torch.equal(passes[0], passes[1]) and not torch.equal(passes[1], passes[2])
    small = torch.cat([scenes.batch(i, 4).mixture for i in range(3)])  # 4 does not divide 6: batches lie across passes
    assert torch.equal(small, torch.cat(passes)[:12])
    assert not torch.equal(task.isolated("train", 8).batch(0, n).mixture, passes[0])


def test_validation_and_test_keep_their_order_whatever_the_seed(task):
    assert torch.equal(task.isolated("valid", 1).batch(0, 3).mixture, task.isolated("valid", 2).batch(0, 3).mixture)
    first = task.first("valid", task.isolated("valid", 0))
    assert torch.equal(first.batch(5, 8).mixture, first.batch(0, 3).mixture)  # as many as there are, and over again


def test_fewer_scenes_are_the_first_of_all_in_an_order_of_the_seed(made, task):
    few = task_of(made, scenes={"test": 4, "train": 2, "valid": 1})
    every = [task.to_score("test").scene_id(i) for i in range(11)]
    assert [few.to_score("test").scene_id(i) for i in range(4)] == every[:4]
    assert few.n_scenes("train") == 2 and set(few.recordings("train")) < set(task.recordings("train"))
    other = task_of(made, scenes={"seed": 1})
    assert [other.to_score("test").scene_id(i) for i in range(11)] != every
    assert len({each.scenes_hash("test") for each in (few, other, task)}) == 3


def test_a_silent_file_is_no_source_of_its_scene(made, tmp_path):
    copy = shutil.copytree(made, tmp_path / "fuss")
    file = copy / "ssdata_reverb/eval/example03_sources/foreground1_sound.wav"
    soundfile.write(file, np.zeros(round(SECONDS * RATE_HZ)), RATE_HZ)
    own = task_of(copy)
    scenes = own.to_score("test")
    index = [scenes.scene_id(i) for i in range(11)].index("reverb-eval-example03")
    assert len(scenes.scene(index).sources) == 3
    assert sum(bool(each.any()) for each in own.isolated("test", 0).batch(0, 11).sources[index]) == 3


def test_dry_and_reverberant_scenes_are_told_apart(made, task):
    dry = task_of(made, mixing={"room": "dry"})
    assert dry.cache.content_hash != task.cache.content_hash
    assert dry.scenes_hash("test") != task.scenes_hash("test") and dry.isolated("train", 0).id != task.isolated("train", 0).id
    assert dry.to_score("test").scene_id(0).startswith("dry-eval-example")
    assert not torch.equal(dry.isolated("valid", 0).batch(0, 3).mixture, task.isolated("valid", 0).batch(0, 3).mixture)


def test_there_are_no_labels_to_learn_from(task):
    assert task.clips("train", 0) is None and task.clips("valid", 0) is None
    with pytest.raises(UserError, match="task fuss: tells no labels to learn from"):
        task.weak("train", 0, "clip")


@pytest.mark.parametrize(
    ("over", "words"),
    [
        (
            {"scenes": {"test": 12}},
            "task.scenes.test is 12; wanted a whole number up to 11: its list 'eval' has no more",
        ),
        ({"scenes": {"valid": -1}}, "task.scenes.valid is -1; wanted a whole number up to 3"),
        ({"scenes": {"test": 0}}, "task.scenes.test is 0, so nothing would be scored"),
        ({"scenes": {"train": 0}}, "task.scenes.train is 0, so there is nothing to train with"),
        ({"splits": {"test": "test"}}, "task.splits.test is 'test'; wanted train, validation, eval"),
        ({"splits": {"test": "train"}}, "names a list twice; a list may serve one split only"),
        ({"classes": ["dog"]}, "task.classes: the task fuss has none"),
        ({"mixing": {"room": "hall"}}, "task.mixing.room is 'hall'; wanted dry or reverb"),
        ({"seconds": 1.0}, "lasts 0.500 s; the task's scenes last 1 s"),
        ({"sample_rate_hz": 8000}, "is at 16000 Hz; the task is at 8000 Hz"),
    ],
)
def test_settings_that_do_not_fit_are_refused(made, over, words):
    with pytest.raises(UserError) as raised:
        task_of(made, **over)
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_whoever_trains_nothing_needs_no_scenes_to_train_with(made):
    config = settings(scenes={"train": 0, "valid": 0})
    assert build_task(config, {"fuss": str(made)}, to_fit=False).n_scenes("test") == 11


# the command line


def call(*args: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, [str(each) for each in args], prog_name="sepbench")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def refused(*args: object) -> str:
    code, _, err = call(*args)
    lines = [line for line in err.splitlines() if line.startswith("sepbench: ")]
    assert code == 2 and len(lines) == 1 and err.splitlines()[-1] == lines[0], (code, err)
    return lines[0]


def run_of(made: Path, results: Path, name: str, *more: object) -> Path:
    data = ("--data", f"fuss={made}", "--results", results)
    code, out, err = call("run", REPO / "baselines" / name, "--task", "fuss", *data, *SETTINGS, *more)
    assert code == 0, err
    return next(results.glob(f"{name}-*"))


@pytest.fixture(scope="module")
def runs(made, tmp_path_factory) -> dict[str, Path]:
    results = tmp_path_factory.mktemp("runs")
    return {name: run_of(made, results, name) for name in ("mixture", "ideal_mask")}


def figures(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text())["test"]


def test_the_floor_and_the_ceiling_stand_where_they_should(runs):
    floor, ceiling = figures(runs["mixture"]), figures(runs["ideal_mask"])
    for n in (2, 3, 4):
        assert floor[f"fuss_si_snri_{n}"]["all"]["mean"] == 0 < 3 < ceiling[f"fuss_si_snri_{n}"]["all"]["mean"]
    counts = [
        ceiling[name]["all"]["n"]
        for name in ("fuss_si_snr_1", *(f"fuss_si_snri_{n}" for n in (2, 3, 4)), "fuss_si_snri")
    ]
    assert counts == [2, 8, 9, 8, 25]
    assert ceiling["equal_separation"]["all"]["mean"] == 1
    assert floor["over_separation"]["all"]["mean"] == pytest.approx(9 / 11)  # four estimates, whatever is there


def test_single_sources_do_not_spoil_the_mean_improvement(runs):
    """The mixture of one source has 100 dB, against which any answer loses."""
    assert figures(runs["ideal_mask"])["si_sdri"]["all"]["n"] == 25


def test_the_table_shows_the_rates_beside_the_figures(runs):
    code, out, _ = call("table", runs["mixture"].parent)
    table = out[out.index("fuss by the number of sources, room reverb, test") :].split("SI-SNR where")[0]
    assert code == 0 and all(word in table for word in ("Under-separated", "Equally", "Over-separated", "0 of 27"))
    assert table.index("Ideal mask") < table.index("Mixture") and "0.82" in table and "test: as released" in out


def test_a_run_keeps_what_served_it(runs):
    run = json.loads((runs["ideal_mask"] / "run.json").read_text())
    facts = run["provenance"]
    assert facts["splits"] == {"train": 6, "valid": 3, "test": 11} and facts["corpus_clips"] == 20
    assert run["config"]["task"]["corpus"] == "fuss" and run["config"]["task"]["scenes"]["train"] == 6
    assert facts["audit"]["verdict"].startswith("disjoint: no scene is in two lists (by the names of scenes")


def test_auditing_says_what_can_be_known(made, runs):
    for what in (("fuss", "--data", f"fuss={made}", "--set", f"seconds={SECONDS}"), (runs["ideal_mask"],)):
        code, out, _ = call("audit", *what)
        assert code == 0 and "disjoint: no scene is in two lists" in out and "the release does not say" in out


def test_a_scene_that_is_in_two_lists_is_a_leak(made, tmp_path):
    copy = shutil.copytree(made, tmp_path / "fuss")
    lists = copy / "ssdata_reverb"
    with (lists / "eval_example_list.txt").open("a") as file:
        file.write((lists / "train_example_list.txt").read_text().splitlines()[0] + "\n")
    code, out, _ = call("audit", "fuss", "--data", f"fuss={copy}", "--set", f"seconds={SECONDS}")
    assert code == 1 and "RECORDINGS SHARED: 1 of 12" in out and "train/example0" in out


def test_scenes_that_were_written_are_scored_as_the_run_was(made, runs, tmp_path):
    out = tmp_path / "scenes"
    code, _, err = call("scenes", runs["ideal_mask"], "-o", out, "--estimates", "--data", f"fuss={made}")
    assert code == 0, err
    assert sorted(file.name for file in (out / "reverb-eval-example02").iterdir()) == [
        "mixture.wav", "source0.wav", "source1.wav", "source2.wav",
    ]  # fmt: skip
    told = tmp_path / "told.json"
    code, _, err = call("score", "--reference", out, "--estimate", f"{out}-estimates", "--metrics", "fuss",
                        "--json", told, "--results", tmp_path / "runs")  # fmt: skip
    assert code == 0, err
    summary = json.loads(told.read_text())["summary"]
    for name, own in summary.items():
        assert own["mean"] == pytest.approx(figures(runs["ideal_mask"])[name]["all"]["mean"], abs=1e-6)


def test_the_worst_scenes_and_the_pictures_come_from_the_release(made, runs, tmp_path):
    code, out, err = call("worst", runs["mixture"], "-n", 2, "-o", tmp_path / "worst", "--data", f"fuss={made}")
    assert code == 0 and len(list((tmp_path / "worst/reference").glob("reverb-eval-*/mixture.wav"))) == 2, err
    code, out, err = call("figures", runs["mixture"], "--data", f"fuss={made}")
    assert code == 0 and "scene.png" in out, err


def test_separating_a_recording_by_class_is_refused_where_there_are_none(made, runs, tmp_path):
    recording = made / "ssdata_reverb/eval/example02.wav"
    line = refused("separate", runs["mixture"], recording, "-o", tmp_path / "out")
    assert "does not say which source is what" in line


def test_the_data_command_describes_and_verifies_it(made):
    code, out, _ = call("data", "fuss", "--data", f"fuss={made}")
    assert code == 0 and "fuss: 40 scenes ready to use" in out and "CC BY 4.0" in out
    row = next(line.split() for line in out.splitlines() if line.split()[:2] == ["reverb", "eval"])
    assert row == ["reverb", "eval", "11", "2", "4", "3", "2"]
    code, out, err = call("data", "verify", "fuss", "--data", f"fuss={made}")
    assert code == 2 and "98 of 98 files are broken" in err and "lasts 0.500 s" in out
    code, out, _ = call("data")
    assert code == 0 and "fuss: not found" in out and "zenodo.org/record/3743844" in out


def test_its_corpus_is_itself_whatever_the_profile_and_the_environment(made, monkeypatch):
    recipe = load_recipe(REPO / "baselines" / "mixture").on("fuss")
    assert recipe.resolve("quick")[0]["task"]["corpus"] == "fuss"
    with pytest.raises(UserError, match="--corpus esc50: fuss is a release, of which nothing is mixed"):
        recipe.resolve("quick", corpus="esc50")
    assert recipe.resolve("paper")[0]["task"]["scenes"]["test"] is None
    assert recipe.resolve("small")[0]["task"]["scenes"]["seen"] == 0
    with pytest.raises(UserError, match="--set task.scenes.seen: has no effect, since no new scenes can be made"):
        recipe.resolve("small", sets=["task.scenes.seen=5"])
    with pytest.raises(UserError, match="--set task.mixing.kind: belongs to the task"):
        recipe.resolve("small", sets=["task.mixing.kind=pairs"])


def test_a_broken_copy_is_one_line_and_exit_code_2(made, tmp_path):
    run = ("run", REPO / "baselines/mixture", "--task", "fuss", "--results", tmp_path / "runs", *SETTINGS)
    assert "No folder given for 'fuss'. Pass --data fuss=DIR" in refused(*run)
    assert "there is no folder" in refused(*run, "--data", f"fuss={tmp_path / 'nowhere'}")
    copy = shutil.copytree(made, tmp_path / "fuss")
    data, folder = ("--data", f"fuss={copy}"), copy / "ssdata_reverb"
    source = folder / "eval/example02_sources/foreground0_sound.wav"
    whole = source.read_bytes()
    source.unlink()
    assert f"line 3 of '{folder}/eval_example_list.txt' names 'eval/example02_sources/foreground0" in refused(
        *run, *data
    )
    source.write_bytes(whole[:1000])  # told before anything is trained, though no scene of it was looked at
    assert f"'{source}' is cut short" in refused(*run, *data)
    source.write_bytes(b"nothing")
    assert f"'{source}' cannot be read" in refused(*run, *data)
    source.write_bytes(bytes(len(whole)))  # of the usual size: told when its scene comes
    assert f"'{source}' cannot be read" in refused(*run, *data)
    (folder / "validation_example_list.txt").unlink()
    assert "no ssdata_reverb/validation_example_list.txt under" in refused(*run, *data)


def test_a_method_that_wants_labels_is_refused_by_its_recipe(made):
    assert "runs on" in refused("run", REPO / "recipes/weak_label", "--task", "fuss", "--data", f"fuss={made}")
