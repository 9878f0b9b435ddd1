"""verify.report's page in headless Chromium: silent console, no request, and a table that does what it says.

Skipped where selenium, chromium or chromedriver is absent (Debian: chromium, chromium-driver).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from tests.small_comparison import compared
from verify.report import write_page

for package in ("selenium", "plotly", "jinja2"):
    pytest.importorskip(package)

from selenium import webdriver  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1280,1000"
).split()
NAMES = ["conv", "bn", "relu", "add", "<out>"]
FAILED = compared(epsilon=1e-2)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory) -> Iterator[Any]:
    """A browser with an empty profile, its log and its requests recorded."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("no chromium with chromedriver on the PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_page(*FAILED, path)
    return path


@pytest.fixture
def page(chromium, report) -> Any:
    """The failed comparison's page, freshly loaded."""
    return opened(chromium, report)


def opened(chromium: Any, path: Path, fragment: str = "") -> Any:
    chromium.get("about:blank")
    chromium.get(f"{path.as_uri()}{fragment}")
    return chromium


def names(page: Any) -> List[str]:
    """The layers shown, from top to bottom."""
    buttons = page.find_elements(By.CSS_SELECTOR, "#table .opens")
    return [button.text for button in buttons if button.is_displayed()]


def heading(page: Any, title: str) -> Any:
    return next(
        each for each in page.find_elements(By.CSS_SELECTOR, "#table > thead th") if each.text.startswith(title)
    )


def click_sort(page: Any, title: str) -> str:
    """Clicks a heading; returns the direction it then shows."""
    heading(page, title).find_element(By.TAG_NAME, "button").click()
    return heading(page, title).get_attribute("aria-sort")


def fill_of(page: Any, name: str) -> str:
    """The colour that a layer's box is drawn with."""
    box = page.find_element(By.CSS_SELECTOR, f"#node-{NAMES.index(name)} rect")
    return page.execute_script("return getComputedStyle(arguments[0]).fill", box)


