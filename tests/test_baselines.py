"""The yardsticks stand where they say: the floor at 0 dB, the ceilings in order, and no truth without a claim to it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from sepbench.blocks.stft import Stft
from sepbench.corpora.cache import open_cache
from sepbench.corpora.synthetic import Synthetic
from sepbench.errors import UserError
from sepbench.labels import Events
from sepbench.method import WeakBatch, WeakTraining
from sepbench.mixing.infinite import InfinitePlanner, InfiniteSettings
from sepbench.mixing.poisson import PoissonPlanner, PoissonSettings
from sepbench.mixing.scenes import IsolatedScenes
from sepbench.progress import PlainProgress
from sepbench.recipe import build, load_recipe
from sepbench.run import answer
from sepbench.scene import Activity, Estimate, Mixture, Scene, Source, TaskInfo

CLASSES = ("car_horn", "dog_bark", "gun_shot", "jackhammer", "siren")
INFO = TaskInfo(CLASSES, 16000, 1, 5, 4.0)
BASELINES = ("activity_gate", "ideal_mask", "mixture")
ON_PAIRS = ("ideal_mask", "mixture", "mixture_cnn", "random_guess")
TEN = ("chainsaw", "clock_tick", "crackling_fire", "crying_baby", "dog", "helicopter", "rain", "rooster", "sea_waves", "sneezing")
PAIRS = TaskInfo(TEN, 16000, 1, 2, 3.0, 2)
QUIET = PlainProgress(open(os.devnull, "w"))  # noqa: SIM115


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Scene]:
    corpus = Synthetic(CLASSES)
    cache = open_cache(corpus, corpus.clips[::12], 16000, tmp_path_factory.mktemp("cache"))
    settings = PoissonSettings(5.0, 4.0, (0.5, 4.0), (-30.0, -25.0))
    own = range(len(cache.clips))
    found = IsolatedScenes(PoissonPlanner(cache.clips, own, CLASSES, settings, cache.content_hash, "test", 0, cache))
    return [found.scene(i) for i in range(24)]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[Scene]:
    """Scenes of two sources each, of ten classes."""
    corpus = Synthetic(TEN)
    cache = open_cache(corpus, corpus.clips[::25], 16000, tmp_path_factory.mktemp("cache"))
    settings = InfiniteSettings((2, 2), 3.0, (0.5, 1.0), 0.05, "scale", "pad")
    planner = InfinitePlanner(cache.clips, range(len(cache.clips)), TEN, settings, cache.content_hash, "test", 0, cache)
    return [IsolatedScenes(planner).scene(i) for i in range(12)]


def config_of(repo: Path, name: str, **options: Any) -> tuple[Any, dict[str, Any]]:
    recipe = load_recipe(repo / "baselines" / name)
    return recipe, recipe.resolve("quick", options)[0]


def built(repo: Path, name: str, inner: Any = None, **options: Any) -> Any:
    recipe, config = config_of(repo, name, **options)
    return build(recipe, config, INFO, inner)


def mean_si_sdri_db(repo: Path, scenes: Sequence[Scene], name: str, **options: Any) -> float:
    recipe, config = config_of(repo, name, **options)
    rows, _ = answer(build(recipe, config, INFO), scenes, config, "run", "test")
    return float(np.mean([row.value for row in rows if row.metric == "si_sdri"]))


# what they declare


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_is_scored_on_the_scenes_of_the_recipes(repo: Path, name: str):
    ours, theirs = load_recipe(repo / "baselines" / name), load_recipe(repo / "recipes" / "weak_label")
    assert ours.kind == "baseline" and (repo / "baselines" / name / "README.md").is_file()
    for name, option in theirs.task_params.items():
        assert ours.task_params[name].model_copy(update={"help": option.help}) == option
    for profile in ("quick", "small", "paper"):
        assert ours.resolve(profile)[0]["task"] == theirs.resolve(profile)[0]["task"]
        assert not ours.profiles[profile].train and not ours.profiles[profile].sizes


@pytest.mark.parametrize(
    ("name", "options", "supervision"),
    [
        ("mixture", {}, "none"),
        ("random_guess", {}, "none"),
        ("mixture_cnn", {}, "weak"),
        ("ideal_mask", {}, "oracle"),
        ("activity_gate", {}, "oracle"),
        ("activity_gate", {"driver": "critic"}, "weak"),
    ],
)
def test_a_baseline_says_what_it_relies_on(repo: Path, name: str, options: dict, supervision: str):
    assert config_of(repo, name, **options)[1]["supervision"] == supervision


class Spy:
    """Notes what it is handed."""

    def separate(self, given: Sequence[Any]) -> list[Estimate]:
        self.given = list(given)
        audio = [each.audio if isinstance(each, Mixture) else each.mixture.audio for each in given]
        return [Estimate(each[:1].expand(5, -1), CLASSES) for each in audio]


@pytest.mark.parametrize("supervision", ["none", "weak", "isolated", "oracle"])
def test_only_an_oracle_is_handed_the_truth(repo: Path, scenes: list[Scene], supervision: str):
    spy, (_, config) = Spy(), config_of(repo, "mixture")
    answer(spy, scenes, {**config, "supervision": supervision}, "run", "test")
    assert {type(each) for each in spy.given} == {Scene if supervision == "oracle" else Mixture}


# the floor


def test_the_mixture_improves_nothing_to_the_last_bit(repo: Path, scenes: list[Scene]):
    recipe, config = config_of(repo, "mixture")
    rows, _ = answer(build(recipe, config, INFO), scenes, config, "run", "test")
    improvements = [row.value for row in rows if row.metric == "si_sdri"]
    assert len(improvements) > 40 and set(improvements) == {0.0}


# the ceiling of masking


def test_ratio_masks_sum_to_the_mixture(repo: Path, scenes: list[Scene]):
    for scene, estimate in zip(scenes, built(repo, "ideal_mask").separate(scenes)):
        assert estimate.labels == CLASSES
        torch.testing.assert_close(estimate.sources.sum(0), scene.mixture.audio[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("mask", ["ratio", "binary", "phase_sensitive"])
@pytest.mark.parametrize("window_ms", [8, 32])
def test_absent_classes_are_silent_and_a_lone_class_is_the_mixture(
    repo: Path, scenes: list[Scene], mask: str, window_ms: int
):
    method = built(repo, "ideal_mask", mask=mask, window_ms=window_ms)
    lone = next(scene for scene in scenes if len(scene.sources) == 2).sources[0]
    scene = Scene(Mixture(lone.audio[None], 16000, "alone"), (lone,))
    answer = method.separate([scene])[0].sources
    own = CLASSES.index(lone.label)
    torch.testing.assert_close(answer[own], lone.audio, atol=1e-5, rtol=0)
    assert not answer[[i for i in range(5) if i != own]].any()


def test_binary_masks_give_each_bin_to_one_source(repo: Path, scenes: list[Scene]):
    method = built(repo, "ideal_mask", mask="binary")
    for scene in scenes[:6]:
        spectra = method.stft(torch.stack([scene.mixture.audio[0], *(source.audio for source in scene.sources)]))
        masks = method.mask(spectra[1:], spectra[0])
        assert set(masks.unique().tolist()) <= {0.0, 1.0} and (masks.sum(0) == 1).all()


def test_the_ceilings_come_in_their_order(repo: Path, scenes: list[Scene]):
    """The truncated phase-sensitive mask is the best real one up to 1, so nothing with the mixture's phase beats it."""
    found = {mask: mean_si_sdri_db(repo, scenes, "ideal_mask", mask=mask) for mask in ("ratio", "binary", "phase_sensitive")}
    gate = mean_si_sdri_db(repo, scenes, "activity_gate")
    assert found["phase_sensitive"] > max(found["ratio"], found["binary"])
    assert min(found.values()) > gate + 3 > 3


