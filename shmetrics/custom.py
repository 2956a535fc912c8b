"""CustomMetrics: an application's own counters, gauges, histograms and more, with labels, over the whole fleet.

Definitions and series are the hub's: defined in any process at any time, seen by all. See docs/custom-metrics.md.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from shmetrics.book import Metric
from shmetrics.families import Definition, Family, Series, bounds
from shmetrics.instruments import Counter, Enum, Gauge, Histogram, Info, Ratio, Summary
from shmetrics.locks import RegistryBusyError
from shmetrics.metrics import PerformanceMetrics

DEFAULT_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Seconds of a request: those of the Prometheus clients."""
_REMOVAL_PATIENCE: Final = 2.0

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
        if not isinstance(metrics, PerformanceMetrics):
            raise TypeError(
                f"wanted PerformanceMetrics, not {metrics!r}; PerformanceMetrics.attach(name) finds a hub that there is"
            )
        self._metrics = metrics
        self._book = metrics.book

    # Defining ---------------------------------------------------------------------------------------------------------

    def define_metric(  # noqa: PLR0917  as was promised
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
    ) -> Metric[Any]:
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
        for what, texts in (("labels", labels), ("states", states)):
            if isinstance(texts, str) or not isinstance(texts, Iterable):
                raise ValueError(f"the {what} of metric {name!r} must be a list of texts, not {texts!r}")
        definition = Definition(
            name=name,
            kind=metric_type,
            help=description,
            unit=unit,
            labels=tuple(labels),
            buckets=bounds(() if buckets is None else buckets),
            merge=merge or ("last" if metric_type == "gauge" else ""),
            states=tuple(states),
            expire_after=_seconds(expire_after),
        )
        return self._book.define(definition)

    def counter(self, name: str, description: str = "", **options: Any) -> Metric[Counter]:
        """A counter: defined, or just found when only its name is given. ``options``: those of `define_metric`."""
        return self._one("counter", name, description, options)

    def gauge(self, name: str, description: str = "", **options: Any) -> Metric[Gauge]:
        """A gauge; see `counter`."""
        return self._one("gauge", name, description, options)

    def histogram(self, name: str, description: str = "", **options: Any) -> Metric[Histogram]:
        """A histogram; see `counter`."""
        return self._one("histogram", name, description, options)

    def summary(self, name: str, description: str = "", **options: Any) -> Metric[Summary]:
        """A summary, which is a count and a sum; see `counter`."""
        return self._one("summary", name, description, options)

    def ratio(self, name: str, description: str = "", **options: Any) -> Metric[Ratio]:
        """A ratio of two sums; see `counter`."""
        return self._one("ratio", name, description, options)

    def info(self, name: str, description: str = "", **options: Any) -> Metric[Info]:
        """An info metric; see `counter`."""
        return self._one("info", name, description, options)

    def enum(self, name: str, description: str = "", **options: Any) -> Metric[Enum]:
        """An enum; see `counter`."""
        return self._one("enum", name, description, options)

    def _one(self, kind: str, name: str, description: str, options: dict[str, Any]) -> Metric[Any]:
        if not description and not options and self._book.find(name) is not None:
            return self._found(name, kind)
        return self.define_metric(name, kind, description, **options)

    def remove(self, name: str, labels: Labels | None = None) -> None:
        """Remove a series, in all processes; whoever changes it again begins it anew. Harmless when it is not there.

        ValueError for an unknown metric or other labels than its own. TimeoutError when another process kept the
        registry for two seconds.
        """
        metric = self._found(name)
        contents = self._book.contents()
        placement = contents.index.get((contents.metric(name), metric.key(**(labels or {}))))
        if placement is not None:
            try:
                self._book.catalog.remove(placement, patience=_REMOVAL_PATIENCE)
            except RegistryBusyError:
                raise TimeoutError(
                    f"could not remove a series of {name!r}: another process keeps the registry"
                ) from None

    # Changing ---------------------------------------------------------------------------------------------------------

    def increment_counter(self, name: str, amount: float = 1.0, labels: Labels | None = None) -> None:
        """Add to a counter. ValueError for an unknown metric, other labels, or a negative amount."""
        self._series(name, "counter", labels).inc(amount)

    def update_gauge(self, name: str, value: float, labels: Labels | None = None) -> None:
        """Set a gauge."""
        self._series(name, "gauge", labels).set(value)

    def observe_histogram(self, name: str, value: float, labels: Labels | None = None) -> None:
        """Count a value in a histogram."""
        self._series(name, "histogram", labels).observe(value)

    def observe_summary(self, name: str, value: float, labels: Labels | None = None) -> None:
        """Count a value in a summary."""
        self._series(name, "summary", labels).observe(value)

    def add_to_ratio(self, name: str, numerator: float, denominator: float, labels: Labels | None = None) -> None:
        """Add to both sums of a ratio."""
        self._series(name, "ratio", labels).add(numerator, denominator)

    def set_info(self, name: str, texts: Mapping[str, str], labels: Labels | None = None) -> None:
        """Say what an info metric says."""
        self._series(name, "info", labels).info(texts)

    def set_enum(self, name: str, state: str, labels: Labels | None = None) -> None:
        """Set an enum's state."""
        self._series(name, "enum", labels).state(state)

    # Reading ----------------------------------------------------------------------------------------------------------

    def find(self, name: str) -> Metric[Any]:
        """The metric of that name, defined by any process. ValueError where there is none."""
        return self._found(name)

    def get_all_metrics(self) -> dict[str, dict[str, Any]]:
        """Every custom metric of the hub, over the whole fleet: JSON-ready, by name.

        Each has ``type``, ``description``, ``unit`` and ``series``, a list of dictionaries with ``labels`` and the
        figures; a metric without labels has the figures of its only series itself, too. What is not finite is None.
        """
        return {family.definition.name: as_dict(family) for family in self._metrics.snapshot().families}

    def _series(self, name: str, kind: str, labels: Labels | None) -> Any:
        return self._found(name, kind).labels(**(labels or {}))

    def _found(self, name: str, kind: str = "") -> Metric[Any]:
        metric = self._book.find(name)
        if metric is None:
            known = [definition.name for definition in self._book.contents().metrics.values()]
            import difflib  # noqa: PLC0415  for an error only

            close = difflib.get_close_matches(str(name), known, 1)
            raise ValueError(
                f"no metric {name!r} is defined; "
                + (f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(sorted(known)) or 'none'}")
            )
        if kind and metric.definition.kind != kind:
            raise ValueError(f"{name!r} is a {metric.definition.kind}, not a {kind}")
        return metric


