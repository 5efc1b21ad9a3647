"""Scoring by several processes: each answers chunks of scenes, this one alone writes what they found."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import Any

from sepbench.children import Child
from sepbench.results_decisions import Decisions
from sepbench.run_job import Job, rebuilt
from sepbench.scene import Row

Chunk = tuple[int, Sequence[int]]  # its number, the scenes to answer together
Answered = tuple[int, Sequence[int], list[Row], Decisions]


class Workers:
    """Processes that have loaded what was learnt. Started where there is something to do, ended with the `with` block."""

    def __init__(self, n: int, job: Job, n_threads: int) -> None:
        self.n, self.job = n, replace(job, threads=max(1, n_threads // n))
        self.children: list[Child] = []

    def answered(self, split: str, todo: Sequence[Chunk]) -> Iterator[Answered]:
        """What each chunk comes to, in the order in which they are done. UserError where a worker fails."""
        for i in range(len(self.children), min(self.n, len(todo))):
            self.children.append(Child(f"Scoring process {i + 1} of {self.n}", score_scenes, self.job, self.job.threads))
        waiting, busy = deque(todo), dict[Any, tuple[Child, Chunk]]()

        def give(child: Child) -> None:
            if waiting:
                chunk = waiting.popleft()
                busy[child.pipe] = child, chunk
                child.send((split, chunk[1]))

        for child in self.children:
            give(child)
        while busy:
            for pipe in wait(list(busy)):
                child, (number, indices) = busy.pop(pipe)
                rows, decisions = child.receive()
                give(child)
                yield number, indices, rows, decisions

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        for child in self.children:
            child.stop()


def score_scenes(job: Job, pipe: Connection) -> None:
    """What a worker does: answer chunks until nobody asks."""
    from sepbench.run import answer_chunk

    method, task = rebuilt(job)
    while True:
        split, indices = pipe.recv()  # EOFError where the pipe is closed, which ends the process
        pipe.send(("rows", answer_chunk(method, task, job.config, job.folder.name, split, indices)))
