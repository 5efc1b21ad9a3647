"""A process that carries out one run of a sweep: told by a file, answering by a file, and ending when the sweep ends."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

from sepbench import machine
from sepbench.storage import read_json, write_json

STOPPED = 130


def main(spec_file: str, answer_file: str) -> int:
    """Do what `spec_file` says; how it went stands in `answer_file` afterwards, and nowhere where this process dies."""
    spec = read_json(Path(spec_file))
    machine.tune_allocator()
    machine.threads(spec["threads"])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from sepbench.progress import PlainProgress
    from sepbench.sweep_spec import do

    try:
        answer = do(spec, PlainProgress(sys.stdout))
    except KeyboardInterrupt:
        return STOPPED
    write_json(Path(answer_file), json.loads(json.dumps(answer)))
    return 0


def _end_with_parent() -> None:
    """stdin is a pipe from the sweep: it ends when that does, however it does."""
    while sys.stdin.buffer.read(1):
        pass
    os._exit(STOPPED)
