"""A recording in, sounds and events out: overlap-add puts back what it took apart, whatever rate, length and channels."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sepbench.errors import UserError
from sepbench.progress import PlainProgress
from sepbench.recipe import build, load_recipe
from sepbench.results import RunFolder
from sepbench.scene import TaskInfo
from sepbench.separate import LARGEST_WAV, _Crossfade, _Listener, _resample, separate_file

METHOD = '''
import torch
from sepbench.scene import Activity, Estimate

class Shares:
    """Hands each class a fixed share of the mixture; it sounds where the mixture is loud, or says nothing of that."""

    def __init__(self, settings, task):
        self.settings, self.task = settings, task

    def fit(self, training): ...

    def separate(self, mixtures):
        return [self.answer(mixture.audio[0]) for mixture in mixtures]

    def answer(self, audio):
        assert audio.shape == (round(self.task.seconds * self.task.sample_rate_hz),)
        sources = torch.tensor([[0.7], [0.25], [0.05]]) * audio
        if self.settings.params.told == "nothing":
            return Estimate(sources, self.task.classes)
        loud = (audio.unfold(-1, 160, 160).abs().amax(-1) > 0.1).float()
        return Estimate(sources, self.task.classes, None, Activity(torch.tensor([[0.9], [0.6], [0.1]]) * loud, 0.01, 0.0))

    def save(self, folder):
        folder.mkdir()

    def load(self, folder):
        assert folder.is_dir()
'''
RECIPE = """
name: Shares
method: method.py:Shares
supervision: weak
task: urban_events
params: {told: {default: activity, choices: [activity, nothing]}}
profiles: {quick: {corpus: synthetic, task: {seconds: 1.0, classes: [dog_bark, siren, gun_shot]}}}
"""
QUIET = PlainProgress(open(os.devnull, "w"))  # noqa: SIM115
RATE_HZ = 16000


def run_of(recipe_folder: Path, results: Path, options: dict | None = None, sets: tuple[str, ...] = ()) -> Path:
    """A finished run of the recipe, with the weights it starts from."""
    recipe = load_recipe(recipe_folder)
    config, values = recipe.resolve("quick", options, sets)
    task = config["task"]
    info = TaskInfo(tuple(task["classes"]), task["sample_rate_hz"], 1, len(task["classes"]), task["seconds"])
    facts = {"recipe_folder": str(recipe_folder.resolve())}
    with RunFolder.open_or_create(results, config, values, {}, facts) as folder:
        build(recipe, config, info).save(folder.path / "weights")
        folder.finish({})
    return folder.path


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recipes") / "shares"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "method.py").write_text(METHOD)
    return folder


@pytest.fixture(scope="module")
def shares(recipe, tmp_path_factory) -> Path:
    return run_of(recipe, tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def untold(recipe, tmp_path_factory) -> Path:
    return run_of(recipe, tmp_path_factory.mktemp("untold"), {"told": "nothing"})


def tones(seconds: float, rate_hz: int, channels: int = 1) -> np.ndarray:
    """(time, channel): tones that 16 kHz and `rate_hz` can both hold, never below 0.1 for 10 ms, full at either edge."""
    t_s = np.arange(round(seconds * rate_hz)) / rate_hz
    hz = np.array([220.0, 1000.0, 0.35 * min(rate_hz, RATE_HZ)])[:, None] * (1 + 0.01 * np.arange(channels))
    return (0.3 * np.cos(2 * np.pi * hz[:, None] * t_s[:, None] + 1)).sum(0)


def written(folder: Path, name: str, audio: np.ndarray, rate_hz: int = RATE_HZ, **how) -> Path:
    soundfile.write(folder / name, audio, rate_hz, **{"subtype": "FLOAT", **how})
    return folder / name


def separated(run: Path, file: Path, out: Path, threshold: float = 0.05) -> tuple[list[dict], dict[str, np.ndarray]]:
    """The events, and each wav by its label, (time, channel)."""
    events = separate_file(run, file, out, threshold, "cpu", QUIET)
    files = out.glob(f"{file.stem}_*.wav")
    return events, {path.stem.removeprefix(f"{file.stem}_"): soundfile.read(path, always_2d=True)[0] for path in files}


@pytest.mark.parametrize(
    ("rate_hz", "seconds", "channels"),
    [(16000, 3.7, 1), (16000, 0.3, 2), (16000, 1.0, 1), (16000, 1.5, 1), (16000, 21.01, 1), (44100, 2.345, 2),
     (11025, 3.21, 1), (96000, 2.6, 1), (8000, 4.0, 3), (48000, 1.7, 11), (44056, 2.2, 1), (48001, 1.3, 1)],
)  # fmt: skip
def test_the_sounds_add_up_to_the_recording(shares, tmp_path, rate_hz, seconds, channels):
    audio = tones(seconds, rate_hz, channels)
    file = written(tmp_path, "tones.wav", audio, rate_hz)
    _, sounds = separated(shares, file, tmp_path / "out")
    assert set(sounds) == {"dog_bark", "siren", "gun_shot"}
    assert all(sound.shape == audio.shape for sound in sounds.values())
    error = np.abs(sum(sounds.values()) - audio)
    if rate_hz == RATE_HZ:
        assert error.max() < 1e-6
    else:  # an abrupt beginning or end holds frequencies that the lower rate does not
        edge = 64 * rate_hz // min(rate_hz, RATE_HZ)
        assert error[edge:-edge].max() < 1e-4 and error.max() < 0.9  # as the sound itself
    facts = soundfile.info(tmp_path / "out" / "tones_siren.wav")
    assert (facts.samplerate, facts.channels, facts.subtype) == (rate_hz, channels, "FLOAT")


@pytest.mark.parametrize("n_samples", [1, 2, 17, 7999, 8000, 8001, 16001])
def test_no_length_is_too_short_or_too_odd(shares, tmp_path, n_samples):
    audio = tones(2, RATE_HZ)[:n_samples]
    for rate_hz in (RATE_HZ, 22050):
        file = written(tmp_path, f"short{rate_hz}.wav", audio, rate_hz)
        _, sounds = separated(shares, file, tmp_path / "out", 0.0)
        assert len(sounds["siren"]) == n_samples and np.isfinite(sounds["siren"]).all()


def test_samples_beyond_full_scale_are_kept(shares, tmp_path):
    audio = 40 * tones(2.2, RATE_HZ)
    _, sounds = separated(shares, written(tmp_path, "loud.wav", audio), tmp_path / "out")
    assert np.abs(sum(sounds.values()) - audio).max() < 1e-4


def test_what_was_heard_is_named_and_timed(shares, tmp_path):
    audio = np.zeros((round(9.3 * RATE_HZ), 2))
    for on_s, off_s, channel in ((1.2, 2.0, 0), (2.1, 2.9, 1), (4.0, 4.02, 0), (5.0, 9.3, 1)):
        audio[round(on_s * RATE_HZ) : round(off_s * RATE_HZ), channel] = 0.5
    events, sounds = separated(shares, written(tmp_path, "yard.wav", audio), tmp_path / "out", 0.5)
    of_dog = [event for event in events if event["label"] == "dog_bark"]
    times = [(1.2, 2.9), (5.0, 9.3)]  # a gap of 0.1 s is none, an event of 0.02 s is none
    assert np.allclose([(event["on_s"], event["off_s"]) for event in of_dog], times, atol=0.0101)
    assert np.allclose([event["confidence"] for event in of_dog], 0.9)
    assert set(sounds) == {"dog_bark", "siren"}  # gun_shot has 0.1
    assert sorted(event["on_s"] for event in events) == [event["on_s"] for event in events]
    with open(tmp_path / "out" / "yard_events.csv", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [{**row, "on_s": float(row["on_s"])}["on_s"] for row in rows] == [event["on_s"] for event in events]
    assert list(rows[0]) == ["label", "on_s", "off_s", "confidence"]


def test_a_tenth_of_the_energy_is_heard_where_the_method_says_nothing(untold, tmp_path):
    audio = np.zeros((4 * RATE_HZ, 1))
    audio[RATE_HZ : 2 * RATE_HZ] = tones(1, RATE_HZ)
    events, sounds = separated(untold, written(tmp_path, "a.wav", audio), tmp_path / "out", 0.5)
    assert set(sounds) == {"dog_bark"}  # 0.49 of the energy; siren has 0.06
    assert len(events) == 1 and abs(events[0]["on_s"] - 1) < 0.11 and abs(events[0]["off_s"] - 2) < 0.11
    assert events[0]["confidence"] == pytest.approx(0.49 / 0.59, abs=0.01)
    assert separated(untold, written(tmp_path, "b.wav", 1e-3 * audio), tmp_path / "out", 0.5)[0] == []  # below -60 dB


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_silence_holds_nothing(shares, untold, tmp_path, threshold):
    file = written(tmp_path, "still.wav", np.zeros((40000, 2)))
    for run in (shares, untold):
        assert separated(run, file, tmp_path / "out", threshold) == ([], {})
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["still_events.csv"]


def test_what_an_earlier_call_heard_does_not_linger(shares, tmp_path):
    file, others = written(tmp_path, "a.wav", tones(2, RATE_HZ)), tmp_path / "out" / "a_jackhammer.wav"
    assert set(separated(shares, file, tmp_path / "out", 0.05)[1]) == {"dog_bark", "siren", "gun_shot"}
    written(tmp_path / "out", others.name, tones(1, RATE_HZ))  # not by us: stays
    assert set(separated(shares, file, tmp_path / "out", 0.8)[1]) == {"dog_bark", "jackhammer"}


def test_the_real_method_separates(repo, tmp_path):
    sets = ("sizes.hidden=4", "sizes.layers=1", "sizes.critic_hidden=4", "sizes.critic_channels=[2,2,2]")
    audio = tones(6.5, 44100, 2)
    for name, labels in (("critic", "frame"), ("strong", "strong")):
        run = run_of(repo / "recipes" / "weak_label", tmp_path / name, {"labels": labels}, sets)
        file = written(tmp_path, "street.flac", audio, 44100, subtype="PCM_16")
        events, sounds = separated(run, file, tmp_path / "out", 0.01)
        assert {event["label"] for event in events} == set(sounds) and sounds
        assert all(sound.shape == audio.shape and np.isfinite(sound).all() for sound in sounds.values())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("notes.wav", b"no sound at all", "cannot be read as audio"),
        ("nothing.wav", b"", "cannot be read as audio"),
        ("plain.raw", b"\0" * 64, "cannot be read as audio"),
        ("empty.wav", np.zeros((0, 1)), "holds no samples"),
        ("nan.wav", np.r_[np.zeros(90000), np.nan], "not finite"),
        ("slow.wav", 3, "sample rate is 3 Hz"),
    ],
)
def test_what_is_no_recording_is_told_in_one_line(shares, tmp_path, name, content, said):
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif isinstance(content, int):
        written(tmp_path, name, np.zeros(100), content)
    else:
        written(tmp_path, name, content)
    with pytest.raises(UserError, match=said) as caught:
        separate_file(shares, tmp_path / name, tmp_path / "out", 0.5, "cpu", QUIET)
    assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")] and not list(tmp_path.glob("out/*"))


def test_a_folder_that_cannot_be_one_is_told(shares, tmp_path):
    file = written(tmp_path, "a.wav", tones(1, RATE_HZ))
    with pytest.raises(UserError, match="cannot write what a.wav is separated into"):
        separate_file(shares, file, file, 0.5, "cpu", QUIET)


def in_a_process(code: str, *args: object) -> subprocess.CompletedProcess:
    head = "import sys, resource; from pathlib import Path; from sepbench.progress import PlainProgress\n"
    head += "from sepbench.separate import separate_file; from sepbench.errors import UserError\n"
    return subprocess.run([sys.executable, "-c", head + code, *map(str, args)], capture_output=True, text=True, timeout=120)


def test_a_full_disk_leaves_nothing_behind(shares, tmp_path):
    file = written(tmp_path, "long.wav", tones(30, RATE_HZ))
    code = """
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    separate_file(*map(Path, sys.argv[1:4]), 0.05, "cpu", PlainProgress())
except UserError as error:
    print(error)
