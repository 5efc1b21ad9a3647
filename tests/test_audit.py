"""What serves both training and test is found, by name and by content, in a task's split and in a run's own record."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from made_up_runs import put
from sepbench.audit import Audit, Part, audit_of, audit_run
from sepbench.cli_audit import audit as command
from sepbench.options import Door
from sepbench.progress import PlainProgress
from sepbench.recipe import load_recipe
from sepbench.results import read_runs
from sepbench.run import run_one
from sepbench.run import test_run as score_elsewhere  # under its own name pytest would take it for a test
from sepbench.tasks import load_task, settled
from sepbench.tasks.task import Task, build_task
from tones import tones

REPO = Path(__file__).resolve().parents[1]
REFERENCE = REPO / "results" / "reference"
CLASSES = ["bark", "horn", "siren"]


def part(clips: str, recordings: str = "", corpus: str = "esc50") -> Part:
    """`part("a1 b2")`: the clips a and b, with contents 1 and 2, each a recording of its own unless named."""
    held = {each[0]: each[1:] for each in clips.split()}
    return Part(corpus, tuple((recordings or " ".join(held)).split()), held)


def audit(train: Part, test: Part, valid: Part | None = None, protocol: str = "disjoint", **facts: Any) -> Audit:
    return Audit(protocol, {"train": train, "valid": valid or part("z9"), "test": test}, **facts)


def call(*arguments: object, results: Path = REFERENCE):
    words = ["audit", *map(str, arguments), "--results", str(results)]
    return CliRunner().invoke(Door(commands={"audit": command}), words, prog_name="sepbench")


def refused(*arguments: object, results: Path = REFERENCE) -> str:
    told = call(*arguments, results=results)
    assert told.exit_code == 2 and told.stderr.startswith("sepbench: ") and told.stderr.count("\n") == 1, told.output
    return told.stderr


# what is shared


def test_disjoint_splits_share_nothing():
    found = audit(part("a1 b2"), part("c3 d4"))
    assert not found.any_shared and found.verdict.startswith("disjoint: no clip, recording or audio serves both")
    assert {name: shared.counts for name, shared in found.shared.items()} == {
        name: {"clips": 0, "recordings": 0, "same_audio": 0} for name in ("train", "valid")
    }


def test_clips_are_counted_once_though_train_and_valid_both_have_them():
    pool = part("a1 b2 c3")
    found = audit(pool, pool, pool, "shared_pool")
    assert found.total.clips == ("a", "b", "c") and found.declared
    assert found.verdict == "CLIPS SHARED: 3 of 3 test clips also serve training, as the protocol shared_pool says."


def test_one_clip_that_nobody_declared_is_a_leak_in_train_and_in_valid():
    for place in ({"train": part("a1 c3")}, {"train": part("a1"), "valid": part("c3")}):
        found = audit(test=part("c3 d4"), **place)
        assert found.total.clips == ("c",) and not found.declared
        assert found.verdict.startswith("CLIPS SHARED: 1 of 2 test clips") and found.verdict.endswith("disjoint: a leak.")


def test_two_clips_of_one_recording_share_the_recording_alone():
    found = audit(part("a1", "yard"), part("b2", "yard"))
    assert found.total.counts == {"clips": 0, "recordings": 1, "same_audio": 0}
    assert found.verdict.startswith("RECORDINGS SHARED: 1 of 1 test recordings also serve training; the protocol")


def test_one_sound_under_two_names_is_found():
    found = audit(part("a1 b2"), part("c2 d4"))
    assert found.total.same_audio == (("c", "b"),) and not found.total.clips
    assert found.verdict.startswith("SAME AUDIO: 1 of 2 test clips hold the audio of a training clip under another name")


def test_a_clip_that_is_shared_by_name_is_not_told_again_as_a_copy():
    found = audit(part("a1 b1"), part("a1"))
    assert found.total.counts == {"clips": 1, "recordings": 1, "same_audio": 0}


def test_names_of_another_corpus_are_other_clips_and_its_sounds_are_not():
    found = audit(part("a1 b2"), part("a7 x2", corpus="mine"), part("y8", corpus="mine"))
    assert found.total.counts == {"clips": 0, "recordings": 0, "same_audio": 1}
    assert found.total.same_audio == (("x", "b"),)


def test_recordings_alone_are_enough_to_tell_and_it_is_said():
    old = Audit("disjoint", {"train": Part("esc50", ("r", "s")), "test": Part("esc50", ("s", "t"))})
    assert old.verdict.startswith("RECORDINGS SHARED: 1 of 2") and old.verdict.endswith("before clips were kept).")
    assert old.shared["train"].counts == {"clips": None, "recordings": 1, "same_audio": None}
    clean = Audit("disjoint", {"train": Part("esc50", ("r",)), "test": Part("esc50", ("t",))})
    assert clean.verdict == "disjoint: no recording serves both training and test (recordings only, from before clips were kept)."


# what a run keeps


def kept(found: Audit, root: Path, **settings: Any) -> Path:
    """A made-up run that keeps this audit."""
    return put(root, facts=found.provenance, **settings)


@pytest.mark.parametrize(
    "found",
    [
        audit(part("a1 b2"), part("c3"), part("d4")),
        audit(part("a1 b2"), part("a1 b2"), part("a1 b2"), "shared_pool", learns=False),
        audit(part("a1"), part("a1", corpus="mine"), trained_by="elsewhere", unknown=("old",)),
        Audit("disjoint", {"train": Part("esc50", ("r",)), "inner train": part("a1"), "test": part("b2")}),
        audit(Part("mine", ("x y",), {"dog/x y|z.wav": "1", "dog/|": "2"}), part("c3")),
    ],
    ids=["disjoint", "shared", "another corpus", "one from before clips were kept", "odd names"],
)
def test_what_is_kept_is_what_was_found(found: Audit, tmp_path: Path):
    (record,) = read_runs(kept(found, tmp_path))
    again = audit_of(record)
    assert again == found and again.verdict == record.provenance["audit"]["verdict"]


def test_two_thousand_clips_take_little_room():
    """Each once, whatever number of splits it serves; all of ESC-50 is as many."""
    clips = {f"fold{i % 5 + 1}/{i % 5 + 1}-{100000 + 7 * i}-A-{i % 50}": f"{i:010x}" for i in range(2000)}
    pool = Part("esc50", ("r",), clips)
    size = len(json.dumps(audit(pool, pool, pool, "shared_pool").plain(), indent=2))
    assert size < 70_000
    thirds = [Part("esc50", ("r",), dict(list(clips.items())[i::3])) for i in range(3)]
    assert len(json.dumps(audit(*thirds).plain(), indent=2)) == pytest.approx(size, rel=0.02)


def test_an_old_run_is_judged_by_its_recordings(tmp_path: Path):
    recordings = {"train": ["a", "b"], "valid": ["c"], "test": ["b"]}
    told = call(put(tmp_path, facts={"recordings": recordings}))
    assert told.exit_code == 1 and "RECORDINGS SHARED: 1 of 1" in told.output and "Recordings only" in told.output


def test_a_test_of_a_trained_run_is_judged_by_what_that_one_was_trained_on(tmp_path: Path):
    trained = put(tmp_path, facts={"recordings": {"train": ["a"], "valid": ["b"], "test": ["c"]}})
    own = {"train": ["x"], "valid": ["y"], "test": ["a", "d"]}  # of the test's own task, which trained nobody
    tested = put(tmp_path, facts={"recordings": own}, seed=1, trained_by={"run": trained.name})
    assert "RECORDINGS SHARED: 1 of 2 test recordings" in call(tested).output
    shutil.rmtree(trained)
    assert f"learnt from '{trained.name}', which is not there" in refused(tested)


def test_a_method_that_wraps_another_is_judged_by_both(tmp_path: Path):
    inner = put(tmp_path, facts={"recordings": {"train": ["a"], "valid": ["b"], "test": ["c"]}})
    facts = {"recordings": {"train": ["x"], "valid": ["y"], "test": ["b"]}}
    wrapper = put(tmp_path, facts=facts, seed=1, inner={"run": str(tmp_path / "moved" / inner.name)})
    (record,) = read_runs(wrapper)
    assert audit_of(record).shared["inner valid"].recordings == ("b",) and "inner train" in call(wrapper).output


def test_what_cannot_be_known_is_not_called_clean(tmp_path: Path):
    ancient = put(tmp_path)  # keeps no recordings
    assert "keeps no list of its recordings" in refused(ancient)
    own = {"train": ["x"], "valid": ["y"], "test": ["d"]}
    tested = put(tmp_path, facts={"recordings": own}, seed=1, trained_by={"run": ancient.name})
    assert f"unknown: {ancient.name} keeps no list" in refused(tested)


# a task, built


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve recordings of each class, and a copy of each of the dogs' under another name."""
    root = tones(tmp_path_factory.mktemp("sounds"), CLASSES, 8000)
    for file in sorted((root / "bark").iterdir()):
        shutil.copy(file, root / "bark" / f"copy-of-{file.name}")
    return root


