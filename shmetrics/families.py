"""Custom metrics as data: what a metric is (`Definition`), and what the whole fleet has of it (`Family`). Pure."""

from dataclasses import dataclass, field
from typing import Final

KINDS: Final = ("counter", "gauge", "histogram", "summary", "ratio", "info", "enum")
"""What a metric can be."""

MERGES: Final = ("last", "sum", "min", "max", "mean", "per_worker")
"""How the workers' values of a gauge become one: see docs/custom-metrics.md. Each also as ``live_...``."""

LIVE: Final = "live_"
"""Prefix of a merge that forgets a worker's value when the worker ends."""


@dataclass(frozen=True)
class Definition:
    """One metric, as every process of the hub sees it. Two are the same metric only if all of this is equal."""

    name: str
    kind: str
    """One of KINDS."""
    help: str = ""
    unit: str = ""
    labels: tuple[str, ...] = ()
    """Names of the labels, in the order of every series' values."""
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram's buckets, ascending, finite; the one to +Inf goes without saying."""
    merge: str = ""
    """One of MERGES, or ``live_`` and one of them; gauges only."""
    states: tuple[str, ...] = ()
    """What an enum can be."""
    expire_after: float = 0.0
    """Seconds without a change after which a series is removed; 0.0: never."""


@dataclass(frozen=True)
class Series:
    """One series of a metric, merged over the fleet. Which fields mean something depends on the metric's kind."""

    labels: tuple[str, ...] = ()
    """One value for each of the definition's label names."""
    worker: int | None = None
    """The slot it is of, for gauges merged ``per_worker``; else None."""
    value: float = 0.0
    """Counter, gauge; a ratio's numerator over denominator (0.0 while that is 0)."""
    count: float = 0.0
    """Observations of a histogram or summary; a ratio's denominator."""
    sum: float = 0.0
    """Sum of what was observed; a ratio's numerator."""
    buckets: tuple[float, ...] = ()
    """Cumulative counts of a histogram, one for each bound and one for +Inf, which equals `count`."""
    state: str = ""
    """Which of its states an enum is in."""
    info: dict[str, str] = field(default_factory=dict)
    """What an info metric says."""


@dataclass(frozen=True)
class Family:
    """A metric and all its series, ordered by label values."""

    definition: Definition
    series: tuple[Series, ...] = ()
