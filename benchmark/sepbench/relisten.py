"""Sounds of runs that kept none: the best, the median and the worst scene, answered again where that can be done."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sepbench.devices import choose_device
from sepbench.errors import UserError
from sepbench.report.listen import Listening, is_kept, keep_sounds, read_sounds
from sepbench.results import RunRecord
from sepbench.scene_files import answers_of, scenes_of


def sounds_of(
    record: RunRecord, split: str, data: Mapping[str, str], device: str, progress: Any, sent: Path | None
) -> Listening | str:
    """What the run kept, or what it answers now, which is then kept as a finished run keeps it; else why neither is to be had.

    It is answered from its weights (if it learns) and the recordings that `data` or the environment point at.
    `sent`: the folder of results where they may come from anybody, whose recipes are not run; None: any recipe is.
    """
    try:
        if not is_kept(record.path):
            choose_device(device)
            task = scenes_of(record, split, data, progress)
            answer = answers_of(record, task, labels_alone=True, sent=sent)
            progress.say(f"Answering three scenes again: {record.id}")
            scenes = task.to_score(split)
            if not keep_sounds(record.path, split, scenes, task.n_scenes(split), answer, task.info.classes):
                return f"{record.id} has no figure that ranks its scenes."
        return read_sounds(record.path)
    except UserError as error:
        return str(error)
    except Exception as error:  # whatever a recipe raises, or weights of another sepbench: the other runs are shown
        return f"{type(error).__name__}: {(str(error).splitlines() or ['no reason is given'])[0]}"