@pytest.fixture(autouse=True, scope="module")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEPBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


SETS = [
    f"task.classes=[{', '.join(CLASSES)}]", "task.sample_rate_hz=8000", "task.seconds=0.6",
    "task.mixing.cut_s=[0.1, 0.4]", "task.scenes.valid=2", "task.scenes.test=3", "task.splits.by=recording",
]  # fmt: skip


def pairs(sounds: Path, protocol: str, **splits: Any) -> tuple[dict[str, Any], Task]:
    """The configuration of a run on pairs of these sounds, and its task."""
    overrides: dict[str, Any] = {"corpus": "class_folders", "classes": CLASSES, "class_set": None, "seconds": 0.3}
    overrides |= {"splits": {"protocol": protocol, **splits}, "scenes": {"valid": 2, "test": 2}}
    task = settled(load_task("esc_pairs", overrides))
    return {"task": task, "supervision": "isolated"}, build_task(task, {"class_folders": str(sounds)})


def test_the_shared_pool_shares_every_clip_and_no_split_by_recording_shares_one(sounds: Path):
    config, task = pairs(sounds, "shared_pool")
    assert len(audit_run(task, config).total.clips or ()) == 48 == len(task.cache.clips)
    config, task = pairs(sounds, "disjoint", by="recording")
    found = audit_run(task, config)
    assert found.total.clips == () and found.total.recordings == ()


