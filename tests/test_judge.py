from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
import torch

from sepbench.errors import UserError
from sepbench.judge import judge
from sepbench.metrics import METRICS
from sepbench.metrics.capi_sdri import capi_sdri
from sepbench.metrics.si_sdr import si_sdr
from sepbench.metrics.snr import snr
from sepbench.scene import Activity, Estimate, Mixture, Scene, Source

CLASSES = ("bell", "dog", "siren")
RATE = 1000
AUDIO = torch.from_numpy(np.random.default_rng(0).standard_normal((4, RATE))).float()
ERROR = torch.from_numpy(np.random.default_rng(1).standard_normal((4, RATE))).float()


def make_scene(*labels, silent=()):
    sources = tuple(
        Source(AUDIO[i] * (i not in silent), label, ((0.1 * i, 0.1 * i + 0.25),)) for i, label in enumerate(labels)
    )
    audio = sum((source.audio for source in sources), torch.zeros(RATE)) + 0.01 * ERROR[3]
    return Scene(Mixture(audio[None], RATE, "scene-1"), sources)


QUICK = tuple(name for name in METRICS if not name.startswith("bss_"))


def judged(scene, estimate, metrics=QUICK, **settings):
    """Rows by metric: {metric: {(source, label): value}}."""
    figures = defaultdict(dict)
    for row in judge(scene, estimate, CLASSES, metrics, "a-run", "test", **settings):
        assert (row.run, row.split, row.scene, row.weight) == ("a-run", "test", "scene-1", 1.0)
        assert np.isfinite(row.value)
        assert (row.source, row.label) not in figures[row.metric] or row.metric == "extra"
        figures[row.metric][row.source, row.label] = row.value
    return dict(figures)


def test_labelled_estimates_answer_by_separation_and_also_by_label():
    scene = make_scene("dog", "bell")
    answers = torch.stack([AUDIO[0], AUDIO[1]]) + 0.1 * ERROR[:2]
    swapped = judged(scene, Estimate(answers, ("bell", "dog")))
    right = si_sdr(estimate=answers[0], reference=AUDIO[0]).item()
    wrong = si_sdr(estimate=answers[1], reference=AUDIO[0]).item()
    assert swapped["si_sdr"][0, "dog"] == pytest.approx(right) and right > 15
    assert swapped["si_sdr_by_label"][0, "dog"] == pytest.approx(wrong) and wrong < 0
    assert swapped["paired_with"] == {(0, "dog"): 0, (1, "bell"): 1}
    assert swapped["paired_by_label"] == {(0, "dog"): 1, (1, "bell"): 0}
    assert not {"missed", "missed_by_label", "extra"} & swapped.keys()


def test_both_pairings_are_one_where_the_labels_are_right():
    figures = judged(make_scene("dog", "bell", "dog"), Estimate(AUDIO[[2, 1, 0]] + ERROR[:3], ("dog", "bell", "dog")))
    for name in ("si_sdr", "si_sdri"):
        assert figures[f"{name}_by_label"] == figures[name]
    assert figures["paired_by_label"] == figures["paired_with"]


def test_a_pairing_by_separation_of_more_estimates_than_labels_can_cross_classes():
    scene = make_scene("dog", "bell")
    figures = judged(scene, Estimate(torch.stack([ERROR[0], AUDIO[0], AUDIO[1]]), ("dog", "siren", "bell")))
    assert figures["paired_with"] == {(0, "dog"): 1, (1, "bell"): 2}
    assert figures["paired_by_label"] == {(0, "dog"): 0, (1, "bell"): 2}
    assert figures["extra"] == {(-1, "dog"): 1.0}


def test_blind_estimates_answer_by_separation_and_have_no_label_sets():
    scene = make_scene("dog", "bell")
    figures = judged(scene, Estimate(torch.stack([AUDIO[1], AUDIO[0]])))
    assert figures["si_sdr"] == {(0, "dog"): 100.0, (1, "bell"): 100.0}
    without = {"ca_sdri", "capi_sdri", "label_set_accuracy", "frame_tp", "source_tp", "class_accuracy"}
    assert not (without | {"si_sdr_by_label", "paired_by_label", "missed_by_label"}) & figures.keys()


def test_sources_without_labels_are_judged_by_separation_alone():
    scene = make_scene("", "")
    figures = judged(scene, Estimate(AUDIO[[1, 0]], ("dog", "bell")))
    assert figures["si_sdr"] == {(0, ""): 100.0, (1, ""): 100.0}
    assert not {"ca_sdri", "label_set_accuracy", "source_tp", "class_accuracy", "si_sdr_by_label"} & figures.keys()


