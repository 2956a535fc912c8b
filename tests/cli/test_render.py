import pytest

from shmetrics.cli import render
from shmetrics.snapshot import RequestInFlight
from shmetrics.statistics import comprehensive
from tests import forge


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (1e-6, "1 us"),
        (870e-6, "870 us"),
        (0.001, "1 ms"),
        (0.0123, "12.3 ms"),
        (0.999, "999 ms"),
        (1.0, "1 s"),
        (4.56, "4.56 s"),
        (59.9, "59.9 s"),
        (60.0, "1 min 0 s"),
        (200.0, "3 min 20 s"),
        (3599.9, "59 min 59 s"),
        (3600.0, "1 h 0 min"),
        (7500.0, "2 h 5 min"),
        (86399.0, "23 h 59 min"),
        (86400.0, "1 d 0 h"),
        (273600.0, "3 d 4 h"),
        (float("inf"), "for ever"),
    ],
)
def test_duration_has_the_unit_that_reads_best(seconds, text):
    assert render.duration(seconds) == text


@pytest.mark.parametrize("seconds", [0.0009996, 0.0009999, 0.9996, 0.99999])
def test_duration_is_never_in_scientific_notation(seconds):
    """Just below a border the rounded figure has four digits."""
    assert "e" not in render.duration(seconds)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (2**20 - 2**10, "1023.0 KiB"),
        (2**20, "1.0 MiB"),
        (2**30, "1.0 GiB"),
        (2**40, "1024.0 GiB"),
    ],
)
def test_size_has_the_unit_that_reads_best(count, text):
    assert render.size(count) == text


@pytest.mark.parametrize(("fraction", "text"), [(0.0, "0.00 %"), (0.0123, "1.23 %"), (1.0, "100.00 %")])
def test_percent(fraction, text):
    assert render.percent(fraction) == text


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


def figures_of(live, ended=0, *, serving_for=0.0):
    """The figures of a forged fleet, as `Hub.statistics` gives them."""
    in_flight = (RequestInFlight(forge.NOW - serving_for, 0),) if serving_for else ()
    workers = [
        forge.worker([forge.NOW - 1.0], slot=slot, alive=slot < live, in_flight=in_flight if slot == 0 else ())
        for slot in range(live + ended)
    ]
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
    assert render.fleet(figures_of(0))[-1] == "no live workers"


def test_a_screen_that_is_too_small_is_never_scrolled(monkeypatch, capsys):
    """A line beyond the last one would scroll it, and so would one that is wrapped."""
    monkeypatch.setenv("LINES", "5")
    render.repaint([f"line {number}" for number in range(9)])
    painted = capsys.readouterr().out
    assert painted.count("\n") == 4
    assert painted.startswith("\x1b[?7l")
    assert painted.endswith("\x1b[?7h")


def test_a_request_that_takes_for_ever_is_a_finding():
    figures = figures_of(2, serving_for=42.0)
    assert any("serves one request since 42 s" in line for line in render.findings(figures))
    assert figures["workers"][0]["busy_fraction"] == 1.0
    assert not render.findings(figures_of(2, serving_for=3.0))


def test_the_line_of_an_aggregator_fits_eighty_columns():
    assert len("12:00:00  " + render.fleet_line(figures_of(64))) <= 80
