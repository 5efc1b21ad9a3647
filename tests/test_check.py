"""The regression gate: what pairs, what fails, and that it never passes where nothing was compared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from made_up_runs import TOLERANCES, frozen, made_up, put
from sepbench.check import Outcome, check
from sepbench.check_figures import BETTER, FINE, MISSING, MOVED, NEW, REGRESSED, SHOWN, Judged
from sepbench.check_print import printed
from sepbench.errors import UserError
from sepbench.metrics import METRICS
from sepbench.scene import Row
from sepbench.tolerances import FILE


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    return frozen(tmp_path / "reference")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    root = tmp_path / "results"
    root.mkdir()
    return root


def verdicts(outcome: Outcome, label: str = "") -> dict[str, str]:
    (pair,) = outcome.pairs
    return {figure.metric: figure.verdict for figure in pair.figures if figure.label == label}


# what a figure may do


def test_the_same_figures_are_fine(reference: Path, results: Path) -> None:
    put(results, seed=1)
    outcome = check(results, reference)
    assert verdicts(outcome) == {"si_sdri": FINE, "si_sdr_mixture": FINE, "f_measure_frame": FINE}
    assert outcome.exit_code == 0


@pytest.mark.parametrize(
    ("metric", "shift", "verdict"),
    [("si_sdri", -0.29, FINE), ("si_sdri", -0.3, FINE), ("si_sdri", -0.31, REGRESSED), ("si_sdri", 0.31, BETTER),
     ("si_sdr_mixture", 0.004, FINE), ("si_sdr_mixture", 0.006, MOVED), ("si_sdr_mixture", -0.006, MOVED)],
)  # fmt: skip
def test_a_figure_may_get_worse_by_its_tolerance_and_no_more(
    reference: Path, results: Path, metric: str, shift: float, verdict: str
) -> None:
    put(results, made_up({metric: shift}), seed=1)
    outcome = check(results, reference)
    assert verdicts(outcome)[metric] == verdict
    assert outcome.exit_code == (1 if verdict in (REGRESSED, MOVED) else 0)


def test_the_difference_is_that_of_pairs_with_its_interval(reference: Path, results: Path) -> None:
    put(results, made_up({"si_sdri": -0.5}), seed=1)
    (found,) = [figure for figure in check(results, reference).pairs[0].having(REGRESSED) if not figure.label]
    assert found.difference == pytest.approx(-0.5) and found.ci95 == pytest.approx((-0.5, -0.5), abs=1e-6)
    assert (found.n, found.scenes, found.unpaired, found.tolerance) == (24, 12, 0, 0.3)


def test_lower_is_better_where_the_metric_says_so() -> None:
    assert METRICS["over_separation"].higher_is_better is False
    assert Judged("test", "over_separation", "", FINE, "ratio", difference=-0.2).gain == 0.2
    assert Judged("test", "si_sdri", "", FINE, "dB", difference=-0.2).gain == -0.2
    assert Judged("test", "extra", "", FINE, "sources", difference=3).gain == -3


def test_f_measure_stands_for_both_levels_and_is_pooled(reference: Path, results: Path) -> None:
    put(results, made_up({"frame_tp": 1.0}), seed=1)  # 120 / 140 against 118 / 139
    outcome = check(results, reference)
    (found,) = [each for each in outcome.pairs[0].figures if each.metric == "f_measure_frame" and not each.label]
    assert found.difference == pytest.approx(118 / 139 - 120 / 140) and found.verdict == FINE
    put(results, made_up({"frame_tp": 2.0}), seed=1, train__critic={})
    assert [pair.having(REGRESSED) != [] for pair in check(results, reference).pairs].count(True) == 1


def test_a_metric_without_a_tolerance_is_shown_and_not_gated(reference: Path, results: Path) -> None:
    (reference / FILE).write_text("default: {si_sdri: null, f_measure: 0.01}")
    put(results, made_up({"si_sdri": -9.0}), seed=1)
    outcome = check(results, reference)
    assert verdicts(outcome)["si_sdri"] == SHOWN and outcome.exit_code == 0
    assert "not gated" in printed(outcome, "terminal")


def test_better_passes_and_is_named_and_fails_only_where_asked(reference: Path, results: Path) -> None:
    put(results, made_up({"si_sdri": 2.0}), seed=1)
    outcome = check(results, reference)
    assert outcome.exit_code == 0 and "Freeze it to keep it" in printed(outcome, "terminal")
    assert check(results, reference, strict=True).exit_code == 1


def test_classes_are_gated_where_the_tolerances_name_them(reference: Path, results: Path) -> None:
    put(results, made_up(of={"siren": -2.0, "dog_bark": 2.0}), seed=1)
    outcome = check(results, reference)
    assert outcome.exit_code == 0 and verdicts(outcome, "siren")["si_sdri"] == SHOWN
    assert "siren -2.00" in printed(outcome, "terminal")
    (reference / FILE).write_text(TOLERANCES + "\nclasses: {default: {si_sdri: 1.5 dB}}")
    outcome = check(results, reference)
    assert verdicts(outcome)["si_sdri"] == FINE and outcome.exit_code == 1
    assert verdicts(outcome, "siren")["si_sdri"] == REGRESSED and verdicts(outcome, "dog_bark")["si_sdri"] == BETTER


# rows that come and go


def test_a_figure_that_is_not_measured_any_more_fails(reference: Path, results: Path) -> None:
    put(results, made_up(drop=["frame_"]), seed=1)
    outcome = check(results, reference)
    assert verdicts(outcome) == {"si_sdri": FINE, "si_sdr_mixture": FINE, "f_measure_frame": MISSING}
    assert outcome.exit_code == 1


def test_what_guessing_scores_is_gated_by_nobody(reference: Path, results: Path) -> None:
    """It may come, go and move: it says how to read the accuracy beside it, which the frozen run may lack."""
    chance = [Row("r", "test", f"s{k}", 0, "siren", "class_accuracy_chance", 0.1) for k in range(12)]
    put(results, made_up(add=chance), seed=1)
    outcome = check(results, reference)
    assert outcome.exit_code == 0 and verdicts(outcome).keys() == {"si_sdri", "si_sdr_mixture", "f_measure_frame"}


def test_a_lost_metric_takes_no_scene_of_the_others_with_it(reference: Path, results: Path, tmp_path: Path) -> None:
    detected = made_up(drop=["si_"]) + [row for row in made_up(drop=["frame_"]) if row.scene != "s0"]
    put(reference, detected, options={"lambda": 7.0})
    put(results, [row for row in detected if not row.metric.startswith("frame_")], options={"lambda": 7.0})
    put(results)
    outcome = check(results, reference)
    assert outcome.verdicts[MISSING] == 1 and outcome.verdicts[REGRESSED] == 0 and not outcome.missing


def test_a_new_figure_of_the_task_fails_until_it_is_frozen(reference: Path, results: Path) -> None:
    put(results, made_up(add=[Row("r", "test", "s0", 0, "siren", "si_sdr", 1.0)]), seed=1)
    outcome = check(results, reference)
    assert verdicts(outcome)["si_sdr"] == NEW and outcome.exit_code == 1
    assert "freeze it to accept it" in printed(outcome, "terminal")


def test_an_optional_column_that_was_asked_for_by_hand_is_named_and_passes(reference: Path, results: Path) -> None:
    put(results, made_up(add=[Row("r", "test", "s0", 0, "siren", "bss_sdr", 1.0)]), seed=1)
    outcome = check(results, reference)
    assert verdicts(outcome)["bss_sdr"] == SHOWN and outcome.exit_code == 0
    assert "asked for beyond the task" in printed(outcome, "terminal")
    shutil.rmtree(reference)
    put(reference, made_up(add=[Row("r", "test", "s0", 0, "siren", "bss_sdr", 1.0)]))
    (reference / FILE).write_text(TOLERANCES)
    put(results.parent / "later")
    assert verdicts(check(results.parent / "later", reference))["bss_sdr"] == MISSING


def test_a_metric_whose_definition_changed_has_moved(reference: Path, results: Path) -> None:
    run = put(results, seed=1)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test"]["si_sdri"]["signature"] == METRICS["si_sdri"].signature
    metrics["test"]["si_sdri"]["signature"] = "si_sdri|v2|f64"
    (run / "metrics.json").write_text(json.dumps(metrics))
    outcome = check(results, reference)
    assert verdicts(outcome)["si_sdri"] == MOVED and outcome.exit_code == 1
    assert "si_sdri|v2|f64" in printed(outcome, "terminal")


def test_a_frozen_run_without_signatures_is_held_against_and_told_of(reference: Path, results: Path) -> None:
    file = next(reference.glob("*/metrics.json"))
    metrics = json.loads(file.read_text())
    for figure in metrics["test"].values():
        figure.pop("signature", None)
    file.write_text(json.dumps(metrics))
    put(results, seed=1)
    outcome = check(results, reference)
    assert outcome.exit_code == 0 and "no signatures" in printed(outcome, "terminal")


def test_leaving_out_the_hard_sources_does_not_pass(reference: Path, results: Path) -> None:
    put(results, made_up(n_missed=3), seed=1)
    outcome = check(results, reference)
    assert verdicts(outcome)["missed"] == REGRESSED and outcome.exit_code == 1
    figure = next(each for each in outcome.pairs[0].figures if each.metric == "si_sdri")
    assert (figure.n, figure.unpaired) == (21, 3) and "3 rows in only one" in printed(outcome, "terminal")
    (reference / FILE).write_text(TOLERANCES.replace("default: {", "default: {missed: 3 sources, "))
    assert check(results, reference).exit_code == 0


def test_fewer_missed_sources_are_better(reference: Path, results: Path) -> None:
    shutil.rmtree(next(reference.glob("weak*")))
    put(reference, made_up(n_missed=3))
    put(results, seed=1)
    assert verdicts(check(results, reference))["missed"] == BETTER


# which runs pair


def test_seed_schedule_and_commit_do_not_keep_runs_apart_and_are_told(reference: Path, results: Path) -> None:
    put(results, seed=3, train__critic={"epochs": 2}, facts={"git_commit": "fff"})
    outcome = check(results, reference)
    assert outcome.exit_code == 0
    assert outcome.pairs[0].differing == "seed 0, now 3; train.critic.epochs 5, now 2"


def test_each_of_five_seeds_is_held_against_the_one_frozen_run(reference: Path, results: Path) -> None:
    for seed in range(5):
        put(results, made_up({"si_sdri": -0.1 * seed}), seed=seed)
    outcome = check(results, reference)
    assert len(outcome.pairs) == 5 and outcome.exit_code == 1
    assert sorted(pair.result.config["seed"] for pair in outcome.pairs if pair.having(REGRESSED)) == [4]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"options": {"lambda": 10.0}}, "lambda 5.0 against 10.0"),
        ({"profile": "small"}, "quick against small"),
        ({"recipe": "redux"}, "weak_label against redux"),
        ({"facts": {"corpus_hash": "c3d4c3d4e5f6"}}, "a1b2c3d4"),
        ({"facts": {"scenes_hash": {"test": "ffff"}}}, "other scenes"),
        ({"task__scenes": {"test": 12, "seed": 1}}, "scenes.seed"),
        ({"task__mixing": {"rate": 10.0}}, "mixing.rate 5.0 and 10.0"),
        ({"task__name": "others"}, "task.name urban_events and others"),
    ],
)
def test_where_nothing_pairs_nothing_passes_and_the_nearest_run_is_named(
    reference: Path, results: Path, other: dict, said: str
) -> None:
    run = put(results, **other)
    outcome = check(results, reference)
    assert outcome.exit_code == 3 and not outcome.pairs
    assert run.name in outcome.missing[0].why and said in outcome.missing[0].why
    for form in ("terminal", "github", "md"):
        assert "NOTHING COMPARABLE" in printed(outcome, form) and "passed" not in printed(outcome, form)


def test_an_option_that_the_recipe_has_learnt_since_is_no_difference_at_its_default(
    reference: Path, results: Path
) -> None:
    put(results, options={"mask": "ratio"})
    assert check(results, reference).exit_code == 0
    shutil.rmtree(results)
    put(results, options={"mask": "binary"}, changed={"mask": "binary"})
    assert check(results, reference).exit_code == 3


def test_scenes_that_turn_out_to_be_others_are_not_compared(reference: Path, results: Path) -> None:
    put(results, made_up(n_scenes=9), seed=1)
    outcome = check(results, reference)
    assert outcome.exit_code == 3 and "3 of the 12 scenes" in outcome.missing[0].why


def test_a_frozen_run_without_a_counterpart_fails_unless_it_was_left_out(reference: Path, results: Path) -> None:
    frozen = put(reference, recipe="mixture")
    put(results, seed=1)
    outcome = check(results, reference)
    assert outcome.exit_code == 1 and [each.reference.path for each in outcome.missing] == [frozen]
    assert check(results, reference, only=["recipes/weak_label"]).exit_code == 0


def test_a_run_of_which_none_is_frozen_is_named_and_fails_only_where_asked(reference: Path, results: Path) -> None:
    put(results)
    fresh = put(results, recipe="mixture")
    outcome = check(results, reference)
    assert outcome.exit_code == 0 and [run.path for run in outcome.new] == [fresh]
    assert "freeze it" in printed(outcome, "terminal") and check(results, reference, strict=True).exit_code == 1
    assert check(results, reference, no_new=True).exit_code == 1


def test_an_unfinished_run_is_named_and_is_no_counterpart(reference: Path, results: Path) -> None:
    run = put(results, seed=1, finished=False)
    outcome = check(results, reference)
    assert outcome.exit_code == 3 and "interrupted" in outcome.missing[0].why and run.name in outcome.missing[0].why
    put(results, seed=2)
    assert check(results, reference).exit_code == 0 and run.name in printed(check(results, reference), "terminal")
    assert check(results, reference, strict=True).exit_code == 1


def test_where_no_figure_has_a_tolerance_nothing_passes(reference: Path, results: Path) -> None:
    (reference / FILE).write_text("default: {snr: 0.1 dB}")
    put(results)
    outcome = check(results, reference)
    assert outcome.exit_code == 3 and "no figure of these runs has a tolerance" in printed(outcome, "terminal")


def test_a_run_is_never_held_against_itself(reference: Path) -> None:
    with pytest.raises(UserError, match="always agrees with itself"):
        check(reference, reference)
    assert check(reference.parent, reference).exit_code == 3  # the frozen runs lie below, and are no new ones
    with pytest.raises(UserError, match="no finished run there"):
        check(next(reference.glob("weak*")), reference)


def test_a_single_run_is_checked_by_its_folder_and_against_one(reference: Path, results: Path) -> None:
    run = put(results, seed=1)
    put(results, made_up({"si_sdri": -5.0}), seed=2)
    assert check(run, next(reference.glob("weak*"))).exit_code == 0


# usage


def test_what_cannot_be_a_reference_is_told(reference: Path, results: Path) -> None:
    put(results)
    with pytest.raises(UserError, match="Did you mean 'weak_label'"):
        check(results, reference, only=["weak_lable"])
    other = put(reference, seed=1)
    with pytest.raises(UserError, match="both frozen"):
        check(results, reference)
    (other / "rows.parquet").unlink()
    with pytest.raises(UserError, match=r"no rows\.parquet"):
        check(results, reference)
    with pytest.raises(UserError, match="no such folder"):
        check(results, reference / "nowhere")


def test_checking_writes_nothing(reference: Path, results: Path) -> None:
    put(results, made_up({"si_sdri": 5.0}), seed=1)
    before = {path: path.read_bytes() for path in reference.parent.rglob("*") if path.is_file()}
    check(results, reference)
    assert {path: path.read_bytes() for path in reference.parent.rglob("*") if path.is_file()} == before
