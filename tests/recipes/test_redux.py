"""The REDUX recipe: which options go together, what is trained once, and what becomes of scenes, to the files of a run."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from redux_scenes import FOA, MONO, NAMES, scenes, training

from sepbench.blocks import log_mel
from sepbench.errors import UserError
from sepbench.loading import load_from
from sepbench.progress import PlainProgress
from sepbench.recipe import build, load_recipe
from sepbench.results import read_runs
from sepbench.results_decisions import read_decisions
from sepbench.run import run_one
from sepbench.scene import Estimate, TaskInfo
from tones import tones

REPO = Path(__file__).resolve().parents[2]
load_from(REPO / "recipes" / "redux", "method.py", "Redux")
from recipes.redux import kept, plan, separating, taggers  # noqa: E402  (a package once it is loaded)

RECIPE = load_recipe(REPO / "recipes" / "redux")
TINY = {
    "window": 64, "hop": 32, "width": 0.25, "film": 16, "cardinality": 8, "spec_augment": 4, "tagger_channels": [8, 16],
    "tagger_convs": 1, "m2d_width": 24, "m2d_depth": 2, "m2d_heads": 2, "m2d_finetuned": 1,
}  # fmt: skip
SHORT = {"epochs": 1, "steps": 2, "batch": 2, "valid_batches": 1, "lr": 0.01, "patience": 1}
STAGES = ("tagger", "separator", "augmented")
QUIET = PlainProgress(open(os.devnull, "w"))  # noqa: SIM115
PLAIN = {"strategy": "none"}
ORACLE = {"strategy": "none", "oracle_labels": True}


def tiny(task: TaskInfo = FOA, inner=None, stages=SHORT, **options):
    config, _ = RECIPE.resolve("small", {"separator": "resunetk", **options})
    settings = {**config, "train": dict.fromkeys(STAGES, stages), "sizes": TINY}
    method = build(RECIPE, settings, task, inner)
    for network in method._networks().values():
        network.eval()
    return method


def fitted(place: Path, task: TaskInfo = FOA, run: str = "run", **options):
    method, told = tiny(task, **options), training(place, task, run)
    return method, method.fit(told), told


class Halves:
    """An inner method: two outputs, each half of the mixture's first channel, of which nobody says what they are."""

    def separate(self, mixtures):
        return [Estimate(torch.stack([each.audio[0], each.audio[0]]) / 2) for each in mixtures]


