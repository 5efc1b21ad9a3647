"""The door: parse, call, print. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from sepbench import __version__
from sepbench.errors import UserError, nearest
from sepbench.options import FOLDS, NUMBERS, OWN, Door, Named, RecipeCommand, grid, known_corpus, places
from sepbench.printing import described, differing, heard_when, report

RUNS = Path("results/runs")
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path)

data_option = click.option(
    "--data", multiple=True, type=Named(), help="Where a corpus lies; may be given more than once."
)
sets_option = click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="A.B=C",
    help="Any other setting by its path in config.yaml, such as task.scenes.test=200.",
)
results_option = click.option("--results", type=FOLDER, default=RUNS, show_default=True, help="Where runs are kept.")
again_option = click.option("--again", is_flag=True, help="Run afresh even where a finished run of this kind lies.")
device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where networks are computed.",
)
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), help="Threads for arithmetic.  [default: all cores]"
)


@click.group(cls=Door, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="sepbench")
def main() -> None:
    """Sound separation methods behind one interface, judged by one evaluator.

    Start with: sepbench run recipes/weak_label
    """


@main.command(cls=RecipeCommand, options_metavar="[OPTIONS] [THE RECIPE'S OWN OPTIONS]")
@click.argument("recipe")
@click.option(
    "--profile", default="quick", show_default=True, metavar="quick|small|paper", help="How much of everything."
)
@click.option("--table", metavar="NAME", help="Every run that this table of the paper needs.")
@data_option
@click.option("--corpus", help="Take the clips from this corpus.  [default: the profile's]")
@sets_option
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of scenes and weights.")
@results_option
@again_option
@device_option
@threads_option
@click.option("--inner", type=FOLDER, metavar="RUN", help="The finished run of the method that this recipe wraps.")
@click.pass_context
def run(ctx: click.Context, **given: Any) -> None:
    """Train and score the recipe in the folder RECIPE, then print its table.

    `sepbench run RECIPE --help` lists the recipe's own options. A list of values, such as `--lambda 5,10`, runs them
    all. Started again, an interrupted run goes on where it stopped, and a finished one is not run twice.
    """
    progress = _start(given["threads"])
    recipe, data = ctx.meta["recipe"], places(given["data"])
    if given["corpus"]:
        known_corpus(given["corpus"], "--corpus")
    own = {name.removeprefix(OWN): values for name, values in given.items() if name.startswith(OWN) and values}
    inner = _run_folder(given["inner"], given["results"], "--inner ") if given["inner"] else None
    resolved = [
        recipe.resolve(given["profile"], options, given["sets"], data, given["seed"], given["corpus"], inner)
        for options in grid(recipe, own, given["table"])
    ]
    planned = list({json.dumps(config, sort_keys=True): (config, options) for config, options in resolved}.values())
    from sepbench.run import run_one

    folders = []
    for i, (config, options) in enumerate(planned):
        if len(planned) > 1:
            progress.say(f"Run {i + 1} of {len(planned)}: {differing(options, [options for _, options in planned])}")
        folder = run_one(
            config, options, recipe, data=data, results=given["results"], again=given["again"], device=given["device"],
            progress=progress,
        )  # fmt: skip
        folders.append(folder)
    click.echo(report(folders, given["results"]))


@main.command()
@click.argument("run", type=FILE)
@data_option
@sets_option
@results_option
@again_option
@device_option
@threads_option
def test(
    run: Path,
    data: list[tuple[str, str]],
    sets: tuple[str, ...],
    results: Path,
    again: bool,
    device: str,
    threads: int | None,
) -> None:
    """Score the trained RUN on other folds, another task or other sounds, as a run of its own.

    Example: sepbench test results/runs/NAME --data urbansound8k=DIR --set task.splits.test=[10]
    """
    folder = _run_folder(run, results)
    progress = _start(threads)
    from sepbench.run import test_run

    scored = test_run(folder, places(data), list(sets), results, again, device, progress)
    click.echo(report([scored], results))


@main.command()
@click.argument("run", type=FILE)
@click.argument("file", type=FILE)
@click.option("-o", "--out", type=FOLDER, required=True, metavar="DIR", help="Where the separated sounds go.")
@click.option(
    "--threshold", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Heard from this probability on."
)
@device_option
@threads_option
def separate(run: Path, file: Path, out: Path, threshold: float, device: str, threads: int | None) -> None:
    """Separate the recording FILE with the trained RUN: one wav per class heard, and when it was heard."""
    if not file.is_file():
        raise UserError(f"{file}: no such file. Name a recording (wav, flac, ogg).")
    folder = _run_folder(run, RUNS)
    progress = _start(threads)
    from sepbench.separate import separate_file

    heard = separate_file(folder, file, out, threshold, device, progress)
    if not heard:
        click.echo(f"Nothing was heard in {file} with a probability of {threshold:g} or more.")
        return
    click.echo(heard_when(heard, f"Heard in {file}"))
    click.echo(f"The separated sounds lie in {out}")


@main.command()
@click.argument("results", type=FOLDER, default=Path("results"))
@click.option(
    "--format", "form", default="terminal", show_default=True, metavar="terminal|md|csv|latex", help="How to write it."
)
@click.option("-o", "--out", type=FILE, metavar="FILE", help="Write to a file instead.")
@click.option("--all", "everything", is_flag=True, help="The paper's tables of which no run of ours fills a cell, too.")
def table(results: Path, form: str, out: Path | None, everything: bool) -> None:
    """Print the runs in RESULTS beside the published figures.  [default: results]"""
    from sepbench.results import read_runs
    from sepbench.tables import find_published, make_tables, render

    text = render(make_tables(read_runs(results), find_published(results), everything), form)
    if out is None or not text:
        click.echo(text or f"No finished runs in {results}. `sepbench run recipes/weak_label` makes one.")
        return
    from sepbench.storage import write_text

    if not out.parent.is_dir():
        raise UserError(f"-o {out}: there is no folder {out.parent}. Make it, or choose another.")
    write_text(out, text)


@main.command()
@click.argument("results", type=FOLDER, default=Path("results"))
def ls(results: Path) -> None:
    """List the runs in RESULTS, the newest first.  [default: results]"""
    from sepbench.tables import list_runs, render

    click.echo(render([list_runs(results)]))


class _Data(click.Group):
    """`sepbench data NAMES` is `sepbench data show NAMES`: whatever is no command of the group is a corpus."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = {*self.commands, "-h", "--help"}
        return super().parse_args(ctx, args if args and args[0] in known else ["show", *args])


