"""A recipe that is broken on purpose turns the check red; the same code with another seed does not.

The task is easy, so that little training tells right from wrong: three classes of noise, each in a band of its own.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from made_up_runs import called
from sepbench.check import check
from sepbench.check_figures import FAILING
from sepbench.freeze import freeze
from sepbench.progress import PlainProgress
from sepbench.recipe import load_recipe
from sepbench.run import run_one
from sepbench.run import test_run as score_again  # under its own name pytest would take it for a test
from sepbench.tolerances import FILE

REPO = Path(__file__).resolve().parents[1]
RATE_HZ = 8000
BANDS_HZ = {"hiss": (2200, 3600), "horn": (900, 1500), "hum": (150, 500)}
TASK = [
    f"task.classes=[{', '.join(BANDS_HZ)}]", f"task.sample_rate_hz={RATE_HZ}", "task.seconds=0.64",
    "task.mixing.cut_s=[0.2, 0.5]", "task.scenes.valid=8", "task.scenes.test=24",
]  # fmt: skip
ENOUGH = ["epochs=1", "batch=6", "valid_batches=1", "warmup=5", "lr=0.01", "patience=1", "steps=30"]
TRAINING = [
    *(f"train.{stage}.{value}" for stage in ("activity", "critic", "separator") for value in ENOUGH),
    "train.separator.steps=40", "train.prior_scenes=40", "train.bfloat16=false",
    "sizes.hidden=12", "sizes.layers=1", "sizes.critic_hidden=8", "sizes.critic_channels=[4, 6, 8]",
]  # fmt: skip
# Seeds scatter over 2 dB and 0.04; what is broken below loses 10 dB or a fifth.
FIGURES = ("si_sdr", "si_sdri", "si_sdr_by_label", "si_sdri_by_label")
TRAINED = f"default: {{{', '.join(f'{name}: 3 dB' for name in FIGURES)}, si_sdr_mixture: 0.001 dB, f_measure: 0.1}}"
FLOOR = f"default: {{{', '.join(f'{name}: 0.001 dB' for name in (*FIGURES, 'si_sdr_mixture'))}}}"


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Ten recordings of each class, and a cache of their own."""
    root = tmp_path_factory.mktemp("sounds")
    random, n_time = np.random.default_rng(0), RATE_HZ // 2
    frequency_hz = np.fft.rfftfreq(n_time, 1 / RATE_HZ)
    for label, (low_hz, high_hz) in BANDS_HZ.items():
        (root / label).mkdir()
        for take in range(10):
            spectrum = np.fft.rfft(random.standard_normal(n_time))
            sound = np.fft.irfft(spectrum * ((frequency_hz >= low_hz) & (frequency_hz <= high_hz)))
            soundfile.write(root / label / f"{label}{take}.wav", 0.5 * sound / np.abs(sound).max(), RATE_HZ)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEPBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield root


def run(sounds: Path, folder: Path, results: Path, seed: int = 0, **options: str) -> Path:
    """`sepbench run FOLDER` on the easy task."""
    recipe = load_recipe(folder)
    sets = [*TASK, *(TRAINING if recipe.kind == "recipe" else [])]
    config, values = recipe.resolve("quick", {"split": "recording", "lambda": 4.0, **options}, sets,
                                    corpus="class_folders", seed=seed)
    data = {"class_folders": str(sounds)}
    return run_one(config, values, recipe, data, results, False, "cpu", PlainProgress(io.StringIO()))


def broken(root: Path, contestant: str, file: str, right: str, wrong: str) -> Path:
    """A copy of recipes/NAME or baselines/NAME under `root`, in whose `file` `wrong` stands in place of `right`."""
    copy = root / contestant
    shutil.copytree(REPO / contestant, copy)
    before = (copy / file).read_text()
    assert before.count(right) == 1
    (copy / file).write_text(before.replace(right, wrong))
    assert (copy / file).read_text() != before
    return copy


def freeze_at(run: Path, reference: Path, tolerances: str = TRAINED) -> Path:
    freeze(run, reference)
    (reference / FILE).write_text(tolerances)
    return reference


def failing(results: Path, reference: Path) -> set[str]:
    """The metrics that fail, by the check's own word; none where it passes."""
    assert called("check", results, "--against", reference) == check(results, reference).exit_code
    outcome = check(results, reference)
    found = {figure.metric for pair in outcome.pairs for figure in pair.having(*FAILING)}
    assert outcome.exit_code == (1 if found else 0) and outcome.pairs and not outcome.missing
    return found


