"""`sepbench figures`: the pictures of a run, drawn again."""

from __future__ import annotations

from pathlib import Path

import click

from sepbench.cli_scenes import split_option
from sepbench.options import (
    FILE,
    FOLDER,
    data_option,
    device_option,
    places,
    results_option,
    run_folder,
    start,
    threads_option,
)


@click.command()
@click.argument("run", type=FILE)
@click.option("--scene", metavar="NAME|NUMBER", help="Which scene, numbers from 0.  [default: the one that RUN showed]")
@split_option
@click.option("-o", "--out", type=FOLDER, metavar="DIR", help="Where they go, the sounds to DIR/audio.  [default: RUN]")
@data_option
@results_option
@device_option
@threads_option
def figures(
    run: Path, scene: str | None, split: str, out: Path | None, data: list[tuple[str, str]], results: Path, device: str,
    threads: int | None,
) -> None:  # fmt: skip
    """Draw the pictures of the finished RUN again: training, improvement, and a scene of your choice.

    A scene is its mixture, references, estimates and masks, and what they sound like; `sepbench worst` names the scenes
    that are worth a look. Without -o, what lies in RUN/figures and RUN/audio is replaced.

    Example: sepbench figures results/runs/NAME --scene 12 -o pictures
    """
    from sepbench.cli_compare import finished_record

    record = finished_record(run_folder(run, results))
    progress = start(threads)
    from sepbench.redraw import redraw

    drawn = redraw(record, out, split, scene, places(data), device, progress)
    sounds = f", the sounds of scene {drawn.scene} in {drawn.audio}" if drawn.scene else ""
    click.echo(f"{', '.join(drawn.files)} in {drawn.figures}{sounds}")
    if drawn.lacking:
        click.echo(f"No scene could be drawn. {drawn.lacking}")
