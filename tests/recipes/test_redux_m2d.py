"""M2D as a tagger: the layout of its checkpoints, what of it learns, and the files that are refused."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sepbench.errors import UserError
from sepbench.loading import load_from

FOLDER = Path(__file__).resolve().parents[2] / "recipes" / "redux"
load_from(FOLDER, "m2d.py", "M2dTagger")
from recipes.redux.m2d import M2dTagger, at_columns  # noqa: E402  (a package once it is loaded)
from recipes.redux.m2d_files import load_m2d  # noqa: E402

WIDTH, DEPTH, HEADS = 24, 3, 4
TRAINED_ON = 38  # columns of patches: 608 frames, as M2D is pre-trained


def tiny(seconds: float = 2.0, rate_hz: int = 16000, finetuned: int = 1) -> M2dTagger:
    torch.manual_seed(0)
    return M2dTagger(5, rate_hz, seconds, WIDTH, DEPTH, HEADS, finetuned)


def checkpoint(n_columns: int = TRAINED_ON, width: int = WIDTH, depth: int = DEPTH) -> dict[str, Tensor]:
    """Weights named and shaped as timm's vision transformers have them, with what M2D's pre-training leaves beside them."""
    random = torch.Generator().manual_seed(1)
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width), "pos_embed": (1, 1 + 5 * n_columns, width), "mask_token": (1, 1, 16),
        "patch_embed.proj.weight": (width, 1, 16, 16), "patch_embed.proj.bias": (width,),
        "norm.weight": (width,), "norm.bias": (width,), "decoder_embed.weight": (16, width), "decoder_pos_embed": (1, 9, 16),
        "target_blocks.0.norm1.weight": (width,), "target_norm.weight": (width,), "head.weight": (527, width),
    }  # fmt: skip
    for i in range(depth):
        block = {"norm1": (width,), "attn.qkv": (3 * width, width), "attn.proj": (width, width), "norm2": (width,),
                 "mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}  # fmt: skip
        for name, shape in block.items():
            shapes |= {f"blocks.{i}.{name}.weight": shape, f"blocks.{i}.{name}.bias": shape[:1]}
    return {name: 0.2 * torch.randn(shape, generator=random) for name, shape in shapes.items()}


def written(folder: Path, what: object) -> str:
    torch.save(what, folder / "m2d.pth")
    return str(folder / "m2d.pth")


def refusal(network: M2dTagger, file: str | None) -> str:
    with pytest.raises(UserError) as told:
        load_m2d(network, file)
    assert "\n" not in str(told.value) and "github.com/nttcslab/m2d" in str(told.value)
    return str(told.value)


def noise(seconds: float, n: int = 2, rate_hz: int = 16000) -> Tensor:
    return 0.05 * torch.randn(n, round(seconds * rate_hz), generator=torch.Generator().manual_seed(2))


def test_vit_b_has_85_5_million_parameters_of_which_the_last_blocks_learn():
    network = M2dTagger(18, 16000, 10.0, 768, 12, 12, 2)
    assert sum(each.numel() for each in network.parameters()) == 85_506_834
    assert sum(each.numel() for each in network.blocks.parameters()) == 85_054_464
    assert network.pos_embed.shape == (1, 1 + 5 * 62, 768)  # 1001 frames
    learning = {
        name.split(".")[0] + "." + name.split(".")[1] for name, each in network.named_parameters() if each.requires_grad
    }
    assert learning == {"blocks.10", "blocks.11", "norm.weight", "norm.bias", "head.weight", "head.bias"}


@pytest.mark.parametrize(("finetuned", "first"), [(0, DEPTH), (1, DEPTH - 1), (DEPTH, 0), (DEPTH + 1, 0)])
def test_as_many_of_the_last_blocks_learn_as_it_is_told(finetuned, first):
    learning = [all(each.requires_grad for each in block.parameters()) for block in tiny(finetuned=finetuned).blocks]
    assert learning == [i >= first for i in range(DEPTH)]


@pytest.mark.parametrize("within", [False, True])
def test_a_checkpoint_fills_all_but_the_head(tmp_path, within):
    state = checkpoint()
    network, head = tiny(), tiny().head.weight
    load_m2d(
        network,
        written(tmp_path, {"model": state, "args": argparse.Namespace(lr=1.0), "epoch": 3} if within else state),
    )
    assert torch.equal(network.head.weight, head)
    for name in ("cls_token", "patch_embed.proj.weight", "blocks.2.attn.qkv.bias", "norm.weight"):
        assert torch.equal(network.state_dict()[name], state[name])


def test_it_answers_as_torch_s_own_transformer_with_the_same_weights(tmp_path):
    network, state = tiny(6.08).eval(), checkpoint()
    load_m2d(network, written(tmp_path, state))
    layers = []
    for i in range(DEPTH):
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
        )
        renamed = {"self_attn.in_proj_": "attn.qkv.", "self_attn.out_proj.": "attn.proj.", "linear1.": "mlp.fc1.",
                   "linear2.": "mlp.fc2.", "norm1.": "norm1.", "norm2.": "norm2."}  # fmt: skip
        names = {
            ours + kind: f"blocks.{i}.{theirs}{kind}" for ours, theirs in renamed.items() for kind in ("weight", "bias")
        }
        layer.load_state_dict({ours: state[theirs] for ours, theirs in names.items()})
        layers.append(layer.eval())
    features = network.log_mel(noise(6.08))[..., : 16 * TRAINED_ON]
    patches = features[:, 0].unfold(1, 16, 16).unfold(2, 16, 16).flatten(3)  # (item, band, column, 16 x 16)
    kernel = state["patch_embed.proj.weight"].flatten(1)
    tokens = (patches @ kernel.T + state["patch_embed.proj.bias"]).flatten(1, 2)
    tokens = torch.cat([state["cls_token"].expand(2, -1, -1), tokens], 1) + state["pos_embed"]
    for layer in layers:
        tokens = layer(tokens)
    tokens = nn.functional.layer_norm(tokens, (WIDTH,), state["norm.weight"], state["norm.bias"], 1e-6)
    with torch.no_grad():
        torch.testing.assert_close(network(noise(6.08)), network.head(tokens[:, 1:].mean(1)), rtol=1e-4, atol=1e-4)


def test_places_are_interpolated_along_time_alone():
    ramp = torch.arange(5.0)[:, None] * 100 + torch.arange(38.0)  # (band, column)
    places = torch.cat([torch.full((1, 1, 2), 7.0), ramp.flatten()[None, :, None].expand(1, -1, 2)], 1)
    found = at_columns(places, 76)
    assert found.shape == (1, 1 + 5 * 76, 2) and torch.equal(found[:, :1], places[:, :1])
    grid = found[0, 1:, 0].reshape(5, 76)
    torch.testing.assert_close(grid[:, 1:-1], torch.arange(5.0)[:, None] * 100 + torch.arange(1, 75) / 2 - 0.25)
    assert at_columns(places, 38) is places


def test_sounds_of_any_length_and_rate_are_heard(tmp_path):
    network = tiny(4.0, rate_hz=32000).eval()
    load_m2d(network, written(tmp_path, checkpoint()))
    with torch.no_grad():
        for seconds in (0.01, 0.5, 4.0, 9.0):
            assert network(noise(seconds, rate_hz=32000)).isfinite().all()
        assert network(torch.zeros(1, 32000)).isfinite().all()


def test_what_lies_above_8_khz_is_not_heard(tmp_path):
    network = tiny(1.0, rate_hz=32000).eval()
    load_m2d(network, written(tmp_path, checkpoint()))
    time_s = torch.arange(32000) / 32000
    low, high = (0.1 * torch.sin(2 * torch.pi * pitch_hz * time_s)[None] for pitch_hz in (1000, 12000))
    alone, both, silence = (network.log_mel(sound)[..., 20:-20] for sound in (low, low + high, 0 * low))
    assert (alone - silence).amax() > 2.5 > 0.8 > (alone - both).abs().amax()  # standard deviations


def test_a_sound_of_usual_level_is_about_standard():
    spectrum = torch.fft.rfft(noise(2.0))
    pink = torch.fft.irfft(spectrum / torch.arange(1, spectrum.shape[-1] + 1) ** 0.5)
    features = tiny().log_mel(0.1 * pink / pink.square().mean(-1, keepdim=True).sqrt())
    assert features.shape == (2, 1, 80, 201) and float(features.mean().abs()) < 1.0


def test_its_last_blocks_learn_and_the_others_do_not(tmp_path):
    network = tiny(finetuned=1)
    load_m2d(network, written(tmp_path, checkpoint()))
    network(noise(2.0)).square().sum().backward()
    reached = {name for name, each in network.named_parameters() if each.grad is not None and each.grad.abs().sum() > 0}
    assert reached == {name for name, each in network.named_parameters() if each.requires_grad}
    assert not any(
        name.startswith(("blocks.0", "blocks.1", "patch_embed", "pos_embed", "cls_token")) for name in reached
    )


def test_without_a_file_it_says_which_one_is_wanted():
    assert "--tagger m2d: give it --tagger-checkpoint FILE" in refusal(tiny(), None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("blocks.1.attn.qkv.bias"), "it has no 'blocks.1.attn.qkv.bias', wanted [72]"),
        (
            lambda state: state.update({"blocks.3.norm1.weight": torch.ones(WIDTH)}),
            "'blocks.3.norm1.weight' is none of its layers",
        ),
        (
            lambda state: state.update({"cls_token": torch.ones(1, 1, 99)}),
            "'cls_token' is [1, 1, 99], wanted [1, 1, 24]",
        ),
        (
            lambda state: state.update({"norm.bias": torch.full((WIDTH,), torch.nan)}),
            "'norm.bias' holds numbers that are not finite",
        ),
        (
            lambda state: state.update({"pos_embed": torch.ones(1, 197, WIDTH)}),
            "'pos_embed': 196 places are not 5 bands of them",
        ),
    ],
)
def test_another_network_is_refused_with_the_first_name_that_differs(tmp_path, change, said):
    state = checkpoint()
    change(state)
    assert said in refusal(tiny(), written(tmp_path, state))


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "words.pth").write_text("words")
    assert "cannot be read as M2D (not a torch checkpoint of weights)" in refusal(tiny(), str(tmp_path / "words.pth"))
    assert "cannot be read as M2D (No such file" in refusal(tiny(), str(tmp_path / "nothing.pth"))
    assert "holds no encoder of M2D, but epoch" in refusal(tiny(), written(tmp_path, {"epoch": 3}))
    assert "holds no encoder of M2D, but list" in refusal(tiny(), written(tmp_path, [1, 2]))


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    sign = tmp_path / "sign"

    class Bad:
        def __reduce__(self):
            return (Path.touch, (sign,))

    assert "cannot be read as M2D" in refusal(tiny(), written(tmp_path, {"model": Bad()}))
    assert not sign.exists()
