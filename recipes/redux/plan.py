"""Which options go together, told before anything is trained."""

from __future__ import annotations

from typing import Any

from sepbench.errors import UserError


def check_options(settings: Any, wraps: bool) -> None:
    """UserError for options that contradict one another; `wraps`: whether --inner names a run."""
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
