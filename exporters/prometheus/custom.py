"""Custom metrics as families of prometheus_client. A `Definition` has checked its own names."""

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    Sample,
    StateSetMetricFamily,
    SummaryMetricFamily,
)

from shmetrics.exporters.prometheus.exemplars import shown
from shmetrics.exporters.prometheus.names import go_float, writable
from shmetrics.families import LIVE, Definition, Family, Series, is_label_name

_WORKER: Final = "worker"
"""Label of the slot that a series of a gauge merged ``per_worker`` is of."""


def families(custom: Iterable[Family], prefix: str) -> Iterator[tuple[str, Metric | None]]:
    """Each metric's name, and its series over the whole fleet; None for an enum that no page can hold.

    An enum's state is a label named like the metric: no name for a label, or another label's, is none for an enum.
    """
    for family in custom:
        definition, name = family.definition, prefix + family.definition.name
        labels = definition.labels
        if definition.kind == "enum" and (not is_label_name(name) or name in labels):
            yield name, None
            continue
        if definition.merge.removeprefix(LIVE) == "per_worker":
            labels = (*labels, _WORKER)
        series = [(_values(each), each) for each in family.series]
        yield name, _BUILDERS[definition.kind](name, definition, labels, series)


def _values(series: Series) -> list[str]:
    values = [writable(value) for value in series.labels]
    return values if series.worker is None else [*values, str(series.worker)]


_Shown = Sequence[tuple[list[str], Series]]
"""The values of a series' labels, and the series."""


def _counter(name: str, definition: Definition, labels: Sequence[str], series: _Shown) -> Metric:
    name = name.removesuffix("_total")
    family = CounterMetricFamily(name, writable(definition.help), labels=labels, unit=_unit(name, definition))
    for values, each in series:
        if each.value >= 0.0:  # shared memory is not trusted; parsers refuse a page for less
            family.samples.append(
                Sample(
                    f"{family.name}_total",
                    dict(zip(labels, values, strict=True)),
                    each.value,
                    exemplar=shown(each.exemplars.get(0)),
                )
            )
    return family


def _gauge(name: str, definition: Definition, labels: Sequence[str], series: _Shown) -> Metric:
    family = GaugeMetricFamily(name, writable(definition.help), labels=labels, unit=_unit(name, definition))
    for values, each in series:
        family.add_metric(values, each.value)
    return family


def _histogram(name: str, definition: Definition, labels: Sequence[str], series: _Shown) -> Metric:
    """What ``HistogramMetricFamily.add_metric`` makes of each series, with less ado: these are most of a page."""
    family = HistogramMetricFamily(name, writable(definition.help), labels=labels, unit=_unit(name, definition))
    bounds = [go_float(bound) for bound in (*definition.buckets, float("inf"))]
    bucket, count, total = f"{name}_bucket", f"{name}_count", f"{name}_sum"
    for values, each in series:
        counts = each.buckets
        if not all(map(operator.le, (0.0, *counts), counts)):
            continue
        own = dict(zip(labels, values, strict=True))
        family.samples += [
            Sample(bucket, {**own, "le": bound}, number) for bound, number in zip(bounds, counts, strict=True)
        ]
        for at, exemplar in each.exemplars.items():
            if 0 <= at < len(bounds):
                sample = family.samples[at - len(bounds)]
                family.samples[at - len(bounds)] = sample._replace(exemplar=shown(exemplar))
        family.samples.append(Sample(count, own, counts[-1]))
        if definition.buckets[0] >= 0.0:  # with negative observations a sum goes down, and is none to Prometheus
            family.samples.append(Sample(total, own, each.sum))
    return family


def _summary(name: str, definition: Definition, labels: Sequence[str], series: _Shown) -> Metric:
    family = SummaryMetricFamily(name, writable(definition.help), labels=labels, unit=_unit(name, definition))
    for values, each in series:
        if each.count >= 0.0:
            family.add_metric(values, each.count, each.sum)  # type: ignore[arg-type]  # any number is written
    return family


def _info(name: str, definition: Definition, labels: Sequence[str], series: _Shown) -> Metric:
    family = InfoMetricFamily(name.removesuffix("_info"), writable(definition.help), labels=labels)
    for values, each in series:
        said = {key: writable(value) for key, value in each.info.items() if key not in labels}
        family.add_metric(values, said)
    return family


def _enum(name: str, definition: Definition, labels: Sequence[str], series: _Shown) -> Metric:
    family = StateSetMetricFamily(name, writable(definition.help), labels=labels)
    for values, each in series:
        family.add_metric(values, {writable(state): state == each.state for state in definition.states})
    return family


def _unit(name: str, definition: Definition) -> str:
    """The unit where a name ends in it, which OpenMetrics wants of every unit; a name is never changed for its unit."""
    return definition.unit if definition.unit and name.endswith(f"_{definition.unit}") else ""


_BUILDERS: Final[dict[str, Callable[[str, Definition, Sequence[str], _Shown], Metric]]] = {
    "counter": _counter,
    "gauge": _gauge,
    "ratio": _gauge,
    "histogram": _histogram,
    "summary": _summary,
    "info": _info,
    "enum": _enum,
}
