"""Scene + Estimate -> rows. The only judge: floor, contestants, oracles and strangers all come through here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from sepbench.errors import UserError
from sepbench.judge_case import Case, checked
from sepbench.labels import Events
from sepbench.metrics import CHANCE, GROUPS, LEVELS, OUTCOMES, expand
from sepbench.metrics.arrays import shape_text
from sepbench.metrics.bss_eval import bss_eval_of_scene
from sepbench.metrics.ca_sdri import ca_sdri
from sepbench.metrics.capi_sdri import capi_sdri
from sepbench.metrics.class_accuracy import all_right, chance, class_hits, named_hits
from sepbench.metrics.f_measure import Counts, clip_counts, frame_counts
from sepbench.metrics.fuss import ALONE, counted, names_of
from sepbench.metrics.label_set import label_set_accuracy
from sepbench.metrics.overlap import overlap
from sepbench.metrics.pairing import Pairs
from sepbench.metrics.separation_rate import separation_outcome
from sepbench.metrics.snr import snr
from sepbench.metrics.source_f import source_counts
from sepbench.scene import Activity, Estimate, Row, Scene

RowOf = Callable[[int, str, str, float], Row]  # (source, label, metric, value) -> Row

BY_SEPARATION = ("si_sdr", "si_sdri", "snr", "snri", *GROUPS["bss_eval"])
BY_LABEL = ("si_sdr_by_label", "si_sdri_by_label")
FUSS = tuple(name for name in GROUPS["fuss"] if name not in GROUPS["separation_rate"])
ACCURACY = ("class_accuracy", "class_accuracy_both")
BY_SET = ("ca_sdri", "capi_sdri")
PER_SOURCE = ("si_sdr_mixture", *BY_SEPARATION, *BY_LABEL)


def judge(
    scene: Scene,
    estimate: Estimate,
    classes: Sequence[str],
    metrics: Sequence[str],
    run: str,
    split: str,
    minimum_active: int = 2,
    n_classes: int | None = None,
    one_per_class: bool = False,
) -> list[Row]:
    """All figures of one scene, for those of `metrics` that the estimate can answer; what is not measured has no row.

    Which estimate answers which reference is chosen once, by the highest mean SI-SDR, whatever the labels; every
    figure per source uses it, and a `paired_with` row keeps it. An estimate with labels is also paired by those
    (`..._by_label`, `paired_by_label`). These figures are there for scenes with at least `minimum_active` distinct
    active classes: one row per active reference that an estimate answers, `si_sdr_mixture` for every active reference.
    Also 1.0 each: `missed` and `missed_by_label` per active reference without an estimate, `extra` per active estimate
    without a reference, `sign_flipped` per estimate upside down, `<metric>_undefined` per reference that should
    sound and is silent.
    Label sets (ca_sdri, capi_sdri, label_set_accuracy), separation rates: one row per scene; of the first two none where
    fewer classes sound than `minimum_active`, but some, since such a mixture leaves nothing to improve. FUSS's figures, whatever
    `minimum_active`: a row per active reference, and the rates beside them whether asked for or not. Sources and detection
    (source_..., f_measure_...): counts per class (source_tp, frame_tp and so on). Where `n_classes` says how many classes a
    label may be of, `class_accuracy_chance` stands beside each class_accuracy: what guessing would score.

    An estimate without sources, which only says what it hears, has no figure of separation and misses nothing: its
    classes are right by the set of labels, of which a `labels_alone` row per scene tells. Without activity, the clips that
    f_measure_clip counts are what the labels say, unless an answer has an output for every class (`one_per_class`), heard or not.
    How many sources sound and how much they overlap stands in a row each (`n_sources`, `overlap`), whatever was wanted.
    A scene whose sources have empty labels is judged by separation alone. Improvement is over the first channel of the
    mixture. UserError, naming run and scene, where an estimate has the wrong shape, a label that is no class, or a
    sample that is not finite, and where a metric is unknown.
    """
    wanted = expand(metrics, "task.metrics")
    row: RowOf = partial(Row, run, split, scene.mixture.id)
    try:
        case = checked(scene, estimate, classes)
        rows = [*_facts(case, row), *_rates(case, wanted, row), *_by_source_count(case, wanted, row)]
        if case.n_kinds >= minimum_active:
            rows += _source_rows(case, wanted, row)
        if case.labels is not None:
            rows += _accuracy_rows(case, [name for name in ACCURACY if name in wanted], n_classes, row)
            improvable = case.n_kinds == 0 or case.n_kinds >= minimum_active
            rows += _label_set_rows(case, [name for name in wanted if improvable or name not in BY_SET], row)
        if estimate.activity is not None:
            rows += _detection_rows(scene, estimate.activity, classes, wanted, row)
        elif case.labels is not None and "f_measure_clip" in wanted and not one_per_class:
            rows += _named_clip_rows(case, classes, row)
    except ValueError as error:
        raise UserError(f"run {run}, scene {scene.mixture.id}: {error}") from error
    return rows


def _facts(case: Case, row: RowOf) -> list[Row]:
    """What tells scenes apart, of those in which anything sounds: how many sources, and how much of the time they share."""
    if not case.active:
        return []
    times = [case.scene.sources[i].intervals_s for i in case.active]
    shared = [row(-1, "", "overlap", overlap(times))] if all(times) and any(on < off for own in times for on, off in own) else []
    return [row(-1, "", "n_sources", float(len(case.active))), *shared]


def _rates(case: Case, wanted: Sequence[str], row: RowOf) -> list[Row]:
    """Whether the scene has fewer, as many or more active estimates than references; all three beside FUSS's figures."""
    flattered = any(name in FUSS for name in wanted)
    rates = [name for name in GROUPS["separation_rate"] if name in wanted or flattered]
    if not rates or not case.separates:
        return []
    outcome = separation_outcome(n_estimates=sum(case.loud), n_references=len(case.active))
    return [row(-1, "", name, float(name == outcome)) for name in rates]


