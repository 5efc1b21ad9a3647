"""The strategy of REDUX with scripted taggers and separators: every case, step by step, and what it asks for."""

from __future__ import annotations

import json

import pytest
import torch
from redux_scripts import N_SAMPLES, NAMES, Script, World, answer, equal, listed, names, noise, rules, said

CONFIDENT = (0.95, 0.9, 0.85, 0.8, 0.75)


def first(n_sources: int) -> list[torch.Tensor]:
    """C_1: a, b, ... by falling probability."""
    return [said(**dict(zip(NAMES, CONFIDENT[:n_sources])))]


def second(n_sources: int, n_confirmed: int) -> list[torch.Tensor]:
    """C_2: the first are heard as asked; the others, more surely than C_1 was, as f, g, ..."""
    others = [said(**{NAMES[5 + i]: 0.96}) for i in range(n_sources - n_confirmed)]
    return [said(**{NAMES[i]: 0.97}) for i in range(n_confirmed)] + others


@pytest.mark.parametrize("n_sources", range(1, 6))
def test_case_one_stops(n_sources: int):
    script = Script(first(n_sources), second(n_sources, n_sources))
    verdict = script.run()
    assert script.calls == ["tag 1", f"separate {'abcde'[:n_sources]}", f"tag {n_sources}"]
    assert equal(verdict.sources, *(script.output(0, k) for k in range(n_sources)))
    assert names(verdict) == "abcde"[:n_sources]
    assert verdict.confidences.tolist() == pytest.approx([0.97] * n_sources)
    assert [each["case"] for each in verdict.decisions] == ["I"]


@pytest.mark.parametrize("n_sources", range(2, 6))
def test_case_two_takes_what_the_others_leave(n_sources: int):
    n_confirmed = n_sources - 1
    script = Script(first(n_sources), second(n_sources, n_confirmed), [said(k=0.7)])
    verdict = script.run()
    outputs = [script.output(0, k) for k in range(n_confirmed)]
    left = script.mixture[0] - torch.stack(outputs).sum(0)
    assert script.calls[1:] == ["separate " + "abcde"[:n_sources], f"tag {n_sources}", "tag 1"]
    assert equal(verdict.sources, *outputs, left) and torch.equal(script.tagged[-1][0], left)
    assert names(verdict) == "abcde"[:n_confirmed] + "k"
    (decision,) = verdict.decisions
    assert decision["case"] == "II" and decision["residual"] == {"label": "k", "probability": 0.7, "kept": True}


@pytest.mark.parametrize(("n_sources", "n_confirmed"), [(n, a) for n in range(3, 6) for a in range(1, n - 1)])
def test_case_three_goes_on_with_the_residual(n_sources: int, n_confirmed: int):
    n_open = n_sources - n_confirmed
    again = "klmn"[:n_open]
    third = [said(**{name: 0.98 for name in again})]
    script = Script(first(n_sources), second(n_sources, n_confirmed), third, [said(**{name: 0.99}) for name in again])
    verdict = script.run()
    left = script.mixture[0] - torch.stack([script.output(0, k) for k in range(n_confirmed)]).sum(0)
    assert script.calls[1:] == [
        f"separate {'abcde'[:n_sources]}",
        f"tag {n_sources}",
        "tag 1",
        f"separate {again}",
        f"tag {n_open}",
    ]
    assert torch.equal(script.separated[1][0], left) and torch.equal(script.tagged[2][0], left)
    kept, new = [script.output(0, k) for k in range(n_confirmed)], [script.output(1, k) for k in range(n_open)]
    assert equal(verdict.sources, *kept, *new)
    assert [each["case"] for each in verdict.decisions] == ["III", "I"]
    assert "labels" not in verdict.decisions[0] and names(verdict) == "abcde"[:n_confirmed] + again


@pytest.mark.parametrize("n_sources", range(1, 6))
def test_case_four_separates_once_more_by_the_more_probable_labels(n_sources: int):
    script = Script(first(n_sources), second(n_sources, 0))
    verdict = script.run()
    picked = "fghij"[:n_sources]
    assert script.calls[1:] == ["separate " + "abcde"[:n_sources], f"tag {n_sources}", "separate " + picked]
    assert torch.equal(script.separated[1], script.mixture) and names(verdict) == picked
    assert equal(verdict.sources, *(script.output(1, k) for k in range(n_sources)))
    assert [each["case"] for each in verdict.decisions] == ["IV"]


