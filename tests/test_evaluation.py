"""`sepbench.evaluate`: arrays and tensors through the same judge."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import sepbench
from scored_files import AUDIO, CASES, ERROR, RATE_HZ, check_golden, figures, golden_cases, put

E, S = AUDIO[:2] + ERROR[:2], AUDIO[:2]
X = S.sum(0)


def evaluate(**given):
    told = sepbench.evaluate(**given)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    return told


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", [*CASES, "many_4", "many_6", "many_8"])
def test_every_golden_case_scores_as_the_golden_file_says(shared, name, dtype):
    case = golden_cases(shared)[name]
    sounds = {"estimate": case.estimates, "reference": case.references, "mixture": case.mixture}
    labels = {} if case.reference_labels is None else {
        "estimate_labels": case.estimate_labels, "reference_labels": case.reference_labels
    }  # fmt: skip
    told = evaluate(**{key: torch.tensor(sound).to(dtype) for key, sound in sounds.items()}, **labels)
    check_golden(case, told["scenes"][0])


def test_arrays_score_as_the_same_files_do(tmp_path):
    put(tmp_path / "ref/0/mixture.wav", X)
    for i, label in enumerate(("dog", "siren")):
        put(tmp_path / f"ref/0/{i}_{label}.wav", S[i])
        put(tmp_path / f"est/0/{i}_{label}.wav", E[i])
    of_files = figures(tmp_path, "--reference", tmp_path / "ref", "--estimate", tmp_path / "est")
    labels = {"estimate_labels": ["dog", "siren"], "reference_labels": ["dog", "siren"]}
    of_arrays = evaluate(estimate=E, reference=S, mixture=X, **labels)
    assert {key: of_files[key] for key in ("signature", "summary", "counts", "sepbench")} == {
        key: of_arrays[key] for key in ("signature", "summary", "counts", "sepbench")
    }
    assert of_arrays["scenes"] == [{key: of_files["scenes"][0][key] for key in of_arrays["scenes"][0]}]


def test_numpy_and_torch_batches_and_lists_say_the_same():
    estimate, reference, mixture = np.stack([E, E[::-1]]), np.stack([S, S]), np.stack([X, X])
    batch = evaluate(estimate=estimate, reference=reference, mixture=mixture)
    assert [each["pairs"] for each in batch["scenes"]] == [[[0, 0], [1, 1]], [[0, 1], [1, 0]]]
    assert [each["scene"] for each in batch["scenes"]] == ["0", "1"]
    tensors = [torch.tensor(each) for each in (estimate, reference, mixture)]
    assert evaluate(estimate=tensors[0], reference=tensors[1], mixture=tensors[2]) == batch
    assert evaluate(estimate=list(estimate), reference=list(reference), mixture=list(mixture)) == batch
    assert evaluate(estimate=list(tensors[0]), reference=reference, mixture=mixture[:, None]) == batch


def test_scenes_of_a_list_may_differ_in_length_and_number_of_sources():
    told = evaluate(
        estimate=[E, E[:1, :500], np.zeros((0, 300)), AUDIO[:1]],
        reference=[S[:1], S[:, :500], S[:, :300], np.zeros((0, 800))],
        mixture=[X, X[:500], X[:300], X],
    )
    assert [each["pairs"] for each in told["scenes"]] == [[[0, 0]], [[0, 0]], [], []]
    assert [(each["missed"], each["extra"]) for each in told["scenes"]] == [(0, 1), (1, 0), (2, 0), (0, 1)]
    assert told["summary"]["si_sdri"]["n"] == 2


def test_what_is_not_given_is_not_measured():
    assert not {"si_sdri", "snri", "si_sdr_mixture", "ca_sdri"} & evaluate(estimate=E, reference=S)["signature"].keys()
    blind = evaluate(estimate=E, reference=S, mixture=X, reference_labels=["dog", "siren"])
    assert "si_sdri" in blind["summary"] and "ca_sdri" not in blind["signature"]
    assert evaluate(estimate=E, reference=S, metrics=["snr"])["summary"].keys() == {"snr"}
    assert evaluate(estimate=E, reference=S, metrics=["snr"])["scenes"][0]["pairs"] == [[0, 0], [1, 1]]


def test_bss_eval_is_measured_where_it_is_asked_for():
    long = np.random.default_rng(0).standard_normal((3, 2 * 4000))
    told = evaluate(estimate=long[:2] + 0.1 * long[2], reference=long[:2], sample_rate_hz=4000, metrics=["bss_eval"])
    assert told["summary"].keys() == {"bss_sdr", "bss_isr", "bss_sir", "bss_sar"}
    assert told["summary"]["bss_sdr"]["mean"] == pytest.approx(20, abs=1)


def test_numbers_of_any_kind_are_taken_as_they_are():
    whole = np.round(AUDIO * 1000).astype(np.int16)
    expected = evaluate(estimate=whole[:2].astype(float), reference=whole[2:].astype(float))
    assert evaluate(estimate=whole[:2], reference=whole[2:]) == expected
    assert evaluate(estimate=torch.tensor(E, requires_grad=True), reference=S)["summary"]["si_sdr"]["n"] == 2
    assert evaluate(estimate=E.astype(np.float16), reference=S)["summary"]["si_sdr"]["n"] == 2


def bad(sound, i, value):
    sound = sound.copy()
    sound[i] = value
    return sound


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"estimate": E[0]}, "estimate is 800; wanted (source, time), (batch, source, time) or a list"),
        ({"estimate": [E[0], E[1]], "reference": [S, S]}, "estimate, scene 0 is 800; wanted (source, time)"),
        ({"reference": np.zeros((2, 0))}, "reference, scene 0 is 2x0; wanted (source, time) with at least one sample"),
        ({"estimate": [E], "reference": [S, S]}, "estimate is of 1 scenes and reference of 2: each scene needs both"),
        ({"estimate": [], "reference": []}, "reference: an empty list"),
        ({"estimate": E[:, :700]}, "estimate, scene 0 is 2x700 and reference 2x800: both must have the same time axis"),
        ({"mixture": X[:700]}, "mixture, scene 0 is 1x700 and reference 2x800: both must have the same time axis"),
        ({"mixture": np.zeros((1, 2, 800))}, "mixture, scene 0 is 1x2x800; wanted (time,) or (channel, time)"),
        ({"estimate": [E, E], "reference": [S, S], "mixture": [X]}, "mixture is of 1 scenes and reference of 2"),
        ({"estimate": bad(E, (1, 7), np.nan)}, "estimate, scene 0: source 1, sample 7 is nan; it must be finite"),
        ({"reference": [S, bad(S, (0, 3), np.inf)], "estimate": [E, E]}, "reference, scene 1: source 0, sample 3 is inf"),
        ({"mixture": bad(X, 5, -np.inf)}, "mixture, scene 0: sample 5 is -inf"),
        ({"estimate": "est.wav"}, "estimate: wanted an array or a tensor of numbers, got str"),
        ({"estimate": E + 1j}, "estimate: holds complex"),
        ({"metrics": ["si_sdrr"]}, "metrics: there is no metric 'si_sdrr'. Did you mean 'si_sdr'?"),
        ({"metrics": "si_sdr"}, "metrics: wanted a list such as ['si_sdr'], got a text"),
        ({"metrics": ["si_sdri"]}, "metrics si_sdri: needs the mixtures"),
        ({"metrics": ["ca_sdri"], "mixture": X}, "metrics ca_sdri: needs labels"),
        ({"metrics": ["bss_eval"]}, "metrics: BSS Eval is of windows of 1 s; give sample_rate_hz"),
        ({"estimate_labels": ["a", "b"]}, "estimate_labels without reference_labels"),
        ({"reference_labels": ["a"]}, "reference_labels, scene 0: 1 labels for 2 sources; each needs one"),
        ({"reference_labels": "ab"}, "reference_labels: wanted a list of labels"),
        ({"reference_labels": ["a", ""]}, "reference_labels, scene 0: '' is no label"),
        ({"reference_labels": ["a", 3]}, "reference_labels, scene 0: 3 is no label"),
        ({"sample_rate_hz": 0}, "sample_rate_hz: must be a positive whole number, such as 16000, got 0"),
        ({"sample_rate_hz": -16000}, "sample_rate_hz: must be a positive whole number, such as 16000, got -16000"),
        ({"sample_rate_hz": "16k"}, "sample_rate_hz: must be a positive whole number, such as 16000, got '16k'"),
        ({"sample_rate_hz": float("nan")}, "got nan"),
        ({"sample_rate_hz": True}, "got True"),
        ({"sample_rate_hz": [16000]}, "got [16000]"),
        ({"estimate_labels": 5, "reference_labels": ["a", "b"]}, "estimate_labels: wanted a list of labels"),
        ({"reference_labels": np.array(3)}, "reference_labels: wanted a list of labels"),
        ({"estimate": [E], "reference": [S], "reference_labels": [5]}, "reference_labels: wanted a list of labels for each"),
        ({"metrics": 5}, "metrics: wanted a list of names such as ['si_sdr'], got 5"),
        ({"metrics": [5]}, "metrics: wanted a list of names such as ['si_sdr'], got [5]"),
        ({"estimate": [E], "reference": [S], "mixture": 5}, "mixture"),
        ({"estimate": [E], "reference": [S], "mixture": "mix.wav"}, "mixture: wanted an array or a tensor"),
        ({"mixture": 5}, "mixture"),
        ({"estimate": 5}, "estimate"),
        ({"reference": None}, "reference"),
        ({"estimate": E[None], "reference": S[None], "reference_labels": ["a", "b"]}, "a list of labels for each scene, in a"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(given, said):
    with pytest.raises(ValueError) as caught:
        sepbench.evaluate(**{"estimate": E, "reference": S, **given})
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_batches_of_tensors_on_a_gpu_score_as_on_the_cpu():
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    on_gpu = evaluate(estimate=torch.tensor(E).cuda(), reference=torch.tensor(S).cuda(), mixture=torch.tensor(X).cuda())
    for name, entry in evaluate(estimate=E, reference=S, mixture=X)["summary"].items():
        assert on_gpu["summary"][name]["mean"] == pytest.approx(entry["mean"], abs=1e-6)


def test_the_example_of_the_docstring_works():
    figures = sepbench.evaluate(estimate=E, reference=S, mixture=X, sample_rate_hz=RATE_HZ)
    assert figures["summary"]["si_sdri"]["mean"] == pytest.approx(20, abs=3)
    assert "figures[\"summary\"][\"si_sdri\"][\"mean\"]" in sepbench.evaluate.__doc__


def test_every_metric_of_the_signature_has_an_entry_in_the_summary():
    empty = {"mean": None, "median": None, "n": 0, "undefined": 0, "ci95": None}
    nothing = np.zeros((0, 800))
    labels = {"estimate_labels": [], "reference_labels": []}
    for given in ({"estimate": nothing}, {"estimate": nothing, **labels}, {"estimate": E[:0]}):
        told = evaluate(reference=nothing, mixture=X, **given)
        assert told["summary"].keys() == told["signature"].keys()
        assert told["summary"]["si_sdri"] == told["summary"]["si_sdr_mixture"] == empty
    told = evaluate(estimate=E, reference=nothing, mixture=X, metrics=["snr"])
    assert told["summary"] == {"snr": empty}


def test_a_sample_rate_is_taken_as_any_whole_number():
    expected = evaluate(estimate=E, reference=S, sample_rate_hz=16000)
    for rate_hz in (np.int64(16000), 16000.0):
        assert evaluate(estimate=E, reference=S, sample_rate_hz=rate_hz) == expected
