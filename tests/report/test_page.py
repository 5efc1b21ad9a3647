"""The page as a file: what is in it, what it escapes, what it leaves out, and that it asks nobody for anything."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from heard_runs import heard

from made_up_runs import made_up, put
from sepbench.cli_report import report
from sepbench.errors import UserError
from sepbench.options import Door
from sepbench.report.charts import Gains, _means, class_chart, gain_chart, training_chart
from sepbench.report.embedded import COLUMNS, ROWS, opus, spectrogram
from sepbench.report.page import chosen
from sepbench.report.page_sounds import Played, PlayedScene, Player, check_room, fitting
from sepbench.report.page_tables import page_tables, upright
from sepbench.results import read_runs
from sepbench.scene import Row
from sepbench.tables_format import Cell, Line, Table, text

NASTY = "</script><script>alert(1)</script><b>&\"'"


class Outline(HTMLParser):
    """Tags, headings and attributes of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def reported(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        Door("sepbench", commands={"report": report})(["report", *map(str, arguments)])
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    """The report of two methods with sounds, one of them with a name that is no name, and of a run that is broken."""
    root = tmp_path_factory.mktemp("page")
    heard(root / "runs", name=NASTY, labels=("dog_bark", NASTY))
    heard(root / "runs", recipe="other", name="Other")
    (root / "runs" / "broken").mkdir()
    (root / "runs" / "broken" / "run.json").write_text("{")
    assert reported(root / "runs", "-o", root / "report.html", "--threads", 1) == 0
    return (root / "report.html").read_text(encoding="utf-8")


def test_what_users_named_is_text_and_never_markup(page):
    outline = Outline(page)
    assert "alert(1)" in page and "<script>alert" not in page and "<b>&\"" not in page
    scripts = [attributes for tag, attributes in outline.tags if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "sounds"}, {}]


def test_the_page_asks_the_network_for_nothing(page):
    for tag, attributes in Outline(page).tags:
        for name in ("src", "href"):
            if name in attributes:
                assert attributes[name].startswith(("data:", "#")), (tag, attributes[name])
        assert not any(name.startswith("on") or name == "style" for name in attributes)
    policy = next(a["content"] for t, a in Outline(page).tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "http" not in policy


def test_headings_go_down_a_step_at_a_time(page):
    levels = [int(tag[1]) for tag, _ in Outline(page).tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:]))


def test_every_picture_says_what_it_shows_and_every_link_leads_somewhere(page):
    tags = Outline(page).tags
    assert all(attributes["alt"] for tag, attributes in tags if tag == "img")
    places = {attributes["id"] for _, attributes in tags if "id" in attributes}
    links = [attributes["href"][1:] for tag, attributes in tags if tag == "a"]
    assert links and set(links) <= places
    assert ("html", {"lang": "en", "class": "plain"}) in tags


def test_a_broken_run_is_named_and_left_out(page):
    assert "broken" in page and "2 finished runs" in page


def test_each_method_has_three_scenes_with_a_player_for_every_sound(page):
    tags = Outline(page).tags
    assert sum(attributes.get("class") == "run" for _, attributes in tags) == 2
    assert sum(attributes.get("class") == "scene" for _, attributes in tags) == 2 * 3
    keys = [attributes["data-sound"] for tag, attributes in tags if tag == "audio"]
    assert len(keys) == 2 * 3 * 5  # mixture, two references, two estimates
    assert all(f'"{key}": "' in page for key in keys)
    assert page.count("image/webp") == len(keys) + 1 and page.count("image/svg") == 4  # one more: the scale of colours


def test_a_sound_that_two_methods_share_is_there_once(page):
    sounds = re.search(r'id="sounds">(.*?)</script>', page)[1]
    keys = {attributes["data-sound"] for tag, attributes in Outline(page).tags if tag == "audio"}
    assert sounds.count('": "') == len(keys) < 2 * 3 * 5


def test_no_audio_means_none(tmp_path):
    heard(tmp_path / "runs")
    assert reported(tmp_path / "runs", "-o", tmp_path / "out.html", "--no-audio") == 0
    tags = [tag for tag, _ in Outline((tmp_path / "out.html").read_text()).tags]
    assert "audio" not in tags and "table" in tags


def test_runs_without_sounds_say_why(tmp_path):
    put(tmp_path / "runs")
    assert reported(tmp_path / "runs", "-o", tmp_path / "out.html") == 0
    html = (tmp_path / "out.html").read_text()
    assert "no sounds: " in html and "<audio" not in html


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (["{empty}", "-o", "{tmp}/r.html"], "no finished run"),
        (["{tmp}/nowhere", "-o", "{tmp}/r.html"], "no such folder"),
        (["{half}", "-o", "{tmp}/r.html"], "no finished run"),
        (["{runs}", "-o", "{tmp}/nowhere/r.html"], "no folder"),
        (["{runs}", "-o", "{tmp}"], "is a folder"),
        (["{runs}", "-o", "{tmp}/r.html", "--max-mb", "0.01"], "without any sound"),
        (["{runs}", "-o", "{tmp}/r.html", "--max-mb", "0"], "max-mb"),
        (["{runs}", "-o", "{tmp}/r.html", "--data", "esc55=x"], "Did you mean"),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, wanted, said):
    places = {"tmp": tmp_path, "empty": tmp_path / "empty", "half": tmp_path / "half", "runs": tmp_path / "runs"}
    places["empty"].mkdir()
    put(places["half"], finished=False)
    put(places["runs"])
    assert reported(*(word.format(**places) for word in wanted)) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("sepbench: ") and said in line and "Traceback" not in line
    assert not (tmp_path / "r.html").exists()


