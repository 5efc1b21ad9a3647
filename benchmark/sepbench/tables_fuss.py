"""FUSS's figures: how well by the number of sources, and beside them how often too few or too many were found."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sepbench.results import RunRecord
from sepbench.tables_facts import figures_of, interval, method_names, scene_settings, split_fact
from sepbench.tables_format import Cell, Line, Table, text

ALONE, POOLED = "fuss_si_snr_1", "fuss_si_snri"
BY_COUNT = {
    ALONE: "1 source: SI-SNR, dB",
    "fuss_si_snri_2": "2 sources: SI-SNRi, dB",
    "fuss_si_snri_3": "3: SI-SNRi, dB",
    "fuss_si_snri_4": "4: SI-SNRi, dB",
    POOLED: "2-4: SI-SNRi, dB",
}
RATES = {"under_separation": "Under-separated", "equal_separation": "Equally", "over_separation": "Over-separated"}
NOTE = (
    "SI-SNR where one source sounds, else its improvement; 2-4 is over all pairs, and no mean of the three. A pair counts if "
    "its estimate is louder than the quietest source less 20 dB. Left out: sources whose estimate is not, or that have none. "
    "Who finds too few sources is flattered: read the figures with the share of scenes in which too few, as many or too many "
    "estimates are so loud. [ ]: 95 % interval."
)


def count_tables(runs: Sequence[RunRecord], split: str, but: Collection[str]) -> list[Table]:
    """One table of those `runs`, all on the same scenes, that have such figures, if any has. `but`: as in `method_names`."""
    scored = [run for run in runs if any(figures_of(run, split, name) for name in BY_COUNT)]
    if not scored:
        return []
    names = method_names(scored, but)
    best_first = sorted(scored, key=lambda run: (-_mean(run, split, POOLED), -_mean(run, split, ALONE), run.id))
    lines = [_line(run, names[run.id], split) for run in best_first]
    task, mixing = scored[0].config["task"], scene_settings(scored[0], split)["mixing"]
    room = f", room {mixing['room']}" if "room" in mixing else ""
    title = f"{task['name']} by the number of sources{room}, {split}"
    headings = ("Method", "Supervision", "Profile", *BY_COUNT.values(), "Left out", *RATES.values())
    return [Table(title, headings, tuple(lines), (NOTE,), ("Supervision", "Profile"))]


def _line(run: RunRecord, name: str, split: str) -> Line:
    supervision = "ORACLE" if run.config.get("supervision") == "oracle" else run.config.get("supervision")
    words = (text(name), text(supervision), text(run.config["profile"]))
    figures = [_cell(run, split, metric, 1) for metric in BY_COUNT]
    rates = [_cell(run, split, metric, 2) for metric in RATES]
    facts = {"corpus": run.config["task"]["corpus"], "profile": run.config["profile"], "split": split_fact(run, split)}
    return Line((*words, *figures, _left_out(run, split), *rates), facts)


def _cell(run: RunRecord, split: str, metric: str, digits: int) -> Cell:
    figures = figures_of(run, split, metric)
    if figures is None:
        return Cell()
    unit = str(run.metrics[split][metric].get("unit") or "")
    return Cell(figures["mean"], interval(figures), n=figures.get("n"), unit=unit, digits=digits, runs=(run.id,))


def _left_out(run: RunRecord, split: str) -> Cell:
    """How many references have no figure, of how many."""
    held = [((run.metrics.get(split) or {}).get(name) or {}).get("all") or {} for name in (ALONE, POOLED)]
    lost = sum(own.get("undefined", 0) for own in held)
    return Cell(lost, text=f"{lost} of {lost + sum(own.get('n', 0) for own in held)}", digits=0, runs=(run.id,))


def _mean(run: RunRecord, split: str, metric: str) -> float:
    figures = figures_of(run, split, metric)
    return -float("inf") if figures is None else float(figures["mean"])
