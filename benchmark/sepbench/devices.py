"""Where networks live: one choice for the whole process, made by whoever runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sepbench.errors import UserError

if TYPE_CHECKING:
    import torch

_chosen = "auto"


def choose_device(name: str) -> None:
    """auto (a GPU where there is one), cpu or cuda. UserError for cuda where torch sees no GPU."""
    global _chosen
    import torch

    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device {name}: wanted auto, cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no GPU here. Use --device cpu, or mend the driver.")
    _chosen = name


def device() -> torch.device:
    import torch

    if _chosen == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(_chosen)
