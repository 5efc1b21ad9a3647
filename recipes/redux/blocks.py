"""Residual blocks of the separators: what a level of the U does, again and again."""

from __future__ import annotations

from torch import Tensor, nn

from .film import Bend


def grouped_channels(n_out: int, cardinality: int) -> int:
    """Eq. 1: how wide a ResNeXt block is inside, floor(4 * n_out / 32) * cardinality.

    With the paper's cardinality of 8 and widths that are multiples of 8, as all of Table 1 are, it equals `n_out`: the first
    convolution narrows nothing, other than section 3.1 says. Half the cardinality makes it half as wide.
    """
    return 4 * n_out // 32 * cardinality


class _Residual(nn.Module):
    """`convolutions`, each after BatchNorm, FiLM and LeakyReLU; what came in is added, brought to width where it differs."""

    def __init__(self, n_in: int, n_out: int, condition: int, convolutions: list[nn.Conv2d]):
        super().__init__()
        self.bends = nn.ModuleList(Bend(each.in_channels, condition) for each in convolutions)
        self.convolutions = nn.ModuleList(convolutions)
        self.shortcut = nn.Identity() if n_in == n_out else nn.Conv2d(n_in, n_out, 1, bias=False)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(batch, channel in, frame, bin), (batch, condition) -> (batch, channel out, frame, bin)."""
        y = x
        for bend, convolution in zip(self.bends, self.convolutions):
            y = convolution(bend(y, condition))
        return self.shortcut(x) + y


class ResNetBlock(_Residual):
    """Two 3x3 convolutions (Kong et al. 2021). `cardinality` is that of the other block, and nothing here."""

    def __init__(self, n_in: int, n_out: int, condition: int, cardinality: int):
        convolutions = [nn.Conv2d(width, n_out, 3, padding=1, bias=False) for width in (n_in, n_out)]
        super().__init__(n_in, n_out, condition, convolutions)


class ResNeXtBlock(_Residual):
    """1x1 to `grouped_channels`, 3x3 in as many groups as the cardinality, 1x1 to the width that is wanted (Fig. 2)."""

    def __init__(self, n_in: int, n_out: int, condition: int, cardinality: int):
        inside = grouped_channels(n_out, cardinality)
        convolutions = [
            nn.Conv2d(n_in, inside, 1, bias=False),
            nn.Conv2d(inside, inside, 3, padding=1, groups=cardinality, bias=False),
            nn.Conv2d(inside, n_out, 1, bias=False),
        ]
        super().__init__(n_in, n_out, condition, convolutions)
