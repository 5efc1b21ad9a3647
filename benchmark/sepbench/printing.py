"""What the command line says, as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sepbench.results import RunRecord


FEW = 3  # runs whose files are named one by one
NAMES_SOURCES = ("class_accuracy", "label_set_accuracy", "si_sdri_by_label")  # what only answers with labels have


def report(folders: Sequence[Path], results: Path) -> str:
    """The table of the runs in `folders`, where they lie, and what can be done with them next."""
    from sepbench.results import read_runs
    from sepbench.tables import find_published, make_tables, render
    from sepbench.tables_task import task_tables

    runs = [run for folder in folders for run in read_runs(folder)]
    tasks = sorted({str(run.config["task"]["name"]) for run in runs})
    if len(tasks) == 1 and len({run.config["recipe"] for run in runs}) > 1:
        lines = [render(task_tables(runs, tasks[0]))]
        more = f" --task {tasks[0]}"
    else:
        lines, more = [render(make_tables(runs, find_published(results)))], ""
    if len(runs) > FEW:
        lines.append(f"Runs:    {len(runs)}, in {results}")
    else:
        lines += [line for run in runs for line in _next_steps(run)]
    return "\n".join([*lines, f"All runs beside the published figures: sepbench table {quote(str(results))}{more}"])


def _next_steps(run: RunRecord) -> list[str]:
    """Where a run lies, what it shows, and how it is used."""
    lines = [f"Run:     {run.path}"]
    for title, part in (("Listen:", "audio"), ("See:", "figures")):
        if (run.path / part).is_dir():
            lines.append(f"{title:8} {run.path / part}: {_shortened(sorted((run.path / part).iterdir()))}")
    named = any(name in figures for figures in run.metrics.values() for name in NAMES_SOURCES)
    sounds = any((run.path / "audio").glob("estimate*"))  # some only say what sounds
    # separating files goes by class, and nobody can tell an oracle what a file holds
    if named and sounds and run.config["supervision"] != "oracle" and (run.path / "weights").is_dir():
        lines.append(f"Use:     sepbench separate {quote(str(run.path))} YOUR_RECORDING.wav -o separated")
    return lines


def differing(options: Mapping[str, Any], among: Sequence[Mapping[str, Any]]) -> str:
    """The options in which one run of a grid differs from the others."""
    return ", ".join(
        f"{name}={value}" for name, value in options.items() if any(other[name] != value for other in among)
    )


def described(facts: Mapping[str, Any]) -> str:
    """A corpus: what was found, counts per class and fold, licence, where to get it. `facts` are corpora.describe's."""
    head = f"{facts['name']}: {facts['clips']} clips of {facts['recordings']} recordings, {facts['hours']:.1f} h"
    folds = facts["folds"]
    rows = [
        (label, own["clips"], own["foreground"], own["recordings"], *(own["folds"][fold] or "" for fold in folds))
        for label, own in facts["classes"].items()
    ]
    shown = _table(head, ("Class", "Clips", "Foreground", "Recordings", *(f"Fold {fold}" for fold in folds)), rows)
    return f"{shown}\nLicence: {facts['licence']}\nHome: {facts['home']}\n"


def described_release(facts: Mapping[str, Any]) -> str:
    """A release: how many of its scenes have how many sources, licence, where to get it. `facts`: fuss.describe_release's."""
    scenes = [own for lists in facts["rooms"].values() for own in lists.values()]
    total = sum(sum(own.values()) for own in scenes)
    counts = sorted({n for own in scenes for n in own})
    head = f"{facts['name']}: {total} scenes ready to use, {total * facts['seconds'] / 3600:.1f} h"
    rows = [
        (room, name, sum(own.values()), *(own[n] or "" for n in counts))
        for room, lists in facts["rooms"].items() for name, own in lists.items()
    ]  # fmt: skip
    columns = (f"{n} source{'s' if n > 1 else ''}" for n in counts)
    shown = _table(head, ("Room", "List", "Scenes", *columns), rows)
    return f"{shown}\nLicence: {facts['licence']}\nHome: {facts['home']}\n"


def described_soundscapes(facts: Mapping[str, Any]) -> str:
    """Soundscapes by their number of targets, and their labels beside what there is to train with.

    `facts`: dcase_s5.describe_release's.
    """
    n, counts, parts = sum(facts["by_count"].values()), facts["by_count"], facts["to_train"]
    head = f"{facts['name']}: {n} soundscapes ready to use, {n * facts['seconds'] / 3600:.1f} h"
    columns = (f"{count} target{'' if count == 1 else 's'}" for count in counts)
    scenes = _table(head, ("Soundscapes", *columns, "Two of a class"), [(n, *counts.values(), facts["same_class"])])
    rows = [(name, *(own[split] or "" for split in ("test", "train", "valid"))) for name, own in facts["classes"].items()]
    rows += [(f"({part})", "", *(own[split] or "" for split in ("train", "valid"))) for part, own in parts.items()]
    labels = _table("Targets of the test, and files to train with", ("Class", "Test", "Train", "Valid"), rows)
    return f"{scenes}\n{labels}\nLicence: {facts['licence']}\nHome: {facts['home']}\n"


def heard_when(rows: Iterable[Mapping[str, Any]], title: str) -> str:
    """Which class was heard when: rows of label, on_s, off_s and confidence."""
    shown = [(row["label"], f"{row['on_s']:.2f}", f"{row['off_s']:.2f}", f"{row['confidence']:.2f}") for row in rows]
    return _table(title, ("Class", "From, s", "To, s", "Probability"), shown)


def metrics_table(form: str) -> str:
    """Every metric there is. What a metric asks for beside estimates and references stands under Needs."""
    from sepbench.metrics import GROUPS, METRICS
    from sepbench.tables import Line, Table, render
    from sepbench.tables_format import text

    better = {True: "higher", False: "lower", None: "neither"}
    rows = [
        (metric.name, metric.unit, better[metric.higher_is_better], metric.needs, metric.signature, metric.paper)
        for metric in METRICS.values()
    ]
    notes = tuple(f"{name}: {', '.join(members)}." for name, members in GROUPS.items())
    headings = ("Metric", "Unit", "Better", "Needs", "Signature", "Source")
    lines = tuple(Line(tuple(map(text, row))) for row in rows)
    return render([Table("Metrics", headings, lines, ("Names that stand for several:", *notes))], form)


def _table(title: str, headings: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    from sepbench.tables import Line, Table, render
    from sepbench.tables_format import text

    return render([Table(title, headings, tuple(Line(tuple(map(text, row))) for row in rows))])


def _shortened(files: Sequence[Path], n: int = 4) -> str:
    return ", ".join(file.name for file in files[:n]) + (f" and {len(files) - n} more" if len(files) > n else "")
