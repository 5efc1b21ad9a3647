"""`sepbench data`: what corpora there are, what was found, what is broken, and fetching what is not there."""

from __future__ import annotations

import math
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sepbench.errors import UserError, nearest
from sepbench.options import FILE, FOLDER, FOLDS, NUMBERS, WORD, data_option, known_corpora, places, results_option

if TYPE_CHECKING:
    from sepbench.fetch import Archive, Source


class _Data(click.Group):
    """`sepbench data NAMES` is `sepbench data show NAMES`: whatever is no command of the group is a corpus."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = {*self.commands, "-h", "--help"}
        return super().parse_args(ctx, args if args and args[0] in known else ["show", *args])


@click.group(cls=_Data, name="data", no_args_is_help=False)
def data_group() -> None:
    """Corpora and ready-made sets of scenes: what they are, what was found, what is broken.

    `sepbench data [NAMES] [--data NAME=DIR]` lists them.
    """


@data_group.command(hidden=True)
@click.argument("names", nargs=-1)
@data_option
def show(names: tuple[str, ...], data: list[tuple[str, str]]) -> None:
    """List corpora: what was found, counts per class and fold, licence and where to get them."""
    from sepbench.corpora import CORPORA, RELEASES
    from sepbench.fetch import SOURCES

    everything = {**CORPORA, **RELEASES}
    for name in names:
        if "+" in name:
            known_corpora(name, "data")
        elif name not in everything:
            known = [*everything, *data_group.commands]
            raise UserError(
                f"data: there is no corpus '{name}'.{nearest(name, known) or ''} Known: {', '.join(everything)}."
            )
    for name in names or everything:
        given = "+" in name or name in places(data) or f"SEPBENCH_DATA_{name.upper()}" in os.environ
        try:
            click.echo(_described(name, places(data)))
        except UserError as error:
            if given:
                raise
            facts = [getattr(everything[name], fact, None) for fact in ("licence", "home")]
            facts += [f"sepbench data fetch {name}"] if name in SOURCES else []
            click.echo("\n  ".join([f"{name}: not found", str(error), *(fact for fact in facts if fact), ""]))


def _described(name: str, data: dict[str, str]) -> str:
    from sepbench.corpora import dcase_s5, describe, folder_of, fuss, open_corpus
    from sepbench.printing import described, described_release, described_soundscapes

    if name == "fuss":
        return described_release(fuss.describe_release(folder_of(name, data)))
    if name == "dcase_s5":
        return described_soundscapes(dcase_s5.describe_release(folder_of(name, data)))
    return described(describe(open_corpus(name, data, None)))


@data_group.command()
@click.argument("name")
@data_option
def verify(name: str, data: list[tuple[str, str]]) -> None:
    """Read every file of the corpus or release NAME and name what is broken."""
    from sepbench.corpora import RELEASES

    if name in RELEASES:
        return _verify_release(name, places(data))
    known_corpora(name, "data verify")
    from sepbench.corpora import corpus_parts, open_corpus
    from sepbench.corpora.files import MissingFiles
    from sepbench.corpora.verify import verify as verified
    from sepbench.progress import make_progress

    missing: list[str] = []
    broken: list[str] = []
    n_there = 0
    for part in corpus_parts(name):
        try:
            corpus = open_corpus(part, places(data), None)
        except MissingFiles as error:
            corpus = error.there
            missing += error.lines
        n_there += len(corpus.clips)
        broken += verified(corpus, make_progress())
    for line in [*missing, *broken]:
        click.echo(line)
    if missing or broken:
        raise UserError(
            f"{name}: {len(missing) + len(broken)} of {n_there + len(missing)} clips are broken, listed above. "
            "Replace or remove them."
        )
    click.echo(f"{name}: all {n_there} clips can be used.")


def _verify_release(name: str, data: dict[str, str]) -> None:
    from sepbench.corpora import folder_of, fuss
    from sepbench.progress import make_progress
    from sepbench.tasks.ready_dcase import verify_dcase

    verify_release = {"fuss": fuss.verify_release, "dcase_s5": verify_dcase}[name]
    broken, n = verify_release(folder_of(name, data), make_progress())
    for line in broken:
        click.echo(line)
    if broken:
        raise UserError(f"{name}: {len(broken)} of {n} files are broken, listed above. Unpack the archive again.")
    click.echo(f"{name}: all {n} files can be used.")


@data_group.command()
@click.argument("name", type=click.Choice(["esc50", "urbansound8k", "fuss"]))
@click.option("--to", "folder", type=FOLDER, metavar="DIR", help="Where it goes.  [default: data/NAME]")
@click.option("--room", type=WORD, metavar="reverb|dry", help="Which of FUSS's sounds.  [default: reverb]")
@click.option("--agree", is_flag=True, help="Agree to the licence without being asked.")
@click.option("--mirror", type=WORD, metavar="URL", help="Take the archive from here, where it has the same name.")
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=60.0, show_default=True,
    help="Seconds for which a server may say nothing.",
)  # fmt: skip
def fetch(name: str, folder: Path | None, room: str | None, agree: bool, mirror: str | None, timeout: float) -> None:
    """Download the corpus or release NAME, check and unpack it, and say how to point at it.

    Stopped or broken off, the same command goes on where it was. Fetched before, there is nothing to do.
    """
    from sepbench.fetch import SOURCES, archive_of, clear, is_there
    from sepbench.fetch import fetch as fetched
    from sepbench.progress import make_progress

    if not math.isfinite(timeout):
        raise UserError(f"--timeout {timeout}: wanted a number of seconds above 0.")
    source, archive = SOURCES[name], archive_of(name, room)
    folder = folder or Path("data") / name
    if is_there(archive, folder):
        clear(archive, folder)
        click.echo(f"{source.title} is there already: nothing is fetched.")
    else:
        _show_licence(source, archive, agree)
        fetched(archive, folder, mirror, timeout, make_progress())
    where = shlex.quote(str(folder.absolute()))
    click.echo(f"Use it with --data {name}={where}, or once and for all:")
    click.echo(f"export SEPBENCH_DATA_{name.upper()}={where}")


def _show_licence(source: Source, archive: Archive, agree: bool) -> None:
    """Say what comes under which licence; UserError where that has to be agreed on, and is not."""
    packed, unpacked = (f"{n_bytes / 1e9:.1f} GB" for n_bytes in archive.needs_bytes)
    click.echo(f"{source.title} ({packed} to fetch, {unpacked} unpacked), {source.home}", err=True)
    click.echo(f"Licence: {source.licence}.", err=True)
    if not source.agreed or agree:
        return
    if not sys.stdin.isatty():
        raise UserError(f"{source.title}: its licence forbids commercial use. Give --agree if you agree to it.")
    if not click.confirm("Do you agree?", err=True):
        raise UserError(f"{source.title}: not agreed, so nothing was fetched.")


@data_group.command()
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
    from sepbench.printing import report
    from sepbench.priors import write_priors
    from sepbench.progress import make_progress

    click.echo(report(write_priors(metadata, rates, scenes, folds, results, make_progress()), results))
