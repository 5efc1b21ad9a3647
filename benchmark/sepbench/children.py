"""Further processes: started beside this one, told what to do over a pipe, and never outliving it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection, Pipe
from typing import IO, Any

from sepbench.errors import UserError
from sepbench.machine import THREADS, tune_allocator

GRACE_S = 5.0  # for one that is to end by itself
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


class Child:
    """A Python process of its own, not a fork: threads and a GPU's state do not survive a fork.

    It is in a session of its own, so that Ctrl-C reaches this process alone, which then ends it.
    """

    def __init__(
        self, name: str, work: Callable[[Any, Connection], None], told: Any, n_threads: int,
        env: Mapping[str, str] | None = None, printed: IO[bytes] | None = None,
    ) -> None:  # fmt: skip
        """Have it call `work`, a module's function, with `told` and its end of the pipe; `name` is for people.

        `env`: what its environment has beside ours. `printed`: where all goes that it prints; None: our stderr.
        """
        self.name = name
        self.pipe, theirs = Pipe()
        code = f"import sys; sys.path[:] = {sys.path!r}; from sepbench.children import begin; begin()"
        handle = theirs.fileno()
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(handle)], pass_fds=[handle], start_new_session=True,
            env={**os.environ, **dict.fromkeys(THREADS, str(n_threads)), **(env or {})}, stdin=subprocess.DEVNULL,
            stdout=printed or (sys.stderr if _has_handle(sys.stderr) else subprocess.DEVNULL), stderr=printed,
        )  # fmt: skip
        theirs.close()
        self.send((work.__module__, work.__name__, told))

    def send(self, value: Any) -> None:
        with contextlib.suppress(OSError):  # it has ended already, and `receive` says so
            self.pipe.send(value)

    def receive(self) -> Any:
        """What it sends next. UserError where it failed, with what it said."""
        try:
            kind, value = self.pipe.recv()
        except (EOFError, OSError):
            raise UserError(self.complaint()) from None
        if kind == "failed":
            raise UserError(value)
        return value

    def has_failed(self) -> bool:
        return self.process.poll() not in (None, 0)

    def complaint(self) -> str:
        """Of one that ended too soon, why."""
        with contextlib.suppress(EOFError, OSError):
            while self.pipe.poll():
                kind, value = self.pipe.recv()
                if kind == "failed":
                    return str(value)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(GRACE_S)
        code = self.process.poll()
        how = f"was {death_words(code)}" if code is not None and code < 0 else "failed; the lines above say why"
        return f"{self.name} {how}. The same command goes on where the run stopped."

    def stop(self, grace_s: float = 0.0) -> None:
        """End it, at once or when it has had `grace_s` to end by itself."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(grace_s)
        self.process.kill()
        self.process.wait()
        self.pipe.close()


def death_words(code: int) -> str:
    """How a process ended that has not answered."""
    if code >= 0:
        return f"ended with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def begin() -> None:
    """What a child does first, and how it ends: with a line for its parent where it fails."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with_parent()
    pipe = Connection(int(sys.argv[1]))
    try:
        tune_allocator()  # before torch comes
        module, name, told = pipe.recv()
        __import__(module)
        getattr(sys.modules[module], name)(told, pipe)
    except UserError as error:
        pipe.send(("failed", str(error)))
        os._exit(2)
    except (EOFError, BrokenPipeError, ConnectionResetError):  # nobody is left who would want an answer
        os._exit(1)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    pipe.close()
    os._exit(0)  # threads of libraries are not waited for


def _die_with_parent() -> None:
    """Linux ends this process when the one that started it ends, however that happens; elsewhere the pipe tells."""
    parent = os.getppid()
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we asked
        os._exit(1)


def _has_handle(stream: Any) -> bool:
    try:
        return stream.fileno() >= 0
    except (OSError, ValueError, AttributeError):
        return False
