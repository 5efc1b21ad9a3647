"""Every golden vector of ../shared/golden/metrics.json: figures of a slow, independent float64 program."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from scored_files import CASES
from sepbench.metrics.ca_sdri import ca_sdri
from sepbench.metrics.capi_sdri import capi_sdri
from sepbench.metrics.f_measure import clip_counts, frame_counts
from sepbench.metrics.label_set import label_set_accuracy
from sepbench.metrics.pairing import pair_by_separation
from sepbench.metrics.si_sdr import si_sdr, si_sdri


@pytest.fixture(scope="module")
def golden(shared):
    return json.loads((shared / "golden" / "metrics.json").read_text())


@pytest.fixture(scope="module")
def drawn(golden):
    """All signals, drawn in the order the file gives, as float32: name -> samples; and the detection decisions."""
    generator, n_time = np.random.default_rng(golden["seed"]), golden["T"]
    r = generator.standard_normal((3, n_time)) * np.array([0.5, 0.3, 0.2])[:, None]
    n = generator.standard_normal(n_time) * 0.05
    e = generator.standard_normal((3, n_time))
    signals = {"N": n, "zeros": np.zeros(n_time), "mix1": r[0] + n, "mix2": r[0] + r[1] + n, "mix3": r.sum(0) + n}
    for i, (noise, other, leak) in enumerate(zip([0.05, 0.03, 0.02], [1, 0, 1], [0.3, 0.4, 0.2], strict=True)):
        signals |= {f"R{i}": r[i], f"good{i}": r[i] + noise * e[i], f"soso{i}": r[i] + leak * r[other] + 0.1 * e[i]}
    many = {}
    for k in (4, 6, 8):
        references = generator.standard_normal((k, n_time))
        estimates = references[generator.permutation(k)] + 0.5 * generator.standard_normal((k, n_time))
        many[k] = tuple(each.astype(np.float32) for each in (references.sum(0), references, estimates))
    decisions = []
    for case in golden["detection"]:
        truth = generator.random(case["shape"]) < case["p"]
        flipped = truth ^ (generator.random(case["shape"]) < 0.15)
        decisions.append((truth, flipped if case["p"] else truth))
    return {name: samples.astype(np.float32) for name, samples in signals.items()}, many, decisions


def stack(signals, names, dtype):
    empty = np.zeros((0, len(signals["N"])), np.float32)
    return torch.tensor(np.stack([signals[name] for name in names.split()]) if names else empty).to(dtype)


def check_pairs(expected, mixture, reference, estimate):
    pairs = pair_by_separation(estimate=estimate, reference=reference)
    assert [list(pair) for pair in pairs] == expected["pairs"]
    assert len(reference) - len(pairs) == expected["n_missed"]
    assert len(estimate) - len(pairs) == expected["n_extra"]
    s, e = reference[[i for i, _ in pairs]], estimate[[j for _, j in pairs]]
    assert si_sdr(estimate=e, reference=s).tolist() == pytest.approx(expected["si_sdr"], abs=1e-6)
    assert si_sdri(estimate=e, reference=s, mixture=mixture).tolist() == pytest.approx(expected["si_sdri"], abs=1e-6)


def test_all_golden_cases_are_checked(golden):
    assert [case["name"] for case in golden["cases"]] == list(CASES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CASES)
def test_case_agrees_with_the_golden_figures(name, dtype, golden, drawn):
    case = next(case for case in golden["cases"] if case["name"] == name)
    mixture_name, references, estimates = CASES[name]
    mixture = torch.tensor(drawn[0][mixture_name]).to(dtype)
    reference, estimate = stack(drawn[0], references, dtype), stack(drawn[0], estimates, dtype)
    labels = {key: case[key] for key in ("estimate_labels", "reference_labels")}
    for metric, measure in (("ca_sdri", ca_sdri), ("capi_sdri", capi_sdri)):
        if metric in case:
            value = measure(estimate=estimate, reference=reference, mixture=mixture, **labels)
            expected = float("nan") if case[metric] is None else case[metric]
            assert value == pytest.approx(expected, abs=1e-6, nan_ok=True), metric
    if "labels_correct" in case:
        assert label_set_accuracy(**labels) == float(case["labels_correct"])
    if "pit" in case:
        check_pairs(case["pit"], mixture, reference, estimate)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_many_sources_agree_with_the_golden_pairs(which, dtype, golden, drawn):
    case = golden["many_sources"][which]
    mixture, reference, estimate = (torch.tensor(each).to(dtype) for each in drawn[1][case["n"]])
    check_pairs(case, mixture, reference, estimate)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_detection_agrees_with_the_golden_counts(which, dtype, golden, drawn):
    case, (truth, guess) = golden["detection"][which], drawn[2][which]
    truth, guess = truth.astype(dtype), guess.astype(dtype)
    clips = clip_counts(estimate=guess.max(-1), reference=truth.max(-1))
    for level, counts in (("frame", frame_counts(estimate=guess, reference=truth)), ("clip", clips)):
        assert len(counts) == len(case[level])
        for count, expected in zip(counts, case[level], strict=True):
            assert {key: getattr(count, key) for key in expected} == pytest.approx(expected), level
