"""The iTDCN++ recipe against its paper: sizes, losses, embeddings, and what each option changes."""

from __future__ import annotations

import copy
import functools
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sepbench.blocks.permutation import best_order
from sepbench.blocks.snr_costs import snr_costs
from sepbench.devices import choose_device
from sepbench.errors import UserError
from sepbench.labels import Events
from sepbench.loading import load_from
from sepbench.method import Batch, Training
from sepbench.progress import PlainProgress
from sepbench.recipe import build, load_recipe
from sepbench.scene import Mixture, Scene, Source, TaskInfo

REPO = Path(__file__).resolve().parents[2]
FOLDER = REPO / "recipes" / "itdcnpp"
RECIPE = load_recipe(FOLDER)
AUDIOSET = TaskInfo(tuple(f"class_{i}" for i in range(527)), 16000, 1, 2, 3.0, 2)
SMALL = TaskInfo(("low", "mid", "high"), 8000, 1, 2, 1.0, 2)
VARYING = replace(SMALL, min_sources=1)
PITCH_HZ = np.array([250, 900, 2500, 0])  # of SMALL's classes, and of silence
TINY = {
    "window_ms": 16, "hop_ms": 8, "filters": 12, "channels": 8, "hidden": 12, "blocks": 2, "repeats": 2,
    "classifier_width": 0.1, "classifier_hop": 8,
}  # fmt: skip
SHORT = {"epochs": 1, "steps": 2, "batch": 4, "valid_batches": 1, "lr": 0.01, "patience": 1}
QUIET = PlainProgress(open(os.devnull, "w"))  # noqa: SIM115

load_from(FOLDER, "method.py", "Itdcnpp")
from recipes.itdcnpp.classifier import SoundClassifier  # noqa: E402  (a package once it is loaded)
from recipes.itdcnpp.conditioning import Conditioning, TrainableSigmoid, at_frames  # noqa: E402
from recipes.itdcnpp.embeddings import guidance_loss, joined, soft_or  # noqa: E402
from recipes.itdcnpp.networks import Heard, listened  # noqa: E402

TDCN = {"network": "tdcn", "embeddings": "none"}
EMBEDDINGS = {  # every way to be conditioned, by name
    "mixture": {"network": "tdcn", "embeddings": "mixture"},
    "itdcn mixture": {"network": "itdcn", "embeddings": "mixture"},
    "all": {"network": "itdcn", "embeddings": "all"},
    "soft_or": {"network": "itdcn", "embeddings": "soft_or"},
}
GUIDED = {**EMBEDDINGS["all"], "classifier": "guided"}
ORACLES = {
    "oracle all": {"network": "tdcn", "embeddings": "all", "oracle": True},
    "oracle soft_or": {"network": "tdcn", "embeddings": "soft_or", "oracle": True},
    "oracle itdcn": {"network": "itdcn", "embeddings": "all", "oracle": True},
}


class Tones:
    """Tones of three pitches, `task.max_sources` of them at a time; batch(i, size) is a pure function of both."""

    def __init__(self, seed: int = 0, task: TaskInfo = SMALL):
        self.seed, self.task, self.id = seed, task, f"tones-{seed}-{task.max_sources}"

    def batch(self, index: int, size: int) -> Batch:
        random, task = np.random.default_rng([self.seed, index, size]), self.task
        n_time = round(task.seconds * task.sample_rate_hz)
        labels = np.stack([random.permutation(3)[: task.max_sources] for _ in range(size)])
        for scene in labels if task.min_sources < task.max_sources else ():
            scene[random.integers(task.min_sources, task.max_sources + 1) :] = -1
        phase = np.arange(n_time) / task.sample_rate_hz * PITCH_HZ[labels][..., None] + random.random((*labels.shape, 1))
        sources = np.where(labels[..., None] < 0, 0, 0.2 * np.sin(2 * np.pi * phase)).astype(np.float32)
        scene, slot = np.nonzero(labels >= 0)
        events = Events(scene, labels[scene, slot], 0.0 * scene, np.full(len(scene), task.seconds), size, 3)
        return Batch(torch.from_numpy(sources.sum(1)), events, torch.from_numpy(sources), labels)