def same(one: list[Estimate], other: list[Estimate]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(a.labels == b.labels and torch.allclose(a.sources, b.sources, atol=1e-6) for a, b in pairs)


# which options go together


@pytest.mark.parametrize(
    ("options", "inner", "said"),
    [
        ({"separator": "inner"}, None, "Add --inner RUN"),
        ({}, Halves(), "--separator is resunetk"),
        ({"oracle_labels": True}, None, "Add --strategy none"),
        ({**ORACLE, "separator": "inner"}, Halves(), "told no labels"),
        ({"tagger_checkpoint": "m2d.pth"}, None, "Choose --tagger m2d"),
        ({"duplicates": "keep"}, None, "Choose next_best or drop"),
        ({**PLAIN, "silence_threshold": 0.4}, None, "--silence-threshold 0.4: does nothing, since --strategy none"),
        ({**PLAIN, "silence_db": 30}, None, "--silence-db 30"),
        ({**PLAIN, "silence_probability": 0.6}, None, "--silence-probability 0.6"),
        ({**PLAIN, "residual": "mask_all"}, None, "--residual mask_all"),
        ({**PLAIN, "duplicates": "drop"}, None, "--duplicates drop"),
        ({**PLAIN, "max_rounds": 1}, None, "--max-rounds 1: .* or run --strategy redux alone"),
        ({**ORACLE, "tagger": "m2d"}, None, "--tagger m2d: does nothing, since --oracle-labels true"),
        ({**ORACLE, "threshold": 0.4}, None, "--threshold 0.4"),
        ({"separator": "inner", "spec_augment": False}, Halves(), "--spec-augment false: does nothing, since --separator inner"),
        ({"separator": "inner", "blocks_per_level": 2}, Halves(), "--blocks-per-level 2"),
    ],
)
def test_options_that_contradict_each_other_are_told_in_a_line(options, inner, said):
    with pytest.raises(UserError, match=said) as told:
        tiny(inner=inner, **options)
    assert "\n" not in str(told.value)


def test_labels_may_be_kept_twice_where_classes_repeat():
    assert tiny(replace(FOA, classes_repeat=True), duplicates="keep").rules.duplicates == "keep"


@pytest.mark.parametrize("table", [plan.OF_THE_STRATEGY, plan.OF_THE_TAGGER, plan.OF_THE_SEPARATOR])
def test_what_does_nothing_may_stand_as_the_recipe_has_it(table):
    for profile in RECIPE.profiles:
        values = RECIPE.resolve(profile)[1]
        assert {name: values[name] for name in table} == table


def test_silence_is_no_louder_than_the_mixture():
    with pytest.raises(UserError, match="silence_db"):
        RECIPE.resolve("small", {"silence_db": -1})


def test_m2d_without_its_file_is_told_before_anything_is_trained(tmp_path):
    with pytest.raises(UserError, match="give it --tagger-checkpoint FILE"):
        fitted(tmp_path, tagger="m2d")
    assert not list(tmp_path.rglob("*.safetensors"))


def test_table_2_has_a_run_for_every_row_of_the_paper():
    cells = RECIPE.grid("2")
    assert [(cell["separator"], cell["spec_augment"], cell["strategy"]) for cell in cells] == [
        ("resunet", False, "none"), ("resunetk", False, "none"), ("attentive_resunext", False, "none"),
        ("attentive_resunext", True, "none"), ("attentive_resunext", True, "redux"),
    ]  # fmt: skip
    assert len(RECIPE.grid("strategy")) == 8
    for cell in [*cells, *RECIPE.grid("strategy")]:
        build(RECIPE, RECIPE.resolve("quick", cell)[0], FOA)


def test_only_the_oracle_is_an_oracle():
    assert RECIPE.resolve("small", {})[0]["supervision"] == "isolated"
    config = RECIPE.resolve("small", ORACLE)[0]
    assert (config["supervision"], config["learns_from"]) == ("oracle", "isolated")


@pytest.mark.parametrize("task", ["s5", "s5_dcase", "universal_pairs", "esc_pairs"])
@pytest.mark.parametrize("profile", ["quick", "small", "paper"])
def test_every_profile_stands_on_every_task(task, profile):
    config, values = RECIPE.on(task).resolve(profile)
    assert config["task"]["name"] == task and values["strategy"] == "redux"
    assert set(vars(build(RECIPE, config, FOA).settings.sizes)) == set(TINY)


# training


def test_runs_that_only_answer_otherwise_have_the_same_networks_and_train_once(tmp_path):
    plain, cost, told = fitted(tmp_path, **PLAIN)
    other, again, unasked = fitted(
        tmp_path, run="other", threshold=0.3, duplicates="drop", residual="mask_all", max_rounds=2
    )
    assert list(cost) == ["tagger", "separator", "augmented"] and cost == again
    assert told.scenes.asked > 0 and unasked.scenes.asked == 0
    plain.save(tmp_path / "plain"), other.save(tmp_path / "other")
    for name in ("tagger", "separator"):
        one, two = (tmp_path / run / f"{name}.safetensors" for run in ("plain", "other"))
        assert one.read_bytes() == two.read_bytes()


def test_an_oracle_trains_the_same_separator_and_no_tagger(tmp_path):
    plain, _, _ = fitted(tmp_path, **PLAIN)
    oracle, cost, told = fitted(tmp_path, run="oracle", **ORACLE)
    assert oracle.tagger is None and list(cost) == ["separator", "augmented"] and told.scenes.asked == 0
    state = plain.separator.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in oracle.separator.state_dict().items())


def test_without_spec_augment_there_is_one_stage_and_it_is_the_same(tmp_path):
    fitted(tmp_path)
    _, cost, told = fitted(tmp_path, run="plain", spec_augment=False)
    assert list(cost) == ["tagger", "separator"] and told.scenes.asked == 0


