"""What tables need to know of a run: its figures, its sounds, its test scenes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from sepbench.metrics import GROUPS
from sepbench.results import RunRecord
from sepbench.results_checks import MARK
from sepbench.results_format import learns_from

SYNTHETIC_NOTE = (
    "SYNTHETIC: sounds made by a generator, no recordings. Such a figure shows that the code runs; "
    "it does not compare with one on recordings, a paper's least of all."
)

ORACLE_NOTE = "ORACLE: the method is handed the true sources; a ceiling, not a contestant."
OF_THE_PROFILE = "the profile's"

SHARED_POOL = "shared_pool"  # the protocol of a task whose training and test draw on the same clips (tasks/splits.py)
SHARED = "clips shared"
SHARED_NOTE = (
    "CLIPS SHARED: the same clips serve training and test, so that the figures say how well clips that were trained on are "
    "known in new mixtures, and not how well sounds that were never heard."
)

LEGEND = (
    "[ ]: 95 % interval. SI-SDRi: each source with the estimate that separates it best, or with that of its label. Tie "
    "group: methods that share a letter cannot be told apart (paired, 95 %). Chance: the F of always saying yes, or the share "
    "of classes that guessing gets right. Undefined: silent references. Missed: sources without an answer, which no mean "
    "counts. MACs/s: multiply-accumulates per second of audio. Real-time factor: seconds of computing per second of audio, on "
    "the run's own machine. Memory: the peak of the whole process while it answers one scene (Python and torch alone take "
    "some 450 MB), or of the GPU's tensors. –: not measured."
)
BY_LABELS_NOTE = (
    "Without SI-SDRi, a method names classes and separates nothing: its classes are right by the set of its labels, which is "
    "easier to guess (see its chance)."
)


def is_synthetic(corpus: str) -> bool:
    """Whether the corpus, or a part of it, is made by a generator."""
    return any(part.startswith("synthetic") for part in corpus.split("+"))


def corpus_words(corpus: str) -> str:
    """The corpus as tables name it; in capitals where its sounds are no recordings."""
    return corpus.upper() if is_synthetic(corpus) else corpus


def shares_clips(run: RunRecord) -> bool:
    """Whether the run's protocol has the same clips serve training and test."""
    return (run.config["task"].get("splits") or {}).get("protocol") == SHARED_POOL


def taught_elsewhere(run: RunRecord) -> bool:
    """Whether the run tests, on shared clips, what was not trained on all of them: no protocol of any paper."""
    audit = run.provenance.get("audit") or {}
    if not shares_clips(run) or not run.config.get("trained_by") or not audit:
        return False
    return (audit["shared"].get("train") or {}).get("clips") != audit["clips"]["test"]


def sounds_words(run: RunRecord) -> str:
    """The corpus of a run, how many of its classes where that is a choice, and whether its clips are shared."""
    task = run.config["task"]
    words = [corpus_words(task["corpus"])]
    words += [f"{len(task['classes'])} classes"] if "class_set" in task else []
    return ", ".join([*words, *([SHARED] if shares_clips(run) else [])])


def split_words(run: RunRecord, split: str) -> str:
    """A split, and what makes it another test than its name says."""
    by = (run.config["task"].get("splits") or {}).get("by")
    return f"{split}, {SHARED}" if shares_clips(run) else f"{split}, by {by}" if by else split


def split_fact(run: RunRecord, split: str) -> str:
    """The split as the CSV has it, whose rows stand alone."""
    return f"{split}, {SHARED}" if shares_clips(run) else split


def figures_of(run: RunRecord, split: str, metric: str, key: str = "all") -> Mapping[str, Any] | None:
    """mean, std, median, n, undefined, ci95 of a metric, over all sources or one class; None where not measured."""
    held = (run.metrics.get(split) or {}).get(metric) or {}
    figures = held.get("all") if key == "all" else (held.get("class") or {}).get(key)
    return figures if figures and figures.get("mean") is not None else None


def has_rows(run: RunRecord) -> bool:
    """Whether the run's rows lie beside its figures."""
    return (run.path / "rows.parquet").is_file()


def measures(run: RunRecord, metric: str) -> bool:
    """Whether the run's task asks for the metric; where nothing is known of what it asks for, it may."""
    asked = run.config["task"].get("metrics")
    return asked is None or metric in chain.from_iterable(GROUPS.get(name, (name,)) for name in asked)


