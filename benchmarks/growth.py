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

from sepbench.results import RunFolder, read_runs
from sepbench.scene import Row

SHELF = Path(__file__).parent / "results"
PATTERN = Path(__file__).parents[1] / "results/reference/quick/weak_label-quick-synthetic-f0118051"  # whose settings they have
CLASSES = ("car_horn", "dog_bark", "gun_shot", "jackhammer", "siren")
SEEDS, SOURCES, CHUNK = 5, 2, 1000
PER_SCENE = 20  # rows; so many a scene of two sources has
METRICS = ("si_sdr", "si_sdri", "si_sdr_mixture", "si_sdr_by_label", "si_sdri_by_label", "snr", "snri", "class_accuracy")
METRICS += ("paired_with",)


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
    """A finished run; with it, the seconds of computing that appending its rows and that finishing took."""
    pattern = read_runs(PATTERN)[0]
    config = copy.deepcopy(pattern.config)
    config["seed"], config["params"]["alpha"] = number % SEEDS, 1.0 + number // SEEDS
    config["task"]["scenes"]["test"] = n_scenes
    options = {"alpha": config["params"]["alpha"]}
    began_s = time.process_time()
    with RunFolder.open_or_create(root, config, options, None, pattern.provenance, options) as folder:
        for chunk, first in enumerate(range(0, n_scenes, CHUNK)):
            folder.append_rows("test", chunk, rows_of(number, first, min(CHUNK, n_scenes - first)))
        appended_s = time.process_time() - began_s
        began_s = time.process_time()
        folder.finish({"score": 1.0})
    return folder.path, appended_s, time.process_time() - began_s


def cost_of(*arguments: object) -> tuple[float, float, float]:
    """Seconds, seconds of computing and peak MB of `sepbench` with these arguments, in a new process."""
    script = (
        f"import sys, time; began = time.perf_counter(); sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from sepbench.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "told = time.perf_counter() - began, time.process_time()\n"
        "from growth import peak_mb\n"
        "print('COST', *told, peak_mb(), file=sys.stderr)"
    )
    told = subprocess.run([sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=True)
    seconds, computing_s, peak_mb = map(float, told.stderr.split("COST ")[1].split())
    return seconds, computing_s, peak_mb


def peak_mb() -> float:
    """The most memory that this process took, and not the one that started it, as getrusage would have it. Linux alone."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def report(place: str) -> list[object]:
    return ["report", place, "--no-audio", "--max-mb", 1000, "-o", f"{place}/report.html"]


def over_runs(counts: list[int], n_scenes: int) -> list[dict[str, float]]:
    found = []
    for n in counts:
        with tempfile.TemporaryDirectory() as place:
            for number in range(n):
                made_run(Path(place), number, n_scenes)
            line: dict[str, float] = {"runs": n, "rows": n * n_scenes * PER_SCENE, "load": os.getloadavg()[0]}
            one = ["table", place, "--task", "urban_events"]
            commands = {"table": ["table", place], "table --task": one, "ls": ["ls", place], "report": report(place)}
            found.append(line | costs_of(commands))
            print(json.dumps(found[-1]), flush=True)
    return found


def costs_of(commands: dict[str, list[object]]) -> dict[str, float]:
    found = {}
    for name, command in commands.items():
        found |= dict(zip((f"{name}, s", f"{name}, CPU s", f"{name}, MB"), cost_of(*command)))
    return found


def over_scenes(counts: list[int]) -> list[dict[str, float]]:
    """Each in a process of its own, so that the memory is that of finishing one run."""
    found = []
    for n in counts:
        with tempfile.TemporaryDirectory() as place:
            script = (
                f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
                "from pathlib import Path; import growth\n"
                f"folder, appended, finished = growth.made_run(Path({place!r}), 0, {n})\n"
                "print(appended, finished, growth.peak_mb())"
            )
            told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
            appended_s, finished_s, peak_mb = map(float, told.stdout.split())
            line = {"scenes": n, "rows": n * PER_SCENE, "load": os.getloadavg()[0]}
            line |= {"append, CPU s": appended_s, "finish, CPU s": finished_s, "finish, MB": peak_mb}
            found.append(line | costs_of({"table": ["table", place], "report": report(place)}))
            print(json.dumps(found[-1]), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, nargs="*", default=[1, 10, 100, 1000])
    parser.add_argument("--scenes", type=int, nargs="*", default=[1, 100, 10_000, 100_000, 1_000_000])
    parser.add_argument("--per-run", type=int, default=50, help="scenes of each of the runs; 50 have 1,000 rows")
    given = parser.parse_args()
    facts = {"machine": platform.platform(), "cores": os.cpu_count()}
    measured = {"runs": over_runs(given.runs, given.per_run), "scenes": over_scenes(given.scenes)}
    file = SHELF / "growth.json"
    before = json.loads(file.read_text()) if file.exists() else {}  # what is not measured now stays as it was
    held = {**before, **facts, **{name: lines for name, lines in measured.items() if lines}}
    SHELF.mkdir(exist_ok=True)
    file.write_text(json.dumps(held, indent=2) + "\n")


if __name__ == "__main__":
    main()
