"""The whole benchmark as one loop: a method learns, answers each scene, and the judge writes rows."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sepbench.audit import audit_run
from sepbench.catalogue import is_of_here, registered
from sepbench.cost import MEASURED, measure_cost
from sepbench.devices import choose_device, device
from sepbench.errors import UserError
from sepbench.home import checkout, home
from sepbench.judge import judge
from sepbench.loading import code_hash
from sepbench.method import Method
from sepbench.provenance import provenance
from sepbench.recipe import Recipe, build, load_recipe
from sepbench.results import RunFolder, RunRecord, read_runs, run_id
from sepbench.results_decisions import Decisions
from sepbench.results_format import learns_from
from sepbench.run_fit import fit
from sepbench.run_identity import changed_options, folder_words, with_inner
from sepbench.run_weights import content, parameters, weights_hash
from sepbench.scene import Row, Scene
from sepbench.storage import locked
from sepbench.tasks.settings import SCORED_ON
from sepbench.tasks.splits import SHARED_POOL, split_clips
from sepbench.tasks.task import Task, build_task, task_info

CHUNK = 20  # scenes that are answered together; an interruption costs at most so many


def run_one(
    config: dict[str, Any], options: dict[str, Any], recipe: Recipe, data: Mapping[str, str], results: Path,
    again: bool, device: str, progress: Any,
) -> Path:  # fmt: skip
    """Fit, score and keep one configuration; the folder of the run. Goes on where an earlier start stopped."""
    choose_device(device)
    began_s = time.perf_counter()
    if files := recipe.files(config["params"]):
        config = {**config, "files": files}
    task = build_task(config["task"], data, progress)
    config = {**config, "task": task.config}  # with all its classes, where they are those of the corpus
    method = build(recipe, config, task.info, inner_method(config, task))
    with _open(config, options, recipe, task, results, again) as folder:
        wall_s = {"data": time.perf_counter() - began_s}
        if _is_wanted(folder, progress):
            with _nothing_left_of_what_never_began(folder.path):
                cost = fit(method, config, task, folder.path, wall_s, progress)
            _score(method, config, task, folder, wall_s, progress)
            _keep(method, config, task, folder, wall_s, cost)
    return folder.path


def test_run(
    run: Path, data: Mapping[str, str], sets: Sequence[str], results: Path, again: bool, device: str, progress: Any,
    metrics: Sequence[str] = (),
) -> Path:  # fmt: skip
    """Score what a finished run has learnt on other scenes, or by more `metrics`, as a run of its own."""
    choose_device(device)
    began_s = time.perf_counter()
    record, recipe = finished_run(run)
    config, options = recipe.retarget(record.config, record.options, sets, data)
    config["task"]["metrics"] = list(dict.fromkeys([*config["task"]["metrics"], *metrics]))
    config["task"].pop(SCORED_ON, None)  # what a search has trained may be tested like any other
    config["trained_by"] = {"run": record.id, "weights": content(record.path / "weights")}
    if config["task"]["splits"] != record.config["task"]["splits"]:
        config["task"]["scenes"]["seen"] = 0  # what was trained on is another set of clips
    task = build_task(config["task"], data, progress, to_fit=False)
    config["task"] = task.config
    _check_same_sounds(record, config)
    _check_unheard(record, task)
    method = build(recipe, config, task.info, inner_method(config, task))
    with _open(config, options, recipe, task, results, again, learnt_by=record) as folder:
        wall_s = {"data": time.perf_counter() - began_s}
        if _is_wanted(folder, progress):
            if learns_from(config):
                method.load(Path(run) / "weights")
            _score(method, config, task, folder, wall_s, progress)
            learnt = {name: value for name, value in record.cost.items() if name not in MEASURED}
            _keep(method, config, task, folder, wall_s, learnt)
    return folder.path


@contextmanager
def _nothing_left_of_what_never_began(folder: Path) -> Iterator[None]:
    """Where settings are refused before the first epoch is through, no folder says that a run was interrupted."""
    try:
        yield
    except UserError:
        if not any(file.is_file() for file in (folder / "checkpoints").rglob("*")) and not (folder / "fit.json").is_file():
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _is_wanted(folder: RunFolder, progress: Any) -> bool:
    """Whether there is anything to do; it is said where there is not."""
    if folder.state == "finished":
        progress.say(f"{folder.id} is finished; --again runs it anew.")
    return folder.state != "finished"


def finished_run(run: Path, sent: Path | None = None) -> tuple[RunRecord, Recipe]:
    """What a run says of itself, and the recipe that made it. UserError where either is not to be had.

    `sent`: a folder of results that may come from anybody, whose runs are not asked for one by one. A recipe is Python, so
    that of such a run is then only one that was installed, or that lies in recipes/ or baselines/ here.
    """
    record = next((each for each in read_runs(Path(run)) if each.path.resolve() == Path(run).resolve()), None)
    if record is None or record.state != "finished":
        raise UserError(f"{run}: not a finished run. Give its command again, and it goes on where it stopped.")
    if learns_from(record.config) and not (record.path / "weights").is_dir():
        raise UserError(f"{run}: holds no weights. Run its recipe again to train it here.")
    return record, _recipe_of(record, sent).on(record.config["task"]["name"])


def _recipe_of(record: RunRecord, sent: Path | None) -> Recipe:
    """The recipe that made a run: the one a package registers, or the folder as it was named, here or above the run.

    UserError where it is nowhere, or lies only where it is not to be run: in the folder of the run, where nobody keeps a
    recipe; or, with `sent`, where `finished_run` says.
    """
    if record.provenance.get("recipe_package"):
        return load_recipe(registered(record.config["recipe"]))
    wanted = record.provenance.get("recipe_folder") or "unknown"
    own = record.path.resolve()
    found = [place / wanted for place in (Path(), *own.parents, home()) if (place / wanted / "recipe.yaml").is_file()]
    outside = [folder for folder in found if not folder.resolve().is_relative_to(own)]
    for folder in outside:
        if sent is None or is_of_here(folder, sent):
            return load_recipe(folder)
    if outside:
        raise UserError(f"its recipe lies in {outside[0]}, which a report does not run. If you trust it, give --trust.")
    if found:
        raise UserError(f"{record.path}: its recipe lies in the run itself, {found[0]}, and is not run: it may be anybody's.")
    raise UserError(f"{record.path}: its recipe '{wanted}' is not here. Call from the folder that holds it.")


def _open(
    config: dict[str, Any], options: dict[str, Any], recipe: Recipe, task: Task, results: Path, again: bool,
    learnt_by: RunRecord | None = None,
) -> RunFolder:  # fmt: skip
    changed = changed_options(config, options, recipe)
    path = results / run_id(config, changed)
    if again and not locked(path):  # what another process is writing stays, and `open_or_create` says who it is
        shutil.rmtree(path, ignore_errors=True)
    seeds = {"run": config["seed"], "scenes": config["task"]["scenes"]["seed"]}
    facts = provenance(checkout(), seeds, {"hash": task.cache.content_hash, "clips": len(task.cache.clips)})
    facts["recipe_folder"] = folder_words(recipe)
    facts["recipe_hash"] = code_hash(recipe.folder)
    if recipe.found.package is not None:
        facts["recipe_package"] = recipe.found.package
    facts["device"] = str(device())
    facts["splits"] = {split: len(members) for split, members in task.members.items()}
    facts["scenes_hash"] = {split: task.scenes_hash(split) for split in task.scored}
    if learns_from(config) and learnt_by is None:
        facts["parts_hash"] = task.parts_hash
    facts |= audit_run(task, config, learnt_by).provenance
    return RunFolder.open_or_create(results, config, options, recipe.tables_plain(), facts, changed)


def _check_same_sounds(record: RunRecord, config: Mapping[str, Any]) -> None:
    """UserError where what a run has learnt cannot answer this task's scenes."""
    for name in ("classes", "sample_rate_hz"):
        theirs, ours = record.config["task"][name], config["task"][name]
        if theirs != ours:
            raise UserError(
                f"{record.path}: was trained with {name} {theirs}; this task has {ours}. Train it on this task."
            )


