"""Where a figure comes from: the code, the packages and the machine that made it."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("sepbench", "torch", "torchaudio", "numpy", "scipy", "scikit-learn", "pandas", "pyarrow", "safetensors")


def provenance(repo: Path | None, seeds: Any, corpus: Mapping[str, Any] | None) -> dict[str, Any]:
    """All that is needed to say how a figure was made. Loads nothing that is not loaded already.

    `repo` is a folder of the git work tree whose code runs (None: not known), `seeds` whatever the run drew from,
    `corpus` facts on the sounds, e.g. {"hash": ..., "clips": 873}, kept as corpus_hash and corpus_clips.
    """
    commit, dirty = _git(repo) if repo is not None else (None, None)
    return {
        "git_commit": commit,
        "dirty_diff_hash": dirty,  # None: nothing was changed since the commit, or there is no commit
        "packages": _packages(),
        "python": platform.python_version(),
        "machine": machine(),
        "threads": _threads(),
        "seeds": seeds,
        **{f"corpus_{fact}": value for fact, value in (corpus or {}).items()},
    }


def machine() -> dict[str, Any]:
    """System, processor, cores; and the accelerator where torch is loaded and sees one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"system": platform.platform(), "cpu": _cpu_name(), "cores": cores, "gpu": _gpu_name()}


def _git(repo: Path) -> tuple[str | None, str | None]:
    """(commit, hash of what differs from it: the diff of tracked files and the names of untracked ones)."""
    commit = _run_git(repo, "rev-parse", "--verify", "--quiet", "HEAD")
    if commit is None:
        return None, None
    diff = _run_git(repo, "diff", "HEAD", "--binary", "--no-ext-diff", "--no-color") or b""
    untracked = _run_git(repo, "ls-files", "--others", "--exclude-standard", "--full-name", "-z", ":/") or b""
    changed = diff + untracked
    return commit.decode().strip(), hashlib.sha256(changed).hexdigest() if changed else None


def _run_git(repo: Path, *arguments: str) -> bytes | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(repo), *arguments],
            capture_output=True,
            timeout=60,
            check=True,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _packages() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if "sepbench" not in versions:  # used from its source folder, not installed
        from sepbench import __version__

        versions["sepbench"] = __version__
    return versions


def _cpu_name() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine() or None


def _gpu_name() -> str | None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_name())


def _threads() -> int | None:
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    named = os.environ.get("OMP_NUM_THREADS", "")
    return int(named) if named.isdigit() else None
