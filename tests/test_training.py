"""The training loop: stopped and started again it ends where it would have ended, and it keeps what did best."""

from __future__ import annotations

import csv
import os
import signal
import time
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sepbench import training
from sepbench.clock import Clock
from sepbench.errors import UserError
from sepbench.labels import Events
from sepbench.method import Batch, WeakBatch
from sepbench.progress import PlainProgress
from sepbench.training import AHEAD, Schedule, _Scenes, precision_on, train

QUIET = PlainProgress(open(os.devnull, "w"))  # noqa: SIM115
PLAN = Schedule(epochs=4, steps=3, batch=2, valid_batches=2, lr=0.05, patience=10, warmup=2, cosine=True, clip_norm=1.0)
CPU = torch.device("cpu")


class Line:
    """Scenes of noise whose label is whether they are loud: batch(i, size) is a pure function of both."""

    def __init__(self, stream: int, stop_at: int | None = None, wait_s: float = 0.0):
        self.stream, self.stop_at, self.wait_s = stream, stop_at, wait_s
        self.asked: list[tuple[int, int]] = []

    def batch(self, index: int, size: int) -> WeakBatch:
        self.asked.append((index, size))
        time.sleep(self.wait_s)
        if index == self.stop_at:
            raise KeyboardInterrupt
        loud = torch.arange(size) % 2
        noise = torch.randn(size, 16, generator=torch.Generator().manual_seed(1000 * self.stream + index))
        scene = loud.nonzero().flatten().numpy()
        events = Events(scene, 0 * scene, np.zeros(len(scene)), np.ones(len(scene)), size, 1)
        return WeakBatch(noise * (1 + loud[:, None]), events)


def new_network() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))


def loss_of(network: nn.Module):
    def loss(batch: WeakBatch) -> dict[str, torch.Tensor]:
        wanted = torch.from_numpy(batch.events.presence())
        error = nn.functional.binary_cross_entropy_with_logits(network(batch.mixture.abs()), wanted)
        return {"loss": error, "half": error / 2}

    return loss


def trained(folder: Path, network: nn.Module, scenes=None, loss=None, plan: Schedule = PLAN, valid=None) -> dict:
    scenes, valid = scenes or Line(0), valid or Line(1)
    return train("tiny", network, loss or loss_of(network), scenes, valid, plan, folder, 3, CPU, QUIET)


def history(folder: Path) -> list[dict[str, float]]:
    """history.csv without the clock."""
    with (folder / "tiny" / "history.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    return [{key: float(value) for key, value in row.items() if key != "seconds"} for row in rows]


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("stop_at", [1, 4, 6, 11])
def test_a_stopped_training_goes_on_as_if_it_never_had_been(tmp_path: Path, stop_at: int):
    whole, other = new_network(), new_network()
    trained(tmp_path / "whole", whole)
    scenes = Line(0, stop_at)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "stopped", other, scenes)
    assert stop_at <= max(index for index, _ in scenes.asked) <= stop_at + AHEAD
    rest, again = Line(0), new_network()
    with torch.no_grad():
        again[0].weight.fill_(9.0)  # whatever is in it, the checkpoint overrules
    if stop_at < PLAN.steps:
        again = new_network()  # no epoch was whole, so nothing was kept
    summary = trained(tmp_path / "stopped", again, rest)
    assert [index for index, _ in rest.asked] == list(range(stop_at // PLAN.steps * PLAN.steps, 12))
    assert same_weights(whole, again)
    assert history(tmp_path / "stopped") == history(tmp_path / "whole")
    assert (summary["epochs"], summary["steps"]) == (4, 12)


def test_a_training_stopped_in_validation_goes_on_too(tmp_path: Path):
    whole, again = new_network(), new_network()
    trained(tmp_path / "whole", whole)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "stopped", new_network(), valid=Line(1, stop_at=1))
    trained(tmp_path / "stopped", again)
    assert same_weights(whole, again) and history(tmp_path / "stopped") == history(tmp_path / "whole")


@pytest.mark.parametrize("plan", [PLAN, Schedule(30, 2, 2, 2, lr=0.0, patience=2)], ids=["all epochs", "stopped early"])
def test_a_training_that_was_through_but_not_yet_kept_is_not_trained_on(tmp_path: Path, plan: Schedule):
    """The process may die between the last checkpoint and best.safetensors."""
    whole, again, rest = new_network(), new_network(), Line(0)
    first = trained(tmp_path, whole, plan=plan)
    before = history(tmp_path)
    for name in ("summary.json", "best.safetensors"):
        (tmp_path / "tiny" / name).unlink()
    second = trained(tmp_path, again, rest, plan=plan)
    assert rest.asked == [] and same_weights(whole, again) and history(tmp_path) == before
    for key in ("epochs", "steps", "valid_loss"):
        assert first[key] == second[key]


def test_a_training_that_was_moved_goes_on_and_knows_its_best_epoch(tmp_path: Path):
    """The validation loss is at its lowest in the first epoch, and the network never as good again."""

    def run(folder: Path, network: nn.Module, scenes: Line) -> dict:
        def loss(batch: WeakBatch) -> dict[str, torch.Tensor]:
            found = loss_of(network)(batch)["loss"]
            return {"loss": found if torch.is_grad_enabled() else network[3].bias.detach().abs().sum()}

        return trained(folder, network, scenes, loss, replace(PLAN, lr=0.5))

    whole, again = new_network(), new_network()
    first = run(tmp_path / "whole", whole, Line(0))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "before", new_network(), Line(0, stop_at=10))
    (tmp_path / "before").rename(tmp_path / "after")
    assert run(tmp_path / "after", again, Line(0))["valid_loss"] == first["valid_loss"]
    assert same_weights(whole, again)