def test_what_nobody_asks_for_takes_its_share(repo: Path, scenes: list[Scene]):
    scene = next(scene for scene in scenes if len(scene.sources) == 3)
    noisy = Scene(scene.mixture, scene.sources[:2], rest=scene.sources[2:])
    asked, all_three = (built(repo, "ideal_mask").separate([each])[0].sources for each in (noisy, scene))
    own = [CLASSES.index(source.label) for source in noisy.sources]
    assert torch.equal(asked[own], all_three[own])
    assert not asked[CLASSES.index(scene.sources[2].label)].any()


def test_silence_is_answered_with_silence(repo: Path):
    scene = Scene(Mixture(torch.zeros(1, 16000), 16000, "silent"), (Source(torch.zeros(16000), "siren", ((0.1, 0.4),)),))
    for mask in ("ratio", "binary", "phase_sensitive"):
        assert not built(repo, "ideal_mask", mask=mask).separate([scene])[0].sources.any()
    assert not built(repo, "activity_gate").separate([scene])[0].sources.any()


# the gate


def test_the_oracle_gate_is_silent_outside_the_events(repo: Path, scenes: list[Scene]):
    reach = round((0.032 + 0.008) / 2 * 16000)  # half a window, and half a hop by which a frame overlaps an event
    for scene, estimate in zip(scenes, built(repo, "activity_gate").separate(scenes)):
        answer = estimate.sources.clone()
        for source in scene.sources:
            for on_s, off_s in source.intervals_s:
                first, last = round(on_s * 16000) - reach, round(off_s * 16000) + reach
                answer[CLASSES.index(source.label), max(first, 0) : last] = 0
        assert answer.abs().max() < 1e-6