def test_it_loads_silently_and_requests_nothing(chromium, tmp_path):
    path = tmp_path / "passed.html"
    write_page(*compared(), path)
    for kind in ("browser", "performance"):
        chromium.get_log(kind)
    opened(chromium, path)
    assert chromium.title == "PASSED: block, layer by layer"
    assert chromium.find_elements(By.CSS_SELECTOR, "#error-plot .main-svg")
    events = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    requested = [each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"]
    assert path.as_uri() in requested
    inside = (path.as_uri(), "about:blank", "data:")  # plotly 5 tries a data: image to see if WebP works
    assert [url for url in requested if not url.startswith(inside)] == []
    assert chromium.get_log("browser") == []


def test_the_log_would_show_an_error_and_the_policy_stops_a_request(page):
    page.get_log("browser")
    page.execute_script("const image = new Image(); image.src = 'http://127.0.0.1:9/x.png'; console.error('heard')")
    messages = " ".join(entry["message"] for entry in page.get_log("browser"))
    assert "heard" in messages and "Content Security Policy" in messages


def test_both_plots_are_drawn(page):
    points = page.execute_script("return document.querySelectorAll('#error-plot .scatterlayer .point').length")
    bars = page.execute_script("return document.querySelectorAll('#histogram .barlayer .point').length")
    both = sum(each.error > 0 for row in FAILED.comparison.rows for each in (row.isolated, row.accumulated))
    assert points >= both and bars > 1


@pytest.mark.parametrize("title, figure", [("isolated", "isolated"), ("accumulated", "accumulated")])
def test_errors_sort_as_numbers_in_both_directions(page, title, figure):
    rows = FAILED.comparison.rows
    ascending = [row.layer for row in sorted(rows, key=lambda row: getattr(row, figure).error)]
    descending = [row.layer for row in sorted(rows, key=lambda row: -getattr(row, figure).error)]
    assert names(page) == NAMES
    assert (click_sort(page, title), names(page)) == ("ascending", ascending)
    assert (click_sort(page, title), names(page)) == ("descending", descending)
    assert (click_sort(page, "#"), names(page)) == ("ascending", NAMES)


def test_text_sorts_by_keyboard_alone(page):
    button = heading(page, "type").find_element(By.TAG_NAME, "button")
    button.send_keys(Keys.ENTER)
    assert names(page) == ["relu", "<out>", "bn", "conv", "add"]
    button.send_keys(Keys.SPACE)
    assert names(page) == ["add", "conv", "bn", "relu", "<out>"]


def test_filter_finds_names_types_and_tensors_by_all_words(page):
    field = page.find_element(By.ID, "filter")
    found = {}
    for text in ("BATCH", "activation", "conv/kernel_of_source", "activation out", "no such thing"):
        field.clear()
        field.send_keys(text)
        found[text] = names(page)
        assert page.find_element(By.ID, "shown").text == f"{len(found[text])} of 5 layers"
    assert list(found.values()) == [["bn"], ["relu", "<out>"], ["conv"], ["<out>"], []]


def test_failed_only_works_together_with_the_filter_and_with_sorting(page):
    page.find_element(By.ID, "failed-only").click()
    assert names(page) == NAMES[1:]
    page.find_element(By.ID, "filter").send_keys("activation")
    click_sort(page, "#")
    assert names(page) == ["<out>", "relu"]


def test_a_row_opens_and_closes_by_keyboard_and_shows_its_ledger(page):
    button = page.find_elements(By.CSS_SELECTOR, "#table .opens")[1]
    detail = page.find_element(By.ID, button.get_attribute("aria-controls"))
    assert not detail.is_displayed()
    button.send_keys(Keys.ENTER)
    assert detail.is_displayed() and button.get_attribute("aria-expanded") == "true"
    assert FAILED.ledger[2]["sha256"] in detail.text and "bn/gamma_of_source" in detail.text
    button.send_keys(Keys.ENTER)
    assert not detail.is_displayed() and button.get_attribute("aria-expanded") == "false"


def test_a_link_to_a_row_opens_it_even_if_the_filter_hides_it(page):
    page.find_element(By.ID, "filter").send_keys("conv")
    page.find_element(By.CSS_SELECTOR, ".first-bad a[href='#row-1']").click()
    assert names(page) == NAMES
    assert page.find_element(By.ID, "detail-1").is_displayed()


def test_an_address_with_a_row_opens_it(chromium, report):
    assert opened(chromium, report, "#row-3").find_element(By.ID, "detail-3").is_displayed()


def test_the_network_is_coloured_by_either_error(page):
    isolated = {name: fill_of(page, name) for name in ("conv", "bn", "relu")}
    assert len(set(isolated.values())) == 3
    page.find_element(By.CSS_SELECTOR, "input[value=accumulated]").click()
    accumulated = {name: fill_of(page, name) for name in ("conv", "bn", "relu")}
    assert accumulated["bn"] == isolated["bn"] and accumulated["relu"] != isolated["relu"]


def test_a_box_shows_its_details_to_the_keyboard_too(page):
    node = page.find_element(By.ID, "node-1")
    page.find_element(By.ID, "drawing").send_keys(Keys.TAB, Keys.TAB, Keys.TAB)  # image, conv, bn
    card = page.find_element(By.ID, "card")
    assert page.switch_to.active_element == node and card.is_displayed()
    assert card.text.startswith("bn\nbatch_norm, float32 1 x 4 x 5 x 7\nisolated ")
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not card.is_displayed()


def test_another_layer_has_another_histogram(page):
    caption = page.find_element(By.ID, "histogram-caption")
    before = caption.text
    page.find_element(By.CSS_SELECTOR, "#histogram-layer option:nth-child(2)").click()
    assert before.startswith("conv") and caption.text.startswith("bn")


def test_plots_follow_the_colour_scheme(page):
    def axis_ink(scheme: str) -> str:
        features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
        return page.execute_async_script(
            "const done = arguments[0]; setTimeout(() => done(getComputedStyle("
            "document.querySelector('#error-plot .xtitle, #error-plot .xtick text')).fill), 300)"
        )

    assert axis_ink("light") != axis_ink("dark")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