def configured(profile: str, task: TaskInfo, sizes=TINY, schedule=SHORT, seed=0, **options):
    config, _ = RECIPE.resolve(profile, options, seed=seed)
    settings = {**config, "train": dict.fromkeys(("classifier", "separator"), schedule), "sizes": sizes}
    return build(RECIPE, settings, task)


def tiny(task: TaskInfo = SMALL, untaught: bool = True, **options):
    """The recipe at toy sizes, its classifier as it is born unless it is to be taught."""
    options = {"embedding_channels": 8, **options}
    method = configured("small", task, **options)
    if untaught and options.get("network") != "binary_mask":
        method._built(copy.deepcopy(hearing(task)))
    return method


@functools.cache
def hearing(task: TaskInfo) -> SoundClassifier:
    """A classifier that was taught nothing, but whose batch norms know the tones: it says other things of other sounds."""
    torch.manual_seed(5)
    ears = SoundClassifier(len(task.classes), task.sample_rate_hz, TINY["classifier_width"], TINY["classifier_hop"])
    ears.names, ears.learning = task.classes, True
    ears.train()
    with torch.no_grad():
        for _ in range(30):
            ears.strided(Tones().batch(0, 16).sources.flatten(0, 1))
        ears.dense.weight.mul_(40)
    ears.learning = False
    return ears.eval()


def training(place: Path, task: TaskInfo = SMALL, **changed) -> Training:
    alone = replace(task, max_sources=1, min_sources=1)
    clips = {"clips": Tones(3, alone), "valid_clips": Tones(4, alone), "shared": place / "shared"}
    rest = {"folder": place / "run", "seed": 0, "progress": QUIET}
    return Training(**{"scenes": Tones(1, task), "valid": Tones(2, task), **rest, **clips, **changed})


def scene_of(batch: Batch, i: int, task: TaskInfo = SMALL) -> Scene:
    labels = [task.classes[label] for label in batch.labels[i] if label >= 0]
    sources = tuple(Source(audio, label, ((0.0, task.seconds),)) for audio, label in zip(batch.sources[i], labels))
    return Scene(Mixture(batch.mixture[i][None], task.sample_rate_hz, str(i)), sources)


def given(method, batch: Batch, task: TaskInfo = SMALL):
    scenes = [scene_of(batch, i, task) for i in range(len(batch.mixture))]
    return scenes if method.settings.supervision == "oracle" else [scene.mixture for scene in scenes]


def count(network) -> int:
    return sum(each.numel() for each in network.parameters())


# sizes (spec: the numbers of parameters at the paper's setting)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"network": "tdcn", "embeddings": "none"}, 4_384_521),
        ({"network": "itdcn", "embeddings": "none"}, 8_785_682),
        ({"network": "tdcn", "embeddings": "mixture"}, 4_384_521 + 84_227),
        ({"network": "tdcn", "embeddings": "all", "oracle": True}, 4_384_521 + 219_139),
        ({"network": "itdcn", "embeddings": "all"}, 8_785_682 + 84_227 + 219_139),
        ({"network": "tdcn", "embeddings": "none", "basis": "learned"}, 4_498_823),
        ({"network": "tdcn", "embeddings": "none", "skips": False}, 4_384_521 - 6 * (128 * 128 + 128 + 1)),
        ({"network": "tdcn", "embeddings": "none", "mixture_consistency": "uniform"}, 4_384_521 - 2 * 128),
    ],
)
def test_the_paper_profile_has_the_spec_s_number_of_parameters(options, wanted):
    config, _ = RECIPE.resolve("paper", {"mixture_consistency": "learned", **options})
    assert count(build(RECIPE, config, AUDIOSET)._built(SoundClassifier(527, 16000, 1.0, 1))) == wanted