def test_copies_of_a_file_in_training_and_test_are_told(sounds: Path):
    config, task = pairs(sounds, "disjoint", by="recording")
    found = audit_run(task, config)
    homes = {task.cache.clips[i].key: split for split, own in task.members.items() for i in own}
    apart = {key for key in homes if "copy-of-" in key and "test" in {homes[key], homes[key.replace("copy-of-", "")]}
             and homes[key] != homes[key.replace("copy-of-", "")]}  # fmt: skip
    assert apart and {key.replace("copy-of-", "") for pair in found.total.same_audio or () for key in pair} == {
        key.replace("copy-of-", "") for key in apart
    }
    assert found.verdict.startswith("SAME AUDIO") and found.any_shared


def test_a_test_keeps_what_the_trained_run_was_trained_on(sounds: Path, tmp_path: Path):
    config, task = pairs(sounds, "disjoint", by="recording")
    (trained,) = read_runs(kept(audit_run(task, config), tmp_path))
    config, task = pairs(sounds, "shared_pool")
    facts = audit_run(task, config, trained).provenance
    assert facts["audit"]["trained_by"] == trained.id and facts["audit"]["clips"]["test"] == 48
    assert facts["audit"]["clips"]["train"] == trained.provenance["audit"]["clips"]["train"] < 48
    assert facts["recordings"]["train"] == trained.provenance["recordings"]["train"]
    both = facts["audit"]["shared"]["train"]["clips"] + facts["audit"]["shared"]["valid"]["clips"]
    assert both == facts["audit"]["clips"]["train"] + facts["audit"]["clips"]["valid"]


def test_every_run_keeps_its_audit(sounds: Path, tmp_path: Path):
    recipe = load_recipe(REPO / "baselines" / "mixture")
    config, values = recipe.resolve("quick", {}, SETS, corpus="class_folders")
    data, progress = {"class_folders": str(sounds)}, PlainProgress()
    folder = run_one(config, values, recipe, data, tmp_path, False, "cpu", progress)
    held = json.loads((folder / "run.json").read_text())["provenance"]
    assert held["audit"]["protocol"] == "disjoint" and not held["audit"]["learns"]
    assert held["audit"]["recordings"] == {name: len(own) for name, own in held["recordings"].items()}
    assert sum(held["audit"]["clips"].values()) == 48
    tested = score_elsewhere(folder, data, ["task.scenes.seed=1"], tmp_path, False, "cpu", progress)
    told = call(tested.name, results=tmp_path)
    assert "SAME AUDIO" in told.output and "learns nothing" in told.output and told.exit_code == 1


