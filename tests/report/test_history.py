"""How training went, as a picture: a panel per stage, and accuracy and learning rate where a stage has logged them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictured import pixels, titles

from sepbench.errors import UserError
from sepbench.report.history import draw_history

HEADER = "epoch,step,lr,seconds,train_loss,valid_loss\n"


def logged(folder: Path, stage: str = "joint", n: int = 6, **columns: Any) -> Path:
    """A history of `n` epochs; a column is a list, or one value for all epochs."""
    plain = {"epoch": list(range(n)), "step": [50 * (i + 1) for i in range(n)], "lr": 5e-4, "seconds": 1.0,
             "train_loss": [2 / (i + 1) for i in range(n)], "valid_loss": [3 / (i + 1) for i in range(n)]}  # fmt: skip
    held = {name: value if isinstance(value, list) else [value] * n for name, value in (plain | columns).items()}
    with (folder / f"history-{stage}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([held, *zip(*held.values(), strict=True)])
    return folder


def panel(drawing: Any, what: str) -> Any:
    return next(axes for axes in drawing.axes if what in axes.get_title(loc="left"))


def curve(axes: Any, label: str) -> tuple[list[float], list[float]]:
    line = next(line for line in axes.get_lines() if line.get_label().startswith(label))
    return list(line.get_xdata()), list(line.get_ydata())


def test_training_is_drawn_stage_by_stage(tmp_path):
    (tmp_path / "history-critic.csv").write_text(HEADER + "0,40,0.001,1,3,3.5\n1,80,0.0005,2,2,\n2,120,0.0001,3,nan,2.9\n")
    draw_history(tmp_path)
    one = pixels(tmp_path / "figures" / "training.png")
    (tmp_path / "history-separator.csv").write_text(HEADER + "0,40,0.001,1,3,3.5\n")
    (tmp_path / "history-idle.csv").write_text(HEADER)
    draw_history(tmp_path)
    assert pixels(tmp_path / "figures" / "training.png").shape[1] > 1.5 * one.shape[1]


def test_training_that_left_no_history_has_no_figure(tmp_path):
    draw_history(tmp_path)
    assert not (tmp_path / "figures").exists()


def test_a_history_without_steps_is_named(tmp_path):
    (tmp_path / "history-critic.csv").write_text("epoch,loss\n0,1\n")
    with pytest.raises(UserError, match="history-critic.csv: has no column 'step'"):
        draw_history(tmp_path)


# accuracy


def test_without_accuracy_a_stage_is_one_panel_over_steps(tmp_path, drawn):
    assert draw_history(logged(tmp_path, valid_sep=0.1, train_sep=0.1))
    assert titles(drawn["training.png"]) == ["Joint"]
    losses, rate = drawn["training.png"].axes
    assert curve(losses, "training")[0] == [50, 100, 150, 200, 250, 300] and rate.get_ylabel() == "Learning rate"


def test_with_accuracy_it_has_panels_over_epochs(tmp_path, drawn):
    draw_history(logged(tmp_path, train_accuracy=[0.1, 0.5, 0.7, 0.9, 0.8, 0.8], valid_accuracy=[0.1, 0.4, 0.6, 0.5, 0.6, 0.5]))
    rate = "Joint: learning rate, 5e\N{MINUS SIGN}4 in the end"
    assert titles(drawn["training.png"]) == ["Joint: accuracy", rate, "Joint: loss"]
    axes = panel(drawn["training.png"], "accuracy")
    assert axes.get_ylim() == pytest.approx((-3, 103)) and axes.get_ylabel() == "Accuracy, %"
    epochs, values = curve(axes, "validation")
    assert epochs == [1, 2, 3, 4, 5, 6] and values == pytest.approx([10, 40, 60, 50, 60, 50])


def test_the_best_epoch_is_marked_the_first_of_equals(tmp_path, drawn):
    draw_history(logged(tmp_path, train_accuracy=[0.1, 0.5, 0.7, 0.9, 0.8, 0.8], valid_accuracy=[0.1, "nan", 0.6, 0.5, 0.6, 0.5]))
    axes = panel(drawn["training.png"], "accuracy")
    told = [text.get_text() for text in axes.get_legend().get_texts()]
    assert told == ["training, best 90.0 % (epoch 4)", "validation, best 60.0 % (epoch 3)"]
    marks = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.get_lines() if line.get_marker() == "D"]
    assert marks == [(4, pytest.approx(90)), (3, pytest.approx(60))]


def test_an_accuracy_of_one_side_alone_is_drawn(tmp_path, drawn):
    draw_history(logged(tmp_path, valid_accuracy=0.3))
    told = panel(drawn["training.png"], "accuracy").get_legend().get_texts()
    assert [text.get_text() for text in told] == ["validation, best 30.0 % (epoch 1)"]


@pytest.mark.parametrize("n", [1, 40])
def test_few_epochs_and_many_are_a_picture(tmp_path, n):
    draw_history(logged(tmp_path, n=n, train_accuracy=0.3, valid_accuracy=0.2, train_sep=0.1, valid_sep=0.0))
    assert pixels(tmp_path / "figures" / "training.png").shape[0] > 600


def test_an_epoch_is_a_whole_number(tmp_path, drawn):
    draw_history(logged(tmp_path, n=2, valid_accuracy=0.2))
    assert all(set(axes.get_xticks()) & {1.0, 2.0} and not (axes.get_xticks() % 1).any() for axes in drawn["training.png"].axes)


def columns_of(drawing: Any) -> list[list[str]]:
    """What stands in each column of panels, from the top down."""
    found: dict[int, list[str]] = {}
    for axes in drawing.axes:
        found.setdefault(axes.get_subplotspec().colspan.start, []).append(
            axes.get_title(loc="left") or axes.texts[0].get_text()
        )
    return list(found.values())


def test_stages_with_and_without_accuracy_have_the_same_panels_side_by_side(tmp_path, drawn):
    logged(tmp_path, "classifier", train_accuracy=0.5, valid_accuracy=0.4)
    draw_history(logged(tmp_path, "separator", lr=5e-3))
    assert columns_of(drawn["training.png"]) == [
        ["Classifier: accuracy", "Classifier: learning rate, 5e\N{MINUS SIGN}4 in the end", "Classifier: loss"],
        ["Separator: no accuracy logged", "Separator: learning rate, 0.005 in the end", "Separator: loss"],
    ]


@pytest.mark.parametrize("more", [{}, {"valid_accuracy": 0.3}])
def test_stages_come_in_the_order_in_which_they_were_trained(tmp_path, drawn, more):
    for stage in ("joint", "extra", "start"):
        logged(tmp_path, stage, **more)
    for order, wanted in ((("start", "joint", "seconds"), ["Start", "Joint", "Extra"]), ((), ["Extra", "Joint", "Start"])):
        draw_history(tmp_path, None, order)
        shown = dict.fromkeys(text.split(":")[0] for text in titles(drawn["training.png"]))
        assert list(shown) == wanted


def test_a_part_has_one_colour_in_all_stages(tmp_path, drawn):
    logged(tmp_path, "start", valid_sep=0.1, valid_accuracy=0.3)
    draw_history(logged(tmp_path, "joint", valid_cls=2.0, valid_sep=0.1, valid_accuracy=0.3))
    colours = [
        {line.get_label(): line.get_color() for line in axes.get_lines()}
        for axes in drawn["training.png"].axes if "parts" in axes.get_title(loc="left")
    ]  # fmt: skip
    joint, start = colours
    assert start["sep"] == joint["sep"] != joint["cls"]


@pytest.mark.parametrize("with_accuracy", [True, False])
def test_no_line_lies_on_an_edge(tmp_path, drawn, with_accuracy):
    lows = {"train_accuracy": 1.0, "valid_accuracy": 0.0, "lr": 0.0, "train_sep": -1.5, "valid_sep": -1.4, "valid_cls": 3.0}
    draw_history(logged(tmp_path, **(lows if with_accuracy else {"lr": [1e-3] * 5 + [0.0]})))
    for axes in drawn["training.png"].axes:
        low, high = axes.get_ylim()
        values = np.concatenate([line.get_ydata() for line in axes.get_lines()])
        assert low < np.nanmin(values) and np.nanmax(values) < high


# learning rate


def rate_of(drawn: dict[str, Any]) -> Any:
    return panel(drawn["training.png"], "learning rate")


def test_a_rate_that_is_cut_is_drawn_in_steps(tmp_path, drawn):
    draw_history(logged(tmp_path, lr=[5e-4] * 3 + [2.5e-4] * 2 + [1.25e-4], valid_accuracy=0.3))
    axes = rate_of(drawn)
    assert axes.get_lines()[0].get_drawstyle() == "steps-pre" and axes.get_yscale() == "linear"
    assert -0.05 * 5e-4 < axes.get_ylim()[0] < 0  # a rate of 0 would be seen
    assert axes.get_title(loc="left").endswith("1.25e\N{MINUS SIGN}4 in the end")


def test_a_rate_that_always_moves_is_drawn_as_a_line(tmp_path, drawn):
    draw_history(logged(tmp_path, lr=list(np.linspace(1e-3, 5e-4, 6)), valid_accuracy=0.3))
    assert rate_of(drawn).get_lines()[0].get_drawstyle() == "default"


def test_beyond_a_decade_the_scale_of_the_rate_is_logarithmic(tmp_path, drawn):
    draw_history(logged(tmp_path, lr=[5e-4] * 3 + [5e-5] * 3, valid_accuracy=0.3))
    assert rate_of(drawn).get_yscale() == "linear"  # a decade and no more
    draw_history(logged(tmp_path, lr=[5e-4] * 3 + [4.9e-5] * 3, valid_accuracy=0.3))
    assert rate_of(drawn).get_yscale() == "log"
    labels = [label.get_text() for label in rate_of(drawn).get_yticklabels()]
    assert "1e\N{MINUS SIGN}4" in labels and not any("$" in label for label in labels)


def test_a_rate_of_zero_is_drawn(tmp_path, drawn):
    draw_history(logged(tmp_path, lr=0.0, valid_accuracy=0.3))
    assert rate_of(drawn).get_yscale() == "linear"


# parts of the loss


def test_parts_of_the_loss_have_a_panel_and_each_a_name(tmp_path, drawn):
    parts = {f"{side}_{name}": value for side in ("train", "valid") for name, value in (("sep", 0.05), ("cls", 2.0))}
    draw_history(logged(tmp_path, valid_accuracy=0.3, **parts))
    axes = panel(drawn["training.png"], "parts")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["sep", "cls"] and axes.get_yscale() == "log"
    assert len(axes.get_lines()) == 4


def test_a_part_that_is_zero_is_drawn_on_a_plain_scale(tmp_path, drawn):
    draw_history(logged(tmp_path, valid_accuracy=0.3, valid_recon=0.0, train_recon=0.0, valid_sep=2.0, train_sep=0.01))
    assert panel(drawn["training.png"], "parts").get_yscale() == "linear"


def test_an_accuracy_without_epochs_is_named(tmp_path):
    (tmp_path / "history-joint.csv").write_text("step,lr,train_loss,valid_accuracy\n50,0.1,1,0.5\n")
    with pytest.raises(UserError, match="history-joint.csv: has no column 'epoch', over which accuracy"):
        draw_history(tmp_path)
    assert not (tmp_path / "figures").exists()


def test_it_goes_where_it_is_wanted(tmp_path):
    assert draw_history(logged(tmp_path), tmp_path / "elsewhere")
    pixels(tmp_path / "elsewhere" / "training.png")
    assert not (tmp_path / "figures").exists()
