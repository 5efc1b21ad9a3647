"""What a wheel carries beside the package: recipes, baselines and the published figures (sepbench/home.py finds them)."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CARRIED = ("recipes", "baselines", "results/published")


class Carry(BuildHookInterface):
    """An editable install has the checkout, and carries nothing."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "standard":
            build_data["force_include"] |= {folder: f"sepbench/bundled/{folder}" for folder in CARRIED}