# which options go together


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (TDCN, ("none",)),
        ({"network": "itdcn", "embeddings": "none"}, ("none", "none")),
        (EMBEDDINGS["mixture"], ("mixture",)),
        (EMBEDDINGS["all"], ("mixture", "all")),
        (EMBEDDINGS["soft_or"], ("mixture", "soft_or")),
        (ORACLES["oracle all"], ("all",)),
        (ORACLES["oracle itdcn"], ("all", "all")),
        ({"network": "binary_mask", "embeddings": "none"}, ()),
    ],
)
def test_only_what_hears_sources_is_given_embeddings_of_sources(options, wanted):
    assert configured("small", SMALL, **options).kinds == wanted


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"network": "tdcn", "embeddings": "all"}, "--network tdcn there are none yet"),
        ({"network": "tdcn", "embeddings": "soft_or"}, "hears separated sources"),
        ({"oracle": True, "embeddings": "mixture"}, "no part of the true sources"),
        ({"oracle": True, "classifier": "guided"}, "an oracle's embeddings"),
        ({"embeddings": "none", "classifier": "finetuned"}, "conditions nothing"),
        ({"integration": "gate"}, "before all of them"),
        ({"integration": "gate", "condition_at": "first", "embedding_channels": 5}, r"network has \(8\), got 5"),
        ({"network": "binary_mask", "embeddings": "none", "basis": "learned"}, "--basis learned"),
        ({"network": "binary_mask", "embeddings": "none", "oracle": True}, "--oracle true"),
        ({"network": "binary_mask"}, "--embeddings all"),
        ({"network": "binary_mask", "embeddings": "none", "classifier_checkpoint": "x"}, "--classifier-checkpoint x"),
    ],
)
def test_options_that_contradict_each_other_are_told_in_a_line(options, said):
    with pytest.raises(UserError, match=said) as told:
        configured("small", SMALL, **options)
    assert "\n" not in str(told.value)


def test_a_number_of_sources_that_varies_wants_a_loss_that_knows_silence(tmp_path):
    with pytest.raises(UserError, match=r"1 to 2 sources.*--loss thresholded"):
        configured("small", VARYING).fit(training(tmp_path, VARYING))
    cost = tiny(VARYING, untaught=False, **TDCN, loss="thresholded").fit(training(tmp_path, VARYING))
    assert math.isfinite(cost["separator"]["valid_loss"])


def test_a_hop_that_the_classifier_cannot_have_is_told_in_a_line():
    with pytest.raises(UserError, match="sizes.classifier_hop is 3; wanted one of 1, 2, 4, 8, 16, 32"):
        configured("small", SMALL, sizes={**TINY, "classifier_hop": 3})


@pytest.mark.parametrize("hop_ms", [5, 64])
def test_a_window_that_its_hops_do_not_fill_is_told_before_anything_is_taught(hop_ms):
    with pytest.raises(UserError, match="Choose another window or hop"):
        configured("small", SMALL, sizes={**TINY, "hop_ms": hop_ms})


def test_table_1_has_a_run_for_every_figure_that_the_paper_has():
    cells = RECIPE.grid("1")
    assert len(cells) == 10 * 2 + 1
    assert [cell for cell in cells if cell["network"] == "binary_mask"] == [cells[-1]]
    for cell in cells:
        config, _ = RECIPE.resolve("small", cell)
        assert build(RECIPE, config, AUDIOSET).kinds or cell["network"] == "binary_mask"
    oracle, plain = (RECIPE.resolve("small", {**cells[0], **more})[0] for more in (ORACLES["oracle all"], {}))
    assert (oracle["supervision"], oracle["learns_from"]) == ("oracle", "isolated")
    assert plain["supervision"] == "isolated" and "learns_from" not in plain


# embeddings


