"""The task s5_dcase: a run knows what it was trained on, and headers of the whole test are looked at before training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from made_dcase import RATE_HZ, add_parts, drawn_scenes, make_dcase
from sepbench.cli import main
from sepbench.errors import UserError
from sepbench.tasks import load_task, settled
from sepbench.tasks.task import Task, build_task

SECONDS = 0.5
LABELS = [["Speech"], ["Dishes", "Speech"], ["Cough", "Pour", "Typing"], ["Blender", "Clapping"], ["Doorbell"]]
LEARNER = '''
from sepbench.scene import Estimate

class Learner:
    """Learns nothing of what it asks for."""

    def __init__(self, settings, task):
        self.task = task

    def fit(self, training):
        training.scenes.batch(0, 2)

    def separate(self, mixtures):
        return [Estimate(mixture.audio[:1], self.task.classes[:1]) for mixture in mixtures]

    def save(self, folder):
        folder.mkdir()

    def load(self, folder):
        pass
'''
RECIPE = """
name: Learner
method: method.py:Learner
supervision: isolated
task: s5_dcase
profiles: {quick: {task: {scenes: {valid: 4}}}}
"""


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return add_parts(make_dcase(tmp_path / "whole", drawn_scenes(LABELS, SECONDS)))


def task_of(root: Path, **over) -> Task:
    config = settled(load_task("s5_dcase", {"seconds": SECONDS, "sample_rate_hz": RATE_HZ, **over}))
    return build_task(config, {"dcase_s5": str(root)})


def call(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(main, list(map(str, arguments)))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, " ".join((done.output + done.stderr).split())


@pytest.mark.parametrize("part", ["sound_event", "interference", "noise", "room_ir"])
def test_the_parts_tell_training_sets_apart_and_leave_the_test_alone(whole: Path, tmp_path: Path, part: str):
    copy = shutil.copytree(whole, tmp_path / "copy")
    first, second = task_of(whole), task_of(copy)
    assert first.parts_hash is not None and first.parts_hash == second.parts_hash  # wherever they lie
    file = min(file for file in (copy / "dev_set" / part).rglob("*") if file.is_file())
    file.write_bytes(file.read_bytes() + b"\0")
    longer = task_of(copy)
    hashes = {first.parts_hash, longer.parts_hash}
    file.rename(file.with_name(f"other{file.suffix}"))
    assert len(hashes | {task_of(copy).parts_hash}) == 3
    assert longer.cache.content_hash == first.cache.content_hash and longer.scenes_hash("test") == first.scenes_hash("test")


def test_without_parts_there_is_nothing_to_tell(tmp_path: Path):
    assert task_of(make_dcase(tmp_path, drawn_scenes(LABELS, SECONDS))).parts_hash is None


def test_a_run_does_not_go_on_with_what_was_learnt_from_other_parts(whole: Path, tmp_path: Path):
    folder, results = tmp_path / "learner", tmp_path / "runs"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "method.py").write_text(LEARNER)
    sets = [f"--set=task.{name}" for name in (f"seconds={SECONDS}", f"sample_rate_hz={RATE_HZ}", "scenes.test=5")]
    run = ("run", folder, "--profile", "quick", "--results", results, "--data", f"dcase_s5={whole}", *sets)
    code, out = call(*run)
    assert code == 0, out
    assert "is finished" in call(*run)[1]
    shutil.copy(whole / "dev_set/noise/train/0.wav", whole / "dev_set/noise/train/9.wav")
    code, out = call(*run)
    assert code == 2 and "was made from other sounds (what training is mixed of" in out
    told = json.loads((next(results.glob("learner-*")) / "run.json").read_text())["provenance"]
    for part in ("sound_event", "interference", "noise", "room_ir"):
        shutil.rmtree(whole / "dev_set" / part)
    assert told["parts_hash"] and "is finished" in call(*run)[1]  # testing needs none of them


@pytest.mark.parametrize(("kind", "n_channels"), [("soundscape", 4), ("oracle_target", 1)])
def test_a_wrong_rate_anywhere_in_the_test_is_told_when_the_task_is_built(whole: Path, kind: str, n_channels: int):
    for file in sorted((whole / "dev_set/test" / kind).iterdir()):
        kept = file.read_bytes()
        soundfile.write(file, np.zeros((round(SECONDS * RATE_HZ), n_channels)), 2 * RATE_HZ, subtype="FLOAT")
        assert len(file.read_bytes()) == len(kept)  # of no odd size
        with pytest.raises(UserError, match="is at 16000 Hz; the task is at 8000 Hz") as told:
            task_of(whole)
        assert f"'{file}'" in str(told.value)
        file.write_bytes(kept)
    task_of(whole)


def test_verifying_opens_the_rooms(tmp_path: Path):
    root = make_dcase(tmp_path, drawn_scenes([["Speech"]], 10.0, 32000), subtype="PCM_16")
    add_parts(root, n_events=1, seconds=0.02, rate_hz=32000)
    code, out = call("data", "verify", "dcase_s5", "--data", f"dcase_s5={root}")
    assert code == 0 and f"all {2 + 2 * (18 + 2 + 2 + 2)} files can be used" in out
    room = root / "dev_set/room_ir/valid/room1.sofa"
    room.write_bytes(b"nothing")
    code, out = call("data", "verify", "dcase_s5", "--data", f"dcase_s5={root}")
    assert code == 2 and f"'{room}' is no SOFA file" in out and "1 of 50 files are broken" in out
