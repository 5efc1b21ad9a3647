"""What a check found, as text: for a terminal, a Markdown page, GitHub's annotations, a program."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from sepbench.check import FAILED, NOTHING, Outcome
from sepbench.check_figures import BETTER, FAILING, FINE, SHOWN, Judged, Pair
from sepbench.comparison import DIGITS
from sepbench.metrics import EVENTS
from sepbench.storage import finite
from sepbench.tables_facts import split_fact
from sepbench.tables_format import DASH, Cell, Line, Table, render, text

HEADINGS = ("Run", "Split", "Metric", "Class", "Reference", "Now", "Difference", "Tolerance", "Worst class", "Verdict")
LEGEND = "Difference: now less reference, over what both answered. [ ]: 95 % interval over scenes."


def printed(outcome: Outcome, form: str) -> str:
    """`outcome` in one of FORMATS."""
    return FORMATS[form](outcome)


def append_summary(outcome: Outcome, file: str) -> str:
    """Add the Markdown to the file that GitHub shows as the job's summary. Hands back a warning where that cannot be."""
    try:
        with open(file, "a", encoding="utf-8") as page:
            page.write(_markdown(outcome) + "\n")
    except OSError as error:
        return _annotation("warning", "summary", f"GITHUB_STEP_SUMMARY {file}: cannot be written: {error.strerror}.")
    return ""


def summary(outcome: Outcome) -> str:
    """One line: whether it passes, how many runs were held against frozen ones, and what became of their figures."""
    word = {FAILED: "FAILED", NOTHING: "NOTHING COMPARABLE WAS MEASURED"}.get(outcome.exit_code, "passed")
    runs = [f"{_some(len(outcome.pairs), 'run')} compared"]
    runs += [f"{_some(len(outcome.missing), 'frozen run')} without a counterpart"] if outcome.missing else []
    runs += [f"{_some(len(outcome.new), 'run')} not frozen"] if outcome.new else []
    found = outcome.verdicts
    figures = [f"{found[verdict]} {verdict}" for verdict in (FINE, *FAILING, BETTER, SHOWN) if found[verdict]]
    return f"check {word}: {', '.join(runs)}; figures: {', '.join(figures) or 'none'}"


