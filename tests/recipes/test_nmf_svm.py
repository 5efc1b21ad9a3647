"""NMF + SVM: what is masked adds up to the mixture, what scikit-learn says is kept as it stands, each option does something."""

from __future__ import annotations

import csv
import io
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from bands import SMALL, Sounds, noise, sound, two_sounds

from sepbench.cost import measure_cost
from sepbench.errors import UserError
from sepbench.method import Budget, Training
from sepbench.metrics.si_sdr import si_sdr
from sepbench.progress import PlainProgress
from sepbench.recipe import build, load_recipe
from sepbench.scene import Estimate, Mixture, TaskInfo
from sepbench.tables import find_published

REPO = Path(__file__).resolve().parents[2]
FOLDER = REPO / "recipes" / "nmf_svm"
RECIPE = load_recipe(FOLDER)
FULL = TaskInfo(tuple("abcdefghij"), 16000, 1, 2, 3.0, 2)
QUIET = PlainProgress(io.StringIO())


def method_of(task: TaskInfo = SMALL, seed: int = 0, sets: tuple[str, ...] = (), **options):
    few = ("train.crops=60", "train.valid_crops=20", "train.dictionary_crops=8", *sets)
    return build(RECIPE, RECIPE.resolve("quick", options, few, seed=seed)[0], task)


def fit_anew(scenes: Sounds | None = None, **rest):
    method = method_of(**rest)
    method.fit(Training(scenes or Sounds(), Sounds(1), Path("unused"), 0, QUIET, None, None, Path("unused")))
    return method


fitted = cache(fit_anew)  # answering changes nothing in a method


@pytest.fixture
def blind():
    return fitted()


@pytest.fixture
def by_class():
    return fitted(dictionary="class")


def asked(method, audio: torch.Tensor) -> Estimate:
    return method.separate([Mixture(audio[None], SMALL.sample_rate_hz, "a")])[0]


# the sum of what is masked is the mixture


