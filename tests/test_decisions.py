"""What a method decided: kept beside the rows, whole and once, however often the scoring was stopped."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import sepbench.run
from made_up_runs import CONFIG, FACTS, put
from sepbench.errors import UserError
from sepbench.freeze import freeze
from sepbench.results import RunFolder
from sepbench.results_decisions import read_decisions
from sepbench.run_weights import content, parameters, weights_hash
from sepbench.scene import Estimate, Mixture, Row, Scene, Source
from sepbench.tasks import load_task

ONE, FOUR = {"round": 1, "case": "I", "labels": ["dog_bark"]}, {"round": 1, "case": "IV", "capped": False}


def opened(root: Path) -> RunFolder:
    return RunFolder.open_or_create(root, CONFIG, {}, None, FACTS)


def rows(*scenes: str, split: str = "test") -> list[Row]:
    return [Row("r", split, scene, 0, "siren", "si_sdri", 1.0) for scene in scenes]


def test_decisions_come_back_by_split_and_scene(tmp_path: Path):
    with opened(tmp_path) as run:
        run.append_rows("test", 0, rows("b", "a"), {"b": [FOUR, ONE], "a": [ONE]})
        run.append_rows("seen", 0, rows("a", split="seen"), {"a": []})
        run.finish({})
    assert read_decisions(run.path) == {("test", "a"): [ONE], ("test", "b"): [FOUR, ONE], ("seen", "a"): []}
    lines = [json.loads(line) for line in (run.path / "decisions.jsonl").read_text().splitlines()]
    assert [(line["split"], line["scene"]) for line in lines] == [("seen", "a"), ("test", "a"), ("test", "b")]
    assert not (run.path / "partial").exists()


def test_a_run_without_decisions_has_no_file_of_them(tmp_path: Path):
    folder = put(tmp_path)
    assert not (folder / "decisions.jsonl").exists() and read_decisions(folder) == {}


def test_an_interruption_changes_no_decision(tmp_path: Path):
    with opened(tmp_path / "whole") as run:
        run.append_rows("test", 0, rows("a", "b", "c"), {"a": [ONE], "b": [FOUR], "c": [ONE, ONE]})
        run.finish({})
    whole = (run.path / "decisions.jsonl").read_bytes()
    with opened(tmp_path / "parts") as run:
        run.append_rows("test", 1, rows("c"), {"c": [ONE, ONE]})
    with opened(tmp_path / "parts") as run:
        run.append_rows("test", 0, rows("a", "b"), {"a": [ONE], "b": [FOUR]})
        run.finish({})
    assert (run.path / "decisions.jsonl").read_bytes() == whole


def test_what_was_decided_in_scenes_that_were_not_scored_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with opened(tmp_path) as run:
        run.append_rows("test", 0, rows("a"), {"a": [ONE]})
        with monkeypatch.context() as patch:
            patch.setattr("sepbench.results.write_bytes", stopped)  # the rows; decisions are written before them
            with pytest.raises(KeyboardInterrupt):
                run.append_rows("test", 1, rows("b", "c"), {"b": [FOUR], "c": [FOUR]})
        assert (run.path / "partial" / "test-000001.jsonl").is_file()
    with opened(tmp_path) as run:
        assert run.scored_scenes("test") == {"a"}
        run.append_rows("test", 2, rows("b"), {"b": [ONE]})
        run.finish({})
    assert read_decisions(run.path) == {("test", "a"): [ONE], ("test", "b"): [ONE]}


def test_numbers_of_numpy_and_torch_are_kept_as_plain_ones(tmp_path: Path):
    told = {"case": "I", "p": np.float32(0.5), "all": torch.tensor([0.25, 1.0]), "none": float("nan"), "n": np.int64(3)}
    folder = put(tmp_path, rows("a"), decisions={"a": [told]})
    assert read_decisions(folder)["test", "a"] == [{"case": "I", "p": 0.5, "all": [0.25, 1.0], "none": None, "n": 3}]


@pytest.mark.parametrize("line", ["{", "[]", '{"split": "test", "scene": "b"}',
                                  '{"split": "test", "scene": 3, "decisions": []}',
                                  '{"split": "test", "scene": "b", "decisions": ["I"]}'])  # fmt: skip
def test_a_damaged_line_is_named(tmp_path: Path, line: str):
    folder = put(tmp_path, rows("a"), decisions={"a": [ONE]})
    with (folder / "decisions.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=r"decisions\.jsonl: line 2 holds no decisions of a scene\. Restore it") as caught:
        read_decisions(folder)
    assert "\n" not in str(caught.value)


def test_a_frozen_run_keeps_its_decisions(tmp_path: Path):
    put(tmp_path / "runs", rows("a"), decisions={"a": [ONE]})
    put(tmp_path / "runs", rows("a"), options={"alpha": 1.0})
    freeze(tmp_path / "runs", tmp_path / "frozen")
    found = [read_decisions(path.parent) for path in sorted((tmp_path / "frozen").glob("*/run.json"))]
    assert sorted(found, key=len) == [{}, {("test", "a"): [ONE]}]
    assert all("frozen already" in line for line in freeze(tmp_path / "runs", tmp_path / "frozen"))


def test_the_answers_decisions_are_those_of_the_scenes_whose_method_tells_any():
    sound = torch.sin(torch.arange(800.0))
    scenes = [Scene(Mixture(sound[None], 8000, name), (Source(sound, "siren", ()),)) for name in ("a", "b")]
    method = SimpleNamespace(separate=lambda mixtures: [
        Estimate(sound[None], ("siren",), decisions=(ONE,) if mixture.id == "b" else None) for mixture in mixtures
    ])  # fmt: skip
    task = load_task("universal_pairs", {"classes": ["siren"], "metrics": ["si_sdr"]})
    config = {"supervision": "isolated", "task": task}
    judged, decisions = sepbench.run.answer(method, scenes, config, "r", "test")
    assert {row.scene for row in judged} == {"a", "b"} and decisions == {"b": (ONE,)}


# which weights answered


def saved(folder: Path, facts: dict[str, str], **tensors: torch.Tensor) -> Path:
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    save_file(tensors, folder / "net.safetensors", facts)
    return folder


def test_the_same_tensors_have_the_same_hash_whatever_is_told_beside_them(tmp_path: Path):
    one, two = torch.arange(6.0).reshape(2, 3), torch.tensor(3, dtype=torch.bfloat16)
    first = content(saved(tmp_path / "a", {"seconds": "3.1", "parameters": "7"}, one=one, two=two))
    assert content(saved(tmp_path / "b", {"seconds": "4.5"}, two=two, one=one)) == first
    others = [{"one": one + 1e-6, "two": two}, {"one": one.reshape(3, 2), "two": two}, {"one": one, "too": two}]
    assert first not in {content(saved(tmp_path / str(i), {}, **each)) for i, each in enumerate(others)}


def test_only_what_has_learnt_has_a_hash_of_weights(tmp_path: Path):
    there = saved(tmp_path / "weights", {}, one=torch.ones(2))
    assert weights_hash({"supervision": "isolated"}, tmp_path) == content(there)
    assert weights_hash({"supervision": "oracle", "learns_from": "isolated"}, tmp_path) == content(there)
    assert weights_hash({"supervision": "none"}, tmp_path) is None
    handed = {"supervision": "weak", "trained_by": {"run": "another", "weights": "abc"}}
    assert weights_hash(handed, tmp_path / "nothing") == "abc"


def test_what_is_wrapped_is_counted_beside_the_runs_own_networks(tmp_path: Path):
    saved(tmp_path / "weights", {"parameters": "7"}, one=torch.ones(9))
    learns: dict = {"supervision": "isolated"}
    assert parameters(learns, tmp_path) == {"parameters": 7, "parameters_of": {"net": 7}}
    both = {"parameters": 107, "parameters_of": {"net": 7, "inner": 100}}
    assert parameters({**learns, "inner": {"run": "r", "parameters": 100}}, tmp_path) == both
    assert parameters({**learns, "inner": {"run": "r", "parameters": 100}}, tmp_path / "none") == {"parameters": 100}
    handed = {"trained_by": {"run": "another", "weights": "abc"}, "inner": {"run": "r", "parameters": 100}}
    assert parameters({**learns, **handed}, tmp_path / "none") == {}
    assert parameters({**learns, "inner": {"run": "r"}}, tmp_path) == {"parameters_of": {"net": 7}}  # the sum is not known
