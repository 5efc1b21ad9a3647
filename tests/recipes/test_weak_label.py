"""The weak-label recipe against its paper: sizes, equations, who teaches whom, and what each option changes."""

from __future__ import annotations

import copy
import csv
import itertools
import math
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from sepbench.labels import Events
from sepbench.loading import load_from
from sepbench.method import Batch, Training, WeakBatch, WeakTraining
from sepbench.options_recipe import grid
from sepbench.progress import PlainProgress
from sepbench.recipe import build, load_recipe
from sepbench.scene import Mixture, TaskInfo
from sepbench.tables import find_published

REPO = Path(__file__).resolve().parents[2]
FOLDER = REPO / "recipes" / "weak_label"
RECIPE = load_recipe(FOLDER)
FIVE = TaskInfo(("car_horn", "dog_bark", "gun_shot", "jackhammer", "siren"), 16000, 1, 5, 4.0)
SMALL = TaskInfo(("horn", "bark", "siren"), 8000, 1, 3, 0.5)
TINY = {"hidden": 6, "layers": 1, "critic_hidden": 5, "critic_layers": 1, "critic_channels": [2, 3, 4]}
SHORT = {
    "epochs": 1, "steps": 1, "batch": 3, "valid_batches": 1, "lr": 0.01, "patience": 1, "warmup": 0, "cosine": False,
    "clip_norm": None,
}  # fmt: skip
QUIET = PlainProgress(open(os.devnull, "w"))  # noqa: SIM115

load_from(FOLDER, "method.py", "WeakLabelSeparator")
from recipes.weak_label import losses  # noqa: E402  (the recipe's folder is a package once it is loaded)


def paper(**options):
    config, _ = RECIPE.resolve("paper", options)
    return build(RECIPE, config, FIVE)


def tiny(seed: int = 0, task: TaskInfo = SMALL, standardise: bool = True, bfloat16: bool = False, **options):
    """The recipe at toy sizes; every stage that its profile has lasts one step."""
    config, _ = RECIPE.resolve("small", options, seed=seed)
    train = {name: SHORT if isinstance(value, dict) else value for name, value in config["train"].items()}
    train |= {"prior_scenes": 200, "standardise": standardise, "bfloat16": bfloat16}
    return build(RECIPE, {**config, "train": train, "sizes": TINY}, task)


class Sounds:
    """Noise bursts of three pitches; batch(i, size) is a pure function of both."""

    def __init__(self, seed: int = 0, isolated: bool = False, task: TaskInfo = SMALL):
        self.seed, self.isolated, self.task = seed, isolated, task

    def batch(self, index: int, size: int) -> WeakBatch:
        random = np.random.default_rng([self.seed, index, size])
        rate_hz, n_classes = self.task.sample_rate_hz, len(self.task.classes)
        n_time = round(self.task.seconds * rate_hz)
        n_events = 3 * size
        scene, label = np.sort(random.integers(size, size=n_events)), random.integers(n_classes, size=n_events)
        on_s = random.uniform(0, self.task.seconds / 2, n_events)
        off_s = on_s + random.uniform(0.02, self.task.seconds / 2, n_events)
        sources = np.zeros((size, n_classes, n_time), np.float32)
        time_s = np.arange(n_time) / rate_hz
        for s, c, a, b in zip(scene, label, on_s, off_s):
            sounding = (time_s >= a) & (time_s < b)
            sources[s, c] += 0.1 * sounding * np.sin(2 * np.pi * 400 * (c + 1) * time_s)
        events = Events(scene, label, on_s, off_s, size, n_classes)
        mixture = torch.from_numpy(sources.sum(1))
        if not self.isolated:
            return WeakBatch(mixture, events)
        return Batch(mixture, events, torch.from_numpy(sources), np.where(events.presence(), np.arange(n_classes), -1))


def training(method, folder: Path):
    strong = method.settings.supervision == "isolated"
    kind = Training if strong else WeakTraining
    return kind(Sounds(0, strong), Sounds(1, strong), folder, 0, QUIET)


def ready(**options):
    """A method that knows the prior, as after the first look at the data."""
    method = tiny(**options)
    method._look_at_the_data(training(method, Path("unused")))
    return method


def count(network) -> int:
    return sum(each.numel() for each in network.parameters())


def state(network) -> dict[str, torch.Tensor]:
    return copy.deepcopy(network.state_dict())


def same(one: dict, other: dict) -> bool:
    return all(torch.equal(one[key], other[key]) for key in one)


# sizes, section II-F and Fig. 2


def test_the_separator_has_the_papers_size():
    separator = paper().separator
    assert (count(separator.recurrent), count(separator.masks)) == (21_422_400, 1_543_285)
    assert count(separator) == 22_965_685