def test_a_training_goes_on_at_another_rate(tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, new_network(), Line(0, stop_at=7))
    trained(tmp_path, new_network(), plan=replace(PLAN, lr=0.01))
    rates = [row["lr"] for row in history(tmp_path)]
    wanted = [(0.05, 3), (0.05, 6), (0.01, 9), (0.01, 12)]
    assert rates == pytest.approx([rate * PLAN.factor(step) for rate, step in wanted])


def test_what_is_finished_is_loaded_and_not_trained_again(tmp_path: Path):
    first, second, unasked = new_network(), new_network(), Line(0)
    summary = trained(tmp_path, first)
    assert trained(tmp_path, second, unasked) == summary
    assert unasked.asked == [] and same_weights(first, second)


def test_ctrl_c_works_after_a_training_was_stopped_with_it(tmp_path: Path):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path, new_network(), Line(0, stop_at=1))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_each_batch_is_asked_for_once_and_in_order(tmp_path: Path):
    scenes, valid = Line(0), Line(1)
    trained(tmp_path, new_network(), scenes, valid=valid)
    assert scenes.asked == [(index, 2) for index in range(12)]
    assert valid.asked == [(0, 2), (1, 2)] * 4


def test_it_learns(tmp_path: Path):
    summary = trained(tmp_path, new_network(), plan=Schedule(8, 20, 16, 4, 0.02, patience=8))
    assert summary["valid_loss"] < 0.1 < 0.3 < history(tmp_path)[0]["train_loss"]


def test_it_stops_early_when_nothing_gets_better(tmp_path: Path):
    scenes = Line(0)
    summary = trained(tmp_path, new_network(), scenes, plan=Schedule(50, 2, 2, 1, lr=0.0, patience=3))
    assert summary["epochs"] <= 5 and len(scenes.asked) == 2 * summary["epochs"] == summary["steps"]


