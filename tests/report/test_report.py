"""Figures and sounds of a run: what is written, that it holds what it says, and that nothing is half there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pictured import RATE_HZ, heard, pixels, scene_of

from sepbench.errors import UserError
from sepbench.report import scatter, words
from sepbench.report.scatter import draw_scatter
from sepbench.report.scene import keep_scene
from sepbench.report.words import run_words, signed
from sepbench.results import RunFolder
from sepbench.scene import Activity, Estimate, Mixture, Row, Scene, Source
from sepbench.tasks import splits


def test_the_sounds_are_kept_sample_by_sample_beyond_full_scale_too(tmp_path):
    scene = scene_of(["siren", "dog_bark"])
    answer = torch.stack([1.7 * scene.mixture.audio[0], 0.5 * scene.mixture.audio[0], 0 * scene.mixture.audio[0]])
    keep_scene(scene, Estimate(answer, ("siren", "dog_bark", "gun_shot")), tmp_path)
    sounds = heard(tmp_path)
    assert set(sounds) == {
        "mixture", "reference_siren", "reference_dog_bark", "estimate_siren", "estimate_dog_bark", "estimate_gun_shot"
    }  # fmt: skip
    assert np.abs(sounds["mixture"]).max() > 1
    assert np.array_equal(sounds["estimate_siren"].astype(np.float32), answer[0].numpy())
    assert np.allclose(sounds["reference_siren"] + sounds["reference_dog_bark"], sounds["mixture"], atol=1e-6)
    pixels(tmp_path / "figures" / "scene.png")


def test_sources_of_one_class_are_numbered(tmp_path, drawn):
    scene = scene_of(["siren", "siren"])
    keep_scene(scene, Estimate(torch.stack([each.audio for each in scene.sources]), ("siren", "siren")), tmp_path)
    assert set(heard(tmp_path)) == {
        "mixture", "reference_siren_1", "reference_siren_2", "estimate_siren_1", "estimate_siren_2"
    }  # fmt: skip


def test_a_blind_method_is_shown_too(tmp_path):
    scene = scene_of(["siren", "dog_bark", "gun_shot"])
    keep_scene(scene, Estimate(scene.mixture.audio.repeat(2, 1)), tmp_path)
    assert {"estimate_1", "estimate_2"} < set(heard(tmp_path))
    pixels(tmp_path / "figures" / "scene.png")


def test_sounds_of_an_earlier_scene_do_not_linger(tmp_path, drawn):
    for labels in (["siren", "dog_bark"], ["gun_shot"]):
        scene = scene_of(labels)
        keep_scene(scene, Estimate(torch.stack([each.audio for each in scene.sources]), tuple(labels)), tmp_path)
    assert set(heard(tmp_path)) == {"mixture", "reference_gun_shot", "estimate_gun_shot"}


@pytest.mark.parametrize("silent", ["mixture", "estimate", "no source"])
def test_silence_can_be_drawn(tmp_path, silent):
    scene = scene_of(["siren"])
    answer = scene.mixture.audio * (silent != "estimate")
    if silent == "no source":
        scene = Scene(scene.mixture, ())
    elif silent == "mixture":
        nothing = torch.zeros_like(scene.mixture.audio)
        scene = Scene(Mixture(nothing, RATE_HZ, "still"), (Source(nothing[0], "siren", ()),))
    keep_scene(scene, Estimate(answer, ("siren",)), tmp_path)
    pixels(tmp_path / "figures" / "scene.png")


def test_what_sounds_when_is_drawn_where_the_method_tells_it(tmp_path):
    scene = scene_of(["siren", "dog_bark"])
    answer = torch.stack([each.audio for each in scene.sources])
    activity = Activity(torch.rand(2, 50), 0.04, -0.02)
    keep_scene(scene, Estimate(answer, ("siren", "dog_bark")), tmp_path / "without")
    keep_scene(scene, Estimate(answer, ("siren", "dog_bark"), activity.probability.amax(-1), activity), tmp_path / "with")
    without, drawn = (pixels(tmp_path / name / "figures" / "scene.png") for name in ("without", "with"))
    assert drawn.shape[0] > without.shape[0]


def run_with(rows: list[Row], root: Path) -> Path:
    with RunFolder.open_or_create(root, {"recipe": "r", "profile": "quick", "task": {"corpus": "c"}}, {}, {}, {}) as run:
        run.append_rows("test", 0, rows)
        run.finish({}, metrics={})
    return run.path


def rows_of(classes: list[str], n: int) -> list[Row]:
    random = np.random.default_rng(0)
    rows = []
    for scene in range(n):
        for source, label in enumerate(classes):
            before = random.normal(-6, 8)
            for metric, value in (("si_sdr_mixture", before), ("si_sdri", 5 - 0.5 * before + random.normal())):
                rows.append(Row("r", "test", f"test-{scene:05}", source, label, metric, value))
    return rows


@pytest.mark.parametrize(("n_classes", "n"), [(1, 1), (1, 12), (5, 30), (5, 450), (11, 20)])
def test_a_panel_per_class_whatever_their_number(tmp_path, n_classes, n):
    folder = run_with(rows_of([f"class_{i}" for i in range(n_classes)], n), tmp_path)
    draw_scatter(folder, "test", "Weak-label separator with $cheap_names")
    pixels(folder / "figures" / "si_sdri.png")
    assert os.listdir(folder / "figures") == ["si_sdri.png"]


def test_figures_are_paired_by_scene_and_source():
    columns = {name: [] for name in ("split", "scene", "source", "label", "metric", "value")}
    for figures in [
        ("test", "b", 0, "siren", "si_sdri", 4.0), ("test", "a", 1, "siren", "si_sdr_mixture", -2.0),
        ("test", "a", 1, "siren", "si_sdri", 8.0), ("test", "b", 0, "siren", "si_sdr_mixture", -1.0),
        ("seen", "b", 0, "siren", "si_sdri", 99.0), ("test", "c", 0, "siren", "si_sdri", 77.0),
        ("test", "a", 0, "dog", "si_sdri", 1.0), ("test", "a", 0, "dog", "si_sdr_mixture", 3.0),
    ]:  # fmt: skip
        for name, value in zip(columns, figures):
            columns[name].append(value)
    points = scatter._points({name: np.array(values) for name, values in columns.items()}, "test")
    assert {label: (before.tolist(), gain.tolist()) for label, (before, gain) in points.items()} == {
        "dog": ([3.0], [1.0]), "siren": ([-2.0, -1.0], [8.0, 4.0])
    }  # fmt: skip


def test_every_point_lies_within_its_panel(tmp_path, drawn):
    rows = rows_of(["siren"], 300)
    for metric, value in (("si_sdr_mixture", -40.0), ("si_sdri", 70.0)):
        rows.append(Row("r", "test", "test-00000", 1, "siren", metric, value))
    draw_scatter(run_with(rows, tmp_path), "test", "Anything, split test")
    (panel,) = drawn["si_sdri.png"].axes
    points = np.asarray(panel.collections[0].get_offsets())
    assert len(points) == 301 and points.max() == 70
    for column, (low, high) in enumerate((panel.get_xlim(), panel.get_ylim())):
        assert low < points[:, column].min() and points[:, column].max() < high
    assert drawn["si_sdri.png"].get_suptitle() == "Anything, split test"


@pytest.mark.parametrize(("n", "n_means"), [(2, 0), (20, 0), (29, 0), (30, 3), (55, 5), (1000, 12)])
def test_a_local_mean_is_of_ten_points_and_its_line_of_three_means(n, n_means):
    before, gain = np.random.default_rng(0).normal(size=(2, n))
    assert [len(each) for each in scatter._line_of_means(before, gain)] == [n_means, n_means]


@pytest.mark.parametrize(
    ("value", "told"),
    [(-0.04, "0.0"), (0.04, "0.0"), (-0.06, "\N{MINUS SIGN}0.1"), (4.71, "+4.7"), (-13.42, "\N{MINUS SIGN}13.4")],
)
def test_a_gain_has_a_sign_unless_it_is_zero(value, told):
    assert signed(value) == told


def test_a_run_is_told_by_method_profile_corpus_and_split():
    config = {"name": "Separator", "profile": "small", "task": {"corpus": "esc50", "splits": {"protocol": "disjoint"}}}
    assert run_words(config, "seen") == "Separator, profile small, esc50, split seen"
    config["task"]["splits"]["protocol"] = "shared_pool"
    assert run_words(config, "test") == "Separator, profile small, esc50, clips shared, split test"
    assert run_words({**config, "task": {"corpus": "mine"}}, "test") == "Separator, profile small, mine, split test"


def test_the_protocol_is_called_as_the_task_calls_it():
    assert words.SHARED_POOL == splits.SHARED_POOL


def test_without_rows_there_is_no_figure(tmp_path):
    folder = run_with(rows_of(["siren"], 3), tmp_path)
    draw_scatter(folder, "seen", "Weak-label separator")
    assert not (folder / "figures").exists()


def test_a_figure_is_whole_or_the_old_one_stays(tmp_path, monkeypatch):
    folder = run_with(rows_of(["siren"], 12), tmp_path)
    draw_scatter(folder, "test", "Before")
    before = (folder / "figures" / "si_sdri.png").read_bytes()
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(UserError, match="no room left"):
        draw_scatter(folder, "test", "After")
    assert (folder / "figures" / "si_sdri.png").read_bytes() == before
    assert os.listdir(folder / "figures") == ["si_sdri.png"]


def test_no_screen_is_asked_for():
    code = "import sys, sepbench.report.scene, sepbench.report.scatter, sepbench.report.history\n"
    code += "assert 'matplotlib.pyplot' not in sys.modules and 'tkinter' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "MPLBACKEND": "TkAgg", "DISPLAY": ""})
