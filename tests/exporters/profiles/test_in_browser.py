"""The pages in a real Chromium: what is drawn, what answers, and that nothing is asked of a network."""

import re
import zlib

import numpy as np
import pytest

from shmetrics.exporters.profiles.report import flame_graph_page, report_page
from shmetrics.exporters.profiles.report_data import SlowCall
from tests.browsers import chromium
from tests.exporters.profiles.reports import PROFILE, SPLIT, a_function, a_report, sketched
from tests.exporters.profiles.test_report import HOSTILE, hostile_report

PHONE = {"width": 390, "height": 844, "phone": True}
SCHEMES = ["light", "dark"]
MARK = (0xC2, 0x41, 0x0C)
"""Of percentiles, where it is light."""
STROKE = re.compile(rb"([\d.]+) ([\d.]+) ([\d.]+) RG\b")
COLOUR = "getComputedStyle(document.documentElement).getPropertyValue('{}').trim()"

CONTRAST = """(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => {
    const part = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const rect = at.closest("svg") && at.parentElement.querySelector(":scope > rect");
      if (rect) return parse(getComputedStyle(rect).fill);
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const worst = {};
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || element.closest("script, style")) continue;
    if (!element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const one = luminance(parse(element.closest("svg") ? style.fill : style.color));
    const other = luminance(behind(element));
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    const key = `${element.tagName}.${element.closest("svg") ? element.closest("svg").classList : element.className}`;
    worst[key] = Math.min(worst[key] ?? 99, contrast);
  }
  return worst;
})()"""


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture
def tab(browser):
    with browser.page() as page:
        yield page


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("pages") / "report.html"
    path.write_text(report_page(a_report()))
    return path


@pytest.fixture(scope="module")
def flame(tmp_path_factory):
    path = tmp_path_factory.mktemp("pages") / "flame.html"
    path.write_text(flame_graph_page(PROFILE, "worker 3"))
    return path


def colour(tab, name):
    """A colour of the style sheet, as the page has it now."""
    text = tab.run(COLOUR.format(name))
    return np.array([int(text[at : at + 2], 16) for at in (1, 3, 5)], np.uint8)


def painted(image, wanted):
    """Where a screenshot has a colour."""
    return (image == wanted).all(axis=2)


# nothing from outside -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_report_asks_the_network_for_nothing_and_the_console_stays_empty(tab, report, scheme):
    tab.open(report, scheme=scheme)
    assert tab.requests == [report.as_uri()]
    assert tab.complaints == []


def test_the_flame_graph_page_asks_for_nothing_either(tab, flame):
    tab.open(flame)
    assert tab.requests == [flame.as_uri()]
    assert tab.complaints == []


def test_what_tries_to_reach_the_network_is_refused_by_the_page(tab, report):
    tab.open(report)
    assert tab.run("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')") == "refused"
    assert any("Content Security Policy" in str(complaint) for complaint in tab.complaints)


def test_names_that_are_markup_are_shown_and_do_nothing(tab, tmp_path):
    path = tmp_path / "hostile.html"
    path.write_text(report_page(hostile_report()))
    tab.open(path)
    assert tab.run("document.querySelector('h2 code').textContent") == HOSTILE
    assert tab.run("document.title") == f"Profile of {HOSTILE}"
    assert tab.run("document.images.length") == 0
    tab.run("document.querySelector('.graph > svg:last-of-type').dispatchEvent(new Event('click', {bubbles: true}))")
    assert HOSTILE in tab.run("document.querySelector('.status').textContent")
    assert tab.requests == [path.as_uri()]
    assert tab.complaints == []


# what is drawn ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_latency_distribution_is_drawn(tab, report, scheme):
    tab.open(report, scheme=scheme)
    assert tab.run("document.querySelectorAll('.chart canvas').length") == 2
    bar, mark, back = (colour(tab, name) for name in ("--bar", "--mark", "--back"))
    image = tab.pixels(".chart .canvas")
    assert painted(image, bar).mean() > 0.05
    assert painted(image, mark).sum() > 100
    assert painted(image, back).mean() > 0.4