def test_classes_are_right_where_the_paired_estimate_bears_the_label():
    figures = judged(make_scene("dog", "bell", "siren"), Estimate(AUDIO[[1, 0]], ("bell", "siren")), minimum_active=2)
    assert figures["class_accuracy"] == {(0, "dog"): 0.0, (1, "bell"): 1.0, (2, "siren"): 0.0}
    assert figures["class_accuracy_both"] == {(-1, ""): 0.0}
    right = judged(make_scene("dog", "bell"), Estimate(AUDIO[[1, 0]], ("bell", "dog")))
    assert set(right["class_accuracy"].values()) == set(right["class_accuracy_both"].values()) == {1.0}


FACTS = {"n_sources", "overlap"}
CLIP = {"clip_tp", "clip_fp", "clip_fn", "clip_tn"}
NO_SOUND = {*FACTS, *CLIP, "si_sdr_mixture", "class_accuracy", "class_accuracy_both", "label_set_accuracy", "labels_alone",
            "source_tp", "source_fp", "source_fn"}  # all that an answer of labels alone may have


def test_labels_alone_are_right_by_their_set_and_have_no_figure_of_separation():
    figures = judged(make_scene("dog", "bell"), Estimate(None, ("siren", "dog")))
    assert figures.keys() == NO_SOUND
    assert figures["class_accuracy"] == {(0, "dog"): 1.0, (1, "bell"): 0.0}
    assert figures["class_accuracy_both"] == {(-1, ""): 0.0} and figures["labels_alone"] == {(-1, ""): 1.0}
    assert figures["source_tp"][-1, "dog"] == figures["source_fp"][-1, "siren"] == figures["source_fn"][-1, "bell"] == 1
    right = judged(make_scene("dog", "bell"), Estimate(None, ("bell", "dog")))
    assert set(right["class_accuracy"].values()) == set(right["class_accuracy_both"].values()) == {1.0}
    assert right["label_set_accuracy"] == {(-1, ""): 1.0}


def test_labels_alone_may_be_more_or_fewer_than_the_sources():
    scene = make_scene("dog", "bell")
    assert judged(scene, Estimate(None, ("dog",)))["class_accuracy"] == {(0, "dog"): 1.0, (1, "bell"): 0.0}
    assert judged(scene, Estimate(None, CLASSES))["class_accuracy_both"] == {(-1, ""): 1.0}
    nothing = judged(scene, Estimate(None, ()))
    assert set(nothing["class_accuracy"].values()) == {0.0} and "missed" not in nothing


def test_an_answer_without_sounds_or_labels_still_says_when_it_hears_what():
    estimate = Estimate(None, activity=Activity(torch.ones(3, 10), 0.1, 0.0))
    figures = judged(make_scene("dog", "bell"), estimate)
    assert figures.keys() == {"si_sdr_mixture", *FACTS, *(f"{level}_{outcome}" for level in ("frame", "clip")
                                                  for outcome in ("tp", "fp", "fn", "tn"))}


def test_no_sound_at_all_is_not_the_same_as_no_source_found():
    found = judged(make_scene("dog", "bell"), Estimate(AUDIO[:0], ()))
    assert len(found["missed"]) == 2 and found["under_separation"] == {(-1, ""): 1.0} and "labels_alone" not in found


def test_what_guessing_scores_stands_beside_the_accuracy_where_the_classes_are_known():
    scene, sounds = make_scene("dog", "bell"), Estimate(AUDIO[:2], ("dog", "dog"))
    by_separation = judged(scene, sounds, n_classes=5)
    assert by_separation["class_accuracy_chance"] == {(0, "dog"): 0.2, (1, "bell"): 0.2}
    by_label_set = judged(scene, Estimate(None, ("dog", "siren")), n_classes=5)
    assert by_label_set["class_accuracy_chance"] == {(0, "dog"): 0.4, (1, "bell"): 0.4}
    assert "class_accuracy_chance" not in judged(scene, sounds)
    assert "class_accuracy_chance" not in judged(scene, sounds, ["class_accuracy_both", "si_sdr"], n_classes=5)


def test_sources_are_counted_by_label():
    figures = judged(make_scene("dog", "dog", "bell"), Estimate(AUDIO[:3], ("dog", "siren", "siren")))
    assert figures["source_tp"] == {(-1, "dog"): 1, (-1, "bell"): 0, (-1, "siren"): 0}
    assert figures["source_fn"] == {(-1, "dog"): 1, (-1, "bell"): 1, (-1, "siren"): 0}
    assert figures["source_fp"] == {(-1, "dog"): 0, (-1, "bell"): 0, (-1, "siren"): 2}