def test_rows_that_cannot_be_read_are_one_line(tmp_path, capsys):
    (put(tmp_path / "runs") / "rows.parquet").write_bytes(b"no rows")
    assert reported(tmp_path / "runs", "-o", tmp_path / "r.html") == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert any("rows.parquet" in line for line in lines) and all(line.startswith("sepbench: ") for line in lines)


def player(n: int) -> Player:
    return Player("Mixture", "", "p" * n, "key", "alt")


def with_sounds(name: str, n: int) -> Played:
    scene = PlayedScene("best", player(n), (), "", 1.0, 8.0)
    return Played(name, name, "", (scene,), {"key": "s" * n})


def test_the_last_of_the_longest_list_loses_its_sounds_first():
    lists = [[with_sounds("a", 100)], [with_sounds(name, 100) for name in "bcd"]]
    kept, n_dropped = fitting(lists, room=650, max_mb=1)
    assert [[bool(one.scenes) for one in each] for each in kept] == [[True], [True, True, False]] and n_dropped == 1
    assert "--max-mb" in kept[1][2].lacking
    assert fitting(lists, room=800, max_mb=1) == (lists, 0)
    assert fitting(lists, room=0, max_mb=1)[1] == 4


def test_a_page_that_is_too_large_without_sounds_is_refused():
    check_room(1_000_000, 1)
    with pytest.raises(UserError, match="without any sound"):
        check_room(1_000_001, 1)


def test_of_a_recipe_the_default_of_the_largest_profile_is_shown(tmp_path):
    put(tmp_path, profile="quick")
    put(tmp_path, profile="small", options={"alpha": 1.0}, changed={"alpha": 1.0})
    default = put(tmp_path, profile="small")
    other = put(tmp_path, profile="quick", recipe="other")
    assert {run.path for run in chosen(read_runs(tmp_path))} == {default, other}


def test_cells_keep_their_figure_in_full_and_their_interval():
    cells = (text("a"), Cell(1.23456, (1.0, 2.0), digits=1), Cell())
    (table,) = page_tables([Table("T\n(profile: small)", ("Method", "SI-SDRi, dB", "Params"), (Line(cells), Line(
        (text("b"), Cell(None), Cell(3.0, text="3 k"))),))])  # fmt: skip
    assert (table.title, table.subtitle) == ("T", "profile: small")
    first = table.rows[0][1]
    assert (first.main, first.rest, first.key) == ("1.2", "[1.0, 2.0]", "1.23456")
    assert (table.rows[1][1].main, table.rows[1][1].key) == ("–", None)
    assert [(column.numeric, column.falling) for column in table.columns] == [(False, False), (True, True), (True, False)]


def test_many_classes_are_rows_and_few_are_columns():
    def by_class(n: int) -> Table:
        headings = ("Method", "Corpus", *(f"class_{i}" for i in range(n)))
        rows = [Line((text(name), text("esc50"), *(Cell(k + i, n=5) for i in range(n)))) for k, name in ((0, "A"), (100, "B"))]
        return Table("By class", headings, tuple(rows))

    few, many = by_class(5), by_class(50)
    assert upright(few, "Class") is few
    turned = upright(many, "Class")
    assert turned.headings == ("Class", "A", "B") and len(turned.rows) == 50
    assert [[cell.show() for cell in row.cells] for row in turned.rows[7:8]] == [["class_7", "7.0", "107.0"]]


@pytest.mark.parametrize("rate_hz", [8000, 11025, 16000, 32000, 44100])
def test_opus_keeps_pitch_and_length(rate_hz, tmp_path):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * rate_hz) / rate_hz)
    (tmp_path / "tone.ogg").write_bytes(base64.b64decode(opus(tone, rate_hz)))
    audio, to_hz = soundfile.read(tmp_path / "tone.ogg")
    assert len(audio) / to_hz == pytest.approx(2, abs=0.05)
    assert np.abs(np.fft.rfft(audio)).argmax() * to_hz / len(audio) == pytest.approx(440, abs=2)