def test_the_bars_of_a_distribution_are_as_high_as_their_calls(tab, report):
    tab.open(report)
    bars = tab.run("JSON.parse(document.querySelector('.chart script').textContent).bars")
    image = painted(tab.pixels(".chart .canvas"), colour(tab, "--bar"))
    columns = np.flatnonzero(image.any(axis=0))
    left, right = columns[0], columns[-1] + 2  # a gap of a pixel follows each bar
    floor = np.flatnonzero(image.any(axis=1))[-1]
    tops = np.where(image.any(axis=0), image.argmax(axis=0), floor + 1)  # of each column of pixels
    first, last = bars[0][0], bars[-1][1]
    heights = []
    for low, high, _ in bars:  # a percentile's line hides some columns
        start, end = (round(left + (right - left) * (at - first) / (last - first)) for at in (low, high))
        heights.append(floor + 1 - tops[start + 1 : end - 2].min(initial=floor + 1))
    most = max(calls for _, _, calls in bars)
    for height, (_, _, calls) in zip(heights, bars, strict=True):
        assert height == pytest.approx(max(heights) * calls / most, abs=2)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_bars_of_stages_are_as_long_as_their_shares(tab, report, scheme):
    tab.open(report, scheme=scheme)
    bar = colour(tab, "--bar")
    names = tab.run(
        "[...document.querySelector('.breakdown').querySelectorAll('th[scope=row]')].map(e => e.textContent)"
    )
    assert names == sorted(SPLIT, key=SPLIT.get, reverse=True)
    for row, name in enumerate(names, 1):
        image = tab.pixels(f".breakdown tbody tr:nth-child({row}) .bar")
        middle = painted(image, bar)[image.shape[0] // 2]
        assert middle.sum() == pytest.approx(SPLIT[name] * len(middle), abs=2)


def test_the_bar_under_the_pointer_is_described(tab, report):
    tab.open(report, height=4000)
    caption = "document.querySelector('.chart figcaption').textContent"
    usual = tab.run(caption)
    left, top, width, height = tab.box(".chart .u-over")
    tab.send("Input.dispatchMouseEvent", type="mouseMoved", x=left + width / 2, y=top + height / 2)
    tab.settle()
    assert re.fullmatch(r"[\d.]+ ms to [\d.]+ ms: \d+ calls, [\d.]+ %", tab.run(caption))
    tab.send("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)
    tab.settle()
    assert tab.run(caption) == usual


@pytest.mark.parametrize("seconds", [1e-7, 0.002, 1.0, 65.0, 90_000.0])
def test_a_function_that_was_called_once_has_a_chart_with_a_bar(tab, tmp_path, seconds):
    path = tmp_path / "one.html"
    once = a_function(calls=1, mean=seconds, buckets=sketched([seconds]), p50=seconds, p95=seconds, p99=seconds)
    path.write_text(report_page(a_report(once, profile=None)))
    tab.open(path)
    assert painted(tab.pixels(".chart .canvas"), colour(tab, "--bar")).sum() > 500
    assert tab.complaints == []


def test_workers_have_bars_in_proportion_and_the_slow_one_is_marked(tab, report):
    tab.open(report)
    widths = tab.run(
        "[...document.querySelectorAll('[aria-label^=\"Workers\"]')][0].querySelectorAll('.bar rect:last-child')"
        ".values().map(e => e.getBoundingClientRect().width).toArray()"
    )
    assert widths[0] == pytest.approx(widths[2] / 2, abs=1)
    assert (
        tab.run("[...document.querySelectorAll('.outlier')].map(e => e.textContent).join()").count("2.0 times slower")
        == 2
    )
    row = tab.pixels(".outlier .bar")
    assert painted(row, colour(tab, "--bad")).mean() > 0.8


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    ("part", "colours"),
    [
        ("header", ["--back"]),
        (".tiles", ["--raised", "--line", "--bad"]),
        ("[aria-labelledby=functions] table", ["--bar", "--line"]),
        (".flame .graph", ["--library", "--h0", "--h1", "--h2", "--h3", "--h4", "--h5", "--h6", "--h7"]),
        (".hot", ["--bar", "--line"]),
        (".breakdown", ["--bar", "--raised"]),
        (".function .scroll", ["--bar", "--bad-back"]),
    ],
)
def test_each_part_looks_like_itself(tab, report, scheme, part, colours):
    """In a screenshot of it there is writing, and the colours that its kind of part has; of modules there are some."""
    tab.open(report, scheme=scheme)
    image = tab.pixels(part)
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 20  # letters have soft edges
    found = [name for name in colours if painted(image, colour(tab, name)).sum() > 20]
    assert len(found) >= 3 if part == ".flame .graph" else found == colours


def test_light_and_dark_differ_and_a_page_that_is_open_follows(tab, report):
    tab.open(report, scheme="light")
    light = tab.pixels(".chart .canvas")
    tab.look("dark")
    dark = tab.pixels(".chart .canvas")
    assert light.mean() > 200
    assert dark.mean() < 80
    assert painted(dark, colour(tab, "--bar")).mean() > 0.05


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("page", ["report", "flame"])
def test_all_writing_has_enough_contrast(tab, request, page, scheme):
    tab.open(request.getfixturevalue(page), scheme=scheme)
    tab.run("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    worst = tab.run(CONTRAST)
    assert len(worst) > 10
    assert {key: value for key, value in worst.items() if value < 4.5} == {}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_names_in_a_flame_graph_can_be_read_on_every_colour(tab, flame, scheme):
    tab.open(flame, scheme=scheme)
    for hue in range(8):
        tab.run(f"document.querySelectorAll('.graph > svg').forEach(box => box.setAttribute('class', 'h{hue}'))")
        assert min(tab.run(CONTRAST)[f"{kind}.h{hue}"] for kind in ("text", "tspan")) >= 4.5


# a phone, and paper -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["report", "flame"])
def test_a_phone_scrolls_down_and_never_sideways(tab, request, page):
    tab.open(request.getfixturevalue(page), **PHONE)
    assert tab.run("document.documentElement.scrollWidth") == 390
    assert tab.run("innerWidth") == 390
    tables = tab.run(
        "[...document.querySelectorAll('table')].filter(e => e.getBoundingClientRect().right > 390"
        " && !e.closest('.scroll')).length"
    )
    assert tables == 0


def test_the_rows_of_a_phones_tables_are_not_drawn_out_by_what_lies_beside_it(tab, tmp_path):
    path = tmp_path / "slow.html"
    detail = "app:Model.postprocess 60 %, features 30 %, (outside of stages) 8 %, inference 2 %"
    path.write_text(report_page(a_report(a_function(slowest=[SlowCall(0.4, 0.0, 2, 102, "", detail)]))))
    tab.open(path, **PHONE)
    tallest = "Math.max(...[...document.querySelectorAll('td.words')].map(e => e.getBoundingClientRect().height))"
    assert tab.run(tallest) < 80


def test_a_long_name_does_not_widen_a_phones_page(tab, tmp_path):
    path = tmp_path / "long.html"
    path.write_text(report_page(a_report(a_function("x" * 5000), hub="y" * 48, notes=["z" * 5000])))
    tab.open(path, **PHONE)
    assert tab.run("document.documentElement.scrollWidth") == 390


def test_the_charts_of_a_phone_that_is_turned_fit_again(tab, report):
    tab.open(report, **PHONE)
    tab.send("Emulation.setDeviceMetricsOverride", width=844, height=390, deviceScaleFactor=1, mobile=True)
    tab.until("document.querySelector('.chart canvas').getBoundingClientRect().width > 390")
    assert tab.run("document.documentElement.scrollWidth") == 844


def streams(pdf):
    """What the compressed parts of a PDF hold."""
    for raw in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL):
        try:
            yield zlib.decompress(raw)
        except zlib.error:
            continue


def test_the_report_can_be_printed_with_its_charts(tab, report):
    tab.open(report, scheme="dark")
    pdf = tab.pdf()
    assert pdf.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) >= 3
    marks = [tuple(map(float, found)) for stream in streams(pdf) for found in STROKE.findall(stream)]
    assert any(np.allclose(mark, np.array(MARK) / 255, atol=0.01) for mark in marks)  # percentiles, which charts draw
    assert tab.complaints == []