def interval(figures: Mapping[str, Any]) -> tuple[float, float] | None:
    """The 95 % interval, where there is one."""
    bounds = figures.get("ci95")
    return (bounds[0], bounds[1]) if bounds and None not in bounds else None


def newest(runs: Iterable[RunRecord]) -> RunRecord:
    """The run that finished last."""
    return max(runs, key=lambda run: (run.finished or "", run.id))


def scene_settings(run: RunRecord, split: str) -> dict[str, Any]:
    """All that decides which scenes the run was scored on. What only training uses is left out."""
    task = run.config["task"]
    names = ("name", "corpus", "classes", "sample_rate_hz", "seconds", "splits", "minimum_active")
    settings = {name: task.get(name) for name in names}
    if shares_clips(run):
        settings["splits"] = {name: task["splits"].get(name) for name in ("protocol", "folds")}  # it reads no other
    mixing = dict(task.get("mixing") or {})
    for name in [name for name in mixing if name.startswith("test_")]:
        value = mixing.pop(name)
        mixing[name[5:]] = mixing.get(name[5:]) if value is None else value  # null: as in training
    if isinstance(mixing.get("rooms"), Mapping):
        mixing["rooms"] = mixing["rooms"].get("test" if split == "test" else "train")
    settings |= {"mixing": mixing, "scenes": (task.get("scenes") or {}).get(split)}
    return settings | {"sounds": run.provenance.get("corpus_hash")}


def scenes_hash(run: RunRecord, split: str) -> str | None:
    """The same for the same scenes; None for runs from before it was kept."""
    return (run.provenance.get("scenes_hash") or {}).get(split)


def method_names(runs: Sequence[RunRecord], but: Collection[str] = ()) -> dict[str, str]:
    """The name of each run's method with the options that tell it from its default and from its neighbours, `but` some."""
    names, told, differing = {}, [_told(run) for run in runs], dict[tuple[str, str], set[str]]()
    kinds = [(run.config["recipe"], run.config["profile"]) for run in runs]
    for kind in set(kinds):
        mates = [facts for facts, other in zip(told, kinds) if other == kind]
        every = sorted(set(chain.from_iterable(mates)))
        differing[kind] = {key for key in every if len({str(facts.get(key)) for facts in mates}) > 1}
    for run, own, kind in zip(runs, told, kinds):
        shown = [key for key in own if key not in but and (key in differing[kind] or key in (run.changed or {}))]
        name = run.config.get("name") or run.config["recipe"]
        names[run.id] = f"{name} ({', '.join(f'{key}={plain(own[key])}' for key in shown)})" if shown else name
    return names


def _told(run: RunRecord) -> dict[str, Any]:
    """What may tell two runs of a recipe apart, by the names that the command line has for it."""
    config = run.config
    facts = dict(run.options if run.changed is None else run.changed)
    for part in ("train", "sizes"):
        facts |= _leaves(part, config.get(part) or {})
    others = {"inner": (config.get("inner") or {}).get("run"), "trained_by": (config.get("trained_by") or {}).get("run")}
    facts |= {"budget": budget_words(config)} if config.get("budget") else {}
    facts |= {"kept": run.id.partition(MARK)[2]} if MARK in run.id else {}  # beside another of its id, by a merge
    return facts | {"seed": config.get("seed")} | {key: Path(str(run)).name for key, run in others.items() if run}


def budget_words(config: Mapping[str, Any]) -> str | None:
    """How much training the run was given; None where it learns nothing, "the profile's" where no --budget was given."""
    if learns_from(config) is None:
        return None
    given = config.get("budget") or {}
    return next((f"{amount:,} {unit}" for unit, amount in given.items()), OF_THE_PROFILE)


def _leaves(path: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings by their whole names, such as train.critic.epochs."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        name = f"{path}.{key}"
        found |= _leaves(name, value) if isinstance(value, Mapping) else {name: value}
    return found


def plain(value: object) -> str:
    """A value as one would write it in YAML."""
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))


def short_si(value: float) -> str:
    """1234567 -> 1.23 M; 12 -> 12."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}" if value < 1000 * size else f"{value / size:.0f} {letter}"
    return f"{value:.3g}"
