"""Scene + Estimate -> rows. The only judge: floor, contestants and oracles all come through here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from sepbench.errors import UserError, nearest
from sepbench.labels import Events
from sepbench.metrics import LEVELS, METRICS, OUTCOMES
from sepbench.metrics.arrays import check_finite, shape_text
from sepbench.metrics.ca_sdri import ca_sdri
from sepbench.metrics.capi_sdri import capi_sdri
from sepbench.metrics.f_measure import Counts, clip_counts, frame_counts
from sepbench.metrics.label_set import label_set_accuracy
from sepbench.metrics.pairing import Pairs, pair_by_separation
from sepbench.metrics.si_sdr import is_sign_flipped, si_sdr
from sepbench.metrics.snr import snr
from sepbench.scene import Activity, Estimate, Row, Scene

RowOf = Callable[[int, str, str, float], Row]  # (source, label, metric, value) -> Row

SEPARATION = ("si_sdr", "si_sdri", "si_sdr_mixture", "snr", "snri")


def evaluate(
    scene: Scene,
    estimate: Estimate,
    classes: Sequence[str],
    metrics: Sequence[str],
    run: str,
    split: str,
    minimum_active: int = 2,
) -> list[Row]:
    """All figures of one scene, for those of `metrics` that the estimate can answer; what is not measured has no row.

    Separation (si_sdr, si_sdri, si_sdr_mixture, snr, snri): one row per active reference that an estimate answers, in
    scenes with at least `minimum_active` distinct active classes. An estimate with labels answers the reference of its
    label, and where a label repeats, the one it is most like; one without labels answers by separation alone. Also 1.0
    each: `missed` per active reference without an estimate, `extra` per estimate, not silent, without a reference,
    `sign_flipped` per estimate upside down, `<metric>_undefined` per reference that should sound and is silent.
    Label sets (ca_sdri, capi_sdri, label_set_accuracy): one row per scene, where the estimate has labels.
    Detection (f_measure_frame, f_measure_clip): counts per class, `frame_tp` and so on, where it has an activity.

    Improvement is over the first channel of the mixture. UserError, naming run and scene, where an estimate has the
    wrong shape, a label that is no class, or a sample that is not finite, and where a metric is unknown.
    """
    for name in metrics:
        if name not in METRICS:
            raise UserError(f"metric '{name}' is none of {', '.join(METRICS)}.{nearest(name, METRICS)}")
    row: RowOf = partial(Row, run, split, scene.mixture.id)
    try:
        found = _checked(scene, estimate, classes)
        rows = _separation_rows(scene, found, estimate.labels, metrics, row, minimum_active)
        if estimate.labels is not None:
            rows += _label_set_rows(scene, found, estimate.labels, metrics, row)
        if estimate.activity is not None:
            rows += _detection_rows(scene, estimate.activity, classes, metrics, row)
    except ValueError as error:
        raise UserError(f"run {run}, scene {scene.mixture.id}: {error}") from error
    return rows


def _checked(scene: Scene, estimate: Estimate, classes: Sequence[str]) -> Tensor:
    """The estimated sources, (source, time), beside the scene; ValueError where they cannot be an answer to it."""
    n_time = scene.mixture.audio.shape[-1]
    found = estimate.sources.detach()
    if found.ndim != 2 or found.shape[1] != n_time:
        mixture = shape_text(scene.mixture.audio)
        raise ValueError(f"estimate (source, time) is {shape_text(found)} and mixture (channel, time) is {mixture}: "
                         "both must have the same time axis")
    check_finite(found, "estimate")
    if estimate.labels is not None and len(estimate.labels) != len(found):
        raise ValueError(f"estimate has {len(estimate.labels)} labels for {len(found)} sources: each needs one")
    for who, labels in (("estimate", estimate.labels or ()), ("scene", [source.label for source in scene.sources])):
        for label in labels:
            if label not in classes:
                raise ValueError(f"{who} label '{label}' is no class of the task.{nearest(label, classes)}")
    return found.to(scene.mixture.audio.device)


def _references(scene: Scene) -> tuple[Tensor, list[int]]:
    """All sources (source, time) and the indices of those that sound."""
    audio = scene.mixture.audio
    silence = audio.new_zeros(0, audio.shape[-1])
    sources = torch.stack([each.audio for each in scene.sources]) if scene.sources else silence
    return sources, torch.nonzero(sources.abs().amax(-1) > 0)[:, 0].tolist()


def _separation_rows(
    scene: Scene,
    found: Tensor,
    labels: Sequence[str] | None,
    metrics: Sequence[str],
    row: RowOf,
    minimum_active: int,
) -> list[Row]:
    wanted = [name for name in SEPARATION if name in metrics]
    references, active = _references(scene)
    names = [source.label for source in scene.sources]
    if not wanted or len({names[i] for i in active}) < minimum_active:
        return []
    pairs = _pairs(found, references, active, labels, names)
    paired_references, paired_estimates = {i for i, _ in pairs}, {j for _, j in pairs}
    loud = (found.abs().amax(-1) > 0).tolist()
    rows = [row(i, names[i], "missed", 1.0) for i in active if i not in paired_references]
    rows += [row(-1, labels[j] if labels else "", "extra", 1.0)
             for j in range(len(found)) if loud[j] and j not in paired_estimates]
    rows += [row(i, source.label, f"{name}_undefined", 1.0) for name in wanted
             for i, source in enumerate(scene.sources) if source.intervals_s and i not in active]
    if not pairs:
        return rows
    e, s = found[[j for _, j in pairs]], references[[i for i, _ in pairs]]  # (pair, time)
    figures = _figures(e, s, scene.mixture.audio[0].expand_as(s), wanted)
    figures["sign_flipped"] = is_sign_flipped(estimate=e, reference=s)
    for name, values in figures.items():
        rows += [row(i, names[i], name, float(value)) for (i, _), value in zip(pairs, values.tolist(), strict=True)
                 if name != "sign_flipped" or value]
    return rows


def _pairs(
    found: Tensor, references: Tensor, active: Sequence[int], labels: Sequence[str] | None, names: Sequence[str]
) -> Pairs:
    """(reference, estimate) for each active reference that an estimate answers, in order of the reference."""
    if labels is None:
        groups = [(list(active), list(range(len(found))))]
    else:
        groups = [([i for i in active if names[i] == name], [j for j, label in enumerate(labels) if label == name])
                  for name in sorted({names[i] for i in active})]
    pairs: Pairs = []
    for there, given in groups:
        if len(there) == len(given) == 1:
            pairs.append((there[0], given[0]))  # nothing to choose
        elif there and given:
            chosen = pair_by_separation(estimate=found[given], reference=references[there])
            pairs += [(there[i], given[j]) for i, j in chosen]
    return sorted(pairs)


def _figures(e: Tensor, s: Tensor, mixture: Tensor, wanted: Sequence[str]) -> dict[str, Tensor]:
    """Each wanted separation metric: (pair, time) three times -> (pair,). What two of them share is computed once."""
    figures: dict[str, Tensor] = {}
    if any(name.startswith("si_sdr") for name in wanted):
        before, after = si_sdr(estimate=mixture, reference=s), si_sdr(estimate=e, reference=s)
        figures |= {"si_sdr": after, "si_sdri": after - before, "si_sdr_mixture": before}
    if any(name.startswith("snr") for name in wanted):
        after = snr(estimate=e, reference=s)
        figures |= {"snr": after, "snri": after - snr(estimate=mixture, reference=s)}
    return {name: figures[name] for name in wanted}


def _label_set_rows(
    scene: Scene, found: Tensor, labels: Sequence[str], metrics: Sequence[str], row: RowOf
) -> list[Row]:
    references, active = _references(scene)
    names = [scene.sources[i].label for i in active]
    rows = []
    for name, measure in (("ca_sdri", ca_sdri), ("capi_sdri", capi_sdri)):
        if name in metrics:
            value = measure(estimate=found, reference=references[active], mixture=scene.mixture.audio[0],
                            estimate_labels=labels, reference_labels=names)
            rows.append(row(-1, "", f"{name}_undefined", 1.0) if np.isnan(value) else row(-1, "", name, value))
    if "label_set_accuracy" in metrics:
        value = label_set_accuracy(estimate_labels=labels, reference_labels=names)
        rows.append(row(-1, "", "label_set_accuracy", value))
    return rows


def _detection_rows(
    scene: Scene, activity: Activity, classes: Sequence[str], metrics: Sequence[str], row: RowOf
) -> list[Row]:
    """Counts per class on the estimate's own grid. A clip sounds as likely as its likeliest frame."""
    probability = activity.probability.detach().cpu()
    if probability.ndim != 2 or len(probability) != len(classes) or not probability.shape[1]:
        raise ValueError(f"activity (class, frame) is {shape_text(probability)}: the task has {len(classes)} classes, "
                         "and there must be at least one frame")
    events = _events(scene, classes)
    counts: dict[str, list[Counts]] = {}
    if "f_measure_frame" in metrics:
        truth = events.activity(probability.shape[1], activity.hop_s, activity.start_s)[0]
        counts["frame"] = frame_counts(estimate=probability, reference=truth)
    if "f_measure_clip" in metrics:
        counts["clip"] = clip_counts(estimate=probability.amax(-1), reference=events.presence()[0])
    return [
        row(-1, label, f"{level}_{outcome}", float(getattr(each, outcome)))
        for level in LEVELS if level in counts
        for label, each in zip(classes, counts[level], strict=True)
        for outcome in OUTCOMES
    ]


def _events(scene: Scene, classes: Sequence[str]) -> Events:
    """The events of the scene's sources. ValueError where a source sounds at no known time."""
    _, active = _references(scene)
    untimed = [scene.sources[i].label for i in active if not scene.sources[i].intervals_s]
    if untimed:
        raise ValueError(f"source '{untimed[0]}' sounds but has no intervals_s, so detection has no truth: "
                         "give its times, or leave f_measure_frame and f_measure_clip out of the task's metrics")
    events = [(classes.index(each.label), on, off) for each in scene.sources for on, off in each.intervals_s]
    label, on_s, off_s = zip(*events, strict=True) if events else ((), (), ())
    return Events(np.zeros(len(events), np.int64), np.array(label, np.int64), np.array(on_s, np.float64),
                  np.array(off_s, np.float64), n_scenes=1, n_classes=len(classes))