@pytest.mark.parametrize(("n", "rate"), [(1, "under_separation"), (2, "equal_separation"), (3, "over_separation")])
def test_a_scene_is_under_equally_or_over_separated(n, rate):
    estimate = torch.cat([AUDIO[:n], 0.01 * AUDIO[:1]])  # one that is 40 dB below the quietest source is not active
    figures = judged(make_scene("dog", "bell"), Estimate(estimate))
    rates = ("under_separation", "equal_separation", "over_separation")
    assert {name: figures[name][-1, ""] for name in rates} == {name: float(name == rate) for name in rates}


def test_bss_eval_is_there_where_it_is_asked_for():
    time_s = 3
    sounds = torch.from_numpy(np.random.default_rng(3).standard_normal((3, time_s * RATE)))
    sources = tuple(Source(sounds[i], label, ((0.0, 3.0),)) for i, label in enumerate(("dog", "bell")))
    scene = Scene(Mixture(sounds[:2].sum(0)[None], RATE, "scene-1"), sources)
    estimate = Estimate(torch.stack([sounds[1] + 0.1 * sounds[2], sounds[0] + 0.1 * sounds[1]]))
    figures = judged(scene, estimate, ["bss_eval"])
    assert {"bss_sdr", "bss_isr", "bss_sir", "bss_sar"} <= figures.keys()
    assert figures["bss_sir"][1, "bell"] > 25 > figures["bss_sir"][0, "dog"] > 15
    assert "si_sdr" not in figures and "bss_sdr" not in judged(scene, estimate)


def test_improvement_is_the_figure_less_that_of_the_mixture():
    figures = judged(make_scene("dog", "bell"), Estimate(AUDIO[:2] + ERROR[:2], ("dog", "bell")))
    for source in figures["si_sdr"]:
        difference = figures["si_sdr"][source] - figures["si_sdr_mixture"][source]
        assert figures["si_sdri"][source] == pytest.approx(difference)
    assert figures["snr"].keys() == figures["snri"].keys() == figures["si_sdr"].keys()


@pytest.mark.parametrize("silent", [(), (0,)])
def test_improvement_is_over_the_mixture_against_the_same_source_where_earlier_ones_are_missed(silent):
    scene = make_scene("bell", "dog", "siren", silent=silent)
    answer = AUDIO[2] + 0.1 * ERROR[2]
    figures = judged(scene, Estimate(answer[None], ("siren",)))
    last, mixture = (2, "siren"), scene.mixture.audio[0]
    before = figures["si_sdr_mixture"]
    assert len({round(value, 2) for value in before.values()}) == len(before) == 3 - len(silent)  # each its own
    for name in ("si_sdr", "si_sdr_by_label"):
        improvement = figures[name.replace("si_sdr", "si_sdri")]
        assert improvement == {last: pytest.approx(figures[name][last] - before[last], abs=1e-6)}
    snr_mixture = snr(estimate=mixture, reference=AUDIO[2]).item()
    assert figures["snri"] == {last: pytest.approx(figures["snr"][last] - snr_mixture, abs=1e-6)}
    assert figures["snr"] == {last: pytest.approx(snr(estimate=answer, reference=AUDIO[2]).item())}


def test_the_mixture_as_estimate_improves_nothing():
    scene = make_scene("dog", "bell")
    estimate = Estimate(scene.mixture.audio.expand(2, -1), ("dog", "bell"))
    figures = judged(scene, estimate)
    assert list(figures["si_sdri"].values()) == list(figures["snri"].values()) == [0.0, 0.0]
    assert figures["capi_sdri"][-1, ""] == pytest.approx(0.0)


def test_missed_references_and_extra_estimates_are_counted_and_not_scored():
    figures = judged(make_scene("dog", "bell"), Estimate(AUDIO[[0]], ("siren",)))
    assert figures["si_sdr"] == {(0, "dog"): 100.0}
    assert figures["missed"] == {(1, "bell"): 1.0}
    assert figures["missed_by_label"] == {(0, "dog"): 1.0, (1, "bell"): 1.0}
    assert "si_sdr_by_label" not in figures and "extra" not in figures
    blind = judged(make_scene("dog", "bell"), Estimate(AUDIO[:3]))
    assert blind["extra"] == {(-1, ""): 1.0}
    assert judged(make_scene("dog", "bell"), Estimate(AUDIO[:0], ()))["missed"].keys() == {(0, "dog"), (1, "bell")}


