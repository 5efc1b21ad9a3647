"""The SepClsNet recipe against its paper: sizes, equations, permutations, and what each option changes."""

from __future__ import annotations

import csv
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sepbench.blocks import frames_first, permutation
from sepbench.errors import UserError
from sepbench.labels import Events
from sepbench.loading import load_from
from sepbench.method import Batch, Training
from sepbench.progress import PlainProgress
from sepbench.recipe import build, load_recipe
from sepbench.scene import Mixture, TaskInfo

REPO = Path(__file__).resolve().parents[2]
FOLDER = REPO / "recipes" / "sepclsnet"
RECIPE = load_recipe(FOLDER)
FIFTY = TaskInfo(tuple(f"class_{i}" for i in range(50)), 16000, 1, 2, 3.0, 2)
SMALL = TaskInfo(("low", "mid", "high"), 8000, 1, 2, 0.6, 2)
TINY = {"filters": 6, "kernel": 16, "stride": 8, "blocks": 3, "repeats": 2, "channels": [4, 6]}
SHORT = {"epochs": 1, "steps": 2, "batch": 4, "valid_batches": 1, "lr": 0.01, "patience": 1, "weight_decay": 1e-4}
QUIET = PlainProgress(open(os.devnull, "w"))  # noqa: SIM115

load_from(FOLDER, "method.py", "SepClsNetMethod")
from recipes.sepclsnet import losses, separator  # noqa: E402  (a package once it is loaded)
from recipes.sepclsnet.method import distinct  # noqa: E402


def paper(**options):
    config, _ = RECIPE.resolve("paper", options)
    return build(RECIPE, config, FIFTY)


def tiny(task: TaskInfo = SMALL, seed: int = 0, **options):
    """The recipe at toy sizes; every stage lasts two steps."""
    config, _ = RECIPE.resolve("small", options, seed=seed)
    return build(RECIPE, {**config, "train": dict.fromkeys(config["train"], SHORT), "sizes": TINY}, task)


def count(network: nn.Module) -> int:
    return sum(each.numel() for each in network.parameters())


class Tones:
    """Tones of three pitches, two at a time; batch(i, size) is a pure function of both."""

    def __init__(self, seed: int = 0, task: TaskInfo = SMALL):
        self.seed, self.task = seed, task

    def batch(self, index: int, size: int) -> Batch:
        random, task = np.random.default_rng([self.seed, index, size]), self.task
        n_time, n_classes = round(task.seconds * task.sample_rate_hz), len(task.classes)
        labels = np.stack([random.permutation(n_classes)[: task.max_sources] for _ in range(size)])
        for scene in labels if task.min_sources < task.max_sources else ():
            scene[random.integers(task.min_sources, task.max_sources + 1) :] = -1
        pitch_hz = np.array([200, 900, 2500, 0])[labels]
        phase = 2 * np.pi * (pitch_hz[..., None] * np.arange(n_time) / task.sample_rate_hz + random.random((*labels.shape, 1)))
        sources = np.where(labels[..., None] < 0, 0, 0.4 * np.sin(phase)).astype(np.float32)
        scene, slot = np.nonzero(labels >= 0)
        n = len(scene)
        events = Events(scene, labels[scene, slot], np.zeros(n), np.full(n, task.seconds), size, n_classes)
        return Batch(torch.from_numpy(sources.sum(1)), events, torch.from_numpy(sources), labels)


def training(folder: Path, task: TaskInfo = SMALL) -> Training:
    return Training(Tones(1, task), Tones(2, task), folder, 0, QUIET, None, None, folder)


def history(folder: Path, stage: str) -> list[dict[str, str]]:
    with (folder / stage / "history.csv").open() as lines:
        return list(csv.DictReader(lines))


# sizes


def test_the_default_reading_has_the_size_that_the_paper_prints():
    method = paper()
    assert count(method.network.separator) == 1_283_602
    assert count(method.network.classifier) == 1_186_707  # 1.2 M, the paper's Baseline CNN
    assert count(method.network) == 2_470_309  # "~2.5M"


