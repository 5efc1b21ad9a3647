"""The shape of recipe.yaml: one class per group of keys, and what an option may be."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sepbench.errors import UserError, nearest

Kind = Literal["int", "float", "str", "bool"]
Supervision = Literal["none", "weak", "isolated", "oracle"]
LearnsFrom = Literal["weak", "isolated"]
LabelsSeen = Literal["frame", "clip"]
ProfileName = Literal["quick", "small", "paper"]
OPTION_NAME = r"[a-z][a-z0-9_]*"
KIND_OF: dict[type, Kind] = {bool: "bool", int: "int", float: "float", str: "str"}
WANTED = {"int": "a whole number", "float": "a number", "str": "text", "bool": "true or false"}


class Part(BaseModel):
    """A group of keys. An unknown key is an error that names the nearest known one."""

    model_config = ConfigDict(frozen=True, coerce_numbers_to_str=True)

    @model_validator(mode="before")
    @classmethod
    def _known_keys_only(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            raise ValueError(f"got {values!r}, wanted the keys {', '.join(cls.model_fields)}")
        for key in values:
            if key not in cls.model_fields:
                known = ", ".join(cls.model_fields)
                raise ValueError(f"unknown key '{key}'.{nearest(key, cls.model_fields) or f' Known: {known}.'}")
        return values


class Paper(Part):
    title: str
    authors: str
    year: int
    link: str | None = None


class Option(Part):
    """A setting of the recipe's own: what it may be, and what it is unless the user says otherwise."""

    default: bool | int | float | str | None
    type: Kind | None = None  # None: as the default and the choices are
    choices: list[bool | int | float | str | None] | None = None
    min: float | None = None
    max: float | None = None
    exclusive_min: float | None = None
    help: str = ""
    file: bool = False  # whether it names a file, of which the run keeps a hash: another content makes another run

    @property
    def kind(self) -> Kind:
        """The type of its values, null aside."""
        if self.type:
            return self.type
        kinds = {KIND_OF[type(value)] for value in [self.default, *(self.choices or [])] if value is not None}
        if kinds == {"int", "float"} or (not kinds and self.bounded):
            return "float"
        return kinds.pop() if len(kinds) == 1 else "str"

    @property
    def bounded(self) -> bool:
        return any(bound is not None for bound in (self.min, self.max, self.exclusive_min))

    @property
    def nullable(self) -> bool:
        return self.default is None or None in (self.choices or [])

    def allowed(self) -> str:
        """What may come, in words."""
        if self.choices:
            return ", ".join(plain(choice) for choice in self.choices)
        bounds = {"above": self.exclusive_min, "of at least": self.min, "of at most": self.max}
        words = [f"{word} {bound:g}" for word, bound in bounds.items() if bound is not None]
        return " ".join([WANTED[self.kind], " and ".join(words)]).strip() + (" or null" if self.nullable else "")

    def read(self, name: str, value: Any) -> Any:
        """`value`, as text or as YAML gave it, in the option's own type; UserError if it is not allowed."""
        if self.nullable and (value is None or str(value).lower() in ("null", "none")):
            return None
        try:
            found = _converted(self.kind, value)
        except ValueError:
            raise UserError(self._refusal(name, value)) from None
        if (self.choices and found not in self.choices) or not self._within(found):
            raise UserError(self._refusal(name, value))
        return found

    def _within(self, value: Any) -> bool:
        return not (
            (self.min is not None and value < self.min)
            or (self.max is not None and value > self.max)
            or (self.exclusive_min is not None and value <= self.exclusive_min)
        )

    def _refusal(self, name: str, value: Any) -> str:
        close = nearest(value, [plain(choice) for choice in self.choices]) if self.choices else ""
        return f"{name}: got {plain(value)!r}; allowed: {self.allowed()}.{close}"


class TaskOption(Option):
    """An option that belongs to the scenes: it sets `task.<path>` of the configuration."""

    path: str


class Variant(Part):
    """What changes in the recipe's claim where its options are as in `when`."""

    when: dict[str, Any]
    supervision: Supervision | None = None
    learns_from: LearnsFrom | None = None
    labels_seen: LabelsSeen | None = None


class Profile(Part):
    """How much of everything: one point between a quick look and the paper's own setting."""

    corpus: str | None = None
    minutes: float | None = None
    train: dict[str, Any] = Field(default_factory=dict)
    sizes: dict[str, Any] = Field(default_factory=dict)
    task: dict[str, Any] = Field(default_factory=dict)
    tasks: dict[str, dict[str, Any]] = Field(default_factory=dict)  # task -> what is laid over `task` where it is that one
    params: dict[str, Any] = Field(default_factory=dict)


class Inner(Part):
    """The method that this one wraps: a run of this recipe, or of any of these."""

    recipe: str | list[str]
    help: str = ""

    @property
    def recipes(self) -> list[str]:
        return [self.recipe] if isinstance(self.recipe, str) else self.recipe


class Cell(Part):
    """A row or a column of a paper's table: its published heading and the options that make it."""

    published: str | None = None
    when: dict[str, Any] = Field(default_factory=dict)
    metric: str | None = None
    key: str | None = None  # which entry of a figure that is kept per class or per count; null: all of them together
    columns: list[str] | None = None  # of a row: the columns that it has a run in, by their headings; null: all

    def reaches(self, column: Cell) -> bool:
        """Whether this row has a run in `column`."""
        return self.columns is None or column.published in self.columns


class Published(Part):
    """Where the figures lie in the list of published ones."""

    paper: str
    table: str
    metric: str | None = None
    std: str | None = None
    protocol: Literal["disjoint", "shared_pool"] | None = None  # of the paper's own clips; null: disjoint
    classes: int | None = None  # how many the paper has; null: as many as we


class Table(Part):
    """One of the paper's tables as a grid of options."""

    title: str
    metric: str
    split: str | None = None  # of the run's figures; null: test
    when: dict[str, Any] = Field(default_factory=dict)
    rows: list[Cell]
    columns: list[Cell] | Literal["classes"] = "classes"
    published: Published | None = None
    note: str | None = None  # what a reader of our figures in it has to know, printed below it


def plain(value: Any) -> str:
    """A value as one would write it in YAML."""
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))


def _converted(kind: Kind, value: Any) -> Any:
    """ValueError where `value` is not of that kind."""
    if kind == "bool":
        named = {"true": True, "false": False}
        if str(value).lower() not in named:
            raise ValueError
        return named[str(value).lower()]
    if isinstance(value, (bool, list, dict)) or value is None:
        raise ValueError
    if kind == "str":
        return str(value)
    if kind == "int":
        if isinstance(value, float):
            raise ValueError
        return int(value)
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number