@pytest.mark.parametrize(("window_ms", "separator", "crnn"), [(8, 20.89, 1.16), (16, 21.58, 1.98), (64, 25.73, 6.89)])
def test_sizes_at_other_windows(window_ms: int, separator: float, crnn: float):
    method = paper(window_ms=window_ms)
    assert round(count(method.separator) / 1e6, 2) == separator and round(count(method.critic) / 1e6, 2) == crnn


def test_the_crnn_has_the_papers_size_and_shapes():
    critic = paper().critic
    parts = count(critic.convolutions), count(critic.recurrent), count(critic.classes)
    assert parts == (257_472, 3_358_400, 1_005) and count(critic) == 3_616_877
    maps, shapes = torch.zeros(1, 1, 501, 257), []
    for layer in critic.eval().convolutions:
        maps = layer(maps)
        if isinstance(layer, torch.nn.MaxPool2d):
            shapes.append(tuple(maps.shape[1:]))
    assert shapes == [(32, 501, 128), (64, 250, 64), (128, 125, 32)]
    assert critic(torch.zeros(2, 501, 257)).shape == (2, 125, 5)


def test_the_rnn_has_the_papers_size():
    critic = paper(classifier="rnn", mel_bins=40).critic
    assert count(critic) == 356_205 and critic(torch.zeros(2, 501, 257)).shape == (2, 501, 5)


def test_sizes_by_mel_bins():
    rnn = {mel: count(paper(classifier="rnn", mel_bins=mel).critic) for mel in (10, 20, 30, 40, 56)}
    crnn = {mel: count(paper(classifier="crnn", mel_bins=mel).critic) for mel in (10, 20, 30, 40, 56)}
    assert (round(rnn[10] / 1e3), round(rnn[56] / 1e3)) == (332, 369)
    assert (round(crnn[10] / 1e3), round(crnn[56] / 1e6, 2)) == (442, 1.06)
    assert all(list(sizes.values()) == sorted(sizes.values()) for sizes in (rnn, crnn))
    assert paper(mel_bins=10).critic(torch.zeros(1, 501, 257)).shape == (1, 125, 5)


def test_the_stft_is_the_papers():
    stft = paper().stft
    assert (stft.length, stft.hop, stft.n_bins, stft.n_frames(64000)) == (512, 128, 257, 501)
    assert stft.window.double().square().numpy() == pytest.approx(np.hanning(513)[:-1], abs=1e-6)  # root of a Hann
    assert stft(torch.zeros(2, 64000)).shape == (2, 501, 257)


def test_the_profile_paper_trains_as_the_paper_says():
    train = RECIPE.resolve("paper")[0]["train"]
    for stage in ("critic", "separator"):
        wanted = {"epochs": 50, "batch": 10, "lr": 1e-4, "patience": 5, "warmup": 0, "cosine": False, "clip_norm": None}
        assert {key: train[stage][key] for key in wanted} == wanted
        assert (train[stage]["steps"] * 10, train[stage]["valid_batches"] * 10) == (20_000, 5_000)
    assert train["activity"] is None and not train["standardise"] and not train["bfloat16"]


# equations, each against a slow loop


def problem(seed: int = 0, batch: int = 2, frames: int = 5, classes: int = 3, bins: int = 4):
    """Random (labels, prior, logits of the mixture, logits of the estimates, magnitude, estimates)."""
    random = torch.Generator().manual_seed(seed)
    labels = (torch.rand(batch, frames, classes, generator=random) < 0.4).float()
    labels[0, 0] = 0  # a frame in which nothing sounds
    prior = 0.1 + 0.8 * torch.rand(classes, generator=random)
    logits = torch.randn(batch, frames, classes, generator=random)
    judged = torch.randn(batch, classes, frames, classes, generator=random)
    magnitude = torch.rand(batch, frames, bins, generator=random)
    estimates = torch.rand(batch, frames, classes, bins, generator=random) * magnitude[:, :, None]
    return labels, prior, logits, judged, magnitude, estimates


def cross_entropy(label: float, logit: float) -> float:
    """Eq. 6."""
    p = 1 / (1 + math.exp(-logit))
    return -label * math.log(p) - (1 - label) * math.log(1 - p)


def weight_of(label: float, prior: float) -> float:
    """Eq. 15."""
    return 1 / prior if label else 1 / (1 - prior)


def each_frame(labels):
    return itertools.product(range(labels.shape[0]), range(labels.shape[1]))


def test_class_weights_are_equation_15():
    labels, prior, *_ = problem()
    found = losses.class_weights(labels, prior)
    for b, t in each_frame(labels):
        for i in range(3):
            assert found[b, t, i].item() == pytest.approx(weight_of(labels[b, t, i].item(), prior[i].item()))


