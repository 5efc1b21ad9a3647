"""Which embedding each iteration is given, and which options go together."""

from __future__ import annotations

from typing import Any

from sepbench.errors import UserError
from sepbench.scene import TaskInfo


def kinds_of(settings: Any) -> tuple[str, ...]:
    """The embedding of each iteration; none of them where no network learns. UserError for options that contradict.

    A first network has no estimates to listen to, so that without an oracle it is given the mixture's.
    """
    params = settings.params
    if params.network == "binary_mask":
        _check_binary(params)
        return ()
    for check in (_check_embeddings, _check_classifier, _check_gate):
        check(settings)
    first = params.embeddings if params.oracle or params.embeddings == "none" else "mixture"
    return (first,) if params.network == "tdcn" else (first, params.embeddings)


def _check_binary(params: Any) -> None:
    wanted = {"embeddings": "none", "oracle": False, "classifier": "pretrained", "basis": "stft", "classifier_checkpoint": None}
    for name, value in wanted.items():
        if getattr(params, name) != value:
            raise UserError(
                f"--{name.replace('_', '-')} {_plain(getattr(params, name))}: --network binary_mask learns nothing and hears "
                f"nobody: it takes the true sources' spectra. Give it --{name.replace('_', '-')} {_plain(value)}."
            )


def _check_embeddings(settings: Any) -> None:
    params = settings.params
    of_sources = params.embeddings in ("all", "soft_or")
    if params.oracle and not of_sources:
        raise UserError(
            f"--embeddings {params.embeddings}: has no part of the true sources, which --oracle true is about. "
            "Choose --embeddings all or soft_or, or --oracle false."
        )
    if params.network == "tdcn" and of_sources and not params.oracle:
        raise UserError(
            f"--embeddings {params.embeddings}: hears separated sources, and with --network tdcn there are none yet. Choose "
            "--embeddings mixture or none, --network itdcn, or --oracle true."
        )


def _check_classifier(settings: Any) -> None:
    params = settings.params
    if params.classifier != "pretrained" and params.embeddings == "none":
        raise UserError(
            f"--classifier {params.classifier}: with --embeddings none the classifier conditions nothing, so nothing can tune "
            "it. Leave it pretrained, or choose embeddings."
        )
    if params.classifier != "pretrained" and params.oracle:
        raise UserError(
            f"--classifier {params.classifier}: an oracle's embeddings are those of the classifier as it was trained. "
            "Leave it pretrained, or choose --oracle false."
        )


def _check_gate(settings: Any) -> None:
    params, channels = settings.params, settings.sizes.channels
    if params.integration != "gate" or params.embeddings == "none":
        return
    if params.condition_at == "coefficients":
        raise UserError(
            "--integration gate: multiplies a block's input, and --condition-at coefficients is before all of them. Choose "
            "--condition-at first or all."
        )
    if params.embedding_channels != channels:
        raise UserError(
            f"--integration gate: wants as many embedding channels as the network has ({channels}), "
            f"got {params.embedding_channels}. Add --embedding-channels {channels}."
        )


def check_loss(settings: Any, task: TaskInfo) -> None:
    """UserError where what there is to learn from holds silence that the loss does not know."""
    if settings.params.loss == "snr" and task.min_sources < task.max_sources:
        raise UserError(
            f"--loss snr: is not defined for silence, and scenes of this task have {task.min_sources} to {task.max_sources} "
            "sources. Choose --loss thresholded."
        )


def _plain(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
