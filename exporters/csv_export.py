"""CSV (RFC 4180) for pandas and spreadsheets: a row for each worker and one for the fleet, or every row of the window,
or every figure of the custom metrics.

The first line names the columns, which are always the same ones (save for those of labels); lines end with CRLF; a
field is empty where a figure is unknown or does not apply. A text that a spreadsheet would take for a formula gets an
apostrophe in front.
"""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shmetrics.families import Definition, Series
from shmetrics.folded import is_valid, measures_of
from shmetrics.layout import MEASURES
from shmetrics.percentiles import PERCENTILES
from shmetrics.resources import Resources
from shmetrics.snapshot import Snapshot, Usage, WorkerSnapshot
from shmetrics.statistics import Statistics, comprehensive

_KINDS: Final = ("avg", "median", "min", "max", "std", *(f"p{percent}" for percent in PERCENTILES))
_LIFETIME: Final = tuple(f"lifetime_p{percent}" for percent in PERCENTILES)

COLUMNS: Final = (
    *("scope", "slot", "pid", "role", "alive", "generation", "age", "last_seen"),
    *("total_requests", "total_errors", "cache_hits", "cache_misses", "invalid_records", "dropped_records"),
    *("error_rate", "window_error_rate", "cache_hit_rate", "window_cache_hit_rate"),
    *("throughput", "samples_per_second", "current_throughput", "average_throughput", "peak_throughput"),
    *("stability_score", "busy_fraction", "busy_fraction_1m", "in_flight", "oldest_in_flight"),
    *("cpu_percent", "rss_bytes", "stale", "window_count"),
    *(f"{kind}_{measure}" for measure in MEASURES for kind in _KINDS + _LIFETIME),
)
"""Of `export_csv`. ``scope`` is "worker" or "fleet"; the rest is what docs/statistics.md says, of that worker alone."""

ROW_COLUMNS: Final = ("slot", "generation", "pid", "role", "time", "epoch", *MEASURES)
"""Of `export_rows`. ``time`` is ISO 8601 in UTC, ``epoch`` the same in seconds since 1970."""

METRIC_COLUMNS: Final = ("metric", "kind", "unit", "worker", "field", "le", "value", "text")
"""Of `export_metrics`, before those of the labels. ``le`` is a bucket's upper bound, the last of them ``inf``."""
LABEL_PREFIX: Final = "label_"
"""Of the name of a label's column: no label is then taken for another column."""

_FORMULA: Final = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a formula can begin with in one spreadsheet or another; the last four are the full-width forms."""
_LATEST: Final = 253402300800.0
"""The year 10000, where dates end."""


def export_csv(snapshot: Snapshot, *, resources: Resources | None = None, max_age: float | None = None) -> str:
    """A row for each worker that lives or ended less than a minute ago, by slot, and a last one for the fleet.

    ``resources`` looks at the worker processes for ``cpu_percent`` and ``rss_bytes``, which are empty without it;
    ``max_age`` narrows the window to the last so many seconds (ValueError when it is negative or NaN). Any process and
    any thread may call; no guard is held.
    """
    counted = [worker for worker in snapshot.workers if worker.counted]
    usages = [Usage(None, None)] * len(counted) if resources is None else resources.usages(counted)
    rows = [_worker_row(snapshot, worker, max_age) for worker in counted]
    for row, usage in zip(rows, usages, strict=True):
        row.update(usage._asdict())
    rows.append(_fleet_row(snapshot, rows, max_age))
    return _text(COLUMNS, ([row.get(column) for column in COLUMNS] for row in rows))


def export_rows(snapshot: Snapshot) -> str:
    """Every record that the figures of the window are made of: worker by worker, oldest first.

    Records with NaN, infinite or negative measurements are left out, as they are of the figures. The wall clock is the
    one of the snapshot: a clock that was set meanwhile moves all rows alike. Any process and any thread may call.
    """
    behind = snapshot.taken_at_wall - snapshot.taken_at
    lines: list[Sequence[Any]] = []
    for worker in snapshot.workers:
        if worker.counted and len(worker.window):
            lines += _record_rows(worker, behind)
    return _text(ROW_COLUMNS, lines)


def export_metrics(snapshot: Snapshot) -> str:
    """Every figure of the custom metrics in a row of its own, over the whole fleet: metric by metric, series by series.

    A row says of which series it is (``metric``, ``worker`` for gauges merged per worker, a column for each label that
    any metric has), which figure (``field``, and ``le`` of buckets), and what it is: a number in ``value``, or a text
    (the state of an enum, what an info metric says) in ``text``. Any process and any thread may call.
    """
    labels = sorted({label for family in snapshot.families for label in family.definition.labels})
    lines: list[Sequence[Any]] = []
    for family in snapshot.families:
        definition = family.definition
        for series in family.series:
            known = dict(zip(definition.labels, series.labels, strict=True))
            of = (definition.name, definition.kind, definition.unit, series.worker)
            values = [known.get(label) for label in labels]
            lines += [(*of, *figure, *values) for figure in _figures(definition, series)]
    return _text((*METRIC_COLUMNS, *(f"{LABEL_PREFIX}{label}" for label in labels)), lines)


_Figure = tuple[str, float | str | None, float | None, str | None]


def _figures(definition: Definition, series: Series) -> list[_Figure]:
    """The figures of a series, by its metric's kind: field, le, value and text of each."""
    match definition.kind:
        case "histogram":
            bounds: list[float | str] = [*definition.buckets, "inf"]
            buckets = [("bucket", *bucket, None) for bucket in zip(bounds, series.buckets, strict=True)]
            return [*buckets, ("count", None, series.count, None), ("sum", None, series.sum, None)]
        case "summary":
            return [("count", None, series.count, None), ("sum", None, series.sum, None)]
        case "ratio":
            numbers = (("value", series.value), ("numerator", series.sum), ("denominator", series.count))
            return [(field, None, number, None) for field, number in numbers]
        case "info":
            return [(field, None, None, text) for field, text in series.info.items()]
        case "enum":
            return [("state", None, None, series.state)]
    return [("value", None, series.value, None)]


