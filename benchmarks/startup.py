"""How long the command line takes to answer, each time in a new process.

    python benchmarks/startup.py [--rounds 15]

Run it from the repository's root. Wanted: under 0.3 s each.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

CALLS = {
    "import sepbench.cli": "import sepbench.cli",
    "sepbench --help": "from sepbench.cli import main; main(['--help'])",
    "sepbench run --help": "from sepbench.cli import main; main(['run', '--help'])",
    "sepbench run recipes/weak_label --help": "from sepbench.cli import main; main(['run', 'recipes/weak_label', '--help'])",
}


def seconds(code: str) -> float:
    began_s = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began_s


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds until the command line has answered.")
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    taken: dict[str, list[float]] = {name: [] for name in CALLS}
    for _ in range(rounds):
        for name, code in CALLS.items():
            taken[name].append(seconds(code))
    for name, each in taken.items():
        print(f"{name:40} median {statistics.median(each):.3f} s, fastest {min(each):.3f}, slowest {max(each):.3f}")


if __name__ == "__main__":
    main()
