"""Reports and flame graph pages, as files and as text."""

import html
import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from shmetrics.errors import OutputError
from shmetrics.exporters.profiles import figures
from shmetrics.exporters.profiles.figures import report_figures
from shmetrics.exporters.profiles.report import flame_graph_page, report_page, write_report
from shmetrics.exporters.profiles.report_data import Breakdown, Component, SlowCall, WorkerRow
from shmetrics.profiling.profile import Profile
from tests.exporters.profiles.reports import PROFILE, a_function, a_report

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'`{{ 7 * 7 }}&lt;"


def text_of(page):
    """What of a page is neither markup, style nor script."""
    page = re.sub(r"<(style|script)\b.*?</\1>", " ", page, flags=re.DOTALL).replace("<wbr>", "")
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page)))


def hostile_report():
    function = a_function(
        HOSTILE,
        kind=HOSTILE,
        breakdowns=[Breakdown(HOSTILE, [Component(HOSTILE, 1.0)], HOSTILE)],
        workers=[WorkerRow(0, 1, 1, 0, 1.0, role=HOSTILE)],
        slowest=[SlowCall(1.0, 0.0, 0, 1, HOSTILE, HOSTILE)],
        profile=Profile({(f"{HOSTILE}:{HOSTILE}", HOSTILE): 3}, 0.01, 1.0),
    )
    return a_report(function, hub=HOSTILE, notes=[HOSTILE], profile=function.profile)


def test_the_file_is_there_whole_and_nothing_beside_it(tmp_path):
    write_report(a_report(), tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == report_page(a_report())
    assert os.listdir(tmp_path) == ["report.html"]


@pytest.mark.parametrize("path", ["none/report.html", "file/report.html", "."])
def test_a_path_that_cannot_be_written_to_is_said_and_leaves_nothing(tmp_path, path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match=r"cannot write .*; name a file in a directory that is there"):
        write_report(a_report(), tmp_path / path)
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


def test_the_fleet_is_summed_up():
    text = text_of(report_page(a_report()))
    for wanted in ("Profile of resnet", "Calls 1,400", "Errors 6", "Workers 4 live, 9 seen", "Covers 2 h 0 min"):
        assert wanted in text


def test_a_function_has_its_figures_stages_workers_and_slowest_calls():
    text = text_of(report_page(a_report()))
    assert "model_inference 60.0 %" in text
    assert "Of every call." in text
    assert "2 pid 102 ▲" in text
    assert "2.0 times slower" in text
    assert "ended workers" in text
    assert text.index("800 ms") < text.index("TimeoutError ; batch of 8") < text.index("400 ms")


def test_a_report_of_nothing_says_so():
    text = text_of(report_page(a_report(functions=(), profile=Profile({}, 0.01, 1.0), hub="new")))
    assert "No function was profiled yet." in text
    assert "Errors 0" in text
    assert "no thread of theirs ran meanwhile: there is no flame graph" in text


def test_a_bar_shows_what_a_function_took_itself_and_around_it_what_it_called():
    outer, inner = a_function("outer", mean=0.02), a_function("inner", mean=0.015)
    outer = replace(outer, own=outer.seconds - inner.seconds)
    page = report_page(a_report(outer, inner))
    bar = r'<rect class="around" width="100.000%" height="100%"/><rect width="25.000%"'
    assert re.search(bar, page)
    assert report_figures(a_report(replace(outer, seconds=1e6))).functions[0].around == 1.0


def test_a_report_says_why_it_has_few_of_the_slowest_calls():
    hint = "of each other worker those that were its slowest so far"
    assert hint in report_page(a_report(a_function(calls=1000), profile=None))
    assert hint not in report_page(a_report(a_function(calls=2), profile=None))


def test_a_function_of_which_only_calls_are_known_has_only_those():
    bare = a_function(calls=1, buckets=(), breakdowns=(), workers=(), slowest=(), profile=None, p99=float("nan"))
    page = report_page(a_report(bare, profile=None))
    assert "<canvas" not in page
    for absent in ("Latency", "Slowest calls", "Flame graph", "Workers</h3>", "nan", "NaN"):
        assert absent not in re.sub(r"<(style|script)\b.*?</\1>", "", page, flags=re.DOTALL)


def test_names_are_text_wherever_they_stand():
    scripts = report_page(a_report(a_function())).count("<script")
    page = report_page(hostile_report())
    assert page.count("<script") == scripts
    assert "<img" not in page
    assert "49" not in re.findall(r"<h2.*?</h2>", page, re.DOTALL)[3]
    assert HOSTILE in text_of(page)


def test_a_flame_graphs_names_and_title_are_text():
    page = flame_graph_page(Profile({(HOSTILE, f"m:{HOSTILE}"): 1}, 0.01, 1.0), HOSTILE)
    assert page.count("<script") == 1
    assert "<img" not in page
    assert HOSTILE in text_of(page)


@pytest.mark.parametrize("name", ["a\u202eb", "a\x00b", "a\nb", "a\ud800b", "a\u200bb"])
def test_what_is_invisible_or_turns_writing_around_is_replaced(tmp_path, name):
    write_report(a_report(a_function(name), hub=name), tmp_path / "report.html")
    assert name not in (tmp_path / "report.html").read_text()
    assert "a\ufffdb" in (tmp_path / "report.html").read_text()


def test_the_data_in_a_page_is_json_that_ends_no_script():
    page = report_page(hostile_report())
    for data in re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL):
        assert set(json.loads(data)) == {"bars", "marks"}