def test_in_case_four_the_more_probable_of_both_classifiers_is_believed():
    script = Script([said(a=0.9, b=0.6)], [said(c=0.8), said(d=0.7)])
    verdict = script.run()
    assert names(verdict) == "ad" and verdict.confidences.tolist() == pytest.approx([0.9, 0.7])


# nested cases, every decision


FOUR = [said(a=0.9, b=0.8, c=0.7, d=0.6)]
HEARD_ONE_OF_FOUR = [said(a=0.95), said(f=0.4), said(g=0.75), said(f=0.2)]
ROUND_ONE = {
    "round": 1, "case": "III",
    "mixture": listed("abcd", 0.9, 0.8, 0.7, 0.6), "heard": listed("afgf", 0.95, 0.4, 0.75, 0.2),
    "confirmed": [True, False, False, False], "picks": listed("abgd", 0.95, 0.8, 0.75, 0.6),
    "repeated": [], "capped": False,
}  # fmt: skip


def test_three_then_two():
    residual = [said(b=0.85, c=0.8, d=0.65, e=0.6)]
    script = Script(FOUR, HEARD_ONE_OF_FOUR, residual, [said(b=0.9), said(c=0.9), said(h=0.3)], [said(i=0.66, b=0.3)])
    verdict = script.run()
    assert script.calls == ["tag 1", "separate abcd", "tag 4", "tag 1", "separate bcd", "tag 3", "tag 1"]
    left = script.mixture[0] - script.output(0, 0) - (script.output(1, 0) + script.output(1, 1))
    assert equal(verdict.sources, script.output(0, 0), script.output(1, 0), script.output(1, 1), left)
    assert verdict.decisions == [
        ROUND_ONE,
        {
            "round": 2, "case": "II",
            "mixture": listed("bcd", 0.85, 0.8, 0.65), "heard": listed("bch", 0.9, 0.9, 0.3),
            "confirmed": [True, True, False], "picks": listed("bci", 0.9, 0.9, 0.66),
            "repeated": [], "capped": False, "residual": {"label": "i", "probability": 0.66, "kept": True},
            "labels": ["a", "b", "c", "i"],
        },
    ]  # fmt: skip


def test_three_then_four():
    residual = [said(b=0.85, c=0.8, e=0.3)]
    script = Script(FOUR, HEARD_ONE_OF_FOUR, residual, [said(h=0.9), said(i=0.7), said(j=0.2)])
    verdict = script.run()
    assert script.calls[3:] == ["tag 1", "separate bce", "tag 3", "separate hcd"]
    assert torch.equal(script.separated[2], script.separated[1])  # the round's mixture, not the scene's
    assert equal(verdict.sources, script.output(0, 0), *(script.output(2, k) for k in range(3)))
    assert verdict.decisions[1:] == [
        {
            "round": 2, "case": "IV",
            "mixture": listed("bce", 0.85, 0.8, 0.3), "heard": listed("hij", 0.9, 0.7, 0.2),
            "confirmed": [False, False, False], "picks": listed("hcd", 0.9, 0.8, 0.6),
            "repeated": [], "capped": False, "labels": ["a", "h", "c", "d"],
        }
    ]  # fmt: skip


def test_three_then_three_then_one():
    five = [said(a=0.9, b=0.85, c=0.8, d=0.75, e=0.7)]
    script = Script(
        five, [said(a=0.9), *(said(f=0.1) for _ in range(4))],
        [said(b=0.9, c=0.9, d=0.9, e=0.9)], [said(f=0.1), said(c=0.9), said(f=0.1), said(f=0.1)],
        [said(b=0.9, d=0.9, e=0.9)], [said(b=0.9), said(d=0.9), said(e=0.9)],
    )  # fmt: skip
    verdict = script.run()
    assert script.calls[3::3] == ["tag 1", "tag 1"] and script.calls[1::3] == [
        "separate abcde",
        "separate bcde",
        "separate bde",
    ]
    assert [(each["round"], each["case"]) for each in verdict.decisions] == [(1, "III"), (2, "III"), (3, "I")]
    left = script.mixture[0] - script.output(0, 0)
    assert torch.equal(script.separated[1][0], left) and torch.equal(script.separated[2][0], left - script.output(1, 1))
    places = [script.output(*place) for place in [(0, 0), (2, 0), (1, 1), (2, 1), (2, 2)]]
    assert names(verdict) == "abcde" and equal(verdict.sources, *places)


