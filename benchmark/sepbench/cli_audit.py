"""`sepbench audit`: what serves both training and test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sepbench.errors import UserError, nearest
from sepbench.options import FILE, WORD, data_option, known_corpora, places, results_option

if TYPE_CHECKING:
    from sepbench.audit import Audit, Shared
    from sepbench.tables_format import Table

SHOWN = 5  # names of each kind, without --list
PATHS = {"--protocol": "splits.protocol", "--split": "splits.by", "--classes": "class_set"}  # as recipes have them


@click.command()
@click.argument("what", metavar="RUN|TASK")
@data_option
@click.option("--corpus", type=WORD, help="A TASK on the clips of this corpus.  [default: the task's]")
@click.option("--set", "sets", multiple=True, metavar="A.B=C", help="A TASK with this setting, as splits.by=recording.")
@click.option("--protocol", metavar="disjoint|shared_pool", help="A TASK by this protocol, where it has several.")
@click.option("--split", metavar="fold|recording", help="A TASK split by the corpus's folds, or by recording.")
@click.option("--classes", type=WORD, metavar="NAME", help="A TASK with this set of classes, where it has several: esc10, esc50.")
@click.option("--list", "every", is_flag=True, help="Name all that is shared, not the first few.")
@click.option("--json", "json_file", type=FILE, metavar="FILE", help="Write what serves which split here, too.")
@click.option("--strict", is_flag=True, help="Exit code 1 on anything shared, declared or not.")
@results_option
def audit(
    what: str, data: list[tuple[str, str]], corpus: str | None, sets: tuple[str, ...], protocol: str | None,
    split: str | None, classes: str | None, every: bool, json_file: Path | None, strict: bool, results: Path,
) -> int:  # fmt: skip
    """Report what serves both training and test, clips and recordings, in a RUN or in the split of a TASK.

    A RUN is judged by what it keeps, and against what it was trained on. A TASK is split anew from its corpus; the
    bytes of files are compared too, so that one sound under two names is found. Exit code: 0 nothing is shared, or the
    protocol shared_pool declares it; 1 something is shared that should not be; 2 wrong usage.
    """
    from sepbench.tables_format import render

    if json_file is not None and not json_file.parent.is_dir():
        raise UserError(f"--json {json_file}: there is no folder {json_file.parent}. Make it, or choose another.")
    given = {"--data": data, "--corpus": corpus, "--set": sets}
    given |= {"--protocol": protocol, "--split": split, "--classes": classes}
    title, found, has_seen = _audited(what, results, given)
    click.echo(render([_table(title, found, has_seen)]))
    for line in _names(found, every):
        click.echo(line)
    if json_file is not None:
        _write(json_file, title, found)
    if found.unknown and not found.any_shared:
        raise UserError(found.verdict)
    click.echo(found.verdict)
    return int(found.any_shared and (strict or not found.declared))


def _audited(what: str, results: Path, given: dict[str, Any]) -> tuple[str, Audit, bool]:
    """What is audited, its audit, and whether scenes `seen` are scored. What is no run and has a task's name is that."""
    from sepbench.tasks import known_tasks

    folder = next((path for path in (Path(what), results / what) if (path / "run.json").is_file()), None)
    if folder is None:
        if what in known_tasks():
            return _of_task(what, given)
        close = nearest(what, [*known_tasks(), *(file.parent.name for file in results.glob("*/run.json"))])
        known = f" Tasks: {', '.join(known_tasks())}; `sepbench ls` lists the runs there are."
        raise UserError(f"{what}: neither a run (no run.json there) nor a task.{close or known}")
    if asked := [option for option, value in given.items() if value]:
        raise UserError(f"{asked[0]}: a run is judged by what it keeps. Leave that away, or name a task.")
    from sepbench.audit import audit_of
    from sepbench.results import read_runs

    record = next(iter(read_runs(folder)), None)
    if record is None:
        raise UserError(f"{folder}: its run.json is of no run of sepbench. `sepbench ls` lists the runs there are.")
    return record.id, audit_of(record), bool(record.metrics.get("seen"))


