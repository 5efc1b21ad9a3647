"""The plan of the house: who may use whom, one door per library, and nothing heavy at the entrance."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
PACKAGE = REPO / "benchmark" / "sepbench"
MAX_LINES = 320
REASON = "Longer than most"  # a file above the limit says why in its docstring, in a sentence that begins so

ANYBODY = {"errors", "home", "labels", "scene", "progress", "machine", "devices", "storage", "ranks", "__init__"}
CONTESTANT = {"scene", "labels", "method", "blocks", "training", "errors", "progress", "devices"}
USES = {
    "__init__": {"score"},  # sepbench.evaluate, when it is asked for
    "corpora": set(),
    "method": set(),
    "metrics": set(),
    "provenance": set(),
    "fetch": set(),
    "blocks": set(),
    "mixing": {"corpora", "method"},
    "tasks": {"corpora", "mixing"},
    "training": {"method", "blocks"},
    "judge": {"metrics"},
    "cost": {"method"},
    "statistics": {"metrics"},
    "results": {"statistics"},
    "recipe": {"tasks", "method"},
    "audit": {"corpora", "tasks", "results"},
    "comparison": {"metrics", "statistics", "results"},
    "score": {"judge", "metrics", "results", "statistics", "provenance"},
    "check": {"metrics", "comparison", "results", "tables", "recipe", "tasks"},
    "tables": {"results", "comparison", "metrics", "statistics"},
    "report": {"results", "metrics", "statistics", "comparison", "tables"},
    "run": {"recipe", "tasks", "method", "judge", "cost", "results", "provenance", "report", "audit"},
    "drill": {"corpora", "recipe", "tasks", "method", "metrics", "statistics", "comparison", "results", "tables", "run",
              "report"},
    "sweep": {"corpora", "recipe", "tasks", "metrics", "comparison", "results", "tables", "run"},
    "separate": {"corpora", "recipe", "tasks", "method", "results", "run"},
    "template": {"method", "blocks", "training", "recipe", "run"},  # what `sepbench new` writes, and its test
    "priors": {"corpora", "mixing", "tasks", "results", "provenance"},
    "merge": {"metrics", "results", "run"},
    "cli": {"run", "separate", "score", "drill", "comparison", "check", "priors", "recipe", "tasks", "corpora", "metrics",
            "results", "tables", "report", "audit", "merge", "fetch", "sweep"},
}
ROOM_OF = {  # files that are one room together
    "results_whole": "results", "results_rows": "results", "results_arriving": "results",
    "results_format": "results", "results_checks": "results", "results_decisions": "results", "run_weights": "run",
    "run_fit": "run", "run_job": "run", "children": "run", "network": "run", "run_ranks": "run", "run_workers": "run",
    "cli_run": "cli", "clock": "training", "checkpoints": "training", "trust": "recipe",
    "fetch_download": "fetch", "fetch_unpack": "fetch",
    "options": "cli", "options_recipe": "cli", "printing": "cli",
    "cli_data": "cli", "cli_score": "cli", "cli_compare": "cli", "cli_scenes": "cli", "cli_check": "cli",
    "merge_same": "merge", "merge_files": "merge", "cli_merge": "cli",
    "cli_figures": "cli", "cli_new": "cli", "listing": "cli", "redraw": "drill", "cli_audit": "cli",
    "resampling": "statistics", "judge_case": "judge", "schedule": "training",
    "ties": "comparison", "gap": "comparison", "by_scene": "comparison",
    "worst": "comparison", "scene_files": "drill", "relisten": "drill", "cli_report": "cli",
    "score_files": "score", "score_names": "score", "score_layouts": "score", "score_manifest": "score",
    "score_audio": "score", "score_task": "score", "score_metrics": "score", "evaluation": "score",
    "check_figures": "check", "check_pairing": "check", "check_print": "check", "tolerances": "check", "freeze": "check",
    "recipe_yaml": "recipe", "recipe_check": "recipe", "catalogue": "recipe", "own_recipe": "recipe", "schema": "recipe",
    "settings": "recipe",
    "loading": "recipe", "ranges": "recipe",
    "sweep_plan": "sweep", "sweep_spec": "sweep", "sweep_local": "sweep", "sweep_worker": "sweep", "sweep_pack": "sweep",
    "sweep_ray": "sweep", "sweep_ray_node": "sweep", "sweep_ray_address": "sweep", "sweep_search": "sweep",
    "cli_sweep": "cli", "cli_grid": "cli", "grid": "cli", "options_grid": "cli", "run_identity": "run",
    "tables_facts": "tables", "tables_format": "tables", "tables_fuss": "tables", "tables_gap": "tables", "tables_grid": "tables",
    "tables_paper": "tables", "tables_ties": "tables", "tables_counts": "tables", "tables_cases": "tables",
    "tables_alike": "tables", "tables_cells": "tables", "tables_task": "tables", "tables_by": "tables",
    "tables_columns": "tables", "tables_json": "tables", "tables_latex": "tables", "tables_macros": "tables",
    "tables_notes": "tables", "tables_seeds": "tables",
    "by_group": "comparison", "cli_table": "cli",
}  # fmt: skip
DOORS = {
    "click": {"cli", "options"},
    "yaml": {"recipe_yaml.py", "tasks/", "results_checks.py"},
    "pydantic": {"ranges.py", "recipe.py", "recipe_yaml.py", "schema.py"},
    "pandas": {"results.py", "tables"},
    "pyarrow": {"results_rows.py"},
    "rich": {"progress.py", "tables"},
    "matplotlib": {"report/"},
    "jinja2": {"report/"},
    "numba": {"metrics/"},
    "museval": {"metrics/bss_eval.py"},
    "pytorch_lightning": {"training.py"},
    "sklearn": {"recipes/nmf_svm/"},
    "ray": {"sweep"},
    "optuna": {"sweep_search.py"},
    "pyroomacoustics": {"mixing/shoebox.py"},
    "h5py": {"mixing/sofa.py"},
    "pooch": {"fetch_download.py"},
    "requests": {"fetch_download.py"},
    "psutil": {"network.py"},
    "threadpoolctl": {"machine.py"},
}


def imports(code: str, package: str) -> set[str]:
    """Every module that `code` imports, anywhere in it, by its full name; `package` is where relative imports start."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            out = node.level > len(package.split("."))
            module = ("." if out else "") + ".".join([*above, *([node.module] if node.module else [])])
            plain = module in ("sepbench", "recipes", "baselines")  # what is imported from these is itself a module
            found |= {f"{module}.{alias.name}" if plain else module for alias in node.names}
    return found


