"""What a check says: exit codes, annotations, a page, something that a program can read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from made_up_runs import called, frozen, made_up, put
from sepbench.check import check
from sepbench.check_figures import REGRESSED
from sepbench.check_print import escaped, printed


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    return frozen(tmp_path / "reference")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    root = tmp_path / "results"
    root.mkdir()
    return root


def test_the_exit_code_is_the_outcomes(reference: Path, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert called("check", results, "--against", reference) == 3
    good = put(results, seed=1)
    assert called("check", results, "--against", reference) == 0
    shutil.rmtree(good)
    put(results, made_up({"si_sdri": -1.0}), seed=1)
    assert called("check", results, "--against", reference) == 1
    assert called("check", results) == called("check", results, "--against", reference, "--format", "gitub") == 2
    assert "Did you mean 'github'" in capsys.readouterr().err


def test_annotations_are_escaped_so_that_one_is_one() -> None:
    assert escaped("50 %: a, b\r\nc") == "50 %25: a, b%0D%0Ac"
    assert escaped("50 %: a, b\r\nc", is_property=True) == "50 %25%3A a%2C b%0D%0Ac"


def test_github_gets_annotations_and_a_page(
    reference: Path, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = put(results, made_up({"si_sdri": -1.0, "frame_tp": -9.0}), seed=1)
    page = results.parent / "summary.md"
    page.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    assert called("check", results, "--against", reference, "--format", "github") == 1
    lines = capsys.readouterr().out.splitlines()
    (error,) = [line for line in lines if line.startswith("::error") and "regressed" in line and run.name in line]
    assert "title=sepbench check%3A " in error and "si_sdri (test)" in error and "tolerance 0.3)" in error
    assert any(line.startswith("::warning") and "f_measure_frame" in line for line in lines)
    assert any(line.startswith("::notice") and "seed 0, now 1" in line for line in lines)
    text = page.read_text()
    assert text.startswith("before\n### Check\n") and "| si_sdri, dB |" in text and "check FAILED" in text


@pytest.mark.parametrize("passes", [False, True])
def test_each_annotation_is_one_line_of_the_level_that_the_outcome_has(
    reference: Path, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], passes: bool
) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    put(results, None if passes else made_up({"si_sdri": -1.0, "frame_tp": 9.0}), seed=1)
    assert called("check", results, "--against", reference, "--format", "github") == (0 if passes else 1)
    lines = capsys.readouterr().out.splitlines()
    (end,) = [i for i, line in enumerate(lines) if line.startswith("check ")]  # the text ends with its summary
    assert all(line.startswith(("::error title=", "::warning title=", "::notice title=")) for line in lines[end + 1 :])
    errors = [line for line in lines if line.startswith("::error")]
    assert lines[-1] == f"::{'notice' if passes else 'error'} title=sepbench check%3A summary::{lines[end]}"
    if passes:
        assert not errors and len(lines) > end + 1
    else:
        figures, _ = errors
        first, second = figures.split("::")[-1].split("%0A")
        assert first.startswith("regressed: si_sdri (test)") and second.startswith("regressed: f_measure_frame (test)")


def test_a_program_can_read_it(reference: Path, results: Path) -> None:
    run = put(results, made_up({"si_sdri": -1.0}), seed=1)
    found = json.loads(printed(check(results, reference), "json"))
    assert found["exit_code"] == 1 and found["verdicts"][REGRESSED] == 1
    (own,) = found["runs"]
    figure = next(each for each in own["figures"] if (each["metric"], each["label"]) == ("si_sdri", ""))
    assert own["path"] == str(run) and figure["verdict"] == REGRESSED
    assert figure["difference"] == pytest.approx(-1) and figure["tolerance"] == 0.3 and len(figure["ci95"]) == 2


def test_a_page_that_cannot_be_written_changes_no_exit_code(
    reference: Path, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put(results, seed=1)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(results / "nowhere" / "summary.md"))
    assert called("check", results, "--against", reference, "--format", "github") == 0
    assert "cannot be written" in capsys.readouterr().out.splitlines()[-1]
