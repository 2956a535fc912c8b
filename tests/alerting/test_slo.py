"""Burn rates, held against the numbers of the SRE workbook."""

from dataclasses import dataclass

import pytest

from shmetrics.alerting.slo import BURNS, BurnRate, Objective

HOUR, DAY = 3600.0, 86_400.0


@dataclass
class Figures:
    error_rate: float = 0.0
    slow: float = 0.0
    requests: int = 1000
    errors: int = 0

    def share_above(self, measure, limit):
        assert (measure, limit) == ("total_time", 0.25)
        return self.slow


class Look:
    """A look whose windows have these error rates."""

    def __init__(self, **windows):
        self._windows = windows

    def window(self, seconds):
        return self._windows[{300.0: "short", HOUR: "long"}[seconds]]


def burn(long, short, objective=None):
    source = BurnRate(objective or Objective("A", 0.999), HOUR, 300.0)
    (reading,) = source.read(Look(long=long, short=short))
    return reading


def test_over_thirty_days_the_factors_are_those_of_the_workbook():
    promise = Objective("A", 0.999)
    assert [promise.factor(each) for each in BURNS] == [14.4, 6.0, 1.0]
    assert [(each.long / HOUR, each.short / HOUR) for each in BURNS] == [(1, 1 / 12), (6, 0.5), (72, 6)]
    assert [each.severity for each in BURNS] == ["critical", "critical", "warning"]


def test_over_another_period_they_spend_the_same_share_of_the_budget():
    promise = Objective("A", 0.999, period=7 * DAY)
    assert [promise.factor(each) for each in BURNS] == pytest.approx([3.36, 1.4, 7 / 30], rel=1e-5)


def test_the_rate_is_the_bad_share_over_the_budget():
    assert burn(Figures(0.0144), Figures(0.02)).value == pytest.approx(14.4)


@pytest.mark.parametrize(("long", "short"), [(0.1, 0.0), (0.0, 0.1)])
def test_both_windows_must_burn(long, short):
    assert burn(Figures(long), Figures(short)).value == 0.0


def test_slow_requests_are_bad_too_where_the_objective_says_so():
    promise = Objective("L", 0.99, "total_time", 0.25)
    assert burn(Figures(slow=0.2), Figures(slow=0.3), promise).value == pytest.approx(20.0)
    assert promise.words == "99 % with total time up to 250 ms"


def test_its_samples_are_the_requests_of_the_long_window():
    assert burn(Figures(requests=7), Figures(requests=1)).samples == 7