def test_the_residual_never_bears_a_label_that_is_confirmed():
    script = Script(
        [said(a=0.9, b=0.8, c=0.7)], [said(a=0.9), said(f=0.2), said(f=0.2)],
        [said(a=0.99, b=0.8, c=0.7)], [said(b=0.9), said(c=0.9)],
    )  # fmt: skip
    assert names(script.run()) == "abc" and script.calls[4] == "separate bc"


def test_an_earlier_and_surer_word_stands_against_two_that_agree():
    """The safeguard of case III: the pick is that of the highest probability, and what is heard must be the pick."""
    three, heard = [said(a=0.9, b=0.8, c=0.7)], [said(a=0.9), said(f=0.9), said(g=0.2)]
    script = Script(three, heard, [said(b=0.6, c=0.8)], [said(b=0.7), said(c=0.9)], [said(k=0.7)])
    verdict = script.run()
    assert verdict.decisions[1]["case"] == "II" and verdict.decisions[1]["confirmed"] == [False, True]


def test_a_surer_second_hearing_does_not_confirm_what_it_was_not_separated_by():
    script = Script([said(a=0.9, b=0.8, c=0.7)], [said(a=0.9), said(f=0.2), said(f=0.2)],
                    [said(b=0.8, c=0.8)], [said(h=0.99), said(c=0.9)], [said(k=0.7)])  # fmt: skip
    decision = script.run().decisions[1]
    assert decision["case"] == "II" and decision["confirmed"] == [False, True]


def test_labels_of_a_residual_go_to_who_carries_them_then_by_probability():
    three, heard = [said(a=0.9, b=0.6, c=0.8)], [said(a=0.9), said(f=0.2), said(f=0.2)]
    script = Script(three, heard, [said(g=0.9, b=0.5)], [said(g=0.9), said(b=0.9)])  # places: a, c, b
    script.run()
    assert script.calls[4] == "separate gb"
    four, heard = [said(a=0.9, b=0.8, c=0.7, d=0.6)], [said(a=0.9), said(g=0.1), said(h=0.75), said(i=0.95)]
    script = Script(four, heard, [said(e=0.9, f=0.8, b=0.7)], [said(b=0.9), said(f=0.9), said(e=0.96)])
    script.run()
    assert script.calls[4] == "separate bfe"  # i is carried by 0.95, h by 0.75


# the cap


@pytest.mark.parametrize("n_sources", [3, 4, 5])
def test_where_the_cap_ends_it_outputs_stay_with_their_picks(n_sources: int):
    script = Script(first(n_sources), second(n_sources, 1))
    verdict = script.run(max_rounds=1)
    assert script.calls[1:] == ["separate " + "abcde"[:n_sources], f"tag {n_sources}"]
    assert names(verdict) == "a" + "fghi"[: n_sources - 1]
    assert equal(verdict.sources, *(script.output(0, k) for k in range(n_sources)))
    assert verdict.decisions[0]["case"] == "III" and verdict.decisions[0]["capped"]


def test_the_cap_ends_a_later_round_and_drops_silence():
    residual = [said(b=0.85, c=0.8, d=0.65)]
    heard = [said(b=0.9), said(f=0.1), said(h=0.3)]
    script = Script(FOUR, [said(a=0.95), *(said(f=0.1) for _ in range(3))], residual, heard, quiet=[(1, 2)])
    verdict = script.run(max_rounds=2, silence_probability=0.7)
    assert verdict.decisions[1]["capped"] and not verdict.decisions[0]["capped"]
    assert verdict.decisions[1]["picks"] == listed("bc-", 0.9, 0.8, 0.7)
    assert (
        equal(verdict.sources, script.output(0, 0), script.output(1, 0), script.output(1, 1))
        and names(verdict) == "abc"
    )


# silence


@pytest.mark.parametrize(
    ("loud", "probability", "silent"), [(0.001, 0.49, True), (0.001, 0.5, False), (0.02, 0.49, False), (0.0, 0.1, True)]
)
def test_silence_is_quiet_and_holds_no_class(loud: float, probability: float, silent: bool):
    mixture = noise(0, 1, N_SAMPLES)

    def separator(mixtures, labels):
        return [loud * mixtures[0] + torch.zeros(len(labels[0]), 1)]

    heard = iter([said(a=0.505), said(f=probability)])
    (verdict,) = answer([mixture], rules(), lambda _: next(heard)[None], separator, True)
    assert verdict.decisions[0]["heard"] == (listed("-", 0.51) if silent else listed("f", probability))