def _some(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def table(outcome: Outcome) -> Table:
    """A row for each figure over all sources, and for each class that fails."""
    shown = [(pair, figure) for pair in outcome.pairs for figure in pair.figures
             if not figure.label or figure.verdict not in (FINE, SHOWN)]
    rows = [_cells(pair, figure) for pair, figure in shown]
    empty = {i for i in range(len(HEADINGS)) if all(row[i].show() == DASH for row in rows)}
    kept = [i for i in range(len(HEADINGS)) if i not in empty]
    lines = tuple(Line(tuple(row[i] for i in kept)) for row in rows)
    return Table("Check", tuple(HEADINGS[i] for i in kept), lines, (LEGEND,), ("Run", "Split"))


def _cells(pair: Pair, figure: Judged) -> list[Cell]:
    unit, digits = figure.unit, DIGITS.get(figure.unit, 0)
    named = f"{figure.metric}, {unit}" if unit == "dB" else figure.metric
    worst = None if figure.label else _worst(pair, figure)
    told = figure.note if figure.verdict in FAILING and figure.metric not in EVENTS else ""
    verdict = figure.verdict + (f": {told}" if told else "")
    limit = DASH if figure.tolerance is None else f"{figure.tolerance:g}"
    return [
        text(pair.result.id), text(split_fact(pair.result, figure.split)), text(named), text(figure.label),
        Cell(figure.reference, digits=digits), Cell(figure.now, digits=digits),
        Cell(figure.difference, text=_change(figure)), Cell(figure.tolerance, text=limit),
        text(worst and f"{worst.label} {_signed(worst.difference, digits)}"), text(verdict),
    ]  # fmt: skip


def _worst(pair: Pair, figure: Judged) -> Judged | None:
    """The class that lost most (of a property of the scenes, that moved furthest), where one lost what can be printed."""
    classes = [each for each in pair.figures if each.label and each.difference is not None
               and (each.split, each.metric) == (figure.split, figure.metric)]
    worst = min(classes, key=lambda each: each.gain, default=None)
    return worst if worst and round(worst.gain, DIGITS.get(figure.unit, 0)) < 0 else None


def _signed(value: float | None, digits: int) -> str:
    if value is None:
        return DASH
    shown = f"{value:+.{digits}f}"
    return shown if float(shown) else shown.lstrip("+-")


def _change(figure: Judged) -> str:
    digits = DIGITS.get(figure.unit, 0)
    around = f" [{', '.join(_signed(each, digits) for each in figure.ci95)}]" if figure.ci95 else ""
    return _signed(figure.difference, digits) + around


def sentence(figure: Judged) -> str:
    """One figure in words: `regressed: si_sdri of siren (test): 4.71, now 3.20 dB (-1.51 [-1.70, -1.32]; tolerance 0.3)`."""
    digits, unit = DIGITS.get(figure.unit, 0), "" if figure.unit == "ratio" else f" {figure.unit}"
    values = [DASH if value is None else f"{value:.{digits}f}" for value in (figure.reference, figure.now)]
    facts = [] if figure.difference is None else [_change(figure)]
    facts += [] if figure.tolerance is None else [f"tolerance {figure.tolerance:g}"]
    facts += [figure.note] if figure.note else []
    facts += [f"{figure.unpaired} rows in only one of the two"] if figure.unpaired else []
    of = f" of {figure.label}" if figure.label else ""
    beside = f" ({'; '.join(facts)})" if facts else ""
    return f"{figure.verdict}: {figure.metric}{of} ({figure.split}): {values[0]}, now {values[1]}{unit}{beside}"


Remark = tuple[str, str, str]  # (error | warning | notice, title, words)


def of_figures(outcome: Outcome) -> Iterator[Remark]:
    """What fails or is better, one remark for each run and kind."""
    for pair in outcome.pairs:
        for level, title, figures in (("error", "", pair.having(*FAILING)), ("warning", " is better", pair.having(BETTER))):
            if figures:
                yield level, f"{pair.result.id}{title}", "\n".join(map(sentence, figures))


def of_runs(outcome: Outcome) -> Iterator[Remark]:
    """What no table of figures shows: runs that do not pair, what was set otherwise, what was left out."""
    if outcome.exit_code == NOTHING:
        yield "error", "nothing comparable", _why_nothing(outcome)
    for each in outcome.missing:
        yield "error", f"missing run {each.reference.id}", f"{each.reference.path}: {each.why.rstrip('.')}."
    for pair in outcome.pairs:
        if not pair.n_gated and not pair.having(*FAILING):
            yield "warning", f"{pair.result.id} is not gated", "None of its figures was held against a tolerance."
        if pair.differing:
            yield "notice", pair.result.id, f"set otherwise: {pair.differing}"
        for words in _of_rows(pair):
            yield "notice", pair.result.id, words
    level = "error" if outcome.strict or outcome.no_new else "warning"
    for run in outcome.new:
        yield level, f"new run {run.id}", f"{run.path}: none of its kind is frozen; freeze it to have it checked."
    for note in outcome.notes:
        yield "warning", "note", f"{note}."
    if outcome.verdicts[BETTER]:
        yield "notice", "better", "What is better goes on being held against the old figures. Freeze it to keep it."


def _why_nothing(outcome: Outcome) -> str:
    if outcome.pairs:
        return "no figure of these runs has a tolerance. Name their metrics in tolerances.yaml."
    return "none of the new runs can be held against a frozen one, for the reasons named with each."


def _of_rows(pair: Pair) -> Iterator[str]:
    """Rows that do not pair; and figures that were asked for by hand."""
    for figure in pair.figures:
        if figure.label:
            continue
        if figure.unpaired:
            yield (f"{figure.metric} ({figure.split}): {figure.unpaired} rows in only one of the two, left out of the "
                   f"difference; {figure.n} pair")
        if figure.verdict == SHOWN and figure.note and figure.difference is None:
            yield sentence(figure)


def _terminal(outcome: Outcome) -> str:
    parts = [render([table(outcome)])] if outcome.pairs else []
    lines = [f"{level}: {title}: {words}" for level, title, words in of_runs(outcome)]
    return "\n".join([*parts, *lines, summary(outcome)])


def _markdown(outcome: Outcome) -> str:
    parts = [render([table(outcome)], "md")] if outcome.pairs else []
    lines = [f"- {level}: {title}: {words}" for level, title, words in of_runs(outcome)]
    return "\n".join([*parts, *lines, "", f"**{summary(outcome)}**"])


def _github(outcome: Outcome) -> str:
    """The text, then workflow commands: one for each run and level, since a step shows ten of a level at most."""
    remarks = [*of_figures(outcome), *of_runs(outcome)]
    remarks.append(("error" if outcome.exit_code else "notice", "summary", summary(outcome)))
    return "\n".join([_terminal(outcome), *(_annotation(level, title, words) for level, title, words in remarks)])


def _annotation(level: str, title: str, words: str) -> str:
    return f"::{level} title={escaped(f'sepbench check: {title}', True)}::{escaped(words)}"


def escaped(words: str, is_property: bool = False) -> str:
    """`words` as GitHub's workflow commands want them; in a property, colon and comma end something."""
    marks = {"%": "%25", "\r": "%0D", "\n": "%0A"} | ({":": "%3A", ",": "%2C"} if is_property else {})
    return "".join(marks.get(each, each) for each in words)


def _json(outcome: Outcome) -> str:
    runs = [
        {"run": pair.result.id, "path": pair.result.path, "reference": pair.reference.path, "set_otherwise": pair.differing,
         "figures": [_plain_figure(figure) for figure in pair.figures]}
        for pair in outcome.pairs
    ]  # fmt: skip
    found = {
        "exit_code": outcome.exit_code, "summary": summary(outcome), "verdicts": dict(outcome.verdicts), "runs": runs,
        "missing_runs": [{"reference": each.reference.path, "why": each.why} for each in outcome.missing],
        "new_runs": [run.path for run in outcome.new], "notes": outcome.notes,
    }  # fmt: skip
    return json.dumps(finite(found), indent=2, ensure_ascii=False, allow_nan=False)


def _plain_figure(figure: Judged) -> dict[str, Any]:
    names = ("split", "metric", "label", "verdict", "unit", "tolerance", "reference", "now", "difference", "ci95")
    return {name: getattr(figure, name) for name in (*names, "n", "scenes", "unpaired", "note")}


FORMATS: dict[str, Callable[[Outcome], str]] = {
    "terminal": _terminal, "github": _github, "json": _json, "md": _markdown,
}  # fmt: skip