@pytest.fixture(scope="module")
def strong(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weak-label recipe taught with sources, as it is, frozen."""
    root = tmp_path_factory.mktemp("strong")
    return freeze_at(run(sounds, REPO / "recipes/weak_label", root / "runs", labels="strong"), root / "reference")


@pytest.fixture(scope="module")
def weak(sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same taught with labels per frame, by way of the critic."""
    root = tmp_path_factory.mktemp("weak")
    return freeze_at(run(sounds, REPO / "recipes/weak_label", root / "runs"), root / "reference")


@pytest.mark.slow
def test_another_seed_of_the_same_code_passes(sounds: Path, strong: Path, tmp_path: Path) -> None:
    run(sounds, REPO / "recipes/weak_label", tmp_path, seed=1, labels="strong")
    assert failing(tmp_path, strong) == set()


@pytest.mark.slow
def test_a_wrong_sign_in_a_loss_fails(sounds: Path, strong: Path, tmp_path: Path) -> None:
    copy = broken(tmp_path / "wrong_sign", "recipes/weak_label", "losses.py", "estimates - targets", "estimates + targets")
    run(sounds, copy, tmp_path / "runs", labels="strong")
    assert failing(tmp_path / "runs", strong) == {*FIGURES}


def test_swapped_outputs_fail_by_label_and_by_label_alone(sounds: Path, strong: Path, tmp_path: Path) -> None:
    copy = broken(tmp_path / "swapped", "recipes/weak_label", "method.py",
                  "self._heard(answer, shares", "self._heard(answer.roll(1, 0), shares")
    run(sounds, copy, tmp_path / "runs", labels="strong")
    assert failing(tmp_path / "runs", strong) == {"si_sdr_by_label", "si_sdri_by_label"}


def test_outputs_upside_down_fail_by_their_sign_alone(sounds: Path, strong: Path, tmp_path: Path) -> None:
    reference = shutil.copytree(strong, tmp_path / "reference")
    (reference / FILE).write_text(TRAINED.removesuffix("}") + ", sign_flipped: 0 sources}")
    copy = broken(tmp_path / "negated", "recipes/weak_label", "method.py",
                  "self._heard(answer, shares", "self._heard(-answer, shares")
    run(sounds, copy, tmp_path / "runs", labels="strong")
    assert failing(tmp_path / "runs", reference) == {"sign_flipped"}


@pytest.mark.slow
def test_swapped_outputs_of_a_separator_that_was_taught_by_a_critic_fail_by_label_alone(
    sounds: Path, weak: Path, tmp_path: Path
) -> None:
    copy = broken(tmp_path / "swapped", "recipes/weak_label", "method.py",
                  "self._heard(answer, prob", "self._heard(answer.roll(1, 0), prob")
    run(sounds, copy, tmp_path / "runs")
    assert failing(tmp_path / "runs", weak) == {"si_sdr_by_label", "si_sdri_by_label"}


@pytest.mark.slow
def test_five_seeds_of_the_same_code_pass(sounds: Path, strong: Path, weak: Path, tmp_path: Path) -> None:
    for seed in range(1, 6):
        run(sounds, REPO / "recipes/weak_label", tmp_path / "strong", seed, labels="strong")
        run(sounds, REPO / "recipes/weak_label", tmp_path / "weak", seed)
    assert failing(tmp_path / "strong", strong) == failing(tmp_path / "weak", weak) == set()


@pytest.mark.slow
def test_a_wrong_sign_in_the_mixture_loss_fails(sounds: Path, weak: Path, tmp_path: Path) -> None:
    copy = broken(tmp_path / "weak_sign", "recipes/weak_label", "losses.py",
                  "(magnitude - explained)", "(magnitude + explained)")
    run(sounds, copy, tmp_path / "runs")
    assert failing(tmp_path / "runs", weak) == {*FIGURES}


@pytest.mark.slow
def test_a_critic_that_is_not_loaded_fails_as_soon_as_it_is_needed(sounds: Path, weak: Path, tmp_path: Path) -> None:
    copy = broken(tmp_path / "unloaded", "recipes/weak_label", "method.py",
                  "recall_all(self._networks(), folder)", 'recall_all({"separator": self.separator}, folder)')
    trained = run(sounds, copy, tmp_path / "runs")
    assert failing(tmp_path / "runs", weak) == set()  # nothing was loaded yet: the critic is the one that was trained
    score_again(trained, {"class_folders": str(sounds)}, [], tmp_path / "tested", False, "cpu", PlainProgress(io.StringIO()))
    assert failing(tmp_path / "tested", weak) == {"f_measure_frame", "f_measure_clip"}


def test_the_floor_agrees_with_itself_and_not_with_one_that_was_tampered_with(sounds: Path, tmp_path: Path) -> None:
    reference = freeze_at(run(sounds, REPO / "baselines/mixture", tmp_path / "first"), tmp_path / "reference", FLOOR)
    run(sounds, REPO / "baselines/mixture", tmp_path / "second")
    assert failing(tmp_path / "second", reference) == set()
    copy = broken(tmp_path / "tampered", "baselines/mixture", "method.py", "mixture.audio[:1].expand",
                  "(0.9 * mixture.audio[:1] + 0.1 * mixture.audio[:1].roll(8, -1)).expand")
    run(sounds, copy, tmp_path / "third")
    assert failing(tmp_path / "third", reference) >= {"si_sdri", "si_sdri_by_label"}