def test_the_best_weights_are_kept_and_not_the_last(tmp_path: Path):
    """Down to the bottom of a valley and up its other side: the validation loss is (weight - 1)^2."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)

    def loss(batch: WeakBatch) -> dict[str, torch.Tensor]:
        weight = network.weight.squeeze()
        return {"loss": -weight if torch.is_grad_enabled() else (weight - 1) ** 2}

    summary = trained(tmp_path, network, loss=loss, plan=Schedule(6, 1, 1, 1, lr=0.5, patience=6))
    curve = [row["valid_loss"] for row in history(tmp_path)]
    assert len(curve) == 6 and curve.index(min(curve)) == 1 and curve[-1] > 1
    assert network.weight.item() == pytest.approx(1, abs=1e-3)
    assert summary["valid_loss"] == pytest.approx(min(curve))


def test_a_loss_that_is_not_finite_is_one_line_that_says_what_to_do(tmp_path: Path):
    network = new_network()

    def loss(batch: WeakBatch) -> dict[str, torch.Tensor]:
        return {"loss": network(batch.mixture).mean() * float("nan")}

    with pytest.raises(UserError) as said:
        trained(tmp_path, network, loss=loss)
    assert "train.tiny.lr" in str(said.value) and "\n" not in str(said.value) and "step 0" in str(said.value)


def test_parameters_that_want_no_gradient_stay(tmp_path: Path):
    network = new_network()
    network[0].requires_grad_(False)
    before = [each.clone() for each in network[0].parameters()], network[3].weight.clone()
    trained(tmp_path, network)
    assert all(torch.equal(old, new) for old, new in zip(before[0], network[0].parameters()))
    assert not torch.equal(before[1], network[3].weight)


def test_gradients_are_clipped_to_their_norm(tmp_path: Path):
    seen: list[float] = []
    network = nn.Linear(1, 1, bias=False)

    def loss(batch: WeakBatch) -> dict[str, torch.Tensor]:
        if network.weight.grad is not None:
            seen.append(network.weight.grad.norm().item())
        return {"loss": 1000 * network.weight.squeeze()}

    trained(tmp_path, network, loss=loss, plan=Schedule(1, 3, 1, 1, lr=0.1, patience=1, clip_norm=0.25))
    assert max(seen, default=0.0) <= 0.2501


def test_sources_come_along_where_the_scenes_have_them(tmp_path: Path):
    class Isolated(Line):
        def batch(self, index: int, size: int) -> Batch:
            weak = super().batch(index, size)
            return Batch(
                weak.mixture, weak.events, torch.stack([weak.mixture, -weak.mixture], 1), np.zeros((size, 2), np.int64)
            )

    network, shapes = new_network(), set()

    def loss(batch: Batch) -> dict[str, torch.Tensor]:
        shapes.add((type(batch), tuple(batch.sources.shape)))
        return loss_of(network)(batch)

    trained(tmp_path, network, Isolated(0), loss, valid=Isolated(1))
    assert shapes == {(Batch, (2, 2, 16))}


def test_every_named_loss_stands_in_the_history(tmp_path: Path):
    trained(tmp_path, new_network())
    rows = history(tmp_path)
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    assert [row["step"] for row in rows] == [3, 6, 9, 12]
    for row in rows:
        assert row["valid_half"] == pytest.approx(row["valid_loss"] / 2, rel=1e-5)
        assert row["train_half"] == pytest.approx(row["train_loss"] / 2, rel=1e-5)


def test_the_share_of_waiting_is_measured(tmp_path: Path):
    plan = Schedule(2, 4, 2, 1, 0.01, patience=5)
    slow = trained(tmp_path / "slow", new_network(), Line(0, wait_s=0.1), plan=plan)
    fast = trained(tmp_path / "fast", new_network(), plan=plan)
    assert fast["waiting_share"] < 0.3 < 0.5 < slow["waiting_share"] <= 1
    assert slow["seconds"] > 0.8 and 0 < slow["steps_per_s"] < 10


def test_so_many_batches_are_mixed_ahead_and_none_of_another_epoch():
    scenes, n = Line(0), AHEAD + 3
    epoch = _Scenes(scenes, replace(PLAN, steps=n), Clock(None, 1))
    epoch.first = n
    batches = iter(epoch)
    for step in range(n):
        next(batches)
        wanted = [(n + i, 2) for i in range(min(step + 1 + AHEAD, n))]
        until_s = time.monotonic() + 5
        while len(scenes.asked) < len(wanted) and time.monotonic() < until_s:
            time.sleep(0.005)
        time.sleep(0.02)  # for one too many
        assert scenes.asked == wanted
    assert list(batches) == [] and len(scenes.asked) == n


@pytest.mark.parametrize(("share", "said"), [(0.13, ["training tiny: waited for scenes 13 % of the time"]), (0.04, [])])
def test_what_was_waited_for_scenes_is_said_where_it_is_much(tmp_path: Path, monkeypatch, share: float, said: list[str]):
    monkeypatch.setattr(training._History, "summary", lambda _: {"waiting_share": share})
    out, network = StringIO(), new_network()
    train("tiny", network, loss_of(network), Line(0), Line(1), PLAN, tmp_path, 3, CPU, PlainProgress(out))
    assert [line for line in out.getvalue().splitlines() if "waited" in line] == said


def test_scenes_are_mixed_while_the_network_learns(tmp_path: Path):
    """Mixing a batch takes as long as learning from one; waiting for each in turn would take half of the time."""
    network = new_network()

    def loss(batch: WeakBatch) -> dict[str, torch.Tensor]:
        time.sleep(0.05 if torch.is_grad_enabled() else 0)
        return loss_of(network)(batch)

    summary = trained(tmp_path, network, Line(0, wait_s=0.05), loss, Schedule(1, 12, 2, 1, 0.01, patience=5))
    assert summary["waiting_share"] < 0.35


# the learning rate over time


def test_warm_up_rises_in_equal_steps_to_one():
    plan = Schedule(2, 50, 1, 1, 1.0, 1, warmup=4)
    assert [plan.factor(step) for step in range(7)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 1])


def test_without_warm_up_or_cosine_the_rate_stays():
    plan = Schedule(2, 50, 1, 1, 1.0, 1)
    assert {plan.factor(step) for step in range(100)} == {1.0}


def test_the_cosine_falls_to_two_percent():
    plan = Schedule(4, 25, 1, 1, 1.0, 1, cosine=True)
    factors = [plan.factor(step) for step in range(101)]
    assert factors[0] == pytest.approx(1) and factors[50] == pytest.approx(0.51) and factors[100] == pytest.approx(0.02)
    assert all(later < earlier for earlier, later in zip(factors, factors[1:]))
    assert plan.factor(1000) == pytest.approx(0.02)


def test_the_rate_in_the_history_is_the_one_of_the_schedule(tmp_path: Path):
    trained(tmp_path, new_network())
    rates = [row["lr"] for row in history(tmp_path)]
    assert rates == pytest.approx([PLAN.lr * PLAN.factor(step) for step in (3, 6, 9, 12)])


# what a schedule may ask for


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"plateau_factor": 1.0}, "plateau_factor is 1.0"),
        ({"plateau_factor": 0.5, "cosine": True}, "goes with neither cosine nor warmup"),
        ({"plateau_factor": 0.5, "plateau_patience": -1}, "plateau_patience is -1"),
        ({"precision": "half"}, "precision is 'half'; wanted one of 32, bf16, fp16, auto"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        Schedule(**{**FLAT, **wrong})


FLAT = {"epochs": 6, "steps": 2, "batch": 2, "valid_batches": 1, "lr": 0.05, "patience": 99}


def test_the_rate_falls_by_its_factor_where_the_validation_loss_stands_still(tmp_path):
    network = new_network()

    def loss(batch):
        found = loss_of(network)(batch)
        return found if network.training else {name: 0 * value + 1 for name, value in found.items()}

    trained(tmp_path, network, loss=loss, plan=Schedule(**FLAT, plateau_factor=0.5, plateau_patience=1))
    assert [row["lr"] for row in history(tmp_path)] == pytest.approx([0.05, 0.05, 0.05, 0.025, 0.025, 0.0125])


@pytest.mark.parametrize("stop_at", [5, 9, 14])
def test_a_plateau_is_waited_for_across_a_stop(tmp_path, stop_at):
    """The second start knows for how long nothing has got better."""
    plan = Schedule(**{**FLAT, "epochs": 8}, plateau_factor=0.5, plateau_patience=2)

    def run(folder, scenes):
        network = new_network()

        def loss(batch):
            found = loss_of(network)(batch)
            return found if network.training else {name: 0 * value + 1 for name, value in found.items()}

        trained(folder, network, scenes, loss=loss, plan=plan)

    run(tmp_path / "whole", Line(0))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", Line(0, stop_at))
    run(tmp_path / "stopped", Line(0))
    assert history(tmp_path / "stopped") == history(tmp_path / "whole")
    assert len({row["lr"] for row in history(tmp_path / "whole")}) == 3


def test_the_rate_stays_without_a_plateau_or_a_cosine(tmp_path):
    trained(tmp_path, new_network(), plan=Schedule(**FLAT))
    assert {row["lr"] for row in history(tmp_path)} == {0.05}


def test_weights_decay_beside_the_gradient(tmp_path):
    """AdamW shrinks a weight without a gradient by lr * decay at each step; Adam with an L2 term would step by lr."""
    network = nn.Sequential(nn.Linear(16, 1), nn.Linear(1, 1))
    with torch.no_grad():
        network[1].weight.fill_(4.0)

    def loss(batch):
        return {"loss": network[0](batch.mixture).square().mean() + 0 * network[1].weight.sum()}

    trained(tmp_path, network, loss=loss, plan=Schedule(**{**FLAT, "epochs": 1, "steps": 3}, weight_decay=0.1))
    assert network[1].weight.item() == pytest.approx(4 * (1 - 0.05 * 0.1) ** 3, rel=1e-5)


@pytest.mark.parametrize("precision, expected", [("32", torch.float32), ("bf16", torch.bfloat16)])
def test_precision_is_that_of_the_products(tmp_path, precision, expected):
    network, seen = new_network(), set()
    network[0].register_forward_hook(lambda layer, given, answer: seen.add(answer.dtype))
    trained(tmp_path, network, plan=Schedule(**{**FLAT, "epochs": 1}, precision=precision))
    assert seen == {expected} and network[0].weight.dtype == torch.float32


def test_float16_wants_a_gpu(tmp_path):
    with pytest.raises(UserError, match="precision fp16 wants a GPU. Choose bf16, 32 or auto."):
        trained(tmp_path, new_network(), plan=Schedule(**FLAT, precision="fp16"))


def test_auto_is_what_the_device_is_fast_in():
    assert precision_on(CPU, "auto") == ("bf16" if torch.cpu._is_amx_tile_supported() else "32")
    if torch.cuda.is_available():
        assert precision_on(torch.device("cuda"), "auto") in ("bf16", "fp16")
