"""Custom metrics as families of prometheus_client.

Names and values come from shared memory by way of the snapshot. What cannot stand on a page (an illegal name, a counter
below zero) is left out: one bad metric must not cost the others.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.utils import floatToGoString

from shmetrics.exporters.prometheus.names import is_label_name, is_metric_name, writable
from shmetrics.families import Definition, Family, Series

_WORKER: Final = "worker"
"""Label of the slot that a series merged ``per_worker`` is of."""
_RESERVED: Final = {"histogram": "le", "summary": "quantile"}


def families(custom: Iterable[Family], prefix: str) -> Iterator[Metric | None]:
    """Each as prometheus_client has it; None for one that cannot be shown."""
    for family in custom:
        yield _family(family, prefix)


def _family(family: Family, prefix: str) -> Metric | None:
    definition = family.definition
    build = _BUILDERS.get(definition.kind)
    labels = definition.labels
    if any(series.worker is not None for series in family.series):
        labels = (*labels, _WORKER)
    name = prefix + definition.name
    legal = is_metric_name(name) and all(map(is_label_name, labels)) and len(set(labels)) == len(labels)
    if build is None or not legal or _RESERVED.get(definition.kind) in labels:
        return None
    if definition.kind == "enum" and (name in labels or not is_label_name(name)):
        return None  # an enum's state is a label of the metric's own name
    return build(name, writable(definition.help), labels, definition, family.series)


def _values(series: Series, labels: tuple[str, ...]) -> list[str] | None:
    """The values of `labels`, the worker's slot last where it is asked for; None when their number is another."""
    values = [writable(value) for value in series.labels]
    if labels[-1:] == (_WORKER,) and len(values) == len(labels) - 1:
        values.append("" if series.worker is None else str(series.worker))
    return values if len(values) == len(labels) else None


def _shown(series: Iterable[Series], labels: tuple[str, ...]) -> Iterator[tuple[list[str], Series]]:
    for each in series:
        values = _values(each, labels)
        if values is not None:
            yield values, each


def _counter(
    name: str, text: str, labels: tuple[str, ...], definition: Definition, series: Iterable[Series]
) -> Metric | None:
    family = CounterMetricFamily(name, text, labels=labels, unit=definition.unit)
    for values, each in _shown(series, labels):
        if each.value >= 0.0:  # nor NaN
            family.add_metric(values, each.value)
    return family


def _gauge(
    name: str, text: str, labels: tuple[str, ...], definition: Definition, series: Iterable[Series]
) -> Metric | None:
    family = GaugeMetricFamily(name, text, labels=labels, unit=definition.unit)
    for values, each in _shown(series, labels):
        family.add_metric(values, each.value)
    return family


def _histogram(
    name: str, text: str, labels: tuple[str, ...], definition: Definition, series: Iterable[Series]
) -> Metric | None:
    family = HistogramMetricFamily(name, text, labels=labels, unit=definition.unit)
    bounds = [floatToGoString(bound) for bound in (*definition.buckets, float("inf"))]
    for values, each in _shown(series, labels):
        ascending = all(low <= high for low, high in zip((0.0, *each.buckets), each.buckets, strict=False))
        if len(each.buckets) == len(bounds) and ascending:
            family.add_metric(values, list(zip(bounds, each.buckets, strict=True)), each.sum)
    return family


def _summary(
    name: str, text: str, labels: tuple[str, ...], definition: Definition, series: Iterable[Series]
) -> Metric | None:
    family = SummaryMetricFamily(name, text, labels=labels, unit=definition.unit)
    for values, each in _shown(series, labels):
        if each.count >= 0.0:
            family.add_metric(values, each.count, each.sum)  # type: ignore[arg-type]  # any number is written
    return family


def _info(
    name: str, text: str, labels: tuple[str, ...], _definition: Definition, series: Iterable[Series]
) -> Metric | None:
    family = InfoMetricFamily(name.removesuffix("_info"), text, labels=labels)
    for values, each in _shown(series, labels):
        said = {key: writable(value) for key, value in each.info.items() if is_label_name(key) and key not in labels}
        family.add_metric(values, said)
    return family


def _enum(
    name: str, text: str, labels: tuple[str, ...], definition: Definition, series: Iterable[Series]
) -> Metric | None:
    family = StateSetMetricFamily(name, text, labels=labels)
    for values, each in _shown(series, labels):
        family.add_metric(values, {writable(state): state == each.state for state in definition.states})
    return family


_Builder = Callable[[str, str, tuple[str, ...], Definition, Iterable[Series]], Metric | None]
_BUILDERS: Final[dict[str, _Builder]] = {
    "counter": _counter,
    "gauge": _gauge,
    "ratio": _gauge,
    "histogram": _histogram,
    "summary": _summary,
    "info": _info,
    "enum": _enum,
}
