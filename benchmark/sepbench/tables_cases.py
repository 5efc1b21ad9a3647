"""What came of each case of a method's decisions: how often it occurred, and what it gained over the same networks without.

A decision's `case` names what it found; "none" is that of a method which answers at once and checks nothing. Nothing else
is known here of what is decided, by whom.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from sepbench.by_scene import BY_CLASS, BY_SOURCE, RIGHT, means_over, metric_for, paired, scene_values, unmoved
from sepbench.comparison import DIGITS, excludes_zero
from sepbench.metrics import METRICS
from sepbench.results import RunRecord, read_rows
from sepbench.results_decisions import has_decisions, read_decisions
from sepbench.tables_counts import WORDS
from sepbench.tables_facts import SYNTHETIC_NOTE, corpus_words, is_synthetic, method_names, split_fact
from sepbench.tables_format import Cell, Line, Table, text, without_empty

NO_CASE, ALL = "none", "all"
SAME, NOT_SEPARABLE = "the same in every scene", "not separable"
NOTE = "Case: that of a scene's first round. Share: of all scenes. Rounds: their mean number. "
PAIRED = (
    "Without, with: the same networks without the strategy and with it, on the same scenes. Gained: the paired difference; [ ]: "
    f"its 95 % interval, drawing scenes; {NOT_SEPARABLE}: it leaves room for none."
)
ALONE = "What the strategy gained is not known: no run has the same networks without it on these scenes."


@dataclass(frozen=True)
class _Told:
    """A run, and what it decided in each scene of a split."""

    run: RunRecord
    split: str
    decisions: Mapping[str, Sequence[Mapping[str, Any]]]  # scene -> decisions, at least one

    @property
    def cases(self) -> dict[str, str]:
        """The case of each scene's first round."""
        return {scene: str(own[0].get("case")) for scene, own in self.decisions.items()}

    @property
    def first_labels(self) -> dict[str, Any]:
        """What each scene was first taken to hold."""
        return {scene: (own[0].get("mixture") or {}).get("labels") for scene, own in self.decisions.items()}


def case_tables(runs: Sequence[RunRecord], split: str, but: Collection[str]) -> list[Table]:
    """A table for each of `runs`, all on the same scenes, that decided anything. `but`: as in `method_names`."""
    told = [each for each in (_told(run, split) for run in runs) if each.decisions]
    plain = [each for each in told if set(each.cases.values()) == {NO_CASE}]
    names = method_names(runs, but) if told else {}
    deciding = sorted((each for each in told if each not in plain), key=lambda each: (names[each.run.id], each.run.id))
    return [_table(each, _partner(each, plain), names[each.run.id]) for each in deciding]


def _told(run: RunRecord, split: str) -> _Told:
    kept = has_decisions(run.path) and (run.path / "rows.parquet").is_file()
    every = read_decisions(run.path).items() if kept else ()
    return _Told(run, split, {scene: own for (place, scene), own in every if place == split and own})


def _partner(told: _Told, plain: Sequence[_Told]) -> _Told | None:
    """Of the runs that check nothing, one of the same networks; of several, that whose options differ in the fewest.

    Where more than one option differs, both must have begun alike: with the same labels in every scene.
    """
    ours, networks = told.run.options, _networks(told.run)

    def n_apart(other: _Told) -> int:
        theirs = other.run.options
        return sum(ours.get(name) != theirs.get(name) for name in {**ours, **theirs})

    alike = [each for each in plain if networks and networks == _networks(each.run)]
    fitting = [each for each in alike if n_apart(each) <= 1 or each.first_labels == told.first_labels]
    return min(fitting, key=lambda each: (n_apart(each), each.run.id), default=None)


def _networks(run: RunRecord) -> tuple[str | None, str | None] | None:
    """Which weights answer: the run's own, and those of a method that it wraps; None where nothing is known of them."""
    weights = (run.weights_hash, (run.config.get("inner") or {}).get("weights"))
    return weights if any(weights) else None


