"""What click does not bring: one-line errors, the value types of the command line, options that commands share."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click

from sepbench.errors import UserError, nearest

BAD_INPUT, INTERRUPTED = 2, 130
AGAIN_S = 0.05
RUNS = Path("results/runs")
NOT_OURS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)  # the disk's and its owner's to mend
ALSO_CALLED = {"gpu": "cuda"}  # else `cpu` would be the nearest


class NamedPath(click.Path):
    """A path, as Path. An empty one, as of a variable that is not set, is refused; it would mean the folder one is in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("got an empty name, wanted one of a file or a folder.", param, ctx)
        if not self.file_okay and os.path.isfile(value):
            self.fail(f"{value} is a file, wanted a folder: choose another.", param, ctx)
        return super().convert(value, param, ctx)


class Word(click.ParamType):
    """Text that is not empty."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value.strip(" ,"):
            self.fail(f"got {value!r}, wanted {getattr(param, 'metavar', None) or 'a name'}.", param, ctx)
        return str(value)


FOLDER = NamedPath(path_type=Path, file_okay=False)
FILE = NamedPath(path_type=Path)
WORD = Word()


class Door(click.Group):
    """A group whose every failure that a user can cause is one line on stderr and exit code 2."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        call: Any = super().main
        if not standalone_mode:
            return call(*args, standalone_mode=False, **extra)
        try:
            with _ctrl_c_is_heard():
                result = call(*args, standalone_mode=False, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            sys.exit(BAD_INPUT)
        except click.Abort:
            _fail("stopped; the same command goes on where it stopped.", INTERRUPTED)
        except click.ClickException as error:
            _fail(one_line(error))
        except UserError as error:
            _fail(str(error))
        except OSError as error:
            if error.errno not in NOT_OURS:
                raise
            where = f"{error.filename}: " if error.filename else ""
            _fail(f"{where}{error.strerror}. Mend that and give the same command again: it goes on where it stopped.")
        sys.exit(result if isinstance(result, int) else 0)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise UserError(
                f"no such command '{args[0]}'.{nearest(args[0], self.commands)} `sepbench --help` lists them."
            )
        return super().resolve_command(ctx, args)


@contextmanager
def _ctrl_c_is_heard() -> Iterator[None]:
    """Python drops a KeyboardInterrupt that falls into a weak reference's callback or a destructor; here it comes again."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def again(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    def dropped(told: Any) -> None:
        if issubclass(told.exc_type, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
        else:
            before(told)

    before, alarm = sys.unraisablehook, signal.signal(signal.SIGALRM, again)
    sys.unraisablehook = dropped
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, alarm)
        sys.unraisablehook = before


def _fail(line: str, code: int = BAD_INPUT) -> NoReturn:
    click.echo("sepbench: " + " ".join(line.split()), err=True)
    sys.exit(code)


def one_line(error: click.ClickException) -> str:
    """click's complaint, with the nearest match where a name was misspelt."""
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        known = [
            name for param in error.ctx.command.get_params(error.ctx) for name in param.opts if name.startswith("--")
        ]
        recipe = f" {error.ctx.meta['recipe folder']}" if "recipe" in error.ctx.meta else ""
        close = nearest(error.option_name, known) or f" `{error.ctx.command_path}{recipe} --help` lists them."
        return f"no such option {error.option_name}.{close}"
    said = error.format_message()
    kind = getattr(getattr(error, "param", None), "type", None)
    if isinstance(kind, click.Choice) and (given := re.search(r"'([^']*)' is not one of", said)):
        said += nearest(ALSO_CALLED.get(given[1], given[1]), kind.choices)
    command = getattr(getattr(error, "ctx", None), "command_path", None)
    if said.startswith(("Missing", "Got unexpected")) and command:
        said = f"{said.rstrip('.')}. `{command} --help` says what it takes."
    return said[0].lower() + said[1:]


class CommaList(click.ParamType):
    """Text with commas, such as `5,10` or `1-6`; each part is read by `read`, which raises ValueError."""

    def __init__(self, name: str, read: Any) -> None:
        self.name = name
        self.read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[Any]:
        if isinstance(value, list):
            return value
        try:
            return [item for part in value.split(",") for item in self.read(part.strip())]
        except ValueError:
            self.fail(f"got {value!r}, wanted {self.name.lower()} such as {'1-6' if self.name == 'FOLDS' else '5,10'}")


def _positive(text: str) -> list[float]:
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError
    return [number]


def _span(text: str) -> list[int]:
    first, _, last = text.partition("-")
    found = list(range(int(first), int(last or first) + 1))
    if not found:
        raise ValueError
    return found


NUMBERS = CommaList("NUMBERS", _positive)
FOLDS = CommaList("FOLDS", _span)


class MetricNames(click.ParamType):
    """Names of metrics or of groups of them, with commas between; as the metrics they stand for."""

    name = "NAME,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        if isinstance(value, list):
            return value
        from sepbench.metrics import expand

        option = param.opts[0] if param else "--metrics"
        if not value.strip(" ,"):
            raise UserError(f"{option}: names no metric. `sepbench metrics` lists them.")
        return expand([name.strip() for name in value.split(",") if name.strip()], option)


class Named(click.ParamType):
    """NAME=DIR: where a corpus lies."""

    name = "NAME=DIR"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        name, equals, folder = value.partition("=")
        if not equals or not folder:
            raise UserError(f"--data {value}: wanted NAME=DIR, such as urbansound8k=/data/UrbanSound8K.")
        return name, folder


def places(given: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Name of a corpus or a release -> folder, as --data gave them. UserError where there is none of that name."""
    from sepbench.corpora import RELEASES

    return {name if name in RELEASES else known_corpus(name, "--data"): folder for name, folder in given}


def known_corpus(name: str, option: str) -> str:
    """`name`, or a UserError with the nearest corpus there is."""
    from sepbench.corpora import CORPORA

    if name not in CORPORA:
        raise UserError(
            f"{option}: there is no corpus '{name}'.{nearest(name, CORPORA) or ''} Known: {', '.join(CORPORA)}."
        )
    return name


def known_corpora(name: str, option: str) -> str:
    """`name`, which may join several corpora by "+", or a UserError with the nearest corpus there is."""
    from sepbench.corpora import corpus_parts

    for part in name.split("+"):
        known_corpus(part, option)
    return "+".join(corpus_parts(name))


def run_folder(run: Path, results: Path, option: str = "") -> Path:
    """The folder of the run that was named: a path, or the name of one in `results`."""
    for folder in (run, results / run):
        if (folder / "run.json").is_file():
            return folder
    places = [folder.parent for folder in (run, results / run) if folder.parent.is_dir()]
    known = [str(file.parent) for place in dict.fromkeys(places) for file in sorted(place.glob("*/run.json"))]
    close = nearest(run, known) or nearest(results / run, known)
    raise UserError(f"{option}{run}: no run there (no run.json).{close or ' `sepbench ls` lists the runs there are.'}")


def start(n_threads: int | None) -> Any:
    """Prepare the process for arithmetic, before torch is imported; hand back where progress is shown."""
    from sepbench import machine
    from sepbench.progress import make_progress

    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # else ranks are warned of parameters that a stage may leave unused
    machine.tune_allocator()
    machine.threads(n_threads)
    return make_progress()


# options that several commands have

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
metrics_option = click.option(
    "--metrics", type=MetricNames(), help="These too, such as bss_eval; `sepbench metrics` lists all there are."
)
devices_option = click.option(
    "--devices", type=click.IntRange(min=1), default=1, show_default=True,
    help="GPUs of each node that train together, or processes with --device cpu; each learns from its share of a batch.",
)  # fmt: skip
nodes_option = click.option(
    "--nodes", type=click.IntRange(min=1), default=1, show_default=True,
    help="Machines that train together: give the same command on each, under srun, by torchrun or with MASTER_ADDR, MASTER_PORT "
    "and NODE_RANK.",
)  # fmt: skip
score_workers_option = click.option(
    "--score-workers", type=click.IntRange(min=1), default=1, show_default=True,
    help="Processes that score; they share the threads, and the figures stay the same.",
)  # fmt: skip
score_chunk_option = click.option(
    "--score-chunk", type=click.IntRange(min=1), help="Scenes answered together; fewer need less memory.  [default: 20]"
)
