"""Sound separation methods behind one interface, judged by one evaluator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sepbench.evaluation import evaluate

__version__ = "0.1.0"
__all__ = ["__version__", "evaluate"]


def __getattr__(name: str) -> Any:
    """`sepbench.evaluate`, imported when it is first asked for: the command line must not wait for torch."""
    if name == "evaluate":
        from sepbench.evaluation import evaluate

        return evaluate
    raise AttributeError(f"module 'sepbench' has no attribute '{name}'")
