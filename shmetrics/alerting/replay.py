"""Replaying a fleet that was recorded, or that a test makes up, past the engine: what would have been said, and when.

A *recording* is what ``shmetrics serve --json`` prints: a line of figures a second. A *test* is a ``[[test]]`` of a
rules file, with a series for each figure. Time is that of the recording; nothing waits. Pure but for reading the
recording.
"""

import json
import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Final

from shmetrics.alerting.alert import Alert
from shmetrics.alerting.definition import RuleFile, Table
from shmetrics.alerting.engine import Engine
from shmetrics.alerting.fields import Fields, duration, meant
from shmetrics.alerting.readings import Labels
from shmetrics.alerting.rules import SEVERITIES, Rule
from shmetrics.alerting.slo import BurnRate
from shmetrics.alerting.sources import (
    FINDINGS,
    FLEET,
    GROUPS,
    HUB,
    CustomMetric,
    Finding,
    Statistic,
    WorkerStatistic,
    percentile,
)
from shmetrics.alerting.wording import span
from shmetrics.errors import RulesError
from shmetrics.families import Definition, Family, Series

_COUNTS: Final = {"requests": "total_requests", "errors": "total_errors", "cache_hits": "cache_hits",
                  "cache_misses": "cache_misses"}  # fmt: skip
"""Series of a test that are counted in each step, and the totals that they add up to."""
_PIECE: Final = re.compile(r"(-?\d+(?:\.\d+)?(?:e-?\d+)?)(?:x(\d+))?")
_MOST_STEPS: Final = 1_000_000


@dataclass(frozen=True)
class Step:
    """The fleet at one instant of a replay."""

    at: float
    """Seconds; of a recording since the epoch, of a test since its begin."""
    figures: Mapping[str, Any]
    metrics: Mapping[str, float] = field(default_factory=dict)
    findings: Mapping[str, float] = field(default_factory=dict)
    slow: Mapping[tuple[str, float], float] = field(default_factory=dict)
    """Of a test: how many requests had more than so much of a measure."""


@dataclass(frozen=True)
class _Between:
    """Figures between two steps (`readings.Figures`). Percentiles are those of the later one."""

    first: Step
    last: Step

    def _grown(self, key: str) -> int:
        return max(0, int(self.last.figures.get(key, 0)) - int(self.first.figures.get(key, 0)))

    @property
    def requests(self) -> int:
        return self._grown("total_requests")

    @property
    def errors(self) -> int:
        return self._grown("total_errors")

    @property
    def cache_hits(self) -> int:
        return self._grown("cache_hits")

    @property
    def cache_misses(self) -> int:
        return self._grown("cache_misses")

    @property
    def seconds(self) -> float:
        return self.last.at - self.first.at

    @property
    def rate(self) -> float:
        return self.requests / self.seconds if self.seconds > 0.0 else 0.0

    @property
    def error_rate(self) -> float:
        return min(1.0, self.errors / self.requests) if self.requests else float(self.errors > 0)

    @property
    def cache_hit_rate(self) -> float:
        lookups = self.cache_hits + self.cache_misses
        return self.cache_hits / lookups if lookups else 0.0

    def percentile(self, measure: str, percent: float) -> float:
        return float(self.last.figures.get(f"p{percent:g}_{measure}", 0.0))

    def share_above(self, measure: str, limit: float) -> float:
        grown = (
            self.last.slow[measure, limit] - self.first.slow[measure, limit]
        )  # `lacking` has looked whether it is there
        return min(1.0, grown / self.requests) if self.requests else 0.0