def test_class_weights_give_both_states_of_every_class_the_same_share():
    labels = (torch.rand(1, 200_000, 2, generator=torch.Generator().manual_seed(0)) < torch.tensor([0.1, 0.7])).float()
    weights = losses.class_weights(labels, labels.mean((0, 1)))
    on, off = (weights * labels).mean((0, 1)), (weights * (1 - labels)).mean((0, 1))
    assert torch.cat([on, off]).tolist() == pytest.approx([1] * 4, abs=1e-4)


@pytest.mark.parametrize("weighted", [True, False])
def test_the_mixture_is_judged_by_equations_7_and_17(weighted: bool):
    labels, prior, logits, *_ = problem()
    found = losses.mixture_classification(logits, labels, losses.class_weights(labels, prior) if weighted else None)
    for b, t in each_frame(labels):
        wanted = 0.0
        for i in range(3):
            weight = weight_of(labels[b, t, i].item(), prior[i].item()) if weighted else 1
            wanted += weight * cross_entropy(labels[b, t, i].item(), logits[b, t, i].item())
        assert found[b, t].item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("weighted", [True, False])
def test_estimates_are_judged_by_equations_8_and_18(weighted: bool):
    """The weight of class j is W_j of the mixture's label, although j shall be silent in estimate i."""
    labels, prior, _, judged, *_ = problem()
    found = losses.source_classification(judged, labels, losses.class_weights(labels, prior) if weighted else None)
    for b, t in each_frame(labels):
        wanted = 0.0
        for i, j in itertools.product(range(3), range(3)):  # estimate, class
            weight = weight_of(labels[b, t, j].item(), prior[j].item()) if weighted else 1
            label = labels[b, t, i].item() if i == j else 0.0
            wanted += weight * cross_entropy(label, judged[b, i, t, j].item())
        assert found[b, t].item() == pytest.approx(wanted, rel=1e-5)


def test_the_mixture_loss_is_equation_5_and_leaves_frames_out_where_nothing_sounds():
    labels, _, _, _, magnitude, estimates = problem()
    found = losses.mixture_loss(magnitude, estimates, labels)
    assert (labels.amax(-1) == 0).sum() >= 1
    for b, t in each_frame(labels):
        wanted = 0.0
        if labels[b, t].any():
            for k in range(4):
                explained = sum(estimates[b, t, i, k].item() for i in range(3) if labels[b, t, i])
                wanted += abs(magnitude[b, t, k].item() - explained)
                wanted += sum(abs(estimates[b, t, i, k].item()) for i in range(3) if not labels[b, t, i])
        assert found[b, t].item() == pytest.approx(wanted, rel=1e-5, abs=1e-7)


def test_the_mixture_loss_is_zero_for_active_estimates_that_sum_to_the_mixture():
    labels, _, _, _, magnitude, _ = problem()
    shares = labels / labels.sum(-1, keepdim=True).clamp_min(1)
    assert losses.mixture_loss(magnitude, shares[..., None] * magnitude[:, :, None], labels).max() < 1e-6


def test_strong_labels_are_equation_16():
    labels, prior, _, _, _, estimates = problem()
    targets = problem(seed=9)[-1]
    found = losses.magnitude_loss(estimates, targets, losses.class_weights(labels, prior))
    for b, t in each_frame(labels):
        wanted = 0.0
        for i, k in itertools.product(range(3), range(4)):
            weight = weight_of(labels[b, t, i].item(), prior[i].item())
            wanted += weight * abs(estimates[b, t, i, k].item() - targets[b, t, i, k].item())
        assert found[b, t].item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("target", ["source", "capped"])
def test_the_strong_loss_is_equation_16_from_masks_to_mean(target: str):
    """With the weights of eq. 15, by hand; 100 times, as the method's scale says."""
    method, batch = ready(labels="strong", target=target), Sounds(0, isolated=True).batch(7, 2)
    with torch.no_grad():
        found = method._strong_loss(batch)["loss"].item()
        magnitude = method.stft(batch.mixture).abs()
        estimates = method.separator(magnitude) * magnitude[:, :, None]
        targets = torch.stack([method.stft(batch.sources[:, i]).abs() for i in range(3)], 2)
    if target == "capped":
        targets = torch.minimum(targets, magnitude[:, :, None])
    labels, weighted, unweighted = method._frame_labels(batch.events, 1), 0.0, 0.0
    for b, t in each_frame(labels):
        for i in range(3):
            distance = (estimates[b, t, i] - targets[b, t, i]).abs().sum().item()
            weighted += weight_of(labels[b, t, i].item(), method.prior[i].item()) * distance
            unweighted += distance
    n_frames = labels[..., 0].numel()
    assert found == pytest.approx(100 * weighted / n_frames, rel=1e-5)
    assert found != pytest.approx(100 * unweighted / n_frames, rel=0.1)


