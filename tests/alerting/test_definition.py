"""Files of rules: what they say, and that every mistake is told with its line and what to write instead."""

import sys
from datetime import datetime, time

import pytest

from shmetrics.alerting import definition
from shmetrics.alerting.definition import load, parse
from shmetrics.alerting.silences import Silence
from shmetrics.alerting.slo import BurnRate, Objective
from shmetrics.alerting.sources import CustomMetric, Finding, Statistic, WorkerStatistic
from shmetrics.errors import PlatformError, RulesError

GOOD = """
[defaults]
cooldown = "2m"
labels = { team = "vision" }

[[rule]]
name = "HighErrorRate"
statistic = "error_rate"
window = "5m"
above = 0.05
critical = 0.2
clear = 0.04
for = "1m"
keep_firing_for = 90
min_samples = 100
severity = "info"
summary = "{value} of requests fail"
labels = { zone = "a" }
annotations = { runbook_url = "https://example.org" }

[[rule]]
name = "Slow"
statistic = "p99.9_total_time"
last = 500
above = 0.5

[[rule]]
name = "Idle"
statistic = "throughput"
below = 1

[[rule]]
name = "Tokens"
metric = "tokens_total"
of = "rate"
window = "2m"
series = { model = "a" }
above = 1000

[[rule]]
name = "Busy"
worker = "busy_fraction"
above = 0.9
cooldown = "1h"

[[rule]]
name = "Died"
finding = "died"

[[slo]]
name = "Availability"
objective = 0.999

[[silence]]
rule = "Busy"
daily = "22:00-04:00"
days = ["sat", "sun"]
reason = "batch jobs"
"""


def test_every_kind_of_rule_is_read():
    file = parse(GOOD)
    assert file.page.report() == []
    high, slow, idle, tokens, busy, died, *burns = file.rules
    assert high.source == Statistic("error_rate", window=300.0)
    assert (high.above, high.critical, high.clear, high.hold, high.keep_firing_for) == (0.05, 0.2, 0.04, 60.0, 90.0)
    assert (high.min_samples, high.severity, high.cooldown) == (100, "info", 120.0)
    assert (high.labels, high.annotations) == (
        {"team": "vision", "zone": "a"}, {"runbook_url": "https://example.org"},
    )  # fmt: skip
    assert slow.source == Statistic("p99.9_total_time", last=500)
    assert (idle.source, idle.below, idle.above) == (Statistic("throughput"), 1.0, None)
    assert tokens.source == CustomMetric("tokens_total", (("model", "a"),), "rate", 120.0)
    assert (busy.source, busy.cooldown, busy.labels) == (WorkerStatistic("busy_fraction"), 3600.0, {"team": "vision"})
    assert (died.source, died.threshold) == (Finding("died"), None)
    promise = Objective("Availability", 0.999)
    assert [(each.name, each.source, each.above, each.severity) for each in burns] == [
        ("Availability_burn_1h", BurnRate(promise, 3600.0, 300.0), 14.4, "critical"),
        ("Availability_burn_6h", BurnRate(promise, 21_600.0, 1800.0), 6.0, "critical"),
        ("Availability_burn_3d", BurnRate(promise, 259_200.0, 21_600.0), 1.0, "warning"),
    ]
    assert file.silences == (
        Silence(rule="Busy", daily=(time(22), time(4)), days=("sat", "sun"), reason="batch jobs"),
    )  # fmt: skip


def rule(*lines):
    return "\n".join(["[[rule]]", 'name = "R"', *lines])


STATISTIC = 'statistic = "error_rate"'
WINDOW = 'window = "5m"'

