"""A process that carries out one run of a sweep, and ends when the sweep ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from sepbench.progress import PlainProgress
from sepbench.sweep_spec import do

STOPPED = 130


def one_run(spec: Mapping[str, Any], pipe: Connection) -> None:
    """Do what `spec` says, and answer what `do` does. The sweep stops it by SIGINT, so that it leaves its folder in order."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_end_with_parent, args=(pipe,), daemon=True).start()
    pipe.send(("answer", do(spec, PlainProgress(sys.stdout))))


def _end_with_parent(pipe: Connection) -> None:
    """The sweep says nothing more: when there is something to read, it has ended."""
    with suppress(EOFError, OSError):
        pipe.recv()
    os._exit(STOPPED)
