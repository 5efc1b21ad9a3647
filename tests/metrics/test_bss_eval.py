from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch

from sepbench.metrics.bss_eval import MAX_SOURCES, _museval, bss_eval, bss_eval_of_scene

RATE_HZ = 1000
NAMES = ("sdr", "isr", "sir", "sar")


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def scene(n_sources=2, n_time=3000, seed=0):
    """Estimates with some of the other sources and some noise in them, and their references."""
    reference, other, error = (drawn(n_sources, n_time, seed=seed + i) for i in range(3))
    leak = 0.2 * reference.sum(0, keepdims=True)
    return reference + leak + 0.1 * error + 0.05 * other, reference


def stacked(ratios):
    return np.stack([getattr(ratios, name) for name in NAMES])  # (ratio, source, frame)


def apart(n_time=6000):
    """Two references and a noise that no delays of up to 511 samples bring together, with energies 1, 1 and 1."""
    parts = np.zeros((3, n_time))
    for i, start in enumerate((1000, 3000, 0)):  # the noise comes first: filters look back, so none can reach it
        parts[i, start : start + 900] = drawn(900, seed=i)
    return parts / np.linalg.norm(parts, axis=1, keepdims=True)


def db(ratio):
    return 10 * np.log10(ratio)


@pytest.mark.parametrize(("gain", "leak", "level"), [(0.8, 0.1, 0.05), (1.5, 0.5, 1.0), (-0.1, 2.0, 0.01)])
def test_parts_of_known_energy_give_their_ratios(gain, leak, level):
    one, two, noise = apart()
    estimate = np.stack([gain * one + leak * two + level * noise, two])
    ratios = bss_eval(estimate=estimate, reference=np.stack([one, two]), sample_rate_hz=6000)
    expected = [
        db(1 / ((1 - gain) ** 2 + leak**2 + level**2)),
        db(1 / (1 - gain) ** 2),
        db(gain**2 / leak**2),
        db((gain**2 + leak**2) / level**2),
    ]
    np.testing.assert_allclose(stacked(ratios)[:, 0, 0], expected, atol=1e-6)


def test_a_filtered_reference_is_distorted_but_free_of_interference_and_artifacts():
    one, two, _ = apart()
    heard = np.convolve(one, [0.0, 0.7, 0.0, -0.2])[:6000]
    ratios = bss_eval(estimate=np.stack([heard, two]), reference=np.stack([one, two]), sample_rate_hz=6000)
    sdr, isr, sir, sar = stacked(ratios)[:, 0, 0]
    assert sdr == pytest.approx(db(1 / ((heard - one) @ (heard - one))), abs=1e-9)
    assert isr == pytest.approx(sdr, abs=1e-6)
    assert min(sir, sar) > 150


def test_sdr_is_the_plain_ratio_of_each_second():
    estimate, reference = scene(3, 3500)
    frames = (each[:, :3000].reshape(3, 3, RATE_HZ) for each in (reference, reference - estimate))  # the rest is in none
    s, noise = ((each**2).sum(-1) for each in frames)
    ratios = bss_eval(estimate=estimate, reference=reference, sample_rate_hz=RATE_HZ)
    np.testing.assert_allclose(ratios.sdr, db(s / noise), atol=1e-9)


@pytest.mark.parametrize("gain", [1e-3, -4.0, 1e3])
def test_a_gain_of_the_whole_scene_changes_nothing_and_one_of_the_estimate_spares_sir_and_sar(gain):
    estimate, reference = scene()
    before = stacked(bss_eval(estimate=estimate, reference=reference, sample_rate_hz=RATE_HZ))
    both = stacked(bss_eval(estimate=gain * estimate, reference=gain * reference, sample_rate_hz=RATE_HZ))
    np.testing.assert_allclose(both, before, atol=1e-6)
    one = stacked(bss_eval(estimate=gain * estimate, reference=reference, sample_rate_hz=RATE_HZ))
    np.testing.assert_allclose(one[2:], before[2:], atol=1e-6)
    assert np.abs(one[:2] - before[:2]).min() > 1