def test_the_literal_reading_has_the_size_that_the_text_adds_up_to():
    method = paper(reading="literal")
    parts = method.network.separator
    sizes = [count(each) for each in (parts.encoder, parts.tcn.blocks[0], parts.tcn, parts.mask, parts.decoder)]
    assert sizes == [4_353, 67_329, 1_077_264, 131_584, 4_097]
    assert (count(parts), count(method.network.classifier), count(method.network)) == (1_217_298, 401_907, 1_619_205)


def test_the_receptive_field_is_half_a_second():
    assert paper().network.separator.receptive_field == 8176  # 511 ms at 16 kHz


def test_an_answer_depends_on_no_sample_outside_of_the_receptive_field():
    net = separator.Separator(2, 6, 16, 8, 3, 2, bottleneck=False)  # a GroupNorm hears everything
    for block in net.tcn.blocks:
        block.layers[2] = nn.Identity()
    audio = torch.randn(1, 4000, requires_grad=True)
    net(audio)[0][0, 0, 2000].backward()
    touched = audio.grad[0].nonzero()
    assert 0.9 * net.receptive_field < int(touched.max() - touched.min()) + 1 <= net.receptive_field + 8  # either of two frames


@pytest.mark.parametrize("n_samples", [5, 16, 17, 4800, 4807, 48000])
def test_sources_are_as_long_as_the_mixture(n_samples):
    net = separator.Separator(3, 4, 16, 8, 2, 1, bottleneck=True)
    sources, masks = net(torch.randn(2, n_samples))
    assert sources.shape == (2, 3, n_samples) and masks.shape[:3] == (2, 3, 4)
    if n_samples == 48000:
        assert masks.shape[-1] == 5999  # nothing is padded


# the layers of a CPU


@pytest.mark.parametrize("n_frames", [1, 2, 9, 40])
@pytest.mark.parametrize("bottleneck", [True, False])
def test_frames_first_computes_what_the_modules_compute(n_frames, bottleneck):
    torch.manual_seed(0)
    tcn = separator.Tcn(5, 4, 2, bottleneck).double()
    for parameter in tcn.parameters():
        nn.init.normal_(parameter, 0.1, 0.5)
    x = torch.randn(3, 5, n_frames, dtype=torch.float64, requires_grad=True)
    asked = [x, *tcn.parameters()]
    turned = frames_first.turned
    ours, theirs = turned(tcn.frames_first(turned(x), torch.float64)), tcn(x)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)
    for one, other in zip(*(torch.autograd.grad(y.sin().sum(), asked) for y in (ours, theirs))):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-8)


def test_frames_first_has_the_right_gradients():
    x = torch.randn(2, 7, 3, dtype=torch.float64, requires_grad=True)
    spread, bend = nn.Conv1d(3, 3, 3, padding=2, dilation=2, groups=3).double(), nn.PReLU().double()
    asked = (x, spread.weight, spread.bias, bend.weight)
    assert torch.autograd.gradcheck(lambda x, *_: frames_first.prelu(frames_first.depthwise(x, spread), bend), asked)


def test_half_precision_stays_close():
    torch.manual_seed(0)
    net = separator.Separator(2, 32, 16, 8, 4, 2, bottleneck=True)
    audio = torch.randn(2, 4000)
    whole = net(audio)[0]
    with torch.autocast("cpu", torch.bfloat16):
        half = net(audio)[0]
    assert half.dtype == torch.float32
    assert (half - whole).norm() < 0.05 * whole.norm()


# equations


def test_masks_lie_between_0_and_1():
    net = separator.Separator(2, 6, 16, 8, 3, 2, bottleneck=True)
    masks = net(100 * torch.randn(4, 4800))[1]
    assert masks.min() >= 0 and masks.max() <= 1 and masks.std() > 0.01
    assert (masks.sum(1) - 1).abs().max() > 0.1  # each by itself: no softmax


def test_the_encoder_bends_what_is_negative():
    net = separator.Separator(2, 6, 16, 8, 3, 2, bottleneck=False)
    audio = torch.randn(1, 1, 800)
    straight, bent = net.encoder[0](audio), net.encoder(audio)
    torch.testing.assert_close(bent, torch.where(straight > 0, straight, 0.25 * straight))


