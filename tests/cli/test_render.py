import pytest

from shmetrics.cli import render


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
