"""The whole benchmark as one loop: a method learns, answers each scene, and the judge writes rows.

Longer than most: beside the loop it holds what may be asked of a run that is finished, which ends in the same loop.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from sepbench.audit import audit_run
from sepbench.catalogue import is_of_here, registered
from sepbench.cost import MEASURED, measure_cost
from sepbench.devices import choose_device, device
from sepbench.errors import UserError, memory_told, settings_told
from sepbench.home import checkout, home
from sepbench.judge import judge
from sepbench.loading import code_hash
from sepbench.machine import threads_given
from sepbench.method import Method
from sepbench.progress import SILENT
from sepbench.provenance import provenance
from sepbench.ranks import Ranks
from sepbench.recipe import Recipe, build, load_recipe
from sepbench.results import RunFolder, RunRecord, read_runs, run_id
from sepbench.results_arriving import recover
from sepbench.results_decisions import Decisions
from sepbench.results_format import learns_from
from sepbench.results_rows import check_readable
from sepbench.run_fit import fit, has_learnt, in_the_loop, learn, take_up
from sepbench.run_identity import changed_options, folder_words, with_inner
from sepbench.run_job import Job, Spread
from sepbench.run_ranks import Elsewhere, Place, check_devices, place_of, together
from sepbench.run_weights import content, parameters, weights_hash
from sepbench.run_workers import Workers
from sepbench.scene import Row, Scene
from sepbench.storage import FolderLock
from sepbench.tasks.settings import SCORED_ON
from sepbench.tasks.splits import SHARED_POOL, split_clips
from sepbench.tasks.task import Task, build_task, task_info

CHUNK = 20  # scenes that are answered together; an interruption costs at most so many
ALONE, ONE = Spread(), Ranks()


def run_one(
    config: dict[str, Any], options: dict[str, Any], recipe: Recipe, data: Mapping[str, str], results: Path,
    again: bool, device: str, progress: Any, spread: Spread = ALONE,
) -> Path:  # fmt: skip
    """Fit, score and keep one configuration; the folder of the run. Goes on where an earlier start stopped.

    Of several ranks that train together, the first one does all else alone.
    """
    choose_device(device)
    place = place_of(spread.devices, spread.nodes)
    check_devices(place)
    began_s = time.perf_counter()
    if files := recipe.files(config["params"]):
        config = {**config, "files": files}
    task = build_task(config["task"], data, progress)
    config = {**config, "task": task.config}  # with all its classes, where they are those of the corpus
    place = _only_what_can_be_shared(place, config, progress)
    with settings_told():
        method = build(recipe, config, task.info, inner_method(config, task))
    path = results / run_id(config, changed_options(config, options, recipe))
    job = Job(config, data, recipe.found, device, path, task.cache.content_hash)
    if not place.ranks.leads:
        return _help(method, task, job, place, again, progress)
    with _open(config, options, recipe, task, results, again, ranks=place.ranks, chunk=spread.chunk) as folder:
        wall_s = {"data": time.perf_counter() - began_s}
        if _is_wanted(folder, progress):
            with _nothing_left_of_what_never_began(config, folder.path):
                take_up(config, folder.path)
                cost = fit(method, config, task, folder.path, wall_s, progress, together(place, job, progress))
            learnt = replace(job, weights=folder.path / "weights" if learns_from(config) else None)
            _score(method, config, task, folder, wall_s, progress, spread, learnt)
            _keep(method, config, task, folder, wall_s, cost)
    return folder.path


def _only_what_can_be_shared(place: Place, config: Mapping[str, Any], progress: Any) -> Place:
    """One rank, and a line, where nothing is trained by the loop that could share it out."""
    if place.ranks.n == 1 or in_the_loop(config):
        return place
    if place.ranks.leads:
        progress.say(f"{config['name']}: no part of it is trained by sepbench's loop, so one process does it all.")
    return replace(place, ranks=ONE) if place.ranks.leads else place


def _help(method: Method, task: Task, job: Job, place: Place, again: bool, progress: Any) -> Path:
    """What a rank that does not lead does, where somebody else has started it: train along, and leave the rest."""
    known = [job.folder / "fit.json", job.folder / "metrics.json"]
    if in_the_loop(job.config) and (again or not any(file.is_file() for file in known)):
        with suppress(Elsewhere), together(place, job, progress):
            learn(method, job.config, task, job.folder, SILENT, None)
    return job.folder


def test_run(
    run: Path, data: Mapping[str, str], sets: Sequence[str], results: Path, again: bool, device: str, progress: Any,
    metrics: Sequence[str] = (), spread: Spread = ALONE,
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
    with _open(config, options, recipe, task, results, again, learnt_by=record, chunk=spread.chunk) as folder:
        wall_s = {"data": time.perf_counter() - began_s}
        if _is_wanted(folder, progress):
            learnt = Path(run) / "weights" if learns_from(config) else None
            if learnt is not None:
                method.load(learnt)
            job = Job(config, data, recipe.found, device, folder.path, task.cache.content_hash, weights=learnt, to_fit=False)
            _score(method, config, task, folder, wall_s, progress, spread, job)
            taught = {name: value for name, value in record.cost.items() if name not in MEASURED}
            _keep(method, config, task, folder, wall_s, taught)
    return folder.path


@contextmanager
def _nothing_left_of_what_never_began(config: Mapping[str, Any], folder: Path) -> Iterator[None]:
    """Where settings are refused before the first epoch is through, no folder says that a run was interrupted."""
    try:
        yield
    except UserError:
        if not has_learnt(config, folder):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _is_wanted(folder: RunFolder, progress: Any) -> bool:
    """Whether there is anything to do; it is said where there is not. UserError where what it had scored is gone or damaged."""
    if folder.state == "finished":
        if "score" in (folder.run.get("wall_s") or {}):
            check_readable(folder.path)
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
    learnt_by: RunRecord | None = None, ranks: Ranks = ONE, chunk: int | None = None,
) -> RunFolder:  # fmt: skip
    changed = changed_options(config, options, recipe)
    path = results / run_id(config, changed)
    recover(results)  # what was arriving when its receiver was killed may be this run
    if again and path.is_dir():
        _empty(path)
    seeds = {"run": config["seed"], "scenes": config["task"]["scenes"]["seed"]}
    facts = provenance(checkout(), seeds, {"hash": task.cache.content_hash, "clips": len(task.cache.clips)})
    facts["recipe_folder"] = folder_words(recipe)
    facts["recipe_hash"] = code_hash(recipe.folder)
    if recipe.found.package is not None:
        facts["recipe_package"] = recipe.found.package
    facts["device"] = str(device())
    if chunk is not None:
        facts["score_chunk"] = chunk  # roundings depend on what is answered together
    if ranks.n > 1:
        facts["ranks"] = {"devices": ranks.n // ranks.nodes, "nodes": ranks.nodes}
    facts["splits"] = {split: len(members) for split, members in task.members.items()}
    facts["scenes_hash"] = {split: task.scenes_hash(split) for split in task.scored}
    if learns_from(config) and learnt_by is None:
        facts["parts_hash"] = task.parts_hash
    facts |= audit_run(task, config, learnt_by).provenance
    return RunFolder.open_or_create(results, config, options, recipe.tables_plain(), facts, changed)


def _empty(path: Path) -> None:
    """Remove what a run has left. UserError where another process is writing it: that stays."""
    lock = FolderLock(path)
    try:
        for each in path.iterdir():
            if each.name != FolderLock.NAME:
                shutil.rmtree(each) if each.is_dir() and not each.is_symlink() else each.unlink()
    finally:
        lock.release()


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
    method: Method, config: Mapping[str, Any], task: Task, folder: RunFolder, wall_s: dict[str, float], progress: Any,
    spread: Spread, job: Job,
) -> None:  # fmt: skip
    """The loop. Scenes that were scored before an interruption are not scored again.

    Which scenes are answered together follows from their numbers, so that however many processes answer, rows are the same.
    """
    began_s, size = time.perf_counter(), spread.chunk or CHUNK
    with Workers(spread.score_workers, job, threads_given()) as workers:
        for split in task.scored:
            scenes, n = task.to_score(split), task.n_scenes(split)
            scored = folder.scored_scenes(split)
            with progress.bar(f"scoring {split}", n) as bar:
                chunks = enumerate(range(first, min(first + size, n)) for first in range(0, n, size))
                missing = [(chunk, [i for i in own if scenes.scene_id(i) not in scored]) for chunk, own in chunks]
                todo = [(chunk, indices) for chunk, indices in missing if indices]
                bar.advance(n - sum(len(indices) for _, indices in todo))
                if spread.score_workers > 1:
                    answers = workers.answered(split, todo)
                else:
                    answers = ((*each, *answer_chunk(method, task, config, folder.id, split, each[1])) for each in todo)
                for chunk, indices, rows, decisions in answers:
                    folder.append_rows(split, chunk, rows, decisions)
                    bar.advance(len(indices))
    wall_s["score"] = time.perf_counter() - began_s


def answer_chunk(
    method: Method, task: Task, config: Mapping[str, Any], run: str, split: str, indices: Sequence[int]
) -> tuple[list[Row], Decisions]:
    """`answer` to the scenes of these numbers. UserError where memory does not suffice for them."""
    scenes, n, seconds = task.to_score(split), len(indices), config["task"].get("seconds")
    lower = f"Fewer scenes at a time need less: --score-chunk {max(1, n // 4)}" if n > 1 else "Shorter scenes need less"
    with memory_told(f"Scoring {n} scenes of {seconds} s together", f"{lower}, or task.seconds, which is {seconds}."):
        return answer(method, [scenes.scene(index) for index in indices], config, run, split)


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

    def last(metrics: Mapping[str, Any]) -> None:
        if "si_sdri" in metrics.get(split, {}):
            draw_scatter(folder.path, split, told)
        every = (task.to_score(split), task.n_scenes(split))
        if metrics:
            keep_sounds(folder.path, split, *every, lambda few: method.separate(shown(few, config)), task.info.classes)

    folder.finish(wall_s, cost, weights_hash=weights_hash(config, folder.path), last=last)


def telling(scenes: Sequence[Scene]) -> Scene:
    """The first scene in which three classes sound; without one, the first of those with the most. What pictures show."""
    three = [scene for scene in scenes if len(scene.sources) == 3]
    return three[0] if three else max(scenes, key=lambda scene: len(scene.sources))
