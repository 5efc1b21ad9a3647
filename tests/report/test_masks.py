"""Masks as a picture: which is which, in what order, and what they add up to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pictured import pixels, titles

from sepbench.errors import UserError
from sepbench.report.masks import COLUMNS, Masks, _narrowed, draw_masks, read_masks, shares_of_sum


def read(masks: torch.Tensor, names: tuple[str, ...] | None = None, order: tuple[int, ...] | None = None, **more) -> Masks:
    trace = {"masks": masks, "mask_hop_s": 0.01, "mask_axis": "learned filter", **more}
    found = read_masks(trace, names or [f"estimate {i + 1}" for i in range(len(masks))], order or range(len(masks)))
    assert found is not None
    return found


def test_without_masks_there_are_none():
    assert read_masks(None, ["a"], [0]) is None and read_masks({"steps": 3}, ["a"], [0]) is None
    assert read_masks({"masks": torch.zeros(0, 4, 5)}, [], []) is None


def test_filters_are_drawn_by_the_mean_of_the_first_mask():
    one = torch.tensor([[0.9, 0.9], [0.1, 0.3], [0.5, 0.5]])
    found = read(torch.stack([one, 1 - one]))
    assert found.values[0].tolist() == one[[1, 2, 0]].tolist() and found.axis == "Learned filter, by\nmean of the first mask"
    other = read(torch.stack([one, 1 - one]), order=(1, 0))
    assert other.values[0].tolist() == (1 - one)[[0, 2, 1]].tolist() and other.names == ("estimate 2", "estimate 1")


def test_an_order_that_is_given_is_kept_and_named():
    masks = torch.rand(2, 3, 4)
    found = read(masks, mask_order=torch.tensor([2, 0, 1]), mask_order_by="centre frequency")
    assert np.array_equal(found.values, masks[:, [2, 0, 1]].numpy()) and found.axis == "Learned filter, by\ncentre frequency"
    assert read(masks, mask_order=[2, 0, 1]).axis == "Learned filter"


def test_an_axis_with_a_unit_stands_as_it_is():
    masks = torch.rand(2, 257, 188)
    found = read(masks, mask_axis="frequency, kHz", mask_extent=(0, 8), mask_hop_s=0.016, mask_start_s=-0.008)
    assert np.array_equal(found.values, masks.numpy()) and found.axis == "Frequency, kHz" and found.extent == (0, 8)
    assert found.span_s == (-0.008, pytest.approx(3.0))


@pytest.mark.parametrize(
    ("level", "n", "mean", "near"), [(0.5, 2, 1.0, 1.0), (0.4, 2, 0.8, 0.0), (0.45, 2, 0.9, 1.0), (1, 3, 3, 0)],
)
def test_the_sum_is_told_in_figures(level, n, mean, near):
    assert shares_of_sum(read(torch.full((n, 4, 5), float(level)))) == (pytest.approx(mean), near)


def test_masks_that_share_out_all_sum_to_one_in_every_cell():
    one = torch.rand(8, 900)
    assert shares_of_sum(read(torch.stack([one, 1 - one]))) == (pytest.approx(1), 1)
    assert shares_of_sum(read(torch.stack([one, 1 - one])[:, :4].clone() * torch.tensor([1.0, 0.0])[:, None, None]))[1] < 0.2


def test_frames_beyond_what_a_picture_holds_are_averaged():
    values = np.random.default_rng(0).random((3, 5999))
    narrow = _narrowed(values)
    assert narrow.shape == (3, COLUMNS) and narrow.mean() == pytest.approx(values.mean(), abs=1e-3)
    assert np.allclose(_narrowed(np.full((2, 5999), 0.3)), 0.3)
    assert _narrowed(values[:, :COLUMNS]) is not values and np.array_equal(_narrowed(values[:, :188]), values[:, :188])


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_all_masks_have_one_scale_and_the_sum_turns_at_one(tmp_path, drawn, n):
    draw_masks(read(torch.rand(n, 8, 50), tuple("abcde"[:n])), tmp_path / "masks.png")
    images = [axes.images[0] for axes in drawn["masks.png"].axes if axes.images]
    assert len(images) == n + 1 and all(image.get_clim() == (0, 1) for image in images[:n])
    assert images[n].get_clim() == (0, max(2, n)) and images[n].norm(1.0) == pytest.approx(0.5)
    assert titles(drawn["masks.png"])[:n] == [f"Mask of {name}" for name in "abcde"[:n]]


def test_the_picture_goes_as_far_as_the_sound(tmp_path, drawn):
    draw_masks(read(torch.rand(2, 8, 50), mask_hop_s=0.0599, mask_start_s=0.001), tmp_path / "masks.png", "", 3.0)
    panel = drawn["masks.png"].axes[0]
    assert panel.get_xlim() == (0, 3) and 3.0 in panel.get_xticks()


def test_each_scale_says_what_it_is_of(tmp_path, drawn):
    draw_masks(read(torch.rand(2, 8, 50)), tmp_path / "masks.png")
    bars = [axes.get_ylabel() for axes in drawn["masks.png"].axes if axes.get_label() == "<colorbar>"]
    assert bars == ["Mask of an estimate", "Sum of the masks\n(1: nothing added or lost)"]


@pytest.mark.parametrize("n", [1, 3, 5])
def test_any_number_of_masks_is_a_picture(tmp_path, n):
    draw_masks(read(torch.rand(n, 8, 50)), tmp_path / "masks.png")
    pixels(tmp_path / "masks.png")


def test_the_title_of_the_sum_says_how_near_it_is_to_one(tmp_path, drawn):
    draw_masks(read(torch.cat([torch.full((2, 3, 4), 0.5), torch.full((2, 1, 4), 0.25)], 1)), tmp_path / "masks.png")
    assert titles(drawn["masks.png"])[-1] == "Sum: mean 0.88, 75 % within 0.1 of 1"
    draw_masks(read(torch.full((2, 4, 4), 0.5), masks_before="mixture consistency"), tmp_path / "masks.png")
    said = " ".join(titles(drawn["masks.png"])[-1].split())
    assert said == "Sum before mixture consistency: mean 1.00, 100 % within 0.1 of 1"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mask_hop_s": None}, "has masks and no mask_hop_s"),
        ({"mask_axis": None}, "has masks and no mask_axis"),
        ({"masks": torch.rand(3, 4, 5)}, r"masks \(3, 4, 5\) for 2 estimates"),
        ({"masks": torch.rand(4, 5)}, r"masks \(4, 5\)"),
        ({"masks": torch.full((2, 4, 5), 1.5)}, "masks from 1.5 to 1.5"),
        ({"masks": torch.full((2, 4, 5), torch.nan)}, "masks from nan"),
        ({"mask_order": [0, 0, 1, 2]}, "mask_order is no order of 4 features"),
    ],
)
def test_a_trace_that_is_no_trace_is_told_in_a_line(change, said):
    trace = {"masks": torch.rand(2, 4, 5), "mask_hop_s": 0.01, "mask_axis": "learned filter", **change}
    with pytest.raises(UserError, match=said) as error:
        read_masks({key: value for key, value in trace.items() if value is not None}, ["a", "b"], [0, 1])
    assert "\n" not in str(error.value)