def _by_source_count(case: Case, wanted: Sequence[str], row: RowOf) -> list[Row]:
    """FUSS's figures, one for each active reference whose estimate counts; the others are counted as undefined."""
    names = [name for name in names_of(len(case.active)) if name in wanted]
    if not names or not case.separates:
        return []
    pairs = counted(case.pairs, case.loud)
    places, answers = [place for place, _ in pairs], [j for _, j in pairs]
    after, before = case.scores[places, answers].numpy(), case.mixture_scores[places].numpy()
    figures = {name: after if name == ALONE else _gain(after, before) for name in names}
    lost = [i for place, i in enumerate(case.active) if place not in places]
    unheard = [row(i, case.names[i], f"{name}_undefined", 1.0) for name in names for i in lost]
    return [*_figures(case, pairs, figures, row), *unheard]


def _source_rows(case: Case, wanted: Sequence[str], row: RowOf) -> list[Row]:
    """The figures per source, by separation and by label, and what stands beside them."""
    labelled = case.labels is not None
    lacking = (*(() if case.separates else BY_SEPARATION), *(() if case.separates and labelled else BY_LABEL))
    names = [name for name in PER_SOURCE if name in wanted and name not in lacking]
    accuracy = labelled and any(name in wanted for name in ACCURACY)
    rows = [row(i, case.names[i], f"{name}_undefined", 1.0) for name in names for i in case.silent]
    if "si_sdr_mixture" in names:
        rows += [row(i, case.names[i], "si_sdr_mixture", value)
                 for i, value in zip(case.active, case.mixture_scores.tolist(), strict=True)]
    if case.separates and (accuracy or any(name in BY_SEPARATION for name in names)):
        rows += _paired_rows(case, case.pairs, "paired_with", "missed", row)
        rows += _extra_and_flipped(case, row)
        rows += _figures(case, case.pairs, _by_separation(case, names), row)
    if any(name in BY_LABEL for name in names):
        rows += _paired_rows(case, case.pairs_by_label, "paired_by_label", "missed_by_label", row)
        rows += _figures(case, case.pairs_by_label, _by_label(case, names), row)
    return rows


