"""SOFA files that are damaged within, or hold text where numbers belong: one line each, and no traceback."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from made_dcase import write_sofa
from sepbench.errors import UserError
from sepbench.mixing.sofa import broken_rooms, n_positions, read_response
from sepbench.progress import PlainProgress

RATE_HZ = 8000
QUIET = PlainProgress(open(os.devnull, "w"))  # noqa: SIM115


def refused(path: Path) -> str:
    with pytest.raises(UserError) as told:
        n_positions(path)
        read_response(path, 0, RATE_HZ)
    assert "\n" not in str(told.value) and f"'{path}'" in str(told.value)
    return str(told.value)


def holding(path: Path, name: str, value: object) -> Path:
    """A good file but for one thing in it; None: a group of that name."""
    write_sofa(path, RATE_HZ, 0)
    with h5py.File(path, "a") as file:
        del file[name]
        if value is None:
            file.create_group(name)
        else:
            file[name] = value
    return path


@pytest.mark.parametrize("name", ["Data.SamplingRate", "Data.IR"])
def test_text_where_numbers_belong_is_told(tmp_path: Path, name: str):
    text = np.full((2, 4, 8), "loud", dtype=h5py.string_dtype()) if name == "Data.IR" else "48 kHz"
    assert f"{name} holds no numbers" in refused(holding(tmp_path / "text.sofa", name, text))
    fixed = np.full((2, 4, 8), b"loud") if name == "Data.IR" else np.array([b"48000"])
    assert f"{name} holds no numbers" in refused(holding(tmp_path / "fixed.sofa", name, fixed))


def test_a_group_where_the_rate_belongs_and_a_rate_without_end_are_told(tmp_path: Path):
    assert "Data.SamplingRate holds no numbers (a group)" in refused(holding(tmp_path / "a.sofa", "Data.SamplingRate", None))
    rate = np.array([np.inf])
    assert "wanted one rate in whole Hz" in refused(holding(tmp_path / "b.sofa", "Data.SamplingRate", rate))


def damaged(path: Path) -> Path:
    """A file whose packed responses are overwritten with something else."""
    with h5py.File(path, "w") as file:
        noise = np.random.default_rng(0).standard_normal((1, 4, 500))
        responses = file.create_dataset("Data.IR", data=noise, chunks=noise.shape, compression="gzip")
        at = responses.id.get_chunk_info(0)
        first, size = at.byte_offset, at.size
        file["Data.SamplingRate"] = np.array([float(RATE_HZ)])
    held = bytearray(path.read_bytes())
    held[first : first + size] = b"\xff" * size
    path.write_bytes(held)
    return path


def test_a_part_that_cannot_be_unpacked_is_told(tmp_path: Path):
    line = refused(damaged(tmp_path / "a.sofa"))
    assert "is damaged: a part of it cannot be read" in line and line.endswith("Copy or download it again.")


def test_looking_at_rooms_reads_every_measurement_and_names_a_file_once(tmp_path: Path):
    good, silent, bad = (tmp_path / f"{name}.sofa" for name in ("good", "silent", "bad"))
    write_sofa(good, RATE_HZ, 0)
    write_sofa(silent, RATE_HZ, 1)
    with h5py.File(silent, "a") as file:
        file["Data.IR"][2:] = 0
    first, second = broken_rooms([good, silent, damaged(bad)], RATE_HZ, QUIET)
    assert f"'{silent}': measurement 2 is silent" in first and f"'{bad}' is damaged" in second
