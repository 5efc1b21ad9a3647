"""tolerances.yaml: units, groups, and one line for what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from made_up_runs import called, frozen, put
from sepbench.check import check
from sepbench.errors import UserError
from sepbench.tolerances import FILE, read_tolerances


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    return frozen(tmp_path / "reference")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    root = tmp_path / "results"
    root.mkdir()
    return root


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("default: {si_sdri: 0.3 ratio}", "si_sdri is in dB. Write 0.3 dB"),
        ("default: {f_measure: 0.01 dB}", "is in ratio. Write 0.01."),
        ("default: {missed: 2 dB}", "missed is in sources"),
        ("default: {si_sdrii: 0.3}", "Did you mean 'si_sdri'"),
        ("default: {si_sdri: -1 dB}", "0 or more"),
        ("default: {si_sdri: yes}", "wanted a number"),
        ("default: {si_sdri: .nan}", "wanted a number"),
        ("default: {si_sdri: much}", "wanted a number"),
        ("default: {si_sdri: [1]}", "wanted a number"),
        ("default: 3", "wanted names with values"),
        ("defaults: {si_sdri: 1}", "Did you mean 'default'"),
        ("recipes: {weak_lable: {si_sdri: 1}}", "Did you mean 'weak_label'"),
        ("classes: {recipe: {}}", "Did you mean 'recipes'"),
        ("classes: {default: {si_sdri: 1 s}}", "classes.default.si_sdri"),
        ("default: {si_sdri: 1", "not YAML"),
        ("default: {si_sdri: 1, si_sdri: 2}", "stands twice"),
        ("", "holds nothing"),
    ],
)
def test_wrong_tolerances_are_one_line_that_names_file_and_place(
    reference: Path, results: Path, text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put(results)
    (reference / FILE).write_text(text)
    assert called("check", results, "--against", reference) == 2
    line = capsys.readouterr().err
    assert said in line and str(reference / FILE) in line and line.count("\n") == 1


def test_a_group_stands_for_its_metrics_and_a_name_of_its_own_wins(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("default: {f_measure_clip: 0.2, f_measure: 0.1}\nrecipes: {redux: {f_measure: 1e-3}}")
    found = read_tolerances(tmp_path / FILE, ["redux"]).whole
    assert [found.of("x", f"f_measure_{level}") for level in ("frame", "clip")] == [0.1, 0.2]
    assert [found.of("redux", f"f_measure_{level}") for level in ("frame", "clip")] == [1e-3, 1e-3]
    assert found.of("x", "si_sdri") is None and found.of("x", "missed") == 0.0


def test_a_reference_without_tolerances_says_how_to_make_some(reference: Path, results: Path, tmp_path: Path) -> None:
    put(results)
    (reference / FILE).rename(tmp_path / "mine.yaml")
    with pytest.raises(UserError, match="sepbench freeze"):
        check(results, reference)
    assert check(results, reference, tolerances=tmp_path / "mine.yaml").exit_code == 0
    with pytest.raises(UserError, match="no.yaml: cannot be read"):
        check(results, reference, tolerances=tmp_path / "no.yaml")