class Replay:
    """Steps, and a quick way to those that were so long, or so many requests, ago."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = steps
        # Where a clock or a total went back, nothing before it counts as later.
        self._times = list(accumulate((step.at for step in steps), max))
        self._totals = list(accumulate((step.figures.get("total_requests", 0) for step in steps), max))

    def since(self, at: int, seconds: float) -> Step:
        """The latest step that is so long before step `at`; the first where none is."""
        return self._latest(self._times, self.steps[at].at - seconds, at)

    def before(self, at: int, count: int) -> Step:
        """The latest step after which so many requests came until step `at`; the first where none is."""
        return self._latest(self._totals, self.steps[at].figures.get("total_requests", 0) - count, at)

    def _latest(self, values: Sequence[float], limit: float, before: int) -> Step:
        return self.steps[max(0, bisect_right(values, limit, hi=before) - 1)]


class ReplayLook:
    """One look at a replay (`readings.Look`)."""

    def __init__(self, hub: str, replay: Replay, at: int) -> None:
        self._replay = replay
        self._at = at
        self._step = replay.steps[at]
        self.hub = hub
        self.now = self.wall = self._step.at
        made_up = [_finding(kind, value) for kind, value in self._step.findings.items() if value]
        self.figures = {"hub": {}, "workers": [], "findings": made_up, **self._step.figures}
        self.families = [_family(name, value) for name, value in self._step.metrics.items()]

    def window(self, seconds: float) -> _Between:
        """From the latest step that is so long ago."""
        return _Between(self._replay.since(self._at, seconds), self._step)

    def last(self, count: int) -> _Between:
        """From the latest step since which there were so many requests."""
        return _Between(self._replay.before(self._at, count), self._step)

    def growth(self, metric: str, labels: Labels, seconds: float) -> float | None:
        """Of a counter's series."""
        first = self._replay.since(self._at, seconds)
        if first.at >= self.now:
            return None
        return (self._step.metrics[metric] - first.metrics.get(metric, 0.0)) / (self.now - first.at)


def _family(name: str, value: float) -> Family:
    return Family(Definition(name, "gauge", merge="last"), (Series(value=value),))


def _finding(kind: str, value: float) -> dict[str, Any]:
    """A finding that a test makes up."""
    return {"kind": GROUPS.get(kind, (kind,))[0], "worker": 0, "value": value, "threshold": None, "text": kind}


def announcements(file: RuleFile, steps: Sequence[Step], hub: str) -> Iterator[tuple[float, list[Alert], list[Alert]]]:
    """For each step: its time, what is announced, and what fires after it."""
    engine = Engine([rule for rule in file.rules if not lacking(rule, steps)], file.silences)
    replay = Replay(steps)
    for at in range(1, len(steps)):
        look = ReplayLook(hub, replay, at)
        yield look.wall, engine.judge(look), engine.active(look)


def lacking(rule: Rule, steps: Sequence[Step]) -> str:
    """What a replay lacks to judge a rule; empty when it lacks nothing."""
    source, step = rule.source, steps[-1]
    wanted: list[str] = []
    have = step.figures.keys()
    if isinstance(source, BurnRate):
        promise = source.objective
        if promise.measure is not None and (promise.measure, promise.under) not in step.slow:
            return f'how many requests were too slow, which a test\'s `slow` says: {{ {promise.name} = "0x6 5x6" }}'
        wanted = ["total_requests", *(["total_errors"] if promise.measure is None else [])]
    elif isinstance(source, Statistic):
        if source.window is None and source.last is None:
            wanted = [source.key]
            have = {**step.figures, **step.figures.get("hub", {})}.keys()
        elif percentile(source.key):
            wanted = ["total_requests", source.key]
        elif source.key == "cache_hit_rate":
            wanted = ["cache_hits", "cache_misses"]
        else:
            wanted = ["total_requests", *(["total_errors"] if "error" in source.key else [])]
    elif isinstance(source, WorkerStatistic):
        wanted = ["workers"]
    elif isinstance(source, CustomMetric):
        wanted, have = [source.name], step.metrics.keys()
    elif isinstance(source, Finding):
        wanted, have = (
            [source.kind],
            {**step.findings, **dict.fromkeys(FINDINGS if "findings" in step.figures else ())}.keys(),
        )
    return ", ".join(name for name in wanted if name not in have)


# Recordings -----------------------------------------------------------------------------------------------------------