MISTAKES = {
    "an unknown key": (rule(STATISTIC, "abov = 0.1"), 4, "rule 'R': there is no key `abov`; did you mean `above`?"),
    "no threshold": (rule(STATISTIC), 1, "say when it fires: `above` or `below` is missing"),
    "a wrong type": (rule(STATISTIC, 'above = "5 %"'), 4, "`above` must be a number, not a text ('5 %')"),
    "out of range": (
        rule(STATISTIC, "above = 5"),
        4,
        "a fraction from 0 to 1, so 5 is never right; for 5 % write 0.05",
    ),
    "a truth value": (rule(STATISTIC, "above = true"), 4, "`above` must be a number, not true or false (True)"),
    "no name": ("[[rule]]\n" + STATISTIC + "\nabove = 0.1", 1, "rule number 1: `name` is missing"),
    "a bad name": ('[[rule]]\nname = "a b"\n' + STATISTIC + "\nabove = 0.1", 2, "wanted letters, digits and _"),
    "an unknown statistic": (
        rule('statistic = "p95_total_tme"', "above = 1"),
        3,
        "no statistic 'p95_total_tme'; did you mean 'p95_total_time'?",
    ),
    "one that needs a window": (rule('statistic = "requests"', "above = 1"), 3, "needs a `window`, such as \"5m\""),
    "one that has no window": (
        rule('statistic = "stability_score"', WINDOW, "below = 0.5"), 3, "cannot be had over a `window`",
    ),
    "window and last": (rule(STATISTIC, WINDOW, "last = 50", "above = 0.1"), 5, "exclude each other"),
    "a window too long": (rule(STATISTIC, 'window = "30d"', "above = 0.1"), 4, "`window` is 1w at most"),
    "a bad duration": (rule(STATISTIC, 'window = "5 min"', "above = 0.1"), 4, 'a duration such as "90s", "5m"'),
    "a bad for": (rule(STATISTIC, "above = 0.1", "for = -1"), 5, "`for` must be a duration"),
    "two sources": (rule(STATISTIC, 'worker = "age"', "above = 0.1"), 3, "not `statistic` and `worker`"),
    "no source": (rule("above = 0.1"), 2, "exactly one of `statistic`, `metric`, `worker`, `finding`, not none"),
    "an unknown worker figure": (rule('worker = "busy"', "above = 0.1"), 3, "there is no figure 'busy' of a worker"),
    "an unknown finding": (rule('finding = "dead"'), 3, "there is no finding 'dead'; did you mean 'died'?"),
    "a bad figure of a metric": (rule('metric = "m"', 'of = "rat"', "above = 1"), 4, "did you mean 'rate'?"),
    "a bad severity": (
        rule(STATISTIC, "above = 0.1", 'severity = "page"'),
        5,
        "one of critical, warning, info, not 'page'",
    ),
    "clear on the bad side": (rule(STATISTIC, "above = 0.1", "clear = 0.2"), 5, "must be on the good side of `above`"),
    "critical on the good side": (rule(STATISTIC, "above = 0.1", "critical = 0.05"), 5, "must be above `above`"),
    "both sides": (rule(STATISTIC, "above = 0.1", "below = 0.2"), 5, "`above` or `below`, not both"),
    "a bad placeholder": (
        rule(STATISTIC, "above = 0.1", 'summary = "{vlaue}"'),
        5,
        "has {vlaue}, which nothing fills in",
    ),
    "a reserved label": (rule(STATISTIC, "above = 0.1", 'labels = { hub = "x" }'), 5, "which every alert has"),
    "labels of numbers": (rule(STATISTIC, "above = 0.1", "labels = { a = 1 }"), 5, "a table of texts"),
    "one bracket": ("[rule]\nname = 'R'", 1, "write [[rule]], with two brackets"),
    "an unknown table": ("[[rules]]\nname = 'R'", 1, "there is no table 'rules' here; did you mean 'rule'?"),
    "bad defaults": ("[defaults]\ncooldwn = 3", 2, "no key `cooldwn`; did you mean `cooldown`?"),
    "an objective in percent": ('[[slo]]\nname = "A"\nobjective = 99.9', 3, "for 99.9 % write 0.999"),
    "an objective without a number": ('[[slo]]\nname = "A"', 1, "`objective` is missing"),
    "a measure without its limit": (
        '[[slo]]\nname = "A"\nobjective = 0.9\nmeasure = "total_time"',
        1,
        "belong together",
    ),
    "an objective that nothing can burn": (
        '[[slo]]\nname = "A"\nobjective = 0.5\nperiod = "90d"', 3, "so large a budget",
    ),
    "a silence for ever": ("[[silence]]\nrule = 'R'", 1, "a silence must end"),
    "a bad time of day": ("[[silence]]\ndaily = '2am-4am'", 2, 'two times such as "02:00-04:00"'),
    "a bad day": ("[[silence]]\ndays = ['monday']", 2, "`days` may have mon, tue"),
    "a silence that ends before it begins": (
        "[[silence]]\nfrom = 2026-03-02T10:00:00\nuntil = 2026-03-01T10:00:00", 3, "`until` must be later than `from`",
    ),
    "an instant in quotes": ("[[silence]]\nuntil = '2026-03-02'", 2, "(no quotes)"),
    "an instant that no clock knows": ("[[silence]]\nfrom = 0001-01-01T00:00:00\ndays = ['sun']", 2, "too far away"),
    "a night of no length": ("[[silence]]\ndaily = '22:00-22:00'", 2, "`daily` is empty, from 22:00-22:00"),
    "a number beyond all bounds": (rule(STATISTIC, "above = 1" + 400 * "0"), 4, "`above` must be a number"),
    "a duration beyond all bounds": (rule(STATISTIC, "above = 0.1", "for = 1" + 400 * "0"), 5, "a duration"),
    "what is never below 0": (rule('statistic = "throughput"', "below = 0"), 4, "throughput is never below 0, so"),
    "less than nothing": (rule('statistic = "throughput"', "below = -1"), 4, "so this would never fire"),
    "a metric that cannot be": (rule("metric = 'a{b=\"c\"}'", "above = 1"), 3, "which series of a metric"),
    "a label that cannot be": (
        rule('metric = "a"', 'series = { "b c" = "d" }', "above = 1"), 4, "'b c' cannot be the name of a metric or",
    ),
    "an annotation that cannot be": (
        rule(STATISTIC, "above = 0.1", 'annotations = { "run book" = "x" }'), 5, "cannot be an annotation's name",
    ),
    "a name twice": (
        rule(STATISTIC, "above = 0.1") + "\n" + rule(STATISTIC, "above = 0.2"),
        6,
        "two rules are called 'R'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_told_with_its_line_and_what_to_write(case):
    text, line, message = MISTAKES[case]
    (told,) = parse(text).page.report()
    assert told.startswith(f"rules.toml:{line}: "), told
    assert message in told


def test_all_mistakes_are_told_at_once_by_line(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text(rule(STATISTIC, "abov = 1") + "\n[[silence]]\ndays = ['x']\n")
    with pytest.raises(RulesError) as caught:
        load(str(path))
    first, *lines = str(caught.value).splitlines()
    assert first == f"{path} has 2 mistakes:"
    assert [line.split(":")[1] for line in lines] == ["4", "6"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[[rule]\n", r":1: this is not TOML: "),
        (b"a = 1\nb = \n", r":2: this is not TOML: "),
        (b"\xff\xfe", r"is not UTF-8 \(byte 0\)"),
        (b"a = " + 5_000 * b"9", r":1: there is something in this file that no rule needs: .*digits"),
        (b"a = " + 5_000 * b"[", r":1: there is something in this file that no rule needs: .*recursion"),
    ],
)
def test_what_is_no_toml_is_refused_with_its_line(tmp_path, content, message):
    path = tmp_path / "rules.toml"
    path.write_bytes(content)
    with pytest.raises(RulesError, match=message):
        load(str(path))


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_bytes(b"\xef\xbb\xbf" + rule(STATISTIC, "above = 0.1").encode())
    assert [each.name for each in load(str(path)).rules] == ["R"]


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(RulesError, match="cannot be read: No such file"):
        load(str(tmp_path / "none.toml"))


def test_lines_are_right_behind_long_texts_and_in_tables_of_their_own():
    text = '[[rule]]\nname = "A"\nsummary = """\nabov = 1\n[[rule]]\n"""\nstatistic = "error_rate"\nabove = 0.1\n' + (
        "[rule.labels]\nteam = 1\n\n[[rule]]\nname = 'B'\nstatistic = 'error_rate'\nabove = 5\n"
    )
    assert [line.split(":")[1] for line in parse(text).page.report()] == ["9", "15"]


def test_an_instant_without_an_offset_is_this_machines():
    (silence,) = parse("[[silence]]\nuntil = 2026-03-02T10:00:00").silences
    assert silence.end == datetime(2026, 3, 2, 10).timestamp()


def test_what_may_not_be_meant_is_noted():
    file = parse(rule(STATISTIC, "above = 0.1") + "\n[[silence]]\nrule = 'Q'\ndays = ['sun']\n"
                 "[[slo]]\nname = 'A'\nobjective = 0.9\n")  # fmt: skip
    assert file.page.report() == []
    assert file.notes == (
        "slo 'A': nothing burns 14.4 times as fast as 0.9 allows, so it has no alert over 1h",
        "silence number 1: there is no rule 'Q'",
    )


def test_without_a_parser_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tomllib", None)
    monkeypatch.setitem(sys.modules, "tomli", None)
    with pytest.raises(PlatformError, match=r"pip install 'shmetrics\[rules\]'"):
        definition.parse("")


def test_with_tomli_it_works_as_well(monkeypatch):
    tomllib = pytest.importorskip("tomllib", reason="this Python has no tomllib; tomli is what is used anyway")
    monkeypatch.setitem(sys.modules, "tomllib", None)
    monkeypatch.setitem(sys.modules, "tomli", tomllib)
    assert len(definition.parse(GOOD).rules) == 9
