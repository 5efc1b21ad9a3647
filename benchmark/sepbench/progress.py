"""How far the work has come: bars on a terminal, a line now and then elsewhere. stdout stays free for results."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TextIO

LINE_EVERY_S = 10.0


class Bar(Protocol):
    """One piece of work under way."""

    def advance(self, n: int = 1, **facts: object) -> None:
        """`n` more are done; `facts` (loss=0.12) stand beside the bar until others come."""


class Progress(Protocol):
    """Where work is shown. Bars may nest."""

    def bar(self, what: str, total: int | None) -> AbstractContextManager[Bar]:
        """Show `what` until the context ends; `total` None where nobody knows how many there will be."""

    def say(self, line: str) -> None:
        """A line that stays."""


def make_progress(terminal: bool | None = None) -> Progress:
    """Bars if `terminal`, else plain lines. None: as stderr is."""
    return TerminalProgress() if (sys.stderr.isatty() if terminal is None else terminal) else PlainProgress()


class PlainProgress:
    """At most one line per bar and ten seconds, and one when it ends."""

    def __init__(self, out: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.out = out
        self.clock = clock

    @contextmanager
    def bar(self, what: str, total: int | None) -> Iterator[Bar]:
        bar = _PlainBar(self, what, total)
        yield bar
        bar.end()

    def say(self, line: str) -> None:
        print(line, file=self.out or sys.stderr, flush=True)


class _PlainBar:
    def __init__(self, progress: PlainProgress, what: str, total: int | None) -> None:
        self.progress, self.what, self.total = progress, what, total
        self.done, self.facts = 0, ""
        self.began_s = self.said_s = progress.clock()
        self.said_done = 0

    def advance(self, n: int = 1, **facts: object) -> None:
        self.done += n
        self.facts = _facts(facts) or self.facts
        now_s = self.progress.clock()
        if now_s - self.said_s >= LINE_EVERY_S:
            rate = (self.done - self.said_done) / (now_s - self.said_s)
            left = f", {clock_words((self.total - self.done) / rate)} left" if self.total and rate else ""
            self._say(f"{self._count()}, {rate:.3g}/s{left}")
            self.said_s, self.said_done = now_s, self.done

    def end(self) -> None:
        self._say(f"{self._count()} in {clock_words(self.progress.clock() - self.began_s)}")

    def _count(self) -> str:
        return f"{self.done}/{self.total}" if self.total else str(self.done)

    def _say(self, text: str) -> None:
        self.progress.say(f"{self.what}: {text}" + (f", {self.facts}" if self.facts else ""))


class TerminalProgress:
    """Bars with count, rate, time left and facts. One display holds all bars that are open."""

    def __init__(self, out: TextIO | None = None) -> None:
        from rich.console import Console

        self.console = Console(file=out or sys.stderr, highlight=False)
        self.display: Any = None
        self.open = 0

    @contextmanager
    def bar(self, what: str, total: int | None) -> Iterator[Bar]:
        if self.display is None:
            self.display = _display(self.console)
            self.display.start()
        self.open += 1
        task = self.display.add_task(what, total=total, rate="", facts="")
        try:
            yield _TerminalBar(self.display, task)
        finally:
            self.open -= 1
            if not self.open:
                self.display.stop()
                self.display = None

    def say(self, line: str) -> None:
        self.console.print(line, markup=False, soft_wrap=True)


class _TerminalBar:
    def __init__(self, display: Any, task: Any) -> None:
        self.display, self.task = display, task

    def advance(self, n: int = 1, **facts: object) -> None:
        speed = self.display.tasks[self.display.task_ids.index(self.task)].speed
        shown = {"facts": _facts(facts)} if facts else {}
        self.display.update(self.task, advance=n, rate=f"{speed:.3g}/s" if speed else "", **shown)


def _display(console: Any) -> Any:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        TextColumn("{task.fields[facts]}", markup=False), console=console,
    )  # fmt: skip


def _facts(facts: dict[str, object]) -> str:
    return ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in facts.items()
    )


class Silent:
    """Shows nothing and says nothing: for processes whose word another one has."""

    @contextmanager
    def bar(self, what: str, total: int | None) -> Iterator[Silent]:
        yield self

    def advance(self, n: int = 1, **facts: object) -> None:
        """Nothing is shown."""

    def say(self, line: str) -> None:
        """Nothing is said."""


SILENT = Silent()


def clock_words(seconds: float) -> str:
    """12.3 s, 4:05 or 1:02:03."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
