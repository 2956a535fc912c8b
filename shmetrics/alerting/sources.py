"""Where a rule gets its readings: a statistic, a custom metric, a figure of each worker, a finding. Pure.

A source is a small frozen dataclass with ``read(look)``, ``unit``, ``words`` (for messages) and ``least_samples``,
the samples that a reading needs unless the rule says otherwise. To add one, write it here and teach `definition` its
key.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from shmetrics.alerting.readings import Figures, Labels, Look, Reading
from shmetrics.alerting.wording import PER_SECOND, PLAIN, span, unit_of
from shmetrics.families import Definition, Series
from shmetrics.layout import MEASURES

LEAST_OF_LAST: Final = 10
"""Measurements below which "the last 50" says nothing: one failed request of two is no error rate."""

_PERCENTILE: Final = re.compile(r"p(\d{1,2}(?:\.\d{1,3})?)_(\w+)")
_COUNTS: Final = ("requests", "errors", "cache_hits", "cache_misses")
_RATIOS: Final = ("error_rate", "cache_hit_rate")
WINDOWED: Final = (*_RATIOS, "throughput", *_COUNTS, *(f"p{percent}_{m}" for m in MEASURES for percent in (50, 95, 99)))
"""Statistics that can be had over a window; any other percentile too, such as ``p99.9_total_time``."""

_KINDS_OF_WINDOW: Final = ("avg", "median", "min", "max", "std", "p50", "p95", "p99")
FLEET: Final = (
    "total_requests",
    "total_errors",
    "cache_hits",
    "cache_misses",
    "invalid_records",
    "dropped_records",
    *(f"{kind}_{measure}" for measure in MEASURES for kind in _KINDS_OF_WINDOW),
    *(f"lifetime_p{percent}_{measure}" for measure in MEASURES for percent in (50, 95, 99)),
    "error_rate",
    "window_error_rate",
    "cache_hit_rate",
    "window_cache_hit_rate",
    "throughput",
    "samples_per_second",
    "current_throughput",
    "average_throughput",
    "peak_throughput",
    "total_runtime",
    "stability_score",
    "active_workers",
    "workers_seen",
    "window_count",
    "busy_fraction",
    "busy_fraction_1m",
    "in_flight",
    "oldest_in_flight",
)
"""Statistics of the fleet as they are (docs/statistics.md)."""

HUB: Final = (
    "slots_fill",
    "slots_live",
    "slots_dead",
    "stale_slots",
    "corrupt_reaped",
    "catalog_used",
    "cells_used",
    "refused_series",
)
"""Figures of the hub itself."""

WORKER: Final = (
    "age",
    "last_seen",
    "requests",
    "errors",
    "error_rate",
    "cache_hit_rate",
    "throughput",
    "current_throughput",
    "busy_fraction",
    "busy_fraction_1m",
    "in_flight",
    "oldest_in_flight",
    "avg_inference_time",
    "p50_inference_time",
    "p95_inference_time",
    "p99_inference_time",
)
"""Figures of each live worker."""

OF: Final = ("value", "rate", "count", "sum", "mean")
"""What of a custom metric a rule may look at; a histogram's percentiles too, ``p95``."""


class Source(Protocol):
    """What every source offers."""

    @property
    def unit(self) -> str:
        """One of `wording`'s."""

    @property
    def words(self) -> str:
        """What it reads, for messages."""

    @property
    def least_samples(self) -> int:
        """Samples a reading needs unless the rule says otherwise."""

    def read(self, look: Look) -> Iterator[Reading]:
        """What there is to judge now; nothing where there is nothing."""


@dataclass(frozen=True)
class Statistic:
    """A statistic of the whole fleet: over the last `window` seconds, over the `last` measurements, or as it is."""

    key: str
    window: float | None = None
    last: int | None = None

    @property
    def unit(self) -> str:
        """From the key."""
        return PLAIN if self.key in _COUNTS else unit_of(self.key)

    @property
    def words(self) -> str:
        """``p95 total time over 5m``."""
        name = self.key.replace("_", " ")
        if self.window is not None:
            return f"{name} over {span(self.window)}"
        return name if self.last is None else f"{name} over the last {self.last} measurements"

    @property
    def least_samples(self) -> int:
        """Rates may be 0; a ratio of nothing, or a percentile of nothing, is nothing."""
        if self.last is not None:
            return min(LEAST_OF_LAST, self.last)
        return 1 if self.window is not None and (self.key in _RATIOS or percentile(self.key)) else 0

    def read(self, look: Look) -> Iterator[Reading]:
        """One reading."""
        if self.window is not None:
            yield self._of(look.window(self.window))
        elif self.last is not None:
            yield self._of(look.last(self.last))
        else:
            figures = look.figures
            value = figures["hub"].get(self.key) if self.key in HUB else figures.get(self.key)
            if value is not None:
                yield Reading(float(value))

    def _of(self, figures: Figures) -> Reading:
        if self.key == "error_rate":
            return Reading(figures.error_rate, samples=max(figures.requests, figures.errors))
        if self.key == "cache_hit_rate":
            return Reading(figures.cache_hit_rate, samples=figures.cache_hits + figures.cache_misses)
        measured = getattr(figures, "measured", figures.requests)
        if self.key == "throughput":
            return Reading(figures.rate, samples=measured)
        if self.key in _COUNTS:
            return Reading(float(getattr(figures, self.key)), samples=figures.requests)
        known = percentile(self.key)
        assert known is not None, "checked when the rule was made"
        return Reading(figures.percentile(known[1], known[0]), samples=measured)


