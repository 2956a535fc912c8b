"""Replaying a fleet that was recorded, or that a test makes up, past the engine: what would have been said, and when.

A *recording* is what ``shmetrics serve --json`` prints: a line of figures a second. A *test* is a ``[[test]]`` of a
rules file, with a series for each figure. Time is that of the recording; nothing waits. Pure but for reading the
recording.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from shmetrics.alerting.alert import Alert
from shmetrics.alerting.definition import RuleFile, Table
from shmetrics.alerting.engine import Engine
from shmetrics.alerting.fields import Fields, meant
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
from shmetrics.alerting.wording import parse_span, span
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
        raise NotImplementedError("a replay has no sketches; `lacking` says so of the rule")


class ReplayLook:
    """One look at a replay (`readings.Look`)."""

    def __init__(self, hub: str, steps: Sequence[Step], at: int) -> None:
        self._steps = steps[: at + 1]
        self._step = steps[at]
        self.hub = hub
        self.now = self.wall = self._step.at
        made_up = [_finding(kind, value) for kind, value in self._step.findings.items() if value]
        self.figures = {"hub": {}, "workers": [], "findings": made_up, **self._step.figures}
        self.families = [_family(name, value) for name, value in self._step.metrics.items()]

    def window(self, seconds: float) -> _Between:
        """From the latest step that is so long ago."""
        return _Between(self._back(lambda step: self.now - step.at >= seconds), self._step)

    def last(self, count: int) -> _Between:
        """From the latest step since which there were so many requests."""
        total = self._step.figures.get("total_requests", 0)
        return _Between(self._back(lambda step: total - step.figures.get("total_requests", 0) >= count), self._step)

    def growth(self, metric: str, labels: Labels, seconds: float) -> float | None:
        """Of a counter's series."""
        first = self._back(lambda step: self.now - step.at >= seconds)
        if first is self._step:
            return None
        return (self._step.metrics[metric] - first.metrics.get(metric, 0.0)) / (self.now - first.at)

    def _back(self, found: Any) -> Step:
        for step in reversed(self._steps[:-1]):
            if found(step):
                return step
        return self._steps[0]


def _family(name: str, value: float) -> Family:
    return Family(Definition(name, "gauge", merge="last"), (Series(value=value),))


def _finding(kind: str, value: float) -> dict[str, Any]:
    """A finding that a test makes up."""
    return {"kind": GROUPS.get(kind, (kind,))[0], "worker": 0, "value": value, "threshold": None, "text": kind}


def announcements(file: RuleFile, steps: Sequence[Step], hub: str) -> Iterator[tuple[float, list[Alert], list[Alert]]]:
    """For each step: its time, what is announced, and what fires after it."""
    engine = Engine([rule for rule in file.rules if not lacking(rule, steps)], file.silences)
    for at in range(1, len(steps)):
        look = ReplayLook(hub, steps, at)
        yield look.wall, engine.judge(look), engine.active(look)


def lacking(rule: Rule, steps: Sequence[Step]) -> str:
    """What a replay lacks to judge a rule; empty when it lacks nothing."""
    source, step = rule.source, steps[-1]
    wanted: list[str] = []
    have = step.figures.keys()
    if isinstance(source, BurnRate):
        if source.objective.measure is not None:
            return "latencies of single requests, which neither recordings nor series have"
        wanted = ["total_requests", "total_errors"]
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
            steps.append(Step(float(content["hub"]["taken_at"]), content))
        except (ValueError, TypeError, KeyError):
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


def run_test(file: RuleFile, table: Table) -> Outcome | None:
    """Run one ``[[test]]``; None when it is not written right, which `file.page` then tells."""
    fields = file.fields(table, f"test number {int(table.address[-1]) + 1}")
    name = fields.text("name", required=True) or ""
    step = fields.seconds("step", 10.0, low=0.001) or 10.0
    series = {kind: _series(fields, kind) for kind in ("series", "metrics", "findings")}
    expected = _expectations(fields, file)
    if not fields.finish():
        return None
    steps = _steps(series, step)
    for rule in file.rules:
        lack = lacking(rule, steps)
        if lack and any(rule.name in names for _, names in expected):
            fields.complain("series", f"rule {rule.name!r} needs a series that is not here: {lack}")
            return None
    return _outcome(file, name, steps, expected)


def _outcome(
    file: RuleFile, name: str, steps: Sequence[Step], expected: Sequence[tuple[float, dict[str, str | None]]]
) -> Outcome:
    timeline: list[Alert] = []
    states: list[tuple[float, dict[str, str]]] = [(0.0, {})]
    for at, announced, active in announcements(file, steps, "test"):
        timeline += announced
        states.append((at, {alert.type: alert.severity for alert in active}))
    failures = []
    for at, wanted in expected:
        firing = [state for when, state in states if when <= at + 1e-9][-1]
        for missing in sorted(wanted.keys() - firing.keys()):
            failures.append(f"at {span(at)}: {missing} should fire, and does not")
        for extra in sorted(firing.keys() - wanted.keys()):
            failures.append(f"at {span(at)}: {extra} fires ({firing[extra]}), and should not")
        for both in sorted(wanted.keys() & firing.keys()):
            if wanted[both] not in (None, firing[both]):
                failures.append(f"at {span(at)}: {both} is {firing[both]}, and should be {wanted[both]}")
    return Outcome(name, tuple(failures), tuple(timeline))


def _steps(series: Mapping[str, Mapping[str, Sequence[float]]], step: float) -> list[Step]:
    """The fleet before the first step, and after each."""
    count = max((len(values) for each in series.values() for values in each.values()), default=0)
    totals = {total: 0 for key, total in _COUNTS.items() if key in series["series"]}
    first = {**totals, "hub": {}}
    steps = [Step(0.0, first, dict.fromkeys(series["metrics"], 0.0), dict.fromkeys(series["findings"], 0.0))]
    for at in range(count):
        now = {kind: {name: _at(values, at) for name, values in each.items()} for kind, each in series.items()}
        for key, total in _COUNTS.items():
            if key in now["series"]:
                totals[total] += round(now["series"][key])
        plain = {name: value for name, value in now["series"].items() if name not in _COUNTS}
        hub = {name: value for name, value in plain.items() if name in HUB}
        steps.append(Step((at + 1) * step, {**plain, **totals, "hub": hub}, now["metrics"], now["findings"]))
    return steps


def _at(values: Sequence[float], at: int) -> float:
    """A value of a series; a series that is shorter than others stays as it was."""
    return values[min(at, len(values) - 1)]


def _series(fields: Fields, key: str) -> dict[str, list[float]]:
    """``{ errors = "0x6 20x12" }``: six steps of 0, then twelve of 20."""
    found: dict[str, list[float]] = {}
    for name, text in fields.table(key).items():
        known = {"series": (*_COUNTS, *FLEET, *HUB), "findings": FINDINGS}.get(key)
        if known and name not in known and not percentile(name):
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
        at = each.get("at") if isinstance(each, dict) else None
        seconds = parse_span(at) if isinstance(at, str) else None
        firing = each.get("firing") if isinstance(each, dict) else None
        if seconds is None or not isinstance(firing, list) or not all(isinstance(name, str) for name in firing):
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