def test_the_silence_of_a_silent_scene_is_silence():
    heard = iter([said(a=0.505), said(f=0.1)])
    mixture = torch.zeros(1, N_SAMPLES)
    (verdict,) = answer([mixture], rules(), lambda _: next(heard)[None], lambda mixtures, _: list(mixtures), True)
    assert verdict.decisions[0]["heard"] == listed("-", 0.51)


def test_silence_is_held_against_the_scene_not_against_a_quiet_residual():
    """What two outputs leave may be quiet as a whole: then the sounds in it are silence, too."""

    def separator(mixtures, labels):
        louder = {0: mixtures[0, 0] * (1 - 1e-4)}
        return [torch.stack([louder.get(label, 0.5 * mixtures[0, 0]) for label in labels[0]])]

    heard = iter([[said(a=0.9, b=0.505, c=0.502)], [said(a=0.9), said(f=0.1), said(f=0.1)],
                  [said(b=0.3, c=0.3)], [said(b=0.3), said(c=0.3)]])  # fmt: skip
    (verdict,) = answer([noise(0, 1, N_SAMPLES)], rules(), lambda _: torch.stack(next(heard)), separator, True)
    assert verdict.decisions[1]["heard"] == listed("--", 0.51, 0.51)
    assert [each["case"] for each in verdict.decisions] == ["III", "IV"] and names(verdict) == "a"


def test_in_a_later_case_two_silence_is_held_against_the_scene_too():
    """What is left in round 2 is 30 dB below that round's mixture, which is 30 dB below the scene's."""

    def separator(mixtures, labels):
        return [torch.stack([0.97 * mixtures[0, 0]] * len(labels[0]))]

    heard = iter([[said(a=0.9, b=0.8, c=0.7)], [said(a=0.95), said(f=0.4), said(g=0.4)],
                  [said(b=0.85, c=0.8)], [said(b=0.9), said(h=0.3)], [said(i=0.3)]])  # fmt: skip
    (verdict,) = answer([noise(0, 1, N_SAMPLES)], rules(), lambda _: torch.stack(next(heard)), separator, True)
    assert [each["case"] for each in verdict.decisions] == ["III", "II"] and names(verdict) == "ab"
    assert verdict.decisions[1]["residual"] == {"label": "silence", "probability": 0.51, "kept": False}


def test_silence_counts_as_much_as_a_label_of_its_probability():
    for probability, left in ((0.52, "ab"), (0.505, "a")):
        script = Script([said(a=0.9, b=probability)], [said(f=0.2), said(f=0.2)], quiet=[(0, 1)])
        verdict = script.run()
        assert names(verdict) == left and script.calls[-1] == f"separate {left}"
    assert verdict.decisions[0]["picks"] == listed("a-", 0.9, 0.51)


@pytest.mark.parametrize("n_sources", range(1, 6))
def test_something_is_left_where_all_would_be_silence(n_sources: int):
    mixture = [said(**{name: 0.505 - i / 1000 for i, name in enumerate(NAMES[:n_sources])})]
    heard = [said(f=0.1) for _ in range(n_sources)]
    quiet = [(0, k) for k in range(n_sources)]
    verdict = Script(mixture, heard, quiet=quiet).run(threshold=0.5)
    assert names(verdict) == "a" and len(verdict.sources) == 1
    verdict = Script(mixture, heard, quiet=quiet).run(fewest=0)
    assert names(verdict) == "" and verdict.sources.shape == (0, N_SAMPLES)
    assert verdict.decisions[0]["labels"] == []


@pytest.mark.parametrize("surer", [0, 1])
def test_of_outputs_that_are_all_silent_the_one_with_the_likeliest_label_is_left(surer: int):
    heard = [said(g=0.58) if k == surer else said(f=0.1) for k in range(2)]
    script = Script([said(a=0.505, b=0.502)], heard, quiet=[(0, 0), (0, 1)])
    verdict = script.run(silence_threshold=0.6)
    assert names(verdict) == "g" and script.calls[-1] == "separate g"
    assert verdict.decisions[0]["picks"]["labels"] == ["g" if k == surer else "silence" for k in range(2)]


