"""Classifiers that are brought along: what fits is heard, and what does not is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import avg_pool2d, conv2d, linear, relu

from sepbench.errors import UserError
from sepbench.loading import load_from

FOLDER = Path(__file__).resolve().parents[2] / "recipes" / "itdcnpp"
load_from(FOLDER, "checkpoints.py", "SoundClassifier")
from recipes.itdcnpp import panns  # noqa: E402  (a package once it is loaded)
from recipes.itdcnpp.checkpoints import (  # noqa: E402
    classes_in,
    keep_classifier,
    load_classifier,
    recall_classifier,
)
from recipes.itdcnpp.classifier import SoundClassifier  # noqa: E402
from recipes.itdcnpp.panns import PannsMobileNet  # noqa: E402

CLASSES = ("bell", "cat", "dog", "rain")
RATE_HZ = 16000
NO_CLASSES = "does not say what its logits are of (classes, sample rate)"
NORM = ("weight", "bias", "running_mean", "running_var")

# the published layout of PANNs' MobileNetV1, by hand: input and output channels of features.1 to features.13
CHANNELS = (
    (32, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512),
    (512, 512), (512, 512), (512, 512), (512, 512), (512, 512), (512, 1024), (1024, 1024),
)  # fmt: skip
STRIDES = (2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Every key of the public checkpoint's "model", in its order."""
    shapes: dict[str, tuple[int, ...]] = {
        "spectrogram_extractor.stft.conv_real.weight": (513, 1, 1024),
        "spectrogram_extractor.stft.conv_imag.weight": (513, 1, 1024),
        "logmel_extractor.melW": (513, 64),
        **norm("bn0", 64),
        "features.0.0.weight": (32, 1, 3, 3),
        **norm("features.0.2", 32),
    }
    for i, (before, after) in enumerate(CHANNELS, 1):
        shapes |= {f"features.{i}.0.weight": (before, 1, 3, 3), **norm(f"features.{i}.2", before)}
        shapes |= {f"features.{i}.4.weight": (after, before, 1, 1), **norm(f"features.{i}.5", after)}
    shapes |= {"fc1.weight": (1024, 1024), "fc1.bias": (1024,)}
    return {**shapes, "fc_audioset.weight": (527, 1024), "fc_audioset.bias": (527,)}


def norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    return {**{f"{name}.{part}": (channels,) for part in NORM}, f"{name}.num_batches_tracked": ()}


def published() -> dict[str, torch.Tensor]:
    """Random weights in that layout, of sizes that keep sound alive through fourteen layers; a real front end."""
    random = torch.Generator().manual_seed(0)
    model = {}
    for name, shape in published_shapes().items():
        if name.endswith("num_batches_tracked"):
            model[name] = torch.tensor(7)
        elif name.endswith("running_var"):
            model[name] = torch.ones(shape)
        elif len(shape) < 2:
            model[name] = 0.1 * torch.randn(shape, generator=random) + (1.0 if name.endswith("weight") else 0.0)
        else:
            inputs = int(np.prod(shape[1:]))
            model[name] = torch.randn(shape, generator=random) * (2 / inputs) ** 0.5
    model["bn0.running_mean"], model["bn0.running_var"] = torch.full((64,), -40.0), torch.full((64,), 400.0)
    time = torch.arange(1024)
    angle = 2 * torch.pi * torch.outer(torch.arange(513), time) / 1024
    window = torch.hann_window(1024)
    model["spectrogram_extractor.stft.conv_real.weight"] = (window * angle.cos())[:, None].float()
    model["spectrogram_extractor.stft.conv_imag.weight"] = (-window * angle.sin())[:, None].float()
    model["logmel_extractor.melW"] = torch.rand(513, 64, generator=random) / 100
    return model


@pytest.fixture(scope="module")
def model() -> dict[str, torch.Tensor]:
    return published()


@pytest.fixture(scope="module")
def panns_file(model, tmp_path_factory) -> Path:
    """As the public files are: the sampler's state, of numpy arrays, lies beside the weights."""
    file = tmp_path_factory.mktemp("panns") / "MobileNetV1.pth"
    sampler = {"indexes_per_class": [np.arange(3), np.arange(2.0)], "pointers_of_classes": [0, 1]}
    torch.save({"iteration": 300000, "model": model, "sampler": sampler}, file)
    return file


