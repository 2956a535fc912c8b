"""Service level objectives, and how fast their error budget burns. Pure.

After the Google SRE workbook, chapter 5, "Alerting on SLOs", approach 6: multiwindow, multi-burn-rate alerts
(https://sre.google/workbook/alerting-on-slos/). The *error budget* of an objective of 99.9 % is the 0.1 % of requests
that may be bad over its period. A *burn rate* of 1 spends it in exactly the period. An alert fires while both a long
and a short window burn faster than their factor: the long one says that it matters, the short one that it still goes
on, so that an alert ends soon after its cause.

The workbook's recommended windows (its table 5-8) spend 2 %, 5 % and 10 % of the budget of thirty days before they
fire; for another period the factors keep those shares: factor = share * period / long window.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from shmetrics.alerting.readings import Figures, Look, Reading
from shmetrics.alerting.wording import PLAIN, shown, span

PERIOD: Final = 30 * 86_400.0
"""The workbook's period, thirty days."""


class Burn(NamedTuple):
    """A pair of windows, in seconds, and what share of the budget may burn over the long one."""

    share: float
    long: float
    short: float
    severity: str


BURNS: Final = (
    Burn(0.02, 3_600.0, 300.0, "critical"),
    Burn(0.05, 6 * 3_600.0, 1_800.0, "critical"),
    Burn(0.10, 3 * 86_400.0, 6 * 3_600.0, "warning"),
)
"""Pages for the fast ones, a ticket for the slow one; over thirty days the factors are 14.4, 6 and 1."""


@dataclass(frozen=True)
class Objective:
    """What share of requests is to be good over a period, and which are: without error, or not slower than `under`."""

    name: str
    objective: float
    measure: str | None = None
    """The measure that is to stay at or below `under`; None where requests are to be without error."""
    under: float = math.inf
    period: float = PERIOD

    @property
    def budget(self) -> float:
        """The share of requests that may be bad."""
        return 1.0 - self.objective

    def factor(self, burn: Burn) -> float:
        """The burn rate that spends the share of a `Burn` over its long window."""
        return round(burn.share * self.period / burn.long, 6)

    def bad(self, figures: Figures) -> float:
        """The share of bad requests."""
        return figures.error_rate if self.measure is None else figures.share_above(self.measure, self.under)

    @property
    def words(self) -> str:
        """What is promised."""
        good = "without error" if self.measure is None else f"with {self.measure.replace('_', ' ')} up to " + shown(
            self.under, "seconds" if self.measure.endswith("_time") else PLAIN
        )  # fmt: skip
        return f"{100.0 * self.objective:g} % {good}"


@dataclass(frozen=True)
class BurnRate:
    """The source of a burn-rate rule: the lesser of the burn rates of two windows, both of which must be above."""

    objective: Objective
    long: float
    short: float

    unit: str = PLAIN
    least_samples: int = 1

    @property
    def words(self) -> str:
        """What burns."""
        return (
            f"burn rate of {self.objective.name} ({self.objective.words}) over {span(self.long)} and {span(self.short)}"
        )

    def read(self, look: Look) -> Iterator[Reading]:
        """One reading."""
        long, short = look.window(self.long), look.window(self.short)
        burning = min(self.objective.bad(long), self.objective.bad(short)) / self.objective.budget
        yield Reading(burning, samples=max(long.requests, long.errors))
