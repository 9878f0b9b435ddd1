"""verify.report's page as text: well-formed, self-contained, escaped, complete, readable in light and dark."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import pytest

from spec.errors import UsageError
from tests.small_comparison import Case, compared
from verify.compare import Tolerance, difference
from verify.report import page, plots, write_page
from verify.report.scale import error_scale

pytest.importorskip("plotly")
pytest.importorskip("jinja2")

PASSED, FAILED = compared(), compared(epsilon=1e-2)
UNCLOSED = {"meta", "link", "input", "br", "hr", "img", "path", "rect", "circle", "line"}
ADDRESSES = {"src", "href", "xlink:href", "action", "data", "poster", "srcset"}


class Page(HTMLParser):
    """The elements of a page; refuses tags that are closed in another order than they were opened.

    Attributes:
        elements: tag and attributes, in order.
        text: by tag, the text directly in it.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: List[Tuple[str, Dict[str, Any]]] = []
        self.text: Dict[str, List[str]] = {}
        self._open: List[str] = []
        self.feed(html)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        assert len(dict(attributes)) == len(attributes), f"<{tag}> has an attribute twice"
        self.elements.append((tag, dict(attributes)))
        if tag not in UNCLOSED:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attributes: Any) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open.pop() == tag, f"</{tag}> in line {self.getpos()[0]} closes something else"

    def handle_data(self, data: str) -> None:
        if self._open:
            self.text.setdefault(self._open[-1], []).append(data)

    def all(self, tag: str) -> List[Dict[str, Any]]:
        return [attributes for each, attributes in self.elements if each == tag]


def rendered(case: Case) -> Page:
    return Page(page.render(*case))


@pytest.fixture(scope="module", params=[PASSED, FAILED], ids=["passed", "failed"])
def case(request):
    return request.param


@pytest.fixture(scope="module")
def html(case):
    return rendered(case)


