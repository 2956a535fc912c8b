"""Rules that make no sense are refused, and say what to write."""

import math

import pytest

from shmetrics.alerting.rules import RuleError
from shmetrics.alerting.sources import Statistic
from tests.alerting.looks import Given, reading, rule

RATE = Statistic("error_rate", window=300.0)


@pytest.mark.parametrize(
    ("fields", "key", "text"),
    [
        ({"name": "Hot Rule"}, "name", "'Hot Rule' cannot be a rule's name"),
        ({"severity": "urgent"}, "severity", "must be one of critical, warning, info, not 'urgent'"),
        ({"below": 1.0, "above": 2.0}, "below", "`above` or `below`, not both"),
        ({"above": math.nan}, "above", "must be a finite number"),
        ({"above": None, "clear": 1.0}, "clear", "needs `above` or `below`"),
        ({"clear": 11.0}, "clear", r"must be on the good side of `above` \(10\)"),
        ({"critical": 9.0}, "critical", r"must be above `above` \(10\)"),
        ({"hold": -1.0}, "for", "must be a duration"),
        ({"cooldown": math.inf}, "cooldown", "must be a duration"),
        ({"min_samples": -1}, "min_samples", "0 or more"),
        ({"labels": {"severity": "x"}}, "labels", "which every alert has"),
        ({"labels": {"a-b": "x"}}, "labels", "cannot be a label"),
        ({"labels": {"__name__": "x"}}, "labels", "not __ at the beginning"),
        ({"summary": "{valeu} is high"}, "summary", "has {valeu}, which nothing fills in"),
        ({"source": RATE, "above": 5.0}, "above", "never right; for 5 % write 0.05"),
    ],
)
def test_it_is_refused_with_its_key(fields, key, text):
    name = fields.pop("name", "Rule")
    with pytest.raises(RuleError, match=text) as caught:
        rule(name, **fields)
    assert caught.value.key == key


def test_below_has_its_good_side_above():
    assert rule(below=10.0, clear=11.0, critical=5.0).severity_of(5.0) == "critical"
    with pytest.raises(RuleError, match="good side of `below`"):
        rule(below=10.0, clear=9.0)


@pytest.mark.parametrize(
    ("made", "value", "message"),
    [
        (rule(source=RATE, above=0.05), 0.125, "hub h: error rate over 5m is 12.5 %, above 5 %"),
        (rule(source=Statistic("p95_total_time", last=50), above=0.1, hold=60.0), 0.26,
         "hub h: p95 total time over the last 50 measurements is 260 ms, above 100 ms for 1m"),
        (rule(source=Statistic("throughput"), below=100.0), 9.5, "hub h: throughput is 9.5 /s, below 100 /s"),
        (rule(summary="{hub}: {value} > {threshold} ({worker})", source=RATE, above=0.05), 0.1, "h: 10 % > 5 % ()"),
    ],
)  # fmt: skip
def test_messages_have_units(made, value, message):
    assert made.message(reading(value), "h", "warning") == message


def test_a_message_shows_what_a_threshold_of_a_finding_was():
    made = rule(source=Given(words="stuck"), above=None)
    assert made.message(reading(11, text="worker 7 hangs"), "h", "warning") == "hub h: worker 7 hangs"