@pytest.mark.parametrize("said_of_it", [said(a=0.9), said(d=0.3)], ids=["repeats", "silence"])
def test_case_two_drops_what_repeats_or_is_silence(said_of_it: torch.Tensor):
    script = Script([said(a=0.9, b=0.8)], [said(a=0.9), said(f=0.2)], [said_of_it])
    script.output = lambda *place: script.mixture[0] * (1.0 - 1e-4)  # a hair of the mixture is left
    verdict = script.run()
    assert names(verdict) == "a" and len(verdict.sources) == len(verdict.confidences) == 1
    label = "a" if said_of_it[0] > 0.5 else "silence"
    told = verdict.decisions[0]["residual"]
    assert (told["label"], told["kept"]) == (label, False)
    assert verdict.decisions[0]["picks"]["labels"] == ["a", "silence"]


# repeated labels


TWICE = ([said(a=0.9, b=0.8)], [said(c=0.95), said(c=0.97, d=0.3)])


@pytest.mark.parametrize(
    ("duplicates", "labels", "repeated"),
    [("next_best", "ac", [[0, "c", "a"]]), ("drop", "c", [[0, "c", None]]), ("keep", "cc", [])],
)
def test_a_label_picked_twice_stays_with_the_more_probable(duplicates: str, labels: str, repeated: list):
    verdict = Script(*TWICE).run(duplicates=duplicates)
    # of all that C_1 and C_2 said of output 0, a is next, by 0.9
    assert names(verdict) == labels and verdict.decisions[0]["repeated"] == repeated


def test_the_next_best_label_is_one_that_nobody_has():
    heard = [said(d=0.96), said(d=0.97), said(e=0.98)]
    script = Script([said(a=0.9, b=0.8, c=0.7)], [heard[0], said(d=0.97, e=0.95), said(a=0.98)])
    verdict = script.run()
    # output 0 loses d to output 1, and a to output 2: b is the next of C_1's
    assert names(verdict) == "bda" and verdict.decisions[0]["repeated"] == [[0, "d", "b"]]


@pytest.mark.parametrize(
    ("duplicates", "cases", "labels"), [("next_best", ["III", "I"], "abc"), ("drop", ["III", "I"], "ac")]
)
def test_a_repeat_of_a_confirmed_label_goes_not_into_the_next_round(duplicates: str, cases: list[str], labels: str):
    again = [said(b=0.9), said(c=0.95)] if duplicates == "next_best" else [said(c=0.95)]
    script = Script(
        [said(a=0.9, b=0.8, c=0.7)], [said(a=0.9), said(a=0.99, b=0.3), said(f=0.2)],
        [said(c=0.9, b=0.85)], again,
    )  # fmt: skip
    verdict = script.run(duplicates=duplicates)
    assert [each["case"] for each in verdict.decisions] == cases and names(verdict) == labels
    assert verdict.decisions[0]["repeated"] == [[1, "a", "b" if duplicates == "next_best" else None]]


def test_two_repeats_do_not_take_the_same_label():
    script = Script([said(a=0.9, b=0.8, c=0.7)], [said(d=0.97), said(d=0.96), said(d=0.95)])
    assert names(script.run()) == "dab"


def test_where_repeats_are_dropped_the_confirmed_may_be_all():
    script = Script([said(a=0.9, b=0.7, c=0.6)], [said(a=0.9), said(a=0.8), said(a=0.75)])
    verdict = script.run(duplicates="drop")
    assert script.calls[-1] == "tag 3" and equal(verdict.sources, script.output(0, 0)) and names(verdict) == "a"
    (decision,) = verdict.decisions
    assert (decision["case"], decision["capped"], decision["labels"]) == ("III", False, ["a"])
    assert decision["repeated"] == [[1, "a", None], [2, "a", None]] and decision["picks"] == listed(
        "a--", 0.9, 0.51, 0.51
    )


def test_labels_that_repeat_are_kept_where_classes_do():
    script = Script([said(a=0.9, b=0.8)], [said(a=0.9), said(f=0.2)], [said(a=0.7)])
    assert names(script.run(duplicates="keep")) == "aa"
    again = [said(a=0.95, b=0.9)]
    script = Script(
        [said(a=0.9, b=0.8, c=0.7)], [said(a=0.9), said(f=0.2), said(f=0.2)], again, [said(a=0.9), said(b=0.9)]
    )
    assert sorted(names(script.run(duplicates="keep"))) == ["a", "a", "b"]


# how many