def test_soft_or_of_one_source_gives_it_back():
    logits = torch.linspace(-60, 60, 1201)[None, None, None]
    torch.testing.assert_close(soft_or(logits), logits[:, 0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n_sources", [2, 3, 4])
def test_soft_or_is_the_probability_that_one_of_independent_sources_is_of_the_class(n_sources):
    torch.manual_seed(n_sources)
    logits = 3 * torch.randn(5, n_sources, 7, 11)
    by_formula = 1 - (1 - logits.double().sigmoid()).prod(1)
    torch.testing.assert_close(soft_or(logits).sigmoid().double(), by_formula, rtol=1e-5, atol=1e-7)


def test_soft_or_stays_finite_where_the_formula_saturates():
    certain = torch.full((1, 2, 1, 1), -200.0, requires_grad=True)  # softplus is 0 there
    soft_or(certain).sum().backward()
    assert soft_or(certain).isfinite().all() and certain.grad.isfinite().all()
    logits = torch.tensor([[[[90.0, -60, 30]], [[80, -65, 40]]]], requires_grad=True)
    found = soft_or(logits)
    found.sum().backward()
    assert found.isfinite().all() and logits.grad.isfinite().all()
    assert found[0, 0].tolist() == pytest.approx([170, -60 + math.log1p(math.exp(-5)), 70], abs=1e-3)  # -log(1 - P) adds up


def test_all_is_the_mixture_and_then_each_source_along_the_channels():
    mixture, sources = torch.randn(2, 3, 5), torch.randn(2, 4, 3, 5)
    found = joined("all", mixture, sources)
    assert found.shape == (2, 15, 5)
    assert torch.equal(found[:, :3], mixture) and torch.equal(found[:, 9:12], sources[:, 2])
    assert torch.equal(joined("mixture", mixture, None), mixture)
    assert torch.equal(joined("soft_or", None, sources), soft_or(sources))
    with pytest.raises(ValueError, match="all"):
        joined("all", mixture, None)


@pytest.mark.parametrize("name", [*EMBEDDINGS, *ORACLES])
def test_only_an_oracle_hears_the_sources(name):
    method, batch = tiny(**{**EMBEDDINGS, **ORACLES}[name]), Tones().batch(0, 3)
    other = replace(batch, sources=torch.randn(batch.sources.shape))
    found = []
    hears = method.network.forward
    method.network.forward = lambda *what: found.append(hears(*what)) or found[-1]
    method.network.eval()
    with torch.no_grad():
        method._loss(batch)
        method._loss(other)
    same = all(torch.equal(one.estimate, two.estimate) for one, two in zip(*found))
    assert same == (name in EMBEDDINGS)


@pytest.mark.parametrize("name", [*EMBEDDINGS, *ORACLES])
def test_the_condition_reaches_the_estimate(name):
    method, batch = tiny(**{**EMBEDDINGS, **ORACLES}[name]), Tones().batch(0, 2)
    truth = batch.sources if method.oracle else None
    with torch.no_grad():
        before = method.network(batch.mixture, truth, method.classifier)[-1].estimate
        method.classifier.dense.bias.add_(torch.tensor([8.0, -8, 3]))
        after = method.network(batch.mixture, truth, method.classifier)[-1].estimate
    assert not torch.allclose(before, after)


# conditions


def test_frames_are_repeated_to_the_nearest():
    values = torch.arange(4.0)[None]
    assert at_frames(values, 10).tolist() == [[0, 0, 1, 1, 1, 2, 2, 2, 3, 3]]
    assert at_frames(values, 4).tolist() == values.tolist()
    assert at_frames(values, 2).tolist() == [[0, 3]] and at_frames(values, 1).tolist() == [[0]]
    assert at_frames(torch.ones(2, 3, 1), 7).shape == (2, 3, 7)


def test_the_trainable_sigmoid_begins_as_a_sigmoid():
    logits, sigmoid = torch.randn(4, 5), TrainableSigmoid()
    torch.testing.assert_close(sigmoid(logits), logits.sigmoid())
    assert count(sigmoid) == 3
    with torch.no_grad():
        sigmoid.alpha.fill_(2.0), sigmoid.beta.fill_(0.5), sigmoid.x0.fill_(1.0)
    torch.testing.assert_close(sigmoid(logits), 2 / (1 + torch.exp(0.5 * (1.0 - logits))))


def test_a_mean_over_time_is_exact_for_all_but_certain_classes():
    logits = torch.logit(torch.tensor([0.001, 0.01, 0.5, 0.99, 0.999]))[None, :, None].expand(1, 5, 3)
    condition = Conditioning(5, 5, "sigmoid", "mean")
    with torch.no_grad():
        condition.channels.weight.copy_(torch.eye(5)[..., None]), condition.channels.bias.zero_()
    condition.norm = torch.nn.Identity()
    torch.testing.assert_close(condition(logits, 2), logits.sigmoid()[..., :2])


@pytest.mark.parametrize("over_time", ["varying", "mean"])
@pytest.mark.parametrize("activation", ["raw", "sigmoid", "trainable_sigmoid"])
def test_a_condition_is_activation_channels_frames_and_norm(activation, over_time):
    torch.manual_seed(0)
    logits, condition = torch.randn(2, 5, 4), Conditioning(5, 6, activation, over_time)
    wanted = logits.sigmoid().mean(-1, keepdim=True).logit().expand(-1, -1, 4) if over_time == "mean" else logits
    wanted = wanted if activation == "raw" else wanted.sigmoid()
    wanted = at_frames(wanted, 9)  # first, as in the paper
    wanted = torch.nn.functional.conv1d(wanted, condition.channels.weight, condition.channels.bias)
    wanted = (wanted - wanted.mean((1, 2), keepdim=True)) / (wanted.var((1, 2), correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(condition(logits, 9), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "places"),
    [
        ({"condition_at": "coefficients"}, {"input"}),
        ({"condition_at": "first"}, {"0"}),
        ({"condition_at": "all"}, {"0", "1", "2", "3"}),
        ({"condition_at": "first", "integration": "gate"}, {"0"}),
        ({"condition_at": "all", "integration": "gate"}, {"0", "1", "2", "3"}),
    ],
)
def test_a_condition_comes_in_where_it_is_told_to(options, places):
    method = tiny(**EMBEDDINGS["mixture"], **options)
    (iteration,) = method.network.iterations
    assert set(iteration.conditions) == places
    blocks = [block.widen.weight.shape[1] for block in iteration.separator.core.blocks]
    beside = [8 if str(i) in places and options.get("integration") != "gate" else 0 for i in range(4)]
    assert blocks == [8 + each for each in beside]
    assert method._loss(Tones().batch(0, 2))["loss"].isfinite()


# losses


@pytest.mark.parametrize("options", [TDCN, EMBEDDINGS["all"], GUIDED, ORACLES["oracle soft_or"]])
def test_the_order_of_the_references_changes_nothing(options):
    method, batch = tiny(**options), Tones().batch(0, 6)
    turned = replace(batch, sources=batch.sources.flip(1), labels=batch.labels[:, ::-1].copy())
    method.network.eval()
    with torch.no_grad():
        one, other = method._loss(batch), method._loss(turned)
    assert len(one) > len(method.kinds)
    for name in one:
        assert one[name].item() == pytest.approx(other[name].item(), rel=1e-4), name


def test_each_iteration_has_a_permutation_of_its_own():
    method, batch = tiny(**EMBEDDINGS["all"]), Tones().batch(0, 4)
    near = batch.sources + 0.01 * torch.randn(batch.sources.shape)
    masks = torch.zeros(4, 2, 1, 1)
    method.network.forward = lambda *_: [Heard(near, masks), Heard(near.flip(1), masks)]
    parts = {name: part.item() for name, part in method._loss(batch).items()}
    assert parts["separation_1"] == pytest.approx(parts["separation_2"], abs=1e-4)
    assert parts["separation_1"] < -20 and parts["loss"] == pytest.approx(2 * parts["separation_1"], abs=1e-3)


# guidance and fine-tuning


def test_guidance_is_least_where_it_is_followed():
    target = torch.randn(3, 4, 5)
    follower = target.clone().requires_grad_()
    least = guidance_loss(follower, target)
    least.backward()
    assert follower.grad.abs().max() < 1e-7
    assert guidance_loss(target + 5, target) > least  # eq. 3 as printed would go on falling
    assert guidance_loss(target - 5, target) > least
    p = target.double().sigmoid()
    assert least.item() == pytest.approx(-(p * p.log() + (1 - p) * (1 - p).log()).mean().item(), rel=1e-5)


def test_estimates_are_held_to_the_sources_that_they_were_paired_with():
    method, batch = tiny(**EMBEDDINGS["all"], classifier="guided"), Tones().batch(0, 4)
    truth = listened(method.classifier, batch.sources)
    assert guidance_loss(truth.flip(1), truth) > 1.1 * guidance_loss(truth, truth)
    masks, mixture = torch.zeros(4, 2, 1, 1), soft_or(truth)
    turned = batch.sources.flip(1)  # the first iteration answers in the other order, the second in the references'
    heard = [Heard(turned, masks, mixture), Heard(batch.sources, masks, mixture, truth.flip(1))]
    method.network.forward = lambda *_: heard
    parts = method._loss(batch)
    entropy = guidance_loss(truth, truth)
    assert parts["guidance_sources_2"] == pytest.approx(entropy.item(), rel=1e-5)
    assert parts["guidance_mixture_1"] == pytest.approx(guidance_loss(mixture, mixture).item(), rel=1e-5)
    assert parts["guidance_mixture_1"] == parts["guidance_mixture_2"]


@pytest.mark.parametrize("classifier", ["pretrained", "finetuned", "guided"])
@pytest.mark.parametrize("layers", [1, 3])
def test_only_the_last_layers_learn_and_only_where_they_are_told_to(classifier, layers):
    method, batch = tiny(**EMBEDDINGS["all"], classifier=classifier, finetuned_layers=layers), Tones().batch(0, 4)
    method.network.train()
    method._loss(batch)["loss"].backward()
    assert all(each.grad is None for each in method.classifier.parameters())
    ears = [each.ears for each in method.network.iterations]
    if classifier == "pretrained":
        assert ears == [None, None]
        return
    assert ears[0] is not ears[1]
    for each in ears:
        touched = {name for name, value in each.named_parameters() if value.grad is not None}
        wanted = {id(value) for value in each.tail(layers)}
        assert touched == {name for name, value in each.named_parameters() if id(value) in wanted}
        assert touched and not each.training  # batch norms go on with the statistics that they have


@pytest.mark.parametrize("stop", [True, False])
@pytest.mark.parametrize("embeddings", ["none", "all"])
def test_the_second_loss_teaches_the_first_network_only_without_a_stop(stop, embeddings):
    method, batch = tiny(network="itdcn", embeddings=embeddings, stop_gradient=stop), Tones().batch(0, 2)
    method._loss(batch)["separation_2"].backward()
    first, second = method.network.iterations
    assert all(each.grad is None for each in first.parameters()) == stop
    assert all(each.grad is not None for each in second.separator.parameters())


@pytest.mark.parametrize("name", ["mixture", "all"])
def test_without_a_stop_the_gradient_comes_through_the_frozen_classifier_too(name):
    method, batch = tiny(network="itdcn", embeddings=name, stop_gradient=False), Tones().batch(0, 2)
    heard, hears = [], method.classifier.forward
    method.classifier.forward = lambda audio: heard.append(hears(audio)) or heard[-1]
    method._loss(batch)
    assert [each.requires_grad for each in heard] == [False, name == "all"]


def test_multiplications_of_convolutions_along_time_are_counted_by_hand():
    method = configured("paper", AUDIOSET, {**RECIPE.resolve("paper")[0]["sizes"]})
    assert method.macs_per_s_outside_torch == 3 * 512 * 32 * 2 * 400  # taps, channels, blocks, networks, frames a second


# answers


@pytest.mark.parametrize("consistency", ["uniform", "learned", "none"])
@pytest.mark.parametrize("basis", ["stft", "learned"])
def test_estimates_sum_to_the_mixture_where_that_is_asked_for(consistency, basis):
    method, batch = tiny(**EMBEDDINGS["all"], mixture_consistency=consistency, basis=basis), Tones().batch(0, 3)
    for estimate, mixture in zip(method.separate(given(method, batch)), batch.mixture):
        missed = (estimate.sources.sum(0) - mixture).abs().max().item()
        assert missed < 1e-5 if consistency != "none" else missed > 1e-3


@pytest.mark.parametrize("name", [*EMBEDDINGS, *ORACLES])
def test_each_estimate_is_called_what_the_classifier_calls_it(name):
    method, batch = tiny(**{**EMBEDDINGS, **ORACLES}[name]), Tones().batch(0, 4)
    for answer in method.separate(given(method, batch)):
        with torch.no_grad():
            probability = listened(method.classifier, answer.sources[None])[0].sigmoid().mean(-1)
        assert answer.labels == tuple(SMALL.classes[i] for i in probability.argmax(-1).tolist())
        torch.testing.assert_close(answer.confidences, probability.amax(-1), rtol=1e-4, atol=1e-4)


def test_the_guided_ears_name_and_the_tuned_ones_do_not():
    for classifier in ("guided", "finetuned"):
        method, batch = tiny(**EMBEDDINGS["all"], classifier=classifier), Tones().batch(0, 2)
        first, last = (each.ears.dense for each in method.network.iterations)
        for dense, says in ((first, [9.0, -9, -9]), (last, [-9.0, 9, -9])):  # whatever they hear
            with torch.no_grad():
                dense.weight.zero_()
                dense.bias.copy_(torch.tensor(says))
        for answer in method.separate(given(method, batch)):
            frozen = listened(method.classifier, answer.sources[None])[0].sigmoid().mean(-1).argmax(-1).tolist()
            wanted = ("mid", "mid") if classifier == "guided" else tuple(SMALL.classes[i] for i in frozen)
            assert answer.labels == wanted and (classifier == "guided" or "mid" not in wanted)


def test_an_output_as_quiet_as_silence_is_left_out_where_scenes_vary():
    batch = Tones(task=VARYING).batch(0, 1)
    for task, n_left in ((VARYING, 1), (SMALL, 2)):
        method = tiny(task, **TDCN, loss="thresholded")
        estimate = torch.stack([batch.mixture, 0.05 * batch.mixture], 1)  # 26 dB below the mixture
        method.network.forward = lambda *_, found=estimate: [Heard(found, torch.zeros(1, 2, 4, 65))]
        (answer,) = method.separate([Mixture(batch.mixture, 8000, "0")])
        assert len(answer.sources) == len(answer.labels) == len(answer.trace["masks"]) == n_left


def test_the_binary_mask_gives_each_bin_to_the_loudest_source():
    method, batch = tiny(network="binary_mask", embeddings="none"), Tones().batch(0, 3)
    assert method.settings.supervision == "oracle"
    for answer, scene in zip(method.separate(given(method, batch)), given(method, batch)):
        masks = answer.trace["masks"]
        assert set(masks.unique().tolist()) == {0.0, 1.0} and (masks.sum(0) == 1).all()
        assert answer.labels == tuple(source.label for source in scene.sources)
        for estimate, source in zip(answer.sources, scene.sources):
            assert 10 * torch.log10(source.audio.square().sum() / (estimate - source.audio).square().sum()) > 20


# learning and keeping


@pytest.mark.parametrize("options", [TDCN, EMBEDDINGS["all"], GUIDED, ORACLES["oracle all"]])
def test_what_was_learnt_is_answered_again_after_a_round_trip(tmp_path, options):
    method, batch = tiny(untaught=False, **options), Tones(7).batch(0, 2)
    cost = method.fit(training(tmp_path))
    assert cost.keys() == {"classifier", "separator"} and cost["separator"]["steps"] == 2
    method.save(tmp_path / "weights")
    again = tiny(untaught=False, **options)
    again.load(tmp_path / "weights")
    for one, other in zip(method.separate(given(method, batch)), again.separate(given(again, batch))):
        assert torch.equal(one.sources, other.sources) and one.labels == other.labels is not None


def test_the_same_seed_learns_the_same_whether_the_classifier_was_taught_before_or_not(tmp_path):
    batch, answers = Tones(7).batch(0, 2), []
    for run in ("first", "second"):
        method = tiny(untaught=False, **EMBEDDINGS["all"])
        method.fit(training(tmp_path, folder=tmp_path / run))
        answers.append(method.separate(given(method, batch)))
    assert (tmp_path / "first" / "classifier").is_dir() and not (tmp_path / "second" / "classifier").exists()
    for one, other in zip(*answers):
        assert torch.equal(one.sources, other.sources)


def test_without_clips_nobody_is_named_and_embeddings_are_refused(tmp_path):
    bare = training(tmp_path, clips=None, valid_clips=None)
    with pytest.raises(UserError, match=r"no labelled clips.*--embeddings none"):
        tiny(untaught=False, **EMBEDDINGS["all"]).fit(bare)
    method, batch = tiny(untaught=False, **TDCN), Tones(7).batch(0, 2)
    assert method.fit(bare).keys() == {"separator"}
    method.save(tmp_path / "weights")
    method.load(tmp_path / "weights")
    assert all(answer.labels is None for answer in method.separate(given(method, batch)))


def test_a_classifier_of_another_run_conditions_this_one(tmp_path):
    first = tiny(untaught=False, **EMBEDDINGS["all"])
    first.fit(training(tmp_path))
    first.save(tmp_path / "weights")
    file = tmp_path / "weights" / "classifier.safetensors"
    other = tiny(untaught=False, **EMBEDDINGS["all"], classifier_checkpoint=str(file))
    cost = other.fit(training(tmp_path, folder=tmp_path / "other", clips=None, valid_clips=None))
    assert cost.keys() == {"separator"}
    for name, value in first.classifier.state_dict().items():
        assert torch.equal(value, other.classifier.state_dict()[name]), name
    nameless = tiny(replace(SMALL, classes=()), untaught=False, **EMBEDDINGS["all"], classifier_checkpoint=str(file))
    nameless.fit(training(tmp_path, folder=tmp_path / "nameless", clips=None, valid_clips=None))
    nameless.save(tmp_path / "nameless weights")
    nameless.load(tmp_path / "nameless weights")
    batch = Tones(7).batch(0, 2)
    assert nameless.classifier.n_classes == 3 and nameless.separate(given(nameless, batch))[0].labels is None
    strange = replace(SMALL, classes=("low", "mid", "shrill"))
    with pytest.raises(UserError, match=r"classes low, mid, high \(3\); the task has low, mid, shrill"):
        tiny(strange, untaught=False, **EMBEDDINGS["all"], classifier_checkpoint=str(file)).fit(training(tmp_path))


@pytest.mark.slow
def test_it_learns_to_tell_tones_apart_and_to_name_them(tmp_path):
    schedule = {"epochs": 4, "steps": 60, "batch": 8, "valid_batches": 2, "lr": 0.01, "patience": 4}
    sizes = {**TINY, "channels": 24, "hidden": 48, "classifier_width": 0.25}
    method = configured("small", SMALL, sizes, schedule, embedding_channels=8, **EMBEDDINGS["all"])
    method.fit(training(tmp_path))
    batch = Tones(9).batch(0, 10)
    right, snr_db = 0, []
    for answer, sources, labels in zip(method.separate(given(method, batch)), batch.sources, batch.labels):
        costs = snr_costs(answer.sources[None], sources[None], sources.sum(0)[None])
        order = best_order(costs)
        snr_db += (-costs[0].gather(1, order[0, :, None])).flatten().tolist()
        right += sum(answer.labels[j] == SMALL.classes[label] for j, label in zip(order[0].tolist(), labels))
    assert np.mean(snr_db) > 10 and right >= 18


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("options", [GUIDED, ORACLES["oracle all"], {**EMBEDDINGS["soft_or"], "basis": "learned"}])
def test_a_gpu_answers_and_learns_as_a_cpu_does(options):
    batch, found = Tones(7).batch(0, 3), []
    try:
        for name in ("cpu", "cuda"):
            choose_device(name)
            method = tiny(**options)
            sounds = replace(batch, mixture=batch.mixture.to(name), sources=batch.sources.to(name))
            method._loss(sounds)["loss"].backward()
            norm = sum(each.grad.norm().item() for each in method.network.parameters() if each.grad is not None)
            found.append((torch.stack([each.sources for each in method.separate(given(method, batch))]), norm))
    finally:
        choose_device("auto")
    (one, norm), (other, norm_there) = found
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    assert norm == pytest.approx(norm_there, rel=1e-2)