def test_a_spectrogram_has_low_frequencies_at_the_bottom_and_its_tone_where_it_sounds():
    from PIL import Image

    tone = np.zeros(16000, np.float32)
    tone[8000:] = np.sin(2 * np.pi * 1000 * np.arange(8000) / 16000)
    import io

    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(spectrogram(tone, 16000, 0.0)))).convert("L"), float)
    assert picture.shape == (ROWS, COLUMNS)
    row = picture[:, COLUMNS // 2 + 20 :].mean(1).argmax()
    assert (ROWS - 1 - row) / ROWS == pytest.approx(1000 / 8000, abs=0.04)
    assert picture[row, : COLUMNS // 2 - 20].mean() < picture[row, COLUMNS // 2 + 20 :].mean() / 4


def svg(chart) -> str:
    return base64.b64decode(chart.svg).decode()


def test_charts_name_methods_classes_and_axes():
    random = np.random.default_rng(0)
    own = Gains(random.normal(0, 5, 200), random.normal(3, 2, 200), np.repeat(np.arange(100), 2).astype(object))
    chart = svg(gain_chart({"iTDCN++ <a>": own, "B": own}, "SI-SDRi, dB"))
    assert "iTDCN++ &lt;a&gt;" in chart and "Input SI-SDR, dB" in chart and "SI-SDRi, dB" in chart
    figures = {"dog_bark": {"mean": 2.0, "ci95": [1.0, 3.0]}, "$x$ _": {"mean": -1.0, "ci95": None}}
    chart = svg(class_chart({"A": figures}, "SI-SDRi, dB"))
    assert "Dog bark" in chart and "$x$" in chart
    assert gain_chart({}, "x") is None and class_chart({"A": {}}, "x") is None


def test_training_has_a_panel_per_stage(tmp_path):
    for stage in ("critic", "separator"):
        (tmp_path / f"history-{stage}.csv").write_text("step,epoch,lr,train_loss\n1,0,0.1,3\n2,1,0.1,2\n")
    chart = training_chart(tmp_path, ("separator", "critic"), "Method")
    assert svg(chart).index("Separator") < svg(chart).index("Critic") and "2 stages" in chart.alt
    assert training_chart(Path(tmp_path / "none"), (), "Method") is None


def test_a_mean_of_one_scene_has_no_interval_and_no_whisker():
    of_one = Gains(np.zeros(20), np.arange(20.0), np.repeat(["s"], 20).astype(object))
    of_many = Gains(np.zeros(20), np.arange(20.0), np.arange(20).astype(object))
    (_, mean, low, high), (_, _, *ends) = _means(of_one), _means(of_many)
    assert mean.tolist() == [9.5] and np.isnan([low, high]).all() and np.isfinite(ends).all()
    lone, both = (svg(gain_chart({"A": own}, "SI-SDRi, dB")) for own in (of_one, of_many))
    assert "LineCollection" in both and len(lone) < len(both)


def test_the_page_says_of_what_it_shows_no_chart_and_no_sound(tmp_path):
    for seed in range(13):
        heard(tmp_path / "runs", seed=seed, task__corpus="esc50")
    put(tmp_path / "runs", recipe="other", task__corpus="synthetic")
    assert reported(tmp_path / "runs", "-o", tmp_path / "r.html") == 0
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert html.count("Shown: one run of each recipe, of 13 runs.") == 2 and "Of one run of each recipe, of 13 runs." in html
    assert re.search(r"without charts and sounds: urban_events on SYNTHETIC sounds[^<]*\(1 run\)", html)


def test_the_page_says_what_a_split_beyond_the_first_lacks(tmp_path):
    seen = [Row("r", "seen", f"s{k}", 0, "siren", name, float(k)) for k in range(12) for name in ("si_sdri", "si_sdr_mixture")]
    heard(tmp_path / "runs", rows=[*made_up(), *seen])
    assert reported(tmp_path / "runs", "-o", tmp_path / "r.html") == 0
    assert re.search(r"without charts and sounds: [^<]*, seen: ", (tmp_path / "r.html").read_text(encoding="utf-8"))


def test_scenes_without_any_answer_are_counted(tmp_path, page):
    heard(tmp_path / "runs", rows=made_up(n_missed=5))  # both sources of two scenes, and one of another
    assert reported(tmp_path / "runs", "-o", tmp_path / "r.html") == 0
    assert "; 2 scenes without any answer, neither best nor worst" in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "without any answer" not in page and "without charts" not in page and "Shown: " not in page


def test_every_run_is_named_in_words_that_need_no_pointer(page):
    said = re.sub(r'title="[^"]*"', "", page)
    hashes = set(re.findall(r'title="[^"]*-([0-9a-f]{8})"', page))
    assert len(hashes) == 2 and all(each in said for each in hashes)
    assert re.search(r"<li>Other: <span>other-quick-synthetic-[0-9a-f]{8}</span></li>", said)


def test_runs_are_named_by_column_where_the_rows_do_not_differ():
    row = [Line((text(part), Cell(1.0, runs=("a-1",)), Cell(2.0, runs=("b-2",)))) for part in ("1", "2")]
    assert page_tables([Table("T", ("Sources", "A", "B"), tuple(row), ())])[0].named == (("A", "a-1"), ("B", "b-2"))


def test_the_page_tells_budgets_as_the_tables_do(tmp_path):
    put(tmp_path / "runs", budget={"scenes": 16000})
    put(tmp_path / "runs", seed=1)
    assert reported(tmp_path / "runs", "-o", tmp_path / "r.html", "--no-audio") == 0
    assert "within a budget: 1 run of 16,000 scenes;" in (tmp_path / "r.html").read_text(encoding="utf-8")
