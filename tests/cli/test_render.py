from dataclasses import asdict

import pytest

from shmetrics.cli import render
from shmetrics.evidence import Finding
from shmetrics.statistics import comprehensive
from tests import forge


def test_table_aligns_the_first_column_left_and_the_others_right():
    assert render.table(("name", "n"), [("a", "1"), ("longer", "1,000")]) == [
        "name        n",
        "a           1",
        "longer  1,000",
    ]


def test_table_without_rows_is_its_head():
    assert render.table(("name", "requests"), []) == ["name  requests"]


def test_table_paints_only_its_head():
    head, row = render.table(("a", "b"), [("1", "2")], colour=True)
    assert head == "\x1b[1ma  b\x1b[0m"
    assert row == "1  2"


def test_paint_without_colour_changes_nothing():
    assert render.paint("text", "31", colour=False) == "text"


# A screenful ----------------------------------------------------------------------------------------------------------


def figures_of(live, ended=0):
    """The figures of a forged fleet, as `Hub.statistics` gives them."""
    workers = [forge.worker([forge.NOW - 1.0], slot=slot, alive=slot < live) for slot in range(live + ended)]
    figures = comprehensive(forge.fleet(*workers))
    for row in figures["workers"]:
        row |= {"cpu_percent": 12.0, "rss_bytes": 50 * 2**20}
    return figures


@pytest.mark.parametrize("width", [60, 80, 100, 120])
@pytest.mark.parametrize("workers", [0, 1, 4, 64])
def test_a_fleet_fits_the_screen(width, workers):
    lines = render.fleet(figures_of(workers, ended=10), screen=render.Screen(width, 24, colour=False))
    assert len(lines) <= 24
    assert max(len(line) for line in lines) <= max(width, 80)


def test_workers_that_find_no_room_are_counted():
    lines = render.fleet(figures_of(64), screen=render.Screen(80, 24, colour=False))
    shown = sum(line.split()[0].isdigit() for line in lines if line.strip())
    assert f"... and {64 - shown} more; --json shows all" in lines


def test_those_that_ended_are_one_line():
    assert "3 ended in the last minute, after 3 requests" in render.fleet(figures_of(2, ended=3))


def test_what_was_never_measured_is_a_dash_and_no_zero():
    figures = comprehensive(forge.fleet(forge.worker([])))
    for row in figures["workers"]:
        row |= {"cpu_percent": None, "rss_bytes": None}
    lines = render.fleet(figures)
    (lifetime,) = [line.split()[-1] for line in lines if line.startswith("inference time")]
    (worker,) = [line.split() for line in lines if line.startswith("0 ")]
    assert lifetime == "-"
    assert worker[4] == "-"


def test_a_fleet_whose_workers_all_ended_is_not_said_to_have_had_none_yet():
    assert render.fleet(figures_of(0) | {"workers_seen": 3})[-1] == "no live workers"


def test_of_a_hub_that_no_worker_came_to_it_is_said_how_one_does():
    assert render.fleet(figures_of(0))[-1].startswith("no worker yet: each shows with its first request")


def test_a_screen_that_is_too_small_is_never_scrolled(monkeypatch, capsys):
    """A line beyond the last one would scroll it, and so would one that is wrapped."""
    monkeypatch.setenv("LINES", "5")
    render.repaint([f"line {number}" for number in range(9)])
    painted = capsys.readouterr().out
    assert painted.count("\n") == 4
    assert painted.startswith("\x1b[?7l")
    assert painted.endswith("\x1b[?7h")


def found(*levels):
    return {"findings": [asdict(Finding(f"kind {at}", level, f"text {at}")) for at, level in enumerate(levels)]}


def test_findings_are_a_line_each_in_the_colour_of_their_level():
    assert render.findings(found("problem", "warning")) == ["! text 0", "! text 1"]
    screen = render.Screen(80, 24, colour=True)
    assert render.findings(found("problem", "warning"), screen=screen) == [
        "\x1b[31m! text 0\x1b[0m",
        "\x1b[33m! text 1\x1b[0m",
    ]


def test_many_findings_leave_room_for_the_fleet():
    lines = render.findings(found(*["problem"] * 64), screen=render.Screen(80, 24, colour=False))
    assert lines[0] == "! text 0"
    assert lines[-1] == "! ... and 58 more findings; --json shows all"
    assert len(lines) == 7
    figures = figures_of(64) | found(*["problem"] * 64)
    assert len(render.fleet(figures, screen=render.Screen(80, 24, colour=False))) <= 24


def test_the_line_of_an_aggregator_fits_eighty_columns():
    assert len("12:00:00  " + render.fleet_line(figures_of(64))) <= 80


def test_a_long_finding_is_broken_between_words_and_none_of_it_is_lost():
    text = "worker 20645 in slot 0 was killed by SIGKILL 59.1 s ago while serving 1 request: GET /slow for 1.24 s"
    figures = {"findings": [asdict(Finding("dead_worker", "problem", text))]}
    assert render.findings(figures) == [f"! {text}"]
    lines = render.findings(figures, screen=render.Screen(80, 24, colour=False))
    assert max(map(len, lines)) <= 80
    assert lines[1].startswith("  ")
    assert " ".join(" ".join(lines).split()) == f"! {text}"


def test_findings_of_several_lines_leave_room_for_the_fleet_too():
    figures = figures_of(64) | {"findings": [asdict(Finding("kind", "problem", "word " * 40))] * 9}
    lines = render.fleet(figures, screen=render.Screen(80, 24, colour=False))
    assert "! ... and 7 more findings; --json shows all" in lines
    assert len(lines) <= 24
