"""recipe.yaml -> a validated Recipe -> a resolved configuration -> the method, built."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace as altered
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PrivateAttr, ValidationError

from sepbench.catalogue import Found, find
from sepbench.errors import UserError, nearest
from sepbench.loading import load_from
from sepbench.ranges import Range
from sepbench.recipe_check import check_recipe
from sepbench.recipe_yaml import FILE, content_of, first_complaint, parsed, read_yaml
from sepbench.schema import (
    Cell,
    Inner,
    LabelsSeen,
    LearnsFrom,
    Option,
    Paper,
    Part,
    Profile,
    ProfileName,
    Supervision,
    Table,
    TaskOption,
    Variant,
)
from sepbench.settings import Settings, has, merged, place, reach, replace
from sepbench.trust import say_once

if TYPE_CHECKING:
    from sepbench.method import Method
    from sepbench.scene import TaskInfo

SETTABLE = ("params", "train", "sizes", "task")
# options of `sepbench run` and `sepbench sweep` themselves, which no recipe may take
RESERVED = (
    "profile", "task", "table", "data", "corpus", "set", "metrics", "seed", "results", "again", "device",
    "threads", "inner", "budget", "help", "devices", "nodes", "score_workers", "score_chunk", "begin_with", "jobs", "cluster",
    "plan", "stale", "search", "trials", "metric", "study", "gpus_per_run",
)  # fmt: skip


class Recipe(Part):
    """A contestant as its YAML declares it. `resolve` makes the configuration of one run of it."""

    name: str
    kind: Literal["recipe", "baseline"] = "recipe"
    paper: Paper | None = None
    method: str = Field(pattern=r"^[\w/]+\.py:\w+$")
    supervision: Supervision
    learns_from: LearnsFrom | None = None  # of an oracle that learns; what it is told while it answers is another matter
    labels_seen: LabelsSeen = "frame"
    task: str
    other_tasks: list[str] = Field(default_factory=list)  # on which it runs too, where --task says so
    on_tasks: dict[str, dict[str, Any]] = Field(default_factory=dict)  # task -> params whose defaults are others there
    params: dict[str, Option] = Field(default_factory=dict)
    task_params: dict[str, TaskOption] = Field(default_factory=dict)
    variants: list[Variant] = Field(default_factory=list)
    profiles: dict[ProfileName, Profile] = Field(min_length=1)
    inner: Inner | None = None
    tables: dict[str, Table] = Field(default_factory=dict)
    search: dict[str, Range] = Field(default_factory=dict)  # option or setting -> what `sepbench sweep --search` tries
    _found: Found = PrivateAttr(default=Found("", Path(), ""))
    _as_written: Recipe | None = PrivateAttr(default=None)

    @property
    def folder(self) -> Path:
        """Where the recipe lies."""
        return self._found.folder

    @property
    def found(self) -> Found:
        """By which name it was found, and whether as part of a package."""
        return self._found

    @property
    def own_task(self) -> str:
        """The task that it runs on unless another is asked for."""
        return (self._as_written or self).task

    def on(self, task: str) -> Recipe:
        """The recipe on one of its tasks (else UserError), with the options that it has; on others than its own, its defaults."""
        from sepbench.tasks import load_task

        written = self._as_written or self
        known = [written.task, *written.other_tasks]
        if task not in known:
            raise UserError(f"--task {task}: {self.name} runs on {', '.join(known)}.{nearest(task, known)}")
        chosen = load_task(task, {})
        own = {name: option for name, option in written.task_params.items() if has(chosen, option.path)}
        if task != written.task:
            there = {name: {"default": reach(chosen, option.path)} for name, option in own.items()}
            own = {name: option.model_copy(update=there[name]) for name, option in own.items()}
        recipe = written.model_copy(update={"task": task, "task_params": own})
        recipe._found, recipe._as_written = self._found, written
        return recipe

    @property
    def options(self) -> dict[str, Option]:
        """Every option of `sepbench run`, params first."""
        return {**self.params, **self.task_params}

    def read(self, values: Mapping[str, Any], where: str = "") -> dict[str, Any]:
        """`values` of options in the options' own types. UserError for an unknown option or a value not allowed."""
        for name in values:
            if name not in self.options:
                written = self._as_written or self
                if name in written.task_params:
                    raise UserError(f"{where}{name}: {self.name} has no such option on task {self.task}. Leave it away there.")
                known = nearest(name, self.options) or f" Known: {', '.join(self.options)}."
                raise UserError(f"{where}{name}: {self.name} has no such option.{known}")
        return {name: self.options[name].read(where + name, value) for name, value in values.items()}

    def defaults(self, profile: str) -> dict[str, Any]:
        """What every option is in `profile` unless the user says otherwise."""
        if profile not in self.profiles:
            raise UserError(
                f"--profile: got '{profile}'; there is {', '.join(self.profiles)}.{nearest(profile, self.profiles)}"
            )
        declared = {name: option.default for name, option in self.options.items()}
        params = {name: value for name, value in self.profiles[profile].params.items() if name in declared}
        return self.read({**declared, **params, **self.on_tasks.get(self.task, {})})

    def resolve(
        self, profile: str, options: Mapping[str, Any] | None = None, sets: Sequence[str] = (),
        data: Mapping[str, Any] | None = None, seed: int = 0,
        corpus: str | None = None, inner: Path | str | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any]]:  # fmt: skip
        """The configuration of one run, a plain nested dict, and the value of every option in it.

        Later wins: the option's default, the profile, `options`, `sets` ("train.steps=10"). The corpus is `corpus`,
        else the task's own where `data` says where it lies, else the profile's. UserError for what does not exist or
        is not allowed.
        """
        defaults = self.defaults(profile)
        ours, others = self._sorted_sets(sets)
        values = {**defaults, **self.read(options or {}), **ours}
        config = self._base(profile, values, data or {}, corpus)
        config |= {"seed": seed, "inner": self._inner(inner)}
        for path, value, text in others:
            config |= replace({name: config[name] for name in SETTABLE}, path, value, text)
        asked = [self.task_params[name].path for name in {**(options or {}), **ours} if name in self.task_params]
        config["task"] = self._settled(config["task"], [*asked, *(path[5:] for path, _, _ in others)])
        return json.loads(json.dumps(config)), values  # plain, and shared with nothing

    def retarget(
        self, config: Mapping[str, Any], options: Mapping[str, Any], sets: Sequence[str], data: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The configuration and options of a trained run, to be scored on other scenes: only `task.` may change."""
        from sepbench.tasks import corpus_of

        ours, others = self._sorted_sets(sets)
        task, values = json.loads(json.dumps(config["task"])), {**options, **ours}
        for name in (*(f"params.{name}" for name in ours if name in self.params), *(path for path, _, _ in others)):
            if not name.startswith("task."):
                raise UserError(f"--set {name}: what was learnt stays as it is; a test sets task.<name> alone.")
        task["corpus"] = corpus_of(self.task, None, data, task["corpus"])
        for name in ours:
            task = place(task, self.task_params[name].path, ours[name])
        for path, value, text in others:
            task = replace({"task": task}, path, value, text)["task"]
        asked = [self.task_params[name].path for name in ours]
        task = self._settled(task, [*asked, *(path[5:] for path, _, _ in others)])
        return {**json.loads(json.dumps(config)), "task": task}, values

    @staticmethod
    def _settled(task: Mapping[str, Any], changed: Sequence[str]) -> dict[str, Any]:
        from sepbench.tasks import settled

        return settled(task, changed)

    def _sorted_sets(self, sets: Sequence[str]) -> tuple[dict[str, Any], list[tuple[str, Any, str]]]:
        """What --set says of options (option -> value), and the rest: path, value, text as typed."""
        paths = {f"params.{name}": name for name in self.params}
        paths |= {f"task.{option.path}": name for name, option in self.task_params.items()}
        each_set = [parsed(text) for text in sets]
        ours = {paths[path]: value for path, value, _ in each_set if path in paths}
        return self.read(ours), [each for each in each_set if each[0] not in paths]

    def _base(
        self, profile: str, values: dict[str, Any], data: Mapping[str, Any], corpus: str | None
    ) -> dict[str, Any]:
        chosen = self.profiles[profile]  # type: ignore[index]
        task = self._task(chosen, data, corpus)
        for name, option in self.task_params.items():
            try:
                task = place(task, option.path, values[name])
            except KeyError:
                raise UserError(
                    f"{self.folder / FILE}: task_params.{name}.path: task '{self.task}' has no '{option.path}'."
                ) from None
        claim = {"supervision": self.supervision, "learns_from": self.learns_from, "labels_seen": self.labels_seen}
        for variant in self.variants:
            if all(values[name] == value for name, value in self.read(variant.when).items()):
                claim |= {key: getattr(variant, key) for key in claim if getattr(variant, key)}
        if claim["learns_from"] is None:
            del claim["learns_from"]  # it follows from the supervision
        return {
            "recipe": self.found.name, "name": self.name, "kind": self.kind,
            "paper": self.paper.model_dump(exclude_none=True) if self.paper else None, "profile": profile, **claim,
            "params": {name: values[name] for name in self.params},
            "train": chosen.train, "sizes": chosen.sizes, "task": task,
        }  # fmt: skip

    def _task(self, profile: Profile, data: Mapping[str, Any], corpus: str | None) -> dict[str, Any]:
        from sepbench.tasks import corpus_of, load_task

        corpus = corpus_of(self.task, corpus, data, profile.corpus)
        settings = merged(profile.task, profile.tasks.get(self.task, {}))
        return load_task(self.task, merged(settings, {"corpus": corpus}))

    def _inner(self, run: Path | str | None) -> dict[str, str] | None:
        if run is None:
            return None
        if self.inner is None:
            raise UserError(f"--inner {run}: {self.name} wraps no other method; leave --inner away.")
        try:
            recipe = json.loads((Path(run) / "run.json").read_text(encoding="utf-8"))["config"]["recipe"]
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(
                f"--inner {run}: that is no run (no run.json that can be read). `sepbench ls` lists runs."
            ) from None
        known = {Path(each).name: each for each in self.inner.recipes}
        if recipe not in known:
            raise UserError(f"--inner {run}: that is a run of {recipe}; {self.name} wraps {' or '.join(known.values())}.")
        return {"recipe": known[recipe], "run": str(run)}

    def grid(self, table: str) -> list[dict[str, Any]]:
        """The options of each run that the published table `table` needs, each once."""
        if table not in self.tables:
            known = ", ".join(self.tables) or "none"
            raise UserError(f"--table: got '{table}'; {self.name} has {known}.{nearest(table, self.tables)}")
        found = self.tables[table]
        columns = [Cell()] if found.columns == "classes" else found.columns
        pairs = [(row, column) for row, column in itertools.product(found.rows, columns) if row.reaches(column)]
        cells = [{**found.when, **row.when, **column.when} for row, column in pairs]
        return [cell for i, cell in enumerate(cells) if cell not in cells[:i]]

    def files(self, params: Mapping[str, Any]) -> dict[str, str]:
        """A hash of what lies in each file that an option names. UserError where there is none, before anything is begun."""
        named = {name: params[name] for name, option in self.params.items() if option.file and params[name] is not None}
        return {name: content_of(f"--{name.replace('_', '-')}", Path(path).expanduser()) for name, path in named.items()}

    def tables_plain(self) -> dict[str, Any]:
        """The tables as plain dicts, for run.json."""
        return {name: table.model_dump(exclude_none=True) for name, table in self.tables.items()}


def load_recipe(folder: Path | str | Found) -> Recipe:
    """The recipe in `folder`, or of that name. UserError with file, key and nearest match where it is missing or wrong."""
    found = folder if isinstance(folder, Found) else find(folder)
    file = found.folder / FILE
    try:
        recipe = Recipe.model_validate(read_yaml(file.read_text(encoding="utf-8")))
        recipe._found = altered(found, folder=found.folder.resolve())
        check_recipe(recipe, RESERVED)
    except UnicodeDecodeError:
        raise UserError(f"{file}: not YAML: it is not UTF-8 text. Save it as UTF-8.") from None
    except ValidationError as error:
        raise UserError(f"{file}: {first_complaint(error)}") from None
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    return recipe.on(recipe.task) if recipe.other_tasks else recipe


def load_class(recipe: Recipe) -> type:
    """The class that recipe.yaml's `method` names. UserError where the file or the class is not there.

    Its code runs here for the first time, so that here it is said where that is somebody else's.
    """
    say_once(recipe.found)
    path, _, name = recipe.method.partition(":")
    try:
        return load_from(recipe.folder, path, name, recipe.found.package)
    except UserError as error:
        raise UserError(f"{recipe.folder / FILE}: method: {error}") from None


def build(recipe: Recipe, config: Mapping[str, Any], task_info: TaskInfo, inner: Method | None = None) -> Method:
    """The method, ready to fit or load: `Class(settings, task_info)`, or with the method it wraps as the third."""
    names = ("params", "train", "sizes", "seed", "supervision", "labels_seen")
    settings = Settings(**{name: config[name] for name in names})
    return load_class(recipe)(settings, task_info, *([inner] if inner is not None else []))