def sound(seconds: float = 3.0, n: int = 1, rate_hz: int = RATE_HZ) -> torch.Tensor:
    return 0.1 * torch.randn(n, round(seconds * rate_hz), generator=torch.Generator().manual_seed(1))


def ours(width: float = 0.25, classes=CLASSES) -> SoundClassifier:
    torch.manual_seed(3)
    return SoundClassifier(len(classes), RATE_HZ, width, 8).eval()


def open_one(file: Path, classes=CLASSES, rate_hz: int = RATE_HZ, width: float = 0.25, hop: int = 8):
    return load_classifier(file, classes, rate_hz, width, hop)


def refusal(file: Path, **rest) -> str:
    return refusal_of(file, lambda: open_one(file, **rest))


def refusal_of(file: Path, act: Callable[[], object]) -> str:
    with pytest.raises(UserError) as told:
        act()
    line = str(told.value)
    assert "\n" not in line and line.startswith(str(file)) and line.endswith(".")
    assert "weights_only" not in line and "torch.load" not in line
    return line


# ours


def test_what_was_kept_is_loaded_with_its_classes(tmp_path):
    network, file = ours(), tmp_path / "mine.safetensors"
    keep_classifier(network, file, CLASSES, {"accuracy": 0.5})
    again = open_one(file, hop=4)
    assert again.names == CLASSES and again.n_classes == 4 and again.hop == 4
    network.hop = 4
    assert torch.equal(again.eval()(sound()), network(sound()))
    assert recall_classifier(ours(), file, CLASSES) == {"accuracy": 0.5}


def test_other_classes_are_refused(tmp_path):
    file = tmp_path / "mine.safetensors"
    keep_classifier(ours(), file, CLASSES, {})
    assert "holds classes bell, cat, dog, ... (4); the task has ant, bell (2)" in refusal(file, classes=("ant", "bell"))
    assert "holds classes ..., cat, dog, rain (4); the task has ..., cat, dog, sea (4)" in refusal(
        file, classes=("bell", "cat", "dog", "sea")
    )
    assert "holds classes" in refusal(file, classes=tuple(reversed(CLASSES)))
    assert "holds classes ..., cat, dog, rain (4); the task has bell, cat, dog (3)" in refusal(
        file, classes=CLASSES[:3]
    )


def test_another_rate_is_refused(tmp_path):
    file = tmp_path / "mine.safetensors"
    keep_classifier(ours(), file, CLASSES, {})
    assert "was taught at 16000 Hz; the task has 8000 Hz" in refusal(file, rate_hz=8000)


def test_another_size_is_refused_by_its_first_key(tmp_path):
    file = tmp_path / "mine.safetensors"
    keep_classifier(ours(width=0.5), file, CLASSES, {})
    line = refusal(file, width=1.0)
    assert "another network: 'stem.conv.weight' is [16, 1, 3, 3], wanted [32, 1, 3, 3]" in line


def test_weights_that_name_no_classes_are_refused(tmp_path):
    file = tmp_path / "plain.safetensors"
    save_file(ours().state_dict(), file)
    assert NO_CLASSES in refusal(file) and classes_in(file) is None


@pytest.mark.parametrize("told", ["bell, cat", "5", "null", '"abc"', '["a", 5]', '{"a": 1}', "[null]"])
@pytest.mark.parametrize("classes", [(), ("a", "b", "c"), ("a", "5")])
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_classes_that_are_no_list_of_names_are_refused(tmp_path, told, classes):
    file = tmp_path / "mine.safetensors"
    facts = {"classes": told, "sample_rate_hz": str(RATE_HZ), "summary": "{}"}
    save_file(ours().state_dict(), file, facts)
    assert NO_CLASSES in refusal(file, classes=classes)
    assert NO_CLASSES in refusal_of(file, lambda: classes_in(file))


