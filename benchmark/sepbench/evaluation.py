"""`sepbench.evaluate`: the judge for Python users, on arrays or tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from sepbench.errors import UserError
from sepbench.judge import judge
from sepbench.metrics import GROUPS
from sepbench.metrics.arrays import as_tensor, check_finite, shape_text
from sepbench.scene import Estimate, Mixture, Row, Scene, Source
from sepbench.score_metrics import answerable, judged, only, result

RUN, SPLIT = "evaluate", "test"


def evaluate(
    *,
    estimate: Any,
    reference: Any,
    mixture: Any = None,
    estimate_labels: Sequence[Any] | None = None,
    reference_labels: Sequence[Any] | None = None,
    sample_rate_hz: int | None = None,
    metrics: Sequence[str] | None = None,
) -> dict[str, Any]:
    """All figures of one scene or many, as `sepbench score --json` writes them.

        figures = sepbench.evaluate(estimate=estimate, reference=reference, mixture=mixture)
        figures["summary"]["si_sdri"]["mean"]

    Numpy arrays or tensors, on any device:

        one scene     estimate (estimate, time), reference (reference, time), mixture (time,) or (channel, time)
        a batch       estimate (batch, estimate, time), reference (batch, reference, time), mixture (batch, time) or
                      (batch, channel, time)
        many scenes   a list of each, which may differ in length and in the number of sources; an array (0, time) is a
                      scene in which nothing was found, or in which nothing is

    estimate_labels, reference_labels: a label for each source, for a batch or list in a list per scene. Without them,
    or with those of the references alone, estimates are scored by separation. sample_rate_hz: only BSS Eval wants it.
    metrics: names from `sepbench metrics`; None for all that the input can answer but BSS Eval and FUSS's.

    Which estimate answers which reference is chosen once per scene, by the highest mean SI-SDR. Handed back is a dict
    of plain numbers, lists and texts:

        signature  {metric: str}, which says how each was measured
        scenes     [{"scene": "0", "pairs": [[reference, estimate], ...], "metrics": {metric: mean over references}}],
                   with the number of sources missed, extra and sign-flipped; without the metrics that are undefined
        summary    {metric: {"mean", "median", "n", "undefined", "ci95"}} over all sources; the 95 % interval of the
                   mean, drawing scenes, is [low, high], or None of one scene alone; where nothing could be measured,
                   "n" is 0 and "mean" is None

    ValueError, in one line, where shapes or labels do not fit, a sample is not finite, or a metric is unknown or wants
    what was not given.
    """
    _check_rate(sample_rate_hz)
    references, estimates = _scenes(reference, "reference"), _scenes(estimate, "estimate")
    n = _same_number("estimate", len(estimates), "reference", len(references))
    many = not _is_one(reference)
    mixtures = None if mixture is None else _mixtures(mixture, many)
    if mixtures is not None:
        _same_number("mixture", len(mixtures), "reference", n)
    labels = (
        _labels(reference_labels, references, "reference", many),
        _labels(estimate_labels, estimates, "estimate", many),
    )
    if labels[1] is not None and labels[0] is None:
        raise ValueError("estimate_labels without reference_labels: give both, or neither")
    wanted = _wanted(metrics, mixtures is not None, labels[1] is not None)
    if sample_rate_hz is None and any(name in GROUPS["bss_eval"] for name in wanted):
        raise ValueError("metrics: BSS Eval is of windows of 1 s; give sample_rate_hz")
    classes = sorted({label for side in labels for own in side or [] for label in own})
    rows: list[Row] = []
    for i in range(n):
        mixed = None if mixtures is None else mixtures[i]
        names, own = (None if side is None else side[i] for side in labels)
        scene, answer = _scene(i, estimates[i], references[i], mixed, names, own, int(sample_rate_hz or 1))
        rows += _judged(scene, answer, classes, wanted)
    return result(rows, {str(i): {} for i in range(n)}, wanted)


def _check_rate(rate_hz: Any) -> None:
    if rate_hz is None:
        return
    whole = isinstance(rate_hz, Integral) or (isinstance(rate_hz, float) and rate_hz.is_integer())
    if isinstance(rate_hz, bool) or not whole or rate_hz <= 0:
        raise ValueError(f"sample_rate_hz: must be a positive whole number, such as 16000, got {rate_hz!r}"[:200])


def _is_one(array: Any) -> bool:
    return not isinstance(array, (list, tuple)) and as_tensor(array).ndim == 2


def _scenes(given: Any, name: str) -> list[Tensor]:
    """One array (source, time) for each scene."""
    if isinstance(given, (list, tuple)):
        scenes = [_sound(each, f"{name}, scene {i}") for i, each in enumerate(given)]
    else:
        whole = _sound(given, name)
        scenes = [whole] if whole.ndim == 2 else list(whole) if whole.ndim == 3 else []
        if not scenes:
            wanted = "(source, time), (batch, source, time) or a list of (source, time)"
            raise ValueError(f"{name} is {shape_text(whole)}; wanted {wanted}, with at least one scene")
    if not scenes:
        raise ValueError(f"{name}: an empty list; wanted an array (source, time) for each scene")
    for i, scene in enumerate(scenes):
        if scene.ndim != 2 or not scene.shape[1]:
            wanted = "(source, time) with at least one sample"
            raise ValueError(f"{name}, scene {i} is {shape_text(scene)}; wanted {wanted}")
        check_finite(scene, f"{name}, scene {i}")
    return scenes


def _mixtures(given: Any, many: bool) -> list[Tensor]:
    """One array (channel, time) for each scene."""
    if many and not isinstance(given, (list, tuple)):
        given = _sound(given, "mixture")
        if not given.ndim:
            raise ValueError("mixture is one number; wanted a mixture for each scene")
    held = list(given) if many else [given]
    mixtures = [_sound(each, f"mixture, scene {i}") for i, each in enumerate(held)]
    for i, each in enumerate(mixtures):
        if each.ndim not in (1, 2) or not each.numel():
            raise ValueError(f"mixture, scene {i} is {shape_text(each)}; wanted (time,) or (channel, time)")
        check_finite(each, f"mixture, scene {i}")
    return [each[None] if each.ndim == 1 else each for each in mixtures]


def _sound(array: Any, name: str) -> Tensor:
    """As a tensor of floating point numbers."""
    try:
        sound = as_tensor(array)
    except (TypeError, ValueError, RuntimeError) as error:
        got = f"{type(array).__name__} ({str(error).splitlines()[0]})"
        raise ValueError(f"{name}: wanted an array or a tensor of numbers, got {got}") from error
    if sound.is_complex() or sound.dtype == torch.bool:
        raise ValueError(f"{name}: holds {str(sound.dtype).removeprefix('torch.')}; wanted real samples")
    if not sound.is_floating_point():
        return sound.double()
    return sound.float() if sound.dtype.itemsize < 4 else sound


def _labels(given: Any, sounds: Sequence[Tensor], name: str, many: bool) -> list[list[str]] | None:
    """A list of labels for each scene."""
    if given is None:
        return None
    if not _is_list(given) or (many and not all(map(_is_list, given))):
        raise ValueError(f"{name}_labels: wanted a list of labels" + (" for each scene, in a list" if many else ""))
    labels = [[*own] for own in given] if many else [[*given]]
    _same_number(f"{name}_labels", len(labels), name, len(sounds))
    for i, (own, sound) in enumerate(zip(labels, sounds)):
        if len(own) != len(sound):
            raise ValueError(f"{name}_labels, scene {i}: {len(own)} labels for {len(sound)} sources; each needs one")
        if bad := [label for label in own if not isinstance(label, str) or not label]:
            raise ValueError(f"{name}_labels, scene {i}: {bad[0]!r} is no label; wanted a text that is not empty")
    return labels


def _is_list(given: Any) -> bool:
    """Whether it can be gone through more than once, and is no text. An array of no axes cannot."""
    many = isinstance(given, Iterable) and hasattr(given, "__len__") and getattr(given, "ndim", 1) > 0
    return many and not isinstance(given, (str, bytes))


def _wanted(metrics: Sequence[str] | None, mixture: bool, labelled: bool) -> list[str]:
    if isinstance(metrics, str):
        raise ValueError(f"metrics: wanted a list such as ['{metrics}'], got a text")
    if metrics is not None and not (_is_list(metrics) and all(isinstance(name, str) for name in metrics)):
        got = " ".join(repr(metrics).split())[:60]
        raise ValueError(f"metrics: wanted a list of names such as ['si_sdr'], got {got}")
    try:
        return answerable(metrics, mixture=mixture, labelled=labelled, where="metrics")
    except UserError as error:
        raise ValueError(str(error)) from error


def _scene(
    i: int, found: Tensor, there: Tensor, mixed: Tensor | None, names: list[str] | None, labels: list[str] | None,
    rate_hz: int,
) -> tuple[Scene, Estimate]:  # fmt: skip
    n_time = there.shape[1]
    for name, sound in (("estimate", found), ("mixture", mixed)):
        if sound is not None and sound.shape[-1] != n_time:
            raise ValueError(f"{name}, scene {i} is {shape_text(sound)} and reference {shape_text(there)}: "
                             "both must have the same time axis")
    kinds = [each.dtype for each in (found, there, mixed) if each is not None]
    kind = torch.float64 if torch.float64 in kinds else torch.float32
    found, there = (each.to(there.device, kind) for each in (found, there))
    mixed = there.new_zeros(1, n_time) if mixed is None else mixed.to(there.device, kind)
    times = ((0.0, n_time / rate_hz),)
    sources = tuple(Source(audio, label, times) for audio, label in zip(there, names or [""] * len(there)))
    return Scene(Mixture(mixed, rate_hz, str(i)), sources), Estimate(found, None if labels is None else tuple(labels))


def _judged(scene: Scene, answer: Estimate, classes: Sequence[str], wanted: Sequence[str]) -> list[Row]:
    try:
        return only(judge(scene, answer, classes, judged(wanted), RUN, SPLIT, minimum_active=0), wanted)
    except UserError as error:
        raise ValueError(str(error).removeprefix(f"run {RUN}, ")) from error


def _same_number(name: str, n: int, other: str, n_other: int) -> int:
    if n != n_other:
        raise ValueError(f"{name} is of {n} scenes and {other} of {n_other}: each scene needs both")
    return n