def _of_task(name: str, given: dict[str, Any]) -> tuple[str, Audit, bool]:
    from sepbench.audit import audit_task
    from sepbench.recipe_yaml import parsed
    from sepbench.settings import has, replace
    from sepbench.tasks import load_task, settled

    corpus = given["--corpus"]
    task = load_task(name, {"corpus": known_corpora(corpus, "--corpus")} if corpus else {})
    changes = [parsed(text) for text in given["--set"]]
    for option, path in PATHS.items():
        if given[option] and not has(task, path):
            raise UserError(f"{option} {given[option]}: {name} has no choice there. Leave it away.")
        changes += [(path, given[option], given[option])] if given[option] else []
    paths = [path if path.startswith("task.") else f"task.{path}" for path, _, _ in changes]
    for path, (_, value, text) in zip(paths, changes):
        task = replace({"task": task}, path, value, text)["task"]
    task = settled(task, [path.removeprefix("task.") for path in paths])
    title = f"{name} on {task['corpus']}, {_class_words(task)}{_split_words(task)}"
    return title, audit_task(task, places(given["--data"])), bool(task["scenes"]["seen"])


def _class_words(task: dict[str, Any]) -> str:
    """How many classes; nothing where the task has none."""
    if task["classes"] is None:
        return "all its classes, "
    return f"{len(task['classes'])} classes, " if task["classes"] else ""


def _split_words(task: dict[str, Any]) -> str:
    from sepbench.tasks.splits import SHARED_POOL

    shared = task["splits"].get("protocol") == SHARED_POOL
    by = task["splits"].get("by")
    return f"protocol {SHARED_POOL}" if shared else f"split by {by}" if by else "split as released"


def _table(title: str, audit: Audit, has_seen: bool) -> Table:
    """What serves each split, and how much of it serves the test too."""
    from sepbench.audit import TEST
    from sepbench.tables_format import DASH, Cell, Line, Table, text

    def count(n: int | None) -> Cell:
        return Cell(n, digits=0)

    rows = []
    for name, part in audit.parts.items():
        own = [count(None if part.clips is None else len(part.clips)), count(len(part.recordings))]
        shared = audit.shared[name].counts if name != TEST else {}
        also = [count(shared.get(what)) if shared else text(DASH) for what in ("clips", "recordings", "same_audio")]
        rows.append(Line((text(name), text(part.corpus), *own, *also)))
    headings = ("Split", "Corpus", "Clips", "Recordings", "Clips shared", "Recordings shared", "Same audio")
    title = f"Audit of {title}: what each split shares with the test"
    return Table(title, headings, tuple(rows), tuple(_notes(audit, has_seen)))


def _notes(audit: Audit, has_seen: bool) -> Iterator[str]:
    if audit.total.clips is not None:
        yield "Same audio: clips of the test whose file equals, byte for byte, one of the split under another name."
    if audit.trained_by:
        yield f"Training: that of {audit.trained_by}, which is tested here."
    if not audit.learns:
        yield "The method learns nothing: what is shared cannot show in its figures."
    if audit.total.clips is None:
        yield f"{audit.names_alone[:1].upper()}{audit.names_alone[1:]}."
    if has_seen:
        yield "Scenes `seen` are new mixtures of the clips of train, by design; they stand in tables of their own."


def _names(audit: Audit, every: bool) -> Iterator[str]:
    """What is shared, by name."""
    for split, shared in audit.shared.items():
        for what, names in _lists(shared).items():
            if names:
                shown = names if every else names[:SHOWN]
                rest = f" and {len(names) - len(shown)} more (--list names all)" if len(shown) < len(names) else ""
                yield f"{what} of {split} and test: {', '.join(shown)}{rest}"


def _lists(shared: Shared) -> dict[str, Sequence[str]]:
    same = [f"{key} = {other}" for key, other in shared.same_audio or ()]
    return {"Clips": shared.clips or (), "Recordings": shared.recordings, "Same audio": same}


def _write(file: Path, title: str, audit: Audit) -> None:
    from dataclasses import asdict

    from sepbench.storage import write_json

    splits = {
        name: {"corpus": part.corpus, "clips": None if part.clips is None else sorted(part.clips), "recordings": part.recordings}
        for name, part in audit.parts.items()
    }  # fmt: skip
    facts = {key: getattr(audit, key) for key in ("protocol", "learns", "trained_by", "unknown", "verdict")}
    shared = {name: asdict(each) for name, each in audit.shared.items()}
    write_json(file, {"of": title, **facts, "splits": splits, "shared_with_test": shared})