# the command


def json_of(told: Any, file: Path) -> Mapping[str, Any]:
    assert told.exit_code in (0, 1), told.output
    return json.loads(file.read_text())


def test_a_task_is_audited_from_its_corpus(tmp_path: Path):
    told = call("esc_pairs", "--corpus", "synthetic", "--json", tmp_path / "out.json")
    assert told.exit_code == 0 and "disjoint: no clip, recording or audio serves both training and test." in told.output
    held = json_of(told, tmp_path / "out.json")
    assert held["of"] == "esc_pairs on synthetic, 10 classes, split by fold"
    assert not set(held["splits"]["train"]["clips"]) & set(held["splits"]["test"]["clips"])
    assert held["shared_with_test"]["train"] == {"clips": [], "recordings": [], "same_audio": []}


def test_what_is_declared_passes_unless_it_is_asked_to_be_strict(tmp_path: Path):
    for options, code in (([], 0), (["--strict"], 1)):
        told = call("esc_pairs", "--corpus", "synthetic", "--protocol", "shared_pool", *options)
        assert told.exit_code == code
        assert "test clips also serve training, as the protocol shared_pool says." in told.output


def test_the_first_names_are_shown_and_all_on_demand():
    few = call("esc_pairs", "--corpus", "synthetic", "--protocol", "shared_pool").output
    every = call("esc_pairs", "--corpus", "synthetic", "--protocol", "shared_pool", "--list").output
    assert "(--list names all)" in few and "(--list names all)" not in every
    assert every.count("fold7/rain") > 10 > few.count("fold7/rain")


def test_options_and_paths_say_the_same_with_and_without_prefix():
    told = [
        call("esc_pairs", "--corpus", "synthetic", *words).output
        for words in (["--split", "recording"], ["--set", "splits.by=recording"], ["--set", "task.splits.by=recording"])
    ]
    assert told[0] == told[1] == told[2] != call("esc_pairs", "--corpus", "synthetic").output


def test_a_run_is_found_by_its_name_and_by_its_folder():
    name = next(REFERENCE.glob("ideal_mask-small-*")).name
    assert call(name).output == call(REFERENCE / name).output != ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["esc_pair"], "esc_pair: neither a run (no run.json there) nor a task. Did you mean 'esc_pairs'?"),
        (["nonsense/here"], "esc_pairs, fuss, s5, s5_dcase, universal_pairs, urban_events; `sepbench ls` "),
        (["esc_pairs", "--data", "esc50=/nowhere"], "/nowhere"),
        (["esc_pairs", "--data", "esc51=/nowhere"], "there is no corpus 'esc51'. Did you mean 'esc50'?"),
        (["esc_pairs", "--set", "splits.bi=fold"], "Did you mean 'task.splits.by'?"),
        (["esc_pairs", "--corpus", "synthetic", "--protocol", "paper"], "wanted disjoint or shared_pool"),
        (["urban_events", "--protocol", "shared_pool"], "--protocol shared_pool: urban_events has no choice there"),
        (["esc_pairs", "--json", "/nowhere/out.json"], "there is no folder /nowhere"),
        ([next(REFERENCE.glob("label_statistics*")).name], "is of kind statistics, without training and test"),
        ([next(REFERENCE.glob("mixture-*")).name, "--protocol", "disjoint"], "--protocol: a run is judged by what it keeps"),
    ],
)
def test_what_cannot_be_audited_is_one_line(words: list[str], said: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SEPBENCH_DATA_ESC50", raising=False)
    assert said in refused(*words)


def test_a_system_that_was_scored_from_files_has_no_training(tmp_path: Path):
    assert "is of kind external" in refused(put(tmp_path, kind="external"))


def test_no_folder_of_the_corpus_is_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SEPBENCH_DATA_ESC50", raising=False)
    assert "Pass --data esc50=DIR" in refused("esc_pairs")


def test_real_clips_are_disjoint_by_recording_and_all_shared_in_the_pool(shared: Path):
    data = ["--data", f"esc50={shared / 'data' / 'ESC-50'}"]
    told = call("esc_pairs", *data, "--split", "recording")
    assert told.exit_code == 0 and told.output.rstrip().endswith("serves both training and test.")
    told = call("esc_pairs", *data, "--protocol", "shared_pool", "--classes", "esc50")
    assert "CLIPS SHARED: 640 of 640 test clips also serve training" in told.output
