"""What a training step of SepClsNet's separator costs on a CPU: torch's own layers, and the same numbers frames first.

    python benchmarks/tcn.py [--threads 1] [--scenes 4] [--rounds 5] [--sizes small|paper]

Forward and backward of mixtures of 3 s at 16 kHz, in bfloat16 and in float32. The two take turns in one process, round after
round, so that whatever else the machine does hits both alike; the figure is the median of the ratios.
"""

# ruff: noqa: E402 - the number of threads is read once, so it is set before torch is imported

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

from sepbench import machine

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--scenes", type=int, default=4, help="in a batch")
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--sizes", choices=["small", "paper"], default="small")
asked = parser.parse_args()
machine.tune_allocator()
machine.threads(asked.threads)

import torch
from torch import Tensor, nn

from sepbench.blocks.frames_first import turned
from sepbench.loading import load_from
from sepbench.recipe import load_recipe

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "tcn.json"
FOLDER = HERE.parent / "recipes" / "sepclsnet"


def with_modules(separator: nn.Module) -> nn.Module:
    """The separator with its TCN as on a GPU: torch's modules, channel by channel."""
    tcn = separator.tcn
    tcn.forward = lambda x: tcn.blocks(tcn.bottleneck(x))
    return separator


def with_frames_first(separator: nn.Module) -> nn.Module:
    """The separator with its TCN frames first, in float32 too."""
    tcn = separator.tcn

    def forward(x: Tensor) -> Tensor:
        half = torch.is_autocast_enabled("cpu")
        with torch.autocast("cpu", enabled=False):
            return turned(tcn.frames_first(turned(x), torch.bfloat16 if half else torch.float32))

    tcn.forward = forward
    return separator


def seconds(separator: nn.Module, mixture: Tensor, half: bool) -> float:
    """Of one forward and backward pass."""
    began_s = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        sources, _ = separator(mixture)
    sources.abs().mean().backward()
    separator.zero_grad()
    return time.perf_counter() - began_s


def main() -> None:
    sizes = load_recipe(FOLDER).resolve(asked.sizes)[0]["sizes"]
    shape = [sizes[name] for name in ("filters", "kernel", "stride", "blocks", "repeats")]
    separator = load_from(FOLDER, "separator.py", "Separator")
    ours, theirs = with_frames_first(separator(2, *shape, True)), with_modules(separator(2, *shape, True))
    theirs.load_state_dict(ours.state_dict())
    mixture = 0.1 * torch.randn(asked.scenes, 48000)
    print(f"{asked.sizes}: {shape}, batch {asked.scenes}, {asked.threads} thread(s)")
    figures = {}
    for name, half in (("bfloat16", True), ("float32", False)):
        rounds = [(seconds(ours, mixture, half), seconds(theirs, mixture, half)) for _ in range(asked.rounds + 1)][1:]
        frames_first, modules = (statistics.median(each) for each in zip(*rounds, strict=True))
        ratio = statistics.median(slow / fast for fast, slow in rounds)
        figures[name] = {"frames_first_s": frames_first, "modules_s": modules, "ratio": ratio}
        print(f"{name:9} frames first {frames_first:6.3f} s, modules {modules:6.3f} s: {ratio:.2f} x as fast")
    known = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    known[f"{asked.sizes}, {asked.threads} thread(s)"] = {
        "scenes": asked.scenes, "rounds": asked.rounds, "figures": figures, "torch": torch.__version__,
        "machine": platform.processor() or platform.machine(), "amx": torch.cpu._is_amx_tile_supported(),
    }  # fmt: skip
    RESULT.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