def test_the_mixture_is_measured_against_every_active_reference_answered_or_not():
    scene = make_scene("dog", "bell")
    whole, half = (judged(scene, Estimate(AUDIO[:n] + ERROR[:n]), ["si_sdri", "si_sdr_mixture"]) for n in (2, 1))
    assert whole["si_sdr_mixture"] == pytest.approx(half["si_sdr_mixture"], abs=1e-9) and len(half["si_sdri"]) == 1


def test_a_silent_estimate_is_scored_where_its_class_sounds_and_no_extra_where_not():
    silence = torch.zeros(3, RATE)
    figures = judged(make_scene("dog", "bell"), Estimate(silence, CLASSES))
    assert list(figures["si_sdr"].values()) == [-100.0, -100.0]
    assert "extra" not in figures and "missed" not in figures


def test_repeated_labels_are_paired_inside_their_class():
    scene = make_scene("dog", "bell", "dog")
    estimate = Estimate(AUDIO[[2, 1, 0]], ("dog", "bell", "dog"))
    figures = judged(scene, estimate, ["si_sdr", "capi_sdri"])
    assert list(figures["si_sdr"].values()) == [100.0] * 3
    expected = capi_sdri(estimate=estimate.sources, reference=AUDIO[:3], mixture=scene.mixture.audio[0],
                         estimate_labels=estimate.labels, reference_labels=["dog", "bell", "dog"])
    assert figures["capi_sdri"][-1, ""] == pytest.approx(expected)


def test_scenes_with_too_few_active_classes_are_not_scored_for_separation():
    for scene in (make_scene("dog"), make_scene("dog", "dog"), make_scene("dog", "bell", silent=[1])):
        figures = judged(scene, Estimate(AUDIO[:1], ("dog",)), ["si_sdr", "ca_sdri", "capi_sdri", "label_set_accuracy"])
        assert figures.keys() == {"label_set_accuracy", *FACTS}
    assert judged(make_scene("dog"), Estimate(AUDIO[:1], ("dog",)), ["si_sdr"], minimum_active=1)["si_sdr"]


def test_a_scene_without_sources_still_says_what_was_invented():
    figures = judged(make_scene(), Estimate(AUDIO[:1], ("dog",)), ["ca_sdri", "source_f_measure"], minimum_active=1)
    assert figures["ca_sdri"] == {(-1, ""): 0.0} and figures["source_fp"] == {(-1, "dog"): 1.0}
    assert not FACTS & figures.keys()


def test_every_scene_says_how_many_sources_sound_and_how_much_they_overlap():
    scene = make_scene("dog", "bell", "dog", silent=[2])  # 0 to 0.25 s and 0.1 to 0.35 s
    figures = judged(scene, Estimate(AUDIO[:1]), [])
    assert figures["n_sources"] == {(-1, ""): 2.0} and figures["overlap"][-1, ""] == pytest.approx(0.15 / 0.35)
    untimed = Scene(scene.mixture, tuple(Source(each.audio, each.label, ()) for each in scene.sources))
    assert judged(untimed, Estimate(AUDIO[:1]), []) == {"n_sources": {(-1, ""): 2.0}}


def test_labels_without_activity_are_clip_labels():
    scene = make_scene("dog", "bell")
    said = judged(scene, Estimate(AUDIO[:3], ("dog", "dog", "siren")), ["f_measure_clip", "f_measure_frame"])
    counts = {outcome: {label for (_, label), n in said[f"clip_{outcome}"].items() if n} for outcome in ("tp", "fp", "fn", "tn")}
    assert counts == {"tp": {"dog"}, "fp": {"siren"}, "fn": {"bell"}, "tn": set()} and "frame_tp" not in said
    heard = Activity(torch.tensor([[0.9], [0.1], [0.1]]), 1.0, 0.0)  # bell, dog, siren
    both = judged(scene, Estimate(AUDIO[:2], ("dog", "siren"), activity=heard), ["f_measure_clip"])
    assert both["clip_tp"] == {(-1, "bell"): 1.0, (-1, "dog"): 0.0, (-1, "siren"): 0.0}  # activity has the word
    every = Estimate(AUDIO[:3], CLASSES)
    assert "clip_tp" not in judged(scene, every, ["f_measure_clip"], one_per_class=True)
    assert sum(judged(scene, every, ["f_measure_clip"])["clip_fp"].values()) == 1


def test_a_silent_reference_that_should_sound_is_undefined_and_an_absent_one_is_nothing():
    scene = make_scene("dog", "bell", "siren", silent=[2])
    estimate = Estimate(AUDIO[:3], ("dog", "bell", "siren"))
    figures = judged(scene, estimate, ["si_sdri"])
    assert figures["si_sdri"].keys() == {(0, "dog"), (1, "bell")}
    assert figures["si_sdri_undefined"] == {(2, "siren"): 1.0}
    absent = Scene(scene.mixture, (*scene.sources[:2], Source(torch.zeros(RATE), "siren", ())))
    assert "si_sdri_undefined" not in judged(absent, estimate, ["si_sdri"])


