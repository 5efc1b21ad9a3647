"""Which options go together, told before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sepbench.errors import UserError
from sepbench.scene import TaskInfo

# options that do nothing where another is as the name says, and their defaults, which a run may leave standing
OF_THE_STRATEGY = {
    "silence_threshold": 0.5, "silence_db": 40.0, "silence_probability": 0.51, "residual": "reference_channel",
    "duplicates": "next_best", "max_rounds": None,
}  # fmt: skip
OF_THE_TAGGER = {"tagger": "cnn", "threshold": 0.5}
OF_THE_SEPARATOR = {"spec_augment": True, "blocks_per_level": 1}


def check_options(settings: Any, task: TaskInfo, wraps: bool) -> None:
    """UserError for options that contradict one another or do nothing; `wraps`: whether --inner names a run."""
    params = settings.params
    if params.separator == "inner" and not wraps:
        raise UserError(
            "--separator inner: no run is given to separate with. Add --inner RUN, a finished run of a separator."
        )
    if wraps and params.separator != "inner":
        raise UserError(
            f"--inner: nobody asks that run, since --separator is {params.separator}. Add --separator inner, or leave it out."
        )
    if params.oracle_labels and params.strategy != "none":
        raise UserError("--oracle-labels true: true labels want no verifying. Add --strategy none.")
    if params.oracle_labels and params.separator == "inner":
        raise UserError(
            "--oracle-labels true: a separator that is told no labels (--separator inner) makes nothing of them. Choose another."
        )
    if params.tagger == "cnn" and params.tagger_checkpoint is not None:
        raise UserError(
            "--tagger-checkpoint: the tagger cnn is trained from nothing. Choose --tagger m2d, or leave the file away."
        )
    if params.strategy == "none":
        _check_idle(
            params, OF_THE_STRATEGY, "--strategy none verifies nothing", "or run --strategy redux alone with it"
        )
    if params.oracle_labels:
        _check_idle(params, OF_THE_TAGGER, "--oracle-labels true has no tagger", "or choose --oracle-labels false")
    if params.separator == "inner":
        _check_idle(params, OF_THE_SEPARATOR, "--separator inner trains no separator", "or choose another separator")
    if params.duplicates == "keep" and not task.classes_repeat:
        raise UserError(
            "--duplicates keep: no two sources of this task are of one class, and an answer with a label twice cannot be scored. "
            "Choose next_best or drop, or add --same-class true where the task has it."
        )


def _check_idle(params: Any, idle: Mapping[str, Any], why: str, instead: str) -> None:
    """UserError for the first of the options `idle` that is not as it is there."""
    for name, default in idle.items():
        value = getattr(params, name)
        if value != default:
            said = str(value).lower() if isinstance(value, bool) else value
            raise UserError(f"--{name.replace('_', '-')} {said}: does nothing, since {why}. Leave it away, {instead}.")
