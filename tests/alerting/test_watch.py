"""A watch: snapshots in, announcements out; and what it remembers for rules that look back."""

import pytest

from shmetrics.alerting.rules import Rule
from shmetrics.alerting.slo import BurnRate, Objective
from shmetrics.alerting.sources import CustomMetric, Finding, Statistic
from shmetrics.alerting.watch import Watch
from shmetrics.families import Definition, Family, Series
from shmetrics.history import History
from tests.alerting.looks import fleet_at, served
from tests.forge import worker


def nothing():
    raise AssertionError("no rule asks for the figures")


def look(watch, snapshot, figures=nothing):
    return [(alert.type, alert.state, round(alert.current_value, 6)) for alert in watch.look(snapshot, figures)]


def test_the_last_measurements():
    watch = Watch([Rule("Slow", Statistic("p95_total_time", last=20), above=0.1)])
    assert look(watch, fleet_at(0.0, served(60, inference_time=0.05))) == []
    assert look(watch, fleet_at(1.0, served(80, until=1.0, inference_time=0.2))) == [("Slow", "firing", 0.2)]


def test_figures_are_computed_when_a_rule_asks_and_once_a_look():
    asked = []
    watch = Watch([
        Rule("A", Statistic("error_rate"), above=0.5),
        Rule("B", Finding("died")),
    ])  # fmt: skip

    def figures():
        asked.append(1)
        return {"hub": {}, "error_rate": 0.9, "findings": []}

    assert look(watch, fleet_at(0.0), figures) == [("A", "firing", 0.9)]
    assert asked == [1]


def test_a_window_needs_a_history_which_the_watch_keeps_itself():
    watch = Watch([Rule("Errors", Statistic("error_rate", window=60.0), above=0.05, min_samples=1)])
    assert look(watch, fleet_at(0.0, served(100))) == []
    assert look(watch, fleet_at(1.0, served(200, until=1.0, errors=20))) == [("Errors", "firing", 0.2)]
    for second in range(2, 130):
        announced = look(watch, fleet_at(float(second), served(200, until=1.0, errors=20)))
        if announced:
            break
    assert announced == [("Errors", "resolved", 0.2)], "out of the window, nothing is left to judge"
    assert 55 <= second <= 65


def test_the_aggregators_history_is_used_where_there_is_one():
    history = History()
    watch = Watch([Rule("Errors", Statistic("error_rate", window=60.0), above=0.05)], history=history)
    for moment, snapshot in ((0.0, served(100)), (1.0, served(200, until=1.0, errors=20))):
        history.add(fleet_at(moment, snapshot))
        announced = look(watch, fleet_at(moment, snapshot))
    assert announced == [("Errors", "firing", 0.2)]
    assert watch._own is None


@pytest.mark.parametrize(("window", "tiers"), [(60.0, 1), (3600.0, 2), (3 * 86_400.0, 3)])
def test_its_own_history_is_no_longer_than_its_rules_look_back(window, tiers):
    watch = Watch([Rule("E", BurnRate(Objective("A", 0.99), window, window / 12), above=1.0)])
    assert len(watch._own.tiers) == tiers


def test_without_a_window_there_is_none():
    assert Watch([Rule("A", Statistic("error_rate", last=50), above=0.5)])._own is None


def test_burn_rates_need_both_windows():
    watch = Watch([Rule("Burn", BurnRate(Objective("A", 0.99), 600.0, 60.0), above=5.0)])
    requests, errors, fired = 100, 0, []
    for second in range(300):
        requests += 10
        errors += 1 if second < 100 else 0
        snapshot = fleet_at(float(second), served(requests, until=float(second), every=0.001, errors=errors))
        fired += [(second, state) for _, state, _ in look(watch, snapshot)]
    (start, first), (end, last) = fired
    assert (first, last) == ("firing", "resolved")
    assert start <= 2
    assert 125 <= end <= 165, "the short window ends it, though the long one burns on"


class TestGrowth:
    """The growth of a custom counter."""

    def watch(self, window=10.0):
        return Watch([Rule("Tokens", CustomMetric("tokens", of="rate", window=window), above=5.0, cooldown=0.0)])

    def snapshot(self, moment, **series):
        found = tuple(Series((name,), value=float(value)) for name, value in series.items())
        family = Family(Definition("tokens", "counter", labels=("model",)), found)
        return fleet_at(moment, worker(), families=(family,))

    def test_it_is_over_the_window(self):
        watch = self.watch()
        assert look(watch, self.snapshot(0.0, a=1000, b=0)) == []
        assert look(watch, self.snapshot(1.0, a=1010, b=1)) == [("Tokens", "firing", 10.0)]
        later = [look(watch, self.snapshot(float(second), a=1010, b=1)) for second in range(2, 14)]
        assert [each for each in later if each and each[0][1] == "resolved"] == [[("Tokens", "resolved", 5.0)]]
        assert watch.active() == []

    def test_a_series_that_begins_anew_grew_from_nothing(self):
        watch = self.watch()
        look(watch, self.snapshot(0.0, a=1000))
        assert look(watch, self.snapshot(1.0, a=20)) == [("Tokens", "firing", 20.0)]

    def test_memory_is_bounded_by_the_window_however_often_it_is_looked_at(self):
        watch = self.watch(window=100.0)
        for at in range(20_000):
            look(watch, self.snapshot(at / 50, a=at))
        (growth,) = watch._growth.values()
        assert len(growth._looks) <= 123


def test_other_rules_keep_what_they_share():
    slow = Rule("Slow", Statistic("p95_total_time", last=20), above=0.1)
    watch = Watch([slow])
    recent = watch._recents[20]
    watch.use([slow, Rule("Errors", Statistic("error_rate", last=30), above=0.1)], [])
    assert watch._recents[20] is recent
    assert sorted(watch._recents) == [20, 30]
