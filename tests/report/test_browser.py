"""The report in a real Chromium: it opens without complaint, columns sort by click and by keyboard, a player plays."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from heard_runs import heard

from sepbench.cli_report import report
from sepbench.options import Door

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--window-size=1280,900",
    "--autoplay-policy=no-user-gesture-required",
)  # fmt: skip
WAIT_S = 30

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium with its driver (Debian: chromium-driver)")


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[object]:
    """Chromium with the report of three methods open."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="no selenium (the extra `test` brings it)")
    from selenium.webdriver.chrome.service import Service

    root = tmp_path_factory.mktemp("browser")
    for i, name in enumerate(("First", "Second", "Third <b>")):
        heard(root / "runs", recipe=f"recipe_{i}", name=name, seed=i, params={"alpha": 10.0, "shift": i})
    with pytest.raises(SystemExit) as stop:
        Door("sepbench", commands={"report": report})(["report", str(root / "runs"), "-o", str(root / "report.html")])
    assert stop.value.code == 0
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        driver.set_script_timeout(WAIT_S)
        driver.get((root / "report.html").as_uri())
        yield driver
    finally:
        driver.quit()


def column(browser, heading: str) -> tuple[object, int]:
    """The button of a heading in the first table that has it, and where its column is."""
    head = next(each for each in browser.find_elements("css selector", "thead th") if each.text.startswith(heading))
    return head.find_element("tag name", "button"), browser.execute_script("return arguments[0].cellIndex", head)


def words(browser, button, index: int) -> list[str]:
    script = "return Array.from(arguments[0].closest('table').tBodies[0].rows, row => row.cells[arguments[1]].textContent)"
    return browser.execute_script(script, button, index)


def direction(browser, button) -> str | None:
    return browser.execute_script("return arguments[0].parentElement.getAttribute('aria-sort')", button)


def test_it_opens_without_a_complaint_and_asks_nobody(browser):
    assert "sepbench report" in browser.title
    assert browser.get_log("browser") == []
    asked = "return performance.getEntriesByType('resource').map(entry => entry.name).filter(name => !/^(data|blob):/.test(name))"
    assert browser.execute_script(asked) == []


def test_a_column_sorts_both_ways_by_click(browser):
    button, index = column(browser, "Method")
    assert direction(browser, button) is None
    button.click()
    assert direction(browser, button) == "ascending"
    assert words(browser, button, index) == ["First", "Second", "Third <b>"]
    button.click()
    assert direction(browser, button) == "descending"
    assert words(browser, button, index) == ["Third <b>", "Second", "First"]


def test_a_column_sorts_by_keyboard_and_by_what_figures_are(browser):
    from selenium.webdriver.common.keys import Keys

    button, index = column(browser, "Method")
    table = browser.execute_script("return arguments[0].closest('table')", button)
    # figures whose order as words is another, and one that is absent
    put = "arguments[0].querySelectorAll('tbody tr').forEach((row, i) => {const cell = row.cells[arguments[1]];"
    put += "cell.textContent = arguments[2][i]; if (arguments[2][i] === '–') delete cell.dataset.v;"
    put += "else cell.dataset.v = arguments[2][i];})"
    button, index = column(browser, "SI-SDRi, dB")
    browser.execute_script(put, table, index, ["9", "–", "-10"])
    button.send_keys(Keys.ENTER)
    assert direction(browser, button) == "descending" and words(browser, button, index) == ["9", "-10", "–"]
    button.send_keys(Keys.SPACE)
    assert direction(browser, button) == "ascending" and words(browser, button, index) == ["-10", "9", "–"]
    assert len(browser.execute_script("return Array.from(arguments[0].querySelectorAll('[aria-sort]'))", table)) == 1


def test_the_keyboard_reaches_the_tables_past_the_contents(browser):
    from selenium.webdriver.common.keys import Keys

    browser.refresh()
    browser.find_element("tag name", "body").send_keys(Keys.TAB)
    link = browser.switch_to.active_element
    assert link.get_attribute("class") == "skip" and link.rect["x"] >= 0
    link.send_keys(Keys.ENTER)
    assert browser.execute_script("return document.activeElement.id") == "main"


PLAY = """
const done = arguments[1], audio = arguments[0];
audio.addEventListener("timeupdate", () => { if (audio.currentTime > 0) done([audio.currentTime, audio.duration]); });
audio.addEventListener("error", () => done(audio.error.message));
audio.play().catch((error) => done(String(error)));
"""


def test_a_player_plays_and_the_next_one_stops_it(browser):
    run = browser.find_element("css selector", "details.run")
    run.find_element("tag name", "summary").click()
    browser.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0], 0))")
    first, second = run.find_elements("tag name", "audio")[:2]
    at_s, duration_s = browser.execute_async_script(PLAY, first)
    assert at_s > 0 and duration_s == pytest.approx(1, abs=0.05)
    assert browser.execute_async_script(PLAY, second)[0] > 0
    assert browser.execute_script("return arguments[0].paused", first)
    assert browser.get_log("browser") == []


def test_pictures_can_be_drawn_by_the_browser(browser):
    browser.execute_script("document.querySelectorAll('details').forEach(each => each.open = true)")
    script = "Promise.all(Array.from(document.images, image => (image.loading = 'eager', image.decode()))).then("
    script += "() => arguments[0](Array.from(document.images, image => image.naturalWidth > 0)), "
    script += "error => arguments[0](String(error)))"
    drawn = browser.execute_async_script(script)
    assert isinstance(drawn, list) and len(drawn) > 50 and all(drawn)


def test_nothing_is_wider_than_a_small_screen(browser):
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_in_print_there_are_tables_and_no_players(browser):
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        shown = "return Array.from(document.querySelectorAll(arguments[0]), each => each.offsetParent !== null)"
        assert not any(browser.execute_script(shown, "audio")) and all(browser.execute_script(shown, "figure.table"))
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_without_scripts_the_tables_are_there(browser):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.refresh()
        rows = browser.find_elements("css selector", "figure.table tbody tr")
        assert rows and all(row.is_displayed() for row in rows[:3])
        assert not any(each.is_displayed() for each in browser.find_elements("css selector", "audio")[:3])
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


