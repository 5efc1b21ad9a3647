"""One file that holds all there is to see and hear of a folder of runs, and works wherever it is opened.

It asks the network for nothing: styles, script, pictures and sounds are in it, and its content security policy forbids
the rest. Tables and charts need no script; sorting and players do.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sepbench.errors import UserError
from sepbench.report.charts import INPUT, Chart, class_chart, gain_chart, gains, training_chart
from sepbench.report.embedded import RANGE_DB, colour_bar
from sepbench.report.listen import Listening
from sepbench.report.page_sounds import MB, Played, check_room, fitting, played
from sepbench.report.page_tables import PageTable, page_tables, upright
from sepbench.report.words import metric_words
from sepbench.results import RunRecord, read_rows
from sepbench.tables import make_tables
from sepbench.tables_alike import each_once, on_the_same_scenes, title_words
from sepbench.tables_facts import OF_THE_PROFILE, budget_words, figures_of, is_synthetic, method_names, newest
from sepbench.tables_task import task_tables
from sepbench.worst import rank_scenes

TEMPLATES = Path(__file__).parent / "templates"
PARTED_BY = {"class": "By class", "n_sources": "By number of sources", "overlap": "By overlap", "input_si_sdr": "By input SI-SDR"}
SCORED = ("si_sdri", "si_sdri_by_label", "ca_sdri", "capi_sdri", "si_sdr", "class_accuracy", "label_set_accuracy")
BY_PANEL = ("si_sdri", "si_sdri_by_label")  # what charts show: the one that most runs have
MOST = 12  # methods in a chart; of more, one run of each recipe is shown
PROFILES = ("paper", "small", "quick")  # of several, the first speaks for a recipe
OF_THE_TABLE = ("task", "protocol")
SPARE = 2_000  # bytes for what is written around sounds


@dataclass(frozen=True)
class Group:
    """Runs on the same scenes."""

    id: str
    title: str
    charts: tuple[tuple[str, Chart], ...]  # heading, chart
    training: tuple[tuple[str, Chart], ...]  # method, chart
    listens: tuple[Played, ...] = ()
    of_charts: str = ""  # which runs they are of, where not of all
    of_listens: str = ""


@dataclass(frozen=True)
class Section:
    """One task."""

    id: str
    name: str
    tables: tuple[PageTable, ...]
    parted: tuple[tuple[str, tuple[PageTable, ...]], ...]  # heading, tables
    groups: tuple[Group, ...]
    left_out: tuple[str, ...] = ()  # what stands in the tables alone


@dataclass(frozen=True)
class Page:
    """The file, and what was left out of it."""

    html: str
    n_runs: int
    n_heard: int  # runs with sounds
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Wanted:
    """What a page is made of. `sounds_of`: what there is to hear of a run, or why nothing; None: no sounds are wanted."""

    runs: Sequence[RunRecord]
    published: Path | None
    title: str
    made: str  # when and by which version
    passed_over: Sequence[str]  # a line for each run that cannot be read
    max_mb: float
    sounds_of: Callable[[RunRecord, str], Listening | str] | None
    say: Callable[[str], None] = field(default=print)


def make_page(wanted: Wanted) -> Page:
    """The report of `wanted.runs`. UserError where none is finished, or where it is too large even without sounds."""
    finished = _finished(wanted.runs)
    if not finished:
        raise UserError(f"{wanted.title}: holds no finished run. `sepbench run recipes/weak_label` makes one.")
    tasks = sorted({run.config["task"]["name"] for run in finished}, key=lambda name: (not name.startswith("common"), name))
    sections = []
    for i, task in enumerate(tasks, 1):
        wanted.say(f"Task {task}, {i} of {len(tasks)}")
        of_task = [run for run in wanted.runs if run.config["task"]["name"] == task]
        sections.append(_section(f"task-{i}", task, of_task, wanted))
    lists = [list(group.listens) for section in sections for group in section.groups]
    bare = _render(wanted, finished, _with(sections, [[replace(one, scenes=(), sounds={}) for one in own] for own in lists]), ())
    check_room(len(bare.encode()), wanted.max_mb)
    n_shown = sum(bool(one.scenes) for own in lists for one in own)
    room = wanted.max_mb * MB - len(bare.encode()) - SPARE * (1 + 3 * n_shown)
    kept, n_dropped = fitting(lists, room, wanted.max_mb)
    notes = [f"{n_dropped} of {n_shown} runs are shown without their sounds (--max-mb {wanted.max_mb:g})."] if n_dropped else []
    html = _render(wanted, finished, _with(sections, kept), notes)
    check_room(len(html.encode()), wanted.max_mb)
    return Page(html, len(finished), n_shown - n_dropped, tuple(notes))


def chosen(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """One run of each recipe, in the order of `runs`: of its largest profile, with the fewest options changed, the newest."""

    def place(run: RunRecord) -> tuple[int, int]:
        return _profile(run), len(run.changed or {})

    of_recipe: dict[str, list[RunRecord]] = {}
    for run in runs:
        of_recipe.setdefault(run.config["recipe"], []).append(run)
    found = []
    for own in of_recipe.values():
        least = min(map(place, own))
        found.append(newest(run for run in own if place(run) == least))
    return found


def _profile(run: RunRecord) -> int:
    """Where its profile stands among PROFILES, others after those."""
    profile = run.config.get("profile")
    return PROFILES.index(profile) if profile in PROFILES else len(PROFILES)


def _finished(runs: Sequence[RunRecord]) -> list[RunRecord]:
    return [run for run in each_once(runs) if run.state == "finished" and run.metrics]


def _section(place: str, task: str, runs: Sequence[RunRecord], wanted: Wanted) -> Section:
    finished = _finished(runs)
    every = on_the_same_scenes(finished, SCORED)
    groups = [own for own in every if own[1] == _first_split(own[0][0])]
    real = [own for own in groups if not is_synthetic(str(own[0][0].config["task"]["corpus"]))]
    tables = [*_tables_of(finished, task), *page_tables(make_tables(runs, wanted.published))]
    parted = []
    for by, heading in PARTED_BY.items():
        own = _tables_of(finished, task, by)
        parted += [(heading, tuple(own))] if own else []
    largest_first = sorted(real or groups, key=lambda own: min(map(_profile, own[0])))
    shown = [_group(f"{place}-{i}", *own, wanted) for i, own in enumerate(largest_first, 1)]
    alone = [own for own in every if own not in largest_first]
    left_out = [f"{title_words(own[0], split)} ({_counted_runs(len(own))})" for own, split in alone]
    return Section(place, task, tuple(tables), tuple(parted), tuple(shown), tuple(left_out))


def _tables_of(runs: Sequence[RunRecord], task: str, by: str | None = None) -> list[PageTable]:
    """One row per method, or the figures part by part; nothing where no run has such figures or says which part is which."""
    try:
        return page_tables(upright(table, "Class") if by == "class" else table for table in task_tables(runs, task, by))
    except UserError:
        return []


def _first_split(run: RunRecord) -> str:
    return "test" if "test" in run.metrics else next(iter(run.metrics))


def _group(place: str, runs: Sequence[RunRecord], split: str, wanted: Wanted) -> Group:
    budgets = {budget_words(run.config) for run in runs} - {None}
    names = method_names(runs, (*OF_THE_TABLE, *(["budget"] if len(budgets) == 1 else [])))  # one for all: the tables tell it
    metric = max(BY_PANEL, key=lambda name: sum(figures_of(run, split, name) is not None for run in runs))
    best_first = sorted(runs, key=lambda run: -((figures_of(run, split, metric) or {}).get("mean", -1e9)))
    one_each = chosen(best_first)
    few = best_first if len(best_first) <= MOST else one_each[:MOST]
    words, of_each = f"{metric_words(metric)}, dB", f"one run of each recipe, of {_counted_runs(len(runs))}"
    of_charts = "" if len(few) == len(runs) else of_each
    if len(few) < len(one_each) and of_charts:
        of_charts = f"the first {len(few)} of {len(one_each)} recipes, {of_each}"
    with_rows = [run for run in few if (run.path / "rows.parquet").is_file()]
    points = {names[run.id]: gains(read_rows(run.path, (INPUT, metric), split), metric, split) for run in with_rows}
    gained = gain_chart(points, words)
    classes = class_chart({names[run.id]: _of_classes(run, split, metric) for run in few}, words)
    charts = {f"{metric_words(metric)} against input SI-SDR": gained, f"{metric_words(metric)} by class": classes}
    trained = [(names[run.id], _trained(run, names[run.id], wanted)) for run in best_first]
    listens: list[Played] = []
    if wanted.sounds_of is not None:
        listens = [
            _heard(f"{place}-{i}", run, names[run.id], split, wanted.sounds_of) for i, run in enumerate(one_each, 1)
        ]
    drawn = tuple((heading, chart) for heading, chart in charts.items() if chart is not None)
    training = tuple((name, chart) for name, chart in trained if chart is not None)
    profiles = ", ".join(dict.fromkeys(str(run.config.get("profile")) for run in sorted(runs, key=_profile)))
    title, of_listens = f"{title_words(runs[0], split)}; profile {profiles}", of_each if len(one_each) < len(runs) else ""
    return Group(place, title, drawn, training, tuple(listens), of_charts, of_listens)


def _heard(place: str, run: RunRecord, name: str, split: str, sounds_of: Callable[[RunRecord, str], Listening | str]) -> Played:
    """The players of a run, and how many scenes it leaves without any answer."""
    heard = sounds_of(run, split)
    if isinstance(heard, str) or not (run.path / "rows.parquet").is_file():
        return played(place, name, heard, 0)
    try:
        return played(place, name, heard, len(rank_scenes(read_rows(run.path), heard.metric, heard.split, 0).unanswered))
    except UserError as error:  # sounds of other rows than these
        return played(place, name, str(error), 0)


def _counted_runs(n: int) -> str:
    return f"{n} run{'' if n == 1 else 's'}"


def _trained(run: RunRecord, name: str, wanted: Wanted) -> Chart | None:
    """The training curves of a run; it is said where its history cannot be read."""
    try:
        return training_chart(run.path, tuple(run.cost), name)
    except (UserError, OSError, ValueError, KeyError, csv.Error) as error:
        wanted.say(f"{run.path}: its training history cannot be drawn: {error}")
        return None


def _of_classes(run: RunRecord, split: str, metric: str) -> dict[str, Any]:
    held = (run.metrics[split].get(metric) or {}).get("class") or {}
    return {label: figures for label, figures in held.items() if figures.get("mean") is not None}


def _with(sections: Sequence[Section], lists: Sequence[Sequence[Played]]) -> list[Section]:
    """The sections with other players in their groups, in order."""
    each = iter(lists)
    return [replace(one, groups=tuple(replace(group, listens=tuple(next(each))) for group in one.groups)) for one in sections]


def _render(wanted: Wanted, finished: Sequence[RunRecord], sections: Sequence[Section], notes: Sequence[str]) -> str:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    sounds = {
        key: data for section in sections for group in section.groups for one in group.listens for key, data in one.sounds.items()
    }
    policy = f"default-src 'none'; img-src data:; media-src blob:; style-src {_hashed(style)}; script-src {_hashed(script)}"
    waiting = Counter(run.state for run in wanted.runs if run.state != "finished")
    return environment.get_template("report.html.j2").render(
        title=wanted.title, made=wanted.made, policy=f"{policy}; base-uri 'none'; form-action 'none'",
        style=Markup(style), script=Markup(script), sounds=Markup(json.dumps(sounds)), n_runs=len(finished),
        waiting=dict(waiting), profiles=_counted(finished, "profile"), budgets=_budgets(finished),
        passed_over=wanted.passed_over, sections=sections, notes=notes, colour_bar=colour_bar(), range_db=RANGE_DB,
    )  # fmt: skip


def _hashed(words: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(words.encode()).digest()).decode()}'"


def _counted(runs: Sequence[RunRecord], name: str) -> dict[str, int]:
    return dict(Counter(str(run.config.get(name)) for run in runs).most_common())


def _budgets(runs: Sequence[RunRecord]) -> dict[str, int]:
    """How many runs were trained within which budget; those without one are the profile's."""
    words = [budget_words(run.config) for run in runs]
    return dict(Counter(each for each in words if each not in (None, OF_THE_PROFILE)).most_common())