def test_the_oracle_gate_shares_the_mixture_among_those_that_sound(repo: Path):
    noise = 0.1 * torch.randn(64000, generator=torch.Generator().manual_seed(0))
    spans = {"siren": ((0.5, 3.0),), "dog_bark": ((1.0, 2.0), (2.5, 3.5)), "gun_shot": ((1.5, 2.0),)}
    sources = tuple(Source(noise / 3, label, times) for label, times in spans.items())
    answer = built(repo, "activity_gate").separate([Scene(Mixture(noise[None], 16000, "x"), sources)])[0].sources
    for middle_s, n_active in ((0.75, 1), (1.25, 2), (1.75, 3), (2.25, 1), (2.75, 2), (3.25, 1), (3.75, 0)):
        at = slice(round((middle_s - 0.1) * 16000), round((middle_s + 0.1) * 16000))
        for label in CLASSES:
            sounds = any(on <= middle_s < off for on, off in spans.get(label, ()))
            wanted = noise[at] / n_active if sounds else torch.zeros(3200)
            torch.testing.assert_close(answer[CLASSES.index(label), at], wanted, atol=1e-6, rtol=0)


class RandomCritic:
    """Probabilities drawn at random on a grid four times as coarse as the STFT's, as a pooling critic's are."""

    hop_s, start_s, n_frames = 0.032, -0.004, 125

    def separate(self, mixtures: Sequence[Mixture]) -> list[Estimate]:
        assert all(type(mixture) is Mixture for mixture in mixtures)
        drawn = torch.rand(len(mixtures), 5, self.n_frames, generator=torch.Generator().manual_seed(1)) ** 3
        return [
            Estimate(torch.zeros(5, 64000), CLASSES, each.amax(-1), Activity(each, self.hop_s, self.start_s))
            for each in drawn
        ]