@pytest.mark.parametrize("n_sources", [1, 2, 3, 4])
def test_pit_picks_what_brute_force_picks(n_sources):
    torch.manual_seed(n_sources)
    estimate, reference = torch.randn(2, 50, n_sources, 20)
    costs = losses.separation_costs(estimate, reference)
    for scene, found in enumerate(permutation.best_order(costs).tolist()):
        by_hand = {
            order: sum((estimate[scene, j] - reference[scene, i]).abs().mean() for i, j in enumerate(order))
            for order in itertools.permutations(range(n_sources))
        }
        assert by_hand[tuple(found)] == min(by_hand.values())


def test_class_costs_are_the_cross_entropies():
    torch.manual_seed(0)
    logits, labels = torch.randn(4, 3, 5), torch.randint(0, 5, (4, 3))
    costs = losses.class_costs(logits, labels)
    for scene, i, j in itertools.product(range(4), range(3), range(3)):
        one = nn.functional.cross_entropy(logits[scene, j], labels[scene, i])
        assert costs[scene, i, j] == pytest.approx(one.item(), rel=1e-5)


def test_the_order_of_the_references_changes_nothing():
    method, batch = tiny(), Tones().batch(0, 6)
    turned = Batch(batch.mixture, batch.events, batch.sources.flip(1), batch.labels[:, ::-1].copy())
    method.network.eval()
    with torch.no_grad():
        one, other = method._loss(batch), method._loss(turned)
    assert one.keys() == {"loss", "sep", "cls", "recon", "ortho", "accuracy"}
    for name in one:
        assert one[name].item() == pytest.approx(other[name].item(), rel=1e-5), name


def test_the_losses_are_nought_where_they_should_be():
    batch = Tones().batch(0, 6)
    assert losses.separation_costs(batch.sources, batch.sources).diagonal(dim1=1, dim2=2).abs().max() == 0
    assert losses.reconstruction_loss(batch.sources, batch.mixture) == pytest.approx(0, abs=1e-7)
    assert losses.orthogonality_loss(batch.sources[:, :1]) == 0
    assert losses.orthogonality_loss(torch.zeros(2, 3, 10)) == 0
    apart = torch.zeros(1, 2, 10)
    apart[0, 0, :5], apart[0, 1, 5:] = 1, -1
    assert losses.orthogonality_loss(apart) == 0
    sure = torch.full((1, 2, 3), -100.0)
    sure[0, 0, 2] = sure[0, 1, 0] = 100
    assert losses.classification_loss(sure, torch.tensor([[2, 0]])) == 0