def test_a_page_names_no_address_but_that_of_the_library():
    page = report_page(a_report())
    found = set(re.findall(r"https?://[^\s\"'<)]+", page))
    assert found <= {"https://github.com/leeoniya/uPlot", "http://www.w3.org/2000/svg"}
    assert not re.search(r"<(?:link|img|iframe|object|embed|script)\b[^>]*\b(?:src|href)=(?!\"data:,\")", page)


def test_the_policy_forbids_all_but_the_pages_own_script_and_style():
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', report_page(a_report()))[1]
    directives = dict(part.split(" ", 1) for part in html.unescape(policy).split("; "))
    assert directives["default-src"] == "'none'"
    assert directives["img-src"] == "data:"
    for kind in ("script-src", "style-src"):
        assert re.fullmatch(r"'sha256-[\w+/]{43}='", directives[kind])
    assert "unsafe" not in policy


def test_the_licence_of_the_library_goes_with_it():
    assert "Permission is hereby granted, free of charge" in report_page(a_report())


def test_a_thousand_functions_make_a_page_of_bounded_size_that_says_what_it_left_out():
    profile = Profile(
        {tuple(f"m{n % 50}:f{n * level % 997}" for level in range(12)): 1 for n in range(400)}, 0.01, 20.0
    )
    one = a_function(profile=profile, slowest=[SlowCall(1.0, 0.0)] * 100)
    page = report_page(a_report(*(replace(one, name=f"function_{n:04}", seconds=n, own=n) for n in range(1000))))
    text = text_of(page)
    assert len(page) < 2_500_000
    assert "function_0999" in text
    assert "function_0700" not in text
    assert "Of 1,000 functions the 200 with the most time are listed; the other 800 had 800,000 calls" in text
    assert "The 20 functions with the most time have a section of their own." in text


def test_ten_thousand_stacks_make_a_page_of_bounded_size_that_says_what_it_left_out():
    stacks = {tuple(f"module{n % 40}:function{n * level % 9973}" for level in range(20)): 1 for n in range(10_000)}
    page = flame_graph_page(Profile(stacks, 0.01, 100.0), "big")
    assert len(page) < 800_000
    assert re.search(r"[\d,]+ frames with the fewest samples are not drawn", page)


def test_many_workers_are_cut_to_those_that_stand_out_and_those_with_the_most_calls():
    rows = [WorkerRow(slot, slot, 100 + slot, 0, (100 + slot) * (3.0 if slot == 5 else 1.0)) for slot in range(300)]
    section = figures.report_figures(a_report(a_function(workers=rows))).sections[0]
    slots = [worker.row.slot for worker in section.workers]
    assert slots == [5, *range(237, 300)]
    assert section.more_workers == 236
    assert "236 more workers" in report_page(a_report(a_function(workers=rows)))


def test_many_components_are_joined_and_still_add_up():
    components = [Component(f"c{n}", float(n)) for n in range(40)]
    (breakdown,) = (
        figures.report_figures(a_report(a_function(breakdowns=[Breakdown("cProfile", components)])))
        .sections[0]
        .breakdowns
    )
    assert len(breakdown.parts) == figures.MOST_COMPONENTS + 1
    assert breakdown.parts[-1].name == "25 more"
    assert sum(part.seconds for part in breakdown.parts) == sum(range(40))
    assert sum(part.share for part in breakdown.parts) == pytest.approx(1.0)


def test_what_of_whole_workers_was_in_a_function_is_its_flame_graph():
    functions = [a_function(name, profile=None) for name in ("features:extract", "features:never_seen")]
    seen, unseen = figures.report_figures(a_report(*functions)).sections
    assert [frame.name for frame in seen.profile.graph.frames] == ["all", "features:extract", "numpy"]
    assert seen.profile.graph.samples == 30
    assert unseen.profile is None


def test_a_long_name_is_cut():
    assert len(figures.shown("x" * 10_000)) == figures.MOST_NAME
    assert len(report_page(a_report(a_function("x" * 100_000)))) < 400_000


def test_a_profile_without_samples_is_said_to_have_none():
    assert "there is nothing to draw" in flame_graph_page(Profile({}, 0.01, 1.0), "idle")
    assert "<h2>Flame graph</h2>" in flame_graph_page(PROFILE, "busy")


def test_without_jinja2_an_error_says_what_to_install_and_no_file_is_left(tmp_path):
    code = (
        "import sys\n"
        "sys.modules['jinja2'] = None\n"
        "from shmetrics.errors import PlatformError\n"
        "from shmetrics.exporters.profiles.report import flame_graph_page, write_report\n"
        "from tests.exporters.profiles.reports import PROFILE, a_report\n"
        "for make in (lambda: write_report(a_report(), sys.argv[1]), lambda: flame_graph_page(PROFILE, 'x')):\n"
        "    try:\n"
        "        make()\n"
        "    except PlatformError as error:\n"
        "        print(error)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "report.html")], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert len(told) == 2
    assert all(line.endswith("pip install 'shmetrics[report]'") for line in told)
    assert os.listdir(tmp_path) == []


def test_jinja2_is_imported_when_a_page_is_made_and_not_before():
    code = (
        "import sys\n"
        "import shmetrics.exporters.profiles.report as report\n"
        "assert 'jinja2' not in sys.modules\n"
        "from tests.exporters.profiles.reports import PROFILE\n"
        "report.flame_graph_page(PROFILE, 'x')\n"
        "assert 'jinja2' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