def test_the_classes_of_what_was_kept_are_known_before_it_is_loaded(tmp_path, panns_file):
    keep_classifier(ours(), tmp_path / "mine.safetensors", CLASSES, {})
    assert classes_in(tmp_path / "mine.safetensors") == CLASSES and classes_in(panns_file) is None


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, model, number):
    network = ours()
    network.layers[2].pointwise.weight.data[0, 0] = number
    keep_classifier(network, tmp_path / "mine.safetensors", CLASSES, {})
    assert "'layers.2.pointwise.weight' holds numbers that are not finite" in refusal(tmp_path / "mine.safetensors")
    changed = {**model, "fc1.bias": model["fc1.bias"].clone()}
    changed["fc1.bias"][3] = number
    torch.save({"model": changed}, tmp_path / "public.pth")
    assert "'fc1.bias' holds numbers that are not finite" in refusal(tmp_path / "public.pth")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a classifier",
        b"\x10\0\0\0\0\0\0\0{broken",
        b"PK\x03\x04" + b"\0" * 40,
        json.dumps({"classes": CLASSES, "weights": [1.0, 2.0]}).encode(),
        b'[      \n{"classes": []}]',  # a brace where safetensors has one
    ],
)
def test_what_is_no_classifier_is_refused(tmp_path, content):
    file = tmp_path / "classifier.pth"
    file.write_bytes(content)
    assert "cannot be read as a classifier" in refusal(file)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    assert "cannot be read as a classifier (No such file or directory)" in refusal(tmp_path / "none.pth")
    assert "cannot be read as a classifier (Is a directory)" in refusal(tmp_path)


# PANNs'


def test_the_public_layout_is_the_network_key_by_key():
    state = PannsMobileNet(RATE_HZ, 8).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == published_shapes()
    assert list(state) == list(published_shapes())


@pytest.mark.parametrize(("hop", "frames"), [(1, 301), (8, 38), (32, 10)])
def test_a_public_checkpoint_answers_every_hop(panns_file, hop, frames):
    network = open_one(panns_file, hop=hop)
    assert network.names is None and network.n_classes == 527
    with torch.no_grad():
        assert network(sound()).shape == (1, 527, frames)


def whole_clip(model: dict[str, torch.Tensor], audio: torch.Tensor) -> torch.Tensor:
    """The published network, layer by layer, on a clip at 32 kHz, frames beyond which are silence: (batch, class)."""
    spectrum = torch.stft(audio, 1024, 320, 1024, torch.hann_window(1024), return_complex=True).abs().square()
    level = 10 * (spectrum.transpose(1, 2) @ model["logmel_extractor.melW"]).clamp_min(1e-10).log10()
    maps = level[:, None, :96]  # (batch, 1, time, mel)
    maps = normed(maps.transpose(1, 3), model, "bn0").transpose(1, 3)
    for i, stride in enumerate(STRIDES):
        weight = model[f"features.{i}.0.weight"]
        maps = avg_pool2d(conv2d(maps, weight, padding=1, groups=len(weight) if i else 1), stride)
        maps = relu(normed(maps, model, f"features.{i}.2"))
        if i:
            maps = relu(normed(conv2d(maps, model[f"features.{i}.4.weight"]), model, f"features.{i}.5"))
    frames = maps.mean(3)
    heard = relu(linear(frames.amax(2) + frames.mean(2), model["fc1.weight"], model["fc1.bias"]))
    return linear(heard, model["fc_audioset.weight"], model["fc_audioset.bias"])


