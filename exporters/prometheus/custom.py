"""Custom metrics as families of prometheus_client. A `Definition` has checked its own names."""

import operator
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Final, NamedTuple

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

from shmetrics.cells import Plan
from shmetrics.exporters.prometheus.exemplars import shown
from shmetrics.exporters.prometheus.names import Names, go_float, names_of, writable
from shmetrics.exporters.prometheus.ready import Ready, Shape
from shmetrics.exporters.prometheus.templates import Template, filler, indices, joined
from shmetrics.families import LIVE, Definition, Family, Series, is_label_name
from shmetrics.series import MergedFamilies

_WORKER: Final = "worker"
"""Label of the slot that a series of a gauge merged ``per_worker`` is of."""


def families(custom: Sequence[Family], prefix: str) -> Iterator[tuple[str, Metric | None]]:
    """Each metric's name, and its series over the whole fleet; None for an enum that no page can hold."""
    if isinstance(custom, MergedFamilies):
        yield from _merged(custom, prefix)
        return
    for family in custom:
        metric = _Metric(family.definition, prefix)
        yield metric.name, metric.built(family.series) if metric.is_possible else None


def _merged(custom: MergedFamilies, prefix: str) -> Iterator[tuple[str, Metric | None]]:
    """The same, ready to be written where that can be."""
    for at, metric in enumerate(_metrics(custom.plan, prefix)):
        yield metric.name, metric.family(custom, at)


def text_or_families(
    custom: Sequence[Family], prefix: str, names: Names
) -> Iterator[tuple[str, Metric | bytes | None]]:
    """What `families` gives; but metrics that follow each other and are steady as one text, in the text format.

    It takes its names from ``names``. Where one of them is taken already the families come one by one, and take none.
    """
    if not isinstance(custom, MergedFamilies):
        yield from families(custom, prefix)
        return
    fill, metrics = filler(), _metrics(custom.plan, prefix)
    for run in _runs(custom, prefix, metrics):
        if run.lines is not None and names.take_all(run.names):
            yield "", run.lines.filled(custom.figures, run.cells, fill)
            continue
        for at in run.metrics:
            yield metrics[at].name, metrics[at].family(custom, at)


class _Run(NamedTuple):
    """Metrics that follow each other in the catalog, and whether their lines are known but for the numbers."""

    metrics: range
    names: frozenset[str] | None = None
    """Every name that they have on a page; None where two of them want the same."""
    lines: Template | None = None
    """None where the lines are not known."""
    cells: bytes = b""
    """Of which cells their numbers are: `indices`."""


_MOST_RUNS: Final = 16
"""Ways in which overflow series come and go that are remembered."""


def _runs(custom: MergedFamilies, prefix: str, metrics: "list[_Metric]") -> list[_Run]:
    """All metrics of a catalog, in runs; made anew when an overflow series begins to be shown."""
    known: dict[tuple[str, tuple[int, ...]], list[_Run]] = custom.plan.memo.setdefault(_Run, {})
    key = prefix, custom.overflowed
    runs = known.get(key)
    if runs is None:
        runs = []
        steady = [metric.is_steady for metric in metrics]
        for is_steady, group in groupby(range(len(metrics)), steady.__getitem__):
            members = [*group]
            run = range(members[0], members[-1] + 1)
            runs.append(_run(custom, run, metrics) if is_steady else _Run(run))
        if len(known) >= _MOST_RUNS:
            known.clear()
        known[key] = runs  # whole: other threads make pages too
    return runs


def _run(custom: MergedFamilies, run: range, metrics: "list[_Metric]") -> _Run:
    lines, cells = [], []
    shapes = [metrics[at].shape(custom, at) for at in run]
    for shape, its_cells in shapes:
        text, order = shape.form.text_template
        lines.append(text)
        cells += [its_cells[at] for at in order]
    names = names_of([(shape.name, shape.type) for shape, _ in shapes])
    return _Run(run, names, joined(lines), indices(cells))


def _metrics(plan: Plan, prefix: str) -> "list[_Metric]":
    """What is known of the metrics of a catalog: made anew only for those whose series are not those of before."""
    known: dict[str, list[_Metric]] = plan.memo.setdefault(_Metric, {})
    metrics = known.get(prefix)
    if metrics is None:
        metrics = []
        for placed in plan.placed:
            mine: dict[str, _Metric] = placed.memo.setdefault(_Metric, {})
            metrics.append(mine.setdefault(prefix, _Metric(placed.definition, prefix)))
        known[prefix] = metrics  # whole: other threads make pages too
    return metrics


