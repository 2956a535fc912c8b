"""Silences: alerts that nobody is to be told of for a while, because somebody works on it, or sleeps. Pure.

A silenced alert is found and counted as always, and told when the silence ends while it still fires. That an alert
which was told has ended is told all the same: whoever got it waits for that.
"""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from typing import Final

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True)
class Silence:
    """Which alerts, and when. Everything that is given must be true; what is left out always is."""

    rule: str = "*"
    """A rule's name, or a pattern: ``High*``."""
    severities: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    """Values, or patterns, of labels."""
    start: float | None = None
    """Seconds since the epoch."""
    end: float | None = None
    daily: tuple[time, time] | None = None
    """From and until which time of the day, of this machine's clock; past midnight where the second is earlier."""
    days: Sequence[str] = ()
    """On which days such a night begins; DAYS."""
    reason: str = ""

    def covers(self, wall: float, rule: str, severity: str, labels: Mapping[str, str]) -> bool:
        """Whether an alert is silenced at an instant, seconds since the epoch."""
        if not fnmatch.fnmatchcase(rule, self.rule) or (self.severities and severity not in self.severities):
            return False
        if not all(fnmatch.fnmatchcase(labels.get(name, ""), value) for name, value in self.labels.items()):
            return False
        if (self.start is not None and wall < self.start) or (self.end is not None and wall >= self.end):
            return False
        return self._is_time_of_day(datetime.fromtimestamp(wall)) if self.daily or self.days else True

    def _is_time_of_day(self, local: datetime) -> bool:
        day, clock = local, local.time()
        if self.daily is not None:
            start, end = self.daily
            if start <= end:
                inside = start <= clock < end
            else:
                inside = clock >= start or clock < end
                if clock < end:
                    day = local - timedelta(days=1)  # the night that began yesterday
            if not inside:
                return False
        return not self.days or DAYS[day.weekday()] in self.days
