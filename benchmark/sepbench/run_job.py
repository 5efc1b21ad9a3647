"""What another process is told, so that it builds the same method on the same task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sepbench import machine
from sepbench.catalogue import Found
from sepbench.devices import choose_device
from sepbench.errors import UserError
from sepbench.method import Method
from sepbench.recipe import build, load_recipe
from sepbench.tasks.task import Task, build_task


@dataclass(frozen=True)
class Spread:
    """Over how many processes a run is spread. Alone: over none but this one."""

    devices: int = 1  # of each node, that train together
    nodes: int = 1
    score_workers: int = 1  # processes that answer and judge scenes
    chunk: int | None = None  # scenes that are answered together; None: as many as usual


@dataclass(frozen=True)
class Job:
    """A run as it is resolved, and where it lies."""

    config: dict[str, Any]
    data: Mapping[str, str]
    found: Found  # the recipe
    device: str
    folder: Path
    sounds: str  # content hash of what scenes are made from
    threads: int = 1
    weights: Path | None = None  # what has been learnt
    to_fit: bool = True


def rebuilt(job: Job) -> tuple[Method, Task]:
    """The method, with what it has learnt where `job` says where that lies, and its task. UserError where sounds have changed."""
    from sepbench.run import inner_method

    machine.threads(job.threads)
    choose_device(job.device)
    task = build_task(job.config["task"], job.data, None, to_fit=job.to_fit)
    if task.cache.content_hash != job.sounds:
        raise UserError(f"{job.folder}: the sounds have changed since this run was begun. Restore them, and run it again.")
    method = build(load_recipe(job.found), job.config, task.info, inner_method(job.config, task))
    if job.weights is not None:
        method.load(job.weights)
    return method, task