def _paired_rows(case: Case, pairs: Pairs, fact: str, missed: str, row: RowOf) -> list[Row]:
    answered = dict(pairs)
    return [row(i, case.names[i], fact, float(answered[place])) if place in answered
            else row(i, case.names[i], missed, 1.0) for place, i in enumerate(case.active)]


def _extra_and_flipped(case: Case, row: RowOf) -> list[Row]:
    """Active estimates that answer nothing, and those that answer upside down."""
    paired = {j for _, j in case.pairs}
    rows = [row(-1, case.labels[j] if case.labels else "", "extra", 1.0)
            for j, loud in enumerate(case.loud) if loud and j not in paired]
    return rows + [row(case.active[place], case.names[case.active[place]], "sign_flipped", 1.0)
                   for place, j in case.pairs if case.looked.upside_down[place, j]]


def _figures(case: Case, pairs: Pairs, figures: dict[str, np.ndarray], row: RowOf) -> list[Row]:
    """A row for each pair and figure, (pair,) each; where a figure is not defined it says so instead."""
    rows = []
    for name, values in figures.items():
        for (place, _), value in zip(pairs, values.tolist(), strict=True):
            i = case.active[place]
            undefined = bool(np.isnan(value))
            rows.append(row(i, case.names[i], f"{name}_undefined" if undefined else name, 1.0 if undefined else value))
    return rows


def _by_separation(case: Case, names: Sequence[str]) -> dict[str, np.ndarray]:
    places, answers = [place for place, _ in case.pairs], [j for _, j in case.pairs]
    after = case.scores[places, answers].numpy()
    figures = {"si_sdr": after, "si_sdri": _gain(after, case.mixture_scores[places].numpy())}
    if not case.pairs:
        return {}
    if "snr" in names or "snri" in names:
        e, s = case.sounds(case.pairs)
        figures["snr"] = snr(estimate=e, reference=s).cpu().numpy()
        before = snr(estimate=case.mixture.expand_as(s), reference=s).cpu().numpy()
        figures["snri"] = _gain(figures["snr"], before)
    if any(name in GROUPS["bss_eval"] for name in names):
        found = bss_eval_of_scene(estimate=case.found, reference=case.references[case.active], pairs=case.pairs,
                                  sample_rate_hz=case.scene.mixture.sample_rate_hz)
        figures |= found.figures()
    return {name: figures[name] for name in names if name in figures}


def _gain(after_db: np.ndarray, before_db: np.ndarray) -> np.ndarray:
    """The improvement; 0 for the mixture itself. Past 1e-9 dB there is only the order in which samples were summed."""
    return np.round(after_db - before_db, 9) + 0.0  # and no negative zero


def _by_label(case: Case, names: Sequence[str]) -> dict[str, np.ndarray]:
    places, answers = [place for place, _ in case.pairs_by_label], [j for _, j in case.pairs_by_label]
    after = case.scores[places, answers].numpy()
    figures = {"si_sdr_by_label": after, "si_sdri_by_label": _gain(after, case.mixture_scores[places].numpy())}
    return {name: figures[name] for name in names if name in figures}


def _accuracy_rows(case: Case, wanted: Sequence[str], n_classes: int | None, row: RowOf) -> list[Row]:
    """Whether each class is right: that of the estimate which separation chose, or, without sounds, one of those named."""
    if not wanted or case.labels is None or not case.active:
        return []
    names, n_named = [case.names[i] for i in case.active], None if case.separates else len(case.labels)
    if n_named is None:
        rows, hits = [], class_hits(pairs=case.pairs, estimate_labels=case.labels, reference_labels=names)
    else:
        rows, hits = [row(-1, "", "labels_alone", 1.0)], named_hits(estimate_labels=case.labels, reference_labels=names)
    if "class_accuracy" in wanted:
        rows += [row(i, name, "class_accuracy", hit) for i, name, hit in zip(case.active, names, hits, strict=True)]
        if n_classes is not None:
            guessed = chance(n_classes, n_named)
            rows += [row(i, name, f"class_accuracy{CHANCE}", guessed) for i, name in zip(case.active, names, strict=True)]
    if "class_accuracy_both" in wanted:
        rows.append(row(-1, "", "class_accuracy_both", all_right(hits)))
    return rows