def test_the_losses_are_the_formulas():
    torch.manual_seed(0)
    s, e, x = torch.randn(3, 2, 8), torch.randn(3, 2, 8), torch.randn(3, 8)
    straight = torch.tensor([[0, 1]] * 3)
    found = permutation.chosen(losses.separation_costs(e, s), straight)
    assert found.item() == pytest.approx((e - s).abs().sum().item() / (3 * 2 * 8), rel=1e-5)
    rest = (x - e[:, 0] - e[:, 1]).abs().sum().item()
    assert losses.reconstruction_loss(e, x).item() == pytest.approx(rest / 24, rel=1e-5)
    three = torch.randn(2, 3, 8)
    unit = three / three.norm(dim=-1, keepdim=True)
    cosines = [abs((unit[b, i] @ unit[b, j]).item()) for b in (0, 1) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert losses.orthogonality_loss(three).item() == pytest.approx(sum(cosines) / 6, rel=1e-4)
    assert losses.orthogonality_loss(torch.stack([x, -2 * x], 1)).item() == pytest.approx(1, rel=1e-5)


def test_the_total_is_the_weighted_sum_of_its_parts():
    options = {"sep_weight": 2.0, "cls_weight": 0.25, "recon_weight": 0.7, "ortho_weight": 0.4}
    method = tiny(**options)
    found = method._loss(Tones().batch(0, 4))
    weighted = sum(options[f"{name}_weight"] * found[name].item() for name in ("sep", "cls", "recon", "ortho"))
    assert found["loss"].item() == pytest.approx(weighted, rel=1e-5)


@pytest.mark.parametrize("name", ["sep", "cls", "recon", "ortho"])
def test_a_part_without_a_weight_is_left_out(name):
    assert name not in tiny(**{f"{name}_weight": 0.0})._loss(Tones().batch(0, 4))


def test_the_logarithm_does_not_care_how_loud_a_scene_is():
    batch, estimate = Tones().batch(0, 4), 0.5 * Tones().batch(0, 4).sources
    mean, log = tiny(sep_loss="l1"), tiny(sep_loss="log_mse")
    loud = Batch(3 * batch.mixture, batch.events, 3 * batch.sources, batch.labels)
    parts = [[m._parts(*each, None) for each in ((batch, estimate), (loud, 3 * estimate))] for m in (mean, log)]
    for name in ("sep", "recon"):
        (before, after), (before_log, after_log) = [[each[name].item() for each in pair] for pair in parts]
        assert after == pytest.approx(3 * before, rel=1e-4) and after_log == pytest.approx(before_log, rel=1e-3)


def test_log_costs_are_the_snr():
    torch.manual_seed(0)
    estimate, reference = torch.randn(2, 3, 2, 100)
    costs = losses.log_costs(estimate, reference, reference.sum(1))
    snr = (reference[1, 0].square().sum() / (reference[1, 0] - estimate[1, 1]).square().sum()).log()
    assert costs[1, 0, 1].item() == pytest.approx(-snr.item(), abs=1e-3)
    assert losses.log_costs(reference, reference, reference.sum(1))[0, 0, 0].item() == pytest.approx(np.log(1e-3), rel=1e-3)


def test_a_silent_reference_wants_silence():
    mixture, silence = torch.randn(1, 100), torch.zeros(1, 1, 100)
    estimate = (0.5 * mixture[:, None]).requires_grad_()
    costs = losses.log_costs(estimate, silence, mixture)
    costs.sum().backward()
    assert costs.item() == pytest.approx(np.log(0.25 + 1e-3), abs=1e-3)
    assert (estimate.grad * mixture[:, None]).sum() > 0  # less of the mixture would cost less
    everything = losses.log_costs(silence, silence, 0 * mixture)
    assert torch.isfinite(everything).all()


def test_classes_are_judged_in_the_order_of_the_separation():
    """Eq. 13. The outputs come the other way round, and say so of themselves: both losses agree once they are in order."""
    batch = Tones().batch(0, 5)
    method, turned = tiny(), batch.sources.flip(1)
    labels = method._labels(batch)
    sure = nn.functional.one_hot(labels.flip(1), len(SMALL.classes) + 1) * 20.0
    parts = method._parts(batch, turned, sure)
    assert parts["cls"] < 1e-6 and parts["accuracy"] == 1
    unsure = method._parts(batch, batch.sources, sure)  # in order by their sound, the wrong way round by their labels
    assert unsure["cls"] > 10 and unsure["accuracy"] == 0


def test_the_second_stage_gives_labels_by_the_separation_too():
    method, batch = tiny(cls_weight=0.0), Tones().batch(0, 5)
    method.network.separator.forward = lambda mixture: (batch.sources.flip(1), None)
    sure = nn.functional.one_hot(method._labels(batch).flip(1), len(SMALL.classes) + 1) * 20.0
    method.network.classify = lambda sources: sure
    assert method._afterwards(batch)["loss"] < 1e-6 and method._afterwards(batch)["accuracy"] == 1
    method.network.classify = lambda sources: sure.flip(1)
    assert method._afterwards(batch)["loss"] > 10


def test_a_training_that_diverges_is_told_in_one_line(tmp_path):
    method = tiny()
    with torch.no_grad():
        method.network.separator.decoder.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="Training start: the loss is nan at step 0, on batch 0.*Lower the learning rate"):
        method.fit(training(tmp_path))


