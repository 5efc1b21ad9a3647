"""Conv-TasNet as a contestant: asteroid's network to the last weight, taught in any order of sources, silent in silence."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from asteroid.models import ConvTasNet

from sepbench.cost import measure_cost
from sepbench.errors import UserError
from sepbench.labels import Events
from sepbench.loading import load_from
from sepbench.method import Batch, Training
from sepbench.progress import PlainProgress
from sepbench.recipe import build, load_recipe
from sepbench.results import read_runs
from sepbench.run import run_one
from sepbench.scene import Mixture, TaskInfo
from tones import tones

FOLDER = Path(__file__).resolve().parents[2] / "baselines" / "conv_tasnet"
RECIPE = load_recipe(FOLDER)
TASK = TaskInfo(("low", "mid", "high"), 8000, 1, 3, 0.5, 1)
ALWAYS = replace(TASK, min_sources=3)
TINY = {"filters": 32, "kernel": 32, "stride": 16, "bottleneck": 16, "hidden": 24, "skip": 12, "blocks": 3, "repeats": 2}
SHORT = {"epochs": 1, "steps": 2, "batch": 4, "valid_batches": 1, "lr": 0.01, "patience": 1}
QUIET = PlainProgress(open(os.devnull, "w"))  # noqa: SIM115

load_from(FOLDER, "method.py", "ConvTasNet")
from baselines.conv_tasnet.network import Separator  # noqa: E402  (a package once it is loaded)


class Tones:
    """Tones of three pitches, one to three at a time; batch(i, size) is a pure function of both."""

    def __init__(self, seed: int = 0):
        self.seed = seed

    def batch(self, index: int, size: int) -> Batch:
        random, n_time = np.random.default_rng([self.seed, index, size]), round(TASK.seconds * TASK.sample_rate_hz)
        labels = np.stack([random.permutation(3) for _ in range(size)])
        for i, scene in enumerate(labels):
            scene[1 + i % 3 :] = -1
        turns = np.array([250, 900, 2500, 0])[labels][..., None] * np.arange(n_time) / TASK.sample_rate_hz
        sound = 0.2 * np.sin(2 * np.pi * (turns + random.random((*labels.shape, 1))))
        sources = torch.from_numpy(np.where(labels[..., None] < 0, 0, sound).astype(np.float32))
        scene, slot = np.nonzero(labels >= 0)
        events = Events(scene, labels[scene, slot], 0.0 * scene, np.full(len(scene), TASK.seconds), size, 3)
        return Batch(sources.sum(1), events, sources, labels)


def tiny(task: TaskInfo = TASK, seed: int = 0, **options):
    config, _ = RECIPE.resolve("small", options, seed=seed)
    return build(RECIPE, {**config, "sizes": TINY, "train": {"separator": SHORT}}, task)


def given_of(audio: torch.Tensor) -> list[Mixture]:
    return [Mixture(each[None], TASK.sample_rate_hz, str(i)) for i, each in enumerate(audio)]


def asteroids(n_sources: int, sizes: dict[str, int]) -> ConvTasNet:
    return ConvTasNet(
        n_sources, n_filters=sizes["filters"], kernel_size=sizes["kernel"], stride=sizes["stride"], bn_chan=sizes["bottleneck"],
        hid_chan=sizes["hidden"], skip_chan=sizes["skip"], n_blocks=sizes["blocks"], n_repeats=sizes["repeats"],
    )  # fmt: skip


# the network


def n_parameters(n_sources: int, sizes: dict[str, int]) -> int:
    n, b, h, s = (sizes[name] for name in ("filters", "bottleneck", "hidden", "skip"))
    ends = 2 * n * sizes["kernel"] + 2 * n + (n + 1) * b + 1 + (s + 1) * n_sources * n
    block = (b + 1) * h + 1 + 2 * h + 4 * h + 1 + 2 * h + (h + 1) * (b + s)
    return ends + sizes["blocks"] * sizes["repeats"] * block


@pytest.mark.parametrize(("n_sources", "wanted"), [(2, 5_050_545), (3, 5_116_593)])
def test_at_the_papers_size_it_has_the_papers_parameters(n_sources: int, wanted: int):
    sizes = RECIPE.profiles["paper"].sizes
    network = Separator(n_sources, SimpleNamespace(**sizes), 16000, "none")
    found = sum(each.numel() for each in network.parameters())
    assert found == wanted == n_parameters(n_sources, sizes)
    assert found == pytest.approx(5.1e6, rel=0.02)  # as the paper's Table II counts


def test_it_answers_as_asteroid_does_with_the_same_weights():
    torch.manual_seed(0)
    theirs, ours = asteroids(3, TINY).double(), Separator(3, SimpleNamespace(**TINY), 8000, "none").double()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, 0.1, 0.4)
    ours.load_state_dict(theirs.state_dict())
    audio = torch.randn(2, 32 + 16 * 99, dtype=torch.float64)
    sources, masks = ours(audio)
    torch.testing.assert_close(sources, theirs(audio).float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(masks, theirs.masker(theirs.encoder(audio[:, None])), rtol=1e-9, atol=1e-9)
    theirs.masker(theirs.encoder(audio[:, None])).sin().sum().backward()
    masks.sin().sum().backward()
    for (name, one), other in zip(ours.masker.named_parameters(), theirs.masker.parameters()):
        wanted = torch.zeros_like(one) if other.grad is None else other.grad  # nothing comes after the last block's residual
        torch.testing.assert_close(one.grad, wanted, rtol=1e-7, atol=1e-8, msg=lambda text, name=name: f"{name}: {text}")


def test_half_precision_stays_close():
    torch.manual_seed(0)
    network, audio = Separator(3, SimpleNamespace(**TINY), 8000, "none"), torch.randn(2, 4000)
    with torch.no_grad():
        whole, _ = network(audio)
        with torch.autocast("cpu", torch.bfloat16):
            half, _ = network(audio)
    assert half.dtype == torch.float32
    assert (half - whole).norm() < 0.05 * whole.norm()


@pytest.mark.parametrize("n_samples", [5, 32, 33, 4000, 4001])
def test_sources_are_as_long_as_the_mixture_and_sound_to_its_end(n_samples: int):
    torch.manual_seed(0)
    sources, _ = Separator(3, SimpleNamespace(**TINY), 8000, "none")(torch.randn(2, n_samples))
    assert sources.shape == (2, 3, n_samples) and sources[..., -1].abs().min() > 0


def test_products_are_counted_as_in_asteroids_own_layers():
    method = tiny(ALWAYS)
    mixture = given_of(torch.randn(1, 32 + 16 * 249))
    found = measure_cost(method, mixture, TASK.sample_rate_hz)
    n, b, h, s = (TINY[name] for name in ("filters", "bottleneck", "hidden", "skip"))
    block = b * h + 3 * h + h * (b + s)
    per_frame = n * TINY["kernel"] * 4 + n * b + 6 * block + s * 3 * n  # an encoder, and a decoder of each of three sources
    assert found["macs_per_s"] == pytest.approx(per_frame * TASK.sample_rate_hz / TINY["stride"], rel=0.01)


# learning


def test_it_overfits_a_batch_of_one_to_three_sources():
    method, batch = tiny(), Tones().batch(0, 3)
    adam = torch.optim.Adam(method.network.parameters(), 5e-3)
    losses = []
    for _ in range(60):
        losses.append(method._loss(batch)["loss"])
        adam.zero_grad()
        losses[-1].backward()
        adam.step()
    assert losses[-1] < losses[0] - 8  # dB
    found = [len(each.sources) for each in method.separate(given_of(batch.mixture))]
    assert found == [1, 2, 3]


def test_the_order_of_the_references_changes_nothing():
    method, batch = tiny(), Tones().batch(0, 6)
    turned = replace(batch, sources=batch.sources.flip(1), labels=batch.labels[:, ::-1].copy())
    with torch.no_grad():
        assert method._loss(batch)["loss"].item() == pytest.approx(method._loss(turned)["loss"].item(), rel=1e-5)


def test_scenes_of_silence_alone_teach_nothing_that_is_not_finite():
    method, silence = tiny(), Tones().batch(0, 2)
    silence = replace(silence, mixture=0 * silence.mixture, sources=0 * silence.sources)
    method._loss(silence)["loss"].backward()
    assert all(each.grad is None or each.grad.isfinite().all() for each in method.network.parameters())


def test_the_same_seed_learns_the_same_weights(tmp_path: Path):
    learnt = []
    for name, seed in (("one", 0), ("again", 0), ("other", 1)):
        method = tiny(seed=seed)
        cost = method.fit(Training(Tones(1), Tones(2), tmp_path / name, seed, QUIET))
        assert cost["separator"]["steps"] == 2
        learnt.append(torch.cat([each.flatten() for each in method.network.parameters()]))
    assert torch.equal(learnt[0], learnt[1]) and not torch.equal(learnt[0], learnt[2])


# answering


def test_silence_is_answered_with_silence():
    for found in (*tiny().separate(given_of(torch.zeros(2, 4000))), *tiny(ALWAYS).separate(given_of(torch.zeros(1, 4000)))):
        assert not found.sources.any() and found.labels is None


def test_estimates_add_up_to_their_mixture():
    batch = Tones(6).batch(0, 3)
    for kind, adds_up in (("uniform", True), ("none", False)):
        found, _ = tiny(ALWAYS, mixture_consistency=kind).network(batch.mixture)
        assert torch.allclose(found.sum(1), batch.mixture, atol=1e-5) == adds_up


def test_mixtures_together_are_answered_as_one_by_one():
    method, given = tiny(ALWAYS), given_of(Tones(3).batch(0, 4).mixture)
    for together, one in zip(method.separate(given), given):
        torch.testing.assert_close(together.sources, method.separate([one])[0].sources, rtol=1e-3, atol=1e-3)


def test_an_answer_has_as_many_sources_as_scenes_have_at_least():
    audio = Tones(4).batch(0, 2).mixture
    for fewest in (1, 2, 3):
        method = tiny(replace(TASK, min_sources=fewest), mixture_consistency="none")
        method.network.decoder.filterbank._filters.data.mul_(1e-4)  # all are too quiet now
        assert [len(each.sources) for each in method.separate(given_of(audio))] == [fewest, fewest]


def test_what_it_learnt_is_kept(tmp_path: Path):
    first, given = tiny(), given_of(Tones(5).batch(0, 2).mixture)
    first.save(tmp_path)
    fresh = tiny(seed=1)
    fresh.load(tmp_path)
    for again, was in zip(fresh.separate(given), first.separate(given)):
        assert torch.equal(again.sources, was.sources)
    with pytest.raises(UserError, match="another network"):
        tiny(replace(TASK, max_sources=2)).load(tmp_path)


# a run


@pytest.mark.parametrize("task", ["common", "esc_pairs"])
def test_a_run_has_figures_of_sounds_and_none_of_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str):
    monkeypatch.setenv("SEPBENCH_CACHE", str(tmp_path / "cache"))
    classes = ["bark", "horn", "siren"]
    sounds = tones(tmp_path, classes, 8000)
    sets = [
        f"task.classes=[{', '.join(classes)}]", "task.sample_rate_hz=8000", "task.seconds=0.5", "task.splits.by=recording",
        "task.scenes.valid=4", "task.scenes.test=6", *(f"sizes.{name}={size}" for name, size in TINY.items()),
        *(f"train.separator.{name}={value}" for name, value in SHORT.items()), "train.separator.warmup=0",
    ]  # fmt: skip
    if task.startswith("common"):
        sets.append("task.mixing.cut_s=[0.2, 0.5]")
    recipe = RECIPE.on(task)
    config, values = recipe.resolve("quick", {}, sets, corpus="class_folders")
    run = run_one(config, values, recipe, {"class_folders": str(sounds)}, tmp_path / "runs", False, "cpu", QUIET)
    (record,) = read_runs(run)
    assert record.metrics["test"]["si_sdri"]["all"]["n"] > 0
    assert not record.metrics["test"].keys() & {"class_accuracy", "ca_sdri", "capi_sdri", "label_set_accuracy"}
    assert record.cost["macs_per_s"] > 0 and (run / "weights" / "separator.safetensors").is_file()
