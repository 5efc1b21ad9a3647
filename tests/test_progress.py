"""Progress tells enough, and not too much."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from sepbench.progress import LINE_EVERY_S, PlainProgress, TerminalProgress, make_progress


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def lines_of(out: io.StringIO) -> list[str]:
    return out.getvalue().splitlines()


def test_a_plain_bar_says_at_most_one_line_in_ten_seconds(clock):
    out = io.StringIO()
    with PlainProgress(out, clock).bar("training", 1000) as bar:
        for _ in range(1000):
            clock.now_s += 0.05
            bar.advance()
    assert 4 <= len(lines_of(out)) <= 50 / LINE_EVERY_S + 1


def test_a_plain_line_holds_count_rate_time_left_and_facts(clock):
    out = io.StringIO()
    with PlainProgress(out, clock).bar("training", 100) as bar:
        clock.now_s = 10
        bar.advance(20, loss=0.123456)
        assert lines_of(out) == ["training: 20/100, 2/s, 40.0 s left, loss=0.1235"]


def test_the_rate_is_of_now_so_that_a_resumed_bar_does_not_boast(clock):
    out = io.StringIO()
    with PlainProgress(out, clock).bar("training", 1000) as bar:
        clock.now_s = 10
        bar.advance(900)
        clock.now_s = 20
        bar.advance(10)
    assert "910/1000, 1/s, 1:30 left" in lines_of(out)[1]


def test_a_bar_without_a_total_counts(clock):
    out = io.StringIO()
    with PlainProgress(out, clock).bar("reading", None) as bar:
        bar.advance(3)
    assert lines_of(out) == ["reading: 3 in 0.0 s"]


def test_terminal_bars_nest_and_leave_text_as_it_is():
    out = io.StringIO()
    progress = TerminalProgress(out)
    with progress.bar("outer [1]", 2) as outer:
        with progress.bar("inner", None) as inner:
            inner.advance(5, loss=0.5, note="[bold]")
        outer.advance(2)
        progress.say("said [red]plainly[/red]")
    assert progress.display is None
    shown = out.getvalue()
    assert "outer [1]" in shown and "2/2" in shown
    assert "loss=0.5, note=[bold]" in shown and "said [red]plainly[/red]" in shown


def test_a_bar_that_fails_closes_the_display():
    progress = TerminalProgress(io.StringIO())
    with pytest.raises(RuntimeError), progress.bar("outer", 1):
        raise RuntimeError
    assert progress.display is None


def test_where_no_terminal_is_lines_are_plain(capsys):
    progress = make_progress()
    progress.say("a line")
    assert isinstance(progress, PlainProgress)
    assert capsys.readouterr().err == "a line\n"


def test_plain_progress_loads_no_rich():
    code = "import sys, sepbench.progress as p; p.make_progress(False).say('x'); print('rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
