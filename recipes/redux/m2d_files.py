"""The checkpoint of M2D that a user brings: read without running its code, and refused in a line where it does not fit."""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sepbench.errors import UserError

from .m2d import M2dTagger, at_columns

ENCODER = (
    "cls_token",
    "pos_embed",
    "patch_embed.",
    "blocks.",
    "norm.",
)  # a checkpoint's rest (decoder, target, head) is unread
SHOWN = 3  # names in a message
WANTED = "a checkpoint of M2D (.pth; ViT-B on 80 mel bands, patches of 16x16), which NTT publishes at github.com/nttcslab/m2d"
OTHERWISE = "Or choose --tagger cnn, which is trained from nothing."


def load_m2d(network: M2dTagger, file: str | None) -> None:
    """Fill all of `network` but its head from `file`; places of sounds of another length are interpolated along time.

    UserError where there is no file, it cannot be read, or it holds another network: the first name that differs is told.
    """
    if file is None:
        raise UserError(f"--tagger m2d: give it --tagger-checkpoint FILE, {WANTED}. {OTHERWISE}")
    path = Path(file).expanduser()
    found = {name: value for name, value in _state(path).items() if name.startswith(ENCODER)}
    wanted = {name: value for name, value in network.state_dict().items() if name.startswith(ENCODER)}
    if isinstance(places := found.get("pos_embed"), Tensor) and places.ndim == 3:
        try:
            found["pos_embed"] = at_columns(places.float(), network.n_columns)
        except ValueError as error:
            raise _another(path, f"'pos_embed': {error}") from None
    wrong = _first_difference(wanted, found)
    if wrong is not None:
        raise _another(path, wrong)
    network.load_state_dict(found, strict=False)  # all but the head, as has just been seen


def _state(path: Path) -> Mapping[str, Any]:
    """The weights in a torch checkpoint, by themselves or under "model", none of whose code is run."""
    try:
        with torch.serialization.safe_globals(
            [argparse.Namespace]
        ):  # what a training was called with lies beside its weights
            found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, LookupError, AttributeError, pickle.UnpicklingError) as error:
        reason = getattr(error, "strerror", None) or "not a torch checkpoint of weights"
        raise UserError(f"{path}: cannot be read as M2D ({reason}). Wanted {WANTED}. {OTHERWISE}") from None
    if isinstance(found, Mapping) and isinstance(found.get("model"), Mapping):
        found = found["model"]
    if not isinstance(found, Mapping) or not any(str(name).startswith(ENCODER) for name in found):
        held = ", ".join(map(str, list(found)[:SHOWN])) if isinstance(found, Mapping) else type(found).__name__
        raise UserError(f"{path}: holds no encoder of M2D, but {held or 'nothing'}. Wanted {WANTED}. {OTHERWISE}")
    return {str(name): value for name, value in found.items()}


def _first_difference(wanted: Mapping[str, Tensor], found: Mapping[str, Any]) -> str | None:
    for name, value in wanted.items():
        if name not in found:
            return f"it has no '{name}', wanted {list(value.shape)}"
        shape = list(getattr(found[name], "shape", ()))
        if not isinstance(found[name], Tensor) or shape != list(value.shape):
            return f"'{name}' is {shape}, wanted {list(value.shape)}"
        if not torch.isfinite(found[name].float()).all():
            return f"'{name}' holds numbers that are not finite"
    extra = next((name for name in found if name not in wanted), None)
    return None if extra is None else f"'{extra}' is none of its layers"


def _another(path: Path, wrong: str) -> UserError:
    return UserError(f"{path}: holds another network: {wrong}. Wanted {WANTED}. {OTHERWISE}")
