"""What a method costs: whole methods counted, and the time and memory that they really take."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sepbench import cost
from sepbench.cost import PeakMemory, measure_cost
from sepbench.recipe import build, load_recipe
from sepbench.scene import Estimate, Mixture, Scene, Source, TaskInfo

REPO = Path(__file__).resolve().parents[1]
RATE_HZ = 8000
SECONDS = 0.5
LINUX = sys.platform.startswith("linux")


class Doing:
    """A method that does something with each scene and hands the mixture back."""

    def __init__(self, work: Callable[[Any], Any]):
        self.work = work

    def separate(self, given):
        for each in given:
            self.work(each)
        return [Estimate(getattr(each, "mixture", each).audio) for each in given]


def mixtures(n: int = 2) -> list[Mixture]:
    return [Mixture(torch.full((1, round(SECONDS * RATE_HZ)), 0.1), RATE_HZ, str(i)) for i in range(n)]


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cost, "BUDGET_S", 0.0)  # three repeats


# counting


def test_a_method_may_say_what_it_computes_outside_torch():
    method = Doing(lambda each: (each.audio.numpy(), torch.ones(4, 5) @ torch.ones(5, 6)))
    method.macs_per_s_outside_torch = 1000.0
    assert measure_cost(method, mixtures(), RATE_HZ)["macs_per_s"] == 1000 + 4 * 5 * 6 / SECONDS


def test_a_failure_of_counting_does_not_end_the_run():
    calls = []

    def fails_once(each):
        calls.append(each)
        if len(calls) == 2:  # the first is the warm-up
            raise RuntimeError("cannot be counted\nand more")

    found = measure_cost(Doing(fails_once), mixtures(), RATE_HZ)
    assert found["macs_not_counted"] == ["RuntimeError: cannot be counted"] and found["real_time_factor"] > 0


def test_a_failure_of_the_method_is_not_hidden():
    def fails(_):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        measure_cost(Doing(fails), mixtures(), RATE_HZ)


# whole methods


def scene() -> Scene:
    audio = torch.randn(round(SECONDS * RATE_HZ), generator=torch.Generator().manual_seed(0))
    sources = tuple(Source(audio * level, label, ((0.0, 0.3),)) for level, label in ((0.1, "bark"), (0.2, "horn")))
    return Scene(Mixture(0.3 * audio[None], RATE_HZ, "0"), sources)


def method(name: str, sets=(), **options):
    recipe = load_recipe(REPO / name)
    sets = [*sets, f"task.sample_rate_hz={RATE_HZ}", f"task.seconds={SECONDS}", "task.classes=[bark, horn]"]
    config, _ = recipe.resolve("quick", options, sets, corpus="class_folders")
    return build(recipe, config, TaskInfo(("bark", "horn"), RATE_HZ, 1, 2, SECONDS), None)


def test_weak_label_counts_its_matrices_once_per_frame_and_its_kernels_once_per_output():
    sizes = ["sizes.hidden=6", "sizes.layers=2", "sizes.critic_hidden=5", "sizes.critic_channels=[2, 3, 4]"]
    for bfloat16 in ("true", "false"):
        contestant = method("recipes/weak_label", [*sizes, f"train.bfloat16={bfloat16}"], classifier="crnn")
        frames = contestant._n_frames
        wanted = frames * sum(each.numel() for each in contestant.separator.parameters() if each.ndim == 2)
        critic, rows, bins = contestant.critic, frames, contestant.critic.n_features
        if critic.bank is not None:
            wanted += frames * critic.bank.numel()
        for kernel, pooling in zip((e for e in critic.parameters() if e.ndim == 4), (1, 2, 2)):
            wanted += rows * bins * kernel.numel()
            rows, bins = rows // pooling, bins // 2
        wanted += rows * sum(each.numel() for each in critic.parameters() if each.ndim == 2)
        assert measure_cost(contestant, [scene().mixture], RATE_HZ)["macs_per_s"] == wanted / SECONDS


@pytest.mark.parametrize("name", ["mixture", "ideal_mask", "activity_gate"])
def test_baselines_take_no_product_and_say_so(name: str):
    found = measure_cost(method(f"baselines/{name}"), [scene() if name != "mixture" else scene().mixture], RATE_HZ)
    assert found["macs_per_s"] == 0 and found["real_time_factor"] > 0 and found["peak_memory_mb"] > 0


def test_the_method_is_shown_what_it_was_given_one_scene_at_a_time():
    class Seeing(Doing):
        def separate(self, given):
            calls.append(list(given))
            return super().separate(given)

    for given in (mixtures(3), [scene()]):
        calls: list[list[Any]] = []
        found = measure_cost(Seeing(lambda _: None), given, RATE_HZ)
        assert {len(call) for call in calls} == {1} == {found["rtf_scenes"]}
        assert {id(each) for call in calls for each in call} == {id(each) for each in given}


def test_without_a_scene_there_is_no_figure():
    assert measure_cost(Doing(lambda _: None), [], RATE_HZ) == {}


# time


def test_the_real_time_factor_is_seconds_of_work_per_second_of_audio():
    asleep_s = 0.1
    found = measure_cost(Doing(lambda _: time.sleep(asleep_s)), mixtures(), RATE_HZ)
    assert asleep_s <= found["real_time_factor"] * SECONDS < 10 * asleep_s


def test_what_the_first_call_sets_up_is_not_timed():
    calls = []

    def lazy(_):
        if not calls:
            time.sleep(1.0)
        calls.append(1)

    assert measure_cost(Doing(lazy), mixtures(), RATE_HZ)["real_time_factor"] * SECONDS < 0.5


# memory

MB = 250_000  # float32 numbers in 10^6 bytes


@pytest.mark.skipif(not LINUX, reason="the peak can be reset on Linux alone")
def test_memory_that_is_taken_and_given_back_is_seen():
    found = measure_cost(Doing(lambda _: torch.ones(300 * MB).sum()), mixtures(), RATE_HZ)
    assert found["peak_memory_of"] == "process"
    assert 299 < found["peak_memory_added_mb"] < 350 < found["peak_memory_mb"]


@pytest.mark.skipif(not LINUX, reason="the peak can be reset on Linux alone")
def test_an_earlier_peak_is_forgotten():
    with PeakMemory() as large:
        torch.ones(300 * MB).sum()
    with PeakMemory() as small:
        torch.ones(20 * MB).sum()
    assert large.figures["peak_memory_mb"] - small.figures["peak_memory_mb"] > 250


@pytest.mark.skipif(not LINUX, reason="files are told apart on Linux alone")
def test_files_that_are_mapped_are_no_memory_of_the_method(tmp_path: Path):
    (tmp_path / "sounds").write_bytes(bytes(100_000_000))
    sounds = np.memmap(tmp_path / "sounds", "u1", "r")
    with PeakMemory() as memory:
        assert sounds.sum() == 0  # every page of it has been read
    assert memory.figures["peak_memory_added_mb"] < 50


AFTER_TRAINING = """
from sepbench import machine
assert machine.tune_allocator()
import torch
from sepbench.cost import PeakMemory
figures = []
for _ in range(2):
    with PeakMemory() as memory:
        torch.ones(5_000_000).sum()
    figures.append(memory.figures["peak_memory_mb"])
    trained = [torch.ones(1_000_000) for _ in range(50)]  # 200 MB that the allocator keeps
    del trained