def as_dict(family: Family) -> dict[str, Any]:
    """A family as a JSON-ready dictionary; see `CustomMetrics.get_all_metrics`."""
    definition = family.definition
    figures = [_figures(definition, series) for series in family.series]
    return {
        "type": definition.kind,
        "description": definition.help,
        "unit": definition.unit,
        "series": figures,
        **({key: value for key, value in figures[0].items() if key != "labels"}
           if len(figures) == 1 and not definition.labels and family.series[0].worker is None else {}),
    }  # fmt: skip


def _figures(definition: Definition, series: Series) -> dict[str, Any]:
    labels: dict[str, Any] = dict(zip(definition.labels, series.labels, strict=True))
    if series.worker is not None:
        labels["worker"] = str(series.worker)
    figures: dict[str, Any] = {"labels": labels}
    match definition.kind:
        case "histogram":
            figures |= {"count": series.count, "sum": _finite(series.sum)}
            figures["buckets"] = dict(zip([*map(_bound, definition.buckets), "+Inf"], series.buckets, strict=True))
        case "summary":
            figures |= {"count": series.count, "sum": _finite(series.sum)}
        case "ratio":
            figures |= {"value": _finite(series.value), "numerator": _finite(series.sum),
                        "denominator": _finite(series.count)}  # fmt: skip
        case "info":
            figures["info"] = series.info
        case "enum":
            figures["state"] = series.state
        case _:
            figures["value"] = _finite(series.value)
    return figures


def _bound(number: float) -> str:
    """A bucket's bound as a key: short, where that is no other's."""
    short = f"{number:g}"
    return short if float(short) == number else repr(number)


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value < 1e12:
        raise ValueError(f"expire_after must be seconds, 0 or more, not {value!r}")
    return float(value)