@pytest.mark.parametrize("n_sources", [1, 2, 3])
@pytest.mark.parametrize("options", [{}, {"grouping": "activations"}, {"components": 1}, {"dictionary": "class"}])
def test_sources_sum_to_the_mixture(options: dict, n_sources: int):
    method = fitted(task=TaskInfo(SMALL.classes, 8000, 1, n_sources, 0.5, n_sources), **options)
    for mixture in (two_sounds().sum(0), noise(1000), noise(4000) * (torch.arange(4000) > 2000)):
        answer = asked(method, mixture)
        assert answer.sources.shape == (n_sources, len(mixture)) and len(answer.labels) == n_sources
        torch.testing.assert_close(answer.sources.sum(0), mixture, atol=1e-6, rtol=0)
        masks = answer.trace["masks"]
        assert masks.min() >= 0 and masks.max() <= 1
        torch.testing.assert_close(masks.sum(0), torch.ones(masks.shape[1:]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("options", [{}, {"dictionary": "class"}])
@pytest.mark.filterwarnings("error")
def test_silence_is_answered_with_silence(options: dict):
    answer = asked(fitted(**options), torch.zeros(3000))
    assert answer.sources.shape == (2, 3000) and not answer.sources.any() and len(answer.labels) == 2


def test_gain_changes_gain_and_nothing_else(blind, by_class):
    mixture = two_sounds().sum(0)
    for method in (blind, by_class):
        plain, quiet = asked(method, mixture), asked(method, mixture / 1024)
        assert torch.equal(quiet.sources * 1024, plain.sources) and quiet.labels == plain.labels


def test_the_source_with_the_most_energy_comes_first(blind, by_class):
    for method in (blind, by_class):
        for seed in range(4):
            energy = asked(method, two_sounds((0, 1), seed).sum(0)).sources.square().sum(1)
            assert energy[0] > energy[1]


# learning


def test_clean_sounds_are_known(blind):
    for label, name in enumerate(SMALL.classes):
        for seed in range(5):
            clean = torch.from_numpy(sound(label, np.random.default_rng(100 + seed), 4000)[None].astype(np.float32))
            assert SMALL.classes[blind._heard(clean)[0]] == name


def test_a_fit_says_what_it_cost(tmp_path: Path):
    cost = method_of().fit(Training(Sounds(), Sounds(1), tmp_path, 0, QUIET, None, None, tmp_path))["svm"]
    assert cost["crops"] == 60 and 0 < cost["points"] <= 60 and cost["valid_accuracy"] == 1.0 and cost["seconds"] > 0


@pytest.mark.parametrize(("budget", "least"), [(Budget(scenes=100), 165), (Budget(minutes=0.05), 61)])
def test_a_budget_decides_how_many_crops_there_are_and_not_the_profile(tmp_path: Path, budget: Budget, least: int):
    """Of two sources in each scene, one in ten is silent; the profile here says 60."""
    training = Training(Sounds(), Sounds(1), tmp_path, 0, QUIET, None, None, tmp_path, budget=budget)
    cost = method_of().fit(training)["svm"]
    assert cost["crops"] >= least and cost["scenes"] <= (budget.scenes or math.inf)


def test_the_cost_is_two_products_for_each_factor_and_iteration():
    wanted = {"blind": 4 * 8, "class": 2 * (10 + 2) * 16}
    for dictionary, n in wanted.items():
        found = method_of(FULL, dictionary=dictionary).macs_per_s_outside_torch
        assert found == pytest.approx(n * 257 * 188 * 100 / 3)


def test_a_figure_for_multiply_accumulates_is_to_be_had(blind):
    cost = measure_cost(blind, [Mixture(two_sounds().sum(0)[None], 8000, "a")], 8000)
    assert blind.macs_per_s_outside_torch < cost["macs_per_s"] < 2 * blind.macs_per_s_outside_torch


# separating


def separation_db(answer: Estimate, sources: torch.Tensor) -> list[float]:
    """SI-SDR of each source with the estimate that has most of it."""
    return [max(float(si_sdr(estimate=estimate, reference=source)) for estimate in answer.sources) for source in sources]


@pytest.mark.parametrize("labels", ["svm", "dictionary"])
def test_class_dictionaries_separate_sounds_that_share_no_frequency(labels: str):
    method = fitted(dictionary="class", labels=labels)
    for pair in ((0, 1), (2, 0), (1, 2)):
        sources = two_sounds(pair)
        answer = asked(method, sources.sum(0))
        assert min(separation_db(answer, sources)) > 25
        for source, label in zip(sources, pair):
            best = max(range(2), key=lambda j: float(si_sdr(estimate=answer.sources[j], reference=source)))
            assert answer.labels[best] == SMALL.classes[label]


@pytest.mark.parametrize("components", [1, 2, 4])
def test_blind_components_separate_tones_that_overlap_in_part(components: int):
    """Where each sounds alone for a while, there is one exact factorisation and no other."""
    time_s = torch.arange(4000) / SMALL.sample_rate_hz
    tones = torch.stack([torch.sin(2 * torch.pi * pitch_hz * time_s) for pitch_hz in (500, 2100)])
    sources = 0.2 * tones * torch.stack([time_s < 0.3, time_s > 0.2])
    assert min(separation_db(asked(fitted(components=components), sources.sum(0)), sources)) > 20


def test_a_dictionary_names_what_it_makes_and_the_svm_what_it_hears(by_class):
    """On noise that is of no class, the two need not agree; a dictionary names two different classes always."""
    named = fitted(dictionary="class", labels="dictionary")
    for seed in range(5):
        one, other = (asked(method, noise(4000, seed)) for method in (by_class, named))
        assert torch.equal(one.sources, other.sources) and len(set(other.labels)) == 2
    assert named.dictionary.spectra.sum(-1).numpy() == pytest.approx(np.ones((3, 16)), rel=1e-4)


@pytest.mark.parametrize("dictionary", ["blind", "class"])
def test_a_varying_number_of_sources_is_told_by_the_share_of_the_energy(dictionary: str):
    task = TaskInfo(SMALL.classes, 8000, 1, 3, 0.5, 1)
    lone, pair = two_sounds((1,)), two_sounds()
    found = {}
    for share in (0.0, 0.1, 1.0):
        method = fitted(task=task, dictionary=dictionary, least_share=share)
        for name, sources in (("lone", lone), ("pair", pair)):
            answer = asked(method, sources.sum(0))
            torch.testing.assert_close(answer.sources.sum(0), sources.sum(0), atol=1e-6, rtol=0)
            energy = answer.sources.square().sum(1)
            assert share == 1 or (energy > 0.8 * share * energy.sum()).all()
            found[share, name] = len(answer.labels)
    assert found[0.0, "pair"] == found[0.0, "lone"] == 3 and found[1.0, "pair"] == found[1.0, "lone"] == 1
    assert found[0.1, "pair"] == 2
    fixed = fitted(least_share=1.0, dictionary=dictionary)
    assert len(asked(fixed, lone.sum(0)).labels) == 2  # where it does not vary


# the same again


def test_an_answer_does_not_depend_on_what_else_was_asked(blind, by_class):
    mixtures = [Mixture(two_sounds(seed=seed).sum(0)[None], 8000, str(seed)) for seed in range(3)]
    for method in (blind, by_class):
        together = method.separate(mixtures)
        for mixture, answer in zip(mixtures, together):
            alone = method.separate([mixture])[0]
            assert torch.equal(alone.sources, answer.sources) and alone.labels == answer.labels


def test_one_seed_answers_alike_and_two_do_not(blind):
    mixture = noise(4000)
    again, other = fit_anew(), fitted(seed=1)
    assert torch.equal(asked(again, mixture).sources, asked(blind, mixture).sources)
    assert not torch.equal(asked(other, mixture).sources, asked(blind, mixture).sources)


def test_the_parameters_are_support_vectors_their_weights_and_spectra(by_class):
    n_points = len(by_class.machines.points)
    assert sum(each.numel() for each in by_class.machines.parameters()) == n_points * 60 + 3 * n_points + 3
    assert sum(each.numel() for each in by_class.dictionary.parameters()) == 3 * 16 * 257


@pytest.mark.parametrize("dictionary, files", [("blind", {"svm"}), ("class", {"svm", "dictionary"})])
def test_what_was_kept_answers_as_what_was_learnt(tmp_path: Path, dictionary: str, files: set[str]):
    method, loaded = fitted(dictionary=dictionary), method_of(dictionary=dictionary, seed=0)
    method.save(tmp_path)
    loaded.load(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {f"{name}.safetensors" for name in files}
    for seed in range(3):
        one, other = (asked(each, noise(4000, seed)) for each in (method, loaded))
        assert torch.equal(one.sources, other.sources) and one.labels == other.labels


def test_what_was_kept_for_other_classes_is_refused_in_one_line(tmp_path: Path, blind):
    blind.save(tmp_path)
    with pytest.raises(UserError, match="another network") as told:
        method_of(FULL).load(tmp_path)
    assert "\n" not in str(told.value)
    (tmp_path / "svm.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match="cannot be read"):
        method_of().load(tmp_path)


@pytest.mark.parametrize(
    "options",
    [{"components": 1}, {"grouping": "activations"}, {"iterations": 3}, {"svm_c": 0.01}, {"dictionary": "class"},
     {"dictionary": "class", "atoms": 3}],
)  # fmt: skip
def test_every_option_changes_something(options: dict, blind, by_class):
    rest = {name: value for name, value in options.items() if name != "dictionary"}
    plain, changed = by_class if rest and "dictionary" in options else blind, fitted(**options)
    mixture = noise(4000)
    if "svm_c" in options:
        heard = [each.machines(each.features(mixture[None])) for each in (plain, changed)]
        assert not torch.allclose(*heard)
    else:
        assert not torch.allclose(asked(plain, mixture).sources, asked(changed, mixture).sources)


# what is refused


@pytest.mark.parametrize(
    "sets, options, told",
    [
        (("train.crops=0",), {}, "train.crops is 0"),
        (("train.dictionary_crops=-1",), {}, "train.dictionary_crops is -1"),
        (("sizes.mels=0",), {}, "sizes.mels is 0"),
        (("sizes.hop=400",), {}, "at most half of sizes.window, 256"),
        (("sizes.mfccs=65",), {}, "64 mel bands"),
        ((), {"labels": "dictionary"}, "--dictionary class"),
    ],
)
def test_settings_that_cannot_be_are_told_in_one_line(sets: tuple[str, ...], options: dict, told: str):
    with pytest.raises(UserError, match=told) as error:
        method_of(sets=sets, **options)
    assert "\n" not in str(error.value)


def test_scenes_to_learn_nothing_from_are_told_in_one_line():
    with pytest.raises(UserError, match="nothing sounds") as silent:
        fit_anew(scenes=Sounds(silent=True))
    with pytest.raises(UserError, match="none of them is of 'high'") as missing:
        fit_anew(scenes=Sounds(classes=2))
    with pytest.raises(UserError, match="only class") as lone:
        method_of(TaskInfo(("rain",), 16000, 1, 1, 3.0, 1))
    assert not any("\n" in str(each.value) for each in (silent, missing, lone))


# the paper's table


def test_the_papers_cell_is_the_default():
    path = find_published(REPO / "results")
    assert path is not None
    with Path(path).open(newline="") as lines:
        printed = {(line["row"], line["column"]) for line in csv.DictReader(lines) if line["paper"] == "sepclsnet"}
    (cell,) = RECIPE.grid("II")
    row, column = RECIPE.tables["II"].rows[0].published, RECIPE.tables["II"].columns[0].published
    assert (row, column) in printed
    assert cell.items() <= {**RECIPE.resolve("paper")[1], "protocol": "shared_pool"}.items()
