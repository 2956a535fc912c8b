"""CustomMetrics: an application's own counters, gauges, histograms and more, with labels, over the whole fleet.

Definitions and series are the hub's: defined in any process at any time, seen by all. See docs/custom-metrics.md.
"""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar, cast

from shmetrics import instruments
from shmetrics.catalog import FullError
from shmetrics.families import Definition, Family, Series, bounds
from shmetrics.instruments import Counter, Enum, Gauge, Histogram, Info, Instrument, Ratio, Summary
from shmetrics.locks import RegistryBusyError
from shmetrics.metrics import PerformanceMetrics

DEFAULT_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Those of the Prometheus clients: seconds of a request."""
DEFINITION_PATIENCE: Final = 2.0
"""Seconds that a definition may wait for REGISTRY."""

_Kind = TypeVar("_Kind", bound=Instrument)
Labels = Mapping[str, object]


class CustomMetrics:
    """An application's own metrics, in the hub of ``metrics``. Any thread may call any method.

        custom = CustomMetrics(metrics)
        tokens = custom.counter("tokens_total", labels=["model"]).labels(model="a")   # once
        tokens.inc(17)                                                                # on the hot path

    Definitions may wait two seconds for another process; changes wait for none. Bad arguments are ValueErrors; want of
    room raises nothing: it is logged once, counted, and the changes go to a series whose labels are ``_overflow``.
    """

    def __init__(self, metrics: PerformanceMetrics) -> None:
        self._metrics = metrics
        self._book = metrics.instruments

    # Defining ---------------------------------------------------------------------------------------------------------

    def define_metric(
        self,
        name: str,
        metric_type: str,
        description: str = "",
        unit: str = "",
        labels: Sequence[str] = (),
        buckets: Sequence[float] | None = None,
        merge: str | None = None,
        states: Sequence[str] = (),
        expire_after: float = 0.0,
    ) -> "Metric":
        """Define a metric, or find it defined already in the same way. For the whole fleet.

        Args:
            name: letters, digits, ``_`` and ``:``.
            metric_type: counter, gauge, histogram, summary, ratio, info or enum.
            description: what people read about it.
            unit: of its values, for people and for exports that have a place for it.
            labels: names of its labels.
            buckets: of a histogram: upper bounds in ascending order; DEFAULT_BUCKETS unless given.
            merge: of a gauge: how the workers' values become one: last (the default), sum, min, max, mean, per_worker,
                or one of these with ``live_`` before it, which forgets the values of workers that ended.
            states: of an enum.
            expire_after: seconds without a change after which an aggregator removes a series; 0: never.

        ValueError for what no metric can be, and when another of that name is defined.
        """
        if metric_type == "histogram" and buckets is None:
            buckets = DEFAULT_BUCKETS
        if isinstance(labels, str) or isinstance(states, str):
            raise ValueError(f"labels and states of {name!r} must be lists of texts, not one text")
        definition = Definition(
            name=name,
            kind=metric_type,
            help=description,
            unit=unit,
            labels=tuple(labels),
            buckets=bounds(buckets or ()),
            merge=merge or ("last" if metric_type == "gauge" else ""),
            states=tuple(states),
            expire_after=_seconds(expire_after),
        )
        return self._book.define(definition)
