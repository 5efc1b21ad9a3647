"""What is said where weights do not fit the network that they are read into."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from sepbench.blocks.weights import keep, recall
from sepbench.errors import UserError


def test_weights_of_other_sizes_are_told_with_both_remedies(tmp_path: Path):
    keep(nn.Linear(4, 3), tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="holds the weights of another network") as told:
        recall(nn.Linear(4, 2), tmp_path / "a.safetensors")
    why, remedy = "It was trained with other sizes, sources or channels", "leave those as they were, or run the recipe again"
    assert str(told.value).endswith(f"{why}: {remedy} with --again.") and "\n" not in str(told.value)
