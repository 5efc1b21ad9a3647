from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
import torch

from sepbench.errors import UserError
from sepbench.evaluate import evaluate
from sepbench.metrics import METRICS
from sepbench.metrics.capi_sdri import capi_sdri
from sepbench.metrics.si_sdr import si_sdr
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


def judge(scene, estimate, metrics=tuple(METRICS), **settings):
    """Rows by metric: {metric: {(source, label): value}}."""
    figures = defaultdict(dict)
    for row in evaluate(scene, estimate, CLASSES, metrics, "a-run", "test", **settings):
        assert (row.run, row.split, row.scene, row.weight) == ("a-run", "test", "scene-1", 1.0)
        assert np.isfinite(row.value)
        assert (row.source, row.label) not in figures[row.metric] or row.metric == "extra"
        figures[row.metric][row.source, row.label] = row.value
    return dict(figures)


def test_labelled_estimates_answer_the_reference_of_their_label():
    scene = make_scene("dog", "bell")
    answers = torch.stack([AUDIO[0], AUDIO[1]]) + 0.1 * ERROR[:2]
    swapped = judge(scene, Estimate(answers, ("bell", "dog")))
    expected = si_sdr(estimate=answers[1], reference=AUDIO[0]).item()
    assert swapped["si_sdr"][0, "dog"] == pytest.approx(expected)
    assert expected < 0
    assert "missed" not in swapped and "extra" not in swapped


def test_blind_estimates_answer_by_separation_and_have_no_label_sets():
    scene = make_scene("dog", "bell")
    figures = judge(scene, Estimate(torch.stack([AUDIO[1], AUDIO[0]])))
    assert figures["si_sdr"] == {(0, "dog"): 100.0, (1, "bell"): 100.0}
    assert not {"ca_sdri", "capi_sdri", "label_set_accuracy", "frame_tp"} & figures.keys()


def test_improvement_is_the_figure_less_that_of_the_mixture():
    figures = judge(make_scene("dog", "bell"), Estimate(AUDIO[:2] + ERROR[:2], ("dog", "bell")))
    for source in figures["si_sdr"]:
        difference = figures["si_sdr"][source] - figures["si_sdr_mixture"][source]
        assert figures["si_sdri"][source] == pytest.approx(difference)
    assert figures["snr"].keys() == figures["snri"].keys() == figures["si_sdr"].keys()


def test_the_mixture_as_estimate_improves_nothing():
    scene = make_scene("dog", "bell")
    estimate = Estimate(scene.mixture.audio.expand(2, -1), ("dog", "bell"))
    figures = judge(scene, estimate)
    assert list(figures["si_sdri"].values()) == [0.0, 0.0]
    assert figures["capi_sdri"][-1, ""] == pytest.approx(0.0)


def test_missed_references_and_extra_estimates_are_counted_and_not_scored():
    figures = judge(make_scene("dog", "bell"), Estimate(AUDIO[[0, 2]], ("dog", "siren")))
    assert figures["si_sdr"] == {(0, "dog"): 100.0}
    assert figures["missed"] == {(1, "bell"): 1.0}
    assert figures["extra"] == {(-1, "siren"): 1.0}
    blind = judge(make_scene("dog", "bell"), Estimate(AUDIO[:3]))
    assert blind["extra"] == {(-1, ""): 1.0}
    assert judge(make_scene("dog", "bell"), Estimate(AUDIO[:0], ()))["missed"].keys() == {(0, "dog"), (1, "bell")}


def test_a_silent_estimate_is_scored_where_its_class_sounds_and_no_extra_where_not():
    silence = torch.zeros(3, RATE)
    figures = judge(make_scene("dog", "bell"), Estimate(silence, CLASSES))
    assert list(figures["si_sdr"].values()) == [-100.0, -100.0]
    assert "extra" not in figures and "missed" not in figures


def test_repeated_labels_are_paired_inside_their_class():
    scene = make_scene("dog", "bell", "dog")
    estimate = Estimate(AUDIO[[2, 1, 0]], ("dog", "bell", "dog"))
    figures = judge(scene, estimate, ["si_sdr", "capi_sdri"])
    assert list(figures["si_sdr"].values()) == [100.0] * 3
    expected = capi_sdri(estimate=estimate.sources, reference=AUDIO[:3], mixture=scene.mixture.audio[0],
                         estimate_labels=estimate.labels, reference_labels=["dog", "bell", "dog"])
    assert figures["capi_sdri"][-1, ""] == pytest.approx(expected)


