"""Conv-TasNet as asteroid has it (Luo and Mesgarani 2019), with the same layers run as a CPU likes them.

With the paper's N = 512 filters of L = 16 samples, B = Sc = 128, H = 512, P = 3, X = 8, R = 3, and 3 sources:

    encoder     filters every L/2 samples, no bias     512 x frame      8,192 parameters
    bottleneck  gLN, 1 x 1                             128 x frame     66,688
    block x 24  1 x 1, PReLU, gLN, a convolution per   128 x frame    201,474 each
                channel, PReLU, gLN, and two 1 x 1:
                for the next block, for the masks
    masks       PReLU, 1 x 1, sigmoid              3 x 512 x frame    198,145
    decoder     filters, no bias                          3 x time      8,192

5,116,593 parameters; 66,048 less for 2 sources, as in the paper: 5,050,545, its "5.1M".
"""

from __future__ import annotations

from typing import Any

import torch
from asteroid.masknn.norms import EPS
from asteroid.models import ConvTasNet
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear, pad

from sepbench.blocks.frames_first import depthwise, pointwise, prelu, turned
from sepbench.blocks.mixture_consistency import MixtureConsistency


class Separator(ConvTasNet):
    """Mixture (batch, time) -> sources (batch, source, time) and masks (batch, source, filter, frame), 0 to 1.

    Its parameters have asteroid's names, so that weights go back and forth.
    """

    def __init__(self, n_sources: int, sizes: Any, sample_rate_hz: int, consistency: str):
        super().__init__(
            n_sources, n_blocks=sizes.blocks, n_repeats=sizes.repeats, bn_chan=sizes.bottleneck, hid_chan=sizes.hidden,
            skip_chan=sizes.skip, n_filters=sizes.filters, kernel_size=sizes.kernel, stride=sizes.stride,
            sample_rate=sample_rate_hz,
        )  # fmt: skip
        self.kernel, self.stride = sizes.kernel, sizes.stride
        self.consistency = MixtureConsistency(consistency, n_sources, sizes.skip)

    def forward(self, mixture: Tensor) -> tuple[Tensor, Tensor]:
        n_samples = mixture.shape[-1]
        short = max(self.kernel - n_samples, -(n_samples - self.kernel) % self.stride)  # asteroid would leave the end silent
        heard = self.forward_encoder(pad(mixture, (0, short))[:, None])  # (batch, filter, frame)
        masks = self.forward_masker(heard)
        sources = self.forward_decoder(self.apply_masks(heard, masks)).float()[..., :n_samples]
        return self.consistency(sources, mixture, heard), masks

    def forward_masker(self, heard: Tensor) -> Tensor:
        """(batch, filter, frame) -> (batch, source, filter, frame). On a CPU by `frames_first`, else as asteroid does."""
        if heard.device.type != "cpu":
            return super().forward_masker(heard)
        precision = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else heard.dtype
        with torch.autocast("cpu", enabled=False):
            scores = turned(frames_first(self.masker, turned(heard), precision))
            return self.masker.output_act(scores.unflatten(1, (self.masker.n_src, -1)))


def frames_first(masker: nn.Module, heard: Tensor, precision: torch.dtype) -> Tensor:
    """What asteroid's TDConvNet makes masks of, from the same parameters: (batch, frame, filter) -> (batch, frame, mask).

    Each block is computed in `precision`; blocks and skips are added up in at least float32.
    """
    norm, mix = masker.bottleneck
    x = pointwise(global_norm(heard.to(precision), norm), mix)
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    skips = torch.zeros((), dtype=x.dtype)
    for block in masker.TCN:
        widen, bend, norm, spread, bend_again, norm_again = block.shared_block
        y = global_norm(prelu(pointwise(x.to(precision), widen), bend), norm)
        y = global_norm(prelu(depthwise(y, spread), bend_again), norm_again)
        both = [torch.cat(pair).to(precision) for pair in zip(block.res_conv.parameters(), block.skip_conv.parameters())]
        on, aside = linear(y, both[0][:, :, 0], both[1]).split([masker.bn_chan, masker.skip_chan], -1)
        x, skips = x + on, skips + aside
    bend, mix = masker.mask_net
    return pointwise(prelu(skips.to(precision), bend), mix)


def global_norm(x: Tensor, layer: nn.Module) -> Tensor:
    """asteroid's GlobLN (the paper's gLN). Shapes: (batch, frame, filter) -> the same."""
    return torch.addcmul(layer.beta.to(x.dtype), layer_norm(x, x.shape[1:], eps=EPS), layer.gamma.to(x.dtype))
