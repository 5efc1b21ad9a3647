"""The wheel, installed without the clone, and a package that registers a method: both as pip leaves them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

SHORT = ["--set", "task.scenes.test=4", "--set", "task.scenes.valid=2"]
TRAIN = [f"train.separator.{name}" for name in ("epochs=1", "steps=2", "batch=2", "valid_batches=1")]
PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "acme"
version = "1.0"

[project.entry-points."sepbench.methods"]
acme_masks = "acme.methods.masks"
"""


def done(*command: object, **how) -> str:
    """What a command that succeeds says."""
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, **how)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def built(project: Path, to: Path) -> Path:
    """The wheel of a project. Skipped where hatchling is neither here nor to be had; what else goes wrong is wrong."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", str(to), str(project)]
    if importlib.util.find_spec("hatchling"):
        command.append("--no-build-isolation")
    else:
        asked = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(to / "asked"), "hatchling"]
        result = subprocess.run(asked, capture_output=True, text=True)
        if result.returncode:
            pytest.skip(f"no hatchling to build with: {' '.join((result.stderr or result.stdout).split())[-200:]}")
    done(*command)
    return next(to.glob("*.whl"))


def replaced(text: str, old: str, new: str) -> str:
    """`text` with `new` where `old` stands, which it does once."""
    assert text.count(old) == 1, old
    return text.replace(old, new)


@pytest.fixture(scope="module")
def wheel(repo, tmp_path_factory) -> Path:
    return built(repo, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The folder of an environment's programs, with sepbench from the wheel and everything else from this one."""
    place = tmp_path_factory.mktemp("environment")
    done(sys.executable, "-m", "venv", "--without-pip", place)
    python = place / "bin/python"
    site = Path(done(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    done(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel)
    return place / "bin"


@pytest.fixture
def sepbench(installed, tmp_path):
    """Calls the installed sepbench in an empty folder."""
    rest = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return lambda *arguments, cwd=tmp_path: done(installed / "sepbench", *arguments, cwd=cwd, env=rest)


@pytest.mark.slow
def test_the_wheel_holds_every_recipe_and_the_published_figures_and_no_runs(repo, wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = [name.removeprefix("sepbench/bundled/") for name in archive.namelist() if "/bundled/" in name]
    files = [*repo.glob("recipes/*/*"), *repo.glob("baselines/*/*"), *repo.glob("results/published/*")]
    wanted = {str(file.relative_to(repo)) for file in files if file.is_file()}
    assert wanted <= set(names) and not [name for name in names if "reference" in name or "__pycache__" in name]


@pytest.mark.slow
def test_installed_without_the_clone_it_lists_runs_and_copies(sepbench, installed, tmp_path):
    where = done(installed / "python", "-c", "import sepbench; print(sepbench.__file__)", cwd=tmp_path, env={})
    assert where.startswith(str(installed.parent))
    listed = sepbench("ls")
    assert "weak_label" in listed and "mixture_cnn" in listed
    assert "--lambda" in sepbench("run", "weak_label", "--help")
    assert "SI-SDRi" in sepbench("run", "mixture", "--task", "common", *SHORT)
    sepbench("copy", "mixture", "my_floor")
    assert "Mixture (my_floor)" in sepbench("run", "my_floor", *SHORT)


@pytest.mark.slow
def test_a_run_finds_its_bundled_recipe_again_from_anywhere(sepbench, tmp_path):
    sepbench("run", "mixture", *SHORT)
    (run,) = (tmp_path / "results/runs").iterdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert "Mixture" in sepbench("test", run, "--set", "task.scenes.test=3", cwd=elsewhere)


@pytest.mark.slow
def test_a_package_that_pip_installs_is_run_by_the_name_it_registers(sepbench, installed, tmp_path):
    project = tmp_path / "project"
    (project / "acme/methods").mkdir(parents=True)
    (project / "pyproject.toml").write_text(PYPROJECT)
    (project / "acme/__init__.py").touch()
    (project / "acme/floor.py").write_text("FLOOR = 1e-4\n")
    sepbench("new", project / "acme/methods/masks")
    method = project / "acme/methods/masks/method.py"
    text = replaced(method.read_text(), "import annotations\n", "import annotations\nfrom ...floor import FLOOR\n")
    method.write_text(replaced(text, "clamp_min(1e-5)", "clamp_min(FLOOR)"))  # so that it needs its package's own module
    python = installed / "python"
    package = built(project, tmp_path / "built")
    done(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", package)
    try:
        assert "package acme" in sepbench("ls")
        sets = [part for text in TRAIN for part in ("--set", text)]
        assert "Masks" in sepbench("run", "acme_masks", *sets, *SHORT)
        (run,) = (tmp_path / "results/runs").iterdir()
        assert run.name.startswith("acme_masks-quick")
        assert "Masks" in sepbench("test", run, "--set", "task.scenes.test=3")
        assert "scene.png" in sepbench("figures", run, "--scene", "1")
    finally:
        done(sys.executable, "-m", "pip", "--python", python, "uninstall", "-q", "-y", "acme")