def test_the_order_of_sources_is_the_order_of_rows():
    estimate, reference = scene(3, 1500)
    order = [2, 0, 1]
    before = stacked(bss_eval(estimate=estimate, reference=reference, sample_rate_hz=RATE_HZ))
    after = stacked(bss_eval(estimate=estimate[order], reference=reference[order], sample_rate_hz=RATE_HZ))
    np.testing.assert_allclose(after, before[:, order], atol=1e-9)


def test_what_stands_in_for_a_missing_estimate_changes_no_other_row():
    estimate, reference = scene(3)
    full = stacked(bss_eval(estimate=estimate, reference=reference, sample_rate_hz=RATE_HZ))
    for pairs in ([(2, 1), (0, 0)], [(1, 0)]):
        answered = estimate[[i for i, _ in pairs]]  # estimate j of the scene is now the one that answers pairs[j]
        pairs = [(i, j) for j, (i, _) in enumerate(pairs)]
        found = bss_eval_of_scene(estimate=answered, reference=reference, pairs=pairs, sample_rate_hz=RATE_HZ)
        np.testing.assert_array_equal(stacked(found), full[:, [i for i, _ in pairs]])


def test_interference_of_a_reference_that_nobody_answers_is_told_from_artifacts():
    one, two, noise = apart()
    estimate, pairs = (one + 0.5 * two + 0.01 * noise)[None], [(0, 0)]
    found = bss_eval_of_scene(estimate=estimate, reference=np.stack([one, two]), pairs=pairs, sample_rate_hz=6000)
    assert found.sir.item() == pytest.approx(db(1 / 0.5**2), abs=1e-6)
    assert found.sar.item() == pytest.approx(db(1.25 / 0.01**2), abs=1e-6)


def test_extra_estimates_and_silent_references_change_nothing():
    estimate, reference = scene()
    before = stacked(bss_eval(estimate=estimate, reference=reference, sample_rate_hz=RATE_HZ))
    found = bss_eval_of_scene(
        estimate=np.stack([drawn(3000, seed=9), estimate[1], np.zeros(3000), estimate[0]]),
        reference=np.stack([np.zeros(3000), *reference]), pairs=[(1, 3), (2, 1)], sample_rate_hz=RATE_HZ,
    )
    np.testing.assert_array_equal(stacked(found), before)


def test_a_silent_estimate_is_undefined_and_spoils_no_other():
    estimate, reference = scene()
    before = stacked(bss_eval(estimate=estimate, reference=reference, sample_rate_hz=RATE_HZ))
    estimate[1] = 0
    found = bss_eval_of_scene(estimate=estimate, reference=reference, pairs=[(1, 1), (0, 0)], sample_rate_hz=RATE_HZ)
    assert np.isnan(stacked(found)[:, 0]).all()
    np.testing.assert_array_equal(stacked(found)[:, 1], before[:, 0])
    assert all(np.isnan(figure).tolist() == [True, False] for figure in found.figures().values())


def test_an_answer_to_a_silent_reference_is_undefined():
    estimate, reference = scene()
    reference[0] = 0
    found = bss_eval_of_scene(estimate=estimate, reference=reference, pairs=[(0, 0)], sample_rate_hz=RATE_HZ)
    assert stacked(found).shape == (4, 1, 3)
    assert np.isnan(stacked(found)).all()


@pytest.mark.parametrize("who", ["estimate", "reference"])
def test_a_second_in_which_anything_is_silent_is_left_out_of_every_median(who):
    signals = dict(zip(("estimate", "reference"), scene(2, 4000), strict=True))
    signals[who][1, 1000:2000] = 0
    ratios = bss_eval(**signals, sample_rate_hz=RATE_HZ)
    for name in NAMES:
        frames = getattr(ratios, name)
        assert np.isnan(frames).tolist() == [[False, True, False, False]] * 2
        np.testing.assert_array_equal(ratios.figures()[f"bss_{name}"], np.median(frames[:, [0, 2, 3]], axis=1))


def test_ratios_with_nothing_below_the_line_are_infinite_and_undefined_as_figures():
    estimate, reference = scene()
    alone = bss_eval(estimate=estimate[:1], reference=reference[:1], sample_rate_hz=RATE_HZ)
    assert np.isposinf(alone.sir).all()
    perfect = bss_eval(estimate=reference, reference=reference, sample_rate_hz=RATE_HZ)
    assert np.isposinf(perfect.sdr).all()
    assert np.isnan(alone.figures()["bss_sir"]).all() and np.isnan(perfect.figures()["bss_sdr"]).all()
    assert np.isfinite(alone.figures()["bss_sdr"]).all()


