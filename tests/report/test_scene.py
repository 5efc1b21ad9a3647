"""A scene as a picture: who stands beside whom, what is said of it, and what is not there."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from pictured import RATE_HZ, heard, pixels, scene_of, titles, tone

from sepbench.judge import judge
from sepbench.report.scene import keep_scene
from sepbench.report.scene_picture import _waveform
from sepbench.scene import Estimate, Mixture, Scene, Source

CLASSES = ("dog", "rain", "sea", "siren", "train")


def sounds(scene: Scene) -> torch.Tensor:
    return torch.stack([each.audio for each in scene.sources])


def masks_of(n: int, n_frames: int = 40) -> dict:
    return {"masks": torch.rand(n, 16, n_frames), "mask_hop_s": 2.0 / n_frames, "mask_axis": "learned filter"}


def below_the_mixture(drawn) -> list[str]:
    return titles(drawn["scene.png"])[1:]


# who stands beside whom


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_each_reference_stands_beside_the_estimate_that_the_judge_pairs_it_with(tmp_path, drawn, order):
    scene = scene_of(["dog", "rain", "sea"])
    estimate = Estimate(sounds(scene)[list(order)] + 0.1 * scene.mixture.audio)
    keep_scene(scene, estimate, tmp_path, CLASSES)
    rows = judge(scene, estimate, CLASSES, ["si_sdr", "si_sdri"], "r", "test")
    paired = {row.source: int(row.value) for row in rows if row.metric == "paired_with"}
    assert paired == {source: place for place, source in enumerate(order)}
    shown = below_the_mixture(drawn)[1::2]
    assert [text.split(":")[0] for text in shown] == [f"Estimate {paired[i] + 1}" for i in range(3)]
    figures = {(row.source, row.metric): row.value for row in rows}
    for i, text in enumerate(shown):
        wanted = f"SI-SDR {figures[i, 'si_sdr']:.1f} ({figures[i, 'si_sdri']:+.1f}) dB".replace("-", "\N{MINUS SIGN}")
        assert text.endswith(wanted.replace("SI\N{MINUS SIGN}SDR", "SI-SDR"))


def test_a_label_is_right_or_wrong_by_what_the_sound_answers(tmp_path, drawn):
    scene = scene_of(["dog", "rain"])
    keep_scene(scene, Estimate(sounds(scene).flip(0), ("dog", "rain")), tmp_path, CLASSES)
    assert [text.split(":")[0] for text in below_the_mixture(drawn)] == [
        "Reference dog", "Estimate rain, wrong", "Reference rain", "Estimate dog, wrong"
    ]  # fmt: skip
    keep_scene(scene, Estimate(sounds(scene).flip(0), ("rain", "siren")), tmp_path, CLASSES)
    assert [text.split(":")[0] for text in below_the_mixture(drawn)] == [
        "Reference dog", "Estimate siren, wrong", "Reference rain", "Estimate rain, right"
    ]  # fmt: skip


def test_a_method_with_an_output_per_class_is_shown_by_label(tmp_path, drawn):
    scene = scene_of(["rain", "siren"])
    answer = torch.stack([scene.sources[0].audio, scene.sources[1].audio, scene.mixture.audio[0]] + [torch.zeros(32000)] * 2)
    keep_scene(scene, Estimate(answer, CLASSES), tmp_path, CLASSES)  # what answers best stands under other labels
    assert [text.split(":")[0] for text in below_the_mixture(drawn)] == [
        "Reference rain", "Estimate rain", "Reference siren", "Estimate siren"
    ]  # fmt: skip


def test_an_estimate_too_many_answers_nothing_and_one_too_few_leaves_a_gap(tmp_path, drawn):
    scene = scene_of(["dog", "rain"])
    dog, rain = sounds(scene)
    keep_scene(scene, Estimate(torch.stack([tone(3000, 0, 2), rain, dog])), tmp_path, CLASSES)
    assert below_the_mixture(drawn)[-1] == "Estimate 1: answers no reference"
    keep_scene(scene, Estimate(rain[None] + 0.01 * dog), tmp_path, CLASSES)
    assert [text.split(":")[0] for text in below_the_mixture(drawn)] == ["Reference dog", "Reference rain", "Estimate 1"]


def test_a_silent_source_has_no_partner(tmp_path, drawn):
    scene = scene_of(["dog", "rain"])
    silent = Scene(scene.mixture, (scene.sources[0], Source(torch.zeros(32000), "sea", ())))
    keep_scene(silent, Estimate(torch.stack([tone(3000, 0, 2), scene.sources[0].audio])), tmp_path, CLASSES)
    assert [text.split(":")[0] for text in below_the_mixture(drawn)] == [
        "Reference dog", "Estimate 2", "Reference sea", "Estimate 1"
    ]  # fmt: skip
    assert below_the_mixture(drawn)[-1] == "Estimate 1: answers no reference"


# what is said above


def above(drawing) -> str:
    return drawing.get_suptitle()


def test_a_picture_says_whose_answer_to_which_scene_it_shows(tmp_path, drawn):
    scene = scene_of(["dog", "rain"])
    keep_scene(scene, Estimate(sounds(scene), ("dog", "sea"), trace=masks_of(2)), tmp_path, CLASSES, "Anything, split seen")
    assert above(drawn["scene.png"]) == above(drawn["masks.png"]) == "Anything, split seen, scene test-0"
    keep_scene(scene, Estimate(None, ("dog",)), tmp_path, CLASSES, "Namer")
    assert above(drawn["scene.png"]) == "Namer, scene test-0"


def test_it_says_by_what_right_and_wrong_are_told(tmp_path, drawn):
    scene = scene_of(["dog", "rain"])
    told = {}
    for name, labels in (("labels", ("dog", "sea")), ("blind", None), ("per class", CLASSES)):
        keep_scene(scene, Estimate(torch.rand(5 if name == "per class" else 2, 32000), labels), tmp_path, CLASSES)
        told[name] = titles(drawn["scene.png"])[0].replace("\n", " ")
    assert "paired with by SI-SDR; right or wrong: whether its label is that reference's" in told["labels"]
    assert told["blind"].endswith("paired with by SI-SDR") and told["per class"].endswith("reference of its label")


def test_no_title_runs_beyond_its_panel(tmp_path, drawn):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    labels = ["crackling_fire_in_a_wide_stove", "washing_machine_that_spins"]
    scene = scene_of(labels)
    estimate = Estimate(0.5 * sounds(scene) + torch.rand(2, 32000), tuple(labels[::-1]), trace=masks_of(2))
    keep_scene(scene, estimate, tmp_path, CLASSES, "A method of many words, profile small, a corpus, clips shared, split test")
    for drawing in drawn.values():
        drawing.set_layout_engine("constrained")
        drawing.set_dpi(130)
        renderer = FigureCanvasAgg(drawing).get_renderer()
        drawing.draw(renderer)
        for axes in drawing.axes:
            title = axes._left_title
            assert not title.get_text() or title.get_window_extent(renderer).x1 <= axes.bbox.x1, title.get_text()
        assert drawing._suptitle.get_window_extent(renderer).x1 <= drawing.bbox.x1
    assert any("wrong:\nSI-SDR" in text for text in below_the_mixture(drawn))


# methods that name and do not separate


def test_labels_alone_are_told_to_be_right_or_wrong(tmp_path, drawn):
    keep_scene(scene_of(["dog", "rain", "rain"]), Estimate(None, ("rain", "siren", "dog")), tmp_path, CLASSES)
    assert titles(drawn["scene.png"]) == [
        "Mixture; said to sound: rain (right), siren (wrong), dog (right)",
        "Reference dog: named", "Reference rain 1: named", "Reference rain 2: not named",
    ]  # fmt: skip


def test_labels_alone_leave_no_estimates_nor_those_of_an_earlier_answer(tmp_path):
    scene = scene_of(["dog", "rain"])
    keep_scene(scene, Estimate(sounds(scene), trace=masks_of(2)), tmp_path, CLASSES)
    pixels(tmp_path / "figures" / "masks.png")
    before = pixels(tmp_path / "figures" / "scene.png")
    assert set(heard(tmp_path)) == {"mixture", "reference_dog", "reference_rain", "estimate_1", "estimate_2"}
    keep_scene(scene, Estimate(None, ("rain", "siren")), tmp_path, CLASSES)
    assert set(heard(tmp_path)) == {"mixture", "reference_dog", "reference_rain"}
    assert [file.name for file in (tmp_path / "figures").iterdir()] == ["scene.png"]
    assert pixels(tmp_path / "figures" / "scene.png").shape[0] < before.shape[0]


def test_who_says_nothing_is_said_to_have_named_nothing(tmp_path, drawn):
    keep_scene(scene_of(["dog"]), Estimate(None, ()), tmp_path, CLASSES)
    assert titles(drawn["scene.png"]) == ["Mixture; said to sound: nothing", "Reference dog: not named"]
    keep_scene(scene_of(["dog"]), Estimate(None), tmp_path, CLASSES)
    assert titles(drawn["scene.png"]) == ["Mixture", "Reference dog"]


# waveforms and masks


@pytest.mark.parametrize(("n", "n_waves"), [(1, 3), (3, 7), (4, 0)])
def test_up_to_three_sources_have_waveforms(tmp_path, drawn, n, n_waves):
    scene = scene_of(list(CLASSES[:n]))
    keep_scene(scene, Estimate(sounds(scene), CLASSES[:n]), tmp_path)
    waves = [axes for axes in drawn["scene.png"].axes if axes.collections and axes.get_label() != "<colorbar>"]
    assert len(waves) == n_waves and len({axes.get_ylim() for axes in waves}) == (n_waves > 0)  # all in one scale


def test_a_waveform_shows_a_click_however_short(tmp_path):
    from matplotlib.figure import Figure

    audio = np.zeros(48000, np.float32)
    audio[31234], audio[40000] = 0.8, -0.5
    axes = Figure().add_subplot()
    _waveform(axes, audio, RATE_HZ, 1.0)
    corners = axes.collections[0].get_paths()[0].vertices
    assert corners[:, 1].max() == pytest.approx(0.8) and corners[:, 1].min() == pytest.approx(-0.5)
    assert corners[corners[:, 1].argmax(), 0] == pytest.approx(31234 / RATE_HZ, abs=3.0 / 1200)


def test_masks_stand_below_in_the_order_of_the_rows(tmp_path, drawn):
    scene = scene_of(["dog", "rain"])
    trace = masks_of(2)
    keep_scene(scene, Estimate(sounds(scene).flip(0), ("rain", "sea"), trace=trace), tmp_path, CLASSES)
    assert titles(drawn["scene.png"])[-2:] == ["Mask of estimate sea", "Mask of estimate rain"]
    assert titles(drawn["masks.png"])[:2] == ["Mask of estimate sea", "Mask of estimate rain"]
    shown = [axes.images[0].get_array() for axes in drawn["scene.png"].axes if "Mask of" in axes.get_title(loc="left")]
    assert [float(each.mean()) for each in shown] == pytest.approx(trace["masks"].flip(0).mean((1, 2)).tolist(), rel=1e-5)


@pytest.mark.parametrize("trace", [None, {"steps": 3}])
def test_without_masks_there_is_no_picture_of_any(tmp_path, drawn, trace):
    scene = scene_of(["dog", "rain"])
    keep_scene(scene, Estimate(sounds(scene), trace=trace), tmp_path)
    assert drawn.keys() == {"scene.png"} and not any("Mask" in text for text in titles(drawn["scene.png"]))


def test_many_masks_have_a_picture_of_their_own_alone(tmp_path, drawn):
    scene = scene_of(["dog", "rain"])
    keep_scene(scene, Estimate(torch.rand(5, 32000), CLASSES, trace=masks_of(5)), tmp_path, CLASSES)
    assert not any("Mask" in text for text in titles(drawn["scene.png"]))
    assert titles(drawn["masks.png"])[:5] == [f"Mask of estimate {name}" for name in ("dog", "rain", "sea", "siren", "train")]


def test_the_noisiest_scene_makes_no_large_file(tmp_path):
    noise = 0.2 * torch.randn(2, 48000)
    scene = Scene(Mixture(noise.sum(0)[None], RATE_HZ, "noise"), tuple(Source(each, "sea", ((0.0, 3.0),)) for each in noise))
    keep_scene(scene, Estimate(noise, trace={**masks_of(2, 5999), "mask_hop_s": 0.0005}), tmp_path)
    sizes = {file.name: file.stat().st_size for file in (tmp_path / "figures").iterdir()}
    assert sizes.keys() == {"scene.png", "masks.png"} and max(sizes.values()) < 1_500_000
