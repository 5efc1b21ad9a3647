"""Rows on disk: the same file whatever chunks they came in, read and summed up a part at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from made_up_runs import made_up
from sepbench import results_rows, statistics
from sepbench.results_rows import as_parquet, as_table, coded_rows, read_rows, row_labels, row_means, write_sorted
from sepbench.scene import Row
from sepbench.statistics import in_blocks, summarise, summarise_coded


def rows_of(n_scenes: int) -> list[Row]:
    """Of two splits; the names of scenes are in the order of their numbers."""
    own = [row for row in made_up(n_scenes=n_scenes, n_missed=3)]
    named = [Row(row.run, row.split, f"x-{int(row.scene[1:]):04}", *[getattr(row, name) for name in
             ("source", "label", "metric", "value")]) for row in own]  # fmt: skip
    return named + [Row(row.run, "seen", row.scene, row.source, row.label, row.metric, row.value + 1) for row in named]


def put(folder: Path, rows: list[Row], scenes_of_a_chunk: list[list[str]]) -> list[Path]:
    folder.mkdir()
    files = []
    for k, scenes in enumerate(scenes_of_a_chunk):
        for split in ("test", "seen"):
            files.append(folder / f"{split}-{k}.parquet")
            files[-1].write_bytes(as_parquet(as_table([row for row in rows if row.split == split and row.scene in scenes])))
    return files


@pytest.mark.parametrize("at_once", [1 << 17, 50])
def test_the_same_rows_make_the_same_file_in_whatever_chunks_they_came(tmp_path: Path, monkeypatch, at_once: int) -> None:
    monkeypatch.setattr(results_rows, "ROWS_AT_ONCE", at_once)
    rows = rows_of(24)
    scenes = sorted({row.scene for row in rows})
    chunks = {
        "in order": [scenes[k : k + 5] for k in range(0, 24, 5)],
        "one by one": [[scene] for scene in reversed(scenes)],
        "mixed": [scenes[k::3] for k in range(3)],
    }
    made = set()
    for name, own in chunks.items():
        files = put(tmp_path / name, rows, own)
        assert write_sorted(files, tmp_path / name / "rows.parquet") == len(rows)
        made.add((tmp_path / name / "rows.parquet").read_bytes())
    assert len(made) == 1


def test_of_no_rows_there_is_no_file(tmp_path: Path) -> None:
    (empty := tmp_path / "test-0.parquet").write_bytes(as_parquet(as_table([])))
    assert write_sorted([], tmp_path / "a") == write_sorted([empty], tmp_path / "b") == 0
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


def test_figures_are_the_same_from_words_and_from_codes(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(results_rows, "ROWS_AT_ONCE", 70)
    rows = rows_of(30)
    files = put(tmp_path / "chunks", rows, [sorted({row.scene for row in rows})])
    write_sorted(files, tmp_path / "rows.parquet")
    words = {name: np.array([getattr(row, name) for row in rows], object) for name in ("split", "scene", "label", "metric")}
    numbers = {name: np.array([getattr(row, name) for row in rows], float) for name in ("value", "weight")}
    from_words = summarise({**words, **numbers}, n_resamples=200)
    from_codes = summarise_coded(*coded_rows(tmp_path / "rows.parquet"), n_resamples=200)
    assert from_words == from_codes and from_words["test"]["si_sdri"]["all"]["n"] > 0


@pytest.mark.parametrize("at_once", [1 << 17, 70])
def test_what_is_read_in_parts_and_of_some_metrics_is_what_lies_there(tmp_path: Path, monkeypatch, at_once: int) -> None:
    monkeypatch.setattr(results_rows, "ROWS_AT_ONCE", at_once)
    rows = rows_of(30)
    write_sorted(put(tmp_path / "chunks", rows, [sorted({row.scene for row in rows})]), tmp_path / "rows.parquet")
    every, some = read_rows(tmp_path), read_rows(tmp_path, ["si_sdri", "missed"], "seen")
    held = sorted((row.split, row.scene, row.source, row.label, row.metric, row.value) for row in rows)
    assert list(zip(*(every[name].tolist() for name in ("split", "scene", "source", "label", "metric", "value")))) == held
    which = np.isin(every["metric"].astype(str), ["si_sdri", "missed"]) & (every["split"] == "seen")
    assert all(np.array_equal(some[name], column[which]) for name, column in every.items()) and 0 < which.sum() < len(which)
    assert row_labels(tmp_path, "seen") == {"dog_bark", "siren"} and row_labels(tmp_path, "valid") == set()
    seen = every["value"][(every["metric"] == "si_sdri") & (every["split"] == "seen")]
    assert row_means(tmp_path)["seen", "si_sdri"] == pytest.approx(seen.mean(), rel=1e-12)
    assert len(read_rows(tmp_path, ["no_metric"])["value"]) == 0


def test_each_word_is_held_once_however_many_rows_bear_it(tmp_path: Path) -> None:
    rows = rows_of(300)
    write_sorted(put(tmp_path / "chunks", rows, [sorted({row.scene for row in rows})]), tmp_path / "rows.parquet")
    held = read_rows(tmp_path)
    for name in ("run", "split", "scene", "label", "metric"):
        assert len(set(map(id, held[name]))) == len(set(held[name].tolist()))


def test_blocks_add_up_to_the_scenes_that_are_in_them(monkeypatch) -> None:
    totals = np.random.default_rng(0).integers(0, 9, (1037, 2)).astype(float)
    assert in_blocks(totals) is totals
    monkeypatch.setattr(statistics, "MOST_DRAWN", 100)
    assert np.array_equal(in_blocks(totals), np.stack([totals[k::100].sum(0) for k in range(100)]))


def test_blocks_of_very_many_scenes_scatter_as_the_scenes_do(monkeypatch) -> None:
    n = 4000
    values = np.random.default_rng(0).normal(3, 5, n)
    columns = {"split": np.full(n, "test", object), "label": np.full(n, "dog", object), "metric": np.full(n, "si_sdri", object),
               "scene": np.array([f"s{i:05}" for i in range(n)], object), "value": values, "weight": np.ones(n)}  # fmt: skip
    by_scene = summarise(columns, 2000)["test"]["si_sdri"]["all"]
    monkeypatch.setattr(statistics, "MOST_DRAWN", 500)
    by_block = summarise(columns, 2000)["test"]["si_sdri"]["all"]
    assert by_scene["ci95"] != by_block["ci95"] == pytest.approx(by_scene["ci95"], abs=0.03)  # they are 0.31 wide
    assert {key: held for key, held in by_scene.items() if key != "ci95"} == {
        key: held for key, held in by_block.items() if key != "ci95"
    }
