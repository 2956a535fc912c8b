"""How values and durations read."""

import pytest

from shmetrics.alerting.wording import FRACTION, PER_SECOND, SECONDS, lasted, parse_span, shown, span, unit_of


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.05, FRACTION, "5 %"),
        (0.0012, FRACTION, "0.12 %"),
        (0.1, SECONDS, "100 ms"),
        (0.00004, SECONDS, "40 us"),
        (0.0, SECONDS, "0 s"),
        (12.34, SECONDS, "12.3 s"),
        (1234.0, SECONDS, "1,234 s"),
        (9.54, PER_SECOND, "9.54 /s"),
        (1234.5, PER_SECOND, "1,234 /s"),
        (3.0, "", "3"),
    ],
)
def test_values(value, unit, text):
    assert shown(value, unit) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("3d", 259_200.0),
        ("500ms", 0.5),
        ("1.5h", 5400.0),
        ("1w", 604_800),
    ],
)
def test_durations_are_read(text, seconds):
    assert parse_span(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "-5m", "5mm", "5M"])
def test_what_is_no_duration_is_none(text):
    assert parse_span(text) is None


@pytest.mark.parametrize("seconds", [0.25, 1.0, 90.0, 300.0, 5400.0, 86_400.0, 604_800.0])
def test_durations_are_written_as_they_are_read(seconds):
    assert parse_span(span(seconds)) == pytest.approx(seconds)


def test_what_was_measured_is_rounded():
    assert [lasted(each) for each in (0.42, 12.3, 200.0, 9000.0)] == ["0.42 s", "12 s", "3 min", "2 h 30 min"]


@pytest.mark.parametrize(
    ("key", "unit"),
    [("error_rate", FRACTION), ("p95_total_time", SECONDS), ("current_throughput", PER_SECOND), ("in_flight", "")],
)
def test_units_of_statistics(key, unit):
    assert unit_of(key) == unit
