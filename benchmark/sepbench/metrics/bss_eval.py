"""BSS Eval v4: SDR, ISR, SIR and SAR (Vincent et al. 2006; Stöter, Liutkus and Ito 2018, SiSEC), by museval's own code.

An estimate is split into its reference, what 512-tap filters make of that reference (spatial or filtering distortion),
what they make of the other references (interference), and the rest (artifacts). Filters are fitted to the whole scene,
ratios taken per second of it; a source's figure is the median over those seconds, as in museval. The SDR of v4 is then
the plain signal-to-noise ratio of each second; SDR and ISR mind the gain of an estimate, SIR and SAR do not.

`import museval` also imports musdb, which wants ffmpeg. Its measure does not, so only that file is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np

from sepbench.metrics.arrays import Array, signal_sets, signals

# museval solves for (512 n)^2 filter taps once per source: time grows with n^4, memory with n^2 (8 MB times that).
MAX_SOURCES = 16


@dataclass(frozen=True, eq=False)
class BssEval:
    """Ratios in dB per source and frame, (source, frame), float64, as museval gives them; higher is better.

    NaN in a frame where any reference or estimate is silent. Infinite where nothing is left to divide by: the SIR of a
    source that is alone, the SDR of a perfect estimate.
    """

    sdr: np.ndarray
    isr: np.ndarray
    sir: np.ndarray
    sar: np.ndarray

    def figures(self) -> dict[str, np.ndarray]:
        """By metric (`bss_sdr`, `bss_isr`, `bss_sir`, `bss_sar`), one figure per source: (source,), dB.

        The median over the frames that are neither NaN nor infinite, which are those that museval's own store keeps;
        NaN (undefined) where there is none.
        """
        return {f"bss_{name}": _medians(getattr(self, name)) for name in ("sdr", "isr", "sir", "sar")}


def bss_eval(*, estimate: Array, reference: Array, sample_rate_hz: int) -> BssEval:
    """The ratios of estimates that are paired already: estimate i answers reference i.

    Shapes: estimate, reference (source, time) -> (source, frame). Frames of 1 s, one after another; a scene that is
    shorter is one frame, and a rest shorter than a frame shapes the filters and is in no frame.
    ValueError on unequal shapes, non-finite samples, more than MAX_SOURCES, a silent source (see `bss_eval_of_scene`),
    and where museval is not installed.
    """
    e, s = (each.cpu().double().numpy() for each in signals(estimate=estimate, reference=reference))
    n_frames = _n_frames(e, sample_rate_hz)
    if len(s) > MAX_SOURCES:
        raise ValueError(f"bss_eval of {len(s)} sources; at most {MAX_SOURCES}, since its time grows with the fourth "
                         "power of their number: leave it out of the metrics")
    for name, array in (("estimate", e), ("reference", s)):
        for i in np.flatnonzero(_silent(array)):
            raise ValueError(f"{name}: source {i} is silent, and BSS Eval is not defined there: leave it out")
    if not len(s):
        return BssEval(*np.empty((4, 0, n_frames)))
    with np.errstate(all="ignore"):  # ratios with nothing above or below the line are infinite, and meant to be
        ratios = _museval().bss_eval(
            s, e, window=sample_rate_hz, hop=sample_rate_hz, compute_permutation=False, framewise_filters=False,
            bsseval_sources_version=False,
        )
    return BssEval(*ratios[:4])


def bss_eval_of_scene(
    *, estimate: Array, reference: Array, pairs: Sequence[tuple[int, int]], sample_rate_hz: int
) -> BssEval:
    """The ratios of the estimates that answer a reference, one row per pair, in the order of `pairs`.

    Shapes: estimate (estimate, time), reference (reference, time), any number of each; pairs (reference, estimate)
    -> (pair, frame). All references that sound are told apart as interference, answered or not: where one has no
    estimate, it stands in for its own, which changes no other row, since each estimate is split on its own. Estimates
    beyond the pairs and silent references are left out. A silent estimate, and one that answers a silent reference,
    has a row of NaN (undefined). ValueError as in `bss_eval`.
    """
    e, s = (each.cpu().double().numpy() for each in signal_sets(estimate=estimate, reference=reference))
    silent_estimate, silent_reference = _silent(e), _silent(s)
    answers = {i: j for i, j in pairs if not (silent_reference[i] or silent_estimate[j])}
    ratios = np.full((4, len(pairs), _n_frames(e, sample_rate_hz)), np.nan)
    if answers:
        active = np.flatnonzero(~silent_reference)
        answered = np.stack([e[answers[i]] if i in answers else s[i] for i in active.tolist()])  # (active, time)
        found = bss_eval(estimate=answered, reference=s[active], sample_rate_hz=sample_rate_hz)
        rows = [row for row, (i, _) in enumerate(pairs) if i in answers]
        where = np.searchsorted(active, [pairs[row][0] for row in rows])
        ratios[:, rows] = np.stack([found.sdr, found.isr, found.sir, found.sar])[:, where]
    return BssEval(*ratios)


def _n_frames(sources: np.ndarray, sample_rate_hz: int) -> int:
    if sources.ndim != 2:
        raise ValueError(f"estimate has shape {'x'.join(map(str, sources.shape))}; (source, time) is wanted")
    if sample_rate_hz < 1:
        raise ValueError(f"sample_rate_hz is {sample_rate_hz}; it must be at least 1")
    return max(1, sources.shape[1] // sample_rate_hz)


def _silent(sources: np.ndarray) -> np.ndarray:
    return np.asarray(~sources.any(axis=-1))


def _medians(frames: np.ndarray) -> np.ndarray:
    """(source, frame) -> (source,), over finite frames; NaN where there is none."""
    finite = [row[np.isfinite(row)] for row in frames]
    return np.array([np.median(row) if len(row) else np.nan for row in finite])


@cache
def _museval() -> ModuleType:
    """museval's metrics.py as a module of its own. ValueError where museval is not installed."""
    package = find_spec("museval")  # finds the folder, runs nothing
    folders = package.submodule_search_locations if package else None
    spec = spec_from_file_location("sepbench_museval_metrics", Path(folders[0]) / "metrics.py") if folders else None
    if spec is None or spec.loader is None:
        raise ValueError("bss_eval needs museval, which is not installed: pip install museval")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    # museval 0.4.1 looks for LinAlgError, which sends it from solving to least squares where two references are copies
    # of each other, in np.linalg.linalg. NumPy 2.4 has none, so this module, and it alone, is given one.
    linalg = SimpleNamespace(**{**vars(np.linalg), "linalg": np.linalg})
    setattr(module, "np", SimpleNamespace(**{**vars(np), "linalg": linalg}))  # noqa: B010, mypy knows no such attribute
    return module
