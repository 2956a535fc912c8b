"""JSON: everything that is known of a fleet at one instant, for programs.

The document, schema 1::

    schema      1. Raised when a key changes its meaning or goes; a new key does not raise it
    version     of the shmetrics that wrote it
    hub         name, time of the snapshot (seconds since the epoch), sizes, fill levels, what is corrupt
    statistics  the figures of the fleet: docs/statistics.md
    findings    a list, one object for each thing to know of it, and
    obituaries  a list, one for each worker that died: docs/workers.md
    workers     a list, one object for each worker that lives or ended less than a minute ago
    metrics     a list, one object for each custom metric, in the order of definition: its definition, and `series`
    exemplars   a list, those of inference_time: the slowest recent request of each octave that came with labels

Numbers are finite: what is unknown, NaN or infinite is null. A series has ``labels`` (an object), and by the kind of
its metric ``value`` (counter, gauge), ``count`` and ``sum`` (histogram, summary), ``buckets`` (histogram: cumulative
counts, one for each of the definition's ``buckets`` and a last one for +Inf), ``value``, ``numerator`` and
``denominator`` (ratio), ``state`` (enum), ``info`` (info). ``worker`` is the slot for gauges merged per worker, and
null otherwise. Counters and histograms have ``exemplars``, a list. An exemplar has ``value``, ``time`` (seconds since
the epoch), ``labels`` (an object), and for a histogram ``bucket``, the index into ``buckets``.
"""

import json
import math
from dataclasses import asdict
from typing import Any, Final

import shmetrics
from shmetrics.evidence import Evidence
from shmetrics.families import Definition, Exemplar, Family, Series
from shmetrics.findings import find
from shmetrics.resources import Resources
from shmetrics.snapshot import Snapshot, Usage
from shmetrics.statistics import comprehensive

SCHEMA: Final = 1
"""What ``schema`` says in every document."""


def export_json(
    snapshot: Snapshot,
    *,
    resources: Resources | None = None,
    max_age: float | None = None,
    indent: int | None = 2,
) -> str:
    """The document, without a newline at its end. Any process and any thread may call; no guard is held.

    ``resources`` looks at the worker processes for ``cpu_percent`` and ``rss_bytes``, which are null without it;
    ``max_age`` narrows the window to the last so many seconds (ValueError when it is negative or NaN); ``indent=None``
    puts all into one line. The text is ASCII.
    """
    return to_json(document(snapshot, resources=resources, max_age=max_age), indent=indent)


def document(snapshot: Snapshot, *, resources: Resources | None = None, max_age: float | None = None) -> dict[str, Any]:
    """The same before it is text, numbers that are not finite still in it: for documents that have more in them."""
    figures = comprehensive(snapshot, max_age=max_age)
    workers, hub = figures.pop("workers"), figures.pop("hub")
    counted = [worker for worker in snapshot.workers if worker.counted]
    usages = [Usage(None, None)] * len(counted) if resources is None else resources.usages(counted)
    by_slot = {worker.slot: usage for worker, usage in zip(counted, usages, strict=True)}
    return {
        "schema": SCHEMA,
        "version": shmetrics.__version__,
        "hub": hub,
        "statistics": figures,
        "findings": [asdict(finding) for finding in find(Evidence(snapshot, by_slot))],
        "obituaries": [obituary.as_json() for obituary in snapshot.obituaries],
        "workers": [row | usage._asdict() for row, usage in zip(workers, usages, strict=True)],
        "metrics": [_family(family) for family in snapshot.families],
        "exemplars": [_exemplar(exemplar) for exemplar in snapshot.exemplars],
    }


def to_json(document: Any, *, indent: int | None = 2) -> str:
    """A document as JSON: ASCII, with null for every number that JSON cannot say."""
    return json.dumps(_finite(document), indent=indent, allow_nan=False)


def _family(family: Family) -> dict[str, Any]:
    definition = family.definition
    return asdict(definition) | {"series": [_series(definition, series) for series in family.series]}


def _series(definition: Definition, series: Series) -> dict[str, Any]:
    return {
        "labels": dict(zip(definition.labels, series.labels, strict=True)),
        "worker": series.worker,
        **_content(definition.kind, series),
    }


def _content(kind: str, series: Series) -> dict[str, Any]:
    """What a series says, by the kind of its metric."""
    if kind == "counter":
        return {"value": series.value, "exemplars": [_exemplar(each) for each in series.exemplars.values()]}
    if kind == "gauge":
        return {"value": series.value}
    if kind == "ratio":
        return {"value": series.value, "numerator": series.sum, "denominator": series.count}
    if kind == "enum":
        return {"state": series.state}
    if kind == "info":
        return {"info": series.info}
    figures: dict[str, Any] = {"count": series.count, "sum": series.sum}
    if kind == "histogram":
        found = sorted(series.exemplars.items())
        exemplars = [{"bucket": at} | _exemplar(each) for at, each in found if at < len(series.buckets)]
        figures |= {"buckets": series.buckets, "exemplars": exemplars}
    return figures


def _exemplar(exemplar: Exemplar) -> dict[str, Any]:
    return {"value": exemplar.value, "time": exemplar.time, "labels": exemplar.labels}


def _finite(value: Any) -> Any:
    """The same with null for every number that JSON cannot say."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