def test_without_a_separation_loss_classes_order_the_outputs():
    method, batch = tiny(sep_weight=0.0, recon_weight=0.0, ortho_weight=0.0), Tones().batch(0, 5)
    labels = method._labels(batch)
    logits = nn.functional.one_hot(labels.flip(1), len(SMALL.classes) + 1) * 20.0
    wrong_way_round = batch.sources  # which the separation loss would leave as they are
    assert method._parts(batch, wrong_way_round, logits)["accuracy"] == 1
    assert tiny()._parts(batch, wrong_way_round, logits)["accuracy"] == 0


def test_silence_is_the_class_after_the_last():
    task = TaskInfo(SMALL.classes, 8000, 1, 3, 0.6, 1)
    batch = Tones(task=task).batch(0, 20)
    labels = tiny(task)._labels(batch)
    assert (batch.labels < 0).any()
    assert ((labels == 3) == (torch.from_numpy(batch.labels) < 0)).all()


def test_no_loss_that_says_which_is_which_is_refused():
    with pytest.raises(UserError, match="sep_weight and cls_weight are both 0"):
        tiny(sep_weight=0.0, cls_weight=0.0)


# learning


def test_table_iv_is_five_different_runs():
    grid = RECIPE.grid("IV")
    weights = [tuple(cell[f"{name}_weight"] > 0 for name in ("sep", "cls", "recon", "ortho")) for cell in grid]
    assert weights == [(1, 1, 1, 1), (1, 1, 1, 0), (1, 1, 0, 1), (1, 0, 0, 0), (0, 1, 0, 0)]


def test_fit_learns_in_one_stage_and_tells_its_accuracy(tmp_path):
    method = tiny()
    before = {name: value.clone() for name, value in method.network.named_parameters()}
    cost = method.fit(training(tmp_path))
    assert list(cost) == ["start", "joint"]
    still = [name for name, value in method.network.named_parameters() if torch.equal(value, before[name])]
    assert still == []
    assert {"train_accuracy", "valid_accuracy", "train_sep", "valid_ortho"} <= history(tmp_path, "joint")[0].keys()


def test_the_start_teaches_the_separator_alone(tmp_path):
    method = tiny()
    before = [value.clone() for value in method.network.classifier.parameters()]
    method._train("start", method.network.separator, method._separation, training(tmp_path), method.schedules["start"])
    assert all(map(torch.equal, before, method.network.classifier.parameters()))
    assert {"train_sep", "train_recon", "train_ortho"} <= history(tmp_path, "start")[0].keys()
    assert "train_cls" not in history(tmp_path, "start")[0]


def test_the_paper_has_no_start_and_its_own_losses():
    config, _ = RECIPE.resolve("paper", {})
    assert config["train"]["start"] is None
    assert (config["params"]["sep_loss"], config["params"]["labels"]) == ("l1", "independent")


def test_the_papers_schedule_is_within_reach_of_every_profile():
    sets = ["plateau_factor=0.5", "cosine=false", "warmup=0", "clip_norm=null", "weight_decay=0.0001", "precision=fp16"]
    for profile in RECIPE.profiles:
        stage = RECIPE.resolve(profile, {}, [f"train.joint.{each}" for each in sets])[0]["train"]["joint"]
        assert (stage["plateau_factor"], stage["cosine"], stage["clip_norm"], stage["precision"]) == (0.5, False, None, "fp16")


def test_without_a_separation_loss_there_is_no_start(tmp_path):
    assert list(tiny(sep_weight=0.0).fit(training(tmp_path))) == ["joint"]


def test_without_a_classification_loss_the_classifier_learns_afterwards_and_alone(tmp_path):
    method = tiny(cls_weight=0.0)
    fresh = {name: value.clone() for name, value in method.network.classifier.named_parameters()}
    seen, heard = [], [list(fresh.values())]
    trained = method._train

    def watched(name, network, *rest, **more):
        cost = trained(name, network, *rest, **more)
        seen.append((name, [value.clone() for value in method.network.separator.parameters()]))
        heard.append([value.clone() for value in method.network.classifier.parameters()])
        return cost

    method._train = watched
    cost = method.fit(training(tmp_path))
    assert list(cost) == ["start", "separator", "classifier"] == [name for name, _ in seen]
    assert not all(map(torch.equal, seen[0][1], seen[1][1])) and all(map(torch.equal, seen[1][1], seen[2][1]))
    assert all(map(torch.equal, heard[0], heard[1])) and all(map(torch.equal, heard[0], heard[2]))
    assert not any(map(torch.equal, heard[0], heard[3]))
    assert "valid_accuracy" not in history(tmp_path, "separator")[0] and "valid_accuracy" in history(tmp_path, "classifier")[0]
    assert all(each.requires_grad for each in method.network.parameters())