def test_scenes_with_too_few_active_classes_are_not_scored_for_separation():
    for scene in (make_scene("dog"), make_scene("dog", "dog"), make_scene("dog", "bell", silent=[1])):
        figures = judge(scene, Estimate(AUDIO[:1], ("dog",)), ["si_sdr", "label_set_accuracy"])
        assert figures.keys() == {"label_set_accuracy"}
    assert judge(make_scene("dog"), Estimate(AUDIO[:1], ("dog",)), ["si_sdr"], minimum_active=1)["si_sdr"]


def test_a_silent_reference_that_should_sound_is_undefined_and_an_absent_one_is_nothing():
    scene = make_scene("dog", "bell", "siren", silent=[2])
    estimate = Estimate(AUDIO[:3], ("dog", "bell", "siren"))
    figures = judge(scene, estimate, ["si_sdri"])
    assert figures["si_sdri"].keys() == {(0, "dog"), (1, "bell")}
    assert figures["si_sdri_undefined"] == {(2, "siren"): 1.0}
    absent = Scene(scene.mixture, (*scene.sources[:2], Source(torch.zeros(RATE), "siren", ())))
    assert "si_sdri_undefined" not in judge(absent, estimate, ["si_sdri"])


def test_an_estimate_upside_down_is_scored_and_flagged():
    signs = torch.tensor([[-1.0], [1.0]])
    figures = judge(make_scene("dog", "bell"), Estimate(AUDIO[:2] * signs, ("dog", "bell")))
    assert list(figures["si_sdr"].values()) == [100.0, 100.0]
    assert figures["sign_flipped"] == {(0, "dog"): 1.0}


def test_an_empty_scene_with_an_empty_answer_is_undefined_and_right():
    figures = judge(make_scene(), Estimate(torch.zeros(0, RATE), ()))
    assert figures["ca_sdri_undefined"] == {(-1, ""): 1.0}
    assert figures["label_set_accuracy"] == {(-1, ""): 1.0}


def test_detection_is_counted_on_the_grid_of_the_estimate():
    scene = make_scene("dog", "siren")  # dog 0 to 0.25 s, siren 0.1 to 0.35 s
    probability = torch.zeros(3, 8)  # frames of 0.1 s from -0.05 s: dog sounds in 0 to 2, siren in 1 to 3
    probability[1, 1:5] = 0.5
    probability[0, 7] = 0.49
    estimate = Estimate(AUDIO[:1], activity=Activity(probability, 0.1, -0.05))
    figures = judge(scene, estimate, ["f_measure_frame", "f_measure_clip"])
    assert [figures[f"frame_{outcome}"][-1, "dog"] for outcome in ("tp", "fp", "fn", "tn")] == [2, 2, 1, 3]
    assert [figures[f"frame_{outcome}"][-1, "siren"] for outcome in ("tp", "fp", "fn", "tn")] == [0, 0, 3, 5]
    assert figures["clip_tp"] == {(-1, "bell"): 0, (-1, "dog"): 1, (-1, "siren"): 0}
    assert figures["clip_fn"][-1, "siren"] == figures["clip_tn"][-1, "bell"] == 1


def test_single_class_scenes_still_count_for_detection():
    estimate = Estimate(AUDIO[:1], activity=Activity(torch.ones(3, 10), 0.1, 0.0))
    assert judge(make_scene("dog"), estimate)["clip_fp"] == {(-1, "bell"): 1, (-1, "dog"): 0, (-1, "siren"): 1}


@pytest.mark.parametrize(
    ("estimate", "metrics", "said"),
    [
        (Estimate(AUDIO[:2, :50]), ["si_sdr"], r"scene-1: estimate \(source, time\) is 2x50 and mixture .* is 1x1000"),
        (Estimate(AUDIO[:2] / 0), ["si_sdr"], "run a-run, scene scene-1: estimate: source 0, sample 0 is"),
        (Estimate(AUDIO[:2], ("dog",)), ["si_sdr"], "1 labels for 2 sources"),
        (Estimate(AUDIO[:1], ("dogs",)), ["si_sdr"], "'dogs' is no class of the task. Did you mean 'dog'?"),
        (Estimate(AUDIO[:2], ("dog", "dog")), ["ca_sdri"], "use capi_sdri"),
        (Estimate(AUDIO[:2]), ["si_sdri", "sdr"], "metric 'sdr' is none of .* Did you mean"),
        (Estimate(AUDIO[:1], activity=Activity(torch.ones(2, 9), 0.1, 0.0)), ["f_measure_clip"], "has 3 classes"),
    ],
)
def test_an_impossible_answer_is_one_line_to_the_user(estimate, metrics, said):
    with pytest.raises(UserError, match=said) as caught:
        judge(make_scene("dog", "bell"), estimate, metrics)
    assert "\n" not in str(caught.value)
