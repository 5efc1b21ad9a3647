"""Classifiers on disk: ours, a safetensors file that names its classes, and the public AudioSet network that a user brings."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sepbench.blocks.weights import keep
from sepbench.errors import UserError

from .classifier import SoundClassifier
from .panns import PannsMobileNet

SHOWN = 3  # names of each list in a message
OTHERWISE = "Leave --classifier-checkpoint out, and one is trained."
WANTED = "a classifier's .safetensors file of an earlier run, or the PANNs checkpoint MobileNetV1 (.pth)"
_ARRAYS = [  # what numpy arrays are pickled with: public checkpoints hold their sampler's state beside the weights
    (np.empty(0).__reduce__()[0], f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")
]
_TRUSTED: list[Any] = [
    *_ARRAYS,
    np.ndarray,
    np.dtype,
    *(type(np.dtype(each)) for each in ("i4", "i8", "f4", "f8", "?")),
]


def keep_classifier(network: SoundClassifier, path: Path, classes: Sequence[str], summary: Mapping[str, Any]) -> None:
    """Weights, classes, sample rate and `summary` in one file, whole or not there. UserError where there is no room."""
    facts = {"classes": list(classes), "sample_rate_hz": network.sample_rate_hz, "summary": dict(summary)}
    keep(network, path, {name: json.dumps(fact) for name, fact in facts.items()})


def classes_in(path: Path) -> tuple[str, ...] | None:
    """The classes of a file that `keep_classifier` wrote; None where it is another. UserError where it cannot be read."""
    try:
        if not _is_safetensors(path):
            return None
        with safe_open(path, "pt") as file:
            told = (file.metadata() or {}).get("classes")
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from None
    try:
        return None if told is None else _names(json.loads(told))
    except (TypeError, ValueError):
        raise _says_no_classes(path) from None


def _names(told: Any) -> tuple[str, ...]:
    """TypeError where it is no list of strings."""
    if not isinstance(told, list) or not all(isinstance(name, str) for name in told):
        raise TypeError
    return tuple(told)


def _is_safetensors(path: Path) -> bool:
    """By its head: eight bytes of length, then JSON."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def recall_classifier(network: SoundClassifier, path: Path, classes: Sequence[str]) -> dict[str, Any]:
    """Read what `keep_classifier` wrote into `network`; hands back its summary. UserError where it does not fit."""
    try:
        with safe_open(path, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (the file is no dict)
            facts = {name: json.loads(fact) for name, fact in (file.metadata() or {}).items()}
            known, rate_hz, summary = _names(facts["classes"]), facts["sample_rate_hz"], dict(facts["summary"])
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from None
    except (KeyError, TypeError, ValueError):
        raise _says_no_classes(path) from None
    if known != tuple(classes):
        raise UserError(
            f"{path}: holds classes {_unlike(known, classes)}; the task has {_unlike(classes, known)}. {OTHERWISE}"
        )
    if rate_hz != network.sample_rate_hz:
        raise UserError(f"{path}: was taught at {rate_hz} Hz; the task has {network.sample_rate_hz} Hz. {OTHERWISE}")
    _fill(network, state, path, "Choose sizes.classifier_width as it was trained with.")
    network.names = known
    return summary


def load_classifier(
    path: Path, classes: Sequence[str], sample_rate_hz: int, width: float, hop: int
) -> SoundClassifier | PannsMobileNet:
    """The classifier that `path` holds, ours or PANNs' MobileNetV1, to be heard at `sample_rate_hz` every `hop` * 10 ms.

    UserError where the file cannot be read, or holds other classes than `classes` (ours only: PANNs' 527 are AudioSet's and
    its `names` are None), or the weights of another network: its first key that differs is named.
    """
    try:
        ours_by_head = _is_safetensors(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    if ours_by_head:
        ours = SoundClassifier(len(classes), sample_rate_hz, width, hop)
        recall_classifier(ours, path, classes)
        return ours
    panns = PannsMobileNet(sample_rate_hz, hop)
    _fill(panns, _pickled(path), path, f"Wanted {WANTED}. {OTHERWISE}")
    return panns


def _pickled(path: Path) -> dict[str, Tensor]:
    """The weights under "model" in a torch checkpoint, none of whose code is run."""
    try:
        with torch.serialization.safe_globals(_TRUSTED):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, LookupError, AttributeError, pickle.UnpicklingError) as error:
        raise _unreadable(path, error) from None
    model = found.get("model") if isinstance(found, Mapping) else None
    if not isinstance(model, Mapping):
        held = ", ".join(map(str, list(found)[:SHOWN])) if isinstance(found, Mapping) else type(found).__name__
        raise UserError(f"{path}: no weights under 'model', it holds {held or 'nothing'}. Wanted {WANTED}. {OTHERWISE}")
    return {str(name): value for name, value in model.items()}


def _fill(network: nn.Module, state: Mapping[str, Any], path: Path, advice: str) -> None:
    wrong = _first_difference(network.state_dict(), state)
    if wrong is not None:
        raise UserError(f"{path}: holds the weights of another network: {wrong}. {advice}")
    strange = next((name for name, value in state.items() if not torch.isfinite(value.float()).all()), None)
    if strange is not None:
        raise UserError(f"{path}: '{strange}' holds numbers that are not finite. Restore the file. {OTHERWISE}")
    network.load_state_dict(dict(state))


def _first_difference(wanted: Mapping[str, Tensor], found: Mapping[str, Any]) -> str | None:
    for name, value in wanted.items():
        if name not in found:
            return f"it has no '{name}', wanted {list(value.shape)}"
        shape = list(getattr(found[name], "shape", ()))
        if not isinstance(found[name], Tensor) or shape != list(value.shape):
            return f"'{name}' is {shape}, wanted {list(value.shape)}"
    extra = next((name for name in found if name not in wanted), None)
    return None if extra is None else f"'{extra}' is none of its layers"


def _unlike(names: Sequence[str], others: Sequence[str]) -> str:
    """A few of `names` from where they part from `others`, and how many there are."""
    first = next((i for i, (one, other) in enumerate(zip(names, others)) if one != other), min(len(names), len(others)))
    first = max(0, min(first, len(names) - SHOWN))
    shown = ["..."] * (first > 0) + list(names[first : first + SHOWN]) + ["..."] * (first + SHOWN < len(names))
    return f"{', '.join(shown)} ({len(names)})"


def _unreadable(path: Path, error: Exception) -> UserError:
    """What torch says of a file that is none of its own is advice that nobody should follow, so it is left out."""
    reason = getattr(error, "strerror", None) or "neither safetensors nor a torch checkpoint of weights alone"
    return UserError(f"{path}: cannot be read as a classifier ({reason}). Wanted {WANTED}. {OTHERWISE}")


def _says_no_classes(path: Path) -> UserError:
    return UserError(f"{path}: does not say what its logits are of (classes, sample rate). Wanted {WANTED}. {OTHERWISE}")
