"""Laws of SI-SDR and its pairing that hold for any signals, over signals that hypothesis chooses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sepbench.metrics.pairing import best_pairs, pair_by_separation, pair_scenes
from sepbench.metrics.si_sdr import si_sdr, si_sdr_matrix
from sepbench.metrics.snr import snr_matrix

often = settings(max_examples=40, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32 - 1)
counts = st.integers(1, 9)
lengths = st.integers(1, 5000)
levels_db = st.floats(-95, 99)
dtypes = st.sampled_from([np.float32, np.float64])
gains = st.floats(-30, 30).map(lambda exponent: 10.0**exponent)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))]


def noise(seed, *shape):
    """Noise of any colour: its level changes from sample to sample."""
    generator = np.random.default_rng(seed)
    return generator.standard_normal(shape) * np.exp(generator.standard_normal(shape[-1]))


def scene(seed, n_reference, n_estimate, n_time, dtype=np.float64):
    """References, and estimates of some of them, by and large."""
    reference, rest = noise(seed, n_reference, n_time), noise(seed + 1, n_estimate, n_time)
    order = np.random.default_rng(seed).integers(0, n_reference, n_estimate)
    return reference.astype(dtype), (reference[order] + 0.3 * rest).astype(dtype)


def same(a, b, atol=1e-6):
    np.testing.assert_allclose(a, b, rtol=0, atol=atol)


@often
@given(seeds, counts, counts, lengths, gains, gains, st.booleans())
def test_gain_and_sign_change_nothing(seed, n_reference, n_estimate, n_time, estimate_gain, reference_gain, flipped):
    reference, estimate = scene(seed, n_reference, n_estimate, n_time + 10)
    plain = si_sdr_matrix(estimate=estimate, reference=reference)
    estimate_gain *= -1 if flipped else 1
    same(si_sdr_matrix(estimate=estimate_gain * estimate, reference=reference_gain * reference), plain)


@often
@given(seeds, levels_db, gains)
def test_orthogonal_noise_of_known_level_gives_that_level(seed, level_db, gain):
    reference, error = noise(seed, 2, 3000)
    error -= (error @ reference) / (reference @ reference) * reference
    error -= (error @ reference) / (reference @ reference) * reference
    error *= np.linalg.norm(reference) / np.linalg.norm(error) * 10 ** (-level_db / 20)
    estimate = gain * (reference + error)
    assert float(si_sdr(estimate=estimate, reference=reference)) == pytest.approx(level_db, abs=1e-6)
    assert float(si_sdr_matrix(estimate=estimate[None], reference=reference[None])) == pytest.approx(level_db, abs=1e-6)


@often
@given(seeds, st.integers(2, 9), st.integers(2, 9))
def test_the_order_of_sources_changes_neither_pairs_nor_total(seed, n_reference, n_estimate):
    reference, estimate = scene(seed, n_reference, n_estimate, 500)
    generator = np.random.default_rng(seed)
    rows, columns = generator.permutation(n_reference), generator.permutation(n_estimate)
    matrix = si_sdr_matrix(estimate=estimate, reference=reference)
    pairs = pair_by_separation(estimate=estimate, reference=reference)
    shuffled = pair_by_separation(estimate=estimate[columns], reference=reference[rows])
    back = [(rows[i], columns[j]) for i, j in shuffled]
    totals = [float(sum(matrix[pair] for pair in some)) for some in (back, pairs)]
    assert totals[0] == pytest.approx(totals[1], abs=1e-6)
    assert sorted(back) == pairs


@often
@given(seeds, st.integers(1, 64), st.integers(1, 64))
def test_pairs_are_one_to_one_and_as_many_as_the_shorter_side(seed, n_reference, n_estimate):
    reference, estimate = scene(seed, n_reference, n_estimate, 60)
    pairs = pair_by_separation(estimate=estimate, reference=reference)
    assert len(pairs) == len({i for i, _ in pairs}) == len({j for _, j in pairs}) == min(n_reference, n_estimate)
    assert [i for i, _ in pairs] == sorted(i for i, _ in pairs)


@often
@given(seeds, st.integers(2, 64), dtypes)
def test_shuffled_sources_are_found_again(seed, n_sources, dtype):
    reference = noise(seed, n_sources, 800).astype(dtype)
    order = np.random.default_rng(seed).permutation(n_sources)
    pairs = pair_by_separation(estimate=-0.1 * reference[order], reference=reference)
    assert pairs == [(i, int(np.argsort(order)[i])) for i in range(n_sources)]


def test_64_shuffled_estimates_of_64_sources_are_found_again():
    reference, estimate = noise(0, 64, 2000), noise(1, 64, 2000)
    order = np.random.default_rng(2).permutation(64)
    estimate = reference[order] + 0.5 * estimate
    assert [(i, order[j]) for i, j in pair_by_separation(estimate=estimate, reference=reference)] == [
        (i, i) for i in range(64)]


@pytest.mark.parametrize("swapped", [False, True])
def test_3_sources_are_found_among_64(swapped):
    many, where = noise(0, 64, 2000), [40, 7, 63]
    few = many[where] + 0.1 * noise(1, 3, 2000)
    reference, estimate = (many, few) if swapped else (few, many)
    expected = [(7, 1), (40, 0), (63, 2)] if swapped else list(enumerate(where))
    assert pair_by_separation(estimate=estimate, reference=reference) == expected


@often
@given(seeds, st.integers(2, 6))
def test_duplicates_are_still_paired_one_to_one(seed, n_sources):
    reference, estimate = scene(seed, n_sources, n_sources, 300)
    twice = np.repeat(reference[:1], n_sources, 0)
    for e, s in ((estimate, twice), (twice, reference), (twice, twice)):
        pairs = pair_by_separation(estimate=e, reference=s)
        assert [i for i, _ in pairs] == sorted(j for _, j in pairs) == list(range(n_sources))
    assert (si_sdr_matrix(estimate=twice, reference=twice) == 100).all()


@often
@given(seeds, st.integers(1, 6), st.integers(1, 6), st.data())
def test_silence_is_undefined_as_reference_and_the_worst_as_estimate(seed, n_reference, n_estimate, data):
    reference, estimate = scene(seed, n_reference, n_estimate, 50)
    silent = data.draw(st.sets(st.integers(0, n_reference - 1)), "silent references")
    nothing = data.draw(st.sets(st.integers(0, n_estimate - 1)), "silent estimates")
    reference[list(silent)], estimate[list(nothing)] = 0, 0
    matrix = si_sdr_matrix(estimate=estimate, reference=reference).numpy()
    active = [i for i in range(n_reference) if i not in silent]
    assert np.isnan(matrix[list(silent)]).all() and np.isfinite(matrix[active]).all()
    assert (matrix[np.ix_(active, list(nothing))] == -100).all()
    pairs, _ = pair_scenes(estimate=estimate[None], reference=reference[None])
    assert len(pairs[0]) == min(len(active), n_estimate) and {i for i, _ in pairs[0]} <= set(active)
    assert [(active[i], j) for i, j in best_pairs(matrix[active])] == pairs[0]


@often
@given(st.floats(-1, 1), st.floats(-1, 1), st.sampled_from([1, -1]), st.sampled_from([(np.float32, 37), (np.float64, 300)]))
def test_one_sample_is_perfect(estimate_level, reference_level, sign, kind):
    dtype, widest = kind
    estimate, reference = (np.array([10 ** (widest * level)], dtype) for level in (estimate_level, reference_level))
    for measure in (si_sdr, lambda *, estimate, reference: si_sdr_matrix(estimate=estimate[None], reference=reference[None])):
        assert measure(estimate=sign * estimate, reference=reference).item() == 100.0


@often
@given(seeds, counts, counts, lengths)
def test_float32_scores_as_the_same_samples_in_float64(seed, n_reference, n_estimate, n_time):
    reference, estimate = scene(seed, n_reference, n_estimate, n_time + 10, np.float32)
    for measure in (si_sdr_matrix, snr_matrix):
        for e, s in ((estimate, reference.astype(np.float64)), (estimate.astype(np.float64), reference)):
            same(measure(estimate=e, reference=s), measure(estimate=estimate, reference=reference), 1e-9)


@often
@given(seeds, counts, counts, st.integers(2, 500), st.sampled_from(["read-only", "backwards", "time first", "every other"]))
def test_the_layout_of_the_samples_changes_nothing(seed, n_reference, n_estimate, n_time, layout):
    reference, estimate = scene(seed, n_reference, n_estimate, 2 * n_time, np.float32)
    if layout == "read-only":
        views = reference.view(), estimate.view()
        for view in views:
            view.setflags(write=False)
    elif layout == "time first":  # as soundfile reads
        views = np.asfortranarray(reference), np.asfortranarray(estimate)
    else:
        step = {"backwards": -1, "every other": 2}[layout]
        views = reference[::-1, ::step], estimate[:, ::step]
    for measure in (si_sdr_matrix, snr_matrix):
        plain = measure(estimate=views[1].copy(order="C"), reference=views[0].copy(order="C"))
        same(measure(estimate=views[1], reference=views[0]), plain, 1e-9)


@often
@given(seeds, counts, st.integers(1, 300), st.integers(1, 50))
def test_blocks_change_nothing(seed, n_sources, n_time, block):
    reference, estimate = scene(seed, n_sources, n_sources, n_time)
    estimate[0] = reference[0] * (1 + 1e-4 * noise(seed, n_time) / np.abs(noise(seed, n_time)).max())  # a second look
    with pytest.MonkeyPatch.context() as patch:
        whole = [measure(estimate=estimate, reference=reference) for measure in (si_sdr_matrix, snr_matrix)]
        patch.setattr("sepbench.metrics.gram.PIECE_SAMPLES", block)
        patch.setattr("sepbench.metrics.gram.BLOCK_SAMPLES", block)
        parts = [measure(estimate=e, reference=reference) for measure in (si_sdr_matrix, snr_matrix)
                 for e in (estimate, np.asfortranarray(estimate))]
    for i, part in enumerate(parts):
        same(part, whole[i // 2])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("error", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize("gain", [1.0, 1e170])
def test_torch_and_the_compiled_loops_agree(device, error, gain, monkeypatch):
    reference = torch.from_numpy(noise(0, 2, 5, 3, 4000))
    estimate = gain * (reference + error * torch.from_numpy(noise(1, 2, 5, 3, 4000)))
    measures = si_sdr_matrix, snr_matrix, si_sdr
    compiled = [measure(estimate=estimate, reference=reference) for measure in measures]
    monkeypatch.setattr("sepbench.metrics.gram._fits_kernels", lambda x: False)
    for measure, expected in zip(measures, compiled, strict=True):
        same(measure(estimate=estimate.to(device), reference=reference.to(device)).cpu(), expected)
