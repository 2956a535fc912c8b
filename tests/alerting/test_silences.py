"""When a silence covers an alert."""

from datetime import datetime, time

import pytest

from shmetrics.alerting.silences import Silence

MONDAY = datetime(2026, 3, 2, 12, 0)


def covers(silence, moment=MONDAY, rule="HighErrorRate", severity="warning", labels=None):
    return silence.covers(moment.timestamp(), rule, severity, labels or {})


@pytest.mark.parametrize(
    ("silence", "expected"),
    [
        (Silence(), True),
        (Silence(rule="High*"), True),
        (Silence(rule="Low*"), False),
        (Silence(severities=("critical",)), False),
        (Silence(labels={"worker": "3"}), True),
        (Silence(labels={"worker": "?", "team": "*"}), True),
        (Silence(labels={"worker": "4"}), False),
        (Silence(labels={"zone": "a"}), False),
        (Silence(start=MONDAY.timestamp(), end=MONDAY.timestamp() + 1), True),
        (Silence(end=MONDAY.timestamp()), False),
        (Silence(start=MONDAY.timestamp() + 1), False),
    ],
)
def test_everything_that_is_given_must_fit(silence, expected):
    assert covers(silence, labels={"worker": "3"}) is expected


@pytest.mark.parametrize(("clock", "expected"), [("01:59", False), ("02:00", True), ("03:59", True), ("04:00", False)])
def test_daily_is_from_and_until(clock, expected):
    moment = datetime.combine(MONDAY.date(), time.fromisoformat(clock))
    assert covers(Silence(daily=(time(2), time(4))), moment) is expected


@pytest.mark.parametrize(
    ("day", "clock", "expected"),
    [(2, "23:00", True), (3, "01:00", True), (3, "23:00", False), (2, "01:00", False), (2, "12:00", False)],
)
def test_a_night_belongs_to_the_day_on_which_it_began(day, clock, expected):
    moment = datetime.combine(MONDAY.replace(day=day).date(), time.fromisoformat(clock))
    assert covers(Silence(daily=(time(22), time(4)), days=("mon",)), moment) is expected


def test_days_alone_are_whole_days():
    assert covers(Silence(days=("mon",)))
    assert not covers(Silence(days=("sat", "sun")))
