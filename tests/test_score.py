"""`sepbench score`: real files through the real command."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from scored_files import AUDIO, ERROR, call, check_golden, figures, golden_cases, put, refused, two_scenes
from sepbench.metrics.si_sdr import si_sdr
from sepbench.results import read_runs


def named(i, label):
    return f"{i}_{label}" if label else f"s{i}"


@pytest.mark.parametrize("layout", ["folders", "DCASE 2025", "DCASE 2026", "manifest"])
def test_every_golden_case_scores_as_the_golden_file_says(tmp_path, shared, layout):
    cases = golden_cases(shared)
    listed = []
    for name, case in cases.items():
        for side, sounds, labels in (("ref", case.references, case.reference_labels),
                                     ("est", case.estimates, case.estimate_labels)):  # fmt: skip
            own = labels or [""] * len(sounds)
            if bool(case.reference_labels is None) != (layout == "manifest"):
                continue  # cases without labels would have the others scored without
            if layout == "DCASE 2025" and len(set(own)) < len(own):
                own = [f"{label}{i}" for i, label in enumerate(own)]  # labels cannot repeat there
            (tmp_path / side / name).mkdir(parents=True, exist_ok=True)
            for i, (sound, label) in enumerate(zip(sounds, own)):
                where = {"folders": f"{name}/{named(i, label)}", "manifest": f"{name}/{named(i, label)}",
                         "DCASE 2025": f"{name}_{label}", "DCASE 2026": f"{name}_{i}_{label}"}[layout]  # fmt: skip
                path = put(tmp_path / side / f"{where}.wav", sound)
                listed.append(f"{name},{'reference' if side == 'ref' else 'estimate'},{path}")
            if side == "ref":
                where = f"{name}/mixture" if layout in ("folders", "manifest") else name
                listed.append(f"{name},mixture,{put(tmp_path / side / f'{where}.wav', case.mixture)}")
            if layout.startswith("DCASE"):
                (tmp_path / side / name).rmdir()
    if layout == "manifest":
        (tmp_path / "all.csv").write_text("\n".join(["scene,role,file", *listed]))
        told = figures(tmp_path, "--manifest", tmp_path / "all.csv")
    else:
        told = figures(tmp_path, "--reference", tmp_path / "ref", "--estimate", tmp_path / "est", "--allow-empty")
    scenes = {each["scene"]: each for each in told["scenes"]}
    assert len(scenes) == (3 if layout == "manifest" else 16)
    for name, scene in scenes.items():
        if layout == "DCASE 2025":  # sources are in the order of their labels there
            if not name.startswith("same_class"):
                check_golden(cases[name], scene, separation=False)
        else:
            check_golden(cases[name], scene)


def test_json_is_exactly_what_is_promised(tmp_path):
    ref, est = two_scenes(tmp_path)
    told = figures(tmp_path, "--reference", ref, "--estimate", est, "--metrics", "si_sdr,source_detection")
    assert told["signature"].keys() == {"si_sdr", "source_precision", "source_recall", "source_f_measure"}
    assert told["signature"]["si_sdr"].startswith("si_sdr|v1|f64|")
    assert [each["scene"] for each in told["scenes"]] == ["a", "b"]
    first = told["scenes"][0]
    assert first["pairs"] == [[0, 0], [1, 1]]
    expected = si_sdr(estimate=AUDIO[:2] + ERROR[:2], reference=AUDIO[:2]).mean().item()
    assert first["metrics"] == {"si_sdr": pytest.approx(expected, abs=1e-9)}
    assert first["files"]["estimates"] == [str(est / "a" / "0_dog.wav"), str(est / "a" / "1_siren.wav")]
    assert first["labels"] == {"references": ["dog", "siren"], "estimates": ["dog", "siren"]}
    assert told["summary"]["si_sdr"].keys() == {"mean", "median", "n", "undefined", "ci95"}
    assert told["summary"]["si_sdr"]["n"] == 4 and told["summary"]["si_sdr"]["mean"] == pytest.approx(expected)
    low, high = told["summary"]["si_sdr"]["ci95"]
    assert low <= told["summary"]["si_sdr"]["mean"] + 1e-9 and high >= low
    assert told["summary"]["source_f_measure"]["mean"] == 1.0
    assert told["skipped"] == [] and told["counts"]["missed"] == 0


def test_one_scene_alone_has_no_interval_and_undefined_figures_are_counted(tmp_path):
    put(tmp_path / "ref/a/1_dog.wav", AUDIO[0]), put(tmp_path / "ref/a/2_cat.wav", 0 * AUDIO[1])
    put(tmp_path / "est/a/s1.wav", -AUDIO[0])
    told = figures(tmp_path, "--reference", tmp_path / "ref", "--estimate", tmp_path / "est")
    assert told["summary"]["si_sdr"] == {"mean": 100.0, "median": 100.0, "n": 1, "undefined": 1, "ci95": None}
    assert told["scenes"][0]["sign_flipped"] == told["counts"]["sign_flipped"] == 1
    assert not {"si_sdri", "snri", "ca_sdri", "label_set_accuracy", "bss_sdr"} & told["signature"].keys()
    assert "references alone" in told["labels"]


def test_silent_references_are_counted_even_where_nothing_else_sounds(tmp_path):
    put(tmp_path / "ref/a/s1.wav", 0 * AUDIO[0]), put(tmp_path / "est/a/s1.wav", AUDIO[0])
    told = figures(tmp_path, "--reference", tmp_path / "ref", "--estimate", tmp_path / "est")
    assert told["scenes"][0]["metrics"].keys() == {"under_separation", "equal_separation", "over_separation"}
    assert told["summary"]["si_sdr"]["undefined"] == 1 and told["summary"]["si_sdr"]["mean"] is None
    assert told["counts"]["extra"] == 1


def test_pairs_count_sources_in_natural_order_of_their_names(tmp_path):
    for i in range(4):
        put(tmp_path / f"ref/a/s{[1, 2, 10, 11][i]}.wav", AUDIO[i])
        put(tmp_path / f"est/a/e{[11, 10, 2, 1][i]}.wav", AUDIO[i] + ERROR[i])
    (scene,) = figures(tmp_path, "--reference", tmp_path / "ref", "--estimate", tmp_path / "est")["scenes"]
    assert scene["pairs"] == [[0, 3], [1, 2], [2, 1], [3, 0]]
    assert [name[-7:] for name in scene["files"]["references"]] == ["/s1.wav", "/s2.wav", "s10.wav", "s11.wav"]


@pytest.mark.parametrize(
    ("extension", "subtype"),
    [("wav", "PCM_16"), ("wav", "PCM_24"), ("wav", "PCM_32"), ("wav", "FLOAT"), ("wav", "DOUBLE"), ("flac", "PCM_24")],
)
def test_every_kind_of_file_is_read_as_exactly_as_it_was_written(tmp_path, extension, subtype):
    samples = np.round(AUDIO.astype(np.float64) * (1 << 15)) / (1 << 15)  # exact in all of them
    if subtype in ("DOUBLE", "PCM_32"):
        samples += 2.0**-28  # lost in float32
    put(tmp_path / f"ref/a/s1.{extension}", samples[0], subtype=subtype)
    put(tmp_path / f"est/a/s1.{extension}", samples[0] + np.round(samples[1] / 64 * (1 << 15)) / (1 << 15), subtype=subtype)
    told = figures(tmp_path, "--reference", tmp_path / "ref", "--estimate", tmp_path / "est")
    read = [soundfile.read(tmp_path / side / f"a/s1.{extension}")[0] for side in ("est", "ref")]
    assert np.array_equal(read[1], samples[0])
    expected = si_sdr(estimate=read[0], reference=read[1]).item()
    assert told["scenes"][0]["metrics"]["si_sdr"] == pytest.approx(expected, abs=1e-9)


def test_the_same_sounds_have_the_same_hashes_in_any_kind_of_file(tmp_path):
    pcm = np.round(AUDIO[0] * (1 << 15)) / (1 << 15)
    runs = []
    for extension, subtype in (("wav", "PCM_16"), ("flac", "PCM_24"), ("wav", "DOUBLE")):
        folder = tmp_path / subtype
        put(folder / f"ref/a/s1.{extension}", pcm, subtype=subtype), put(folder / "est/a/s1.wav", AUDIO[1])
        figures(folder, "--reference", folder / "ref", "--estimate", folder / "est")
        runs += read_runs(folder)
    assert len({run.provenance["corpus_hash"] for run in runs}) == 1
    assert len({json.dumps(run.provenance["scenes_hash"]) for run in runs}) == len({run.id for run in runs}) == 1


def test_channels_are_one_long_signal_with_one_gain(tmp_path):
    reference, answer = AUDIO[:2].T, AUDIO[:2].T * [2.0, 1.0]
    put(tmp_path / "ref/a/s1.wav", reference), put(tmp_path / "ref/a/mixture.wav", AUDIO[:2].T + AUDIO[2:].T)
    put(tmp_path / "est/a/s1.wav", answer, subtype="DOUBLE")
    told = figures(tmp_path, "--reference", tmp_path / "ref", "--estimate", tmp_path / "est")
    expected = si_sdr(estimate=answer.T.ravel().copy(), reference=AUDIO[:2].ravel()).item()
    assert told["scenes"][0]["metrics"]["si_sdr"] == pytest.approx(expected, abs=1e-6) and expected < 50
    said = refused("--reference", tmp_path / "ref", "--estimate", tmp_path / "est", "--metrics", "bss_eval")
    assert "s1.wav: has 2 channels; bss_sdr is for one" in said


def test_a_mixture_of_several_channels_gives_its_first_to_mono_references(tmp_path):
    ref, est = two_scenes(tmp_path)
    mono = figures(tmp_path, "--reference", ref, "--estimate", est)
    for scene in "ab":
        put(ref / scene / "mixture.wav", np.stack([AUDIO[0] + AUDIO[1], AUDIO[3], AUDIO[2]], 1))
    several = figures(tmp_path, "--reference", ref, "--estimate", est)
    assert [each["metrics"] for each in several["scenes"]] == [each["metrics"] for each in mono["scenes"]]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda ref, est: put(est / "b/0_dog.wav", AUDIO[0][:-1]), "est/b/0_dog.wav: its length is 799 samples; that of"),
        (lambda ref, est: put(est / "b/0_dog.wav", AUDIO[0], 8000), "est/b/0_dog.wav: its sample rate is 8000 Hz; that of"),
        (lambda ref, est: put(est / "b/0_dog.wav", AUDIO[:2].T), "est/b/0_dog.wav: its channel count is 2 channels; that"),
        (lambda ref, est: put(ref / "b/1_siren.wav", AUDIO[:2].T), "ref/b/1_siren.wav: its channel count is 2 channels"),
        (lambda ref, est: put(ref / "b/mixture.wav", AUDIO[0], 8000), "ref/b/mixture.wav: its sample rate is 8000 Hz"),
        (lambda ref, est: put(ref / "b/mixture.wav", AUDIO[0][1:]), "ref/b/mixture.wav: its length is 799 samples"),
        (lambda ref, est: put(est / "b/1_siren.wav", [0, 1, np.nan]), "est/b/1_siren.wav: sample 2 is nan"),
        (lambda ref, est: put(ref / "b/0_dog.wav", [0, np.inf, 0]), "ref/b/0_dog.wav: sample 1 is inf"),
        (lambda ref, est: put(ref / "b/mixture.wav", [[0, 1], [0, -np.inf]]), "sample 1 of channel 1 is -inf"),
        (lambda ref, est: put(est / "b/0_dog.wav", []), "est/b/0_dog.wav: holds no samples"),
        (lambda ref, est: (est / "b/0_dog.wav").write_text(""), "est/b/0_dog.wav: cannot be read as audio (0 bytes)"),
        (lambda ref, est: (est / "b/0_dog.wav").write_text("a text"), "est/b/0_dog.wav: cannot be read as audio ("),
        (lambda ref, est: (ref / "b").rename(ref / "c"), "est/c: no such folder, so scene 'c' has no estimate"),
        (lambda ref, est: (est / "b").rename(est.parent / "away"), "est/b: no such folder, so scene 'b' has no estimate"),
        (lambda ref, est: put(est / "c/0_dog.wav", AUDIO[0]), "est/c: no scene 'c' in"),
        (lambda ref, est: (ref / "b/mixture.wav").unlink(), "ref/b/mixture.wav: no such mixture"),
    ],
)
def test_bad_input_is_one_line_that_names_the_file_and_can_be_skipped(tmp_path, spoil, said):
    ref, est = two_scenes(tmp_path)
    spoil(ref, est)
    both = ("--reference", ref, "--estimate", est, "--results", tmp_path / "runs")
    assert said in refused(*both)
    assert not (tmp_path / "runs").exists()
    told = figures(tmp_path, *both, "--skip-bad")
    left, skipped = ([each["scene"] for each in told[key]] for key in ("scenes", "skipped"))
    assert left[0] == "a" and {*left, *skipped} <= {"a", "b", "c"} and not {*left} & {*skipped}
    assert any(said in each["reason"] for each in told["skipped"])
    (run,) = read_runs(tmp_path)
    assert run.provenance["skipped"] == told["skipped"] and run.config["task"]["scenes"] == {"test": len(left)}
    out = call(*both, "--skip-bad")[1]
    assert f"skipped scenes {len(skipped)}." in out and all(f"Skipped: {scene}: " in out for scene in skipped)


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_one_line(tmp_path):
    ref, est = two_scenes(tmp_path)
    (est / "b/0_dog.wav").chmod(0)
    assert "est/b/0_dog.wav: cannot be read as audio (Permission denied)" in refused("--reference", ref, "--estimate", est)
    (est / "b").chmod(0)
    assert "est/b: cannot be read: Permission denied" in refused("--reference", ref, "--estimate", est)
    (est / "b").chmod(0o700)


def test_missing_counterparts_are_found_before_any_sound_is_read(tmp_path):
    ref, est = two_scenes(tmp_path)
    (est / "a/0_dog.wav").write_text("no sound")
    (est / "b").rename(tmp_path / "away")
    assert "est/b: no such folder" in refused("--reference", ref, "--estimate", est)


def test_where_nothing_is_left_that_is_an_error(tmp_path):
    ref, est = two_scenes(tmp_path)
    for scene in "ab":
        (est / scene / "0_dog.wav").write_text("no sound")
    said = refused("--reference", ref, "--estimate", est, "--skip-bad", "--results", tmp_path / "runs")
    assert "no scene is left to score" in said and "a/0_dog.wav" in said and "1 more" in said


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--reference", "ref"], "missing option '--estimate'"),
        (["--estimate", "est"], "missing option '--reference'"),
        (["--reference", "reef", "--estimate", "est"], "--reference reef: no such folder. Did you mean 'ref'?"),
        (["--reference", "ref", "--estimate", "none"], "--estimate none: no such folder."),
        (["--reference", "ref", "--estimate", "est", "--mixture", "none"], "--mixture none: no such folder."),
        (["--reference", "ref", "--estimate", "ref"], "--estimate ref: the same folder as --reference"),
        (["--reference", "ref", "--estimate", "est", "--mixture", "est/a"], "est/a/a.wav: no such mixture"),
        (["--reference", "ref", "--estimate", "est", "--json", "no/such.json"], "--json no/such.json: there is no folder no"),
        (["--reference", "ref", "--estimate", "est", "--json", "ref"], "--json ref: is a folder"),
        (["--reference", "ref", "--estimate", "est", "--metrics", "si_sdrr"], "no metric 'si_sdrr'. Did you mean 'si_sdr'?"),
        (["--reference", "ref", "--estimate", "est", "--metrics", ","], "--metrics: names no metric"),
        (["--reference", "ref", "--estimate", "est", "--metrics", "f_measure"], "f_measure_frame, f_measure_clip: need activ"),
        (["--reference", "ref", "--estimate", "est", "--metrics", "f_measure_clip"], "s f_measure_clip: needs activities"),
        (["--reference", "ref", "--estimate", "est", "--labels", "none", "--metrics", "ca_sdri"], "ca_sdri: needs labels"),
        (["--reference", "bare", "--estimate", "est", "--metrics", "si_sdri"], "si_sdri: needs the mixtures"),
        (["--reference", "ref", "--estimate", "est", "--naming", "2027"], "'2027' is not one of"),
        (["--manifest", "m.csv", "--naming", "2025"], "--naming 2025: says how names of files that lie together are read"),
        (["--reference", "m.csv", "--estimate", "m.csv", "--naming", "plain"], "m.csv lists all files. Leave it away."),
        (["--reference", "ref", "--estimate", "est", "--naming", "2026"], "ref holds a folder per scene. Leave it away."),
        (["--manifest", "m.csv", "--reference", "ref"], "--manifest lists all files, so --reference says nothing"),
        (["--manifest", "none.json"], "none.json: cannot be read: No such file"),
        (["--reference", "m.csv", "--estimate", "est"], "one is a CSV and one is not"),
        (["--reference", "ref", "--estimate", "est", "--thread", "0"], "--threads"),
    ],
)  # fmt: skip
def test_bad_calls_are_refused_in_one_line_and_nothing_is_written(tmp_path, monkeypatch, args, said):
    two_scenes(tmp_path)
    for scene in "ab":
        put(tmp_path / "bare" / scene / "0_dog.wav", AUDIO[0])
    (tmp_path / "m.csv").write_text("scene,file\n")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert said in refused(*args)
    assert sorted(tmp_path.rglob("*")) == before


def test_threads_change_nothing(tmp_path):
    ref, est = two_scenes(tmp_path)
    told = [figures(tmp_path, "--reference", ref, "--estimate", est, "--threads", n) for n in (1, 3)]
    assert told[0] == told[1]


def test_files_are_found_and_looked_at_without_torch(tmp_path):
    code = "import sepbench.cli_score, sepbench.score_layouts, sepbench.score_manifest, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "soundfile"} & {name.split(".")[0] for name in done.stdout.split()}
