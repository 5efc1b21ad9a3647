from __future__ import annotations

import subprocess
import sys

import numba
import numpy as np
import pytest
import torch

from sepbench.metrics import gram as gram_module
from sepbench.metrics import kernels
from sepbench.metrics.gram import BLOCK_SAMPLES, gram, residual_energy
from sepbench.metrics.kernels import BLOCK, LEAST

BOUND_MIB = 10 * BLOCK_SAMPLES * 8 / 2**20  # as the module says of what goes through torch


def noise(*shape, seed=0, dtype=np.float64):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(dtype))


def fine():
    raise AssertionError("all samples are finite")


def check(e, s, rtol=1e-11):
    """Against plain float64 sums."""
    found, (e64, s64) = gram(e, s, fine), (x.double().numpy() for x in (e, s))
    scale = np.sqrt((s64**2).sum(-1)[..., :, None] * (e64**2).sum(-1)[..., None, :])
    np.testing.assert_allclose(found.s_energy, (s64**2).sum(-1), rtol=rtol)
    np.testing.assert_allclose(found.e_energy, (e64**2).sum(-1), rtol=rtol)
    np.testing.assert_allclose(found.inner.numpy() / scale, s64 @ np.swapaxes(e64, -1, -2) / scale, atol=rtol)


@pytest.mark.parametrize("n_reference", [1, 2, 3, 4, 5, 6, 7, 8, 11])
@pytest.mark.parametrize("n_estimate", [1, 2, 3, 4, 5, 6, 7, 8, 13])
def test_any_number_of_rows_gives_every_product_once(n_reference, n_estimate):
    check(noise(2, n_estimate, 300), noise(2, n_reference, 300, seed=1))


@pytest.mark.parametrize("n_time", [1, 2, 7, 8, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 9])
@pytest.mark.parametrize("dtypes", [(np.float32, np.float32), (np.float64, np.float32), (np.float64, np.float64)])
def test_any_length_and_type_gives_every_sample_once(n_time, dtypes):
    check(noise(3, 4, n_time, dtype=dtypes[0]), noise(3, 2, n_time, seed=1, dtype=dtypes[1]))


@pytest.mark.parametrize("n_rows", [5, 6, 9, 40])
@pytest.mark.parametrize("off", [-1, 0, 1, 2000])
def test_blocks_of_many_rows_together_give_every_sample_once(n_rows, off):
    length = max(LEAST, BLOCK // (n_rows + 2) // 64 * 64)
    check(noise(2, n_rows, length + off), noise(2, 2, length + off, seed=1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int16, torch.int64])
def test_other_types_go_through_torch_to_the_same_sums(dtype):
    check((100 * noise(3, 2, 700)).to(dtype), (100 * noise(3, 4, 700, seed=1)).to(dtype))


@pytest.mark.parametrize("small", [1, 3, 1000])
def test_blocks_and_pieces_change_nothing(small, monkeypatch):
    e, s = noise(2, 3, 2, 500), noise(2, 3, 3, 500, seed=1)
    apart = e.mT.contiguous().mT  # samples far from each other: through torch
    monkeypatch.setattr(gram_module, "BLOCK_SAMPLES", small)
    monkeypatch.setattr(gram_module, "PIECE_SAMPLES", small)
    check(e, s)
    check(apart, s)
    where = tuple(torch.tensor(index) for index in ([0, 1, 1], [2, 0, 2], [1, 2, 0], [1, 0, 0]))
    scene, i, j = where[:2], where[2], where[3]
    e_gain, s_gain = torch.tensor([1.0, 0.5, -2.0]).double(), torch.tensor([3.0, 1.0, 0.1]).double()
    expected = (s_gain[:, None] * s[(*scene, i)] - e_gain[:, None] * e[(*scene, j)]).square().sum(-1)
    for each in (e, apart):
        np.testing.assert_allclose(residual_energy(each, s, where, e_gain, s_gain), expected, rtol=1e-12)


def test_rows_are_read_where_they_are():
    storage = noise(40, 1000)
    base = storage.clone()
    for view in (
        base[::3, 100:900],  # sliced
        base.reshape(4, 10, 1000).transpose(0, 1)[:, 1:3],  # axes swapped
        base[:3].expand(5, 3, 1000),  # one for many
        base[0].as_strided((7, 100), (1, 1)),  # overlapping
        base[:, :1],
    ):
        begins = gram_module._rows(view)[1]
        samples = gram_module._rows(view)[0]
        assert gram_module._fits_kernels(view) and samples.ctypes.data == view.data_ptr()
        np.testing.assert_array_equal(samples[begins], view[..., 0])
        check(view, view)
    np.testing.assert_array_equal(base, storage)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 5, 2303, 2304, BLOCK - 1, BLOCK, BLOCK + 99])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_sum_hides_a_sample_that_is_not_finite(bad, at, dtype):
    class Found(Exception):
        pass

    def complain():
        raise Found

    for n_rows, row in ((1, 0), (4, 2), (5, 4)):
        broken = noise(n_rows, BLOCK + 100, dtype=dtype)
        broken[row, at] = bad
        for e, s in ((broken, noise(2, BLOCK + 100)), (noise(2, BLOCK + 100), broken)):
            with pytest.raises(Found):
                gram(e, s, complain)