def _table(told: _Told, partner: _Told | None, name: str) -> Table:
    cases, sides = told.cases, {"without": partner, "with": told}
    wanted = (BY_CLASS, BY_SOURCE, RIGHT)
    rows = {side: read_rows(each.run.path, wanted, told.split) for side, each in sides.items() if each is not None}
    metric = metric_for(rows.values(), told.split)
    groups = {case: {scene for scene in cases if cases[scene] == case} for case in sorted(set(cases.values()))}
    groups |= {ALL: set(cases)}
    columns = [[text(case) for case in groups], *_how_often(told, groups)]
    for measured in (metric, RIGHT):
        values = {side: scene_values(own, told.split, measured) for side, own in rows.items()}
        columns += _figures(told, partner, measured, values, groups)
    task, profile = told.run.config["task"], told.run.config["profile"]
    facts = {"corpus": task["corpus"], "profile": profile, "split": split_fact(told.run, told.split)}
    right = f"{WORDS[RIGHT][0].upper()}{WORDS[RIGHT][1:]}"
    figures = [f"{words} {side}" for words in (WORDS[metric], right) for side in ("without", "with", "gained")]
    headings = ("Case", "Corpus", "Profile", "Scenes", "Share", "Rounds", *figures)
    title = f"{name}, case by case: {task['name']} on {corpus_words(task['corpus'])} sounds, {told.split}"
    notes = [SYNTHETIC_NOTE] if is_synthetic(task["corpus"]) else []
    notes += [NOTE + ALONE] if partner is None else [f"Without: {partner.run.id}.", NOTE + PAIRED]
    table = Table(title, headings, tuple(Line(cells, facts) for cells in zip(*columns)), tuple(notes))
    return without_empty(table, figures)


def _how_often(told: _Told, groups: Mapping[str, Collection[str]]) -> list[list[Cell]]:
    """Sounds and profile, then how many scenes, their share of all, and the rounds that they took: (column, case)."""
    run, n_all = told.run, len(told.decisions)
    words = [[text(word)] * len(groups) for word in (corpus_words(run.config["task"]["corpus"]), run.config["profile"])]
    n = [Cell(len(scenes), digits=0, runs=(run.id,)) for scenes in groups.values()]
    share = [Cell(len(scenes) / n_all, n=n_all, digits=3, unit="ratio", runs=(run.id,)) for scenes in groups.values()]
    rounds = [fmean(len(told.decisions[scene]) for scene in scenes) for scenes in groups.values()]
    return [*words, n, share, [Cell(mean, digits=2, runs=(run.id,)) for mean in rounds]]


def _figures(
    told: _Told, partner: _Told | None, metric: str, values: Mapping[str, Mapping[str, float]],
    groups: Mapping[str, Collection[str]],
) -> list[list[Cell]]:  # fmt: skip
    """A figure without, with, and what was gained, on those scenes of each case that both have: (column, case)."""
    unit = METRICS[metric].unit
    both = set.intersection(*(set(own) for own in values.values()))
    shared = {case: both.intersection(scenes) for case, scenes in groups.items()}
    runs = {"with": told.run.id} | ({} if partner is None else {"without": partner.run.id, "gained": told.run.id})
    gains = paired(values["without"], values["with"]) if partner is not None else {}
    means = iter(means_over([({**values, "gained": gains}[side], scenes) for side in runs for scenes in shared.values()]))
    cells: dict[str, list[Cell]] = {side: [Cell()] * len(groups) for side in ("without", "with", "gained")}
    for side, run in runs.items():
        for i, case in enumerate(groups):
            if found := next(means):
                cell = Cell(found.mean, found.ci95, n=found.n, unit=unit, digits=DIGITS[unit], runs=(run,))
                own = [gains[scene] for scene in shared[case]] if side == "gained" else []
                cells[side][i] = _judged(cell, own, metric) if side == "gained" else replace(cell, ci=None)
    return [cells[side] for side in ("without", "with", "gained")]


def _judged(gain: Cell, gains: Sequence[float], metric: str) -> Cell:
    """The gain with what it is worth in words, where it is not worth its figure."""
    verdict = SAME if unmoved(gains, metric) else "" if excludes_zero(gain.ci, gain.unit) else NOT_SEPARABLE
    return replace(gain, text=f"{gain.show()}: {verdict}") if verdict else gain
