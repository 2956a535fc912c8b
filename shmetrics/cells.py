"""Cells: what the float64 cells of a series mean, and how those of many workers become one. Pure.

::

    the cells of one series, at the same place in every slot
    counter     serial | value
    gauge       serial | time | value | weight
    histogram   serial | sum | one count a bucket, that to +Inf last
    summary     serial | sum | count
    ratio       serial | numerator | denominator
    enum        serial | time | state
    info        none: the catalog has it all

The first cell holds the serial number of the series that the others are of, so cells that a removed series left behind
are told apart. A worker's cells change by one store at a time; a histogram's sum is stored before its bucket.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, auto
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shmetrics.entries import Contents, Placement, run_length
from shmetrics.families import LIVE, OVERFLOW, Definition, Exemplar, Family, Series

Cells = NDArray[np.float64]
_MOST: Final = 2.0**63
_FUTURE: Final = 1.0
"""Seconds by which a time may be ahead of the reader's."""


class Rule(IntEnum):
    """How one cell merges over workers."""

    NONE = 0
    SERIAL = auto()
    COUNT = auto()
    """Added up; not negative, and less than _MOST."""
    SUM = auto()
    MIN = auto()
    MAX = auto()
    NEWEST = auto()
    """A time; the latest. The cell after it is TAKEN from where that is."""
    TAKEN = auto()
    OWN = auto()
    """Each worker's own; not merged."""


_RULES = {
    "counter": (Rule.SERIAL, Rule.COUNT),
    "summary": (Rule.SERIAL, Rule.SUM, Rule.COUNT),
    "ratio": (Rule.SERIAL, Rule.SUM, Rule.SUM),
    "enum": (Rule.SERIAL, Rule.NEWEST, Rule.TAKEN),
    "info": (),
}
_GAUGES = {
    "last": (Rule.NEWEST, Rule.TAKEN),
    "sum": (Rule.MAX, Rule.SUM),
    "min": (Rule.MAX, Rule.MIN),
    "max": (Rule.MAX, Rule.MAX),
    "mean": (Rule.MAX, Rule.SUM),
    "per_worker": (Rule.OWN, Rule.OWN),
}


def _rules(metric: Definition) -> tuple[Rule, ...]:
    if metric.kind == "histogram":
        return (Rule.SERIAL, Rule.SUM, *[Rule.COUNT] * (len(metric.buckets) + 1))
    if metric.kind == "gauge":
        return (Rule.SERIAL, *_GAUGES[metric.merge.removeprefix(LIVE)], Rule.SUM)
    return _RULES[metric.kind]


class Plan:
    """Where the cells of each series are, and how they merge: made once for each state of the catalog.

    `extent` is the end of the last series, in cells.
    """

    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        self.extent = extent = contents.extent
        placed = [
            (placement, contents.metrics[placement.metric])
            for placement in contents.series.values()
            if run_length(contents.metrics[placement.metric])
        ]
        count = len(placed)
        self._first = np.fromiter((placement.cell for placement, _ in placed), np.intp, count)
        """For each series, which has cells, the index of its first."""
        self._serial = np.fromiter((float(placement.serial) for placement, _ in placed), np.float64, count)
        self._live = np.fromiter((metric.merge.startswith(LIVE) for _, metric in placed), np.bool_, count)
        """Whether only live workers count."""
        self._needs_time = np.fromiter((metric.kind in ("gauge", "enum") for _, metric in placed), np.bool_, count)
        """Whether it counts only where it was ever written."""
        rule = np.zeros(extent, np.int8)
        series = np.zeros(extent, np.intp)
        for at, (placement, metric) in enumerate(placed):
            run = slice(placement.cell, placement.cell + run_length(metric))
            rule[run] = _rules(metric)
            series[run] = at
        self._at = {kind: np.flatnonzero(rule == kind) for kind in Rule}
        """Which cells are merged by each rule."""
        self._of = {kind: series[cells] for kind, cells in self._at.items()}
        """Which series each of these cells is of."""
        self._number = {placement.serial: at for at, (placement, _) in enumerate(placed)}

    def valid(self, rows: Cells, now: float) -> NDArray[np.bool_]:
        """Which series of which of the `rows`, shape (n, extent), are there and can be believed: shape (n, series)."""
        valid: NDArray[np.bool_]
        with np.errstate(invalid="ignore"):
            valid = rows[:, self._first] == self._serial
            if self._needs_time.any():
                times = rows[:, self._first[self._needs_time] + 1]
                valid[:, self._needs_time] &= (times > 0.0) & (times < now + _FUTURE)
            counts = rows[:, self._at[Rule.COUNT]]
            wrong = ~((counts >= 0.0) & (counts < _MOST))
        if wrong.any():
            for row, cell in zip(*np.nonzero(wrong), strict=True):
                valid[row, self._of[Rule.COUNT][cell]] = False
        return valid

    def is_valid(self, valid: NDArray[np.bool_], placement: Placement) -> NDArray[np.bool_]:
        """Of what `valid` returned, the part of one series: one element for each row."""
        column: NDArray[np.bool_] = valid[:, self._number[placement.serial]]
        return column

    def merge(self, rows: Cells, live: Sequence[bool] | NDArray[np.bool_], now: float) -> Cells:
        """One row of cells for many, shape (n, extent), of workers that are `live` or not. A series nobody wrote is 0.

        The retired area is such a row too, of nobody who lives.
        """
        merged = np.zeros(self.extent)
        if not len(rows) or not len(self._first):
            return merged
        valid = self.valid(rows, now)
        valid &= ~self._live | np.asarray(live, np.bool_)[:, None]
        there = np.asarray(valid.any(axis=0))
        merged[self._first] = np.where(there, self._serial, 0.0)
        with np.errstate(invalid="ignore", over="ignore"):
            for rule, function, neutral in (
                (Rule.COUNT, np.add, 0.0),
                (Rule.SUM, np.add, 0.0),
                (Rule.MIN, np.minimum, np.inf),
                (Rule.MAX, np.maximum, -np.inf),
            ):
                cells, of = self._at[rule], self._of[rule]
                if len(cells):
                    values = function.reduce(np.where(valid[:, of], rows[:, cells], neutral), axis=0)
                    merged[cells] = np.where(there[of], values, 0.0)
            newest = self._at[Rule.NEWEST]
            if len(newest):
                times = np.where(valid[:, self._of[Rule.NEWEST]], rows[:, newest], 0.0)
                latest = times.argmax(axis=0)
                merged[newest] = times.max(axis=0)
                merged[newest + 1] = np.where(merged[newest] > 0.0, rows[latest, newest + 1], 0.0)
        return merged

    def padded(self, cells: Cells) -> Cells:
        """A worker's cells, cut or filled up to `extent`."""
        row = np.zeros(self.extent)
        count = min(len(cells), self.extent)
        row[:count] = cells[:count]
        return row