def recorded(lines: Iterable[str], path: str) -> list[Step]:
    """The steps of a recording. RulesError for lines that are none."""
    steps: list[Step] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
            if "event" in content:
                continue
            for total in set(content) & set(_COUNTS.values()):
                content[total] = int(content[total])
            at = float(content["hub"]["taken_at"])
            if not math.isfinite(at):
                raise ValueError
            steps.append(Step(at, content))
        except (ValueError, TypeError, KeyError, OverflowError):
            raise RulesError(f"{path}:{number}: this is no line of `shmetrics serve --json`") from None
    if len(steps) < 2:
        raise RulesError(f"{path}: a recording has two lines of figures or more, and this has {len(steps)}")
    return steps


# Tests ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """How a test went."""

    name: str
    failures: tuple[str, ...]
    timeline: tuple[Alert, ...]
    """What was announced; times are seconds since the begin."""


@dataclass(frozen=True)
class RuleTest:
    """A ``[[test]]`` as it is written."""

    name: str
    steps: Sequence[Step]
    expected: Sequence[tuple[float, dict[str, str | None]]]


def run_test(file: RuleFile, table: Table) -> Outcome | None:
    """Run one ``[[test]]``; None when it is not written right, which `file.page` then tells."""
    test = read_test(file, table)
    return None if test is None else _outcome(file, test)


def read_test(file: RuleFile, table: Table) -> RuleTest | None:
    """Read one ``[[test]]``; None when it is not written right, which `file.page` then tells."""
    fields = file.fields(table, f"test number {int(table.address[-1]) + 1}")
    name = fields.text("name", required=True) or ""
    step = fields.seconds("step", 10.0, low=0.001) or 10.0
    promises = _latency_promises(file)
    known = {"series": (*_COUNTS, *FLEET, *HUB), "findings": FINDINGS, "metrics": (), "slow": tuple(promises)}
    series = {kind: _series(fields, kind, names) for kind, names in known.items()}
    expected = _expectations(fields, file)
    if not fields.finish():
        return None
    steps = _steps(series, step, promises)
    late = [at for at, _ in expected if at > steps[-1].at + 1e-9]
    if late:
        fields.complain("expect", f"the series end at {span(steps[-1].at)}, before {span(late[0])}; make them longer")
        return None
    for rule in file.rules:
        lack = lacking(rule, steps)
        if lack and any(rule.name in names for _, names in expected):
            fields.complain("series", f"rule {rule.name!r} needs a series that is not here: {lack}")
            return None
    return RuleTest(name, steps, expected)


def _outcome(file: RuleFile, test: RuleTest) -> Outcome:
    timeline: list[Alert] = []
    states: list[tuple[float, dict[str, str]]] = [(0.0, {})]
    for at, announced, active in announcements(file, test.steps, "test"):
        timeline += announced
        states.append((at, {alert.type: alert.severity for alert in active}))
    failures = []
    for at, wanted in test.expected:
        firing = [state for when, state in states if when <= at + 1e-9][-1]
        for missing in sorted(wanted.keys() - firing.keys()):
            failures.append(f"at {span(at)}: {missing} should fire, and does not")
        for extra in sorted(firing.keys() - wanted.keys()):
            failures.append(f"at {span(at)}: {extra} fires ({firing[extra]}), and should not")
        for both in sorted(wanted.keys() & firing.keys()):
            if wanted[both] not in (None, firing[both]):
                failures.append(f"at {span(at)}: {both} is {firing[both]}, and should be {wanted[both]}")
    return Outcome(test.name, tuple(failures), tuple(timeline))


def _latency_promises(file: RuleFile) -> dict[str, tuple[str, float]]:
    """The objectives about slow requests: the measure of each, and up to where it is good."""
    promises = [rule.source.objective for rule in file.rules if isinstance(rule.source, BurnRate)]
    return {each.name: (each.measure, each.under) for each in promises if each.measure is not None}


