"""Other methods behind the strategy: which of a blind separator's outputs answers which label."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch
from redux_scripts import NAMES, World, answer, blind, noise, rules

from sepbench.errors import UserError
from sepbench.recipe import build, load_recipe
from sepbench.run import inner_method
from sepbench.scene import Estimate, TaskInfo

TASK = TaskInfo(NAMES, 8000, 2, 3, 0.06)


class Inner:
    """Hands back what it was given for each mixture, and keeps the mixtures."""

    def __init__(self, *estimates: Estimate):
        self.estimates, self.mixtures = estimates, []

    def separate(self, mixtures):
        self.mixtures += mixtures
        return list(self.estimates)


def outputs(n: int) -> torch.Tensor:
    return noise(1, n, 480)


def saying(probability: torch.Tensor, sources: torch.Tensor):
    """A tagger that knows these sources by their sound: (source, class)."""

    def tagger(waveforms):
        return torch.stack([probability[int((sources - each).abs().sum(-1).argmin())] for each in waveforms])

    return tagger


def never(_):
    raise AssertionError("the tagger was asked")


def separated(estimate: Estimate, labels: list[int], tagger) -> torch.Tensor:
    (found,) = blind(Inner(estimate), TASK, tagger)(noise(0, 1, 2, 480), [labels])
    return found


def test_it_is_handed_mixtures_with_all_their_channels():
    inner, mixtures = Inner(*[Estimate(outputs(1), ("a",))] * 2), noise(0, 2, 2, 480)
    found = blind(inner, TASK, never)(mixtures, [[0], [0]])
    assert [torch.equal(one.audio, other) for one, other in zip(inner.mixtures, mixtures)] == [True, True]
    assert {each.sample_rate_hz for each in inner.mixtures} == {8000}
    assert [each.shape for each in found] == [(1, 480), (1, 480)]


def test_outputs_go_to_the_labels_that_they_bear():
    sources = outputs(4)
    found = separated(Estimate(sources, ("c", "a", "f", "b")), [0, 1, 2], never)
    assert torch.equal(found, sources[[1, 3, 0]])


def test_two_outputs_of_a_label_answer_it_twice():
    sources = outputs(3)
    assert torch.equal(separated(Estimate(sources, ("a", "b", "a")), [0, 0], never), sources[[0, 2]])


@pytest.mark.parametrize(("n_labels", "n_sources"), list(itertools.product([1, 2, 3, 4], repeat=2)))
def test_the_others_are_shared_out_as_every_order_tried_would(n_labels: int, n_sources: int):
    sources, labels = outputs(n_sources), list(range(n_labels))
    probability = torch.rand(n_sources, len(NAMES), generator=torch.Generator().manual_seed(10 * n_labels + n_sources))
    found = separated(Estimate(sources), labels, saying(probability, sources))

    def likelihood(order):
        return sum(float(probability[j, i].log()) for i, j in enumerate(order) if j < n_sources)

    places = range(max(n_labels, n_sources))  # those from n_sources on are silence
    best = max(itertools.permutations(places, n_labels), key=likelihood)
    padded = torch.cat([sources, torch.zeros(n_labels, 480)])
    assert torch.equal(found, padded[[min(j, n_sources) for j in best]])


def test_an_output_by_another_name_may_still_answer_a_label():
    sources = outputs(2)
    probability = torch.full((2, len(NAMES)), 0.1)
    probability[1, 0] = 0.9  # the tagger hears b's output as a
    found = separated(Estimate(sources, ("b", "f")), [0, 1], saying(probability, sources))
    assert torch.equal(found, sources[[1, 0]])


def test_an_output_answers_one_label_alone():
    sources = outputs(2)
    probability = torch.full((2, len(NAMES)), 0.1)
    probability[0, 1] = 0.9  # the tagger would give a's output to b
    assert torch.equal(separated(Estimate(sources, ("a", "f")), [0, 1], saying(probability, sources)), sources)


def test_what_is_wanted_of_nothing_is_silence():
    assert torch.equal(separated(Estimate(torch.zeros(0, 480), ()), [0, 1], never), torch.zeros(2, 480))


@pytest.mark.parametrize("labels", list(itertools.permutations([0, 1, 2])))
def test_an_output_in_which_nothing_is_heard_does_not_mix_up_the_others(labels: tuple[int, ...]):
    """Probabilities of zero leave pairs that nobody wants, and the rest is shared out as it should be."""
    sources = outputs(3)
    probability = torch.zeros(3, len(NAMES))
    probability[1, :3] = torch.tensor([0.1, 0.3, 0.5])
    probability[2, 0] = 0.4
    found = separated(Estimate(sources), list(labels), saying(probability, sources))
    assert torch.equal(found, torch.stack([sources[{0: 2, 1: 0, 2: 1}[label]] for label in labels]))


def test_a_method_that_separates_nothing_cannot_be_wrapped():
    with pytest.raises(UserError, match="separates nothing"):
        separated(Estimate(None, ("a",)), [0], never)


def test_a_blind_separator_and_a_right_tagger_are_right_together():
    """Each output alone, in an order that says nothing: the strategy names all of them, and stops at case I."""
    world, labels = World(1.0), [2, 5, 7]
    scene = world.scene(labels, 2)
    sources = torch.stack([world.masked(scene[0], [label]) for label in (7, 2, 5)])
    separator = blind(Inner(Estimate(sources)), TASK, world.tagger)
    (verdict,) = answer([scene], rules(most=3), world.tagger, separator, True)
    assert sorted(verdict.labels) == labels and verdict.decisions[0]["case"] == "I"
    for label, source in zip(verdict.labels, verdict.sources):
        assert torch.equal(source, sources[[7, 2, 5].index(label)])


SMALL = {
    "weak_label": ["sizes.hidden=8", "sizes.critic_hidden=8", "sizes.critic_channels=[2,2,4]", "train.bfloat16=false"],
    "sepclsnet": [],
}


@pytest.mark.parametrize("name", SMALL)
def test_recipes_that_learnt_nothing_yet_can_be_wrapped(repo, name: str):
    recipe = load_recipe(repo / "recipes" / name)
    info = TaskInfo(NAMES[:5], 16000, 1, 2, 1.0, 2)
    inner = build(recipe, recipe.resolve("quick", {}, SMALL[name])[0], info)

    def tagger(waveforms):
        return waveforms.abs().reshape(len(waveforms), 5, -1).amax(-1).clamp(max=1)

    scenes = [noise(seed, 4, 16000) for seed in range(2)]
    own = rules(classes=NAMES[:5], most=2, window=512)
    for verdict in answer(scenes, own, tagger, blind(inner, info, tagger), True):
        assert verdict.sources.shape == (len(verdict.labels), 16000) and 1 <= len(verdict.labels) <= 2
        assert bool(verdict.sources.isfinite().all())


def test_an_oracle_cannot_be_wrapped(monkeypatch, tmp_path):
    record = SimpleNamespace(path=tmp_path, config={"supervision": "oracle", "name": "Ideal mask"})
    monkeypatch.setattr("sepbench.run.finished_run", lambda *_: (record, None))
    with pytest.raises(UserError, match="Ideal mask must be told the sources") as told:
        inner_method({"inner": {"recipe": "recipes/x", "run": str(tmp_path)}}, None)
    assert "\n" not in str(told.value)