def test_nothing_is_fetched_from_anywhere(html):
    addresses = [value for _, attributes in html.elements for key, value in attributes.items() if key in ADDRESSES]
    assert addresses and all(address.startswith("#") for address in addresses)
    assert not re.search(r"@import|url\(", "".join(html.text["style"]))
    policy = next(each["content"] for each in html.all("meta") if each.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';") and "http" not in policy and "connect-src" not in policy


def test_every_link_arrives_and_every_id_is_unique(html):
    ids = [attributes["id"] for _, attributes in html.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    named = [each["href"][1:] for each in html.all("a") if "href" in each]
    named += [attributes["aria-controls"] for _, attributes in html.elements if "aria-controls" in attributes]
    named += [attributes["aria-labelledby"] for _, attributes in html.elements if "aria-labelledby" in attributes]
    named += [each["for"] for each in html.all("label") if "for" in each]
    assert set(named) <= set(ids)


def test_verdict_comes_first(case, html):
    assert html.text["h1"] == ["PASSED" if case.comparison.passed else "FAILED"]
    first_bad = [text for text in html.text["h2"] if text.startswith("First bad layer")]
    assert bool(first_bad) is not case.comparison.passed


def test_every_row_has_its_figures_and_its_ledger(case, html):
    bodies = [each for each in html.all("tbody") if "data-words" in each]
    assert len(bodies) == len(case.comparison.rows)
    cells = html.text["td"] + html.text["code"]
    for entry in case.ledger:
        for expected in (entry["tensor"], entry["rule"], entry["sha256"]):
            assert expected in cells
    for row in case.comparison.rows:
        index, candidate, reference = row.accumulated.worst
        assert {str(list(index)), f"{candidate:.9g}", f"{reference:.9g}"} <= set(cells)
        assert row.reference in cells


def test_names_are_escaped(html):
    text = page.render(*FAILED)
    assert "<out>" not in text and "&lt;out&gt;" in text
    assert "out" not in {tag for tag, _ in html.elements}
    assert "<out>" in html.text["option"] or "<out>" in html.text["button"]


def test_the_first_bad_layer_comes_with_its_diagnosis():
    rows = [row._replace(diagnosis=("epsilon 0.001 agrees to <1e-07",)) for row in FAILED.comparison.rows]
    html = rendered(FAILED._replace(comparison=FAILED.comparison._replace(rows=tuple(rows))))
    assert "bn" in html.text["code"] and "epsilon 0.001 agrees to <1e-07" in html.text["li"]


def test_a_comparison_of_nothing_is_a_page_that_says_so():
    html = rendered(Case(PASSED.comparison._replace(rows=()), PASSED.graph, {}, []))
    assert html.text["h1"] == ["FAILED"]
    assert any("Nothing was compared, which counts as failed" in text for text in html.text["p"])


def test_a_row_that_could_not_be_compared_says_why():
    rows = list(PASSED.comparison.rows)
    rows[2] = rows[2]._replace(isolated=None, accumulated=None, problem="the reference has no tensor 'relu:0'")
    html = rendered(PASSED._replace(comparison=PASSED.comparison._replace(rows=tuple(rows))))
    assert html.text["h1"] == ["FAILED"]
    assert "the reference has no tensor 'relu:0'" in html.text["p"]
    assert any("problem" in (each.get("class") or "") for each in html.all("p"))


def test_an_index_that_differs_is_counted_and_has_no_small_error():
    found = difference(np.array([3, 995]), np.array([3, 999]), Tolerance())
    rows = list(PASSED.comparison.rows)
    rows[2] = rows[2]._replace(isolated=found, accumulated=found)
    html = rendered(PASSED._replace(comparison=PASSED.comparison._replace(rows=tuple(rows))))
    assert html.text["h1"] == ["FAILED"]
    assert html.text["td"].count("1 differs") == 4  # in the row and in its details
    assert any("whole numbers equal" in each for each in html.text["dd"])


def test_the_page_says_by_which_command_and_when_it_was_made(tmp_path):
    made = "run.py --set 'a=<b>', 2026-11-22 19:34 UTC"
    write_page(*PASSED, tmp_path / "report.html", made)
    assert Page((tmp_path / "report.html").read_text("utf-8")).text["dd"][-1] == made
    assert "made by" not in rendered(PASSED).text["dt"]


def test_written_whole(tmp_path):
    path = tmp_path / "report.html"
    write_page(*PASSED, path)
    assert path.read_text("utf-8").startswith("<!DOCTYPE html>")
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("package", ["plotly", "jinja2"])
def test_a_missing_package_is_a_message_with_the_command(monkeypatch, package, tmp_path):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=r"pip install -e '.\[report\]'"):
        write_page(*PASSED, tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


# Plots ---------------------------------------------------------------------------------------------------------------


def traces(case: Case) -> Dict[str, Any]:
    figure = plots.error_plot(case.comparison, error_scale(case.comparison))
    return {trace["name"]: trace for trace in figure["data"]}


def test_error_plot_has_both_errors_of_every_layer():
    found = traces(FAILED)
    for kind in ("isolated", "accumulated"):
        errors = [getattr(row, kind).error for row in FAILED.comparison.rows]
        assert found[kind]["y"] == [error or None for error in errors]
    assert found["tolerance"]["y"] == [1e-5] * 5
    failing = sum(not each.passed for row in FAILED.comparison.rows for each in (row.isolated, row.accumulated))
    assert len(found["failed"]["x"]) == failing == 5
    assert (
        "<b" not in found["isolated"]["text"][4].replace("<br>", "") and "&lt;out&gt;" in found["isolated"]["text"][4]
    )


def test_exact_layers_are_drawn_at_the_floor():
    case = compared(image=np.zeros((1, 3, 5, 7)))
    exact = [
        number for number, row in enumerate(case.comparison.rows) if 0 in (row.isolated.error, row.accumulated.error)
    ]
    marks = traces(case)["exact: error 0"]
    assert exact and marks["x"] == exact
    assert set(marks["y"]) == {error_scale(case.comparison).floor}


def test_an_atol_gives_every_layer_its_own_limit():
    tolerance = Tolerance(atol=1e-4, rtol=1e-6)
    case = compared(tolerance=tolerance)
    expected = [1e-6 + 1e-4 / row.accumulated.magnitude for row in case.comparison.rows]
    assert traces(case)["tolerance"]["y"] == pytest.approx(expected)


def test_histogram_counts_every_element_once_in_the_right_bin():
    candidate, reference = FAILED.arrays["bn"]
    figure = plots.histogram(candidate, reference, Tolerance())
    bars = figure["data"][0]
    delta = ((candidate.astype(np.float64) - reference) / np.abs(reference).max()).ravel()
    assert sum(count or 0 for count in bars["y"]) == delta.size
    fullest = int(np.argmax([count or 0 for count in bars["y"]]))
    low, high = bars["customdata"][fullest]
    assert bars["y"][fullest] == int(((delta >= low) & (delta < high)).sum())
    assert len(figure["layout"]["shapes"]) == 2


def test_caption_says_how_many_are_beyond_the_tolerance():
    candidate, reference = np.array([1.0, 2.0, 3.0, 4.5]), np.array([1.0, 2.0, 3.1, 4.0])
    facts = plots.caption(candidate, reference, Tolerance(rtol=0.1))
    assert facts[:2] == ["4 elements", "50.0% exactly equal"]
    assert facts[-2:] == ["largest 1.2e-01, in units of max|r| = 4", "1 beyond the tolerance of ±0.1"]


@pytest.mark.parametrize(
    "candidate, reference, reason",
    [
        (np.ones(3), np.ones(4), "the candidate has shape (3,), the reference (4,)"),
        (np.array([1, np.nan]), np.ones(2), "the candidate holds values that are NaN or infinite"),
        (np.ones(2), np.array([1, np.inf]), "the reference holds values that are NaN or infinite"),
        (np.ones(2), np.zeros(2), "the reference is all zero"),
        (np.ones(0), np.ones(0), "no elements"),
    ],
    ids=["shapes", "NaN", "inf", "zero", "empty"],
)
def test_what_cannot_be_drawn_says_why(candidate, reference, reason):
    found = page.histograms(Tolerance(), {"layer": (candidate, reference)})
    assert found == [{"layer": "layer", "figure": None, "caption": ["layer", f"no histogram: {reason}"]}]


def test_figures_are_standard_json():
    html = page.render(*FAILED)
    text = re.search(r'<script type="application/json" id="figures">(.*?)</script>', html, re.DOTALL).group(1)
    figures = json.loads(text, parse_constant=lambda literal: pytest.fail(f"{literal} in JSON"))
    assert [each["layer"] for each in figures["histograms"]] == list(FAILED.arrays)


# Contrast ------------------------------------------------------------------------------------------------------------

TEXT = [("ink", "paper"), ("ink", "panel"), ("soft", "paper"), ("soft", "panel"), ("link", "paper"), ("link", "panel"),
        ("passed-ink", "paper"), ("failed-ink", "paper"), ("failed-ink", "failed-panel"), ("ink", "failed-panel"),
        ("failed-ink", "panel"), ("link", "failed-panel"), ("paper", "failed-ink"), ("box-ink", "box-exact"),
        ("box-ink", "panel")]  # fmt: skip
BOXES = [("box-ink", end) for end in ("passed-low", "passed-high", "failed-low", "failed-high")]
MARKS = [(mark, "paper") for mark in ("isolated", "accumulated", "shipped", "exact", "failed", "tolerance", "box-line")]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    "front, back, least",
    [(*pair, 4.5) for pair in TEXT + BOXES] + [(*pair, 3.0) for pair in MARKS],
    ids=lambda each: str(each),
)
def test_contrast_of_text_and_marks(scheme, front, back, least):
    """WCAG 2.1: 4.5 for text (1.4.3), 3 for what a graphic says (1.4.11). A mix of two inks lies between them."""
    sheet = (Path(page.__file__).parent / "page.css").read_text("utf-8")
    inks = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", re.findall(r":root \{(.*?)\}", sheet, re.DOTALL)[scheme]))
    light, dark = sorted((luminance(inks[front]), luminance(inks[back])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= least


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb; https://www.w3.org/TR/WCAG21/#dfn-relative-luminance."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
