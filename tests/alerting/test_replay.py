"""Replays: rules over series that a file gives, and over a fleet that was recorded."""

import json

import pytest

from shmetrics.alerting.definition import parse
from shmetrics.alerting.replay import Replay, Step, announcements, lacking, recorded, run_test
from shmetrics.errors import RulesError

RULES = """
[[rule]]
name = "Errors"
statistic = "error_rate"
window = "1m"
above = 0.05
critical = 0.5
for = "20s"

[[rule]]
name = "Slow"
statistic = "p95_total_time"
last = 50
above = 0.2

[[rule]]
name = "Queue"
metric = "queue"
above = 10

[[rule]]
name = "Tokens"
metric = "tokens"
of = "rate"
window = "30s"
below = 1

[[rule]]
name = "Died"
finding = "died"
"""
TEST = """
[[test]]
name = "a bad minute"
step = "10s"
series = { requests = "100x30", errors = "0x6 20x6 0x18", p95_total_time = "0.1x3 0.3x3 0.1" }
metrics = { queue = "0x6 11x2 0", tokens = "0" }
findings = { died = "0x20 1 0" }
"""


def expect(*pairs):
    return "".join(f'[[test.expect]]\nat = "{at}"\nfiring = {json.dumps(firing)}\n' for at, firing in pairs)


def run(text):
    file = parse(RULES + text)
    return file, [run_test(file, table) for table in file.tests]


def test_expectations_that_are_met():
    file, (outcome,) = run(TEST + expect(
        ("30s", ["Tokens"]), ("40s", ["Slow", "Tokens"]), ("70s", ["Queue", "Tokens"]),
        ("2m", ["Errors:warning", "Tokens"]),
        ("200s", ["Tokens"]), ("210s", ["Died", "Tokens"]),
    ))  # fmt: skip
    assert file.page.report() == []
    assert outcome.failures == ()
    told = [(alert.timestamp, alert.type, alert.state) for alert in outcome.timeline]
    assert (40.0, "Slow", "firing") in told
    assert (70.0, "Slow", "resolved") in told
    assert (210.0, "Died", "firing") in told


def test_expectations_that_are_not():
    _, (outcome,) = run(TEST + expect(("10s", ["Errors"]), ("40s", ["Tokens"]), ("2m", ["Errors:critical", "Tokens"])))
    assert outcome.failures == (
        "at 10s: Errors should fire, and does not",
        "at 10s: Tokens fires (warning), and should not",
        "at 40s: Slow fires (warning), and should not",
        "at 2m: Errors is warning, and should be critical",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[test]]\nname = 'a'", "say what is to fire when"),
        (TEST + expect(("5 m", ["Errors"])), 'at = "3m"'),
        (TEST + expect(("1h", [])), "the series end at 5m, before 1h; make them longer"),
        (TEST + expect(("5s", [])) + "firng = []", 'an expectation is at = "3m" and firing'),
        (TEST.replace("100x30", "1e999x30") + expect(("5s", [])), "finite numbers, 0 or more"),
        (TEST.replace("100x30", "-1x30") + expect(("5s", [])), "finite numbers, 0 or more"),
        (TEST + expect(("5s", ["Erors"])), "there is no rule 'Erors'; did you mean 'Errors'?"),
        (TEST + expect(("5s", ["Errors:critcal"])), "no severity 'critcal'; did you mean 'critical'?"),
        (TEST.replace("0x6 20x6 0x18", "0-6") + expect(("5s", [])), "must be numbers such as"),
        (TEST.replace("errors =", "erors =") + expect(("5s", [])), "no 'erors'; did you mean 'errors'?"),
        (TEST.replace("died =", "dide =") + expect(("5s", [])), "no 'dide'; did you mean 'died'?"),
        (
            TEST.replace('queue = "0x6 11x2 0", ', "") + expect(("5s", ["Queue"])),
            "needs a series that is not here: queue",
        ),
        (TEST.replace("100x30", "1x9000000") + expect(("5s", [])), "more than 1,000,000 steps"),
    ],
)
def test_a_test_that_is_not_written_right_is_told_with_its_line(text, message):
    file, _ = run(text)
    (told,) = file.page.report()
    assert told.startswith("rules.toml:")
    assert message in told


LATENCY = """
[[slo]]
name = "Fast"
objective = 0.99
measure = "total_time"
under = 0.25
"""
SLOW = """
[[test]]
name = "ten minutes in which nearly every request is slow"
step = "1m"
series = { requests = "100x180" }
slow = { Fast = "0x60 90x10 0x110" }
"""


def test_an_objective_about_latencies_is_tested_by_how_many_requests_were_slow():
    at_once = ["Fast_burn_1h:critical", "Fast_burn_6h", "Fast_burn_3d"]
    file = parse(LATENCY + SLOW + expect(("60m", []), ("70m", at_once), ("180m", ["Fast_burn_3d"])))
    outcome = run_test(file, file.tests[0])
    assert file.page.report() == []
    assert outcome.failures == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            SLOW.replace("slow = { Fast", "slow = { Fasst"),
            "no slo 'Fasst' with `measure` and `under`; did you mean",
        ),
        (SLOW.replace("slow = {", "metrics = {"), "how many requests were too slow, which a test's `slow` says"),
    ],
)
def test_slow_requests_without_their_objective_and_the_other_way_round_are_told(text, message):
    file = parse(LATENCY + text + expect(("60m", ["Fast_burn_1h"])))
    run_test(file, file.tests[0])
    (told,) = file.page.report()
    assert message in told


def test_a_day_that_was_recorded_is_replayed_in_a_moment():
    steps = [Step(float(at), {"total_requests": 9 * at, "total_errors": 0, "hub": {}}) for at in range(86_400)]
    replay = Replay(steps)
    assert [replay.since(at, 3600.0).at for at in (10, 3600, 86_399)] == [0.0, 0.0, 82_799.0]
    assert [replay.before(at, 50).at for at in (3, 6, 86_399)] == [0.0, 0.0, 86_393.0]


def figures(second, **more):
    return {"hub": {"name": "r", "taken_at": 1.7e9 + second}, "total_requests": 100 * second, "total_errors": 0,
            "workers": [], **more}  # fmt: skip


def test_a_recording_is_replayed_at_its_own_time():
    lines = [json.dumps({"event": "leader", "hub": "r"}), ""]
    lines += [json.dumps(figures(at, total_errors=max(0, min(600, 20 * (at - 30))))) for at in range(1, 121)]
    steps = recorded(lines, "fleet.ndjson")
    file = parse(RULES)
    told = [
        (round(when - 1.7e9), alert.type, alert.state)
        for when, alerts, _ in announcements(file, steps, "r")
        for alert in alerts
    ]
    (start, *fires), (end, *over) = told
    assert (fires, over) == (["Errors", "firing"], ["Errors", "resolved"])
    assert 50 <= start <= 60
    assert 103 <= end <= 107
    assert [rule.name for rule in file.rules if lacking(rule, steps)] == ["Slow", "Queue", "Tokens", "Died"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{"], "f:1: this is no line of `shmetrics serve --json`"),
        (['{"hub": 3}'], "f:1: this is no line"),
        (["[]", ""], "f:1: this is no line"),
        ([json.dumps(figures(1, total_errors="x"))], "f:1: this is no line"),
        (['{"hub": {"taken_at": NaN}}'], "f:1: this is no line"),
        ([json.dumps(figures(1))], "two lines of figures or more, and this has 1"),
    ],
)
def test_what_is_no_recording_is_refused(lines, message):
    with pytest.raises(RulesError, match=message):
        recorded(lines, "f")