"""
    done = in_a_process(code, shares, file, tmp_path / "out")
    assert "cannot write what long.wav is separated into" in done.stdout and done.stdout.count("\n") == 1, done
    assert list((tmp_path / "out").iterdir()) == []


def test_an_interrupted_call_leaves_nothing_behind(shares, tmp_path):
    def ctrl_c() -> float:
        nonlocal n_asked
        n_asked += 1
        if n_asked > 5:
            begun.extend((tmp_path / "out").rglob("*.wav"))
            signal.raise_signal(signal.SIGINT)
        return 0.0

    n_asked, begun = 0, []
    file = written(tmp_path, "long.wav", tones(30, RATE_HZ))
    with pytest.raises(KeyboardInterrupt):
        separate_file(shares, file, tmp_path / "out", 0.05, "cpu", PlainProgress(QUIET.out, ctrl_c))
    assert len(begun) == 3 and list((tmp_path / "out").iterdir()) == []


def test_a_long_recording_needs_no_more_memory_than_a_short_one(shares, tmp_path):
    rate_hz, seconds, channels, classes = 48000, 240, 2, 3
    second = tones(1, rate_hz, channels)
    with soundfile.SoundFile(tmp_path / "long.wav", "w", rate_hz, channels, subtype="PCM_16") as long:
        for _ in range(seconds):
            long.write(second)
    written(tmp_path, "short.wav", tones(0.9, rate_hz, channels), rate_hz)
    code = """