class _Metric:
    """What stays the same of a metric from page to page. ``prefix``: put before its name."""

    def __init__(self, definition: Definition, prefix: str) -> None:
        self.name = prefix + definition.name
        self._definition = definition
        self._shapes: dict[tuple[int, ...] | None, tuple[Shape, Sequence[int]]] = {}
        """By the first cells of the series shown; None where all are. See `shape`."""
        is_of_each_worker = definition.merge.removeprefix(LIVE) == "per_worker"
        self._labels = (*definition.labels, _WORKER) if is_of_each_worker else definition.labels
        self.is_steady = definition.kind in _CELLS and not is_of_each_worker
        """Whether its lines stay the same but for their numbers, for as long as its series do."""
        # An enum's state is a label named like the metric, its prefix included: what is no name for a label, or another
        # label's, is none for an enum.
        is_label = is_label_name(self.name) and self.name not in definition.labels
        self.is_possible = definition.kind != "enum" or is_label

    def built(self, series: Sequence[Series]) -> Metric:
        """The metric with these series."""
        shown = [(_values(each), each) for each in series]
        return _BUILDERS[self._definition.kind](self.name, self._definition, self._labels, shown)

    def family(self, custom: MergedFamilies, at: int) -> Metric | None:
        """The metric, ready to be written where that can be: number `at` of all; None for what no page can hold."""
        if not self.is_steady:
            return self.built(custom[at].series) if self.is_possible else None
        shape, cells = self.shape(custom, at)
        numbers = [custom.figures[cell] for cell in cells]
        has_exemplars = bool(custom.exemplars) and custom.has_exemplars(custom.plan.placed[at])
        return Ready(shape, numbers, lambda: self.built(custom[at].series), has_exemplars=has_exemplars)

    def shape(self, custom: MergedFamilies, at: int) -> tuple[Shape, Sequence[int]]:
        """Of metric number `at`: its shape, and the cells of the samples that are shown."""
        placed = custom.plan.placed[at]
        shown = custom.shown(placed) if placed.has_overflow else placed.series
        key = None if shown is placed.series else tuple([placement.cell for placement in shown])
        known = self._shapes.get(key)
        if known is None:
            cells_of = _CELLS[self._definition.kind]
            cells = [cell for placement in shown for cell in cells_of(self._definition, placement.cell)]
            known = self._shapes[key] = Shape(self.built(custom[at].series)), cells
        return known


def _values(series: Series) -> list[str]:
    values = [writable(value) for value in series.labels]
    return values if series.worker is None else [*values, str(series.worker)]


_Shown = Sequence[tuple[list[str], Series]]
"""The values of a series' labels, and the series."""


def _counter(name: str, definition: Definition, labels: Sequence[str], series: _Shown) -> Metric:
    name = name.removesuffix("_total")
    family = CounterMetricFamily(name, definition.help, labels=labels, unit=_unit(name, definition))
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
    family = GaugeMetricFamily(name, definition.help, labels=labels, unit=_unit(name, definition))
    for values, each in series:
        family.add_metric(values, each.value)
    return family


def _histogram(name: str, definition: Definition, labels: Sequence[str], series: _Shown) -> Metric:
    """What ``HistogramMetricFamily.add_metric`` makes of each series, with less ado: these are most of a page."""
    family = HistogramMetricFamily(name, definition.help, labels=labels, unit=_unit(name, definition))
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
    family = SummaryMetricFamily(name, definition.help, labels=labels, unit=_unit(name, definition))
    for values, each in series:
        if each.count >= 0.0:
            family.add_metric(values, each.count, each.sum)  # type: ignore[arg-type]  # any number is written
    return family


def _info(name: str, definition: Definition, labels: Sequence[str], series: _Shown) -> Metric:
    family = InfoMetricFamily(name.removesuffix("_info"), definition.help, labels=labels)
    for values, each in series:
        said = {key: writable(value) for key, value in each.info.items() if key not in labels}
        family.add_metric(values, said)
    return family


def _enum(name: str, definition: Definition, labels: Sequence[str], series: _Shown) -> Metric:
    family = StateSetMetricFamily(name, definition.help, labels=labels)
    for values, each in series:
        family.add_metric(values, {state: state == each.state for state in definition.states})
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


def _cells_of_histogram(definition: Definition, first: int) -> Sequence[int]:
    counts = range(first + 2, first + 3 + len(definition.buckets))
    return (*counts, counts[-1], first + 1) if definition.buckets[0] >= 0.0 else (*counts, counts[-1])


_CELLS: Final[dict[str, Callable[[Definition, int], Sequence[int]]]] = {
    "counter": lambda _, first: (first + 1,),
    "gauge": lambda _, first: (first + 2,),
    "ratio": lambda _, first: (first,),
    "histogram": _cells_of_histogram,
    "summary": lambda _, first: (first + 2, first + 1),
}
"""The cells of a series that are shown, in the order of the samples that the builder of its kind gives it."""