def test_the_critics_gate_is_its_formula_frame_by_frame(repo: Path, scenes: list[Scene]):
    mixtures = [scene.mixture for scene in scenes[:3]]
    found = built(repo, "activity_gate", RandomCritic(), driver="critic").separate(mixtures)
    stft = Stft(32, 16000)
    for mixture, estimate, heard in zip(mixtures, found, RandomCritic().separate(mixtures)):
        spectrum = stft(mixture.audio)[0]
        for label in range(5):
            gated = torch.zeros_like(spectrum)
            for k in range(len(spectrum)):  # centred on 8 k ms, in the critic's frame of 32 ms that starts at -4 ms
                at = min((8 * k + 4) // 32, 124)
                p = heard.activity.probability[:, at]
                gated[k] = spectrum[k] * p[label] / max(1.0, float(p.sum()))
            torch.testing.assert_close(estimate.sources[label], stft.inverse(gated[None], 64000)[0], atol=1e-6, rtol=0)
        assert estimate.labels == CLASSES
        assert torch.equal(estimate.activity.probability, heard.activity.probability)
        assert torch.equal(estimate.confidences, heard.confidences)


def test_a_critic_that_is_never_wrong_is_the_oracle(repo: Path, scenes: list[Scene]):
    oracle = built(repo, "activity_gate")

    class Clairvoyant:
        def separate(self, mixtures: Sequence[Mixture]) -> list[Estimate]:
            own = {scene.mixture.id: scene for scene in scenes}
            return [Estimate(torch.zeros(5, 64000), CLASSES, None, oracle._truth(own[m.id])) for m in mixtures]

    driven = built(repo, "activity_gate", Clairvoyant(), driver="critic").separate([scene.mixture for scene in scenes])
    for ours, theirs in zip(driven, oracle.separate(scenes)):
        assert torch.equal(ours.sources, theirs.sources)


def test_the_gate_works_on_an_untrained_weak_label_separator(repo: Path, scenes: list[Scene]):
    recipe = load_recipe(repo / "recipes" / "weak_label")
    small = ["sizes.hidden=8", "sizes.critic_hidden=8", "sizes.critic_channels=[2,2,4]", "train.bfloat16=false"]
    inner = build(recipe, recipe.resolve("quick", {}, small)[0], INFO)
    mixtures = [scene.mixture for scene in scenes[:2]]
    found = built(repo, "activity_gate", inner, driver="critic").separate(mixtures)
    heard = inner.separate(mixtures)
    for ours, theirs in zip(found, heard):
        assert ours.sources.shape == (5, 64000) and bool(ours.sources.abs().max() > 0)
        torch.testing.assert_close(ours.activity.probability, theirs.activity.probability)
    with pytest.raises(UserError, match="labels strong"):
        strong = build(recipe, recipe.resolve("quick", {"labels": "strong"}, small)[0], INFO)
        built(repo, "activity_gate", strong, driver="critic").separate(mixtures)


def test_a_critic_must_be_given_and_an_oracle_needs_none(repo: Path):
    with pytest.raises(UserError, match="--inner RUN") as told:
        built(repo, "activity_gate", driver="critic")
    assert "\n" not in str(told.value)
    with pytest.raises(UserError, match="Leave --inner away"):
        built(repo, "activity_gate", RandomCritic(), driver="oracle")


@pytest.mark.parametrize("name", BASELINES)
def test_there_is_nothing_to_learn_or_to_keep(repo: Path, tmp_path: Path, scenes: list[Scene], name: str):
    method = built(repo, name)
    assert method.fit(None) is None
    method.save(tmp_path / "weights")
    method.load(tmp_path / "weights")
    assert not list(tmp_path.rglob("*.safetensors"))


# on two sounds of different classes


def on_pairs(repo: Path, name: str, task: TaskInfo = PAIRS, seed: int = 0, sets: Sequence[str] = (), **options: Any) -> Any:
    recipe = load_recipe(repo / "baselines" / name).on("esc_pairs")
    return build(recipe, recipe.resolve("quick", options, sets, seed=seed)[0], task)


@pytest.mark.parametrize("profile", ["quick", "small", "paper"])
def test_all_are_scored_on_the_same_scenes(repo: Path, profile: str):
    scored = {}
    for file in [*repo.glob("baselines/*/recipe.yaml"), *repo.glob("recipes/*/recipe.yaml")]:
        recipe = load_recipe(file.parent)
        if "esc_pairs" in (recipe.own_task, *recipe.other_tasks):
            recipe = recipe.on("esc_pairs")
            assert {"protocol", "split", "classes", "sources", "fewest_sources"} <= recipe.task_params.keys()
            scored[file.parent.name] = recipe.resolve(profile, {"classes": "esc10"})[0]["task"]
            scored[file.parent.name]["scenes"].pop("valid")  # how many a method is chosen on is its own business
    assert scored.keys() >= {*ON_PAIRS}
    assert all(task == scored["mixture"] for task in scored.values()), scored


@pytest.mark.parametrize("name", ["mixture", "ideal_mask", "random_guess"])
def test_without_learning_there_are_as_many_answers_as_sources(repo: Path, pairs: list[Scene], name: str):
    method = on_pairs(repo, name)
    given = pairs if name == "ideal_mask" else [scene.mixture for scene in pairs]
    assert all(answer.sources.shape == (2, 48000) for answer in method.separate(given))
    assert method.fit(None) is None


def test_the_mixture_is_every_source_and_no_class(repo: Path, pairs: list[Scene]):
    for scene, found in zip(pairs, on_pairs(repo, "mixture").separate([scene.mixture for scene in pairs])):
        assert found.labels is None and torch.equal(found.sources, scene.mixture.audio.expand(2, -1))


def test_each_true_source_has_its_ideal_mask_and_its_label(repo: Path, pairs: list[Scene]):
    recipe = load_recipe(repo / "baselines" / "ideal_mask").on("esc_pairs")
    config = recipe.resolve("quick")[0]
    for scene, found in zip(pairs, build(recipe, config, PAIRS).separate(pairs)):
        assert found.labels == tuple(source.label for source in scene.sources)
        torch.testing.assert_close(found.sources.sum(0), scene.mixture.audio[0], atol=1e-5, rtol=0)
    rows, _ = answer(build(recipe, config, PAIRS), pairs, config, "run", "test")
    values = {name: np.mean([row.value for row in rows if row.metric == name]) for name in ("si_sdri", "class_accuracy")}
    assert values["si_sdri"] > 8 and values["class_accuracy"] == 1.0


def test_a_scene_in_which_nothing_sounds_has_no_ideal_mask(repo: Path):
    found = on_pairs(repo, "ideal_mask").separate([Scene(Mixture(torch.zeros(1, 48000), 16000, "silent"), ())])[0]
    assert found.sources.shape == (0, 48000) and found.labels == ()


# guessing


def mixtures(n: int) -> list[Mixture]:
    return [Mixture(torch.full((1, 4), 0.5), 16000, f"scene-{i}") for i in range(n)]


def test_guesses_are_right_one_time_in_as_many_as_there_are_classes(repo: Path):
    n = 6000
    labels = np.array([each.labels for each in on_pairs(repo, "random_guess").separate(mixtures(n))])  # (scene, source)
    for label in TEN:
        assert (labels == label).mean() == pytest.approx(0.1, abs=4 * np.sqrt(0.1 * 0.9 / (2 * n)))
    both = (labels[:, 0] == labels[:, 1]).mean()  # each whatever the other is
    assert both == pytest.approx(0.1, abs=4 * np.sqrt(0.1 * 0.9 / n))


def test_a_guess_depends_on_the_seed_and_the_scene_alone(repo: Path):
    given = mixtures(40)
    whole, again, other = (
        [each.labels for each in on_pairs(repo, "random_guess", seed=seed).separate(some)]
        for seed, some in ((0, given), (0, given[::-1]), (1, given))
    )
    assert whole == again[::-1] != other
    assert len(set(whole)) > 20


# hearing mixtures


class Tones:
    """Scenes of two tones out of four, in noise; clip labels alone. batch(i, size) is a pure function of both."""

    def __init__(self, seed: int):
        self.seed = seed

    def batch(self, index: int, size: int) -> WeakBatch:
        random = np.random.default_rng([self.seed, index, size])
        labels = np.array([random.choice(4, 2, replace=False) for _ in range(size)])
        time_s = np.arange(8000) / 16000
        sounds = np.sin(2 * np.pi * 400 * 2.0 ** labels[..., None] * time_s).sum(1)
        audio = torch.from_numpy(0.2 * sounds + 0.02 * random.standard_normal(sounds.shape)).float()
        scene = np.repeat(np.arange(size), 2)
        return WeakBatch(audio, Events(scene, labels.reshape(-1), 0 * scene, 0 * scene + 0.5, size, 4))


FOUR = TaskInfo(("a", "b", "c", "d"), 16000, 1, 2, 0.5, 2)
TINY = ["sizes.channels=[6,8]", "train.classifier.steps=60", "train.classifier.epochs=3", "train.classifier.batch=8",
        "train.classifier.precision=32", "train.classifier.lr=0.02"]  # fmt: skip


@pytest.fixture(scope="module")
def heard(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The classifier, once it has learnt four tones."""
    method = on_pairs(repo, "mixture_cnn", FOUR, sets=TINY)
    method.fit(WeakTraining(Tones(0), Tones(1), tmp_path_factory.mktemp("checkpoints"), 0, QUIET))
    return method


def given_of(batch: WeakBatch) -> list[Mixture]:
    return [Mixture(audio[None], 16000, str(i)) for i, audio in enumerate(batch.mixture)]


@pytest.mark.parametrize("profile", ["small", "paper"])
def test_the_classifier_has_the_size_that_the_paper_prints(repo: Path, profile: str):
    recipe = load_recipe(repo / "baselines" / "mixture_cnn")
    fifty = TaskInfo(tuple(f"class {i}" for i in range(50)), 16000, 1, 2, 3.0, 2)
    network = build(recipe, recipe.resolve(profile)[0], fifty).network
    n = sum(each.numel() for each in network.parameters())
    assert n == 1_186_450 and round(n / 1e6, 1) == 1.2


def test_it_learns_from_clip_labels_and_names_what_sounds(heard: Any):
    batch = Tones(2).batch(0, 40)
    answers = heard.separate(given_of(batch))
    assert all(each.sources is None and len(each.labels) == len(each.confidences) == 2 for each in answers)
    truth = batch.events.label.reshape(-1, 2)
    right = [len({*each.labels} & {FOUR.classes[i] for i in own}) / 2 for each, own in zip(answers, truth)]
    assert np.mean(right) > 0.9  # chance: 0.5
    assert all((each.confidences.diff() <= 0).all() and (each.confidences >= 0).all() for each in answers)


def test_an_answer_does_not_depend_on_who_else_is_asked(heard: Any):
    given = given_of(Tones(3).batch(0, 6))
    together = heard.separate(given)
    for alone, among in zip((heard.separate([one])[0] for one in given), together):
        assert alone.labels == among.labels
        torch.testing.assert_close(alone.confidences, among.confidences)


def test_its_loss_and_accuracy_are_their_formulas_scene_by_scene(repo: Path):
    method = on_pairs(repo, "mixture_cnn", FOUR, sets=TINY)
    batch = Tones(4).batch(0, 10)
    scene, label = np.array([0, 0, 0, 1, 2, 2]), np.array([0, 1, 3, 2, 1, 0])  # three, one and two classes; seven scenes of none
    batch = WeakBatch(batch.mixture, Events(scene, label, 0.0 * scene, 0.0 * scene, 10, 4))
    found = method._loss(batch)
    logits = method.network(method.front(batch.mixture)).detach()
    truth = torch.zeros(10, 4)
    truth[scene, label] = 1
    likeliest = [logits[s].argsort(descending=True)[: int(truth[s].sum())].tolist() for s in range(3)]
    hits = sum(len({*own} & {*label[scene == s]}) for s, own in enumerate(likeliest))
    assert float(found["accuracy"]) == pytest.approx(hits / 6)
    torch.testing.assert_close(found["loss"].detach(), binary_cross_entropy_with_logits(logits, truth))


@pytest.mark.parametrize(("threshold", "fewest", "most"), [(0.0, 1, 3), (1.0, 1, 3), (1.0, 0, 3), (0.5, 0, 4), (0.9, 2, 2)])
def test_where_the_number_varies_those_likely_enough_are_named(
    repo: Path, heard: Any, threshold: float, fewest: int, most: int
):
    task = TaskInfo(FOUR.classes, 16000, 1, most, 0.5, fewest)
    method = on_pairs(repo, "mixture_cnn", task, sets=TINY, threshold=threshold)
    method.network.load_state_dict(heard.network.state_dict())
    batch = Tones(5).batch(0, 20)
    probability = method.network.eval()(method.front(batch.mixture)).sigmoid()
    for found, own in zip(method.separate(given_of(batch)), probability):
        n = min(max(int((own > threshold).sum()), fewest), most)
        assert found.labels == tuple(FOUR.classes[i] for i in own.argsort(descending=True)[:n])
        torch.testing.assert_close(found.confidences, own.sort(descending=True).values[:n])


def test_what_it_learnt_is_kept(repo: Path, heard: Any, tmp_path: Path):
    heard.save(tmp_path)
    fresh, given = on_pairs(repo, "mixture_cnn", FOUR, seed=1, sets=TINY), given_of(Tones(6).batch(0, 4))
    before = fresh.separate(given)
    fresh.load(tmp_path)
    for again, was, first in zip(fresh.separate(given), heard.separate(given), before):
        assert torch.equal(again.confidences, was.confidences) and not torch.equal(first.confidences, was.confidences)
    with pytest.raises(UserError, match="another network"):
        on_pairs(repo, "mixture_cnn", PAIRS, sets=TINY).load(tmp_path)