@pytest.mark.parametrize("least, most", [(1, 1), (3, 3), (1, 3)])
def test_any_number_of_sources(tmp_path, least, most):
    task = TaskInfo(SMALL.classes, 8000, 1, most, 0.6, least)
    method = tiny(task)
    method.fit(training(tmp_path, task))
    answers = method.separate([Mixture(one[None], 8000, str(i)) for i, one in enumerate(Tones(9, task).batch(0, 4).mixture)])
    for answer in answers:
        assert len(answer.sources) == len(answer.labels) == len(answer.confidences) <= most
        assert len(answer.sources) == most or least < most


# answering


def always(method, best: int) -> None:
    """Have the classifier say the same of everything."""
    with torch.no_grad():
        method.network.classifier.classes.weight.zero_()
        method.network.classifier.classes.bias.copy_(nn.functional.one_hot(torch.tensor(best), len(SMALL.classes) + 1) * 9.0)


def test_silence_is_an_answer_only_where_scenes_differ_in_their_number():
    mixture = Mixture(torch.randn(1, 4800), 8000, "x")
    fixed, free = tiny(), tiny(TaskInfo(SMALL.classes, 8000, 1, 2, 0.6, 1))
    for method in (fixed, free):
        always(method, len(SMALL.classes))
    assert len(fixed.separate([mixture])[0].sources) == 2
    assert len(free.separate([mixture])[0].sources) == 0


def test_distinct_labels_are_the_likeliest_that_differ():
    mixture = Mixture(torch.randn(1, 4800), 8000, "x")
    for labels, n_alike in (("independent", 2), ("distinct", 1)):
        method = tiny(labels=labels)
        always(method, 1)
        assert method.separate([mixture])[0].labels.count("mid") == n_alike
    torch.manual_seed(0)
    for probability in torch.rand(20, 3, 5).softmax(-1):
        orders = itertools.permutations(range(5), 3)
        best = max(orders, key=lambda order: sum(probability[i, j].log() for i, j in enumerate(order)))
        assert tuple(distinct(probability).tolist()) == best


def test_estimates_carry_labels_confidences_and_masks():
    method = tiny(labels="independent")
    always(method, 1)
    answer = method.separate([Mixture(torch.randn(1, 4800), 8000, "x")])[0]
    assert answer.labels == ("mid", "mid") and answer.confidences.min() > 0.9
    assert answer.trace["masks"].shape == (2, 6, 599) and answer.trace["mask_hop_s"] == 0.001


def test_what_is_kept_answers_the_same(tmp_path):
    trained, fresh = tiny(), tiny(seed=1)
    trained.fit(training(tmp_path / "fit"))
    trained.save(tmp_path / "weights")
    fresh.load(tmp_path / "weights")
    mixture = Mixture(torch.randn(1, 4800), 8000, "x")
    one, other = trained.separate([mixture])[0], fresh.separate([mixture])[0]
    assert torch.equal(one.sources, other.sources) and one.labels == other.labels


def test_it_learns_to_separate_and_to_name_tones(tmp_path):
    config, _ = RECIPE.resolve("small", {})
    stage = {**SHORT, "epochs": 3, "steps": 40, "batch": 8, "lr": 5e-3, "patience": 9, "valid_batches": 4}
    sizes = {**TINY, "filters": 32, "channels": [8, 16]}
    method = build(RECIPE, {**config, "train": dict.fromkeys(config["train"], stage), "sizes": sizes}, SMALL)
    method.fit(training(tmp_path))
    rows = history(tmp_path, "joint")
    assert float(rows[-1]["valid_sep"]) < -1.4  # an SNR of 6 dB
    assert float(rows[-1]["valid_accuracy"]) > 0.8
