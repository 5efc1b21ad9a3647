"""The yardsticks stand where they say: the floor at 0 dB, the ceilings in order, and no truth without a claim to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sepbench.blocks.stft import Stft
from sepbench.corpora.cache import open_cache
from sepbench.corpora.synthetic import Synthetic
from sepbench.errors import UserError
from sepbench.mixing.poisson import PoissonPlanner, PoissonScenes, PoissonSettings
from sepbench.recipe import build, load_recipe
from sepbench.run import answer
from sepbench.scene import Activity, Estimate, Mixture, Scene, Source, TaskInfo

CLASSES = ("car_horn", "dog_bark", "gun_shot", "jackhammer", "siren")
INFO = TaskInfo(CLASSES, 16000, 1, 5, 4.0)
BASELINES = ("activity_gate", "ideal_mask", "mixture")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Scene]:
    corpus = Synthetic(CLASSES)
    cache = open_cache(corpus, corpus.clips[::12], 16000, tmp_path_factory.mktemp("cache"))
    settings = PoissonSettings(5.0, 4.0, (0.5, 4.0), (-30.0, -25.0))
    own = range(len(cache.clips))
    found = PoissonScenes(PoissonPlanner(cache.clips, own, CLASSES, settings, cache.content_hash, "test", 0, cache))
    return [found.scene(i) for i in range(24)]


def config_of(repo: Path, name: str, **options: Any) -> tuple[Any, dict[str, Any]]:
    recipe = load_recipe(repo / "baselines" / name)
    return recipe, recipe.resolve("quick", options)[0]


def built(repo: Path, name: str, inner: Any = None, **options: Any) -> Any:
    recipe, config = config_of(repo, name, **options)
    return build(recipe, config, INFO, inner)


def mean_si_sdri_db(repo: Path, scenes: Sequence[Scene], name: str, **options: Any) -> float:
    recipe, config = config_of(repo, name, **options)
    rows = answer(build(recipe, config, INFO), scenes, config, "run", "test")
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
    rows = answer(build(recipe, config, INFO), scenes, config, "run", "test")
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