@pytest.mark.parametrize("options", [{"separator": "resunext"}, {"blocks_per_level": 2}])
def test_another_separator_is_trained_anew_beside_the_same_tagger(tmp_path, options):
    fitted(tmp_path, spec_augment=False)
    _, _, told = fitted(tmp_path, run="other", spec_augment=False, **options)
    said = told.progress.out.getvalue()
    assert "tagger: trained before" in said and "separator: trained before" not in said and told.scenes.asked > 0


TAGGER, SEPARATOR, ALL = {"tagger"}, {"separator", "augmented"}, set(STAGES)


@pytest.fixture
def keys(tmp_path, monkeypatch):
    """Where `fit` would keep what it has taught, stage by stage; nothing is taught."""
    found = {}

    def taught_once(stage, network, told, training, learn):
        found[stage] = kept._place(stage, told, training)
        return {"mixtures_right": 0.0, "singles_right": 0.0}

    for module in (separating, taggers):
        monkeypatch.setattr(module, "taught_once", taught_once)

    def of(task=FOA, options={}, sizes={}, train={}, device="cpu"):  # noqa: B006
        config, _ = RECIPE.resolve("small", {"separator": "resunetk", **options})
        stages = {stage: {**SHORT, **train.get(stage, {})} for stage in STAGES}
        method = build(RECIPE, {**config, "train": stages, "sizes": {**TINY, **sizes}}, task)
        for network in method._networks().values():
            network.to(device)
        method.fit(training(tmp_path, FOA))
        return dict(found)

    return of


@pytest.mark.parametrize(
    ("changed", "stages"),
    [
        ({}, set()),
        *(({"train": {stage: {name: value}}}, SEPARATOR if stage == "separator" else {stage})
          for stage in STAGES for name, value in (("lr", 0.02), ("precision", "bf16"), ("steps", 3))),
        ({"task": replace(FOA, classes=NAMES[::-1])}, ALL), ({"task": replace(FOA, sample_rate_hz=16000)}, ALL),
        ({"task": replace(FOA, max_sources=3)}, SEPARATOR), ({"task": replace(FOA, n_channels=1)}, SEPARATOR),
        ({"sizes": {"spec_augment": 6}}, {"augmented"}), ({"options": {"separator": "resunet"}}, SEPARATOR),
        ({"options": {"blocks_per_level": 2}}, SEPARATOR),
        *(({"sizes": size}, SEPARATOR)
          for size in ({"window": 128}, {"hop": 16}, {"width": 0.5}, {"film": 8}, {"cardinality": 4})),
        ({"sizes": {"tagger_channels": [8, 24]}}, TAGGER), ({"sizes": {"tagger_convs": 2}}, TAGGER),
        ({"device": "meta"}, ALL),  # a device that has no results, but a name
    ],
)  # fmt: skip
def test_networks_are_kept_apart_by_all_that_decides_what_they_are(keys, changed, stages):
    plain, other = keys(), keys(**changed)
    assert {stage for stage in STAGES if plain[stage] != other[stage]} == stages


@pytest.mark.parametrize(("name", "value"), [("N_MELS", 40), ("N_FFT", 1024), ("HOP", 128), ("EPSILON", 1e-5)])
def test_a_tagger_is_kept_apart_by_how_it_hears(keys, monkeypatch, name, value):
    plain = keys()
    monkeypatch.setattr(log_mel, name, value)
    other = keys()
    assert {stage for stage in STAGES if plain[stage] != other[stage]} == TAGGER


def test_networks_say_how_large_they_are(tmp_path):
    method, _, told = fitted(tmp_path, spec_augment=False)
    for name, kind in (("tagger", "cnn"), ("separator", "resunetk")):
        n_parameters = sum(each.numel() for each in getattr(method, name).parameters())
        assert f"{name} {kind}: {n_parameters:,} parameters\n" in told.progress.out.getvalue()


# answering


