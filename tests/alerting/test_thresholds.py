"""The four thresholds of the original documentation."""

import math
import re

import pytest

from shmetrics.alerting.thresholds import rules_of

SEED = {
    "error_rate_threshold": 0.05,
    "latency_p95_threshold": 0.1,
    "throughput_min_threshold": 100,
    "cache_hit_rate_threshold": 0.8,
}


def test_each_is_a_rule_over_the_last_measurements():
    error_rate, latency, throughput, cache = rules_of(SEED, window=50, cooldown=300.0)
    assert [each.name for each in (error_rate, latency, throughput, cache)] == [
        "error_rate", "latency_p95", "throughput", "cache_hit_rate",
    ]  # fmt: skip
    assert {each.source.last for each in (error_rate, latency, throughput, cache)} == {50}
    assert {each.cooldown for each in (error_rate, latency, throughput, cache)} == {300.0}
    assert latency.source.key == "p95_total_time"


@pytest.mark.parametrize(
    ("at", "good", "warning", "critical"),
    [(0, 0.05, 0.051, 0.1), (1, 0.1, 0.101, 0.2), (2, 100.0, 99.9, 50.0), (3, 0.8, 0.79, None)],
)
def test_the_severity_goes_by_the_distance_from_the_threshold(at, good, warning, critical):
    made = rules_of(SEED)[at]
    assert not made.is_breached(good)
    assert made.is_breached(warning)
    assert made.severity_of(warning) == "warning"
    if critical is None:
        assert made.severity_of(0.0) == "warning", "a cold cache wakes nobody"
    else:
        assert made.severity_of(critical) == "critical"


def test_where_every_second_request_fails_it_is_critical_whatever_the_threshold():
    (made,) = rules_of({"error_rate_threshold": 0.4})
    assert (made.severity_of(0.45), made.severity_of(0.5)) == ("warning", "critical")
    (made,) = rules_of({"error_rate_threshold": 0.9})
    assert made.severity_of(0.95) == "critical"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"error_rate": 0.1}, "no key 'error_rate'; did you mean 'error_rate_threshold'?"),
        ({"quux": 1}, "no key 'quux'; there are error_rate_threshold, "),
        ({"error_rate_threshold": 5}, "a fraction from 0 to 1, not 5; for 5 % write 0.05"),
        ({"error_rate_threshold": True}, "a fraction from 0 to 1, not True"),
        ({"cache_hit_rate_threshold": math.nan}, "a fraction from 0 to 1, not nan"),
        ({"latency_p95_threshold": -1}, "a number, 0 or more, not -1"),
        ({"latency_p95_threshold": "100ms"}, "a number, 0 or more, not '100ms'"),
    ],
)
def test_what_cannot_be_is_refused_and_says_what_to_write(given, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        rules_of(given)