def _worker_row(snapshot: Snapshot, worker: WorkerSnapshot, max_age: float | None) -> Statistics:
    """The figures of a fleet that has this worker and never had another."""
    alone = replace(
        snapshot,
        workers=(worker,),
        counters=worker.counters,
        folded=worker.folded,
        created_at=worker.claimed_at,
        peak_recorded=0.0,
    )
    figures = comprehensive(alone, max_age=max_age)
    (own,) = figures["workers"]
    return {**own, **figures, "scope": "worker", "current_throughput": own["current_throughput"]}


def _fleet_row(snapshot: Snapshot, rows: Sequence[Statistics], max_age: float | None) -> Statistics:
    """The figures of the fleet, and the sums or extremes of what only workers have."""
    alive = [row for row in rows if row["alive"]]
    return comprehensive(snapshot, max_age=max_age) | {
        "scope": "fleet",
        "alive": bool(alive),
        "age": snapshot.taken_at - snapshot.created_at,
        "last_seen": min((row["last_seen"] for row in rows), default=None),
        "cpu_percent": _sum_of_known(row["cpu_percent"] for row in alive),
        "rss_bytes": _sum_of_known(row["rss_bytes"] for row in alive),
        "stale": snapshot.health.stale or any(row["stale"] for row in rows),
    }


def _sum_of_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _record_rows(worker: WorkerSnapshot, behind: float) -> list[tuple[Any, ...]]:
    """The lines of one worker. ``behind``: what to add to its clock to get the wall's."""
    measures = measures_of(worker.window)
    valid = is_valid(measures)
    epoch = worker.window["time"][valid] + behind
    return [
        (worker.slot, worker.generation, worker.pid, worker.role, *line)
        for line in zip(_iso(epoch), epoch.tolist(), *measures[:, valid].tolist(), strict=True)
    ]


def _iso(epoch: NDArray[np.float64]) -> list[str | None]:
    """Each time as ISO 8601 in UTC with microseconds; None where it is no date of four-digit years.

    Times come from shared memory and may be anything.
    """
    good = (epoch >= 0.0) & (epoch < _LATEST)
    microseconds = np.round(np.where(good, epoch, 0.0) * 1e6).astype("datetime64[us]")
    texts = np.datetime_as_string(microseconds, unit="us").tolist()
    return [f"{text}Z" if known else None for text, known in zip(texts, good.tolist(), strict=True)]


def _text(columns: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    output = io.StringIO(newline="")
    writer = csv.writer(output, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([_field(value) for value in line] for line in lines)
    return output.getvalue()


def _field(value: Any) -> Any:
    """A field that says what the value is and does nothing."""
    if isinstance(value, str):
        return f"'{value}" if value.lstrip().startswith(_FORMULA) else value
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if isinstance(value, float) and not math.isfinite(value) else value