@pytest.mark.parametrize("task", [FOA, MONO, replace(FOA, min_sources=0), replace(FOA, min_sources=2)])
@pytest.mark.parametrize("options", [{}, PLAIN])
def test_answers_have_a_label_and_a_probability_for_each_source_and_say_how_they_came_about(task, options):
    given = [scene.mixture for scene in scenes(task, 6)]
    for found in tiny(task, **options).separate(given):
        assert found.sources.shape == (len(found.labels), 8000) and found.confidences.shape == (len(found.labels),)
        assert task.min_sources <= len(found.labels) <= 2 and set(found.labels) <= set(NAMES)
        assert len(set(found.labels)) == len(found.labels)
        cases = [each["case"] for each in found.decisions]
        assert cases == ["none"] if options else set(cases) <= {"I", "II", "III", "IV"}
        assert found.decisions[-1]["labels"] == list(found.labels)


@pytest.mark.parametrize("options", [{}, PLAIN, ORACLE])
def test_scenes_are_answered_together_as_they_are_one_by_one(options):
    method, given = tiny(**options), scenes(FOA, 7)
    shown = given if options is ORACLE else [scene.mixture for scene in given]
    assert same(method.separate(shown), [method.separate([each])[0] for each in shown])


@pytest.mark.parametrize("options", [{}, PLAIN, ORACLE])
def test_it_answers_after_training_as_it_does_once_loaded(options):
    """Batches of a network that learns are normalised by themselves; answers never are."""
    method, given = tiny(**options), scenes(FOA, 5)
    shown = given if options is ORACLE else [scene.mixture for scene in given]
    wanted = method.separate(shown)
    for network in method._networks().values():
        network.train()
    assert same(method.separate(shown), wanted)


def test_an_oracle_separates_by_the_true_labels():
    method, given = tiny(**ORACLE), scenes(replace(FOA, min_sources=0), 8)
    found = method.separate(given)
    assert {len(each.labels) for each in found} == {0, 1, 2}
    for scene, estimate in zip(given, found):
        assert estimate.labels == tuple(source.label for source in scene.sources)
        assert estimate.confidences is None and estimate.decisions is None
        labels = torch.tensor([[NAMES.index(label) for label in estimate.labels]], dtype=torch.long)
        if len(estimate.labels):
            with torch.no_grad():
                alone = method.separator(scene.mixture.audio[None], labels)[0]
            torch.testing.assert_close(estimate.sources, alone, atol=1e-6, rtol=0)


def test_without_the_strategy_the_answer_is_the_separator_s_by_the_tagger_s_labels():
    method, (scene,) = tiny(**PLAIN), scenes(replace(FOA, min_sources=2), 1)
    probability = method._tags(scene.mixture.audio[:1])[0]
    (found,) = method.separate([scene.mixture])
    order = [NAMES.index(label) for label in found.labels]
    assert probability[order].tolist() == sorted(probability[order].tolist(), reverse=True)
    torch.testing.assert_close(found.confidences, probability[order])
    torch.testing.assert_close(found.sources, method._waveforms(scene.mixture.audio[None], [order])[0])


def test_many_are_tagged_and_separated_a_few_at_a_time():
    method, audio = tiny(), torch.stack([scene.mixture.audio for scene in scenes(FOA, 5)])
    sizes = []
    method.separator.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    found = method._waveforms(audio, [[0], [1, 2], [], [2], [0, 1]])
    assert sizes == [2, 2, 1] and [len(each) for each in found] == [1, 2, 0, 1, 2]
    assert torch.equal(
        method._tags(audio[:, 0]).argmax(1), torch.cat([method._tags(each[:1]) for each in audio]).argmax(1)
    )


def test_a_wrapped_method_separates_and_the_tagger_names(tmp_path):
    method = tiny(inner=Halves(), separator="inner")
    cost = method.fit(training(tmp_path))
    assert list(cost) == ["tagger"] and method.separator is None
    scene = scenes(replace(FOA, min_sources=2), 1)[0]
    plain = tiny(inner=Halves(), separator="inner", **PLAIN).separate([scene.mixture])[0]
    assert all(torch.equal(source, scene.mixture.audio[0] / 2) for source in plain.sources[:2])


def test_what_is_kept_answers_as_what_was_trained(tmp_path):
    method, _, _ = fitted(tmp_path)
    method.save(tmp_path / "weights")
    other, given = tiny(), [scene.mixture for scene in scenes(FOA, 4)]
    assert not same(method.separate(given), other.separate(given))
    other.load(tmp_path / "weights")
    assert same(method.separate(given), other.separate(given))