@pytest.mark.parametrize("classifier", ["rnn", "crnn"])
@pytest.mark.parametrize("labels", ["frame", "clip"])
def test_the_total_is_equations_10_and_14_from_masks_to_sum(labels: str, classifier: str):
    """Every part by hand: estimates from masks, the critic on each of them, pooling, eqs. 5, 7, 8, 12, 13, 17, 18."""
    method = ready(labels=labels, classifier=classifier, alpha=7.0)
    method.critic.eval()
    batch = Sounds().batch(3, 2)
    if labels == "clip":
        batch = WeakBatch(batch.mixture, batch.events.whole_clip(SMALL.seconds))
    with torch.no_grad():
        found = {key: value.item() for key, value in method._total_loss(batch).items()}
        magnitude = method.stft(batch.mixture).abs()
        estimates = method.separator(magnitude) * magnitude[:, :, None]
        fine = torch.from_numpy(batch.events.activity(magnitude.shape[1], method.stft.hop_s, -method.stft.hop_s / 2))
        fine = fine.transpose(1, 2)
        mixture = losses.mixture_loss(magnitude, estimates, fine).mean().item()
        logits = [method.critic(magnitude), *(method.critic(estimates[:, :, i]) for i in range(3))]
        if labels == "clip":
            logits = [each.max(1, keepdim=True).values for each in logits]
            wanted, prior = torch.from_numpy(batch.events.presence())[:, None], None
        else:
            pooling, n = method.critic.pooling, logits[0].shape[1]
            wanted, prior = fine[:, : n * pooling].unflatten(1, (n, pooling)).amax(2), method.prior
        sums = [0.0, 0.0]
        for b, t in each_frame(wanted):
            for which, i in itertools.product(range(4), range(3)):
                label = wanted[b, t, i].item()
                weight = 1.0 if prior is None else weight_of(label, prior[i].item())
                shown = label if which in (0, i + 1) else 0.0
                sums[which > 0] += weight * cross_entropy(shown, logits[which][b, t, i].item())
    critic, classes = (each / wanted[..., 0].numel() for each in sums)
    assert found["mixture"] == pytest.approx(mixture, rel=1e-5)
    assert found["critic"] == pytest.approx(critic, rel=1e-4) and found["classes"] == pytest.approx(classes, rel=1e-4)
    assert found["loss"] == pytest.approx(classes + 7 * mixture + critic, rel=1e-4)


def test_the_activity_gate_shares_each_frame_among_its_classes():
    """Cross-entropy of every mask, at every frequency, to 1/n where n classes sound and it is one of them, else to 0."""
    method, batch = ready(labels="frame"), Sounds().batch(3, 2)
    with torch.no_grad():
        found = method._activity_loss(batch)["loss"].item()
        masks = method.separator(method.stft(batch.mixture).abs())
    labels, wanted = method._frame_labels(batch.events, 1), 0.0
    for b, t in each_frame(labels):
        for i in range(3):
            share = labels[b, t, i].item() / max(1, labels[b, t].sum().item())
            for mask in masks[b, t, i].tolist():
                wanted += -share * math.log(mask) - (1 - share) * math.log(1 - mask)
    assert found == pytest.approx(wanted / masks.numel(), rel=1e-5)


def test_the_prior_is_the_share_of_active_frames():
    method = ready(labels="frame")
    batches = [Sounds().batch(index, 100).events for index in range(2)]  # 200 scenes, a hundred in memory at a time
    frames = method._n_frames, method.stft.hop_s, -method.stft.hop_s / 2
    active = np.concatenate([events.activity(*frames) for events in batches])
    assert method.prior.tolist() == pytest.approx(active.mean((0, 2)).tolist(), rel=1e-5)


def test_clip_labels_need_no_prior():
    assert ready(labels="clip").prior is None


# time


def test_labels_on_the_critics_grid_are_the_fine_ones_pooled_by_four():
    method = paper()
    random = np.random.default_rng(0)
    on_s = random.uniform(0, 3.9, 400)
    events = Events(
        np.repeat(np.arange(40), 10), random.integers(5, size=400), on_s, on_s + 0.1 * random.random(400), 40, 5
    )
    fine, coarse = method._frame_labels(events, 1), method._frame_labels(events, 4)
    assert fine.shape == (40, 501, 5) and coarse.shape == (40, 125, 5)
    assert torch.equal(coarse, torch.nn.functional.max_pool1d(fine.transpose(1, 2), 4).transpose(1, 2))
    assert 0 < coarse.mean() < 1


def test_a_frame_is_active_where_an_event_overlaps_its_centre_and_half_a_hop():
    method = paper()
    hop_s = method.stft.hop_s
    events = Events(np.array([0]), np.array([2]), np.array([10.6 * hop_s]), np.array([12.4 * hop_s]), 1, 5)
    assert method._frame_labels(events, 1)[0, :, 2].nonzero().flatten().tolist() == [11, 12]


