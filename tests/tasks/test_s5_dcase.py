"""The task s5_dcase: soundscapes as they lie on disk, scenes to train with mixed of what lies beside them, and its runs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner

from made_dcase import INTERFERING, RATE_HZ, add_parts, drawn_scenes, make_dcase
from sepbench.cli import main
from sepbench.corpora.dcase_s5 import CLASSES
from sepbench.errors import UserError
from sepbench.judge import judge
from sepbench.scene import Estimate, Scene
from sepbench.tasks import load_task, settled
from sepbench.tasks.task import Task, build_task, task_info

REPO = Path(__file__).resolve().parents[2]
SECONDS = 0.5
LEARNER = '''
import torch
from sepbench.scene import Estimate

class Learner:
    """Looks at what it is handed, and answers with the first channel under the label that it heard first."""

    def __init__(self, settings, task):
        self.task = task

    def fit(self, training):
        batch = training.scenes.batch(0, 4)
        assert batch.mixture.shape[:2] == (4, self.task.n_channels) and batch.sources.shape[1] == self.task.max_sources
        assert training.valid.batch(0, 4).mixture.shape == batch.mixture.shape and len(training.clips.batch(0, 2).labels) == 2
        self.heard = int(batch.labels[0, 0])

    def separate(self, mixtures):
        return [Estimate(mixture.audio[:1], (self.task.classes[self.heard],)) for mixture in mixtures]

    def save(self, folder):
        folder.mkdir()
        (folder / "heard.txt").write_text(str(self.heard))

    def load(self, folder):
        self.heard = int((folder / "heard.txt").read_text())
'''
RECIPE = """
name: Learner
method: method.py:Learner
supervision: isolated
task: s5_dcase
profiles: {quick: {task: {scenes: {valid: 4}}}}
"""
LABELS = [["Speech"], ["Dishes", "Speech"], ["Cough", "Pour", "Typing"], ["Blender", "Clapping"], ["Doorbell"]]
LABELS_2026 = [["Speech", "Speech", "Dishes"], [], ["Pour", "Pour"], ["Cough"]]
OF_2026 = {"mixing": {"fewest_sources": 0, "same_class": True}}


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return drawn_scenes(LABELS, SECONDS)


@pytest.fixture(scope="module")
def made(tmp_path_factory, scenes) -> Path:
    """A set of 2025 without what there is to train with."""
    return make_dcase(tmp_path_factory.mktemp("dcase"), scenes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, scenes) -> Path:
    return add_parts(make_dcase(tmp_path_factory.mktemp("whole"), scenes))


def settings(**over) -> dict:
    return settled(load_task("s5_dcase", {"seconds": SECONDS, "sample_rate_hz": RATE_HZ, **over}))


def task_of(root: Path, **over) -> Task:
    return build_task(settings(**over), {"dcase_s5": str(root)})


@pytest.fixture(scope="module")
def task(made) -> Task:
    return task_of(made)


def same(read: Scene, written: Scene) -> None:
    """Whether what was read is what was written: the order of sources apart."""
    assert torch.equal(read.mixture.audio, written.mixture.audio) and read.mixture.id == written.mixture.id
    pairs = [[(source.label, source.audio.numpy().tobytes()) for source in scene.sources] for scene in (read, written)]
    assert sorted(pairs[0]) == sorted(pairs[1])


def test_a_method_is_told_of_four_channels_and_one_to_three_of_eighteen_classes(task):
    info = task.info
    assert (info.classes, info.min_sources, info.max_sources, info.n_channels) == (CLASSES, 1, 3, 4)
    assert (info.seconds, info.sample_rate_hz, info.classes_repeat, info.one_per_class) == (SECONDS, RATE_HZ, False, False)
    assert task_info(task.config) == info
    official = load_task("s5_dcase", {})
    assert (official["seconds"], official["sample_rate_hz"], settled(official)["minimum_active"]) == (10.0, 32000, 1)
    info = task_info(settings(**OF_2026))
    assert (info.min_sources, info.classes_repeat) == (0, True)


def test_what_was_written_is_read_back(task, scenes):
    read = task.to_score("test")
    names = [read.scene_id(i) for i in range(len(scenes))]
    assert sorted(names) == [scene.mixture.id for scene in scenes] and task.scored == ["test"]
    for i, name in enumerate(names):
        same(read.scene(i), scenes[int(name)])


def test_what_was_written_as_in_2026_is_read_back(tmp_path):
    scenes = drawn_scenes(LABELS_2026, SECONDS)
    own = task_of(make_dcase(tmp_path, scenes, 2026), **OF_2026)
    read = own.to_score("test")
    for i in range(own.n_scenes("test")):
        scene = read.scene(i)
        same(scene, scenes[int(scene.mixture.id)])
        assert [each.label for each in scene.sources] == LABELS_2026[int(scene.mixture.id)]


def test_generated_scenes_are_read_back_as_files(tmp_path):
    """Those of the task s5, its classes under other names."""
    own = {"sample_rate_hz": 16000, "seconds": 1.0}
    classes = ["dog", "rain", "rooster"]
    mixing = {"interference_classes": ["siren"], "interference": [0, 1], "rooms": {"train": 1, "valid": 1, "test": 1}}
    mixing |= {"positions": 4, "rt60_s": [0.2, 0.2], "room_m": [3.0, 3.5]}
    config = load_task("s5", {**own, "corpus": "synthetic", "classes": classes, "mixing": mixing})
    generated = build_task(settled(config), {}, to_fit=False)
    renamed = dict(zip(classes, ("Speech", "Pour", "Cough")))
    scenes = [generated.scene("test", i) for i in range(4)]
    scenes = [replace(each, sources=tuple(replace(own, label=renamed[own.label]) for own in each.sources)) for each in scenes]
    for year, over in ((2025, {}), (2026, OF_2026)):
        read = task_of(make_dcase(tmp_path / str(year), scenes, year), **own, **over).to_score("test")
        found = {scene.mixture.id: scene for scene in map(read.scene, range(4))}
        for scene in scenes:
            same(found[scene.mixture.id], scene)


def test_sources_and_rest_add_up_to_the_first_channel(task):
    for i in range(5):
        scene = task.scene("test", i)
        total = torch.stack([each.audio for each in (*scene.sources, *scene.rest)]).sum(0)
        assert torch.allclose(total, scene.mixture.audio[0], atol=1e-6) and not any(rest.intervals_s for rest in scene.rest)


def test_a_target_sounds_from_its_first_sample_to_its_last(task):
    (interval,) = task.scene("test", 0).sources[0].intervals_s
    assert interval == pytest.approx((0.1 * SECONDS, SECONDS * 7 / 8), abs=2e-3)


def test_a_silent_target_is_no_source(made, tmp_path):
    copy = shutil.copytree(made, tmp_path / "dcase")
    file = copy / "dev_set/test/oracle_target/0001_Dishes.wav"
    soundfile.write(file, np.zeros(round(SECONDS * RATE_HZ)), RATE_HZ, subtype="FLOAT")
    own = task_of(copy).to_score("test")
    scene = next(scene for scene in map(own.scene, range(5)) if scene.mixture.id == "0001")
    assert [source.label for source in scene.sources] == ["Speech"]


def test_a_batch_has_what_its_scenes_have(task):
    scenes = task.to_score("test")
    batch = scenes.batch(1, 4)  # scenes 4, 0, 1 and 2
    n = round(SECONDS * RATE_HZ)
    assert batch.mixture.shape == (4, 4, n) and batch.sources.shape == (4, 3, n)
    for row, i in enumerate((4, 0, 1, 2)):
        scene = scenes.scene(i)
        assert torch.equal(batch.mixture[row], scene.mixture.audio)
        for slot, label in enumerate(batch.labels[row]):
            assert (label == -1) == (slot >= len(scene.sources))
            if label == -1:
                assert not batch.sources[row, slot].any()
            else:
                assert CLASSES[label] == scene.sources[slot].label
                assert torch.equal(batch.sources[row, slot], scene.sources[slot].audio)
    assert batch.events.n_scenes == 4 and len(batch.events.label) == (batch.labels >= 0).sum()


def test_fewer_scenes_are_the_first_of_all_in_an_order_of_the_seed(made, task):
    few, other = task_of(made, scenes={"test": 2}), task_of(made, scenes={"seed": 1})
    every = [task.to_score("test").scene_id(i) for i in range(5)]
    assert [few.to_score("test").scene_id(i) for i in range(2)] == every[:2]
    assert [other.to_score("test").scene_id(i) for i in range(5)] != every
    assert len({each.scenes_hash("test") for each in (few, other, task)}) == 3
    assert task.config["scenes"]["test"] == 5


def test_perfect_answers_are_perfect_and_the_mixture_improves_nothing(task):
    metrics = load_task("s5_dcase", {})["metrics"]
    for i in range(5):
        scene = task.scene("test", i)
        labels, sounds = tuple(each.label for each in scene.sources), torch.stack([each.audio for each in scene.sources])
        rows = judge(scene, Estimate(sounds, labels), CLASSES, metrics, "run", "test", 1)
        assert next(row.value for row in rows if row.metric == "label_set_accuracy") == 1
        assert next(row.value for row in rows if row.metric == "ca_sdri") > 50
        mixture = Estimate(scene.mixture.audio[:1].expand(len(labels), -1), labels)
        floor = judge(scene, mixture, CLASSES, metrics, "run", "test", 1)
        assert next(row.value for row in floor if row.metric == "ca_sdri") == pytest.approx(0, abs=1e-6)


def test_training_scenes_are_mixed_of_the_parts_of_their_split(whole):
    own = task_of(whole, scenes={"valid": 6})
    assert task_info(own.config) == own.info
    batch = own.isolated("train", 0).batch(0, 8)
    n = round(SECONDS * RATE_HZ)
    assert batch.mixture.shape == (8, 4, n) and batch.sources.shape == (8, 3, n)
    assert set((batch.labels >= 0).sum(1)) <= {1, 2, 3} and batch.events.n_classes == 18
    again = task_of(whole, scenes={"valid": 6})
    assert torch.equal(again.isolated("train", 0).batch(0, 8).mixture, batch.mixture)
    assert not torch.equal(own.isolated("train", 1).batch(0, 8).mixture, batch.mixture)
    assert own.first("valid", own.isolated("valid", 0)).batch(9, 8).mixture.shape == (6, 4, n)
    assert own.weak("train", 0, "clip").batch(0, 2).mixture.shape == (2, 4, n)
    clips = own.clips("train", 0).batch(0, 5)
    assert torch.equal(clips.mixture, clips.sources[:, 0]) and (clips.labels >= 0).all()
    scene = own.isolated("valid", 0).scene(0)
    assert {each.label for each in scene.rest if each.label in INTERFERING} and len(scene.sources) in (1, 2, 3)
    for split in ("train", "valid"):
        names = own.recordings(split)
        assert len(names) == len(own.members[split]) == 2 * (18 + len(INTERFERING))
        assert all(name.split("/")[1] == split for name in names)


def test_measured_rooms_and_recorded_noise_are_those_of_the_set(whole, tmp_path):
    copy = shutil.copytree(whole, tmp_path / "dcase")
    first = task_of(whole).isolated("train", 0).batch(0, 2).mixture
    assert torch.equal(task_of(copy).isolated("train", 0).batch(0, 2).mixture, first)  # wherever they lie
    for part in ("room_ir", "noise"):
        folder = copy / "dev_set" / part
        shutil.rmtree(folder / "train")
        shutil.copytree(folder / "valid", folder / "train")
        other = task_of(copy).isolated("train", 0).batch(0, 2).mixture
        assert not torch.equal(other, first)
        first = other


def test_training_scenes_are_mixed_by_the_settings_of_the_task(whole):
    changed = {
        "sources": 4, "fewest_sources": 0, "same_class": True, "interference": [0, 3], "target_level_db": [1.0, 2.0],
        "interference_level_db": [3.0, 4.0], "noise_dbfs": -44.0, "min_peak": 0.01, "early_ms": [2.0, 30.0],
    }  # fmt: skip
    found = task_of(whole, mixing=changed).mixed.planner("train", 0).settings
    assert found.n_sources == (0, 4) and found.same_class and found.n_interference == (0, 3)
    assert (found.target_level_db, found.interference_level_db, found.noise_dbfs) == ((1.0, 2.0), (3.0, 4.0), -44.0)
    assert (found.min_peak, found.early_ms, found.seconds) == (0.01, (2.0, 30.0), SECONDS)


@pytest.mark.parametrize(("part", "n_channels"), [("soundscape", 4), ("oracle_target", 1)])
def test_a_file_that_is_not_as_large_as_the_others_is_looked_into_at_once(made, task, tmp_path, part, n_channels):
    copy = shutil.copytree(made, tmp_path / "dcase")
    last = task.to_score("test").scene_id(4)  # which is not scored here: what is, is looked into anyway
    file = sorted((copy / "dev_set/test" / part).glob(f"{last}*.wav"))[0]
    soundfile.write(file, np.full((500, n_channels), 0.1), RATE_HZ, subtype="FLOAT")
    with pytest.raises(UserError, match="lasts 0.062 s") as told:
        task_of(copy, scenes={"test": 4})
    assert str(file) in str(told.value)


def test_whoever_only_tests_needs_nothing_to_train_with(task):
    assert task.recordings("train") == task.recordings("valid") == [] and len(task.recordings("test")) == 5
    for asked in (task.isolated, task.clips):
        with pytest.raises(UserError) as raised:
            asked("train", 0)
        assert "sound_event/train' is not there. Unpack that part, too, to train" in str(raised.value)


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"scenes": {"test": 6}}, "task.scenes.test is 6; wanted a whole number up to 5: its test has no more"),
        ({"scenes": {"test": 0}}, "task.scenes.test is 0, so nothing would be scored"),
        ({"classes": ["Speech"]}, "task.classes: the classes of s5_dcase are those of its release. Leave them away"),
        ({"corpus": "fuss"}, "task.corpus is 'fuss'; the task s5_dcase is the release 'dcase_s5'"),
        ({"mixing": {"sources": 2}}, "has 3 targets (Cough, Pour, Typing); wanted 2 at most"),
        ({"mixing": {"fewest_sources": 2}}, "soundscape '0000' has 1 target, wanted 2 at least, and 1 more have too few"),
        ({"mixing": {"fewest_sources": 4}}, "Sources in a scene: the fewest 4, the most 3"),
        ({"mixing": {"same_class": "no"}}, "task.mixing.same_class is no; wanted true or false"),
        ({"seconds": 1.0}, "lasts 0.500 s; the task's scenes last 1 s"),
        ({"sample_rate_hz": 32000}, f"is at {RATE_HZ} Hz; the task is at 32000 Hz"),
    ],
)
def test_settings_that_do_not_fit_are_refused(made, over, words):
    with pytest.raises(UserError) as raised:
        task_of(made, **over)
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_nothing_to_choose_an_epoch_by_is_told_when_something_trains(whole):
    with pytest.raises(UserError, match="task.scenes.valid is 0; wanted 1 or more, to choose an epoch by"):
        task_of(whole, scenes={"valid": 0}).isolated("train", 0)


def test_2026_needs_its_two_settings(tmp_path):
    root = make_dcase(tmp_path, drawn_scenes(LABELS_2026, SECONDS), 2026)
    with pytest.raises(UserError, match="soundscape '0001' has no target.*set task.mixing.fewest_sources=0"):
        task_of(root)
    with pytest.raises(UserError, match="two targets of one class .*Set task.mixing.same_class=true"):
        task_of(root, mixing={"fewest_sources": 0})


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


SETTINGS = [f"--set=task.{name}" for name in (f"seconds={SECONDS}", f"sample_rate_hz={RATE_HZ}", "scenes.test=5")]


def run_of(root: Path, results: Path, name: str, *more: object) -> Path:
    data = ("--data", f"dcase_s5={root}", "--results", results)
    code, _, err = call("run", REPO / "baselines" / name, "--task", "s5_dcase", *data, *SETTINGS, *more)
    assert code == 0, err
    return next(results.glob(f"{name}-*"))


@pytest.fixture(scope="module")
def runs(made, tmp_path_factory) -> dict[str, Path]:
    results = tmp_path_factory.mktemp("runs")
    return {name: run_of(made, results, name) for name in ("mixture", "ideal_mask")}


def figures(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text())["test"]


def test_the_ceiling_stands_above_the_floor_at_the_first_channel(runs):
    floor, ceiling = figures(runs["mixture"]), figures(runs["ideal_mask"])
    assert floor["si_sdri"]["all"]["mean"] == pytest.approx(0, abs=1e-6)
    assert ceiling["si_sdri"]["all"]["mean"] > 3 and ceiling["label_set_accuracy"]["all"]["mean"] == 1


def test_scenes_that_were_written_are_scored_as_the_run_was(made, runs, tmp_path):
    out = tmp_path / "scenes"
    code, _, err = call("scenes", runs["ideal_mask"], "-o", out, "--estimates", "--data", f"dcase_s5={made}")
    assert code == 0, err
    assert sorted(each.name for each in (out / "0001").iterdir()) == ["0_Dishes.wav", "1_Speech.wav", "mixture.wav"]
    written, _ = soundfile.read(out / "0001/mixture.wav", always_2d=True, dtype="float32")
    assert (written == soundfile.read(made / "dev_set/test/soundscape/0001.wav", dtype="float32")[0]).all()
    told = tmp_path / "told.json"
    code, _, err = call("score", "--reference", out, "--estimate", f"{out}-estimates", "--json", told,
                        "--metrics", "ca_sdri,si_sdri,label_set_accuracy", "--results", tmp_path / "runs")  # fmt: skip
    assert code == 0, err
    for name, own in json.loads(told.read_text())["summary"].items():
        assert own["mean"] == pytest.approx(figures(runs["ideal_mask"])[name]["all"]["mean"], abs=1e-5), name
    (scored,) = (tmp_path / "runs").iterdir()
    code, compared, err = call("compare", runs["ideal_mask"], scored)
    assert code == 0 and "si_sdri" in compared.lower().replace("-", "_"), err


def test_a_soundscape_without_targets_and_two_of_a_class_are_scored_too(tmp_path):
    root = make_dcase(tmp_path / "dcase", drawn_scenes(LABELS_2026, SECONDS), 2026)
    over = [f"--set=task.{name}" for name in ("scenes.test=4", "mixing.fewest_sources=0", "mixing.same_class=true")]
    run = run_of(root, tmp_path / "runs", "ideal_mask", *over)
    told = figures(run)
    assert told["label_set_accuracy"]["all"]["n"] == 4 and told["label_set_accuracy"]["all"]["mean"] == 1
    assert told["si_sdri"]["all"]["n"] == 6 and told["capi_sdri"]["all"]["mean"] > 3
    out = tmp_path / "scenes"
    code, _, err = call("scenes", run, "-o", out, "--estimates", "--data", f"dcase_s5={root}")
    assert code == 0 and [each.name for each in (out / "0001").iterdir()] == ["mixture.wav"], err
    summary = tmp_path / "told.json"
    code, _, err = call("score", "--reference", out, "--estimate", f"{out}-estimates", "--json", summary,
                        "--metrics", "capi_sdri", "--results", tmp_path / "scored")  # fmt: skip
    assert code == 0, err
    mean = json.loads(summary.read_text())["summary"]["capi_sdri"]["mean"]
    assert mean == pytest.approx(told["capi_sdri"]["all"]["mean"], abs=1e-5)


def test_the_folders_of_the_set_can_be_scored_as_they_are(made, tmp_path):
    """Targets that answer themselves: the improvement is over the first of the four channels."""
    test, told = made / "dev_set/test", tmp_path / "told.json"
    answers = shutil.copytree(test / "oracle_target", tmp_path / "answers")
    code, out, err = call("score", "--reference", test / "oracle_target", "--estimate", answers, "--mixture",
                          test / "soundscape", "--json", told, "--results", tmp_path / "runs")  # fmt: skip
    summary = json.loads(told.read_text())["summary"]
    assert code == 0 and "5 scenes" in out and summary["label_set_accuracy"]["mean"] == 1, err
    assert summary["ca_sdri"]["mean"] > 50


def test_the_worst_scenes_and_the_pictures_come_from_the_set(made, runs, tmp_path):
    data = ("--data", f"dcase_s5={made}")
    code, _, err = call("worst", runs["mixture"], "-n", 2, "-o", tmp_path / "worst", *data)
    assert code == 0 and len(list((tmp_path / "worst/reference").glob("000*/mixture.wav"))) == 2, err
    code, out, err = call("figures", runs["ideal_mask"], *data)
    assert code == 0 and "scene.png" in out, err
    facts = soundfile.info(runs["ideal_mask"] / "audio/mixture.wav")
    assert facts.channels == 4 and facts.samplerate == RATE_HZ


def test_auditing_says_what_can_be_known(made, whole, runs):
    asked = ("--set", f"seconds={SECONDS}", "--set", f"sample_rate_hz={RATE_HZ}")
    for what in (("s5_dcase", "--data", f"dcase_s5={whole}", *asked), (runs["ideal_mask"],)):
        code, out, _ = call("audit", *what)
        assert code == 0 and "disjoint" in out and "the release does not say" in out


def test_the_table_says_that_scenes_are_as_released(runs):
    code, out, _ = call("table", runs["mixture"].parent)
    assert code == 0 and "as released" in out and out.index("Ideal mask") < out.index("Mixture")


def test_a_method_that_learns_wants_the_parts_and_leaves_nothing_where_they_are_missing(made, whole, tmp_path):
    folder, results = tmp_path / "learner", tmp_path / "runs"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "method.py").write_text(LEARNER)
    run = ("run", folder, "--profile", "quick", "--results", results, *SETTINGS)
    line = refused(*run, "--data", f"dcase_s5={made}")
    assert "sound_event/train' is not there. Unpack that part, too, to train; testing needs none of it." in line
    assert not list(results.glob("learner-*"))
    code, _, err = call(*run, "--data", f"dcase_s5={whole}")
    assert code == 0, err
    told = json.loads((next(results.glob("learner-*")) / "run.json").read_text())["provenance"]
    assert told["splits"] == {"test": 5, "train": 40, "valid": 40} and len(told["recordings"]["train"]) == 40
    assert told["audit"]["verdict"].startswith("disjoint")


def test_the_data_command_describes_it(whole):
    code, out, _ = call("data", "dcase_s5", "--data", f"dcase_s5={whole}")
    assert code == 0 and "dcase_s5: 5 soundscapes ready to use" in out and "zenodo.org/records/15117227" in out
    rows = [line.split() for line in out.splitlines()]
    assert ["5", "2", "2", "1", "0"] in rows and ["Speech", "2", "2", "2"] in rows and ["(room_ir)", "–", "2", "2"] in rows
    code, out, err = call("data", "verify", "dcase_s5", "--data", f"dcase_s5={whole}")
    assert code == 2 and "are broken" in err and f"is at {RATE_HZ} Hz; the task is at 32000 Hz" in out
    code, out, _ = call("data")
    assert code == 0 and "dcase_s5: not found" in out


def test_a_broken_copy_is_one_line_and_exit_code_2(made, tmp_path):
    run = ("run", REPO / "baselines/mixture", "--task", "s5_dcase", "--results", tmp_path / "runs", *SETTINGS)
    assert "No folder given for 'dcase_s5'. Pass --data dcase_s5=DIR" in refused(*run)
    copy = shutil.copytree(made, tmp_path / "dcase")
    data, test = ("--data", f"dcase_s5={copy}"), copy / "dev_set/test"
    scape, target = test / "soundscape/0002.wav", test / "oracle_target/0002_Pour.wav"
    for file, n_channels in ((scape, 4), (target, 1)):
        kept, n = file.read_bytes(), round(SECONDS * RATE_HZ)
        soundfile.write(file, np.zeros((n, 2)), RATE_HZ, subtype="FLOAT")
        assert f"'{file}' has 2 channels; wanted {'one' if n_channels == 1 else n_channels}" in refused(*run, *data)
        soundfile.write(file, np.zeros((n - 9, n_channels)), RATE_HZ, subtype="FLOAT")
        assert f"'{file}' lasts 0.499 s; the task's scenes last 0.5 s" in refused(*run, *data)
        file.write_bytes(kept[:1000])
        assert f"'{file}' is cut short" in refused(*run, *data)
        file.write_bytes(b"nothing")
        assert f"'{file}' cannot be read" in refused(*run, *data)
        file.write_bytes(kept)
    target.rename(target.with_name("0002_Poor.wav"))
    assert "0002_Poor.wav' bears no label of the task ('Poor'). Did you mean 'Pour'?" in refused(*run, *data)
    (target.with_name("0002_Poor.wav")).rename(target.with_name("0022_Pour.wav"))
    assert "0022_Pour.wav' belongs to no soundscape: none is called '0022'" in refused(*run, *data)
    for name in ("0002_Pour", "0002_Blender"):
        shutil.copy(target.with_name("0022_Pour.wav"), target.with_name(f"{name}.wav"))
    target.with_name("0022_Pour.wav").unlink()
    assert "'0002' has 4 targets (Blender, Cough, Pour, Typing); wanted 3 at most" in refused(*run, *data)
    for file in (test / "oracle_target").glob("0002_*"):
        file.unlink()
    assert "soundscape '0002' has no target, wanted 1 at least" in refused(*run, *data)
    shutil.rmtree(copy / "dev_set/test/soundscape")
    assert "no dev_set/test/soundscape under" in refused(*run, *data)
    shutil.rmtree(copy / "dev_set")
    assert f"no dev_set under '{copy}'" in refused(*run, *data)