def test_threads_change_nothing():
    e, s = noise(40, 3, 20000, dtype=np.float32), noise(40, 2, 20000, seed=1, dtype=np.float32)
    n_threads, found = torch.get_num_threads(), []
    try:
        for n in (1, 3):
            torch.set_num_threads(n)
            found.append(gram(e, s, fine))
    finally:
        torch.set_num_threads(n_threads)
    for name in ("s_energy", "e_energy", "inner"):
        np.testing.assert_array_equal(getattr(found[0], name), getattr(found[1], name))


def test_code_is_compiled_where_there_is_no_folder_to_keep_it(monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_LOCATOR_CLASSES", "ZipCacheLocator")  # which serves packages in zip files only
    assert kernels._kept(lambda x: x + 1)(1) == 2


def test_numba_is_not_loaded_before_it_is_needed():
    code = "import sys, sepbench.metrics.pairing, sepbench.metrics.snr; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


AN_HOUR = """
import resource, sys, torch
from sepbench.metrics.pairing import pair_by_separation
from sepbench.metrics.si_sdr import si_sdr_matrix
from sepbench.metrics.snr import snr_matrix
dtype, n_time = getattr(torch, sys.argv[1]), 3600 * 16000
sound = torch.empty(n_time + 8, dtype=dtype)
for part in sound.split(1 << 20):
    part.normal_(generator=torch.Generator().manual_seed(0)) if dtype.is_floating_point else part.random_(-9, 9)
sound[: 1 << 20].mul_(2)
reference, estimate = sound.as_strided((2, n_time), (3, 1)), sound.as_strided((2, n_time), (3, 1), 1)
measures = pair_by_separation, si_sdr_matrix, snr_matrix
perfect = lambda measure, n: (measure(estimate=estimate[..., :n], reference=reference[..., :n]),
                              measure(estimate=reference[..., :n], reference=reference[..., :n]))
[perfect(measure, 1000) for measure in measures]  # what is loaded and compiled once
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
[perfect(measure, n_time) for measure in measures]
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is told in other units elsewhere")
@pytest.mark.parametrize(("dtype", "bound_mib"), [("float32", 16), ("float16", BOUND_MIB)])
def test_an_hour_of_audio_takes_no_more_memory_than_stated(dtype, bound_mib):
    """2 references and 2 estimates at 16 kHz: 879 MiB in float32, were they apart, and 1,758 in float64."""
    done = subprocess.run([sys.executable, "-c", AN_HOUR, dtype], capture_output=True, text=True, check=True)
    assert float(done.stdout) < bound_mib
