"""What rules see: one look at a fleet, and the readings they take from it. Types only; pure."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from shmetrics.families import Family

Labels = tuple[tuple[str, str], ...]
"""Names and values, in the order of the names: part of what tells one alert from another."""


class Reading(NamedTuple):
    """One value that a rule judges. A rule about workers takes one for each worker."""

    value: float
    labels: Labels = ()
    """Which of several it is: the worker, the labels of a custom metric's series."""
    samples: float | None = None
    """Requests or lookups it rests on; None where that has no meaning."""
    threshold: float | None = None
    """What a finding was held against."""
    text: str = ""
    """A finding's own words."""


class Figures(Protocol):
    """Figures over some stretch of the past: so many seconds, or so many measurements."""

    @property
    def requests(self) -> int:
        """Requests in it."""

    @property
    def errors(self) -> int:
        """Failed requests in it."""

    @property
    def cache_hits(self) -> int:
        """Answers from a cache in it."""

    @property
    def cache_misses(self) -> int:
        """Answers that a cache did not have."""

    @property
    def seconds(self) -> float:
        """How long it is."""

    @property
    def rate(self) -> float:
        """Requests per second."""

    @property
    def error_rate(self) -> float:
        """Errors / requests, at most 1."""

    @property
    def cache_hit_rate(self) -> float:
        """Hits / (hits + misses)."""

    def percentile(self, measure: str, percent: float) -> float:
        """A percentile of one of ``layout.MEASURES``; 0.0 without requests."""

    def share_above(self, measure: str, limit: float) -> float:
        """Which share of the requests has a larger value than `limit`; 0.0 without requests."""


class Look(Protocol):
    """One look at a fleet: live (`watch`), or out of a recording (`replay`)."""

    @property
    def hub(self) -> str:
        """The hub's name."""

    @property
    def now(self) -> float:
        """Monotonic seconds."""

    @property
    def wall(self) -> float:
        """Seconds since the epoch."""

    @property
    def figures(self) -> Mapping[str, Any]:
        """What ``Hub.statistics()`` gives: the fleet's figures, ``workers``, ``hub`` and ``findings``."""

    @property
    def families(self) -> Sequence[Family]:
        """Custom metrics."""

    def window(self, seconds: float) -> Figures:
        """The figures of the last so many seconds, or of as much of them as is known."""

    def last(self, count: int) -> Figures:
        """The figures of the last so many measurements, each kind by itself: requests, or lookups of a cache."""

    def growth(self, metric: str, labels: Labels, seconds: float) -> float | None:
        """By how much per second a custom counter grew; None while it was looked at once only."""
