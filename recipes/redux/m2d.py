"""M2D (Niizumi et al. 2024) as a tagger: a ViT-B/16 on log-mel spectrograms, whose weights a user brings.

Sound at 16 kHz, resampled where the task's is another; Hann window of 25 ms every 10 ms; 80 mel bands of 50 Hz to 8 kHz, Slaney's
scale and filters of unit area; natural logarithm, standardised; patches of 16 bands x 16 frames, what does not fill one dropped.

layer (10 s, 18 classes)                                                      output         parameters
log-mel                                                                       1 x 80 x 1001
patches: convolution 16x16 by 16x16                                           310 x 768         197,376
a class token before them; the place of each added                            311 x 768         239,616
12 x [norm, attention of 12 heads; norm, linear 3072, GELU, linear 768]       311 x 768      85,054,464
norm                                                                          311 x 768           1,536
mean of the patch tokens, fully connected                                     18                 13,842
                                                                                             85,506,834

Written from the paper; the published weights were never at hand, so that names and constants are those that it and the layout of
timm's vision transformers lead one to expect.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, scaled_dot_product_attention
from torchaudio.functional import resample
from torchaudio.transforms import MelSpectrogram

RATE_HZ, N_FFT, HOP, N_MELS, LOWEST_HZ, HIGHEST_HZ = 16000, 400, 160, 80, 50.0, 8000.0
PATCH = 16
MEAN, STD = -7.1, 4.2  # of log-mel values in AudioSet, as M2D standardises them
LEAST_POWER = 1e-7
N_BANDS = N_MELS // PATCH  # patches, from low to high


class M2dTagger(nn.Module):
    """(item, time) at full scale = 1 -> logits (item, class).

    `width`, `depth` and `heads` are ViT-B's 768, 12 and 12 but in tests. Places are kept for sounds of `seconds`; for others they
    are interpolated along time. The last `finetuned` blocks learn, none where that is 0, with the norm behind them
    and the head.
    """

    def __init__(
        self, n_classes: int, sample_rate_hz: int, seconds: float, width: int, depth: int, heads: int, finetuned: int
    ):
        super().__init__()
        self.sample_rate_hz = sample_rate_hz
        self.mel = MelSpectrogram(
            RATE_HZ, N_FFT, hop_length=HOP, f_min=LOWEST_HZ, f_max=HIGHEST_HZ, n_mels=N_MELS, pad_mode="constant",
            norm="slaney", mel_scale="slaney",
        )  # fmt: skip
        for module in self.mel.modules():  # window and filters are no weights
            for name, constant in list(module.named_buffers(recurse=False)):
                module.register_buffer(name, constant, persistent=False)
        self.n_columns = max(1, (round(seconds * RATE_HZ) // HOP + 1) // PATCH)
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(1, width, PATCH, PATCH)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + N_BANDS * self.n_columns, width))
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, n_classes)
        self.requires_grad_(False)
        for part in (*list(self.blocks)[max(0, depth - finetuned) :], self.norm, self.head):
            part.requires_grad_(True)

    def forward(self, audio: Tensor) -> Tensor:
        patches = self.patch_embed["proj"](self.log_mel(audio))  # (item, width, band, column)
        places = at_columns(self.pos_embed, patches.shape[-1])
        tokens = patches.flatten(2).transpose(1, 2) + places[:, 1:]
        first = (self.cls_token + places[:, :1]).expand(len(tokens), -1, -1)
        tokens = torch.cat([first, tokens], 1)  # (item, token, width)
        for block in self.blocks:
            tokens = block(tokens)
        logits: Tensor = self.head(self.norm(tokens)[:, 1:].mean(1))
        return logits.float()

    def log_mel(self, audio: Tensor) -> Tensor:
        """(item, time) -> (item, 1, mel, frame), in float32 whatever autocast says; at least a patch long."""
        with torch.autocast(audio.device.type, enabled=False):
            audio = resample(audio.float(), self.sample_rate_hz, RATE_HZ)
            audio = pad(audio, (0, max(0, (PATCH - 1) * HOP - audio.shape[-1])))
            return (((self.mel(audio) + LEAST_POWER).log() - MEAN) / STD)[:, None]


class _Block(nn.Module):
    """Pre-norm attention and multi-layer perceptron, each added to what comes in: (item, token, width) -> the same."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, tokens: Tensor) -> Tensor:
        parts = self.attn["qkv"](self.norm1(tokens)).unflatten(
            -1, (3, self.heads, -1)
        )  # (item, token, q k v, head, feature)
        heard = scaled_dot_product_attention(*parts.permute(2, 0, 3, 1, 4)).transpose(1, 2).flatten(2)
        tokens = tokens + self.attn["proj"](heard)
        changed: Tensor = self.mlp["fc2"](nn.functional.gelu(self.mlp["fc1"](self.norm2(tokens))))
        return tokens + changed


def at_columns(places: Tensor, n_columns: int) -> Tensor:
    """Embeddings of places (1, 1 + band * column, width), interpolated along time to `n_columns`; the first stays as it is.

    ValueError where they are not of N_BANDS bands.
    """
    first, grid = places[:, :1], places[:, 1:]
    if not grid.shape[1] or grid.shape[1] % N_BANDS:
        raise ValueError(f"{grid.shape[1]} places are not {N_BANDS} bands of them")
    if grid.shape[1] == N_BANDS * n_columns:
        return places
    grid = grid.unflatten(1, (N_BANDS, -1)).permute(0, 3, 1, 2)  # (1, width, band, column)
    grid = interpolate(grid, (N_BANDS, n_columns), mode="bilinear", align_corners=False)
    return torch.cat([first, grid.flatten(2).transpose(1, 2)], 1)