@pytest.mark.parametrize(("n_time", "n_frames"), [(1, 1), (2, 1), (400, 1), (1000, 1), (1999, 1), (2000, 2)])
def test_scenes_of_any_length_have_their_whole_seconds_or_one_frame(n_time, n_frames):
    estimate, reference = scene(2, n_time)
    ratios = bss_eval(estimate=estimate, reference=reference, sample_rate_hz=RATE_HZ)
    assert stacked(ratios).shape == (4, 2, n_frames)
    assert np.isfinite(ratios.figures()["bss_sdr"]).all()
    nobody = bss_eval_of_scene(estimate=0 * estimate, reference=reference, pairs=[(0, 0)], sample_rate_hz=RATE_HZ)
    assert stacked(nobody).shape == (4, 1, n_frames)


def test_nothing_to_score_is_no_row():
    estimate, reference = scene()
    for e, s in ((estimate[:0], reference), (estimate, reference[:0])):
        found = bss_eval_of_scene(estimate=e, reference=s, pairs=[], sample_rate_hz=RATE_HZ)
        assert {name: figure.tolist() for name, figure in found.figures().items()} == {f"bss_{n}": [] for n in NAMES}
    assert bss_eval(estimate=estimate[:0], reference=reference[:0], sample_rate_hz=RATE_HZ).sdr.shape == (0, 3)


def test_references_that_are_copies_of_each_other_do_not_stop_it():
    reference = np.zeros((2, 1000))
    reference[:, 0] = 1000.0  # so alike, and so loud, that the equations for the filters are singular
    estimate = np.stack([reference[0], drawn(1000)])
    ratios = bss_eval(estimate=estimate + 0.5 * drawn(2, 1000), reference=reference, sample_rate_hz=RATE_HZ)
    assert np.isfinite(stacked(ratios)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensors_are_taken_and_reckoned_in_float64(dtype):
    estimate, reference = (torch.from_numpy(each).to(dtype) for each in scene())
    ratios = bss_eval(estimate=estimate.requires_grad_(), reference=reference, sample_rate_hz=RATE_HZ)
    same = bss_eval(estimate=estimate.detach().double(), reference=reference.double(), sample_rate_hz=RATE_HZ)
    np.testing.assert_array_equal(stacked(ratios), stacked(same))


def test_bad_input_is_one_line():
    estimate, reference = scene()
    with pytest.raises(ValueError, match=r"is 2x3000 and .* is 2x2999"):
        bss_eval(estimate=estimate, reference=reference[:, 1:], sample_rate_hz=RATE_HZ)
    with pytest.raises(ValueError, match="1x2x3000; .source, time. is wanted"):
        bss_eval(estimate=estimate[None], reference=reference[None], sample_rate_hz=RATE_HZ)
    with pytest.raises(ValueError, match="sample_rate_hz is 0"):
        bss_eval(estimate=estimate, reference=reference, sample_rate_hz=0)
    with pytest.raises(ValueError, match=f"of {MAX_SOURCES + 1} sources; at most {MAX_SOURCES}"):
        bss_eval(estimate=np.ones((MAX_SOURCES + 1, 9)), reference=np.ones((MAX_SOURCES + 1, 9)), sample_rate_hz=9)
    estimate[1] = 0
    with pytest.raises(ValueError, match="estimate: source 1 is silent"):
        bss_eval(estimate=estimate, reference=reference, sample_rate_hz=RATE_HZ)


def test_neither_ffmpeg_nor_museval_itself_is_loaded():
    code = (
        "import sys, numpy as np; from sepbench.metrics.bss_eval import bss_eval; x = np.eye(2, 99);"
        "assert bss_eval(estimate=x + 0.1, reference=x, sample_rate_hz=99).sdr.shape == (2, 1);"
        "sys.exit(bool({'museval', 'musdb', 'stempeg'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "PATH": ""}, check=True)


def test_without_museval_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "museval", None)  # Python's own way of saying that there is none
    _museval.cache_clear()
    with pytest.raises(ValueError, match="pip install museval"):
        bss_eval(estimate=drawn(1, 9), reference=drawn(1, 9), sample_rate_hz=9)


def musevals_evaluate():
    """museval.evaluate itself; the tests that want it are skipped where it cannot be imported."""
    try:
        from museval import evaluate
    except Exception as error:  # stempeg raises a RuntimeError where there is no ffmpeg
        pytest.skip(f"`import museval` fails here: {error}")
    return evaluate


@pytest.mark.parametrize(("n_sources", "n_time"), [(1, 2500), (2, 4321), (4, 700)])
def test_musevals_own_call_gives_the_same_frames(n_sources, n_time):
    estimate, reference = scene(n_sources, n_time, seed=5)
    theirs = musevals_evaluate()(reference, estimate, win=RATE_HZ, hop=RATE_HZ, mode="v4")
    ours = stacked(bss_eval(estimate=estimate, reference=reference, sample_rate_hz=RATE_HZ))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)


