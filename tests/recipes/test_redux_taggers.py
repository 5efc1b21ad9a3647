"""The taggers of REDUX: what they learn from, that they learn it, and that they learn it once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from redux_scenes import FOA, MONO, Tones, clips, training

from sepbench.errors import UserError
from sepbench.loading import load_from
from sepbench.scene import TaskInfo
from sepbench.training import Schedule

FOLDER = Path(__file__).resolve().parents[2] / "recipes" / "redux"
load_from(FOLDER, "taggers.py", "M2dTagger")
from recipes.redux import kept, separating, taggers  # noqa: E402  (a package once it is loaded)
from recipes.redux.lessons import SILENT_DB, Lessons, firsts  # noqa: E402
from recipes.redux.separators import build_separator  # noqa: E402
from recipes.redux.tagger_cnn import CnnTagger  # noqa: E402

SIZES = SimpleNamespace(
    tagger_channels=(8, 16, 16, 16, 16), tagger_convs=1, m2d_width=24, m2d_depth=2, m2d_heads=2, m2d_finetuned=1, film=16,
    window=64, hop=32, width=0.25, cardinality=8, spec_augment=4,
)  # fmt: skip
SCHEDULE = Schedule(epochs=2, steps=50, batch=12, valid_batches=3, lr=0.02, patience=2, cosine=True)
BRIEF = replace(SCHEDULE, epochs=1, steps=2, batch=8, valid_batches=1)


def tagger(task: TaskInfo = FOA, kind: str = "cnn", sizes: SimpleNamespace = SIZES) -> torch.nn.Module:
    return taggers.build_tagger(kind, task, sizes, seed=0)


def teach(place, network=None, task=FOA, schedule=BRIEF, file=None, sizes=SIZES, **changed):
    told = training(place, task, **changed)
    network = network or tagger(task, sizes=sizes)
    return taggers.teach(network, file, task, sizes, schedule, told), network, told


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values()))


# what they learn from


@pytest.mark.parametrize("task", [FOA, MONO])
def test_half_a_lesson_is_mixtures_and_the_other_half_sounds_alone(task):
    lesson = Lessons(Tones(1, task), clips(3)).batch(4, 8)
    mixed, alone = Tones(1, task).batch(4, 4), clips(3).batch(4, 4)
    heard = mixed.mixture if task.n_channels == 1 else mixed.mixture[:, 0]
    assert lesson.mixture.shape == (8, 8000)
    assert torch.equal(lesson.mixture[:4], heard) and torch.equal(lesson.mixture[4:7], alone.sources[:3, 0])
    presence = lesson.events.presence()
    assert np.array_equal(presence[:4], mixed.events.presence())
    assert np.array_equal(presence[4:7], np.eye(3, dtype=np.float32)[alone.labels[:3, 0]])


def test_the_last_sound_of_a_lesson_is_silence_and_of_no_class():
    lesson, alone = Lessons(Tones(1), clips(3)).batch(0, 8), clips(3).batch(0, 4)
    torch.testing.assert_close(lesson.mixture[7], alone.sources[3, 0] * 10 ** (SILENT_DB / 20))
    assert not lesson.events.presence()[7].any()


def test_without_clips_the_sounds_alone_are_sources_of_the_mixtures():
    lesson, mixed = Lessons(Tones(1), None).batch(2, 6), Tones(1).batch(2, 3)
    assert torch.equal(lesson.mixture[3:5], mixed.sources[:2, 0])
    assert np.array_equal(lesson.events.presence()[3:5].argmax(1), mixed.labels[:2, 0])


def test_a_lesson_of_one_is_a_mixture():
    lesson = Lessons(Tones(1), clips(3)).batch(0, 1)
    assert torch.equal(lesson.mixture, Tones(1).batch(0, 1).reference)


def test_a_scene_without_sources_has_no_first_one():
    audio, events = firsts(Tones(0, replace(FOA, min_sources=0, max_sources=1)).batch(0, 30))
    sounding = audio.abs().amax(-1) > 0
    assert 0 < sounding.sum() < 30 and np.array_equal(events.presence().any(1), sounding.numpy())


# the network that is trained from nothing


@pytest.mark.parametrize(("convs", "wanted"), [(1, 393_426), (2, 1_178_226)])
def test_it_has_as_many_parameters_as_its_table_says(convs, wanted):
    assert sum(each.numel() for each in CnnTagger(18, 32000, (32, 64, 128, 256), convs).parameters()) == wanted


def test_a_short_event_speaks_for_itself_in_a_long_sound():
    """Of maps with one frame that sounds out of `n`, the mean over time keeps 1 / n and the maximum all."""
    network = tagger().eval()
    event = torch.rand(16, generator=torch.Generator().manual_seed(0))
    for n in (1, 10, 100):
        maps = torch.zeros(1, 16, 4, n)  # (item, channel, mel, frame)
        maps[..., n // 2] = event[:, None]
        network.cnn.maps = lambda _, maps=maps: maps
        with torch.no_grad():
            torch.testing.assert_close(network(torch.zeros(1, 8000)), network.cnn.classes(event[None] * (1 + 1 / n)))


def test_silence_is_heard_without_a_fault_and_a_sound_too_short_is_told():
    network = tagger().eval()
    with torch.no_grad():
        assert network(torch.zeros(2, 8000)).isfinite().all()
    with pytest.raises(UserError, match="too short for the classifier"):
        network(torch.zeros(2, 100))


def test_the_same_seed_builds_the_same_tagger():
    assert same(tagger(), tagger()) and not same(tagger(), taggers.build_tagger("cnn", FOA, SIZES, seed=1))


# learning


def test_it_learns_which_tones_sound_and_that_silence_is_none(tmp_path):
    cost, network, told = teach(tmp_path, schedule=SCHEDULE)
    assert cost["mixtures_right"] > 0.9 and cost["singles_right"] > 0.9
    assert "right about" in told.progress.out.getvalue()
    quiet = 10 ** (SILENT_DB / 20) * clips(5).batch(0, 8).sources[:, 0]
    with torch.no_grad():
        assert network.eval()(quiet).sigmoid().amax() < 0.5


class Few:
    """The first `n` scenes, whose batches start over; it keeps what it has handed out."""

    def __init__(self, scenes: Tones, n: int):
        self.scenes, self.n = scenes, n

    def batch(self, index: int, size: int):
        size = min(size, self.n)
        return self.scenes.batch(index % (self.n // size), size)


@pytest.mark.parametrize("singles", [clips(4), None])
@pytest.mark.parametrize(("n", "n_batches"), [(3, 1), (8, 1), (19, 2), (24, 3), (80, 5)])
def test_no_scene_is_counted_twice_among_those_that_are_right(monkeypatch, singles, n, n_batches):
    counted = []
    monkeypatch.setattr(taggers, "_right", lambda _, audio, events: counted.append(audio) or torch.ones(len(audio)))
    valid = Lessons(Few(Tones(2), n), singles and Few(singles, n))
    taggers.figures(tagger(), valid, replace(BRIEF, batch=8, valid_batches=5))
    scenes = torch.cat(counted)
    assert len(scenes) == 2 * n_batches * min(8, n) and len(scenes.unique(dim=0)) == len(scenes)


def test_what_one_run_has_taught_another_takes(tmp_path):
    cost, network, _ = teach(tmp_path)
    again, other, told = teach(tmp_path, run="another")
    assert again == cost and same(network, other) and told.scenes.asked == told.clips.asked == 0
    assert "trained before, taken from" in told.progress.out.getvalue()


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 1}, {"schedule": replace(BRIEF, lr=0.01)}, {"scenes": Tones(7)}, {"valid": Tones(7)}, {"clips": clips(7)},
        {"clips": None, "valid_clips": None}, {"sizes": SimpleNamespace(**{**vars(SIZES), "tagger_channels": (8, 16, 24)})},
        {"task": replace(FOA, classes=("a", "b", "c"))},
    ],
)  # fmt: skip
def test_what_would_be_learnt_otherwise_is_learnt_anew(tmp_path, changed):
    teach(tmp_path)
    _, _, told = teach(tmp_path, run="another", **changed)
    assert told.scenes.asked > 0


def test_a_separator_s_sizes_teach_no_other_tagger(tmp_path):
    teach(tmp_path)
    _, _, told = teach(tmp_path, run="another", sizes=SimpleNamespace(**{**vars(SIZES), "width": 0.5}))
    assert told.scenes.asked == 0


def test_a_damaged_file_is_written_anew(tmp_path):
    _, network, _ = teach(tmp_path)
    (place,) = (tmp_path / "shared").iterdir()
    place.write_bytes(place.read_bytes()[:-50])
    _, other, told = teach(tmp_path, run="another")
    assert told.scenes.asked > 0 and same(network, other)
    assert teach(tmp_path, run="third")[2].scenes.asked == 0


def test_what_has_no_name_or_no_place_is_not_kept(tmp_path):
    teach(tmp_path, scenes=Tones(1, named=False))
    assert not (tmp_path / "shared").exists()
    teach(tmp_path, run="another", shared=None)
    (tmp_path / "shared").write_text("no folder")
    _, _, told = teach(tmp_path, run="third")
    assert "cannot be kept in" in told.progress.out.getvalue() and "SEPBENCH_CACHE" in told.progress.out.getvalue()


def test_m2d_s_head_and_last_blocks_learn_from_its_checkpoint_on(tmp_path):
    state = {name: value for name, value in tagger(kind="m2d").state_dict().items() if not name.startswith("head")}
    for i in (1, 2):
        torch.save({name: i * value for name, value in state.items()}, tmp_path / f"{i}.pth")
    _, network, _ = teach(tmp_path, tagger(kind="m2d"), file=str(tmp_path / "1.pth"))
    moved = {
        name.split(".")[0] + name.split(".")[1]
        for name, value in state.items()
        if not torch.equal(value, network.state_dict()[name])
    }
    assert moved == {"blocks1", "normweight", "normbias"}
    _, _, told = teach(tmp_path, tagger(kind="m2d"), file=str(tmp_path / "2.pth"), run="another")
    assert told.scenes.asked > 0
    _, _, told = teach(tmp_path, tagger(kind="m2d"), file=str(tmp_path / "1.pth"), run="third")
    assert told.scenes.asked == 0


def test_m2d_without_a_file_is_told_before_anything_is_trained(tmp_path):
    with pytest.raises(UserError, match="give it --tagger-checkpoint FILE"):
        teach(tmp_path, tagger(kind="m2d"))


# the separator's two stages


def taught(place, spec_augment, run):
    torch.manual_seed(0)
    network = build_separator("resunetk", 3, 2, 4, SIZES, 1, SIZES.spec_augment)
    told = training(place, run=run)
    schedules = {"separator": replace(BRIEF, batch=2), "augmented": replace(BRIEF, batch=2, lr=0.001)}
    masked = []
    hears = network.spec_augment.register_forward_hook(lambda *_: masked.append(network.masking))
    cost = separating.teach_separator(network, ("resunetk",), schedules, told, spec_augment)
    hears.remove()
    return cost, network, masked, told


def test_the_second_stage_goes_on_from_the_first_with_masks(tmp_path):
    cost, plain, masked, _ = taught(tmp_path, None, "plain")
    assert list(cost) == ["separator"] and masked == []
    cost, augmented, masked, told = taught(tmp_path, 4, "augmented")
    assert list(cost) == ["separator", "augmented"] and len(masked) == 2 and all(masked) and not augmented.masking
    assert told.progress.out.getvalue().count("separator: trained before") == 1
    assert not same(plain, augmented)
    again, other, masked, told = taught(tmp_path, 4, "again")
    assert again == cost and same(augmented, other) and told.scenes.asked == 0 and masked == []


def test_slots_without_a_source_teach_a_separator_nothing():
    batch = Tones(0).batch(0, 6)
    loud = replace(batch, sources=torch.where(torch.from_numpy(batch.labels)[..., None] < 0, 1.0, batch.sources))
    torch.manual_seed(0)
    network = build_separator("resunetk", 3, 2, 4, SIZES, 1, 4).eval()
    with torch.no_grad():
        assert (batch.labels < 0).any() and torch.equal(
            separating.loss(network, batch)["loss"], separating.loss(network, loud)["loss"]
        )


def test_a_schedule_is_known_by_the_precision_that_it_is_run_in():
    automatic = kept.settled(replace(BRIEF, precision="auto"), torch.device("cpu"))
    assert automatic.precision in ("32", "bf16") and kept.settled(BRIEF, torch.device("cpu")) == BRIEF
