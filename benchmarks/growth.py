"""How the cost of tables, of the list of runs, of scoring's end and of the report grows with runs and with scenes.

Runs are made up, but written as `sepbench run` writes them; each command is a new process with its own time and peak memory.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from sepbench.results import RunFolder
from sepbench.scene import Row

SHELF = Path(__file__).parent / "results"
CLASSES = ("car_horn", "dog_bark", "gun_shot", "jackhammer", "siren")
SEEDS, SOURCES, CHUNK = 5, 2, 1000
PER_SCENE = 20  # rows; so many a scene of two sources has
METRICS = ("si_sdr", "si_sdri", "si_sdr_mixture", "si_sdr_by_label", "si_sdri_by_label", "snr", "snri", "class_accuracy")
METRICS += ("paired_with",)
CONFIG = {
    "recipe": "weak_label", "name": "Weak-label separator", "profile": "quick", "seed": 0, "supervision": "weak",
    "labels_seen": "frame", "params": {"alpha": 10.0}, "train": {"critic": {"epochs": 5}}, "inner": None,
    "task": {"name": "urban_events", "corpus": "synthetic", "classes": list(CLASSES), "mixing": {"rate": 5.0},
             "splits": {"by": "fold"}, "scenes": {"test": 12, "seed": 0}, "metrics": ["si_sdri"]},
}  # fmt: skip
FACTS = {"corpus_hash": "a1b2c3d4e5f6", "scenes_hash": {"test": "0123abcd"}}


def rows_of(run: int, first: int, n_scenes: int) -> list[Row]:
    """Rows of scenes `first` and on: figures of the scene, and a little of the run."""
    random = np.random.default_rng([first, 1])
    own = np.random.default_rng([run, first, 2])
    found: list[Row] = []
    for k in range(first, first + n_scenes):
        scene = f"test-{k:07d}"
        for source in range(SOURCES):
            label = CLASSES[(k + source) % len(CLASSES)]
            values = random.normal(3, 4, len(METRICS)) + own.normal(run % 7 / 3, 1)
            found += [Row("r", "test", scene, source, label, name, float(value)) for name, value in zip(METRICS, values)]
        found += [Row("r", "test", scene, -1, "", name, 0.5) for name in ("ca_sdri", "label_set_accuracy")]
    return found


def made_run(root: Path, number: int, n_scenes: int) -> tuple[Path, float, float]:
    """A finished run; with it, the seconds that appending its rows and that finishing took."""
    config = copy.deepcopy(CONFIG)
    config["seed"], config["params"]["alpha"] = number % SEEDS, 1.0 + number // SEEDS
    config["task"]["scenes"]["test"] = n_scenes
    options = {"alpha": config["params"]["alpha"]}
    began_s = time.perf_counter()
    with RunFolder.open_or_create(root, config, options, None, FACTS, options) as folder:
        for chunk, first in enumerate(range(0, n_scenes, CHUNK)):
            folder.append_rows("test", chunk, rows_of(number, first, min(CHUNK, n_scenes - first)))
        appended_s = time.perf_counter() - began_s
        began_s = time.perf_counter()
        folder.finish({"score": 1.0})
    return folder.path, appended_s, time.perf_counter() - began_s


def cost_of(*arguments: object) -> tuple[float, float]:
    """Seconds and peak MB of `sepbench` with these arguments, in a new process."""
    script = (
        "import resource, sys, time; began = time.perf_counter()\n"
        "from sepbench.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "print(f'COST {time.perf_counter() - began} {peak}', file=sys.stderr)"
    )
    told = subprocess.run([sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=True)
    seconds, peak_mb = told.stderr.split("COST ")[1].split()
    return float(seconds), float(peak_mb)


def over_runs(counts: list[int], n_scenes: int) -> list[dict[str, float]]:
    found = []
    for n in counts:
        with tempfile.TemporaryDirectory() as place:
            for number in range(n):
                made_run(Path(place), number, n_scenes)
            line: dict[str, float] = {"runs": n, "rows": n * n_scenes * PER_SCENE}
            one = ["table", place, "--task", "urban_events"]
            commands = {"table": ["table", place], "table --task": one, "ls": ["ls", place]}
            for name, command in commands.items():
                line[f"{name}, s"], line[f"{name}, MB"] = cost_of(*command)
            found.append(line)
            print(json.dumps(line), flush=True)
    return found


def over_scenes(counts: list[int]) -> list[dict[str, float]]:
    """Each in a process of its own, so that the memory is that of finishing one run."""
    found = []
    for n in counts:
        with tempfile.TemporaryDirectory() as place:
            script = (
                f"import sys, resource; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
                "from pathlib import Path; import growth\n"
                f"folder, appended, finished = growth.made_run(Path({place!r}), 0, {n})\n"
                "print(appended, finished, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
            )
            told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
            appended_s, finished_s, peak_mb = map(float, told.stdout.split())
            line = {"scenes": n, "rows": n * PER_SCENE, "append, s": appended_s, "finish, s": finished_s, "finish, MB": peak_mb}
            commands = {"table": ["table", place], "report": ["report", place, "--no-audio", "-o", f"{place}/report.html"]}
            for name, command in commands.items():
                line[f"{name}, s"], line[f"{name}, MB"] = cost_of(*command)
            found.append(line)
            print(json.dumps(line), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, nargs="*", default=[1, 10, 100, 1000])
    parser.add_argument("--scenes", type=int, nargs="*", default=[1, 100, 10_000, 100_000])
    parser.add_argument("--per-run", type=int, default=50, help="scenes of each of the runs; 50 have 1,000 rows")
    given = parser.parse_args()
    facts = {"machine": platform.platform(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    held = {**facts, "runs": over_runs(given.runs, given.per_run), "scenes": over_scenes(given.scenes)}
    SHELF.mkdir(exist_ok=True)
    (SHELF / "growth.json").write_text(json.dumps(held, indent=2) + "\n")


if __name__ == "__main__":
    main()