from sepbench import machine
machine.threads(1)
used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
peaks = []
for name in ("short", "long"):
    separate_file(Path(sys.argv[1]), Path(sys.argv[2]) / f"{name}.wav", Path(sys.argv[2]) / "out", 0.5, "cpu", PlainProgress())
    peaks.append(used())
print(peaks[1] - peaks[0])
"""
    done = in_a_process(code, shares, tmp_path)
    assert done.returncode == 0, done.stderr
    bound = 4 * 1.0 * (4 * classes + 16) * (channels * rate_hz + 8 * RATE_HZ)  # 25 MB, as the module says
    assert int(done.stdout) < bound < 4 * seconds * rate_hz * channels / 3, f"{int(done.stdout) / 1e6} MB"


def test_crossfaded_windows_are_what_they_were_cut_from():
    signal = np.random.default_rng(0).normal(size=(2, 95)).astype(np.float32)
    fade = _Crossfade(10)
    pieces = [fade.add(signal[:, i : i + 20], i + 20 >= 95) for i in range(0, 90, 10)]
    assert np.allclose(np.concatenate(pieces, 1), signal, atol=1e-6)


def test_events_do_not_depend_on_where_the_pieces_end():
    probability = np.random.default_rng(1).random(1000).repeat(7)
    whole, parts = _Listener("siren", 0.01, 0.8), _Listener("siren", 0.01, 0.8)
    whole.add(probability)
    for piece in np.split(probability, [1, 333, 334, 5000]):
        parts.add(piece)
    assert whole.events(70.0) == parts.events(70.0) and len(whole.events(70.0)) > 10


@pytest.mark.parametrize(("rate_hz", "new_rate_hz"), [(44100, 16000), (16000, 44100), (11025, 16000), (16001, 16000)])
def test_resampling_moves_no_sound_in_time(rate_hz, new_rate_hz):
    there = _resample(tones(0.5, rate_hz).T.astype(np.float32), rate_hz, new_rate_hz)[0]
    expected = (0.3 * np.cos(2 * np.pi * np.outer([220, 1000, 0.35 * min(rate_hz, RATE_HZ)],
                                                  np.arange(len(there)) / new_rate_hz) + 1)).sum(0)  # fmt: skip
    inside = slice(100, -100)
    assert np.abs(there - expected)[inside].max() < 3e-4


def test_a_run_without_weights_is_refused(shares, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("run.json", "metrics.json"):
        (bare / name).write_text((shares / name).read_text())
    assert json.loads((bare / "run.json").read_text())["state"] == "finished"
    with pytest.raises(UserError, match="holds no weights"):
        separate_file(bare, written(tmp_path, "a.wav", tones(1, RATE_HZ)), tmp_path / "out", 0.5, "cpu", QUIET)


def test_a_wav_holds_less_than_4_gb():
    assert LARGEST_WAV < 2**32
