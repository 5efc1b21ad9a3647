"""tolerances.yaml: by how much a figure may get worse before `sepbench check` fails.

    default:
      si_sdri: 0.3 dB
      f_measure: 0.01                  # stands for frames and clips both
      missed: 0 sources                # 0 as well where it is not written
    recipes:
      weak_label: {si_sdri: 1.0 dB}    # over the default; null: not gated
      weak_label on common: {si_sdri: 1.5 dB}  # over that, for the runs on this task
    classes:                           # the same two parts, for the figure of each class
      default: {si_sdri: 2.0 dB}
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sepbench.errors import UserError, nearest
from sepbench.metrics import EVENTS, GROUPS, METRICS
from sepbench.recipe_yaml import read_yaml

FILE = "tolerances.yaml"
ON = " on "  # between a recipe and its task, where a tolerance is for its runs on that task alone
COUNTED = "sources"  # the unit of what is counted: missed, extra and so on
# No mean counts a source that nobody answered: who leaves out the hard ones would look better. So these are always gated.
ALWAYS: dict[str, float | None] = {"missed": 0.0, "missed_by_label": 0.0}
USUAL = {"dB": "0.3 dB", "ratio": "0.01"}  # what a new file starts with
OF_THE_SCENES = {"dB": "0.01 dB", "ratio": "0.001"}  # the same for what no method moves

Values = Mapping[str, float | None]  # metric -> tolerance in its unit; None: not gated


@dataclass(frozen=True)
class Level:
    """Tolerances of all recipes, of some over those, and of some on one of their tasks over these."""

    default: Values = field(default_factory=dict)
    recipes: Mapping[str, Values] = field(default_factory=dict)

    def of(self, runs: str, metric: str) -> float | None:
        """The tolerance of a figure of `runs`, RECIPE or RECIPE on TASK, in its unit; None: it is not gated."""
        recipe = runs.partition(ON)[0]
        return {**self.default, **self.recipes.get(recipe, {}), **self.recipes.get(runs, {})}.get(metric)


@dataclass(frozen=True)
class Tolerances:
    """What a tolerances.yaml says."""

    whole: Level  # of figures over all sources
    classes: Level = field(default_factory=Level)  # of the figures of each class


def names_of(recipe: str, task: str) -> tuple[str, str]:
    """What a tolerances.yaml may call runs of a recipe on a task: the recipe alone, or with its task."""
    return recipe, f"{recipe}{ON}{task}"


def unit_of(metric: str) -> str:
    """dB, ratio or sources."""
    return COUNTED if metric in EVENTS else METRICS[metric].unit


def read_tolerances(path: Path, recipes: Iterable[str]) -> Tolerances:
    """The tolerances in `path`. UserError, one line, for what is no YAML, no metric, none of `recipes`, or no tolerance.

    `recipes`: all that may be named there, as `names_of` has it.
    """
    try:
        found = read_yaml(path.read_text(encoding="utf-8"))
        parts = _mapping(found, "the file", ("default", "recipes", "classes"), "part")
        classes = _mapping(parts.pop("classes", None) or {}, "classes", ("default", "recipes"), "part")
        whole, by_class = (_level(each, list(recipes), where) for each, where in ((parts, ""), (classes, "classes.")))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8 text'}.") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return Tolerances(Level({**ALWAYS, **whole.default}, whole.recipes), by_class)


def _level(parts: Mapping[str, Any], recipes: list[str], where: str) -> Level:
    own = _mapping(parts.get("recipes") or {}, f"{where}recipes", recipes, "recipe among these runs")
    by_recipe = {name: _values(values, f"{where}recipes.{name}") for name, values in own.items()}
    return Level(_values(parts.get("default") or {}, f"{where}default"), by_recipe)


def _values(given: Any, where: str) -> dict[str, float | None]:
    """metric -> tolerance; a group stands for its metrics, and a metric's own name wins over its group's."""
    read = _mapping(given, where, [*METRICS, *GROUPS, *EVENTS], "metric")
    groups = {each: _number(read[name], each, f"{where}.{name}") for name in GROUPS if name in read for each in GROUPS[name]}
    return groups | {name: _number(value, name, f"{where}.{name}") for name, value in read.items() if name not in GROUPS}


def _mapping(given: Any, where: str, known: Iterable[str], kind: str) -> dict[str, Any]:
    names = list(known)
    if not isinstance(given, Mapping):
        raise UserError(f"{where} holds {_shown(given)}; wanted names with values, such as si_sdri: 0.3 dB.")
    for name in given:
        if name not in names:
            close = nearest(name, names) or f" There is {', '.join(names) or 'none'}."
            raise UserError(f"{where}: '{name}' is no {kind}.{close}")
    return dict(given)


def _number(value: Any, metric: str, where: str) -> float | None:
    """`0.3`, or `0.3 dB` where dB is the metric's unit."""
    if value is None:
        return None
    unit = unit_of(metric)
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    parts = re.fullmatch(r"(\S+?)\s*([A-Za-z%]\w*)?", str(value).strip()) if plain or isinstance(value, str) else None
    try:
        number = float(parts[1]) if parts else math.nan
    except ValueError:
        number = math.nan
    if parts is None or not math.isfinite(number):
        raise UserError(f"{where} is {_shown(value)}; wanted a number such as {_example(unit)}.")
    if parts[2] and parts[2].lower() != unit.lower():
        raise UserError(f"{where} is {_shown(value)}; {metric} is in {unit}. Write {parts[1]}{_suffix(unit)}.")
    if number < 0:
        raise UserError(f"{where} is {_shown(value)}; a tolerance is 0 or more. Write {-number:g}{_suffix(unit)}.")
    return number


def _suffix(unit: str) -> str:
    return "" if unit == "ratio" else f" {unit}"


def _example(unit: str) -> str:
    return USUAL.get(unit, f"0{_suffix(unit)}")


def _shown(value: Any) -> str:
    return "nothing" if value is None else f"'{value}'"


def first_text(metrics: Iterable[str]) -> str:
    """A tolerances.yaml to start from, for these metrics."""
    held = set(metrics)
    grouped = {each: name for name, group in GROUPS.items() if held >= set(group) for each in group}
    names = dict.fromkeys(grouped.get(name, name) for name in METRICS if name in held)
    lines = []
    for name in names:
        metric = METRICS[GROUPS.get(name, (name,))[0]]
        fixed = metric.higher_is_better is None
        why = "  # a property of the scenes: no method moves it" if fixed else ""
        lines.append(f"  {name}: {(OF_THE_SCENES if fixed else USUAL)[metric.unit]}{why}\n")
    return _HEAD + "".join(lines) + _TAIL


_HEAD = """\
# By how much a figure may get worse, against the runs that are frozen beside this file, before `sepbench check` fails:
# absolute, on the mean paired difference over the same scenes. A metric that is not named here is shown and not gated.
default:
"""
_TAIL = """\
  sign_flipped: 2 sources  # outputs upside down, which SI-SDR does not see
  # missed: 0 sources   # references that nobody answers; 0 where it is not written, since no mean counts them
# recipes:              # over the default: what a recipe's own training scatters over seeds, with the reason beside it
#   weak_label: {si_sdri: 1.0 dB}
#   weak_label on common: {si_sdri: 1.5 dB}  # over that, on one of its tasks
# classes:              # the same for the figure of each class; without it classes are shown, not gated
#   default: {si_sdri: 2.0 dB}
"""