def normed(maps: torch.Tensor, model: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    weight, bias, mean, variance = (model[f"{name}.{part}"] for part in NORM)
    return nn.functional.batch_norm(maps, mean, variance, weight, bias, eps=1e-5)


def test_a_decision_is_the_published_networks_answer_to_its_window(panns_file, model, monkeypatch):
    """Frame 48's window is frames 0 to 95. With nothing but those 96 frames in the network, its logits are the clip's."""
    network = open_one(panns_file, rate_hz=32000, hop=32)
    audio = sound(1.0, n=2, rate_hz=32000)
    monkeypatch.setattr(panns, "pad", only_the_reflection)
    whole = network._log_mel

    def first_96(sounds: torch.Tensor) -> torch.Tensor:
        return whole(sounds)[..., :96]

    monkeypatch.setattr(network, "_log_mel", first_96)
    with torch.no_grad():
        torch.testing.assert_close(network(audio)[..., 0], whole_clip(model, audio), atol=1e-3, rtol=1e-3)
        assert whole_clip(model, audio).std() > 0.1


def only_the_reflection(maps, around, mode="constant", value=None):
    return nn.functional.pad(maps, around, mode) if mode == "reflect" else maps


@pytest.mark.parametrize("hop", [1, 2, 4, 8, 16])
def test_its_dense_run_says_at_every_hop_what_the_strided_one_says(panns_file, hop):
    network = open_one(panns_file, hop=32)
    with torch.no_grad():
        strided = network(sound())
        network.hop = hop
        dense = network(sound())
    torch.testing.assert_close(dense[..., :: 32 // hop], strided, atol=1e-3, rtol=1e-3)
    assert strided.std(-1).min() > 1e-3


def test_it_answers_in_half_precision_what_it_answers_in_full(panns_file):
    network, audio = open_one(panns_file, hop=32), sound(1.0, n=2)
    with torch.no_grad():
        exact = network(audio)
        with torch.autocast("cpu", torch.bfloat16):
            half = network(audio)
            assert torch.equal(network._log_mel(audio), network._log_mel(audio.double()))
    assert half.dtype == torch.float32 and (half - exact).norm() / exact.norm() < 0.03


def test_beyond_a_sound_it_hears_what_digital_silence_is(panns_file):
    network, heard = open_one(panns_file, rate_hz=32000, hop=32), []
    network.bn0.register_forward_pre_hook(lambda _, given: heard.append(given[0]))  # (batch, mel, 1, frame)
    audio = torch.cat([sound(1.0, rate_hz=32000), torch.zeros(1, 2000)], 1)
    with torch.no_grad():
        network(audio)
        network(torch.cat([torch.zeros(1, 48 * 320), audio, torch.zeros(1, 32000)], 1))
    alone, among = heard[0], heard[1][..., 48 : 48 + 192]
    assert alone.shape[-1] == 192  # 48 before the sound's 107, 37 after them
    assert torch.equal(alone[..., :47], among[..., :47])  # frames 47 to 49 hear where the sound begins
    torch.testing.assert_close(alone[..., 50:], among[..., 50:], atol=1e-3, rtol=1e-4)
    assert (among[..., 155:] == -100).all() and among[..., 50:150].amin() > -90


def test_moving_a_sound_moves_its_logits_too(panns_file):
    network = open_one(panns_file, hop=8)
    audio = torch.zeros(1, 10 * RATE_HZ)
    audio[:, 4 * RATE_HZ : 5 * RATE_HZ] = sound(1.0)
    with torch.no_grad():
        before, after = network(audio), network(audio.roll(3 * 8 * RATE_HZ // 100, 1))
    torch.testing.assert_close(after[..., 28:83], before[..., 25:80], atol=1e-2, rtol=1e-3)
    assert before[..., 25:80].std(-1).min() > 1e-3


def test_it_never_learns_its_batch_norms_and_has_tails(panns_file):
    network = open_one(panns_file)
    before = network.bn0.running_mean.clone()
    network(sound(1.0))
    network.train()(sound(1.0))
    assert torch.equal(network.bn0.running_mean, before)
    names = {parameter: name for name, parameter in network.named_parameters()}
    assert [names[each] for each in network.tail(1)] == ["fc_audioset.weight", "fc_audioset.bias"]
    assert {names[each].rsplit(".", 1)[0] for each in network.tail(3)} == {
        "features.13.0", "features.13.2", "features.13.4", "features.13.5", "fc1", "fc_audioset",
    }  # fmt: skip
    with pytest.raises(ValueError, match="tail of 2 layers"):
        list(network.tail(2))


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("fc_audioset.weight", torch.zeros(10, 1024), "'fc_audioset.weight' is [10, 1024], wanted [527, 1024]"),
        ("features.3.4.weight", None, "it has no 'features.3.4.weight', wanted [128, 128, 1, 1]"),
        ("conv_block1.conv1.weight", torch.zeros(1), "'conv_block1.conv1.weight' is none of its layers"),
        ("bn0.weight", "text", "'bn0.weight' is [], wanted [64]"),
    ],
)
def test_a_checkpoint_of_another_size_is_refused_by_its_first_key(model, tmp_path, name, value, told):
    changed = {**model, name: value}
    if value is None:
        del changed[name]
    torch.save({"model": changed}, tmp_path / "other.pth")
    assert f"holds the weights of another network: {told}" in refusal(tmp_path / "other.pth")


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    file = tmp_path / "state.pth"
    torch.save({"epoch": 3, "state_dict": {}}, file)
    assert "no weights under 'model', it holds epoch, state_dict" in refusal(file)
    torch.save([1, 2], file)
    assert "no weights under 'model', it holds list" in refusal(file)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    file, sign = tmp_path / "bad.pth", tmp_path / "sign"

    class Bad:
        def __reduce__(self):
            return (Path.touch, (sign,))

    torch.save({"model": Bad()}, file)
    assert "cannot be read as a classifier" in refusal(file)
    assert not sign.exists()