def test_an_estimate_of_few_digits_takes_none_from_the_mixture():
    scene = make_scene("dog", "bell")
    whole, half = (judged(scene, Estimate(AUDIO[:2].to(dtype)), ["si_sdr_mixture"]) for dtype in (torch.float32, torch.float16))
    assert whole["si_sdr_mixture"] == pytest.approx(half["si_sdr_mixture"], abs=1e-9)


def test_an_estimate_upside_down_is_scored_and_flagged():
    signs = torch.tensor([[-1.0], [1.0]])
    figures = judged(make_scene("dog", "bell"), Estimate(AUDIO[:2] * signs, ("dog", "bell")))
    assert list(figures["si_sdr"].values()) == [100.0, 100.0]
    assert figures["sign_flipped"] == {(0, "dog"): 1.0}


def test_repeated_labels_leave_ca_sdri_undefined():
    figures = judged(make_scene("dog", "bell"), Estimate(AUDIO[:2], ("dog", "dog")))
    assert figures["ca_sdri_undefined"] == {(-1, ""): 1.0} and "ca_sdri" not in figures and "capi_sdri" in figures


def test_an_empty_scene_with_an_empty_answer_is_undefined_and_right():
    figures = judged(make_scene(), Estimate(torch.zeros(0, RATE), ()))
    assert figures["ca_sdri_undefined"] == {(-1, ""): 1.0}
    assert figures["label_set_accuracy"] == {(-1, ""): 1.0}


def test_detection_is_counted_on_the_grid_of_the_estimate():
    scene = make_scene("dog", "siren")  # dog 0 to 0.25 s, siren 0.1 to 0.35 s
    probability = torch.zeros(3, 8)  # frames of 0.1 s from -0.05 s: dog sounds in 0 to 2, siren in 1 to 3
    probability[1, 1:5] = 0.5
    probability[0, 7] = 0.49
    estimate = Estimate(AUDIO[:1], activity=Activity(probability, 0.1, -0.05))
    figures = judged(scene, estimate, ["f_measure_frame", "f_measure_clip"])
    assert [figures[f"frame_{outcome}"][-1, "dog"] for outcome in ("tp", "fp", "fn", "tn")] == [2, 2, 1, 3]
    assert [figures[f"frame_{outcome}"][-1, "siren"] for outcome in ("tp", "fp", "fn", "tn")] == [0, 0, 3, 5]
    assert figures["clip_tp"] == {(-1, "bell"): 0, (-1, "dog"): 1, (-1, "siren"): 0}
    assert figures["clip_fn"][-1, "siren"] == figures["clip_tn"][-1, "bell"] == 1


def test_single_class_scenes_still_count_for_detection():
    estimate = Estimate(AUDIO[:1], activity=Activity(torch.ones(3, 10), 0.1, 0.0))
    assert judged(make_scene("dog"), estimate)["clip_fp"] == {(-1, "bell"): 1, (-1, "dog"): 0, (-1, "siren"): 1}


@pytest.mark.parametrize(
    ("estimate", "metrics", "said"),
    [
        (Estimate(AUDIO[:2, :50]), ["si_sdr"], r"scene-1: estimate \(source, time\) is 2x50 and mixture .* is 1x1000"),
        (Estimate(AUDIO[:2] / 0), ["si_sdr"], "run a-run, scene scene-1: estimate: source 0, sample 0 is"),
        (Estimate(AUDIO[:2], ("dog",)), ["si_sdr"], "1 labels for 2 sources"),
        (Estimate(None, ("dogs",)), ["si_sdr"], "'dogs' is no class of the task. Did you mean 'dog'?"),
        (Estimate(AUDIO[:1], ("dogs",)), ["si_sdr"], "'dogs' is no class of the task. Did you mean 'dog'?"),
        (Estimate(AUDIO[:2]), ["si_sdri", "sdr"], "task.metrics: there is no metric 'sdr'.* Did you mean"),
        (Estimate(AUDIO[:1], activity=Activity(torch.ones(2, 9), 0.1, 0.0)), ["f_measure_clip"], "has 3 classes"),
    ],
)
def test_an_impossible_answer_is_one_line_to_the_user(estimate, metrics, said):
    with pytest.raises(UserError, match=said) as caught:
        judged(make_scene("dog", "bell"), estimate, metrics)
    assert "\n" not in str(caught.value)
