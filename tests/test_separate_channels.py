"""Recordings for runs whose mixtures have several channels: a file's channels are one mixture, and estimates have one."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sepbench.errors import UserError
from sepbench.progress import PlainProgress
from sepbench.recipe import build, load_recipe
from sepbench.results import RunFolder
from sepbench.separate import separate_file
from sepbench.tasks.task import task_info

METHOD = '''
import torch
from sepbench.scene import Activity, Estimate

class Channels:
    """Says that two of the classes sound: one as the first channel, the other as the sum of the other three."""

    def __init__(self, settings, task):
        self.settings, self.task = settings, task

    def fit(self, training): ...

    def separate(self, mixtures):
        assert len(mixtures) <= 8
        return [self.answer(mixture.audio) for mixture in mixtures]

    def answer(self, audio):
        assert audio.shape == (self.task.n_channels, round(self.task.seconds * self.task.sample_rate_hz))
        sources = torch.stack([audio[0], audio[1:].sum(0)])
        activity = Activity(torch.tensor([[0.9], [0.2], [0.6]]), self.task.seconds, 0.0)
        labels = (self.task.classes[0], self.task.classes[2])
        return Estimate(sources, labels, None, None if self.settings.params.told == "nothing" else activity)

    def save(self, folder):
        folder.mkdir()

    def load(self, folder):
        assert folder.is_dir()
'''
RECIPE = """
name: Channels
method: method.py:Channels
supervision: weak
task: s5
params: {told: {default: activity, choices: [activity, nothing]}}
profiles:
  quick:
    corpus: synthetic
    task: {sample_rate_hz: 16000, seconds: 1.0, classes: [dog_bark, siren, gun_shot], mixing: {interference: [0, 0]}}
"""
QUIET = PlainProgress(open(os.devnull, "w"))  # noqa: SIM115
RATE_HZ = 16000


def run_of(folder: Path, options: dict) -> Path:
    """A finished run of the recipe, with the weights it starts from."""
    recipe = load_recipe(folder / "channels")
    config, values = recipe.resolve("quick", options)
    facts = {"recipe_folder": str((folder / "channels").resolve())}
    with RunFolder.open_or_create(folder / "results", config, values, {}, facts) as kept:
        build(recipe, config, task_info(config["task"])).save(kept.path / "weights")
        kept.finish({})
    return kept.path


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("channels")
    (folder / "channels").mkdir()
    (folder / "channels/recipe.yaml").write_text(RECIPE)
    (folder / "channels/method.py").write_text(METHOD)
    return {told: run_of(folder, {"told": told}) for told in ("activity", "nothing")}


def written(folder: Path, seconds: float, rate_hz: int, channels: int) -> tuple[Path, np.ndarray]:
    """The file, and (time, channel): tones of a frequency for each channel, which 16 kHz and `rate_hz` both hold."""
    t_s = np.arange(round(seconds * rate_hz)) / rate_hz
    audio = 0.1 * np.cos(2 * np.pi * (300.0 * (1 + np.arange(channels))) * t_s[:, None] + 1)
    soundfile.write(folder / "scene.wav", audio, rate_hz, subtype="FLOAT")
    return folder / "scene.wav", audio


def separated(run: Path, file: Path, out: Path) -> tuple[list[dict], dict[str, np.ndarray]]:
    events = separate_file(run, file, out, 0.5, "cpu", QUIET)
    files = out.glob(f"{file.stem}_*.wav")
    return events, {path.stem.removeprefix(f"{file.stem}_"): soundfile.read(path, always_2d=True)[0] for path in files}


@pytest.mark.parametrize(("rate_hz", "seconds"), [(16000, 0.3), (16000, 1.0), (16000, 11.3), (44100, 2.3)])
def test_all_channels_are_one_mixture_and_each_class_is_one_channel(runs, tmp_path, rate_hz, seconds):
    file, audio = written(tmp_path, seconds, rate_hz, 4)
    events, sounds = separated(runs["activity"], file, tmp_path / "out")
    assert {label: sound.shape for label, sound in sounds.items()} == {
        "dog_bark": (len(audio), 1), "gun_shot": (len(audio), 1),
    }  # fmt: skip
    edge = 0 if rate_hz == RATE_HZ else 64 * rate_hz // RATE_HZ
    middle = slice(edge, len(audio) - edge)
    assert np.abs(sounds["dog_bark"][middle, 0] - audio[middle, 0]).max() < 1e-4
    assert np.abs(sounds["gun_shot"][middle, 0] - audio[middle, 1:].sum(1)).max() < 1e-4
    assert [(each["label"], each["on_s"], each["off_s"], each["confidence"]) for each in events] == [
        ("dog_bark", 0.0, pytest.approx(seconds, abs=1e-3), 0.9), ("gun_shot", 0.0, pytest.approx(seconds, abs=1e-3), 0.6),
    ]  # fmt: skip


def test_without_activity_a_class_is_heard_by_its_share_of_the_first_channel(runs, tmp_path):
    file, audio = written(tmp_path, 2.0, RATE_HZ, 4)
    audio[:, 1:] *= 0.1  # three tones at a tenth hold 0.03 of the first channel's energy: 0.03 / (0.03 + 0.1) = 0.23
    soundfile.write(file, audio, RATE_HZ, subtype="FLOAT")
    events, sounds = separated(runs["nothing"], file, tmp_path / "out")
    assert [(each["label"], round(each["confidence"], 2)) for each in events] == [("dog_bark", 0.91)]
    assert set(sounds) == {"dog_bark"}


def test_a_class_is_heard_where_any_channel_sounds(runs, tmp_path):
    audio = np.zeros((2 * RATE_HZ, 4))
    audio[:RATE_HZ, 3] = 0.1
    soundfile.write(tmp_path / "scene.wav", audio, RATE_HZ, subtype="FLOAT")
    events, _ = separated(runs["activity"], tmp_path / "scene.wav", tmp_path / "out")
    assert [(each["on_s"], each["off_s"]) for each in events] == [(0.0, pytest.approx(1.0, abs=0.02))] * 2


@pytest.mark.parametrize(("channels", "has"), [(1, "1 channel"), (2, "2 channels"), (5, "5 channels")])
def test_a_file_of_other_channels_is_one_line(runs, tmp_path, channels, has):
    file, _ = written(tmp_path, 1.0, RATE_HZ, channels)
    with pytest.raises(UserError) as raised:
        separated(runs["activity"], file, tmp_path / "out")
    assert str(raised.value) == f"{file}: has {has}; the run wants 4, for one mixture. Name a recording of 4."
    assert not (tmp_path / "out").exists()