def test_paper_is_white_without_controls_and_the_page_is_dark_again_afterwards(tab, report):
    tab.open(report, scheme="dark")
    tab.look("dark", "print")
    assert list(colour(tab, "--back")) == [255, 255, 255]
    assert tab.run("getComputedStyle(document.querySelector('.controls button')).display") == "none"
    tab.look("dark")
    tab.pdf()
    tab.settle()
    assert list(colour(tab, "--back")) != [255, 255, 255]
    assert tab.pixels(".chart .canvas").mean() < 80


def test_without_scripts_all_is_there_but_the_charts_whose_tables_remain(tab, report):
    tab.send("Emulation.setScriptExecutionDisabled", value=True)
    tab.send("Emulation.setDeviceMetricsOverride", width=1200, height=900, deviceScaleFactor=1, mobile=False)
    tab.send("Page.navigate", url=report.as_uri())
    tab.until("document.readyState === 'complete' && !!document.querySelector('.graph')")
    assert tab.run("String(document.querySelectorAll('canvas').length)") == "0"
    assert painted(tab.pixels(".graph"), colour(tab, "--library")).sum() > 1000
    assert tab.run("document.querySelectorAll('details table').length") >= 2
    assert tab.run("getComputedStyle(document.querySelector('.controls input').parentElement).display") == "none"


