"""What a method has learnt, as it lies in its run's folder: which weights they are, and how many."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sepbench.errors import UserError
from sepbench.results_format import learns_from


def content(folder: Path) -> str:
    """A hash of the weights in `folder`, the same for the same tensors whatever is told beside them, such as seconds.

    UserError naming the file that cannot be read.
    """
    from torch import uint8

    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(folder.glob("*.safetensors")):
        digest.update(file.name.encode())
        with _opened(file) as weights:
            for key in sorted(weights.keys()):
                value = weights.get_tensor(key)
                digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
                digest.update(value.reshape(-1).view(uint8).numpy())
    return digest.hexdigest()


def weights_hash(config: Mapping[str, Any], folder: Path) -> str | None:
    """`content` of the weights that answered: the run's own or those that it was handed; None where nothing was learnt."""
    if not learns_from(config):
        return None
    return str(config["trained_by"]["weights"]) if config.get("trained_by") else content(folder / "weights")


def parameters(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """How many numbers the weights hold, per network and in all; 0 where nothing is learnt, here or by what is wrapped.

    What is wrapped counts as one network, "inner". There is no sum where nobody knows how many that has.
    """
    counts: dict[str, int] = {}
    for file in sorted((folder / "weights").glob("*.safetensors")):
        with _opened(file) as weights:
            told = (weights.metadata() or {}).get("parameters")
            counts[file.stem] = int(told or sum(weights.get_tensor(key).numel() for key in weights.keys()))  # noqa: SIM118
    wrapped = (config.get("inner") or {}).get("parameters")
    if counts and config.get("inner"):
        if wrapped is None:
            return {"parameters_of": counts}
        counts["inner"] = wrapped
    if counts:
        return {"parameters": sum(counts.values()), "parameters_of": counts}
    if learns_from(config) and config.get("trained_by"):  # its own weights lie with the run that learnt them
        return {}
    if wrapped is not None:
        return {"parameters": wrapped}
    return {} if learns_from(config) else {"parameters": 0}


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as weights:
            yield weights
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or f"no safetensors file: {error}"
        raise UserError(f"{file}: cannot be read ({reason}). Restore it, or run the recipe again with --again.") from None