def _check_unheard(record: RunRecord, task: Task) -> None:
    """UserError where the test would score a run on recordings that it was trained or chosen on."""
    theirs = record.config["task"]
    shared = task.config["splits"].get("protocol") == SHARED_POOL  # which says of itself that it scores what was heard
    heard = record.provenance.get("recordings")
    if shared or not task.n_scenes("test") or (heard is None and theirs["corpus"] != task.config["corpus"]):
        return
    if heard is None:  # a run from before it was kept: the same clips, split as they were then
        clips = task.cache.clips
        members = split_clips(clips, theirs["splits"], theirs["classes"], theirs["corpus"], wanted=())
        heard = {split: [clips[i].recording for i in own] for split, own in members.items()}
    known = task.in_test(theirs["corpus"], [each for split in ("train", "valid") for each in heard.get(split, [])])
    if known:
        raise UserError(
            f"{record.path}: was trained on {len(known)} of the recordings of this test, '{min(known)}' among them. "
            "Test it on other folds, or on the split that it was trained with."
        )


def inner_method(config: dict[str, Any], task: Task, sent: Path | None = None) -> Method | None:
    """The method that this one wraps, as its own run left it. The configuration is told what that one learnt from.

    `sent`: as in `finished_run`.
    """
    if not config.get("inner"):
        return None
    record, recipe = finished_run(Path(config["inner"]["run"]), sent)
    if record.config["supervision"] == "oracle":
        raise UserError(f"--inner {record.path}: {record.config['name']} must be told the sources. Wrap one that hears mixtures.")
    _check_same_sounds(record, config)
    _check_unheard(record, task)
    config |= with_inner(config, record)
    method = build(recipe, record.config, task.info)
    method.load(record.path / "weights")
    return method