# the flame graph answers --------------------------------------------------------------------------------------------


def boxes(tab):
    """The frames that are shown: name to (left, width) as parts of the whole."""
    return tab.run(
        "Object.fromEntries([...document.querySelectorAll('.graph > svg:not(.away)')].map(box => ["
        "box.querySelector('text').firstChild.textContent,"
        "[parseFloat(box.getAttribute('x')) / 100, parseFloat(box.getAttribute('width')) / 100]]))"
    )


def status(tab):
    return tab.run("document.querySelector('.status').textContent")


def box_of(tab, name):
    """A selector of the frame with this name."""
    at = tab.run(
        "[...document.querySelectorAll('.graph > svg')].findIndex(box => "
        f"box.querySelector('text').firstChild.textContent === '{name}')"
    )
    return f".graph > svg:nth-child({at + 1})"


def test_a_frame_is_as_wide_as_its_samples(tab, flame):
    tab.open(flame)
    _, _, whole, _ = tab.box(".graph")
    for name, share in {"all": 1.0, "predict": 0.9, "torch": 0.6, "numpy": 0.25, "encode": 0.1}.items():
        assert tab.box(f"{box_of(tab, name)} rect")[2] == pytest.approx(share * whole, abs=1), name


def test_a_click_zooms_and_the_button_shows_all_again(tab, flame):
    tab.open(flame)
    before = boxes(tab)
    tab.click(box_of(tab, "extract"))
    shown = boxes(tab)
    assert set(shown) == {"all", "serve", "predict", "extract", "numpy"}
    assert shown["extract"] == [0, 1]
    assert shown["predict"] == [0, 1]
    assert shown["numpy"] == [0, pytest.approx(25 / 30)]
    assert status(tab) == "features:extract: 30.0 %, 300 ms, 30 samples, itself 5.0 %"
    tab.click(".controls button")
    assert boxes(tab) == before
    assert tab.run("document.querySelector('.controls button').disabled")


def test_what_the_pointer_is_over_is_described(tab, flame):
    tab.open(flame)
    left, top, width, height = tab.box(box_of(tab, "torch"))
    tab.send("Input.dispatchMouseEvent", type="mouseMoved", x=left + width / 2, y=top + height / 2)
    assert status(tab) == "torch: 60.0 %, 600 ms, 60 samples"


def test_the_keyboard_walks_zooms_and_comes_back(tab, flame):
    tab.open(flame)
    tab.run("document.querySelector('.graph > svg').focus()")
    walked = []
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowLeft", "ArrowDown", "ArrowRight", "ArrowUp"):
        tab.press(key)
        walked.append(tab.run("document.activeElement.querySelector('text').firstChild.textContent"))
    assert walked == ["serve", "predict", "encode", "predict", "torch", "extract", "predict"]
    tab.press("Enter", 13)
    assert set(boxes(tab)) == {"all", "serve", "predict", "torch", "extract", "numpy"}
    tab.press("Escape", 27)
    assert "encode" in boxes(tab)
    assert tab.run("document.activeElement.getAttribute('aria-label')").startswith("app:predict: 90.0 %")
    assert tab.run("document.querySelectorAll('.graph [tabindex=\"0\"]').length") == 1


def test_search_marks_what_it_finds_and_says_how_much_that_is(tab, flame):
    tab.open(flame)
    tab.click(".controls input")
    tab.type("FEATURES")
    hit = painted(tab.pixels(box_of(tab, "extract")), colour(tab, "--hit"))
    assert hit.mean() > 0.5
    assert status(tab) == "1 box, 30.0 % of the samples"
    tab.press("Escape", 27)
    assert tab.run("document.querySelectorAll('.hit').length") == 0
    tab.type("e")  # predict holds extract, which counts once
    assert "100.0 % of the samples" in status(tab)
    tab.type("?")
    assert status(tab) == "no box has that in its name"