def test_a_run_with_m2d_wants_its_file_no_more_once_it_is_trained(tmp_path):
    method = tiny(tagger="m2d", tagger_checkpoint=str(tmp_path / "gone.pth"))
    method.save(tmp_path / "weights")
    other = tiny(tagger="m2d", tagger_checkpoint=str(tmp_path / "gone.pth"))
    other.load(tmp_path / "weights")
    assert len(other.separate([scenes(FOA, 1)[0].mixture])) == 1


# from sounds to figures

CLASSES = ["bark", "horn", "siren"]
SETS = [
    f"task.classes=[{', '.join(CLASSES)}]", "task.sample_rate_hz=8000", "task.seconds=0.6", "task.scenes.valid=4",
    "task.scenes.test=6", "task.mixing.rooms.train=2", "task.mixing.rooms.valid=1", "task.mixing.rooms.test=1",
    "task.mixing.positions=5", "task.mixing.room_m=[3.0, 4.0]", "task.mixing.rt60_s=[0.2, 0.2]",
    "task.mixing.interference_classes=[wind]", *(f"train.{stage}.{name}={value}" for stage in STAGES
                                                 for name, value in {**SHORT, "warmup": 0}.items()),
    *(f"sizes.{name}={value}" for name, value in TINY.items()),
]  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEPBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tones(tmp_path_factory.mktemp("sounds"), [*CLASSES, "wind"], 8000)


def go(sounds: Path, results: Path, recipe=RECIPE, inner=None, sets=SETS, **options) -> Path:
    config, values = recipe.resolve("quick", options, sets, corpus="class_folders", inner=inner)
    return run_one(config, values, recipe, {"class_folders": str(sounds)}, results, False, "cpu", QUIET)


def test_a_run_keeps_its_decisions_and_whose_networks_it_has(sounds, tmp_path):
    runs = [go(sounds, tmp_path, strategy=strategy, separator="resunetk") for strategy in ("redux", "none")]
    (with_it,), (without,) = (read_runs(run) for run in runs)
    assert {file.stem for file in (runs[0] / "weights").iterdir()} == {"tagger", "separator"}
    assert (with_it.state, without.state) == ("finished", "finished")
    assert with_it.provenance["scenes_hash"] == without.provenance["scenes_hash"]
    for run, allowed in zip(runs, ({"I", "II", "III", "IV"}, {"none"})):
        decided = read_decisions(run)
        assert len(decided) == 6 and {each["case"] for rounds in decided.values() for each in rounds} <= allowed
    weights = [sorted((run / "weights").iterdir()) for run in runs]
    assert [file.read_bytes() for file in weights[0]] == [file.read_bytes() for file in weights[1]]
    assert "label_set_accuracy" in with_it.metrics["test"] and with_it.cost["macs_per_s"] > 0


def test_an_oracle_run_is_known_as_one(sounds, tmp_path):
    (record,) = read_runs(go(sounds, tmp_path, separator="resunetk", **ORACLE))
    assert record.config["supervision"] == "oracle" and "tagger" not in record.cost
    assert record.metrics["test"]["label_set_accuracy"]["all"]["mean"] == 1.0


@pytest.mark.slow
def test_another_recipe_s_run_is_wrapped_on_a_task_that_both_have(sounds, tmp_path):
    itdcnpp = load_recipe(REPO / "recipes" / "itdcnpp")
    common = [each for each in SETS if each.startswith("task.") and "mixing" not in each]
    brief = [f"train.separator.{each}" for each in ("epochs=1", "steps=2", "valid_batches=1")]
    small = [*common, *brief, "sizes.channels=8", "sizes.hidden=8", "sizes.blocks=2"]
    inner = go(sounds, tmp_path, itdcnpp, sets=small, network="tdcn", embeddings="none")
    sets = [each for each in SETS if "mixing" not in each]
    run = go(sounds, tmp_path, RECIPE.on("universal_pairs"), inner, sets, separator="inner")
    (record,) = read_runs(run)
    assert record.state == "finished" and {file.stem for file in (run / "weights").iterdir()} == {"tagger"}
    assert record.config["inner"]["recipe"] == "recipes/itdcnpp"