@dataclass(frozen=True)
class WorkerCells:
    """One worker's part in the families: its cells, and how they count."""

    slot: int
    cells: Cells
    alive: bool
    counted: bool
    """Whether it lives or ended less than a minute ago."""
    in_totals: bool
    """Whether it counts by itself, not by way of the retired area."""


def families(
    plan: Plan,
    retired: Cells,
    workers: Sequence[WorkerCells],
    now: float,
    exemplars: Mapping[tuple[int, int], Exemplar] | None = None,
) -> tuple[Family, ...]:
    """What the whole fleet has of every metric.

    ``retired``: the cells of the retired area. ``exemplars``: by serial number of the series, and bucket.
    """
    contents = plan.contents
    if not contents.metrics:
        return ()
    rows = np.stack([plan.padded(retired), *(plan.padded(worker.cells) for worker in workers)])
    mine = [True, *(worker.in_totals for worker in workers)]
    live = np.array([False, *(worker.alive for worker in workers)])
    merged = plan.merge(rows[mine], live[mine], now)
    kept: dict[int, dict[int, Exemplar]] = {}
    for (serial, bucket), exemplar in (exemplars or {}).items():
        kept.setdefault(serial, {})[bucket] = exemplar
    found: dict[int, list[Series]] = {serial: [] for serial in contents.metrics}
    own: _PerWorker | None = None
    for placement in contents.index.values():
        metric = contents.metrics[placement.metric]
        if metric.merge.removeprefix(LIVE) == "per_worker":
            own = own or _PerWorker(plan, rows[1:], workers, now)
            found[placement.metric] += own.series(metric, placement)
            continue
        run = merged[placement.cell : placement.cell + run_length(metric)].tolist()
        if OVERFLOW in placement.labels and not any(run):
            continue
        found[placement.metric].append(_series(metric, placement, run, now, kept.get(placement.serial, {})))
    return tuple(
        Family(metric, tuple(sorted(found[serial], key=lambda series: (series.labels, series.worker or 0))))
        for serial, metric in contents.metrics.items()
    )


class _PerWorker:
    """Gauges that show each worker by itself."""

    def __init__(self, plan: Plan, rows: Cells, workers: Sequence[WorkerCells], now: float) -> None:
        self._plan, self._rows, self._workers = plan, rows, workers
        self._valid = plan.valid(rows, now)

    def series(self, metric: Definition, placement: Placement) -> list[Series]:
        cell = placement.cell
        return [
            Series(placement.labels, worker.slot, value=float(row[cell + 2]), written_at=float(row[cell + 1]))
            for worker, row, valid in zip(
                self._workers, self._rows, self._plan.is_valid(self._valid, placement), strict=True
            )
            if valid and (worker.alive if metric.merge.startswith(LIVE) else worker.counted)
        ]


def _series(  # noqa: PLR0911
    metric: Definition, placement: Placement, run: list[float], now: float, exemplars: dict[int, Exemplar]
) -> Series:
    labels = placement.labels
    match metric.kind:
        case "info":
            return Series(labels, info=placement.info)
        case "counter":
            return Series(labels, value=run[1], exemplars=exemplars)
        case "histogram":
            counts = np.cumsum(run[2:]).tolist()
            return Series(labels, sum=run[1], count=counts[-1], buckets=tuple(counts), exemplars=exemplars)
        case "summary":
            return Series(labels, sum=run[1], count=run[2])
        case "ratio":
            return Series(labels, value=run[1] / run[2] if run[2] else 0.0, sum=run[1], count=run[2])
        case "enum":
            index = int(run[2]) if 0.0 <= run[2] < len(metric.states) else 0
            return Series(labels, state=metric.states[index], written_at=min(run[1], now))
    value = run[2] / run[3] if metric.merge.removeprefix(LIVE) == "mean" and run[3] else run[2]
    return Series(labels, value=value, written_at=min(run[1], now))


def retire(plan: Plan, retired: Any, dead: Any, now: float) -> None:
    """Add a dead worker's cells to those of a retired copy, in place. Both: shared memory, all cells of a slot."""
    rows = np.stack([plan.padded(retired), plan.padded(dead)])
    retired[: plan.extent] = plan.merge(rows, [False, False], now)