@main.group(cls=_Data, no_args_is_help=False)
def data() -> None:
    """Corpora: what they are, what was found, what is broken.

    `sepbench data [NAMES] [--data NAME=DIR]` lists them.
    """


@data.command(hidden=True)
@click.argument("names", nargs=-1)
@data_option
def show(names: tuple[str, ...], data: list[tuple[str, str]]) -> None:
    """List corpora: what was found, counts per class and fold, licence and where to get them."""
    from sepbench.corpora import CORPORA, describe, open_corpus

    for name in names:
        if name not in CORPORA:
            known = [*CORPORA, *main.commands["data"].commands]  # type: ignore[attr-defined]
            raise UserError(
                f"data: there is no corpus '{name}'.{nearest(name, known) or ''} Known: {', '.join(CORPORA)}."
            )
    for name in names or CORPORA:
        given = name in places(data) or f"SEPBENCH_DATA_{name.upper()}" in os.environ
        try:
            click.echo(described(describe(open_corpus(name, places(data), None))))
        except UserError as error:
            if given:
                raise
            facts = [getattr(CORPORA[name], fact, None) for fact in ("licence", "home")]
            click.echo("\n  ".join([f"{name}: not found", str(error), *(fact for fact in facts if fact), ""]))


@data.command()
@click.argument("name")
@data_option
def verify(name: str, data: list[tuple[str, str]]) -> None:
    """Read every file of the corpus NAME and name what is broken."""
    known_corpus(name, "data verify")
    from sepbench.corpora import open_corpus
    from sepbench.corpora.files import MissingFiles
    from sepbench.corpora.verify import verify as verified
    from sepbench.progress import make_progress

    missing: list[str] = []
    try:
        corpus = open_corpus(name, places(data), None)
    except MissingFiles as error:
        corpus, missing = error.there, error.lines
    broken = [*missing, *verified(corpus, make_progress())]
    for line in broken:
        click.echo(line)
    if broken:
        raise UserError(
            f"{name}: {len(broken)} of {len(corpus.clips) + len(missing)} clips are broken, listed above. "
            "Replace or remove them."
        )
    click.echo(f"{name}: all {len(corpus.clips)} clips can be used.")


@data.command()
@click.argument("name", type=click.Choice(["urbansound8k"]))
@click.option("--metadata", type=FILE, required=True, metavar="CSV", help="UrbanSound8K.csv; no audio is needed.")
@click.option(
    "--lambda", "rates", type=NUMBERS, default="5,10", show_default=True, help="Mean number of events per scene."
)
@click.option("--scenes", type=click.IntRange(min=1), default=20000, show_default=True, help="Scenes to draw.")
@click.option("--folds", type=FOLDS, default="1-6", show_default=True, help="Folds whose clips are used.")
@results_option
def priors(name: str, metadata: Path, rates: list[float], scenes: int, folds: list[int], results: Path) -> None:
    """How often each class sounds in the mixer's scenes: the weak-label paper's Tables I and II."""
    if not metadata.is_file():
        raise UserError(f"--metadata {metadata}: no such file. It is metadata/UrbanSound8K.csv in the corpus.")
    from sepbench.priors import write_priors
    from sepbench.progress import make_progress

    click.echo(report(write_priors(metadata, rates, scenes, folds, results, make_progress()), results))


def _start(n_threads: int | None) -> Any:
    """Prepare the process for arithmetic, before torch is imported; hand back where progress is shown."""
    from sepbench import machine
    from sepbench.progress import make_progress

    machine.tune_allocator()
    machine.threads(n_threads)
    return make_progress()


def _run_folder(run: Path, results: Path, option: str = "") -> Path:
    """The folder of the run that was named: a path, or the name of one in `results`."""
    for folder in (run, results / run):
        if (folder / "run.json").is_file():
            return folder
    places = [folder.parent for folder in (run, results / run) if folder.parent.is_dir()]
    known = [str(file.parent) for place in dict.fromkeys(places) for file in sorted(place.glob("*/run.json"))]
    close = nearest(run, known) or nearest(results / run, known)
    raise UserError(f"{option}{run}: no run there (no run.json).{close or ' `sepbench ls` lists the runs there are.'}")