def _score(
    method: Method, config: Mapping[str, Any], task: Task, folder: RunFolder, wall_s: dict[str, float], progress: Any
) -> None:
    """The loop. Scenes that were scored before an interruption are not scored again."""
    began_s = time.perf_counter()
    for split in task.scored:
        scenes = task.to_score(split)
        scored = folder.scored_scenes(split)
        with progress.bar(f"scoring {split}", task.n_scenes(split)) as bar:
            for chunk, first in enumerate(range(0, task.n_scenes(split), CHUNK)):
                indices = range(first, min(first + CHUNK, task.n_scenes(split)))
                missing = [scenes.scene(index) for index in indices if scenes.scene_id(index) not in scored]
                if missing:
                    folder.append_rows(split, chunk, *answer(method, missing, config, folder.id, split))
                bar.advance(len(indices))
    wall_s["score"] = time.perf_counter() - began_s


def answer(
    method: Method, scenes: Sequence[Scene], config: Mapping[str, Any], run: str, split: str
) -> tuple[list[Row], Decisions]:
    """The method's answer to some scenes: the judge's rows, and by scene what the method says that it decided."""
    task = config["task"]
    asked = (task["classes"], task["metrics"], run, split, task["minimum_active"], len(task["classes"]),
             task_info(task).one_per_class)
    rows: list[Row] = []
    decisions = {}
    for scene, estimate in zip(scenes, method.separate(shown(scenes, config)), strict=True):
        rows += judge(scene, estimate, *asked)
        if estimate.decisions is not None:
            decisions[scene.mixture.id] = estimate.decisions
    return rows, decisions


def shown(scenes: Sequence[Scene], config: Mapping[str, Any]) -> Sequence[Any]:
    """What a method may see: the mixtures. Only one that declares itself an oracle is handed the truth."""
    return scenes if config["supervision"] == "oracle" else [scene.mixture for scene in scenes]


def _keep(
    method: Method, config: Mapping[str, Any], task: Task, folder: RunFolder, wall_s: dict[str, float],
    cost: dict[str, Any],
) -> None:  # fmt: skip
    """What it costs, pictures and sounds of one scene, then the tables' figures; with those the run is finished."""
    from sepbench.report.history import draw_history
    from sepbench.report.listen import keep_sounds
    from sepbench.report.scatter import draw_scatter
    from sepbench.report.scene import keep_scene
    from sepbench.report.words import run_words

    split = task.scored[0]
    scenes = [task.scene(split, index) for index in range(min(CHUNK, task.n_scenes(split)))]
    scene = telling(scenes)
    estimate, told = method.separate(shown([scene], config))[0], run_words(config, split)
    keep_scene(scene, estimate, folder.path, task.info.classes, told)
    began_s = time.perf_counter()
    cost = cost | measure_cost(method, shown(scenes, config), task.info.sample_rate_hz) | parameters(config, folder.path)
    wall_s["cost"] = time.perf_counter() - began_s
    draw_history(folder.path, order=tuple(cost))
    metrics = folder.finish(wall_s, cost, weights_hash=weights_hash(config, folder.path))
    if "si_sdri" in metrics.get(split, {}):
        draw_scatter(folder.path, split, told)
    every = (task.to_score(split), task.n_scenes(split))
    keep_sounds(folder.path, split, *every, lambda few: method.separate(shown(few, config)), task.info.classes)


def telling(scenes: Sequence[Scene]) -> Scene:
    """The first scene in which three classes sound; without one, the first of those with the most. What pictures show."""
    three = [scene for scene in scenes if len(scene.sources) == 3]
    return three[0] if three else max(scenes, key=lambda scene: len(scene.sources))
