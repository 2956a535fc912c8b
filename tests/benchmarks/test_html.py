"""The page of a report in a real Chromium: what is drawn, and that nothing is asked of a network."""

import re

import numpy as np
import pytest

from shmetrics.benchmarks.comparing import Ratio
from shmetrics.benchmarks.figures import Axis, Chapter, Column, Curve, Point, Report, Table, at_least
from shmetrics.benchmarks.reports.html import html
from tests.benchmarks.test_reports import REPORT
from tests.browsers import chromium
from tests.exporters.profiles.test_in_browser import CONTRAST

HOSTILE = "</script><script>alert(1)</script>\u202e<img src=http://198.51.100.1/>"
SCALING = Curve(
    "records a second",
    Axis("writers", logarithmic=True),
    Axis("rate", "1/s", logarithmic=True),
    {
        "shmetrics": tuple(Point(2.0**at, 1000.0 * 2**at, 900.0 * 2**at, 1100.0 * 2**at) for at in range(7)),
        "other": (Point(1, 500.0), Point(64, 700.0)),
        "lone": (Point(16, 2000.0),),
    },
)
PAGE = Report(REPORT.machine, (*REPORT.chapters, Chapter("scaling", "how it scales", (SCALING,), {}, {})))


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture
def tab(browser):
    with browser.page() as page:
        yield page


@pytest.fixture
def show(tab, tmp_path):
    """A function that shows a report."""

    def showing(report, **how):
        path = tmp_path / "report.html"
        path.write_text(html(report))
        return tab.open(path, **how)

    return showing


def painted(tab, selector, line):
    """How many pixels of an element have the colour of a line."""
    name = f"--line{line}"
    text = tab.run(f"getComputedStyle(document.documentElement).getPropertyValue('{name}').trim()")
    colour = [int(text[at : at + 2], 16) for at in (1, 3, 5)]
    return int(np.count_nonzero((tab.pixels(selector) == colour).all(axis=2)))


@pytest.mark.parametrize("how", [{}, {"scheme": "dark"}, {"width": 390, "height": 844, "phone": True}])
def test_curves_are_drawn_and_nothing_is_asked_for_or_complained_of(show, how):
    tab = show(PAGE, **how)
    for line in range(3):
        assert painted(tab, "#scaling ~ figure.curve canvas", line) > 8
    assert tab.complaints == []
    assert all(url.startswith("file:") for url in tab.requests)
    assert tab.run("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(show, scheme):
    worst = show(PAGE, scheme=scheme).run(CONTRAST)
    assert {what: contrast for what, contrast in worst.items() if contrast < 4.5} == {}


def test_bars_are_as_long_as_what_they_stand_for(show):
    table = Table("t", (Column("peer"), Column("median", "us", 1)), (("a", 1.0), ("b", 4.0), ("c", None)), (), "median")
    tab = show(Report({}, (Chapter("one", "what", (table,), {}, {}),)))
    widths = tab.run("[...document.querySelectorAll('.bar rect')].map((each) => each.getAttribute('width'))")
    assert widths == ["25.000%", "100.000%"]


def test_several_scenarios_are_linked_from_the_top(show):
    tab = show(PAGE)
    tab.click("nav a[href='#scaling']")
    assert tab.run("location.hash") == "#scaling"
    assert tab.run("document.querySelectorAll('nav a').length") == len(PAGE.chapters)


def test_claims_say_their_verdict_in_words(show):
    tab = show(PAGE)
    assert tab.run("[...document.querySelectorAll('.verdict')].map((each) => each.textContent)") == [
        "holds",
        "not measured",
    ]


def test_the_figures_of_a_curve_can_be_read_as_a_table_and_under_the_pointer(show):
    tab = show(PAGE)
    tab.run("document.querySelector('#scaling').scrollIntoView()")
    tab.settle()
    left, top, width, height = tab.box("#scaling ~ figure.curve .u-over")
    middle = top - tab.run("scrollY") + height / 2
    tab.send("Input.dispatchMouseEvent", type="mouseMoved", x=left + width / 2, y=middle)
    tab.settle()
    told = tab.run("document.querySelector('#scaling ~ figure.curve figcaption').textContent")
    assert told == "writers 8: shmetrics 8,000, other -, lone -"
    assert "<td>64,000.000</td>" in html(PAGE)


def test_names_that_are_markup_stay_text(show):
    curve = Curve(HOSTILE, Axis(HOSTILE), Axis(HOSTILE), {HOSTILE: (Point(1, 2.0), Point(2, 3.0))})
    table = Table(HOSTILE, (Column(HOSTILE),), ((HOSTILE,),), (HOSTILE,))
    claim = at_least(HOSTILE, 1.0, Ratio(2.0, 2.0, 2.0, (2.0, 2.0)), why=HOSTILE)
    tab = show(Report({HOSTILE: HOSTILE}, (Chapter("one", HOSTILE, (curve, table, claim), {HOSTILE: HOSTILE}, {}),)))
    assert (tab.complaints, len(tab.requests)) == ([], 1)
    assert tab.run("document.querySelectorAll('img, main script:not([type])').length") == 0
    assert "\u202e" not in tab.run("document.body.innerText")


def test_the_page_of_nothing_but_tables_needs_no_curve(show):
    assert show(Report({}, REPORT.chapters)).complaints == []
    assert re.search(r"<title>shmetrics bench</title>", html(REPORT))
