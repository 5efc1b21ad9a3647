"""Weights on disk: safetensors files that are whole or not there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from sepbench.errors import UserError
from sepbench.storage import write_bytes


def keep(network: nn.Module, path: Path, facts: Mapping[str, str] | None = None) -> None:
    """Write all of a network's parameters and buffers, how many of the first there are, and `facts` beside them.

    UserError where there is no room.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    n_parameters = sum(value.numel() for value in network.parameters())  # running statistics are none
    write_bytes(path, save(state, {**(facts or {}), "parameters": str(n_parameters)}))


def recall(network: nn.Module, path: Path) -> None:
    """Read what `keep` wrote, in whatever precision it is. UserError where it is damaged or of another network."""
    try:
        network.load_state_dict(load(path.read_bytes()))
    except (OSError, SafetensorError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({_told(error)}). Restore it, or run the recipe again with --again.") from None
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        remedy = "leave those as they were, or run the recipe again with --again"
        told = f"{first} It was trained with other sizes, sources or channels: {remedy}"
        raise UserError(f"{path}: holds the weights of another network: {told}.") from None


def _told(error: Exception) -> str:
    words = " ".join(str(getattr(error, "strerror", None) or error).split())
    return f"no safetensors file: {words}" if isinstance(error, SafetensorError) else words


def keep_all(networks: Mapping[str, nn.Module], folder: Path) -> None:
    """`keep` for each network as `folder`/<name>.safetensors; the folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, network in networks.items():
        keep(network, folder / f"{name}.safetensors")


def recall_all(networks: Mapping[str, nn.Module], folder: Path) -> None:
    """`recall` for each network from `folder`/<name>.safetensors."""
    for name, network in networks.items():
        recall(network, folder / f"{name}.safetensors")


def writable(folder: Path) -> bool:
    """Whether something can be kept there; told before the training and not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
