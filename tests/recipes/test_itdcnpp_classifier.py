"""The sound classifier of iTDCN++: its size, its windows, what a dense run answers, and how it is taught."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load
from torch import nn

from sepbench.errors import UserError
from sepbench.labels import Events
from sepbench.loading import load_from
from sepbench.method import Batch
from sepbench.progress import PlainProgress
from sepbench.training import Schedule

FOLDER = Path(__file__).resolve().parents[2] / "recipes" / "itdcnpp"
load_from(FOLDER, "classifier.py", "SoundClassifier")
from recipes.itdcnpp import teaching  # noqa: E402  (a package once it is loaded)
from recipes.itdcnpp.classifier import HOPS, SoundClassifier  # noqa: E402
from recipes.itdcnpp.patches import FLOOR, LogMelPatches  # noqa: E402
from recipes.itdcnpp.teaching import Lesson, overlaid, teach  # noqa: E402

RATE_HZ = 8000
TONES_HZ = (300, 900, 2500)
NAMES = ("low", "mid", "high")
SCHEDULE = Schedule(epochs=2, steps=20, batch=8, valid_batches=4, lr=0.01, patience=2)
BRIEF = replace(SCHEDULE, epochs=1, steps=2, valid_batches=1)


def lively(n_classes: int = 3, rate_hz: int = RATE_HZ, width: float = 0.25, hop: int = 1) -> SoundClassifier:
    """A classifier whose batch norms have seen something: silence, too, is then no silence to its inner layers."""
    torch.manual_seed(0)
    network = SoundClassifier(n_classes, rate_hz, width, hop)
    network.learning = True
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        nn.init.normal_(norm.bias)
    audio = noise(2, rate_hz, 4) * torch.tensor([0.01, 0.1, 1, 10])[:, None]
    audio[:, rate_hz // 2 : rate_hz] = 0
    network.train()(audio)
    network.learning = False
    return network.eval()


def noise(seconds: float, rate_hz: int = RATE_HZ, n: int = 1) -> torch.Tensor:
    return 0.05 * torch.randn(n, round(seconds * rate_hz), generator=torch.Generator().manual_seed(1))


class Clips:
    """Single tones, one of three, sounding in the first half of a clip."""

    def __init__(self, seed: int, labels: tuple[int, ...] = (0, 1, 2)):
        self.seed, self.labels, self.id, self.asked = seed, labels, f"tones-{seed}", 0

    def batch(self, index: int, size: int) -> Batch:
        self.asked += 1
        random = np.random.default_rng([self.seed, index, size])
        labels = random.choice(self.labels, (size, 1))
        time_s = np.arange(2 * RATE_HZ) / RATE_HZ
        phase = 2 * np.pi * (np.array(TONES_HZ)[labels] * time_s + random.random((size, 1)))
        audio = np.where(time_s < 1, 0.1 * np.sin(phase), 0).astype(np.float32) * (labels >= 0)
        sources = torch.from_numpy(audio.astype(np.float32))[:, None]
        n = np.arange(size)
        events = Events(n, labels[:, 0], np.zeros(size), np.full(size, 2.0), size, 3)
        return Batch(sources[:, 0].clone(), events, sources, labels)


def training(folder: Path, seed: int = 0, shared: Path | None = None, **rest) -> SimpleNamespace:
    """What `teach` reads of a Training."""
    said = io.StringIO()
    given = {"clips": Clips(1), "valid_clips": Clips(2), **rest}
    shared = shared or folder / "shared"
    return SimpleNamespace(**given, folder=folder, shared=shared, seed=seed, progress=PlainProgress(said), said=said)


def small(seed: int = 0) -> SoundClassifier:
    torch.manual_seed(seed + 100)
    return SoundClassifier(3, RATE_HZ, 0.25, 8)


def lesson() -> Lesson:
    return Lesson(small(), 3)


# its size


def test_it_has_2_15_million_parameters_for_audio_set():
    network = SoundClassifier(527, 16000, 1.0, 1)
    assert sum(each.numel() for each in network.parameters()) == 2_147_087
    assert sum(each.numel() for each in network.layers.parameters()) == 1_606_560
    assert len(network.layers) == 10


def test_width_multiplies_the_channels_in_steps_of_eight():
    narrow = SoundClassifier(5, 16000, 0.25, 1)
    assert [layer.pointwise.out_channels for layer in narrow.layers] == [16, 32, 32, 64, 64, 128, 128, 128, 128, 256]
    assert SoundClassifier(5, 16000, 0.01, 1).stem.conv.out_channels == 8


def test_a_hop_that_no_strides_make_is_refused():
    with pytest.raises(ValueError, match="hop is 3 frames; wanted one of 1, 2, 4, 8, 16, 32"):
        SoundClassifier(5, 16000, 1.0, 3)


def test_what_follows_from_the_sample_rate_is_no_weight():
    assert all(name.startswith(("stem", "layers", "dense")) for name in SoundClassifier(5, 16000, 0.25, 1).state_dict())


# its windows


@pytest.mark.parametrize(("hop", "frames"), [(1, 301), (2, 151), (8, 38), (32, 10)])
def test_three_seconds_have_a_decision_every_hop(hop, frames):
    assert SoundClassifier(5, 16000, 0.25, hop).eval()(noise(3, 16000, 2)).shape == (2, 5, frames)


@pytest.mark.parametrize("seconds", [0.4, 2.0, 3.0])
def test_the_dense_run_says_at_every_hop_what_the_strided_network_says(seconds):
    network = lively()
    audio = noise(seconds)
    with torch.no_grad():
        dense = network(audio)
        for hop in HOPS:
            network.hop = hop
            torch.testing.assert_close(network(audio), dense[..., ::hop], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(network.strided(audio), dense[..., ::32], atol=1e-5, rtol=1e-4)
    assert dense.std(-1).min() > 1e-3


def test_a_window_is_96_frames_around_its_own():
    """One cell alone is heard by the windows at its own frame and 32 frames before and after it."""
    network = lively(width=0.25, hop=32)
    for layer in (
        network.stem,
        *(each.depthwise for each in network.layers),
    ):  # no neighbours: a cell hears itself alone
        layer.conv.weight.data[..., [0, 2]] = 0
    audio = torch.zeros(1, 8 * 32 * 80)
    audio[:, 4 * 32 * 80 - 40 : 4 * 32 * 80 + 40] = noise(0.01)
    with torch.no_grad():
        changed = (network(audio) - network(torch.zeros_like(audio))).abs().amax((0, 1)) > 1e-6
    assert changed.nonzero().flatten().tolist() == [3, 4, 5]


@pytest.mark.parametrize("hop", [1, 2, 8, 32])
def test_moving_a_sound_by_whole_hops_moves_its_logits(hop):
    network = lively(hop=hop)
    audio = torch.zeros(1, 10 * RATE_HZ)
    audio[:, 4 * RATE_HZ : 5 * RATE_HZ] = noise(1)
    for k in (1, 3):
        later = audio.roll(k * hop * RATE_HZ // 100, 1)
        with torch.no_grad():
            before, after = network(audio), network(later)
        middle = slice(160 // hop, -320 // hop)  # what hears none of the ends
        torch.testing.assert_close(after.roll(-k, -1)[..., middle], before[..., middle], atol=1e-5, rtol=1e-4)
        assert (before[..., middle].amax(-1) - before[..., middle].amin(-1)).min() > 1e-3


def test_a_decision_hears_125_frames_to_either_side():
    network = lively()
    audio = noise(6)
    changed = audio.clone()
    changed[:, 5 * RATE_HZ :] = 0  # from frame 500 on, whose window of 25 ms reaches two frames back
    with torch.no_grad():
        differs = (network(audio) != network(changed)).any(1)[0]
    assert differs.nonzero().min() == 500 - 1 - 125


def test_windows_at_the_ends_are_means_over_what_there_is():
    network = lively(hop=32)
    for layer in (network.stem, *(each.depthwise for each in network.layers)):  # no neighbours: cells are all alike
        layer.conv.weight.data[..., [0, 2]] = 0
    network.log_mel.forward = lambda audio: torch.ones(1, 1, 64, 10 * 32)
    with torch.no_grad():
        logits = network(noise(1))
    torch.testing.assert_close(logits, logits[..., 5:6].expand(1, 3, 10), atol=1e-5, rtol=1e-5)
    assert (logits[..., 5] - network.dense.bias).abs().min() > 1e-2


def test_silence_is_zero_to_the_network():
    patches = LogMelPatches(RATE_HZ)
    assert patches(torch.zeros(1, RATE_HZ)).abs().max() == 0
    quiet, loud = patches(1e-4 * noise(1)), patches(noise(1))
    assert quiet.max() < 0.1 < loud.mean()
    assert patches(noise(1)).shape == (1, 1, 64, 101) and FLOOR > 0


def test_the_front_end_keeps_its_precision_under_autocast():
    patches, audio = LogMelPatches(RATE_HZ), noise(1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(patches(audio), patches(audio.float())) and patches(audio).dtype == torch.float32
        assert lively()(audio).dtype == torch.float32


def test_windows_sound_where_there_is_power():
    audio = torch.zeros(1, 6 * RATE_HZ)
    audio[:, 2 * RATE_HZ : 3 * RATE_HZ] = noise(1)
    heard = LogMelPatches(RATE_HZ).sounding(audio)[0]
    assert heard.shape[-1] == lively(hop=32)(audio).shape[-1]
    centre_s = 0.32 * torch.arange(len(heard))
    assert torch.equal(heard, (centre_s > 2 - 0.48) & (centre_s < 3 + 0.48))


# what learns


def test_batch_norms_hold_still_unless_it_is_learning():
    network = small()
    before = network.stem.norm.running_mean.clone()
    network(noise(1))
    network.train()(noise(1))
    assert torch.equal(network.stem.norm.running_mean, before) and not network.training
    network.learning = True
    network.train()(noise(1))
    assert not torch.equal(network.stem.norm.running_mean, before)


def test_a_tail_is_the_last_layers():
    network = SoundClassifier(527, 16000, 1.0, 1)
    names = {parameter: name for name, parameter in network.named_parameters()}
    assert [names[each] for each in network.tail(1)] == ["dense.weight", "dense.bias"]
    last_three = {".".join(names[each].split(".")[:2]) for each in network.tail(3)}
    assert last_three == {"layers.8", "layers.9", "dense.weight", "dense.bias"}
    with pytest.raises(ValueError, match="tail of 2 layers; wanted one of 1, 3"):
        list(network.tail(2))


# teaching


def test_a_silent_window_is_of_no_class():
    target = lesson().target(Clips(1).batch(0, 4))
    labels = torch.from_numpy(Clips(1).batch(0, 4).labels[:, 0])
    assert target.shape == (4, 3, 7)
    assert torch.equal(target[..., 0].argmax(1), labels) and torch.equal(target[..., :4].sum(1), torch.ones(4, 4))
    assert target[..., 5:].sum() == 0  # from 1.48 s on there is nothing to hear


def test_a_clip_without_a_label_is_of_no_class():
    assert lesson().target(Clips(1, labels=(-1,)).batch(0, 4)).sum() == 0


def test_the_loss_of_sure_and_right_logits_is_nothing():
    batch, taught = Clips(1).batch(0, 4), lesson()
    taught.network.strided = lambda audio: 100 * (2 * taught.target(batch) - 1)
    taught.network.training = False
    assert taught.loss(batch)["loss"] < 1e-6
    taught.network.strided = lambda audio: torch.zeros_like(taught.target(batch))
    assert float(taught.loss(batch)["loss"]) == pytest.approx(3 * math.log(2))


def test_clips_laid_over_each_other_have_the_classes_of_both():
    batch, taught = Clips(1).batch(0, 4), lesson()
    audio, target = batch.sources[:, 0], taught.target(batch)
    both, either = overlaid(audio, target)
    torch.testing.assert_close(both[:2], audio[:2] + audio[1:3])
    assert torch.equal(both[2:], audio[2:]) and torch.equal(either[2:], target[2:])
    assert torch.equal(either[0], torch.maximum(target[0], target[1]))


def test_its_accuracy_is_that_of_windows_that_sound():
    taught, labels = lesson(), torch.from_numpy(Clips(1).batch(0, 8).labels[:, 0])
    logits = torch.zeros(8, 3, 7)
    logits[range(8), labels, :4] = 1.0
    logits[range(8), (labels + 1) % 3, 5:] = 100.0  # from 1.48 s on there is nothing to hear
    taught.network.strided = lambda audio: logits
    assert taught.accuracy(Clips(1), replace(SCHEDULE, valid_batches=1)) == 1.0


def test_it_learns_tones_and_says_how_well(tmp_path):
    network, given = small(), training(tmp_path)
    summary = teach(network, NAMES, given, SCHEDULE)
    assert summary["accuracy"] >= 0.9 and summary["steps"] == 40
    assert network.names == NAMES and not network.learning
    with torch.no_grad():
        batch = Clips(3).batch(0, 16)
        heard = network(batch.sources[:, 0])[..., :10].sum(-1).argmax(1)
    assert (heard.numpy() == batch.labels[:, 0]).mean() > 0.6  # of three; its windows have other edges here
    assert "of the valid clips right, kept for other runs in" in given.said.getvalue()
    assert (tmp_path / "classifier" / "history.csv").is_file()


def test_what_was_learnt_serves_the_next_run(tmp_path):
    first, second = small(), small(seed=1)
    shared = tmp_path / "shared"
    told = teach(first, NAMES, training(tmp_path / "one", shared=shared), BRIEF)
    again = training(tmp_path / "two", shared=shared)
    assert teach(second, NAMES, again, BRIEF) == told
    assert again.clips.asked == 0 and "taught before" in again.said.getvalue()
    assert second.names == NAMES
    assert all(torch.equal(one, other) for one, other in zip(first.state_dict().values(), second.state_dict().values()))


def test_what_it_learns_does_not_depend_on_where_it_started(tmp_path):
    first, second = small(), small(seed=1)
    teach(first, NAMES, training(tmp_path / "one"), BRIEF)
    teach(second, NAMES, training(tmp_path / "two"), BRIEF)
    assert torch.equal(first.dense.weight, second.dense.weight)


@pytest.mark.parametrize("what", ["clips", "valid", "classes", "schedule", "seed", "width"])
def test_another_lesson_is_another_file(tmp_path, what):
    shared = tmp_path / "shared"
    teach(small(), NAMES, training(tmp_path / "one", shared=shared), BRIEF)
    changed = {"clips": {"clips": Clips(7)}, "valid": {"valid_clips": Clips(7)}, "seed": {"seed": 1}}.get(what, {})
    network = SoundClassifier(3, RATE_HZ, 0.5, 8) if what == "width" else small()
    names = ("a", "b", "c") if what == "classes" else NAMES
    schedule = replace(BRIEF, lr=0.1) if what == "schedule" else BRIEF
    teach(network, names, training(tmp_path / "two", shared=shared, **changed), schedule)
    assert len(list(shared.glob("classifier-*.safetensors"))) == 2


def key(network: SoundClassifier | None = None, schedule: Schedule = SCHEDULE) -> str:
    return teaching._key(network or small(), NAMES, ("clips", "valid"), schedule, 0)


def test_another_sample_rate_is_another_key():
    assert key() == key(SoundClassifier(3, RATE_HZ, 0.25, 8)) != key(SoundClassifier(3, 16000, 0.25, 8))


@pytest.mark.parametrize(
    "name",
    [
        "FORMAT", "OVERLAID", "N_MELS", "WINDOW_MS", "HOP_MS", "PATCH", "STRIDE", "LOWEST_HZ", "HIGHEST_HZ", "FLOOR",
        "SILENT_DBFS", "STEM", "LAYERS",
    ],
)  # fmt: skip
def test_another_constant_is_another_key(monkeypatch, name):
    network = small()
    before = key(network)
    monkeypatch.setattr(teaching, name, 2 * getattr(teaching, name))
    assert key(network) != before


@pytest.mark.parametrize(("fast", "same"), [(False, "32"), (True, "bf16")])
def test_the_key_names_the_precision_that_auto_is_on_this_device(monkeypatch, fast, same):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: fast)
    found = {name: key(schedule=replace(SCHEDULE, precision=name)) for name in ("32", "bf16", "auto")}
    assert found["auto"] == found[same] and found["32"] != found["bf16"]


def test_where_nothing_can_be_kept_it_says_so_first_and_teaches_all_the_same(tmp_path, monkeypatch):
    shared, said = tmp_path / "shared", []
    shared.write_text("a file in the folder's place")
    given = training(tmp_path / "one", shared=shared)
    monkeypatch.setattr(given.progress, "say", lambda line: said.append((line, given.clips.asked)))
    network = small()
    assert "accuracy" in teach(network, NAMES, given, BRIEF) and network.names == NAMES
    warning = f"classifier: cannot be kept in {shared}; set SEPBENCH_CACHE to a folder that you may write."
    assert said[0] == (warning, 0) and given.clips.asked > 0
    assert said[-1][0].endswith("of the valid clips right") and not any("kept for" in line for line, _ in said)
    assert shared.read_text() == "a file in the folder's place"


def test_a_damaged_file_is_taught_anew(tmp_path):
    shared = tmp_path / "shared"
    teach(small(), NAMES, training(tmp_path / "one", shared=shared), BRIEF)
    (file,) = shared.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:1000])
    teach(small(), NAMES, training(tmp_path / "two", shared=shared), BRIEF)
    assert load(file.read_bytes()).keys() == load(whole).keys()  # the seconds that it took are others


def test_a_task_without_clips_says_so(tmp_path):
    with pytest.raises(UserError, match="no labelled clips to teach a classifier with"):
        teach(small(), NAMES, training(tmp_path, clips=None), SCHEDULE)


def test_its_beginning_gives_every_class_the_chance_of_one():
    network = small()
    teaching._start(network, 0)
    assert torch.allclose(network.dense.bias.sigmoid(), torch.tensor(0.25))