def test_clip_labels_make_every_frame_active():
    events = Events(np.array([0]), np.array([1]), np.array([1.0]), np.array([1.2]), 1, 5).whole_clip(4.0)
    labels = paper()._frame_labels(events, 1)
    assert labels[0, :, 1].min() == 1 and labels.sum() == 501


@pytest.mark.parametrize("classifier", ["rnn", "crnn"])
def test_the_activity_reported_lies_on_the_frames_it_was_judged_on(classifier: str):
    method = tiny(classifier=classifier)
    activity = method.separate([Mixture(Sounds().batch(0, 1).mixture, 8000, "a")])[0].activity
    pooling = {"rnn": 1, "crnn": 4}[classifier]
    assert activity.probability.shape == (3, method._n_frames // pooling)
    assert (activity.hop_s, activity.start_s) == (pooling * method.stft.hop_s, -method.stft.hop_s / 2)


# answering


@pytest.mark.parametrize("labels", ["strong", "frame", "clip"])
def test_separate_gives_a_finite_source_per_class_as_long_as_the_mixture(labels: str):
    method, audio = tiny(labels=labels), Sounds().batch(0, 3).mixture
    audio[2] = 0  # silence
    answers = method.separate([Mixture(each[None], 8000, str(i)) for i, each in enumerate(audio)])
    for answer in answers:
        assert answer.sources.shape == (3, 4000) and answer.sources.isfinite().all() and answer.labels == SMALL.classes
        assert (answer.activity is None) == (answer.confidences is None) == (labels == "strong")
    assert answers[2].sources.abs().max() == 0


def test_what_is_separated_together_is_separated_as_alone():
    method, audio = tiny(), Sounds().batch(0, 3).mixture
    mixtures = [Mixture(each[None], 8000, str(i)) for i, each in enumerate(audio)]
    for together, mixture in zip(method.separate(mixtures), mixtures):
        assert torch.allclose(together.sources, method.separate([mixture])[0].sources, atol=1e-6)


def test_masks_lie_between_0_and_1_whatever_comes():
    separator = tiny().separator
    for scale in (0, 1e-6, 1, 1e6):
        masks = separator(scale * torch.rand(2, 9, separator.shift.numel()))
        assert masks.shape == (2, 9, 3, separator.shift.numel()) and masks.min() >= 0 and masks.max() <= 1


def test_masks_of_one_hand_the_mixture_back():
    method = tiny()
    torch.nn.init.zeros_(method.separator.masks.weight)
    torch.nn.init.constant_(method.separator.masks.bias, 100.0)
    audio = Sounds().batch(0, 1).mixture
    sources = method.separate([Mixture(audio, 8000, "a")])[0].sources
    assert torch.allclose(sources, audio.expand(3, -1), atol=1e-5)


def test_confidence_is_the_highest_probability():
    answer = tiny().separate([Mixture(Sounds().batch(0, 1).mixture, 8000, "a")])[0]
    assert torch.equal(answer.confidences, answer.activity.probability.amax(-1))
    assert answer.activity.probability.min() >= 0 and answer.activity.probability.max() <= 1


@pytest.mark.parametrize("labels", ["strong", "frame"])
def test_what_was_saved_answers_the_same(tmp_path: Path, labels: str):
    first, second = tiny(labels=labels), tiny(seed=1, labels=labels)
    first.fit(training(first, tmp_path / "fit"))
    first.save(tmp_path / "weights")
    mixtures = [Mixture(Sounds().batch(0, 1).mixture, 8000, "a")]
    wanted, before = first.separate(mixtures)[0], second.separate(mixtures)[0]
    assert not torch.equal(wanted.sources, before.sources)
    second.load(tmp_path / "weights")
    found = second.separate(mixtures)[0]
    assert torch.equal(found.sources, wanted.sources)
    if labels != "strong":
        assert torch.equal(found.activity.probability, wanted.activity.probability)
    assert {file.name for file in (tmp_path / "weights").iterdir()} == {
        "separator.safetensors", *([] if labels == "strong" else ["critic.safetensors"]),
    }  # fmt: skip


# who teaches whom


@pytest.mark.parametrize("classifier", ["rnn", "crnn"])
def test_a_fixed_critic_learns_from_mixtures_alone_and_then_stays(tmp_path: Path, classifier: str):
    """Its weights, and what its batch norms have counted, are those that its own stage ended with."""
    method, states = tiny(classifier=classifier), {}
    start, own_train = state(method.critic), method._train

    def watched(name, network, *rest):
        cost = own_train(name, network, *rest)
        states[name] = state(method.critic), state(method.separator)
        return cost

    method._train = watched
    cost = method.fit(training(method, tmp_path))
    assert list(cost) == ["priors", *states] and list(states)[-2:] == ["critic", "separator"]
    assert not same(start, states["critic"][0]) and same(states["critic"][0], states["separator"][0])
    assert same(states["critic"][0], method.critic.state_dict())
    assert not same(states["critic"][1], states["separator"][1])


def test_a_fixed_critic_is_in_evaluation_mode_while_it_passes_gradients_on(tmp_path: Path):
    method, modes = tiny(), set()
    own_loss = method._separator_loss

    def watched(batch):
        found = own_loss(batch)
        modes.add(method.critic.convolutions.training)
        assert all(not each.requires_grad for each in method.critic.parameters())
        if torch.is_grad_enabled():
            bias = method.separator.masks.bias
            assert torch.autograd.grad(found["classes"], bias, retain_graph=True)[0].abs().sum() > 0
        return found

    method._separator_loss = watched
    method.fit(training(method, tmp_path))
    assert modes == {False}


@pytest.mark.parametrize("classifier", ["rnn", "crnn"])
def test_a_fixed_critic_judges_as_in_evaluation_although_its_lstm_trains(tmp_path: Path, classifier: str):
    """cuDNN hands gradients through an LSTM in training mode only; without dropout the mode changes no figure."""
    method, seen = tiny(classifier=classifier), []
    own_loss = method._separator_loss

    def watched(batch):
        norms = [each for each in method.critic.modules() if isinstance(each, torch.nn.BatchNorm2d)]
        assert len(norms) == (3 if classifier == "crnn" else 0) and not any(each.training for each in norms)
        assert method.critic.recurrent.training and method.critic.recurrent.dropout == 0
        with torch.no_grad():
            magnitude = method.stft(batch.mixture).abs()
            judged = copy.deepcopy(method.critic).eval()(magnitude)
            assert torch.equal(method.critic(magnitude), judged)
        seen.append(judged)
        return own_loss(batch)

    method._separator_loss = watched
    method.fit(training(method, tmp_path))
    assert len(seen) >= 2  # a step of training and one of validation


def test_fine_tuning_changes_the_critic_after_its_own_stage(tmp_path: Path):
    method = tiny(strategy="finetune")
    states, own_train = {}, method._train

    def watched(name, *rest):
        cost = own_train(name, *rest)
        states[name] = state(method.critic)
        return cost

    method._train = watched
    method.fit(training(method, tmp_path))
    learnt = {key for key, _ in method.critic.named_parameters()}
    assert all(not torch.equal(states["critic"][key], states["separator"][key]) for key in learnt)


def test_joint_training_teaches_both_at_once(tmp_path: Path):
    method = tiny(strategy="joint")
    separator, critic = state(method.separator), state(method.critic)
    cost = method.fit(training(method, tmp_path))
    assert "critic" not in cost and "separator" in cost
    for network, before in ((method.separator, separator), (method.critic, critic)):
        learnt = dict(network.named_parameters())
        assert all(not torch.equal(before[key], value) for key, value in learnt.items())


def test_strong_labels_need_no_critic(tmp_path: Path):
    method = tiny(labels="strong")
    assert method.critic is None
    assert "critic" not in method.fit(training(method, tmp_path))


def test_a_fit_that_was_through_is_only_loaded(tmp_path: Path):
    first, second = tiny(), tiny(seed=1)
    cost = first.fit(training(first, tmp_path))
    assert second.fit(training(second, tmp_path)) == cost
    assert same(first.separator.state_dict(), second.separator.state_dict())
    assert same(first.critic.state_dict(), second.critic.state_dict())


@pytest.mark.parametrize("strategy", ["fixed", "finetune"])
def test_a_fit_stopped_in_any_stage_goes_on_and_ends_the_same(tmp_path: Path, strategy: str):
    whole = tiny(strategy=strategy)
    stages = list(whole.fit(training(whole, tmp_path / "whole")))
    for stage in stages[1:]:  # after the look at the priors
        stopped, again = tiny(strategy=strategy), tiny(strategy=strategy)
        own_train = stopped._train

        def until(name, network, loss, data, last=stage, train=own_train):
            def failing(batch):
                raise KeyboardInterrupt

            return train(name, network, failing if name == last else loss, data)

        stopped._train = until
        with pytest.raises(KeyboardInterrupt):
            stopped.fit(training(stopped, tmp_path / stage))
        again.fit(training(again, tmp_path / stage))
        assert same(again.separator.state_dict(), whole.separator.state_dict()), stage
        assert same(again.critic.state_dict(), whole.critic.state_dict()), stage


# what each may see


def test_only_strong_labels_are_handed_sources():
    claims = {labels: RECIPE.resolve("paper", {"labels": labels})[0] for labels in ("strong", "frame", "clip")}
    assert {labels: claim["supervision"] for labels, claim in claims.items()} == {
        "strong": "isolated", "frame": "weak", "clip": "weak",
    }  # fmt: skip
    assert (claims["frame"]["labels_seen"], claims["clip"]["labels_seen"]) == ("frame", "clip")


@pytest.mark.parametrize("labels", ["frame", "clip"])
def test_weak_labels_are_learnt_from_batches_that_hold_no_source(tmp_path: Path, labels: str):
    method = tiny(labels=labels)
    weak = training(method, tmp_path)
    assert isinstance(weak, WeakTraining) and not hasattr(weak.scenes.batch(0, 2), "sources")
    method.fit(weak)


# options


def pairs_of(row: tuple) -> set[tuple]:
    return {(a, row[a], b, row[b]) for a, b in itertools.combinations(range(len(row)), 2)}


def _new(met: set[tuple], row: tuple) -> int:
    return len(pairs_of(row) - met)


def pairwise() -> list[dict]:
    """Combinations in which every two values of two options meet at least once."""
    names = ("labels", "classifier", "strategy", "mel_bins", "window_ms", "target")
    values = [RECIPE.params[name].choices for name in names]
    pairs = set().union(*map(pairs_of, itertools.product(*values)))
    chosen: list[dict] = []
    met: set[tuple] = set()
    while pairs - met:
        best = max(itertools.product(*values), key=partial(_new, met))
        met |= pairs_of(best)
        chosen.append(dict(zip(names, best)))
    return chosen


@pytest.mark.filterwarnings("ignore:At least one mel filterbank")  # 8 ms and many filters: README
def test_every_two_choices_together_train_and_answer(tmp_path: Path):
    rows = pairwise()
    assert len(rows) < 40
    task = TaskInfo(SMALL.classes, 16000, 1, 3, 0.35)
    for i, options in enumerate(rows):
        method = tiny(task=task, **options)
        strong = options["labels"] == "strong"
        scenes = Sounds(0, strong, task), Sounds(1, strong, task)
        cost = method.fit((Training if strong else WeakTraining)(*scenes, tmp_path / str(i), 0, QUIET))
        assert all(math.isfinite(stage["valid_loss"]) for name, stage in cost.items() if name != "priors"), options
        answer = method.separate([Mixture(scenes[0].batch(5, 1).mixture, 16000, "a")])[0]
        assert answer.sources.shape == (3, 5600) and answer.sources.isfinite().all(), options


def losses_of(**options) -> dict[str, float]:
    method = ready(**options)
    batch = Sounds(0, isolated=True).batch(7, 3)
    with torch.no_grad():
        loss = method._strong_loss if method.critic is None else method._total_loss
        return {key: value.item() for key, value in loss(batch).items()}


def test_alpha_weighs_the_mixture_loss_and_nothing_else():
    low, high = losses_of(alpha=1.0), losses_of(alpha=11.0)
    assert high["loss"] - low["loss"] == pytest.approx(10 * low["mixture"], rel=1e-4) and low["mixture"] > 0
    assert (low["mixture"], low["classes"], low["critic"]) == (high["mixture"], high["classes"], high["critic"])


def test_the_strong_target_changes_the_loss_only_where_a_source_exceeds_the_mixture():
    """Two classes of one tone and opposite sign cancel: each source is larger than the mixture."""
    as_is, capped = ready(labels="strong", target="source"), ready(labels="strong", target="capped")
    tone = 0.1 * torch.sin(torch.arange(4000) * 0.5)
    sources = torch.stack([tone, -0.5 * tone, 0 * tone])[None]
    events = Events(np.array([0, 0]), np.array([0, 1]), np.zeros(2), np.full(2, 0.5), 1, 3)
    labels = np.array([[0, 1, -1]])
    cancelling = Batch(sources.sum(1), events, sources, labels)
    single = Batch(tone[None], events, sources * torch.eye(3)[0][:, None], labels)
    with torch.no_grad():
        assert capped._strong_loss(cancelling)["loss"] < 0.9 * as_is._strong_loss(cancelling)["loss"]
        assert torch.equal(capped._strong_loss(single)["loss"], as_is._strong_loss(single)["loss"])


def test_strategy_labels_classifier_and_mel_bins_change_what_is_built_or_minimised():
    found = [losses_of(**options)["loss"] for options in (
        {}, {"labels": "clip"}, {"labels": "strong"}, {"classifier": "rnn"}, {"mel_bins": 10}, {"mel_bins": None},
    )]  # fmt: skip
    assert len({round(loss, 6) for loss in found}) == len(found)


@pytest.mark.filterwarnings("ignore:At least one mel filterbank")
@pytest.mark.parametrize("window_ms", [8, 16, 32, 64])
def test_the_window_sets_bins_and_hop(window_ms: int):
    stft = tiny(window_ms=window_ms).stft
    assert (stft.n_bins, stft.hop_s) == (4 * window_ms + 1, window_ms / 4000)


def test_mel_filters_see_every_frequency_that_they_should():
    """At the paper's window no filter is empty, so that no input of the critic is always 0."""
    for mel_bins in (10, 20, 30, 40, 56):
        bank = paper(classifier="rnn", mel_bins=mel_bins).critic.bank
        assert bank.shape == (257, mel_bins) and bank.amax(0).min() > 0, mel_bins


def test_standardised_inputs_have_the_same_scale_at_any_level():
    method = tiny()
    loud, quiet = (torch.rand(4, 30, method.stft.n_bins) * level for level in (1.0, 0.01))
    for magnitude in (loud, quiet):
        method.separator.standardise(magnitude)
        method.critic.standardise(magnitude)
        assert (method.critic.gain * method.critic._features(magnitude)).std().item() == pytest.approx(1, rel=1e-4)
        level = ((magnitude + 1e-5).log() - method.separator.shift) / method.separator.spread
        assert level.mean().abs() < 1e-4 and level.std().item() == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize("labels", ["strong", "frame", "clip"])
@pytest.mark.parametrize("standardise", [True, False])
def test_a_fit_standardises_the_inputs_where_asked_and_only_there(tmp_path: Path, standardise: bool, labels: str):
    method = tiny(standardise=standardise, labels=labels)
    method.fit(training(method, tmp_path))
    separator, critic = method.separator, method.critic
    plain = torch.equal(separator.shift, torch.zeros_like(separator.shift)), bool((separator.spread == 1).all())
    assert plain == (not standardise, not standardise)
    assert critic is None or (critic.gain.item() == 1) == (not standardise)


@pytest.mark.parametrize("classifier", ["rnn", "crnn"])
def test_bfloat16_rounds_both_networks_and_no_more(classifier: str):
    exact, rounded = (ready(classifier=classifier, bfloat16=each) for each in (False, True))
    mixture = Mixture(Sounds().batch(0, 1).mixture, 8000, "a")
    one, other = (method.separate([mixture])[0] for method in (exact, rounded))
    for plain, coarse in ((one.sources, other.sources), (one.activity.probability, other.activity.probability)):
        assert coarse.dtype == torch.float32
        assert 0 < (plain - coarse).norm() < 0.01 * plain.norm()


def test_two_seeds_start_from_different_weights_and_one_seed_from_the_same():
    one, again, other = (tiny(seed=seed).separator.state_dict() for seed in (0, 0, 1))
    assert same(one, again) and not same(one, other)


# the paper's tables


def published() -> set[tuple[str, str, str]]:
    """(table, row, column) of the figures printed in the paper."""
    path = find_published(REPO / "results")
    assert path is not None
    with Path(path).open(newline="") as lines:
        return {
            (line["table"], line["row"], line["column"])
            for line in csv.DictReader(lines)
            if line["paper"] == "weak_label"
        }


@pytest.mark.parametrize("name", ["III", "IV", "V", "VI", "VII", "VIII", "IX", "X"])
@pytest.mark.parametrize("profile", ["quick", "small", "paper"])
def test_every_cell_of_the_papers_tables_is_a_configuration(name: str, profile: str):
    cells = grid(RECIPE, {}, name)
    resolved = [RECIPE.resolve(profile, options) for options in cells]
    for options, (config, values) in zip(cells, resolved):
        for option, value in options.items():
            assert values[option] == value
        assert config["task"]["mixing"]["rate"] == values["lambda"]
        assert config["task"]["mixing"]["test_rate"] == values["test_lambda"]
        assert config["params"]["labels"] == values["labels"]
    n_runs = {"III": 2, "IV": 2, "V": 3, "VI": 6, "VII": 10, "VIII": 12, "IX": 4, "X": 12}
    assert len(cells) == n_runs[name]


@pytest.mark.parametrize("name", ["III", "IV", "V", "VI", "VII", "VIII", "IX", "X"])
def test_every_heading_is_one_that_the_paper_prints_and_none_is_missing(name: str):
    table = RECIPE.tables[name]
    rows = {row.published for row in table.rows}
    printed = {(row, column) for found, row, column in published() if found == name}
    assert rows == {row for row, _ in printed}
    if table.columns != "classes":
        assert {(row, column.published) for row in rows for column in table.columns} == printed


def test_the_default_of_the_profile_paper_is_the_papers_default():
    _, values = RECIPE.resolve("paper")
    assert values == {
        "labels": "frame", "classifier": "crnn", "strategy": "fixed", "alpha": 100.0, "mel_bins": None, "window_ms": 32,
        "target": "source", "lambda": 5.0, "test_lambda": None, "split": "fold",
    }  # fmt: skip
