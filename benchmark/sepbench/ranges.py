"""What a search may choose from: the ranges that recipe.yaml declares, and those that one search goes through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import model_validator

from sepbench.errors import UserError, nearest
from sepbench.schema import Option, Part
from sepbench.settings import has, paths, reach

if TYPE_CHECKING:
    from sepbench.recipe import Recipe

GROUPS = ("train", "sizes")  # of settings that a search may set by their paths, beside the recipe's own options


class Range(Part):
    """From `low` to `high`, evenly, in logarithm or in steps; or one of `choices`."""

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    step: int | float | None = None
    choices: list[bool | int | float | str | None] | None = None

    @model_validator(mode="after")
    def _either(self) -> Range:
        bounds = (self.low, self.high)
        if self.choices is not None:
            if bounds != (None, None) or self.log or self.step is not None:
                raise ValueError("choices stand alone; leave low, high, log and step away")
            if len(self.choices) < 2:
                raise ValueError(f"{len(self.choices)} choices; wanted two or more")
            return self
        if self.low is None or self.high is None:
            raise ValueError("wanted low and high, or choices")
        if not self.low < self.high:
            raise ValueError(f"low is {self.low:g} and high {self.high:g}; low must be below high")
        if self.log and self.low <= 0:
            raise ValueError(f"low is {self.low:g}, of which there is no logarithm; wanted one above 0, or log: false")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other; keep one")
        if self.step is not None and not 0 < self.step <= self.high - self.low:
            raise ValueError(f"step is {self.step:g}; wanted one above 0 that fits between low and high")
        return self

    @property
    def ends(self) -> list[Any]:
        """The values that have to be allowed for all to be."""
        return list(self.choices) if self.choices is not None else [self.low, self.high]

    @property
    def whole(self) -> bool:
        """Whether it holds whole numbers alone."""
        return all(isinstance(each, int) for each in (self.low, self.high, 1 if self.step is None else self.step))


@dataclass(frozen=True)
class Dimension:
    """One range of a search: of the option `name`, or of the setting at that path."""

    name: str
    range: Range
    is_option: bool
    whole: bool  # whole numbers; of no meaning where there are choices


def check_search(recipe: Recipe) -> None:
    """UserError where `search` names what the recipe does not have, or a value that its option does not allow."""
    for name, own in recipe.search.items():
        where = f"search.{name}"
        if name in recipe.task_params or name.startswith("task."):
            raise UserError(f"{where}: sets the scenes, which are the same for all trials. Leave it away.")
        if name in recipe.params:
            _check_option(where, recipe.params[name], own)
        else:
            _check_path(where, name, own, recipe)


def _check_option(where: str, option: Option, own: Range) -> None:
    if own.choices is None and option.kind not in ("int", "float"):
        raise UserError(f"{where}: its values are {'true and false' if option.kind == 'bool' else 'words'}; wanted choices.")
    if own.choices is None and option.kind == "int" and not own.whole:
        raise UserError(f"{where}: wanted whole numbers, as the option has them.")
    for value in own.ends:
        option.read(where, value)


def _check_path(where: str, path: str, own: Range, recipe: Recipe) -> None:
    every = [{name: getattr(profile, name) for name in GROUPS} for profile in recipe.profiles.values()]
    there = [reach(settings, path) for settings in every if has(settings, path)]
    if not there:
        known = [*recipe.params, *dict.fromkeys(name for settings in every for name in paths(settings))]
        raise UserError(f"{where}: there is no such option or setting.{nearest(path, known)}")
    for present in there:
        if isinstance(present, Mapping):
            raise UserError(f"{where}: is a group of settings. Name one in it.")
        number = isinstance(present, (int, float)) and not isinstance(present, bool)
        if own.choices is None and present is not None and not number:
            raise UserError(f"{where}: holds {present!r}, no number; wanted choices.")
        if own.choices is None and type(present) is int and not own.whole:
            raise UserError(f"{where}: wanted whole numbers, as it is {present}.")


def dimensions(recipe: Recipe, profile: str, fixed: Sequence[str]) -> Iterator[Dimension]:
    """What a search in `profile` goes through: all that the recipe declares, less `fixed` and what the profile does not have."""
    own = recipe.profiles[profile]  # type: ignore[index]
    settings = {name: getattr(own, name) for name in GROUPS}
    for name, range_ in recipe.search.items():
        if name in fixed:
            continue
        if name in recipe.params:
            yield Dimension(name, range_, True, recipe.params[name].kind == "int")
        elif has(settings, name):
            yield Dimension(name, range_, False, type(reach(settings, name)) is not float and range_.whole)
