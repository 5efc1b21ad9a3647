"""What a training step of TDCN++ costs on a CPU: ours, and asteroid's TDConvNetpp of the same width and depth.

    python benchmarks/tdcn.py [--threads 1] [--scenes 2] [--rounds 7]

The paper's setting: mixtures of two sources of 3 s at 16 kHz, STFT of 5 ms every 2.5 ms, 128 channels, 512 hidden, 8 blocks in
each of 4 repeats, sigmoid masks, learned mixture consistency, SNR with the best permutation, Adam. Both have the same STFT,
masks, loss and optimiser around them; asteroid's has its skip outputs (128 channels), as it cannot do without. The two take
turns in one process, round after round, so that whatever else the machine does hits both alike; the ratio is the median of
those of wall time. CPU time, of all threads together, is what a step takes beside other work too. Memory is what a step
keeps for its gradient, beside the parameters.
"""

# ruff: noqa: E402 - the number of threads is read once, so it is set before torch is imported

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from sepbench import machine

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--scenes", type=int, default=2, help="in a batch")
parser.add_argument("--rounds", type=int, default=7)
asked = parser.parse_args()
machine.tune_allocator()
machine.threads(asked.threads)

import torch
from asteroid.losses import PITLossWrapper, pairwise_neg_snr
from asteroid.masknn import TDConvNetpp
from torch import Tensor, nn

from sepbench import provenance
from sepbench.blocks.bases import StftBasis
from sepbench.blocks.tdcn_separator import TdcnSeparator

RATE_HZ, SECONDS, N_SOURCES = 16000, 3, 2
WINDOW_MS, HOP_MS = 5, 2.5
CHANNELS, HIDDEN, BLOCKS, REPEATS, SKIP = 128, 512, 8, 4, 128
LEARNING_RATE = 1e-4  # of both papers
RESULT = Path(__file__).resolve().parent / "results" / "tdcn.json"

loss = PITLossWrapper(pairwise_neg_snr, pit_from="pw_mtx")


class Theirs(nn.Module):
    """asteroid's network between our STFT and our masks."""

    def __init__(self) -> None:
        super().__init__()
        self.basis = StftBasis(WINDOW_MS, HOP_MS, RATE_HZ)
        self.core = TDConvNetpp(
            self.basis.n_bins, N_SOURCES, n_blocks=BLOCKS, n_repeats=REPEATS, bn_chan=CHANNELS, hid_chan=HIDDEN,
            skip_chan=SKIP, mask_act="sigmoid",
        )  # fmt: skip

    def forward(self, signals: Tensor) -> tuple[Tensor, Tensor]:
        coefficients = self.basis.analyse(signals)
        masks, shares = self.core(coefficients[:, 0].abs().transpose(1, 2))
        masks = masks.float().transpose(2, 3)  # (batch, source, frame, bin)
        sources = self.basis.synthesise(coefficients * masks, signals.shape[-1])
        return sources + shares.float()[..., None] * (signals - sources.sum(1, keepdim=True)), masks


def trained(separator: nn.Module, mixture: Tensor, sources: Tensor) -> Callable[[bool], tuple[float, float]]:
    """A training step, in half precision or not -> its seconds, and those of CPU time."""
    adam = torch.optim.Adam(separator.parameters(), LEARNING_RATE)

    def step(half: bool) -> tuple[float, float]:
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            estimates, _ = separator(mixture)
        loss(estimates, sources).backward()
        adam.step()
        adam.zero_grad()
        return time.perf_counter() - began_s, time.process_time() - began_cpu_s

    return step


def kept_mb(separator: nn.Module, mixture: Tensor, half: bool) -> float:
    """What a forward pass keeps for the gradient, every tensor counted once, without the parameters."""
    known = {each.untyped_storage().data_ptr() for each in separator.parameters()}
    kept: dict[int, int] = {}
    alive = []  # a freed tensor's address would serve the next

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        alive.append(storage)
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x), torch.autocast("cpu", torch.bfloat16, half):
        separator(mixture)
    return sum(kept.values()) / 1e6


def main() -> None:
    sources = 0.1 * torch.randn(asked.scenes, N_SOURCES, RATE_HZ * SECONDS)
    mixture = sources.sum(1, keepdim=True)
    basis = StftBasis(WINDOW_MS, HOP_MS, RATE_HZ)
    both = TdcnSeparator(basis, N_SOURCES, 1, CHANNELS, HIDDEN, BLOCKS, REPEATS, "learned"), Theirs()
    ours, theirs = (trained(each, mixture, sources) for each in both)
    print(f"batch {asked.scenes}, {asked.threads} thread(s)")
    figures = {}
    for name, half in (("float32", False), ("bfloat16", True)):
        rounds = [ours(half) + theirs(half) for _ in range(asked.rounds + 1)][1:]
        own_s, own_cpu_s, their_s, their_cpu_s = (statistics.median(each) for each in zip(*rounds, strict=True))
        ratios = [slow / fast for fast, _, slow, _ in rounds]
        ratio, (own_mb, their_mb) = statistics.median(ratios), (kept_mb(each, mixture, half) for each in both)
        figures[name] = {
            "ours": {"s": own_s, "cpu_s": own_cpu_s, "kept_mb": own_mb},
            "asteroid": {"s": their_s, "cpu_s": their_cpu_s, "kept_mb": their_mb},
            "ratio": ratio, "ratios": ratios,
        }  # fmt: skip
        print(
            f"{name:9} ours {own_s:.2f} s ({own_cpu_s:.2f} s CPU), asteroid {their_s:.2f} s ({their_cpu_s:.2f} s CPU): "
            f"{ratio:.2f} x as fast ({min(ratios):.2f} to {max(ratios):.2f}); kept {own_mb:.0f} and {their_mb:.0f} MB"
        )
    known = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    known[f"batch {asked.scenes}, {asked.threads} thread(s)"] = {
        "rounds": asked.rounds, "figures": figures, "machine": {**provenance.machine(), "load": os.getloadavg()[0]},
        "packages": {each: version(each) for each in ("torch", "asteroid")},
    }  # fmt: skip
    RESULT.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
