"""The engine: from the readings of one look to what is to be announced. Pure; time comes with the look.

The life of an alert, one for each rule and each set of labels::

                    breached                 for how long `for` says            no longer breached for
    (nothing) -----------------> pending ---------------------------> firing -----------------------> (nothing)
                                    | not breached, or nothing to judge |        `keep_firing_for`, or
                                    +-----------> (nothing)             |        nothing to judge: over
                                                                        v
                                                     announced, unless silenced or within the cooldown

Its severity only rises while it fires. An announcement is one of: it fires; it is more severe; it fires still, after
each cooldown; it is over (of what was announced before).
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from shmetrics.alerting.alert import Alert, State
from shmetrics.alerting.readings import Labels, Look, Reading
from shmetrics.alerting.rules import SEVERITIES, Rule
from shmetrics.alerting.silences import Silence
from shmetrics.alerting.wording import lasted

_Key = tuple[str, Labels]
_MOST_ALERTS: Final = 1000
"""Alerts of one rule at once; a custom metric may have tens of thousands of series. What is beyond is counted."""


_LARGEST: Final = sys.float_info.max
"""Instead of what is infinite, which JSON has no word for."""


@dataclass
class _Condition:
    """A breach that is going on."""

    rule: Rule
    reading: Reading
    since: float
    """Monotonic; when it began."""
    last_breached: float
    fired_at: float | None = None
    """Seconds since the epoch; None while it is pending."""
    severity: str = ""
    announced: bool = False
    held_back: str = ""
    """Why the latest announcement was not made: ``silenced`` or ``cooldown``; each is counted once."""


class Engine:
    """Judges one look after the other. One thread at a time."""

    def __init__(self, rules: Sequence[Rule], silences: Sequence[Silence] = ()) -> None:
        self.silences = tuple(silences)
        self._rules: tuple[Rule, ...] = ()
        self._conditions: dict[_Key, _Condition] = {}
        self._announced_at: dict[tuple[_Key, str], float] = {}
        self.counts: Counter[str] = Counter()
        """Announcements by severity, and what was held back: ``silenced``, ``cooldown``, ``overflow``."""
        self.by_type: Counter[str] = Counter()
        """Announcements that something fires, by rule."""
        self.use(rules)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """What is judged."""
        return self._rules

    def use(self, rules: Sequence[Rule], silences: Sequence[Silence] | None = None) -> None:
        """Judge by these rules from now on. What fires by a rule that is still there goes on; the rest is forgotten."""
        names = [rule.name for rule in rules]
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise ValueError(f"two rules are called {twice[0]!r}; names tell alerts apart")
        kept = {rule.name for rule in rules}
        self._rules = tuple(rules)
        self._conditions = {key: condition for key, condition in self._conditions.items() if key[0] in kept}
        if silences is not None:
            self.silences = tuple(silences)

    def judge(self, look: Look) -> list[Alert]:
        """What is to be announced after this look, in the order of the rules."""
        alerts: list[Alert] = []
        for rule in self._rules:
            seen = set()
            for reading in self._readings(rule, look):
                key = (rule.name, reading.labels)
                seen.add(key)
                alerts += self._judge(key, rule, reading, look)
            for key in [key for key in self._conditions if key[0] == rule.name and key not in seen]:
                alerts += self._absent(key, look)
        for alert in alerts:
            self.counts[alert.severity] += 1
            if alert.state == "firing":
                self.by_type[alert.type] += 1
        self._announced_at = {
            key: at
            for key, at in self._announced_at.items()
            if key[0] in self._conditions or look.now - at < self._cooldown(key[0][0])
        }
        return alerts

    def active(self, look: Look, *, silenced: bool = True) -> list[Alert]:
        """Everything that fires now, announced or not; ``silenced=False`` leaves out what is silenced."""
        firing = [condition for condition in self._conditions.values() if condition.fired_at is not None]
        return [
            _alert(condition, look, "firing")
            for condition in firing
            if silenced or not self._is_silenced(condition, look)
        ]

    def _readings(self, rule: Rule, look: Look) -> Iterator[Reading]:
        for count, reading in enumerate(rule.source.read(look)):
            if count == _MOST_ALERTS:
                self.counts["overflow"] += 1
                return
            if rule.judges(reading):
                yield reading

    def _cooldown(self, name: str) -> float:
        return next((rule.cooldown for rule in self._rules if rule.name == name), 0.0)

    def _judge(self, key: _Key, rule: Rule, reading: Reading, look: Look) -> list[Alert]:
        known = self._conditions.get(key)
        firing = known is not None and known.fired_at is not None
        if not rule.is_breached(reading.value, firing=firing):
            if known is not None:
                known.rule, known.reading = rule, reading
            return self._ends(key, look)
        if known is None:
            known = self._conditions[key] = _Condition(rule, reading, look.now, look.now)
        known.rule, known.reading, known.last_breached = rule, reading, look.now
        if known.fired_at is None:
            if look.now - known.since < rule.hold:
                return []
            known.fired_at = look.wall
        severity = rule.severity_of(reading.value)
        if not known.severity or SEVERITIES.index(severity) < SEVERITIES.index(known.severity):
            known.severity = severity
        return self._announce(key, known, look)

    def _absent(self, key: _Key, look: Look) -> list[Alert]:
        """There is nothing to judge any more: the worker is gone, or too few requests come."""
        return self._ends(key, look)

    def _ends(self, key: _Key, look: Look) -> list[Alert]:
        condition = self._conditions.get(key)
        if condition is None:
            return []
        if condition.fired_at is not None and look.now - condition.last_breached < condition.rule.keep_firing_for:
            return self._announce(key, condition, look)
        del self._conditions[key]
        return [_alert(condition, look, "resolved")] if condition.announced else []

    def _announce(self, key: _Key, condition: _Condition, look: Look) -> list[Alert]:
        at_least = SEVERITIES[: SEVERITIES.index(condition.severity) + 1]
        last = max(self._announced_at.get((key, severity), -float("inf")) for severity in at_least)
        if look.now - last < condition.rule.cooldown:
            # Of the alert that was announced there is nothing new; another one, so soon after, is held back.
            return [] if condition.announced else self._hold_back(condition, "cooldown")
        if self._is_silenced(condition, look):
            return self._hold_back(condition, "silenced")
        self._announced_at[key, condition.severity] = look.now
        condition.announced, condition.held_back = True, ""
        return [_alert(condition, look, "firing")]

    def _hold_back(self, condition: _Condition, why: str) -> list[Alert]:
        if condition.held_back != why:
            condition.held_back = why
            self.counts[why] += 1
        return []

    def _is_silenced(self, condition: _Condition, look: Look) -> bool:
        labels = _labels(condition)
        return any(
            silence.covers(look.wall, condition.rule.name, condition.severity, labels) for silence in self.silences
        )


def _labels(condition: _Condition) -> dict[str, str]:
    return {**condition.rule.labels, **dict(condition.reading.labels)}


def _alert(condition: _Condition, look: Look, state: State) -> Alert:
    rule, reading, over = condition.rule, condition.reading, state == "resolved"
    assert condition.fired_at is not None, "only what fires is told"
    if over:
        message = (
            f"hub {look.hub}: {rule.name}{rule.which(reading)} is over after {lasted(look.wall - condition.fired_at)}"
        )
    else:
        message = rule.message(reading, look.hub, condition.severity)
    return Alert(
        type=rule.name,
        severity="info" if over else condition.severity,
        state=state,
        message=message,
        current_value=max(-_LARGEST, min(_LARGEST, reading.value)),
        threshold=reading.threshold if rule.threshold is None else rule.threshold,
        timestamp=look.wall,
        hub=look.hub,
        labels=_labels(condition),
        annotations=dict(rule.annotations),
        started_at=condition.fired_at,
        ended_at=look.wall if over else None,
        highest_severity=condition.severity,
        samples=reading.samples,
    )