@dataclass(frozen=True)
class CustomMetric:
    """A custom metric: a reading for each series whose labels have these values."""

    name: str
    labels: Labels = ()
    of: str = "value"
    window: float = 60.0
    """Seconds that ``rate`` looks back over."""

    @property
    def unit(self) -> str:
        """Whatever the metric counts."""
        return PER_SECOND if self.of == "rate" else PLAIN

    @property
    def words(self) -> str:
        """``queue_length``, ``rate of tokens_total over 1m``."""
        if self.of == "value":
            return self.name
        return f"{self.of} of {self.name}" + (f" over {span(self.window)}" if self.of == "rate" else "")

    @property
    def least_samples(self) -> int:
        """A mean or percentile of no observation is none."""
        return 0 if self.of in ("value", "rate", "count", "sum") else 1

    def read(self, look: Look) -> Iterator[Reading]:
        """A reading for each series; none while the metric is not defined."""
        for family in look.families:
            if family.definition.name != self.name:
                continue
            for series in family.series:
                labels = _labels(family.definition, series)
                if not set(self.labels) <= set(labels):
                    continue
                value = self._value(look, family.definition, series, labels)
                if value is not None:
                    yield Reading(value, labels, series.count if self.least_samples else None)

    def _value(self, look: Look, definition: Definition, series: Series, labels: Labels) -> float | None:
        if self.of == "rate":
            return look.growth(self.name, labels, self.window)
        if self.of == "value":
            return series.value if definition.kind in ("counter", "gauge", "ratio") else None
        if definition.kind not in ("histogram", "summary"):
            return None
        if self.of == "mean":
            return series.sum / series.count if series.count else 0.0
        if self.of in ("count", "sum"):
            return float(getattr(series, self.of))
        return _quantile(definition, series, float(self.of[1:]) / 100.0)


@dataclass(frozen=True)
class WorkerStatistic:
    """A figure of each live worker: a reading for each, labelled with its slot."""

    key: str

    @property
    def unit(self) -> str:
        """From the key."""
        return unit_of(self.key)

    @property
    def words(self) -> str:
        """``busy fraction of worker``."""
        return f"{self.key.replace('_', ' ')} of a worker"

    least_samples = 0

    def read(self, look: Look) -> Iterator[Reading]:
        """A reading for each live worker."""
        for row in look.figures.get("workers", ()):
            if row["alive"] and row.get(self.key) is not None:
                yield Reading(
                    float(row[self.key]), (("worker", str(row["slot"])),), row["requests"],
                    text=f"pid {row['pid']}",
                )  # fmt: skip


GROUPS: Final = {
    "died": ("dead_worker", "lost_worker", "many_deaths"),
    "stuck": ("hung_worker", "stuck_request", "stopped_worker"),
    "straggler": ("slow_worker", "failing_worker", "overloaded_worker", "idle_worker"),
    "growing": ("growing_worker", "growing_fleet"),
    "filling": ("dropped_records", "refused_series", "series_nearly_full"),
    "unsound": ("corrupt", "corrupt_reaped", "stale", "stale_slots", "invalid_records", "unlinked"),
}
"""Findings by what they are about: a rule may name a group, or one of its kinds."""
FINDINGS: Final = (*GROUPS, *(kind for kinds in GROUPS.values() for kind in kinds))


@dataclass(frozen=True)
class Finding:
    """What is remarkable about a worker or the hub (`shmetrics doctor`): a reading for each of this kind or group."""

    kind: str
    """One of FINDINGS."""

    unit: str = PLAIN
    least_samples: int = 0

    @property
    def words(self) -> str:
        """The kind."""
        return self.kind.replace("_", " ")

    @property
    def is_of_deaths(self) -> bool:
        """Whether the death of a worker is such a finding."""
        return self.kind in ("died", *GROUPS["died"])

    def read(self, look: Look) -> Iterator[Reading]:
        """A reading for each, labelled with the worker, and in a group with its kind."""
        kinds = GROUPS.get(self.kind, (self.kind,))
        for found in look.figures.get("findings", ()):
            if found["kind"] not in kinds:
                continue
            labels = [] if len(kinds) == 1 else [("finding", found["kind"])]
            if found["worker"] is not None:
                labels.append(("worker", str(found["worker"])))
            value = 1.0 if found["value"] is None else float(found["value"])
            yield Reading(value, tuple(labels), threshold=found["threshold"], text=found["text"])


def percentile(key: str) -> tuple[float, str] | None:
    """The percent and the measure of ``p95_total_time``; None for what is no percentile of a window."""
    match = _PERCENTILE.fullmatch(key)
    return (float(match[1]), match[2]) if match and match[2] in MEASURES and float(match[1]) > 0.0 else None


def _labels(definition: Definition, series: Series) -> Labels:
    labels = tuple(zip(definition.labels, series.labels, strict=True))
    return labels if series.worker is None else (*labels, ("worker", str(series.worker)))


def _quantile(definition: Definition, series: Series, fraction: float) -> float | None:
    """A quantile of a histogram, as Prometheus' histogram_quantile() interpolates it; None of no observation."""
    if definition.kind != "histogram" or not series.count:
        return None
    rank, below, low = fraction * series.count, 0.0, 0.0
    for bound, count in zip(definition.buckets, series.buckets, strict=False):
        if count >= rank:
            return low + (bound - low) * ((rank - below) / (count - below) if count > below else 1.0)
        below, low = count, bound
    return low