def offences(file: str, code: str) -> list[str]:
    """What is wrong with the imports of `file`: "scene.py" of the package, or "recipes/name/method.py"."""
    contestant = file.startswith(("recipes/", "baselines/"))
    package = ".".join([*([] if contestant else ["sepbench"]), *Path(file).parent.parts])
    own = ".".join(Path(file).parts[:2])  # a contestant's folder
    room = ROOM_OF.get(Path(file).parts[0].removesuffix(".py"), Path(file).parts[0].removesuffix(".py"))
    allowed = CONTESTANT if contestant else ANYBODY | USES.get(room, set()) | {room}
    if not contestant and room not in USES and room not in ANYBODY:
        return [f"{file}: '{room}' has no place in the plan of the house"]
    found = []
    for module in sorted(imports(code, package)):
        top, _, rest = module.partition(".")
        used = ROOM_OF.get(rest.split(".")[0], rest.split(".")[0])
        if top == "sepbench" and used not in allowed and used != "__version__":
            found.append(f"{file} uses {module}")
        if top in ("recipes", "baselines") and not (contestant and f"{module}.".startswith(f"{own}.")):
            found.append(f"{file} uses {module}: a recipe belongs to itself")
        if top == "":
            found.append(f"{file} reaches out of its folder")
        if top in DOORS and not any(file.startswith(door) for door in DOORS[top]):
            found.append(f"{file} uses {top}, whose door is {', '.join(sorted(DOORS[top]))}")
    return found


def too_long(file: str, code: str) -> list[str]:
    n_lines = len(code.splitlines())
    reason = ast.get_docstring(ast.parse(code)) or ""
    return [f"{file} has {n_lines} lines"] if n_lines > MAX_LINES and REASON not in reason else []