def _steps(
    series: Mapping[str, Mapping[str, Sequence[float]]], step: float, promises: Mapping[str, tuple[str, float]]
) -> list[Step]:
    """The fleet before the first step, and after each."""
    count = max((len(values) for each in series.values() for values in each.values()), default=0)
    totals = {total: 0 for key, total in _COUNTS.items() if key in series["series"]}
    first = {**totals, "hub": {}}
    slow = dict.fromkeys((promises[name] for name in series["slow"]), 0.0)
    steps = [Step(0.0, first, dict.fromkeys(series["metrics"], 0.0), dict.fromkeys(series["findings"], 0.0), slow)]
    for at in range(count):
        now = {kind: {name: _at(values, at) for name, values in each.items()} for kind, each in series.items()}
        for key, total in _COUNTS.items():
            if key in now["series"]:
                totals[total] += round(now["series"][key])
        plain = {name: value for name, value in now["series"].items() if name not in _COUNTS}
        hub = {name: value for name, value in plain.items() if name in HUB}
        slow = {promises[name]: slow[promises[name]] + value for name, value in now["slow"].items()}
        steps.append(Step((at + 1) * step, {**plain, **totals, "hub": hub}, now["metrics"], now["findings"], slow))
    return steps


def _at(values: Sequence[float], at: int) -> float:
    """A value of a series; a series that is shorter than others stays as it was."""
    return values[min(at, len(values) - 1)]


def _series(fields: Fields, key: str, known: Sequence[str]) -> dict[str, list[float]]:
    """``{ errors = "0x6 20x12" }``: six steps of 0, then twelve of 20.

    ``known``: what there may be; everything where it is empty.
    """
    found: dict[str, list[float]] = {}
    for name, text in fields.table(key).items():
        if key == "slow" and name not in known:
            fields.complain(key, f"there is no slo {name!r} with `measure` and `under`{meant(name, known)}")
            continue
        if known and name not in known and not (key == "series" and percentile(name)):
            fields.complain(key, f"`{key}` has no {name!r}{meant(name, known)}")
            continue
        pieces = [_PIECE.fullmatch(piece) for piece in text.split()]
        if not pieces or any(piece is None for piece in pieces):
            fields.complain(key, f'{name!r} must be numbers such as "0x6 20x12 5", not {text!r}')
            continue
        values: list[float] = []
        for piece in pieces:
            assert piece is not None
            if len(values) + int(piece[2] or 1) > _MOST_STEPS:
                fields.complain(key, f"{name!r} has more than {_MOST_STEPS:,} steps")
                break
            values += [float(piece[1])] * int(piece[2] or 1)
        if not all(map(math.isfinite, values)) or (min(values, default=0.0) < 0.0 and key != "metrics"):
            fields.complain(key, f"{name!r} must be finite numbers, 0 or more, not {text!r}")
            continue
        found[name] = values or [0.0]
    return found


def _expectations(fields: Fields, file: RuleFile) -> list[tuple[float, dict[str, str | None]]]:
    """``[[test.expect]]``: a time, and the names of all rules that fire then, ``Name`` or ``Name:severity``."""
    value = fields.raw("expect")
    names = [rule.name for rule in file.rules]
    found: list[tuple[float, dict[str, str | None]]] = []
    if not isinstance(value, list) or not value:
        fields.complain("expect", "say what is to fire when: [[test.expect]] with `at` and `firing`")
        return found
    for each in value:
        seconds = duration(each.get("at")) if isinstance(each, dict) else None
        firing = each.get("firing") if isinstance(each, dict) else None
        if (
            seconds is None
            or each.keys() != {"at", "firing"}
            or not isinstance(firing, list)
            or not all(isinstance(name, str) for name in firing)
        ):
            fields.complain("expect", 'an expectation is at = "3m" and firing = ["HighErrorRate"], or firing = []')
            continue
        wanted: dict[str, str | None] = {}
        for text in firing:
            name, _, severity = text.partition(":")
            if name not in names:
                fields.complain("expect", f"there is no rule {name!r}{meant(name, names)}")
            if severity and severity not in SEVERITIES:
                fields.complain("expect", f"there is no severity {severity!r}{meant(severity, SEVERITIES)}")
            wanted[name] = severity or None
        found.append((seconds, wanted))
    return found
