"""Sounds on disk and the command that scores them: what the tests of scoring share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from click.testing import CliRunner

from sepbench.cli_score import score
from sepbench.options import Door

RATE_HZ = 16_000
DOOR = Door(name="sepbench", commands={"score": score})
AUDIO = np.random.default_rng(0).standard_normal((4, 800)).astype(np.float32) * 0.1
ERROR = np.random.default_rng(1).standard_normal((4, 800)).astype(np.float32) * 0.01


def call(*args: Any) -> tuple[int, str, str]:
    result = CliRunner().invoke(DOOR, ["score", *map(str, args)], prog_name="sepbench")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def refused(*args: Any) -> str:
    """The one line with which the command was refused, without what was said of progress."""
    code, out, err = call(*args)
    lines = [line for line in err.splitlines() if not line.startswith("scoring: ")]
    assert code == 2 and out == "" and len(lines) == 1 and lines[0].startswith("sepbench: "), (code, out, err)
    return lines[0]


def figures(tmp: Path, *args: Any) -> dict[str, Any]:
    """What --json writes, read strictly."""
    code, out, err = call(*args, "--json", tmp / "figures.json", "--results", tmp / "runs")
    assert code == 0, err

    def never(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads((tmp / "figures.json").read_text(), parse_constant=never)


def put(path: Path, samples: Any, rate_hz: int = RATE_HZ, subtype: str | None = "FLOAT") -> Path:
    """A sound of (time,) or (time, channel); where its folder is not there, it is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.asarray(samples), rate_hz, subtype=subtype)
    return path


def two_scenes(root: Path) -> tuple[Path, Path]:
    """Scenes a and b of two sources each, in folders; the estimates are the references with a little noise."""
    for scene in "ab":
        put(root / "ref" / scene / "mixture.wav", AUDIO[0] + AUDIO[1])
        for i, label in enumerate(("dog", "siren")):
            put(root / "ref" / scene / f"{i}_{label}.wav", AUDIO[i])
            put(root / "est" / scene / f"{i}_{label}.wav", AUDIO[i] + ERROR[i])
    return root / "ref", root / "est"


@dataclass(frozen=True)
class Golden:
    """A case of the golden file, with its signals."""

    mixture: np.ndarray  # (time,)
    references: np.ndarray  # (reference, time)
    estimates: np.ndarray  # (estimate, time)
    reference_labels: list[str] | None
    estimate_labels: list[str] | None
    expected: dict[str, Any]


CASES = {  # name: (mixture, references, estimates), as the file's own `signals` and `cases` describe them
    "good_k1": ("mix1", "R0", "good0"),
    "good_k2_reordered": ("mix2", "R0 R1", "good1 good0"),
    "good_k3": ("mix3", "R0 R1 R2", "good0 good1 good2"),
    "soso_k3": ("mix3", "R0 R1 R2", "soso0 soso1 soso2"),
    "missed_one_k2": ("mix2", "R0 R1", "good0"),
    "false_positive_k1": ("mix1", "R0", "good0 good1"),
    "wrong_label_k3": ("mix3", "R0 R1 R2", "good0 good1 good2"),
    "swapped_labels_k2": ("mix2", "R0 R1", "good0 good1"),
    "silent_estimate_k2": ("mix2", "R0 R1", "good0 zeros"),
    "mixture_as_estimate_k2": ("mix2", "R0 R1", "mix2 mix2"),
    "nothing_detected_k2": ("mix2", "R0 R1", ""),
    "nothing_there_nothing_found": ("N", "", ""),
    "nothing_there_false_alarm": ("N", "", "good0"),
    "same_class_pair": ("mix2", "R0 R1", "good1 good0"),
    "same_class_one_missed": ("mix2", "R0 R1", "good0"),
    "over_separated_k2": ("mix2", "R0 R1", "good1 soso2 good0"),
}


def golden_cases(shared: Path) -> dict[str, Golden]:
    """All cases, drawn in the order that the file gives, as float32; those of many sources have no labels."""
    told = json.loads((shared / "golden" / "metrics.json").read_text())
    generator, n_time = np.random.default_rng(told["seed"]), told["T"]
    r = generator.standard_normal((3, n_time)) * np.array([0.5, 0.3, 0.2])[:, None]
    n = generator.standard_normal(n_time) * 0.05
    e = generator.standard_normal((3, n_time))
    signals = {"N": n, "zeros": 0 * n, "mix1": r[0] + n, "mix2": r[0] + r[1] + n, "mix3": r.sum(0) + n}
    for i, (noise, other, leak) in enumerate(zip([0.05, 0.03, 0.02], [1, 0, 1], [0.3, 0.4, 0.2])):
        signals |= {f"R{i}": r[i], f"good{i}": r[i] + noise * e[i], f"soso{i}": r[i] + leak * r[other] + 0.1 * e[i]}

    def stacked(names: str) -> np.ndarray:
        return np.array([signals[name] for name in names.split()], np.float32).reshape(-1, n_time)

    cases = {
        case["name"]: Golden(
            stacked(CASES[case["name"]][0])[0], *map(stacked, CASES[case["name"]][1:]),
            case["reference_labels"], case["estimate_labels"], case,
        )
        for case in told["cases"]
    }  # fmt: skip
    for case in told["many_sources"]:
        references = generator.standard_normal((case["n"], n_time))
        order = generator.permutation(case["n"])
        estimates = references[order] + 0.5 * generator.standard_normal((case["n"], n_time))
        mixture, *sides = (each.astype(np.float32) for each in (references.sum(0), references, estimates))
        cases[f"many_{case['n']}"] = Golden(mixture, *sides, None, None, {"name": f"many_{case['n']}", "pit": case})
    return cases


def check_golden(case: Golden, scene: dict[str, Any], separation: bool = True) -> None:
    """A scene of --json against the golden figures, to 1e-6 dB."""
    expected, held = case.expected, scene["metrics"]
    for name in ("ca_sdri", "capi_sdri"):
        if case.reference_labels is not None:
            want = expected.get(name)
            assert (want is None) == (name not in held), (expected["name"], name)
            assert want is None or abs(held[name] - want) < 1e-6, (expected["name"], name)
    if "labels_correct" in expected:
        assert held["label_set_accuracy"] == float(expected["labels_correct"])
    if "pit" in expected and separation:
        pit = expected["pit"]
        assert scene["pairs"] == pit["pairs"]
        assert (scene["missed"], scene["extra"]) == (pit["n_missed"], pit["n_extra"])
        for name in ("si_sdr", "si_sdri"):
            assert abs(held[name] - np.mean(pit[name])) < 1e-6, (expected["name"], name)
    elif "pit" not in expected:
        assert scene["pairs"] == [] and "si_sdr" not in held
