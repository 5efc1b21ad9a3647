"""The three scenes that a run keeps to be listened to."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
import torch
from heard_runs import RATE_HZ, Scenes, heard, near, tone_db

from made_up_runs import made_up, put
from sepbench.errors import UserError
from sepbench.report.listen import is_kept, keep_sounds, read_sounds
from sepbench.results import read_rows
from sepbench.scene import Estimate
from sepbench.worst import rank_scenes


def test_the_best_the_median_and_the_worst_scene_are_kept(tmp_path):
    folder = heard(tmp_path)
    ranked = [one.scene for one in rank_scenes(read_rows(folder), "si_sdri", "test", 100, best=True).failures]
    kept = read_sounds(folder)
    assert [(one.place, one.scene) for one in kept.scenes] == [
        ("best", ranked[0]), ("median", ranked[len(ranked) // 2]), ("worst", ranked[-1])
    ]  # fmt: skip
    assert (kept.metric, kept.unit, kept.n_scenes) == ("si_sdri", "dB", 12)


def test_a_scene_is_not_kept_twice(tmp_path):
    folder = put(tmp_path, [row for row in made_up() if row.scene == "s3"])
    assert keep_sounds(folder, "test", Scenes(), 12, near, None)
    assert [one.place for one in read_sounds(folder).scenes] == ["best"]


def test_a_sound_that_was_cut_short_is_told(tmp_path):
    folder = heard(tmp_path)
    file = next((folder / "listen").glob("best-*-estimate.flac"))
    audio, rate_hz = soundfile.read(file)
    soundfile.write(file, audio[: len(audio) // 2], rate_hz)
    with pytest.raises(UserError, match="the best scene, some sounds are shorter"):
        read_sounds(folder)


def test_references_stand_beside_the_estimates_that_answer_them(tmp_path):
    scene = read_sounds(heard(tmp_path)).scenes[0]
    for k, (true, said) in enumerate(scene.pairs):
        own, other = 300 + 200 * k, 500 - 200 * k
        assert tone_db(true.audio, own) > tone_db(true.audio, other) + 40
        assert tone_db(said.audio, own) > tone_db(said.audio, other)


def test_si_sdr_is_that_of_the_sounds_before_they_were_written(tmp_path):
    scene = read_sounds(heard(tmp_path)).scenes[0]
    index = int(scene.scene[1:])
    quiet, loud = 0.1, 0.1 * (1 + index)
    # a tenth of the mixture: of the own tone 1.1 times as much, of the other one a tenth; tones are orthogonal
    want = 20 * np.log10(1.1 * quiet / (0.1 * loud))
    assert scene.pairs[0][1].si_sdr_db == pytest.approx(want, abs=1e-3)
    assert scene.pairs[0][1].si_sdri_db == pytest.approx(want - 20 * np.log10(quiet / loud), abs=1e-3)


def test_sounds_of_a_scene_share_one_gain(tmp_path):
    scene = read_sounds(heard(tmp_path)).scenes[-1]
    total = sum(true.audio for true, _ in scene.pairs)
    np.testing.assert_allclose(scene.mixture.audio, total, atol=3 / 2**15)
    peaks = [np.abs(sound.audio).max() for sound in (scene.mixture, *(true for true, _ in scene.pairs))]
    assert max(peaks) == pytest.approx(0.9, abs=1e-3)


def test_an_estimate_that_would_clip_is_turned_down_and_it_is_said_how_far(tmp_path):
    def loud(scenes):
        return [Estimate(100 * torch.stack([each.audio for each in scene.sources])) for scene in scenes]

    scene = read_sounds(heard(tmp_path, loud)).scenes[0]
    for true, said in scene.pairs:
        assert np.abs(said.audio).max() == pytest.approx(1, abs=1e-3)
        louder = 20 * np.log10(np.abs(said.audio).max() / np.abs(true.audio).max()) + said.quieter_db
        assert louder == pytest.approx(40, abs=0.01)


def test_what_separates_nothing_is_kept_with_what_it_says(tmp_path):
    def named(scenes):
        return [Estimate(None, labels=("siren",)) for _ in scenes]

    scene = read_sounds(heard(tmp_path, named)).scenes[0]
    assert scene.said == ("siren",) and [said for _, said in scene.pairs] == [None, None]


def test_silence_has_no_figure(tmp_path):
    def silent(scenes):
        return [Estimate(torch.zeros(2, RATE_HZ)) for _ in scenes]

    scene = read_sounds(heard(tmp_path, silent)).scenes[0]
    assert [said.si_sdr_db for _, said in scene.pairs] == [None, None]


def test_labels_may_hold_anything(tmp_path):
    labels = ("../../etc", "<b>&\"'")
    folder = heard(tmp_path, labels=labels)
    assert [true.label for true, _ in read_sounds(folder).scenes[0].pairs] == list(labels)
    assert {file.parent for file in folder.rglob("*.flac")} == {folder / "listen"}


def test_without_a_figure_nothing_is_kept(tmp_path):
    folder = put(tmp_path, [row for row in made_up() if row.metric == "si_sdr_mixture"])
    assert not keep_sounds(folder, "test", Scenes(), 12, near, None) and not is_kept(folder)


@pytest.mark.parametrize("damage", ["{", "[]", '{"format": 99}', '{"format": 1, "scenes": [{}]}', "null"])
def test_a_damaged_list_is_one_line(tmp_path, damage):
    folder = heard(tmp_path)
    (folder / "listen" / "listen.json").write_text(damage)
    with pytest.raises(UserError, match="listen.json"):
        read_sounds(folder)


def test_a_damaged_sound_is_one_line(tmp_path):
    folder = heard(tmp_path)
    next((folder / "listen").glob("*.flac")).write_bytes(b"no sound")
    with pytest.raises(UserError, match="listen"):
        read_sounds(folder)


def test_a_list_cannot_name_files_elsewhere(tmp_path):
    folder = heard(tmp_path)
    path = folder / "listen" / "listen.json"
    listed = json.loads(path.read_text())
    listed["scenes"][0]["mixture"]["file"] = "../run.json"
    path.write_text(json.dumps(listed))
    with pytest.raises(UserError, match="listen"):
        read_sounds(folder)