@pytest.mark.parametrize(
    ("fewest", "most", "named"),
    [(1, 3, "ac"), (1, 1, "a"), (3, 3, "acd"), (0, 3, "ac"), (3, 5, "acd"), (5, 5, "acdbe")],
)
def test_the_first_classifier_names_as_many_as_a_scene_may_hold(fewest: int, most: int, named: str):
    script = Script([said(a=0.9, b=0.2, c=0.5, d=0.49)])
    verdict = script.run(verify=False, fewest=fewest, most=most)
    assert names(verdict) == named
    (decision,) = verdict.decisions
    assert decision["case"] == "none" and decision["mixture"]["labels"] == decision["labels"] == list(named)


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize(("fewest", "labels"), [(0, ""), (1, "d")])
def test_below_the_threshold_one_is_named_unless_a_scene_may_hold_none(fewest: int, labels: str, verify: bool):
    heard = [[said(d=0.9)]] if verify and labels else []
    verdict = Script([said(d=0.4, a=0.3)], *heard).run(verify=verify, fewest=fewest)
    assert names(verdict) == labels and verdict.sources.shape == (len(labels), N_SAMPLES)
    assert verdict.decisions[0]["case"] == ("I" if verify else "none")


def test_an_answer_never_has_fewer_sources_than_every_scene():
    script = Script([said(a=0.9, b=0.8)], [said(a=0.9), said(f=0.2)], [said(a=0.9, g=0.3)])
    verdict = script.run(fewest=2, most=2)
    assert names(verdict) == "ag" and verdict.decisions[0]["residual"] == {
        "label": "a",
        "probability": 0.9,
        "kept": True,
    }
    script = Script([said(a=0.505, b=0.502)], [said(f=0.1), said(g=0.1)], quiet=[(0, 0), (0, 1)])
    assert sorted(names(script.run(fewest=2, most=2))) == ["a", "b"]
    assert names(Script(*TWICE).run(fewest=2, most=2, duplicates="drop")) == "ac"
    again = (
        [said(a=0.9, b=0.8, c=0.7)],
        [said(a=0.9), said(a=0.85), said(a=0.75)],
        [said(b=0.9, c=0.9)],
        [said(b=0.9), said(c=0.9)],
    )
    assert names(Script(*again).run(fewest=3, most=3, duplicates="drop")) == "abc"
    script = Script([said(a=0.505, b=0.502)], [said(f=0.1), said(g=0.1)], quiet=[(0, 0), (0, 1)])
    assert sorted(names(script.run(fewest=2, most=2, duplicates="keep"))) == ["a", "b"]


# laws


SCENES = [[0], [3, 7], [1, 2, 5], [0, 4, 8, 11], [2, 3, 6, 9, 10], [5], [1, 10]]


@pytest.mark.parametrize("n_channels", [1, 4])
def test_with_a_tagger_that_is_always_right_it_is_the_separator_alone(n_channels: int):
    world = World(1.0)
    scenes = [world.scene(labels, n_channels) for labels in SCENES]
    alone, verified = (answer(scenes, rules(), world.tagger, world.separator, verify) for verify in (False, True))
    for one, other, labels in zip(alone, verified, SCENES):
        assert torch.equal(one.sources, other.sources) and one.labels == other.labels
        assert sorted(one.labels) == labels and [each["case"] for each in other.decisions] == ["I"]


@pytest.mark.parametrize("duplicates", ["next_best", "drop", "keep"])
@pytest.mark.parametrize("residual", ["reference_channel", "mask_all"])
def test_scenes_together_are_answered_as_one_by_one_and_lawfully(duplicates: str, residual: str):
    world = World(0.95)
    scenes = [world.scene(labels, 2) for labels in SCENES]
    scenes = [scene * gain for scene in scenes for gain in (1.0, 1.1, 1.2, 1.3, 1.4, 1.5)]
    own = rules(duplicates=duplicates, residual=residual)
    together = answer(scenes, own, world.tagger, world.separator, True)
    n_together, world.n_calls = world.n_calls, 0
    alone = [answer([scene], own, world.tagger, world.separator, True)[0] for scene in scenes]
    assert n_together < world.n_calls / 5
    cases = {decision["case"] for verdict in together for decision in verdict.decisions}
    assert cases == {"I", "II", "III", "IV"}
    for one, other in zip(together, alone):
        assert torch.equal(one.sources, other.sources) and one.labels == other.labels
        assert one.decisions == other.decisions == json.loads(json.dumps(one.decisions))
        n_first = len(one.decisions[0]["mixture"]["labels"])
        assert 1 <= len(one.labels) == len(one.sources) <= n_first and len(one.decisions) <= n_first
        assert duplicates == "keep" or len(set(one.labels)) == len(one.labels)
        assert one.decisions[-1]["labels"] == [NAMES[label] for label in one.labels]