def _label_set_rows(case: Case, wanted: Sequence[str], row: RowOf) -> list[Row]:
    names, labels = [case.names[i] for i in case.active], case.labels or ()
    rows = []
    for name, measure in zip(BY_SET, (ca_sdri, capi_sdri)):
        if name in wanted and case.separates:
            repeated = name == "ca_sdri" and (len(set(names)) < len(names) or len(set(labels)) < len(labels))
            value = float("nan") if repeated else measure(
                estimate=case.found, reference=case.references[case.active], mixture=case.mixture,
                estimate_labels=labels, reference_labels=names)
            rows.append(row(-1, "", f"{name}_undefined", 1.0) if np.isnan(value) else row(-1, "", name, value))
    if "label_set_accuracy" in wanted:
        value = label_set_accuracy(estimate_labels=labels, reference_labels=names)
        rows.append(row(-1, "", "label_set_accuracy", value))
    if any(name in wanted for name in GROUPS["source_detection"]):
        for label, counts in source_counts(estimate_labels=labels, reference_labels=names).items():
            rows += [row(-1, label, f"source_{outcome}", float(getattr(counts, outcome)))
                     for outcome in ("tp", "fp", "fn")]
    return rows


def _detection_rows(
    scene: Scene, activity: Activity, classes: Sequence[str], wanted: Sequence[str], row: RowOf
) -> list[Row]:
    """Counts per class on the estimate's own grid. A clip sounds as likely as its likeliest frame."""
    probability = activity.probability.detach().cpu()
    if probability.ndim != 2 or len(probability) != len(classes) or not probability.shape[1]:
        raise ValueError(f"activity (class, frame) is {shape_text(probability)}: the task has {len(classes)} classes, "
                         "and there must be at least one frame")
    events = _events(scene, classes)
    counts: dict[str, list[Counts]] = {}
    if "f_measure_frame" in wanted:
        truth = events.activity(probability.shape[1], activity.hop_s, activity.start_s)[0]
        counts["frame"] = frame_counts(estimate=probability, reference=truth)
    if "f_measure_clip" in wanted:
        counts["clip"] = clip_counts(estimate=probability.amax(-1), reference=events.presence()[0])
    return _count_rows(counts, classes, row)


def _named_clip_rows(case: Case, classes: Sequence[str], row: RowOf) -> list[Row]:
    """Counts per class of an answer that says what sounds and not when."""
    said, sounds = set(case.labels or ()), {case.names[i] for i in case.active}
    estimate, reference = (np.array([float(name in names) for name in classes]) for names in (said, sounds))
    return _count_rows({"clip": clip_counts(estimate=estimate, reference=reference)}, classes, row)


def _count_rows(counts: dict[str, list[Counts]], classes: Sequence[str], row: RowOf) -> list[Row]:
    return [
        row(-1, label, f"{level}_{outcome}", float(getattr(each, outcome)))
        for level in LEVELS if level in counts
        for label, each in zip(classes, counts[level], strict=True)
        for outcome in OUTCOMES
    ]


def _events(scene: Scene, classes: Sequence[str]) -> Events:
    """The events of the scene's sources. ValueError where a source sounds at no known time."""
    untimed = [each.label for each in scene.sources if not each.intervals_s and bool((each.audio != 0).any())]
    if untimed:
        raise ValueError(f"source '{untimed[0]}' sounds but has no intervals_s, so detection has no truth: "
                         "give its times, or leave f_measure_frame and f_measure_clip out of the task's metrics")
    events = [(classes.index(each.label), on, off) for each in scene.sources for on, off in each.intervals_s]
    label, on_s, off_s = zip(*events, strict=True) if events else ((), (), ())
    return Events(np.zeros(len(events), np.int64), np.array(label, np.int64), np.array(on_s, np.float64),
                  np.array(off_s, np.float64), n_scenes=1, n_classes=len(classes))