def test_musevals_own_store_gives_the_same_medians():
    musevals_evaluate()
    from museval.aggregate import TrackStore

    estimate, reference = scene(3, 4000)
    estimate[0, :2000] = reference[0, :2000]  # infinite SDR in two of four seconds
    estimate[1, 3000:] = 0  # and one without figures
    ratios = bss_eval(estimate=estimate, reference=reference, sample_rate_hz=RATE_HZ)
    store = TrackStore("scene")
    for i in range(3):
        store.add_target(str(i), {name.upper(): getattr(ratios, name)[i].tolist() for name in NAMES})
    for i, target in enumerate(store.scores["targets"]):
        for name in NAMES:
            frames = [float(frame["metrics"][name.upper()]) for frame in target["frames"]]
            assert ratios.figures()[f"bss_{name}"][i] == pytest.approx(store.frames_agg(frames), abs=1e-5)


@pytest.mark.parametrize(("n_sources", "n_time"), [(1, 2500), (2, 4321), (4, 700)])
def test_musevals_measure_with_the_arguments_of_its_evaluate_gives_the_same_frames(n_sources, n_time):
    spec = find_spec("museval")
    if spec is None:
        pytest.skip("museval is not installed")
    spec = spec_from_file_location("their_metrics", Path(spec.submodule_search_locations[0]) / "metrics.py")
    theirs = module_from_spec(spec)
    spec.loader.exec_module(theirs)
    estimate, reference = scene(n_sources, n_time, seed=5)
    expected = theirs.bss_eval(
        reference, estimate, compute_permutation=False, window=RATE_HZ, hop=RATE_HZ, framewise_filters=False,
        bsseval_sources_version=False,
    )
    ours = stacked(bss_eval(estimate=estimate, reference=reference, sample_rate_hz=RATE_HZ))
    np.testing.assert_allclose(ours, expected[:4], rtol=0, atol=1e-9)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_mir_eval_agrees_where_one_frame_holds_all():
    outsider = pytest.importorskip("mir_eval.separation")  # BSS Eval v3, whose filters change by the frame
    if not hasattr(outsider, "bss_eval_images"):
        pytest.skip("mir_eval from 0.9 on has no bss_eval_images")
    estimate, reference = scene(3, 2000)
    theirs = outsider.bss_eval_images(reference, estimate, compute_permutation=False)
    ours = bss_eval(estimate=estimate, reference=reference, sample_rate_hz=2000)
    np.testing.assert_allclose(stacked(ours)[:, :, 0], theirs[:4], atol=1e-6)


@pytest.fixture
def one_thread():
    """MKL's threaded factorisation has failed beside other workers ("DLASWP"), in the peer's code."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.mark.usefixtures("one_thread")
def test_fast_bss_eval_agrees_on_interference_and_artifacts_where_one_frame_holds_all():
    outsider = pytest.importorskip("fast_bss_eval")  # its SDR forgives filters, and is another measure
    estimate, reference = scene(3, 2000)
    tensors = (torch.from_numpy(each) for each in (reference, estimate))  # on arrays it fails with NumPy 2
    _, sir, sar = outsider.bss_eval_sources(*tensors, compute_permutation=False)
    ours = bss_eval(estimate=estimate, reference=reference, sample_rate_hz=2000)
    np.testing.assert_allclose([ours.sir[:, 0], ours.sar[:, 0]], [sir, sar], atol=1e-4)