def sources() -> dict[str, str]:
    """Every Python file of the package, the recipes and the baselines, by the name `offences` wants."""
    found = {str(path.relative_to(PACKAGE)): path.read_text() for path in PACKAGE.rglob("*.py")}
    for folder in ("recipes", "baselines"):
        found |= {str(path.relative_to(REPO)): path.read_text() for path in (REPO / folder).rglob("*.py")}
    return found


def test_nobody_uses_whom_they_may_not():
    assert [offence for file, code in sources().items() for offence in offences(file, code)] == []


def test_files_read_in_one_sitting():
    assert [offence for file, code in sources().items() for offence in too_long(file, code)] == []


def test_nothing_points_back():
    list(TopologicalSorter(USES).static_order())  # raises CycleError where the plan itself is circular


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("scene.py", "from sepbench.corpora import open_corpus"),
        ("scene.py", "import sepbench.method"),
        ("scene.py", "from sepbench import run"),
        ("scene.py", "from .judge import judge"),
        ("corpora/esc50.py", "from sepbench.mixing.poisson import PoissonScenes"),
        ("corpora/esc50.py", "from ..tasks import build_task"),
        ("metrics/snr.py", "from sepbench.results import read_runs"),
        ("evaluate.py", "def late():\n    from sepbench.recipe import load_recipe"),
        ("tables_paper.py", "from sepbench.run import run_one"),
        ("run.py", "from recipes.weak_label.method import WeakLabel"),
        ("attic.py", ""),
        ("run.py", "import click"),
        ("metrics/snr.py", "import pandas as pd"),
        ("tables.py", "from yaml import safe_load"),
        ("evaluate.py", "import matplotlib.pyplot as plt"),
        ("recipes/weak_label/method.py", "from sepbench.judge import judge"),
        ("recipes/weak_label/method.py", "from sepbench import metrics"),
        ("recipes/weak_label/method.py", "from sepbench.metrics.si_sdr import si_sdr"),
        ("recipes/weak_label/method.py", "from sepbench.corpora import open_corpus"),
        ("recipes/weak_label/method.py", "from recipes.redux.method import Redux"),
        ("recipes/weak_label/method.py", "from ..redux.method import Redux"),
        ("recipes/weak_label/method.py", "from ...benchmark import sepbench"),
        ("recipes/weak_label/method.py", "from sklearn.svm import SVC"),
    ],
)
def test_the_plan_catches_who_breaks_it(file, code):
    assert len(offences(file, code)) == 1


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("scene.py", "import numpy as np\nfrom sepbench.errors import UserError"),
        ("provenance.py", "from sepbench import __version__"),
        ("mixing/poisson.py", "from ..corpora.base import Clip\nfrom .levels import gains"),
        ("cli.py", "import click\nfrom sepbench.run import run_one"),
        (
            "recipes/weak_label/method.py",
            "import torch\nfrom sepbench.scene import Estimate\nfrom .critics import Critic",
        ),
        ("recipes/weak_label/nets/rnn.py", "from ..losses import mixture_loss"),
        ("recipes/nmf_svm/method.py", "from sklearn.svm import SVC"),
    ],
)
def test_the_plan_lets_through_who_keeps_it(file, code):
    assert offences(file, code) == []


def test_a_long_file_must_say_why():
    long = "x = 1\n" * (MAX_LINES + 1)
    assert too_long("scene.py", long) and not too_long("scene.py", f'"""A table. {REASON}: it is data."""\n{long}')


def loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_the_entrance_is_light():
    heavy = {"torch", "torchaudio", "numpy", "scipy", "pandas", "pyarrow", "pydantic", "rich", "matplotlib"}
    assert not heavy & loaded_by("import sepbench.cli")


def test_tables_need_no_torch(tmp_path):
    code = f"from sepbench.cli import main; main(['table', {str(tmp_path)!r}], standalone_mode=False)"
    assert not {"torch", "matplotlib", "pydantic"} & loaded_by(code)


def test_recipes_are_read_without_torch(repo):
    assert "torch" not in loaded_by("import sepbench.recipe")