print(*figures)
"""


@pytest.mark.skipif(not LINUX, reason="glibc alone is tuned")
def test_memory_that_a_training_left_behind_is_not_the_methods():
    done = subprocess.run([sys.executable, "-c", AFTER_TRAINING], capture_output=True, text=True, check=True)
    before, after = map(float, done.stdout.split())
    assert abs(after - before) < 20


def test_where_the_peak_cannot_be_reset_it_says_since_when_it_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cost, "_forget_peak", lambda: False)
    with PeakMemory() as memory:
        pass
    assert set(memory.figures) == {"peak_memory_mb", "peak_memory_of"}
    assert memory.figures["peak_memory_of"] == "process since its start" and 50 < memory.figures["peak_memory_mb"] < 1e6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_memory_of_a_gpu_is_that_of_its_tensors():
    held = torch.ones(10 * MB, device="cuda")
    with PeakMemory() as memory:
        torch.ones(100 * MB, device="cuda").sum()
    assert memory.figures["peak_memory_of"] == "GPU" and 100 <= memory.figures["peak_memory_added_mb"] < 110
    assert memory.figures["peak_memory_mb"] >= 110 and len(held)
    with PeakMemory() as memory:
        np.ones(1000)
    assert memory.figures["peak_memory_of"] != "GPU"  # a method that leaves the GPU alone
